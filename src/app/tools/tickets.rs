//! Sealed texts that come back from a client, and count once.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quick_cache::sync::Cache;

use crate::app::core::Core;
use crate::base::ids::Id;
use crate::base::random;
use crate::base::seal::{self, Label};

const LABEL: Label = Label("adapter-ticket");
/// The most used tickets that are remembered.
const MAX_USED: usize = 100_000;

/// Seals and opens tickets.
pub struct Tickets {
    core: Arc<Core>,
    /// The nonces of used tickets.
    used: Cache<String, ()>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl Tickets {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            used: Cache::new(MAX_USED),
        }
    }

    /// The time, in Unix seconds.
    pub fn now(&self) -> u64 {
        self.core.clock.now().0
    }

    /// A text that no other ticket has.
    pub fn nonce(&self) -> String {
        Id::random().to_string()
    }

    /// Seals a text.
    pub fn seal(&self, text: &str) -> String {
        let keys = self.core.keys.load();
        let key = keys.sealing_key(self.core.clock.now());
        URL_SAFE_NO_PAD.encode(seal::seal_message(key, LABEL, random::salt_and_nonce(), b"", text.as_bytes()))
    }

    /// Opens a sealed text. `None` if it is not of this gateway, or its key is gone.
    pub fn open(&self, sealed: &str) -> Option<String> {
        let message = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let plaintext = seal::open_message(&self.core.keys.load(), LABEL, b"", &message).ok()?;
        String::from_utf8(plaintext.to_vec()).ok()
    }

    /// Marks a ticket as used. Returns false if it was used before.
    pub fn use_once(&self, nonce: &str) -> bool {
        let mut is_first = false;
        let _used = self.used.get_or_insert_with(nonce, || {
            is_first = true;
            Ok::<_, std::convert::Infallible>(())
        });
        is_first
    }
}
