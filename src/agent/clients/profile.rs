//! The parts of a client profile: all behaviour of a client that a server can observe before a sign-in.

use serde_json::{Value, json};

use crate::mcp::revision::Revision;

/// The evidence for a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A proxy recorded the requests of the program.
    Recorded,
    /// The source code of the client or of its library shows it.
    Code,
    /// Documentation and reports say so, because the client cannot be recorded.
    Reported,
}

impl Evidence {
    /// The name in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Code => "code",
            Self::Reported => "reported",
        }
    }
}

/// The first request to the MCP endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// POST `server/discover` (2026-07-28), then POST `initialize` if the server is older.
    Discover,
    /// POST `initialize`.
    Initialize,
    /// GET for the challenge, then POST `initialize`.
    Get,
    /// POST `initialize`, then HEAD for the challenge.
    Head,
}

/// The parser of a client for the challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeReader {
    /// A parser that follows RFC 9110 §11.6.1.
    Standard,
    /// The field must begin with `Bearer`; a parameter is matched anywhere in it. The TypeScript SDK.
    Pattern,
    /// A parameter is matched anywhere, for any scheme. The Python SDK.
    Anywhere,
}

/// The URLs at which a client looks for the metadata of the resource (RFC 9728 §3.1), in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceProbes {
    /// The URL of the challenge; without one, path inserted, then root. The TypeScript SDK.
    ChallengeOrWellKnown,
    /// The URL of the challenge, path inserted, root; the first document counts.
    All,
    /// The URL of the challenge; without one, the root, then path inserted.
    RootFirst,
}

/// The values of `resource` in the metadata that a client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceRule {
    /// The URL itself, or a parent path on its origin.
    Parent,
    /// The URL itself; a slash at the root may be missing.
    Equal,
}

/// The URLs at which a client looks for the metadata of an issuer with a path, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerProbes {
    /// RFC 8414 and OpenID Connect with the path inserted, then OpenID Connect appended.
    Standard,
    /// As the standard, then RFC 8414 appended, then the root of the origin.
    Lenient,
}

/// The values of `issuer` in the metadata that a client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuerRule {
    /// Byte for byte (RFC 8414 §3.3).
    Exact,
    /// One slash at the end may be missing or added.
    Slash,
    /// Any value: the client does not compare.
    Unchecked,
}

/// The `resource` parameter of authorization and token requests (RFC 8707).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceParameter {
    /// The value of the metadata.
    FromMetadata,
    /// The URL that the user entered, even if the metadata has another value.
    OwnUrl,
}

/// A client's check of `iss` in the authorization response (RFC 9207).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssCheck {
    /// Compares it if the server promises it.
    IfPromised,
    /// Ignores it.
    Ignored,
    /// It is not known whether the client compares it.
    Unknown,
}

/// The time at which a client refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// This number of seconds before the access token expires.
    Ahead(u32),
    /// After a 401.
    On401,
    /// The client often signs in again instead.
    Rarely,
}

impl Refresh {
    /// The text for lists.
    pub fn sentence(self) -> String {
        match self {
            Self::Ahead(0) => "at the end of the token".to_owned(),
            Self::Ahead(seconds) => format!("{seconds} s ahead"),
            Self::On401 => "after a 401".to_owned(),
            Self::Rarely => "rarely; signs in again".to_owned(),
        }
    }
}

/// The metadata that a client registers (RFC 7591).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// `client_name`.
    pub client_name: &'static str,
    /// `redirect_uris`.
    pub redirect_uris: &'static [&'static str],
    /// `application_type`, if it is sent.
    pub application_type: Option<&'static str>,
    /// Whether `scope` is sent.
    pub sends_scope: bool,
    /// Further members, as a JSON object.
    pub more: &'static str,
}

/// The metadata document by which a client names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataDocument {
    /// Its URL, which is the client id.
    pub url: &'static str,
    /// Its `redirect_uris`.
    pub redirect_uris: &'static [&'static str],
    /// The redirect URI that the client uses with it.
    pub redirect_uri: &'static str,
    /// Whether a part of the URL differs in each connection, so that there is no document at this one.
    pub is_template: bool,
}

