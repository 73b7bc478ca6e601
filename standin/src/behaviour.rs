//! The misbehaviour of the upstream, field by field. The default is an upstream without faults.

use std::time::Duration;

use serde_json::Value;

use crate::device::DeviceFlow;
use crate::openid::OpenId;

/// Endpoints that the authorization server metadata names instead of the real ones.
#[derive(Clone, Debug, Default)]
pub struct MetadataEndpoints {
    /// Instead of the authorization endpoint.
    pub authorization_endpoint: Option<String>,
    /// Instead of the token endpoint.
    pub token_endpoint: Option<String>,
    /// Instead of the registration endpoint.
    pub registration_endpoint: Option<String>,
    /// Instead of the revocation endpoint.
    pub revocation_endpoint: Option<String>,
}

/// A fixed answer to requests for one path.
#[derive(Clone, Debug, Default)]
pub struct Canned {
    /// The path, without a query.
    pub path: String,
    /// The method; `None` is every one.
    pub method: Option<&'static str>,
    /// Only requests whose body contains this text.
    pub body_has: Option<&'static str>,
    /// The status.
    pub status: u16,
    /// Headers, such as `content-type`.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

/// The behaviour of the upstream. It is read once, when a request arrives, so a change never
/// affects a request that is already in progress.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Show a page with "Authorize" and "Cancel" instead of redirecting at once.
    pub authorize_page: bool,
    /// Redirect back with this OAuth error instead of a code.
    pub authorize_error: Option<String>,
    /// The description beside that error.
    pub authorize_error_description: Option<String>,
    /// Redirect back with `invalid_scope` if this scope is requested.
    pub refuse_scope: Option<String>,
    /// Send this wrong `iss` in the authorization response.
    pub iss: Option<String>,
    /// Send no `iss` in the authorization response.
    pub omit_iss: bool,
    /// Answer registrations with this status.
    pub registration_status: Option<u16>,

    /// Answer `/token` with this status and an HTML body; the request is not processed.
    pub token_status: Option<u16>,
    /// Answer `/token` with this OAuth error and status 400; the request is not processed.
    pub token_error: Option<String>,
    /// Answer every OAuth error at `/token` with status 200.
    pub token_error_in_200: bool,
    /// Answer `/token` form-encoded, regardless of `Accept`.
    pub token_form_encoded: bool,
    /// The value of `expires_in`: a number or a string; null omits it.
    pub token_expires_in: Option<Value>,
    /// Omit the refresh token from the response to a refresh, and keep the old one valid.
    pub omit_refresh_token: bool,
    /// Never issue a refresh token.
    pub never_refresh_token: bool,
    /// How long `/token` waits before it processes a request (and rotates a token).
    pub token_delay: Duration,
    /// How long `/token` waits between processing and the response.
    pub token_delay_after: Duration,
    /// Process the request, then close the connection without a response.
    pub token_cut: bool,
    /// Process the request, then close the connection in the middle of the response body.
    pub token_cut_mid_body: bool,
    /// The value of `Retry-After`, in seconds, in responses counted by `token_429_count`.
    pub token_retry_after: Option<u64>,
    /// The number of next requests to `/token` that get a 429. It counts down.
    pub token_429_count: u32,
    /// Process the request, then answer 200 with a body that claims to be JSON and is not.
    pub token_garbage: bool,
    /// The value of `scope` in token responses.
    pub scope_override: Option<String>,
    /// The announced lifetime of refresh tokens, in seconds, under both names in use
    /// (`refresh_token_expires_in`, `refresh_expires_in`). It is enforced if it is positive.
    pub refresh_expires_in: Option<i64>,
    /// A refresh token that is used after its rotation ends the whole family.
    pub reuse_kills_family: bool,
    /// The real lifetime of access tokens at the MCP endpoint, in seconds, read when they are
    /// issued. `expires_in` does not depend on it.
    pub access_ttl: Option<u64>,
    /// The minimum length of access tokens, in bytes.
    pub access_length: usize,

