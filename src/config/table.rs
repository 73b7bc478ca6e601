//! The table of all keys. [`Key`] describes its columns.

use crate::config::schema::Key;
use crate::config::schema::ValueType::{self, File, Files, Pairs, Seconds, Secret, Switch, Table, Tables, Text, Texts, Url, Word, Words};

/// A year, in seconds.
pub const YEAR: u64 = 31_536_000;

const LOGS: &[&str] = &["error", "warn", "info", "debug", "trace"];
const MODES: &[&str] = &["sealed", "plain", "reference", "jwt", "raw"];
const STORES: &[&str] = &["memory", "sqlite", "redis", "vault", "none"];
const PRESETS: &[&str] = &["oidc", "google", "github", "okta"];
const ACCESSES: &[&str] = &["oauth", "key", "public"];
const UPSTREAMS: &[&str] = &["oauth", "paste", "static", "identity", "none"];
const IDENTITY: &[&str] = &["id", "email", "name", "provider", "avatar"];
const COMPAT: &[&str] = &["json-token"];

const fn key(
    table: &'static str,
    name: &'static str,
    kind: ValueType,
    default: &'static str,
    flag: &'static str,
    means: &'static str,
) -> Key {
    Key {
        table,
        name,
        kind,
        default,
        flag,
        means,
    }
}

