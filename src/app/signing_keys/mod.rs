//! The keys that sign JWTs: one sealed record that all instances share. It is created once a service
//! needs it.

pub mod state;

use std::sync::Arc;

use serde_json::Value;

use crate::app::core::Core;
use crate::app::signing_keys::state::{LoadedKeys, SigningState};
use crate::base::ids::{Digest, Id};
use crate::base::signing_key;
use crate::store::{Change, Handle, InsertError, StoreError, TransitionError};
use crate::token::signing_keys::{self as record, RotationNotDue, SigningRecord};

/// Loads, rotates and publishes the signing keys.
pub struct SigningKeys {
    core: Arc<Core>,
    state: SigningState,
}

impl SigningKeys {
    pub(in crate::app) fn new(core: Arc<Core>) -> Self {
        let state = SigningState::default();
        Self { core, state }
    }

    /// The keys, once they are read. If they are missing or due for rotation, this starts to load or
    /// rotate them in the background.
    pub(in crate::app) fn keys_or_rotate(self: &Arc<Self>) -> Option<Arc<LoadedKeys>> {
        let keys = self.state.loaded();
        if keys.as_ref().is_none_or(|keys| keys.is_rotation_due(self.core.clock.now())) {
            self.load_or_rotate_in_background();
        }
        keys
    }

    /// The public keys (RFC 7517) with which others verify tokens of this gateway; `None` if no
    /// service needs keys, or they are not loaded yet.
    pub fn public_keys(self: &Arc<Self>) -> Option<Value> {
        let config = self.core.config();
        if !config.needs_signing_keys() {
            return None;
        }
        Some(self.keys_or_rotate()?.jwks(self.core.clock.now(), config.max_access_ttl()))
    }

    /// Whether everything that needs a signature can get one.
    pub(in crate::app) fn can_sign(&self) -> bool {
        !self.core.config().needs_signing_keys() || self.state.loaded().is_some()
    }

    /// Reads the keys. Creates the first one, or the next one when it is due. Several instances agree
    /// by the record: the first to write it created the key, and the others read it.
    ///
    /// # Errors
    /// If the store fails.
    pub(in crate::app) async fn load_or_rotate(&self) -> Result<(), StoreError> {
        let config = self.core.config();
        if !config.needs_signing_keys() {
            return Ok(());
        }
        let (store, now, max_access_ttl) = (&self.core.store, self.core.clock.now(), config.max_access_ttl());
        let handle = Handle::<SigningRecord>::new(record_id());
        match store.read(&handle).await? {
            None => match store
                .insert(record_id(), record::SigningKeys::new(signing_key::generate(), now))
                .await
            {
                Ok(_) => tracing::info!("signing key created"),
                Err(InsertError::AlreadyExists) => {}
                Err(InsertError::Store(error)) => return Err(error),
            },
            Some(SigningRecord::SigningKeys(keys)) if keys.is_rotation_due(now) => {
                let new_key = signing_key::generate();
                let step = |keys: record::SigningKeys| keys.rotated(new_key.clone(), now, max_access_ttl).map(|keys| (keys, ()));
                match store.transition(&handle, step).await {
                    Ok(_) => tracing::info!("signing key rotated: it is published now and signs in an hour"),
                    Err(TransitionError::Rejected(RotationNotDue) | TransitionError::NotFound | TransitionError::WrongState) => {}
                    Err(TransitionError::Store(error)) => return Err(error),
                }
            }
            Some(SigningRecord::SigningKeys(_)) => {}
        }
        let Some(SigningRecord::SigningKeys(keys)) = store.read(&handle).await? else {
            return Ok(());
        };
        if let Some(loaded_keys) = LoadedKeys::new(keys) {
            self.state.replace(loaded_keys);
        } else {
            tracing::error!("the stored signing keys are not keys");
        }
        Ok(())
    }

    /// Does the same without a caller that waits, and once at a time.
    pub(in crate::app) fn load_or_rotate_in_background(self: &Arc<Self>) {
        if !self.state.start_loading() {
            return;
        }
        let this = Arc::clone(self);
        self.core.tasks.spawn(async move {
            let result = this.load_or_rotate().await;
            this.state.finish_loading();
            if let Err(error) = result {
                tracing::warn!(%error, "the signing keys could not be read");
            }
        });
    }

    /// Loads the keys again if another instance may have changed them.
    pub(in crate::app) fn apply_change(self: &Arc<Self>, change: &Change) {
        if change.of::<SigningRecord>().is_some() || *change == Change::Gap {
            self.load_or_rotate_in_background();
        }
    }
}

/// The id of the one record.
fn record_id() -> Id {
    Id(Digest::new("the keys that sign").truncated())
}
