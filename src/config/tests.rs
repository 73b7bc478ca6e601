//! Flags and files as an operator writes them, and the resulting configurations and messages.

use std::path::{Path, PathBuf};

use clap::Parser as _;

use crate::config::document::{self, Environment, FileContents};
use crate::config::flags::Command;
use crate::config::keys::ALL;
use crate::config::listen::TlsSource;
use crate::config::schema::KeyInfo;
use crate::config::section::Section;
use crate::config::spanned::{ConfigError, Location};
use crate::config::validate::{self, Validated};
use crate::config::{from_flags, lookup};

/// A well-formed argon2id hash; no test needs its password.
pub(super) const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b2dWRWJTmaaVRZvHX7CjvrQ9Yk";

/// A private key of a client.
const KEY: &str = include_str!("../../standin/keys/client-es256.pem");

/// A client's metadata document.
const PINNED: &str = r#"{"client_id":"https://app.example/c","client_name":"App","redirect_uris":["http://127.0.0.1/cb"],"x":1}"#;

fn given(args: &str) -> Result<Validated, ConfigError> {
    let args = std::iter::once("mcp-oauth-gateway").chain(args.split_whitespace());
    let flags = Command::try_parse_from(args).unwrap().serve;
    validate::validate(
        from_flags::document(&flags),
        &Location::Flag("--upstream-rs"),
        Some(PathBuf::from("/data")),
    )
}

/// Reads a file. The variable `SECRET` and files in `/run` exist.
pub(super) fn written(text: &str) -> Result<Validated, ConfigError> {
    let variable = |name: &str| (name == "SECRET").then(|| "from the variable".to_owned());
    let contents = |path: &Path| match path.to_str() {
        Some("/run/secret") => Ok(FileContents {
            text: "from the file\n".to_owned(),
            open_to_others: true,
        }),
        Some("/run/empty") => Ok(FileContents {
            text: "\n".to_owned(),
            open_to_others: false,
        }),
        Some("/run/key.pem") => Ok(FileContents {
            text: KEY.to_owned(),
            open_to_others: false,
        }),
        Some("/run/client.json") => Ok(FileContents {
            text: PINNED.to_owned(),
            open_to_others: true,
        }),
        _ => Err("no such file".to_owned()),
    };
    let environment = Environment {
        variable: &variable,
        file: &contents,
    };
    let location = Location::Line {
        file: "gateway.toml".into(),
        line: 1,
        key: String::new(),
    };
    validate::validate(
        document::read("gateway.toml", text, environment)?,
        &location,
        Some(PathBuf::from("/data")),
    )
}

fn refused(text: &str) -> String {
    written(text).map(|_| ()).expect_err(text).to_string()
}

/// A file with one service that has this line.
fn service(line: &str) -> String {
    format!("[services.one]\nurl = \"https://x.example/mcp\"\n{line}\n")
}

fn authorization(validated: &Validated) -> &crate::service::auth_server_config::AuthServerConfig {
    let crate::service::Upstream::OAuth(config) = &validated.config.services[0].upstream else {
        panic!("{:?}", validated.config.services[0].upstream)
    };
    config
}

#[test]
fn the_upstream_url_alone_is_a_complete_configuration() {
    for validated in [
        given("--upstream-rs https://api.githubcopilot.com/mcp/").unwrap(),
        written("services.github.url = \"https://api.githubcopilot.com/mcp/\"").unwrap(),
    ] {
        assert_eq!(validated.start.urls.public_url(), "http://localhost:8002");
        assert_eq!(validated.start.listen.len(), 2);
        let service = &validated.config.services[0];
        assert_eq!(service.mcp.as_str(), "https://api.githubcopilot.com/mcp/");
        assert!(service.is_default && validated.has_password_login());
        assert_eq!(
            (service.ttl, service.reuse_window, service.parallel_limit),
            (
                crate::token::lifetime::Ttl::default(),
                crate::token::lifetime::ReuseWindow { native: 7_200, web: 60 },
                None
            )
        );
    }
}

#[test]
fn a_public_bind_with_trusted_proxies_needs_no_tls() {
    let proxied = "--upstream-rs https://x/ --host 0.0.0.0 --public-url https://a.example --trusted-proxies";
    let urls = given(&format!("{proxied} 10.0.0.7,fd00::/8")).unwrap().start.urls;
    let networks: Vec<String> = urls.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.7/32", "fd00::/8"]);
    assert_eq!(urls.public_url(), "https://a.example");
}

#[test]
fn each_invalid_flag_is_named_in_the_error() {
    for (args, flag) in [
        ("", "--upstream-rs"),
        ("--upstream-rs nonsense", "--upstream-rs"),
        ("--upstream-rs ftp://x/y", "--upstream-rs"),
        ("--upstream-rs https://x/ --host 0.0.0.0 --public-url https://a.example", "--host"),
        ("--upstream-rs https://x/ --host 0.0.0.0 --insecure-http", "--public-url"),
        ("--upstream-rs https://x/ --trusted-proxies nonsense", "--trusted-proxies"),
        ("--upstream-rs https://x/ --trusted-proxies 0.0.0.0/0", "--trusted-proxies"),
        ("--upstream-rs https://x/ --public-url http://example.com", "--public-url"),
        ("--upstream-rs https://x/ --public-url example.com", "--public-url"),
        ("--upstream-rs https://x/ --upstream-client-secret s", "--upstream-client-secret"),
        (
            "--upstream-rs https://x/ --upstream-token-endpoint https://x/t",
            "--upstream-authorize-endpoint",
        ),
        (
            "--upstream-rs https://x/ --upstream-token-endpoint https://x/t --upstream-authorize-endpoint https://x/a",
            "--upstream-client-id",
        ),
        ("--upstream-rs https://x/ --token-mode plain", "--token-mode"),
        ("--upstream-rs https://x/ --access-ttl 0", "--access-ttl"),
    ] {
        assert_eq!(given(args).map(|_| ()).unwrap_err().at, Location::Flag(flag), "{args}");
    }
}

#[test]
fn flags_that_duplicate_config_file_keys_are_refused() {
    let flags = |args: &str| {
        let args = ["mcp-oauth-gateway", "--config", "gateway.toml"]
            .into_iter()
            .chain(args.split_whitespace());
        Command::try_parse_from(args).unwrap().serve
    };
    for (args, key) in [
        ("--upstream-rs https://x/", "`url` into the file, at [services.<name>]"),
        ("--port 9000", "`listen` into the file, at the top"),
        ("--tls self-signed", "`self_signed` into the file, at [tls]"),
        ("--store memory", "`kind` into the file, at [store]"),
        ("--refresh-grace 5", "`refresh_grace`"),
    ] {
        let error = from_flags::check_conflicts(&flags(args)).unwrap_err().to_string();
        assert!(error.contains(key) && error.starts_with("--"), "{error}");
    }
    from_flags::check_conflicts(&flags("--log debug --data-dir /d --username bob")).unwrap();
}