/// A known client.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a program")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientProfile {
    /// The name on the command line.
    pub name: &'static str,
    /// The client and its version.
    pub title: &'static str,
    /// The evidence for the profile.
    pub evidence: Evidence,
    /// The URLs of the sources.
    pub sources: &'static [&'static str],
    /// `User-Agent` of MCP requests. `None`: not known, or none.
    pub user_agent: Option<&'static str>,
    /// `User-Agent` of OAuth requests.
    pub oauth_user_agent: Option<&'static str>,
    /// The first request.
    pub opening: Opening,
    /// The revision of the first request.
    pub revision: Revision,
    /// `MCP-Protocol-Version` of metadata requests, if it is sent.
    pub metadata_revision: Option<&'static str>,
    /// The parser for the challenge.
    pub challenge: ChallengeReader,
    /// Whether the URL of the challenge must be of the server's own origin.
    pub same_origin_metadata: bool,
    /// The URLs for the resource metadata.
    pub resource_probes: ResourceProbes,
    /// Whether the client ignores resource metadata that is unreadable or incomplete. The issuer is then the
    /// MCP server's origin, as in MCP 2025-03-26.
    pub tolerates_bad_metadata: bool,
    /// Whether the client also ignores resource metadata with another `resource`.
    pub tolerates_other_resource: bool,
    /// Whether the client uses `/authorize`, `/token` and `/register` at the MCP server's origin if there is no
    /// metadata at all (MCP 2025-03-26).
    pub default_endpoints: bool,
    /// The accepted values of `resource`.
    pub resource_rule: ResourceRule,
    /// The URLs for the metadata of the authorization server.
    pub server_probes: ServerProbes,
    /// The accepted values of `issuer`.
    pub issuer_rule: IssuerRule,
    /// Whether `response_types_supported` is required (by the schema of the TypeScript SDK).
    pub needs_response_types: bool,
    /// Whether S256 must be listed.
    pub needs_s256: bool,
    /// Whether the client refuses an authorization endpoint on another origin than the issuer's, unless the
    /// metadata promises `iss`.
    pub binds_authorize_origin: bool,
    /// The registration request.
    pub registration: Registration,
    /// The metadata document, which the client uses if the server supports it.
    pub document: Option<MetadataDocument>,
    /// The `resource` of the authorization request.
    pub resource_parameter: ResourceParameter,
    /// Whether the authorization request has the scopes of challenge or metadata.
    pub sends_scope: bool,
    /// Whether the client requests all scopes of the authorization server if challenge and resource metadata
    /// name none.
    pub asks_all_scopes: bool,
    /// The check of `iss`.
    pub iss: IssCheck,
    /// The time of a refresh.
    pub refresh: Refresh,
    /// The origin, if the client is a web page.
    pub origin: Option<&'static str>,
    /// Whether the client connects from its vendor's network, which reaches no private address.
    pub is_remote: bool,
    /// The limits of the client that a server cannot change.
    pub limits: &'static str,
}

impl ClientProfile {
    /// The registration request of the client (RFC 7591 §3.1), with the scopes that it requests.
    pub fn registration_body(&self, scope: &str) -> Value {
        let registration = &self.registration;
        let mut body = json!({
            "client_name": registration.client_name,
            "redirect_uris": registration.redirect_uris,
            "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
        });
        if let Some(kind) = registration.application_type {
            body["application_type"] = kind.into();
        }
        if registration.sends_scope && !scope.is_empty() {
            body["scope"] = scope.into();
        }
        if let (Ok(Value::Object(more)), Some(members)) = (serde_json::from_str(registration.more), body.as_object_mut()) {
            members.extend(more);
        }
        body
    }
}

/// The behaviour of most clients: those with the TypeScript SDK. Each profile overrides the differences.
pub(super) const COMMON: ClientProfile = ClientProfile {
    name: "",
    title: "",
    evidence: Evidence::Reported,
    sources: &[],
    user_agent: None,
    oauth_user_agent: None,
    opening: Opening::Initialize,
    revision: Revision::V2025_11_25,
    metadata_revision: Some("2025-11-25"),
    challenge: ChallengeReader::Pattern,
    same_origin_metadata: false,
    resource_probes: ResourceProbes::ChallengeOrWellKnown,
    tolerates_bad_metadata: true,
    tolerates_other_resource: false,
    default_endpoints: true,
    resource_rule: ResourceRule::Parent,
    server_probes: ServerProbes::Standard,
    issuer_rule: IssuerRule::Slash,
    needs_response_types: true,
    needs_s256: true,
    binds_authorize_origin: false,
    registration: Registration {
        client_name: "",
        redirect_uris: &[],
        application_type: None,
        sends_scope: true,
        more: "{}",
    },
    document: None,
    resource_parameter: ResourceParameter::FromMetadata,
    sends_scope: true,
    asks_all_scopes: false,
    iss: IssCheck::IfPromised,
    refresh: Refresh::On401,
    origin: None,
    is_remote: false,
    limits: "",
};