/// All keys of the configuration.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("", "public_url", Url, "`http://localhost:<port>`", "--public-url", "The address that clients use; every link is made from it."),
    key("", "listen", Texts, r#"`["127.0.0.1:8002", "[::1]:8002"]`"#, "--host", "Addresses to listen on; `localhost:<port>` is both loopbacks."),
    key("", "data_dir", File, "`$XDG_DATA_HOME/mcp-oauth-gateway`", "--data-dir", "Where keys, certificates and the store are kept."),
    key("", "allowed_hosts", Texts, "none", "--allowed-hosts", "Further hosts (`host` or `host:port`) under which clients may call us."),
    key("", "trusted_proxies", Texts, "none", "--trusted-proxies", "Addresses of proxies in front of us, whose word on the client's address counts for limits."),
    key("", "insecure_http", Switch, "`false`", "--insecure-http", "Listen beyond this machine without TLS, because something in front of us does it."),
    key("", "session_ttl", Seconds(0, YEAR), "`\"12h\"`", "", "How long a sign-in skips the password (never the consent page); 0: not at all."),
    key("", "public_directory", Switch, "`false`", "", "List the services at `/services`."),
    key("", "compat", Words(COMPAT), "none", "", "Departures from the standard for old clients: `json-token` lets `/token` also read a JSON object of strings where the standard has a form."),
    key("", "log", Word(LOGS), "`\"info\"`", "--log", "How much to say."),

    key("keys", "file", File, "made in `data_dir`", "--key-file", "The key file; instances of one gateway share one. `MCP_GATEWAY_KEY` wins over it."),

    key("tls", "self_signed", Switch, "`false`", "--tls", "Serve https with a certificate of our own making."),
    key("tls", "cert", File, "none", "--tls-cert", "Serve https with this certificate chain (PEM); read again when it changes."),
    key("tls", "key", File, "none", "--tls-key", "The key of `cert` (PEM)."),

    key("store", "kind", Word(STORES), "`\"sqlite\"`", "--store", "Where sign-ins and registrations are kept."),
    key("store", "url", Secret, "none", "--redis-url", "The address of a store that is a server; `docs/stores.md` has the forms."),
    key("store", "prefix", Text, "`\"mcp-gateway\"`", "--redis-prefix", "What our keys in such a store begin with; in Vault, the first part of every path."),
    key("store", "ca", File, "the machine's", "--redis-ca", "The CA to trust when connecting to such a store (PEM), and no other."),
    key("store", "mount", Text, "`\"secret\"`", "", "`vault`: the mount of a KV engine, version 2."),
    key("store", "namespace", Text, "none", "", "`vault`: the namespace, where Vault has any."),
    key("store", "token", Secret, "none", "", "`vault`: a token to sign in with; read at start, and renewed from then on."),
    key("store", "role_id", Text, "none", "", "`vault`: the AppRole to sign in with, instead of `token`."),
    key("store", "secret_id", Secret, "none", "", "`vault`: the secret id of that role, where it is bound to one."),
    key("store", "approle_mount", Text, "`\"approle\"`", "", "`vault`: where AppRole is mounted."),

    key("login.password", "users", Tables("login.password.users"), "one user, whose password is made at the first start", "", "Who may sign in at services with `login = \"password\"`."),
    key("login.password.users", "name", Text, "required", "", "The name, compared byte for byte."),
    key("login.password.users", "hash", Text, "required", "", "The argon2id hash of the password, `$argon2id$…`."),

    key("idp.*", "preset", Word(PRESETS), "`\"oidc\"`", "", "What kind of identity provider it is."),
    key("idp.*", "issuer", Url, "that of the preset", "", "Its issuer; required for `oidc` and `okta`."),
    key("idp.*", "client_id", Text, "required", "", "Our client id there."),
    key("idp.*", "client_secret", Secret, "none: a public client", "", "Our client secret there."),
    key("idp.*", "scopes", Texts, "those of the preset", "", "Scopes to ask for."),
    key("idp.*", "groups_claim", Text, "`\"groups\"`", "", "The claim that lists a user's groups."),
    key("idp.*", "allow_addresses", Texts, "none", "", "Addresses or blocks (`10.1.0.0/16`) that the provider's metadata may name beyond its own neighbourhood."),
    key("idp.*", "allow", Table("idp.*.allow"), "nobody, at `google` and `github`; everybody else", "", "Who may sign in."),
    key("idp.*.allow", "emails", Texts, "none", "", "Verified e-mail addresses."),
    key("idp.*.allow", "domains", Texts, "none", "", "Domains of verified e-mail addresses."),
    key("idp.*.allow", "groups", Texts, "none", "", "Groups, as the provider names them."),
    key("idp.*.allow", "subjects", Texts, "none", "", "Subjects, as the provider names them."),

    key("clients.*", "redirect_uris", Texts, "required", "", "Where this client's answers may go."),
    key("clients.*", "secret", Secret, "none: a public client", "", "This client's secret, 32 random characters or more; only its digest is kept in memory."),
    key("clients.*", "secret_hash", Text, "none: a public client", "", "Instead of `secret`: its SHA-256, 64 hexadecimal digits."),
    key("clients.*", "name", Text, "its id", "", "What people are shown."),

    key("services.*", "url", Url, "required", "--upstream-rs", "The upstream MCP server."),
    key("services.*", "default", Switch, "`true` for the only one", "", "This one is also at `/mcp`; one at most."),
    key("services.*", "title", Text, "its name", "", "What it is called on pages, in metadata and at `/services`."),
    key("services.*", "access", Word(ACCESSES), "`\"oauth\"`", "", "What the caller must present: a token of ours (`oauth`), an API key (`key`), nothing (`public`)."),
    key("services.*", "login", Text, "`\"password\"`", "", "Who the user is, before consent: `password`, `idp:<name>` or `none`."),
    key("services.*", "upstream", Word(UPSTREAMS), "`\"oauth\"`", "", "What is put on the forwarded request: a token of the upstream's (`oauth`), what the user pastes (`paste`), a key of the service's (`static`), who the user is (`identity`), nothing (`none`)."),
    key("services.*", "client_id", Text, "we register by ourselves", "--upstream-client-id", "Our client id at the upstream."),
    key("services.*", "client_secret", Secret, "none", "--upstream-client-secret", "Our client secret at the upstream."),
    key("services.*", "scopes", Texts, "what the upstream says it needs", "--upstream-scopes", "Scopes that are asked of the upstream."),
    key("services.*", "optional_scopes", Texts, "none", "", "Scopes that a client may ask for beyond those."),
    key("services.*", "required_scopes", Texts, "none", "", "Scopes that a token must have here, or the caller is told to step up."),
    key("services.*", "profile", Text, "found by host", "", "How the upstream departs from the standard."),
    key("services.*", "authorization_endpoint", Url, "discovered", "--upstream-authorize-endpoint", "Where the browser goes, when discovery cannot work; needs `token_endpoint` and `client_id`."),
    key("services.*", "token_endpoint", Url, "discovered", "--upstream-token-endpoint", "Where codes are exchanged; needs `authorization_endpoint`."),
    key("services.*", "authorization_server", Url, "discovered", "--upstream-as", "The issuer of the upstream's authorization server."),
    key("services.*", "extra_authorize", Pairs, "none", "", "Parameters for the upstream's authorization request, such as `{ audience = \"…\" }`."),
    key("services.*", "token_mode", Word(MODES), "`\"sealed\"`", "--token-mode", "How tokens are protected; `raw` only in builds with `--features raw`."),
    key("services.*", "access_ttl", Seconds(10, YEAR), "`\"1h\"`", "--access-ttl", "How long an access token of ours lives at most."),
    key("services.*", "refresh_ttl", Seconds(10, YEAR), "`\"30d\"`", "--refresh-ttl", "How long an unused refresh token lives."),
    key("services.*", "refresh_absolute_ttl", Seconds(10, 10 * YEAR), "`\"90d\"`", "", "How long a sign-in lives, however often it is refreshed."),
    key("services.*", "refresh_grace", Seconds(0, YEAR), "`\"2h\"`", "--refresh-grace", "How long a refresh token that was rotated away still works; with 0 only while its successor has not been used."),
    key("services.*", "forward_headers", Texts, "none", "", "Further request headers that pass to the upstream."),
    key("services.*", "allow_addresses", Texts, "none", "", "Addresses or blocks (`10.1.0.0/16`) that the upstream may name beyond its own neighbourhood."),
    key("services.*", "auth_header", Table("services.*.auth_header"), "`Authorization: Bearer {credential}`", "", "How a pasted or fixed key is put on the request."),
    key("services.*.auth_header", "name", Text, "`\"Authorization\"`", "", "The header."),
    key("services.*.auth_header", "value", Text, "`\"Bearer {credential}\"`", "", "Its value, with `{credential}` once."),
    key("services.*", "auth_hint", Text, "none", "", "What the page says about the key that is pasted, such as where to find one."),
    key("services.*", "credential", Secret, "required for `static`", "", "The key of a service with `upstream = \"static\"`."),
    key("services.*", "identity_headers", Words(IDENTITY), r#"`["id"]`"#, "", "Which `x-user-*` headers the backend gets, with `upstream = \"identity\"`."),
    key("services.*", "assertion", Switch, "`false`", "", "Also send `x-user-assertion`, a short signed JWT that the backend can verify."),
    key("services.*", "remember_consent", Switch, "`false`", "", "Ask the users of trusted clients once only, see above."),
    key("services.*", "allow_token_passthrough", Switch, "`false`", "--allow-token-passthrough", "Allow token modes in which the client can read the upstream's token (`plain`, `raw`)."),
    key("services.*", "allow_public_credential", Switch, "`false`", "", "Allow `access = \"public\"` with `upstream = \"static\"`: everybody uses the service's key."),
    key("services.*", "upstream_ca", Files, "the machine's", "--upstream-ca", "A further CA (PEM) to trust when calling out. It is trusted for every upstream and identity provider, not only for this one."),

    key("cors", "origins", Texts, "none", "--cors-origins", "Origins of web pages that may call the MCP endpoints; `*` is everyone."),
];
