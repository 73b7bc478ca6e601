//! The authorization endpoint, with or without a page.

use std::collections::HashMap;
use std::io;

use url::Url;

use crate::Profile;
use crate::body::{Reply, add_header, empty, escape, html};
use crate::server::Exchange;
use crate::tokens::{Code, random};

/// The parameters of the authorization request. Repeated ones are refused before.
type Asked = HashMap<String, String>;

pub async fn handle(mut exchange: Exchange) -> io::Result<Reply> {
    let posted = exchange.read().await?;
    let Some(asked) = parameters(exchange.query()) else {
        return Ok(html(400, "<h1>A parameter came twice</h1>"));
    };
    let redirect = match redirect_uri(&exchange, &asked) {
        Ok(redirect) => redirect,
        Err(why) => return Ok(html(400, &format!("<h1>{why}</h1>"))),
    };
    let back = |pairs: &[(&str, &str)]| redirect_back(&exchange, &asked, redirect.clone(), pairs);
    if let Some(error) = problem(&exchange, &asked) {
        return Ok(back(&[("error", error), ("error_description", "asked for wrongly")]));
    }
    let requested = |scope: &String| asked.get("scope").is_some_and(|text| text.split(' ').any(|one| one == scope));
    if exchange.behaviour.refuse_scope.as_ref().is_some_and(requested) {
        return Ok(back(&[("error", "invalid_scope")]));
    }
    if let Some(error) = &exchange.behaviour.authorize_error {
        let description = exchange.behaviour.authorize_error_description.as_deref();
        let pairs = [("error", error.as_str()), ("error_description", description.unwrap_or_default())];
        return Ok(back(if description.is_some() { &pairs } else { &pairs[..1] }));
    }
    let by_form = exchange.parts.method == http::Method::POST;
    if by_form {
        let decision = form_urlencoded::parse(&posted).find(|(n, _)| n == "decision");
        if decision.is_none_or(|(_, value)| value != "authorize") {
            return Ok(back(&[("error", "access_denied")]));
        }
    } else if exchange.behaviour.authorize_page {
        return Ok(page(&exchange));
    }
    let code = new_code(&exchange, &asked);
    Ok(back(&[("code", &code)]))
}

fn parameters(query: &str) -> Option<Asked> {
    let mut asked = Asked::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()).into_owned() {
        let again = name != "resource" && asked.contains_key(&name);
        if again {
            return None;
        }
        asked.insert(name, value);
    }
    Some(asked)
}

/// The redirect URI, if it belongs to the client.
fn redirect_uri(exchange: &Exchange, asked: &Asked) -> Result<Url, &'static str> {
    let tokens = exchange.state.tokens();
    let id = asked.get("client_id").ok_or("No client_id")?;
    let client = tokens.clients.get(id).ok_or("Unknown client_id")?;
    let uri = asked.get("redirect_uri").ok_or("No redirect_uri")?;
    if client.redirect_uris.as_ref().is_some_and(|known| !known.contains(uri)) {
        return Err("Unknown redirect_uri");
    }
    Url::parse(uri).map_err(|_| "The redirect_uri is no address")
}

/// Why the request is invalid, as an OAuth error code.
fn problem(exchange: &Exchange, asked: &Asked) -> Option<&'static str> {
    let get = |name: &str| asked.get(name).map(String::as_str);
    // GitHub accepts a request without `response_type` and without PKCE.
    let lenient = exchange.state.profile == Profile::GitHub;
    match get("response_type") {
        Some("code") => {}
        None if lenient => {}
        None => return Some("invalid_request"),
        Some(_) => return Some("unsupported_response_type"),
    }
    match (get("code_challenge"), get("code_challenge_method")) {
        (Some(challenge), Some("S256")) if challenge.len() == 43 => None,
        (None, None) if lenient => None,
        _ => Some("invalid_request"),
    }
}

fn new_code(exchange: &Exchange, asked: &Asked) -> String {
    let default = || exchange.state.scope().to_owned();
    let scope = asked.get("scope").filter(|s| !s.is_empty()).cloned().unwrap_or_else(default);
    let code = Code {
        client_id: asked["client_id"].clone(),
        redirect_uri: asked["redirect_uri"].clone(),
        challenge: asked.get("code_challenge").cloned(),
        nonce: asked.get("nonce").cloned(),
        scope: scope.split([' ', ',']).filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" "),
    };
    let name = format!("code_{}", random());
    exchange.state.tokens().codes.insert(name.clone(), code);
    name
}

fn redirect_back(exchange: &Exchange, asked: &Asked, mut redirect: Url, pairs: &[(&str, &str)]) -> Reply {
    let behaviour = &exchange.behaviour;
    let standard = exchange.state.profile != Profile::GitHub;
    let own = || standard.then(|| exchange.state.issuer());
    let iss = behaviour.iss.clone().or_else(own).filter(|_| !behaviour.omit_iss);
    {
        let mut query = redirect.query_pairs_mut();
        query.extend_pairs(pairs);
        if let Some(state) = asked.get("state") {
            query.append_pair("state", state);
        }
        if let Some(iss) = &iss {
            query.append_pair("iss", iss);
        }
    }
    let mut reply = empty(302);
    add_header(&mut reply, "location", redirect.as_str());
    add_header(&mut reply, "cache-control", "no-store");
    reply
}

fn page(exchange: &Exchange) -> Reply {
    let action = escape(&format!("{}?{}", exchange.parts.uri.path(), exchange.query()));
    html(
        200,
        &format!(
            "<h1>Allow access?</h1><form method=\"post\" action=\"{action}\">\
             <button type=\"submit\" name=\"decision\" value=\"authorize\">Authorize</button> \
             <button type=\"submit\" name=\"decision\" value=\"cancel\">Cancel</button></form>"
        ),
    )
}
