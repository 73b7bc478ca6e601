//! Asks an identity provider who a user is: at the sign-in, and again while a grant lives.

use std::sync::Arc;

use crate::app::discovery::Discovery;
use crate::app::error::Rejection;
use crate::app::idp_cache::ActiveIdp;
use crate::base::secret::Secret;
use crate::flow::login::LoginExchange;
use crate::flow::user::{Identity, ProviderSession};
use crate::oauth::id_token::{self, ExpectedClaims, IdTokenError};
use crate::oauth::userinfo::{EmailStatus, UserInfo};
use crate::upstream::idp::Idp;
use crate::upstream::oidc::{IdentitySource, IdpCode, IdpError, IdpTokens, NamedEndpoint, Provider, UserinfoDocument};

/// The maximum number of groups of a user in a record.
const MAX_STORED_GROUPS: usize = 200;

/// A provider that answered with tokens.
#[derive(Clone, Copy)]
struct Answer<'a> {
    active: &'a ActiveIdp,
    provider: &'a Provider,
    tokens: &'a IdpTokens,
}

impl Discovery {
    /// The identity behind a code, and the user's session, if the provider gave a refresh token. The
    /// identity is from the ID token and the userinfo endpoint of an OpenID provider, or from the user
    /// endpoint of another one.
    ///
    /// # Errors
    /// If the provider does not answer or refuses, or its statement is not good.
    pub(in crate::app) async fn fetch_identity(
        &self,
        active: &ActiveIdp,
        code: &Secret,
        exchange: &LoginExchange,
    ) -> Result<(Identity, Option<ProviderSession>), IdpError> {
        let (idp, http) = (&active.idp, self.core.tasks.http());
        let provider = self.provider_now(active).await?;
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
        let now = self.core.clock.now();
        let tokens = provider.redeem(http, code, now).await?;
        let answer = Answer {
            active,
            provider: &provider,
            tokens: &tokens,
        };
        let user = match &provider.speaks {
            IdentitySource::OpenId { jwks, userinfo } => {
                let user = self.stated_user(answer, jwks, Some(exchange)).await?;
                match userinfo.as_ref().filter(|_| is_incomplete(&user, idp)) {
                    Some(endpoint) => self.merge_userinfo(answer, jwks, endpoint, user).await?,
                    None => user,
                }
            }
            IdentitySource::Plain { .. } => provider.fetch_user(http, &tokens.access, &idp.allow).await?,
        };
        log_unused_claims(idp, &user);
        let session = tokens.refresh.map(|token| ProviderSession { token, checked_at: now });
        Ok((to_identity(idp, &exchange.issuer, user), session))
    }

    /// New tokens of a user's session at a provider.
    ///
    /// # Errors
    /// [`IdpError::SessionEnded`] if the provider ended the session. Another error says nothing about it.
    pub(in crate::app) async fn refresh_session(&self, active: &ActiveIdp, token: &Secret) -> Result<IdpTokens, IdpError> {
        let provider = self.provider_now(active).await?;
        provider.refresh(self.core.tasks.http(), token, self.core.clock.now()).await
    }

    /// The provider's current claims about the user of `identity`, with the tokens of a refreshed session. A
    /// provider that says nothing more than that the session is valid confirms what it said before.
    ///
    /// # Errors
    /// If the provider does not answer, or its statement is not good.
    pub(in crate::app) async fn current_identity(
        &self,
        active: &ActiveIdp,
        tokens: &IdpTokens,
        identity: &Identity,
    ) -> Result<Identity, IdpError> {
        let (idp, http) = (&active.idp, self.core.tasks.http());
        let provider = self.provider_now(active).await?;
        let answer = Answer {
            active,
            provider: &provider,
            tokens,
        };
        let user = match &provider.speaks {
            IdentitySource::OpenId { jwks, userinfo } => {
                let stated = match tokens.id_token {
                    Some(_) => Some(self.stated_user(answer, jwks, None).await?),
                    None => None,
                };
                match (stated, userinfo) {
                    (None, None) => return Ok(identity.clone()),
                    (None, Some(endpoint)) => self.userinfo(answer, jwks, endpoint).await?,
                    // Without its answer, the user would seem to have lost what it lists.
                    (Some(user), Some(endpoint)) if is_incomplete(&user, idp) => {
                        let additional = self.userinfo(answer, jwks, endpoint).await?;
                        user.merge(additional).ok_or_else(other_user)?
                    }
                    (Some(user), _) => user,
                }
            }
            IdentitySource::Plain { .. } => provider.fetch_user(http, &tokens.access, &idp.allow).await?,
        };
        Ok(to_identity(idp, &identity.issuer, user))
    }

    async fn provider_now(&self, active: &ActiveIdp) -> Result<Arc<Provider>, IdpError> {
        let provider = self.provider(self.core.tasks.http(), active).await;
        provider.map_err(|error| {
            if let Rejection::IdpSetup(reason) = error {
                IdpError::Setup(reason)
            } else {
                IdpError::Down(error.to_string())
            }
        })
    }

