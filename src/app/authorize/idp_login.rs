//! Signing in at an identity provider: to it, and back from it, before consent.

use std::net::IpAddr;
use std::sync::Arc;

use crate::app::authorize::start::{FlowHandle, FlowPage, LoginRedirect, flow_error};
use crate::app::authorize::upstream_callback::ClientRedirect;
use crate::app::discovery::identity_provider::ActiveIdp;
use crate::app::error::Rejection;
use crate::app::grants::client_side;
use crate::app::{Gateway, Lane};
use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::secret::Secret;
use crate::base::url::ExactUrl;
use crate::flow::authorize::{AuthorizationRequest, ClientAuthorize};
use crate::flow::client::ReturnAddress;
use crate::flow::login::{IdpCallback, IdpCallbackParams, IdpRedirect, IdpRedirectParams, LoginExchange};
use crate::flow::user::{Identity, LoginMethod, User};
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::Form;
use crate::oauth::id_token::{self, ExpectedClaims};
use crate::oauth::jwt::Claims;
use crate::oauth::pkce::CodeChallenge;
use crate::oauth::userinfo::UserInfo;
use crate::store::Transitioned;
use crate::upstream::allow_list::AllowListSubject;
use crate::upstream::idp::Idp;
use crate::upstream::oidc::{IdentitySource, IdpError, IdpTokens, Provider};
use crate::upstream::token_endpoint::AuthorizeUrlParams;

/// How a browser comes back from an identity provider.
#[derive(Debug)]
pub enum IdpOutcome {
    /// Signed in: consent comes next, on a form with this cookie.
    SignedIn(FlowHandle, Secret),
    /// Not signed in; the client may be told.
    Failed(ClientRedirect),
    /// The provider vouches for somebody who may not sign in here.
    NotAdmitted(ClientRedirect, DeniedUser),
}

/// Who was not admitted, for the page.
#[derive(Debug)]
pub struct DeniedUser {
    /// The e-mail address or name, as the provider says it.
    pub who: String,
    /// What people call the provider.
    pub provider: String,
}

pub(crate) fn allow_list_subject(identity: &Identity) -> AllowListSubject<'_> {
    AllowListSubject {
        id: &identity.id,
        email: identity.email.as_deref(),
        groups: &identity.groups,
    }
}

impl Gateway {
    /// The page before anybody signed in: for a password, or for the way to a provider.
    pub(crate) fn login_page(&self, asked: AuthorizationRequest) -> Result<FlowPage, Rejection> {
        let LoginMethod::Provider(name) = &asked.way.by else {
            return Ok(FlowPage::SignIn(asked));
        };
        let shown = self.live().idp(name).ok_or(FLOW_NOT_FOUND)?.idp.display_name().to_owned();
        Ok(FlowPage::ToProvider(asked, shown))
    }

    /// The user goes on to the provider of the service: where that is, and the cookie that must come back. `source` is the
    /// caller's address, for counting only.
    pub async fn redirect_to_idp(
        &self,
        lane: &Lane,
        flow: &FlowHandle,
        form: Option<&str>,
        source: IpAddr,
    ) -> Result<LoginRedirect, Rejection> {
        let FlowPage::ToProvider(asked, _) = self.page(flow, form).await? else {
            return Err(FLOW_NOT_FOUND);
        };
        let LoginMethod::Provider(name) = asked.way.by else {
            return Err(FLOW_NOT_FOUND);
        };
        let running = self.live().idp(&name).cloned().ok_or(FLOW_NOT_FOUND)?;
        let provider = self.provider(lane, &running).await?;
        let now = self.clock.now();
        let (browser, state, nonce, verifier) = (random::token(), random::token(), random::token(), random::token());
        let step = |s: ClientAuthorize| {
            let to = IdpRedirectParams {
                provider: name.clone(),
                browser: Digest::new(browser.expose()),
                idp_state: Digest::new(state.expose()),
                nonce: Digest::new(nonce.expose()),
                verifier: verifier.clone(),
                issuer: provider.target.issuer.clone(),
                iss_promised: provider.target.iss_promised,
            };
            s.sent_to_idp(form, to, now)
        };
        let moved = self.store.transition(flow, step).await.map_err(flow_error)?;
        // Nobody has signed in yet, and the time begins anew: it is still counted.
        if let Some(evicted) = self.waiting.restart(flow.id(), source, now) {
            self.evict(evicted).await;
        }
        let state = Secret::from(format!("{}.{}", moved.handle, state.expose()));
        let challenge = CodeChallenge::of(&verifier);
        let asking = AuthorizeUrlParams {
            state: state.expose(),
            challenge: challenge.as_str(),
            redirect_uri: &self.site.login_callback(&name),
            scopes: &running.idp.scopes,
        };
        let location = provider.authorize_url(&asking, &nonce);
        client_side::check_size(&moved.handle)?;
        Ok(LoginRedirect {
            location,
            callback_cookie: browser,
            flow: moved.handle,
        })
    }

