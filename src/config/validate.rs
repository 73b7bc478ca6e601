//! Checks the configuration. Flags and file both pass through here and become checked types.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::document::Document;
use crate::config::features;
use crate::config::keys;
use crate::config::listen::{self, TlsSource};
use crate::config::section::Section;
use crate::config::service::{self, ConfiguredTokenMode, Described};
use crate::config::spanned::{ConfigError, Location, Spanned};
use crate::config::stateless;
use crate::config::store::{self, StorageLocations, StoreConfig};
use crate::config::users;
use crate::service::config::{Config, DEFAULT_SESSION_TTL_SECONDS};
use crate::service::public_urls::PublicUrls;
use crate::service::{Access, Login};
use crate::upstream::idp::Idp;

/// The settings that take effect only at a start.
#[derive(Clone, Debug, PartialEq)]
pub struct StartConfig {
    /// The public URL, the other names of the gateway, and the trusted proxies.
    pub urls: PublicUrls,
    /// Addresses to listen on. All but the first may be missing on this machine, such as `::1`.
    pub listen: Vec<SocketAddr>,
    /// The source of the TLS certificate.
    pub certificate: TlsSource,
    /// The data directory. It is empty in stateless mode.
    pub data_dir: PathBuf,
    /// The key file, if it is not the one in the data directory.
    pub key_file: Option<PathBuf>,
    /// The store.
    pub store: StoreConfig,
    /// The log level.
    pub log: String,
    /// Files of further CAs to trust for upstream calls.
    pub upstream_ca: Vec<PathBuf>,
}

/// Where settings are or could be configured, for messages.
#[derive(Clone, Debug)]
pub struct Locations {
    /// Data directory, store and key file.
    pub storage: StorageLocations,
    /// `listen`.
    pub listen: Location,
    /// The certificate.
    pub certificate: Location,
    /// The last `upstream_ca`; the whole configuration if there is none.
    pub upstream_ca: Location,
}

/// The checked configuration.
#[derive(Debug)]
pub struct Validated {
    /// What a reload may change. Its users are those of the configuration.
    pub config: Config,
    /// What needs a restart.
    pub start: StartConfig,
    /// Where it is configured.
    pub locations: Locations,
    /// Whether the configuration lists no users: then there is one, whose password is created at the
    /// first start.
    pub creates_user: bool,
    /// The token mode of each service, also if this build does not support it.
    pub token_modes: Vec<ConfiguredTokenMode>,
    /// Valid settings that this build cannot serve.
    pub missing_features: Vec<ConfigError>,
    /// Warnings for the operator about values that are not wrong.
    pub warnings: Vec<String>,
}

impl Validated {
    /// Checks that this build can serve the configuration.
    ///
    /// # Errors
    /// The first setting that needs a feature which this build lacks.
    pub fn check_features(&self) -> Result<(), ConfigError> {
        self.missing_features.first().map_or(Ok(()), |missing| Err(missing.clone()))
    }

    /// Whether any service uses password login.
    pub fn has_password_login(&self) -> bool {
        self.config.services.iter().any(|service| service.login == Login::Password)
    }
}

/// Checks the sections. `whole` is the file or the flags, `data_home` the default `data_dir`.
/// # Errors
/// The first key that is missing, wrong or without effect.
pub fn validate(spoken: Document, whole: &Location, data_home: Option<PathBuf>) -> Result<Validated, ConfigError> {
    let hidden = spoken.hidden.clone();
    let mut checked = validate_document(spoken, whole, data_home).map_err(|wrong| wrong.redact(&hidden))?;
    checked.missing_features = checked.missing_features.into_iter().map(|wrong| wrong.redact(&hidden)).collect();
    Ok(checked)
}

