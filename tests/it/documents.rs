//! What the documents say is held against what the program does.

use std::process::Command;

use mcp_oauth_gateway::config::file::{self, Contents, Outside};
use mcp_oauth_gateway::config::said::Place;
use mcp_oauth_gateway::config::{checked, reference};
use mcp_oauth_gateway::flow;

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_mcp-oauth-gateway"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success());
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn the_readme_shows_the_machine_as_the_program_prints_it() {
    let printed = printed(&["flow"]);
    assert_eq!(printed, flow::mermaid());
    assert!(
        read("README.md").contains(&format!("```mermaid\n{printed}```")),
        "copy the output of `mcp-oauth-gateway flow` into README.md"
    );
}

#[test]
fn the_readme_names_every_flag() {
    let (help, readme) = (printed(&["--help"]), read("README.md"));
    let flags = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"))
        .map(|word| word.trim_end_matches(&[',', '.', ')', ';'][..]));
    for flag in flags {
        assert!(readme.contains(flag), "README.md does not name {flag}");
    }
}

#[test]
fn the_reference_of_the_configuration_is_that_of_the_code() {
    let (document, heading) = (read("docs/configuration.md"), "## Every key\n\n");
    let (before, _) = document.split_once(heading).unwrap();
    let good = format!("{before}{heading}{}", reference::reference());
    if document != good {
        let path = format!("{}/configuration.md", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&path, good).unwrap();
        panic!("docs/configuration.md says something else than src/config/table.rs; copy {path} over it");
    }
}

#[test]
fn the_example_of_the_configuration_is_good() {
    let document = read("docs/configuration.md");
    let example = document.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let outside = Outside {
        variable: &|name| (name == "GITHUB_SECRET").then(|| "a secret".to_owned()),
        file: &|path| {
            let known = path.starts_with("/run/secrets");
            let contents = Contents {
                text: "a secret\n".to_owned(),
                open_to_others: false,
            };
            known.then_some(contents).ok_or_else(|| "no such file".to_owned())
        },
    };
    let spoken = file::read("gateway.toml", example, outside).unwrap();
    let checked = checked::check(spoken, &Place::Flag("--config"), None).unwrap();
    let names: Vec<&str> = checked.described.iter().map(|described| described.service.name.as_str()).collect();
    assert_eq!(names, ["github", "legacy", "weather", "calculator", "open", "batch"]);
    assert!(checked.idps.len() == 1 && checked.clients.len() == 1 && checked.warnings.is_empty());
}

#[test]
fn every_file_that_the_documents_name_is_there() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "docs/configuration.md",
    ] {
        let text = read(document);
        for name in text.split('`').skip(1).step_by(2) {
            let is_path = ["src/", "tests/", "examples/", "benches/", "fuzz/", "standin/", "templates/"]
                .iter()
                .any(|front| name.starts_with(front));
            if is_path && !name.contains(['{', '<', '*', ' ', ':']) {
                let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
                assert!(std::path::Path::new(&path).exists(), "{document} names {name}, which is not there");
            }
        }
    }
}
