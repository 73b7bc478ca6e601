//! Checks the configuration. Flags and file both pass through here and become checked types.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::document::Document;
use crate::config::listen::{self, TlsSource};
use crate::config::section::Section;
use crate::config::service::{self, ConfiguredTokenMode, ParsedService, ServiceContext};
use crate::config::spanned::{ConfigError, Location, Spanned};
use crate::config::store::{self, StorageLocations, StoreConfig};
use crate::config::{features, keys, origins, stateless, users};
use crate::service::adapter_urls::AdapterUrls;
use crate::service::client::{ClientDocuments, PinnedDocument};
use crate::service::config::{Config, DEFAULT_HTTPS_SESSION_TTL_SECONDS};
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
    /// The audit log.
    pub audit: AuditConfig,
    /// Files of further CAs to trust for upstream calls.
    pub upstream_ca: Vec<PathBuf>,
}

/// The destinations of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditConfig {
    /// Its file.
    pub file: Option<PathBuf>,
    /// Whether the audit log is written to standard output.
    pub stdout: bool,
}

/// The locations at which settings are or could be configured, for messages.
#[derive(Clone, Debug)]
pub struct Locations {
    /// Data directory, store and key file.
    pub storage: StorageLocations,
    /// `listen`; `None` if it is not configured.
    pub listen: Option<Location>,
    /// The file of the audit log.
    pub audit: Location,
    /// The certificate.
    pub certificate: Location,
    /// The last `upstream_ca`; the whole configuration if there is none.
    pub upstream_ca: Location,
}

/// The checked configuration.
#[derive(Debug)]
pub struct Validated {
    /// The settings that a reload may change. Its users are those of the configuration.
    pub config: Config,
    /// The settings that need a restart.
    pub start: StartConfig,
    /// The locations of the settings.
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
        self.missing_features.first().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Whether any service uses password login.
    pub fn has_password_login(&self) -> bool {
        self.config.services.iter().any(|service| service.login == Login::Password)
    }
}

/// Checks the sections. `source` is the file or the flags, and `default_data_dir` is the default of
/// `data_dir`.
/// # Errors
/// The first key that is missing, wrong or without effect.
pub fn validate(document: Document, source: &Location, default_data_dir: Option<PathBuf>) -> Result<Validated, ConfigError> {
    let variables = document.hidden.clone();
    let mut validated = validate_document(document, source, default_data_dir).map_err(|error| error.redact(&variables))?;
    validated.missing_features = validated
        .missing_features
        .into_iter()
        .map(|error| error.redact(&variables))
        .collect();
    Ok(validated)
}

fn validate_document(mut document: Document, source: &Location, default_data_dir: Option<PathBuf>) -> Result<Validated, ConfigError> {
    let mut only = |pattern| document.only(pattern, source);
    let (top, tls, store, keys) = (only(""), only("tls"), only("store"), only("keys"));
    let (login, cors, audit, console) = (only("login.password"), only("cors"), only("audit"), only("console"));
    let vendors = ["adapters.openai", "adapters.anthropic"].map(only);
    let mut missing_features = Vec::new();
    let certificate = listen::certificate(&tls)?;
    let (urls, listen) = listen::public_urls(&top, &certificate)?;
    let store_config = store::read(&store, &mut missing_features)?;
    let idps = document.each("idp.*").map(users::parse_provider).collect::<Result<Vec<_>, _>>()?;
    let (clients, pinned) = users::clients(document.each("clients.*"))?;
    let services = services(&document, &idps, urls.is_loopback(), &mut missing_features)?;
    keys_can_be_revoked(&document, &services, &store_config)?;
    stateless::check_stateless(&store_config, &tls, &certificate, document.each("services.*").zip(&services))?;
    let (upstream_ca, upstream_ca_location) = upstream_ca(&document, source)?;
    let other_port = [listen::other_port(&top, &urls, &listen), listen::respelled(&top, &urls)?].concat();
    let clear = store::clear_password(&store, &store_config);
    let mut warnings = [warnings_of(&document, &services, source), other_port, clear].concat();
    let data_dir = used_data_dir(&top, &store_config, default_data_dir, &mut warnings)?;
    let users = users::users(&login)?;
    let validated = Validated {
        token_modes: services.iter().map(|described| described.tokens).collect(),
        creates_user: users.is_none(),
        config: Config {
            services: services.into_iter().map(|described| described.service).collect(),
            users: users.unwrap_or_default(),
            idps,
            clients,
            ..switches([&top, &cors, &console], &vendors, pinned, &urls)?
        },
        start: StartConfig {
            urls,
            listen,
            certificate,
            data_dir,
            key_file: keys.get(&keys::key_ring::FILE)?,
            store: store_config,
            log: top.get(&keys::top::LOG)?.map_or("info", |spanned| spanned.value).to_owned(),
            audit: AuditConfig::read(&audit)?,
            upstream_ca,
        },
        locations: Locations {
            storage: storage_locations(&top, &store, &keys),
            listen: top.set_location(&keys::top::LISTEN),
            certificate: certificate_location(&tls),
            audit: audit.location(&keys::audit::FILE),
            upstream_ca: upstream_ca_location,
        },
        missing_features,
        warnings,
    };
    let sections = [&top, &tls, &store, &keys, &login, &cors, &audit, &console];
    sections
        .into_iter()
        .chain(&vendors)
        .chain(&document.sections)
        .try_for_each(check_unread)?;
    Ok(validated)
}

