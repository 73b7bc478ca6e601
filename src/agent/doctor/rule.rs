//! The rules that a server can break. Their names are stable: scripts and documents use them.

/// The party that can fix a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The MCP server.
    Server,
    /// The authorization server.
    AuthServer,
    /// The network in between: DNS, TLS, proxies, firewalls, clocks.
    Network,
}

impl Fault {
    /// The words for a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::AuthServer => "authorization server",
            Self::Network => "network",
        }
    }
}

/// The effect of a broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A client cannot connect, or a user is in danger.
    Error,
    /// A rule is broken, but the simulated clients continue.
    Warning,
}

impl Severity {
    /// The word for a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A rule for MCP and authorization servers.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The stable name.
    pub name: &'static str,
    /// The party that can fix it.
    pub fault: Fault,
    /// The effect on clients.
    pub severity: Severity,
    /// The source, such as `RFC 9728 §3.3`.
    pub clause: &'static str,
    /// The problem, as a sentence.
    pub meaning: &'static str,
    /// The advice for the fix.
    pub fix: &'static str,
}

macro_rules! rules {
    ($($id:ident $name:literal $fault:ident $severity:ident $clause:literal $meaning:literal $fix:literal)*) => {
        $(#[doc = $meaning] pub(crate) static $id: Rule = Rule {
            name: $name, fault: Fault::$fault, severity: Severity::$severity, clause: $clause, meaning: $meaning, fix: $fix,
        };)*
        /// All rules, in the order of a sign-in.
        pub static RULES: &[&Rule] = &[$(&$id),*];
    };
}

