//! What the operator said, in flags or in a file, becomes checked types here, or an error that says what was wrong, where,
//! and what to write instead. The single judge of both.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::carried;
use crate::config::file::Spoken;
use crate::config::kept::{self, Places, Where};
use crate::config::people::{self, Kept};
use crate::config::said::{Place, Said, Wrong};
use crate::config::section::Section;
use crate::config::service::{self, Described};
use crate::config::site::{self, Certificate};
use crate::config::unbuilt;
use crate::gateway::clients::Configured;
use crate::gateway::session::SESSION_TTL;
use crate::gateway::site::Site;
use crate::service::{Access, Login, Service};
use crate::upstream::idp::Idp;

/// The configuration, checked.
#[derive(Debug)]
pub struct Checked {
    /// Who we are.
    pub site: Site,
    /// Where to listen. A missing `::1` is tolerated when 127.0.0.1 is there.
    pub listen: Vec<SocketAddr>,
    /// How we serve https.
    pub certificate: Certificate,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The key file, if it is not that of the data directory.
    pub key_file: Option<PathBuf>,
    /// The store.
    pub store: Where,
    /// Where these three were said.
    pub kept_at: Places,
    /// Where it was said, or can be said, on what to listen.
    pub listen_at: Place,
    /// The same of the certificate.
    pub certificate_at: Place,
    /// The same of further CAs.
    pub upstream_ca_at: Place,
    /// How much to say.
    pub log: String,
    /// Further CAs to trust upstream.
    pub upstream_ca: Vec<PathBuf>,
    /// Who may sign in with a password; `None`: the one whose password is made at the first start.
    pub users: Option<Vec<Kept>>,
    /// How long a sign-in skips the password, in seconds.
    pub session_ttl: u64,
    /// Who else vouches for users.
    pub idps: Vec<Idp>,
    /// Clients that need not register.
    pub clients: Vec<Configured>,
    /// What stands behind us.
    pub described: Vec<Described>,
    /// Origins of web pages that may call the MCP endpoints.
    pub cors_origins: Vec<String>,
    /// `/services` lists what stands behind us.
    pub public_directory: bool,
    /// `/token` also reads a JSON object.
    pub json_token: bool,
    /// What is good, and cannot be honoured yet.
    pub unbuilt: Vec<Wrong>,
    /// What the operator should know although it is not wrong.
    pub warnings: Vec<String>,
}

impl Checked {
    /// The services, if this build can serve all that was said.
    pub fn services(&self) -> Result<Vec<Service>, Wrong> {
        match self.unbuilt.first() {
            Some(wrong) => Err(wrong.clone()),
            None => Ok(self.described.iter().map(|described| described.service.clone()).collect()),
        }
    }

    /// Whether anybody signs in with a password.
    pub fn asks_passwords(&self) -> bool {
        self.described.iter().any(|described| described.service.login == Login::Password)
    }
}

/// Checks what was said at `whole`: the file, or the flags. `data_home` is where data directories are by custom.
pub fn check(spoken: Spoken, whole: &Place, data_home: Option<PathBuf>) -> Result<Checked, Wrong> {
    let hidden = spoken.hidden.clone();
    let mut checked = judge(spoken, whole, data_home).map_err(|wrong| wrong.hiding(&hidden))?;
    checked.unbuilt = checked.unbuilt.into_iter().map(|wrong| wrong.hiding(&hidden)).collect();
    Ok(checked)
}

