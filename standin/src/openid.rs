//! What an identity provider adds to an authorization server: metadata, keys, ID tokens, users.

use std::io;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::Profile;
use crate::behaviour::Behaviour;
use crate::body::{Reply, json as json_reply, reply};
use crate::clients::unix_now;
use crate::server::Exchange;
use crate::signing::Signing;
use crate::state::State;

/// The behaviour as an identity provider.
#[derive(Clone, Debug)]
pub struct OpenId {
    /// How ID tokens are signed.
    pub signing: Signing,
    /// The user who logs in: the claims of the ID token and of the user endpoint.
    pub user: Value,
    /// Omit all claims of the user except `sub` from the ID token.
    pub thin: bool,
    /// Replacements for claims of the ID token; null omits a claim.
    pub claims: Value,
    /// Replacements for members of the ID token's header; null omits a member.
    pub header: Value,
    /// Whether the response to a refresh has an ID token, without a nonce.
    pub id_token_at_refresh: bool,
    /// How long the user endpoint waits before it answers.
    pub userinfo_delay: Duration,
    /// The text to send instead of an ID token; an empty one omits it.
    pub id_token: Option<String>,
    /// The response of the user endpoint.
    pub userinfo: Option<Value>,
    /// Whether the user endpoint answers with a signed token.
    pub userinfo_signed: bool,
    /// The response of GitHub's endpoint for e-mail addresses.
    pub emails: Value,
    /// Publish no keys, and answer with this status instead.
    pub jwks_status: Option<u16>,
}

impl Default for OpenId {
    fn default() -> Self {
        Self {
            signing: Signing::default(),
            user: json!({
                "sub": "248289761001", "name": "Alice Example", "email": "alice@example.com", "email_verified": true,
                "picture": "https://pictures.example/alice.png", "groups": ["staff"],
            }),
            thin: false,
            claims: json!({}),
            header: json!({}),
            id_token_at_refresh: false,
            userinfo_delay: Duration::ZERO,
            id_token: None,
            userinfo: None,
            userinfo_signed: false,
            emails: json!([
                { "email": "octo@private.example", "primary": false, "verified": true },
                { "email": "octocat@example.com", "primary": true, "verified": true },
            ]),
            jwks_status: None,
        }
    }
}

fn members(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// The ID token for a code of this client.
pub fn id_token(state: &State, behaviour: &Behaviour, client: &str, nonce: Option<&str>) -> Option<String> {
    let openid = &behaviour.openid;
    if let Some(given) = &openid.id_token {
        return (!given.is_empty()).then(|| given.clone());
    }
    let now = unix_now();
    let user = members(&openid.user);
    let mut claims = if openid.thin {
        user.into_iter().filter(|(name, _)| name == "sub").collect()
    } else {
        user
    };
    claims.extend(members(&json!({
        "iss": state.issuer(), "aud": client, "iat": now, "exp": now + 300, "nonce": nonce,
    })));
    claims.extend(members(&openid.claims));
    claims.retain(|_, value| !value.is_null());
    Some(state.keys().signed(openid.signing, &members(&openid.header), &claims))
}

/// The documents of an identity provider; `None` for any other path.
pub async fn document(exchange: &mut Exchange, path: &str) -> io::Result<Option<Reply>> {
    let github = match exchange.state.profile {
        Profile::Standard => return Ok(None),
        Profile::OpenId => false,
        Profile::GitHub => true,
    };
    if path == "/userinfo" {
        tokio::time::sleep(exchange.behaviour.openid.userinfo_delay).await;
    }
    let reply = match (github, path) {
        (false, "/.well-known/openid-configuration") => json_reply(200, &configuration(exchange)),
        (false, "/jwks") => keys(exchange),
        (false, "/userinfo") if exchange.behaviour.openid.userinfo_signed => signed_userinfo(exchange),
        (false, "/userinfo") => known(exchange, |openid| openid.userinfo.clone().unwrap_or_else(|| openid.user.clone())),
        (true, "/user") => known(exchange, |openid| {
            let user = json!({ "id": 583_231, "login": "octocat", "name": "The Octocat", "avatar_url": "https://pictures.example/o.png" });
            openid.userinfo.clone().unwrap_or(user)
        }),
        (true, "/user/emails") => known(exchange, |openid| openid.emails.clone()),
        (_, _) => return Ok(None),
    };
    exchange.count().await?;
    Ok(Some(reply))
}

fn configuration(exchange: &Exchange) -> Value {
    let origin = &exchange.state.origin;
    let mut document = crate::discovery::server(exchange);
    document["jwks_uri"] = json!(format!("{origin}/jwks"));
    document["userinfo_endpoint"] = json!(format!("{origin}/userinfo"));
    document["subject_types_supported"] = json!(["public"]);
    document["id_token_signing_alg_values_supported"] = json!(["RS256", "ES256", "none"]);
    document
}

fn keys(exchange: &Exchange) -> Reply {
    let openid = &exchange.behaviour.openid;
    match openid.jwks_status {
        Some(status) => json_reply(status, &json!({ "error": "as asked for" })),
        None => json_reply(200, &exchange.state.keys().published(openid.signing)),
    }
}

/// The claims of the user endpoint as a token.
fn signed_userinfo(exchange: &Exchange) -> Reply {
    let openid = &exchange.behaviour.openid;
    let mut claims = members(openid.userinfo.as_ref().unwrap_or(&openid.user));
    claims.entry("iss").or_insert_with(|| exchange.state.issuer().into());
    claims.entry("aud").or_insert_with(|| crate::CLIENT_ID.into());
    let token = exchange.state.keys().signed(openid.signing, &Map::new(), &claims);
    reply(200, "application/jwt; charset=utf-8", token)
}

/// The response to a request with a valid access token, or a 401.
fn known(exchange: &Exchange, what: impl Fn(&OpenId) -> Value) -> Reply {
    let token = exchange.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    if token.is_some_and(|token| exchange.state.tokens().check_access(token).is_some()) {
        json_reply(200, &what(&exchange.behaviour.openid))
    } else {
        json_reply(401, &json!({ "error": "invalid_token" }))
    }
}
