//! Client ID Metadata Documents: the client id is the URL of a document about the client
//! (draft-ietf-oauth-client-id-metadata-document; MCP "Client ID Metadata Documents").

use serde_json::{Map, Value};

use crate::base::url::{ExactUrl, UrlError};
use crate::oauth::redirect_uri::{RedirectKind, RedirectUri};
use crate::oauth::registration::{self, ClientAuthMethod, ClientRegistration, MAX_NAME_CHARS, RegistrationError};

/// A client id that is the URL of the client's metadata document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdUrl(ExactUrl);

/// The reason why a URL cannot be a client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientIdUrlError {
    /// The URL is malformed or ambiguous.
    #[error(transparent)]
    Text(UrlError),
    /// The scheme is not https. A gateway on loopback also accepts http to loopback.
    #[error("is not an https URL")]
    NotHttps,
    /// The URL has no path: it names a host, not a document.
    #[error("has no path: it must be the URL of a document")]
    NoPath,
    /// The URL is not in normal form, so two programs could read it differently.
    #[error("is not in its normal form (lower-case host, no default port, no empty part)")]
    NotNormal,
}

/// Whether a client id is a URL. Client ids that the gateway issues never look like one.
pub fn is_url(client_id: &str) -> bool {
    let starts_with = |prefix: &str| client_id.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    starts_with("https:") || starts_with("http:")
}

impl ClientIdUrl {
    /// Parses a client id. `loopback` also allows http to loopback, for a gateway on loopback
    /// itself. A query is accepted, although the draft says that it SHOULD NOT be there.
    pub fn parse(text: &str, loopback: bool) -> Result<Self, ClientIdUrlError> {
        let address = ExactUrl::parse(text).map_err(ClientIdUrlError::Text)?;
        let url = address.url();
        match url.scheme() {
            "https" => {}
            "http" if loopback && address.is_loopback() => {}
            _ => return Err(ClientIdUrlError::NotHttps),
        }
        if url.path() == "/" {
            return Err(ClientIdUrlError::NoPath);
        }
        if url.as_str() != text || url.query() == Some("") {
            return Err(ClientIdUrlError::NotNormal);
        }
        Ok(Self(address))
    }

    /// URL of the document. Its text is the client id, byte for byte.
    pub fn address(&self) -> &ExactUrl {
        &self.0
    }

    /// `host[:port]` that vouches for the client, as the consent page shows it. A host can have another
    /// party's server on each port.
    pub fn host_and_port(&self) -> String {
        self.0.host_and_port()
    }

    /// Whether `redirect` is https on the document's host and port, so that one party controls both.
    pub fn is_same_host_as(&self, redirect: &RedirectUri) -> bool {
        let own = self.host_and_port();
        redirect.kind() == RedirectKind::Web && !own.is_empty() && redirect.display_host() == own
    }
}

/// The reason why a document is refused. Text from the document is shortened and made printable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientMetadataError {
    /// Not a JSON object, or nested deeper than 128 levels, which the parser refuses.
    #[error("it is not a JSON object")]
    NotJson,
    /// The document is that of another client.
    #[error("its client_id is '{0}', not its own URL")]
    OtherClient(String),
    /// A required member is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// The document, which is public, contains a client secret.
    #[error("it holds a client_secret, which everybody can read")]
    HoldsSecret,
    /// The client needs an authentication method that the gateway does not support.
    #[error("its token_endpoint_auth_method is '{0}', and 'none' is not among its token_endpoint_auth_methods_supported")]
    AuthMethod(String),
    /// A member breaks a rule of client registration.
    #[error("{0}")]
    Registration(String),
}

impl From<RegistrationError> for ClientMetadataError {
    fn from(error: RegistrationError) -> Self {
        Self::Registration(error.why)
    }
}

/// Parses the document at `url`. Ignores unknown members and unknown grant types. The client is
/// always a public one, because a secret cannot be in a public document.
/// # Errors
/// If the document is of another client, lacks a required member, or has an unusable one.
pub fn parse_document(url: &ClientIdUrl, body: &[u8]) -> Result<ClientRegistration, ClientMetadataError> {
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
        return Err(ClientMetadataError::NotJson);
    };
    let client_id = text(&members, "client_id").ok_or(ClientMetadataError::Missing("client_id"))?;
    if client_id != url.address().as_str() {
        return Err(ClientMetadataError::OtherClient(printable(client_id)));
    }
    let name = text(&members, "client_name").ok_or(ClientMetadataError::Missing("client_name"))?;
    is_public(&members)?;
    let may_refresh = registration::grants(members.get("grant_types"))?;
    registration::responses(members.get("response_types"))?;
    Ok(ClientRegistration {
        name: Some(name.chars().take(MAX_NAME_CHARS).collect()),
        redirect_uris: registration::redirects(members.get("redirect_uris"))?,
        auth_method: ClientAuthMethod::None,
        may_refresh,
    })
}