fn validate_document(mut spoken: Document, whole: &Location, data_home: Option<PathBuf>) -> Result<Validated, ConfigError> {
    let mut only = |pattern| spoken.only(pattern, whole);
    let (top, tls, store, keys) = (only(""), only("tls"), only("store"), only("keys"));
    let (login, cors) = (only("login.password"), only("cors"));
    let mut unbuilt = Vec::new();
    let certificate = listen::certificate(&tls)?;
    let (urls, listen) = listen::public_urls(&top, &certificate)?;
    let kept = store::read(&store, &mut unbuilt)?;
    let idps = spoken.each("idp.*").map(users::parse_provider).collect::<Result<Vec<_>, _>>()?;
    let clients = spoken.each("clients.*").map(users::parse_client).collect::<Result<Vec<_>, _>>()?;
    let described = services(&spoken, &idps, whole, &mut unbuilt)?;
    keys_can_be_revoked(&spoken, &described, &kept)?;
    stateless::check_stateless(&kept, &tls, &certificate, spoken.each("services.*").zip(&described))?;
    let (upstream_ca, upstream_ca_at) = upstream_ca(&spoken, whole)?;
    let used: Vec<_> = described.iter().map(|one| one.service.login.clone()).collect();
    let mut warnings = [spoken.warnings.clone(), unused_providers(&spoken, &used)].concat();
    let data_dir = if kept.is_stateless() {
        warnings.extend(unused_data_dir(&top)?);
        PathBuf::new()
    } else {
        data_dir(&top, data_home)?
    };
    let users = users::users(&login)?;
    let token_modes = described.iter().map(|one| one.tokens).collect();
    let creates_user = users.is_none();
    let checked = Validated {
        config: Config {
            services: described.into_iter().map(|one| one.service).collect(),
            users: users.unwrap_or_default(),
            idps,
            clients,
            ..switches(&top, &cors)?
        },
        start: StartConfig {
            urls,
            listen,
            certificate,
            data_dir,
            key_file: keys.get(&keys::key_ring::FILE)?,
            store: kept,
            log: top.get(&keys::top::LOG)?.map_or("info", |said| said.value).to_owned(),
            upstream_ca,
        },
        locations: Locations {
            storage: StorageLocations {
                data_dir: top.location(&keys::top::DATA_DIR),
                store: store.location(&keys::store::KIND),
                key_file: keys.location(&keys::key_ring::FILE),
            },
            listen: top.location(&keys::top::LISTEN),
            certificate: certificate_location(&tls),
            upstream_ca: upstream_ca_at,
        },
        creates_user,
        token_modes,
        missing_features: unbuilt,
        warnings,
    };
    let mut read = [&top, &tls, &store, &keys, &login, &cors].into_iter().chain(&spoken.sections);
    read.try_for_each(check_unread)?;
    Ok(checked)
}

/// A configuration without services, users, providers and clients.
fn switches(top: &Section, cors: &Section) -> Result<Config, ConfigError> {
    Ok(Config {
        services: Vec::new(),
        users: Vec::new(),
        session_ttl: top.get(&keys::top::SESSION_TTL)?.unwrap_or(DEFAULT_SESSION_TTL_SECONDS),
        idps: Vec::new(),
        clients: Vec::new(),
        cors_origins: cors.get(&keys::cors::ORIGINS)?.iter().map(origin).collect::<Result<_, _>>()?,
        public_directory: top.is_on(&keys::top::PUBLIC_DIRECTORY)?,
        json_token: top.get(&keys::top::COMPAT)?.iter().any(|name| name.value == "json-token"),
    })
}

fn certificate_location(tls: &Section) -> Location {
    if tls.contains(&keys::tls::SELF_SIGNED) {
        tls.location(&keys::tls::SELF_SIGNED)
    } else {
        tls.location(&keys::tls::CERT)
    }
}

/// The files of further CAs, and where the last one is configured.
fn upstream_ca(spoken: &Document, whole: &Location) -> Result<(Vec<PathBuf>, Location), ConfigError> {
    let (mut all, mut at) = (Vec::new(), whole.clone());
    for section in spoken.each("services.*") {
        let files = section.get(&keys::service::UPSTREAM_CA)?;
        if !files.is_empty() {
            at = section.location(&keys::service::UPSTREAM_CA);
        }
        all.extend(files);
    }
    Ok((all, at))
}