#[test]
fn a_config_error_names_line_key_and_remedy() {
    assert_eq!(
        refused("# a comment\n\n[services.github]\nurl = \"nonsense\"\n"),
        "gateway.toml:4: services.github.url: 'nonsense' is not an absolute URL\n  write it like https://example.com or https://example.com/path"
    );
    assert_eq!(
        refused("[services.one]\ntitel = \"x\"\n"),
        "gateway.toml:2: services.one.titel: there is no such key\n  did you mean `title`?"
    );
    assert_eq!(
        refused("[services.one]\n"),
        "gateway.toml:1: services.one.url: the upstream MCP server is missing\n  for instance url = \"https://api.githubcopilot.com/mcp/\""
    );
}

#[test]
fn a_file_without_services_is_a_warning() {
    let validated = written("").unwrap();
    assert!(
        validated.warnings[0].starts_with("gateway.toml:1: there is no service yet\n  add one: mcp-oauth-gateway add NAME URL"),
        "{:?}",
        validated.warnings
    );
}

/// File content, the key in the message, and a word of the message.
const AROUND: &[(&str, &str, &str)] = &[
    ("x = [", "gateway.toml:1:", "not TOML"),
    ("services = 1", "services:", "table"),
    ("[service.one]", "service:", "`services`"),
    ("[[services]]\nurl = \"https://x/\"", "services:", "table"),
    ("[store.deeper]", "store.deeper:", "no such key"),
    ("origins = []", "origins:", "[cors]"),
    ("public_url = 5", "public_url:", "text"),
    ("public_url = \"\"", "public_url:", "empty"),
    ("public_url = \"http://example.com\"", "public_url:", "https"),
    ("public_url = \"https://example.com/?q\"", "public_url:", "query"),
    (
        "listen = [\"0.0.0.0:80\"]\npublic_url = \"https://x.example\"",
        "listen:",
        "trusted_proxies",
    ),
    ("listen = [\"0.0.0.0:80\"]\ninsecure_http = true", "public_url:", "nobody knows"),
    ("listen = [\"example.com:80\"]", "listen:", "127.0.0.1:8002"),
    ("listen = [\"127.0.0.1\"]", "listen:", "127.0.0.1:8002"),
    ("listen = 8002", "listen:", "list"),
    ("listen = [8002]", "listen:", "text"),
    ("allowed_hosts = [\"a/b\"]", "allowed_hosts:", "host"),
    ("allowed_hosts = [\"a\", \"a\"]", "allowed_hosts:", "twice"),
    ("trusted_proxies = [\"::/0\"]", "trusted_proxies:", "everybody"),
    ("session_ttl = \"2 days\"", "session_ttl:", "\"1h\""),
    ("session_ttl = -1", "session_ttl:", "seconds"),
    ("log = \"loud\"", "log:", "error, warn, info"),
    ("compat = [\"x\"]", "compat:", "json-token"),
    ("public_directory = 1", "public_directory:", "`true`"),
    (
        "[tls]\nself_signed = true\ncert = \"a\"\nkey = \"b\"",
        "tls.self_signed:",
        "together",
    ),
    ("[tls]\ncert = \"a\"", "tls.key:", "`key`"),
    ("[tls]\nkey = \"a\"", "tls.cert:", "`cert`"),
    ("[store]\nkind = \"sqlight\"", "store.kind:", "sqlite"),
    ("[store]\nkind = \"redis\"", "store.url:", "address"),
    ("[store]\nurl = \"redis://x\"", "store.url:", "no effect"),
    ("[store]\nkind = \"redis\"\nurl = \"localhost:6379\"", "store.url:", "rediss://"),
    ("[store]\nkind = \"none\"\nurl = \"redis://x\"", "store.url:", "kind = \"redis\""),
    ("[store]\nkind = \"vault\"", "store.url:", "address"),
    ("[store]\nkind = \"vault\"\nurl = \"https://v\"", "store.token:", "role_id"),
    (
        "[store]\nkind = \"vault\"\nurl = \"https://v\"\ntoken = \"t\"\nrole_id = \"r\"",
        "store.role_id:",
        "two ways",
    ),
    (
        "[store]\nkind = \"vault\"\nurl = \"http://v.example\"\ntoken = \"t\"",
        "store.url:",
        "https",
    ),
    (
        "[store]\nkind = \"vault\"\nurl = \"https://v\"\ntoken = \"t\"\nmount = \"/kv\"",
        "store.mount:",
        "a path",
    ),
    (
        "[store]\nkind = \"vault\"\nurl = \"https://v\"\ntoken = \"t\"\nsecret_id = \"s\"",
        "store.secret_id:",
        "no effect",
    ),
    (
        "[store]\nkind = \"redis\"\nurl = \"redis://x\"\nprefix = \"{x}\"",
        "store.prefix:",
        "letters",
    ),
    (
        "[store]\nkind = \"redis\"\nurl = \"redis://x\"\nca = \"ca.pem\"",
        "store.ca:",
        "rediss",
    ),
    (
        "[store]\nkind = \"memory\"\n[services.keyed]\nurl = \"https://x/\"\naccess = \"key\"\nupstream = \"none\"",
        "services.keyed.access:",
        "API keys",
    ),
    ("[cors]\norigins = [\"https://a/b\"]", "cors.origins:", "without a path"),
    ("[cors]\norigins = [\"chrome-extension://a/b\"]", "cors.origins:", "without a path"),
    ("[cors]\norigins = [\"-extension://a\"]", "cors.origins:", "without a path"),
    ("[login.password]\nusers = []", "login.password.users:", "nobody"),
    (
        "[login.password]\nusers = [{ name = \"a\" }]",
        "login.password.users.hash:",
        "missing",
    ),
    (
        "[login.password]\nusers = [{ name = \"a\", hash = \"x\" }]",
        "login.password.users.hash:",
        "argon2",
    ),
    (
        "[login.password]\nusers = [{ name = \"a\", hash = \"$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b2dWRWJTmaaVRZvHX7CjvrQ9Yk\" }]",
        "login.password.users.hash:",
        "19 MiB",
    ),
    (
        "[login.password]\nusers = [{ name = \"a\", hash = \"$argon2id$v=19$m=65536,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b2dWRWJTmaaVRZvHX7CjvrQ9Yk\" }]",
        "login.password.users.hash:",
        "-t 2 -k 19456",
    ),
    (
        "[login.password]\nusers = [{ name = \"corp:123\", hash = \"x\" }]",
        "login.password.users.name:",
        "colon",
    ),
    (
        "[login.password]\nusers = [{ name = \"\", hash = \"x\" }]",
        "login.password.users.name:",
        "empty",
    ),
    ("[login.password]\nusers = [{ nam = \"a\" }]", "login.password.users.nam:", "`name`"),
    ("[login.password]\nusers = \"alice\"", "login.password.users:", "[{ name"),
    ("[login]\npasswords = 1", "login.passwords:", "`password`"),
    ("[idp.corp]\nclient_id = \"x\"", "idp.corp.issuer:", "issuer"),
    ("[idp.corp]\nissuer = \"https://x\"", "idp.corp.client_id:", "client id"),
    ("[idp.corp]\nissuer = \"http://x.example\"", "idp.corp.issuer:", "https"),
    ("[idp.corp]\npreset = \"gogle\"", "idp.corp.preset:", "google"),
    ("[idp.login]\npreset = \"google\"", "idp.login:", "name"),
    (
        "[idp.g]\nissuer = \"https://x\"\nclient_id = \"x\"",
        "idp.g.allow:",
        "allow = \"anyone\" admits every account",
    ),
    (
        "[idp.g]\npreset = \"okta\"\nissuer = \"https://x\"\nclient_id = \"x\"",
        "idp.g.allow:",
        "allow = { emails",
    ),
    (
        "[idp.g]\npreset = \"google\"\nclient_id = \"x\"\nclient_secret = \"s\"",
        "idp.g.allow:",
        "it is missing",
    ),
    (
        "[idp.g]\nissuer = \"https://x\"\nclient_id = \"x\"\nallow = \"everyone\"",
        "idp.g.allow:",
        "or \"anyone\"",
    ),
    (
        "[idp.g]\npreset = \"google\"\nclient_id = \"x\"\nallow = {}",
        "idp.g.allow:",
        "nobody",
    ),
    (
        "[idp.g]\npreset = \"google\"\nclient_id = \"x\"\nallow = { domains = [\"@x\"] }",
        "idp.g.allow.domains:",
        "example.com",
    ),
    (
        "[idp.g]\npreset = \"google\"\nclient_id = \"x\"\nallow = { emails = [\"x@y@z\"] }",
        "idp.g.allow.emails:",
        "alice@",
    ),
    (
        "[idp.g]\npreset = \"google\"\nclient_id = \"x\"\nallow = { email = [\"x\"] }",
        "idp.g.allow.email:",
        "`emails`",
    ),
    (
        "[idp.g]\npreset = \"google\"\nclient_id = \"x\"\nallow = 1",
        "idp.g.allow:",
        "table",
    ),
    ("[clients.bot]\nname = \"x\"", "clients.bot.redirect_uris:", "http://127.0.0.1"),
    (
        "[clients.bot]\nredirect_uris = [\"javascript:x\"]",
        "clients.bot.redirect_uris:",
        "loopback",
    ),
    (
        "[clients.bot]\nredirect_uris = [\"https://x/\"]\nsecret_hash = \"abc\"",
        "clients.bot.secret_hash:",
        "sha256sum",
    ),
    (
        "[clients.bot]\nredirect_uris = [\"https://x/\"]\nsecret = \"short\"",
        "clients.bot.secret:",
        "openssl rand",
    ),
    (
        "[clients.bot]\nredirect_uris = [\"https://x/\"]\nsecret = \"0123456789abcdef0123456789abcdef\"\nsecret_hash = \"abc\"",
        "clients.bot.secret_hash:",
        "one of the two",
    ),
    (
        "[clients.\"https:x\"]\nredirect_uris = [\"https://x/\"]",
        "clients.https:x:",
        "client id",
    ),
    (
        "[clients.\"gwc_x\"]\nredirect_uris = [\"https://x/\"]",
        "clients.gwc_x:",
        "client id",
    ),
    (
        "[clients.\"https://app.example\"]\nredirect_uris = [\"https://x/\"]",
        "clients.https://app.example:",
        "client.json",
    ),
    (
        "[clients.\"https://app.example/d\"]\ndocument_file = \"/run/client.json\"",
        "clients.https://app.example/d.document_file:",
        "not its own URL",
    ),
    (
        "[clients.\"https://app.example/c\"]\ndocument_file = \"/run/nothing.json\"",
        "clients.https://app.example/c.document_file:",
        "cannot be read",
    ),
    (
        "[clients.\"https://app.example/c\"]\ndocument_file = \"/run/client.json\"\nname = \"x\"",
        "clients.https://app.example/c.name:",
        "no effect",
    ),
    (
        "[clients.\"https://app.example/c\"]\nredirect_uris = [\"https://x/\"]\nsecret_hash = \"abc\"",
        "clients.https://app.example/c.secret_hash:",
        "no effect",
    ),
    (
        "[clients.bot]\nredirect_uris = [\"https://x/\"]\ndocument_file = \"/run/client.json\"",
        "clients.bot.document_file:",
        "no effect",
    ),
];

