//! The requests for the gateway's Vault token: login, look-up and renewal.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::base::secret::{Secret, at_rest};
use crate::store::vault::api::{ApiError, ApiRequest, REQUEST_TIMEOUT, VaultApi};
use crate::store::vault::config::VaultLogin;

/// Delay after a failed renewal.
pub(super) const RENEW_RETRY_DELAY: Duration = Duration::from_secs(5);
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
    pub(super) renewable: bool,
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

impl VaultApi {
    pub(super) async fn login(&self, credentials: &VaultLogin) -> Result<(Secret, TokenLifetime), ApiError> {
        let (mount, role, secret) = match credentials {
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
        let LoggedIn { auth } = self.send(&request, None).await?.require_found()?.read()?;
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
        let LookedUp { data } = self.send(&request, Some(token)).await?.require_found()?.read()?;
        let (seconds, renewable) = (data.ttl, data.renewable);
        Ok(TokenLifetime { seconds, renewable })
    }

    pub(super) async fn renewed(&self, current: &LoginToken) -> Result<TokenLifetime, ApiError> {
        if !current.lease.renewable {
            return Err(ApiError::NotAsked("it cannot be renewed".to_owned()));
        }
        let request = ApiRequest {
            method: "POST",
            path: "auth/token/renew-self",
            body: Some(&json!({})),
            within: REQUEST_TIMEOUT,
        };
        let Renewed { auth } = self.send(&request, Some(&current.token)).await?.require_found()?.read()?;
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
