//! Password users, identity providers and configured clients. Readers fail at the wrong key.

use crate::base::ids::Digest;
use crate::config::schema::{Key, KeyInfo, kind};
use crate::config::section::{Section, TableOr};
use crate::config::spanned::{ConfigError, Spanned};
use crate::config::{keys, upstream};
use crate::oauth::client_id_metadata::{self, ClientIdUrl};
use crate::oauth::redirect_uri::RedirectUri;
use crate::oauth::registration::{ClientAuthMethod, ClientRegistration};
use crate::service;
use crate::service::client::{self, ConfiguredClient, PinnedDocument};
use crate::service::password_user::{self, LazyPasswordHash, PasswordUser};
use crate::upstream::allow_list::{AllowList, Team, is_github_name};
use crate::upstream::idp::{self, ConfiguredEndpoints, DEFAULT_GROUPS_CLAIM, Idp, IdpConfigError};

/// The shortest client secret, in characters. Only a fast digest protects it, so it is long.
const MIN_SECRET_CHARS: usize = 32;

/// Reads `[login.password]`. `None`: one user, whose password is made at the first start.
pub fn users(login: &Section) -> Result<Option<Vec<PasswordUser>>, ConfigError> {
    if !login.contains(&keys::password::USERS) {
        return Ok(None);
    }
    let mut users: Vec<PasswordUser> = Vec::new();
    for section in login.get(&keys::password::USERS)? {
        let missing =
            |key: &'static Key<kind::Text>, what| section.missing(key, what, "write it like { name = \"alice\", hash = \"$argon2id$…\" }");
        let name = section
            .get(&keys::user::NAME)?
            .ok_or_else(|| missing(&keys::user::NAME, "the user's name is missing"))?;
        if !password_user::is_name(&name.value) {
            return Err(name.wrong(
                format!("{:?} cannot be a user's name", name.value),
                "use 1 to 200 characters, none of them a colon: that stands between a provider's name and its user",
            ));
        }
        let hash = section
            .get(&keys::user::HASH)?
            .ok_or_else(|| missing(&keys::user::HASH, "the hash of the password is missing"))?;
        let make_hash = "make one: printf %s 'the password' | argon2 \"$(openssl rand -hex 8)\" -id -t 2 -k 19456 -e";
        if !password_user::is_argon2id(&hash.value) {
            return Err(hash.wrong("it is not an argon2id hash", make_hash));
        }
        if let Some(weakness) = password_user::hash_weakness(&hash.value) {
            return Err(hash.wrong(format!("the hash is too easy to guess: {weakness}"), make_hash));
        }
        if users.iter().any(|user| user.name == name.value) {
            return Err(name.wrong(format!("'{}' is there twice", name.value), "take one out"));
        }
        users.push(PasswordUser {
            name: name.value,
            hash: LazyPasswordHash::from_hash(hash.value),
        });
    }
    if users.is_empty() {
        let instead = "name one, or take the line out: then a password is made at the first start";
        return Err(login.location(&keys::password::USERS).wrong("nobody could sign in", instead));
    }
    Ok(Some(users))
}

