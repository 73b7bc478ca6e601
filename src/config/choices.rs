//! The three choices of a service, and their valid combinations.

use crate::config::keys::service as key;
use crate::config::schema::KeyInfo;
use crate::config::section::Section;
use crate::config::spanned::ConfigError;
use crate::service::{Access, Login};

/// The kind of upstream credential: the value of `upstream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamKind {
    /// `oauth`
    OAuth,
    /// `paste`
    Paste,
    /// `static`
    Static,
    /// `stored`
    Stored,
    /// `client_credentials`
    ClientCredentials,
    /// `workload_identity`
    WorkloadIdentity,
    /// `identity`
    Identity,
    /// `none`
    None,
}

impl UpstreamKind {
    /// Whether the configuration has the credential of the service itself, which no user obtains.
    fn is_of_service(self) -> bool {
        match self {
            Self::Static | Self::ClientCredentials | Self::WorkloadIdentity => true,
            Self::OAuth | Self::Paste | Self::Stored | Self::Identity | Self::None => false,
        }
    }

    /// The value in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OAuth => "oauth",
            Self::Paste => "paste",
            Self::Static => "static",
            Self::Stored => "stored",
            Self::ClientCredentials => "client_credentials",
            Self::WorkloadIdentity => "workload_identity",
            Self::Identity => "identity",
            Self::None => "none",
        }
    }
}

/// The value of `access`.
pub fn access_word(access: Access) -> &'static str {
    match access {
        Access::OAuth => "oauth",
        Access::Key => "key",
        Access::Local => "local",
        Access::Public => "public",
        Access::Introspect => "introspect",
    }
}

/// The value of `login`.
pub fn login_word(login: &Login) -> String {
    match login {
        Login::Password => "password".to_owned(),
        Login::Idp(name) => format!("idp:{name}"),
        Login::None => "none".to_owned(),
    }
}

/// Reads `access`, `login` and `upstream`. Fails if a value is unknown or two of them conflict.
pub fn parse_choices(service: &Section, idps: &[String]) -> Result<(Access, Login, UpstreamKind), ConfigError> {
    let (access, login) = (access(service)?, login(service, idps)?);
    let upstream_kind = way(service, access)?;
    let is_explicit = login.is_some();
    let login = login.unwrap_or(match access {
        Access::OAuth | Access::Local | Access::Introspect => Login::Password,
        Access::Key | Access::Public => Login::None,
    });
    let [access_key, login_key, upstream_key] = [&key::ACCESS.info, &key::LOGIN.info, &key::UPSTREAM.info];
    let has_no_login = login == Login::None;
    if is_explicit {
        check_login(service, access, &login)?;
    }
    check_stored(service, access, upstream_kind)?;
    check_external(service, access, upstream_kind)?;
    let conflict = |first, second, valid| Err(conflict_error(service, first, second, valid));
    let upstream_setting = (upstream_key, upstream_kind.as_str());
    match (access, has_no_login, upstream_kind) {
        (Access::OAuth, false, _)
        | (Access::Local | Access::Introspect, _, _)
        | (Access::OAuth, true, UpstreamKind::OAuth | UpstreamKind::Paste)
        | (Access::Key, _, UpstreamKind::None | UpstreamKind::Identity)
        | (Access::Public, _, UpstreamKind::None) => {}
        (Access::OAuth, true, _) => {
            let valid = "with login = \"none\" use upstream = \"oauth\" or \"paste\"; else login = \"password\" or \"idp:<name>\"";
            return conflict((login_key, "none"), upstream_setting, valid);
        }
        (Access::Key, _, kind) if kind.is_of_service() => {}
        (Access::Key, _, _) => {
            let valid =
                "with access = \"key\" use upstream = \"static\", \"client_credentials\", \"workload_identity\", \"none\" or \"identity\"";
            return conflict((access_key, "key"), upstream_setting, valid);
        }
        (Access::Public, _, kind) if kind.is_of_service() => {
            if !service.is_on(&key::ALLOW_PUBLIC_CREDENTIAL)? {
                let valid = "everybody would use the service's credential: use upstream = \"none\", or say allow_public_credential = true if that is meant";
                return conflict((access_key, "public"), upstream_setting, valid);
            }
        }
        (Access::Public, _, _) => {
            let valid = "with access = \"public\" use upstream = \"none\", or \"static\" with allow_public_credential = true";
            return conflict((access_key, "public"), upstream_setting, valid);
        }
    }
    Ok((access, login, upstream_kind))
}

