//! The state that the server's thread and the tests share.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::behaviour::Behaviour;
use crate::signing::Keys;
use crate::tokens::Tokens;
use crate::{Profile, Seen};

/// The largest part of a request body that is logged, in bytes.
pub const KEPT: usize = 64 * 1024;

/// The logged requests. `gone` keeps request numbers valid after the log is cleared.
#[derive(Default)]
struct Log {
    gone: u64,
    seen: Vec<Seen>,
}

/// The state of one upstream.
pub struct State {
    pub profile: Profile,
    pub origin: String,
    pub open: Arc<AtomicUsize>,
    behaviour: Mutex<Behaviour>,
    tokens: Mutex<Tokens>,
    keys: Mutex<Keys>,
    log: Mutex<Log>,
    phases: Mutex<Vec<(Instant, String)>>,
}

/// A test that panics inside `set` must not make the server panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub fn new(profile: Profile, origin: String) -> Self {
        Self {
            profile,
            origin,
            open: Arc::default(),
            behaviour: Mutex::default(),
            tokens: Mutex::new(Tokens::new()),
            keys: Mutex::new(Keys::new()),
            log: Mutex::default(),
            phases: Mutex::default(),
        }
    }

    pub fn behaviour(&self) -> Behaviour {
        lock(&self.behaviour).clone()
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Behaviour) -> T) -> T {
        change(&mut lock(&self.behaviour))
    }

    pub fn tokens(&self) -> MutexGuard<'_, Tokens> {
        lock(&self.tokens)
    }

    pub fn keys(&self) -> MutexGuard<'_, Keys> {
        lock(&self.keys)
    }

    pub fn issuer(&self) -> String {
        match self.profile {
            Profile::Standard | Profile::OpenId => self.origin.clone(),
            Profile::GitHub => format!("{}/login/oauth", self.origin),
        }
    }

    /// The scopes that the MCP endpoint requires.
    pub fn scope(&self) -> &'static str {
        match self.profile {
            Profile::Standard | Profile::OpenId => "mcp",
            Profile::GitHub => "repo read:user",
        }
    }

    /// Logs a request on arrival, and returns its number.
    pub fn note(&self, seen: Seen) -> u64 {
        let mut log = lock(&self.log);
        log.seen.push(seen);
        log.gone + log.seen.len() as u64 - 1
    }

    /// Updates a logged request, unless the log was cleared.
    pub fn amend(&self, number: u64, amend: impl FnOnce(&mut Seen)) {
        let mut log = lock(&self.log);
        let index = number.checked_sub(log.gone).and_then(|i| usize::try_from(i).ok());
        if let Some(seen) = index.and_then(|i| log.seen.get_mut(i)) {
            amend(seen);
        }
    }

    pub fn log(&self) -> Vec<Seen> {
        lock(&self.log).seen.clone()
    }

    pub fn clear_log(&self) {
        let mut log = lock(&self.log);
        log.gone += log.seen.len() as u64;
        log.seen.clear();
    }

    pub fn phase(&self, what: String) {
        lock(&self.phases).push((Instant::now(), what));
    }

    pub fn phases(&self) -> Vec<(Instant, String)> {
        lock(&self.phases).clone()
    }
}
