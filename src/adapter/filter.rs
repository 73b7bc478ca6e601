//! Which tools of an entry the model may see, and which calls the client wants to approve.

use serde_json::Value;

/// What a filter is asked about.
#[derive(Clone, Copy, Debug)]
pub struct FilteredTool<'a> {
    /// The name of the tool.
    pub name: &'a str,
    /// Whether an approved definition says that the tool changes nothing.
    pub is_read_only: bool,
}

/// A set of tools, as OpenAI's `{tool_names?, read_only?}` describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolSet {
    names: Option<Vec<String>>,
    read_only: Option<bool>,
}

impl ToolSet {
    fn parse(value: &Value) -> Option<Self> {
        let members = value.as_object()?;
        if members.keys().any(|name| !matches!(name.as_str(), "tool_names" | "read_only")) {
            return None;
        }
        let names = match members.get("tool_names") {
            None | Some(Value::Null) => None,
            Some(names) => Some(names_of(names)?),
        };
        let read_only = match members.get("read_only") {
            None | Some(Value::Null) => None,
            Some(value) => Some(value.as_bool()?),
        };
        Some(Self { names, read_only })
    }

    /// Whether a tool satisfies each condition. A set without conditions has all tools.
    fn contains(&self, tool: FilteredTool<'_>) -> bool {
        let is_named = self.names.as_ref().is_none_or(|names| names.iter().any(|name| name == tool.name));
        is_named && self.read_only.is_none_or(|read_only| read_only == tool.is_read_only)
    }

    fn is_everything(&self) -> bool {
        self.names.is_none() && self.read_only.is_none()
    }
}

fn names_of(value: &Value) -> Option<Vec<String>> {
    let names = value.as_array()?.iter();
    names.map(|name| name.as_str().map(str::to_owned)).collect()
}

/// `allowed_tools` of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedTools(Option<ToolSet>);

impl AllowedTools {
    /// Reads a list of names, a filter, or nothing (null). `None` if it is neither.
    pub fn parse(value: &Value) -> Option<Self> {
        if value.is_null() {
            return Some(Self(None));
        }
        if value.is_array() {
            let names = Some(names_of(value)?);
            return Some(Self(Some(ToolSet { names, read_only: None })));
        }
        Some(Self(Some(ToolSet::parse(value)?)))
    }

    /// Whether the model may see the tool.
    pub fn allows(&self, tool: FilteredTool<'_>) -> bool {
        self.0.as_ref().is_none_or(|set| set.contains(tool))
    }
}

/// `require_approval` of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RequireApproval {
    /// For each call. So it is where the entry says nothing.
    #[default]
    Always,
    /// For no call.
    Never,
    /// By tool; a tool in neither set needs one.
    Filtered {
        /// These tools need one.
        always: Option<ToolSet>,
        /// These tools need none, unless they are also in `always`.
        never: Option<ToolSet>,
    },
}

impl RequireApproval {
    /// Reads `"always"`, `"never"`, a filter, or nothing (null). `None` if it is neither.
    pub fn parse(value: &Value) -> Option<Self> {
        match value.as_str() {
            Some("always") => return Some(Self::Always),
            Some("never") => return Some(Self::Never),
            Some(_) | None if value.is_null() => return Some(Self::Always),
            Some(_) | None => {}
        }
        let members = value.as_object()?;
        if members.keys().any(|name| !matches!(name.as_str(), "always" | "never")) {
            return None;
        }
        let set = |name: &str| match members.get(name) {
            None | Some(Value::Null) => Some(None),
            Some(value) => ToolSet::parse(value).map(Some),
        };
        Some(Self::Filtered {
            always: set("always")?,
            never: set("never")?,
        })
    }

    /// Whether a call of the tool needs the client's approval.
    pub fn requires(&self, tool: FilteredTool<'_>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Filtered { always, never } => {
                let is_always = always.as_ref().is_some_and(|set| set.contains(tool));
                // A set without conditions is read as the stricter of its two meanings.
                let is_never = never.as_ref().is_some_and(|set| !set.is_everything() && set.contains(tool));
                is_always || !is_never
            }
        }
    }
}

/// One tool's settings in an Anthropic toolset; `None` is inherited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ToolConfig {
    /// Whether the model may see the tool.
    pub enabled: Option<bool>,
    /// Whether the model searches for the tool before it sees it.
    pub defer_loading: Option<bool>,
}

impl ToolConfig {
    /// Reads a configuration; null is empty. `None` if it is no object, or a member has another type.
    pub fn parse(value: &Value) -> Option<Self> {
        let flag = |name: &str| match value.get(name) {
            None | Some(Value::Null) => Some(None),
            Some(flag) => flag.as_bool().map(Some),
        };
        if !value.is_object() && !value.is_null() {
            return None;
        }
        Some(Self {
            enabled: flag("enabled")?,
            defer_loading: flag("defer_loading")?,
        })
    }
}

/// The tools of an Anthropic toolset: `configs` before `default_config` before the system's defaults,
/// member by member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolsetConfig {
    default: ToolConfig,
    configs: Vec<(String, ToolConfig)>,
}

