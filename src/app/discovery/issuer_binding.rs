//! The gateway remembers the issuer that an upstream names. A configured client secret stays with the
//! issuer of its first use, and so do the credentials of a service token and everything with `pin_issuer`. Otherwise a changed issuer is
//! logged and shown to users.

use serde::{Deserialize, Serialize};

use crate::app::audit_events;
use crate::app::discovery::Discovery;
use crate::app::error::{Rejection, SetupFault};
use crate::app::upstream_cache::PreviousIssuer;
use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::oauth::metadata::Purpose;
use crate::service::Service;
use crate::service::auth_server_config::AuthServerConfig;
use crate::store::{Handle, UpsertError};

/// The issuer that a service and its client secret belong to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssuerBinding {
    issuer: String,
    /// The digest of the configured client secret.
    secret: Option<Digest>,
    /// The issuer before a change that the operator did not make.
    #[serde(default)]
    previous: Option<PreviousIssuer>,
}

/// The party that decides about a changed issuer.
#[derive(Clone, Copy)]
enum ChangePolicy {
    /// The operator configured the issuer that is used now.
    Configured,
    /// The upstream may not change it.
    Pinned,
    /// The upstream may change it.
    Followed,
}

/// The record of [`IssuerBinding`].
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum UpstreamIssuerRecord {
    /// The upstream named its issuer.
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
    /// Replaces the binding, if the issuer may change: the operator configured it or a new secret, or
    /// nothing pins it. Otherwise the error is the issuer before.
    fn rebound(self, next: Self, policy: ChangePolicy, now: UnixTime) -> Result<Self, String> {
        if self.issuer == next.issuer {
            return Ok(Self {
                previous: self.previous,
                ..next
            });
        }
        let is_new_secret = next.secret.is_some() && self.secret != next.secret;
        match policy {
            ChangePolicy::Configured => Ok(next),
            _ if is_new_secret => Ok(next),
            ChangePolicy::Pinned => Err(self.issuer),
            ChangePolicy::Followed => Ok(Self {
                previous: Some(PreviousIssuer {
                    issuer: self.issuer,
                    changed_at: now,
                }),
                ..next
            }),
        }
    }
}

impl Discovery {
    /// Ensures that the service and its client secret may use `issuer`, which the upstream names now.
    /// The first use binds them. This prevents that an upstream which names another authorization
    /// server gets the secret sent there. Returns the issuer before, if the upstream changed it.
    ///
    /// # Errors
    /// If the secret belongs to another issuer, the issuer is pinned, or the store fails.
    pub(super) async fn bind_issuer(
        &self,
        service: &Service,
        config: &AuthServerConfig,
        issuer: &str,
    ) -> Result<Option<PreviousIssuer>, Rejection> {
        let next = IssuerBinding {
            issuer: issuer.to_owned(),
            secret: config.client_secret.as_ref().map(|secret| Digest::new(secret.expose())),
            previous: None,
        };
        let policy = if config.issuer.is_some() || config.token_endpoint.is_some() {
            ChangePolicy::Configured
        } else if next.secret.is_some()
            || service.upstream.discovery_purpose() == Purpose::ServiceToken
            || config.is_issuer_pinned(&service.mcp)
        {
            ChangePolicy::Pinned
        } else {
            ChangePolicy::Followed
        };
        let (handle, now) = (binding_handle(service, config), self.core.clock.now());
        let step = |record: Option<UpstreamIssuerRecord>| -> Result<(UpstreamIssuerRecord, Option<PreviousIssuer>), String> {
            let binding = match record {
                Some(UpstreamIssuerRecord::IssuerBinding(binding)) => binding.rebound(next.clone(), policy, now)?,
                None => next.clone(),
            };
            let previous = binding.previous.clone();
            Ok((binding.into(), previous))
        };
        match self.core.store.upsert(&handle, step).await {
            Ok((_, previous)) => {
                if let Some(PreviousIssuer { issuer: was, changed_at }) = &previous
                    && *changed_at == now
                {
                    self.core.audit.record(audit_events::issuer_changed(&service.name, was, issuer));
                    tracing::warn!(
                        service = service.name,
                        was,
                        is = issuer,
                        "the upstream names another authorization server; new sign-ins go there"
                    );
                }
                Ok(previous)
            }
            Err(UpsertError::Rejected(old_issuer)) => Err(issuer_changed_error(&old_issuer, issuer, next.secret.is_some())),
            Err(UpsertError::Store(error)) => Err(error.into()),
        }
    }
}

/// The handle of a service's binding. Services with the same URL and client share one. A service token has one of its
/// own, so that a sibling which follows the upstream to another issuer does not change where the credentials go.
fn binding_handle(service: &Service, config: &AuthServerConfig) -> Handle<UpstreamIssuerRecord> {
    let (mcp, client_id) = (&service.mcp, config.client_id.as_deref().unwrap_or_default());
    let shared = format!("{mcp}\n{client_id}");
    let text = match service.upstream.discovery_purpose() {
        Purpose::ServiceToken => format!("{shared}\n{}", service.name),
        Purpose::UserSignIn => shared,
    };
    Handle::new(Id(Digest::new(&text).truncated()))
}

fn issuer_changed_error(old_issuer: &str, new_issuer: &str, has_secret: bool) -> Rejection {
    let (old_issuer, new_issuer) = (old_issuer.escape_debug(), new_issuer.escape_debug());
    let change = if has_secret {
        format!("the upstream now names {new_issuer} as its authorization server, and the client secret belongs to {old_issuer}")
    } else {
        format!("the upstream now names {new_issuer} as its authorization server, and pin_issuer keeps {old_issuer}")
    };
    let message = format!("{change}; if that is right, say --upstream-as {new_issuer}");
    tracing::error!(why = message, "nothing is sent to another authorization server");
    SetupFault::OtherIssuer.because(message)
}
