//! One service: its three choices, its tokens, and the rest.

use crate::config::choices::{self, Way, access_word};
use crate::config::said::{Said, Wrong};
use crate::config::section::Section;
use crate::config::strategy;
use crate::oauth::scope::Scopes;
use crate::service::{self, Access, Login, Service};
use crate::token::half::{Mode, ServiceMark};
use crate::token::lifetime::Ttl;

/// The longest title, in characters: it is shown before the host, which must stay in sight.
const LONGEST_TITLE: usize = 40;

/// `token_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// The upstream half is sealed.
    Sealed,
    /// The upstream half can be read.
    Plain,
    /// The upstream half is a handle.
    Reference,
    /// One signed token, and no upstream half.
    Jwt,
    /// The upstream's token and nothing of ours.
    Raw,
}

/// A service as the operator describes it, checked; [`super::unbuilt`] says what of it nobody can honour yet.
#[derive(Clone, Debug)]
pub struct Described {
    /// What there is a type for.
    pub service: Service,
    /// How its tokens look.
    pub tokens: Tokens,
}

/// Reads a service; `alone`: there is no other.
pub fn service(section: &Section, idps: &[String], alone: bool) -> Result<Described, Wrong> {
    let name = section.name().to_owned();
    if !service::is_name(&name) {
        return Err(section.at.wrong(
            format!("'{name}' cannot be the name of a service"),
            "use small letters, digits and hyphens, 63 at most, and no word that stands in a path of ours, such as mcp or login",
        ));
    }
    let url = section.url("url")?.ok_or_else(|| {
        let instead = match section.word("url").as_str() {
            flag @ "--upstream-rs" => format!("for instance {flag} https://api.githubcopilot.com/mcp/"),
            _ => "for instance url = \"https://api.githubcopilot.com/mcp/\"".to_owned(),
        };
        section.missing("url", "the upstream MCP server is missing", &instead)
    })?;
    let (access, login, way) = choices::choices(section, idps)?;
    let upstream = strategy::upstream(section, way)?;
    let tokens = tokens(section, access, way)?;
    let described = Described {
        service: Service {
            mark: ServiceMark::of(&name),
            title: title(section)?,
            is_default: section.switch_if_said("default")?.map_or(alone, |said| said.value),
            mcp: url.value,
            access,
            upstream,
            mode: match tokens {
                Tokens::Plain => Mode::Plain,
                Tokens::Reference => Mode::Reference,
                Tokens::Jwt => Mode::Jwt,
                #[cfg(feature = "raw")]
                Tokens::Raw => Mode::Raw,
                // Without the feature, serving is refused.
                #[cfg(not(feature = "raw"))]
                Tokens::Raw => Mode::Sealed,
                Tokens::Sealed => Mode::Sealed,
            },
            ttl: ttl(section, access)?,
            refresh_grace: if access == Access::OAuth {
                section.seconds("refresh_grace")?
            } else {
                None
            }
            .unwrap_or(7_200),
            scopes: if access == Access::OAuth {
                scopes(section, "scopes")?
            } else {
                Scopes::default()
            },
            optional_scopes: if access == Access::OAuth {
                scopes(section, "optional_scopes")?
            } else {
                Scopes::default()
            },
            required_scopes: if access == Access::Public {
                Scopes::default()
            } else {
                scopes(section, "required_scopes")?
            },
            forward_headers: section
                .texts("forward_headers")?
                .iter()
                .map(strategy::forwarded)
                .collect::<Result<_, _>>()?,
            remember_consent: access == Access::OAuth && remember_consent(section, &login, way)?,
            login,
            name,
        },
        tokens,
    };
    if let Some((_, at)) = section.unasked().filter(|(name, _)| *name != "upstream_ca") {
        let what = format!(
            "it has no effect with access = \"{}\" and upstream = \"{}\"",
            access_word(access),
            way.word()
        );
        return Err(at.wrong(what, "take it out"));
    }
    Ok(described)
}

fn title(section: &Section) -> Result<Option<String>, Wrong> {
    let Some(said) = section.text("title")? else { return Ok(None) };
    if said.value.chars().count() > LONGEST_TITLE || said.value.chars().any(char::is_control) {
        let what = format!("it is longer than {LONGEST_TITLE} characters, or has control characters in it");
        return Err(said.wrong(what, "write a short name on one line"));
    }
    Ok(Some(said.value))
}

