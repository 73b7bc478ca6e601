//! The authorization server of a stored credential, as the login found it. A refresh and a revocation
//! fetch no metadata document, so that they never go to another issuer.

use crate::app::runtime_config::ActiveService;
use crate::base::url::ExactUrl;
use crate::flow::stored_token::{LoginClient, OAuthCredential};
use crate::oauth::token_response::UpstreamTokens;
use crate::service::auth_server_config::AuthServerConfig;
use crate::upstream::auth_server::{AuthServer, ClientAuth, TokenEndpointAuth};

/// The credential to store after a login at `server`, which issued `tokens` for these scopes.
pub fn oauth_credential(server: &AuthServer, scopes: &str, tokens: UpstreamTokens) -> OAuthCredential {
    OAuthCredential {
        issuer: server.issuer.clone(),
        token_endpoint: server.token_endpoint.as_str().to_owned(),
        revocation_endpoint: server.revocation_endpoint.as_ref().map(|url| url.as_str().to_owned()),
        network: server.addresses.network(),
        client: LoginClient {
            id: server.client_id.clone(),
            secret: server.client_auth.secret().cloned(),
            auth_method: server.client_auth.method_name().to_owned(),
        },
        scopes: scopes.to_owned(),
        resource: server.resource.clone(),
        tokens,
    }
}

/// The authorization server of a stored login.
///
/// # Errors
/// If the service does not use stored credentials, or the record has a URL or a method that this version
/// does not know.
pub fn auth_server(active: &ActiveService, oauth: &OAuthCredential) -> Result<AuthServer, String> {
    let config = active.auth_server_config().ok_or("the service has no stored credential")?;
    let url = |text: &str| ExactUrl::parse(text).map_err(|error| format!("the stored endpoint cannot be used: {error}"));
    let token_endpoint = url(&oauth.token_endpoint)?;
    Ok(AuthServer {
        mcp: active.service.mcp.clone(),
        issuer: oauth.issuer.clone(),
        issuer_is_guess: false,
        iss_promised: false,
        authorization_endpoint: token_endpoint.clone(),
        revocation_endpoint: oauth.revocation_endpoint.as_deref().map(url).transpose()?,
        device_authorization_endpoint: None,
        token_endpoint,
        client_id: oauth.client.id.clone(),
        client_auth: client_auth(&oauth.client, config)?,
        resource: oauth.resource.clone(),
        profile: config.profile_of(&active.service.mcp),
        extra_authorize: Vec::new(),
        addresses: AuthServer::addresses_in(oauth.network, &config.allow_addresses),
        scopes_known: Vec::new(),
        offline_access: false,
    })
}

/// The authentication of the stored login. A key is not stored, so the configuration must still have it.
fn client_auth(client: &LoginClient, config: &AuthServerConfig) -> Result<ClientAuth, String> {
    match (client.auth_method.as_str(), &config.client_key) {
        (ClientAuth::PRIVATE_KEY_JWT, Some(key)) => Ok(ClientAuth::PrivateKeyJwt(key.clone())),
        (ClientAuth::PRIVATE_KEY_JWT, None) => Err("the login used a `client_key`, and none is configured now".to_owned()),
        (name, _) => TokenEndpointAuth::parse(name)
            .map(|method| ClientAuth::with_secret(method, client.secret.clone()))
            .ok_or_else(|| format!("the stored method {name:?} is not known")),
    }
}
