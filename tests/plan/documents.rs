//! Compares the documents for reviewers with the code: each test that they name exists, and each
//! row of a table of attacks names a test or says why there is none.
//!
//! A test is written as the binary and its path: `stories hostile::some_test` runs as
//! `cargo test --test stories -- hostile::some_test`, and `lib a::b::tests::some_test` as
//! `cargo test --lib -- a::b::tests::some_test`.

use std::fs;

use crate::source::root;

/// Tests that cargo does not run: `make sdk` and `make peers` do.
const OTHER_TESTS: [&str; 2] = ["sdk/", "tests/peers/groups/"];

/// The documents for reviewers.
const DOCUMENTS: [&str; 2] = ["docs/security-review.md", "docs/attacks.md"];

/// What the last cell of a row says where no test is named.
const REASONS: [&str; 2] = ["no test: ", "does not apply: "];

#[test]
fn every_test_named_for_reviewers_exists() {
    let binaries = binaries();
    for document in DOCUMENTS {
        let text = read(document);
        let spans = text.split('`').skip(1).step_by(2);
        let tests: Vec<(&str, &str)> = spans.filter_map(|span| named_test(&binaries, span)).collect();
        for (binary, path) in &tests {
            if let Err(error) = find(binary, path) {
                panic!("{document} names `{binary} {path}`: {error}");
            }
        }
        assert!(tests.len() > 40, "{document} names {} tests", tests.len());
        let is_other = |span: &&str| OTHER_TESTS.iter().any(|folder| span.starts_with(folder));
        for span in text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(is_other)
            .filter(|span| span.contains('.'))
        {
            assert!(root().join(span).exists(), "{document} names `{span}`, which is not there");
        }
    }
}

#[test]
fn every_row_for_reviewers_names_a_test_or_a_reason() {
    let binaries = binaries();
    for document in DOCUMENTS {
        let text = read(document);
        let mut lines = text.lines();
        let mut rows = 0;
        while let Some(heading) = lines.find(|line| line.ends_with("| test |")) {
            for row in lines.by_ref().skip(1).take_while(|line| line.starts_with('|')) {
                let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
                let is_other = |span: &str| OTHER_TESTS.iter().any(|folder| span.starts_with(folder));
                let is_named = |span: &str| named_test(&binaries, span).is_some() || is_other(span);
                let has_test = cell.split('`').skip(1).step_by(2).any(is_named);
                let has_reason = REASONS.iter().any(|reason| cell.starts_with(reason));
                assert!(
                    has_test || has_reason,
                    "{document}, below {heading}: no test and no reason in\n{row}"
                );
                rows += 1;
            }
        }
        assert!(rows > 20, "{document}: {rows} rows");
    }
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap()
}

/// The test binaries of the manifest, and `lib`.
fn binaries() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let names = manifest
        .split("[[test]]\nname = \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    names.chain(["lib"]).map(str::to_owned).collect()
}

/// Splits `binary path::of::test`. Other text is no test.
fn named_test<'a>(binaries: &[String], span: &'a str) -> Option<(&'a str, &'a str)> {
    let (binary, path) = span.split_once(' ')?;
    let is_path = path.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c));
    (is_path && binaries.iter().any(|known| known == binary)).then_some((binary, path))
}

/// Finds a test by its path. Modules inside a file are named `tests`.
fn find(binary: &str, path: &str) -> Result<(), String> {
    let folder = match binary {
        "lib" => "src".to_owned(),
        test => format!("tests/{test}"),
    };
    let (modules, name) = path.rsplit_once("::").unwrap_or(("", path));
    let (outer, is_inside) = modules.strip_suffix("tests").map_or((modules, false), |outer| (outer, true));
    let outer = outer.trim_end_matches("::").replace("::", "/");
    let modules = modules.replace("::", "/");
    let mut files = vec![format!("{modules}.rs"), format!("{modules}/mod.rs")];
    if is_inside {
        files.extend([format!("{outer}.rs"), format!("{outer}/mod.rs")]);
    }
    if modules.is_empty() {
        files = vec!["main.rs".to_owned()];
    }
    let text = files
        .iter()
        .find_map(|file| fs::read_to_string(root().join(&folder).join(file)).ok());
    let text = text.ok_or_else(|| format!("{folder} has none of the files {files:?}"))?;
    if is_test(&text, name) {
        Ok(())
    } else {
        Err(format!("{folder}/{} has no test of this name", files[0]))
    }
}

/// Whether the text declares a function of this name that has an attribute of a test.
fn is_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declares = |line: &&str| line.trim_start_matches("async ").starts_with(&format!("fn {name}("));
    let Some(at) = lines.iter().position(declares) else {
        return false;
    };
    let above = lines[..at].iter().rev();
    let mut attributes = above.take_while(|line| line.starts_with('#') || line.starts_with("//") || line.ends_with(")]"));
    attributes.any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"))
}

#[test]
fn a_test_is_found_only_with_its_attribute_and_under_its_name() {
    let text = "    #[tokio::test(flavor = \"multi_thread\")]\n    /// Why.\n    async fn one(world: World) {}\n\nfn two() {}\n";
    assert!(is_test(text, "one") && !is_test(text, "on") && !is_test(text, "two"));
    assert!(find("plan", "documents::every_test_named_for_reviewers_exists").is_ok());
    assert!(find("plan", "documents::binaries").is_err() && find("plan", "absent::one").is_err());
    assert!(find("lib", "token::pair::tests::a_pair_with_any_bit_changed_is_refused").is_ok());
    assert!(find("lib", "config::tests::config_errors_never_contain_a_secret").is_ok());
}
