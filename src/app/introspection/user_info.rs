//! `/userinfo`: the claims about the user of an access token.

use serde_json::Value;

use crate::app::error::Rejection;
use crate::app::introspection::Introspection;
use crate::app::runtime_config::ActiveService;
use crate::oauth::introspection::UserInfoClaims;
use crate::oauth::scope::Scopes;

/// The reason why `/userinfo` returns no claims.
#[derive(Clone, Debug)]
pub enum UserInfoError {
    /// The token is not an active access token of this service.
    BadToken,
    /// The token has neither `openid` nor `profile`.
    MissingScope,
    /// Another reason.
    Rejection(Rejection),
}

impl Introspection {
    /// The user of an access token (OpenID Connect Core, section 5.3). The scope `profile` adds name and
    /// picture, the scope `email` the address.
    ///
    /// # Errors
    /// If the token is not active or lacks a scope, or the store fails.
    pub async fn user_info(&self, active: &ActiveService, token: &str) -> Result<Value, UserInfoError> {
        let verified = self.verify(active, token).await.map_err(UserInfoError::Rejection)?;
        let verified = verified.ok_or(UserInfoError::BadToken)?;
        let has = |scope: &str| verified.scopes.contains_all(&Scopes::parse(scope));
        if !has("openid") && !has("profile") {
            return Err(UserInfoError::MissingScope);
        }
        let mut claims = UserInfoClaims {
            subject: verified.token.subject,
            ..UserInfoClaims::default()
        };
        match verified.grant.who.identity {
            Some(identity) => {
                if has("profile") {
                    (claims.name, claims.picture) = (identity.name, identity.avatar);
                }
                claims.email = identity.email.filter(|_| has("email"));
            }
            None => claims.preferred_username = has("profile").then(|| claims.subject.clone()),
        }
        Ok(claims.response())
    }
}
