//! Sign-ins of the operator for stored credentials. A command starts one and exchanges the code; the
//! callback may reach the running gateway, through the store that both share.

pub mod callback;
pub mod device;
pub mod exchange;

use std::sync::Arc;

use crate::app::core::Core;
use crate::app::discovery::Discovery;
use crate::app::error::Rejection;
use crate::app::flow_handle::flow_error;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::flow::error::RejectReason;
use crate::flow::stored_login::{StoredLoginParams, StoredLoginRecord, StoredLoginRedirect};
use crate::net::http_client::HttpClient;
use crate::oauth::pkce::CodeChallenge;
use crate::store::{Handle, InsertError, StoreError, TransitionError};
use crate::upstream::auth_server::AuthServer;
use crate::upstream::token_endpoint::{self, AuthorizeUrlParams};

/// The handle of a sign-in.
pub type LoginHandle = Handle<StoredLoginRecord>;

/// The prefix of the `state` of these sign-ins. No client's flow has it.
const STATE_PREFIX: &str = "stored-";

/// Starts and ends sign-ins for stored credentials.
pub struct StoredLogins {
    core: Arc<Core>,
    discovery: Arc<Discovery>,
}

/// A sign-in that waits for the browser.
#[derive(Debug)]
pub struct StartedLogin {
    /// The handle of its record.
    pub handle: LoginHandle,
    /// The authorization URL. Only the user who signs in may see its `state`.
    pub url: String,
}

/// The progress of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginProgress {
    /// No callback has arrived.
    Waiting,
    /// The code arrived, and the command exchanges it.
    CodeReceived,
    /// The credential is stored.
    Done,
    /// The sign-in failed, for this reason.
    Failed(String),
    /// The sign-in has expired.
    Expired,
}

impl StoredLogins {
    pub(in crate::app) fn new(core: Arc<Core>, discovery: Arc<Discovery>) -> Self {
        Self { core, discovery }
    }

    /// The upstream's authorization server, with our registration there.
    ///
    /// # Errors
    /// If discovery or registration fails, or the store does.
    pub async fn server(&self, http: &HttpClient, active: &ActiveService) -> Result<Arc<AuthServer>, Rejection> {
        self.discovery.auth_server(http, active).await
    }

    /// Starts a sign-in with a browser, which may take `ttl` seconds.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn start(&self, active: &ActiveService, server: &AuthServer, ttl: u64) -> Result<StartedLogin, Rejection> {
        let (state, verifier) = (random::token(), random::token());
        let params = StoredLoginParams {
            service: active.service.name.clone(),
            state: Digest::new(state.expose()),
            verifier: verifier.clone(),
            issuer: server.issuer.clone(),
            issuer_is_guess: server.issuer_is_guess,
            iss_promised: server.iss_promised,
            ttl,
        };
        let redirect = StoredLoginRedirect::new(params, self.core.clock.now());
        let handle = match self.core.store.insert(Id::random(), redirect).await {
            Ok(handle) => handle,
            Err(InsertError::AlreadyExists) => return Err(Rejection::TryLater { retry_after: 1 }),
            Err(InsertError::Store(error)) => return Err(error.into()),
        };
        let challenge = CodeChallenge::of(&verifier);
        let params = AuthorizeUrlParams {
            state: &format!("{STATE_PREFIX}{handle}.{}", state.expose()),
            challenge: challenge.as_str(),
            redirect_uri: &self.core.urls.upstream_callback(&active.service),
            scopes: &active.scopes_offered().list(),
        };
        let url = token_endpoint::authorize_url(server, &params);
        Ok(StartedLogin { handle, url })
    }

    /// The progress of a sign-in.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn progress(&self, handle: &LoginHandle) -> Result<LoginProgress, StoreError> {
        Ok(match self.core.store.read(handle).await? {
            Some(StoredLoginRecord::StoredLoginRedirect(_)) => LoginProgress::Waiting,
            Some(StoredLoginRecord::StoredLoginCallback(_)) => LoginProgress::CodeReceived,
            Some(StoredLoginRecord::StoredLoginDone(_)) => LoginProgress::Done,
            Some(StoredLoginRecord::StoredLoginFailed(state)) => LoginProgress::Failed(state.reason().to_owned()),
            None => LoginProgress::Expired,
        })
    }

    /// Removes a sign-in after its command gave up, so that a late callback fails.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn cancel(&self, handle: &LoginHandle) -> Result<(), StoreError> {
        self.core.store.remove(handle).await
    }
}

/// The refusal for a failed transition. A sign-in in another state looks like an unknown one.
fn login_error(error: TransitionError<RejectReason>) -> Rejection {
    match error {
        TransitionError::NotFound | TransitionError::WrongState => {
            Rejection::Unknown("this sign-in has ended or has moved on; start it again in the terminal")
        }
        TransitionError::Rejected(_) | TransitionError::Store(_) => flow_error(error),
    }
}
