//! The first request of a client: the server accepts it, requires a token, or refuses.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::agent::clients::profile::{ChallengeReader, ClientProfile, Opening};
use crate::agent::doctor::documents::{self, Problem};
use crate::agent::doctor::rule;
use crate::agent::doctor::session::{Answer, Call, Session, printable};
use crate::base::url::ExactUrl;
use crate::mcp::revision::Revision;
use crate::oauth::www_authenticate::BearerChallenge;

/// Error codes of the revision 2026-07-28. They show a client that the server supports this revision.
const MODERN_ERRORS: [i64; 3] = [-32_020, -32_021, -32_022];

/// The server's response to the first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OpeningResult {
    /// The server accepts requests without a token.
    Open,
    /// The server requires a token. Contains the challenge as this client reads it.
    Challenged(BearerChallenge),
}

/// Simulates the first requests of a client.
pub(super) async fn open(session: &mut Session<'_>, client: &ClientProfile) -> Result<OpeningResult, Problem> {
    let url = session.mcp.to_string();
    let mut answer = ask(session, &first_call(client, &url)).await?;
    if needs_legacy(client, &answer) {
        answer = ask(session, &initialize(client, &url, fallback_revision(client.revision))).await?;
    }
    if let Some(problem) = user_agent_problem(session, &answer).await {
        return Err(problem);
    }
    if judge(&answer)? == Verdict::Open {
        return Ok(OpeningResult::Open);
    }
    if client.opening == Opening::Head {
        let call = Call::new(Method::HEAD, &url).with("accept", "application/json");
        answer = ask(session, &call.with_some("user-agent", client.user_agent)).await?;
    }
    read_challenge(session, client, &answer)
}

/// The `initialize` request of the doctor itself, for checks that are independent of clients.
pub(super) fn plain_initialize(url: &str) -> Call {
    post_json_rpc(
        url,
        "initialize",
        &initialize_params(Revision::V2025_11_25, "mcp-oauth-gateway-doctor"),
    )
}

async fn ask(session: &mut Session<'_>, call: &Call) -> Result<std::sync::Arc<Answer>, Problem> {
    session.ask(call).await.map_err(|failure| Problem::new(failure.rule, failure.why))
}

fn first_call(client: &ClientProfile, url: &str) -> Call {
    match client.opening {
        Opening::Discover => discover(client, url),
        Opening::Initialize | Opening::Head => initialize(client, url, client.revision),
        Opening::Get => Call::new(Method::GET, url)
            .with("accept", "text/event-stream")
            .with_some("user-agent", client.user_agent)
            .with_some("origin", client.origin),
    }
}

fn initialize(client: &ClientProfile, url: &str, revision: Revision) -> Call {
    post_json_rpc(url, "initialize", &initialize_params(revision, client.name))
        .with_some("user-agent", client.user_agent)
        .with_some("origin", client.origin)
}

fn discover(client: &ClientProfile, url: &str) -> Call {
    let revision = client.revision.as_str();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": revision,
        "io.modelcontextprotocol/clientInfo": { "name": client.name, "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    post_json_rpc(url, "server/discover", &json!({ "_meta": meta }))
        .with("mcp-protocol-version", revision)
        .with("mcp-method", "server/discover")
        .with_some("user-agent", client.user_agent)
        .with_some("origin", client.origin)
}

fn post_json_rpc(url: &str, method: &str, params: &Value) -> Call {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    Call::new(Method::POST, url)
        .with("content-type", "application/json")
        .with("accept", "application/json, text/event-stream")
        .body(body.to_string())
}

fn initialize_params(revision: Revision, name: &str) -> Value {
    json!({ "protocolVersion": revision.as_str(), "capabilities": {}, "clientInfo": { "name": name, "version": "1" } })
}

/// The revision for an older server: the last revision with sessions.
fn fallback_revision(revision: Revision) -> Revision {
    if revision.has_sessions() { revision } else { Revision::V2025_11_25 }
}

/// Whether the client continues with `initialize`, because the server does not know its first request.
fn needs_legacy(client: &ClientProfile, answer: &Answer) -> bool {
    let is_unknown = answer.status.is_client_error() && !matches!(answer.status.as_u16(), 401 | 403 | 429);
    match client.opening {
        Opening::Initialize | Opening::Head => false,
        Opening::Discover => is_unknown && !is_modern_error(answer) || is_method_not_found(answer),
        // The response to a GET may also be a stream. `initialize` then decides.
        Opening::Get => is_unknown || answer.status.is_success(),
    }
}

fn error_code(answer: &Answer) -> Option<i64> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    body.get("error")?.get("code")?.as_i64()
}

fn is_modern_error(answer: &Answer) -> bool {
    error_code(answer).is_some_and(|code| MODERN_ERRORS.contains(&code))
}

fn is_method_not_found(answer: &Answer) -> bool {
    answer.status.is_success() && error_code(answer).is_some()
}

/// Whether the server refuses a request without a key, so that no client starts a sign-in.
pub(super) fn needs_key(problem: &Problem) -> bool {
    problem.rule == &rule::FORBIDDEN
}

