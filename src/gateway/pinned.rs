//! A configured client secret stays with the authorization server that it was first used with, whatever the upstream's
//! metadata names later.

use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::base::url::Address;
use crate::gateway::Gateway;
use crate::gateway::rejection::Rejection;
use crate::service::oauth::Authorization;
use crate::store::{Handle, Missed, NotInserted};

/// Where a client secret belongs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pinned {
    issuer: String,
    secret: Digest,
}

/// See [`Pinned`].
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum UpstreamIssuerRecord {
    /// See [`Pinned`].
    Pinned(Pinned),
}

states!(UpstreamIssuerRecord: Pinned);

impl Record for UpstreamIssuerRecord {
    const SPACE: &'static str = "upstream-issuer";

    fn keep_until(&self) -> UnixTime {
        UnixTime::NEVER
    }
}

impl Pinned {
    /// Another secret begins anew, and the operator's word is newer than what was found; else the issuer stays, which is
    /// told.
    fn followed_by(self, next: Self, by_operator: bool) -> Result<(Self, ()), String> {
        if by_operator || self.secret != next.secret || self.issuer == next.issuer {
            Ok((next, ()))
        } else {
            Err(self.issuer)
        }
    }
}

impl Gateway {
    /// Insists that the configured client secret, if there is one, belongs to `issuer`, which `mcp` names today.
    pub(crate) async fn pinned(&self, mcp: &Address, given: &Authorization, issuer: &str) -> Result<(), Rejection> {
        let (Some(client_id), Some(secret)) = (&given.client_id, &given.client_secret) else {
            return Ok(());
        };
        let next = Pinned {
            issuer: issuer.to_owned(),
            secret: Digest::of(secret.expose()),
        };
        let by_operator = given.issuer.is_some() || given.token_endpoint.is_some();
        let handle = Handle::<UpstreamIssuerRecord>::of(Id(Digest::of(&format!("{mcp}\n{client_id}")).short()));
        loop {
            match self
                .store
                .transition(&handle, |s: Pinned| s.followed_by(next.clone(), by_operator))
                .await
            {
                Ok(_) => return Ok(()),
                Err(Missed::Rejected(was)) => return Err(moved(&was, issuer)),
                Err(Missed::Store(error)) => return Err(error.into()),
                Err(Missed::Absent | Missed::OtherState) => match self.store.insert(handle.id(), next.clone()).await {
                    Ok(_) => return Ok(()),
                    Err(NotInserted::AlreadyThere) => {}
                    Err(NotInserted::Store(error)) => return Err(error.into()),
                },
            }
        }
    }
}

fn moved(was: &str, now: &str) -> Rejection {
    let (was, now) = (was.escape_debug(), now.escape_debug());
    let why = format!(
        "the upstream now names {now} as its authorization server, and the client secret belongs to {was}; \
         if that is right, say --upstream-as {now}"
    );
    tracing::error!(why, "the client secret is not sent");
    Rejection::UpstreamDown { why, retry_after: 30 }
}
