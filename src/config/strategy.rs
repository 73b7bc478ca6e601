//! How a service is unlocked, with what its strategy cannot do without.

use http::header::{HeaderName, HeaderValue};

use crate::base::range::Cidr;
use crate::base::secret::Secret;
use crate::config::choices::Way;
use crate::config::said::{Said, Wrong};
use crate::config::section::Section;
use crate::service::oauth::Authorization;
use crate::upstream::forward;
use crate::upstream::quirks;

/// Where a credential stands in its header's value.
pub const CREDENTIAL: &str = "{credential}";

/// How a service is unlocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// By a token of the upstream's own authorization server.
    OAuth(Box<Authorization>),
    /// By what the user pastes.
    Paste(AuthHeader),
    /// By a key of the service.
    Static(AuthHeader, Secret),
    /// By who the user is.
    Identity(Identity),
    /// By nothing.
    None,
}

impl Strategy {
    /// The value of `upstream` that chose it.
    pub fn way(&self) -> Way {
        match self {
            Self::OAuth(_) => Way::OAuth,
            Self::Paste(_) => Way::Paste,
            Self::Static(..) => Way::Static,
            Self::Identity(_) => Way::Identity,
            Self::None => Way::None,
        }
    }
}

/// How a credential is put on the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthHeader {
    /// The header.
    pub name: HeaderName,
    /// Its value, with [`CREDENTIAL`] once.
    pub template: String,
}

/// What a trusted backend is told of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Words for `x-user-*` headers.
    pub headers: Vec<&'static str>,
    /// Also a signed assertion.
    pub assertion: bool,
}

/// Reads what the strategy of a service needs.
pub fn strategy(service: &Section, way: Way) -> Result<Strategy, Wrong> {
    match way {
        Way::OAuth => Ok(Strategy::OAuth(Box::new(authorization(service)?))),
        Way::Paste => Ok(Strategy::Paste(auth_header(service)?)),
        Way::Static => {
            let instead = "add credential_file = \"…\", or credential = \"${VARIABLE}\"";
            let credential = service.secret("credential")?;
            let credential =
                credential.ok_or_else(|| service.missing("credential", "upstream = \"static\" needs the service's key", instead))?;
            if HeaderValue::from_str(credential.expose()).is_err() {
                return Err(service
                    .place("credential")
                    .wrong("it has characters that no header can carry", "check the file or variable"));
            }
            Ok(Strategy::Static(auth_header(service)?, credential))
        }
        Way::Identity => {
            let headers: Vec<_> = service.some_of("identity_headers")?.into_iter().map(|said| said.value).collect();
            let assertion = service.switch("assertion")?;
            let headers = if headers.is_empty() && !service.has("identity_headers") {
                vec!["id"]
            } else {
                headers
            };
            Ok(Strategy::Identity(Identity { headers, assertion }))
        }
        Way::None => Ok(Strategy::None),
    }
}

fn authorization(service: &Section) -> Result<Authorization, Wrong> {
    let url = |name| Ok(service.url(name)?.map(|said| said.value));
    let given = Authorization {
        issuer: url("authorization_server")?,
        client_id: service.text("client_id")?.map(|said| said.value),
        client_secret: service.secret("client_secret")?,
        authorization_endpoint: url("authorization_endpoint")?,
        token_endpoint: url("token_endpoint")?,
        profile: service.text("profile")?.map(|said| profile(&said)).transpose()?,
        allow_addresses: service.texts("allow_addresses")?.iter().map(address).collect::<Result<_, _>>()?,
    };
    if given.client_secret.is_some() && given.client_id.is_none() {
        let instead = format!("add {}", service.word("client_id"));
        return Err(service.place("client_secret").wrong("a client secret without a client id", instead));
    }
    let instead = "give both endpoints, or neither and let them be discovered";
    let without = |name: &str, other: &str| {
        let what = format!("{} is given without it", service.word(other));
        Err(service.missing(name, &what, instead))
    };
    match (&given.authorization_endpoint, &given.token_endpoint) {
        (Some(_), None) => without("token_endpoint", "authorization_endpoint"),
        (None, Some(_)) => without("authorization_endpoint", "token_endpoint"),
        (Some(_), Some(_)) if given.client_id.is_none() => Err(service.missing(
            "client_id",
            "with both endpoints given there is nowhere to register",
            "give the client id that the upstream knows us by",
        )),
        (Some(_), Some(_)) | (None, None) => Ok(given),
    }
}

fn profile(said: &Said<String>) -> Result<&'static quirks::Profile, Wrong> {
    quirks::by_name(&said.value).ok_or_else(|| {
        let known: Vec<&str> = quirks::names().collect();
        said.wrong(
            format!("'{}' is no profile", said.value),
            format!("use one of: {}", known.join(", ")),
        )
    })
}

fn address(said: &Said<String>) -> Result<Cidr, Wrong> {
    let instead = || "write addresses or networks like 10.0.0.7, 172.16.0.0/12 or fd00::/8".to_owned();
    let read = said.read(|text| text.trim().parse::<Cidr>().map_err(|why| (format!("'{text}': {why}"), instead())))?;
    Ok(read.value)
}

fn auth_header(service: &Section) -> Result<AuthHeader, Wrong> {
    let default = AuthHeader {
        name: http::header::AUTHORIZATION,
        template: format!("Bearer {CREDENTIAL}"),
    };
    let [header] = service.tables("auth_header") else {
        return Ok(default);
    };
    let name = match header.text("name")? {
        None => default.name,
        Some(said) => said.read(|text| header_name(text))?.value,
    };
    let template = match header.text("value")? {
        None if header.has("name") => CREDENTIAL.to_owned(),
        None => default.template,
        Some(said) => said.read(|text| template(text))?.value,
    };
    Ok(AuthHeader { name, template })
}

/// A header that we may set: not one of the connection, not one that would vouch for somebody.
fn header_name(text: &str) -> Result<HeaderName, (String, String)> {
    let instead = || "name a header such as Authorization or X-Api-Key".to_owned();
    let name = text
        .parse::<HeaderName>()
        .map_err(|_| (format!("'{text}' is not the name of a header"), instead()))?;
    if name != http::header::AUTHORIZATION && forward::is_never_sent(name.as_str()) {
        return Err((format!("'{text}' cannot carry a credential"), instead()));
    }
    Ok(name)
}

fn template(text: &str) -> Result<String, (String, String)> {
    let instead = || format!("write it like \"Bearer {CREDENTIAL}\" or \"{CREDENTIAL}\"");
    if text.matches(CREDENTIAL).count() != 1 {
        return Err((format!("it must have {CREDENTIAL} in it once"), instead()));
    }
    if HeaderValue::from_str(text).is_err() {
        return Err(("it has characters that no header can carry".to_owned(), instead()));
    }
    Ok(text.to_owned())
}

/// A further request header that may pass to the upstream.
pub fn forwarded(said: &Said<String>) -> Result<HeaderName, Wrong> {
    let name = said.value.parse::<HeaderName>();
    let name = name.map_err(|_| said.wrong(format!("'{}' is not the name of a header", said.value), "write names like X-Tenant"))?;
    if forward::is_never_sent(name.as_str()) {
        let what = format!(
            "'{}' is never sent on: it is a credential, it vouches for somebody, or it belongs to one connection",
            said.value
        );
        return Err(said.wrong(what, "take it out"));
    }
    Ok(name)
}
