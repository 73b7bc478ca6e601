//! One service: access, login, upstream credential, tokens and the rest.

use http::header::{HeaderName, HeaderValue};

use crate::base::url::ExactUrl;
use crate::config::choices::{self, UpstreamKind, access_word};
use crate::config::keys::service as key;
use crate::config::schema::{Key, kind};
use crate::config::section::Section;
use crate::config::spanned::{ConfigError, Spanned};
use crate::config::{external, forward_headers, tools, upstream};
use crate::oauth::scope::Scopes;
use crate::service::auth_server_config::RegistrationMethod;
use crate::service::{self, Access, Login, Service, Upstream};
use crate::token::header::{ServiceDigest, TokenMode};
use crate::token::lifetime::{PARALLEL_LIMIT_SECONDS, REAUTH_SECONDS, ReuseWindow, Ttl};

/// The longest title, in characters. Pages show the host after it, which must stay visible.
const LONGEST_TITLE: usize = 40;

/// The value of `token_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfiguredTokenMode {
    /// The upstream half is encrypted.
    Sealed,
    /// The client can read the upstream half.
    Plain,
    /// The upstream half is empty; the store holds the upstream's tokens.
    Reference,
    /// The access token is a signed JWT without an upstream half.
    Jwt,
    /// The access token is the upstream's own.
    Raw,
}

impl ConfiguredTokenMode {
    fn to_token_mode(self) -> TokenMode {
        match self {
            Self::Plain => TokenMode::Plain,
            Self::Reference => TokenMode::Reference,
            Self::Jwt => TokenMode::Jwt,
            #[cfg(feature = "raw")]
            Self::Raw => TokenMode::Raw,
            // Without the feature, the gateway refuses to serve.
            #[cfg(not(feature = "raw"))]
            Self::Raw => TokenMode::Sealed,
            Self::Sealed => TokenMode::Sealed,
        }
    }
}

/// A checked service. [`super::features`] lists what of it this build does not support.
#[derive(Clone, Debug)]
pub struct ParsedService {
    /// The service.
    pub service: Service,
    /// The token mode, also if this build does not support it.
    pub tokens: ConfiguredTokenMode,
}

/// Reads a key that has an effect only where clients get tokens. A key that is not read is refused.
fn only_oauth<T>(access: Access, read: impl FnOnce() -> Result<T, ConfigError>) -> Result<Option<T>, ConfigError> {
    access.issues_tokens().then(read).transpose()
}

/// Reads a key that has an effect only where the gateway forwards requests. A key that is not read is
/// refused.
fn proxied<T>(access: Access, read: impl FnOnce() -> Result<T, ConfigError>) -> Result<Option<T>, ConfigError> {
    (access != Access::Introspect).then(read).transpose()
}

fn upstream_url(section: &Section) -> Result<ExactUrl, ConfigError> {
    let url = section.get(&key::URL)?.ok_or_else(|| {
        let instead = match section.key_label(&key::URL).as_str() {
            flag @ "--upstream-rs" => format!("for instance {flag} https://api.githubcopilot.com/mcp/"),
            _ => "for instance url = \"https://api.githubcopilot.com/mcp/\"".to_owned(),
        };
        section.missing(&key::URL, "the upstream MCP server is missing", &instead)
    })?;
    Ok(url.value)
}

/// The URL of the MCP server: behind the gateway, or elsewhere.
fn server_url(section: &Section) -> Result<ExactUrl, ConfigError> {
    match section.get(&key::ACCESS)? {
        Some(access) if access.value == "introspect" => external::resource(section),
        Some(_) | None => upstream_url(section),
    }
}

/// The headers that are forwarded, and the limit of streams.
#[derive(Default)]
struct Forwarding {
    fixed: Vec<(HeaderName, HeaderValue)>,
    request: Vec<HeaderName>,
    response: Vec<HeaderName>,
    max_streams: Option<usize>,
}

fn forwarding(section: &Section, upstream: &Upstream) -> Result<Forwarding, ConfigError> {
    Ok(Forwarding {
        fixed: forward_headers::fixed_headers(section, upstream)?,
        request: forward_headers::request_headers(section)?,
        response: forward_headers::response_headers(section)?,
        max_streams: section.get(&key::MAX_STREAMS)?,
    })
}

/// The facts that decide a service's defaults, besides its section.
#[derive(Clone, Copy, Debug)]
pub struct ServiceContext<'a> {
    /// The names of the identity providers.
    pub idps: &'a [String],
    /// Whether the configuration has no other service.
    pub is_only_service: bool,
    /// Whether the gateway serves its own machine only.
    pub is_loopback: bool,
}

