//! The upstream credential of a service. Each reader fails at the key that is missing or wrong.

use crate::base::special_ip::Cidr;
use crate::config::choices::UpstreamKind;
use crate::config::keys::{self, service as key};
use crate::config::schema::{Key, KeyInfo, kind};
use crate::config::section::Section;
use crate::config::spanned::{ConfigError, Spanned};
use crate::service::Upstream;
use crate::service::auth_header::{AuthHeader, AuthHeaderError, CredentialSyntaxError, PasteSettings};
use crate::service::auth_server_config::AuthServerConfig;
use crate::service::identity_headers::{IdentityFieldsError, IdentityHeaders};
use crate::service::static_credential::StaticCredential;
use crate::service::stored_settings::StoredSettings;
use crate::upstream::quirks;

/// Reads the settings of this kind of upstream credential.
pub fn upstream(service: &Section, upstream_kind: UpstreamKind) -> Result<Upstream, ConfigError> {
    match upstream_kind {
        UpstreamKind::OAuth => Ok(Upstream::OAuth(Box::new(authorization(service)?))),
        UpstreamKind::Paste => Ok(Upstream::Paste(PasteSettings {
            header: auth_header(service)?,
            hint: service.get(&key::AUTH_HINT)?.map_or_else(String::new, |hint| hint.value),
        })),
        UpstreamKind::Static => {
            let instead = "add credential_file = \"…\", or credential = \"${VARIABLE}\"";
            let missing = || service.missing(&key::CREDENTIAL, "upstream = \"static\" needs the service's key", instead);
            let credential = service.get(&key::CREDENTIAL)?.ok_or_else(missing)?;
            let static_credential = StaticCredential::new(&auth_header(service)?, &credential);
            let to_error = |error: CredentialSyntaxError| {
                service
                    .location(&key::CREDENTIAL)
                    .wrong(error.to_string(), "check the file or variable")
            };
            Ok(Upstream::Static(static_credential.map_err(to_error)?))
        }
        UpstreamKind::Stored => Ok(Upstream::Stored(Box::new(StoredSettings {
            auth_server: authorization(service)?,
            header: auth_header(service)?,
        }))),
        UpstreamKind::Identity => {
            let fields = service.get(&key::IDENTITY_HEADERS)?;
            let default = (!service.contains(&key::IDENTITY_HEADERS)).then_some("id");
            let headers = IdentityHeaders::parse(fields.iter().map(|field| field.value).chain(default));
            let to_error = |error: IdentityFieldsError| {
                service
                    .location(&key::IDENTITY_HEADERS)
                    .wrong(error.to_string(), "write it like [\"id\", \"email\"]")
            };
            let headers = headers.map_err(to_error)?;
            Ok(Upstream::Identity(if service.is_on(&key::ASSERTION)? {
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
        Upstream::Stored(_) => UpstreamKind::Stored,
        Upstream::Identity(_) => UpstreamKind::Identity,
        Upstream::None => UpstreamKind::None,
    }
}

fn authorization(service: &Section) -> Result<AuthServerConfig, ConfigError> {
    let url = |key: &'static Key<kind::Url>| Ok(service.get(key)?.map(|spanned| spanned.value));
    let config = AuthServerConfig {
        issuer: url(&key::AUTHORIZATION_SERVER)?,
        client_id: service.get(&key::CLIENT_ID)?.map(|spanned| spanned.value),
        client_secret: service.get(&key::CLIENT_SECRET)?,
        authorization_endpoint: url(&key::AUTHORIZATION_ENDPOINT)?,
        token_endpoint: url(&key::TOKEN_ENDPOINT)?,
        profile: service.get(&key::PROFILE)?.map(|spanned| profile(&spanned)).transpose()?,
        extra_authorize: service.get(&key::EXTRA_AUTHORIZE)?,
        pin_issuer: service.get(&key::PIN_ISSUER)?.map(|switch| switch.value),
        allow_addresses: addresses(service, &key::ALLOW_ADDRESSES)?,
    };
    if let Some(name) = config.reserved_extra() {
        let what = format!("the parameter '{name}' is the gateway's to say");
        return Err(service.location(&key::EXTRA_AUTHORIZE).wrong(what, "take it out"));
    }
    if config.client_secret.is_some() && config.client_id.is_none() {
        let instead = format!("add {}", service.key_label(&key::CLIENT_ID));
        return Err(service
            .location(&key::CLIENT_SECRET)
            .wrong("a client secret without a client id", instead));
    }
    let instead = "give both endpoints, or neither and let them be discovered";
    let missing_endpoint = |key: &'static KeyInfo, other: &'static KeyInfo| {
        let what = format!("{} is given without it", service.key_label(other));
        Err(service.missing(key, &what, instead))
    };
    match (&config.authorization_endpoint, &config.token_endpoint) {
        (Some(_), None) => missing_endpoint(&key::TOKEN_ENDPOINT.info, &key::AUTHORIZATION_ENDPOINT.info),
        (None, Some(_)) => missing_endpoint(&key::AUTHORIZATION_ENDPOINT.info, &key::TOKEN_ENDPOINT.info),
        (Some(_), Some(_)) if config.client_id.is_none() => Err(service.missing(
            &key::CLIENT_ID,
            "with both endpoints given there is nowhere to register",
            "give the client id that the upstream knows us by",
        )),
        (Some(_), Some(_)) | (None, None) => Ok(config),
    }
}

fn profile(name: &Spanned<String>) -> Result<&'static quirks::Profile, ConfigError> {
    quirks::by_name(&name.value).ok_or_else(|| {
        let names: Vec<&str> = quirks::names().collect();
        name.wrong(
            format!("'{}' is no profile", name.value),
            format!("use one of: {}", names.join(", ")),
        )
    })
}

/// Reads `allow_addresses` of a service or an identity provider.
pub fn addresses(section: &Section, key: &'static Key<kind::Texts>) -> Result<Vec<Cidr>, ConfigError> {
    section.get(key)?.iter().map(address).collect()
}

fn address(text: &Spanned<String>) -> Result<Cidr, ConfigError> {
    let instead = || "write addresses or networks like 10.0.0.7, 172.16.0.0/12 or fd00::/8".to_owned();
    let cidr = text.read(|text| {
        text.trim()
            .parse::<Cidr>()
            .map_err(|error| (format!("'{text}': {error}"), instead()))
    })?;
    Ok(cidr.value)
}

fn auth_header(service: &Section) -> Result<AuthHeader, ConfigError> {
    let Some(header) = service.get(&key::AUTH_HEADER)? else {
        return Ok(AuthHeader::bearer());
    };
    let (name, value) = (header.get(&keys::auth_header::NAME)?, header.get(&keys::auth_header::VALUE)?);
    // A custom header holds only the credential, unless `value` says otherwise.
    let default = if name.is_some() { "{credential}" } else { "Bearer {credential}" };
    let name_text = name.as_ref().map_or("Authorization", |spanned| spanned.value.as_str());
    let template = value.as_ref().map_or(default, |spanned| spanned.value.as_str());
    AuthHeader::parse(name_text, template).map_err(|error| {
        let key = match &error {
            AuthHeaderError::Name(_) | AuthHeaderError::NotOurs(_) => &keys::auth_header::NAME.info,
            AuthHeaderError::Template(_) | AuthHeaderError::Characters(_) => &keys::auth_header::VALUE.info,
        };
        let instead = "write it like { name = \"X-Api-Key\", value = \"{credential}\" }";
        header.location(key).wrong(error.to_string(), instead)
    })
}
