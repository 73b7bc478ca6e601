//! The requests for the gateway's Vault token: login, look-up and renewal.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::base::secret::{Secret, at_rest};
use crate::store::vault::api::{ApiError, ApiRequest, ApiResponse, Data, VaultApi};
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
struct Auth<T> {
    auth: T,
}

#[derive(Deserialize)]
struct ClientToken {
    #[serde(with = "at_rest")]
    client_token: Secret,
}

#[derive(Deserialize)]
struct Lease {
    lease_duration: u64,
    renewable: bool,
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
        let path = format!("auth/{mount}/login");
        let response = self
            .send(&ApiRequest::new("POST", &path, Some(&body)), None)
            .await?
            .require_found()?;
        let Auth {
            auth: ClientToken { client_token },
        } = response.read()?;
        Ok((client_token, leased(&response)?))
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
        let request = ApiRequest::new("GET", "auth/token/lookup-self", None);
        let Data::<Ttl> { data } = self.send(&request, Some(token)).await?.require_found()?.read()?;
        let (seconds, renewable) = (data.ttl, data.renewable);
        Ok(TokenLifetime { seconds, renewable })
    }

    pub(super) async fn renewed(&self, current: &LoginToken) -> Result<TokenLifetime, ApiError> {
        if !current.lease.renewable {
            return Err(ApiError::NotAsked("it cannot be renewed".to_owned()));
        }
        let body = json!({});
        let request = ApiRequest::new("POST", "auth/token/renew-self", Some(&body));
        leased(&self.send(&request, Some(&current.token)).await?.require_found()?)
    }
}

fn leased(response: &ApiResponse) -> Result<TokenLifetime, ApiError> {
    let Auth {
        auth: Lease {
            lease_duration: seconds,
            renewable,
        },
    } = response.read()?;
    Ok(TokenLifetime { seconds, renewable })
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
