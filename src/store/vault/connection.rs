//! The connection to Vault, with a token that is renewed before it expires, or the log warns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, Notify};
use tokio::time::{sleep, timeout};

use crate::base::secret::Secret;
use crate::base::time::Stopwatch;
use crate::store::vault::api::{ApiError, ApiRequest, ApiResponse, VaultApi};
use crate::store::vault::config::{VaultConfig, VaultLogin};
use crate::store::vault::login::{LoginToken, RENEW_RETRY_DELAY, TokenLifetime, UNKNOWN_TTL_RECHECK};

/// The interval at which the log reports that a configured token has expired.
const EXPIRED_WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Minimum time between logins, in microseconds: a role without rights must not flood Vault.
const LOGIN_PAUSE_MICROS: u64 = 2_000_000;

/// The connection to Vault that this whole process shares.
pub(super) struct Connection {
    pub(super) at: VaultConfig,
    calls: VaultApi,
    token: Mutex<Option<LoginToken>>,
    /// Locked during a login. Holds the time of the last login.
    turn: Turn<Option<Stopwatch>>,
    is_new: Notify,
}

impl Connection {
    /// Sends nothing yet.
    pub(super) fn new(config: VaultConfig) -> Result<Self, String> {
        Ok(Self {
            calls: VaultApi::new(&config)?,
            at: config,
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
                    .unwrap_or_else(|| link.token().map_or(RENEW_RETRY_DELAY, |token| token.lease.wait()));
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
    pub(super) async fn execute(&self, request: &ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
        let current = match self.token() {
            Some(current) => current,
            None => self.token_after(None).await?,
        };
        let response = self.calls.send(request, Some(&current.token)).await;
        let Err(ApiError::Refused(403, reason)) = response else {
            return response;
        };
        let is_newest = self.token().is_some_and(|newest| newest.number == current.number);
        if is_newest && !matches!(self.calls.look_up(&current.token).await, Err(ApiError::Refused(403, _))) {
            return Err(ApiError::Refused(403, reason));
        }
        let outcome = match self.token_after(Some(current.number)).await {
            Ok(next) if next.number != current.number => return self.calls.send(request, Some(&next.token)).await,
            Ok(_) => "the token has ended".to_owned(),
            Err(error) => format!("signing in again failed: {error}"),
        };
        Err(ApiError::Refused(403, format!("{reason}; {outcome}")))
    }

    /// Like [`Connection::execute`], for requests that can be repeated. Retries once after a loss.
    pub(super) async fn read(&self, path: &str, max_wait: Duration) -> Result<ApiResponse, ApiError> {
        let request = ApiRequest::new("GET", path, None).within(max_wait);
        match self.execute(&request).await {
            Err(ApiError::Lost(_)) => self.execute(&request).await,
            result => result,
        }
    }

    fn token(&self) -> Option<LoginToken> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_token(&self, token: LoginToken) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        self.is_new.notify_waiters();
    }

    /// Returns a token other than number `excluded`, or the same one if no other is available now.
    async fn token_after(&self, excluded: Option<u64>) -> Result<LoginToken, ApiError> {
        let mut last_login = self.turn.lock().await;
        if let Some(current) = self.token() {
            let is_fresh = last_login.is_some_and(|last_login| last_login.micros() < LOGIN_PAUSE_MICROS);
            let is_static = matches!(self.at.login, VaultLogin::Token(_));
            if Some(current.number) != excluded || is_fresh || is_static {
                return Ok(current);
            }
        }
        *last_login = Some(Stopwatch::start());
        let (token, lease) = self.calls.login(&self.at.login).await?;
        let new_token = LoginToken {
            number: self.token().map_or(1, |current| current.number + 1),
            token,
            lease,
            first: lease.seconds,
        };
        self.set_token(new_token.clone());
        Ok(new_token)
    }

    /// Renews the token or logs in again. If neither works, returns when to try again.
    async fn renew_or_login(&self) -> Option<Duration> {
        let current = self.token().filter(|current| current.lease.seconds > 0)?;
        let (reason, retry_delay) = match self.calls.renewed(&current).await {
            Ok(lease) if lease.seconds >= current.first / 4 => {
                self.set_token(LoginToken { lease, ..current });
                return None;
            }
            Ok(lease) => {
                // 0 would mean unlimited.
                let seconds = lease.seconds.max(1);
                let lease = TokenLifetime { seconds, ..lease };
                self.set_token(LoginToken { lease, ..current.clone() });
                (
                    "it has almost reached its greatest age".to_owned(),
                    lease.wait().max(RENEW_RETRY_DELAY),
                )
            }
            Err(error) => (error.to_string(), RENEW_RETRY_DELAY.min(current.lease.wait())),
        };
        if let VaultLogin::Token(token) = &self.at.login {
            return Some(self.warn_expiring(&current, token, &reason, retry_delay).await);
        }
        match self.token_after(Some(current.number)).await {
            Ok(next) if next.number != current.number => return None,
            Ok(_) => tracing::warn!(why = reason, "the token for Vault is not renewed; that is tried again and again"),
            Err(error) => {
                tracing::warn!(why = reason, login = %error, "the token for Vault is not renewed, nor is there another; that is tried again");
            }
        }
        Some(retry_delay)
    }

    /// Logs that a given token is not renewed, more often near its end. Returns the next wait.
    async fn warn_expiring(&self, current: &LoginToken, token: &Secret, reason: &str, retry_delay: Duration) -> Duration {
        match self.calls.look_up(token).await {
            Ok(lease) if lease.seconds > 0 => {
                self.set_token(LoginToken { lease, ..current.clone() });
                let seconds = lease.seconds;
                tracing::warn!(
                    why = reason,
                    seconds,
                    "the token for Vault ends in so many seconds: give another one (token or token_file at [store]) and start again"
                );
                lease.wait().max(RENEW_RETRY_DELAY)
            }
            Err(ApiError::Refused(403, _)) => {
                tracing::error!("the token for Vault has ended: give another one (token or token_file at [store]) and start again");
                EXPIRED_WARNING_INTERVAL
            }
            Ok(_) | Err(_) => {
                tracing::warn!(why = reason, "the token for Vault is not renewed; that is tried again and again");
                retry_delay
            }
        }
    }
}

/// Waits a moment before a retry.
pub(super) async fn pause() {
    sleep(Duration::from_millis(250)).await;
}
