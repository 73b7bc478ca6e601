//! The way to a Vault, with a token that is renewed before it ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, Notify};
use tokio::time::{sleep, timeout};

use crate::base::time::Stopwatch;
use crate::store::vault::api::{ApiError, ApiRequest, ApiResponse, VaultApi};
use crate::store::vault::config::{VaultConfig, VaultLogin};
use crate::store::vault::login::{LoginToken, RENEW_RETRY_DELAY, UNKNOWN_TTL_RECHECK};

/// How long after a login another one is refused: a role without rights must not become a flood of logins.
const LOGIN_PAUSE_MICROS: u64 = 2_000_000;

/// The way to Vault for everybody in this process.
pub(super) struct Connection {
    pub(super) at: VaultConfig,
    pub(super) calls: VaultApi,
    token: Mutex<Option<LoginToken>>,
    /// Who has it may sign in; when that was last done.
    turn: Turn<Option<Stopwatch>>,
    is_new: Notify,
}

impl Connection {
    /// Nothing is asked yet.
    pub(super) fn new(at: VaultConfig) -> Result<Self, String> {
        Ok(Self {
            calls: VaultApi::new(&at)?,
            at,
            token: Mutex::default(),
            turn: Turn::default(),
            is_new: Notify::new(),
        })
    }

    /// Signs in for the first time, and from then on keeps a token, on the runtime that this is called on.
    pub(super) async fn begin(self: &Arc<Self>) -> Result<(), ApiError> {
        self.token_after(None).await?;
        let link = Arc::clone(self);
        tokio::spawn(async move {
            let mut pause = None;
            loop {
                let wait = pause
                    .take()
                    .unwrap_or_else(|| link.token().map_or(RENEW_RETRY_DELAY, |held| held.lease.wait()));
                // Who signed in meanwhile has told a new end.
                if timeout(wait.min(UNKNOWN_TTL_RECHECK), link.is_new.notified()).await.is_err() {
                    pause = link.renew_or_login().await;
                }
            }
        });
        Ok(())
    }

    /// Asks with our token. A refusal may mean that the token has ended: then signs in, and asks once more. It may as well
    /// mean that the policy lacks something, and to sign in for that would leave a token in Vault each time.
    pub(super) async fn execute(&self, ask: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
        let held = match self.token() {
            Some(held) => held,
            None => self.token_after(None).await?,
        };
        let answer = self.calls.send(ask, Some(&held.token)).await;
        let Err(ApiError::Refused(403, said)) = answer else {
            return answer;
        };
        let is_newest = self.token().is_some_and(|now| now.number == held.number);
        if is_newest && !matches!(self.look_up(&held.token).await, Err(ApiError::Refused(403, _))) {
            return Err(ApiError::Refused(403, said));
        }
        let instead = match self.token_after(Some(held.number)).await {
            Ok(next) if next.number != held.number => return self.calls.send(ask, Some(&next.token)).await,
            Ok(_) => "the token has ended".to_owned(),
            Err(why) => format!("signing in again failed: {why}"),
        };
        Err(ApiError::Refused(403, format!("{said}; {instead}")))
    }

    /// As [`Connection::execute`], for what may be asked twice.
    pub(super) async fn read(&self, path: &str, within: Duration) -> Result<ApiResponse, ApiError> {
        let ask = ApiRequest {
            method: "GET",
            path,
            body: None,
            within,
        };
        match self.execute(&ask).await {
            Err(ApiError::Lost(_)) => self.execute(&ask).await,
            answer => answer,
        }
    }

    pub(super) fn token(&self) -> Option<LoginToken> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_token(&self, held: LoginToken) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        self.is_new.notify_waiters();
    }

    /// A token other than the one with the number `not`, or the same if there can be no other now.
    pub(super) async fn token_after(&self, not: Option<u64>) -> Result<LoginToken, ApiError> {
        let mut last = self.turn.lock().await;
        if let Some(held) = self.token() {
            let is_fresh = last.is_some_and(|last| last.micros() < LOGIN_PAUSE_MICROS);
            let is_given = matches!(self.at.login, VaultLogin::Token(_));
            if Some(held.number) != not || is_fresh || is_given {
                return Ok(held);
            }
        }
        *last = Some(Stopwatch::start());
        let (token, lease) = self.login().await?;
        let held = LoginToken {
            number: self.token().map_or(1, |held| held.number + 1),
            token,
            lease,
            first: lease.seconds,
        };
        self.set_token(held.clone());
        Ok(held)
    }
}

/// Waits a little; for those who try again.
pub(super) async fn pause() {
    sleep(Duration::from_millis(250)).await;
}
