//! What the documents say is held against what the program does.

use std::process::Command;

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
fn every_file_that_the_documents_name_is_there() {
    for document in ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md"] {
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
