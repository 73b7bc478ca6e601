//! A service: one configured upstream, with three choices about authentication.
//!
//! | choice | question |
//! | --- | --- |
//! | [`Access`] | what must the caller present? |
//! | [`Login`] | how does the user sign in before consent? |
//! | [`Upstream`] | what is the upstream credential, and where must the browser go for it? |

pub mod adapter_urls;
pub mod auth_header;
pub mod auth_server_config;
pub mod client;
pub mod config;
pub mod identity_headers;
pub mod password_user;
pub mod public_urls;
pub mod service_token;
pub mod static_credential;
pub mod stored_settings;
pub mod tool_policy;

use http::HeaderValue;
use http::header::{AUTHORIZATION, HeaderName};

use crate::base::secret::Secret;
use crate::base::url::ExactUrl;
use crate::oauth::metadata::Purpose;
use crate::oauth::scope::Scopes;
use crate::service::auth_header::PasteSettings;
use crate::service::auth_server_config::AuthServerConfig;
use crate::service::identity_headers::IdentityHeaders;
use crate::service::service_token::ServiceTokenSettings;
use crate::service::static_credential::StaticCredential;
use crate::service::stored_settings::StoredSettings;
use crate::service::tool_policy::ToolPolicy;
use crate::token::header::{PayloadKind, ServiceDigest, TokenMode};
use crate::token::lifetime::{ReuseWindow, Ttl};
use crate::upstream::quirks::KnownEndpoints;

/// Whether a service may have this name: `^[a-z0-9][a-z0-9-]{0,62}$` and no reserved path segment.
pub fn is_name(text: &str) -> bool {
    const RESERVED: [&str; 20] = [
        "mcp",
        "oauth",
        "authorize",
        "token",
        "register",
        "revoke",
        "login",
        "consent",
        "upstream",
        "callback",
        "health",
        "services",
        "assets",
        "metrics",
        "introspect",
        "userinfo",
        "approvals",
        "openai",
        "anthropic",
        "k",
    ];
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') && !RESERVED.contains(&text)
}

/// Checks that a URL can be a resource.
///
/// # Errors
/// The text says what is wrong with it.
pub fn check_resource(url: &ExactUrl) -> Result<(), &'static str> {
    let is_usable = match url.url().scheme() {
        "https" => true,
        "http" => url.is_loopback(),
        _ => false,
    };
    if !is_usable {
        return Err("it is not an https URL, and plain http is possible only on this machine");
    }
    if url.url().query().is_some() {
        return Err("it has a query");
    }
    Ok(())
}

/// One configured upstream.
#[derive(Clone, Debug)]
pub struct Service {
    /// The service's name: `default` for the service of the command line.
    pub name: String,
    /// Binds tokens to this service. A running service has [`Service::token_service_digest`] here.
    pub digest: ServiceDigest,
    /// The title on pages and in metadata, if the operator chose one.
    pub title: Option<String>,
    /// Whether the service is also at `/mcp`.
    pub is_default: bool,
    /// The upstream MCP server, byte for byte as configured. With [`Access::Introspect`], the resource.
    pub mcp: ExactUrl,
    /// The credential that the caller must present.
    pub access: Access,
    /// The login of the user before consent.
    pub login: Login,
    /// The upstream credential.
    pub upstream: Upstream,
    /// The protection of pairs.
    pub mode: TokenMode,
    /// Lifetimes of the gateway's tokens.
    pub ttl: Ttl,
    /// The reuse window: how long a superseded refresh pair is accepted.
    pub reuse_window: ReuseWindow,
    /// The time for which two branches of one grant may both refresh, in seconds. `None`: without limit.
    pub parallel_limit: Option<u64>,
    /// After how many seconds a user of an identity provider signs in again, if the provider gave no
    /// refresh token. `None`: never.
    pub reauth_after: Option<u64>,
    /// Scopes to request from the upstream; if empty, those that the upstream says it needs.
    pub scopes: Scopes,
    /// Scopes that a client may request in addition.
    pub optional_scopes: Scopes,
    /// Scopes that a token needs here; otherwise the challenge is a step-up (RFC 6750 §3.1).
    pub required_scopes: Scopes,
    /// Headers of every forwarded request, which replace the client's.
    pub fixed_headers: Vec<(HeaderName, HeaderValue)>,
    /// Further request headers to forward.
    pub forward_headers: Vec<HeaderName>,
    /// Further response headers to forward.
    pub forward_response_headers: Vec<HeaderName>,
    /// The maximum number of streams that one grant or API key may have open at the same time. At a public service: one source.
    pub max_streams: usize,
    /// Whether a user's consent for a trusted client is remembered.
    pub remember_consent: bool,
    /// Whether the operator, or a document at its origin, vouches for the resource of an external
    /// service.
    pub is_resource_proven: bool,
    /// The tool policy. Without one, the gateway reads no body. Boxed: rare, and its size.
    pub tools: Option<Box<ToolPolicy>>,
}

