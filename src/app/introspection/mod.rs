//! Introspection (RFC 7662) and user data for resource servers that the gateway does not proxy.

pub mod introspect;
pub mod user_info;
mod verify;

use std::sync::Arc;

use crate::app::access_keys::AccessKeys;
use crate::app::core::Core;
use crate::app::grants::Grants;
use crate::app::rate_limit::AnonymousLimit;
use crate::app::revocations::Revocations;
use crate::app::signing_keys::SigningKeys;
use crate::app::tokens::Tokens;

/// Answers resource servers about tokens and their users.
pub struct Introspection {
    core: Arc<Core>,
    signing_keys: Arc<SigningKeys>,
    revocations: Arc<Revocations>,
    tokens: Arc<Tokens>,
    grants: Arc<Grants>,
    keys: AccessKeys,
    /// Limits the sources that present wrong keys.
    wrong_keys: AnonymousLimit,
}

impl Introspection {
    pub(in crate::app) fn new(
        core: &Arc<Core>,
        signing_keys: &Arc<SigningKeys>,
        revocations: &Arc<Revocations>,
        tokens: &Arc<Tokens>,
        grants: &Arc<Grants>,
    ) -> Self {
        let keys = AccessKeys::new(core.store.clone(), core.clock.clone());
        Self {
            core: Arc::clone(core),
            signing_keys: Arc::clone(signing_keys),
            revocations: Arc::clone(revocations),
            tokens: Arc::clone(tokens),
            grants: Arc::clone(grants),
            keys,
            wrong_keys: AnonymousLimit::default(),
        }
    }

    /// Removes sources that sent no wrong key lately.
    pub(in crate::app) fn sweep(&self) {
        self.wrong_keys.sweep();
    }
}
