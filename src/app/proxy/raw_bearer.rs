//! `token_mode = "raw"`, a deviation from MCP (MA-32, MA-56) for clients of the pass-through gateway: whatever bearer a
//! client presents goes upstream as it is. Nothing here can bind it to a service, ask it for scopes, or know that it ended.

use crate::app::proxy::authenticate::{AuthenticatedRequest, Caller};
use crate::app::proxy::forward::ProxyError;
use crate::base::secret::Secret;
use crate::service::Service;
use crate::token::header::PayloadKind;

/// Lets the bearer pass, in the header that the upstream takes.
pub(crate) fn raw_bearer(service: &Service, token: &str) -> Result<AuthenticatedRequest, ProxyError> {
    let ours = service.upstream.headers(PayloadKind::Access, &Secret::from(token));
    Ok(AuthenticatedRequest {
        caller: Caller::RawBearer,
        ours: ours.ok_or(ProxyError::BadToken("this service takes no token of the upstream's"))?,
    })
}
