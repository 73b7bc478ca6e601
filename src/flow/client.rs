//! The client: its registration, its authentication, and its return address.

use serde::{Deserialize, Serialize};

use crate::base::ids::Digest;
use crate::base::secret::Secret;
use crate::base::url::encode_query;
use crate::flow::error::RejectReason;
use crate::oauth::authorization_request::PkceRule;
use crate::oauth::client_id_metadata::ClientIdUrl;
use crate::oauth::error::{OAuthErrorCode, description};
use crate::oauth::redirect_uri::{RedirectKind, RedirectUri};
use crate::oauth::registration::{ClientAuthMethod, ClientRegistration};
use crate::oauth::token_endpoint::ClientCredentials;

/// A client that this gateway knows.
#[derive(Clone, Debug)]
pub struct RegisteredClient {
    client_id: String,
    registration: ClientRegistration,
    secret: Option<Digest>,
    metadata_source: MetadataSource,
    pkce: PkceRule,
}

/// The source of a client's metadata.
#[derive(Clone, Debug)]
enum MetadataSource {
    /// The client registered itself.
    Registration,
    /// The client has a metadata document.
    Document(ClientIdUrl),
    /// The operator's configuration.
    Configuration,
}

/// The parts of a client's registration that the token endpoint needs. A flow stores them, because the token
/// endpoint fetches no metadata document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientTraits {
    /// Whether the client may get a refresh token.
    pub may_refresh: bool,
    /// Whether the client is native: it has a loopback or private-use redirect URI (RFC 8252 §7).
    pub is_native: bool,
}

impl Default for ClientTraits {
    /// The traits of most clients, for flows that an earlier version began.
    fn default() -> Self {
        Self {
            may_refresh: true,
            is_native: true,
        }
    }
}

/// Proof that a client authenticated: a public client by its id, a confidential one by its secret.
/// Only [`RegisteredClient::authenticate`] and [`Authenticated::by_document`] create it.
#[derive(Clone, Debug)]
pub struct Authenticated {
    client_id: String,
    /// `None` for a client whose metadata document was not fetched.
    traits: Option<ClientTraits>,
}

/// The redirect URI for a response to the client, with `state` and `iss` (RFC 9207). Only a match with the
/// client's registration creates it. No other URI becomes a `Location` to a client, which prevents open
/// redirects.
/// ```compile_fail
/// use mcp_oauth_gateway::flow::client::ReturnAddress;
/// fn forged() -> ReturnAddress { ReturnAddress { uri: unreachable!(), client_state: None, issuer: String::new() } }
/// ```
/// ```
/// use mcp_oauth_gateway::flow::client::ReturnAddress;
/// fn received(address: ReturnAddress) -> ReturnAddress { address }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReturnAddress {
    uri: RedirectUri,
    client_state: Option<String>,
    issuer: String,
    /// The operator configured the client, with this URI.
    #[serde(default)]
    #[serde(rename = "at_home")]
    is_configured: bool,
}

impl RegisteredClient {
    /// A client from an opened client id. `secret` is the digest of its secret, if it has one.
    pub fn new(client_id: String, registration: ClientRegistration, secret: Option<Digest>) -> Self {
        Self {
            client_id,
            registration,
            secret,
            metadata_source: MetadataSource::Registration,
            pkce: PkceRule::Required,
        }
    }

    /// The same client, which need not send a PKCE challenge if it has a secret.
    #[must_use]
    pub fn with_optional_pkce(self) -> Self {
        let pkce = if self.secret.is_some() {
            PkceRule::Optional
        } else {
            PkceRule::Required
        };
        Self { pkce, ..self }
    }

    /// Whether the client must send a PKCE challenge.
    pub fn pkce(&self) -> PkceRule {
        self.pkce
    }

    /// A client from the configuration. `secret` is the digest of its secret, if it has one.
    pub fn configured(client_id: String, registration: ClientRegistration, secret: Option<Digest>) -> Self {
        Self {
            metadata_source: MetadataSource::Configuration,
            ..Self::new(client_id, registration, secret)
        }
    }

    /// A client from its metadata document.
    pub fn from_metadata(document: ClientIdUrl, registration: ClientRegistration) -> Self {
        Self {
            client_id: document.address().as_str().to_owned(),
            registration,
            secret: None,
            metadata_source: MetadataSource::Document(document),
            pkce: PkceRule::Required,
        }
    }

