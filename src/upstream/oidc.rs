//! Talking to an identity provider: its document, its keys, the code for an ID token, and what more it says of a user.

use std::time::Duration;

use http::HeaderValue;
use http::Request;
use http::StatusCode;
use http::header::AUTHORIZATION;
use serde_json::Value;

use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::base::url::Address;
use crate::net::body::Outgoing;
use crate::net::client::Client;
use crate::net::dial::Allowed;
use crate::oauth::answer::{TokenFailure, UpstreamAccess, read_tokens};
use crate::oauth::jwk::KeySet;
use crate::oauth::openid::{self, OpenId};
use crate::oauth::person::Person;
use crate::upstream::call::{Answer, NoAnswer, call, get};
use crate::upstream::exchange::{Asking, authorize_url, code_request};
use crate::upstream::idp::{Idp, Plain};
use crate::upstream::target::{AuthMethod, Target};

/// The longest that one answer may take: a person is waiting.
const ONE: Duration = Duration::from_secs(15);

/// A provider, as it says it is met.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its endpoints, and who we are there.
    pub target: Target,
    /// How it says who the user is.
    pub speaks: Speaks,
}

/// How a provider says who the user is.
#[derive(Clone, Debug)]
pub enum Speaks {
    /// By an ID token.
    OpenId {
        /// Where its keys are.
        jwks: Address,
        /// Where more is said of the user.
        userinfo: Option<Address>,
    },
    /// By what its token opens.
    Plain {
        /// Who the user is.
        user: Address,
        /// Which addresses the user has.
        emails: Address,
    },
}

/// What a code was good for.
#[derive(Debug)]
pub struct Redeemed {
    /// What opens the user endpoint; used at once, and kept nowhere.
    pub access: UpstreamAccess,
    /// Who the user is, unverified.
    pub id_token: Option<Secret>,
}

/// Why nothing came of asking a provider: for logs, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoLogin {
    /// It cannot be asked, or not now.
    Down(String),
    /// It said no, or something that cannot be believed.
    Refused(String),
}

impl std::fmt::Display for NoLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Down(why) | Self::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for NoLogin {}

impl From<NoAnswer> for NoLogin {
    fn from(why: NoAnswer) -> Self {
        Self::Down(why.to_string())
    }
}

/// Finds out how a provider is met: by its document, or by what is configured.
pub async fn find(client: &Client, idp: &Idp) -> Result<Provider, NoLogin> {
    if let Some(plain) = &idp.plain {
        return Ok(plainly(idp, plain));
    }
    let place = openid::configuration_url(&idp.issuer);
    let place = Address::parse(&place).map_err(|why| NoLogin::Down(format!("{place} {why}")))?;
    // The operator named the issuer: it may be anywhere. What its document names may be in its neighbourhood.
    let body = fetched(client, get(&place)?, &Allowed::Anything).await?;
    let found = OpenId::read(&body, &idp.issuer).map_err(|why| NoLogin::Down(format!("{place}: {why}")))?;
    let host = idp.issuer.url().host_str().unwrap_or_default();
    let plain_http = idp.issuer.url().scheme() == "http";
    let addresses = Allowed::told_by(host, plain_http, idp.allow_addresses.as_slice().into())
        .await
        .map_err(|why| NoLogin::Down(format!("{host} cannot be resolved: {why}")))?;
    let server = found.server;
    let auth_method = AuthMethod::choose(&server.auth_methods, idp.client_secret.is_some());
    let target = Target {
        iss_promised: server.iss_promised,
        authorization_endpoint: server.authorization_endpoint,
        token_endpoint: server.token_endpoint,
        auth_method,
        addresses,
        ..target(idp)
    };
    let speaks = Speaks::OpenId {
        jwks: found.jwks,
        userinfo: found.userinfo,
    };
    Ok(Provider { target, speaks })
}

fn plainly(idp: &Idp, plain: &Plain) -> Provider {
    Provider {
        target: Target {
            authorization_endpoint: plain.authorize.clone(),
            token_endpoint: plain.token.clone(),
            auth_method: if idp.client_secret.is_some() {
                AuthMethod::Post
            } else {
                AuthMethod::None
            },
            ..target(idp)
        },
        speaks: Speaks::Plain {
            user: plain.user.clone(),
            emails: plain.emails.clone(),
        },
    }
}