/// Reads an identity provider, `[idp.<name>]`.
pub fn parse_provider(section: &Section) -> Result<Idp, ConfigError> {
    let name = named(section, "an identity provider")?;
    let preset = section
        .get(&keys::idp::PRESET)?
        .and_then(|spanned| idp::by_name(spanned.value))
        .unwrap_or(&idp::OIDC);
    let issuer = section.get(&keys::idp::ISSUER)?.map(|spanned| spanned.value);
    let client_id = section
        .get(&keys::idp::CLIENT_ID)?
        .map_or_else(String::new, |spanned| spanned.value);
    let secret = section.get(&keys::idp::CLIENT_SECRET)?;
    let (allow, scopes) = (allow(section)?, plain(section.get(&keys::idp::SCOPES)?));
    let mut idp = Idp::new(&name, preset, issuer, &client_id, secret).map_err(|error| {
        let (key, instead) = match error {
            IdpConfigError::Name => return section.at.wrong(error.to_string(), "choose another name"),
            IdpConfigError::IssuerMissing | IdpConfigError::Issuer => {
                (&keys::idp::ISSUER.info, "for instance issuer = \"https://login.example.com\"")
            }
            IdpConfigError::IssuerGiven => (&keys::idp::ISSUER.info, "take it out"),
            IdpConfigError::BaseUrl => (&keys::idp::BASE_URL.info, "write it like https://github.example.com"),
            IdpConfigError::ClientId => (
                &keys::idp::CLIENT_ID.info,
                "register the gateway there, and write its client id here",
            ),
            IdpConfigError::SecretMissing => (
                &keys::idp::CLIENT_SECRET.info,
                "add client_secret_file = \"…\", or client_secret = \"${VARIABLE}\"",
            ),
        };
        section.location(key).wrong(error.to_string(), instead)
    })?;
    if !scopes.is_empty() {
        idp.scopes = scopes;
    }
    if let Some(claim) = section.get(&keys::idp::GROUPS_CLAIM)? {
        idp.groups_claim = claim.value;
    }
    idp.trust_email = section.is_on(&keys::idp::TRUST_EMAIL)?;
    idp.endpoints = endpoints(section)?;
    if let Some(base) = section.get(&keys::idp::BASE_URL)? {
        if idp.plain.is_none() {
            return Err(base.wrong("only preset = \"github\" has it", "take it out, and write `issuer`"));
        }
        let wrong = |error: IdpConfigError| base.wrong(error.to_string(), "write it like https://github.example.com");
        idp = idp.at_base_url(&base.value).map_err(wrong)?;
    }
    idp.allow_addresses = upstream::addresses(section, &keys::idp::ALLOW_ADDRESSES)?;
    idp.allow = allow.ok_or_else(|| {
        let what = "it is missing, and without it no user may sign in";
        let instead = "name the users, for instance allow = { emails = [\"alice@example.com\"] }, or domains, groups, subjects; \
            allow = \"anyone\" admits every account of the provider";
        section.missing(&keys::idp::ALLOW, what, instead)
    })?;
    check_effect(section, &idp)?;
    Ok(idp)
}

fn endpoints(section: &Section) -> Result<ConfiguredEndpoints, ConfigError> {
    let url = |key: &'static Key<kind::Url>| Ok(section.get(key)?.map(|spanned| spanned.value));
    Ok(ConfiguredEndpoints {
        discovery: url(&keys::idp::DISCOVERY_URL)?,
        authorization: url(&keys::idp::AUTHORIZATION_ENDPOINT)?,
        token: url(&keys::idp::TOKEN_ENDPOINT)?,
        jwks: url(&keys::idp::JWKS_URI)?,
        userinfo: url(&keys::idp::USERINFO_ENDPOINT)?,
    })
}

/// Refuses keys that have no effect at this provider, or that do not go together.
fn check_effect(section: &Section, idp: &Idp) -> Result<(), ConfigError> {
    let no_effect = |key: &'static KeyInfo, why: &str, instead: &str| Err(section.location(key).wrong(why, instead));
    let is_github = idp.plain.is_some();
    let only_openid: [&'static KeyInfo; 7] = [
        &keys::idp::DISCOVERY_URL.info,
        &keys::idp::AUTHORIZATION_ENDPOINT.info,
        &keys::idp::TOKEN_ENDPOINT.info,
        &keys::idp::JWKS_URI.info,
        &keys::idp::USERINFO_ENDPOINT.info,
        &keys::idp::GROUPS_CLAIM.info,
        &keys::idp::TRUST_EMAIL.info,
    ];
    if let Some(key) = only_openid.into_iter().find(|key| is_github && section.contains(*key)) {
        return no_effect(key, "it has no effect at GitHub, which is no OpenID provider", "take it out");
    }
    if is_github && !idp.allow.groups.is_empty() {
        return no_effect(
            &keys::idp::ALLOW.info,
            "`groups` has no effect at GitHub, which names no groups",
            "use organizations = [\"…\"] or teams = [\"organization/team\"]",
        );
    }
    if !is_github && idp.allow.needs_memberships() {
        let instead = "use groups, or preset = \"github\"";
        return no_effect(
            &keys::idp::ALLOW.info,
            "`organizations` and `teams` have an effect only at GitHub",
            instead,
        );
    }
    if idp.has_template_issuer() {
        return check_template_issuer(section, idp);
    }
    Ok(())
}