    /// Reads the redirect of a provider. `brings` finds what the browser brings for a flow: the handle to use, and the cookie
    /// which only the browser has that was sent there.
    pub async fn idp_callback(
        &self,
        running: &Arc<ActiveIdp>,
        query: &[u8],
        brings: impl Fn(FlowHandle) -> (FlowHandle, Option<String>),
    ) -> Result<IdpOutcome, Rejection> {
        let form = Form::parse(query)?;
        let state = form.single("state")?.ok_or(UNKNOWN_CALLBACK)?;
        let (flow, idp_state) = state.split_once('.').ok_or(UNKNOWN_CALLBACK)?;
        let flow = FlowHandle::parse(flow).ok_or(UNKNOWN_CALLBACK)?;
        let (flow, browser) = brings(flow);
        let brought = IdpCallbackParams {
            provider: &running.idp.name,
            idp_state,
            browser: browser.as_deref(),
            issuer: form.single("iss")?,
        };
        let now = self.clock.now();
        let code = match (form.single("error")?, form.single("code")?) {
            (Some(error), _) => {
                let moved = self.store.transition(&flow, |s: IdpRedirect| s.refused(brought, now)).await;
                let back = moved.map_err(flow_error)?.effect;
                self.waiting.remove(flow.id());
                tracing::warn!(idp = running.idp.name, error = %error.escape_debug(), "the identity provider refused to sign in");
                return Ok(IdpOutcome::Failed(idp_error_redirect(back, flow, error)));
            }
            (None, Some(code)) => Secret::from(code),
            (None, None) => return Err(Rejection::Unknown("the identity provider sent neither a code nor an error")),
        };
        let moved = self.store.transition(&flow, |s: IdpRedirect| s.returned(brought, now)).await;
        let moved = moved.map_err(flow_error)?;
        self.waiting.remove(flow.id());
        // Detached: a browser that goes away does not burn the provider's code.
        let (gateway, idp) = (self.clone(), Arc::clone(running));
        let work = self.inflight.lock(Id::random());
        let detached = self.back.spawn(async move {
            let _work = work;
            gateway.finish_login(&idp, flow, moved, &code).await
        });
        detached.await.map_err(|_| Rejection::TryLater { retry_after: 1 })?
    }

    async fn finish_login(
        &self,
        running: &ActiveIdp,
        flow: FlowHandle,
        moved: Transitioned<IdpCallback, LoginExchange>,
        code: &Secret,
    ) -> Result<IdpOutcome, Rejection> {
        let name = &running.idp.name;
        let identity = match self.identity(running, code, &moved.effect).await {
            Ok(identity) => identity,
            Err(why) => {
                tracing::warn!(idp = name, %why, "a sign-in at the identity provider failed");
                let code = match why {
                    IdpError::Down(_) => OAuthErrorCode::TemporarilyUnavailable,
                    IdpError::Refused(_) => OAuthErrorCode::AccessDenied,
                };
                let home = self.login_failed(moved.handle, flow, code, "the sign-in at the identity provider failed; try again");
                return home.await.map(IdpOutcome::Failed);
            }
        };
        // As it is configured now, which may be later than when the browser left.
        let live = self.live();
        let who = User::identified(identity.clone());
        if !live.idp(name).is_some_and(|now| now.idp.is_allowed(allow_list_subject(&identity))) {
            tracing::warn!(
                idp = name,
                user = who.subject,
                email = identity.email.as_deref().unwrap_or(""),
                "a user is not allowed to sign in"
            );
            let home = self.login_failed(
                moved.handle,
                flow,
                OAuthErrorCode::AccessDenied,
                "this user may not use the gateway",
            );
            let stranger = DeniedUser {
                who: who.display_name().to_owned(),
                provider: running.idp.display_name().to_owned(),
            };
            return home.await.map(|home| IdpOutcome::NotAdmitted(home, stranger));
        }
        let (now, form) = (self.clock.now(), random::token());
        let step = |s: IdpCallback| s.identified(identity.clone(), Digest::new(form.expose()), now);
        let moved = self.store.transition(&moved.handle, step).await.map_err(flow_error)?;
        client_side::check_size(&moved.handle)?;
        tracing::info!(idp = name, user = who.subject, "signed in");
        Ok(IdpOutcome::SignedIn(moved.handle, form))
    }