/// The problem of a server that refuses only this client's `User-Agent`.
async fn user_agent_problem(session: &mut Session<'_>, answer: &Answer) -> Option<Problem> {
    if !matches!(answer.status.as_u16(), 403 | 406) {
        return None;
    }
    let url = session.mcp.to_string();
    let other = session.ask(&plain_initialize(&url)).await.ok()?;
    let is_better = other.status == StatusCode::UNAUTHORIZED || other.status.is_success();
    is_better.then(|| {
        Problem::new(
            &rule::USER_AGENT_BLOCKED,
            format!("{}, but {} for the doctor", answer.summary(), other.summary()),
        )
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Open,
    Unauthorized,
}

fn judge(answer: &Answer) -> Result<Verdict, Problem> {
    let shown = answer.summary();
    let kind = answer.media_type();
    match answer.status.as_u16() {
        401 => Ok(Verdict::Unauthorized),
        200..=299 if kind == "text/html" => Err(Problem::new(&rule::LOGIN_PAGE, shown)),
        200..=299 if kind == "text/event-stream" => Ok(Verdict::Open),
        200..=299 => match serde_json::from_slice::<Value>(&answer.body) {
            Ok(message) if message.get("jsonrpc").is_some() => Ok(Verdict::Open),
            Ok(_) | Err(_) => Err(Problem::new(&rule::NOT_MCP, shown)),
        },
        300..=399 => Err(redirect_problem(answer)),
        403 => Err(Problem::new(&rule::FORBIDDEN, shown)),
        429 => Err(Problem::new(&rule::RATE_LIMITED, shown)),
        500..=599 => Err(Problem::new(&rule::SERVER_ERROR, shown)),
        // The server supports the newest revision, and requires another one.
        _ if is_modern_error(answer) => Ok(Verdict::Open),
        _ => Err(Problem::new(&rule::OPENING_REFUSED, shown)),
    }
}

fn redirect_problem(answer: &Answer) -> Problem {
    let to = answer.header("location").unwrap_or("no location");
    let to = to.split('?').next().unwrap_or_default();
    Problem::new(
        &rule::MCP_REDIRECTS,
        format!("status {} to {}", answer.status.as_u16(), printable(to)),
    )
}

/// Reads the challenge as the client does, and notes the parts that the client does not find.
fn read_challenge(session: &mut Session<'_>, client: &ClientProfile, answer: &Answer) -> Result<OpeningResult, Problem> {
    let url = session.mcp.to_string();
    let fields: Vec<&str> = answer
        .headers
        .get_all("www-authenticate")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let nothing = Ok(OpeningResult::Challenged(BearerChallenge::default()));
    if fields.is_empty() {
        // A missing challenge in the response to HEAD is a finding of its own.
        if client.opening != Opening::Head {
            session.note_for(client.name, &rule::CHALLENGE_MISSING, &url, answer.summary());
        }
        return nothing;
    }
    let joined = fields.join(", ");
    let parsed = BearerChallenge::parse(fields);
    if parsed.is_none() {
        session.note_for(client.name, &rule::CHALLENGE_NOT_BEARER, &url, printable(&joined));
    }
    let Some(challenge) = parsed.or_else(|| (client.challenge == ChallengeReader::Anywhere).then(|| parse_any_scheme(&joined))) else {
        return nothing;
    };
    let begins = joined.get(..6).is_some_and(|begin| begin.eq_ignore_ascii_case("bearer"));
    if client.challenge == ChallengeReader::Pattern && !begins {
        session.note_for(client.name, &rule::CHALLENGE_NOT_FIRST, &url, printable(&joined));
        return nothing;
    }
    if client.challenge != ChallengeReader::Standard && has_lookalike(&joined) {
        session.note_for(client.name, &rule::CHALLENGE_LOOKALIKE, &url, printable(&joined));
    }
    let challenge = metadata_url(session, client, challenge)?;
    Ok(OpeningResult::Challenged(challenge))
}

/// The parameters of a challenge of any scheme, for clients that ignore the scheme.
fn parse_any_scheme(field: &str) -> BearerChallenge {
    let parameters = field.split_once(' ').map_or("", |(_, parameters)| parameters);
    BearerChallenge::parse([format!("Bearer {parameters}").as_str()]).unwrap_or_default()
}

/// Whether a search for `scope=` finds another parameter first.
fn has_lookalike(field: &str) -> bool {
    let lower = field.to_ascii_lowercase();
    let Some(at) = lower.find("scope=") else { return false };
    let before = lower[..at].chars().next_back();
    before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Checks `resource_metadata`, and removes it where the client ignores it.
fn metadata_url(session: &mut Session<'_>, client: &ClientProfile, mut challenge: BearerChallenge) -> Result<BearerChallenge, Problem> {
    let Some(url) = challenge.resource_metadata.clone() else {
        return Ok(challenge);
    };
    let at = session.mcp.to_string();
    let Ok(parsed) = ExactUrl::parse(&url) else {
        session.note_for(client.name, &rule::CHALLENGE_URL_RELATIVE, &at, printable(&url));
        challenge.resource_metadata = None;
        return Ok(challenge);
    };
    if let Some(rule) = documents::downgrade_rule(&url, &session.mcp) {
        return Err(Problem::new(rule, format!("`resource_metadata` is {}", printable(&url))));
    }
    if parsed.origin() != session.mcp.origin() && client.same_origin_metadata {
        session.note_for(client.name, &rule::CHALLENGE_OTHER_ORIGIN, &at, printable(&url));
        challenge.resource_metadata = None;
    }
    Ok(challenge)
}