/// Refuses what everybody could choose who makes a tenant at the provider.
fn check_template_issuer(section: &Section, idp: &Idp) -> Result<(), ConfigError> {
    let refuse = |key: &'static KeyInfo, why: &str, instead: &str| Err(section.location(key).wrong(why, instead));
    if idp.endpoints.discovery.is_none() {
        return refuse(
            &keys::idp::ISSUER.info,
            "an issuer with {tenantid} says not where its configuration is",
            "add discovery_url = \"https://login.microsoftonline.com/organizations/v2.0/.well-known/openid-configuration\"",
        );
    }
    if idp.trust_email {
        return refuse(
            &keys::idp::TRUST_EMAIL.info,
            "with {tenantid} in `issuer`, everybody can make a tenant and write any e-mail address there",
            "take it out; addresses with xms_edov count without it",
        );
    }
    if !idp.allow.groups.is_empty() && idp.groups_claim != DEFAULT_GROUPS_CLAIM {
        return refuse(
            &keys::idp::GROUPS_CLAIM.info,
            "with {tenantid} in `issuer`, every tenant can assign the values of this claim to its own users",
            "take it out, and name object ids of groups in `allow`",
        );
    }
    if let Some(name) = idp.allow.groups.iter().find(|group| !is_object_id(group)) {
        return refuse(
            &keys::idp::ALLOW.info,
            &format!("with {{tenantid}} in `issuer`, everybody can make a tenant with a group '{name}'"),
            "name the group by its object id, for instance groups = [\"5f0c3a1e-9d2b-4c8a-8f61-2b7de0a4c913\"]",
        );
    }
    Ok(())
}

/// Whether this is the object id of a group at Entra, a UUID. No two tenants have the same one, while
/// each tenant names its groups as it likes.
fn is_object_id(group: &str) -> bool {
    let parts: Vec<&str> = group.split('-').collect();
    let lengths = parts.iter().map(|part| part.len());
    lengths.eq([8, 4, 4, 4, 12]) && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn allow(section: &Section) -> Result<Option<AllowList>, ConfigError> {
    let allow = match section.get(&keys::idp::ALLOW)? {
        None => return Ok(None),
        Some(TableOr::Word) => return Ok(Some(AllowList::anyone())),
        Some(TableOr::Table(allow)) => allow,
    };
    let emails = allow.get(&keys::allow::EMAILS)?;
    if let Some(invalid) = emails
        .iter()
        .find(|email| email.value.split('@').filter(|part| !part.is_empty()).count() != 2)
    {
        return Err(invalid.wrong(
            format!("'{}' is not an e-mail address", invalid.value),
            "write it like alice@example.com",
        ));
    }
    let domains = allow.get(&keys::allow::DOMAINS)?;
    if let Some(invalid) = domains
        .iter()
        .find(|domain| domain.value.contains(['@', '*', '/', ' ']) || domain.value.starts_with('.'))
    {
        return Err(invalid.wrong(
            format!("'{}' is not a domain", invalid.value),
            "write it like example.com; what is below it is not meant",
        ));
    }
    let allowed = AllowList {
        emails: plain(emails),
        domains: plain(domains).iter().map(|domain| domain.to_ascii_lowercase()).collect(),
        groups: plain(allow.get(&keys::allow::GROUPS)?),
        subjects: plain(allow.get(&keys::allow::SUBJECTS)?),
        organizations: allow
            .get(&keys::allow::ORGANIZATIONS)?
            .iter()
            .map(organization)
            .collect::<Result<_, _>>()?,
        teams: allow.get(&keys::allow::TEAMS)?.iter().map(team).collect::<Result<_, _>>()?,
        is_anyone: false,
    };
    if allowed == AllowList::default() {
        let instead =
            "name emails, domains, groups, subjects, or at GitHub organizations or teams; allow = \"anyone\" admits every account";
        return Err(section.location(&keys::idp::ALLOW).wrong("nobody could sign in", instead));
    }
    Ok(Some(allowed))
}

fn organization(text: &Spanned<String>) -> Result<String, ConfigError> {
    if is_github_name(&text.value) {
        return Ok(text.value.to_ascii_lowercase());
    }
    Err(text.wrong(
        format!("'{}' is not an organization", text.value),
        "write its name in the address: my-org of https://github.com/my-org",
    ))
}

fn team(text: &Spanned<String>) -> Result<Team, ConfigError> {
    Team::parse(&text.value).ok_or_else(|| {
        text.wrong(
            format!("'{}' is not a team", text.value),
            "write it like my-org/my-team, as in the team's address",
        )
    })
}

/// Reads the clients, `[clients.<id>]`. An id that is a URL is that of a pinned metadata document.
pub fn clients<'s>(sections: impl Iterator<Item = &'s Section>) -> Result<(Vec<ConfiguredClient>, Vec<PinnedDocument>), ConfigError> {
    let (documents, others): (Vec<_>, Vec<_>) = sections.partition(|section| section.name().contains("://"));
    let clients = others.into_iter().map(parse_client).collect::<Result<_, _>>()?;
    let pinned = documents.into_iter().map(parse_document).collect::<Result<_, _>>()?;
    Ok((clients, pinned))
}

