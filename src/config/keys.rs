//! All keys of the configuration, each in one place. [`KeyInfo`] describes the columns.
//!
//! A reader names the constant of a key: `section.get(&keys::service::REFRESH_GRACE)`. A mistyped key
//! does not compile, and a value is read as its type.

use crate::config::schema::{Key, KeyInfo, ValueType, kind};

/// A year, in seconds.
pub const YEAR: u64 = 31_536_000;

const LOG_LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];
const TOKEN_MODES: &[&str] = &["sealed", "plain", "reference", "jwt", "raw", "opaque"];
const STORE_KINDS: &[&str] = &["memory", "sqlite", "redis", "vault", "none"];
const PRESET_NAMES: &[&str] = &["oidc", "google", "github", "okta"];
const ACCESS_RULES: &[&str] = &["oauth", "key", "local", "public", "introspect"];
const UPSTREAM_KINDS: &[&str] = &[
    "oauth",
    "paste",
    "static",
    "stored",
    "client_credentials",
    "workload_identity",
    "identity",
    "none",
];
const IDENTITY_FIELDS: &[&str] = &["id", "email", "name", "provider", "avatar"];
const TOOL_RULES: &[&str] = crate::service::tool_policy::ToolRule::WORDS;
const PIN_RULES: &[&str] = &["off", "warn", "ask", "deny"];
const FIRST_SIGHTS: &[&str] = &["trust", "quarantine"];
const MIXED_RULES: &[&str] = &["allow", "ask"];
const TOKEN_AUTH_METHODS: &[&str] = &["basic", "post", "private_key_jwt", "none"];
const PKCE_RULES: &[&str] = &["required", "optional"];
const REGISTRATIONS: &[&str] = &["dynamic", "document"];
const COMPAT_SWITCHES: &[&str] = &["json-token", "no-iss"];

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
        PUBLIC_URL: Url = "public_url", "`http://localhost:<port>`", "--public-url", "The address that clients use. It is the base of every link.";
        LISTEN: Texts = "listen", r#"`["127.0.0.1:8002", "[::1]:8002"]`"#, "--host", "The addresses to listen on. `localhost:<port>` stands for both loopback addresses.";
        DATA_DIR: File = "data_dir", "`$XDG_DATA_HOME/mcp-oauth-gateway`", "--data-dir", "The directory for keys, certificates and the store.";
        ALLOWED_HOSTS: Texts = "allowed_hosts", "none", "--allowed-hosts", "Further hosts (`host` or `host:port`) under which clients may call the gateway.";
        TRUSTED_PROXIES: Texts = "trusted_proxies", "none", "--trusted-proxies", "Addresses or blocks of proxies in front of the gateway. For limits, the gateway uses the caller's address that these proxies report.";
        INSECURE_HTTP: Switch = "insecure_http", "`false`", "--insecure-http", "Allows the gateway to listen beyond this machine without TLS, because a proxy in front of it does TLS.";
        SESSION_TTL: Seconds(0, YEAR) = "session_ttl", "`\"12h\"` on https, else `0`", "", "The lifetime of a login session. A session replaces the password, never the consent page. With 0, the gateway creates no session. On plain http, every local server that the browser opens receives the session's cookie.";
        PUBLIC_DIRECTORY: Switch = "public_directory", "`false`", "", "Lists the services at `/services`.";
        CLIENT_DOCUMENTS: Switch = "client_documents", "`true`", "--client-documents", "Accepts clients whose id is the URL of a metadata document, announces that, and fetches the documents. With `false`, only documents that are copied into `[clients.\"https://…\"]` are used.";
        REDIRECT_SCHEMES: Texts = "redirect_schemes", "none", "", "App schemes that redirect URIs of clients may have, beside reverse domain names and the schemes of known apps.";
        COMPAT: Words(COMPAT_SWITCHES) = "compat", "none", "", "Deviations from the standard for old clients. With `json-token`, `/token` accepts the form of the standard and also a JSON object of strings. With `no-iss`, the metadata does not announce `iss` (RFC 9207), which the gateway still sends. Codex 0.142 to 0.144 need that.";
        LOG: Word(LOG_LEVELS) = "log", "`\"info\"`", "--log", "The log level.";
    }
    /// `[keys]`.
    key_ring "keys" {
        FILE: File = "file", "a file that the gateway makes in `data_dir`", "--key-file", "The key file. All instances of one gateway share it. `MCP_GATEWAY_KEY` takes precedence over it.";
    }
    /// `[tls]`.
    tls "tls" {
        SELF_SIGNED: Switch = "self_signed", "`false`", "--tls", "Serves https with a certificate that the gateway makes.";
        CERT: File = "cert", "none", "--tls-cert", "Serves https with this certificate chain (PEM). The gateway reads the file again when it changes.";
        KEY: File = "key", "none", "--tls-key", "The private key of `cert` (PEM).";
    }
    /// `[store]`.
    store "store" {
        KIND: Word(STORE_KINDS) = "kind", "`\"sqlite\"`", "--store", "The kind of store. The store holds sign-ins and registrations.";
        URL: Secret = "url", "none", "--redis-url", "The address of the store's server, for `redis` and `vault`. `docs/stores.md` lists the forms.";
        PREFIX: Text = "prefix", "`\"mcp-gateway\"`", "--redis-prefix", "The prefix of the gateway's keys in Redis. In Vault, it is the first part of every path.";
        CA: File = "ca", "the CAs of the machine", "--redis-ca", "The only CA (PEM) that the gateway trusts for connections to the store's server.";
        MOUNT: Text = "mount", "`\"secret\"`", "", "For `vault`: the mount of a KV engine, version 2.";
        NAMESPACE: Text = "namespace", "none", "", "For `vault`: the namespace, if the server has namespaces.";
        TOKEN: Secret = "token", "none", "", "For `vault`: the token with which the gateway signs in. The gateway reads it at the start and then renews it.";
        ROLE_ID: Text = "role_id", "none", "", "For `vault`: the role id of the AppRole with which the gateway signs in, instead of `token`.";
        SECRET_ID: Secret = "secret_id", "none", "", "For `vault`: the secret id of that AppRole, if the AppRole requires one.";
        APPROLE_MOUNT: Text = "approle_mount", "`\"approle\"`", "", "For `vault`: the mount of the AppRole auth method.";
    }
    /// `[login.password]`.
    password "login.password" {
        USERS: Tables("login.password.users") = "users", "one user; the gateway makes the password at the first start", "", "The users that may sign in at services with `login = \"password\"`.";
    }
    /// `[[login.password.users]]`.
    user "login.password.users" {
        NAME: Text = "name", "required", "", "The name of the user. The gateway compares it byte for byte.";
        HASH: Text = "hash", "required", "", "The argon2id hash of the password, `$argon2id$…`.";
    }
    /// `[idp.<name>]`.
    idp "idp.*" {
        PRESET: Word(PRESET_NAMES) = "preset", "`\"oidc\"`", "", "The kind of identity provider.";
        ISSUER: Url = "issuer", "the issuer of the preset", "", "The issuer of the provider. `oidc` and `okta` require it. `{tenantid}` in it stands for the tenant (`tid`) of the token.";
        DISCOVERY_URL: Url = "discovery_url", "the well-known address of `issuer`", "", "The URL of the provider's OpenID configuration, if it is not at `issuer`: an internal address, or that of an issuer with `{tenantid}` in it.";
        AUTHORIZATION_ENDPOINT: Url = "authorization_endpoint", "discovered", "", "The provider's authorization endpoint. With `token_endpoint` and `jwks_uri`, and without `discovery_url`, the gateway fetches no configuration.";
        TOKEN_ENDPOINT: Url = "token_endpoint", "discovered", "", "The provider's token endpoint.";
        JWKS_URI: Url = "jwks_uri", "discovered", "", "The provider's signing keys.";
        USERINFO_ENDPOINT: Url = "userinfo_endpoint", "discovered", "", "The provider's userinfo endpoint.";
        BASE_URL: Url = "base_url", "`https://github.com`", "", "With `preset = \"github\"`: the address of a GitHub Enterprise.";
        CLIENT_ID: Text = "client_id", "required", "", "The gateway's client id at the provider.";
        CLIENT_SECRET: Secret = "client_secret", "none; the gateway is a public client", "", "The gateway's client secret at the provider.";
        SCOPES: Texts = "scopes", "the scopes of the preset", "", "The scopes that the gateway requests at the provider.";
        GROUPS_CLAIM: Text = "groups_claim", "`\"groups\"`", "", "The claim that lists a user's groups: its name, or a path such as `realm_access.roles`. Of an object, the keys count.";
        TRUST_EMAIL: Switch = "trust_email", "`false`", "", "Accepts e-mail addresses without `email_verified`, of a provider that never sends it and verifies all addresses. An address with `email_verified = false` never counts.";
        ALLOW_ADDRESSES: Texts = "allow_addresses", "none", "", "Addresses or blocks (`10.1.0.0/16`) beyond the provider's own network that the provider's metadata may name.";
        ALLOW: TableOr("idp.*.allow", "anyone") = "allow", "required", "", "The users that may sign in. One match is enough. `\"anyone\"` admits every account of the provider.";
    }
    /// `[idp.<name>.allow]`.
    allow "idp.*.allow" {
        EMAILS: Texts = "emails", "none", "", "Verified e-mail addresses.";
        DOMAINS: Texts = "domains", "none", "", "Domains of verified e-mail addresses. At Google, domains of the organization that manages the account (the claim `hd`).";
        GROUPS: Texts = "groups", "none", "", "Groups, as the provider names them.";
        SUBJECTS: Texts = "subjects", "none", "", "Subjects, as the provider names them.";
        ORGANIZATIONS: Texts = "organizations", "none", "", "At GitHub: organizations whose active members may sign in.";
        TEAMS: Texts = "teams", "none", "", "At GitHub: teams whose active members may sign in, written as `organization/team`.";
    }
    /// `[clients.<id>]`.
    client "clients.*" {
        DOCUMENT_FILE: Contents = "document_file", "none", "", "For an id that is a URL: a copy of the client's metadata document (JSON), instead of the other keys. The gateway never fetches it.";
        REDIRECT_URIS: Texts = "redirect_uris", "required", "", "The redirect URIs that may receive this client's authorization responses.";
        SECRET: Secret = "secret", "none; the client is public", "", "The client's secret, 32 random characters or more. The gateway keeps only its digest in memory.";
        PKCE: Word(PKCE_RULES) = "pkce", "`\"required\"`", "", "Whether the client must use PKCE, which MCP requires of every client. With `optional`, a client that has a secret may do without, such as a connector that cannot.";
        SECRET_HASH: Text = "secret_hash", "none; the client is public", "", "The SHA-256 of the client's secret in 64 hexadecimal digits, instead of `secret`.";
        NAME: Text = "name", "the client's id", "", "The name of the client that users see.";
    }
    /// `[services.<name>]`.
    service "services.*" {
        URL: Url = "url", "required, except with `resource`", "--upstream-rs", "The URL of the upstream MCP server.";
        DEFAULT: Switch = "default", "`true` if there is only one service; `false` for `stored`", "", "Serves this service at `/mcp` too. At most one service can be the default.";
        TITLE: Text = "title", "the service's name", "", "The title of the service on pages, in metadata and at `/services`.";
        ACCESS: Word(ACCESS_RULES) = "access", "`\"oauth\"`", "", "The credential that the caller must present: a token of the gateway (`oauth`), an API key (`key`), the local key or a token of the gateway (`local`), or nothing (`public`). With `introspect`, the gateway does not proxy the MCP server, which checks the tokens itself (`docs/resource-servers.md`).";
        LOGIN: Text = "login", "`\"password\"`", "", "The login method of the user, before consent: `password`, `idp:<name>` or `none`.";
        UPSTREAM: Word(UPSTREAM_KINDS) = "upstream", "`\"oauth\"`", "", "The upstream credential on the forwarded request. It is the upstream's token (`oauth`), a key that the user pastes (`paste`), the service's key (`static`), the credential that the operator obtained with a command (`stored`), a token that the gateway obtains for itself with its client credentials (`client_credentials`) or with the token of its workload (`workload_identity`), the user's identity (`identity`) or nothing (`none`).";
        CLIENT_ID: Text = "client_id", "the gateway registers itself", "--upstream-client-id", "The gateway's client id at the upstream.";
        CLIENT_SECRET: Secret = "client_secret", "none", "--upstream-client-secret", "The gateway's client secret at the upstream.";
        CLIENT_KEY: Secret = "client_key", "none", "", "The gateway's private key at the upstream, instead of a secret: PKCS#8 in PEM, for ES256, EdDSA or RS256. The gateway signs an assertion with it for each token request (`private_key_jwt`).";
        CLIENT_KEY_ID: Text = "client_key_id", "none", "", "The `kid` of these assertions, if the upstream needs it to find the public key.";
        WORKLOAD_TOKEN_FILE: File = "workload_token_file", "none", "", "With `upstream = \"workload_identity\"`: the file in which the platform keeps the token of this workload (JWT), such as a projected service account token of Kubernetes. The gateway reads it for each token request, and sends it as the assertion.";
        SCOPES: Texts = "scopes", "the scopes that the upstream names", "--upstream-scopes", "The scopes that the gateway requests at the upstream.";
        OPTIONAL_SCOPES: Texts = "optional_scopes", "none", "", "Scopes that a client may request in addition to `scopes`.";
        REQUIRED_SCOPES: Texts = "required_scopes", "none", "", "Scopes that a token for this service must have. If one is missing, the gateway asks the caller for step-up authorization.";
        PROFILE: Text = "profile", "the profile for the upstream's host", "", "The profile of the upstream: its known deviations from the standard.";
        AUTHORIZATION_ENDPOINT: Url = "authorization_endpoint", "discovered", "--upstream-authorize-endpoint", "The upstream's authorization endpoint, for upstreams without working discovery. It needs `token_endpoint` and `client_id`.";
        TOKEN_ENDPOINT: Url = "token_endpoint", "discovered", "--upstream-token-endpoint", "The upstream's token endpoint, where the gateway exchanges codes. It needs `authorization_endpoint`, except with `client_credentials` and `workload_identity`.";
        ISSUER: Url = "issuer", "the profile's; else any `iss` at the origin of `authorization_endpoint` is accepted", "", "The issuer of configured endpoints, which the gateway compares with the `iss` of the upstream's answers. It needs both endpoints.";
        AUTHORIZATION_SERVER: Url = "authorization_server", "discovered", "--upstream-as", "The issuer of the upstream's authorization server. Resource and scopes still come from the upstream's resource metadata.";
        TOKEN_AUTH: Word(TOKEN_AUTH_METHODS) = "token_auth", "`private_key_jwt` with `client_key`; else the method that the upstream lists, `basic` before `post`", "", "How the gateway authenticates at the upstream's token endpoint: the secret in the header (`basic`), in the body (`post`), an assertion signed with `client_key` (`private_key_jwt`), or nothing (`none`).";
        RESOURCE: Text = "resource", "the resource in the upstream's metadata, else `url`", "", "The `resource` (RFC 8707) that the gateway requests at the upstream, such as `api://crm` or `urn:crm`. `none` omits it. With `access = \"introspect\"`, it is required: the URL of the MCP server, which is the audience of the tokens byte for byte.";
        REGISTRATION: Word(REGISTRATIONS) = "registration", "`\"dynamic\"`", "", "How the gateway gets a client id at the upstream. It registers itself (`dynamic`), or its client metadata document is the client id, where the upstream supports that (`document`). The document is at `public_url`, which must be https and within reach of the upstream.";
        REGISTRATION_SCOPE: Text = "registration_scope", "`scopes` and `optional_scopes`, else the scopes that the upstream names", "", "The scopes that the gateway names when it registers itself at the upstream, separated by spaces.";
        PIN_ISSUER: Switch = "pin_issuer", "`true` with `client_id`, or if the profile knows the issuer; else `false`", "", "Refuses another issuer than the one that the upstream named first. With `false`, new sign-ins go to the new issuer, and the consent page shows the change. A configured secret never goes to another issuer.";
        EXTRA_AUTHORIZE: Pairs = "extra_authorize", "none", "", "Further parameters of the upstream's authorization request, such as `{ audience = \"…\" }`.";
        TOKEN_MODE: Word(TOKEN_MODES) = "token_mode", "`\"sealed\"`; `\"jwt\"` with `access = \"introspect\"`", "--token-mode", "The protection of tokens. With `access = \"introspect\"`: `jwt`, or `opaque` for tokens that only the gateway can read. `raw` exists only in builds with `--features raw`.";
        ACCESS_TTL: Seconds(10, YEAR) = "access_ttl", "`\"1h\"`", "--access-ttl", "The longest lifetime of an access token that the gateway issues.";
        REFRESH_TTL: Seconds(10, YEAR) = "refresh_ttl", "`\"30d\"`", "--refresh-ttl", "The lifetime of an unused refresh token.";
        REFRESH_ABSOLUTE_TTL: Seconds(10, 10 * YEAR) = "refresh_absolute_ttl", "`\"90d\"`", "", "The lifetime of a grant. A refresh does not extend it.";
        REFRESH_GRACE: Seconds(0, YEAR) = "refresh_grace", "`\"2h\"` for native clients, `\"1m\"` for others", "--refresh-grace", "The reuse window: the time for which the gateway accepts a superseded refresh token. With 0, the gateway accepts one only if the response with its successor was lost.";
        PARALLEL_LIMIT: Seconds(0, 10 * YEAR) = "parallel_limit", "`\"30d\"`; `0` where `public_url` is loopback", "--parallel-limit", "The longest time for which two holders of one grant's tokens may both refresh. After that, the grant ends. With 0, there is no limit.";
        HEADERS: SecretPairs = "headers", "none", "", "Headers that the gateway adds to every forwarded request, such as `{ \"X-Tenant\" = \"acme\" }`. They replace the client's headers of the same name. The name with `_file` after it names a file with the value.";
        REAUTH_AFTER: Seconds(0, 10 * YEAR) = "reauth_after", "`\"24h\"`; `0` with `upstream = \"oauth\"`", "", "With `login = \"idp:<name>\"`: the time after a sign-in after which the user signs in again, if the provider gave no refresh token. With 0, there is no limit.";
        FORWARD_HEADERS: Texts = "forward_headers", "none", "", "Further request headers that the gateway forwards to the upstream.";
        FORWARD_RESPONSE_HEADERS: Texts = "forward_response_headers", "none", "", "Further response headers that the gateway forwards to the client.";
        MAX_STREAMS: Count(1, 100_000) = "max_streams", "`64`; `16` for `public`", "", "The most event streams that one grant or API key may have open at once. At a `public` service: one source address.";
        ALLOW_ADDRESSES: Texts = "allow_addresses", "none", "", "Addresses or blocks (`10.1.0.0/16`) beyond the upstream's own network that the upstream may name.";
        AUTH_HEADER: Table("services.*.auth_header") = "auth_header", "`Authorization: Bearer {credential}`", "", "The request header that carries the pasted, static or stored key.";
        AUTH_HINT: Text = "auth_hint", "none", "", "The help text on the page for the pasted key. For example, it names the place where the user finds a key.";
        CREDENTIAL: Secret = "credential", "required for `static`", "", "The key of a service with `upstream = \"static\"`.";
        IDENTITY_HEADERS: Words(IDENTITY_FIELDS) = "identity_headers", r#"`["id"]`"#, "", "The `x-user-*` headers that the upstream receives, with `upstream = \"identity\"`.";
        ASSERTION: Switch = "assertion", "`false`", "", "Sends `x-user-assertion` too. It is a short-lived signed JWT that the upstream can verify.";
        REMEMBER_CONSENT: Switch = "remember_consent", "`false`", "", "Asks a user only once for consent to each trusted client. The section on remembered consent has the conditions.";
        TOOLS: Table("services.*.tools") = "tools", "every call is forwarded, and no body is read", "", "The tool policy of the service.";
        ALLOW_TOKEN_PASSTHROUGH: Switch = "allow_token_passthrough", "`false`", "--allow-token-passthrough", "Allows the token modes in which the client can read the upstream's token (`plain`, `raw`).";
        ALLOW_PUBLIC_CREDENTIAL: Switch = "allow_public_credential", "`false`", "", "Allows `access = \"public\"` with a credential of the service (`static`, `client_credentials` or `workload_identity`). Every caller then uses it.";
        UPSTREAM_CA: Files = "upstream_ca", "only the CAs of the machine", "--upstream-ca", "Further CAs (PEM) that the gateway trusts for outgoing connections. They apply to every upstream and identity provider, not only to this service.";
    }
    /// `[services.<name>.auth_header]`.
    auth_header "services.*.auth_header" {
        NAME: Text = "name", "`\"Authorization\"`", "", "The name of the header.";
        VALUE: Text = "value", "`\"Bearer {credential}\"`", "", "The value of the header. It contains `{credential}` once.";
    }
    /// `[services.<name>.tools]`.
    tools "services.*.tools" {
        DEFAULT: Word(TOOL_RULES) = "default", "`\"ask\"`; `\"deny\"` for `public`", "", "What happens to a call that no rule covers: it is sent (`allow`), a person decides (`ask`) or it is refused (`deny`).";
        READ_ONLY: Word(TOOL_RULES) = "read_only", "the value of `default`", "", "Replaces `default` for tools whose definition says `readOnlyHint`, once a person approved that definition.";
        RULES: Pairs = "rules", "none", "", "Rules by tool name, such as `{ \"refund_*\" = \"deny\" }`. An exact name precedes patterns; of several patterns, the strictest rule counts.";
        PIN: Word(PIN_RULES) = "pin", "`\"ask\"`; `\"deny\"` for `public`", "", "What happens to calls of a tool whose definition changed, or that is new: nothing (`off`), a warning in the log (`warn`), a person decides (`ask`), or they are refused (`deny`).";
        FIRST_SIGHT: Word(FIRST_SIGHTS) = "first_sight", "`\"trust\"`", "", "Whether the first list of tools is pinned as it is (`trust`), or refused until a person approves it (`quarantine`).";
        APPROVAL_TTL: Seconds(10, 86_400) = "approval_ttl", "`\"30m\"`", "", "The longest time that a decision may take.";
        APPROVAL_HOLD: Seconds(0, 3_600) = "approval_hold", "`\"210s\"`", "", "How long a call is held open while a person decides.";
        MIXED: Word(MIXED_RULES) = "mixed", "`\"allow\"`", "", "With `ask`, calls of a request to an adapter that also has tools of others wait for a person.";
        CLIENT_APPROVALS: Switch = "client_approvals", "`false`", "", "Lets the approval item of a vendor's own client decide, instead of a person here.";
    }
    /// `[adapters.openai]`.
    openai "adapters.openai" {
        URL: Url = "url", "`https://api.openai.com`", "", "The vendor's address, without `/v1`, for the adapter of the OpenAI Responses API.";
    }
    /// `[adapters.anthropic]`.
    anthropic "adapters.anthropic" {
        URL: Url = "url", "`https://api.anthropic.com`", "", "The vendor's address, without `/v1`, for the adapter of the Anthropic Messages API.";
    }
    /// `[console]`.
    console "console" {
        APPROVERS: Texts = "approvers", "the only user of `[login.password]`", "", "The users who decide about calls with API keys, with the local key and through adapters. Each has a password of this gateway.";
    }
    /// `[cors]`.
    cors "cors" {
        ORIGINS: Texts = "origins", "none", "--cors-origins", "Origins of web pages and browser extensions that may call the MCP endpoints. `*` allows every origin. Without it, pages may call services that require a credential: any page, or only pages of this machine if `public_url` is loopback.";
    }
    /// `[audit]`.
    audit "audit" {
        FILE: File = "file", "none", "--audit-log", "The file of the audit log: JSON lines, each with the digest of the one before. `mcp-oauth-gateway audit verify` checks it. SIGHUP opens it again.";
        STDOUT: Switch = "stdout", "`false`", "--audit-stdout", "Writes the audit log to standard output, also beside a file.";
    }
}