#[test]
fn errors_outside_the_services_name_place_and_cause() {
    for (text, place, word) in AROUND {
        let error = refused(&format!(
            "{text}\n{}",
            if text.contains("service") || text.contains("x = [") {
                ""
            } else {
                "[services.one]\nurl = \"https://x.example/mcp\""
            }
        ));
        assert!(error.contains(place) && error.contains(word), "{text}\n→ {error}");
    }
}

/// A line of a service, the key in the message, and a word of the message.
const WITHIN: &[(&str, &str, &str)] = &[
    ("access = \"opn\"", "access", "oauth, key, local, public, introspect"),
    ("access = \"none\"", "access", "oauth, key, local, public, introspect"),
    (
        "upstream = \"kept\"",
        "upstream",
        "oauth, paste, static, stored, client_credentials, workload_identity, identity, none",
    ),
    ("login = \"pasword\"", "login", "\"password\""),
    ("tools = { default = \"maybe\" }", "tools.default", "allow, ask, deny"),
    ("tools = { rules = { a = \"maybe\" } }", "tools.rules", "'maybe', the rule for 'a'"),
    ("tools = { approval_ttl = 1 }", "tools.approval_ttl", "10 to 86400"),
    ("tools = { rule = {} }", "tools.rule", "rules"),
    (
        "tools = { pin = \"off\", first_sight = \"quarantine\" }",
        "tools.first_sight",
        "no definition is compared",
    ),
    (
        "access = \"public\"\nupstream = \"none\"\ntools = { default = \"ask\" }",
        "tools.default",
        "nobody to ask",
    ),
    (
        "access = \"public\"\nupstream = \"none\"\ntools = { rules = { a = \"always_ask\" } }",
        "tools.rules",
        "nobody to ask",
    ),
    (
        "allow_token_passthrough = true\ntoken_mode = \"raw\"\ntools = { default = \"allow\" }",
        "tools",
        "does not know the caller",
    ),
    ("login = \"idp:corp\"", "login", "[idp.corp]"),
    ("client_secret = \"x\"", "client_secret", "`client_id`"),
    ("authorization_endpoint = \"https://x/a\"", "token_endpoint", "both"),
    ("token_endpoint = \"https://x/a\"", "authorization_endpoint", "both"),
    (
        "token_endpoint = \"https://x/a\"\nauthorization_endpoint = \"https://x/b\"",
        "client_id",
        "register",
    ),
    ("profile = \"gihtub\"", "profile", "github"),
    ("extra_authorize = { state = \"x\" }", "extra_authorize", "'state'"),
    ("extra_authorize = { audience = 5 }", "extra_authorize", "not a text"),
    ("extra_authorize = \"x\"", "extra_authorize", "table"),
    ("token_mode = \"plain\"", "token_mode", "allow_token_passthrough = true"),
    ("token_mode = \"raw\"", "token_mode", "allow_token_passthrough = true"),
    ("token_mode = \"jwt\"", "token_mode", "\"identity\" or \"none\" or \"static\""),
    (
        "upstream = \"none\"\ntoken_mode = \"reference\"",
        "token_mode",
        "\"oauth\" or \"paste\"",
    ),
    ("access_ttl = 5", "access_ttl", "10 to"),
    ("max_streams = 0", "max_streams", "from 1"),
    ("max_streams = \"many\"", "max_streams", "from 1"),
    (
        "refresh_ttl = \"60d\"\nrefresh_absolute_ttl = \"30d\"",
        "refresh_absolute_ttl",
        "refresh_ttl",
    ),
    ("forward_headers = [\"X-User-Id\"]", "forward_headers", "never"),
    ("forward_headers = [\"x_user_email\"]", "forward_headers", "never"),
    ("forward_headers = [\"Authorization\"]", "forward_headers", "never"),
    ("forward_headers = [\"cookie\"]", "forward_headers", "never"),
    ("forward_headers = [\"a b\"]", "forward_headers", "name of a header"),
    ("forward_response_headers = [\"Set-Cookie\"]", "forward_response_headers", "never"),
    (
        "forward_response_headers = [\"CDN-Cache-Control\"]",
        "forward_response_headers",
        "never",
    ),
    ("forward_response_headers = [\"Location\"]", "forward_response_headers", "never"),
    (
        "forward_response_headers = [\"a b\"]",
        "forward_response_headers",
        "name of a header",
    ),
    ("headers = { \"a b\" = \"x\" }", "headers", "name of a header"),
    ("headers = { \"Mcp-Session-Id\" = \"x\" }", "headers", "the client's"),
    ("headers = { \"X_User_Id\" = \"x\" }", "headers", "vouches"),
    ("headers = { \"X-Tenant\" = \"a\\nb\" }", "headers", "cannot be in a header"),
    (
        "headers = { \"X-Tenant\" = \"a\", \"X-Tenant_file\" = \"/run/secret\" }",
        "headers",
        "keep one",
    ),
    (
        "upstream = \"paste\"\nauth_header = { name = \"X-Key\" }\nheaders = { \"x-key\" = \"a\" }",
        "headers",
        "credential",
    ),
    ("allow_addresses = [\"10.0.0.0/99\"]", "allow_addresses", "172.16.0.0/12"),
    ("scopes = [\"a b\"]", "scopes", "without spaces"),
    ("upstream = \"static\"", "credential", "credential_file"),
    (
        "upstream = \"static\"\ncredential = \"a\"\nauth_header = { name = \"Cookie\" }",
        "auth_header.name",
        "X-Api-Key",
    ),
    (
        "upstream = \"paste\"\nauth_header = { value = \"x\" }",
        "auth_header.value",
        "{credential}",
    ),
    (
        "upstream = \"identity\"\nidentity_headers = [\"mail\"]",
        "identity_headers",
        "email",
    ),
    ("upstream = \"none\"\nclient_id = \"x\"", "client_id", "no effect"),
    ("credential = \"x\"", "credential", "no effect"),
    ("access = \"public\"\nupstream = \"none\"\nscopes = [\"x\"]", "scopes", "no effect"),
    (
        "access = \"key\"\nupstream = \"none\"\ntoken_mode = \"sealed\"",
        "token_mode",
        "no effect",
    ),
    ("remember_consent = true\nlogin = \"none\"", "remember_consent", "nobody is known"),
    ("remember_consent = true\nupstream = \"paste\"", "remember_consent", "each time"),
    ("title = \"0123456789012345678901234567890123456789x\"", "title", "longer than 40"),
    ("title = \"two\\nlines\"", "title", "one line"),
    ("auth_hint = \"x\"", "auth_hint", "no effect"),
    ("remember_consent = \"perhaps\"", "remember_consent", "`true` or `false`"),
    ("client_secret = \"${NONE}\"\nclient_id = \"x\"", "client_secret", "NONE"),
    (
        "client_secret_file = \"/none\"\nclient_id = \"x\"",
        "client_secret_file",
        "cannot be read",
    ),
    (
        "client_secret_file = \"/run/empty\"\nclient_id = \"x\"",
        "client_secret_file",
        "empty",
    ),
    (
        "client_secret_file = \"/run/secret\"\nclient_secret = \"x\"",
        "client_secret",
        "both",
    ),
    ("client_key_file = \"/run/key.pem\"", "client_key_file", "client_id"),
    (
        "client_id = \"x\"\nclient_key_file = \"/run/secret\"",
        "client_key_file",
        "openssl genpkey",
    ),
    (
        "client_id = \"x\"\nclient_secret = \"x\"\nclient_key_file = \"/run/key.pem\"",
        "client_key_file",
        "keep one",
    ),
    (
        "client_id = \"x\"\ntoken_auth = \"basic\"\nclient_key_file = \"/run/key.pem\"",
        "token_auth",
        "private_key_jwt",
    ),
    (
        "client_id = \"x\"\ntoken_auth = \"private_key_jwt\"",
        "token_auth",
        "client_key_file",
    ),
    ("client_id = \"x\"\nclient_key_id = \"x\"", "client_key_id", "no effect"),
    ("client_id = \"x\"\nregistration = \"document\"", "registration", "take it out"),
    ("registration = \"document\"", "registration", "https"),
    ("upstream = \"client_credentials\"", "client_id", "secret or key"),
    (
        "upstream = \"client_credentials\"\nclient_id = \"x\"",
        "client_secret",
        "client_key_file",
    ),
    (
        "upstream = \"client_credentials\"\nclient_id = \"x\"\nclient_secret = \"y\"\nauthorization_endpoint = \"https://a/\"",
        "authorization_endpoint",
        "no effect",
    ),
    ("upstream = \"workload_identity\"", "workload_token_file", "service account token"),
    ("workload_token_file = \"/run/token\"", "workload_token_file", "no effect"),
];

