//! Compares the documents with the code and with the output of the program.

use std::path::Path;
use std::process::Command;

use mcp_oauth_gateway::config::document::{self, Environment, FileContents};
use mcp_oauth_gateway::config::reference;
use mcp_oauth_gateway::config::spanned::{ConfigError, Location};
use mcp_oauth_gateway::config::validate::{self, Validated};
use mcp_oauth_gateway::flow;
use mcp_oauth_gateway::upstream::quirks;

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
fn the_documented_state_diagram_matches_the_output_of_the_flow_command() {
    let printed = printed(&["flow"]);
    assert_eq!(printed, flow::mermaid());
    assert!(
        read("docs/how-it-works.md").contains(&format!("```mermaid\n{printed}```")),
        "copy the output of `mcp-oauth-gateway flow` into docs/how-it-works.md"
    );
}

#[test]
fn the_command_reference_names_every_flag() {
    let document = read("docs/commands.md");
    for of in [
        "",
        "check",
        "doctor",
        "healthcheck",
        "keyring list",
        "keyring rotate",
        "keyring passphrase",
        "api-keys add",
        "api-keys list",
        "api-keys revoke",
        "store export",
        "store import",
        "init",
        "start",
        "add",
        "login",
        "logout",
        "list",
        "status",
        "refresh",
        "remove",
        "env",
        "local-key rotate",
    ] {
        let mut words: Vec<&str> = of.split_whitespace().collect();
        assert!(document.contains(of), "docs/commands.md does not name the command {of}");
        words.push("--help");
        let help = printed(&words);
        let flags = help
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
            .map(|word| word.trim_end_matches(&[',', '.', ')', ';', ']'][..]));
        for flag in flags.filter(|flag| *flag != "--help") {
            assert!(document.contains(flag), "docs/commands.md does not name {flag} of {of}");
        }
    }
}

/// Splits each message at its values (`…`), and joins the broken string literals of the source.
#[test]
fn every_message_of_the_troubleshooting_page_is_in_the_source() {
    let source: String = rust_files("src").iter().map(|file| read(file)).collect();
    let source = source.replace("\\\"", "\"");
    let source: String = source.split("\\\n").map(str::trim_start).collect();
    // A message starts with the flag or store that it is about, or with the kind of a record.
    let begins = ["--upstream-rs: ", "--port: ", "--store: ", "a grant"];
    let document = read("docs/troubleshooting.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let mut messages = 0;
    for row in rows {
        let message = row.split('`').nth(1).unwrap();
        let message = begins.iter().find_map(|begin| message.strip_prefix(begin)).unwrap_or(message);
        for part in message.split('…').map(|part| part.trim_matches(['\'', ' '])) {
            assert!(source.contains(part), "docs/troubleshooting.md: no message has {part:?}");
        }
        messages += 1;
    }
    assert!(messages > 20, "{messages} messages");
}

/// The documents name tests as evidence. A renamed test must be renamed there too.
#[test]
fn every_test_named_in_the_documents_exists() {
    let folders = ["src", "tests", "standin"];
    let code: String = folders
        .iter()
        .flat_map(|folder| rust_files(folder))
        .map(|file| read(&file))
        .collect();
    let is_sentence = |name: &&str| {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.matches('_').count() >= 4 && name.chars().all(letters)
    };
    let mut named = 0;
    for document in documents() {
        let text = read(&document);
        for name in text.split('`').skip(1).step_by(2).filter(is_sentence) {
            assert!(
                code.contains(&format!("fn {name}(")),
                "{document} names the test {name}, which is not there"
            );
            named += 1;
        }
    }
    assert!(named > 50, "the documents name tests: {named}");
}

#[test]
fn the_configuration_reference_matches_the_keys_in_the_code() {
    let (document, heading) = (read("docs/configuration.md"), "## Every key\n\n");
    let (before, _) = document.split_once(heading).unwrap();
    let good = format!("{before}{heading}{}", reference::reference());
    if document != good {
        let path = format!("{}/configuration.md", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&path, good).unwrap();
        panic!("docs/configuration.md says something else than src/config/keys.rs; copy {path} over it");
    }
}

#[test]
fn the_configuration_example_in_the_documents_is_valid() {
    let document = read("docs/configuration.md");
    let (_, section) = document.split_once("## An example\n").unwrap();
    let example = section.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let checked = checked(example).unwrap();
    let names: Vec<&str> = checked.config.services.iter().map(|service| service.name.as_str()).collect();
    let expected = [
        "github",
        "crm",
        "legacy",
        "weather",
        "reports",
        "cluster",
        "calculator",
        "open",
        "batch",
    ];
    assert_eq!(names, expected);
    assert!(checked.config.idps.len() == 1 && checked.config.clients.len() == 1 && checked.warnings.is_empty());
}

#[test]
fn every_file_named_in_the_documents_exists() {
    for document in documents() {
        let text = read(&document);
        for name in text.split('`').skip(1).step_by(2) {
            let is_path = ["src/", "tests/", "demo/", "benches/", "fuzz/", "standin/", "templates/"]
                .iter()
                .any(|front| name.starts_with(front));
            if is_path && !name.contains(['{', '<', '*', ' ', ':']) {
                let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
                assert!(Path::new(&path).exists(), "{document} names {name}, which is not there");
            }
        }
    }
}

/// A Rust path is relative to the root, `src` or `tests`. `file.rs::item` also names an item.
#[test]
fn every_rust_file_and_item_named_in_the_documents_exists() {
    let mut named = 0;
    for document in documents() {
        let text = read(&document);
        for name in text.split('`').skip(1).step_by(2).filter(|name| !name.contains(' ')) {
            let (file, item) = name.split_once("::").unwrap_or((name, ""));
            if Path::new(file).extension().is_none_or(|end| end != "rs") {
                continue;
            }
            let found = ["", "src/", "tests/"]
                .map(|folder| format!("{}/{folder}{file}", env!("CARGO_MANIFEST_DIR")))
                .into_iter()
                .find_map(|path| std::fs::read_to_string(path).ok());
            let code = found.unwrap_or_else(|| panic!("{document} names {name}, but there is no such file"));
            let item = item.rsplit("::").next().unwrap();
            assert!(
                item.is_empty() || declares(&code, item),
                "{document} names {name}, but {file} declares no {item}"
            );
            named += 1;
        }
    }
    assert!(named > 50, "the documents name {named} Rust files");
}

/// Whether Rust code declares an item of this name.
fn declares(code: &str, item: &str) -> bool {
    const KEYWORDS: [&str; 8] = ["fn", "struct", "enum", "trait", "const", "static", "type", "mod"];
    let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    words.windows(2).any(|pair| KEYWORDS.contains(&pair[0]) && pair[1] == item)
}

/// All Rust files below a folder, as paths relative to the root.
fn rust_files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}/{}", entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                folders.push(name);
            } else if Path::new(&name).extension().is_some_and(|end| end == "rs") {
                found.push(name);
            }
        }
    }
    found
}

