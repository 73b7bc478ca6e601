//! Servers with one thing wrong each, as data.

use crate::server::Change::{Body, Header, LongMember, Member, NoHeader, NoMember, Status};
use crate::server::{Access, Change, Kind, Mutation, USUAL};

/// A broken server, and the finding by which the doctor names it.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a run")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broken {
    pub name: &'static str,
    pub kind: Kind,
    pub mutations: &'static [Mutation],
    pub finding: &'static str,
    /// Findings that follow from the same mistake.
    pub also: &'static [&'static str],
    pub registers: bool,
    pub with_tls: bool,
    /// Whether the doctor trusts the CA of the server.
    pub is_trusted: bool,
    pub wants_oauth: bool,
    pub is_own: bool,
}

const MCP: &str = "POST /mcp,GET /mcp,HEAD /mcp";
const RESOURCE: &str = "GET /.well-known/oauth-protected-resource/mcp";
const SERVER: &str = "GET /.well-known/oauth-authorization-server";

const USUAL_BROKEN: Broken = Broken {
    name: "",
    kind: USUAL,
    mutations: &[],
    finding: "",
    also: &[],
    registers: false,
    with_tls: false,
    is_trusted: true,
    wants_oauth: false,
    is_own: false,
};

const WITH_DOCUMENTS: Kind = Kind {
    takes_documents: true,
    ..USUAL
};
const WITHOUT_ISS: Kind = Kind {
    promises_iss: false,
    ..USUAL
};
const KEY: Kind = Kind {
    access: Access::Key,
    ..USUAL
};

macro_rules! on {
    ($on:expr, $($change:expr),+) => { &[Mutation { on: $on, only: "", changes: &[$($change),+] }] };
}

macro_rules! only {
    ($on:expr, $only:literal, $($change:expr),+) => { &[Mutation { on: $on, only: $only, changes: &[$($change),+] }] };
}

const fn case(name: &'static str, finding: &'static str, mutations: &'static [Mutation]) -> Broken {
    Broken {
        name,
        mutations,
        finding,
        ..USUAL_BROKEN
    }
}

const CHALLENGE: &str = "www-authenticate";
const PAGE: Change = Body("text/html", "<!doctype html><title>Sign in</title>");

