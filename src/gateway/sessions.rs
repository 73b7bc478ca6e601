//! MCP sessions where all users look alike upstream (`static`, `none`): whoever knows a session's id could go on in it, so
//! an id is good only for the user to whom the upstream's answer gave it.
//!
//! Kept in this process and nowhere else. An id that is not known here gets 404, which is MCP's word for "begin anew": so
//! after a restart, and where the bound was reached, a client loses a session and no sign-in. To let the first who comes
//! adopt an unknown id would hand it to whoever saw it and is quicker than its owner. Several processes need a balancer
//! that keeps a client with one of them.

use http::header::HeaderName;
use http::{HeaderMap, Method, StatusCode};
use quick_cache::sync::Cache;

use crate::base::ids::Digest;
use crate::base::time::UnixTime;
use crate::token::half::ServiceMark;

/// The field that names a session (MCP 2025-03-26, "Session Management").
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The most sessions that are remembered; those that were least used are forgotten first.
const MOST: usize = 100_000;
/// A session that nobody used for so long is forgotten, in seconds.
const IDLE: u64 = 7 * 86_400;
/// Using a session is noted no more often than this, in seconds.
const NOTED: u64 = 60;

/// Who may use which session: digests of service, user and id. An id that an upstream gave to two users is good for both.
#[derive(Debug)]
pub struct Sessions(Cache<[u8; 16], UnixTime>);

/// Whose session it is.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// At this service.
    pub service: ServiceMark,
    /// This user.
    pub subject: &'a str,
}

impl Default for Sessions {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl Sessions {
    /// Whether a request with this header may go on: it names no session, or one that was given to this user.
    pub fn admit(&self, owner: Owner<'_>, request: &HeaderMap, now: UnixTime) -> bool {
        let mut named = request.get_all(SESSION).iter();
        let Some(first) = named.next() else { return true };
        // Of two, an upstream would take the one or the other.
        let (Ok(id), None) = (first.to_str(), named.next()) else {
            return false;
        };
        let key = key(owner, id);
        let known = self.0.get(&key);
        if known.is_some_and(|used| now.since(used) >= NOTED) {
            self.0.insert(key, now);
        }
        known.is_some()
    }

    /// Learns from an answer: a session was given to this user, or has ended. `request` is the one that it answers.
    pub fn learn(&self, owner: Owner<'_>, request: (&Method, Option<&str>), answer: (StatusCode, &HeaderMap), now: UnixTime) {
        let ((method, named), (status, headers)) = (request, answer);
        if !status.is_success() {
            return;
        }
        if let Some(id) = named.filter(|_| method == Method::DELETE) {
            self.0.remove(&key(owner, id));
            return;
        }
        let given = headers.get(SESSION).and_then(|id| id.to_str().ok());
        if let Some(id) = given.filter(|id| named != Some(*id)) {
            self.0.insert(key(owner, id), now);
        }
    }

    /// Forgets what nobody has used for long.
    pub fn sweep(&self, now: UnixTime) {
        self.0.retain(|_, used| now.since(*used) < IDLE);
    }
}

/// The session that a header names, as text.
pub fn named(headers: &HeaderMap) -> Option<String> {
    headers.get(SESSION)?.to_str().ok().map(str::to_owned)
}

/// The mark and the length of the subject come first, so that no two owners and ids run together.
fn key(owner: Owner<'_>, id: &str) -> [u8; 16] {
    let Owner { service, subject } = owner;
    Digest::of(&format!("{:02x?} {} {subject} {id}", service.0, subject.len())).short()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const NOW: UnixTime = UnixTime(1_000_000);

    fn owner<'a>(service: &str, subject: &'a str) -> Owner<'a> {
        Owner {
            service: ServiceMark::of(service),
            subject,
        }
    }

    fn naming(ids: &[&'static str]) -> HeaderMap {
        ids.iter().map(|id| (SESSION, HeaderValue::from_static(id))).collect()
    }

    fn given(sessions: &Sessions, to: Owner<'_>, id: &'static str) {
        sessions.learn(to, (&Method::POST, None), (StatusCode::OK, &naming(&[id])), NOW);
    }

    #[test]
    fn a_session_is_good_for_the_user_and_the_service_that_it_was_given_to() {
        let sessions = Sessions::default();
        given(&sessions, owner("a", "alice"), "s1");
        let admits = |who, id| sessions.admit(who, &naming(&[id]), NOW);
        assert!(admits(owner("a", "alice"), "s1"));
        assert!(!admits(owner("a", "bob"), "s1") && !admits(owner("b", "alice"), "s1"));
        assert!(!admits(owner("a", "alice"), "s2"), "an id that nobody was given");
        assert!(sessions.admit(owner("a", "bob"), &naming(&[]), NOW), "a request without a session");
    }

    #[test]
    fn two_ids_in_one_request_are_no_session() {
        let sessions = Sessions::default();
        given(&sessions, owner("a", "alice"), "s1");
        for ids in [["s1", "s2"], ["s2", "s1"], ["s1", "s1"]] {
            assert!(!sessions.admit(owner("a", "alice"), &naming(&ids), NOW));
        }
    }

    #[test]
    fn subjects_and_ids_do_not_run_together() {
        let sessions = Sessions::default();
        given(&sessions, owner("a", "alice b"), "c");
        assert!(!sessions.admit(owner("a", "alice"), &naming(&["b c"]), NOW));
    }

    #[test]
    fn a_session_ends_when_its_user_ends_it_and_not_by_a_refused_delete() {
        let sessions = Sessions::default();
        let alice = owner("a", "alice");
        given(&sessions, alice, "s1");
        let ended = |status| sessions.learn(alice, (&Method::DELETE, Some("s1")), (status, &naming(&["s1"])), NOW);
        ended(StatusCode::METHOD_NOT_ALLOWED);
        assert!(sessions.admit(alice, &naming(&["s1"]), NOW));
        ended(StatusCode::NO_CONTENT);
        assert!(!sessions.admit(alice, &naming(&["s1"]), NOW));
    }

    #[test]
    fn a_session_is_kept_while_it_is_used() {
        let sessions = Sessions::default();
        let alice = owner("a", "alice");
        given(&sessions, alice, "used");
        given(&sessions, alice, "idle");
        let later = NOW.after(IDLE - 1);
        assert!(sessions.admit(alice, &naming(&["used"]), later));
        sessions.sweep(later.after(1));
        assert!(sessions.admit(alice, &naming(&["used"]), later));
        assert!(!sessions.admit(alice, &naming(&["idle"]), later));
    }

    #[test]
    fn ever_more_sessions_take_no_more_room() {
        let sessions = Sessions::default();
        for n in 0..2 * MOST {
            sessions.0.insert(key(owner("a", "alice"), &n.to_string()), NOW);
        }
        assert!(sessions.0.len() <= MOST);
    }
}