/// Reads a service, or fails at the wrong key.
pub fn service(section: &Section, context: ServiceContext<'_>) -> Result<ParsedService, ConfigError> {
    let name = section.name().to_owned();
    if !service::is_name(&name) {
        return Err(section.at.wrong(
            format!("'{name}' cannot be the name of a service"),
            "use small letters, digits and hyphens, 63 at most, and no word that stands in a path of ours, such as mcp or login",
        ));
    }
    let url = server_url(section)?;
    let (access, login, upstream_kind) = choices::parse_choices(section, context.idps)?;
    let upstream = upstream::upstream(section, upstream_kind)?;
    check_client_document(section, &upstream, context)?;
    let token_mode = token_mode(section, access, upstream_kind)?;
    let forwarding = proxied(access, || forwarding(section, &upstream))?.unwrap_or_default();
    let is_raw = token_mode == ConfiguredTokenMode::Raw;
    let tools = proxied(access, || tools::tool_policy(section, access, is_raw))?;
    let described = ParsedService {
        service: Service {
            digest: ServiceDigest::of(&name),
            title: title(section)?,
            is_default: is_default(section, context, upstream_kind)?,
            mcp: url,
            access,
            mode: token_mode.to_token_mode(),
            ttl: ttl(section, access)?,
            reuse_window: reuse_window(section, access)?,
            parallel_limit: parallel_limit(section, access, context.is_loopback)?,
            reauth_after: only_oauth(access, || reauth_after(section, &login, upstream_kind))?.flatten(),
            scopes: upstream_scopes(section, access, &upstream)?,
            optional_scopes: match access {
                Access::OAuth | Access::Introspect => scopes(section, &key::OPTIONAL_SCOPES)?,
                Access::Key | Access::Local | Access::Public => Scopes::default(),
            },
            required_scopes: match access {
                Access::Public => Scopes::default(),
                Access::OAuth | Access::Introspect | Access::Key | Access::Local => scopes(section, &key::REQUIRED_SCOPES)?,
            },
            fixed_headers: forwarding.fixed,
            forward_headers: forwarding.request,
            max_streams: forwarding.max_streams.unwrap_or(access.default_max_streams()),
            forward_response_headers: forwarding.response,
            upstream,
            remember_consent: access.issues_tokens() && remember_consent(section, &login, upstream_kind)?,
            login,
            tools: tools.flatten().map(Box::new),
            is_resource_proven: true,
            name,
        },
        tokens: token_mode,
    };
    if let Some((_, location)) = section.first_unread().filter(|(name, _)| *name != key::UPSTREAM_CA.info.name) {
        let what = format!(
            "it has no effect with access = \"{}\" and upstream = \"{}\"",
            access_word(access),
            upstream_kind.as_str()
        );
        return Err(location.wrong(what, "take it out"));
    }
    Ok(described)
}

/// The scopes that the gateway requests. Where it obtains a token itself, they are those of the token,
/// whoever calls.
fn upstream_scopes(section: &Section, access: Access, upstream: &Upstream) -> Result<Scopes, ConfigError> {
    if matches!(upstream, Upstream::ServiceToken(_)) {
        return scopes(section, &key::SCOPES);
    }
    Ok(only_oauth(access, || scopes(section, &key::SCOPES))?.unwrap_or_default())
}

/// No upstream reaches a document of a gateway that serves its own machine only.
fn check_client_document(section: &Section, upstream: &Upstream, context: ServiceContext<'_>) -> Result<(), ConfigError> {
    let registration = match upstream {
        Upstream::OAuth(config) => config.registration,
        Upstream::Stored(settings) => settings.auth_server.registration,
        Upstream::Paste(_) | Upstream::Static(_) | Upstream::ServiceToken(_) | Upstream::Identity(_) | Upstream::None => return Ok(()),
    };
    if registration == RegistrationMethod::Document && context.is_loopback {
        let what = "an upstream cannot fetch the gateway's document from this machine";
        let instead = "set public_url to an https address that the upstream reaches, or take it out";
        return Err(section.location(&key::REGISTRATION).wrong(what, instead));
    }
    Ok(())
}

fn reuse_window(section: &Section, access: Access) -> Result<ReuseWindow, ConfigError> {
    let configured = only_oauth(access, || section.get(&key::REFRESH_GRACE))?.flatten();
    Ok(configured.map(ReuseWindow::for_all_clients).unwrap_or_default())
}

