//! Clients that run in a terminal.

use crate::agent::clients::profile::{
    COMMON, ChallengeReader, ClientProfile, Evidence, IssCheck, IssuerRule, MetadataDocument, Opening, Refresh, Registration,
    ResourceParameter, ResourceProbes, ResourceRule, ServerProbes,
};
use crate::mcp::revision::Revision;

/// Recorded in November 2026, each program in a home of its own behind a logging proxy.
pub(super) const PROFILES: &[ClientProfile] = &[
    CLAUDE_CODE,
    CODEX,
    GEMINI_CLI,
    OPENCODE,
    COPILOT_CLI,
    INSPECTOR,
    MCP_REMOTE,
    MCP_REMOTE_0_1,
    CLINE,
    QWEN_CODE,
];

const CLAUDE_CODE: ClientProfile = ClientProfile {
    name: "claude-code",
    title: "Claude Code 2.1.332",
    evidence: Evidence::Recorded,
    sources: &["npm:@anthropic-ai/claude-code@2.1.332", "https://code.claude.com/docs/en/mcp"],
    user_agent: Some("claude-code/2.1.332 (cli)"),
    oauth_user_agent: Some("Bun/1.4.6"),
    opening: Opening::Discover,
    revision: Revision::V2026_07_28,
    registration: Registration {
        client_name: "Claude Code (doctor)",
        redirect_uris: &["http://localhost:41234/callback"],
        application_type: Some("native"),
        ..COMMON.registration
    },
    document: Some(MetadataDocument {
        url: "https://claude.ai/oauth/claude-code-client-metadata",
        redirect_uris: &["http://localhost/callback", "http://127.0.0.1/callback"],
        redirect_uri: "http://localhost:41234/callback",
        is_template: false,
    }),
    refresh: Refresh::Ahead(300),
    limits: "refuses a CA with constraints on IP addresses; keeps a document's id after a failed sign-in until `claude mcp logout`",
    ..COMMON
};

const CODEX: ClientProfile = ClientProfile {
    name: "codex",
    title: "Codex CLI 0.171.0",
    evidence: Evidence::Recorded,
    sources: &["npm:@openai/codex@0.171.0", "https://github.com/modelcontextprotocol/rust-sdk"],
    user_agent: Some("codex-mcp-client/0.171.0"),
    opening: Opening::Get,
    revision: Revision::V2025_06_18,
    metadata_revision: Some("2024-11-05"),
    challenge: ChallengeReader::Standard,
    same_origin_metadata: true,
    tolerates_bad_metadata: false,
    resource_probes: ResourceProbes::All,
    server_probes: ServerProbes::Lenient,
    issuer_rule: IssuerRule::Exact,
    needs_response_types: false,
    binds_authorize_origin: true,
    registration: Registration {
        client_name: "Codex",
        redirect_uris: &["http://127.0.0.1:41234/callback"],
        application_type: Some("native"),
        ..COMMON.registration
    },
    document: Some(MetadataDocument {
        url: "https://chatgpt.com/oauth/codex/client.json",
        redirect_uris: &["http://127.0.0.1/callback", "http://localhost/callback"],
        redirect_uri: "http://127.0.0.1:41234/callback",
        is_template: false,
    }),
    refresh: Refresh::Rarely,
    limits: "0.142 to 0.144 miss the `iss` that they were sent; `compat = [\"no-iss\"]` at this gateway",
    ..COMMON
};

const GEMINI_CLI: ClientProfile = ClientProfile {
    name: "gemini-cli",
    title: "Gemini CLI 0.61.0",
    evidence: Evidence::Recorded,
    sources: &["npm:@google/gemini-cli@0.61.0", "https://github.com/google-gemini/gemini-cli"],
    user_agent: Some("node"),
    oauth_user_agent: Some("node"),
    opening: Opening::Head,
    revision: Revision::V2025_06_18,
    metadata_revision: None,
    challenge: ChallengeReader::Anywhere,
    resource_probes: ResourceProbes::All,
    default_endpoints: false,
    resource_rule: ResourceRule::Equal,
    server_probes: ServerProbes::Lenient,
    issuer_rule: IssuerRule::Unchecked,
    needs_response_types: false,
    needs_s256: false,
    registration: Registration {
        client_name: "Gemini CLI MCP Client",
        redirect_uris: &["http://localhost:41234/oauth/callback"],
        ..COMMON.registration
    },
    asks_all_scopes: true,
    iss: IssCheck::Ignored,
    refresh: Refresh::Ahead(300),
    limits: "deletes its tokens at the first failed refresh",
    ..COMMON
};

const OPENCODE: ClientProfile = ClientProfile {
    name: "opencode",
    title: "OpenCode 1.18.33",
    evidence: Evidence::Recorded,
    sources: &["npm:opencode-ai@1.18.33", "https://github.com/anomalyco/opencode"],
    user_agent: Some("opencode/1.18.33"),
    registration: Registration {
        client_name: "OpenCode",
        redirect_uris: &["http://127.0.0.1:19876/mcp/oauth/callback"],
        more: r#"{"client_uri":"https://opencode.ai"}"#,
        ..COMMON.registration
    },
    ..COMMON
};