/// The lifetime of a login session. On plain http the default is 0: browsers send a cookie to every
/// port of a host, so that any local server could take the session over.
fn session_ttl(top: &Section, urls: &PublicUrls) -> Result<u64, ConfigError> {
    let default = if urls.is_https() { DEFAULT_HTTPS_SESSION_TTL_SECONDS } else { 0 };
    Ok(top.get(&keys::top::SESSION_TTL)?.unwrap_or(default))
}

/// `data_dir`; empty in stateless mode, which has no use for it.
fn used_data_dir(top: &Section, store: &StoreConfig, default: Option<PathBuf>, warnings: &mut Vec<String>) -> Result<PathBuf, ConfigError> {
    if store.is_stateless() {
        warnings.extend(unused_data_dir(top)?);
        return Ok(PathBuf::new());
    }
    data_dir(top, default)
}

/// The vendors' addresses.
fn adapters([openai, anthropic]: &[Section; 2]) -> Result<AdapterUrls, ConfigError> {
    Ok(AdapterUrls {
        openai: openai.get(&keys::openai::URL)?.map(|spanned| spanned.value),
        anthropic: anthropic.get(&keys::anthropic::URL)?.map(|spanned| spanned.value),
    })
}

/// A configuration without services, users, providers and clients.
fn switches(
    sections: [&Section; 3],
    vendors: &[Section; 2],
    pinned: Vec<PinnedDocument>,
    urls: &PublicUrls,
) -> Result<Config, ConfigError> {
    let [top, cors, console] = sections;
    let compat = top.get(&keys::top::COMPAT)?;
    let has_compat = |word: &str| compat.iter().any(|name| name.value == word);
    Ok(Config {
        services: Vec::new(),
        users: Vec::new(),
        session_ttl: session_ttl(top, urls)?,
        idps: Vec::new(),
        clients: Vec::new(),
        adapters: adapters(vendors)?,
        client_documents: ClientDocuments {
            is_on: top.get(&keys::top::CLIENT_DOCUMENTS)?.is_none_or(|switch| switch.value),
            pinned,
        },
        cors_origins: cors
            .get(&keys::cors::ORIGINS)?
            .iter()
            .map(origins::origin)
            .collect::<Result<_, _>>()?,
        public_directory: top.is_on(&keys::top::PUBLIC_DIRECTORY)?,
        approvers: console
            .get(&keys::console::APPROVERS)?
            .iter()
            .map(approver)
            .collect::<Result<_, _>>()?,
        json_token: has_compat("json-token"),
        announces_iss: !has_compat("no-iss"),
        redirect_schemes: top
            .get(&keys::top::REDIRECT_SCHEMES)?
            .iter()
            .map(origins::redirect_scheme)
            .collect::<Result<_, _>>()?,
    })
}

/// Reads a name of `[console] approvers`.
///
/// # Errors
/// If it is a user of an identity provider, who cannot sign in where decisions are made.
fn approver(spanned: &Spanned<String>) -> Result<String, ConfigError> {
    if spanned.value.contains(':') {
        let what = format!(
            "'{}' is a user of an identity provider, and decisions ask for a password of this gateway",
            spanned.value
        );
        return Err(spanned.wrong(what, "list users of [login.password]"));
    }
    Ok(spanned.value.clone())
}

fn certificate_location(tls: &Section) -> Location {
    if tls.contains(&keys::tls::SELF_SIGNED) {
        tls.location(&keys::tls::SELF_SIGNED)
    } else {
        tls.location(&keys::tls::CERT)
    }
}

fn storage_locations(top: &Section, store: &Section, keys: &Section) -> StorageLocations {
    StorageLocations {
        data_dir: top.location(&keys::top::DATA_DIR),
        store: store.location(&keys::store::KIND),
        key_file: keys.location(&keys::key_ring::FILE),
    }
}