/// A stored service is the default only if the file sets it: `add` must not change the address and the
/// callback of the service that was there alone.
fn is_default(section: &Section, context: ServiceContext<'_>, upstream_kind: UpstreamKind) -> Result<bool, ConfigError> {
    let configured = section.get(&key::DEFAULT)?;
    Ok(
        configured.map_or(context.is_only_service && upstream_kind != UpstreamKind::Stored, |spanned| {
            spanned.value
        }),
    )
}

fn parallel_limit(section: &Section, access: Access, is_loopback: bool) -> Result<Option<u64>, ConfigError> {
    let configured = only_oauth(access, || section.get(&key::PARALLEL_LIMIT))?.flatten();
    let default = (!is_loopback).then_some(PARALLEL_LIMIT_SECONDS);
    Ok(configured.or(default).filter(|seconds| *seconds > 0))
}

/// Refuses the key if no provider signs the users in. The default is off where the upstream knows the user.
fn reauth_after(section: &Section, login: &Login, upstream_kind: UpstreamKind) -> Result<Option<u64>, ConfigError> {
    let configured = section.get(&key::REAUTH_AFTER)?;
    let default = match (login, upstream_kind) {
        (Login::Password | Login::None, _) if configured.is_some() => {
            let what = "it has an effect only where an identity provider signs the users in";
            return Err(section
                .location(&key::REAUTH_AFTER)
                .wrong(what, "take it out, or use login = \"idp:<name>\""));
        }
        (Login::Password | Login::None, _) | (Login::Idp(_), UpstreamKind::OAuth) => 0,
        (
            Login::Idp(_),
            UpstreamKind::Paste
            | UpstreamKind::Static
            | UpstreamKind::Stored
            | UpstreamKind::ClientCredentials
            | UpstreamKind::WorkloadIdentity
            | UpstreamKind::Identity
            | UpstreamKind::None,
        ) => REAUTH_SECONDS,
    };
    Ok(Some(configured.unwrap_or(default)).filter(|seconds| *seconds > 0))
}

fn title(section: &Section) -> Result<Option<String>, ConfigError> {
    let Some(title) = section.get(&key::TITLE)? else {
        return Ok(None);
    };
    if title.value.chars().count() > LONGEST_TITLE || title.value.chars().any(char::is_control) {
        let what = format!("it is longer than {LONGEST_TITLE} characters, or has control characters in it");
        return Err(title.wrong(what, "write a short name on one line"));
    }
    Ok(Some(title.value))
}

/// Refuses the key if no user is known, or if the page asks for a credential each time.
fn remember_consent(section: &Section, login: &Login, upstream_kind: UpstreamKind) -> Result<bool, ConfigError> {
    let remembers = section.is_on(&key::REMEMBER_CONSENT)?;
    if !remembers {
        return Ok(false);
    }
    let location = section.location(&key::REMEMBER_CONSENT);
    match (login, upstream_kind) {
        (Login::None, _) => Err(location.wrong(
            "with login = \"none\" nobody is known whose consent could be remembered",
            "take it out, or use login = \"password\" or \"idp:<name>\"",
        )),
        (Login::Password | Login::Idp(_), UpstreamKind::Paste) => Err(location.wrong(
            "with upstream = \"paste\" the page asks for the user's key each time",
            "take it out",
        )),
        (
            Login::Password | Login::Idp(_),
            UpstreamKind::OAuth
            | UpstreamKind::Static
            | UpstreamKind::Stored
            | UpstreamKind::ClientCredentials
            | UpstreamKind::WorkloadIdentity
            | UpstreamKind::Identity
            | UpstreamKind::None,
        ) => Ok(true),
    }
}

/// The token mode of a service that the gateway does not proxy.
fn external_token_mode(section: &Section) -> Result<ConfiguredTokenMode, ConfigError> {
    let Some(spanned) = section.get(&key::TOKEN_MODE)? else {
        return Ok(ConfiguredTokenMode::Jwt);
    };
    match spanned.value {
        "jwt" => Ok(ConfiguredTokenMode::Jwt),
        "opaque" => Ok(ConfiguredTokenMode::Sealed),
        _ => Err(spanned.wrong(
            "the gateway does not proxy this service",
            "use token_mode = \"jwt\", or \"opaque\" for tokens that only the gateway can read",
        )),
    }
}