fn judge(mut spoken: Spoken, whole: &Place, data_home: Option<PathBuf>) -> Result<Checked, Wrong> {
    let mut only = |pattern| spoken.only(pattern, whole);
    let (top, tls, store, keys) = (only(""), only("tls"), only("store"), only("keys"));
    let (login, cors) = (only("login.password"), only("cors"));
    let mut unbuilt = Vec::new();
    let certificate = site::certificate(&tls)?;
    let (site, listen) = site::site(&top, &certificate)?;
    let kept = kept::read(&store, &mut unbuilt)?;
    let idps = spoken.each("idp.*").map(people::idp).collect::<Result<Vec<_>, _>>()?;
    let clients = spoken.each("clients.*").map(people::client).collect::<Result<Vec<_>, _>>()?;
    let described = services(&spoken, &idps, whole, &mut unbuilt)?;
    keys_can_be_revoked(&spoken, &described, &kept)?;
    carried::check(&kept, (&tls, &certificate), spoken.each("services.*").zip(&described))?;
    let (mut upstream_ca, mut upstream_ca_at) = (Vec::new(), whole.clone());
    for section in spoken.each("services.*") {
        let files = section.files("upstream_ca")?;
        if !files.is_empty() {
            upstream_ca_at = section.place("upstream_ca");
        }
        upstream_ca.extend(files);
    }
    let instead = "say where with --data-dir DIR";
    let used: Vec<_> = described.iter().map(|one| one.service.login.clone()).collect();
    let mut warnings = [spoken.warnings.clone(), unused(&spoken, &used)].concat();
    let data_dir = match kept {
        Where::Nothing(_) => {
            let unused = top
                .file("data_dir")?
                .map(|_| format!("{}: it has no effect with store = \"none\": nothing is kept", top.place("data_dir")));
            warnings.extend(unused);
            Some(PathBuf::new())
        }
        Where::Memory | Where::Sqlite | Where::Redis(_) | Where::Vault(_) => top.file("data_dir")?.or(data_home),
    };
    let checked = Checked {
        site,
        listen,
        certificate,
        data_dir: data_dir.ok_or_else(|| top.missing("data_dir", "there is no home directory to keep data in", instead))?,
        key_file: keys.file("file")?,
        store: kept,
        kept_at: Places {
            data_dir: top.place("data_dir"),
            store: store.place("kind"),
            key_file: keys.place("file"),
        },
        listen_at: top.place("listen"),
        certificate_at: tls.place(if tls.has("self_signed") { "self_signed" } else { "cert" }),
        upstream_ca_at,
        log: top.one_of("log")?.map_or("info", |said| said.value).to_owned(),
        upstream_ca,
        users: people::users(&login)?,
        session_ttl: top.seconds("session_ttl")?.unwrap_or(SESSION_TTL),
        idps,
        clients,
        described,
        cors_origins: cors.texts("origins")?.iter().map(origin).collect::<Result<_, _>>()?,
        public_directory: top.switch("public_directory")?,
        json_token: top.some_of("compat")?.iter().any(|said| said.value == "json-token"),
        unbuilt,
        warnings,
    };
    for section in [&top, &tls, &store, &keys, &login, &cors].into_iter().chain(&spoken.sections) {
        no_effect(section)?;
    }
    Ok(checked)
}

/// A store in memory can neither be given an API key nor be told that one was revoked.
fn keys_can_be_revoked(spoken: &Spoken, described: &[Described], store: &Where) -> Result<(), Wrong> {
    let both = spoken.each("services.*").zip(described);
    let mut taking = both.filter(|(_, one)| one.service.access == Access::Key);
    match taking.next() {
        Some((section, one)) if *store == Where::Memory => {
            let what = format!(
                "service '{}' takes API keys, which a store in memory cannot be told of",
                one.service.name
            );
            Err(section.place("access").wrong(what, "use [store] kind = \"sqlite\""))
        }
        Some(_) | None => Ok(()),
    }
}

/// Identity providers at which no service's users sign in: described for nothing, or a `login` is missing.
fn unused(spoken: &Spoken, used: &[Login]) -> Vec<String> {
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

fn no_effect(section: &Section) -> Result<(), Wrong> {
    match section.unasked() {
        Some((_, at)) => Err(at.wrong("it has no effect beside the rest", "take it out")),
        None => Ok(()),
    }
}

fn services(spoken: &Spoken, idps: &[Idp], whole: &Place, unbuilt: &mut Vec<Wrong>) -> Result<Vec<Described>, Wrong> {
    let names: Vec<String> = idps.iter().map(|idp| idp.name.clone()).collect();
    let sections: Vec<&Section> = spoken.each("services.*").collect();
    let mut described: Vec<Described> = Vec::new();
    for section in &sections {
        let one = service::service(section, &names, sections.len() == 1)?;
        unbuilt.extend(unbuilt::of_service(section, &one));
        if one.service.is_default
            && let Some(other) = described.iter().find(|other| other.service.is_default)
        {
            let what = format!("service '{}' is the default already", other.service.name);
            return Err(section
                .place("default")
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

fn origin(said: &Said<String>) -> Result<String, Wrong> {
    let is_origin = said.value == "*" || crate::base::url::Address::parse(&said.value).is_ok_and(|address| address.origin() == said.value);
    if is_origin {
        return Ok(said.value.clone());
    }
    Err(said.wrong(
        format!("'{}' is not an origin", said.value),
        "write it like https://app.example.com, without a path, or `*` for everyone",
    ))
}
