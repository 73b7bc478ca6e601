//! The upstream's authorization server, and our registration there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::discovery::Discovery;
use crate::app::error::{Rejection, SetupFault};
use crate::app::runtime_config::ActiveService;
use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::base::url::ExactUrl;
use crate::net::http_client::HttpClient;
use crate::service::auth_server_config::RegistrationMethod;
use crate::service::{Service, Upstream};
use crate::store::{Handle, InsertError};
use crate::upstream::auth_server::{AuthServer, ClientProof, TokenEndpointAuth, UpstreamClientCredentials};
use crate::upstream::discovery::discover;
use crate::upstream::discovery_result::{DiscoveredServer, DiscoveryFailure};
use crate::upstream::registration::{OwnClientMetadata, UpstreamRegistration, UpstreamRegistrationError, client_document, register};

/// The gateway's name on the consent pages of upstreams.
const CLIENT_NAME: &str = "MCP OAuth Gateway";

/// Our registration at an upstream (RFC 7591), stored so that it outlives a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnRegistration {
    registration: UpstreamRegistration,
}

/// The record of [`OwnRegistration`].
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum UpstreamClientRecord {
    /// The gateway's registration at the upstream.
    #[serde(rename = "Kept")]
    OwnRegistration(OwnRegistration),
}

states!(UpstreamClientRecord: OwnRegistration);

impl Record for UpstreamClientRecord {
    const KIND: &'static str = "upstream-client";

    fn expires_at(&self) -> UnixTime {
        match self {
            Self::OwnRegistration(record) => record.registration.expires.unwrap_or(UnixTime::NEVER),
        }
    }
}

impl Discovery {
    /// The upstream's authorization server and our credentials there, from the cache or by discovery.
    ///
    /// # Errors
    /// If discovery or registration fails, or failed a moment ago, or the store fails.
    pub(in crate::app) async fn auth_server(&self, http: &HttpClient, active: &ActiveService) -> Result<Arc<AuthServer>, Rejection> {
        let (cache, clock) = (&active.discovery.server, &self.core.clock);
        if let Some(server) = cache.fresh(clock.now()) {
            return Ok(server);
        }
        // One at a time, so that the gateway does not register twice.
        let _permit = cache.turn().await;
        if let Some(server) = cache.fresh(clock.now()) {
            return Ok(server);
        }
        // Only a failure of the upstream is repeated: the store may work again.
        if let Some(error @ (Rejection::UpstreamDown { .. } | Rejection::UpstreamSetup { .. })) = cache.recent_failure(clock.now()) {
            return Err(error);
        }
        // Boxed: a rare case must not enlarge the future of each refresh.
        let result = Box::pin(self.discover(http, active)).await;
        cache.store_result(&active.service.name, result, clock.now())
    }

    /// Looks the upstream up where a result is useful and not needed. After a failure it waits, so that
    /// new flows do not cause a request each. If the upstream refused a token since the last lookup, it may
    /// name another authorization server now, so a sign-in looks again before the user consents.
    pub(in crate::app) async fn discover_if_due(&self, http: &HttpClient, active: &ActiveService) {
        if active.has_upstream_leg() && active.discovery.take_refused_token() {
            active.discovery.server.expire();
        }
        if active.has_upstream_leg() && active.discovery.server.is_lookup_due(self.core.clock.now()) {
            // A failure is logged, and approving reports it.
            let _ = self.auth_server(http, active).await;
        }
    }

