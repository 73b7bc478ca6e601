//! `token_mode = "raw"`, a deviation from MCP (2026-07-28, "Token Passthrough") for clients of a
//! pass-through gateway: the client's bearer is forwarded as it is. The gateway cannot bind it to a
//! service, require scopes of it, or know that it has ended.

use crate::app::proxy::caller::{AuthenticatedRequest, Caller};
use crate::app::proxy::error::ProxyError;
use crate::base::secret::Secret;
use crate::service::Service;
use crate::token::header::PayloadKind;

/// Forwards the bearer, in the header that the upstream takes.
pub(super) fn raw_bearer(service: &Service, token: &str) -> Result<AuthenticatedRequest, ProxyError> {
    let credential = service.upstream.headers(PayloadKind::Access, &Secret::from(token));
    Ok(AuthenticatedRequest {
        caller: Caller::RawBearer,
        credential: credential.ok_or(ProxyError::BadToken("this service takes no token of the upstream's"))?,
    })
}