    /// The client's metadata.
    pub fn registration(&self) -> &ClientRegistration {
        &self.registration
    }

    /// The client id.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Authenticates the client at the token endpoint. A public client relies on PKCE instead.
    pub fn authenticate(&self, credentials: &ClientCredentials) -> Result<Authenticated, RejectReason> {
        if credentials.client_id != self.client_id {
            return Err(RejectReason::WrongClient);
        }
        match (self.registration.auth_method, &self.secret, &credentials.secret) {
            // Some public clients send a secret that was never issued. It is ignored.
            (ClientAuthMethod::None, _, _) => {}
            (ClientAuthMethod::ClientSecretBasic | ClientAuthMethod::ClientSecretPost, Some(digest), Some(secret))
                if digest.matches(secret.expose()) => {}
            (ClientAuthMethod::ClientSecretBasic | ClientAuthMethod::ClientSecretPost, _, _) => return Err(RejectReason::ClientSecret),
        }
        Ok(Authenticated {
            client_id: self.client_id.clone(),
            traits: Some(self.traits()),
        })
    }

    /// The parts of the registration that the token endpoint needs.
    pub fn traits(&self) -> ClientTraits {
        ClientTraits {
            may_refresh: self.registration.may_refresh,
            is_native: self.registration.redirect_uris.iter().any(|uri| uri.kind() != RedirectKind::Web),
        }
    }

    /// Returns the return address, if the requested redirect URI is registered.
    pub fn return_address(
        &self,
        redirect_uri: Option<RedirectUri>,
        client_state: Option<String>,
        issuer: &str,
    ) -> Result<ReturnAddress, RejectReason> {
        let redirect_uris = &self.registration.redirect_uris;
        let uri = match redirect_uri {
            Some(uri) if redirect_uris.iter().any(|registered| registered.matches(&uri)) => uri,
            Some(_) => return Err(RejectReason::UnregisteredRedirect),
            // A registration can be older than the list of forbidden schemes.
            None if redirect_uris.len() == 1 => {
                RedirectUri::parse_configured(redirect_uris[0].as_str()).map_err(|_| RejectReason::UnregisteredRedirect)?
            }
            None => return Err(RejectReason::RedirectNeeded),
        };
        Ok(ReturnAddress {
            is_configured: self.is_configured(),
            uri,
            client_state,
            issuer: issuer.to_owned(),
        })
    }

    /// `host[:port]` of the client's metadata document, if it vouches for the client at
    /// `return_address`. It vouches for its own host, and partly for programs on the user's machine:
    /// any local program can pose as the client. Other web hosts get `None`.
    pub fn verified_host(&self, return_address: &ReturnAddress) -> Option<String> {
        match &self.metadata_source {
            MetadataSource::Document(document) => {
                let uri = &return_address.uri;
                (document.is_same_host_as(uri) || uri.kind() != RedirectKind::Web).then(|| document.host_and_port())
            }
            MetadataSource::Registration | MetadataSource::Configuration => None,
        }
    }

    /// Whether the operator configured the client, including its name.
    pub fn is_configured(&self) -> bool {
        match &self.metadata_source {
            MetadataSource::Configuration => true,
            MetadataSource::Registration | MetadataSource::Document(_) => false,
        }
    }

    /// Whether a consent may be remembered when the response goes to `return_address`. That
    /// requires that no other program can receive the response or pose as the client.
    pub fn may_remember_consent(&self, return_address: &ReturnAddress) -> bool {
        let is_https = return_address.uri.kind() == RedirectKind::Web && !return_address.uri.is_plain_http();
        match &self.metadata_source {
            MetadataSource::Registration => false,
            MetadataSource::Document(document) => is_https && document.is_same_host_as(&return_address.uri),
            MetadataSource::Configuration => is_https && self.secret.is_some(),
        }
    }

    /// Whether all redirect URIs are on the user's machine. Any local program can use them.
    pub fn is_loopback_only(&self) -> bool {
        self.registration
            .redirect_uris
            .iter()
            .all(|uri| uri.kind() == RedirectKind::Loopback)
    }
}

