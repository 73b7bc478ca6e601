//! The token and revocation endpoints, with most of the misbehaviour.

use std::io;
use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Map, Value, json};

use crate::Profile;
use crate::behaviour::Behaviour;
use crate::body::{Out, Reply, add_header, empty, html, json as json_reply, reply};
use crate::clients::authenticate;
use crate::grant::{grant, note_presented};
use crate::server::Exchange;
use crate::state::State;
use crate::streams::pause;

/// An OAuth error.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub error: String,
    description: &'static str,
    status: u16,
    basic: bool,
}

/// The fields of a successful response.
pub type Granted = Map<String, Value>;

/// How an unknown client tried to authenticate.
pub enum Unknown {
    Basic,
    Form,
}

impl Refusal {
    pub fn new(error: &str, description: &'static str) -> Self {
        Self {
            error: error.to_owned(),
            description,
            status: 400,
            basic: false,
        }
    }

    pub fn client(how: &Unknown) -> Self {
        let basic = matches!(how, Unknown::Basic);
        let refusal = Self::new("invalid_client", "the client is not known by this secret");
        Self {
            status: 401,
            basic,
            ..refusal
        }
    }

    /// The response. GitHub has its own error codes and always the status 200.
    pub fn reply(self, call: &Call) -> Reply {
        let github = call.state.profile == Profile::GitHub;
        let error = match self.error.as_str() {
            "invalid_client" if github => "incorrect_client_credentials",
            "invalid_grant" if github => "bad_verification_code",
            other => other,
        };
        let mut fields = Map::new();
        fields.insert("error".into(), json!(error));
        fields.insert("error_description".into(), json!(self.description));
        let in_200 = github || call.behaviour.token_error_in_200;
        let mut reply = encoded(call, if in_200 { 200 } else { self.status }, fields);
        if self.basic && !in_200 {
            add_header(&mut reply, "www-authenticate", "Basic realm=\"token\"");
        }
        reply
    }
}

/// A request to the token endpoint.
pub struct Call {
    pub state: Arc<State>,
    pub behaviour: Behaviour,
    pub headers: HeaderMap,
    pub form: Vec<(String, String)>,
    /// The request presents a refresh token that is already recorded as reused.
    pub noted: bool,
}

impl Call {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The refresh token, if this is a refresh.
    pub fn refresh_token(&self) -> Option<&str> {
        self.field("refresh_token")
            .filter(|_| self.field("grant_type") == Some("refresh_token"))
    }
}

/// Reads a request to the token endpoint, or to another one that clients call.
pub async fn call(mut exchange: Exchange) -> io::Result<Call> {
    let body = exchange.read().await?;
    let form = form_urlencoded::parse(&body).into_owned().collect();
    let Exchange {
        state, behaviour, parts, ..
    } = exchange;
    Ok(Call {
        state,
        behaviour,
        headers: parts.headers,
        form,
        noted: false,
    })
}

/// `/token`. The work runs in its own task, because a real server rotates the token even if the
/// client disconnects.
pub async fn handle(exchange: Exchange) -> io::Result<Reply> {
    let mut call = call(exchange).await?;
    let state = Arc::clone(&call.state);
    let refresh = call.refresh_token().map(str::to_owned);
    if let Some(token) = &refresh {
        state.phase(format!("received {token}"));
        call.noted = note_presented(&state, token);
    }
    let reply = tokio::spawn(process(call)).await.map_err(io::Error::other)??;
    if let Some(token) = &refresh {
        state.phase(format!("answered {token}"));
    }
    Ok(reply)
}

async fn process(call: Call) -> io::Result<Reply> {
    let behaviour = &call.behaviour;
    pause(behaviour.token_delay).await;
    if let Some(reply) = turned_away(&call) {
        return Ok(reply);
    }
    let outcome = grant(&call);
    pause(behaviour.token_delay_after).await;
    if behaviour.token_cut {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    if behaviour.token_garbage {
        return Ok(reply(200, "application/json", "{\"access_token\": \"half of an ans"));
    }
    let reply = match outcome {
        Ok(granted) => encoded(&call, 200, granted),
        Err(refusal) => refusal.reply(&call),
    };
    Ok(if behaviour.token_cut_mid_body { cut(reply) } else { reply })
}

/// The responses that process nothing.
fn turned_away(call: &Call) -> Option<Reply> {
    let behaviour = &call.behaviour;
    let counted = call.state.change(|now| {
        let any = now.token_429_count > 0;
        now.token_429_count = now.token_429_count.saturating_sub(1);
        any
    });
    if counted {
        let mut reply = html(429, "<h1>Too many requests</h1>");
        if let Some(seconds) = behaviour.token_retry_after {
            add_header(&mut reply, "retry-after", &seconds.to_string());
        }
        return Some(reply);
    }
    if let Some(status) = behaviour.token_status {
        return Some(html(status, "<h1>Not at home</h1>"));
    }
    let error = behaviour.token_error.as_deref()?;
    Some(Refusal::new(error, "as asked for").reply(call))
}

/// Encodes the fields as JSON or as a form, depending on the profile, the behaviour and `Accept`.
fn encoded(call: &Call, status: u16, fields: Granted) -> Reply {
    let accept = call.headers.get("accept").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let github = call.state.profile == Profile::GitHub;
    let form = call.behaviour.token_form_encoded || (github && !accept.contains("json"));
    let mut answer = if form {
        let mut body = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &fields {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            body.append_pair(name, &text);
        }
        reply(status, "application/x-www-form-urlencoded; charset=utf-8", body.finish())
    } else {
        json_reply(status, &Value::Object(fields))
    };
    add_header(&mut answer, "cache-control", "no-store");
    answer
}

/// The same response, with the full length announced and half of the body sent.
fn cut(reply: Reply) -> Reply {
    let (mut parts, body) = reply.into_parts();
    let bytes = body.into_bytes();
    parts.headers.insert(http::header::CONTENT_LENGTH, bytes.len().into());
    let (feed, out) = Out::stream();
    tokio::spawn(async move {
        // Both sends fail only if the client disconnected first, which does not matter.
        let _first = feed.send(Ok(bytes.slice(..bytes.len() / 2))).await;
        // The first half must be sent before the connection is closed.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let _end = feed.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
    });
    Reply::from_parts(parts, out)
}

/// `/revoke` (RFC 7009): 200 for any token, known or not.
pub async fn revoke(exchange: Exchange) -> io::Result<Reply> {
    let call = call(exchange).await?;
    let known = authenticate(&mut call.state.tokens(), &call.state.issuer(), &call.headers, &call.form);
    let Some(token) = call.field("token") else {
        return Ok(Refusal::new("invalid_request", "no token").reply(&call));
    };
    if let Err(refusal) = known {
        return Ok(refusal.reply(&call));
    }
    call.state.tokens().revoke(token);
    Ok(empty(200))
}