/// All documents, as paths relative to the root.
fn documents() -> Vec<String> {
    let mut found = ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md"]
        .map(str::to_owned)
        .to_vec();
    let mut folders = vec!["docs".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}/{}", entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                folders.push(name);
            } else if Path::new(&name).extension().is_some_and(|end| end == "md") {
                found.push(name);
            }
        }
    }
    found
}

/// All TOML blocks in the documents, as pairs of location and text.
fn configurations() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for document in documents() {
        let text = read(&document);
        let mut lines = text.lines().enumerate();
        while let Some((at, _)) = lines.find(|(_, line)| *line == "```toml") {
            let block: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            found.push((format!("{document}:{}", at + 1), block.join("\n")));
        }
    }
    found
}

/// The copy of a client's metadata document that the documents name.
const CLIENT_DOCUMENT: &str = r#"{"client_id":"https://claude.ai/oauth/claude-code-client-metadata","client_name":"Claude Code",
    "redirect_uris":["http://localhost/callback"]}"#;

/// Validates a configuration. Every environment variable is set, and every file exists.
fn checked(configuration: &str) -> Result<Validated, ConfigError> {
    let outside = Environment {
        variable: &|_| Some("a-secret".to_owned()),
        file: &|path| {
            let text = match path.file_name().and_then(|name| name.to_str()) {
                Some("redis-url") => "redis://a:b@redis:6379/0\n",
                Some("claude-code.json") => CLIENT_DOCUMENT,
                Some("crm.pem") => mcp_gateway_standin::KEY_CLIENTS[0].1,
                _ => "a-secret\n",
            };
            Ok(FileContents {
                text: text.to_owned(),
                open_to_others: false,
            })
        },
    };
    let spoken = document::read("gateway.toml", configuration, outside)?;
    validate::validate(spoken, &Location::Flag("--config"), Some("/data".into()))
}

/// Returns the error of a configuration, if it is invalid.
fn wrong_with(configuration: &str) -> Option<String> {
    checked(configuration).err().map(|wrong| wrong.to_string())
}

#[test]
fn every_configuration_in_the_documents_is_valid() {
    let all = configurations();
    assert!(all.len() > 15, "{} configurations", all.len());
    for (place, text) in all {
        assert_eq!(wrong_with(&text), None, "{place}");
    }
    assert!(wrong_with("[services.a]\nurl = 1\nurl = 2").is_some());
    assert!(wrong_with("[services.a]\ntitle = \"A\"").is_some());
}

