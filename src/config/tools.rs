//! The table `tools` of a service: its tool policy.

use crate::config::keys::service as service_key;
use crate::config::keys::tools as key;
use crate::config::schema::{Key, kind};
use crate::config::section::Section;
use crate::config::spanned::ConfigError;
use crate::service::Access;
use crate::service::tool_policy::{
    DEFAULT_APPROVAL_HOLD_SECONDS, DEFAULT_APPROVAL_TTL_SECONDS, FirstSight, NamedRule, PinRule, ToolPolicy, ToolRule,
};

/// Reads the tool policy of a service; `None` if it has none. With `is_raw`, clients hold tokens of the
/// upstream.
pub(super) fn tool_policy(service: &Section, access: Access, is_raw: bool) -> Result<Option<ToolPolicy>, ConfigError> {
    let Some(section) = service.get(&service_key::TOOLS)? else {
        return Ok(None);
    };
    if is_raw {
        let what = "with token_mode = \"raw\" the gateway does not know the caller, so nobody could decide";
        return Err(section.at.wrong(what, "use token_mode = \"sealed\", or take the table out"));
    }
    let is_public = access == Access::Public;
    let policy = ToolPolicy {
        default: rule(section, &key::DEFAULT)?.unwrap_or(if is_public { ToolRule::Deny } else { ToolRule::Ask }),
        read_only: rule(section, &key::READ_ONLY)?,
        pin: match section.get(&key::PIN)?.map(|word| word.value) {
            Some("off") => PinRule::Off,
            Some("warn") => PinRule::Warn,
            Some("deny") => PinRule::Deny,
            None if is_public => PinRule::Deny,
            Some(_) | None => PinRule::Ask,
        },
        first_sight: match section.get(&key::FIRST_SIGHT)?.map(|word| word.value) {
            Some("quarantine") => FirstSight::Quarantine,
            Some(_) | None => FirstSight::Trust,
        },
        approval_ttl: section.get(&key::APPROVAL_TTL)?.unwrap_or(DEFAULT_APPROVAL_TTL_SECONDS),
        approval_hold: section.get(&key::APPROVAL_HOLD)?.unwrap_or(DEFAULT_APPROVAL_HOLD_SECONDS),
        mixed: match section.get(&key::MIXED)?.map(|word| word.value) {
            Some("ask") => ToolRule::Ask,
            Some(_) | None => ToolRule::Allow,
        },
        client_approvals: section.is_on(&key::CLIENT_APPROVALS)?,
        rules: rules(section)?,
    };
    if is_public && let Some(asking) = asking_key(section, &policy) {
        let what = format!("service '{}' is public, so there is nobody to ask", service.name());
        return Err(section
            .location(asking)
            .wrong(what, "use \"allow\" or \"deny\", or another `access`"));
    }
    if policy.pin == PinRule::Off && policy.first_sight == FirstSight::Quarantine {
        let what = "with pin = \"off\" no definition is compared, so no new tool would wait for an approval";
        let location = section.location(&key::FIRST_SIGHT);
        return Err(location.wrong(what, "take it out, or use pin = \"warn\", \"ask\" or \"deny\""));
    }
    Ok(Some(policy))
}

fn rule(section: &Section, key: &'static Key<kind::Word>) -> Result<Option<ToolRule>, ConfigError> {
    Ok(section.get(key)?.and_then(|word| ToolRule::parse(word.value)))
}

fn rules(section: &Section) -> Result<Vec<NamedRule>, ConfigError> {
    let location = section.location(&key::RULES);
    let read = |(pattern, word): (String, String)| {
        let rule = ToolRule::parse(&word).ok_or_else(|| {
            let what = format!("'{word}', the rule for '{pattern}', is not known here");
            location.wrong(what, format!("use one of: {}", ToolRule::WORDS.join(", ")))
        })?;
        Ok(NamedRule { pattern, rule })
    };
    section.get(&key::RULES)?.into_iter().map(read).collect()
}

/// The key that lets a call wait for a person.
fn asking_key(section: &Section, policy: &ToolPolicy) -> Option<&'static crate::config::schema::KeyInfo> {
    if policy.default == ToolRule::Ask {
        Some(&key::DEFAULT.info)
    } else if policy.read_only == Some(ToolRule::Ask) {
        Some(&key::READ_ONLY.info)
    } else if policy.pin == PinRule::Ask && section.contains(&key::PIN) {
        Some(&key::PIN.info)
    } else if policy.mixed == ToolRule::Ask {
        Some(&key::MIXED.info)
    } else if policy.rules.iter().any(|rule| rule.rule == ToolRule::Ask) {
        Some(&key::RULES.info)
    } else {
        None
    }
}
