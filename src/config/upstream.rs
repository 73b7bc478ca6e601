//! The upstream credential of a service. Each reader fails at the key that is missing or wrong.

use http::header::HeaderName;

use crate::base::special_ip::Cidr;
use crate::config::choices::UpstreamKind;
use crate::config::section::Section;
use crate::config::spanned::{ConfigError, Spanned};
use crate::service::Upstream;
use crate::service::auth_header::{AuthHeader, AuthHeaderError, CredentialSyntaxError, PasteSettings};
use crate::service::auth_server_config::AuthServerConfig;
use crate::service::identity_headers::{IdentityFieldsError, IdentityHeaders};
use crate::service::static_credential::StaticCredential;
use crate::upstream::forward_rules;
use crate::upstream::quirks;

/// Reads the settings of this kind of upstream credential.
pub fn upstream(service: &Section, way: UpstreamKind) -> Result<Upstream, ConfigError> {
    match way {
        UpstreamKind::OAuth => Ok(Upstream::OAuth(Box::new(authorization(service)?))),
        UpstreamKind::Paste => Ok(Upstream::Paste(PasteSettings {
            header: auth_header(service)?,
            hint: service.text("auth_hint")?.map_or_else(String::new, |said| said.value),
        })),
        UpstreamKind::Static => {
            let instead = "add credential_file = \"…\", or credential = \"${VARIABLE}\"";
            let missing = || service.missing("credential", "upstream = \"static\" needs the service's key", instead);
            let credential = service.secret("credential")?.ok_or_else(missing)?;
            let fixed = StaticCredential::new(&auth_header(service)?, &credential);
            let wrong = |why: CredentialSyntaxError| service.location("credential").wrong(why.to_string(), "check the file or variable");
            Ok(Upstream::Static(fixed.map_err(wrong)?))
        }
        UpstreamKind::Identity => {
            let words = service.some_of("identity_headers")?;
            let default = (!service.contains("identity_headers")).then_some("id");
            let headers = IdentityHeaders::parse(words.iter().map(|said| said.value).chain(default));
            let wrong = |why: IdentityFieldsError| {
                service
                    .location("identity_headers")
                    .wrong(why.to_string(), "write it like [\"id\", \"email\"]")
            };
            let headers = headers.map_err(wrong)?;
            Ok(Upstream::Identity(if service.bool("assertion")? {
                headers.with_assertion()
            } else {
                headers
            }))
        }
        UpstreamKind::None => Ok(Upstream::None),
    }
}

/// The kind of upstream credential, as in `upstream`.
pub fn kind(upstream: &Upstream) -> UpstreamKind {
    match upstream {
        Upstream::OAuth(_) => UpstreamKind::OAuth,
        Upstream::Paste(_) => UpstreamKind::Paste,
        Upstream::Static(_) => UpstreamKind::Static,
        Upstream::Identity(_) => UpstreamKind::Identity,
        Upstream::None => UpstreamKind::None,
    }
}

fn authorization(service: &Section) -> Result<AuthServerConfig, ConfigError> {
    let url = |name| Ok(service.url(name)?.map(|said| said.value));
    let given = AuthServerConfig {
        issuer: url("authorization_server")?,
        client_id: service.text("client_id")?.map(|said| said.value),
        client_secret: service.secret("client_secret")?,
        authorization_endpoint: url("authorization_endpoint")?,
        token_endpoint: url("token_endpoint")?,
        profile: service.text("profile")?.map(|said| profile(&said)).transpose()?,
        extra_authorize: service.pairs("extra_authorize"),
        allow_addresses: addresses(service)?,
    };
    if let Some(name) = given.reserved_extra() {
        let what = format!("the parameter '{name}' is the gateway's to say");
        return Err(service.location("extra_authorize").wrong(what, "take it out"));
    }
    if given.client_secret.is_some() && given.client_id.is_none() {
        let instead = format!("add {}", service.key_label("client_id"));
        return Err(service
            .location("client_secret")
            .wrong("a client secret without a client id", instead));
    }
    let instead = "give both endpoints, or neither and let them be discovered";
    let without = |name: &str, other: &str| {
        let what = format!("{} is given without it", service.key_label(other));
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

fn profile(said: &Spanned<String>) -> Result<&'static quirks::Profile, ConfigError> {
    quirks::by_name(&said.value).ok_or_else(|| {
        let known: Vec<&str> = quirks::names().collect();
        said.wrong(
            format!("'{}' is no profile", said.value),
            format!("use one of: {}", known.join(", ")),
        )
    })
}

/// Reads `allow_addresses` of a service or an identity provider.
pub fn addresses(section: &Section) -> Result<Vec<Cidr>, ConfigError> {
    section.strings("allow_addresses")?.iter().map(address).collect()
}

fn address(said: &Spanned<String>) -> Result<Cidr, ConfigError> {
    let instead = || "write addresses or networks like 10.0.0.7, 172.16.0.0/12 or fd00::/8".to_owned();
    let read = said.read(|text| text.trim().parse::<Cidr>().map_err(|why| (format!("'{text}': {why}"), instead())))?;
    Ok(read.value)
}

fn auth_header(service: &Section) -> Result<AuthHeader, ConfigError> {
    let [header] = service.tables("auth_header") else {
        return Ok(AuthHeader::bearer());
    };
    let (name, value) = (header.text("name")?, header.text("value")?);
    // A custom header holds only the credential, unless `value` says otherwise.
    let default = if name.is_some() { "{credential}" } else { "Bearer {credential}" };
    let name_text = name.as_ref().map_or("Authorization", |said| said.value.as_str());
    let template = value.as_ref().map_or(default, |said| said.value.as_str());
    AuthHeader::parse(name_text, template).map_err(|why| {
        let key = match &why {
            AuthHeaderError::Name(_) | AuthHeaderError::NotOurs(_) => "name",
            AuthHeaderError::Template(_) | AuthHeaderError::Characters(_) => "value",
        };
        let instead = "write it like { name = \"X-Api-Key\", value = \"{credential}\" }";
        header.location(key).wrong(why.to_string(), instead)
    })
}

/// Parses a request header to forward. Refuses credential, identity and hop-by-hop headers.
pub fn parse_forward_header(said: &Spanned<String>) -> Result<HeaderName, ConfigError> {
    let name = said.value.parse::<HeaderName>();
    let name = name.map_err(|_| said.wrong(format!("'{}' is not the name of a header", said.value), "write names like X-Tenant"))?;
    if forward_rules::is_forbidden_request_header(name.as_str()) {
        let what = format!(
            "'{}' is never sent on: it is a credential, it vouches for somebody, or it belongs to one connection",
            said.value
        );
        return Err(said.wrong(what, "take it out"));
    }
    Ok(name)
}
