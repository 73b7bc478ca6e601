//! Finds tables and keys by their names in a file, and suggests one for an unknown name.

use crate::config::keys::ALL;
use crate::config::schema::{KeyInfo, ValueType};

/// The patterns of all tables, in the order of the reference.
pub const TABLES: [&str; 17] = [
    "",
    "keys",
    "tls",
    "store",
    "login.password",
    "login.password.users",
    "idp.*",
    "idp.*.allow",
    "clients.*",
    "services.*",
    "services.*.auth_header",
    "services.*.tools",
    "adapters.openai",
    "adapters.anthropic",
    "console",
    "cors",
    "audit",
];

/// The result of looking up a path of table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathTarget {
    /// A table with the keys of this pattern.
    Keys(&'static str),
    /// A table that contains only tables.
    Tables,
    /// No table.
    Nothing,
}

/// The keys of a table, in the order of the reference.
pub fn of(table: &str) -> impl Iterator<Item = &'static KeyInfo> {
    ALL.iter().copied().filter(move |key| key.table == table)
}

/// Finds a key of a table.
pub fn find(table: &str, name: &str) -> Option<&'static KeyInfo> {
    of(table).find(|key| key.name == name)
}

/// Finds what a path of table names leads to.
pub fn find_target(path: &[String]) -> PathTarget {
    let mut has_inner_tables = false;
    for table in TABLES {
        let segments: Vec<&str> = table.split('.').filter(|segment| !segment.is_empty()).collect();
        let matches = path.iter().zip(&segments).all(|(name, segment)| *segment == "*" || name == segment);
        if matches && segments.len() == path.len() {
            return PathTarget::Keys(table);
        }
        has_inner_tables |= matches && segments.len() > path.len();
    }
    if has_inner_tables {
        PathTarget::Tables
    } else {
        PathTarget::Nothing
    }
}

/// A table's header as it stands in a file.
pub fn to_header(table: &str) -> String {
    match table {
        "" => "the top of the file, before any [table]".to_owned(),
        _ => format!("[{}]", table.replace('*', "<name>")),
    }
}

/// A suggestion for the unknown key `name` in the table at `path`.
pub fn suggest(path: &[String], pattern: Option<&str>, name: &str) -> String {
    let mut candidates: Vec<String> = pattern.into_iter().flat_map(of).flat_map(spellings).collect();
    candidates.extend(tables_below(path));
    let closest = |candidates: &[String]| {
        let scored = candidates
            .iter()
            .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate.clone()))
            .filter(|(score, _)| *score > 0.85);
        scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
    };
    let elsewhere: Vec<String> = ALL
        .iter()
        .filter(|key| Some(key.table) != pattern && spellings(key).iter().any(|spelling| spelling == name))
        .map(|key| to_header(key.table))
        .collect();
    match (closest(&candidates), elsewhere.is_empty()) {
        (Some(closest), true) => format!("did you mean `{closest}`?"),
        (Some(closest), false) => format!("did you mean `{closest}`? `{name}` belongs in {}", elsewhere.join(" or ")),
        (None, false) => format!("`{name}` belongs in {}", elsewhere.join(" or ")),
        (None, true) if candidates.is_empty() => "take it out".to_owned(),
        (None, true) => format!("take it out; here may be: {}", candidates.join(", ")),
    }
}

/// A key's name, and `<key>_file` for a secret.
fn spellings(key: &KeyInfo) -> Vec<String> {
    let file_spelling = (key.kind == ValueType::Secret).then(|| format!("{}_file", key.name));
    std::iter::once(key.name.to_owned()).chain(file_spelling).collect()
}

fn tables_below(path: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for table in TABLES {
        let segments: Vec<&str> = table.split('.').filter(|segment| !segment.is_empty()).collect();
        let matches = path.iter().zip(&segments).all(|(name, segment)| *segment == "*" || name == segment);
        if let Some(next) = segments.get(path.len()).filter(|next| matches && **next != "*")
            && !names.iter().any(|name| name == next)
        {
            names.push((*next).to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').filter(|s| !s.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn each_config_key_is_listed_once_with_a_description() {
        for key in ALL {
            assert!(TABLES.contains(&key.table), "{key:?}");
            assert_eq!(of(key.table).filter(|other| other.name == key.name).count(), 1, "{key:?}");
            assert!(!key.means.is_empty() && !key.means.contains('|'), "{key:?}");
        }
    }

    #[test]
    fn a_config_path_resolves_to_keys_tables_or_nothing() {
        assert_eq!(find_target(&path("services.github")), PathTarget::Keys("services.*"));
        assert_eq!(find_target(&path("services")), PathTarget::Tables);
        assert_eq!(find_target(&path("login")), PathTarget::Tables);
        assert_eq!(find_target(&path("service")), PathTarget::Nothing);
        assert_eq!(find_target(&path("services.github.deeper")), PathTarget::Nothing);
    }

    #[test]
    fn a_misspelt_or_misplaced_key_gets_a_suggestion() {
        let in_service = |name| suggest(&path("services.github"), Some("services.*"), name);
        assert_eq!(in_service("scope"), "did you mean `scopes`?");
        assert_eq!(in_service("client_secret_fiel"), "did you mean `client_secret_file`?");
        assert_eq!(in_service("origins"), "`origins` belongs in [cors]");
        assert!(in_service("zzz").contains("here may be: url,"));
        assert_eq!(suggest(&[], Some(""), "service"), "did you mean `services`?");
    }
}
