//! FLOOR 4. What stands behind us, and how it is unlocked: three choices for each service.
//!
//! | choice | asks |
//! | --- | --- |
//! | [`Access`] | what must the caller present? |
//! | [`Login`] | who is the user, before consent? |
//! | [`Upstream`] | what is put on the forwarded request, and where must the browser still go for it? |

pub mod auth_header;
pub mod auth_server_config;
pub mod client;
pub mod identity_headers;
pub mod public_urls;
pub mod static_credential;

use http::HeaderValue;
use http::header::{AUTHORIZATION, HeaderName};

use crate::base::secret::Secret;
use crate::base::url::ExactUrl;
use crate::oauth::scope::Scopes;
use crate::service::auth_header::PasteSettings;
use crate::service::auth_server_config::AuthServerConfig;
use crate::service::identity_headers::IdentityHeaders;
use crate::service::static_credential::StaticCredential;
use crate::token::header::{PayloadKind, ServiceDigest, TokenMode};
use crate::token::lifetime::Ttl;

/// Whether a service may have this name: `^[a-z0-9][a-z0-9-]{0,62}$`, and no word that stands in a path of ours.
pub fn is_name(text: &str) -> bool {
    const RESERVED: [&str; 16] = [
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
    ];
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') && !RESERVED.contains(&text)
}

/// One configured upstream.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name: `default` for the anonymous one of the command line.
    pub name: String,
    /// The mark that its tokens carry; whoever runs it makes it [`Service::token_service_digest`].
    pub digest: ServiceDigest,
    /// What the operator calls it before people.
    pub title: Option<String>,
    /// It is also at `/mcp`.
    pub is_default: bool,
    /// The upstream MCP server, byte for byte as configured.
    pub mcp: ExactUrl,
    /// What the caller must present.
    pub access: Access,
    /// Who the user is, before consent.
    pub login: Login,
    /// What is put on the forwarded request.
    pub upstream: Upstream,
    /// How pairs are protected.
    pub mode: TokenMode,
    /// Lifetimes of our tokens.
    pub ttl: Ttl,
    /// How long a superseded refresh pair still works, in seconds.
    pub refresh_grace: u64,
    /// Scopes asked of the upstream; empty = what it says it needs.
    pub scopes: Scopes,
    /// Scopes that a client may ask for beyond those.
    pub optional_scopes: Scopes,
    /// Scopes that a token must have here, or the caller is told to step up (RFC 6750 §3.1).
    pub required_scopes: Scopes,
    /// Further request headers that pass.
    pub forward_headers: Vec<HeaderName>,
    /// Users of trusted clients are asked once only.
    pub remember_consent: bool,
}

/// What the caller must present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A token of this gateway's authorization server.
    OAuth,
    /// An API key that the operator made.
    Key,
    /// Nothing.
    Public,
}

/// Who the user is, before consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Somebody with a password here.
    Password,
    /// Somebody whom the identity provider of this name vouches for.
    Idp(String),
    /// Nobody is asked: what opens the upstream is proof enough.
    None,
}

/// What is put on the forwarded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// A token of the upstream's own authorization server, got by OAuth.
    OAuth(Box<AuthServerConfig>),
    /// A key or token that the user pastes.
    Paste(PasteSettings),
    /// A credential of the service, the same for everybody.
    Static(StaticCredential),
    /// Who the user is, for a backend that trusts us.
    Identity(IdentityHeaders),
    /// Nothing.
    None,
}

/// Where the browser must still go after it consented here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterConsent<'a> {
    /// To the upstream's authorization server.
    Upstream,
    /// Nowhere, once the form of the consent page brought what the upstream takes.
    Form(&'a PasteSettings),
    /// Nowhere: the code is issued.
    Nowhere,
}

/// What goes on the forwarded request of ours.
#[derive(Clone, Debug)]
pub enum UpstreamHeaders {
    /// Nothing.
    Nothing,
    /// One header.
    One([(HeaderName, HeaderValue); 1]),
    /// Several.
    Many(Vec<(HeaderName, HeaderValue)>),
}

