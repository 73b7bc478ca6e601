//! One service: its three choices, its tokens, and the rest.

use crate::config::choices::{self, Way, access_word};
use crate::config::said::{Said, Wrong};
use crate::config::section::Section;
use crate::config::strategy;
use crate::oauth::scope::Scopes;
use crate::service::{self, Access, Service};
use crate::token::half::{Mode, ServiceMark};
use crate::token::lifetime::Ttl;

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
    /// What it is called.
    pub title: Option<String>,
    /// Trusted clients' users are asked once only.
    pub remember_consent: bool,
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
            is_default: section.switch_if_said("default")?.map_or(alone, |said| said.value),
            mcp: url.value,
            access,
            login,
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
            name,
        },
        tokens,
        title: section.text("title")?.map(|said| said.value),
        remember_consent: access == Access::OAuth && section.switch("remember_consent")?,
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
