//! Binds MCP sessions to users where the upstream cannot tell users apart (`static`, `none`). There
//! anyone who knows a session id could use the session. So only the user who got the id may use it.
//!
//! The ids are known to this process only. An unknown id gets 404, upon which an MCP client starts
//! a new session. So a restart or a full table costs a session, not a login. Accepting an unknown
//! id from the first caller would give the session to an attacker who has seen the id. Several
//! processes need a load balancer with sticky clients.

use http::header::HeaderName;
use http::{HeaderMap, Method, Response};
use quick_cache::sync::Cache;

use crate::base::ids::Digest;
use crate::base::time::UnixTime;
use crate::token::header::ServiceDigest;

/// The header with the session id (MCP 2025-03-26, "Session Management").
const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
/// The maximum number of sessions that are remembered. The least used are evicted first.
const MAX_SESSIONS: usize = 100_000;
/// The time for which an unused session is remembered, in seconds.
const IDLE_SECONDS: u64 = 7 * 86_400;
/// The minimum time between two updates of a session's last use, in seconds.
const TOUCH_INTERVAL_SECONDS: u64 = 60;

/// Digests of service, user and session id, with the last use. An id can belong to several users.
#[derive(Debug)]
pub struct McpSessions(Cache<[u8; 16], UnixTime>);

/// The owner of a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionOwner<'a> {
    /// The service.
    pub service: ServiceDigest,
    /// The subject of the user.
    pub subject: &'a str,
}

/// A forwarded request, as far as it concerns a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionRequest<'a> {
    /// The method: DELETE ends a session.
    pub method: &'a Method,
    /// The session that the request names.
    pub id: Option<&'a str>,
}

impl Default for McpSessions {
    fn default() -> Self {
        Self(Cache::new(MAX_SESSIONS))
    }
}

impl McpSessions {
    /// Whether a request may be forwarded: it has no session id, or one that this user got.
    pub fn check(&self, owner: SessionOwner<'_>, request: &HeaderMap, now: UnixTime) -> bool {
        let mut values = request.get_all(SESSION_HEADER).iter();
        let Some(first) = values.next() else { return true };
        // With two ids, the upstream's choice is unknown.
        let (Ok(id), None) = (first.to_str(), values.next()) else {
            return false;
        };
        let key = key(owner, id);
        let last_used = self.0.get(&key);
        if last_used.is_some_and(|used| now.seconds_since(used) >= TOUCH_INTERVAL_SECONDS) {
            self.0.insert(key, now);
        }
        last_used.is_some()
    }

    /// Records a new or an ended session from a response. `request` is what it responds to.
    pub fn note(&self, owner: SessionOwner<'_>, request: SessionRequest<'_>, response: &Response<impl Sized>, now: UnixTime) {
        let SessionRequest { method, id: requested_id } = request;
        let (status, headers) = (response.status(), response.headers());
        if !status.is_success() {
            return;
        }
        if let Some(id) = requested_id.filter(|_| method == Method::DELETE) {
            self.0.remove(&key(owner, id));
            return;
        }
        let new_id = headers.get(SESSION_HEADER).and_then(|id| id.to_str().ok());
        if let Some(id) = new_id.filter(|id| requested_id != Some(*id)) {
            self.0.insert(key(owner, id), now);
        }
    }

    /// Removes sessions that were unused for too long.
    pub fn sweep(&self, now: UnixTime) {
        self.0.retain(|_, used| now.seconds_since(*used) < IDLE_SECONDS);
    }
}

/// The session id of a request, as text.
pub fn session_id(headers: &HeaderMap) -> Option<String> {
    headers.get(SESSION_HEADER)?.to_str().ok().map(str::to_owned)
}

