//! The upstream credential of a service. Each reader fails at the key that is missing or wrong.

use crate::base::client_key::ClientKey;
use crate::base::special_ip::Cidr;
use crate::base::url::ExactUrl;
use crate::config::choices::UpstreamKind;
use crate::config::keys::{self, service as key};
use crate::config::schema::{Key, KeyInfo, kind};
use crate::config::section::Section;
use crate::config::spanned::{ConfigError, Spanned};
use crate::oauth::scope::Scopes;
use crate::service::Upstream;
use crate::service::auth_header::{AuthHeader, AuthHeaderError, CredentialSyntaxError, PasteSettings};
use crate::service::auth_server_config::{AuthServerConfig, RegistrationMethod};
use crate::service::identity_headers::{IdentityFieldsError, IdentityHeaders};
use crate::service::service_token::{ServiceGrant, ServiceTokenSettings, WorkloadTokenFile};
use crate::service::static_credential::StaticCredential;
use crate::service::stored_settings::StoredSettings;
use crate::upstream::auth_server::TokenEndpointAuth;
use crate::upstream::discovery_result::ResourceParam;
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
        UpstreamKind::ClientCredentials => service_token(service, ServiceGrant::ClientCredentials),
        UpstreamKind::WorkloadIdentity => {
            let instead = "add workload_token_file = \"…\", the file of a projected service account token";
            let missing = || {
                service.missing(
                    &key::WORKLOAD_TOKEN_FILE,
                    "upstream = \"workload_identity\" needs the workload's token",
                    instead,
                )
            };
            let path = service.get(&key::WORKLOAD_TOKEN_FILE)?.ok_or_else(missing)?;
            service_token(service, ServiceGrant::WorkloadIdentity(WorkloadTokenFile::new(path)))
        }
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
        Upstream::ServiceToken(settings) => match settings.grant {
            ServiceGrant::ClientCredentials => UpstreamKind::ClientCredentials,
            ServiceGrant::WorkloadIdentity(_) => UpstreamKind::WorkloadIdentity,
        },
        Upstream::Identity(_) => UpstreamKind::Identity,
        Upstream::None => UpstreamKind::None,
    }
}