/// The credential that the caller must present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A token of this gateway's authorization server.
    OAuth,
    /// An API key that the operator made.
    Key,
    /// The local key of this machine's user, or a token of this gateway's authorization server.
    Local,
    /// Nothing.
    Public,
    /// A token of this gateway's authorization server, which the resource server itself checks: the
    /// gateway does not proxy it.
    Introspect,
}

impl Access {
    /// Whether the key of an adapter is enough to call the service. Elsewhere the request has a token.
    pub fn is_open_to_adapters(self) -> bool {
        matches!(self, Self::Local | Self::Public)
    }
}

/// The login of the user before consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// With a password of this gateway.
    Password,
    /// At the identity provider of this name.
    Idp(String),
    /// Not at all: a login at the upstream, or a pasted credential, is enough.
    None,
}

/// The upstream credential: what is put on the forwarded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// A token of the upstream AS, obtained by OAuth.
    OAuth(Box<AuthServerConfig>),
    /// A key or token that the user pastes.
    Paste(PasteSettings),
    /// A credential of the service, the same for every user.
    Static(StaticCredential),
    /// A credential of the service that the operator obtained with a command. The store has it.
    Stored(Box<StoredSettings>),
    /// A token of the service, which the gateway obtains itself. It is only in memory.
    ServiceToken(Box<ServiceTokenSettings>),
    /// Identity headers, for a backend that trusts the gateway.
    Identity(IdentityHeaders),
    /// Nothing.
    None,
}

/// The step after consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterConsent<'a> {
    /// To the upstream AS.
    Upstream,
    /// No further step: the consent form also asks for the credential.
    Form(&'a PasteSettings),
    /// Nowhere: the code is issued.
    Nowhere,
}

/// The upstream credential as headers of the forwarded request.
#[derive(Clone, Debug)]
pub enum UpstreamHeaders {
    /// No header.
    Nothing,
    /// One header.
    One([(HeaderName, HeaderValue); 1]),
    /// Several headers.
    Many(Vec<(HeaderName, HeaderValue)>),
}

impl UpstreamHeaders {
    /// The headers as a slice.
    pub fn as_slice(&self) -> &[(HeaderName, HeaderValue)] {
        match self {
            Self::Nothing => &[],
            Self::One(header) => header,
            Self::Many(headers) => headers,
        }
    }
}

impl Access {
    /// The maximum number of open streams of one grant or API key, or of one source, unless configured.
    pub fn default_max_streams(self) -> usize {
        match self {
            Self::OAuth | Self::Key | Self::Local | Self::Introspect => 64,
            Self::Public => 16,
        }
    }

    /// Whether programs of this machine may call with the local key.
    pub fn accepts_local_key(self) -> bool {
        match self {
            Self::Local => true,
            Self::OAuth | Self::Key | Self::Public | Self::Introspect => false,
        }
    }

    /// Whether clients get tokens of this gateway's authorization server.
    pub fn issues_tokens(self) -> bool {
        match self {
            Self::OAuth | Self::Local | Self::Introspect => true,
            Self::Key | Self::Public => false,
        }
    }
}

impl Service {
    /// The upstream's host, as pages show it.
    pub fn host(&self) -> &str {
        self.mcp.url().host_str().unwrap_or("")
    }

    /// The digest of the service's name, which its tokens carry. For per-user upstream credentials
    /// it includes the upstream's origin, so another upstream of the same name never receives them.
    pub fn token_service_digest(&self) -> ServiceDigest {
        if self.is_external() {
            return ServiceDigest::of(&format!("{} {}", self.name, self.mcp));
        }
        match self.upstream {
            Upstream::OAuth(_) | Upstream::Paste(_) => ServiceDigest::of(&format!("{} {}", self.name, self.mcp.origin())),
            Upstream::Static(_) | Upstream::Stored(_) | Upstream::ServiceToken(_) | Upstream::Identity(_) | Upstream::None => {
                ServiceDigest::of(&self.name)
            }
        }
    }

