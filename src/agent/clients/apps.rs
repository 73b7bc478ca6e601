//! Desktop clients and clients on a vendor's servers, whose requests cannot be recorded.

use crate::agent::clients::profile::{
    COMMON, ChallengeReader, ClientProfile, Evidence, IssCheck, IssuerRule, MetadataDocument, Opening, Refresh, Registration,
    ResourceParameter, ResourceRule,
};
use crate::mcp::revision::Revision;

/// From documentation and reports, as of November 2026.
pub(super) const PROFILES: &[ClientProfile] = &[CLAUDE_AI, CLAUDE_DESKTOP, CHATGPT, CURSOR, VSCODE, WINDSURF];

const CLAUDE_AI: ClientProfile = ClientProfile {
    name: "claude-ai",
    title: "claude.ai connectors",
    sources: &[
        "https://support.claude.com/en/articles/11503834-building-custom-connectors-via-remote-mcp-servers",
        "https://github.com/anthropics/claude-ai-mcp/issues/313",
        "https://github.com/anthropics/claude-ai-mcp/issues/341",
    ],
    user_agent: Some("Claude-User"),
    oauth_user_agent: Some("python-httpx/0.28.1"),
    resource_rule: ResourceRule::Equal,
    registration: Registration {
        client_name: "Claude",
        redirect_uris: &["https://claude.ai/api/mcp/auth_callback"],
        ..COMMON.registration
    },
    document: Some(MetadataDocument {
        url: "https://claude.ai/oauth/mcp-oauth-client-metadata",
        redirect_uris: &[
            "https://claude.ai/api/mcp/auth_callback",
            "https://claude.com/api/mcp/auth_callback",
        ],
        redirect_uri: "https://claude.ai/api/mcp/auth_callback",
        is_template: false,
    }),
    resource_parameter: ResourceParameter::OwnUrl,
    refresh: Refresh::Rarely,
    is_remote: true,
    limits: "calls from the vendor's network: a server on this machine or behind a firewall is out of its reach",
    ..COMMON
};

const CLAUDE_DESKTOP: ClientProfile = ClientProfile {
    name: "claude-desktop",
    title: "Claude Desktop, Settings → Connectors",
    sources: &["https://support.claude.com/en/articles/11175166-getting-started-with-custom-connectors-using-remote-mcp"],
    limits: "remote servers are connected from the vendor's network; a local one needs mcp-remote",
    ..CLAUDE_AI
};

const CHATGPT: ClientProfile = ClientProfile {
    name: "chatgpt",
    title: "ChatGPT apps and connectors",
    sources: &["https://developers.openai.com/apps-sdk/build/auth"],
    user_agent: Some("openai-mcp/1.0.0"),
    oauth_user_agent: None,
    resource_rule: ResourceRule::Equal,
    registration: Registration {
        client_name: "ChatGPT",
        redirect_uris: &["https://chatgpt.com/connector/oauth/doctor"],
        ..COMMON.registration
    },
    document: Some(MetadataDocument {
        url: "https://chatgpt.com/oauth/doctor/client.json",
        redirect_uris: &["https://chatgpt.com/connector/oauth/doctor"],
        redirect_uri: "https://chatgpt.com/connector/oauth/doctor",
        is_template: true,
    }),
    resource_parameter: ResourceParameter::OwnUrl,
    refresh: Refresh::On401,
    is_remote: true,
    limits: "calls from the vendor's network; the id in its document's URL is one per connector, so the document is not tested",
    ..COMMON
};

const CURSOR: ClientProfile = ClientProfile {
    name: "cursor",
    title: "Cursor",
    sources: &[
        "https://cursor.com/docs/mcp",
        "https://glama.ai/mcp/servers/Echsecutor/idealo-proxy/tree",
    ],
    registration: Registration {
        client_name: "Cursor",
        redirect_uris: &[
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "https://www.cursor.com/agents/mcp/oauth/callback",
            "http://localhost:8787/callback",
        ],
        more: r#"{"logo_uri":null}"#,
        ..COMMON.registration
    },
    limits: "registers three redirect URIs at once, and gives up if one is refused",
    ..COMMON
};

const VSCODE: ClientProfile = ClientProfile {
    name: "vscode",
    title: "VS Code",
    evidence: Evidence::Code,
    sources: &[
        "https://code.visualstudio.com/api/extension-guides/ai/mcp",
        "https://github.com/microsoft/vscode/blob/main/src/vs/base/common/oauth.ts",
        "https://github.com/contextstream/mcp-server/issues/57",
    ],
    user_agent: Some("node"),
    oauth_user_agent: Some("node"),
    challenge: ChallengeReader::Standard,
    tolerates_other_resource: true,
    resource_rule: ResourceRule::Equal,
    issuer_rule: IssuerRule::Unchecked,
    needs_response_types: false,
    needs_s256: false,
    registration: Registration {
        client_name: "Visual Studio Code",
        redirect_uris: &[
            "https://insiders.vscode.dev/redirect",
            "https://vscode.dev/redirect",
            "http://127.0.0.1/",
            "http://127.0.0.1:33418/",
        ],
        application_type: Some("native"),
        more: r#"{"client_uri":"https://code.visualstudio.com"}"#,
        ..COMMON.registration
    },
    document: Some(MetadataDocument {
        url: "https://vscode.dev/oauth/client-metadata.json",
        redirect_uris: &["http://127.0.0.1:33418/", "http://127.0.0.1/", "https://vscode.dev/redirect"],
        redirect_uri: "http://127.0.0.1:33418/",
        is_template: false,
    }),
    limits: "asks the user for a client id where it cannot register",
    ..COMMON
};

const WINDSURF: ClientProfile = ClientProfile {
    name: "windsurf",
    title: "Windsurf (Cascade)",
    sources: &["https://docs.windsurf.com/windsurf/cascade/mcp"],
    opening: Opening::Initialize,
    revision: Revision::V2025_06_18,
    metadata_revision: Some("2025-06-18"),
    registration: Registration {
        client_name: "Windsurf",
        redirect_uris: &["http://localhost:41234/oauth/callback"],
        ..COMMON.registration
    },
    iss: IssCheck::Unknown,
    limits: "little is known: simulated as the TypeScript SDK",
    ..COMMON
};