/// Accepts `none`, or a method without a shared secret if `none` is offered too. A missing method
/// means `none`, unless the client publishes keys: then it wants to authenticate with them.
fn is_public(members: &Map<String, Value>) -> Result<(), ClientMetadataError> {
    let has = |name: &str| members.get(name).is_some_and(|value| !value.is_null());
    if has("client_secret") || has("client_secret_expires_at") {
        return Err(ClientMetadataError::HoldsSecret);
    }
    let offers_none = members
        .get("token_endpoint_auth_methods_supported")
        .and_then(Value::as_array)
        .is_some_and(|methods| methods.iter().any(|method| method.as_str() == Some("none")));
    match text(members, "token_endpoint_auth_method") {
        Some("none") => Ok(()),
        Some(method @ ("client_secret_basic" | "client_secret_post" | "client_secret_jwt")) => {
            Err(ClientMetadataError::AuthMethod(method.into()))
        }
        Some(_) if offers_none => Ok(()),
        Some(method) => Err(ClientMetadataError::AuthMethod(printable(method))),
        None if offers_none || !(has("jwks") || has("jwks_uri")) => Ok(()),
        None => Err(ClientMetadataError::AuthMethod("private_key_jwt".into())),
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn printable(text: &str) -> String {
    text.chars().take(100).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "https://app.example/client.json";

    fn url(text: &str) -> ClientIdUrl {
        ClientIdUrl::parse(text, false).unwrap()
    }

    /// The usual document with `members` added or replaced. The value `absent` removes a member.
    fn document(members: &str) -> Result<ClientRegistration, ClientMetadataError> {
        let mut object: Map<String, Value> = serde_json::from_str(&format!(
            r#"{{"client_id":"{HERE}","client_name":"App","redirect_uris":["https://app.example/cb"]}}"#
        ))
        .unwrap();
        object.extend(serde_json::from_str::<Map<String, Value>>(members).unwrap());
        object.retain(|_, value| value != "absent");
        parse_document(&url(HERE), &serde_json::to_vec(&object).unwrap())
    }

    #[test]
    fn client_ids_of_real_clients_are_accepted_as_metadata_urls() {
        for text in [
            "https://claude.ai/oauth/claude-code-client-metadata",
            "https://vscode.dev/oauth/client-metadata.json",
            "https://github.com/copilot/cli/client-metadata.json",
            "https://chatgpt.com/oauth/abc/client.json",
            "https://app.example:8443/c?v=1",
        ] {
            assert!(is_url(text) && ClientIdUrl::parse(text, false).is_ok(), "{text}");
        }
        assert!(!is_url("gwc_abc") && !is_url("httpsx") && is_url("HTTPS://a/b"));
    }

    #[test]
    fn an_ambiguous_client_id_url_is_refused() {
        for (text, expected) in [
            ("https://app.example", ClientIdUrlError::NoPath),
            ("https://app.example/", ClientIdUrlError::NoPath),
            ("https://app.example?x=1", ClientIdUrlError::NoPath),
            ("http://app.example/c", ClientIdUrlError::NotHttps),
            ("http://127.0.0.1/c", ClientIdUrlError::NotHttps),
            ("https://app.example/c?", ClientIdUrlError::NotNormal),
            ("https://app.example:/c", ClientIdUrlError::NotNormal),
            ("https://app.example:443/c", ClientIdUrlError::NotNormal),
            ("https://APP.example/c", ClientIdUrlError::NotNormal),
            ("HTTPS://app.example/c", ClientIdUrlError::NotNormal),
            ("https:/app.example/c", ClientIdUrlError::Text(UrlError::NotAbsolute)),
            ("https:///app.example/c", ClientIdUrlError::Text(UrlError::NotAbsolute)),
            ("https://0x7f.1/c", ClientIdUrlError::NotNormal),
            ("https://2130706433/c", ClientIdUrlError::NotNormal),
            ("https://app.example/c#x", ClientIdUrlError::Text(UrlError::Fragment)),
            ("https://app.example/c#", ClientIdUrlError::Text(UrlError::Fragment)),
            ("https://u@app.example/c", ClientIdUrlError::Text(UrlError::UserInfo)),
            ("https://app.example/a/../c", ClientIdUrlError::Text(UrlError::DotSegment)),
            ("https://app.example/./c", ClientIdUrlError::Text(UrlError::DotSegment)),
            ("https://app.example/%2e%2E/c", ClientIdUrlError::Text(UrlError::DotSegment)),
        ] {
            assert_eq!(ClientIdUrl::parse(text, false), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_plain_http_client_id_is_accepted_only_on_loopback() {
        assert!(ClientIdUrl::parse("http://127.0.0.1:9/c", true).is_ok());
        assert!(ClientIdUrl::parse("http://localhost:9/c", true).is_ok());
        assert_eq!(ClientIdUrl::parse("http://10.0.0.1/c", true), Err(ClientIdUrlError::NotHttps));
        assert_eq!(ClientIdUrl::parse("http://127.0.0.1:9/c", false), Err(ClientIdUrlError::NotHttps));
    }

    #[test]
    fn only_an_https_redirect_can_share_the_host_of_its_client_id() {
        let is_same_host = |redirect: &str| url(HERE).is_same_host_as(&RedirectUri::parse(redirect).unwrap());
        assert!(is_same_host("https://app.example/cb") && is_same_host("https://APP.example/cb"));
        for other in [
            "https://app.example.evil/cb",
            "https://app.example:8443/cb",
            "https://x.app.example/cb",
            "http://127.0.0.1/cb",
            "app.example:/cb",
            "x://app.example/cb",
        ] {
            assert!(!is_same_host(other), "{other}");
        }
        let on_port = url("https://app.example:8443/c.json");
        for (redirect, is_same) in [("https://app.example:8443/cb", true), ("https://app.example/cb", false)] {
            assert_eq!(
                on_port.is_same_host_as(&RedirectUri::parse(redirect).unwrap()),
                is_same,
                "{redirect}"
            );
        }
        let local = ClientIdUrl::parse("https://localhost/c", true).unwrap();
        assert!(!local.is_same_host_as(&RedirectUri::parse("https://localhost/cb").unwrap()));
    }

    #[test]
    fn a_metadata_document_must_contain_its_own_url_exactly() {
        assert!(document("{}").is_ok());
        for other in [
            "https://app.example/client.json?",
            "https://APP.example/client.json",
            "https://evil.example/c",
            HERE.get(..30).unwrap(),
        ] {
            assert!(
                matches!(
                    document(&format!(r#"{{"client_id":"{other}"}}"#)),
                    Err(ClientMetadataError::OtherClient(_))
                ),
                "{other}"
            );
        }
        assert_eq!(document(r#"{"client_id":7}"#), Err(ClientMetadataError::Missing("client_id")));
    }

    #[test]
    fn a_metadata_document_requires_name_and_valid_redirect_uris() {
        assert_eq!(
            document(r#"{"client_name":"absent"}"#),
            Err(ClientMetadataError::Missing("client_name"))
        );
        assert_eq!(document(r#"{"client_name":""}"#), Err(ClientMetadataError::Missing("client_name")));
        for redirects in [
            r#""absent""#,
            "[]",
            r#"["http://evil.example/cb"]"#,
            r#"["javascript:alert(1)"]"#,
            r#"["https://a/#x"]"#,
        ] {
            let result = document(&format!(r#"{{"redirect_uris":{redirects}}}"#));
            assert!(
                matches!(result, Err(ClientMetadataError::Registration(_))),
                "{redirects}: {result:?}"
            );
        }
    }

    #[test]
    fn unknown_grant_types_in_a_metadata_document_are_ignored() {
        let result = document(r#"{"grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"]}"#);
        assert!(result.unwrap().may_refresh);
        assert!(document(r#"{"grant_types":["client_credentials"]}"#).is_err());
    }

    #[test]
    fn a_metadata_document_must_describe_a_public_client() {
        for valid in [
            r#"{"token_endpoint_auth_method":"none"}"#,
            r#"{"token_endpoint_auth_method":"none","jwks_uri":"https://app.example/jwks"}"#,
            r#"{"token_endpoint_auth_method":"private_key_jwt","token_endpoint_auth_methods_supported":["private_key_jwt","none"]}"#,
            r#"{"client_secret":null}"#,
        ] {
            assert_eq!(
                document(valid).map(|client| client.auth_method),
                Ok(ClientAuthMethod::None),
                "{valid}"
            );
        }
        for invalid in [
            r#"{"token_endpoint_auth_method":"client_secret_basic"}"#,
            r#"{"token_endpoint_auth_method":"client_secret_post","token_endpoint_auth_methods_supported":["none"]}"#,
            r#"{"token_endpoint_auth_method":"private_key_jwt"}"#,
            r#"{"jwks_uri":"https://app.example/jwks"}"#,
            r#"{"client_secret":"s"}"#,
            r#"{"client_secret_expires_at":0}"#,
        ] {
            assert!(document(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn a_metadata_document_must_be_a_shallow_json_object() {
        let nested = format!(r#"{{"x":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
        for body in ["", "[]", "null", "\u{feff}{}", nested.as_str()] {
            assert_eq!(parse_document(&url(HERE), body.as_bytes()), Err(ClientMetadataError::NotJson));
        }
    }
}