impl Authenticated {
    /// A client that names itself by this metadata document, which is not read. It is a public client,
    /// so its id alone authenticates it. Its code or refresh token proves that the document was good
    /// when the flow began.
    pub fn by_document(document: &ClientIdUrl) -> Self {
        Self {
            client_id: document.address().as_str().to_owned(),
            traits: None,
        }
    }

    /// The client id.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The digest of the client id that pairs contain.
    pub fn client_digest(&self) -> [u8; 16] {
        Digest::new(&self.client_id).truncated()
    }

    /// The parts of the registration; `None` if the metadata document was not fetched.
    pub fn traits(&self) -> Option<ClientTraits> {
        self.traits
    }
}

impl ReturnAddress {
    /// The redirect with a code.
    pub fn with_code(&self, code: &Secret) -> String {
        self.with(&[("code", code.expose())])
    }

    /// The redirect with an error.
    pub fn with_error(&self, code: OAuthErrorCode, message: &str) -> String {
        self.with(&[("error", code.as_str()), ("error_description", &description(message))])
    }

    /// Whether an error may be sent to this address by redirect before a user signs in or consents. It
    /// may go to loopback and to configured clients. Any other address would make the gateway an open
    /// redirector: every attacker can register a client, or publish a metadata document.
    pub fn is_safe_before_sign_in(&self) -> bool {
        self.is_configured || self.uri.kind() == RedirectKind::Loopback
    }

    /// The redirect URI.
    pub fn uri(&self) -> &RedirectUri {
        &self.uri
    }

