//! What the upstream does wrong, field by field. The default does nothing wrong.

use std::time::Duration;

use serde_json::Value;

use crate::openid::OpenId;

/// Endpoints named in the authorization server metadata instead of the real ones.
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

/// How the upstream behaves. Read once as each request arrives, so a change
/// reaches the next request and never one already under way.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Show a page with "Authorize" and "Cancel" instead of redirecting at once.
    pub authorize_page: bool,
    /// Redirect back with this OAuth error instead of a code.
    pub authorize_error: Option<String>,
    /// Send this (wrong) `iss` at the callback.
    pub iss: Option<String>,
    /// Send no `iss` at the callback.
    pub omit_iss: bool,
    /// Answer registrations with this status.
    pub registration_status: Option<u16>,

    /// Answer `/token` with this status and an HTML body; nothing is processed.
    pub token_status: Option<u16>,
    /// Answer `/token` with this OAuth error and status 400; nothing is processed.
    pub token_error: Option<String>,
    /// Answer every OAuth error at `/token` with status 200.
    pub token_error_in_200: bool,
    /// Answer `/token` form-encoded whatever `Accept` says.
    pub token_form_encoded: bool,
    /// Say this as `expires_in`: a number, a string; null leaves it out.
    pub token_expires_in: Option<Value>,
    /// On refresh, answer without a refresh token and keep the old one valid.
    pub omit_refresh_token: bool,
    /// Issue no refresh token at all.
    pub never_refresh_token: bool,
    /// Wait this long before `/token` processes (and rotates) anything.
    pub token_delay: Duration,
    /// Wait this long after processing and before the answer.
    pub token_delay_after: Duration,
    /// Process, then close the connection without an answer.
    pub token_cut: bool,
    /// Process, then close the connection in the middle of the answer's body.
    pub token_cut_mid_body: bool,
    /// `Retry-After` seconds on the 429 answers counted by `token_429_count`.
    pub token_retry_after: Option<u64>,
    /// Answer the next so many requests to `/token` with 429; counts down.
    pub token_429_count: u32,
    /// Process, then answer 200 with bytes that are not JSON but say they are.
    pub token_garbage: bool,
    /// Say this as `scope` in token answers.
    pub scope_override: Option<String>,
    /// Say this as the refresh token's life, in both names in use
    /// (`refresh_token_expires_in`, `refresh_expires_in`); held to if positive.
    pub refresh_expires_in: Option<i64>,
    /// A refresh token presented after its rotation ends the whole family.
    pub reuse_kills_family: bool,
    /// Real life of access tokens at the MCP endpoint in seconds, read as they
    /// are issued. What `expires_in` says does not follow it.
    pub access_ttl: Option<u64>,
    /// Make access tokens at least so long, in bytes.
    pub access_length: usize,

    /// Answer the MCP endpoint with this status: 401 and 403 with a challenge
    /// (once the token is good), 503 with `Retry-After`, others bare.
    pub mcp_status: Option<u16>,
    /// Answer the MCP endpoint with a 307 to this address.
    pub mcp_redirect: Option<String>,
    /// Wait this long before the MCP endpoint answers.
    pub mcp_delay: Duration,
    /// Read each request to the MCP endpoint whole, then close the connection without an answer.
    pub mcp_cut: bool,
    /// Serve the MCP endpoint to everybody, whatever they present.
    pub mcp_open: bool,
    /// Take this header as the credential, by name (in lower case) and value, and no token.
    pub mcp_key: Option<(String, String)>,
    /// Extra headers on every answer of the MCP endpoint.
    pub mcp_headers: Vec<(String, String)>,
    /// Answer JSON-RPC requests as a stream of server-sent events.
    pub sse: bool,
    /// Time between the events of the stream that GET opens.
    pub sse_gap: Duration,
    /// Answer 404 to a session id that was never given out or was deleted.
    pub strict_sessions: bool,

    /// Say this (wrong) `issuer` in the authorization server metadata.
    pub metadata_issuer: Option<String>,
    /// Say this (wrong) `resource` in the protected resource metadata.
    pub prm_resource: Option<String>,
    /// Name this authorization server in the protected resource metadata, such as that of another stand-in.
    pub authorization_server: Option<String>,
    /// Leave `code_challenge_methods_supported` out of the metadata.
    pub no_pkce_in_metadata: bool,
    /// Name these endpoints in the metadata.
    pub metadata_endpoints: MetadataEndpoints,
    /// No protected resource metadata, and none named in challenges.
    pub prm_missing: bool,
    /// No authorization server metadata.
    pub as_metadata_missing: bool,

    /// As an identity provider.
    pub openid: OpenId,

    /// Keep the log of requests; a bench would rather not.
    pub keep_log: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            authorize_page: false,
            authorize_error: None,
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
            sse: false,
            sse_gap: Duration::from_millis(200),
            strict_sessions: false,
            metadata_issuer: None,
            prm_resource: None,
            authorization_server: None,
            no_pkce_in_metadata: false,
            metadata_endpoints: MetadataEndpoints::default(),
            prm_missing: false,
            as_metadata_missing: false,
            openid: OpenId::default(),
            keep_log: true,
        }
    }
}
