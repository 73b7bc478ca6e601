//! What the user pastes on the consent page is tried at the upstream before a code is issued for it.

use std::net::IpAddr;

use http::HeaderValue;

use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::flow::code::Obtained;
use crate::gateway::authorize::Flow;
use crate::gateway::live::Running;
use crate::gateway::{Gateway, Lane};
use crate::oauth::answer::{Tokens, UpstreamAccess};
use crate::service::paste::{BadCredential, Paste};
use crate::service::{AfterConsent, Service};
use crate::upstream::probe::{self, Credential, Probed};

/// The consent form, as it came in.
#[derive(Debug)]
pub struct Approval<'a> {
    /// The form cookie.
    pub form: Option<&'a str>,
    /// What was pasted for the upstream.
    pub pasted: Secret,
    /// The caller's address, for limits only.
    pub source: IpAddr,
}

/// Why a code is not issued for what was pasted. The journey is where it was, and the user may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Nothing was pasted.
    Empty,
    /// It is too long for a key.
    TooLong,
    /// It holds what no key holds.
    Characters,
    /// The upstream does not know it.
    Refused,
    /// The upstream does not answer, so nobody knows.
    Silent,
    /// Too many keys were tried: this page is not for guessing them.
    TooMany,
}

/// What a page asks the user to paste.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The host that it goes to.
    pub host: &'a str,
    /// The header in which it goes there.
    pub header: &'a str,
    /// What the operator says about it; may be empty.
    pub hint: &'a str,
    /// The client can read it in its token.
    pub readable: bool,
}

impl<'a> Wanted<'a> {
    /// What this service takes, if it is something of the user's.
    pub fn of(service: &'a Service) -> Option<Self> {
        match service.upstream.after_consent() {
            AfterConsent::Form(paste) => Some(Self {
                host: service.host(),
                header: paste.header.name().as_str(),
                hint: &paste.hint,
                readable: service.mode.shows_upstream_tokens(),
            }),
            AfterConsent::Upstream | AfterConsent::Nowhere => None,
        }
    }
}

impl From<BadCredential> for NotTaken {
    fn from(why: BadCredential) -> Self {
        match why {
            BadCredential::Empty => Self::Empty,
            BadCredential::TooLong => Self::TooLong,
            BadCredential::Characters => Self::Characters,
        }
    }
}

impl Gateway {
    /// Tries what was pasted. It is in no log, on no page and in no address: only in what this returns.
    pub(super) async fn unlocked(
        &self,
        lane: &Lane,
        (running, paste): (&Running, &Paste),
        flow: &Flow,
        approval: &Approval<'_>,
    ) -> Result<Obtained, NotTaken> {
        let credential = paste.header.cleaned(approval.pasted.expose())?;
        let value = paste.header.value(&credential).ok_or(NotTaken::Characters)?;
        let service = &running.service;
        if !self.limits.probe(approval.source, flow.id()) {
            tracing::warn!(service = service.name, source = %approval.source, "too many keys were tried");
            return Err(NotTaken::TooMany);
        }
        let header = (paste.header.name().clone(), value);
        match probe::probe(&lane.client, &service.mcp, &header).await {
            Probed::Accepted(session) => {
                if let Some(session) = session {
                    self.close_session(running, header, session);
                }
                let access = UpstreamAccess::new(credential);
                Ok(Obtained {
                    issuer: None,
                    tokens: Tokens {
                        access,
                        refresh: None,
                        expires: None,
                        refresh_expires: None,
                        scope: None,
                    },
                })
            }
            Probed::Refused => {
                tracing::info!(service = service.name, source = %approval.source, "the upstream refused a pasted key");
                Err(NotTaken::Refused)
            }
            Probed::Silent(why) => {
                tracing::warn!(service = service.name, why, "a pasted key could not be tried");
                Err(NotTaken::Silent)
            }
        }
    }

    /// The probe opened a session that nobody will use: best effort, and nobody waits for it.
    fn close_session(&self, running: &Running, header: Credential, session: HeaderValue) {
        let (gateway, mcp, work) = (self.clone(), running.service.mcp.clone(), self.inflight.begin(Id::fresh()));
        self.back.spawn(async move {
            let _work = work;
            probe::close(&gateway.back_lane.client, &mcp, header, session).await;
        });
    }
}