const COPILOT_CLI: ClientProfile = ClientProfile {
    name: "copilot-cli",
    title: "GitHub Copilot CLI 1.0.102",
    evidence: Evidence::Recorded,
    sources: &["npm:@github/copilot@1.0.102", "https://github.com/modelcontextprotocol/rust-sdk"],
    user_agent: Some("copilot-cli/1.0.102"),
    opening: Opening::Discover,
    revision: Revision::V2026_07_28,
    metadata_revision: Some("2026-07-28"),
    challenge: ChallengeReader::Standard,
    same_origin_metadata: true,
    tolerates_bad_metadata: false,
    resource_probes: ResourceProbes::All,
    server_probes: ServerProbes::Lenient,
    issuer_rule: IssuerRule::Exact,
    needs_response_types: false,
    registration: Registration {
        client_name: "GitHub Copilot CLI",
        redirect_uris: &["http://127.0.0.1:41234/"],
        sends_scope: false,
        ..COMMON.registration
    },
    document: Some(MetadataDocument {
        url: "https://github.com/copilot/cli/client-metadata.json",
        redirect_uris: &["http://127.0.0.1:33418/callback", "http://127.0.0.1:33418/"],
        redirect_uri: "http://127.0.0.1:41234/callback",
        is_template: false,
    }),
    limits: "keeps a client id that the server forgot: remove the server there and add it again",
    ..COMMON
};

const INSPECTOR: ClientProfile = ClientProfile {
    name: "inspector",
    title: "MCP Inspector 2.12.0, from its web page",
    evidence: Evidence::Recorded,
    sources: &[
        "npm:@modelcontextprotocol/inspector@2.12.0",
        "https://github.com/modelcontextprotocol/inspector",
    ],
    registration: Registration {
        client_name: "MCP Inspector",
        redirect_uris: &["http://localhost:6274/oauth/callback"],
        application_type: Some("native"),
        more: r#"{"client_uri":"https://github.com/modelcontextprotocol/inspector"}"#,
        ..COMMON.registration
    },
    origin: Some("http://localhost:6274"),
    ..COMMON
};

const MCP_REMOTE: ClientProfile = ClientProfile {
    name: "mcp-remote",
    title: "mcp-remote 0.15.1",
    evidence: Evidence::Recorded,
    sources: &["npm:mcp-remote@0.15.1", "https://github.com/geelen/mcp-remote"],
    user_agent: Some("undici"),
    oauth_user_agent: Some("node"),
    opening: Opening::Get,
    registration: Registration {
        client_name: "MCP CLI Proxy",
        redirect_uris: &["http://localhost:27621/oauth/callback"],
        application_type: Some("native"),
        more: r#"{"client_uri":"https://github.com/geelen/mcp-remote","software_id":"2e6dc280-f3c3-4e01-99a7-8181dbd1d23d","software_version":"0.15.1"}"#,
        ..COMMON.registration
    },
    asks_all_scopes: true,
    refresh: Refresh::Ahead(60),
    ..COMMON
};

const MCP_REMOTE_0_1: ClientProfile = ClientProfile {
    name: "mcp-remote-0.1",
    title: "mcp-remote 0.1.29",
    sources: &["npm:mcp-remote@0.1.29", "https://github.com/geelen/mcp-remote"],
    user_agent: Some("node"),
    opening: Opening::Initialize,
    revision: Revision::V2025_06_18,
    metadata_revision: Some("2025-06-18"),
    registration: Registration {
        application_type: None,
        sends_scope: false,
        client_name: "MCP CLI Proxy",
        redirect_uris: &["http://localhost:27621/oauth/callback"],
        more: r#"{"client_uri":"https://github.com/geelen/mcp-remote","software_id":"2e6dc280-f3c3-4e01-99a7-8181dbd1d23d","software_version":"0.1.29"}"#,
    },
    sends_scope: false,
    asks_all_scopes: false,
    iss: IssCheck::Ignored,
    refresh: Refresh::On401,
    limits: "keeps a client id that the server forgot: delete `~/.mcp-auth`",
    ..MCP_REMOTE
};

const CLINE: ClientProfile = ClientProfile {
    name: "cline",
    title: "Cline CLI 3.0.65",
    evidence: Evidence::Recorded,
    sources: &["npm:cline@3.0.65", "https://github.com/cline/cline"],
    user_agent: Some("Bun/1.3.13"),
    oauth_user_agent: Some("Bun/1.3.13"),
    registration: Registration {
        client_name: "Cline",
        redirect_uris: &["http://127.0.0.1:1456/mcp/oauth/callback"],
        ..COMMON.registration
    },
    ..COMMON
};

const QWEN_CODE: ClientProfile = ClientProfile {
    name: "qwen-code",
    title: "Qwen Code 0.24.4",
    sources: &["npm:@qwen-code/qwen-code@0.24.4", "https://github.com/QwenLM/qwen-code"],
    revision: Revision::V2025_11_25,
    resource_probes: ResourceProbes::RootFirst,
    registration: Registration {
        client_name: "Qwen Code MCP Client",
        redirect_uris: &["http://localhost:7777/oauth/callback"],
        more: r#"{"code_challenge_method":["S256"]}"#,
        ..COMMON.registration
    },
    resource_parameter: ResourceParameter::OwnUrl,
    limits: "without a challenge to HEAD it takes the metadata at the root",
    ..GEMINI_CLI
};