fn authorization(service: &Section) -> Result<AuthServerConfig, ConfigError> {
    let url = |key: &'static Key<kind::Url>| Ok(service.get(key)?.map(|spanned| spanned.value));
    let endpoint_issuer = url(&key::ISSUER)?;
    let config = AuthServerConfig {
        issuer: url(&key::AUTHORIZATION_SERVER)?.or_else(|| endpoint_issuer.clone()),
        client_id: service.get(&key::CLIENT_ID)?.map(|spanned| spanned.value),
        client_secret: service.get(&key::CLIENT_SECRET)?,
        client_key: client_key(service)?,
        authorization_endpoint: url(&key::AUTHORIZATION_ENDPOINT)?,
        token_endpoint: url(&key::TOKEN_ENDPOINT)?,
        profile: service.get(&key::PROFILE)?.map(|spanned| profile(&spanned)).transpose()?,
        token_auth: token_auth(service)?,
        resource: service.get(&key::RESOURCE)?.map(|spanned| resource(&spanned)).transpose()?,
        registration: registration(service)?,
        registration_scope: registration_scope(service)?,
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
    if endpoint_issuer.is_some() {
        check_endpoint_issuer(service)?;
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

/// A token of the service itself. No user signs in for it, so the keys of sign-ins have no effect.
fn service_token(service: &Section, grant: ServiceGrant) -> Result<Upstream, ConfigError> {
    let url = |key: &'static Key<kind::Url>| Ok(service.get(key)?.map(|spanned| spanned.value));
    let token_endpoint = url(&key::TOKEN_ENDPOINT)?;
    let endpoint_issuer = match &token_endpoint {
        Some(_) => url(&key::ISSUER)?,
        None => None,
    };
    let auth_server = AuthServerConfig {
        issuer: url(&key::AUTHORIZATION_SERVER)?.or(endpoint_issuer),
        client_id: service.get(&key::CLIENT_ID)?.map(|spanned| spanned.value),
        client_secret: service.get(&key::CLIENT_SECRET)?,
        client_key: client_key(service)?,
        // No browser goes there.
        authorization_endpoint: token_endpoint.clone(),
        token_endpoint,
        profile: service.get(&key::PROFILE)?.map(|spanned| profile(&spanned)).transpose()?,
        token_auth: token_auth(service)?,
        resource: service.get(&key::RESOURCE)?.map(|spanned| resource(&spanned)).transpose()?,
        allow_addresses: addresses(service, &key::ALLOW_ADDRESSES)?,
        ..AuthServerConfig::default()
    };
    let has_proof = auth_server.client_secret.is_some() || auth_server.client_key.is_some();
    let missing = |key: &'static KeyInfo, what: &str, instead: &str| Err(service.missing(key, what, instead));
    match (&auth_server.client_id, has_proof, &grant) {
        (None, _, ServiceGrant::ClientCredentials) => missing(
            &key::CLIENT_ID.info,
            "upstream = \"client_credentials\" needs the gateway's client there",
            "give the client id that the upstream knows us by, and its secret or key",
        ),
        (Some(_), false, ServiceGrant::ClientCredentials) => missing(
            &key::CLIENT_SECRET.info,
            "upstream = \"client_credentials\" needs a secret or a key",
            "add client_secret_file = \"…\" or client_key_file = \"…\"",
        ),
        (None, true, ServiceGrant::WorkloadIdentity(_)) => missing(
            &key::CLIENT_ID.info,
            "a client secret without a client id",
            "add client_id, or take the secret out",
        ),
        (Some(_), true, _) | (_, false, ServiceGrant::WorkloadIdentity(_)) => {
            Ok(Upstream::ServiceToken(Box::new(ServiceTokenSettings { auth_server, grant })))
        }
    }
}

/// `issuer` is that of configured endpoints. Metadata has its own.
fn check_endpoint_issuer(service: &Section) -> Result<(), ConfigError> {
    let location = service.location(&key::ISSUER);
    if service.contains(&key::AUTHORIZATION_SERVER) {
        return Err(location.wrong("`authorization_server` is given too", "keep one of them"));
    }
    if service.contains(&key::AUTHORIZATION_ENDPOINT) && service.contains(&key::TOKEN_ENDPOINT) {
        return Ok(());
    }
    let instead = "give `authorization_endpoint` and `token_endpoint` too, or write `authorization_server` instead of `issuer`";
    Err(location.wrong("it names the issuer of configured endpoints, and there are none", instead))
}

/// The key that signs client assertions, instead of a secret.
fn client_key(service: &Section) -> Result<Option<ClientKey>, ConfigError> {
    let Some(pem) = service.get(&key::CLIENT_KEY)? else {
        return Ok(None);
    };
    let location = service.location(&key::CLIENT_KEY);
    if !service.contains(&key::CLIENT_ID) {
        let instead = "add client_id, by which the upstream knows the public key";
        return Err(location.wrong("a client key without a client id", instead));
    }
    if service.contains(&key::CLIENT_SECRET) {
        return Err(location.wrong("`client_secret` is given too", "keep one of them"));
    }
    let id = service.get(&key::CLIENT_KEY_ID)?.map(|spanned| spanned.value);
    let instead = "make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256";
    let client_key = ClientKey::parse(&pem, id).map_err(|error| location.wrong(error.to_string(), instead))?;
    Ok(Some(client_key))
}

/// The method with a secret or without one. `None`: a key signs, or the upstream's metadata decides.
fn token_auth(service: &Section) -> Result<Option<TokenEndpointAuth>, ConfigError> {
    let Some(word) = service.get(&key::TOKEN_AUTH)? else {
        return Ok(None);
    };
    let method = match (word.value, service.contains(&key::CLIENT_KEY)) {
        ("private_key_jwt", true) => return Ok(None),
        ("private_key_jwt", false) => return Err(word.wrong("'private_key_jwt' needs a key", "add client_key_file = \"…\"")),
        (_, true) => {
            return Err(word.wrong(
                "the client key would not be used",
                "take `token_auth` out, or use \"private_key_jwt\"",
            ));
        }
        ("basic", false) => TokenEndpointAuth::Basic,
        ("post", false) => TokenEndpointAuth::Post,
        (_, false) => TokenEndpointAuth::None,
    };
    let (has_id, has_secret) = (service.contains(&key::CLIENT_ID), service.contains(&key::CLIENT_SECRET));
    match method {
        TokenEndpointAuth::None if has_secret => Err(word.wrong(
            "the client secret would not be used",
            format!("take {} out, or use basic or post", service.key_label(&key::CLIENT_SECRET)),
        )),
        TokenEndpointAuth::Basic | TokenEndpointAuth::Post if has_id && !has_secret => Err(word.wrong(
            format!("'{}' needs a client secret", word.value),
            format!("add {}, or use \"none\"", service.key_label(&key::CLIENT_SECRET)),
        )),
        TokenEndpointAuth::None | TokenEndpointAuth::Basic | TokenEndpointAuth::Post => Ok(Some(method)),
    }
}

fn resource(text: &Spanned<String>) -> Result<ResourceParam, ConfigError> {
    match text.value.as_str() {
        "none" => Ok(ResourceParam::Omitted),
        resource if ExactUrl::parse(resource).is_ok() => Ok(ResourceParam::Named(resource.to_owned())),
        resource => Err(text.wrong(
            format!("'{resource}' is not a resource identifier: an absolute URI without a fragment (RFC 8707)"),
            "write it like https://mcp.example.com/mcp, api://crm or urn:crm, or \"none\" to send none",
        )),
    }
}

/// How the gateway gets a client id where none is configured.
fn registration(service: &Section) -> Result<RegistrationMethod, ConfigError> {
    let Some(word) = service.get(&key::REGISTRATION)? else {
        return Ok(RegistrationMethod::Dynamic);
    };
    if service.contains(&key::CLIENT_ID) {
        return Err(word.wrong("with a client id the gateway needs no other one", "take it out"));
    }
    Ok(match word.value {
        "document" => RegistrationMethod::Document,
        _ => RegistrationMethod::Dynamic,
    })
}

/// The scopes in one text, as OAuth writes them.
fn registration_scope(service: &Section) -> Result<Option<String>, ConfigError> {
    let Some(text) = service.get(&key::REGISTRATION_SCOPE)? else {
        return Ok(None);
    };
    let scopes = Scopes::parse(&text.value);
    if service.contains(&key::CLIENT_ID) {
        return Err(text.wrong("with a client id the gateway does not register itself", "take it out"));
    }
    if scopes.is_empty() || text.value.split_whitespace().count() != scopes.list().len() {
        return Err(text.wrong(format!("'{}' has no scopes in it", text.value), "write it like \"openid profile\""));
    }
    Ok(Some(scopes.to_string()))
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
