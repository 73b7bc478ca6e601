//! Identity providers: their configuration, and presets of well-known ones. Data only.

use crate::base::secret::Secret;
use crate::base::special_ip::Cidr;
use crate::base::url::ExactUrl;
use crate::oauth::id_token::TENANT_PLACEHOLDER;
use crate::oauth::userinfo::ClaimRules;
use crate::upstream::allow_list::{AllowList, AllowListSubject, DomainRule};
use crate::upstream::quirks::{OfflineAccess, Profile, STRICT};

/// The claim that lists groups, unless the configuration names another one.
pub const DEFAULT_GROUPS_CLAIM: &str = "groups";

/// The defaults for one kind of provider.
#[derive(Debug, PartialEq, Eq)]
pub struct Preset {
    /// Its name in the configuration, `preset = "…"`.
    pub name: &'static str,
    /// The name that users see; empty: the host of the issuer.
    pub shown: &'static str,
    /// The issuer, if there is only one.
    pub issuer: Option<&'static str>,
    /// The endpoints, if the provider issues no ID tokens.
    pub plain: Option<PresetUserApi>,
    /// The scopes to request.
    pub scopes: &'static [&'static str],
    /// Whether the provider gives every client a secret.
    pub needs_secret: bool,
    /// The deviations of its authorization and token endpoints.
    pub profile: &'static Profile,
}

/// Documented endpoints of a provider that issues no ID tokens.
#[derive(Debug, PartialEq, Eq)]
pub struct PresetUserApi {
    /// The authorization endpoint.
    pub authorize: &'static str,
    /// The token endpoint.
    pub token: &'static str,
    /// The endpoint that identifies the user.
    pub user: &'static str,
    /// The endpoint that lists the user's e-mail addresses.
    pub emails: &'static str,
    /// The base of the API.
    pub api: &'static str,
}

/// GitHub's scope for memberships of organizations and teams.
const READ_ORGANIZATIONS: &str = "read:org";

const LOGIN: Profile = Profile {
    name: "login",
    send_resource: false,
    require_pkce_metadata: false,
    offline_access: OfflineAccess::IfListed,
    ..STRICT
};
static STANDARD_LOGIN: Profile = LOGIN;
static GOOGLE_LOGIN: Profile = Profile {
    extra_authorize: &[("prompt", "select_account")],
    ..LOGIN
};

/// Google. The login asks for the account, because users often have several.
pub static GOOGLE: Preset = Preset {
    name: "google",
    shown: "Google",
    issuer: Some("https://accounts.google.com"),
    plain: None,
    scopes: &["openid", "email", "profile"],
    needs_secret: true,
    profile: &GOOGLE_LOGIN,
};

/// GitHub, which issues no ID tokens for users. Two API calls with the token identify the user.
pub static GITHUB: Preset = Preset {
    name: "github",
    shown: "GitHub",
    issuer: Some("https://github.com/login/oauth"),
    plain: Some(PresetUserApi {
        authorize: "https://github.com/login/oauth/authorize",
        token: "https://github.com/login/oauth/access_token",
        user: "https://api.github.com/user",
        emails: "https://api.github.com/user/emails",
        api: "https://api.github.com",
    }),
    scopes: &["read:user", "user:email"],
    needs_secret: true,
    profile: &STANDARD_LOGIN,
};

/// Okta. `groups` is a scope of its own there, and a claim only if the tenant configures it.
pub static OKTA: Preset = Preset {
    name: "okta",
    shown: "Okta",
    issuer: None,
    plain: None,
    scopes: &["openid", "email", "profile", "groups"],
    needs_secret: false,
    profile: &STANDARD_LOGIN,
};

/// Any issuer that follows OpenID Connect.
pub static OIDC: Preset = Preset {
    name: "oidc",
    shown: "",
    issuer: None,
    plain: None,
    scopes: &["openid", "email", "profile"],
    needs_secret: false,
    profile: &STANDARD_LOGIN,
};

static ALL: [&Preset; 4] = [&GOOGLE, &GITHUB, &OKTA, &OIDC];

/// The preset with this name in the configuration.
pub fn by_name(name: &str) -> Option<&'static Preset> {
    ALL.into_iter().find(|preset| preset.name == name)
}