/// The upstream credentials with which access tokens can be JWTs: none of them is in the token.
const JWT_KINDS: [UpstreamKind; 6] = [
    UpstreamKind::Identity,
    UpstreamKind::None,
    UpstreamKind::Static,
    UpstreamKind::Stored,
    UpstreamKind::ClientCredentials,
    UpstreamKind::WorkloadIdentity,
];

fn token_mode(section: &Section, access: Access, upstream_kind: UpstreamKind) -> Result<ConfiguredTokenMode, ConfigError> {
    if !access.issues_tokens() {
        return Ok(ConfiguredTokenMode::Sealed);
    }
    if access == Access::Introspect {
        return external_token_mode(section);
    }
    let allows_passthrough = section.is_on(&key::ALLOW_TOKEN_PASSTHROUGH)?;
    let Some(spanned) = section.get(&key::TOKEN_MODE)? else {
        return Ok(ConfiguredTokenMode::Sealed);
    };
    let passthrough_error = |what: &str| {
        let allow = match section.key_label(&key::ALLOW_TOKEN_PASSTHROUGH).as_str() {
            flag @ "--allow-token-passthrough" => flag.to_owned(),
            _ => "allow_token_passthrough = true".to_owned(),
        };
        spanned.wrong(what, format!("use sealed, or add {allow} if you know why you need it"))
    };
    let check_kind = |mode, kinds: &[UpstreamKind]| {
        if kinds.contains(&upstream_kind) {
            return Ok(mode);
        }
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("\"{}\"", kind.as_str())).collect();
        let valid = format!(
            "token_mode = \"{}\" goes with upstream = {}; else use \"sealed\"",
            spanned.value,
            kinds.join(" or ")
        );
        Err(choices::conflict_error(
            section,
            (&key::UPSTREAM.info, upstream_kind.as_str()),
            (&key::TOKEN_MODE.info, spanned.value),
            &valid,
        ))
    };
    match spanned.value {
        "plain" if !allows_passthrough => Err(passthrough_error(
            "plain lets the client read the upstream's token, which MCP forbids",
        )),
        "raw" if !allows_passthrough => Err(passthrough_error("raw gives the client the upstream's token, which MCP forbids")),
        "opaque" => Err(spanned.wrong(
            "opaque goes with access = \"introspect\"",
            "use sealed, which no client can read either",
        )),
        "plain" => check_kind(ConfiguredTokenMode::Plain, &[UpstreamKind::OAuth, UpstreamKind::Paste]),
        "raw" => check_kind(ConfiguredTokenMode::Raw, &[UpstreamKind::OAuth, UpstreamKind::Paste]),
        "reference" => check_kind(ConfiguredTokenMode::Reference, &[UpstreamKind::OAuth, UpstreamKind::Paste]),
        "jwt" => check_kind(ConfiguredTokenMode::Jwt, &JWT_KINDS),
        _ => Ok(ConfiguredTokenMode::Sealed),
    }
}

fn ttl(section: &Section, access: Access) -> Result<Ttl, ConfigError> {
    let default = Ttl::default();
    if !access.issues_tokens() {
        return Ok(default);
    }
    let ttl = Ttl {
        access: section.get(&key::ACCESS_TTL)?.unwrap_or(default.access),
        refresh: section.get(&key::REFRESH_TTL)?.unwrap_or(default.refresh),
        absolute: section.get(&key::REFRESH_ABSOLUTE_TTL)?.unwrap_or(default.absolute),
    };
    if section.contains(&key::REFRESH_ABSOLUTE_TTL) && ttl.absolute < ttl.refresh {
        let what = format!("it is shorter than refresh_ttl ({} s)", ttl.refresh);
        return Err(section
            .location(&key::REFRESH_ABSOLUTE_TTL)
            .wrong(what, "make it longer, or make refresh_ttl shorter"));
    }
    Ok(ttl)
}

fn scopes(section: &Section, key: &'static Key<kind::Texts>) -> Result<Scopes, ConfigError> {
    let texts = section.get(key)?;
    let joined = || texts.iter().map(|text| text.value.as_str()).collect::<Vec<_>>().join(" ");
    let invalid = |text: &&Spanned<String>| Scopes::parse(&text.value).list() != [text.value.as_str()];
    if let Some(invalid) = texts.iter().find(invalid) {
        return Err(invalid.wrong(
            format!("'{}' cannot be a scope", invalid.value),
            "write each scope as a text of its own, without spaces or quotes in it",
        ));
    }
    Ok(Scopes::parse(&joined()))
}
