//! Property tests: any file gives a usable configuration, or a message that names the key.

use proptest::prelude::*;
use proptest::sample::select;

use crate::config::keys::ALL;
use crate::config::schema::{KeyInfo, ValueType};
use crate::config::spanned::{ConfigError, Location};
use crate::config::tests::{HASH, written};
use crate::config::validate::Validated;
use crate::service::{self, Login};

/// A table of the file, with its keys and values.
#[derive(Clone, Debug)]
struct GeneratedTable {
    table: String,
    lines: Vec<(String, String)>,
}

fn text(GeneratedTable { table, lines }: &GeneratedTable) -> String {
    let heading = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
    let lines: Vec<String> = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    heading + &lines.concat()
}

/// A value that mostly has the key's type.
#[expect(clippy::too_many_lines, reason = "one arm for each type")]
fn value(key: &'static KeyInfo) -> BoxedStrategy<String> {
    let quoted = |words: &'static [&'static str]| select(words).prop_map(|word| format!("\"{word}\""));
    let typical: BoxedStrategy<String> = match key.kind {
        ValueType::Switch => select(&["true", "false"][..]).prop_map(str::to_owned).boxed(),
        ValueType::Seconds(..) => select(&["0", "60", "3600", "\"2h\"", "\"40d\"", "-1", "\"soon\""][..])
            .prop_map(str::to_owned)
            .boxed(),
        ValueType::Count(..) => select(&["0", "8", "\"8\"", "-1", "1000000", "\"many\""][..])
            .prop_map(str::to_owned)
            .boxed(),
        ValueType::Word(words) => quoted(words).boxed(),
        ValueType::Words(words) => proptest::collection::vec(select(words), 0..3)
            .prop_map(|words| format!("{words:?}"))
            .boxed(),
        ValueType::Url => quoted(&[
            "https://a.example/mcp",
            "http://127.0.0.1:9/mcp",
            "http://a.example",
            "ftp://x",
            "${SECRET}",
        ])
        .boxed(),
        ValueType::Texts | ValueType::Files => {
            let samples = &[
                "a",
                "b c",
                "127.0.0.1:1",
                "[::1]:2",
                "0.0.0.0:3",
                "10.0.0.0/8",
                "https://a.example",
                "x-tenant",
                "cookie",
                "a@b.c",
                "${NONE}",
            ][..];
            proptest::collection::vec(select(samples), 0..3)
                .prop_map(|texts| format!("{texts:?}"))
                .boxed()
        }
        ValueType::Pairs | ValueType::SecretPairs => quoted_raw(&["{ audience = \"a\" }", "{ state = \"a\" }", "{ a = 1 }", "{}"]),
        ValueType::TableOr(..) => quoted_raw(&[
            "{ domains = [\"a.example\"] }",
            "{ emails = [\"a@b.c\"] }",
            "{ groups = [] }",
            "{}",
            "\"anyone\"",
            "\"everyone\"",
        ]),
        ValueType::Table(_) => quoted_raw(&[
            "{ name = \"X-Api-Key\" }",
            "{ value = \"token {credential}\" }",
            "{ value = \"x\" }",
            "{ nam = \"x\" }",
        ]),
        ValueType::Tables(_) => select(vec![
            format!("[{{ name = \"a\", hash = \"{HASH}\" }}]"),
            "[{ name = \"a\" }]".to_owned(),
            "[]".to_owned(),
        ])
        .boxed(),
        ValueType::Text | ValueType::Secret | ValueType::File | ValueType::Contents => quoted(&[
            "password",
            "none",
            "idp:corp",
            "a",
            "${SECRET}",
            "${NONE}",
            "${NONE:-b}",
            "$$",
            "github",
            "",
        ])
        .boxed(),
    };
    let atypical = &["1", "true", "\"x\"", "[]", "{}", "1.5", "1979-05-27", "[1]", "[[\"a\"]]"][..];
    prop_oneof![9 => typical, 1 => select(atypical).prop_map(str::to_owned)].boxed()
}

fn quoted_raw(values: &'static [&'static str]) -> BoxedStrategy<String> {
    select(values).prop_map(str::to_owned).boxed()
}