/// What is the same of all; the endpoints are still the issuer, which is none.
fn target(idp: &Idp) -> Target {
    Target {
        mcp: idp.issuer.clone(),
        issuer: idp.issuer.to_string(),
        iss_promised: false,
        authorization_endpoint: idp.issuer.clone(),
        token_endpoint: idp.issuer.clone(),
        revocation_endpoint: None,
        client_id: idp.client_id.clone(),
        client_secret: idp.client_secret.clone(),
        auth_method: AuthMethod::None,
        resource: String::new(),
        profile: idp.preset.profile,
        extra_authorize: idp.extra_authorize.clone(),
        addresses: Allowed::Anything,
        scopes_known: Vec::new(),
        offline_access: false,
    }
}

impl Provider {
    /// Where the browser goes (OpenID Connect Core 3.1.2.1). The nonce is drawn like a `state`, and needs no encoding.
    pub fn authorize_url(&self, asking: &Asking<'_>, nonce: &Secret) -> String {
        let url = authorize_url(&self.target, asking);
        match self.speaks {
            Speaks::OpenId { .. } => format!("{url}&nonce={}", nonce.expose()),
            Speaks::Plain { .. } => url,
        }
    }

    /// Exchanges a code, once: the user can sign in again, and a second try may be taken for a theft.
    pub async fn redeem(
        &self,
        client: &Client,
        code: &Secret,
        verifier: &Secret,
        redirect_uri: &str,
        now: UnixTime,
    ) -> Result<Redeemed, NoLogin> {
        let request = code_request(&self.target, code, verifier, redirect_uri)?;
        let answer = call(client, request, &self.target.addresses, ONE).await?;
        let tokens = read_tokens(answer.status.as_u16(), answer.content_type(), &answer.body, now).map_err(|why| match why {
            TokenFailure::Refused(_) => NoLogin::Refused(why.to_string()),
            TokenFailure::Temporary(_) | TokenFailure::Unreadable(_) => NoLogin::Down(why.to_string()),
        })?;
        Ok(Redeemed {
            access: tokens.access,
            id_token: openid::id_token(&answer.body),
        })
    }

    /// Its keys, as they are now.
    pub async fn keys(&self, client: &Client, jwks: &Address) -> Result<KeySet, NoLogin> {
        let body = fetched(client, get(jwks)?, &self.target.addresses).await?;
        KeySet::read(&body).map_err(|why| NoLogin::Down(format!("{jwks}: {why}")))
    }

    /// What the user endpoint says (OpenID Connect Core 5.3).
    pub async fn userinfo(&self, client: &Client, at: &Address, access: &UpstreamAccess, groups: &str) -> Result<Person, NoLogin> {
        let said = self.said(client, at, access).await?;
        let person = said.as_object().and_then(|claims| Person::of(claims, groups));
        person.ok_or_else(|| NoLogin::Refused(format!("{at} names no user")))
    }

    /// What GitHub's two endpoints say.
    pub async fn plain_user(&self, client: &Client, user: &Address, emails: &Address, access: &UpstreamAccess) -> Result<Person, NoLogin> {
        let (user, emails) = (self.said(client, user, access).await?, self.said(client, emails, access).await?);
        Person::of_github(&user, &emails).ok_or_else(|| NoLogin::Refused("the user endpoint names no user".to_owned()))
    }

    async fn said(&self, client: &Client, at: &Address, access: &UpstreamAccess) -> Result<Value, NoLogin> {
        let mut request = get(at)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", access.expose()))
            .map_err(|_| NoLogin::Refused("the provider's token fits no header".to_owned()))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let body = fetched(client, request, &self.target.addresses).await?;
        serde_json::from_slice(&body).map_err(|_| NoLogin::Refused(format!("{at} does not answer in JSON")))
    }
}

async fn fetched(client: &Client, request: Request<Outgoing>, addresses: &Allowed) -> Result<bytes::Bytes, NoLogin> {
    let place = request.uri().to_string();
    let Answer { status, body, .. } = call(client, request, addresses, ONE).await?;
    match status {
        StatusCode::OK => Ok(body),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(NoLogin::Refused(format!("{place} answered {}", status.as_u16()))),
        _ => Err(NoLogin::Down(format!("{place} answered {}", status.as_u16()))),
    }
}