/// The names of all presets, for messages.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().map(|preset| preset.name)
}

/// The endpoints of a provider that issues no ID tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserApi {
    /// The authorization endpoint.
    pub authorize: ExactUrl,
    /// The token endpoint.
    pub token: ExactUrl,
    /// The endpoint that identifies the user.
    pub user: ExactUrl,
    /// The endpoint that lists the user's e-mail addresses.
    pub emails: ExactUrl,
    /// The base of the API, without a slash at its end.
    pub api: String,
}

/// Endpoints that replace those of the provider's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfiguredEndpoints {
    /// The URL of the metadata, if it is not that of the issuer.
    pub discovery: Option<ExactUrl>,
    /// The authorization endpoint.
    pub authorization: Option<ExactUrl>,
    /// The token endpoint.
    pub token: Option<ExactUrl>,
    /// The URL of the signing keys.
    pub jwks: Option<ExactUrl>,
    /// The userinfo endpoint.
    pub userinfo: Option<ExactUrl>,
}

/// One configured identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idp {
    /// Its name in the configuration, which is in the callback's path and in every user's subject.
    pub name: String,
    /// The preset with its defaults.
    pub preset: &'static Preset,
    /// The issuer, compared byte for byte.
    pub issuer: ExactUrl,
    /// The gateway's client id at the provider.
    pub client_id: String,
    /// The gateway's client secret at the provider.
    pub client_secret: Option<Secret>,
    /// The scopes to request.
    pub scopes: Vec<String>,
    /// The claim that lists groups, as a name or a path.
    pub groups_claim: String,
    /// Whether an e-mail address counts that the provider calls neither verified nor unverified.
    pub trust_email: bool,
    /// Endpoints that replace those of the metadata.
    pub endpoints: ConfiguredEndpoints,
    /// The users that may sign in.
    pub allow: AllowList,
    /// The endpoints, if the provider issues no ID tokens.
    pub plain: Option<UserApi>,
    /// More parameters of every authorization request, such as `prompt`; no reserved ones.
    pub extra_authorize: Vec<(String, String)>,
    /// More address blocks that the provider's metadata may point to.
    pub allow_addresses: Vec<Cidr>,
}

/// The reason why the configuration of a provider is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdpConfigError {
    /// The name does not fit a path and a subject, or is reserved.
    #[error("the name may have small letters, digits and hyphens only, at most 63, and be neither `password` nor `key`")]
    Name,
    /// The issuer is missing, and the preset has none.
    #[error("`issuer` is missing: the address of the provider, such as https://login.example.com")]
    IssuerMissing,
    /// The issuer is configured, but the preset has one.
    #[error(
        "`issuer` is known for this preset: leave it out; another GitHub is named by `base_url`, another provider by preset = \"oidc\""
    )]
    IssuerGiven,
    /// The issuer is neither https nor http on loopback, or it has a query.
    #[error("`issuer` must be an https address without a query")]
    Issuer,
    /// The base URL is neither https nor http on loopback, or it has a query.
    #[error("`base_url` must be an https address without a query")]
    BaseUrl,
    /// The client id is missing.
    #[error("`client_id` is missing")]
    ClientId,
    /// The client secret is missing, and this provider requires one.
    #[error("`client_secret` is missing: this provider needs one")]
    SecretMissing,
}