    /// The user of the ID token, if the token is valid (OpenID Connect Core, section 3.1.3.7, with `login`,
    /// and section 12.2 without).
    async fn stated_user(&self, answer: Answer<'_>, jwks: &NamedEndpoint, login: Option<&LoginExchange>) -> Result<UserInfo, IdpError> {
        let Answer { active, provider, tokens } = answer;
        let missing = || IdpError::Refused("the provider gave no ID token".to_owned());
        let token = tokens.id_token.as_ref().ok_or_else(missing)?;
        let claims = self.verify_id_token(active, provider, jwks, token).await?;
        let expected = ExpectedClaims {
            issuer: &provider.target.issuer,
            client_id: &active.idp.client_id,
            nonce: login.map(|login| &login.nonce),
            max_age: login.and_then(|login| login.max_age),
            now: self.core.clock.now(),
        };
        let refused = |error: IdTokenError| IdpError::Refused(error.to_string());
        id_token::check(&claims, &expected).map_err(refused)?;
        UserInfo::from_claims(&claims, active.idp.claim_rules()).ok_or_else(|| refused(IdTokenError::Subject))
    }

    /// The claims of the userinfo endpoint, as JSON or as a token that is signed with a key of the provider.
    async fn userinfo(&self, answer: Answer<'_>, jwks: &NamedEndpoint, endpoint: &NamedEndpoint) -> Result<UserInfo, IdpError> {
        let Answer { active, provider, tokens } = answer;
        let claims = match provider.userinfo(self.core.tasks.http(), endpoint, &tokens.access).await? {
            UserinfoDocument::Claims(claims) => claims,
            UserinfoDocument::Token(token) => {
                let claims = self.verify_id_token(active, provider, jwks, &token).await?;
                let expected = ExpectedClaims {
                    issuer: &provider.target.issuer,
                    client_id: &active.idp.client_id,
                    nonce: None,
                    max_age: None,
                    now: self.core.clock.now(),
                };
                id_token::check_userinfo(&claims, &expected).map_err(|error| IdpError::Refused(error.to_string()))?;
                claims
            }
        };
        let user = UserInfo::from_userinfo(&claims, active.idp.claim_rules());
        user.ok_or_else(|| IdpError::Refused(format!("{} names no user", endpoint.url)))
    }

    /// Adds what the userinfo endpoint says. It must name the same user (OpenID Connect Core, section 5.3.2). If it does
    /// not answer, the ID token is enough.
    async fn merge_userinfo(
        &self,
        answer: Answer<'_>,
        jwks: &NamedEndpoint,
        endpoint: &NamedEndpoint,
        user: UserInfo,
    ) -> Result<UserInfo, IdpError> {
        match self.userinfo(answer, jwks, endpoint).await {
            Ok(additional) => user.merge(additional).ok_or_else(other_user),
            Err(error) => {
                tracing::warn!(idp = answer.active.idp.name, %error, "the user endpoint did not answer");
                Ok(user)
            }
        }
    }
}

/// Says in the log what the provider sent and does not count, because it may be why a user is refused.
fn log_unused_claims(idp: &Idp, user: &UserInfo) {
    let idp_name = &idp.name;
    match user.email_status {
        EmailStatus::Unstated => tracing::warn!(
            idp = idp_name,
            "the provider sends no email_verified, so the user's e-mail address is not verified and does not count; \
            trust_email = true accepts it, if the provider verifies all addresses"
        ),
        EmailStatus::Denied => tracing::warn!(
            idp = idp_name,
            "the provider says that the user's e-mail address is not verified, so it does not count"
        ),
        EmailStatus::Absent | EmailStatus::Verified => {}
    }
    if user.has_group_overage && !idp.allow.groups.is_empty() {
        tracing::warn!(
            idp = idp_name,
            "the user has more groups than the provider puts into a token, so none counts; \
            let the provider send only the groups that are assigned to the gateway, or app roles"
        );
    }
}

/// Whether the ID token lacks what the userinfo endpoint may have.
fn is_incomplete(user: &UserInfo, idp: &Idp) -> bool {
    user.email.is_none() || (user.groups.is_empty() && !idp.allow.groups.is_empty())
}

fn other_user() -> IdpError {
    IdpError::Refused("the user endpoint speaks of another user than the ID token".to_owned())
}

fn to_identity(idp: &Idp, issuer: &str, user: UserInfo) -> Identity {
    let UserInfo {
        id,
        email,
        email_status: _,
        name,
        avatar,
        mut groups,
        has_group_overage: _,
        hosted_domain,
    } = user;
    // The record has room for some. Those that the allow list names come first.
    groups.sort_by_key(|group| !idp.allow.groups.contains(group));
    groups.truncate(MAX_STORED_GROUPS);
    Identity {
        provider: idp.name.clone(),
        issuer: issuer.to_owned(),
        id,
        email,
        name,
        avatar,
        groups,
        hosted_domain,
    }
}
