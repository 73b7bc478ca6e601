//! The endpoint that a request names: a service, one of its paths, and a base URL of the gateway.
//! Issuer, resource and metadata use the same base URL.

use std::sync::Arc;

use serde_json::Value;

use crate::app::error::Rejection;
use crate::app::runtime_config::ActiveService;
use crate::flow::resource_server;
use crate::oauth::metadata::{self, ServerEndpoints};
use crate::oauth::resource;
use crate::oauth::scope::Scopes;
use crate::service::config::Config;
use crate::service::public_urls::{BaseUrl, PublicUrls};
use crate::service::{self, Access};

/// Whether this can be the name of a service in a path.
pub fn is_service_name(text: &str) -> bool {
    service::is_name(text) || resource_server::parse_service_name(text).is_some()
}

/// The form of a service's MCP path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathStyle {
    /// `/mcp`, of the default service.
    Root,
    /// `/mcp/{service}`.
    Named,
    /// `/{service}/mcp`.
    Alias,
}

/// The endpoint that a request names.
#[derive(Clone, Copy, Debug)]
pub struct ServiceEndpoint<'a> {
    /// The base URL that the request used.
    pub base_url: &'a BaseUrl,
    /// The service.
    pub service: &'a Arc<ActiveService>,
    /// The form of the path.
    pub path: PathStyle,
}

impl ServiceEndpoint<'_> {
    fn name(&self) -> &str {
        &self.service.service.name
    }

    /// What follows the path of each OAuth endpoint: nothing, or `/mcp/{service}`.
    fn path_suffix(&self) -> String {
        match self.path {
            PathStyle::Root => String::new(),
            PathStyle::Named | PathStyle::Alias => format!("/mcp/{}", self.name()),
        }
    }

    fn resource_path(&self) -> String {
        match self.path {
            PathStyle::Root => "/mcp".to_owned(),
            PathStyle::Named => format!("/mcp/{}", self.name()),
            PathStyle::Alias => format!("/{}/mcp", self.name()),
        }
    }

    /// The issuer (RFC 8414 §2). Each service has its own, and its alias has the same.
    pub fn issuer(&self) -> String {
        format!("{}{}", self.base_url.base(), self.path_suffix())
    }

    /// The protected resource: the URL of the MCP endpoint, as the client used it.
    pub fn resource(&self) -> String {
        if self.is_served_elsewhere() {
            return self.service.service.mcp.to_string();
        }
        format!("{}{}", self.base_url.base(), self.resource_path())
    }

    /// Whether clients get tokens here. Otherwise there is no metadata and no OAuth endpoint.
    pub fn is_oauth(&self) -> bool {
        self.service.service.access.issues_tokens()
    }

    /// Whether pages of other origins may call the service where `cors.origins` does not say. Not where
    /// it needs no token, nor where it has the credential of this machine's user.
    pub fn serves_foreign_pages(&self) -> bool {
        match self.service.service.access {
            Access::OAuth | Access::Key => true,
            Access::Local | Access::Public | Access::Introspect => false,
        }
    }

    /// Whether the MCP server is elsewhere and checks tokens itself.
    pub fn is_served_elsewhere(&self) -> bool {
        self.service.service.is_external()
    }

    /// Whether the service takes API keys.
    pub fn accepts_api_keys(&self) -> bool {
        self.service.service.access == Access::Key
    }

    /// The scopes of a challenge.
    pub fn scopes_to_ask(&self) -> Scopes {
        self.service.scopes_to_ask()
    }

    /// The URL of the metadata; the well-known part is between host and path (RFC 9728 §3.1).
    pub fn resource_metadata(&self) -> String {
        let (origin, prefix) = self.base_url.parts();
        format!("{origin}/.well-known/oauth-protected-resource{prefix}{}", self.resource_path())
    }

    /// An endpoint of the authorization server, such as `/authorize`.
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}{path}{}", self.base_url.base(), self.path_suffix())
    }

    /// Every `resource` that stands for this service under this base URL. An alias never widens
    /// access, because a token is bound to the service.
    pub fn resources(&self) -> Vec<String> {
        if self.is_served_elsewhere() {
            return vec![self.resource()];
        }
        let (base, name) = (self.base_url.base(), self.name());
        let mut resources = vec![format!("{base}/mcp/{name}"), format!("{base}/{name}/mcp")];
        if self.service.service.is_default {
            // Clients of MCP 2025-03-26 send the bare origin.
            resources.extend([format!("{base}/mcp"), self.base_url.parts().0.to_owned()]);
        }
        resources
    }

    /// Checks that every `resource` of a request names this service (RFC 8707), under the base URL
    /// that the client used or under the public URL.
    ///
    /// # Errors
    /// [`Rejection::Target`].
    pub(in crate::app) fn check_resources<'r>(&self, urls: &PublicUrls, resources: impl Iterator<Item = &'r str>) -> Result<(), Rejection> {
        let canonical = urls.canonical();
        let canonical_endpoint = ServiceEndpoint {
            base_url: &canonical,
            ..*self
        };
        resource::check(resources, &[self.resources(), canonical_endpoint.resources()].concat()).map_err(|_| Rejection::Target)
    }

    /// The protected resource metadata document (RFC 9728).
    pub fn resource_metadata_document(&self) -> Value {
        let active = self.service;
        let scopes = active
            .scopes_offered()
            .union(&active.service.required_scopes)
            .without("offline_access");
        metadata::protected_resource(&self.resource(), &self.issuer(), &scopes.list(), &active.service.title())
    }

    /// The authorization server metadata document (RFC 8414).
    pub fn server_metadata_document(&self, config: &Config) -> Value {
        let active = self.service;
        let keys = active
            .service
            .needs_signing_keys()
            .then(|| format!("{}/.well-known/jwks.json", self.base_url.base()));
        let external = |path| self.is_served_elsewhere().then(|| self.endpoint(path));
        let (introspect, userinfo) = (external("/introspect"), external("/userinfo"));
        let endpoints = ServerEndpoints {
            authorize: &self.endpoint("/authorize"),
            token: &self.endpoint("/token"),
            register: Some(&self.endpoint("/register")),
            revoke: &self.endpoint("/revoke"),
            jwks: keys.as_deref(),
            scopes: &active.scopes_askable().list(),
            introspect: introspect.as_deref(),
            userinfo: userinfo.as_deref(),
            client_documents: config.client_documents.is_on,
            announces_iss: config.announces_iss,
        };
        metadata::authorization_server(&self.issuer(), &endpoints)
    }
}
