//! A configured client secret stays with the authorization server of its first use, whatever issuer
//! the upstream names later.

use serde::{Deserialize, Serialize};

use crate::app::discovery::Discovery;
use crate::app::error::{Rejection, SetupFault};
use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::base::url::ExactUrl;
use crate::service::auth_server_config::AuthServerConfig;
use crate::store::{Handle, UpsertError};

/// The issuer that a client secret belongs to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssuerBinding {
    issuer: String,
    secret: Digest,
}

/// The record of [`IssuerBinding`].
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum UpstreamIssuerRecord {
    /// The secret was used.
    #[serde(rename = "Pinned")]
    IssuerBinding(IssuerBinding),
}

states!(UpstreamIssuerRecord: IssuerBinding);

impl Record for UpstreamIssuerRecord {
    const KIND: &'static str = "upstream-issuer";

    fn expires_at(&self) -> UnixTime {
        UnixTime::NEVER
    }
}

impl IssuerBinding {
    /// Replaces the binding if the secret is new, the issuer is the same, or the operator configured
    /// the issuer. Otherwise the error is the issuer that the secret belongs to.
    fn rebound(self, next: Self, is_configured: bool) -> Result<Self, String> {
        if is_configured || self.secret != next.secret || self.issuer == next.issuer {
            Ok(next)
        } else {
            Err(self.issuer)
        }
    }
}

impl Discovery {
    /// Ensures that the configured client secret, if there is one, belongs to `issuer`, which the
    /// upstream at `mcp` names now. The first use binds the secret. This prevents that an upstream
    /// which names another authorization server gets the secret sent there.
    ///
    /// # Errors
    /// If the secret belongs to another issuer, or the store fails.
    pub(super) async fn ensure_issuer_bound(&self, mcp: &ExactUrl, config: &AuthServerConfig, issuer: &str) -> Result<(), Rejection> {
        let (Some(client_id), Some(secret)) = (&config.client_id, &config.client_secret) else {
            return Ok(());
        };
        let next = IssuerBinding {
            issuer: issuer.to_owned(),
            secret: Digest::new(secret.expose()),
        };
        let is_configured = config.issuer.is_some() || config.token_endpoint.is_some();
        let handle = Handle::<UpstreamIssuerRecord>::new(Id(Digest::new(&format!("{mcp}\n{client_id}")).truncated()));
        let step = |record: Option<UpstreamIssuerRecord>| -> Result<(UpstreamIssuerRecord, ()), String> {
            let binding = match record {
                Some(UpstreamIssuerRecord::IssuerBinding(binding)) => binding.rebound(next.clone(), is_configured)?,
                None => next.clone(),
            };
            Ok((binding.into(), ()))
        };
        match self.core.store.upsert(&handle, step).await {
            Ok(_) => Ok(()),
            Err(UpsertError::Rejected(old_issuer)) => Err(issuer_changed_error(&old_issuer, issuer)),
            Err(UpsertError::Store(error)) => Err(error.into()),
        }
    }
}

fn issuer_changed_error(old_issuer: &str, new_issuer: &str) -> Rejection {
    let (old_issuer, new_issuer) = (old_issuer.escape_debug(), new_issuer.escape_debug());
    let message = format!(
        "the upstream now names {new_issuer} as its authorization server, and the client secret belongs to {old_issuer}; \
         if that is right, say --upstream-as {new_issuer}"
    );
    tracing::error!(why = message, "the client secret is not sent");
    SetupFault::OtherIssuer.because(message)
}
