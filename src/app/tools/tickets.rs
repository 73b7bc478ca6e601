//! Sealed texts that come back from a client, and count once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::app::core::Core;
use crate::base::ids::Id;
use crate::base::random;
use crate::base::seal::{self, Label};

const LABEL: Label = Label("adapter-ticket");
/// The most used tickets that are remembered. Beyond that, no ticket counts until earlier ones have ended.
const MAX_USED: usize = 100_000;

/// Seals and opens tickets.
pub struct Tickets {
    core: Arc<Core>,
    /// Tickets of another process are not opened: it knew which ones were used.
    process: Id,
    /// The nonces of used tickets, and when the tickets end.
    used: Mutex<HashMap<String, u64>>,
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
            process: Id::random(),
            used: Mutex::default(),
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
        URL_SAFE_NO_PAD.encode(seal::seal_message(
            key,
            LABEL,
            random::salt_and_nonce(),
            &self.process.0,
            text.as_bytes(),
        ))
    }

    /// Opens a sealed text. `None` if it is not of this process, or its key is gone.
    pub fn open(&self, sealed: &str) -> Option<String> {
        let message = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let plaintext = seal::open_message(&self.core.keys.load(), LABEL, &self.process.0, &message).ok()?;
        String::from_utf8(plaintext.to_vec()).ok()
    }

    /// Marks a ticket as used, which ends at `expires`. Returns false if it was used before.
    pub fn use_once(&self, nonce: &str, expires: u64) -> bool {
        let now = self.now();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= MAX_USED {
            used.retain(|_, end| *end > now);
        }
        let has_room = used.len() < MAX_USED;
        has_room && used.insert(nonce.to_owned(), expires).is_none()
    }
}