/// Where there is nobody whose consent could be remembered, or the page asks for more than consent, it would say nothing.
fn remember_consent(section: &Section, login: &Login, way: Way) -> Result<bool, Wrong> {
    let remembers = section.switch("remember_consent")?;
    if !remembers {
        return Ok(false);
    }
    let place = section.place("remember_consent");
    match (login, way) {
        (Login::None, _) => Err(place.wrong(
            "with login = \"none\" nobody is known whose consent could be remembered",
            "take it out, or use login = \"password\" or \"idp:<name>\"",
        )),
        (Login::Password | Login::Idp(_), Way::Paste) => Err(place.wrong(
            "with upstream = \"paste\" the page asks for the user's key each time",
            "take it out",
        )),
        (Login::Password | Login::Idp(_), Way::OAuth | Way::Static | Way::Identity | Way::None) => Ok(true),
    }
}

fn tokens(section: &Section, access: Access, way: Way) -> Result<Tokens, Wrong> {
    if access != Access::OAuth {
        return Ok(Tokens::Sealed);
    }
    let passthrough = section.switch("allow_token_passthrough")?;
    let Some(said) = section.one_of("token_mode")? else {
        return Ok(Tokens::Sealed);
    };
    let told = |what: &str| {
        let allow = match section.word("allow_token_passthrough").as_str() {
            flag @ "--allow-token-passthrough" => flag.to_owned(),
            _ => "allow_token_passthrough = true".to_owned(),
        };
        said.wrong(what, format!("use sealed, or add {allow} if you know why you need it"))
    };
    let fits = |tokens, ways: &[Way]| {
        if ways.contains(&way) {
            return Ok(tokens);
        }
        let ways: Vec<String> = ways.iter().map(|way| format!("\"{}\"", way.word())).collect();
        let valid = format!(
            "token_mode = \"{}\" goes with upstream = {}; else use \"sealed\"",
            said.value,
            ways.join(" or ")
        );
        Err(choices::clash(
            section,
            ("upstream", way.word()),
            ("token_mode", said.value),
            &valid,
        ))
    };
    match said.value {
        "plain" if !passthrough => Err(told("plain lets the client read the upstream's token, which MCP forbids")),
        "raw" if !passthrough => Err(told("raw gives the client the upstream's token, which MCP forbids")),
        "plain" => fits(Tokens::Plain, &[Way::OAuth, Way::Paste]),
        "raw" => fits(Tokens::Raw, &[Way::OAuth, Way::Paste]),
        "reference" => fits(Tokens::Reference, &[Way::OAuth, Way::Paste]),
        "jwt" => fits(Tokens::Jwt, &[Way::Identity, Way::None, Way::Static]),
        _ => Ok(Tokens::Sealed),
    }
}

fn ttl(section: &Section, access: Access) -> Result<Ttl, Wrong> {
    let default = Ttl::default();
    if access != Access::OAuth {
        return Ok(default);
    }
    let ttl = Ttl {
        access: section.seconds("access_ttl")?.unwrap_or(default.access),
        refresh: section.seconds("refresh_ttl")?.unwrap_or(default.refresh),
        absolute: section.seconds("refresh_absolute_ttl")?.unwrap_or(default.absolute),
    };
    if section.has("refresh_absolute_ttl") && ttl.absolute < ttl.refresh {
        let what = format!("it is shorter than refresh_ttl ({} s)", ttl.refresh);
        return Err(section
            .place("refresh_absolute_ttl")
            .wrong(what, "make it longer, or make refresh_ttl shorter"));
    }
    Ok(ttl)
}

fn scopes(section: &Section, name: &str) -> Result<Scopes, Wrong> {
    let said = section.texts(name)?;
    let words = || said.iter().map(|said| said.value.as_str()).collect::<Vec<_>>().join(" ");
    let bad = |said: &&Said<String>| Scopes::parse(&said.value).list() != [said.value.as_str()];
    if let Some(bad) = said.iter().find(bad) {
        return Err(bad.wrong(
            format!("'{}' cannot be a scope", bad.value),
            "write each scope as a text of its own, without spaces or quotes in it",
        ));
    }
    Ok(Scopes::parse(&words()))
}
