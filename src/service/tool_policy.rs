//! The tool policy of a service: whether a call is allowed, a person is asked, or it is denied. Pure.

use serde_json::json;

use crate::base::ids::Digest;
use crate::mcp::canonical_json;
use crate::mcp::tool::PinStatus;

/// How long a decision may take unless configured, in seconds.
pub const DEFAULT_APPROVAL_TTL_SECONDS: u64 = 1_800;

/// How long a call is held open meanwhile unless configured, in seconds.
pub const DEFAULT_APPROVAL_HOLD_SECONDS: u64 = 210;

/// What happens to a call. A stricter rule is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ToolRule {
    /// It is sent.
    Allow,
    /// A person decides.
    Ask,
    /// It is refused, and the tool is not listed.
    Deny,
}

impl ToolRule {
    /// The words of the configuration, with synonyms of other programs.
    pub const WORDS: &'static [&'static str] = &["allow", "ask", "deny", "always_allow", "always_ask", "never_allow"];

    /// Parses one of [`ToolRule::WORDS`].
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "allow" | "always_allow" => Some(Self::Allow),
            "ask" | "always_ask" => Some(Self::Ask),
            "deny" | "never_allow" => Some(Self::Deny),
            _ => None,
        }
    }

    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

/// What a definition without a valid pin means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinRule {
    /// Definitions are not pinned.
    Off,
    /// The log names the tool; nothing else changes.
    Warn,
    /// A person decides about its calls.
    Ask,
    /// Its calls are refused.
    Deny,
}

impl PinRule {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

/// Whether the first list of a service is pinned as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstSight {
    /// It is pinned.
    Trust,
    /// Its tools are refused until a person approves them.
    Quarantine,
}

/// Why a rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleSource {
    /// The rule for this name or pattern, by its index.
    Rule(usize),
    /// `read_only`.
    ReadOnly,
    /// `default`.
    Default,
    /// `pin`: the definition is not the pinned one.
    ChangedDefinition,
    /// `pin`: the tool has no pin.
    NewTool,
    /// The upstream does not list the tool.
    Unlisted,
    /// `mixed`: the request also has tools of others.
    Mixed,
    /// `first_sight`: a person must approve the pins first.
    Quarantined,
    /// `client_approvals`: the vendor's client approved the call.
    ClientApproval,
}

/// What happens to a call, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolDecision {
    /// What happens.
    pub rule: ToolRule,
    /// Why.
    pub source: RuleSource,
}

/// A rule for the tools of one name, or of a pattern with `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRule {
    /// The name or pattern.
    pub pattern: String,
    /// What happens to their calls.
    pub rule: ToolRule,
}

/// The tool policy of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolPolicy {
    /// What happens to a call that no other rule covers.
    pub default: ToolRule,
    /// Replaces `default` for tools whose approved definition says that they change nothing.
    pub read_only: Option<ToolRule>,
    /// What a definition without a valid pin means.
    pub pin: PinRule,
    /// Whether the first list is pinned as it is.
    pub first_sight: FirstSight,
    /// How long a decision may take, in seconds.
    pub approval_ttl: u64,
    /// How long a call is held open meanwhile, in seconds.
    pub approval_hold: u64,
    /// What happens to a request to an adapter that also has tools of others: allowed or asked.
    pub mixed: ToolRule,
    /// Whether a vendor client's own approval satisfies `ask`.
    pub client_approvals: bool,
    /// Rules by name.
    pub rules: Vec<NamedRule>,
}

impl ToolPolicy {
    /// Decides about a call of this tool. Names compare by bytes.
    pub fn decide(&self, name: &str, status: PinStatus) -> ToolDecision {
        let configured = self.configured_rule(name, status);
        let at_least = |rule: ToolRule, source| {
            if rule > configured.rule {
                ToolDecision { rule, source }
            } else {
                configured
            }
        };
        let pin_rule = match self.pin {
            PinRule::Off | PinRule::Warn => ToolRule::Allow,
            PinRule::Ask => ToolRule::Ask,
            PinRule::Deny => ToolRule::Deny,
        };
        match status {
            PinStatus::Off | PinStatus::Pinned { .. } => configured,
            PinStatus::Quarantined => at_least(ToolRule::Deny, RuleSource::Quarantined),
            PinStatus::Changed => at_least(pin_rule, RuleSource::ChangedDefinition),
            PinStatus::New => at_least(pin_rule, RuleSource::NewTool),
            PinStatus::Unlisted => at_least(pin_rule.max(ToolRule::Ask), RuleSource::Unlisted),
        }
    }