rules! {
    UNREACHABLE "unreachable" Network Error "RFC 9110 §15" "the server does not answer"
        "check the host name, the port, the firewall, and that the server runs"
    TLS_FAILED "tls-failed" Network Error "RFC 8446 §4.4.2" "the certificate is not accepted"
        "serve the whole chain for this host name, not expired; for a CA of your own give --ca FILE here and trust it in each client"
    CLOCK_SKEW "clock-skew" Network Warning "RFC 9110 §6.6.1" "the server's clock and this machine's differ by more than a minute"
        "synchronise both clocks with NTP: tokens seem expired, or not yet valid"
    MCP_REDIRECTS "mcp-redirects" Server Error "MCP Streamable HTTP" "the MCP endpoint redirects, and most clients do not follow with a POST"
        "give clients the final URL, or serve MCP at this one"
    LOGIN_PAGE "login-page-instead-of-401" Server Error "MCP Authorization, Error Handling" "a web page answers, not an MCP server"
        "let the MCP path through to the server: a sign-in proxy in front must answer 401 there, not a page"
    FORBIDDEN "forbidden-instead-of-401" Server Error "RFC 6750 §3.1" "a request without a token gets 403, so clients do not sign in"
        "answer 401 with `WWW-Authenticate: Bearer` when there is no token; if the server takes keys only, run the doctor with --intent key"
    USER_AGENT_BLOCKED "user-agent-blocked" Network Error "RFC 9110 §10.1.5" "this client's User-Agent is refused, another one is not"
        "allow the client's User-Agent in the firewall or bot protection in front of the server"
    RATE_LIMITED "rate-limited" Network Error "RFC 6585 §4" "the server answers 429"
        "wait, or raise the limit for this machine, and run the doctor again"
    OPENING_REFUSED "opening-refused" Server Error "MCP Lifecycle" "the first request is refused with neither a sign-in nor an MCP answer"
        "check the path of the URL, and that POST `initialize` without a session gets 401 or 200"
    SERVER_ERROR "mcp-server-error" Server Error "RFC 9110 §15.6" "the MCP endpoint answers with a server error"
        "read the server's log for this request"
    NOT_MCP "not-an-mcp-answer" Server Error "MCP Streamable HTTP" "the answer is neither JSON-RPC nor an event stream"
        "serve MCP at this URL, with `application/json` or `text/event-stream`"
    CHALLENGE_MISSING "challenge-missing" Server Warning "RFC 9110 §11.6.1" "401 without `WWW-Authenticate`: clients must guess where the metadata is"
        "add `WWW-Authenticate: Bearer resource_metadata=\"…\"` to each 401, also through the proxy in front"
    CHALLENGE_NOT_BEARER "challenge-not-bearer" Server Warning "RFC 6750 §3" "the challenge is of another scheme than Bearer"
        "answer `WWW-Authenticate: Bearer …`; a proxy's own password prompt must not cover the MCP path"
    CHALLENGE_NOT_FIRST "challenge-not-first" Server Warning "RFC 9110 §11.6.1" "`Bearer` is not the first challenge, and some clients read only the first"
        "put the Bearer challenge first"
    CHALLENGE_NO_METADATA "challenge-without-metadata" Server Warning "RFC 9728 §5.1" "the challenge does not name the resource metadata"
        "add `resource_metadata=\"…\"` to the challenge: some clients look nowhere else"
    CHALLENGE_LOOKALIKE "challenge-lookalike" Server Warning "RFC 6750 §3" "another parameter's name ends in `scope` and comes first; clients that search by pattern take it"
        "put `scope` first, or rename the other parameter"
    CHALLENGE_URL_RELATIVE "challenge-url-relative" Server Warning "RFC 9728 §5.1" "`resource_metadata` is not an absolute URL"
        "write the whole URL, with scheme and host"
    CHALLENGE_OTHER_ORIGIN "challenge-other-origin" Server Warning "RFC 9728 §7.6" "`resource_metadata` is on another origin; some clients ignore it"
        "serve the metadata on the MCP server's own origin"
    CHALLENGE_URL_DEAD "challenge-url-dead" Server Error "RFC 9728 §5.1" "there is no document at the `resource_metadata` of the challenge"
        "serve the metadata there, or name the right URL in the challenge"
    HTTP_BEHIND_TLS "http-behind-tls" Network Error "RFC 8414 §2" "a URL of this server begins with http although it is reached over https"
        "set the server's public URL, or pass `X-Forwarded-Proto: https` and let the server trust the proxy"
    METADATA_NOT_JSON "metadata-not-json" Server Error "RFC 9728 §3.2" "a metadata URL answers 200 with something that is no JSON object"
        "answer 404 where there is no document: a web application's catch-all page must not cover /.well-known"
    METADATA_NEEDS_AUTH "metadata-needs-auth" Server Error "RFC 9728 §3.1" "a metadata URL requires a sign-in"
        "let /.well-known/* through without a sign-in"
    METADATA_SERVER_ERROR "metadata-server-error" Server Error "RFC 9728 §3.2" "a metadata URL answers with a server error, or not at all"
        "read the server's log for this request; a missing document is a 404"
    METADATA_REDIRECTS "metadata-redirects" Server Warning "RFC 9728 §3.1" "a metadata URL redirects; some clients do not follow"
        "serve the document at this URL itself"
    METADATA_REDIRECTS_AWAY "metadata-redirects-away" Server Error "RFC 9728 §7.7" "a metadata URL redirects to another origin"
        "serve the document at this URL itself"
    METADATA_CONTENT_TYPE "metadata-content-type" Server Warning "RFC 9728 §3.2" "a metadata document is not `application/json`"
        "send `Content-Type: application/json`"
    METADATA_COMPRESSED "metadata-compressed" Network Error "RFC 9110 §12.5.3" "a document is compressed although the request asked for `identity`"
        "do not compress /.well-known/*, or follow `Accept-Encoding`"
    METADATA_WRONG_TYPE "metadata-wrong-type" Server Error "RFC 9728 §2" "a member of the metadata has the wrong type; clients with a schema drop the whole document"
        "lists are arrays of strings, and URLs are strings"
    METADATA_TOO_LARGE "metadata-too-large" Server Warning "RFC 9728 §3.2" "a metadata document is larger than 64 KiB; some clients store it in a keychain"
        "list fewer scopes and members"
    RESOURCE_METADATA_MISSING "resource-metadata-missing" Server Error "RFC 9728 §3.1" "there is no resource metadata, and no other way to find the authorization server"
        "serve /.well-known/oauth-protected-resource with the path of the MCP endpoint behind it"
    RESOURCE_MISSING "resource-missing" Server Error "RFC 9728 §2" "the resource metadata has no `resource`"
        "add `resource`: the URL of the MCP endpoint"
    RESOURCE_MISMATCH "resource-mismatch" Server Error "RFC 9728 §3.3" "`resource` is not this MCP server"
        "write the URL that clients use, byte for byte; behind a proxy that is the public one"
    RESOURCE_NOT_EQUAL "resource-not-equal" Server Error "RFC 9728 §3.3" "`resource` covers this URL but is not equal to it; strict clients refuse it"
        "write the URL that clients use, byte for byte, and one document per MCP path"
    NO_AUTH_SERVERS "no-authorization-servers" Server Error "MCP Authorization Server Location" "the resource metadata names no authorization server"
        "add `authorization_servers` with the issuer"
    AUTH_SERVER_URL "authorization-server-url" Server Error "RFC 9728 §2" "the first of `authorization_servers` is not a usable URL"
        "write the issuer's whole URL, over https"
    ADDRESS_REFUSED "private-address" Server Error "MCP Security Best Practices, SSRF" "a public server names a private or local address"
        "name addresses that a client elsewhere can reach"
    AUTH_SERVER_METADATA_MISSING "auth-server-metadata-missing" AuthServer Error "RFC 8414 §3" "there is no authorization server metadata"
        "serve /.well-known/oauth-authorization-server or openid-configuration for this issuer"
    ISSUER_MISSING "issuer-missing" AuthServer Error "RFC 8414 §2" "the metadata has no `issuer`"
        "add `issuer`"
    ISSUER_MISMATCH "issuer-mismatch" AuthServer Error "RFC 8414 §3.3" "`issuer` is not the one that the document was asked for"
        "make `issuer` and the entry of `authorization_servers` equal, byte for byte"
    ISSUER_SLASH "issuer-slash" AuthServer Error "RFC 8414 §3.3" "`issuer` differs by a slash at the end; strict clients refuse it"
        "make `issuer` and the entry of `authorization_servers` equal, byte for byte"
    AUTHORIZE_ENDPOINT_MISSING "authorization-endpoint-missing" AuthServer Error "RFC 8414 §2" "the metadata has no `authorization_endpoint`"
        "add `authorization_endpoint`"
    TOKEN_ENDPOINT_MISSING "token-endpoint-missing" AuthServer Error "RFC 8414 §2" "the metadata has no `token_endpoint`"
        "add `token_endpoint`"
    ENDPOINT_INVALID "endpoint-invalid" AuthServer Error "RFC 8414 §2" "an endpoint of the metadata is empty or no URL; clients with a schema drop the whole document"
        "write the whole URL, or leave the member out"
    RESPONSE_TYPES_MISSING "response-types-missing" AuthServer Error "RFC 8414 §2" "the metadata has no `response_types_supported`; clients with a schema drop it"
        "add `response_types_supported: [\"code\"]`"
    RESPONSE_TYPE_CODE "response-type-code-missing" AuthServer Error "RFC 8414 §2" "`response_types_supported` does not list `code`"
        "support the authorization code flow, and list `code`"
    PKCE_NOT_LISTED "pkce-not-listed" AuthServer Error "MCP Authorization Code Protection" "the metadata has no `code_challenge_methods_supported`, so clients must stop"
        "add `code_challenge_methods_supported: [\"S256\"]`"
    PKCE_NO_S256 "pkce-without-s256" AuthServer Error "RFC 7636 §4.2" "`code_challenge_methods_supported` does not list `S256`"
        "support S256 and list it"
    GRANT_MISSING "grant-type-missing" AuthServer Error "RFC 8414 §2" "`grant_types_supported` does not list `authorization_code`"
        "list `authorization_code`"
    REFRESH_NOT_LISTED "refresh-not-listed" AuthServer Warning "RFC 8414 §2" "`grant_types_supported` does not list `refresh_token`: users sign in again at each expiry"
        "support refresh tokens and list `refresh_token`"
    AUTHORIZE_OTHER_ORIGIN "authorize-other-origin" AuthServer Error "RFC 9207 §3" "the authorization endpoint is on another origin than the issuer, and `iss` is not promised"
        "send `iss` in authorization responses and promise it: `authorization_response_iss_parameter_supported`"
    NO_REGISTRATION "no-registration" AuthServer Error "MCP Client Registration Approaches" "clients can neither register nor name a metadata document"
        "support client ID metadata documents or RFC 7591, or tell users which client id to enter"
    DOCUMENT_NEEDS_NONE "document-needs-none" AuthServer Error "MCP Client ID Metadata Documents" "metadata documents are supported, but not the authentication method `none` that their clients use"
        "add `none` to `token_endpoint_auth_methods_supported`"
    REGISTRATION_GONE "registration-missing" AuthServer Error "RFC 7591 §3" "there is nothing at the registration endpoint"
        "serve RFC 7591 there, or leave `registration_endpoint` out"
    REGISTRATION_NEEDS_TOKEN "registration-needs-token" AuthServer Error "RFC 7591 §3" "registration requires an initial access token, which MCP clients do not have"
        "allow open registration, or leave `registration_endpoint` out"
    REGISTRATION_ERROR "registration-server-error" AuthServer Error "RFC 7591 §3.2.2" "the registration endpoint answers with a server error"
        "read the authorization server's log; a bad request is 400 with a JSON error"
    REGISTRATION_NOT_JSON "registration-not-json" AuthServer Warning "RFC 7591 §3.2.2" "the registration endpoint's error is not a JSON error, so clients cannot say why"
        "answer 400 with `{\"error\": \"invalid_client_metadata\"}`"
    REGISTRATION_REFUSED "registration-refused" AuthServer Error "RFC 7591 §3.2.2" "the client's registration is refused"
        "accept the client's redirect URIs: loopback with any port, https, and private-use schemes"
    REGISTRATION_NO_ID "registration-without-id" AuthServer Error "RFC 7591 §3.2.1" "the registration response has no `client_id`"
        "answer 201 with the client information as JSON"
    REGISTRATION_CHANGED "registration-changed" AuthServer Warning "RFC 7591 §3.2.1" "the server registered something else than the client asked for"
        "accept `token_endpoint_auth_method: none` and all redirect URIs of native clients"
    AUTHORIZE_REFUSED "authorize-refused" AuthServer Error "RFC 6749 §4.1.2.1" "the authorization request is refused before the user sees a page"
        "see the error; the request is one that this client sends"
    AUTHORIZE_RESOURCE "authorize-refuses-resource" AuthServer Error "RFC 8707 §2" "the authorization endpoint refuses `resource`"
        "accept the `resource` of the resource metadata"
    AUTHORIZE_SCOPE "authorize-refuses-scope" AuthServer Error "RFC 6749 §4.1.2.1" "the authorization endpoint refuses scopes that the server itself names"
        "accept the scopes of challenge and metadata, or name only scopes that exist"
    AUTHORIZE_DOCUMENT "authorize-refuses-document" AuthServer Error "MCP Client ID Metadata Documents" "the authorization server refuses the client's metadata document, or cannot fetch it"
        "let the authorization server reach the host of the client id; at this gateway, pin a copy of the document, or set `client_documents = false`"
    AUTHORIZE_ERROR "authorize-server-error" AuthServer Error "RFC 6749 §4.1.2.1" "the authorization endpoint answers with a server error, or there is none"
        "read the authorization server's log for this request"
    OPEN_REDIRECT "authorize-open-redirect" AuthServer Error "RFC 6749 §4.1.2.1" "an unknown client's redirect URI is followed, so the server can be used to send users anywhere"
        "show an error page, and never redirect, while client or redirect URI is unknown"
    TOKEN_GONE "token-endpoint-dead" AuthServer Error "RFC 6749 §3.2" "there is nothing at the token endpoint"
        "serve the token endpoint there for POST"
    TOKEN_ERROR "token-server-error" AuthServer Error "RFC 6749 §5.2" "a wrong code or refresh token gives a server error; clients then forget their tokens, or try for ever"
        "answer 400 `invalid_grant` or 401 `invalid_client`"
    TOKEN_NOT_JSON "token-error-not-json" AuthServer Error "RFC 6749 §5.2" "the token endpoint's error is not JSON with `error`, so clients start over"
        "answer `{\"error\": \"invalid_grant\"}` as application/json, also from the proxy in front"
    TOKEN_ERROR_200 "token-error-with-200" AuthServer Error "RFC 6749 §5.2" "the token endpoint reports an error with status 200"
        "answer 400, or 401 for `invalid_client`"
    BAD_TOKEN_ACCEPTED "bad-token-accepted" Server Error "RFC 6750 §3.1" "a made-up token is accepted, although a request without one is not"
        "validate tokens"
    BAD_TOKEN_NOT_401 "bad-token-not-401" Server Error "RFC 6750 §3.1" "an invalid token gets another status than 401, so clients neither refresh nor sign in again"
        "answer 401 with `error=\"invalid_token\"`"
    BAD_TOKEN_NO_ERROR "bad-token-without-error" Server Warning "RFC 6750 §3.1" "an invalid token gets a challenge without `error=\"invalid_token\"`"
        "add `error=\"invalid_token\"` to the challenge"
    HEAD_NO_CHALLENGE "head-without-challenge" Server Warning "RFC 9110 §9.3.2" "HEAD gets no challenge; Gemini CLI and Qwen Code ask by HEAD"
        "answer HEAD as GET: 401 with the challenge"
    CORS_METADATA "cors-metadata" Server Warning "Fetch §3.2" "a web page may not read the metadata: preflight or answer lacks CORS headers"
        "allow any origin on /.well-known/*, and the header `MCP-Protocol-Version`"
    CORS_MCP "cors-mcp" Server Warning "Fetch §3.2" "a web page may not call the MCP endpoint or cannot read its challenge"
        "allow the page's origin, and expose `WWW-Authenticate` and `Mcp-Session-Id`"
    CORS_TOKEN "cors-token" AuthServer Warning "Fetch §3.2" "a web page may not read the token endpoint's answers"
        "allow any origin at the token endpoint, without credentials"
    HEADER_LIMIT "header-limit" Network Error "RFC 9110 §5.4" "a token of the usual size does not pass: a proxy limits request headers"
        "allow request headers of 16 KiB: in nginx `large_client_header_buffers 4 16k`"
    REQUEST_BUFFERED "request-buffered" Network Warning "MCP Streamable HTTP" "a proxy waits for the whole body before it passes a request on"
        "switch request and response buffering off: in nginx `proxy_request_buffering off` and `proxy_buffering off`"
    CALLBACK_DEAD "callback-dead" Network Error "RFC 6749 §3.1.2" "the callback URL for the upstream does not reach this gateway"
        "route the whole public URL to the gateway, with its path"
}
