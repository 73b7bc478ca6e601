//! The consent form, and the credential that it may ask for.

use std::net::IpAddr;

use crate::app::flow_handle::FlowHandle;
use crate::base::secret::Secret;
use crate::service::auth_header::CredentialSyntaxError;
use crate::service::{AfterConsent, Service};

/// The submitted consent form.
#[derive(Debug)]
pub struct ConsentForm<'a> {
    /// The flow.
    pub flow: &'a FlowHandle,
    /// The value of the form cookie.
    pub form: Option<&'a str>,
    /// The credential that the user pasted; empty if the form asks for none.
    pub pasted: Secret,
    /// The caller's address, for limits only.
    pub source: IpAddr,
}

/// The reason why the pasted credential is refused. The flow stays at consent, and the user may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialError {
    /// The field is empty.
    Empty,
    /// It is too long for a credential.
    TooLong,
    /// It has characters that no credential has.
    Characters,
    /// The upstream refuses it.
    Refused,
    /// The upstream does not answer.
    NoResponse,
    /// Too many were tried: the page must not serve to guess one.
    TooMany,
}

/// The credential that the consent page asks for.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// The host that gets it.
    pub host: &'a str,
    /// The header that it is sent in.
    pub header: &'a str,
    /// The operator's hint; may be empty.
    pub hint: &'a str,
    /// Whether the client can read it in its token.
    pub readable: bool,
}

impl<'a> Prompt<'a> {
    /// The credential that this service requires, if its users paste one.
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
    fn from(error: CredentialSyntaxError) -> Self {
        match error {
            CredentialSyntaxError::Empty => Self::Empty,
            CredentialSyntaxError::TooLong => Self::TooLong,
            CredentialSyntaxError::Characters => Self::Characters,
        }
    }
}