/// All of them.
pub(crate) const BROKEN: &[Broken] = &[
    // The first request.
    case("no challenge", "challenge-missing", on!(MCP, NoHeader(CHALLENGE))),
    case(
        "a password prompt of the proxy",
        "challenge-not-bearer",
        on!(MCP, Header(CHALLENGE, r#"Basic realm="staging""#)),
    ),
    Broken {
        also: &["bad-token-without-error"],
        ..case(
            "Basic before Bearer",
            "challenge-not-first",
            on!(
                MCP,
                Header(
                    CHALLENGE,
                    r#"Basic realm="x", Bearer resource_metadata="{base}/.well-known/oauth-protected-resource/mcp""#
                )
            ),
        )
    },
    Broken {
        also: &["bad-token-without-error"],
        ..case(
            "a bare challenge",
            "challenge-without-metadata",
            on!(MCP, Header(CHALLENGE, "Bearer")),
        )
    },
    Broken {
        also: &["bad-token-without-error"],
        ..case(
            "a parameter that looks like scope",
            "challenge-lookalike",
            on!(
                MCP,
                Header(
                    CHALLENGE,
                    r#"Bearer x_scope="a", resource_metadata="{base}/.well-known/oauth-protected-resource/mcp", scope="read""#
                )
            ),
        )
    },
    Broken {
        also: &["bad-token-without-error"],
        ..case(
            "a relative metadata URL",
            "challenge-url-relative",
            on!(
                MCP,
                Header(CHALLENGE, r#"Bearer resource_metadata="/.well-known/oauth-protected-resource/mcp""#)
            ),
        )
    },
    Broken {
        also: &["bad-token-without-error"],
        ..case(
            "a metadata URL of another origin",
            "challenge-other-origin",
            on!(
                MCP,
                Header(
                    CHALLENGE,
                    r#"Bearer resource_metadata="{other}/.well-known/oauth-protected-resource/mcp""#
                )
            ),
        )
    },
    Broken {
        also: &["bad-token-without-error"],
        ..case(
            "a dead metadata URL",
            "challenge-url-dead",
            on!(MCP, Header(CHALLENGE, r#"Bearer resource_metadata="{base}/nothing""#)),
        )
    },
    Broken {
        also: &["bad-token-not-401"],
        ..case("403 without a token", "forbidden-instead-of-401", on!(MCP, Status(403)))
    },
    case("a login page in front", "login-page-instead-of-401", on!(MCP, Status(200), PAGE)),
    case(
        "another address",
        "mcp-redirects",
        on!(MCP, Status(308), Header("location", "{base}/v2/mcp")),
    ),
    case(
        "a firewall against Python",
        "user-agent-blocked",
        only!(MCP, "python-httpx", Status(403), PAGE),
    ),
    case("a rate limit", "rate-limited", on!(MCP, Status(429))),
    case("a wrong path", "opening-refused", on!(MCP, Status(404))),
    case("a crash", "mcp-server-error", on!(MCP, Status(500))),
    case(
        "another service",
        "not-an-mcp-answer",
        on!(MCP, Status(200), Body("text/plain", "hello")),
    ),
    // The metadata of the resource.
    case("a catch-all page", "metadata-not-json", on!(RESOURCE, PAGE)),
    case("metadata behind a sign-in", "metadata-needs-auth", on!(RESOURCE, Status(401))),
    case("a gateway time-out", "metadata-server-error", on!(RESOURCE, Status(504))),
    case(
        "metadata that moved",
        "metadata-redirects",
        on!(RESOURCE, Status(302), Header("location", "/elsewhere")),
    ),
    case(
        "metadata that moved away",
        "metadata-redirects-away",
        on!(RESOURCE, Status(302), Header("location", "{other}/elsewhere")),
    ),
    case(
        "metadata as text",
        "metadata-content-type",
        on!(RESOURCE, Header("content-type", "text/plain")),
    ),
    case(
        "compressed metadata",
        "metadata-compressed",
        on!(RESOURCE, Header("content-encoding", "gzip")),
    ),
    case(
        "scopes as one string",
        "metadata-wrong-type",
        on!(RESOURCE, Member("scopes_supported", r#""read write""#)),
    ),
    case("very large metadata", "metadata-too-large", on!(RESOURCE, LongMember(70_000))),
    case("no resource", "resource-missing", on!(RESOURCE, NoMember("resource"))),
    case(
        "another resource",
        "resource-mismatch",
        on!(RESOURCE, Member("resource", r#""https://internal.example/mcp""#)),
    ),
    case(
        "the origin as resource",
        "resource-not-equal",
        on!(RESOURCE, Member("resource", r#""{base}""#)),
    ),
    case(
        "no authorization server",
        "no-authorization-servers",
        on!(RESOURCE, NoMember("authorization_servers")),
    ),
    case(
        "a relative authorization server",
        "authorization-server-url",
        on!(RESOURCE, Member("authorization_servers", r#"["/auth"]"#)),
    ),
    case(
        "an internal authorization server",
        "private-address",
        on!(RESOURCE, Member("authorization_servers", r#"["http://169.254.169.254/auth"]"#)),
    ),
    Broken {
        kind: KEY,
        wants_oauth: true,
        ..case("no OAuth at all", "resource-metadata-missing", &[])
    },
    Broken {
        with_tls: true,
        ..case(
            "a resource that does not know of TLS",
            "http-behind-tls",
            on!(RESOURCE, Member("resource", r#""{http}/mcp""#)),
        )
    },
    // The metadata of the authorization server.
    Broken {
        with_tls: true,
        ..case(
            "endpoints that do not know of TLS",
            "http-behind-tls",
            on!(SERVER, Member("token_endpoint", r#""{http}/token""#)),
        )
    },
    case("no server metadata", "auth-server-metadata-missing", on!(SERVER, Status(404))),
    case("no issuer", "issuer-missing", on!(SERVER, NoMember("issuer"))),
    case(
        "another issuer",
        "issuer-mismatch",
        on!(SERVER, Member("issuer", r#""https://internal.example""#)),
    ),
    case(
        "an issuer with a slash",
        "issuer-slash",
        on!(SERVER, Member("issuer", r#""{base}/""#)),
    ),
    case(
        "no authorization endpoint",
        "authorization-endpoint-missing",
        on!(SERVER, NoMember("authorization_endpoint")),
    ),
    case(
        "no token endpoint",
        "token-endpoint-missing",
        on!(SERVER, NoMember("token_endpoint")),
    ),
    case(
        "an empty endpoint",
        "endpoint-invalid",
        on!(SERVER, Member("revocation_endpoint", r#""""#)),
    ),
    case(
        "no response types",
        "response-types-missing",
        on!(SERVER, NoMember("response_types_supported")),
    ),
    case(
        "only the implicit flow",
        "response-type-code-missing",
        on!(SERVER, Member("response_types_supported", r#"["token"]"#)),
    ),
    case(
        "PKCE not listed",
        "pkce-not-listed",
        on!(SERVER, NoMember("code_challenge_methods_supported")),
    ),
    case(
        "only plain PKCE",
        "pkce-without-s256",
        on!(SERVER, Member("code_challenge_methods_supported", r#"["plain"]"#)),
    ),
    case(
        "only client credentials",
        "grant-type-missing",
        on!(SERVER, Member("grant_types_supported", r#"["client_credentials","refresh_token"]"#)),
    ),
    case(
        "no refresh tokens",
        "refresh-not-listed",
        on!(SERVER, Member("grant_types_supported", r#"["authorization_code"]"#)),
    ),
    Broken {
        kind: WITHOUT_ISS,
        ..case(
            "a login on another origin",
            "authorize-other-origin",
            on!(SERVER, Member("authorization_endpoint", r#""{other}/authorize""#)),
        )
    },
    // Registration.
    case("no registration", "no-registration", on!(SERVER, NoMember("registration_endpoint"))),
    Broken {
        kind: WITH_DOCUMENTS,
        ..case(
            "documents, but secrets only",
            "document-needs-none",
            on!(
                SERVER,
                Member("token_endpoint_auth_methods_supported", r#"["client_secret_basic"]"#)
            ),
        )
    },
    case(
        "a dead registration endpoint",
        "registration-missing",
        on!("POST /register", Status(404)),
    ),
    case(
        "registration for insiders",
        "registration-needs-token",
        on!("POST /register", Status(401)),
    ),
    case(
        "a crash at registration",
        "registration-server-error",
        on!("POST /register", Status(500)),
    ),
    case(
        "a registration error as a page",
        "registration-not-json",
        on!("POST /register", PAGE),
    ),
    Broken {
        registers: true,
        ..case(
            "no private-use schemes",
            "registration-refused",
            only!(
                "POST /register",
                "cursor://",
                Status(400),
                Body("application/json", r#"{"error":"invalid_redirect_uri"}"#)
            ),
        )
    },
    Broken {
        registers: true,
        ..case(
            "no client id",
            "registration-without-id",
            only!("POST /register", "redirect_uris", NoMember("client_id")),
        )
    },
    Broken {
        registers: true,
        ..case(
            "a secret for each client",
            "registration-changed",
            only!(
                "POST /register",
                "redirect_uris",
                Member("token_endpoint_auth_method", r#""client_secret_basic""#)
            ),
        )
    },
    // The authorization request.
    Broken {
        registers: true,
        ..case(
            "clients that are unknown at once",
            "authorize-refused",
            only!("GET /authorize", "client_id=registered", Status(401)),
        )
    },
    Broken {
        registers: true,
        ..case(
            "no resource indicators",
            "authorize-refuses-resource",
            only!(
                "GET /authorize",
                "8787",
                Status(302),
                Header("location", "http://localhost:8787/callback?error=invalid_target&state=x")
            ),
        )
    },
    Broken {
        registers: true,
        ..case(
            "unknown scopes",
            "authorize-refuses-scope",
            only!(
                "GET /authorize",
                "8787",
                Status(302),
                Header("location", "http://localhost:8787/callback?error=invalid_scope")
            ),
        )
    },
    Broken {
        registers: true,
        ..case(
            "a crash at authorization",
            "authorize-server-error",
            on!("GET /authorize", Status(500)),
        )
    },
    case(
        "an open redirector",
        "authorize-open-redirect",
        only!(
            "GET /authorize",
            "doctor-unknown-client",
            Status(302),
            Header("location", "https://doctor.invalid/callback?error=unauthorized_client")
        ),
    ),
    Broken {
        kind: WITH_DOCUMENTS,
        ..case(
            "documents that cannot be fetched",
            "authorize-refuses-document",
            only!("GET /authorize", "client_id=https", Status(503)),
        )
    },
    // What happens later.
    case(
        "a dead token endpoint",
        "token-endpoint-dead",
        on!("POST /token", Status(404), PAGE),
    ),
    case(
        "a crash for a wrong code",
        "token-server-error",
        only!("POST /token", "authorization_code", Status(500)),
    ),
    case("a token error as a page", "token-error-not-json", on!("POST /token", PAGE)),
    case("a token error with 200", "token-error-with-200", on!("POST /token", Status(200))),
    case("any token will do", "bad-token-accepted", only!(MCP, "doctor-made", Status(200))),
    case(
        "403 for an expired token",
        "bad-token-not-401",
        only!(MCP, "doctor-made", Status(403)),
    ),
    case(
        "no word about a bad token",
        "bad-token-without-error",
        only!(MCP, "doctor-made", Header(CHALLENGE, "Bearer")),
    ),
    case(
        "no HEAD",
        "head-without-challenge",
        on!("HEAD /mcp", Status(405), NoHeader(CHALLENGE)),
    ),
    case(
        "no CORS for metadata",
        "cors-metadata",
        on!(
            "OPTIONS /.well-known/oauth-authorization-server",
            NoHeader("access-control-allow-origin")
        ),
    ),
    case(
        "no CORS for the version header",
        "cors-mcp",
        on!("OPTIONS /mcp", Header("access-control-allow-headers", "Content-Type")),
    ),
    case(
        "a challenge that pages cannot see",
        "cors-mcp",
        on!(MCP, NoHeader("access-control-expose-headers")),
    ),
    case("no CORS for tokens", "cors-token", on!("OPTIONS /token", Status(405))),
    case(
        "a wrong clock",
        "clock-skew",
        on!(MCP, Header("date", "Sun, 06 Nov 1994 08:49:37 GMT")),
    ),
    Broken {
        with_tls: true,
        is_trusted: false,
        ..case("an unknown CA", "tls-failed", &[])
    },
    // Between the clients and the gateway.
    Broken {
        is_own: true,
        ..case("small header buffers", "header-limit", only!(MCP, "xxxxxxxx", Status(400), PAGE))
    },
    Broken {
        is_own: true,
        ..case("a callback that is not routed", "callback-dead", on!("GET /callback", Status(404)))
    },
    Broken {
        kind: Kind { buffers: true, ..USUAL },
        is_own: true,
        ..case("a proxy that buffers", "request-buffered", &[])
    },
];
