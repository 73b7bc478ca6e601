//! The state of a running discovery, and its requests for documents.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use crate::base::url::ExactUrl;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::upstream::discovery_result::{DiscoveryInput, DiscoveryStep, ResourceParam};
use crate::upstream::fetch;
use crate::upstream::quirks::{self, Profile};

const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(10);
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(45);

/// A running discovery.
pub(super) struct Search<'a> {
    pub(super) client: &'a HttpClient,
    pub(super) wanted: &'a DiscoveryInput,
    pub(super) until: Instant,
    pub(super) attempts: Vec<DiscoveryStep>,
    /// The addresses of the connections on which the configured server answered.
    pub(super) peers: Vec<IpAddr>,
}

/// The answer to a request for a document.
pub(super) enum FetchedDocument {
    /// The body of a response with status 200.
    Body(Bytes),
    /// There is no document, with the reason.
    Missing(String),
    /// Unknown: no response, 429 or 5xx.
    Failed(String),
}

impl<'a> Search<'a> {
    pub(super) fn new(client: &'a HttpClient, input: &'a DiscoveryInput) -> Self {
        Self {
            client,
            wanted: input,
            until: Instant::now() + DISCOVERY_TIMEOUT,
            attempts: Vec::new(),
            peers: Vec::new(),
        }
    }

    /// The `resource` of requests: the configured one, that of the metadata, or the URL of the MCP server.
    pub(super) fn resource_param(&self, profile: &Profile, discovered: Option<String>) -> Option<String> {
        match &self.wanted.resource {
            Some(ResourceParam::Named(resource)) => Some(resource.clone()),
            None if profile.send_resource => Some(discovered.unwrap_or_else(|| self.wanted.mcp.to_string())),
            Some(ResourceParam::Omitted) | None => None,
        }
    }

    pub(super) fn configured_resource(&self) -> Option<&str> {
        match &self.wanted.resource {
            Some(ResourceParam::Named(resource)) => Some(resource),
            Some(ResourceParam::Omitted) | None => None,
        }
    }

    pub(super) async fn fetch(&mut self, url: &str, addresses: &AddressPolicy) -> FetchedDocument {
        let Ok(address) = ExactUrl::parse(url) else {
            return FetchedDocument::Missing("not a URL".to_owned());
        };
        let response = if *addresses == AddressPolicy::Anything {
            let fetched = fetch::fetch_document_with_peer(self.client, &address, self.time_left()).await;
            fetched.map(|(response, peer)| {
                self.peers.push(peer);
                response
            })
        } else {
            fetch::fetch_document(self.client, &address, addresses, self.time_left()).await
        };
        match response {
            Err(error) => FetchedDocument::Failed(error.to_string()),
            Ok(response) if response.status == StatusCode::OK => FetchedDocument::Body(response.body),
            Ok(response) if response.status.is_redirection() => FetchedDocument::Missing(response.redirect_note(&address)),
            Ok(response) => {
                let status = response.status.as_u16();
                if status == 429 || status >= 500 {
                    FetchedDocument::Failed(format!("status {status}"))
                } else {
                    FetchedDocument::Missing(format!("status {status}"))
                }
            }
        }
    }

    /// The addresses that the configured server at `source` may name, by the connections made so far.
    pub(super) fn named_addresses(&self, source: &ExactUrl) -> AddressPolicy {
        let plain_http = source.url().scheme() == "http";
        AddressPolicy::for_upstream_at(&self.peers, plain_http, self.wanted.allow_addresses.clone())
    }

    /// The configured profile, else that of the MCP server's host, else that of `other`'s host.
    pub(super) fn profile(&self, other: &ExactUrl) -> &'static Profile {
        let by_host = |address: &ExactUrl| address.url().host_str().map_or(&quirks::STANDARD, quirks::for_host);
        let host_profile = || match by_host(&self.wanted.mcp) {
            standard if *standard == quirks::STANDARD => by_host(other),
            special => special,
        };
        self.wanted.profile.unwrap_or_else(host_profile)
    }

    pub(super) fn time_left(&self) -> Duration {
        DOCUMENT_TIMEOUT.min(self.until.saturating_duration_since(Instant::now()))
    }

    pub(super) fn note_step(&mut self, url: &str, outcome: String) {
        self.attempts.push(DiscoveryStep {
            url: url.split('?').next().unwrap_or("").to_owned(),
            outcome,
        });
    }
}
