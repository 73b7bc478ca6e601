//! All keys of the configuration, each in one place. [`KeyInfo`] describes the columns.
//!
//! A reader names the constant of a key: `section.get(&keys::service::REFRESH_GRACE)`. A mistyped key
//! does not compile, and a value is read as its type.

use crate::config::schema::{Key, KeyInfo, ValueType, kind};

/// A year, in seconds.
pub const YEAR: u64 = 31_536_000;

const LOG_LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];
const TOKEN_MODES: &[&str] = &["sealed", "plain", "reference", "jwt", "raw"];
const STORE_KINDS: &[&str] = &["memory", "sqlite", "redis", "vault", "none"];
const PRESET_NAMES: &[&str] = &["oidc", "google", "github", "okta"];
const ACCESS_RULES: &[&str] = &["oauth", "key", "public"];
const UPSTREAM_KINDS: &[&str] = &["oauth", "paste", "static", "identity", "none"];
const IDENTITY_FIELDS: &[&str] = &["id", "email", "name", "provider", "avatar"];
const COMPAT_SWITCHES: &[&str] = &["json-token"];

/// Declares the keys of each table, and [`ALL`].
macro_rules! keys {
    ($($(#[$doc:meta])* $module:ident $table:literal {
        $($constant:ident: $kind:ident $(($($argument:expr),+))? = $name:literal, $default:literal, $flag:literal, $means:literal;)+
    })+) => {
        $(
            $(#[$doc])*
            pub mod $module {
                use super::*;

                $(
                    #[doc = $means]
                    pub static $constant: Key<kind::$kind> = Key::new(KeyInfo {
                        constant: concat!(stringify!($module), "::", stringify!($constant)),
                        table: $table,
                        name: $name,
                        kind: ValueType::$kind $(($($argument),+))?,
                        default: $default,
                        flag: $flag,
                        means: $means,
                    });
                )+
            }
        )+

        /// All keys, in the order of the reference.
        pub static ALL: &[&KeyInfo] = &[$($(&$module::$constant.info,)+)+];
    };
}

keys! {
    /// The top of the file.
    top "" {
        PUBLIC_URL: Url = "public_url", "`http://localhost:<port>`", "--public-url", "The address that clients use; every link is made from it.";
        LISTEN: Texts = "listen", r#"`["127.0.0.1:8002", "[::1]:8002"]`"#, "--host", "Addresses to listen on; `localhost:<port>` is both loopbacks.";
        DATA_DIR: File = "data_dir", "`$XDG_DATA_HOME/mcp-oauth-gateway`", "--data-dir", "Where keys, certificates and the store are kept.";
        ALLOWED_HOSTS: Texts = "allowed_hosts", "none", "--allowed-hosts", "Further hosts (`host` or `host:port`) under which clients may call us.";
        TRUSTED_PROXIES: Texts = "trusted_proxies", "none", "--trusted-proxies", "Addresses of proxies in front of us, whose word on the client's address counts for limits.";
        INSECURE_HTTP: Switch = "insecure_http", "`false`", "--insecure-http", "Listen beyond this machine without TLS, because something in front of us does it.";
        SESSION_TTL: Seconds(0, YEAR) = "session_ttl", "`\"12h\"`", "", "How long a sign-in skips the password (never the consent page); 0: not at all.";
        PUBLIC_DIRECTORY: Switch = "public_directory", "`false`", "", "List the services at `/services`.";
        COMPAT: Words(COMPAT_SWITCHES) = "compat", "none", "", "Departures from the standard for old clients: `json-token` lets `/token` also read a JSON object of strings where the standard has a form.";
        LOG: Word(LOG_LEVELS) = "log", "`\"info\"`", "--log", "How much to say.";
    }
    /// `[keys]`.
    key_ring "keys" {
        FILE: File = "file", "made in `data_dir`", "--key-file", "The key file; instances of one gateway share one. `MCP_GATEWAY_KEY` wins over it.";
    }
    /// `[tls]`.
    tls "tls" {
        SELF_SIGNED: Switch = "self_signed", "`false`", "--tls", "Serve https with a certificate of our own making.";
        CERT: File = "cert", "none", "--tls-cert", "Serve https with this certificate chain (PEM); read again when it changes.";
        KEY: File = "key", "none", "--tls-key", "The key of `cert` (PEM).";
    }
    /// `[store]`.
    store "store" {
        KIND: Word(STORE_KINDS) = "kind", "`\"sqlite\"`", "--store", "Where sign-ins and registrations are kept.";
        URL: Secret = "url", "none", "--redis-url", "The address of a store that is a server; `docs/stores.md` has the forms.";
        PREFIX: Text = "prefix", "`\"mcp-gateway\"`", "--redis-prefix", "What our keys in such a store begin with; in Vault, the first part of every path.";
        CA: File = "ca", "the machine's", "--redis-ca", "The CA to trust when connecting to such a store (PEM), and no other.";
        MOUNT: Text = "mount", "`\"secret\"`", "", "`vault`: the mount of a KV engine, version 2.";
        NAMESPACE: Text = "namespace", "none", "", "`vault`: the namespace, where Vault has any.";
        TOKEN: Secret = "token", "none", "", "`vault`: a token to sign in with; read at start, and renewed from then on.";
        ROLE_ID: Text = "role_id", "none", "", "`vault`: the AppRole to sign in with, instead of `token`.";
        SECRET_ID: Secret = "secret_id", "none", "", "`vault`: the secret id of that role, where it is bound to one.";
        APPROLE_MOUNT: Text = "approle_mount", "`\"approle\"`", "", "`vault`: where AppRole is mounted.";
    }
    /// `[login.password]`.
    password "login.password" {
        USERS: Tables("login.password.users") = "users", "one user, whose password is made at the first start", "", "Who may sign in at services with `login = \"password\"`.";
    }
    /// `[[login.password.users]]`.
    user "login.password.users" {
        NAME: Text = "name", "required", "", "The name, compared byte for byte.";
        HASH: Text = "hash", "required", "", "The argon2id hash of the password, `$argon2id$…`.";
    }
    /// `[idp.<name>]`.
    idp "idp.*" {
        PRESET: Word(PRESET_NAMES) = "preset", "`\"oidc\"`", "", "What kind of identity provider it is.";
        ISSUER: Url = "issuer", "that of the preset", "", "Its issuer; required for `oidc` and `okta`.";
        CLIENT_ID: Text = "client_id", "required", "", "Our client id there.";
        CLIENT_SECRET: Secret = "client_secret", "none: a public client", "", "Our client secret there.";
        SCOPES: Texts = "scopes", "those of the preset", "", "Scopes to ask for.";
        GROUPS_CLAIM: Text = "groups_claim", "`\"groups\"`", "", "The claim that lists a user's groups.";
        ALLOW_ADDRESSES: Texts = "allow_addresses", "none", "", "Addresses or blocks (`10.1.0.0/16`) that the provider's metadata may name beyond its own neighbourhood.";
        ALLOW: Table("idp.*.allow") = "allow", "nobody, at `google` and `github`; everybody else", "", "Who may sign in.";
    }
    /// `[idp.<name>.allow]`.
    allow "idp.*.allow" {
        EMAILS: Texts = "emails", "none", "", "Verified e-mail addresses.";
        DOMAINS: Texts = "domains", "none", "", "Domains of verified e-mail addresses.";
        GROUPS: Texts = "groups", "none", "", "Groups, as the provider names them.";
        SUBJECTS: Texts = "subjects", "none", "", "Subjects, as the provider names them.";
    }
    /// `[clients.<id>]`.
    client "clients.*" {
        REDIRECT_URIS: Texts = "redirect_uris", "required", "", "Where this client's answers may go.";
        SECRET: Secret = "secret", "none: a public client", "", "This client's secret, 32 random characters or more; only its digest is kept in memory.";
        SECRET_HASH: Text = "secret_hash", "none: a public client", "", "Instead of `secret`: its SHA-256, 64 hexadecimal digits.";
        NAME: Text = "name", "its id", "", "What people are shown.";
    }
    /// `[services.<name>]`.
    service "services.*" {
        URL: Url = "url", "required", "--upstream-rs", "The upstream MCP server.";
        DEFAULT: Switch = "default", "`true` for the only one", "", "This one is also at `/mcp`; one at most.";
        TITLE: Text = "title", "its name", "", "What it is called on pages, in metadata and at `/services`.";
        ACCESS: Word(ACCESS_RULES) = "access", "`\"oauth\"`", "", "What the caller must present: a token of ours (`oauth`), an API key (`key`), nothing (`public`).";
        LOGIN: Text = "login", "`\"password\"`", "", "Who the user is, before consent: `password`, `idp:<name>` or `none`.";
        UPSTREAM: Word(UPSTREAM_KINDS) = "upstream", "`\"oauth\"`", "", "What is put on the forwarded request: a token of the upstream's (`oauth`), what the user pastes (`paste`), a key of the service's (`static`), who the user is (`identity`), nothing (`none`).";
        CLIENT_ID: Text = "client_id", "we register by ourselves", "--upstream-client-id", "Our client id at the upstream.";
        CLIENT_SECRET: Secret = "client_secret", "none", "--upstream-client-secret", "Our client secret at the upstream.";
        SCOPES: Texts = "scopes", "what the upstream says it needs", "--upstream-scopes", "Scopes that are asked of the upstream.";
        OPTIONAL_SCOPES: Texts = "optional_scopes", "none", "", "Scopes that a client may ask for beyond those.";
        REQUIRED_SCOPES: Texts = "required_scopes", "none", "", "Scopes that a token must have here, or the caller is told to step up.";
        PROFILE: Text = "profile", "found by host", "", "How the upstream departs from the standard.";
        AUTHORIZATION_ENDPOINT: Url = "authorization_endpoint", "discovered", "--upstream-authorize-endpoint", "Where the browser goes, when discovery cannot work; needs `token_endpoint` and `client_id`.";
        TOKEN_ENDPOINT: Url = "token_endpoint", "discovered", "--upstream-token-endpoint", "Where codes are exchanged; needs `authorization_endpoint`.";
        AUTHORIZATION_SERVER: Url = "authorization_server", "discovered", "--upstream-as", "The issuer of the upstream's authorization server.";
        EXTRA_AUTHORIZE: Pairs = "extra_authorize", "none", "", "Parameters for the upstream's authorization request, such as `{ audience = \"…\" }`.";
        TOKEN_MODE: Word(TOKEN_MODES) = "token_mode", "`\"sealed\"`", "--token-mode", "How tokens are protected; `raw` only in builds with `--features raw`.";
        ACCESS_TTL: Seconds(10, YEAR) = "access_ttl", "`\"1h\"`", "--access-ttl", "How long an access token of ours lives at most.";
        REFRESH_TTL: Seconds(10, YEAR) = "refresh_ttl", "`\"30d\"`", "--refresh-ttl", "How long an unused refresh token lives.";
        REFRESH_ABSOLUTE_TTL: Seconds(10, 10 * YEAR) = "refresh_absolute_ttl", "`\"90d\"`", "", "How long a sign-in lives, however often it is refreshed.";
        REFRESH_GRACE: Seconds(0, YEAR) = "refresh_grace", "`\"2h\"`", "--refresh-grace", "How long a refresh token that was rotated away still works; with 0 only while its successor has not been used.";
        FORWARD_HEADERS: Texts = "forward_headers", "none", "", "Further request headers that pass to the upstream.";
        ALLOW_ADDRESSES: Texts = "allow_addresses", "none", "", "Addresses or blocks (`10.1.0.0/16`) that the upstream may name beyond its own neighbourhood.";
        AUTH_HEADER: Table("services.*.auth_header") = "auth_header", "`Authorization: Bearer {credential}`", "", "How a pasted or fixed key is put on the request.";
        AUTH_HINT: Text = "auth_hint", "none", "", "What the page says about the key that is pasted, such as where to find one.";
        CREDENTIAL: Secret = "credential", "required for `static`", "", "The key of a service with `upstream = \"static\"`.";
        IDENTITY_HEADERS: Words(IDENTITY_FIELDS) = "identity_headers", r#"`["id"]`"#, "", "Which `x-user-*` headers the backend gets, with `upstream = \"identity\"`.";
        ASSERTION: Switch = "assertion", "`false`", "", "Also send `x-user-assertion`, a short signed JWT that the backend can verify.";
        REMEMBER_CONSENT: Switch = "remember_consent", "`false`", "", "Ask the users of trusted clients once only, see above.";
        ALLOW_TOKEN_PASSTHROUGH: Switch = "allow_token_passthrough", "`false`", "--allow-token-passthrough", "Allow token modes in which the client can read the upstream's token (`plain`, `raw`).";
        ALLOW_PUBLIC_CREDENTIAL: Switch = "allow_public_credential", "`false`", "", "Allow `access = \"public\"` with `upstream = \"static\"`: everybody uses the service's key.";
        UPSTREAM_CA: Files = "upstream_ca", "the machine's", "--upstream-ca", "A further CA (PEM) to trust when calling out. It is trusted for every upstream and identity provider, not only for this one.";
    }
    /// `[services.<name>.auth_header]`.
    auth_header "services.*.auth_header" {
        NAME: Text = "name", "`\"Authorization\"`", "", "The header.";
        VALUE: Text = "value", "`\"Bearer {credential}\"`", "", "Its value, with `{credential}` once.";
    }
    /// `[cors]`.
    cors "cors" {
        ORIGINS: Texts = "origins", "none", "--cors-origins", "Origins of web pages that may call the MCP endpoints; `*` is everyone.";
    }
}