    async fn login_failed(&self, at: FlowHandle, flow: FlowHandle, code: OAuthErrorCode, why: &str) -> Result<ClientRedirect, Rejection> {
        let back = self.store.transition(&at, IdpCallback::failed).await.map_err(flow_error)?.effect;
        Ok(ClientRedirect {
            location: back.with_error(code, why),
            back,
            flow,
        })
    }

    async fn identity(&self, running: &ActiveIdp, code: &Secret, exchange: &LoginExchange) -> Result<Identity, IdpError> {
        let idp = &running.idp;
        let provider = self
            .provider(&self.back_lane, running)
            .await
            .map_err(|why| IdpError::Down(why.to_string()))?;
        if provider.target.issuer != exchange.issuer {
            return Err(IdpError::Refused(
                "the provider has another issuer than when the browser left".to_owned(),
            ));
        }
        let (client, callback) = (&self.back_lane.client, self.site.login_callback(&idp.name));
        let redeemed = provider
            .redeem(client, code, &exchange.verifier, &callback, self.clock.now())
            .await?;
        let person = match &provider.speaks {
            IdentitySource::OpenId { jwks, userinfo } => {
                let claims = self.verify_login(running, &provider, jwks, &redeemed, exchange).await?;
                let person = UserInfo::from_claims(&claims, &idp.groups_claim)
                    .ok_or_else(|| IdpError::Refused(id_token::IdTokenError::Subject.to_string()))?;
                let is_thin = person.email.is_none() || (person.groups.is_empty() && !idp.allow.groups.is_empty());
                match userinfo.as_ref().filter(|_| is_thin) {
                    Some(at) => self.merge_userinfo(&provider, idp, at, &redeemed, person).await?,
                    None => person,
                }
            }
            IdentitySource::Plain { user, emails } => provider.fetch_user(client, user, emails, &redeemed.access).await?,
        };
        let UserInfo {
            id,
            email,
            name,
            avatar,
            groups,
        } = person;
        Ok(Identity {
            provider: idp.name.clone(),
            issuer: exchange.issuer.clone(),
            id,
            email,
            name,
            avatar,
            groups,
        })
    }

    /// The claims of the ID token, if it is about this sign-in.
    async fn verify_login(
        &self,
        running: &ActiveIdp,
        provider: &Provider,
        jwks: &ExactUrl,
        redeemed: &IdpTokens,
        exchange: &LoginExchange,
    ) -> Result<Claims, IdpError> {
        let missing = || IdpError::Refused("the provider gave no ID token".to_owned());
        let token = redeemed.id_token.as_ref().ok_or_else(missing)?;
        let claims = self.verify_id_token(&self.back_lane, running, provider, jwks, token).await?;
        let expected = ExpectedClaims {
            issuer: &exchange.issuer,
            client_id: &running.idp.client_id,
            nonce: &exchange.nonce,
            now: self.clock.now(),
        };
        id_token::check(&claims, &expected).map_err(|why| IdpError::Refused(why.to_string()))?;
        Ok(claims)
    }

    /// What the user endpoint adds. It must speak of the same user (OpenID Connect Core 5.3.2); if it says nothing, the
    /// ID token stands by itself.
    async fn merge_userinfo(
        &self,
        provider: &Provider,
        idp: &Idp,
        at: &ExactUrl,
        redeemed: &IdpTokens,
        person: UserInfo,
    ) -> Result<UserInfo, IdpError> {
        match provider
            .userinfo(&self.back_lane.client, at, &redeemed.access, &idp.groups_claim)
            .await
        {
            Ok(more) => {
                let other = || IdpError::Refused("the user endpoint speaks of another user than the ID token".to_owned());
                person.merge(more).ok_or_else(other)
            }
            Err(why) => {
                tracing::warn!(idp = idp.name, %why, "the user endpoint said nothing");
                Ok(person)
            }
        }
    }
}

fn idp_error_redirect(back: ReturnAddress, flow: FlowHandle, error: &str) -> ClientRedirect {
    let (code, why) = match error {
        "access_denied" => (OAuthErrorCode::AccessDenied, "the sign-in was cancelled at the identity provider"),
        "temporarily_unavailable" => (
            OAuthErrorCode::TemporarilyUnavailable,
            "the identity provider is temporarily unavailable",
        ),
        _ => (OAuthErrorCode::ServerError, "the identity provider refused the request"),
    };
    ClientRedirect {
        location: back.with_error(code, why),
        back,
        flow,
    }
}

const FLOW_NOT_FOUND: Rejection = Rejection::Unknown("this sign-in has ended or has moved on; start again in your client");
const UNKNOWN_CALLBACK: Rejection = Rejection::Unknown("this answer does not belong to a sign-in of this gateway");