#[test]
fn errors_within_a_service_name_key_and_cause() {
    for (line, key, word) in WITHIN {
        let error = refused(&service(line));
        assert!(
            error.contains(&format!("services.one.{key}: ")) && error.contains(word),
            "{line}\n→ {error}"
        );
        assert!(error.lines().count() == 2, "{error}");
    }
}

#[test]
fn incompatible_choices_name_service_both_keys_and_valid_values() {
    for (line, one, other, valid) in [
        (
            "login = \"none\"\nupstream = \"static\"\ncredential = \"x\"",
            "login",
            "upstream",
            "\"oauth\" or \"paste\"",
        ),
        (
            "login = \"none\"\nupstream = \"identity\"",
            "login",
            "upstream",
            "\"oauth\" or \"paste\"",
        ),
        (
            "login = \"none\"\nupstream = \"none\"",
            "login",
            "upstream",
            "\"oauth\" or \"paste\"",
        ),
        ("access = \"key\"", "access", "upstream", "\"none\" or \"identity\""),
        (
            "access = \"key\"\nupstream = \"paste\"",
            "access",
            "upstream",
            "\"none\" or \"identity\"",
        ),
        (
            "access = \"key\"\nupstream = \"none\"\nlogin = \"password\"",
            "access",
            "login",
            "take `login` out",
        ),
        ("access = \"public\"", "access", "upstream", "upstream = \"none\""),
        (
            "access = \"public\"\nupstream = \"identity\"",
            "access",
            "upstream",
            "upstream = \"none\"",
        ),
        (
            "access = \"public\"\nupstream = \"static\"\ncredential = \"x\"",
            "access",
            "upstream",
            "allow_public_credential",
        ),
        (
            "access = \"public\"\nupstream = \"none\"\nlogin = \"password\"",
            "access",
            "login",
            "take `login` out",
        ),
    ] {
        let error = refused(&service(line));
        assert!(
            error.contains("'one'") && error.contains(&format!("{one} = ")) && error.contains(&format!("{other} = ")),
            "{error}"
        );
        assert!(error.contains("do not go together") && error.contains(valid), "{line}\n→ {error}");
    }
}