    /// The decision for a request that also has tools of others.
    pub fn at_least_mixed(&self, decision: ToolDecision) -> ToolDecision {
        if self.mixed > decision.rule {
            ToolDecision {
                rule: self.mixed,
                source: RuleSource::Mixed,
            }
        } else {
            decision
        }
    }

    /// The decision for a call that the vendor's client approved: it replaces the person whom `ask` means, if
    /// the service allows that.
    pub fn approved_by_client(&self, decision: ToolDecision) -> ToolDecision {
        if self.client_approvals && decision.rule == ToolRule::Ask {
            ToolDecision {
                rule: ToolRule::Allow,
                source: RuleSource::ClientApproval,
            }
        } else {
            decision
        }
    }

    /// The rule of the configuration: that of the exact name, or the strictest of the patterns.
    fn configured_rule(&self, name: &str, status: PinStatus) -> ToolDecision {
        let rules = || self.rules.iter().enumerate();
        let exact = rules().find(|(_, rule)| rule.pattern == name);
        let matching = rules().filter(|(_, rule)| rule.pattern.contains('*') && matches_pattern(&rule.pattern, name));
        if let Some((index, rule)) = exact.or_else(|| matching.max_by_key(|(_, rule)| rule.rule)) {
            return ToolDecision {
                rule: rule.rule,
                source: RuleSource::Rule(index),
            };
        }
        match (self.read_only, status) {
            (Some(rule), PinStatus::Pinned { is_read_only: true }) => ToolDecision {
                rule,
                source: RuleSource::ReadOnly,
            },
            (Some(_) | None, _) => ToolDecision {
                rule: self.default,
                source: RuleSource::Default,
            },
        }
    }

    /// Why a rule applies, for messages.
    pub fn explain(&self, decision: ToolDecision) -> String {
        match decision.source {
            RuleSource::Rule(index) => {
                let pattern = self.rules.get(index).map_or("", |rule| &rule.pattern);
                format!("rule \"{pattern}\" = \"{}\"", decision.rule.as_str())
            }
            RuleSource::ReadOnly => format!("read_only = \"{}\"", decision.rule.as_str()),
            RuleSource::Default => format!("default = \"{}\"", decision.rule.as_str()),
            RuleSource::ChangedDefinition => "its definition changed since it was pinned".to_owned(),
            RuleSource::NewTool => "it is new since the tools were pinned".to_owned(),
            RuleSource::Unlisted => "the upstream does not list it".to_owned(),
            RuleSource::Mixed => "the request also has tools that this gateway does not control".to_owned(),
            RuleSource::Quarantined => "nobody approved the tools of this service yet".to_owned(),
            RuleSource::ClientApproval => "the vendor's client approved it".to_owned(),
        }
    }

    /// Whether a call can wait for a person.
    pub fn may_ask(&self) -> bool {
        let rules = self.rules.iter().map(|rule| rule.rule).chain(self.read_only).chain([self.default]);
        rules.into_iter().any(|rule| rule == ToolRule::Ask) || matches!(self.pin, PinRule::Warn | PinRule::Ask)
    }

    /// The digest of what decides about calls. An approval counts for one version only.
    pub fn version(&self) -> Digest {
        let rules: Vec<_> = self.rules.iter().map(|rule| json!([rule.pattern, rule.rule.as_str()])).collect();
        canonical_json::digest(&json!({
            "default": self.default.as_str(),
            "read_only": self.read_only.map(ToolRule::as_str),
            "pin": self.pin.as_str(),
            "quarantine": self.first_sight == FirstSight::Quarantine,
            "rules": rules,
        }))
    }
}