    /// Answer the MCP endpoint with this status: 401 and 403 with a challenge (after the token is
    /// checked), 503 with `Retry-After`, others without extra headers.
    pub mcp_status: Option<u16>,
    /// Answer the MCP endpoint with a 307 to this URL.
    pub mcp_redirect: Option<String>,
    /// How long the MCP endpoint waits before it answers.
    pub mcp_delay: Duration,
    /// Read each request to the MCP endpoint completely, then close the connection unanswered.
    pub mcp_cut: bool,
    /// Serve the MCP endpoint without any check of credentials.
    pub mcp_open: bool,
    /// Require this header instead of a token: name (in lower case) and value.
    pub mcp_key: Option<(String, String)>,
    /// Extra headers in every response of the MCP endpoint.
    pub mcp_headers: Vec<(String, String)>,
    /// Further definitions in `tools/list`. A call of the tool `raw` gets its argument `result` as result.
    pub more_tools: Vec<Value>,
    /// Speak only MCP 2026-07-28: `initialize` is unknown, and each request carries its metadata.
    pub stateless: bool,
    /// Answer JSON-RPC requests as a stream of server-sent events.
    pub sse: bool,
    /// The time between events of the stream that GET opens.
    pub sse_gap: Duration,
    /// Answer 404 to a session id that was never issued or was deleted.
    pub strict_sessions: bool,

    /// The wrong `issuer` in the authorization server metadata.
    pub metadata_issuer: Option<String>,
    /// The wrong `resource` in the protected resource metadata.
    pub prm_resource: Option<String>,
    /// The authorization server in the protected resource metadata, such as another stand-in.
    pub authorization_server: Option<String>,
    /// Omit `code_challenge_methods_supported` from the metadata.
    pub no_pkce_in_metadata: bool,
    /// Announce in the metadata that a client id may be the URL of a metadata document.
    pub client_documents: bool,
    /// No user signs in: the metadata has no authorization endpoint and no PKCE.
    pub no_sign_in: bool,
    /// The workload token for which `/token` issues an access token (RFC 7523 §2.1).
    pub workload_token: Option<String>,
    /// The endpoints in the metadata.
    pub metadata_endpoints: MetadataEndpoints,
    /// Serve no protected resource metadata, and name none in challenges.
    pub prm_missing: bool,
    /// Serve no authorization server metadata.
    pub as_metadata_missing: bool,

    /// Offer the device flow.
    pub device: Option<DeviceFlow>,

    /// The behaviour as an identity provider.
    pub openid: OpenId,

    /// Fixed answers, before anything else. The first that matches counts.
    pub canned: Vec<Canned>,

    /// Log the requests. Benchmarks turn this off.
    pub keep_log: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            authorize_page: false,
            authorize_error: None,
            authorize_error_description: None,
            refuse_scope: None,
            iss: None,
            omit_iss: false,
            registration_status: None,
            token_status: None,
            token_error: None,
            token_error_in_200: false,
            token_form_encoded: false,
            token_expires_in: None,
            omit_refresh_token: false,
            never_refresh_token: false,
            token_delay: Duration::ZERO,
            token_delay_after: Duration::ZERO,
            token_cut: false,
            token_cut_mid_body: false,
            token_retry_after: None,
            token_429_count: 0,
            token_garbage: false,
            scope_override: None,
            refresh_expires_in: None,
            reuse_kills_family: true,
            access_ttl: None,
            access_length: 0,
            mcp_status: None,
            mcp_redirect: None,
            mcp_delay: Duration::ZERO,
            mcp_cut: false,
            mcp_open: false,
            mcp_key: None,
            mcp_headers: Vec::new(),
            more_tools: Vec::new(),
            stateless: false,
            sse: false,
            sse_gap: Duration::from_millis(200),
            strict_sessions: false,
            metadata_issuer: None,
            prm_resource: None,
            authorization_server: None,
            no_pkce_in_metadata: false,
            client_documents: false,
            no_sign_in: false,
            workload_token: None,
            metadata_endpoints: MetadataEndpoints::default(),
            prm_missing: false,
            as_metadata_missing: false,
            device: None,
            openid: OpenId::default(),
            canned: Vec::new(),
            keep_log: true,
        }
    }
}