fn parse_document(section: &Section) -> Result<PinnedDocument, ConfigError> {
    let id = section.name();
    let url = ClientIdUrl::parse(id, true).map_err(|error| {
        let instead = "write the URL as the client sends it, for instance https://app.example/client.json";
        section
            .at
            .wrong(format!("'{id}' cannot be the id of a client with a document: it {error}"), instead)
    })?;
    let registration = match section.get(&keys::client::DOCUMENT_FILE)? {
        Some(text) => client_id_metadata::parse_document(&url, text.value.as_bytes()).map_err(|error| {
            let what = format!("the client's document is not accepted: {error}");
            text.wrong(what, format!("save the document that {id} serves, unchanged"))
        })?,
        None => ClientRegistration {
            redirect_uris: redirect_uris(section)?,
            name: Some(section.get(&keys::client::NAME)?.map_or_else(|| id.to_owned(), |name| name.value)),
            auth_method: ClientAuthMethod::None,
            may_refresh: true,
        },
    };
    Ok(PinnedDocument { url, registration })
}

/// Reads a client that need not register.
fn parse_client(section: &Section) -> Result<ConfiguredClient, ConfigError> {
    let id = section.name().to_owned();
    if !client::is_valid_client_id(&id) {
        return Err(section.at.wrong(
            format!("'{id}' cannot be a client id of your own"),
            "use letters, digits and hyphens",
        ));
    }
    Ok(ConfiguredClient {
        redirect_uris: redirect_uris(section)?,
        pkce_optional: pkce_optional(section)?,
        secret: client_secret(section)?,
        name: section.get(&keys::client::NAME)?.map_or_else(|| id.clone(), |name| name.value),
        id,
    })
}

fn redirect_uris(section: &Section) -> Result<Vec<RedirectUri>, ConfigError> {
    let uris = section.get(&keys::client::REDIRECT_URIS)?;
    if uris.is_empty() {
        let instead = "for instance redirect_uris = [\"http://127.0.0.1/callback\"]";
        return Err(section.missing(&keys::client::REDIRECT_URIS, "a client needs an address for its answers", instead));
    }
    let parse_uri = |text: &Spanned<String>| {
        let instead = || "use https, http on loopback or in a private network, or a scheme of an app's own".to_owned();
        Ok(text
            .read(|text| RedirectUri::parse_configured(text).map_err(|_| (format!("'{text}' cannot be a redirect URI"), instead())))?
            .value)
    };
    uris.iter().map(parse_uri).collect()
}

/// PKCE protects a public client's code, and nothing else does.
fn pkce_optional(section: &Section) -> Result<bool, ConfigError> {
    let Some(pkce) = section.get(&keys::client::PKCE)? else {
        return Ok(false);
    };
    let has_secret = section.contains(&keys::client::SECRET) || section.contains(&keys::client::SECRET_HASH);
    if pkce.value == "optional" && !has_secret {
        return Err(pkce.wrong(
            "only a client with a secret may do without PKCE",
            "add secret or secret_hash, or take it out",
        ));
    }
    Ok(pkce.value == "optional")
}

fn client_secret(section: &Section) -> Result<Option<Digest>, ConfigError> {
    match (section.get(&keys::client::SECRET)?, section.get(&keys::client::SECRET_HASH)?) {
        (Some(_), Some(hash)) => Err(hash.wrong("the secret is there too", "take one of the two out")),
        (Some(secret), None) if secret.expose().chars().count() < MIN_SECRET_CHARS => Err(section.location(&keys::client::SECRET).wrong(
            format!("it is shorter than {MIN_SECRET_CHARS} characters"),
            "make one: openssl rand -hex 32",
        )),
        (Some(secret), None) => Ok(Some(Digest::new(secret.expose()))),
        (None, Some(hash)) => {
            let instead = "make a secret with `openssl rand -hex 32`, and this of it: printf %s 'the secret' | sha256sum";
            let digest = Digest::from_hex(&hash.value);
            digest
                .map(Some)
                .ok_or_else(|| hash.wrong("it is not a SHA-256 in hexadecimal digits", instead))
        }
        (None, None) => Ok(None),
    }
}

/// A table's name, which becomes a segment of the gateway's paths.
fn named(section: &Section, what: &str) -> Result<String, ConfigError> {
    let name = section.name();
    if service::is_name(name) {
        return Ok(name.to_owned());
    }
    let instead = "use small letters, digits and hyphens, 63 at most, and no word that stands in a path of ours";
    Err(section.at.wrong(format!("'{name}' cannot be the name of {what}"), instead))
}

fn plain(texts: Vec<Spanned<String>>) -> Vec<String> {
    texts.into_iter().map(|text| text.value).collect()
}
