//! `/introspect`: a resource server asks about a token.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::app::error::Rejection;
use crate::app::introspection::Introspection;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::flow::access_key::KeyHolder;
use crate::oauth::bearer::{self, BearerHeader};
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::Form;
use crate::oauth::introspection;
use crate::oauth::token_endpoint::{ClientCredentials, TokenRequestError};
use crate::token::access_key::AccessKeyKind;

/// An introspection request.
#[derive(Clone, Copy)]
pub struct IntrospectionRequest<'a> {
    /// The service that the path names; `None` at the root, where the key determines it.
    pub service: Option<&'a Arc<ActiveService>>,
    /// The value of `Authorization`.
    pub authorization: Option<&'a str>,
    /// The parameters.
    pub form: &'a Form,
    /// Whether the caller asks for a signed response (RFC 9701 §4).
    pub is_signed: bool,
    /// The caller's address, for limits only.
    pub source: IpAddr,
}

/// The response to a resource server.
#[derive(Clone, Debug)]
pub enum IntrospectionResponse {
    /// JSON (RFC 7662 §2.2).
    Plain(Value),
    /// A JWT (RFC 9701 §5).
    Signed(String),
}

/// The reason why a resource server gets no introspection response.
#[derive(Clone, Debug)]
pub enum IntrospectionError {
    /// The key is missing, wrong, expired or revoked, or of another service. The response does not say which.
    Key {
        /// The caller sent it as a bearer token.
        is_bearer: bool,
    },
    /// Another reason.
    Rejection(Rejection),
}

impl<E: Into<Rejection>> From<E> for IntrospectionError {
    fn from(error: E) -> Self {
        Self::Rejection(error.into())
    }
}

impl Introspection {
    /// Answers a resource server. For a token that is unknown, has ended, is a refresh token or of another
    /// service, the response is `{"active":false}`, and does not say why.
    ///
    /// # Errors
    /// If the key is not valid, the token is missing, or the store fails.
    pub async fn introspect(self: &Arc<Self>, request: IntrospectionRequest<'_>) -> Result<IntrospectionResponse, IntrospectionError> {
        let active = self.authenticate(&request).await?;
        let missing = || {
            Rejection::Token(TokenRequestError {
                code: OAuthErrorCode::InvalidRequest,
                why: "token is missing".into(),
            })
        };
        let token = Secret::from(request.form.single("token")?.ok_or_else(missing)?);
        let verified = self.verify(&active, token.expose()).await?;
        let response = verified.map_or_else(introspection::inactive, |verified| verified.token.response());
        if !request.is_signed {
            return Ok(IntrospectionResponse::Plain(response));
        }
        let (urls, now) = (&self.core.urls, self.core.clock.now());
        let (issuer, audience) = (urls.service_url(&active.service), urls.audience(&active.service));
        let claims = introspection::signed_claims(&issuer, &audience, now, &response);
        let keys = self.signing_keys.keys_or_rotate();
        let signed = keys.and_then(|keys| keys.sign(introspection::JWT_TYPE, &claims, now));
        let later = Rejection::TryLater { retry_after: 1 };
        signed
            .map(IntrospectionResponse::Signed)
            .ok_or(IntrospectionError::Rejection(later))
    }

    /// The service of the key in a request.
    async fn authenticate(self: &Arc<Self>, request: &IntrospectionRequest<'_>) -> Result<Arc<ActiveService>, IntrospectionError> {
        let (secret, is_bearer) = server_key(request.authorization, request.form)?;
        let refused = || IntrospectionError::Key { is_bearer };
        let key = self.keys.find_valid(AccessKeyKind::Server, &secret).await?;
        let Some(key) = key else {
            let is_allowed = self.wrong_keys.allow(request.source, &self.core.urls.trusted_proxies);
            return Err(if is_allowed {
                refused()
            } else {
                IntrospectionError::Rejection(Rejection::TryLater { retry_after: 10 })
            });
        };
        let KeyHolder::Server(name) = &key.holder else {
            return Err(refused());
        };
        let active = self.core.active_service(name).filter(|active| active.service.is_external());
        let active = active.ok_or_else(refused)?;
        if request.service.is_some_and(|named| named.service.name != active.service.name) {
            return Err(refused());
        }
        if key.is_use_due {
            self.note_use_detached(key.id);
        }
        Ok(active)
    }

    fn note_use_detached(self: &Arc<Self>, key: Id) {
        let this = Arc::clone(self);
        // Not awaited: storing the time of the last use must not delay the response.
        self.core.tasks.spawn(async move {
            if let Err(error) = this.keys.note_use(key).await {
                tracing::debug!(%error, "the use of a key was not stored");
            }
        });
    }
}

/// The key in a request, and whether it is a bearer token. With Basic, the key is the password.
fn server_key(authorization: Option<&str>, form: &Form) -> Result<(Secret, bool), IntrospectionError> {
    match bearer::parse(authorization) {
        BearerHeader::Bearer(key) => Ok((Secret::from(key), true)),
        BearerHeader::Malformed => Err(IntrospectionError::Key { is_bearer: true }),
        BearerHeader::Nothing => {
            let credentials = ClientCredentials::parse(authorization, form).ok();
            let key = credentials.and_then(|credentials| credentials.secret);
            key.map(|key| (key, false)).ok_or(IntrospectionError::Key { is_bearer: false })
        }
    }
}
