//! Where a request came to: a service, under one of its addresses and one of our names. Issuer, resource and metadata
//! are said in the words that the caller used.

use std::sync::Arc;

use serde_json::Value;

use crate::gateway::live::Running;
use crate::gateway::site::As;
use crate::oauth::metadata::{self, Endpoints};
use crate::oauth::scope::Scopes;
use crate::service::{self, Access};

/// Whether a path may name a service in this way.
pub fn is_service_name(text: &str) -> bool {
    service::is_name(text)
}

/// Under which of its addresses a service was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// `/mcp`, of the default service.
    Root,
    /// `/mcp/{service}`.
    Named,
    /// `/{service}/mcp`.
    Alias,
}

/// Where a request came to.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// Which of our names it used.
    pub called: &'a As,
    /// The service.
    pub running: &'a Arc<Running>,
    /// Under which of its addresses.
    pub path: Path,
}

impl At<'_> {
    fn name(&self) -> &str {
        &self.running.service.name
    }

    /// What stands behind each endpoint's path: nothing, or `/mcp/{service}`.
    fn behind(&self) -> String {
        match self.path {
            Path::Root => String::new(),
            Path::Named | Path::Alias => format!("/mcp/{}", self.name()),
        }
    }

    fn resource_path(&self) -> String {
        match self.path {
            Path::Root => "/mcp".to_owned(),
            Path::Named => format!("/mcp/{}", self.name()),
            Path::Alias => format!("/{}/mcp", self.name()),
        }
    }

    /// The issuer (RFC 8414 §2). Each service is one of its own; an alias has that of its service.
    pub fn issuer(&self) -> String {
        format!("{}{}", self.called.base(), self.behind())
    }

    /// The protected resource: the MCP endpoint, exactly as it was called.
    pub fn resource(&self) -> String {
        format!("{}{}", self.called.base(), self.resource_path())
    }

    /// An OAuth client can sign in here. Elsewhere there is no metadata, and no endpoint of an authorization server.
    pub fn is_oauth(&self) -> bool {
        self.running.service.access == Access::OAuth
    }

    /// API keys are taken here.
    pub fn takes_keys(&self) -> bool {
        self.running.service.access == Access::Key
    }

    /// What a challenge asks for. A key cannot be asked to be more than it must be.
    pub fn scopes_to_ask(&self) -> Scopes {
        if self.takes_keys() {
            self.running.service.required_scopes.clone()
        } else {
            self.running.scopes_to_ask()
        }
    }

    /// Where its metadata is (RFC 9728 §3.1): the well-known part goes between host and path.
    pub fn resource_metadata(&self) -> String {
        let (origin, prefix) = self.called.parts();
        format!("{origin}/.well-known/oauth-protected-resource{prefix}{}", self.resource_path())
    }

    /// An endpoint of the authorization server, such as `/authorize`.
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}{path}{}", self.called.base(), self.behind())
    }

    /// Every form of the resource that a token of this service may be asked for, under this name of ours: an alias never
    /// widens access, since the token is bound to the service.
    pub fn resources(&self) -> Vec<String> {
        let (base, name) = (self.called.base(), self.name());
        let mut out = vec![format!("{base}/mcp/{name}"), format!("{base}/{name}/mcp")];
        if self.running.service.is_default {
            // The bare origin is what clients of 2025-03-26 say.
            out.extend([format!("{base}/mcp"), self.called.parts().0.to_owned()]);
        }
        out
    }

    /// The protected resource metadata document (RFC 9728).
    pub fn resource_document(&self) -> Value {
        let running = self.running;
        let scopes = running
            .scopes_offered()
            .with(&running.service.required_scopes)
            .without("offline_access");
        metadata::protected_resource(&self.resource(), &self.issuer(), &scopes.list(), &running.service.title())
    }

    /// The authorization server metadata document (RFC 8414).
    pub fn server_document(&self) -> Value {
        let running = self.running;
        let keys = running
            .service
            .signs()
            .then(|| format!("{}/.well-known/jwks.json", self.called.base()));
        let endpoints = Endpoints {
            authorize: &self.endpoint("/authorize"),
            token: &self.endpoint("/token"),
            register: Some(&self.endpoint("/register")),
            revoke: &self.endpoint("/revoke"),
            jwks: keys.as_deref(),
            scopes: &running.scopes_askable().list(),
            client_documents: true,
        };
        metadata::authorization_server(&self.issuer(), &endpoints)
    }
}
