//! Issues and verifies tokens. This component reads and writes no record.

pub mod issue;
pub mod jwt;
pub mod user_assertion;
pub mod verify;

use std::sync::Arc;

use crate::app::core::Core;
use crate::app::signing_keys::SigningKeys;

/// Makes token pairs, JWTs and user assertions, and opens JWTs.
pub struct Tokens {
    core: Arc<Core>,
    signing_keys: Arc<SigningKeys>,
}

impl Tokens {
    pub(in crate::app) fn new(core: Arc<Core>, signing_keys: Arc<SigningKeys>) -> Self {
        Self { core, signing_keys }
    }
}