#[test]
fn local_access_and_a_stored_credential_go_only_together() {
    for (line, key, valid) in [
        ("access = \"local\"", "upstream", "upstream = \"stored\""),
        ("upstream = \"stored\"", "upstream", "access = \"local\""),
        ("access = \"key\"\nupstream = \"stored\"", "upstream", "access = \"local\""),
        ("access = \"public\"\nupstream = \"stored\"", "upstream", "access = \"local\""),
        (
            "access = \"local\"\nupstream = \"stored\"\nlogin = \"none\"",
            "login",
            "\"password\" or \"idp:<name>\"",
        ),
    ] {
        let error = refused(&service(line));
        let names = error.contains("'one'") && error.contains("access = ") && error.contains(&format!("{key} = "));
        assert!(
            names && error.contains("do not go together") && error.contains(valid),
            "{line}\n→ {error}"
        );
    }
}

#[test]
fn all_other_combinations_of_choices_are_valid() {
    for line in [
        "",
        "login = \"none\"",
        "login = \"none\"\nupstream = \"paste\"",
        "upstream = \"paste\"",
        "upstream = \"static\"\ncredential = \"x\"",
        "upstream = \"identity\"\ntoken_mode = \"jwt\"",
        "upstream = \"none\"",
        "access = \"key\"\nupstream = \"static\"\ncredential = \"x\"",
        "access = \"key\"\nupstream = \"identity\"",
        "access = \"key\"\nlogin = \"none\"\nupstream = \"none\"",
        "access = \"public\"\nupstream = \"none\"",
        "access = \"local\"\nupstream = \"stored\"",
        "access = \"local\"\nupstream = \"stored\"\nlogin = \"password\"\nauth_header = { name = \"X-Api-Key\" }",
        "access = \"public\"\nupstream = \"static\"\ncredential = \"x\"\nallow_public_credential = true",
        "upstream = \"client_credentials\"\nclient_id = \"x\"\nclient_secret = \"y\"\ntoken_auth = \"post\"",
        "upstream = \"client_credentials\"\nclient_id = \"x\"\nclient_key_file = \"/run/key.pem\"\ntoken_mode = \"jwt\"",
        "access = \"key\"\nupstream = \"client_credentials\"\nclient_id = \"x\"\nclient_secret = \"y\"\ntoken_endpoint = \"https://a/t\"",
        "access = \"key\"\nupstream = \"workload_identity\"\nworkload_token_file = \"/run/token\"\nscopes = [\"a\"]",
    ] {
        if let Err(error) = written(&service(line)) {
            panic!("{line}\n→ {error}");
        }
    }
}

#[test]
fn services_need_distinct_valid_names_and_at_most_one_default() {
    let two = |one: &str, other: &str| format!("[services.a]\nurl = \"https://a/\"\n{one}\n[services.b]\nurl = \"https://b/\"\n{other}");
    assert!(written(&two("", "default = true")).unwrap().config.services[1].is_default);
    let none = written(&two("", "")).unwrap();
    assert!(!none.config.services.iter().any(|service| service.is_default));
    assert!(refused(&two("default = true", "default = true")).contains("services.b.default: service 'a' is the default already"));
    assert!(refused(&two("", "").replace("services.b", "services.a")).contains("stands above already"));
    for name in ["Big", "mcp", "-x", "a_b", "login", "health"] {
        let error = refused(&format!("[services.{name}]\nurl = \"https://a/\""));
        assert!(
            error.contains(&format!("services.{name}: ")) && error.contains("small letters"),
            "{error}"
        );
    }
}