impl Idp {
    /// A provider with its preset's defaults, which admits no user. Scopes, groups claim and allow list can
    /// change later.
    /// # Errors
    /// [`IdpConfigError`] for the first invalid argument.
    pub fn new(
        name: &str,
        preset: &'static Preset,
        issuer: Option<ExactUrl>,
        client_id: &str,
        client_secret: Option<Secret>,
    ) -> Result<Self, IdpConfigError> {
        let is_valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        // Backends get these names for password users and API keys, so no provider may have them.
        let is_reserved = ["password", "key"].contains(&name);
        if is_reserved || !(1..=63).contains(&name.len()) || !name.bytes().all(is_valid) || name.starts_with('-') {
            return Err(IdpConfigError::Name);
        }
        let issuer = match (preset.issuer, issuer) {
            (Some(known), None) => ExactUrl::parse(known).map_err(|_| IdpConfigError::Issuer)?,
            (Some(_), Some(_)) => return Err(IdpConfigError::IssuerGiven),
            (None, Some(issuer)) => issuer,
            (None, None) => return Err(IdpConfigError::IssuerMissing),
        };
        let url = issuer.url();
        if !(url.scheme() == "https" || (url.scheme() == "http" && issuer.is_loopback())) || url.query().is_some() {
            return Err(IdpConfigError::Issuer);
        }
        if client_id.is_empty() {
            return Err(IdpConfigError::ClientId);
        }
        let client_secret = client_secret.filter(|secret| !secret.is_empty());
        if client_secret.is_none() && preset.needs_secret {
            return Err(IdpConfigError::SecretMissing);
        }
        Ok(Self {
            name: name.to_owned(),
            preset,
            issuer,
            client_id: client_id.to_owned(),
            client_secret,
            scopes: preset.scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            groups_claim: DEFAULT_GROUPS_CLAIM.to_owned(),
            trust_email: false,
            endpoints: ConfiguredEndpoints::default(),
            allow: AllowList::default(),
            plain: preset.plain.as_ref().and_then(UserApi::of),
            extra_authorize: Vec::new(),
            allow_addresses: Vec::new(),
        })
    }

    /// The same GitHub on a host of its own: GitHub Enterprise Server, or Enterprise Cloud with data residency
    /// at `ghe.com`, whose API has a host of its own.
    /// # Errors
    /// [`IdpConfigError::BaseUrl`] if the URL cannot be the base of the endpoints.
    pub fn at_base_url(mut self, base: &ExactUrl) -> Result<Self, IdpConfigError> {
        let host = base.url().host_str().unwrap_or_default();
        if !base.is_secure_or_loopback() || base.url().query().is_some() {
            return Err(IdpConfigError::BaseUrl);
        }
        let web = base.as_str().trim_end_matches('/');
        let api = if host.ends_with(".ghe.com") {
            format!("https://api.{host}")
        } else {
            format!("{web}/api/v3")
        };
        let parse = |text: String| ExactUrl::parse(&text).map_err(|_| IdpConfigError::BaseUrl);
        self.issuer = parse(format!("{web}/login/oauth"))?;
        self.plain = Some(UserApi {
            authorize: parse(format!("{web}/login/oauth/authorize"))?,
            token: parse(format!("{web}/login/oauth/access_token"))?,
            user: parse(format!("{api}/user"))?,
            emails: parse(format!("{api}/user/emails"))?,
            api,
        });
        Ok(self)
    }

    /// Whether each tenant has an issuer of its own, which the configured one stands for.
    pub fn has_template_issuer(&self) -> bool {
        self.issuer.as_str().contains(TENANT_PLACEHOLDER)
    }

    /// How this provider's claims are read.
    pub fn claim_rules(&self) -> ClaimRules<'_> {
        ClaimRules {
            groups: &self.groups_claim,
            trust_email: self.trust_email,
        }
    }

    /// The scopes to request. Memberships at GitHub need one more.
    pub fn requested_scopes(&self) -> Vec<String> {
        let mut scopes = self.scopes.clone();
        if self.allow.needs_memberships() && !scopes.iter().any(|scope| scope == READ_ORGANIZATIONS) {
            scopes.push(READ_ORGANIZATIONS.to_owned());
        }
        scopes
    }

    /// The name that users see: that of the preset, or the host of the issuer.
    pub fn display_name(&self) -> &str {
        if self.preset.shown.is_empty() {
            self.issuer.url().host_str().unwrap_or(&self.name)
        } else {
            self.preset.shown
        }
    }

    /// Whether this user may sign in. An empty allow list admits no user. At Google's issuer, domains are
    /// those of the claim `hd`.
    pub fn is_allowed(&self, user: AllowListSubject<'_>) -> bool {
        let is_google = GOOGLE.issuer == Some(self.issuer.as_str());
        let rule = if is_google { DomainRule::HostedDomain } else { DomainRule::Email };
        self.allow.contains(user, rule)
    }

    /// Whether the discovered endpoints and keys of `other` are valid for this provider too.
    pub fn has_same_endpoints(&self, other: &Self) -> bool {
        let endpoint_settings = |idp: &Self| {
            let credentials = (idp.client_id.clone(), idp.client_secret.clone());
            let overrides = (
                idp.plain.clone(),
                idp.endpoints.clone(),
                idp.extra_authorize.clone(),
                idp.allow_addresses.clone(),
            );
            (idp.preset.name, idp.issuer.clone(), credentials, overrides)
        };
        endpoint_settings(self) == endpoint_settings(other)
    }
}

