//! The refusals of OAuth endpoints, and the OAuth error code of each reason.

use crate::flow::error::RejectReason;
use crate::oauth::authorization_request::RequestParamsError;
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::FormError;
use crate::oauth::registration::RegistrationError;
use crate::oauth::token_endpoint::TokenRequestError;
use crate::store::StoreError;
use crate::upstream::client_metadata::ClientMetadataFetchError;

/// The time for which a client that refreshes waits after a fault of the gateway's own configuration, in seconds.
const SETUP_RETRY_SECONDS: u64 = 30;

/// The message for clients and pages about a lasting fault between the gateway and an identity provider.
pub const IDP_SETUP_MESSAGE: &str =
    "the identity provider does not work with this gateway's configuration; the operator of this gateway must correct it";

/// The reason why a request at an OAuth endpoint is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Rejection {
    /// A transition of a code or a grant is refused.
    #[error(transparent)]
    Grant(RejectReason),
    /// A transition of an authorization flow is refused.
    #[error(transparent)]
    Flow(RejectReason),
    /// The authorization request is not valid.
    #[error("{}", .0.why)]
    Authorize(RequestParamsError),
    /// The token request is not valid.
    #[error("{}", .0.why)]
    Token(TokenRequestError),
    /// The form cannot be parsed.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The registration request is not valid.
    #[error("{}", .0.why)]
    Registration(RegistrationError),
    /// The client is unknown, or it did not authenticate.
    #[error("{why}")]
    Client {
        /// What is wrong.
        why: &'static str,
        /// The client used the `Authorization` header.
        basic: bool,
    },
    /// The client id is a URL without a usable metadata document.
    #[error(transparent)]
    Document(ClientMetadataFetchError),
    /// A code, pair, flow or `state` that is unknown, has ended, or can no longer be used.
    #[error("{0}")]
    Unknown(&'static str),
    /// The pair belongs to another service, client or purpose.
    #[error("{0}")]
    WrongContext(&'static str),
    /// The form does not come from a page that this gateway sent to the browser for this flow.
    #[error("{0}")]
    ForgedForm(&'static str),
    /// `resource` is not a resource of this gateway (RFC 8707).
    #[error("resource is not a resource of this gateway")]
    Target,
    /// The upstream's refusal is final.
    #[error("the upstream ended this sign-in: {0}")]
    UpstreamRefused(String),
    /// The upstream does not answer now.
    #[error("the upstream cannot be asked: {why}")]
    UpstreamDown {
        /// What happened.
        why: String,
        /// Seconds until a retry.
        retry_after: u64,
    },
    /// The gateway cannot use the upstream until its operator changes something.
    #[error("{fault}: {why}")]
    UpstreamSetup {
        /// What the operator must change.
        fault: SetupFault,
        /// What happened.
        why: String,
        /// Seconds until a retry, for a client that refreshes; see [`Rejection::keep_tokens`].
        retry_after: Option<u64>,
    },
    /// The identity provider does not answer now.
    #[error("the identity provider cannot be asked: {0}")]
    IdpDown(String),
    /// The gateway cannot use the identity provider until its operator changes something.
    #[error("the identity provider cannot be used: {0}")]
    IdpSetup(String),
    /// The store is down, so nothing can be issued.
    #[error("{0}")]
    Store(String),
    /// The gateway is overloaded.
    #[error("too many requests at the same time; try again")]
    TryLater {
        /// Seconds until a retry.
        retry_after: u64,
    },
}

/// The client gets no response to this failure, because only its document names the redirect URIs.
const DOCUMENT_ADVICE: &str = "The gateway cannot send this error to your client, because only the document names its address: stop the sign-in \
    there. The operator of the gateway can let it reach the document's host, copy the document into its configuration \
    (document_file), or set client_documents = false, so that clients register instead.";

/// A lasting fault between the gateway and an upstream. A retry does not help, the operator must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupFault {
    /// No client id is configured, and the upstream offers no registration.
    #[error("this gateway has no client id at the upstream; its operator must configure one")]
    NoClientId,
    /// No client id is configured, and the upstream refuses the registration.
    #[error("the upstream does not let this gateway register; its operator must configure a client id")]
    RegistrationRefused,
    /// The upstream refuses the client id or the client secret.
    #[error("the upstream refuses this gateway's client id or secret; its operator must correct them")]
    ClientRefused,
    /// The upstream refuses the parameters of the token request.
    #[error("the upstream refuses this gateway's token request; its operator finds the reason in the log")]
    RequestRefused,
    /// The metadata that leads to the authorization server is missing or unusable.
    #[error("the upstream's authorization server was not found; the operator of this gateway must correct its configuration")]
    NotFound,
    /// The upstream names another authorization server than the one that knows the client secret.
    #[error("the upstream names another authorization server than before; the operator of this gateway must confirm it")]
    OtherIssuer,
}

impl SetupFault {
    /// The fault as a reason for a refusal. `why` is for the log.
    pub fn because(self, why: String) -> Rejection {
        Rejection::UpstreamSetup {
            fault: self,
            why,
            retry_after: None,
        }
    }
}

impl Rejection {
    /// The same reason, for a client that refreshes. A fault of the gateway's own configuration becomes
    /// temporary, so that the client keeps its tokens until the operator has corrected the fault.
    #[must_use]
    pub fn keep_tokens(mut self) -> Self {
        if let Self::UpstreamSetup { retry_after, .. } = &mut self {
            *retry_after = Some(SETUP_RETRY_SECONDS);
        }
        self
    }

    /// Whether the same request may succeed later.
    pub fn is_temporary(&self) -> bool {
        self.code() == OAuthErrorCode::TemporarilyUnavailable
    }

    /// The OAuth error code.
    pub fn code(&self) -> OAuthErrorCode {
        match self {
            Self::Grant(_) | Self::Unknown(_) | Self::WrongContext(_) | Self::UpstreamRefused(_) => OAuthErrorCode::InvalidGrant,
            Self::Flow(_) | Self::ForgedForm(_) => OAuthErrorCode::AccessDenied,
            Self::Authorize(error) => error.code,
            Self::Token(error) => error.code,
            Self::Registration(error) => error.code,
            Self::Form(_) => OAuthErrorCode::InvalidRequest,
            // OAuth has no more specific code. The page and the log have the details.
            Self::Client { .. } | Self::Document(_) => OAuthErrorCode::InvalidClient,
            Self::Target => OAuthErrorCode::InvalidTarget,
            Self::UpstreamSetup { retry_after: None, .. } | Self::IdpSetup(_) => OAuthErrorCode::ServerError,
            Self::UpstreamSetup { retry_after: Some(_), .. }
            | Self::UpstreamDown { .. }
            | Self::IdpDown(_)
            | Self::Store(_)
            | Self::TryLater { .. } => OAuthErrorCode::TemporarilyUnavailable,
        }
    }

    /// The value of `Retry-After`, in seconds.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::UpstreamDown { retry_after, .. } | Self::TryLater { retry_after } => Some(*retry_after),
            Self::UpstreamSetup { retry_after, .. } => *retry_after,
            Self::IdpDown(_) => Some(10),
            Self::Store(_) => Some(2),
            Self::Document(error) => error.is_temporary().then_some(10),
            Self::Grant(_)
            | Self::Flow(_)
            | Self::Authorize(_)
            | Self::Token(_)
            | Self::Form(_)
            | Self::Registration(_)
            | Self::Client { .. }
            | Self::Unknown(_)
            | Self::WrongContext(_)
            | Self::ForgedForm(_)
            | Self::Target
            | Self::IdpSetup(_)
            | Self::UpstreamRefused(_) => None,
        }
    }

    /// The description for clients and pages, without details of the store and of other servers.
    pub fn public_message(&self) -> String {
        match self {
            Self::Store(_) => "the gateway's store is not available; try again".to_owned(),
            Self::UpstreamDown { .. } => "the upstream authorization server does not answer; try again".to_owned(),
            Self::UpstreamSetup { fault, .. } => fault.to_string(),
            Self::IdpDown(_) => "the identity provider does not answer; try again".to_owned(),
            Self::IdpSetup(_) => IDP_SETUP_MESSAGE.to_owned(),
            Self::Document(error) => error.public_message(),
            Self::Grant(_)
            | Self::Flow(_)
            | Self::Authorize(_)
            | Self::Token(_)
            | Self::Form(_)
            | Self::Registration(_)
            | Self::Client { .. }
            | Self::Unknown(_)
            | Self::WrongContext(_)
            | Self::ForgedForm(_)
            | Self::Target
            | Self::UpstreamRefused(_)
            | Self::TryLater { .. } => self.to_string(),
        }
    }

    /// The advice for user and operator, if starting again is not enough.
    pub fn advice(&self) -> Option<&'static str> {
        if let Self::Document(error) = self
            && error.is_unavailable()
        {
            return Some(DOCUMENT_ADVICE);
        }
        None
    }

    /// Whether the response needs a challenge: the `Authorization` header was used (RFC 6749 §5.2).
    pub fn wants_basic_challenge(&self) -> bool {
        matches!(self, Self::Client { basic: true, .. })
    }
}

impl From<StoreError> for Rejection {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<TokenRequestError> for Rejection {
    fn from(error: TokenRequestError) -> Self {
        Self::Token(error)
    }
}
