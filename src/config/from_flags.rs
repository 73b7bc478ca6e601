//! Turns the flags into sections: one service, and the tables around it.

use std::path::Path;

use crate::config::document::Document;
use crate::config::flags::{Serve, Tls, TokenMode};
use crate::config::lookup;
use crate::config::section::{Section, Value};
use crate::config::spanned::{ConfigError, Location, Spanned};
use crate::config::storage_flags::{StorageFlags, StoreKind};

/// The port if none is configured.
pub const DEFAULT_PORT: u16 = 8002;

/// The name of the service that the flags describe.
const DEFAULT_SERVICE: &str = "default";

/// The flags as the keys of a configuration file.
pub fn document(flags: &Serve) -> Document {
    let path = ["services".to_owned(), DEFAULT_SERVICE.to_owned()];
    let mut service = Section::new("services.*", &path, Location::Flag("--upstream-rs"));
    for (name, value) in [
        ("url", &flags.upstream_rs),
        ("authorization_server", &flags.upstream_as),
        ("client_id", &flags.upstream_client_id),
        ("client_secret", &flags.upstream_client_secret),
        ("authorization_endpoint", &flags.upstream_authorize_endpoint),
        ("token_endpoint", &flags.upstream_token_endpoint),
    ] {
        set(&mut service, name, value.clone().filter(|text| !text.is_empty()).map(Value::Text));
    }
    let scopes = flags.upstream_scopes.as_deref().unwrap_or("").split_whitespace();
    set(&mut service, "scopes", list("--upstream-scopes", scopes.map(str::to_owned)));
    let mode = flags.token_mode.map(|mode| match mode {
        TokenMode::Sealed => "sealed",
        TokenMode::Plain => "plain",
    });
    set(&mut service, "token_mode", mode.map(|mode| Value::Text(mode.to_owned())));
    set(
        &mut service,
        "allow_token_passthrough",
        flags.allow_token_passthrough.then_some(Value::Switch(true)),
    );
    for (name, value) in [
        ("access_ttl", flags.access_ttl),
        ("refresh_ttl", flags.refresh_ttl),
        ("refresh_grace", flags.refresh_grace),
        ("parallel_limit", flags.parallel_limit),
    ] {
        set(&mut service, name, value.map(|seconds| Value::Text(seconds.to_string())));
    }
    set(
        &mut service,
        "upstream_ca",
        list("--upstream-ca", flags.upstream_ca.iter().map(|path| text(path))),
    );
    let mut sections = top_level(flags);
    sections.push(service);
    Document {
        sections,
        warnings: Vec::new(),
        hidden: Vec::new(),
        written_out: None,
    }
}

fn top_level(flags: &Serve) -> Vec<Section> {
    let location = Location::Flag("--config");
    let section = |pattern: &'static str| Section::new(pattern, &[pattern.to_owned()], location.clone());
    let mut top = Section::new("", &[], location.clone());
    set(&mut top, "public_url", flags.public_url.clone().map(Value::Text));
    if flags.host.is_some() || flags.port.is_some() {
        let host = flags.host.as_deref().unwrap_or("localhost");
        let bare_host = host.trim_matches(['[', ']']);
        let host = if bare_host.contains(':') {
            format!("[{bare_host}]")
        } else {
            bare_host.to_owned()
        };
        let address = format!("{host}:{}", flags.port.unwrap_or(DEFAULT_PORT));
        let flag = if flags.host.is_some() { "--host" } else { "--port" };
        set_by(flag, &mut top, "listen", list(flag, [address]));
    }
    set(&mut top, "data_dir", flags.storage.data_dir.as_deref().map(text).map(Value::Text));
    set(
        &mut top,
        "allowed_hosts",
        list("--allowed-hosts", flags.allowed_hosts.iter().cloned()),
    );
    set(
        &mut top,
        "trusted_proxies",
        list("--trusted-proxies", flags.trusted_proxies.iter().cloned()),
    );
    set(&mut top, "client_documents", flags.client_documents.map(Value::Switch));
    set(&mut top, "insecure_http", flags.insecure_http.then_some(Value::Switch(true)));
    set(&mut top, "log", flags.log.clone().map(Value::Text));
    let mut tls = section("tls");
    let self_signed = flags.tls.map(|tls| match tls {
        Tls::SelfSigned => Value::Switch(true),
    });
    set(&mut tls, "self_signed", self_signed);
    set(&mut tls, "cert", flags.tls_cert.as_deref().map(text).map(Value::Text));
    set(&mut tls, "key", flags.tls_key.as_deref().map(text).map(Value::Text));
    let mut cors = section("cors");
    set(&mut cors, "origins", list("--cors-origins", flags.cors_origins.iter().cloned()));
    let [store, keys] = storage_sections(&flags.storage);
    vec![top, tls, store, keys, cors, audit_section(flags)]
}

