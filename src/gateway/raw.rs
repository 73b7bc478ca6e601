//! `token_mode = "raw"`, a deviation from MCP (MA-32, MA-56) for clients of the pass-through gateway: whatever bearer a
//! client presents goes upstream as it is. Nothing here can bind it to a service, ask it for scopes, or know that it ended.

use crate::base::secret::Secret;
use crate::gateway::admit::{Admitted, Caller};
use crate::gateway::proxy::Denied;
use crate::service::Service;
use crate::token::half::Carried;

/// Lets the bearer pass, in the header that the upstream takes.
pub(super) fn admitted(service: &Service, token: &str) -> Result<Admitted, Denied> {
    let ours = service.upstream.headers(Carried::Access, &Secret::from(token));
    Ok(Admitted {
        caller: Caller::Stranger,
        ours: ours.ok_or(Denied::BadToken("this service takes no token of the upstream's"))?,
    })
}