    /// The title or name on pages, with the upstream's host.
    pub fn display_name(&self) -> String {
        match &self.title {
            Some(title) => format!("{title} ({})", self.host()),
            None if self.is_default => self.host().to_owned(),
            None => format!("{} ({})", self.name, self.host()),
        }
    }

    /// Whether the gateway needs a client id at the upstream that is not configured: without metadata,
    /// it cannot register there.
    pub fn needs_client_id(&self) -> bool {
        self.endpoints_without_metadata()
            .is_some_and(|(config, _)| config.client_id.is_none())
    }

    /// Whether the upstream is known to require a client secret, and only a client id is configured.
    pub fn lacks_client_secret(&self) -> bool {
        self.endpoints_without_metadata().is_some_and(|(config, endpoints)| {
            let has_proof = config.client_secret.is_some() || config.client_key.is_some();
            config.client_id.is_some() && !has_proof && !endpoints.auth_methods.contains(&"none")
        })
    }

    fn endpoints_without_metadata(&self) -> Option<(&AuthServerConfig, &'static KnownEndpoints)> {
        match &self.upstream {
            Upstream::OAuth(config) => Some((config, config.profile_of(&self.mcp).endpoints.as_ref()?)),
            Upstream::Stored(settings) => {
                let config = &settings.auth_server;
                Some((config, config.profile_of(&self.mcp).endpoints.as_ref()?))
            }
            // Of a service token, the configuration names the client already, or the grant does.
            Upstream::ServiceToken(_) | Upstream::Paste(_) | Upstream::Static(_) | Upstream::Identity(_) | Upstream::None => None,
        }
    }

    /// Whether the gateway signs JWTs or user assertions for this service.
    pub fn needs_signing_keys(&self) -> bool {
        let signs_assertions = matches!(&self.upstream, Upstream::Identity(identity) if identity.has_assertion());
        self.mode == TokenMode::Jwt || signs_assertions || self.is_external()
    }

    /// Whether the MCP server is elsewhere and checks tokens itself. Its URL is then `mcp`.
    pub fn is_external(&self) -> bool {
        self.access == Access::Introspect
    }

    /// The service's name in metadata.
    pub fn title(&self) -> String {
        match &self.title {
            Some(title) => title.clone(),
            None if self.name == "default" => "MCP OAuth Gateway".to_owned(),
            None => format!("{} (MCP OAuth Gateway)", self.name),
        }
    }
}

impl Upstream {
    /// The step after consent.
    pub fn after_consent(&self) -> AfterConsent<'_> {
        match self {
            Self::OAuth(_) => AfterConsent::Upstream,
            Self::Paste(paste) => AfterConsent::Form(paste),
            Self::Static(_) | Self::Stored(_) | Self::ServiceToken(_) | Self::Identity(_) | Self::None => AfterConsent::Nowhere,
        }
    }

    /// What the gateway needs of the upstream's authorization server.
    pub fn discovery_purpose(&self) -> Purpose {
        match self {
            Self::ServiceToken(_) => Purpose::ServiceToken,
            Self::OAuth(_) | Self::Paste(_) | Self::Static(_) | Self::Stored(_) | Self::Identity(_) | Self::None => Purpose::UserSignIn,
        }
    }

    /// Whether the upstream cannot tell users apart, so any user could use another user's session.
    pub fn is_shared_identity(&self) -> bool {
        match self {
            Self::Static(_) | Self::Stored(_) | Self::ServiceToken(_) | Self::None => true,
            Self::OAuth(_) | Self::Paste(_) | Self::Identity(_) => false,
        }
    }

    /// Whether a refresh pair with this payload can be refreshed here. A pair from before a change
    /// of `upstream` cannot: its new access pair would be refused, and the client would loop.
    pub fn accepts_payload(&self, kind: PayloadKind) -> bool {
        match self {
            Self::OAuth(_) => matches!(kind, PayloadKind::Refresh | PayloadKind::Access | PayloadKind::Reference),
            Self::Paste(_) => matches!(kind, PayloadKind::Access | PayloadKind::Reference),
            Self::Static(_) | Self::Stored(_) | Self::ServiceToken(_) | Self::Identity(_) | Self::None => kind == PayloadKind::Nothing,
        }
    }

    /// The upstream credential, made only from an opened pair's payload: the client's own token is
    /// not available and cannot be forwarded. `None` for a payload of another kind.
    pub fn headers(&self, kind: PayloadKind, payload: &Secret) -> Option<UpstreamHeaders> {
        match (self, kind) {
            (Self::OAuth(_), PayloadKind::Access) => Some(UpstreamHeaders::One([(AUTHORIZATION, bearer(payload)?)])),
            (Self::Paste(settings), PayloadKind::Access) => Some(UpstreamHeaders::One([(
                settings.header.name().clone(),
                settings.header.value(payload)?,
            )])),
            (Self::Static(credential), PayloadKind::Nothing) => Some(UpstreamHeaders::One([credential.header()])),
            (Self::Identity(identity), PayloadKind::Identity) => Some(UpstreamHeaders::Many(identity.headers(payload)?)),
            // The credential of the service is put on the request once the caller is authenticated.
            (Self::Stored(_) | Self::ServiceToken(_) | Self::None, PayloadKind::Nothing) => Some(UpstreamHeaders::Nothing),
            (
                Self::OAuth(_)
                | Self::Paste(_)
                | Self::Static(_)
                | Self::Stored(_)
                | Self::ServiceToken(_)
                | Self::Identity(_)
                | Self::None,
                _,
            ) => None,
        }
    }
}