#[test]
fn every_profile_in_the_documents_exists_and_every_profile_is_indexed() {
    let index = read("docs/upstreams/README.md");
    for name in quirks::names() {
        assert!(index.contains(&format!("`{name}`")), "{name}");
    }
    for document in documents() {
        for said in read(&document).split("profile = \"").skip(1) {
            let name = said.split('"').next().unwrap();
            assert!(name == "…" || quirks::by_name(name).is_some(), "{document}: {name}");
        }
    }
}

#[test]
fn every_upstream_page_has_its_required_parts_and_an_index_entry() {
    let index = read("docs/upstreams/README.md");
    for page in documents() {
        let Some(name) = page.strip_prefix("docs/upstreams/").filter(|name| *name != "README.md") else {
            continue;
        };
        assert!(index.contains(&format!("]({name})")), "{name} is not in the index");
        let text = read(&page);
        for part in [
            "\nNot run against the real service: ",
            "/upstream/callback/",
            "\n## When it does not work\n",
            "```toml",
        ] {
            assert!(text.contains(part), "{page} lacks {part:?}");
        }
    }
}

#[test]
fn every_link_between_documents_has_a_target() {
    for document in documents() {
        let text = read(&document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                let root = Path::new(env!("CARGO_MANIFEST_DIR"));
                let place = root.join(&document).parent().unwrap().join(file);
                assert!(place.exists(), "{document} links to {link}");
            }
        }
    }
}

/// The deployment files, and the documents about them.
const DEPLOYMENT: [&str; 8] = [
    "docs/deployment.md",
    "docs/operations.md",
    "deploy/Caddyfile",
    "deploy/Dockerfile",
    "deploy/compose.yaml",
    "deploy/gateway.toml",
    "deploy/mcp-oauth-gateway.service",
    "deploy/nginx.conf",
];

/// The flags passed to the gateway in a line of a shell, a unit file or a JSON list.
fn said_to_the_program(line: &str) -> Vec<String> {
    let ours = line
        .split_once("bin/mcp-oauth-gateway")
        .or_else(|| line.split_once("mcp-oauth-gateway "))
        .map_or("", |(_, said)| said);
    // In a container definition the program name is on another line.
    let ours = line.trim().strip_prefix("command: [\"--").map_or(ours, |_| line);
    let words = ours.split(|c: char| c.is_whitespace() || "[]\",;`".contains(c));
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

#[test]
fn every_flag_variable_and_key_in_the_deployment_files_exists() {
    let asked = [
        &["--help"][..],
        &["check", "--help"],
        &["keyring", "rotate", "--help"],
        &["healthcheck", "--help"],
    ];
    let help = asked.map(printed).concat();
    let has = |word: &str| {
        help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
            .any(|known| known == word)
    };
    let keys = reference::reference();
    let (mut flags, mut variables, mut named) = (0, 0, 0);
    for file in DEPLOYMENT {
        let text = read(file);
        for (at, line) in text.lines().enumerate() {
            let place = format!("{file}:{}", at + 1);
            for flag in said_to_the_program(line) {
                assert!(has(&flag), "{place}: there is no {flag}");
                flags += 1;
            }
            for rest in line.split("MCP_GATEWAY_").skip(1) {
                let name: String = rest.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
                let name = format!("MCP_GATEWAY_{name}");
                let has_no_flag = ["MCP_GATEWAY_KEY", "MCP_GATEWAY_PASSPHRASE", "MCP_GATEWAY_PASSWORD"].contains(&name.as_str());
                assert!(has_no_flag || has(&name), "{place}: there is no {name}");
                variables += 1;
            }
            // A configuration key with its value, in a comment or in text.
            for (before, _) in line.match_indices(" = ").map(|(at, _)| line.split_at(at)) {
                let name = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
                assert!(keys.contains(&format!("`{name}`")), "{place}: there is no key {name}");
                named += 1;
            }
        }
    }
    assert!(
        flags > 8 && variables > 3 && named > 12,
        "{flags} flags, {variables} variables, {named} keys"
    );
}

#[test]
fn the_container_files_are_valid_and_agree_on_secrets_and_redis_acl() {
    assert_eq!(wrong_with(&read("deploy/gateway.toml")), None);
    let compose = read("deploy/compose.yaml");
    let secrets: Vec<String> = ["redis-url", "corp"].map(|name| format!("/run/secrets/{name}")).into();
    for secret in secrets {
        assert!(read("deploy/gateway.toml").contains(&secret), "{secret}");
        assert!(
            compose.contains(&format!("file: ./secrets/{}", secret.rsplit('/').next().unwrap())),
            "{secret}"
        );
    }
    let allowed = |document: &str| -> String {
        let text = read(document);
        let line = text.lines().find(|line| line.contains("~mcp-gateway:*")).unwrap();
        line.split_once("~mcp-gateway:*").unwrap().1.to_owned()
    };
    assert_eq!(allowed("docs/deployment.md"), allowed("docs/stores.md"));
}