impl UserApi {
    fn of(known: &PresetUserApi) -> Option<Self> {
        let parse = |text| ExactUrl::parse(text).ok();
        Some(Self {
            authorize: parse(known.authorize)?,
            token: parse(known.token)?,
            user: parse(known.user)?,
            emails: parse(known.emails)?,
            api: known.api.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> ExactUrl {
        ExactUrl::parse(text).unwrap()
    }

    fn made(preset: &'static Preset, issuer: Option<ExactUrl>) -> Result<Idp, IdpConfigError> {
        Idp::new("corp", preset, issuer, "us", Some(Secret::from("s")))
    }

    #[test]
    fn every_provider_preset_is_found_by_name_and_valid() {
        for name in names() {
            let preset = by_name(name).unwrap();
            let issuer = preset.issuer.is_none().then(|| at("https://login.example.com"));
            let idp = made(preset, issuer).unwrap();
            assert_eq!(idp.plain.is_some(), preset.plain.is_some(), "{name}");
            assert!(preset.plain.is_some() || idp.scopes.contains(&"openid".to_owned()), "{name}");
        }
        assert!(by_name("gogle").is_none());
    }

    #[test]
    fn an_empty_allow_list_admits_no_user_at_any_provider() {
        let user = AllowListSubject {
            id: "1",
            email: Some("a@gmail.com"),
            groups: &[],
            hosted_domain: None,
        };
        for name in names() {
            let preset = by_name(name).unwrap();
            let issuer = preset.issuer.is_none().then(|| at("https://login.example.com"));
            let mut idp = made(preset, issuer).unwrap();
            assert!(!idp.is_allowed(user), "{name}");
            idp.allow = AllowList::anyone();
            assert!(idp.is_allowed(user), "{name}");
        }
    }

    #[test]
    fn a_domain_at_google_needs_an_account_of_the_organization() {
        let user = |hosted_domain| AllowListSubject {
            id: "1",
            email: Some("ann+consumer@example.com"),
            groups: &[],
            hosted_domain,
        };
        let with_domain = |mut idp: Idp| {
            idp.allow.domains.push("example.com".into());
            idp
        };
        let google = with_domain(made(&GOOGLE, None).unwrap());
        let by_issuer = with_domain(made(&OIDC, Some(at("https://accounts.google.com"))).unwrap());
        for idp in [google, by_issuer] {
            assert!(!idp.is_allowed(user(None)) && idp.is_allowed(user(Some("example.com"))));
        }
        let other = with_domain(made(&OIDC, Some(at("https://login.example.com"))).unwrap());
        assert!(other.is_allowed(user(None)));
    }

    #[test]
    fn an_incomplete_or_invalid_provider_configuration_is_refused() {
        assert_eq!(made(&OIDC, None), Err(IdpConfigError::IssuerMissing));
        assert_eq!(
            made(&GOOGLE, Some(at("https://accounts.google.com"))),
            Err(IdpConfigError::IssuerGiven)
        );
        for invalid in [
            "http://login.example.com",
            "https://login.example.com/?a=b",
            "ftp://login.example.com",
        ] {
            assert_eq!(made(&OIDC, Some(at(invalid))), Err(IdpConfigError::Issuer), "{invalid}");
        }
        for invalid in ["", "Corp", "a:b", "-a", "a/b", "password", "key"] {
            assert_eq!(
                Idp::new(invalid, &OIDC, Some(at("https://h")), "us", None),
                Err(IdpConfigError::Name),
                "{invalid}"
            );
        }
        assert_eq!(Idp::new("a", &OIDC, Some(at("https://h")), "", None), Err(IdpConfigError::ClientId));
        assert_eq!(
            Idp::new("a", &GOOGLE, None, "us", Some(Secret::from(""))),
            Err(IdpConfigError::SecretMissing)
        );
        assert!(Idp::new("a", &OIDC, Some(at("http://127.0.0.1:9")), "us", None).is_ok());
    }
}