    /// The issuer that the client uses.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    fn with(&self, params: &[(&str, &str)]) -> String {
        let state = self.client_state.as_deref().map(|state| ("state", state));
        let query = encode_query(params.iter().copied().chain(state).chain([("iss", self.issuer.as_str())]));
        let text = self.uri.as_str();
        let separator = match text.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some(_) => "&",
        };
        format!("{text}{separator}{query}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(uris: &[&str], auth_method: ClientAuthMethod, secret: Option<&str>) -> RegisteredClient {
        let redirect_uris = uris.iter().map(|uri| RedirectUri::parse(uri).unwrap()).collect();
        RegisteredClient::new(
            "c".into(),
            ClientRegistration {
                name: None,
                redirect_uris,
                auth_method,
                may_refresh: true,
            },
            secret.map(Digest::new),
        )
    }

    #[test]
    fn the_redirect_keeps_an_existing_query_and_adds_state_and_issuer() {
        let client = client(&["https://a/cb?x=1"], ClientAuthMethod::None, None);
        let return_address = client.return_address(None, Some("<s>".into()), "https://gw").unwrap();
        assert_eq!(
            return_address.with_code(&Secret::from("c")),
            "https://a/cb?x=1&code=c&state=%3Cs%3E&iss=https%3A%2F%2Fgw"
        );
        let return_address = client.return_address(None, None, "https://gw").unwrap();
        assert_eq!(
            return_address.with_error(OAuthErrorCode::AccessDenied, "1+1 is no"),
            "https://a/cb?x=1&error=access_denied&error_description=1%2B1%20is%20no&iss=https%3A%2F%2Fgw"
        );
    }

    #[test]
    fn a_confidential_client_needs_its_own_secret() {
        let client = client(&["https://a/cb"], ClientAuthMethod::ClientSecretPost, Some("s"));
        let authenticate = |secret: Option<&str>| {
            client
                .authenticate(&ClientCredentials {
                    client_id: "c".into(),
                    secret: secret.map(Secret::from),
                    basic: false,
                })
                .map(|_| ())
        };
        assert_eq!(authenticate(Some("s")), Ok(()));
        assert_eq!(authenticate(Some("x")), Err(RejectReason::ClientSecret));
        assert_eq!(authenticate(None), Err(RejectReason::ClientSecret));
    }

    fn documented(redirects: &str) -> RegisteredClient {
        let url = ClientIdUrl::parse("https://app.example/c.json", false).unwrap();
        let body = format!(r#"{{"client_id":"https://app.example/c.json","client_name":"A","redirect_uris":{redirects}}}"#);
        let registration = crate::oauth::client_id_metadata::parse_document(&url, body.as_bytes()).unwrap();
        RegisteredClient::from_metadata(url, registration)
    }

    #[test]
    fn a_metadata_document_verifies_its_host_only_for_own_and_local_redirects() {
        let client = documented(r#"["https://app.example/cb","https://other.example/cb","http://127.0.0.1/cb","app.example:/cb"]"#);
        let return_address = |uri: &str| client.return_address(Some(RedirectUri::parse(uri).unwrap()), None, "i").unwrap();
        for (uri, safe, host) in [
            ("https://app.example/cb", false, Some("app.example")),
            ("https://other.example/cb", false, None),
            ("http://127.0.0.1:4711/cb", true, Some("app.example")),
            ("app.example:/cb", false, Some("app.example")),
        ] {
            let return_address = return_address(uri);
            assert_eq!(
                (return_address.is_safe_before_sign_in(), client.verified_host(&return_address)),
                (safe, host.map(str::to_owned)),
                "{uri}"
            );
        }
    }

    #[test]
    fn a_redirect_uri_missing_from_the_metadata_document_is_refused() {
        let client = documented(r#"["https://app.example/cb"]"#);
        let other = RedirectUri::parse("https://app.example/cb2").unwrap();
        assert_eq!(
            client.return_address(Some(other), None, "i").unwrap_err(),
            RejectReason::UnregisteredRedirect
        );
    }

    #[test]
    fn a_dynamically_registered_client_has_no_verified_host() {
        let client = client(&["https://a/cb"], ClientAuthMethod::None, None);
        let return_address = client.return_address(None, None, "i").unwrap();
        assert!(!return_address.is_safe_before_sign_in() && client.verified_host(&return_address).is_none());
        let old_record = r#"{"uri":"https://a/cb","client_state":null,"issuer":"i"}"#;
        assert!(!serde_json::from_str::<ReturnAddress>(old_record).unwrap().is_safe_before_sign_in());
    }

    #[test]
    fn consent_is_remembered_only_for_clients_that_cannot_be_impersonated() {
        let uris = ["https://a/cb", "http://127.0.0.1/cb", "app.example:/cb"].map(|uri| RedirectUri::parse(uri).unwrap());
        let registration = |auth_method| ClientRegistration {
            name: Some("A".into()),
            redirect_uris: uris.to_vec(),
            auth_method,
            may_refresh: true,
        };
        let (public, secret) = (ClientAuthMethod::None, ClientAuthMethod::ClientSecretBasic);
        let digest = || Some(Digest::new("s"));
        let configured = RegisteredClient::configured("bot".into(), registration(secret), digest());
        let properties = |client: &RegisteredClient, uri: &RedirectUri| {
            let return_address = client.return_address(Some(uri.clone()), None, "i").unwrap();
            (
                client.may_remember_consent(&return_address),
                return_address.is_safe_before_sign_in(),
                client.verified_host(&return_address).is_some(),
            )
        };
        assert_eq!(
            uris.each_ref().map(|uri| properties(&configured, uri)),
            [(true, true, false), (false, true, false), (false, true, false)]
        );
        for other in [
            RegisteredClient::configured("bot".into(), registration(public), None),
            RegisteredClient::new("gwc_".into(), registration(public), None),
            RegisteredClient::new("gwc_".into(), registration(secret), digest()),
        ] {
            assert!(uris.iter().all(|uri| !properties(&other, uri).0), "{other:?}");
        }
        let document = documented(r#"["https://app.example/cb","https://other.example/cb","http://127.0.0.1/cb","app.example:/cb"]"#);
        let redirect_uris = document.registration().redirect_uris.clone();
        let may_remember: Vec<bool> = redirect_uris.iter().map(|uri| properties(&document, uri).0).collect();
        assert_eq!(may_remember, [true, false, false, false]);
    }

    #[test]
    fn an_unregistered_or_ambiguous_redirect_uri_is_refused() {
        let client = client(&["https://a/cb", "https://b/cb"], ClientAuthMethod::None, None);
        assert_eq!(client.return_address(None, None, "i").unwrap_err(), RejectReason::RedirectNeeded);
        let other = RedirectUri::parse("https://c/cb").unwrap();
        assert_eq!(
            client.return_address(Some(other), None, "i").unwrap_err(),
            RejectReason::UnregisteredRedirect
        );
    }
}