impl AuditConfig {
    fn read(section: &Section) -> Result<Self, ConfigError> {
        Ok(Self {
            file: section.get(&keys::audit::FILE)?,
            stdout: section.is_on(&keys::audit::STDOUT)?,
        })
    }
}

/// The files of further CAs, and where the last one is configured.
fn upstream_ca(document: &Document, source: &Location) -> Result<(Vec<PathBuf>, Location), ConfigError> {
    let (mut all_files, mut location) = (Vec::new(), source.clone());
    for section in document.each("services.*") {
        let files = section.get(&keys::service::UPSTREAM_CA)?;
        if !files.is_empty() {
            location = section.location(&keys::service::UPSTREAM_CA);
        }
        all_files.extend(files);
    }
    Ok((all_files, location))
}

fn data_dir(top: &Section, default_data_dir: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let dir = top.get(&keys::top::DATA_DIR)?.or(default_data_dir);
    let what = "there is no home directory to keep data in";
    dir.ok_or_else(|| top.missing(&keys::top::DATA_DIR, what, "say where with --data-dir DIR"))
}

/// The warning for a data directory that a stateless gateway does not use.
fn unused_data_dir(top: &Section) -> Result<Option<String>, ConfigError> {
    let is_set = top.get(&keys::top::DATA_DIR)?.is_some();
    let location = top.location(&keys::top::DATA_DIR);
    Ok(is_set.then(|| format!("{location}: it has no effect with store = \"none\", which stores nothing")))
}

/// No other process can add or revoke an API key in a store in memory.
fn keys_can_be_revoked(document: &Document, described: &[ParsedService], store: &StoreConfig) -> Result<(), ConfigError> {
    let pairs = document.each("services.*").zip(described);
    let mut key_services = pairs.filter(|(_, described)| described.service.access == Access::Key);
    match key_services.next() {
        Some((section, described)) if *store == StoreConfig::Memory => {
            let what = format!(
                "service '{}' takes API keys, which `api-keys` cannot add to a store in memory",
                described.service.name
            );
            Err(section
                .location(&keys::service::ACCESS)
                .wrong(what, "use [store] kind = \"sqlite\""))
        }
        Some(_) | None => Ok(()),
    }
}

fn unused_providers(document: &Document, described: &[ParsedService]) -> Vec<String> {
    let is_unused = |section: &&Section| {
        let login = Login::Idp(section.name().to_owned());
        !described.iter().any(|described| described.service.login == login)
    };
    let to_warning = |section: &Section| {
        let name = section.name();
        let error = section.at.wrong(
            "no service's users sign in there",
            format!("say login = \"idp:{name}\" at a service, or take [idp.{name}] out"),
        );
        error.to_string()
    };
    document.each("idp.*").filter(is_unused).map(to_warning).collect()
}

fn check_unread(section: &Section) -> Result<(), ConfigError> {
    match section.first_unread() {
        Some((_, location)) => Err(location.wrong("it has no effect beside the rest", "take it out")),
        None => Ok(()),
    }
}

fn services(
    document: &Document,
    idps: &[Idp],
    is_loopback: bool,
    missing_features: &mut Vec<ConfigError>,
) -> Result<Vec<ParsedService>, ConfigError> {
    let names: Vec<String> = idps.iter().map(|idp| idp.name.clone()).collect();
    let sections: Vec<&Section> = document.each("services.*").collect();
    let mut services: Vec<ParsedService> = Vec::new();
    for section in &sections {
        let context = ServiceContext {
            idps: &names,
            is_only_service: sections.len() == 1,
            is_loopback,
        };
        let described = service::service(section, context)?;
        missing_features.extend(features::check_service(section, &described));
        if described.service.is_default
            && let Some(other) = services.iter().find(|other| other.service.is_default)
        {
            let what = format!("service '{}' is the default already", other.service.name);
            return Err(section
                .location(&keys::service::DEFAULT)
                .wrong(what, "only one service is also at /mcp: take one `default = true` out"));
        }
        services.push(described);
    }
    Ok(services)
}

/// The warnings of the document, about unused providers, and about a configuration that serves nothing
/// yet, as after `init`.
fn warnings_of(document: &Document, services: &[ParsedService], source: &Location) -> Vec<String> {
    let mut warnings = document.warnings.clone();
    warnings.extend(unused_providers(document, services));
    if services.is_empty() {
        warnings.push(no_service(source));
    }
    warnings
}

fn no_service(source: &Location) -> String {
    let instead = "add one: mcp-oauth-gateway add NAME URL; or describe one: [services.github] and below it url = \"https://api.githubcopilot.com/mcp/\"";
    source.wrong("there is no service yet", instead).to_string()
}
