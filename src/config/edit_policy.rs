//! Edits the tool policy of a service in the text of a configuration file. Comments and order stay.

use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, Value, value};

use crate::config::edit::EditError;
use crate::config::keys::service as service_key;
use crate::config::keys::tools as key;

/// A rule of a tool policy, by its place in the table `tools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyRule<'a> {
    /// `default`.
    Default,
    /// `read_only`.
    ReadOnly,
    /// A name or a pattern in `rules`.
    Tool(&'a str),
}

/// The text with this rule. A service without a table `tools` gets one.
///
/// # Errors
/// If the text is not TOML, has no such service, or has something else in place of a table.
pub fn set_rule(text: &str, service: &str, rule: PolicyRule<'_>, word: &str) -> Result<String, EditError> {
    let mut document = parse(text)?;
    let parent = find_service(&mut document, service)?;
    let empty = if parent.is_table() {
        Item::Table(Table::new())
    } else {
        value(InlineTable::new())
    };
    let tools = parent
        .as_table_like_mut()
        .and_then(|parent| subtable(parent, service_key::TOOLS.info.name, empty));
    let (table, name) = match rule {
        PolicyRule::Default => (tools, key::DEFAULT.info.name),
        PolicyRule::ReadOnly => (tools, key::READ_ONLY.info.name),
        PolicyRule::Tool(name) => {
            let rules = tools.and_then(|tools| subtable(tools, key::RULES.info.name, value(InlineTable::new())));
            (rules, name)
        }
    };
    let table = table.ok_or_else(|| EditError::NoHeader(service.to_owned()))?;
    match table.get_mut(name) {
        Some(Item::Value(old)) => {
            let decor = old.decor().clone();
            *old = Value::from(word);
            *old.decor_mut() = decor;
        }
        Some(_) | None => {
            table.insert(name, value(word));
        }
    }
    Ok(document.to_string())
}

/// The text without this rule; `None` if there is no such rule.
///
/// # Errors
/// If the text is not TOML, or has no such service.
pub fn remove_rule(text: &str, service: &str, rule: PolicyRule<'_>) -> Result<Option<String>, EditError> {
    let mut document = parse(text)?;
    let tools = find_service(&mut document, service)?
        .get_mut(service_key::TOOLS.info.name)
        .and_then(Item::as_table_like_mut);
    let removed = tools.and_then(|tools| match rule {
        PolicyRule::Default => tools.remove(key::DEFAULT.info.name),
        PolicyRule::ReadOnly => tools.remove(key::READ_ONLY.info.name),
        PolicyRule::Tool(name) => tools
            .get_mut(key::RULES.info.name)
            .and_then(Item::as_table_like_mut)
            .and_then(|rules| rules.remove(name)),
    });
    Ok(removed.map(|_| document.to_string()))
}

fn parse(text: &str) -> Result<DocumentMut, EditError> {
    text.parse()
        .map_err(|error: toml_edit::TomlError| EditError::NotToml(error.message().lines().next().unwrap_or_default().to_owned()))
}

fn find_service<'a>(document: &'a mut DocumentMut, name: &str) -> Result<&'a mut Item, EditError> {
    let services = document.get_mut("services").and_then(Item::as_table_like_mut);
    let service = services.and_then(|services| services.get_mut(name));
    service
        .filter(|service| service.is_table_like())
        .ok_or_else(|| EditError::NoService(name.to_owned()))
}

/// The table of this name below `parent`, which is `empty` if there was none; `None` if the name has a
/// value that is no table.
fn subtable<'a>(parent: &'a mut dyn TableLike, name: &str, empty: Item) -> Option<&'a mut dyn TableLike> {
    parent.entry(name).or_insert(empty).as_table_like_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# Mine.\n[services.notes] # notes\nurl = \"https://notes.example/mcp\"\n\n[services.notes.tools]\n# Careful.\ndefault = \"ask\" # for now\nrules = { \"read_*\" = \"allow\" }\n\n[services.bare]\nurl = \"https://bare.example/mcp\"\n\n[store]\nkind = \"sqlite\"\n";

    #[test]
    fn a_rule_is_replaced_or_added_and_every_other_byte_stays() {
        let edited = set_rule(FILE, "notes", PolicyRule::Default, "deny").unwrap();
        assert_eq!(edited, FILE.replace("default = \"ask\"", "default = \"deny\""));
        let edited = set_rule(FILE, "notes", PolicyRule::Tool("refund_*"), "deny").unwrap();
        assert_eq!(edited, FILE.replace("\"allow\" }", "\"allow\" , \"refund_*\" = \"deny\" }"));
        let edited = set_rule(FILE, "bare", PolicyRule::ReadOnly, "allow").unwrap();
        let table = "bare.example/mcp\"\n\n[services.bare.tools]\nread_only = \"allow\"\n";
        assert_eq!(edited, FILE.replace("bare.example/mcp\"\n", table));
        let inline = "services = { a = { url = \"1\" } }\n";
        let edited = set_rule(inline, "a", PolicyRule::Tool("x"), "ask").unwrap();
        assert_eq!(
            edited.parse::<DocumentMut>().unwrap()["services"]["a"]["tools"]["rules"]["x"].as_str(),
            Some("ask")
        );
    }

    #[test]
    fn a_removed_rule_leaves_the_others() {
        for rule in [PolicyRule::Tool("read_*"), PolicyRule::Default] {
            let edited = remove_rule(FILE, "notes", rule).unwrap().unwrap();
            assert_eq!(remove_rule(&edited, "notes", rule), Ok(None));
            assert!(
                edited.starts_with("# Mine.\n[services.notes] # notes\n") && edited.ends_with("kind = \"sqlite\"\n"),
                "{edited}"
            );
        }
        assert_eq!(remove_rule(FILE, "bare", PolicyRule::Default), Ok(None));
    }

    #[test]
    fn a_rule_of_an_unknown_service_is_refused() {
        let unknown = Err(EditError::NoService("fake".to_owned()));
        assert_eq!(set_rule(FILE, "fake", PolicyRule::Default, "ask"), unknown);
        assert!(matches!(
            set_rule("a = ", "fake", PolicyRule::Default, "ask"),
            Err(EditError::NotToml(_))
        ));
    }
}