fn data_dir(top: &Section, data_home: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let dir = top.get(&keys::top::DATA_DIR)?.or(data_home);
    let what = "there is no home directory to keep data in";
    dir.ok_or_else(|| top.missing(&keys::top::DATA_DIR, what, "say where with --data-dir DIR"))
}

/// The warning for a data directory that a stateless gateway does not use.
fn unused_data_dir(top: &Section) -> Result<Option<String>, ConfigError> {
    let is_given = top.get(&keys::top::DATA_DIR)?.is_some();
    let at = top.location(&keys::top::DATA_DIR);
    Ok(is_given.then(|| format!("{at}: it has no effect with store = \"none\": nothing is kept")))
}

/// No other process can add or revoke an API key in a store in memory.
fn keys_can_be_revoked(spoken: &Document, described: &[Described], store: &StoreConfig) -> Result<(), ConfigError> {
    let both = spoken.each("services.*").zip(described);
    let mut taking = both.filter(|(_, one)| one.service.access == Access::Key);
    match taking.next() {
        Some((section, one)) if *store == StoreConfig::Memory => {
            let what = format!(
                "service '{}' takes API keys, which a store in memory cannot be told of",
                one.service.name
            );
            Err(section
                .location(&keys::service::ACCESS)
                .wrong(what, "use [store] kind = \"sqlite\""))
        }
        Some(_) | None => Ok(()),
    }
}

fn unused_providers(spoken: &Document, used: &[Login]) -> Vec<String> {
    let is_unused = |section: &&Section| !used.contains(&Login::Idp(section.name().to_owned()));
    let told = |section: &Section| {
        let name = section.name();
        let wrong = section.at.wrong(
            "no service's users sign in there",
            format!("say login = \"idp:{name}\" at a service, or take [idp.{name}] out"),
        );
        wrong.to_string()
    };
    spoken.each("idp.*").filter(is_unused).map(told).collect()
}

fn check_unread(section: &Section) -> Result<(), ConfigError> {
    match section.first_unread() {
        Some((_, at)) => Err(at.wrong("it has no effect beside the rest", "take it out")),
        None => Ok(()),
    }
}

fn services(spoken: &Document, idps: &[Idp], whole: &Location, unbuilt: &mut Vec<ConfigError>) -> Result<Vec<Described>, ConfigError> {
    let names: Vec<String> = idps.iter().map(|idp| idp.name.clone()).collect();
    let sections: Vec<&Section> = spoken.each("services.*").collect();
    let mut described: Vec<Described> = Vec::new();
    for section in &sections {
        let one = service::service(section, &names, sections.len() == 1)?;
        unbuilt.extend(features::check_service(section, &one));
        if one.service.is_default
            && let Some(other) = described.iter().find(|other| other.service.is_default)
        {
            let what = format!("service '{}' is the default already", other.service.name);
            return Err(section
                .location(&keys::service::DEFAULT)
                .wrong(what, "only one service is also at /mcp: take one `default = true` out"));
        }
        described.push(one);
    }
    match sections.first() {
        None => Err(whole.wrong(
            "there is no service",
            "describe one: [services.github] and below it url = \"https://api.githubcopilot.com/mcp/\"",
        )),
        Some(_) => Ok(described),
    }
}

fn origin(said: &Spanned<String>) -> Result<String, ConfigError> {
    let is_origin = said.value == "*" || crate::base::url::ExactUrl::parse(&said.value).is_ok_and(|address| address.origin() == said.value);
    if is_origin {
        return Ok(said.value.clone());
    }
    Err(said.wrong(
        format!("'{}' is not an origin", said.value),
        "write it like https://app.example.com, without a path, or `*` for everyone",
    ))
}
