//! Edits the text of a configuration file: adds, replaces and removes the table of a service. It
//! changes no other byte, so comments and order stay.

use std::ops::Range;

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, value};

/// A service to write into the file.
#[derive(Clone, Debug, Default)]
pub struct ServiceEntry {
    /// The name.
    pub name: String,
    /// The URL of the upstream.
    pub url: String,
    /// `client_id`, if one is configured.
    pub client_id: Option<String>,
    /// `client_secret_file`, if there is one.
    pub client_secret_file: Option<String>,
    /// `scopes`; empty: not written.
    pub scopes: Vec<String>,
    /// `headers`; empty: not written.
    pub headers: Vec<(String, String)>,
    /// `default` of the table `tools`, if it is written.
    pub policy: Option<String>,
}

/// The reason why a text cannot be edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is not TOML.
    #[error("it is not TOML: {0}")]
    NotToml(String),
    /// The table of the service has no header of its own, or `services` is an inline table.
    #[error("[services.{0}] cannot be edited here: write each service as a table with a header of its own")]
    NoHeader(String),
    /// There is no such service.
    #[error("there is no [services.{0}]")]
    NoService(String),
    /// There is no such rule.
    #[error("[services.{0}.tools] has no such rule")]
    NoRule(String),
}

/// Whether the text has a service of this name.
///
/// # Errors
/// [`EditError::NotToml`] if the text is not TOML.
pub fn has_service(text: &str, name: &str) -> Result<bool, EditError> {
    let document = parse(text)?;
    let services = document.as_table().get("services").and_then(Item::as_table_like);
    Ok(services.is_some_and(|services| services.contains_key(name)))
}

/// The text with this service, which replaces one of the same name or stands at the end.
///
/// # Errors
/// If the text is not TOML, or has services in another form than tables with a header.
pub fn put_service(text: &str, service: &ServiceEntry) -> Result<String, EditError> {
    let table = table_text(service);
    let edited = if has_service(text, &service.name)? {
        let ranges = ranges(text, &service.name)?;
        let first = ranges.first().map_or(text.len(), |range| range.start);
        let (before, after) = (without_ranges(&text[..first], &[]), without_ranges_from(text, first, &ranges));
        format!("{before}{table}{after}")
    } else {
        let gap = match text.trim_end_matches([' ', '\t', '\r']) {
            "" => "",
            text if text.ends_with("\n\n") => "",
            text if text.ends_with('\n') => "\n",
            _ => "\n\n",
        };
        format!("{text}{gap}{table}")
    };
    // The appended header is invalid beside `services = { … }` or `services.x.url = …`.
    match has_service(&edited, &service.name) {
        Ok(true) => Ok(edited),
        Ok(false) | Err(_) => Err(EditError::NoHeader(service.name.clone())),
    }
}

/// The text without the service of this name, and without the comment lines directly above its
/// headers.
///
/// # Errors
/// If the text is not TOML, or the service is not a table with a header.
pub fn remove_service(text: &str, name: &str) -> Result<String, EditError> {
    if !has_service(text, name)? {
        return Ok(text.to_owned());
    }
    let mut ranges = ranges(text, name)?;
    for range in &mut ranges {
        range.start = comments_start(text, range.start);
        // One empty line is removed too.
        if text[..range.start].ends_with("\n\n") || range.start == 0 {
            range.end += text[range.end..].bytes().take_while(|byte| *byte == b'\n').count().min(1);
        }
    }
    Ok(without_ranges(text, &ranges))
}

/// A text as a quoted TOML string.
pub fn toml_string(text: &str) -> String {
    value(text).to_string()
}

fn parse(text: &str) -> Result<toml_edit::Document<&str>, EditError> {
    toml_edit::Document::parse(text).map_err(|error| EditError::NotToml(error.message().lines().next().unwrap_or_default().to_owned()))
}

/// The bytes of each table of the service: from its header to the end of the line of its last value.
fn ranges(text: &str, name: &str) -> Result<Vec<Range<usize>>, EditError> {
    let document = parse(text)?;
    let no_header = || EditError::NoHeader(name.to_owned());
    let services = document.as_table().get("services").and_then(Item::as_table_like);
    let item = services.and_then(|services| services.get(name)).ok_or_else(no_header)?;
    let mut ranges = Vec::new();
    add_ranges(item, &mut ranges);
    if ranges.is_empty() || item.is_value() {
        return Err(no_header());
    }
    for range in &mut ranges {
        range.end += text[range.end..].find('\n').map_or(text.len() - range.end, |at| at + 1);
    }
    ranges.sort_by_key(|range| range.start);
    Ok(ranges)
}

/// Adds the range of each table with a header: of this item, and of the items below it.
fn add_ranges(item: &Item, ranges: &mut Vec<Range<usize>>) {
    let tables: Vec<&Table> = match item {
        Item::Table(table) => vec![table],
        Item::ArrayOfTables(tables) => tables.iter().collect(),
        Item::Value(_) | Item::None => Vec::new(),
    };
    for table in tables {
        if let Some(header) = table.span().filter(|_| !table.is_implicit() && !table.is_dotted()) {
            let end = last_value_end(table).map_or(header.end, |end| end.max(header.end));
            ranges.push(header.start..end);
        }
        for (_, item) in table {
            add_ranges(item, ranges);
        }
    }
}

/// The end of the last value that stands below the table's own header.
fn last_value_end(table: &dyn TableLike) -> Option<usize> {
    let ends = table.iter().filter_map(|(_, item)| match item {
        Item::Value(value) => value.span().map(|span| span.end),
        Item::Table(table) if table.is_dotted() => last_value_end(table),
        Item::Table(_) | Item::ArrayOfTables(_) | Item::None => None,
    });
    ends.max()
}