fn line(pattern: &'static str) -> impl Strategy<Value = (String, String)> {
    let keys: Vec<&'static KeyInfo> = ALL.iter().copied().filter(|key| key.table == pattern).collect();
    select(keys).prop_flat_map(|key| {
        let name = if key.kind == ValueType::Secret {
            prop_oneof![3 => Just(key.name.to_owned()), 1 => Just(format!("{}_file", key.name))].boxed()
        } else {
            prop_oneof![30 => Just(key.name.to_owned()), 1 => Just(format!("{}s", key.name))].boxed()
        };
        (name, value(key))
    })
}

fn table(
    pattern: &'static str,
    path: &'static str,
    required: &'static [(&'static str, &'static str)],
    max_lines: usize,
) -> impl Strategy<Value = GeneratedTable> {
    proptest::collection::vec(line(pattern), 0..max_lines).prop_map(move |generated| {
        let mut lines: Vec<(String, String)> = Vec::new();
        let required = required.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        for (key, value) in generated.into_iter().chain(required) {
            // TOML forbids duplicate keys.
            if !lines.iter().any(|(name, _)| *name == key) {
                lines.push((key, value));
            }
        }
        GeneratedTable {
            table: path.to_owned(),
            lines,
        }
    })
}

fn file() -> impl Strategy<Value = Vec<GeneratedTable>> {
    const URL: &[(&str, &str)] = &[("url", "\"https://a.example/mcp\"")];
    const IDP: &[(&str, &str)] = &[("client_id", "\"a\""), ("issuer", "\"https://a.example\"")];
    let maybe = |pattern, path, required, max_lines| proptest::option::weighted(0.4, table(pattern, path, required, max_lines)).boxed();
    let single_tables = (
        table("", "", &[], 3),
        maybe("keys", "keys", &[], 2),
        maybe("tls", "tls", &[], 3),
        maybe("store", "store", &[], 3),
        maybe("login.password", "login.password", &[], 2),
        maybe("cors", "cors", &[], 2),
        maybe("audit", "audit", &[], 2),
    );
    let named_tables = (
        maybe("idp.*", "idp.corp", IDP, 3),
        maybe("clients.*", "clients.bot", &[("redirect_uris", "[\"https://a.example/\"]")], 2),
        table("services.*", "services.one", URL, 4),
        maybe("services.*", "services.other", URL, 5),
    );
    (single_tables, named_tables).prop_map(|((top, a, b, c, d, e, i), (f, g, service, h))| {
        let tables = [a, b, c, d, e, f, g, h, i].into_iter().flatten();
        [top].into_iter().chain(tables).chain([service]).collect()
    })
}

/// Invariants of every accepted configuration.
fn runs(validated: &Validated) {
    let names: Vec<&str> = validated.config.services.iter().map(|service| service.name.as_str()).collect();
    assert!(!names.is_empty() && names.iter().all(|name| service::is_name(name)));
    assert!(validated.config.services.iter().filter(|service| service.is_default).count() <= 1);
    assert!(!validated.start.listen.is_empty());
    for service in &validated.config.services {
        if let Login::Idp(name) = &service.login {
            assert!(validated.config.idps.iter().any(|idp| idp.name == *name));
        }
        let ttl = service.ttl;
        assert!(ttl.access >= 10 && ttl.refresh >= 10 && ttl.absolute >= 10);
    }
    assert_eq!(validated.check_features().is_ok(), validated.missing_features.is_empty());
}

/// The message must name a key of the file with its line, or a known key that is missing there.
fn names_the_key(error: &ConfigError, text: &str) {
    let Location::Line { line, key, .. } = &error.at else {
        panic!("{error}")
    };
    let name = key.rsplit('.').next().unwrap();
    let line_text = text.lines().nth(line - 1).unwrap_or_default();
    let is_known = ALL.iter().any(|key| key.name == name);
    assert!(!name.is_empty() && (line_text.contains(name) || is_known), "{error}\nin\n{text}");
    assert!(!error.what.is_empty() && !error.instead.is_empty(), "{error}");
    assert!(!error.to_string().contains("from the variable"), "a secret is shown: {error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_config_file_is_valid_or_refused_with_its_key(file in file()) {
        let text = file.iter().map(text).collect::<String>();
        match written(&text) {
            Ok(validated) => runs(&validated),
            Err(error) => names_the_key(&error, &text),
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused_with_a_line(text in ".{0,200}") {
        if let Err(error) = written(&text) {
            let in_the_file = matches!(error.at, Location::Line { .. });
            prop_assert!(in_the_file);
        }
    }
}
