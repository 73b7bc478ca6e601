//! The names under which a model sees our tools: `server__tool`, ASCII, at most 64 characters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::ids::Digest;

/// The longest name of a function that both vendors accept.
pub const MAX_NAME: usize = 64;
/// The length of the digest in a name that cannot be `server__tool`.
const DIGEST: usize = 12;

/// A tool of one of the entries of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ToolRef {
    /// The client's label of the entry.
    pub label: String,
    /// The name of the tool at the MCP server.
    pub tool: String,
}

fn is_plain(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    !text.is_empty() && text.chars().all(allowed)
}

/// The name of a tool for the model. It depends on label and tool alone, so that a later request for the
/// same conversation has the same names.
///
/// A plain name begins with no `_` and its first `__` ends the label, so it has one reading. Any other
/// name begins with `_` and ends with a digest of both parts.
pub fn function_name(tool: &ToolRef) -> String {
    let ToolRef { label, tool } = tool;
    let plain = format!("{label}__{tool}");
    let is_unambiguous = !label.starts_with('_') && !label.ends_with('_') && !label.contains("__") && !tool.starts_with('_');
    if is_unambiguous && is_plain(label) && is_plain(tool) && plain.len() <= MAX_NAME {
        return plain;
    }
    let ascii = |text: &str| -> String {
        text.chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .collect()
    };
    let digest = Digest::new(&format!("{}:{label}{tool}", label.len())).to_hex();
    let readable: String = format!("_{}__{}", ascii(label), ascii(tool));
    let readable: String = readable.chars().take(MAX_NAME - DIGEST - 1).collect();
    format!("{readable}_{}", &digest[..DIGEST])
}

/// The tools of a request by the names that the model sees.
#[derive(Clone, Debug, Default)]
pub struct NameTable(BTreeMap<String, ToolRef>);

impl NameTable {
    /// Adds a tool and returns its name; `None` if another tool has this name.
    pub fn insert(&mut self, tool: ToolRef) -> Option<String> {
        let name = function_name(&tool);
        match self.0.get(&name) {
            Some(other) if *other != tool => None,
            _ => {
                self.0.insert(name.clone(), tool);
                Some(name)
            }
        }
    }

    /// The tool that a model calls by this name.
    pub fn get(&self, name: &str) -> Option<&ToolRef> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tool(label: &str, tool: &str) -> ToolRef {
        ToolRef {
            label: label.to_owned(),
            tool: tool.to_owned(),
        }
    }

    #[test]
    fn a_plain_name_is_readable_and_others_have_a_digest() {
        assert_eq!(function_name(&tool("tracker", "search_issues")), "tracker__search_issues");
        let names = [
            function_name(&tool("a", "b__c")),
            function_name(&tool("a__b", "c")),
            function_name(&tool("a_", "b")),
            function_name(&tool("a", "_b")),
            function_name(&tool("a", "b.c")),
            function_name(&tool("a", "b/c")),
            function_name(&tool("a", "b_c")),
        ];
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }

    proptest! {
        #[test]
        fn names_are_short_ascii_deterministic_and_mapped_back(parts in prop::collection::vec((".{1,80}", ".{1,80}"), 1..8)) {
            let mut table = NameTable::default();
            for (label, name) in &parts {
                let tool = tool(label, name);
                let name = table.insert(tool.clone()).expect("no collision");
                prop_assert!(name.len() <= MAX_NAME && is_plain(&name), "{name}");
                prop_assert_eq!(&name, &function_name(&tool));
                prop_assert_eq!(table.get(&name), Some(&tool));
            }
        }

        #[test]
        fn two_tools_never_share_a_name(a in "[ab_]{1,6}", b in "[ab_]{1,6}", c in "[ab_]{1,6}", d in "[ab_]{1,6}") {
            let (one, other) = (tool(&a, &b), tool(&c, &d));
            prop_assert_eq!(function_name(&one) == function_name(&other), one == other);
        }
    }
}