#[test]
fn fixed_headers_come_from_text_variable_or_file_and_are_never_printed() {
    let headers = "headers = { \"X-Tenant\" = \"acme\", \"X-Key_file\" = \"/run/secret\", \"X-Mcp-Other\" = \"${SECRET}\" }";
    let fixed = &written(&service(headers)).unwrap().config.services[0].fixed_headers;
    let pairs: Vec<(&str, &str)> = fixed.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let expected = [
        ("x-tenant", "acme"),
        ("x-key", "from the file"),
        ("x-mcp-other", "from the variable"),
    ];
    assert_eq!(pairs, expected);
    assert!(!format!("{fixed:?}").contains("from the"));
}

#[test]
fn secrets_come_from_text_variable_or_file_and_are_never_printed() {
    for (line, secret) in [
        ("client_secret = \"plain$1$$\"", "plain$1$"),
        ("client_secret = \"${SECRET}\"", "from the variable"),
        ("client_secret = \"${NONE:-else}\"", "else"),
        ("client_secret_file = \"/run/secret\"", "from the file"),
    ] {
        let validated = written(&service(&format!("client_id = \"x\"\n{line}"))).unwrap();
        assert_eq!(authorization(&validated).client_secret.as_ref().unwrap().expose(), secret);
        assert!(!format!("{validated:?}").contains(secret), "{validated:?}");
        assert_eq!(validated.warnings.len(), usize::from(line.contains("_file")));
    }
}