/// The service and the length of the subject come first, so that different inputs never collide.
fn key(owner: SessionOwner<'_>, id: &str) -> [u8; 16] {
    let SessionOwner { service, subject } = owner;
    Digest::new(&format!("{:02x?} {} {subject} {id}", service.0, subject.len())).truncated()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, StatusCode};

    const NOW: UnixTime = UnixTime(1_000_000);

    fn owner<'a>(service: &str, subject: &'a str) -> SessionOwner<'a> {
        SessionOwner {
            service: ServiceDigest::of(service),
            subject,
        }
    }

    fn naming(ids: &[&'static str]) -> HeaderMap {
        ids.iter().map(|id| (SESSION_HEADER, HeaderValue::from_static(id))).collect()
    }

    fn request<'a>(method: &'a Method, id: Option<&'a str>) -> SessionRequest<'a> {
        SessionRequest { method, id }
    }

    fn response(status: StatusCode, ids: &[&'static str]) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = naming(ids);
        response
    }

    fn given(sessions: &McpSessions, owner: SessionOwner<'_>, id: &'static str) {
        sessions.note(owner, request(&Method::POST, None), &response(StatusCode::OK, &[id]), NOW);
    }

    #[test]
    fn an_mcp_session_id_is_accepted_only_from_its_user_and_service() {
        let sessions = McpSessions::default();
        given(&sessions, owner("a", "alice"), "s1");
        let is_accepted = |owner, id| sessions.check(owner, &naming(&[id]), NOW);
        assert!(is_accepted(owner("a", "alice"), "s1"));
        assert!(!is_accepted(owner("a", "bob"), "s1") && !is_accepted(owner("b", "alice"), "s1"));
        assert!(!is_accepted(owner("a", "alice"), "s2"), "an id that nobody was given");
        assert!(sessions.check(owner("a", "bob"), &naming(&[]), NOW), "a request without a session");
    }

    #[test]
    fn a_request_with_two_mcp_session_ids_is_refused() {
        let sessions = McpSessions::default();
        given(&sessions, owner("a", "alice"), "s1");
        for ids in [["s1", "s2"], ["s2", "s1"], ["s1", "s1"]] {
            assert!(!sessions.check(owner("a", "alice"), &naming(&ids), NOW));
        }
    }

    #[test]
    fn subject_and_session_id_are_not_ambiguous_when_joined() {
        let sessions = McpSessions::default();
        given(&sessions, owner("a", "alice b"), "c");
        assert!(!sessions.check(owner("a", "alice"), &naming(&["b c"]), NOW));
    }

    #[test]
    fn an_mcp_session_ends_only_when_the_upstream_accepts_its_delete() {
        let sessions = McpSessions::default();
        let alice = owner("a", "alice");
        given(&sessions, alice, "s1");
        let delete = |status| sessions.note(alice, request(&Method::DELETE, Some("s1")), &response(status, &["s1"]), NOW);
        delete(StatusCode::METHOD_NOT_ALLOWED);
        assert!(sessions.check(alice, &naming(&["s1"]), NOW));
        delete(StatusCode::NO_CONTENT);
        assert!(!sessions.check(alice, &naming(&["s1"]), NOW));
    }

    #[test]
    fn a_used_mcp_session_survives_the_sweep_and_an_idle_one_expires() {
        let sessions = McpSessions::default();
        let alice = owner("a", "alice");
        given(&sessions, alice, "used");
        given(&sessions, alice, "idle");
        let later = NOW.plus_seconds(IDLE_SECONDS - 1);
        assert!(sessions.check(alice, &naming(&["used"]), later));
        sessions.sweep(later.plus_seconds(1));
        assert!(sessions.check(alice, &naming(&["used"]), later));
        assert!(!sessions.check(alice, &naming(&["idle"]), later));
    }

    #[test]
    fn the_mcp_session_table_never_exceeds_its_limit() {
        let sessions = McpSessions::default();
        for n in 0..2 * MAX_SESSIONS {
            sessions.0.insert(key(owner("a", "alice"), &n.to_string()), NOW);
        }
        assert!(sessions.0.len() <= MAX_SESSIONS);
    }
}