fn bearer(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::auth_header::AuthHeader;
    use crate::service::service_token::ServiceGrant;

    const CARRIED: [PayloadKind; 4] = [
        PayloadKind::Access,
        PayloadKind::Refresh,
        PayloadKind::Identity,
        PayloadKind::Nothing,
    ];

    fn every_way() -> [(Upstream, PayloadKind, &'static str); 7] {
        let header = AuthHeader::parse("X-Api-Key", "{credential}").unwrap();
        let credential = StaticCredential::new(&header, &Secret::from("fixed")).unwrap();
        let settings = PasteSettings {
            header,
            hint: String::new(),
        };
        let identity = IdentityHeaders::parse(["id"]).unwrap();
        let service_token = ServiceTokenSettings {
            auth_server: AuthServerConfig::default(),
            grant: ServiceGrant::ClientCredentials,
        };
        [
            (
                Upstream::OAuth(Box::default()),
                PayloadKind::Access,
                "authorization: Bearer carried",
            ),
            (Upstream::Paste(settings), PayloadKind::Access, "x-api-key: carried"),
            (Upstream::Static(credential), PayloadKind::Nothing, "x-api-key: fixed"),
            (Upstream::Identity(identity), PayloadKind::Identity, "x-user-id: 4711"),
            (Upstream::Stored(Box::default()), PayloadKind::Nothing, ""),
            (Upstream::ServiceToken(Box::new(service_token)), PayloadKind::Nothing, ""),
            (Upstream::None, PayloadKind::Nothing, ""),
        ]
    }

    #[test]
    fn each_upstream_credential_kind_builds_headers_only_from_its_payload() {
        for (upstream, expected_kind, expected_headers) in every_way() {
            for kind in CARRIED {
                let text = if kind == PayloadKind::Identity {
                    r#"{"id":"4711","provider":"corp"}"#
                } else {
                    "carried"
                };
                let headers = upstream.headers(kind, &Secret::from(text));
                assert_eq!(headers.is_some(), kind == expected_kind, "{upstream:?}, {kind:?}");
                let Some(headers) = headers else { continue };
                let lines = headers.as_slice().iter();
                let lines: Vec<String> = lines.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
                assert_eq!(lines.join(", "), expected_headers);
            }
        }
    }

    #[test]
    fn a_refresh_pair_with_another_payload_kind_is_refused() {
        let accepted = |upstream: &Upstream| CARRIED.map(|kind| upstream.accepts_payload(kind));
        for (upstream, _, _) in every_way() {
            let expected = match &upstream {
                Upstream::OAuth(_) => [true, true, false, false],
                Upstream::Paste(_) => [true, false, false, false],
                Upstream::Static(_) | Upstream::Stored(_) | Upstream::ServiceToken(_) | Upstream::Identity(_) | Upstream::None => {
                    [false, false, false, true]
                }
            };
            assert_eq!(accepted(&upstream), expected, "{upstream:?}");
        }
    }

    #[test]
    fn debug_output_of_a_service_hides_its_static_key() {
        assert!(!format!("{:?}", every_way()).contains("\"fixed\""));
    }
}