#[test]
fn config_errors_never_contain_a_secret() {
    for line in [
        "client_secret = hunter2",
        "client_secret = \"hunter2",
        "client_secret = 'hunter2\"",
        "client_secret = \"hunter2\" hunter2",
        "client_secret = \"\\hunter2\"",
        "client_secret = [\"hunter2\"]",
        "client_secret = { value = \"hunter2\" }",
        "client_secret = \"hunter2\"",
        "upstream = \"static\"\ncredential = \"hunter2\\nx\"",
        "upstream = \"static\"\ncredential = \"hunter2\"\nauth_header = { value = \"x\" }",
        "authorization_server = \"htps://x.example/?key=hunter2\"",
        "authorization_server = \"https://x.example/#hunter2\"",
        "authorization_server = \"https://x.example/ ?key=hunter2\"",
        "authorization_server = \"https://u:hunter2@x.example/\"",
    ] {
        let error = refused(&service(line));
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn redis_password_to_another_machine_without_tls_is_a_warning() {
    for (url, warns) in [
        ("redis://user:hunter2@redis.example:6379/0", true),
        ("redis://:hunter2@10.0.0.7", true),
        ("redis-cluster://:hunter2@127.0.0.1,10.0.0.7", true),
        ("redis-sentinel://10.0.0.7/main?sentinel_password=hunter2", true),
        ("rediss://user:hunter2@redis.example:6379/0", false),
        ("redis://redis.example:6379/0", false),
        ("redis://:hunter2@localhost", false),
        ("redis://:hunter2@127.0.0.1:6380", false),
        ("redis://:hunter2@[::1]", false),
        ("redis+unix:///run/redis.sock", false),
    ] {
        let validated = written(&format!("store.kind = \"redis\"\nstore.url = \"{url}\"\n{}", service(""))).unwrap();
        let warnings = validated.warnings.join("\n");
        assert_eq!(
            warnings.contains("store.url: the password of Redis goes to another machine"),
            warns,
            "{url}: {warnings}"
        );
        assert!(!warnings.contains("hunter2"), "{warnings}");
    }
}

#[test]
fn login_sessions_are_off_by_default_on_plain_http() {
    for (top, seconds) in [
        ("", 0),
        ("public_url = \"http://localhost:8002\"\n", 0),
        ("session_ttl = \"1h\"\n", 3_600),
        ("public_url = \"https://a.example\"\n", 43_200),
        ("public_url = \"https://a.example\"\nsession_ttl = 0\n", 0),
        ("tls.self_signed = true\n", 43_200),
    ] {
        let validated = written(&format!("{top}{}", service(""))).unwrap();
        assert_eq!(validated.config.session_ttl, seconds, "{top}");
    }
}

#[test]
fn client_provider_and_service_keys_reach_the_runtime_config() {
    let secret = "ab".repeat(32);
    let digest = crate::base::ids::Digest::new(&secret);
    let hash = "d2ba1f31b8b7c8bb8cd2a9d0ad6ce3cb66aad0b1a0c5bbf5b7a2a4ea3d1e0e6b";
    let validated = written(&format!(
        "session_ttl = 0\n[clients.one]\nredirect_uris = [\"https://a.example/\"]\nsecret = \"{secret}\"\n\
        [clients.two]\nredirect_uris = [\"https://a.example/\"]\nsecret_hash = \"{hash}\"\n\
        [clients.three]\nredirect_uris = [\"https://a.example/\"]\nname = \"Three\"\n\
        [idp.corp]\nissuer = \"https://a.example\"\nclient_id = \"a\"\ngroups_claim = \"roles\"\nallow_addresses = [\"10.0.0.0/8\"]\n\
        allow = \"anyone\"\n[services.x]\nurl = \"https://a/\"\ntitle = \"T\"\nupstream = \"paste\"\nauth_hint = \"H\"\n\
        [services.y]\nurl = \"https://a/\"\nremember_consent = true\n"
    ))
    .unwrap();
    let client = |id: &str| validated.config.clients.iter().find(|client| client.id == id).unwrap();
    assert_eq!(client("one").secret.as_ref(), Some(&digest));
    assert_eq!(client("two").secret, crate::base::ids::Digest::from_hex(hash));
    assert!(client("two").secret.is_some() && client("three").secret.is_none());
    assert_eq!((client("one").name.as_str(), client("three").name.as_str()), ("one", "Three"));
    let idp = &validated.config.idps[0];
    assert_eq!((idp.groups_claim.as_str(), idp.allow_addresses.len()), ("roles", 1));
    assert!(idp.allow.is_anyone);
    assert_eq!((validated.config.session_ttl, validated.missing_features.len()), (0, 0));
    let services = &validated.config.services;
    assert!(matches!(&services[0].upstream, crate::service::Upstream::Paste(settings) if settings.hint == "H"));
    assert_eq!(services[0].title.as_deref(), Some("T"));
    assert_eq!([&services[0], &services[1]].map(|service| service.remember_consent), [false, true]);
    let lenient = written(&format!("compat = [\"json-token\"]\n{}", service(""))).unwrap();
    assert!(lenient.config.json_token && !validated.config.json_token);
    let quiet = written(&format!("compat = [\"no-iss\"]\n{}", service(""))).unwrap();
    assert!(validated.config.announces_iss && !quiet.config.announces_iss && !quiet.config.json_token);
}

#[test]
fn users_of_a_provider_sign_in_again_where_the_upstream_does_not_know_them() {
    let idp = "[idp.corp]\nissuer = \"https://a.example\"\nclient_id = \"a\"\nallow = \"anyone\"\n";
    let with = |line: &str| written(&format!("{idp}{}", service(line)));
    for (line, expected) in [
        ("login = \"idp:corp\"", None),
        ("login = \"idp:corp\"\nreauth_after = \"8h\"", Some(28_800)),
        ("login = \"idp:corp\"\nupstream = \"identity\"", Some(86_400)),
        ("login = \"idp:corp\"\nupstream = \"none\"", Some(86_400)),
        ("login = \"idp:corp\"\nupstream = \"paste\"", Some(86_400)),
        ("login = \"idp:corp\"\nupstream = \"static\"\ncredential = \"s\"", Some(86_400)),
        ("login = \"idp:corp\"\nupstream = \"none\"\nreauth_after = 0", None),
        ("upstream = \"none\"", None),
    ] {
        assert_eq!(with(line).unwrap().config.services[0].reauth_after, expected, "{line}");
    }
    let error = with("reauth_after = 60").unwrap_err().to_string();
    assert!(error.contains("reauth_after") && error.contains("idp:<name>"), "{error}");
}

#[test]
fn a_client_with_a_document_url_is_pinned_by_fields_or_by_a_file() {
    let validated = written(&format!(
        "client_documents = false\n[clients.\"https://app.example/c\"]\ndocument_file = \"/run/client.json\"\n\
        [clients.\"https://other.example/c\"]\nredirect_uris = [\"https://other.example/cb\"]\nname = \"Other\"\n{}",
        service("")
    ))
    .unwrap();
    let documents = &validated.config.client_documents;
    let copies = documents.pinned.iter().map(|copy| {
        let (name, uri) = (copy.registration.name.as_deref(), copy.registration.redirect_uris[0].as_str());
        (copy.url.address().as_str(), name, uri)
    });
    assert!(copies.eq([
        ("https://app.example/c", Some("App"), "http://127.0.0.1/cb"),
        ("https://other.example/c", Some("Other"), "https://other.example/cb"),
    ]));
    // A document is public, so a file that everybody may read needs no warning.
    assert!(!documents.is_on && validated.config.clients.is_empty() && validated.warnings.is_empty());
    assert!(written(&service("")).unwrap().config.client_documents.is_on);
    let by_flag = given("--upstream-rs https://x/ --client-documents false").unwrap();
    assert!(!by_flag.config.client_documents.is_on);
}

#[test]
fn relative_paths_start_at_the_directory_of_the_config_file() {
    let read = |name: &str| {
        let environment = Environment {
            variable: &|_| None,
            file: &|_| Err("none".to_owned()),
        };
        let text = format!(
            "data_dir = \"data\"\n[tls]\ncert = \"a.pem\"\nkey = \"/b.pem\"\n{}",
            service("upstream_ca = \"ca.pem\"")
        );
        let location = Location::Line {
            file: name.into(),
            line: 1,
            key: String::new(),
        };
        validate::validate(document::read(name, &text, environment).unwrap(), &location, None).unwrap()
    };
    let validated = read("/etc/gw/gateway.toml");
    assert_eq!(validated.start.data_dir, Path::new("/etc/gw/data"));
    assert_eq!(validated.start.upstream_ca, [Path::new("/etc/gw/ca.pem")]);
    let files = TlsSource::Files {
        cert: "/etc/gw/a.pem".into(),
        key: "/b.pem".into(),
    };
    assert_eq!(validated.start.certificate, files);
    assert_eq!(read("gateway.toml").start.data_dir, Path::new("data"));
}

#[test]
fn numbers_and_booleans_may_come_from_variables() {
    let validated = written(&service(
        "access_ttl = \"${NONE:-600}\"\nallow_token_passthrough = \"${NONE:-true}\"\ntoken_mode = \"plain\"",
    ))
    .unwrap();
    assert_eq!(validated.config.services[0].ttl.access, 600);
}

const NOWHERE: Environment<'static> = Environment {
    variable: &|_| None,
    file: &|_| {
        Ok(FileContents {
            text: String::new(),
            open_to_others: false,
        })
    },
};

#[test]
fn an_approver_of_an_identity_provider_is_refused() {
    let error = refused("[console]\napprovers = [\"alice\", \"corp:7\"]\n[services.x]\nurl = \"https://a.example\"\n");
    assert!(
        error.contains("console.approvers") && error.contains("'corp:7'") && error.contains("password"),
        "{error}"
    );
}

/// Files that together set every key.
const EVERY: &[&str] = &[
    "public_url = \"https://a.example\"\nlisten = [\"127.0.0.1:1\"]\ndata_dir = \"d\"\nallowed_hosts = [\"b.example\"]\ntrusted_proxies = [\"10.0.0.1\"]\ninsecure_http = false\nsession_ttl = \"12h\"\npublic_directory = true\nclient_documents = true\ncompat = [\"json-token\"]\nredirect_schemes = [\"acme-desktop\"]\nlog = \"debug\"\nkeys.file = \"k\"\ntls.cert = \"c\"\ntls.key = \"k\"\nstore.kind = \"redis\"\nstore.url = \"rediss://x\"\nstore.prefix = \"p\"\nstore.ca = \"ca.pem\"\ncors.origins = [\"*\", \"chrome-extension://abc\"]\n",
    "tls.self_signed = true\n[login.password]\nusers = [{ name = \"a\", hash = \"HASH\" }]\n[idp.corp]\npreset = \"okta\"\nissuer = \"https://a.example\"\nclient_id = \"a\"\nclient_secret = \"s\"\nscopes = [\"openid\"]\ngroups_claim = \"roles\"\ntrust_email = true\ndiscovery_url = \"https://a.example/c\"\nauthorization_endpoint = \"https://a.example/a\"\ntoken_endpoint = \"https://a.example/t\"\njwks_uri = \"https://a.example/j\"\nuserinfo_endpoint = \"https://a.example/u\"\nallow_addresses = [\"10.0.0.0/8\"]\nallow = { emails = [\"a@b.c\"], domains = [\"b.c\"], groups = [\"g\"], subjects = [\"s\"] }\n[clients.bot]\nredirect_uris = [\"https://a.example/\"]\nsecret_hash = \"SHA\"\nname = \"Bot\"\n[clients.web]\nredirect_uris = [\"https://a.example/\"]\nsecret = \"SHA\"\npkce = \"optional\"\n[clients.\"https://app.example/c\"]\ndocument_file = \"/run/client.json\"\n",
    "[services.x]\nurl = \"https://a/\"\ndefault = true\ntitle = \"T\"\naccess = \"oauth\"\nlogin = \"password\"\nupstream = \"oauth\"\nclient_id = \"a\"\nclient_secret = \"s\"\nscopes = [\"a\"]\noptional_scopes = [\"b\"]\nrequired_scopes = [\"c\"]\nprofile = \"github\"\nextra_authorize = { audience = \"a\" }\nauthorization_endpoint = \"https://a/a\"\ntoken_endpoint = \"https://a/t\"\nauthorization_server = \"https://a\"\ntoken_mode = \"plain\"\naccess_ttl = 60\nrefresh_ttl = 60\nrefresh_absolute_ttl = 60\nrefresh_grace = 0\nparallel_limit = 60\npin_issuer = true\nforward_headers = [\"x-tenant\"]\nforward_response_headers = [\"x-quota\"]\nheaders = { \"X-Tenant\" = \"acme\" }\nmax_streams = 8\nallow_addresses = [\"10.0.0.0/8\"]\nremember_consent = true\nallow_token_passthrough = true\nupstream_ca = \"ca\"\n",
    "[services.x]\nurl = \"https://a/\"\ndefault = true\naccess = \"public\"\nupstream = \"static\"\nallow_public_credential = true\ncredential = \"s\"\nauth_header = { name = \"X-Key\", value = \"{credential}\" }\n",
    "[services.x]\nurl = \"https://a/\"\n[store]\nkind = \"vault\"\nurl = \"https://v\"\nprefix = \"p\"\nca = \"ca.pem\"\nmount = \"kv\"\nnamespace = \"team\"\nrole_id = \"r\"\nsecret_id = \"s\"\napprole_mount = \"a\"\n",
    "[services.x]\nurl = \"https://a/\"\n[store]\nkind = \"vault\"\nurl = \"https://v\"\ntoken = \"t\"\n[audit]\nfile = \"audit.jsonl\"\nstdout = true\n",
    "[services.x]\nurl = \"https://a/\"\nupstream = \"paste\"\nauth_hint = \"It is under Settings.\"\n",
    "[services.x]\nurl = \"https://a/\"\ndefault = true\nupstream = \"identity\"\nidentity_headers = [\"id\"]\nassertion = true\n",
    "[adapters.openai]\nurl = \"https://openai.example\"\n[adapters.anthropic]\nurl = \"https://anthropic.example\"\n[console]\napprovers = [\"alice\"]\n[services.x]\nurl = \"https://a/\"\n[services.x.tools]\ndefault = \"always_ask\"\nread_only = \"always_allow\"\npin = \"warn\"\nfirst_sight = \"quarantine\"\napproval_ttl = \"1h\"\napproval_hold = 60\nmixed = \"ask\"\nclient_approvals = true\n[services.x.tools.rules]\n\"refund_*\" = \"never_allow\"\n",
    "[services.x]\nurl = \"https://a/\"\nregistration_scope = \"a\"\nregistration = \"dynamic\"\ntoken_auth = \"post\"\nresource = \"api://a\"\n[idp.gh]\npreset = \"github\"\nclient_id = \"a\"\nclient_secret = \"s\"\nbase_url = \"https://g.example\"\nallow = { organizations = [\"o\"], teams = [\"o/t\"] }\n",
    "[services.x]\nurl = \"https://a/\"\nclient_id = \"a\"\nauthorization_endpoint = \"https://a/a\"\ntoken_endpoint = \"https://a/t\"\nissuer = \"https://a\"\n",
    "[services.x]\nurl = \"https://a/\"\nclient_id = \"a\"\nclient_key = '''PEM'''\nclient_key_id = \"k\"\ntoken_auth = \"private_key_jwt\"\n",
    "[services.x]\nurl = \"https://a/\"\nupstream = \"workload_identity\"\nworkload_token_file = \"/run/token\"\n",
    "[services.x]\nurl = \"https://a/\"\nlogin = \"idp:corp\"\nreauth_after = \"8h\"\n[idp.corp]\nissuer = \"https://a.example\"\nclient_id = \"a\"\nallow = \"anyone\"\n",
];

#[test]
fn every_listed_config_key_is_accepted_and_read() {
    let texts = EVERY
        .iter()
        .map(|text| text.replace("HASH", HASH).replace("SHA", &"ab".repeat(32)).replace("PEM", KEY));
    let texts: Vec<String> = texts.collect();
    for text in &texts {
        let extra_service = if text.contains("[services") {
            ""
        } else {
            "[services.one]\nurl = \"https://x.example/mcp\"\n"
        };
        // Validation refuses a key that no getter reads.
        if let Err(error) = written(&format!("{text}{extra_service}")) {
            panic!("{error}");
        }
    }
    let has_key = |section: &Section, key: &'static KeyInfo| section.pattern == key.table && section.contains(key);
    let documents: Vec<_> = texts.iter().map(|text| document::read("f", text, NOWHERE).unwrap()).collect();
    for key in ALL {
        let is_set = documents.iter().flat_map(|document| &document.sections).any(|section| {
            let inner = lookup::of(section.pattern).flat_map(|key| section.tables(key));
            has_key(section, key) || inner.into_iter().any(|section| has_key(section, key))
        });
        assert!(is_set, "no file of EVERY says {} of [{}]", key.name, key.table);
    }
}

#[test]
fn a_wrong_type_is_named_with_its_article() {
    for (line, expected) in [
        ("public_url = 3", "it is an integer, not a text"),
        ("public_url = []", "it is an array, not a text"),
        ("public_url = true", "it is a boolean, not a text"),
        ("cors = 3", "it is a table, not a value"),
    ] {
        let error = written(&format!("{line}\n[services.a]\nurl = \"https://mcp.example\"\n")).unwrap_err();
        assert_eq!(error.what, expected, "{line}");
    }
}

#[test]
fn a_loopback_public_url_on_a_port_without_listener_is_a_warning() {
    for (flags, expected) in [
        ("--public-url http://localhost:9000", 1),
        ("--public-url http://localhost:9000 --port 9000", 0),
        ("--public-url http://localhost:8002", 0),
        ("--public-url https://mcp.example.com", 0),
        ("--port 9000", 0),
    ] {
        let warnings = given(&format!("--upstream-rs https://mcp.example {flags}")).unwrap().warnings;
        assert_eq!(warnings.len(), expected, "{flags}: {warnings:?}");
        assert!(
            warnings
                .iter()
                .all(|warning| warning.starts_with("--public-url: ") && warning.contains("8002"))
        );
    }
}
