//! Requests that an adapter sends for its caller.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};

use crate::app::api_keys::ADAPTERS;
use crate::app::proxy::Proxy;
use crate::app::proxy::caller::{AdapterCaller, AdapterFacts, AdapterKey, AuthenticatedRequest, Caller, CallerAddress};
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::forward::{CallerProof, ForwardedCaller};
use crate::app::proxy::send::PendingBody;
use crate::app::revocations::list::TokenStatus;
use crate::app::runtime_config::ActiveService;
use crate::base::secret::Secret;
use crate::mcp::tool::{PinStatus, ToolDefinition};
use crate::net::body::ResponseBody;
use crate::net::http_client::HttpClient;
use crate::service::Service;
use crate::service::tool_policy::PinRule;
use crate::token::header::{PayloadKind, ServiceDigest, TokenKind};
use crate::token::pair;

/// Who calls through an adapter.
#[derive(Clone, Debug)]
pub struct AdapterAccess {
    /// The holder of the adapter's key, for services that it opens. `None`: the request itself has a token.
    pub caller: Option<AdapterCaller>,
    /// The caller's address.
    pub address: CallerAddress,
    /// What the adapter knows about the call.
    pub facts: AdapterFacts,
}

impl Proxy {
    /// The caller with this API key, if it is one for the adapters, good, and known to the store.
    pub(in crate::app) async fn adapter_key_holder(&self, key: &str) -> Option<AdapterCaller> {
        self.wait_loaded().await.ok()?;
        let header = pair::open(&self.core.keys.load(), key).ok()?.half;
        let is_for_adapters = header.kind == TokenKind::Key && header.service == ServiceDigest::of(ADAPTERS);
        let is_good = header.expires > self.core.clock.now() && self.revocations.status(&header) == TokenStatus::Good;
        if !is_for_adapters || !is_good {
            return None;
        }
        if !self.known_keys.contains(header.grant) {
            self.known_keys.look_up(&self.core, header.grant).await.ok()?;
        }
        Some(AdapterCaller {
            key: AdapterKey::ApiKey {
                id: header.grant,
                expires: header.expires,
            },
            subject: header.subject,
        })
    }

    /// Says of each tool whether a person approved its definition, which says that the tool changes nothing.
    pub(in crate::app) async fn are_approved_read_only(&self, service: &Service, tools: &[ToolDefinition]) -> Vec<bool> {
        let has_pins = service.tools.as_ref().is_some_and(|policy| policy.pin != PinRule::Off);
        let pins = if has_pins {
            self.approvals.admin().pins(&service.name).await.unwrap_or_default()
        } else {
            None
        };
        let is_read_only = |tool: &ToolDefinition| {
            let status = pins.as_ref().map(|pins| pins.status(tool.name(), Some(&tool.digest())));
            status == Some(PinStatus::Pinned { is_read_only: true })
        };
        tools.iter().map(is_read_only).collect()
    }

    /// Sends a request of an adapter, as [`Proxy::forward`] does with a client's.
    ///
    /// # Errors
    /// If the caller is refused, or the upstream does not answer or refuses its credential.
    pub(in crate::app) async fn call(
        self: &Arc<Self>,
        http: &HttpClient,
        active: &Arc<ActiveService>,
        request: Request<Bytes>,
        access: AdapterAccess,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        self.wait_loaded().await?;
        // A request to an adapter can run many rounds of calls. Its key may have ended since it began.
        if let Some(caller) = &access.caller
            && !self.is_adapter_key_good(caller.key)
        {
            return Err(ProxyError::BadToken("the key of the adapter was revoked, replaced, or has expired"));
        }
        let authenticated = match access.caller.filter(|_| active.service.access.is_open_to_adapters()) {
            Some(caller) => {
                let credential = active.service.upstream.headers(PayloadKind::Nothing, &Secret::from(""));
                AuthenticatedRequest {
                    caller: Caller::Adapter(caller),
                    credential: credential.ok_or(ProxyError::CredentialRefused)?,
                }
            }
            None => self.authenticate(active, request.headers(), access.address)?,
        };
        let caller = ForwardedCaller {
            authenticated,
            address: access.address,
            facts: access.facts,
        };
        let proof = CallerProof::Authenticated(Box::new(caller));
        self.forward_request(http, active, request.map(PendingBody::Whole), proof).await
    }
}