/// Whether a name matches a pattern, in which `*` stands for any characters.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = name.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    let Some(mut rest) = rest.strip_suffix(last) else {
        return false;
    };
    for part in parts {
        let Some(start) = rest.find(part) else { return false };
        rest = &rest[start + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[(&str, ToolRule)]) -> ToolPolicy {
        ToolPolicy {
            default: ToolRule::Ask,
            read_only: Some(ToolRule::Allow),
            pin: PinRule::Ask,
            first_sight: FirstSight::Trust,
            approval_ttl: 60,
            approval_hold: 60,
            mixed: ToolRule::Allow,
            client_approvals: false,
            rules: rules
                .iter()
                .map(|(pattern, rule)| NamedRule {
                    pattern: (*pattern).to_owned(),
                    rule: *rule,
                })
                .collect(),
        }
    }

    const PINNED: PinStatus = PinStatus::Pinned { is_read_only: false };

    #[test]
    fn patterns_match_any_characters_where_the_star_is() {
        for (pattern, name) in [
            ("*", ""),
            ("a*", "a"),
            ("a*", "abc"),
            ("*c", "abc"),
            ("a*c", "ac"),
            ("a*b*c", "axbxbxc"),
            ("*b*", "abc"),
        ] {
            assert!(matches_pattern(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a*", "ba"),
            ("*c", "cb"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
            ("a*bb*b", "abb"),
            ("*a*a*", "a"),
            ("A*", "a"),
        ] {
            assert!(!matches_pattern(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn exact_names_precede_patterns_and_of_several_patterns_the_strictest_counts() {
        let policy = policy(&[
            ("a_*", ToolRule::Allow),
            ("*_b", ToolRule::Deny),
            ("a_b", ToolRule::Allow),
            ("*", ToolRule::Ask),
        ]);
        let rule = |name| policy.decide(name, PINNED).rule;
        assert_eq!(rule("a_b"), ToolRule::Allow);
        assert_eq!(rule("x_b"), ToolRule::Deny);
        assert_eq!(rule("a_c"), ToolRule::Ask);
        assert_eq!(policy.explain(policy.decide("x_b", PINNED)), "rule \"*_b\" = \"deny\"");
    }

    #[test]
    fn a_pin_only_makes_a_rule_stricter_and_read_only_needs_an_approved_definition() {
        let mut policy = policy(&[("open", ToolRule::Allow), ("shut", ToolRule::Deny)]);
        let read_only = PinStatus::Pinned { is_read_only: true };
        assert_eq!(policy.decide("x", read_only).rule, ToolRule::Allow);
        assert_eq!(policy.decide("shut", read_only).rule, ToolRule::Deny);
        for (pin, changed, unlisted) in [
            (PinRule::Off, ToolRule::Allow, ToolRule::Ask),
            (PinRule::Warn, ToolRule::Allow, ToolRule::Ask),
            (PinRule::Ask, ToolRule::Ask, ToolRule::Ask),
            (PinRule::Deny, ToolRule::Deny, ToolRule::Deny),
        ] {
            policy.pin = pin;
            assert_eq!(policy.decide("open", PINNED).rule, ToolRule::Allow);
            assert_eq!(policy.decide("open", PinStatus::Changed).rule, changed);
            assert_eq!(policy.decide("open", PinStatus::New).rule, changed);
            assert_eq!(policy.decide("open", PinStatus::Unlisted).rule, unlisted);
            assert_eq!(policy.decide("shut", PinStatus::Unlisted).rule, ToolRule::Deny);
            assert_eq!(policy.decide("open", PinStatus::Quarantined).rule, ToolRule::Deny);
        }
    }

    #[test]
    fn each_change_that_decides_about_calls_makes_another_version() {
        let first = policy(&[]);
        let mut versions = vec![
            first.version(),
            policy(&[("a", ToolRule::Deny)]).version(),
            policy(&[("a", ToolRule::Ask)]).version(),
        ];
        versions.push(
            ToolPolicy {
                read_only: None,
                ..first.clone()
            }
            .version(),
        );
        versions.push(
            ToolPolicy {
                pin: PinRule::Off,
                ..first.clone()
            }
            .version(),
        );
        versions.push(
            ToolPolicy {
                default: ToolRule::Deny,
                ..first.clone()
            }
            .version(),
        );
        let distinct: std::collections::HashSet<String> = versions.iter().map(Digest::to_hex).collect();
        assert_eq!(distinct.len(), versions.len());
        assert_eq!(
            ToolPolicy {
                approval_ttl: 1,
                ..first.clone()
            }
            .version(),
            first.version()
        );
    }
}
