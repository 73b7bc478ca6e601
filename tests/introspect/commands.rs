//! The commands `servers` and `admin-keys`, beside a gateway that runs.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use mcp_oauth_gateway::net::body::RequestBody;
use serde_json::{Value, json};

use crate::site::Site;
use crate::support::browser::{Browser, send};

const PUBLIC_URL: &str = "https://gateway.example.com";
const CONFIG: &str = "public_url = \"https://gateway.example.com\"\n[services.files]\naccess = \"introspect\"\n\
    resource = \"https://files.example.com/mcp\"\ntitle = \"Files\"\nscopes = [\"files:read\"]\noptional_scopes = [\"files:write\"]\n";
const TRACKER: &str = "https://tracker.example.com/mcp";

/// The JSON objects of a command, one on each line.
fn objects(site: &Site, words: &str) -> Vec<Value> {
    let output = site.output(words);
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} of {value}"))
}

/// What follows the id in a key.
fn secret_part(key: &str) -> &str {
    &key[30..]
}

/// The status of a request to the gateway with this key.
async fn status(site: &Site, key: &str, method: Method, path: &str, form: &str) -> u16 {
    let request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", site.gateway.url))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", format!("Bearer {key}"));
    let body = RequestBody::Full(Bytes::from(form.to_owned()));
    send(&Browser::default().client, request.body(body).unwrap()).await.status.as_u16()
}