    /// Looks again after the upstream refused a token that no refresh renews.
    ///
    /// # Errors
    /// If the upstream names another authorization server than `issuer`: only a new sign-in helps.
    pub(in crate::app) async fn check_issuer_after_refusal(&self, active: &ActiveService, issuer: Option<&str>) -> Result<(), Rejection> {
        if !active.discovery.take_refused_token() {
            return Ok(());
        }
        active.discovery.server.expire();
        match self.auth_server(self.core.tasks.http(), active).await {
            Ok(server) if issuer.is_some_and(|issuer| issuer != server.issuer) => Err(Rejection::Unknown(
                "the upstream has moved to another authorization server; sign in again",
            )),
            // What the lookup says of anything else, the next sign-in reports.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn discover(&self, http: &HttpClient, active: &ActiveService) -> Result<AuthServer, Rejection> {
        let service = &active.service;
        let config = active
            .auth_server_config()
            .ok_or(Rejection::Unknown("this service has no authorization server of its own"))?;
        let discovered = discover(http, &config.discovery_input(&service.mcp, service.upstream.discovery_purpose())).await.map_err(|error| {
            let attempts: Vec<String> = error.attempts.iter().map(ToString::to_string).collect();
            tracing::error!(service = service.name, why = %error, tried = attempts.join("; "), "the upstream's authorization server was not found");
            let why = error.to_string();
            match error.reason {
                DiscoveryFailure::Unreachable(_) => Rejection::UpstreamDown { why, retry_after: 10 },
                DiscoveryFailure::Moved(_) | DiscoveryFailure::Document(_) | DiscoveryFailure::NoMetadata => {
                    SetupFault::NotFound.because(why)
                }
            }
        })?;
        for attempt in &discovered.attempts {
            tracing::debug!(%attempt, "discovery");
        }
        // A configured client is known at endpoints that the operator knows too.
        if discovered.has_default_endpoints() && config.client_id.is_some() {
            return Err(no_metadata(&service.name));
        }
        let previous = self.bind_issuer(service, config, &discovered.server.issuer).await?;
        active.discovery.note_previous_issuer(previous);
        let credentials = match &config.client_id {
            Some(id) => UpstreamClientCredentials {
                id: id.clone(),
                proof: config.client_proof(),
            },
            None if active.has_service_token() => UpstreamClientCredentials {
                id: String::new(),
                proof: ClientProof::Grant,
            },
            None if config.registration == RegistrationMethod::Document && discovered.server.client_documents => {
                UpstreamClientCredentials {
                    id: self.core.urls.client_document(service),
                    proof: ClientProof::Secret {
                        secret: None,
                        method: Some(TokenEndpointAuth::None),
                    },
                }
            }
            None => self.find_or_register(http, active, &discovered).await?.credentials(),
        };
        Ok(AuthServer {
            extra_authorize: config.extra_authorize.clone(),
            ..discovered.target(&credentials)
        })
    }

    /// Our stored registration at the upstream, or a new one (RFC 7591).
    async fn find_or_register(
        &self,
        http: &HttpClient,
        active: &ActiveService,
        discovered: &DiscoveredServer,
    ) -> Result<UpstreamRegistration, Rejection> {
        let service = &active.service;
        let (store, handle) = (&self.core.store, self.registration_handle(service, &discovered.server.issuer));
        if let Some(UpstreamClientRecord::OwnRegistration(record)) = store.read(&handle).await? {
            if record.registration.is_valid(self.core.clock.now()) {
                return Ok(record.registration);
            }
            store.remove(&handle).await?;
        }
        let callback = ExactUrl::parse(&self.core.urls.upstream_callback(service))
            .map_err(|error| registration_error(&UpstreamRegistrationError::NoAnswer(error.to_string())))?;
        let config = active.auth_server_config();
        let metadata = OwnClientMetadata {
            name: CLIENT_NAME,
            redirect_uri: &callback,
            scope: &registration_scope(service, config.and_then(|config| config.registration_scope.as_deref()), discovered),
            auth_method: config.and_then(|config| config.token_auth),
            device_flow: discovered.server.device_authorization_endpoint.is_some() && matches!(service.upstream, Upstream::Stored(_)),
        };
        let registration = register(http, &discovered.server, &metadata, &discovered.addresses)
            .await
            .map_err(|error| {
                // The default endpoints were a guess, and there is none.
                let is_wrong_guess = discovered.has_default_endpoints() && matches!(error, UpstreamRegistrationError::Closed(_));
                if is_wrong_guess {
                    no_metadata(&service.name)
                } else {
                    registration_error(&error)
                }
            })?;
        tracing::info!(client_id = registration.client_id, "registered at the upstream");
        let record = OwnRegistration {
            registration: registration.clone(),
        };
        match store.insert(handle.id(), record).await {
            Ok(_) => Ok(registration),
            // Another instance was first. Its registration is used.
            Err(InsertError::AlreadyExists) => match store.read(&handle).await? {
                Some(UpstreamClientRecord::OwnRegistration(record)) => Ok(record.registration),
                None => Ok(registration),
            },
            Err(InsertError::Store(error)) => Err(error.into()),
        }
    }

    /// The gateway's client metadata document for the upstream of a service. `None`: the gateway registers
    /// there, or is configured.
    pub fn client_document(&self, active: &ActiveService) -> Option<Value> {
        let config = active.auth_server_config()?;
        if config.registration != RegistrationMethod::Document {
            return None;
        }
        let service = &active.service;
        let callback = ExactUrl::parse(&self.core.urls.upstream_callback(service)).ok()?;
        let metadata = OwnClientMetadata {
            name: CLIENT_NAME,
            redirect_uri: &callback,
            scope: "",
            auth_method: Some(TokenEndpointAuth::None),
            device_flow: false,
        };
        Some(client_document(&self.core.urls.client_document(service), &metadata))
    }

    fn registration_handle(&self, service: &Service, issuer: &str) -> Handle<UpstreamClientRecord> {
        let callback = self.core.urls.upstream_callback(service);
        Handle::new(Id(Digest::new(&format!("{issuer}\n{callback}")).truncated()))
    }

    /// Notes that the upstream refused our client id. If it goes on doing so, the registration is
    /// removed, and the next lookup registers again. A configured client id is never given up.
    pub(super) async fn note_unknown_client(&self, active: &ActiveService, server: &AuthServer) {
        if !active.discovery.note_unknown_client(self.core.clock.now()) {
            return;
        }
        if active.auth_server_config().is_some_and(|config| config.client_id.is_some()) {
            return;
        }
        let _ = self
            .core
            .store
            .remove(&self.registration_handle(&active.service, &server.issuer))
            .await;
        active.discovery.server.clear();
    }
}

/// The scopes that the gateway may request later: the configured ones, or those that the upstream names.
fn registration_scope(service: &Service, configured: Option<&str>, discovered: &DiscoveredServer) -> String {
    let of_service = service.scopes.union(&service.optional_scopes);
    match configured {
        Some(scope) => scope.to_owned(),
        None if service.scopes.is_empty() => discovered.scopes_known.join(" "),
        None => of_service.to_string(),
    }
}

fn no_metadata(service: &str) -> Rejection {
    let why = DiscoveryFailure::NoMetadata.to_string();
    tracing::error!(service, why, "the upstream's authorization server was not found");
    SetupFault::NotFound.because(why)
}

fn registration_error(error: &UpstreamRegistrationError) -> Rejection {
    let why = error.to_string();
    tracing::error!(why, "registering at the upstream failed");
    match error {
        UpstreamRegistrationError::NotOffered => SetupFault::NoClientId.because(why),
        UpstreamRegistrationError::Refused(_) | UpstreamRegistrationError::Closed(_) => SetupFault::RegistrationRefused.because(why),
        UpstreamRegistrationError::NoAnswer(_) => Rejection::UpstreamDown { why, retry_after: 10 },
    }
}
