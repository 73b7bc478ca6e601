//! The way to a Vault, with a token that is renewed before it ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, Notify};
use tokio::time::{sleep, timeout};

use crate::base::time::Stopwatch;
use crate::store::vault::at::{VaultAt, VaultLogin};
use crate::store::vault::calls::{Answer, Ask, Calls, Failed};
use crate::store::vault::token::{AGAIN, Held, SELDOM};

/// How long after a login another one is refused: a role without rights must not become a flood of logins.
const PAUSE_MICROS: u64 = 2_000_000;

/// The way to Vault for everybody in this process.
pub(super) struct Link {
    pub(super) at: VaultAt,
    pub(super) calls: Calls,
    held: Mutex<Option<Held>>,
    /// Who has it may sign in; when that was last done.
    turn: Turn<Option<Stopwatch>>,
    is_new: Notify,
}

impl Link {
    /// Nothing is asked yet.
    pub(super) fn new(at: VaultAt) -> Result<Self, String> {
        Ok(Self {
            calls: Calls::new(&at)?,
            at,
            held: Mutex::default(),
            turn: Turn::default(),
            is_new: Notify::new(),
        })
    }

    /// Signs in for the first time, and from then on keeps a token, on the runtime that this is called on.
    pub(super) async fn begin(self: &Arc<Self>) -> Result<(), Failed> {
        self.signed_in(None).await?;
        let link = Arc::clone(self);
        tokio::spawn(async move {
            let mut pause = None;
            loop {
                let wait = pause.take().unwrap_or_else(|| link.held().map_or(AGAIN, |held| held.lease.wait()));
                // Who signed in meanwhile has told a new end.
                if timeout(wait.min(SELDOM), link.is_new.notified()).await.is_err() {
                    pause = link.prolong().await;
                }
            }
        });
        Ok(())
    }

    /// Asks with our token. A refusal may mean that the token has ended: then signs in, and asks once more. It may as well
    /// mean that the policy lacks something, and to sign in for that would leave a token in Vault each time.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Answer, Failed> {
        let held = match self.held() {
            Some(held) => held,
            None => self.signed_in(None).await?,
        };
        let answer = self.calls.send(ask, Some(&held.token)).await;
        let Err(Failed::Refused(403, said)) = answer else {
            return answer;
        };
        let is_newest = self.held().is_some_and(|now| now.number == held.number);
        if is_newest && !matches!(self.look_up(&held.token).await, Err(Failed::Refused(403, _))) {
            return Err(Failed::Refused(403, said));
        }
        let instead = match self.signed_in(Some(held.number)).await {
            Ok(next) if next.number != held.number => return self.calls.send(ask, Some(&next.token)).await,
            Ok(_) => "the token has ended".to_owned(),
            Err(why) => format!("signing in again failed: {why}"),
        };
        Err(Failed::Refused(403, format!("{said}; {instead}")))
    }

    /// As [`Link::ask`], for what may be asked twice.
    pub(super) async fn read(&self, path: &str, within: Duration) -> Result<Answer, Failed> {
        let ask = Ask {
            method: "GET",
            path,
            body: None,
            within,
        };
        match self.ask(&ask).await {
            Err(Failed::Lost(_)) => self.ask(&ask).await,
            answer => answer,
        }
    }

    pub(super) fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn hold(&self, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        self.is_new.notify_waiters();
    }

    /// A token other than the one with the number `not`, or the same if there can be no other now.
    pub(super) async fn signed_in(&self, not: Option<u64>) -> Result<Held, Failed> {
        let mut last = self.turn.lock().await;
        if let Some(held) = self.held() {
            let is_fresh = last.is_some_and(|last| last.micros() < PAUSE_MICROS);
            let is_given = matches!(self.at.login, VaultLogin::Token(_));
            if Some(held.number) != not || is_fresh || is_given {
                return Ok(held);
            }
        }
        *last = Some(Stopwatch::start());
        let (token, lease) = self.login().await?;
        let held = Held {
            number: self.held().map_or(1, |held| held.number + 1),
            token,
            lease,
            first: lease.seconds,
        };
        self.hold(held.clone());
        Ok(held)
    }
}

/// Waits a little; for those who try again.
pub(super) async fn pause() {
    sleep(Duration::from_millis(250)).await;
}
