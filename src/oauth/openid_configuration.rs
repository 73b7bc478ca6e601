//! OpenID Connect Discovery: where a provider's document lies, and what we need of it to sign users in.

use serde::Deserialize;

use crate::base::secret::Secret;
use crate::base::secret::at_rest_option;
use crate::base::url::ExactUrl;
use crate::oauth::metadata::AuthorizationServer;
use crate::oauth::metadata::MetadataError;
use crate::oauth::metadata::MetadataWaivers;
use crate::oauth::metadata::object;
use crate::oauth::metadata::secure;
use crate::oauth::metadata::text;

/// What a provider says of itself (OpenID Connect Discovery 3), as far as we use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenIdConfiguration {
    /// What it has in common with any authorization server.
    pub server: AuthorizationServer,
    /// Where its keys are.
    pub jwks: ExactUrl,
    /// Where more is said of a user.
    pub userinfo: Option<ExactUrl>,
}

impl OpenIdConfiguration {
    /// Reads the document that was found for `issuer`, which it must name byte for byte. PKCE is sent whether it is promised or not.
    pub fn parse(body: &[u8], issuer: &ExactUrl) -> Result<Self, MetadataError> {
        let waived = MetadataWaivers {
            pkce: true,
            root_slash: false,
            issuers: &[],
        };
        let server = AuthorizationServer::parse(body, issuer, waived)?;
        let document = object(body)?;
        let plain_http = issuer.url().scheme() == "http";
        let at = |member| text(&document, member).map(|url| secure(member, url, plain_http)).transpose();
        Ok(Self {
            server,
            jwks: at("jwks_uri")?.ok_or(MetadataError::Missing("jwks_uri"))?,
            userinfo: at("userinfo_endpoint")?,
        })
    }
}

/// Where the document of `issuer` lies (OpenID Connect Discovery 4): behind its path.
pub fn configuration_url(issuer: &ExactUrl) -> String {
    let path = issuer.url().path().trim_end_matches('/');
    format!("{}{path}/.well-known/openid-configuration", issuer.origin())
}

/// The ID token in the answer of a token endpoint (OpenID Connect Core 3.1.3.3).
pub fn id_token(body: &[u8]) -> Option<Secret> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default, with = "at_rest_option")]
        id_token: Option<Secret>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    answer.id_token
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

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
        OpenIdConfiguration::parse(document.to_string().as_bytes(), &ExactUrl::parse(issuer).unwrap())
    }

    #[test]
    fn a_document_is_believed_only_of_its_own_issuer() {
        let found = read("https://idp/tenant", &json!({})).unwrap();
        assert_eq!((found.jwks.as_str(), found.userinfo), ("https://keys.example/jwks", None));
        for other in ["https://idp/tenant/", "https://idp", "https://IDP/tenant"] {
            assert!(matches!(read(other, &json!({})), Err(MetadataError::OtherIssuer { .. })), "{other}");
        }
        assert_eq!(
            read("https://idp/tenant", &json!({"jwks_uri": ""})),
            Err(MetadataError::Missing("jwks_uri"))
        );
        let plain = read("https://idp/tenant", &json!({"jwks_uri": "http://idp/jwks"}));
        assert_eq!(plain, Err(MetadataError::NotSecure("jwks_uri")));
    }

    #[test]
    fn the_document_lies_behind_the_issuers_path() {
        for (issuer, url) in [
            ("https://idp", "https://idp/.well-known/openid-configuration"),
            ("https://idp/", "https://idp/.well-known/openid-configuration"),
            ("https://idp/a/b", "https://idp/a/b/.well-known/openid-configuration"),
        ] {
            assert_eq!(configuration_url(&ExactUrl::parse(issuer).unwrap()), url);
        }
    }
}
