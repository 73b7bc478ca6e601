//! The gateway's Vault token: login, renewal, and warnings before it expires.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::base::secret::{Secret, at_rest};
use crate::store::vault::api::{ApiError, ApiRequest, REQUEST_TIMEOUT};
use crate::store::vault::config::VaultLogin;
use crate::store::vault::connection::Connection;

/// Delay after a failed renewal.
pub(super) const RENEW_RETRY_DELAY: Duration = Duration::from_secs(5);
/// How often the log reports that a given token has expired.
const EXPIRED_WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Longest wait before a token is checked again, also if it never expires.
pub(super) const UNKNOWN_TTL_RECHECK: Duration = Duration::from_secs(3600);

/// A token and its lifetime.
#[derive(Clone)]
pub(super) struct LoginToken {
    pub(super) number: u64,
    pub(super) token: Secret,
    pub(super) lease: TokenLifetime,
    /// Seconds of the first lifetime. Renewals get shorter towards a token's maximum TTL.
    pub(super) first: u64,
}

/// The remaining lifetime in seconds (0: unlimited), and whether it can be renewed.
#[derive(Clone, Copy)]
pub(super) struct TokenLifetime {
    pub(super) seconds: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(with = "at_rest")]
    client_token: Secret,
    lease_duration: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct Renewed {
    auth: Renewal,
}

#[derive(Deserialize)]
struct Renewal {
    lease_duration: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct LookedUp {
    data: Ttl,
}

#[derive(Deserialize)]
struct Ttl {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

impl Connection {
    pub(super) async fn login(&self) -> Result<(Secret, TokenLifetime), ApiError> {
        let (mount, role, secret) = match &self.at.login {
            VaultLogin::Token(token) => return Ok((token.clone(), self.looked_up(token).await?)),
            VaultLogin::AppRole { mount, role, secret } => (mount, role, secret),
        };
        let mut body = json!({ "role_id": role });
        if let Some(secret) = secret {
            body["secret_id"] = secret.expose().into();
        }
        let request = ApiRequest {
            method: "POST",
            path: &format!("auth/{mount}/login"),
            body: Some(&body),
            within: REQUEST_TIMEOUT,
        };
        let LoggedIn { auth } = self.calls.send(&request, None).await?.require_found()?.read()?;
        let (seconds, renewable) = (auth.lease_duration, auth.renewable);
        Ok((auth.client_token, TokenLifetime { seconds, renewable }))
    }

    /// Looks up the lifetime of a given token.
    async fn looked_up(&self, token: &Secret) -> Result<TokenLifetime, ApiError> {
        let lease = self.look_up(token).await?;
        if lease.seconds > 0 && !lease.renewable {
            let seconds = lease.seconds;
            tracing::warn!(seconds, "the token for Vault cannot be renewed; sign-ins fail when it expires");
        }
        Ok(lease)
    }

    pub(super) async fn look_up(&self, token: &Secret) -> Result<TokenLifetime, ApiError> {
        let request = ApiRequest {
            method: "GET",
            path: "auth/token/lookup-self",
            body: None,
            within: REQUEST_TIMEOUT,
        };
        let LookedUp { data } = self.calls.send(&request, Some(token)).await?.require_found()?.read()?;
        let (seconds, renewable) = (data.ttl, data.renewable);
        Ok(TokenLifetime { seconds, renewable })
    }

    /// Renews the token or logs in again. If neither works, returns when to try again.
    pub(super) async fn renew_or_login(&self) -> Option<Duration> {
        let current = self.token().filter(|current| current.lease.seconds > 0)?;
        let (reason, retry_delay) = match self.renewed(&current).await {
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
        match self.look_up(token).await {
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

    async fn renewed(&self, current: &LoginToken) -> Result<TokenLifetime, ApiError> {
        if !current.lease.renewable {
            return Err(ApiError::NotAsked("it cannot be renewed".to_owned()));
        }
        let request = ApiRequest {
            method: "POST",
            path: "auth/token/renew-self",
            body: Some(&json!({})),
            within: REQUEST_TIMEOUT,
        };
        let Renewed { auth } = self.calls.send(&request, Some(&current.token)).await?.require_found()?.read()?;
        let (seconds, renewable) = (auth.lease_duration, auth.renewable);
        Ok(TokenLifetime { seconds, renewable })
    }
}

impl TokenLifetime {
    /// Half of the lifetime.
    pub(super) fn wait(self) -> Duration {
        match self.seconds {
            0 => UNKNOWN_TTL_RECHECK,
            seconds => Duration::from_millis(seconds.saturating_mul(500)).max(Duration::from_millis(250)),
        }
    }
}
