//! OpenID Connect Discovery: the URL of a provider's document, and the members that login needs.

use serde::Deserialize;

use crate::base::secret::{Secret, at_rest_option};
use crate::base::url::ExactUrl;
use crate::oauth::metadata::{AuthorizationServer, MetadataError, MetadataWaivers, Purpose, object, secure, text};

/// Metadata of a provider (OpenID Connect Discovery, section 3), as far as the gateway uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenIdConfiguration {
    /// Members that any authorization server has.
    pub server: AuthorizationServer,
    /// URL of the provider's keys.
    pub jwks: ExactUrl,
    /// UserInfo endpoint, which can return more about a user than the ID token.
    pub userinfo: Option<ExactUrl>,
}

impl OpenIdConfiguration {
    /// Parses the document of `issuer`, compared byte for byte, which was fetched from `url`. PKCE is sent even
    /// if not announced. If both URLs are https, no endpoint may be plain http.
    pub fn parse(body: &[u8], issuer: &ExactUrl, url: &ExactUrl) -> Result<Self, MetadataError> {
        let waivers = MetadataWaivers {
            pkce: true,
            root_slash: false,
            issuers: &[],
            purpose: Purpose::UserSignIn,
            plain_http: url.url().scheme() == "http",
        };
        let server = AuthorizationServer::parse(body, issuer, waivers)?;
        let document = object(body)?;
        let plain_http = waivers.plain_http || issuer.url().scheme() == "http";
        let endpoint = |member| text(&document, member).map(|url| secure(member, url, plain_http)).transpose();
        Ok(Self {
            server,
            jwks: endpoint("jwks_uri")?.ok_or(MetadataError::Missing("jwks_uri"))?,
            userinfo: endpoint("userinfo_endpoint")?,
        })
    }
}

/// URL of the document of `issuer` (OpenID Connect Discovery, section 4): appended to its path.
pub fn configuration_url(issuer: &ExactUrl) -> String {
    let path = issuer.url().path().trim_end_matches('/');
    format!("{}{path}/.well-known/openid-configuration", issuer.origin())
}

/// The ID token in a token response (OpenID Connect Core, section 3.1.3.3).
pub fn id_token(body: &[u8]) -> Option<Secret> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default, with = "at_rest_option")]
        id_token: Option<Secret>,
    }
    let response: Answer = serde_json::from_slice(body).ok()?;
    response.id_token
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(issuer: &str, changes: &Value) -> Result<OpenIdConfiguration, MetadataError> {
        let mut document = json!({
            "issuer": "https://idp/tenant",
            "authorization_endpoint": "https://idp/authorize",
            "token_endpoint": "https://idp/token",
            "jwks_uri": "https://keys.example/jwks",
        });
        for (name, value) in changes.as_object().unwrap() {
            document[name] = value.clone();
        }
        let issuer = ExactUrl::parse(issuer).unwrap();
        OpenIdConfiguration::parse(document.to_string().as_bytes(), &issuer, &issuer)
    }

    #[test]
    fn an_openid_configuration_must_name_the_requested_issuer() {
        let configuration = read("https://idp/tenant", &json!({})).unwrap();
        assert_eq!(
            (configuration.jwks.as_str(), configuration.userinfo),
            ("https://keys.example/jwks", None)
        );
        for other in ["https://idp/tenant/", "https://idp", "https://IDP/tenant"] {
            assert!(matches!(read(other, &json!({})), Err(MetadataError::OtherIssuer { .. })), "{other}");
        }
        assert_eq!(
            read("https://idp/tenant", &json!({"jwks_uri": ""})),
            Err(MetadataError::Missing("jwks_uri"))
        );
        let plain_http = read("https://idp/tenant", &json!({"jwks_uri": "http://idp/jwks"}));
        assert_eq!(plain_http, Err(MetadataError::NotSecure("jwks_uri")));
    }

    #[test]
    fn the_openid_configuration_url_appends_to_the_issuer_path() {
        for (issuer, url) in [
            ("https://idp", "https://idp/.well-known/openid-configuration"),
            ("https://idp/", "https://idp/.well-known/openid-configuration"),
            ("https://idp/a/b", "https://idp/a/b/.well-known/openid-configuration"),
        ] {
            assert_eq!(configuration_url(&ExactUrl::parse(issuer).unwrap()), url);
        }
    }
}
