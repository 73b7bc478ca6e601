//! Asking an upstream for tokens: the URL for the browser, the requests of the token endpoint, and sending them.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::Request;
use http::header::AUTHORIZATION;
use tokio::time::Instant;
use url::form_urlencoded;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use crate::base::secret::Secret;
use crate::base::time::Clock;
use crate::base::time::UnixTime;
use crate::base::url::Address;
use crate::net::body::Outgoing;
use crate::net::client::Client;
use crate::net::dial::Allowed;
use crate::oauth::answer::Refusal;
use crate::oauth::answer::TokenFailure;
use crate::oauth::answer::Tokens;
use crate::oauth::answer::UpstreamRefresh;
use crate::oauth::answer::read_refusal;
use crate::oauth::answer::read_tokens;
use crate::upstream::call::Answer;
use crate::upstream::call::NoAnswer;
use crate::upstream::call::call;
use crate::upstream::call::post;
use crate::upstream::quirks::Offline;
use crate::upstream::target::AuthMethod;
use crate::upstream::target::Target;

/// The longest that one attempt may take; a lease on a refresh is longer than this.
pub const ATTEMPT: Duration = Duration::from_secs(60);
/// The longest that [`ask`] takes with all its attempts.
pub const ALL_ATTEMPTS: Duration = Duration::from_secs(55);
/// How often [`ask`] tries at most.
const MOST_ATTEMPTS: u32 = 3;
/// A longer `Retry-After` than this is for the client to wait.
const LONGEST_WAIT: u64 = 5;

/// What an authorization request needs beside the target (RFC 6749 4.1.1, RFC 7636 4.3).
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Our own `state`, single use.
    pub state: &'a str,
    /// The S256 challenge of our own verifier.
    pub challenge: &'a str,
    /// Our callback.
    pub redirect_uri: &'a str,
    /// What to ask for; empty leaves the parameter out.
    pub scopes: &'a [String],
}

/// The URL that starts the upstream's sign-in. The endpoint's own query is kept (RFC 6749 3.1), but what we set is set
/// once: a second `prompt` or `client_id` is refused by some, and read by others (asks J1).
pub fn authorize_url(target: &Target, asking: &Asking<'_>) -> String {
    let profile = target.profile;
    let mut ours: Vec<(&str, String)> = vec![
        ("response_type", "code".to_owned()),
        ("client_id", target.client_id.clone()),
        ("redirect_uri", asking.redirect_uri.to_owned()),
        ("state", asking.state.to_owned()),
        ("code_challenge", asking.challenge.to_owned()),
        ("code_challenge_method", "S256".to_owned()),
    ];
    let scope = scope_to_ask(target, asking.scopes);
    if !scope.is_empty() {
        ours.push((profile.scope_parameter, scope));
    }
    if profile.send_resource {
        ours.push(("resource", target.resource.clone()));
    }
    let (base, query) = target
        .authorization_endpoint
        .as_str()
        .split_once('?')
        .unwrap_or((target.authorization_endpoint.as_str(), ""));
    let is_ours = |part: &&str| form_urlencoded::parse(part.as_bytes()).any(|(name, _)| ours.iter().any(|(our, _)| name == *our));
    let kept: Vec<&str> = query.split('&').filter(|part| !part.is_empty() && !is_ours(part)).collect();
    let is_there = |name: &str| {
        kept.iter()
            .any(|part| form_urlencoded::parse(part.as_bytes()).any(|(kept, _)| kept == name))
    };
    let extra = profile.extra_authorize.iter().filter(|(name, _)| !is_there(name));
    let added = Serializer::new(String::new()).extend_pairs(&ours).extend_pairs(extra).finish();
    let parts: Vec<&str> = kept.iter().copied().chain([added.as_str()]).collect();
    format!("{base}?{}", parts.join("&"))
}

fn scope_to_ask(target: &Target, scopes: &[String]) -> String {
    const OFFLINE: &str = "offline_access";
    let profile = target.profile;
    let mut asked: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let wanted = match profile.offline_access {
        // Alone it would be all that is asked for, and a server that defaults an absent scope would refuse.
        Offline::IfListed => target.offline_access && !asked.is_empty(),
        Offline::Always => true,
        Offline::Never => {
            asked.retain(|scope| *scope != OFFLINE);
            false
        }
    };
    if wanted && !asked.contains(&OFFLINE) {
        asked.push(OFFLINE);
    }
    asked.join(profile.scope_separator)
}