impl UpstreamHeaders {
    /// As a list.
    pub fn as_slice(&self) -> &[(HeaderName, HeaderValue)] {
        match self {
            Self::Nothing => &[],
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

impl Service {
    /// The host that the user will sign in behind, for pages.
    pub fn host(&self) -> &str {
        self.mcp.url().host_str().unwrap_or("")
    }

    /// The mark that its tokens carry: of its name, and, where they carry what opens the upstream for a user, of the
    /// upstream's origin, so that another one under the same name is never shown it.
    pub fn token_service_digest(&self) -> ServiceDigest {
        match self.upstream {
            Upstream::OAuth(_) | Upstream::Paste(_) => ServiceDigest::of(&format!("{} {}", self.name, self.mcp.origin())),
            Upstream::Static(_) | Upstream::Identity(_) | Upstream::None => ServiceDigest::of(&self.name),
        }
    }

    /// What the pages call it.
    pub fn display_name(&self) -> String {
        match &self.title {
            Some(title) => format!("{title} ({})", self.host()),
            None if self.is_default => self.host().to_owned(),
            None => format!("{} ({})", self.name, self.host()),
        }
    }

    /// The host at which the user signs in after consent; empty if nowhere.
    pub fn upstream_login_host(&self) -> &str {
        match self.upstream.after_consent() {
            AfterConsent::Upstream => self.host(),
            AfterConsent::Form(_) | AfterConsent::Nowhere => "",
        }
    }

    /// Whether something is signed for it that others may verify.
    pub fn needs_signing_keys(&self) -> bool {
        self.mode == TokenMode::Jwt || matches!(&self.upstream, Upstream::Identity(chosen) if chosen.has_assertion())
    }

    /// What it is called in metadata.
    pub fn title(&self) -> String {
        match &self.title {
            Some(title) => title.clone(),
            None if self.name == "default" => "MCP OAuth Gateway".to_owned(),
            None => format!("{} (MCP OAuth Gateway)", self.name),
        }
    }
}

impl Upstream {
    /// Where the browser must still go after it consented here.
    pub fn after_consent(&self) -> AfterConsent<'_> {
        match self {
            Self::OAuth(_) => AfterConsent::Upstream,
            Self::Paste(paste) => AfterConsent::Form(paste),
            Self::Static(_) | Self::Identity(_) | Self::None => AfterConsent::Nowhere,
        }
    }

    /// Whether the upstream cannot tell our users apart, so that somebody else's session would be anybody's.
    pub fn is_shared_identity(&self) -> bool {
        match self {
            Self::Static(_) | Self::None => true,
            Self::OAuth(_) | Self::Paste(_) | Self::Identity(_) => false,
        }
    }

    /// Whether a refresh pair that carries this renews access here. One of before the service was configured anew does not:
    /// its access pair would be refused, and its client would go in circles.
    pub fn accepts_payload(&self, carried: PayloadKind) -> bool {
        match self {
            Self::OAuth(_) => matches!(carried, PayloadKind::Refresh | PayloadKind::Access | PayloadKind::Reference),
            Self::Paste(_) => matches!(carried, PayloadKind::Access | PayloadKind::Reference),
            Self::Static(_) | Self::Identity(_) | Self::None => carried == PayloadKind::Nothing,
        }
    }

    /// What goes on the forwarded request instead of the client's token. Only what an opened pair carried can be put
    /// here, so passing the client's token on cannot be written. `None`: the pair carries something else than is needed.
    pub fn headers(&self, carried: PayloadKind, upstream: &Secret) -> Option<UpstreamHeaders> {
        match (self, carried) {
            (Self::OAuth(_), PayloadKind::Access) => Some(UpstreamHeaders::One([(AUTHORIZATION, bearer(upstream)?)])),
            (Self::Paste(paste), PayloadKind::Access) => {
                Some(UpstreamHeaders::One([(paste.header.name().clone(), paste.header.value(upstream)?)]))
            }
            (Self::Static(fixed), PayloadKind::Nothing) => Some(UpstreamHeaders::One([fixed.header()])),
            (Self::Identity(chosen), PayloadKind::Identity) => Some(UpstreamHeaders::Many(chosen.headers(upstream)?)),
            (Self::None, PayloadKind::Nothing) => Some(UpstreamHeaders::Nothing),
            (Self::OAuth(_) | Self::Paste(_) | Self::Static(_) | Self::Identity(_) | Self::None, _) => None,
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

    const CARRIED: [PayloadKind; 4] = [
        PayloadKind::Access,
        PayloadKind::Refresh,
        PayloadKind::Identity,
        PayloadKind::Nothing,
    ];

    fn every_way() -> [(Upstream, PayloadKind, &'static str); 5] {
        let header = AuthHeader::parse("X-Api-Key", "{credential}").unwrap();
        let fixed = StaticCredential::new(&header, &Secret::from("fixed")).unwrap();
        let paste = PasteSettings {
            header,
            hint: String::new(),
        };
        let told = IdentityHeaders::parse(["id"]).unwrap();
        [
            (
                Upstream::OAuth(Box::default()),
                PayloadKind::Access,
                "authorization: Bearer carried",
            ),
            (Upstream::Paste(paste), PayloadKind::Access, "x-api-key: carried"),
            (Upstream::Static(fixed), PayloadKind::Nothing, "x-api-key: fixed"),
            (Upstream::Identity(told), PayloadKind::Identity, "x-user-id: 4711"),
            (Upstream::None, PayloadKind::Nothing, ""),
        ]
    }

    #[test]
    fn each_way_sends_what_is_its_own_of_what_it_needs_and_takes_nothing_else() {
        for (upstream, needs, sent) in every_way() {
            for carried in CARRIED {
                let text = if carried == PayloadKind::Identity {
                    r#"{"id":"4711","provider":"corp"}"#
                } else {
                    "carried"
                };
                let ours = upstream.headers(carried, &Secret::from(text));
                assert_eq!(ours.is_some(), carried == needs, "{upstream:?}, {carried:?}");
                let Some(ours) = ours else { continue };
                let lines = ours.as_slice().iter();
                let lines: Vec<String> = lines.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
                assert_eq!(lines.join(", "), sent);
            }
        }
    }

    #[test]
    fn a_refresh_pair_of_another_way_renews_nothing() {
        let renewing = |upstream: &Upstream| CARRIED.map(|carried| upstream.accepts_payload(carried));
        for (upstream, _, _) in every_way() {
            let expected = match &upstream {
                Upstream::OAuth(_) => [true, true, false, false],
                Upstream::Paste(_) => [true, false, false, false],
                Upstream::Static(_) | Upstream::Identity(_) | Upstream::None => [false, false, false, true],
            };
            assert_eq!(renewing(&upstream), expected, "{upstream:?}");
        }
    }

    #[test]
    fn a_fixed_key_prints_nothing_of_itself_in_a_service() {
        assert!(!format!("{:?}", every_way()).contains("\"fixed\""));
    }
}