/// Waits for a status. A running gateway learns of the commands' changes within two seconds.
async fn until(site: &Site, key: &str, path: &str, expected: u16) {
    for _ in 0..100 {
        if status(site, key, Method::POST, path, "token=x").await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} does not return {expected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_added_listed_shown_and_removed_by_commands() {
    let site = Site::start(CONFIG, PUBLIC_URL).await;
    // Without registered servers, only the service of the file.
    let files = json!({
        "service": "files", "resource": "https://files.example.com/mcp", "title": "Files", "tokens": "jwt", "owner": null,
        "verified": true, "scopes": ["files:read"], "optional_scopes": ["files:write"],
    });
    assert_eq!(objects(&site, "servers list --json"), std::slice::from_ref(&files));
    assert_eq!(objects(&site, "servers show files --json"), [files]);
    // The id alone goes to standard output, so that a script can use it.
    let plain = site.output(&format!("servers add {TRACKER} --name Tracker"));
    assert!(plain.starts_with("srv_") && plain.lines().count() == 1, "{plain}");
    let words = "--name Notes --description Ours --scope read --scope write --owner ops --opaque --json";
    let made = objects(&site, &format!("servers add https://notes.example.com/mcp {words}"));
    let notes = text(&made[0], "server_id").to_owned();
    let listed = objects(&site, "servers list --json");
    let ids: Vec<&str> = listed.iter().map(|server| text(server, "service")).collect();
    assert_eq!(ids.len(), 3);
    assert!(
        ids[0] == "files" && ids.contains(&plain.as_str()) && ids.contains(&notes.as_str()),
        "{ids:?}"
    );
    let expected = json!({
        "service": notes, "resource": "https://notes.example.com/mcp", "title": "Notes", "tokens": "opaque", "owner": "ops",
        "verified": false, "scopes": ["read", "write"], "description": "Ours",
    });
    assert_eq!(objects(&site, &format!("servers show {notes} --json")), [expected]);
    let table = site.output("servers list");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(
        lines[0].starts_with("SERVICE") && lines[1].contains("https://files.example.com/mcp"),
        "{table}"
    );
    let shown = site.output(&format!("servers show {plain}"));
    assert!(
        shown.contains("operator") && shown.contains(TRACKER) && shown.contains("false"),
        "{shown}"
    );
    // The running gateway serves the new server, and after its removal no longer.
    let key = site.output(&format!("servers keys add {notes}"));
    let path = format!("/introspect/mcp/{notes}");
    until(&site, &key, &path, 200).await;
    assert_eq!(site.output(&format!("servers remove {notes}")), "");
    until(&site, &key, &path, 404).await;
    assert_eq!(objects(&site, "servers list --json").len(), 2);
    for words in [
        format!("servers remove {notes}"),
        "servers remove files".to_owned(),
        "servers remove srv_x".to_owned(),
    ] {
        let error = site.error(&words);
        assert!(
            error.contains("there is no registered server") && error.contains("servers list"),
            "{error}"
        );
    }
    let error = site.error(&format!("servers show {notes}"));
    assert!(error.contains(&notes) && error.contains("there are: files, "), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_servers_are_refused_and_the_message_names_the_member() {
    let site = Site::start(CONFIG, PUBLIC_URL).await;
    for (words, names) in [
        ("http://tracker.example.com/mcp --name T", "server_url"),
        ("https://tracker.example.com/mcp?x=1 --name T", "server_url"),
        ("tracker.example.com --name T", "server_url"),
        ("https://tracker.example.com/mcp", "--name"),
        ("https://tracker.example.com/mcp --name T --scope \"", "scopes"),
        ("https://tracker.example.com/mcp --name T --owner a/b", "owner"),
    ] {
        let error = site.error(&format!("servers add {words}"));
        assert!(error.contains(names), "{words}: {error}");
    }
    assert_eq!(objects(&site, "servers list --json").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_servers_are_added_listed_and_revoked_by_commands() {
    let site = Site::start(CONFIG, PUBLIC_URL).await;
    assert_eq!(site.output("servers keys list --json"), "");
    // The key alone goes to standard output.
    let key = site.output("servers keys add files --name first --expires 30");
    assert!(key.starts_with("sk_") && key.lines().count() == 1, "{key}");
    let made = objects(&site, "servers keys add files --json");
    let second = text(&made[0], "key_id");
    let listed = objects(&site, "servers keys list files --json");
    assert_eq!(listed.len(), 2);
    let first = listed.iter().find(|listed| listed["name"] == "first").unwrap();
    assert_eq!(
        (&first["state"], &first["service"], &first["owner"], &first["last_used_at"]),
        (&json!("active"), &json!("files"), &json!(null), &json!(null))
    );
    let life = first["expires_at"].as_u64().unwrap() - first["created_at"].as_u64().unwrap();
    assert_eq!(life, 30 * 86_400);
    assert!(listed.iter().any(|key| key["key_id"] == second && key["expires_at"].is_null()));
    assert_eq!(objects(&site, "servers keys list other --json"), Vec::<Value>::new());
    // A list never has a key.
    let table = site.output("servers keys list");
    let secret = text(&made[0], "key_secret");
    assert!(table.starts_with("ID") && table.lines().count() == 3, "{table}");
    for secret in [key.as_str(), secret] {
        let secret = secret_part(secret);
        assert!(!table.contains(secret) && !site.output("servers keys list --json").contains(secret));
    }
    // Revoked at once, at the gateway that runs; the other key goes on.
    let first = text(first, "key_id").to_owned();
    assert_eq!(status(&site, &key, Method::POST, "/introspect", "token=x").await, 200);
    assert_eq!(site.output(&format!("servers keys revoke {first}")), "");
    assert_eq!(status(&site, &key, Method::POST, "/introspect", "token=x").await, 401);
    assert_eq!(status(&site, secret, Method::POST, "/introspect", "token=x").await, 200);
    let listed = objects(&site, "servers keys list --json");
    assert!(
        listed
            .iter()
            .any(|key| key["key_id"] == first.as_str() && key["state"] == "revoked")
    );
    let again = site.run(&format!("servers keys revoke {first}"));
    assert!(again.status.success() && String::from_utf8_lossy(&again.stderr).contains("revoked before"));
    // Errors say what is wrong and where the right names are.
    for (words, names) in [
        ("servers keys add unknown", "there are: files"),
        ("servers keys add files --name a/b", "--name"),
        ("servers keys add files --expires 0", "--expires"),
        ("servers keys revoke key_unknown", "`list` names them all"),
        ("servers keys revoke files", "`list` names them all"),
    ] {
        let error = site.error(words);
        assert!(error.contains(names), "{words}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_keys_are_added_listed_and_revoked_by_commands_apart_from_keys_of_servers() {
    let site = Site::start(CONFIG, PUBLIC_URL).await;
    let key = site.output("admin-keys add --owner ops --name console");
    assert!(key.starts_with("ak_") && key.lines().count() == 1, "{key}");
    let all = objects(&site, "admin-keys add --all --expires 1 --json");
    assert!(text(&all[0], "key_secret").starts_with("ak_"));
    let server_key = objects(&site, "servers keys add files --json");
    for key in [key.as_str(), text(&all[0], "key_secret")] {
        assert_eq!(status(&site, key, Method::GET, "/api/servers", "").await, 200);
    }
    let listed = objects(&site, "admin-keys list --json");
    assert_eq!(listed.len(), 2);
    let ops = listed.iter().find(|listed| listed["owner"] == "ops").unwrap();
    assert_eq!(
        (&ops["name"], &ops["service"], &ops["state"]),
        (&json!("console"), &json!(null), &json!("active"))
    );
    assert!(listed.iter().any(|key| key["owner"].is_null() && key["key_id"] == all[0]["key_id"]));
    let table = site.output("admin-keys list");
    assert!(
        table.contains("the owner 'ops'") && table.contains("every owner") && !table.contains(secret_part(&key)),
        "{table}"
    );
    // Each command knows its own kind of key only.
    let (ops, server) = (text(ops, "key_id"), text(&server_key[0], "key_id"));
    for words in [format!("admin-keys revoke {server}"), format!("servers keys revoke {ops}")] {
        assert!(site.error(&words).contains("there is no key"), "{words}");
    }
    assert_eq!(site.output(&format!("admin-keys revoke {ops}")), "");
    assert_eq!(status(&site, &key, Method::GET, "/api/servers", "").await, 401);
    for (words, names) in [
        ("admin-keys add", "--owner"),
        ("admin-keys add --owner ops --all", "--all"),
        ("admin-keys add --owner a/b", "--owner"),
        ("admin-keys add --owner ops --expires 36501", "--expires"),
        ("admin-keys revoke key_unknown", "`list` names them all"),
    ] {
        let error = site.error(words);
        assert!(error.contains(names), "{words}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_refuse_a_directory_without_a_gateway() {
    let site = Site::start(CONFIG, PUBLIC_URL).await;
    let empty = site.dir().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for command in [
        "servers list",
        "servers show files",
        "servers add https://tracker.example.com/mcp --name T",
        "servers remove srv_AAAAAAAAAAAAAAAAAAAAAA",
        "servers keys add files",
        "servers keys list",
        "servers keys revoke key_AAAAAAAAAAAAAAAAAAAAAA",
        "admin-keys add --all",
        "admin-keys list",
        "admin-keys revoke key_AAAAAAAAAAAAAAAAAAAAAA",
    ] {
        let error = site.error(&format!("{command} --data-dir {}", empty.display()));
        assert!(
            error.contains("no gateway has stored its keys and records") && error.contains("empty"),
            "{command}: {error}"
        );
        assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0, "{command} created files");
    }
}