/// The request that turns a code into tokens (RFC 6749 4.1.3, RFC 7636 4.5, RFC 8707 2.2).
pub fn code_request(target: &Target, code: &Secret, verifier: &Secret, redirect_uri: &str) -> Result<Request<Outgoing>, NoAnswer> {
    let mut form = Form::new("authorization_code");
    form.add("code", code.expose());
    form.add("redirect_uri", redirect_uri);
    form.add("code_verifier", verifier.expose());
    form.resource(target);
    form.request(target, &target.token_endpoint)
}

/// The request that turns a refresh token into tokens (RFC 6749 6). `scope` is what was granted; it is repeated only
/// where the profile says that it must be.
pub fn refresh_request(target: &Target, refresh: &UpstreamRefresh, scope: Option<&str>) -> Result<Request<Outgoing>, NoAnswer> {
    let mut form = Form::new("refresh_token");
    form.add("refresh_token", refresh.expose());
    if let (true, Some(scope)) = (target.profile.scope_on_refresh, scope) {
        form.add("scope", scope);
    }
    form.resource(target);
    form.request(target, &target.token_endpoint)
}

/// Which token [`revoke_request`] gives back (RFC 7009 2.1).
#[derive(Clone, Copy, Debug)]
pub enum Revoked<'a> {
    /// An access token.
    Access(&'a crate::oauth::answer::UpstreamAccess),
    /// A refresh token.
    Refresh(&'a UpstreamRefresh),
}

/// The request that gives a token back (RFC 7009 2.1). `None`: this upstream has no place for it.
pub fn revoke_request(target: &Target, token: Revoked<'_>) -> Option<Result<Request<Outgoing>, NoAnswer>> {
    let endpoint = target.revocation_endpoint.as_ref()?;
    let (text, hint) = match token {
        Revoked::Access(token) => (token.expose(), "access_token"),
        Revoked::Refresh(token) => (token.expose(), "refresh_token"),
    };
    let mut form = Form::default();
    form.add("token", text);
    form.add("token_type_hint", hint);
    Some(form.request(target, endpoint))
}

/// A form body on its way; wiped on drop, though what the request carries of it is not ours to wipe.
#[derive(Default)]
struct Form(Zeroizing<String>);

impl Form {
    fn new(grant_type: &str) -> Self {
        let mut form = Self::default();
        form.add("grant_type", grant_type);
        form
    }

    fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.extend(form_urlencoded::byte_serialize(value.as_bytes()));
    }

    fn resource(&mut self, target: &Target) {
        if target.profile.send_resource {
            self.add("resource", &target.resource);
        }
    }

    /// Authenticates in one way only: two at once are an error (RFC 6749 2.3).
    fn request(mut self, target: &Target, endpoint: &Address) -> Result<Request<Outgoing>, NoAnswer> {
        let secret = target.client_secret.as_ref().map_or("", Secret::expose);
        match target.auth_method {
            AuthMethod::None => self.add("client_id", &target.client_id),
            AuthMethod::Basic => {}
            AuthMethod::Post => {
                self.add("client_id", &target.client_id);
                self.add("client_secret", secret);
            }
        }
        let mut request = post(endpoint, "application/x-www-form-urlencoded", self.0.as_bytes().to_vec())?;
        if target.auth_method == AuthMethod::Basic {
            request.headers_mut().insert(AUTHORIZATION, basic(&target.client_id, secret)?);
        }
        Ok(request)
    }
}

