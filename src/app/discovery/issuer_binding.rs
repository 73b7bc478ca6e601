//! A configured client secret stays with the authorization server that it was first used with, whatever the upstream's
//! metadata names later.

use serde::{Deserialize, Serialize};

use crate::app::Gateway;
use crate::app::error::Rejection;
use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::base::url::ExactUrl;
use crate::service::auth_server_config::AuthServerConfig;
use crate::store::{Handle, InsertError, TransitionError};

/// Where a client secret belongs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssuerBinding {
    issuer: String,
    secret: Digest,
}

/// See [`IssuerBinding`].
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum UpstreamIssuerRecord {
    /// See [`IssuerBinding`].
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
    /// Another secret begins anew, and the operator's word is newer than what was found; else the issuer stays, which is
    /// told.
    fn rebound(self, next: Self, by_operator: bool) -> Result<(Self, ()), String> {
        if by_operator || self.secret != next.secret || self.issuer == next.issuer {
            Ok((next, ()))
        } else {
            Err(self.issuer)
        }
    }
}

impl Gateway {
    /// Insists that the configured client secret, if there is one, belongs to `issuer`, which `mcp` names today.
    pub(crate) async fn ensure_issuer_bound(&self, mcp: &ExactUrl, given: &AuthServerConfig, issuer: &str) -> Result<(), Rejection> {
        let (Some(client_id), Some(secret)) = (&given.client_id, &given.client_secret) else {
            return Ok(());
        };
        let next = IssuerBinding {
            issuer: issuer.to_owned(),
            secret: Digest::new(secret.expose()),
        };
        let by_operator = given.issuer.is_some() || given.token_endpoint.is_some();
        let handle = Handle::<UpstreamIssuerRecord>::new(Id(Digest::new(&format!("{mcp}\n{client_id}")).truncated()));
        loop {
            match self
                .store
                .transition(&handle, |s: IssuerBinding| s.rebound(next.clone(), by_operator))
                .await
            {
                Ok(_) => return Ok(()),
                Err(TransitionError::Rejected(was)) => return Err(issuer_changed_error(&was, issuer)),
                Err(TransitionError::Store(error)) => return Err(error.into()),
                Err(TransitionError::NotFound | TransitionError::WrongState) => match self.store.insert(handle.id(), next.clone()).await {
                    Ok(_) => return Ok(()),
                    Err(InsertError::AlreadyExists) => {}
                    Err(InsertError::Store(error)) => return Err(error.into()),
                },
            }
        }
    }
}

fn issuer_changed_error(was: &str, now: &str) -> Rejection {
    let (was, now) = (was.escape_debug(), now.escape_debug());
    let why = format!(
        "the upstream now names {now} as its authorization server, and the client secret belongs to {was}; \
         if that is right, say --upstream-as {now}"
    );
    tracing::error!(why, "the client secret is not sent");
    Rejection::UpstreamDown { why, retry_after: 30 }
}
