//! The grants of `/token`: codes are exchanged, refresh tokens are rotated.

use serde_json::{Value, json};

use crate::Profile;
use crate::clients::authenticate;
use crate::device::GRANT_TYPE;
use crate::openid::id_token;
use crate::state::State;
use crate::token::{Call, Granted, Refusal};
use crate::tokens::{Life, Refresh, after, sha256};

/// The grant of RFC 7523 §2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

type Outcome = Result<Granted, Refusal>;

fn invalid_grant(why: &'static str) -> Refusal {
    Refusal::new("invalid_grant", why)
}

/// Records a presented refresh token, and returns whether it is reused. This happens on arrival, so
/// that rejected requests count too.
pub fn note_presented(state: &State, token: &str) -> bool {
    let mut tokens = state.tokens();
    tokens.refreshes.push(token.to_owned());
    let reused = tokens.refresh.get(token).is_some_and(|r| r.life == Life::Rotated);
    if reused {
        tokens.reused.push(token.to_owned());
    }
    reused
}

/// Processes a token request.
pub fn grant(call: &Call) -> Outcome {
    let twice = |(index, (name, _)): (usize, &(String, String))| name != "resource" && call.form[..index].iter().any(|(n, _)| n == name);
    if call.form.iter().enumerate().any(twice) {
        return Err(Refusal::new("invalid_request", "a parameter came twice"));
    }
    if call.field("grant_type") == Some(JWT_BEARER) {
        return accept_workload(call);
    }
    let client = authenticate(&mut call.state.tokens(), &call.state.issuer(), &call.headers, &call.form)?;
    match (call.state.profile, call.field("grant_type")) {
        (_, Some("authorization_code")) | (Profile::GitHub, None) => exchange_code(call, &client),
        (Profile::Standard | Profile::OpenId, Some("refresh_token")) => rotate(call, &client),
        (Profile::Standard | Profile::OpenId, Some(GRANT_TYPE)) => redeem_device(call, &client),
        (Profile::Standard | Profile::OpenId, Some("client_credentials")) => Ok(issue_to(call, &client)),
        (_, None) => Err(Refusal::new("invalid_request", "no grant_type")),
        _ => Err(Refusal::new("unsupported_grant_type", "not granted here")),
    }
}

/// The token of a client itself, which gets no refresh token (RFC 6749 §4.4.3).
fn issue_to(call: &Call, client: &str) -> Granted {
    let like = Refresh {
        family: call.state.tokens().new_family(),
        client_id: client.to_owned(),
        scope: call.field("scope").unwrap_or("mcp").to_owned(),
        life: Life::Alive,
        expires: None,
    };
    let scope = like.scope.clone();
    issue(call, &like, &scope, false).0
}

/// The assertion must be the workload token, and no client is named beside it.
fn accept_workload(call: &Call) -> Outcome {
    if call.field("client_id").is_some() || call.headers.contains_key("authorization") {
        return Err(Refusal::new("invalid_request", "two identities at once"));
    }
    if call.field("assertion").is_none() || call.field("assertion") != call.behaviour.workload_token.as_deref() {
        return Err(invalid_grant("another workload"));
    }
    Ok(issue_to(call, "workload"))
}

/// The errors of the behaviour first, and then the tokens.
fn redeem_device(call: &Call, client: &str) -> Outcome {
    let error = call.state.change(|now| {
        let errors = now.device.as_mut().map(|flow| &mut flow.errors)?;
        (!errors.is_empty()).then(|| errors.remove(0))
    });
    if let Some(error) = error {
        return Err(Refusal::new(&error, "as asked for"));
    }
    let mut tokens = call.state.tokens();
    let name = call.field("device_code").ok_or(Refusal::new("invalid_request", "no device_code"))?;
    let code = tokens.devices.remove(name).ok_or(invalid_grant("unknown device code"))?;
    if code.client_id != client {
        return Err(invalid_grant("another client's device code"));
    }
    let family = tokens.new_family();
    drop(tokens);
    let refresh = Refresh {
        family,
        client_id: client.to_owned(),
        scope: code.scope,
        life: Life::Alive,
        expires: None,
    };
    let scope = refresh.scope.clone();
    Ok(issue(call, &refresh, &scope, true).0)
}

