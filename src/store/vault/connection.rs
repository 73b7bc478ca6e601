//! The connection to Vault, with a token that is renewed before it expires.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, Notify};
use tokio::time::{sleep, timeout};

use crate::base::time::Stopwatch;
use crate::store::vault::api::{ApiError, ApiRequest, ApiResponse, VaultApi};
use crate::store::vault::config::{VaultConfig, VaultLogin};
use crate::store::vault::login::{LoginToken, RENEW_RETRY_DELAY, UNKNOWN_TTL_RECHECK};

/// Minimum time between logins, in microseconds: a role without rights must not flood Vault.
const LOGIN_PAUSE_MICROS: u64 = 2_000_000;

/// The connection to Vault that this whole process shares.
pub(super) struct Connection {
    pub(super) at: VaultConfig,
    pub(super) calls: VaultApi,
    token: Mutex<Option<LoginToken>>,
    /// Locked during a login. Holds the time of the last login.
    turn: Turn<Option<Stopwatch>>,
    is_new: Notify,
}

impl Connection {
    /// Sends nothing yet.
    pub(super) fn new(at: VaultConfig) -> Result<Self, String> {
        Ok(Self {
            calls: VaultApi::new(&at)?,
            at,
            token: Mutex::default(),
            turn: Turn::default(),
            is_new: Notify::new(),
        })
    }

    /// Logs in for the first time, then keeps a valid token, on the current runtime.
    pub(super) async fn begin(self: &Arc<Self>) -> Result<(), ApiError> {
        self.token_after(None).await?;
        let link = Arc::clone(self);
        tokio::spawn(async move {
            let mut pause = None;
            loop {
                let wait = pause
                    .take()
                    .unwrap_or_else(|| link.token().map_or(RENEW_RETRY_DELAY, |held| held.lease.wait()));
                // A notification means a new token: compute the wait again.
                if timeout(wait.min(UNKNOWN_TTL_RECHECK), link.is_new.notified()).await.is_err() {
                    pause = link.renew_or_login().await;
                }
            }
        });
        Ok(())
    }

    /// Sends a request. A 403 may mean an expired token: then it logs in again and retries once. If
    /// the policy lacks a right it does not, because each login leaves a token in Vault.
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

    /// Like [`Connection::execute`], for requests that can be repeated. Retries once after a loss.
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

    /// Returns a token other than number `not`, or the same one if no other is available now.
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

/// Waits a moment before a retry.
pub(super) async fn pause() {
    sleep(Duration::from_millis(250)).await;
}
