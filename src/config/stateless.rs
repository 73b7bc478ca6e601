//! Settings that need a store, and so conflict with `[store] kind = "none"`.

use crate::config::keys::{self, service as key};
use crate::config::listen::TlsSource;
use crate::config::schema::KeyInfo;
use crate::config::section::Section;
use crate::config::service::{ConfiguredTokenMode, ParsedService};
use crate::config::spanned::ConfigError;
use crate::config::store::StoreConfig;
use crate::service::{Access, Upstream};

/// In stateless mode, fails at the first key that needs stored data.
pub(super) fn check_stateless<'a>(
    store: &StoreConfig,
    tls: &Section,
    certificate: &TlsSource,
    services: impl Iterator<Item = (&'a Section, &'a ParsedService)>,
) -> Result<(), ConfigError> {
    if !store.is_stateless() {
        return Ok(());
    }
    if *certificate == TlsSource::SelfSigned {
        let what = "a self-signed certificate must be stored, and with store = \"none\" the gateway stores nothing";
        return Err(tls
            .location(&keys::tls::SELF_SIGNED)
            .wrong(what, "give a certificate with cert and key, or serve http behind a proxy"));
    }
    for (section, described) in services {
        service(section, described)?;
    }
    Ok(())
}

fn service(section: &Section, described: &ParsedService) -> Result<(), ConfigError> {
    let service = &described.service;
    let conflict = |key: &'static KeyInfo, what: &str, valid: &str| conflict(section, key, what, valid);
    if service.tools.is_some() {
        let what = "approvals and pins of tools must be stored";
        return conflict(&key::TOOLS.info, what, "remove the table, or use another store");
    }
    if service.access == Access::Key {
        return conflict(
            &key::ACCESS.info,
            "API keys must be stored, so that they can be revoked",
            "use access = \"oauth\", or another store",
        );
    }
    if service.access == Access::Introspect {
        return conflict(
            &key::ACCESS.info,
            "the keys of resource servers must be stored",
            "use another store",
        );
    }
    if service.access == Access::Local {
        return conflict(
            &key::ACCESS.info,
            "the stored credential needs a store",
            "use access = \"oauth\", or another store",
        );
    }
    if service.remember_consent {
        return conflict(
            &key::REMEMBER_CONSENT.info,
            "a consent must be stored",
            "remove it, or use another store",
        );
    }
    if let ConfiguredTokenMode::Reference | ConfiguredTokenMode::Jwt = described.tokens {
        let what = if described.tokens == ConfiguredTokenMode::Jwt {
            "the signing keys must be stored"
        } else {
            "a reference refers to a stored token"
        };
        return conflict(&key::TOKEN_MODE.info, what, "use token_mode = \"sealed\", or another store");
    }
    if service.needs_signing_keys() {
        return conflict(
            &key::ASSERTION.info,
            "the signing keys must be stored",
            "remove it, or use another store",
        );
    }
    check_upstream(section, &service.upstream)
}

/// Fails if the upstream credential must be stored.
fn check_upstream(section: &Section, upstream: &Upstream) -> Result<(), ConfigError> {
    let conflict = |key: &'static KeyInfo, what: &str, valid: &str| conflict(section, key, what, valid);
    match upstream {
        Upstream::OAuth(config) if config.client_id.is_none() => conflict(
            &key::CLIENT_ID.info,
            "the gateway's registration at the upstream must be stored",
            "register the gateway there once and set its client_id, or use another store",
        ),
        Upstream::Paste(_) => conflict(
            &key::UPSTREAM.info,
            "the pasted credential would be a part of a URL",
            "use upstream = \"oauth\", \"static\", \"identity\" or \"none\", or another store",
        ),
        Upstream::OAuth(_)
        | Upstream::Static(_)
        | Upstream::Stored(_)
        | Upstream::ServiceToken(_)
        | Upstream::Identity(_)
        | Upstream::None => Ok(()),
    }
}

fn conflict(section: &Section, key: &'static KeyInfo, what: &str, valid: &str) -> Result<(), ConfigError> {
    let what = format!(
        "service '{}': {what}, and with store = \"none\" the gateway stores nothing",
        section.name()
    );
    Err(section.location(key).wrong(what, valid))
}