fn exchange_code(call: &Call, client: &str) -> Outcome {
    let mut tokens = call.state.tokens();
    let name = call.field("code").ok_or(Refusal::new("invalid_request", "no code"))?;
    if let Some(family) = tokens.spent.get(name).copied() {
        tokens.end_family(family);
        return Err(invalid_grant("the code was used before"));
    }
    let code = tokens.codes.remove(name).ok_or(invalid_grant("unknown code"))?;
    if code.client_id != client {
        return Err(invalid_grant("another client's code"));
    }
    if call.field("redirect_uri") != Some(&code.redirect_uri) {
        return Err(match call.state.profile {
            Profile::Standard | Profile::OpenId => invalid_grant("another redirect_uri"),
            Profile::GitHub => Refusal::new("redirect_uri_mismatch", "another redirect_uri"),
        });
    }
    let verified = call.field("code_verifier").map(sha256);
    if code.challenge != verified {
        return Err(invalid_grant("the code_verifier does not fit"));
    }
    let family = tokens.new_family();
    tokens.spent.insert(name.to_owned(), family);
    drop(tokens);
    let refresh = Refresh {
        family,
        client_id: client.to_owned(),
        scope: code.scope,
        life: Life::Alive,
        expires: None,
    };
    let scope = refresh.scope.clone();
    let mut granted = issue(call, &refresh, &scope, true).0;
    if call.state.profile == Profile::OpenId
        && let Some(token) = id_token(&call.state, &call.behaviour, client, code.nonce.as_deref())
    {
        granted.insert("id_token".into(), json!(token));
    }
    Ok(granted)
}

fn rotate(call: &Call, client: &str) -> Outcome {
    let token = call.field("refresh_token");
    let token = token.ok_or(Refusal::new("invalid_request", "no refresh_token"))?;
    let mut tokens = call.state.tokens();
    let known = tokens.refresh.get(token).cloned();
    let known = known.ok_or(invalid_grant("unknown refresh token"))?;
    if known.life == Life::Rotated {
        if !call.noted {
            tokens.reused.push(token.to_owned());
        }
        if call.behaviour.reuse_kills_family {
            tokens.end_family(known.family);
        }
        return Err(invalid_grant("the refresh token was rotated away"));
    }
    let expired = known.expires.is_some_and(|end| end <= std::time::Instant::now());
    if known.life == Life::Ended || expired {
        return Err(invalid_grant("the refresh token has ended"));
    }
    if known.client_id != client {
        return Err(invalid_grant("another client's refresh token"));
    }
    // A narrower scope applies to the access token. The refresh token keeps its own.
    let scope = call.field("scope").unwrap_or(&known.scope);
    if !scope.split(' ').all(|s| known.scope.split(' ').any(|k| k == s)) {
        return Err(Refusal::new("invalid_scope", "more than was granted"));
    }
    let keep = call.behaviour.omit_refresh_token || call.behaviour.never_refresh_token;
    if let Some(old) = tokens.refresh.get_mut(token).filter(|_| !keep) {
        old.life = Life::Rotated;
    }
    drop(tokens);
    let (mut granted, new) = issue(call, &known, scope, !keep);
    if call.state.profile == Profile::OpenId
        && call.behaviour.openid.id_token_at_refresh
        && let Some(token) = id_token(&call.state, &call.behaviour, client, None)
    {
        granted.insert("id_token".into(), json!(token));
    }
    call.state.phase(match new {
        Some(new) => format!("rotated {token} -> {new}"),
        None => format!("kept {token}"),
    });
    Ok(granted)
}

/// Issues an access token and, if requested, a refresh token like `like`.
fn issue(call: &Call, like: &Refresh, scope: &str, with_refresh: bool) -> (Granted, Option<String>) {
    let behaviour = &call.behaviour;
    let github = call.state.profile == Profile::GitHub;
    let mut tokens = call.state.tokens();
    let (prefix, kind, ttl, separator) = if github {
        ("gho_", "bearer", None, ",")
    } else {
        ("at_", "Bearer", Some(3600), " ")
    };
    let ttl = behaviour.access_ttl.or(ttl);
    let padded = format!("{prefix}{}", "x".repeat(behaviour.access_length));
    let access = tokens.issue_access(&padded, like.family, scope, ttl);
    let scope = scope.replace(' ', separator);
    let mut granted = Granted::new();
    granted.insert("access_token".into(), json!(access));
    granted.insert("token_type".into(), json!(kind));
    granted.insert("scope".into(), json!(behaviour.scope_override.as_ref().unwrap_or(&scope)));
    let truth = if github { Value::Null } else { json!(3600) };
    let expires_in = behaviour.token_expires_in.clone().unwrap_or(truth);
    if !expires_in.is_null() {
        granted.insert("expires_in".into(), expires_in);
    }
    if github || !with_refresh || behaviour.never_refresh_token {
        return (granted, None);
    }
    let announced = behaviour.refresh_expires_in;
    let seconds = announced.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    let refresh = tokens.issue_refresh(Refresh {
        expires: seconds.map(after),
        ..like.clone()
    });
    granted.insert("refresh_token".into(), json!(refresh));
    if let Some(seconds) = announced {
        granted.insert("refresh_token_expires_in".into(), json!(seconds));
        granted.insert("refresh_expires_in".into(), json!(seconds));
    }
    (granted, Some(refresh))
}
