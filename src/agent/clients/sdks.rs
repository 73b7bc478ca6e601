//! Libraries that clients are built with.

use crate::agent::clients::profile::{
    COMMON, ChallengeReader, ClientProfile, Evidence, IssuerRule, Opening, Refresh, Registration, ResourceProbes, ServerProbes,
};
use crate::mcp::revision::Revision;

/// From the source code of the libraries, as of August 2026.
pub(super) const PROFILES: &[ClientProfile] = &[TYPESCRIPT, PYTHON, FASTMCP, RMCP];

const TYPESCRIPT: ClientProfile = ClientProfile {
    name: "typescript-sdk",
    title: "MCP TypeScript SDK 2.4",
    evidence: Evidence::Code,
    sources: &["https://github.com/modelcontextprotocol/typescript-sdk"],
    user_agent: Some("node"),
    oauth_user_agent: Some("node"),
    registration: Registration {
        client_name: "TypeScript client",
        redirect_uris: &["http://localhost:41234/callback"],
        application_type: Some("native"),
        ..COMMON.registration
    },
    ..COMMON
};

const PYTHON: ClientProfile = ClientProfile {
    name: "python-sdk",
    title: "MCP Python SDK 2.3.0",
    evidence: Evidence::Code,
    sources: &["https://github.com/modelcontextprotocol/python-sdk"],
    user_agent: Some("python-httpx2"),
    oauth_user_agent: Some("python-httpx2"),
    challenge: ChallengeReader::Anywhere,
    resource_probes: ResourceProbes::All,
    issuer_rule: IssuerRule::Exact,
    needs_response_types: false,
    needs_s256: false,
    registration: Registration {
        client_name: "Python client",
        redirect_uris: &["http://localhost:41234/callback"],
        application_type: Some("native"),
        ..COMMON.registration
    },
    asks_all_scopes: true,
    refresh: Refresh::Ahead(0),
    limits: "any refresh answer but 200 costs the user a new sign-in",
    ..COMMON
};

const FASTMCP: ClientProfile = ClientProfile {
    name: "fastmcp",
    title: "FastMCP 4.2.3",
    evidence: Evidence::Recorded,
    sources: &["pypi:fastmcp==4.2.3", "https://github.com/jlowin/fastmcp"],
    opening: Opening::Discover,
    revision: Revision::V2026_07_28,
    metadata_revision: Some("2026-07-28"),
    registration: Registration {
        client_name: "FastMCP Client",
        ..PYTHON.registration
    },
    limits: "opens the authorization URL itself before it opens the browser: two journeys for each sign-in",
    ..PYTHON
};

const RMCP: ClientProfile = ClientProfile {
    name: "rmcp",
    title: "MCP Rust SDK (rmcp)",
    evidence: Evidence::Code,
    sources: &["https://github.com/modelcontextprotocol/rust-sdk"],
    challenge: ChallengeReader::Standard,
    same_origin_metadata: true,
    tolerates_bad_metadata: false,
    resource_probes: ResourceProbes::All,
    server_probes: ServerProbes::Lenient,
    issuer_rule: IssuerRule::Exact,
    needs_response_types: false,
    registration: Registration {
        client_name: "rmcp client",
        redirect_uris: &["http://127.0.0.1:41234/callback"],
        application_type: Some("native"),
        ..COMMON.registration
    },
    refresh: Refresh::Ahead(30),
    ..COMMON
};