/// The start of the comment lines that stand directly above `start`.
fn comments_start(text: &str, start: usize) -> usize {
    let mut first = start;
    while let Some(above) = text[..first].strip_suffix('\n') {
        let line = above.rfind('\n').map_or(0, |at| at + 1);
        if !above[line..].trim_start().starts_with('#') {
            break;
        }
        first = line;
    }
    first
}

/// The text without the ranges.
fn without_ranges(text: &str, ranges: &[Range<usize>]) -> String {
    without_ranges_from(text, 0, ranges)
}

/// The text from `start` on, without the ranges.
fn without_ranges_from(text: &str, start: usize, ranges: &[Range<usize>]) -> String {
    let (mut out, mut at) = (String::new(), start);
    for range in ranges {
        out.push_str(text.get(at..range.start).unwrap_or_default());
        at = at.max(range.end);
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// The table of a service, as TOML.
fn table_text(service: &ServiceEntry) -> String {
    let mut table = Table::new();
    table.insert("url", value(&service.url));
    table.insert("access", value("local"));
    table.insert("upstream", value("stored"));
    for (key, text) in [
        ("client_id", &service.client_id),
        ("client_secret_file", &service.client_secret_file),
    ] {
        if let Some(text) = text {
            table.insert(key, value(text));
        }
    }
    if !service.scopes.is_empty() {
        table.insert("scopes", value(service.scopes.iter().collect::<Array>()));
    }
    if !service.headers.is_empty() {
        let headers: InlineTable = service.headers.iter().map(|(name, text)| (name, text.as_str())).collect();
        table.insert("headers", value(headers));
    }
    if let Some(policy) = &service.policy {
        let mut tools = Table::new();
        tools.insert("default", value(policy));
        tools.decor_mut().set_prefix("\n");
        table.insert("tools", Item::Table(tools));
    }
    let mut services = Table::new();
    services.set_implicit(true);
    services.insert(&service.name, Item::Table(table));
    let mut document = DocumentMut::new();
    document.insert("services", Item::Table(services));
    document.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# The gateway of this machine.\nlisten = \"localhost:8002\" # both\n\n# Written by hand.\n[services.notes]\nurl = \"https://notes.example/mcp\"\ntext = \"\"\"\n[services.fake]\n\"\"\" # inside\n\n# Notes may not delete.\n[services.notes.tools] # strict\ndefault = \"deny\"\n\n[store]\nkind = \"sqlite\"\n# the end\n";

    fn stripe() -> ServiceEntry {
        ServiceEntry {
            name: "stripe".to_owned(),
            url: "https://mcp.stripe.com/".to_owned(),
            scopes: vec!["read".to_owned(), "a\"b".to_owned()],
            headers: vec![("X-Tenant".to_owned(), "acme \"x\"".to_owned())],
            policy: Some("ask".to_owned()),
            ..ServiceEntry::default()
        }
    }

    #[test]
    fn an_added_service_stands_at_the_end_and_every_other_byte_stays() {
        let edited = put_service(FILE, &stripe()).unwrap();
        let added = edited.strip_prefix(FILE).unwrap();
        assert_eq!(
            added,
            "\n[services.stripe]\nurl = \"https://mcp.stripe.com/\"\naccess = \"local\"\nupstream = \"stored\"\nscopes = [\"read\", 'a\"b']\nheaders = { X-Tenant = 'acme \"x\"' }\n\n[services.stripe.tools]\ndefault = \"ask\"\n"
        );
        assert_eq!(remove_service(&edited, "stripe").unwrap(), format!("{FILE}\n"));
        assert!(put_service("", &stripe()).unwrap().starts_with("[services.stripe]"));
        assert!(put_service("a = 1", &stripe()).unwrap().starts_with("a = 1\n\n[services"));
    }

    #[test]
    fn a_service_is_removed_with_its_tables_and_the_comments_above_them() {
        let edited = remove_service(FILE, "notes").unwrap();
        assert_eq!(
            edited,
            "# The gateway of this machine.\nlisten = \"localhost:8002\" # both\n\n[store]\nkind = \"sqlite\"\n# the end\n"
        );
        assert_eq!(remove_service(FILE, "fake").unwrap(), FILE);
        let spread = "[services.a]\nurl = \"1\"\n[services.b]\nurl = \"2\"\n[services.a.tools]\ndefault = \"ask\"\n";
        assert_eq!(remove_service(spread, "a").unwrap(), "[services.b]\nurl = \"2\"\n");
    }

    #[test]
    fn a_replaced_service_keeps_its_place_and_the_comment_above_it() {
        let notes = ServiceEntry {
            name: "notes".to_owned(),
            url: "https://new.example/mcp".to_owned(),
            ..ServiceEntry::default()
        };
        let edited = put_service(FILE, &notes).unwrap();
        assert!(edited.contains(
            "# Written by hand.\n[services.notes]\nurl = \"https://new.example/mcp\"\naccess = \"local\"\nupstream = \"stored\"\n"
        ));
        assert!(!edited.contains("notes.example") && !edited.contains("deny") && edited.ends_with("# the end\n"));
        assert_eq!(put_service(&edited, &notes).unwrap(), edited);
    }

    #[test]
    fn services_without_a_header_are_refused_and_not_damaged() {
        let inline = "services = { a = { url = \"1\" } }\n";
        assert_eq!(put_service(inline, &stripe()), Err(EditError::NoHeader("stripe".to_owned())));
        for text in [inline, "services.a.url = \"1\"\n"] {
            assert_eq!(remove_service(text, "a"), Err(EditError::NoHeader("a".to_owned())), "{text}");
        }
        assert!(matches!(put_service("a = ", &stripe()), Err(EditError::NotToml(_))));
    }
}