/// Users sign in only where they get tokens, and always do at a `local` service.
fn check_login(service: &Section, access: Access, login: &Login) -> Result<(), ConfigError> {
    let valid = match (access, *login == Login::None) {
        (Access::OAuth, _) | (Access::Local | Access::Introspect, false) | (Access::Key | Access::Public, true) => return Ok(()),
        (Access::Introspect, true) => "with access = \"introspect\" use login = \"password\" or \"idp:<name>\"",
        (Access::Local, true) => "with access = \"local\" use login = \"password\" or \"idp:<name>\"",
        (Access::Key | Access::Public, false) => "nobody signs in there: take `login` out, or use access = \"oauth\"",
    };
    let (access, login) = (access_word(access), login_word(login));
    Err(conflict_error(
        service,
        (&key::ACCESS.info, access),
        (&key::LOGIN.info, &login),
        valid,
    ))
}

/// `access = "local"` and `upstream = "stored"` go only with each other.
fn check_stored(service: &Section, access: Access, upstream_kind: UpstreamKind) -> Result<(), ConfigError> {
    let valid = match (access == Access::Local, upstream_kind == UpstreamKind::Stored) {
        (true, true) | (false, false) => return Ok(()),
        (true, false) => "with access = \"local\" use upstream = \"stored\"",
        (false, true) => "with upstream = \"stored\" use access = \"local\"",
    };
    let access = (&key::ACCESS.info, access_word(access));
    Err(conflict_error(
        service,
        access,
        (&key::UPSTREAM.info, upstream_kind.as_str()),
        valid,
    ))
}

/// With `access = "introspect"` no request is forwarded, so there is no upstream credential.
fn check_external(service: &Section, access: Access, upstream_kind: UpstreamKind) -> Result<(), ConfigError> {
    if access != Access::Introspect || upstream_kind == UpstreamKind::None {
        return Ok(());
    }
    let valid = "the gateway forwards no requests there: take `upstream` out";
    let upstream = (&key::UPSTREAM.info, upstream_kind.as_str());
    Err(conflict_error(service, (&key::ACCESS.info, "introspect"), upstream, valid))
}

/// A key and its value.
type Setting<'a> = (&'static KeyInfo, &'a str);

/// An error for two conflicting keys of a service, at one that is set.
pub fn conflict_error(service: &Section, first: Setting<'_>, second: Setting<'_>, valid: &str) -> ConfigError {
    let describe = |(info, value): Setting<'_>| {
        let default_note = if service.contains(info) { "" } else { " (the default)" };
        format!("{} = \"{value}\"{default_note}", info.name)
    };
    let location = service.location(if service.contains(second.0) { second.0 } else { first.0 });
    let what = format!(
        "service '{}': {} and {} do not go together",
        service.name(),
        describe(first),
        describe(second)
    );
    location.wrong(what, valid)
}

fn access(service: &Section) -> Result<Access, ConfigError> {
    let Some(spanned) = service.get(&key::ACCESS)? else {
        return Ok(Access::OAuth);
    };
    match spanned.value {
        "key" => Ok(Access::Key),
        "local" => Ok(Access::Local),
        "public" => Ok(Access::Public),
        "introspect" => Ok(Access::Introspect),
        _ => Ok(Access::OAuth),
    }
}

fn login(service: &Section, idps: &[String]) -> Result<Option<Login>, ConfigError> {
    let Some(spanned) = service.get(&key::LOGIN)? else {
        return Ok(None);
    };
    match (spanned.value.as_str(), spanned.value.strip_prefix("idp:")) {
        ("password", _) => Ok(Some(Login::Password)),
        ("none", _) => Ok(Some(Login::None)),
        (_, Some(name)) if idps.iter().any(|idp| idp == name) => Ok(Some(Login::Idp(name.to_owned()))),
        (_, Some(name)) => {
            let options: Vec<String> = idps.iter().map(|name| format!("\"idp:{name}\"")).collect();
            let instead = if options.is_empty() {
                String::new()
            } else {
                format!(", or use {}", options.join(" or "))
            };
            let what = format!("there is no identity provider '{name}'");
            Err(spanned.wrong(what, format!("describe it in [idp.{name}]{instead}")))
        }
        (unknown, None) => {
            let what = format!("'{unknown}' is not known here");
            Err(spanned.wrong(what, "use login = \"password\", \"idp:<name>\" or \"none\""))
        }
    }
}

fn way(service: &Section, access: Access) -> Result<UpstreamKind, ConfigError> {
    let Some(spanned) = service.get(&key::UPSTREAM)? else {
        return Ok(if access == Access::Introspect {
            UpstreamKind::None
        } else {
            UpstreamKind::OAuth
        });
    };
    match spanned.value {
        "paste" => Ok(UpstreamKind::Paste),
        "static" => Ok(UpstreamKind::Static),
        "stored" => Ok(UpstreamKind::Stored),
        "client_credentials" => Ok(UpstreamKind::ClientCredentials),
        "workload_identity" => Ok(UpstreamKind::WorkloadIdentity),
        "identity" => Ok(UpstreamKind::Identity),
        "none" => Ok(UpstreamKind::None),
        _ => Ok(UpstreamKind::OAuth),
    }
}
