//! What the user pastes on the consent page is tried at the upstream before a code is issued for it.

use std::net::IpAddr;

use http::HeaderValue;

use crate::app::authorize::start::FlowHandle;
use crate::app::runtime_config::ActiveService;
use crate::app::{Gateway, Lane};
use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::flow::code::ObtainedTokens;
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamTokens};
use crate::service::auth_header::{CredentialSyntaxError, PasteSettings};
use crate::service::{AfterConsent, Service};
use crate::upstream::credential_probe::{self, CredentialHeader, ProbeResult};

/// The consent form, as it came in.
#[derive(Debug)]
pub struct ConsentForm<'a> {
    /// The form cookie.
    pub form: Option<&'a str>,
    /// What was pasted for the upstream.
    pub pasted: Secret,
    /// The caller's address, for limits only.
    pub source: IpAddr,
}

/// Why a code is not issued for what was pasted. The journey is where it was, and the user may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialError {
    /// Nothing was pasted.
    Empty,
    /// It is too long for a key.
    TooLong,
    /// It holds what no key holds.
    Characters,
    /// The upstream does not know it.
    Refused,
    /// The upstream does not answer, so nobody knows.
    NoResponse,
    /// Too many keys were tried: this page is not for guessing them.
    TooMany,
}

/// What a page asks the user to paste.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// The host that it goes to.
    pub host: &'a str,
    /// The header in which it goes there.
    pub header: &'a str,
    /// What the operator says about it; may be empty.
    pub hint: &'a str,
    /// The client can read it in its token.
    pub readable: bool,
}

impl<'a> Prompt<'a> {
    /// What this service takes, if it is something of the user's.
    pub fn of(service: &'a Service) -> Option<Self> {
        match service.upstream.after_consent() {
            AfterConsent::Form(paste) => Some(Self {
                host: service.host(),
                header: paste.header.name().as_str(),
                hint: &paste.hint,
                readable: service.mode.exposes_upstream_tokens(),
            }),
            AfterConsent::Upstream | AfterConsent::Nowhere => None,
        }
    }
}

impl From<CredentialSyntaxError> for CredentialError {
    fn from(why: CredentialSyntaxError) -> Self {
        match why {
            CredentialSyntaxError::Empty => Self::Empty,
            CredentialSyntaxError::TooLong => Self::TooLong,
            CredentialSyntaxError::Characters => Self::Characters,
        }
    }
}

impl Gateway {
    /// Tries what was pasted. It is in no log, on no page and in no address: only in what this returns.
    pub(crate) async fn verify_user_credential(
        &self,
        lane: &Lane,
        (running, paste): (&ActiveService, &PasteSettings),
        flow: &FlowHandle,
        approval: &ConsentForm<'_>,
    ) -> Result<ObtainedTokens, CredentialError> {
        let credential = paste.header.parse_credential(approval.pasted.expose())?;
        let value = paste.header.value(&credential).ok_or(CredentialError::Characters)?;
        let service = &running.service;
        if !self.limits.allow_probe(approval.source, flow.id()) {
            tracing::warn!(service = service.name, source = %approval.source, "too many keys were tried");
            return Err(CredentialError::TooMany);
        }
        let header = (paste.header.name().clone(), value);
        match credential_probe::probe(&lane.client, &service.mcp, &header).await {
            ProbeResult::Accepted(session) => {
                if let Some(session) = session {
                    self.close_session(running, header, session);
                }
                let access = UpstreamAccessToken::new(credential);
                Ok(ObtainedTokens {
                    issuer: None,
                    tokens: UpstreamTokens {
                        access,
                        refresh: None,
                        expires: None,
                        refresh_expires: None,
                        scope: None,
                    },
                })
            }
            ProbeResult::Refused => {
                tracing::info!(service = service.name, source = %approval.source, "the upstream refused a pasted key");
                Err(CredentialError::Refused)
            }
            ProbeResult::NoResponse(why) => {
                tracing::warn!(service = service.name, why, "a pasted key could not be tried");
                Err(CredentialError::NoResponse)
            }
        }
    }

    /// The probe opened a session that nobody will use: best effort, and nobody waits for it.
    fn close_session(&self, running: &ActiveService, header: CredentialHeader, session: HeaderValue) {
        let (gateway, mcp, work) = (self.clone(), running.service.mcp.clone(), self.inflight.lock(Id::random()));
        self.back.spawn(async move {
            let _work = work;
            credential_probe::close(&gateway.back_lane.client, &mcp, header, session).await;
        });
    }
}