impl ToolsetConfig {
    /// Reads `default_config` and `configs`. `None` if they have another shape.
    pub fn parse(default: &Value, configs: &Value) -> Option<Self> {
        let configs = if configs.is_null() {
            Vec::new()
        } else {
            let members = configs.as_object()?.iter();
            let parsed = members.map(|(name, config)| ToolConfig::parse(config).map(|config| (name.clone(), config)));
            parsed.collect::<Option<_>>()?
        };
        Some(Self {
            default: ToolConfig::parse(default)?,
            configs,
        })
    }

    /// Reads `tool_configuration` of the beta `mcp-client-2025-04-04`. `None` if it has another shape.
    pub fn parse_deprecated(value: &Value) -> Option<Self> {
        let allowed = match value.get("allowed_tools").filter(|names| !names.is_null()) {
            Some(names) => Some(names_of(names)?),
            None => None,
        };
        let mut default = ToolConfig::parse(value)?;
        let is_on = default.enabled != Some(false);
        let config = ToolConfig {
            enabled: Some(is_on),
            defer_loading: None,
        };
        let configs: Vec<_> = allowed.iter().flatten().map(|name| (name.clone(), config)).collect();
        if allowed.is_some() {
            default.enabled = Some(false);
        }
        Some(Self { default, configs })
    }

    fn config(&self, name: &str) -> ToolConfig {
        let found = self.configs.iter().find(|(tool, _)| tool == name);
        found.map(|(_, config)| *config).unwrap_or_default()
    }

    /// Whether the model may see the tool.
    pub fn allows(&self, name: &str) -> bool {
        self.config(name).enabled.or(self.default.enabled).unwrap_or(true)
    }

    /// Whether the model searches for the tool first.
    pub fn defers(&self, name: &str) -> bool {
        self.config(name).defer_loading.or(self.default.defer_loading).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tool(name: &str, is_read_only: bool) -> FilteredTool<'_> {
        FilteredTool { name, is_read_only }
    }

    #[test]
    fn an_approval_is_required_unless_never_names_the_tool() {
        let requires = |value: Value, tool| RequireApproval::parse(&value).expect("a shape").requires(tool);
        let (read, write) = (tool("read", true), tool("write", false));
        assert!(requires(Value::Null, read) && requires(json!("always"), read) && !requires(json!("never"), write));
        let never_read = json!({"never": {"tool_names": ["read"]}});
        assert!(!requires(never_read.clone(), read) && requires(never_read, write));
        let read_only = json!({"never": {"read_only": true}});
        assert!(!requires(read_only.clone(), read) && requires(read_only, write));
        let both = json!({"never": {"tool_names": ["read"], "read_only": true}});
        assert!(requires(both, tool("read", false)));
        let contradiction = json!({"always": {"tool_names": ["read"]}, "never": {"tool_names": ["read", "write"]}});
        assert!(requires(contradiction.clone(), read) && !requires(contradiction, write));
        for all in [json!({}), json!({"never": {}}), json!({"never": null}), json!({"always": {}})] {
            assert!(requires(all.clone(), read), "{all}");
        }
        for wrong in [
            json!("sometimes"),
            json!(1),
            json!({"never": []}),
            json!({"never": {"names": []}}),
            json!({"nevr": {}}),
        ] {
            assert_eq!(RequireApproval::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn allowed_tools_are_names_or_a_filter() {
        let allows = |value: Value, tool| AllowedTools::parse(&value).expect("a shape").allows(tool);
        let (read, write) = (tool("read", true), tool("write", false));
        assert!(allows(Value::Null, write) && allows(json!(["write"]), write) && !allows(json!(["write"]), read));
        assert!(!allows(json!([]), write) && allows(json!({"read_only": true}), read) && !allows(json!({"read_only": true}), write));
        assert!(!allows(json!({"tool_names": ["write"], "read_only": true}), write));
        assert_eq!(AllowedTools::parse(&json!("write")), None);
        assert_eq!(AllowedTools::parse(&json!([1])), None);
    }

    #[test]
    fn a_toolset_merges_like_the_vendor_member_by_member() {
        for default in [None, Some(true), Some(false)] {
            for own in [None, Some(true), Some(false)] {
                let config = |enabled: Option<bool>| enabled.map_or(json!({}), |enabled| json!({"enabled": enabled}));
                let set = ToolsetConfig::parse(&config(default), &json!({"a": config(own)})).expect("a shape");
                assert_eq!(set.allows("a"), own.or(default).unwrap_or(true), "{default:?} {own:?}");
                assert_eq!(set.allows("b"), default.unwrap_or(true));
            }
        }
        let set = ToolsetConfig::parse(
            &json!({"defer_loading": true}),
            &json!({"a": {"enabled": false}, "b": {"defer_loading": false}}),
        );
        let set = set.expect("a shape");
        assert!(!set.allows("a") && set.defers("a") && set.allows("b") && !set.defers("b"));
        let old = |value: Value| ToolsetConfig::parse_deprecated(&value).expect("a shape");
        assert!(old(Value::Null).allows("a") && !old(json!({"enabled": false})).allows("a"));
        let named = old(json!({"allowed_tools": ["a"]}));
        assert!(named.allows("a") && !named.allows("b"));
        assert!(!old(json!({"enabled": false, "allowed_tools": ["a"]})).allows("a"));
    }
}