/// Both parts are form-encoded first (RFC 6749 2.3.1), which matters as soon as a secret has a `:` or `+` in it.
fn basic(id: &str, secret: &str) -> Result<HeaderValue, NoAnswer> {
    let mut pair = Zeroizing::new(String::new());
    pair.extend(form_urlencoded::byte_serialize(id.as_bytes()));
    pair.push(':');
    pair.extend(form_urlencoded::byte_serialize(secret.as_bytes()));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair)));
    let mut value = HeaderValue::from_str(&text).map_err(|_| NoAnswer::NeverSent("the client secret fits no header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why a request to a token endpoint brought nothing, by whether it can have been processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendFailure {
    /// Certainly not processed: no connection, or an address that may not be dialled.
    NeverSent(String),
    /// 429 or 503: not processed now, by the upstream's own word.
    Throttled {
        /// The upstream's `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// A time-out, a cut line, a 5xx, a page: it may have been processed.
    Unknown(String),
    /// A parsed OAuth error: the upstream's final word.
    Refused(Refusal),
}

impl fmt::Display for SendFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverSent(why) => write!(f, "the upstream cannot be reached: {why}"),
            Self::Throttled { .. } => f.write_str("the upstream asks to try again later"),
            Self::Unknown(why) => write!(f, "no usable answer of the upstream: {why}"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for SendFailure {}

impl From<NoAnswer> for SendFailure {
    fn from(failure: NoAnswer) -> Self {
        match failure {
            NoAnswer::NeverSent(why) => Self::NeverSent(why),
            NoAnswer::Unknown(why) => Self::Unknown(why),
        }
    }
}

/// Sends one request to a token endpoint, once. `asked` is now: lives are counted from it.
pub async fn send(client: &Client, request: Request<Outgoing>, addresses: &Allowed, asked: UnixTime) -> Result<Tokens, SendFailure> {
    send_within(client, request, addresses, asked, ATTEMPT).await
}

async fn send_within(
    client: &Client,
    request: Request<Outgoing>,
    addresses: &Allowed,
    asked: UnixTime,
    within: Duration,
) -> Result<Tokens, SendFailure> {
    let answer = call(client, request, addresses, within).await?;
    throttled(&answer)?;
    read_tokens(answer.status.as_u16(), answer.content_type(), &answer.body, asked).map_err(|failure| match failure {
        TokenFailure::Refused(refusal) => SendFailure::Refused(refusal),
        TokenFailure::Temporary(why) | TokenFailure::Unreadable(why) => SendFailure::Unknown(why),
    })
}

fn throttled(answer: &Answer) -> Result<(), SendFailure> {
    match answer.status.as_u16() {
        429 | 503 => Err(SendFailure::Throttled {
            retry_after: answer.retry_after(),
        }),
        _ => Ok(()),
    }
}

/// Sends what `build` makes until there is an answer: again only after what certainly was not processed, at most three
/// times, 55 seconds in all.
pub async fn ask<B>(client: &Client, clock: &Clock, addresses: &Allowed, build: B) -> Result<Tokens, SendFailure>
where
    B: Fn() -> Result<Request<Outgoing>, NoAnswer>,
{
    let until = Instant::now() + ALL_ATTEMPTS;
    let mut attempt = 1;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let failure = match send_within(client, build()?, addresses, clock.now(), left).await {
            Ok(tokens) => return Ok(tokens),
            Err(failure) => failure,
        };
        let wait = if attempt < MOST_ATTEMPTS {
            wait_after(&failure, attempt)
        } else {
            None
        };
        match wait {
            // An attempt that starts with no time left would only turn "not sent" into "unknown".
            Some(wait) if Instant::now() + wait + Duration::from_secs(5) < until => tokio::time::sleep(wait).await,
            Some(_) | None => return Err(failure),
        }
        attempt += 1;
    }
}

/// How long to wait before the same may be sent again; `None`: it may not, or not by us.
fn wait_after(failure: &SendFailure, attempt: u32) -> Option<Duration> {
    match failure {
        SendFailure::NeverSent(_) | SendFailure::Throttled { retry_after: None } => Some(Duration::from_millis(300) * attempt * attempt),
        SendFailure::Throttled {
            retry_after: Some(seconds),
        } if *seconds <= LONGEST_WAIT => Some(Duration::from_secs(*seconds)),
        SendFailure::Throttled { retry_after: Some(_) } | SendFailure::Unknown(_) | SendFailure::Refused(_) => None,
    }
}

/// Gives a token back, once. An unknown token is a success there (RFC 7009 2.2).
pub async fn revoke(client: &Client, request: Request<Outgoing>, addresses: &Allowed) -> Result<(), SendFailure> {
    let answer = call(client, request, addresses, Duration::from_secs(15)).await?;
    throttled(&answer)?;
    if answer.status.is_success() {
        return Ok(());
    }
    let unknown = || SendFailure::Unknown(format!("the revocation endpoint answered {}", answer.status.as_u16()));
    Err(read_refusal(&answer.body).map_or_else(unknown, SendFailure::Refused))
}
