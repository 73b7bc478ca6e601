//! Exchanges the code of an identity provider for the user's identity.

use crate::app::discovery::Discovery;
use crate::app::error::Rejection;
use crate::app::idp_cache::ActiveIdp;
use crate::base::secret::Secret;
use crate::base::url::ExactUrl;
use crate::flow::login::LoginExchange;
use crate::flow::user::Identity;
use crate::oauth::id_token::{self, ExpectedClaims};
use crate::oauth::jwt::Claims;
use crate::oauth::userinfo::UserInfo;
use crate::upstream::oidc::{IdentitySource, IdpCode, IdpError, IdpTokens, Provider};

/// A login at a provider, after the token response.
struct IdpLogin<'a> {
    active: &'a ActiveIdp,
    provider: &'a Provider,
    tokens: &'a IdpTokens,
    exchange: &'a LoginExchange,
}

impl Discovery {
    /// The identity behind a code: from the ID token and the userinfo endpoint of an OpenID provider,
    /// or from the user endpoint of another one.
    ///
    /// # Errors
    /// If the provider does not answer or refuses, or its statement is not good.
    pub(in crate::app) async fn fetch_identity(
        &self,
        active: &ActiveIdp,
        code: &Secret,
        exchange: &LoginExchange,
    ) -> Result<Identity, IdpError> {
        let (idp, http) = (&active.idp, self.core.tasks.http());
        let provider = self.provider(http, active).await.map_err(lookup_error)?;
        if provider.target.issuer != exchange.issuer {
            return Err(IdpError::Refused(
                "the provider has another issuer than when the browser left".to_owned(),
            ));
        }
        let callback = self.core.urls.login_callback(&idp.name);
        let code = IdpCode {
            code,
            verifier: &exchange.verifier,
            redirect_uri: &callback,
        };
        let tokens = provider.redeem(http, code, self.core.clock.now()).await?;
        let login = IdpLogin {
            active,
            provider: &provider,
            tokens: &tokens,
            exchange,
        };
        let user = match &provider.speaks {
            IdentitySource::OpenId { jwks, userinfo } => {
                let claims = self.verify_login(&login, jwks).await?;
                let user = UserInfo::from_claims(&claims, &idp.groups_claim)
                    .ok_or_else(|| IdpError::Refused(id_token::IdTokenError::Subject.to_string()))?;
                let is_incomplete = user.email.is_none() || (user.groups.is_empty() && !idp.allow.groups.is_empty());
                match userinfo.as_ref().filter(|_| is_incomplete) {
                    Some(endpoint) => self.merge_userinfo(&login, endpoint, user).await?,
                    None => user,
                }
            }
            IdentitySource::Plain { user, emails } => provider.fetch_user(http, user, emails, &tokens.access).await?,
        };
        let UserInfo {
            id,
            email,
            name,
            avatar,
            groups,
            hosted_domain,
        } = user;
        Ok(Identity {
            provider: idp.name.clone(),
            issuer: exchange.issuer.clone(),
            id,
            email,
            name,
            avatar,
            groups,
            hosted_domain,
        })
    }

    /// The claims of the ID token, if it belongs to this login (OpenID Connect Core, section 3.1.3.7).
    async fn verify_login(&self, login: &IdpLogin<'_>, jwks: &ExactUrl) -> Result<Claims, IdpError> {
        let missing = || IdpError::Refused("the provider gave no ID token".to_owned());
        let token = login.tokens.id_token.as_ref().ok_or_else(missing)?;
        let claims = self.verify_id_token(login.active, login.provider, jwks, token).await?;
        let expected = ExpectedClaims {
            issuer: &login.exchange.issuer,
            client_id: &login.active.idp.client_id,
            nonce: &login.exchange.nonce,
            now: self.core.clock.now(),
        };
        id_token::check(&claims, &expected).map_err(|error| IdpError::Refused(error.to_string()))?;
        Ok(claims)
    }

    /// Adds what the userinfo endpoint says. It must name the same user (OpenID Connect Core, section 5.3.2). If it does
    /// not answer, the ID token is enough.
    async fn merge_userinfo(&self, login: &IdpLogin<'_>, endpoint: &ExactUrl, user: UserInfo) -> Result<UserInfo, IdpError> {
        let (http, idp) = (self.core.tasks.http(), &login.active.idp);
        let userinfo = login.provider.userinfo(http, endpoint, &login.tokens.access, &idp.groups_claim);
        match userinfo.await {
            Ok(additional) => {
                let mismatch = || IdpError::Refused("the user endpoint speaks of another user than the ID token".to_owned());
                user.merge(additional).ok_or_else(mismatch)
            }
            Err(error) => {
                tracing::warn!(idp = idp.name, %error, "the user endpoint did not answer");
                Ok(user)
            }
        }
    }
}

fn lookup_error(error: Rejection) -> IdpError {
    if let Rejection::IdpSetup(reason) = error {
        IdpError::Setup(reason)
    } else {
        IdpError::Down(error.to_string())
    }
}
