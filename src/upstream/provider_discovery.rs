//! Finds the endpoints of an identity provider.

use crate::base::url::ExactUrl;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::oauth::metadata::MetadataError;
use crate::oauth::openid_configuration::{self, OpenIdConfiguration};
use crate::upstream::auth_server::{AuthServer, ClientAuth, TokenEndpointAuth};
use crate::upstream::fetch::fetch_document_with_peer;
use crate::upstream::idp::{Idp, UserApi};
use crate::upstream::oidc::{IdentitySource, IdpError, NamedEndpoint, OFFLINE_ACCESS, Provider, REQUEST_TIMEOUT, checked_body};

/// Finds a provider's endpoints in its OpenID configuration or in the gateway's configuration.
/// # Errors
/// If the OpenID configuration cannot be fetched or is unusable.
pub async fn discover(client: &HttpClient, idp: &Idp) -> Result<Provider, IdpError> {
    if let Some(plain) = &idp.plain {
        return Ok(from_config(idp, plain));
    }
    if let Some(provider) = without_metadata(idp) {
        return Ok(provider);
    }
    let url = if let Some(url) = &idp.endpoints.discovery {
        url.clone()
    } else {
        let url = openid_configuration::configuration_url(&idp.issuer);
        ExactUrl::parse(&url).map_err(|error| IdpError::Down(format!("{url} {error}")))?
    };
    // The operator named the URL: any address is allowed. The document's endpoints are limited.
    let (response, peer) = fetch_document_with_peer(client, &url, REQUEST_TIMEOUT).await?;
    if response.status.is_redirection() {
        return Err(IdpError::Setup(format!("{url}: {}", response.redirect_note(&url))));
    }
    let body = checked_body(url.as_str(), response)?;
    let configuration = OpenIdConfiguration::parse(&body, &idp.issuer, &url).map_err(|error| setup_error(&url, &error))?;
    let plain_http = [&url, &idp.issuer].iter().any(|url| url.url().scheme() == "http");
    let named = AddressPolicy::for_upstream_at(&[peer], plain_http, idp.allow_addresses.as_slice().into());
    let (server, configured) = (configuration.server, &idp.endpoints);
    let jwks = NamedEndpoint::choose(configured.jwks.as_ref(), Some(configuration.jwks), &named);
    let target = AuthServer {
        iss_promised: server.iss_promised,
        authorization_endpoint: configured.authorization.clone().unwrap_or(server.authorization_endpoint),
        addresses: if configured.token.is_some() {
            AddressPolicy::Anything
        } else {
            named.clone()
        },
        token_endpoint: configured.token.clone().unwrap_or(server.token_endpoint),
        client_auth: client_auth(idp, TokenEndpointAuth::choose(&server.auth_methods, idp.client_secret.is_some())),
        offline_access: server.scopes_supported.iter().any(|scope| scope == OFFLINE_ACCESS),
        ..target(idp)
    };
    Ok(Provider {
        target,
        speaks: IdentitySource::OpenId {
            jwks: jwks.ok_or_else(|| IdpError::Setup(format!("{url}: no usable `jwks_uri`")))?,
            userinfo: NamedEndpoint::choose(configured.userinfo.as_ref(), configuration.userinfo, &named),
        },
    })
}

/// The provider from the configuration alone, if it has all endpoints that a login needs.
fn without_metadata(idp: &Idp) -> Option<Provider> {
    let configured = &idp.endpoints;
    if configured.discovery.is_some() {
        return None;
    }
    let endpoint = |url: &Option<ExactUrl>| NamedEndpoint::choose(url.as_ref(), None, &AddressPolicy::Anything);
    Some(Provider {
        target: AuthServer {
            authorization_endpoint: configured.authorization.clone()?,
            token_endpoint: configured.token.clone()?,
            client_auth: client_auth(idp, TokenEndpointAuth::Basic),
            ..target(idp)
        },
        speaks: IdentitySource::OpenId {
            jwks: endpoint(&configured.jwks)?,
            userinfo: endpoint(&configured.userinfo),
        },
    })
}

fn setup_error(url: &ExactUrl, error: &MetadataError) -> IdpError {
    let remedy = match error {
        MetadataError::OtherIssuer { found, .. } => {
            format!("; if that is the issuer of the provider's ID tokens, set issuer = \"{found}\" and discovery_url = \"{url}\"")
        }
        MetadataError::NotJson
        | MetadataError::Missing(_)
        | MetadataError::OtherResource { .. }
        | MetadataError::NoS256
        | MetadataError::BadUrl(..)
        | MetadataError::NotSecure(_) => String::new(),
    };
    IdpError::Setup(format!("{url}: {error}{remedy}"))
}

fn from_config(idp: &Idp, plain: &UserApi) -> Provider {
    Provider {
        target: AuthServer {
            authorization_endpoint: plain.authorize.clone(),
            token_endpoint: plain.token.clone(),
            client_auth: client_auth(idp, TokenEndpointAuth::Post),
            ..target(idp)
        },
        speaks: IdentitySource::Plain {
            user: plain.user.clone(),
            emails: plain.emails.clone(),
            api: plain.api.clone(),
        },
    }
}

/// The authentication by this method; of a public client if the provider gave us no secret.
fn client_auth(idp: &Idp, method: TokenEndpointAuth) -> ClientAuth {
    ClientAuth::with_secret(method, idp.client_secret.clone())
}

/// The fields that all providers have in common. Both endpoints are placeholders.
fn target(idp: &Idp) -> AuthServer {
    AuthServer {
        mcp: idp.issuer.clone(),
        issuer: idp.issuer.to_string(),
        iss_promised: false,
        authorization_endpoint: idp.issuer.clone(),
        token_endpoint: idp.issuer.clone(),
        revocation_endpoint: None,
        device_authorization_endpoint: None,
        client_id: idp.client_id.clone(),
        client_auth: ClientAuth::None,
        resource: None,
        issuer_is_guess: false,
        profile: idp.preset.profile,
        extra_authorize: idp.extra_authorize.clone(),
        addresses: AddressPolicy::Anything,
        scopes_known: Vec::new(),
        offline_access: false,
    }
}