fn audit_section(flags: &Serve) -> Section {
    let mut audit = Section::new("audit", &["audit".to_owned()], Location::Flag("--config"));
    let is_stdout = flags.audit_log.as_deref() == Some(Path::new("-"));
    let file = flags.audit_log.as_deref().filter(|_| !is_stdout);
    set(&mut audit, "file", file.map(text).map(Value::Text));
    let flag = if is_stdout { "--audit-log" } else { "--audit-stdout" };
    let stdout = (is_stdout || flags.audit_stdout).then_some(Value::Switch(true));
    set_by(flag, &mut audit, "stdout", stdout);
    audit
}

/// The flags for `[store]` and `[keys]` as sections.
pub fn storage_sections(flags: &StorageFlags) -> [Section; 2] {
    let section = |pattern: &'static str| Section::new(pattern, &[pattern.to_owned()], Location::Flag("--config"));
    let (mut store, mut keys) = (section("store"), section("keys"));
    let kind = flags.store.map(|kind| match kind {
        StoreKind::Memory => "memory",
        StoreKind::Sqlite => "sqlite",
        StoreKind::Redis => "redis",
        StoreKind::None => "none",
    });
    set(&mut store, "kind", kind.map(|kind| Value::Text(kind.to_owned())));
    set(&mut store, "url", flags.redis_url.clone().map(Value::Text));
    set(&mut store, "prefix", flags.redis_prefix.clone().map(Value::Text));
    set(&mut store, "ca", flags.redis_ca.as_deref().map(text).map(Value::Text));
    set(&mut keys, "file", flags.key_file.as_deref().map(text).map(Value::Text));
    [store, keys]
}

/// Refuses flags that set keys of the configuration file, because two sources of one value mislead.
/// `--data-dir`, `--log` and `--username` are allowed beside the file.
pub fn check_conflicts(flags: &Serve) -> Result<(), ConfigError> {
    let mut conflicting_flags = Serve {
        log: None,
        ..flags.clone()
    };
    conflicting_flags.storage.data_dir = None;
    refused_beside(&flags.storage, document(&conflicting_flags).sections)
}

/// The same check for the commands that open only the store and the keys.
pub fn check_storage_conflicts(flags: &StorageFlags) -> Result<(), ConfigError> {
    refused_beside(flags, storage_sections(flags))
}

fn refused_beside(flags: &StorageFlags, sections: impl IntoIterator<Item = Section>) -> Result<(), ConfigError> {
    let file = flags.config.as_deref().unwrap_or(Path::new("")).display();
    for section in sections {
        if let Some((name, location)) = section.first_unread() {
            let flag = location.label();
            let variable = flag.trim_start_matches('-').to_uppercase().replace('-', "_");
            let table = lookup::to_header(section.pattern);
            return Err(location.wrong(
                format!("it cannot be given beside --config {file}, nor can MCP_GATEWAY_{variable}"),
                format!("put `{name}` into the file, at {table}, and unset the variable"),
            ));
        }
    }
    Ok(())
}

fn set(section: &mut Section, name: &str, value: Option<Value>) {
    let flag = lookup::find(section.pattern, name).map_or("", |key| key.flag);
    set_by(flag, section, name, value);
}

/// Sets a key that more than one flag can set.
fn set_by(flag: &'static str, section: &mut Section, name: &str, value: Option<Value>) {
    if let (Some(key), Some(value)) = (lookup::find(section.pattern, name), value) {
        section.set(key, value, Location::Flag(flag));
    }
}

fn list(flag: &'static str, texts: impl IntoIterator<Item = String>) -> Option<Value> {
    let to_spanned = |value| Spanned {
        value,
        at: Location::Flag(flag),
    };
    let texts: Vec<_> = texts.into_iter().filter(|text| !text.is_empty()).map(to_spanned).collect();
    (!texts.is_empty()).then_some(Value::List(texts))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
