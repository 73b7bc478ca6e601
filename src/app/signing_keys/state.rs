//! The keys that sign here: one sealed record that all instances share, and what was read of it. Made only once a service
//! needs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use serde_json::{Value, json};

use crate::app::Gateway;
use crate::base::ids::{Digest, Id};
use crate::base::signing_key::{self, SigningKey};
use crate::base::time::UnixTime;
use crate::oauth::jwk::Jwk;
use crate::store::{Change, Handle, InsertError, StoreError, TransitionError};
use crate::token::signing_keys::{RotationNotDue, SigningKeys, SigningRecord};

/// What this process knows of the keys.
#[derive(Debug, Default)]
pub struct SigningState {
    ready: ArcSwapOption<LoadedKeys>,
    keeping: AtomicBool,
}

/// All keys, ready to be used.
#[derive(Debug)]
pub(crate) struct LoadedKeys {
    keys: SigningKeys,
    parsed: Vec<(SigningKey, Jwk)>,
}

impl LoadedKeys {
    /// `None`: one of them is no key.
    fn new(keys: SigningKeys) -> Option<Self> {
        let parsed = keys.all().iter().map(|kept| {
            let key = SigningKey::parse(&kept.key).ok()?;
            let public = Jwk::es256(&key.id().to_string(), key.public_point())?;
            Some((key, public))
        });
        let parsed = parsed.collect::<Option<_>>()?;
        Some(Self { keys, parsed })
    }

    /// A token of this kind with these claims, signed by the key whose turn it is; `None`: nothing can be signed.
    pub(crate) fn sign(&self, kind: &str, claims: &Value, now: UnixTime) -> Option<String> {
        let (key, _) = &self.parsed[self.keys.signing_index(now)];
        key.sign(kind, claims)
    }

    /// The key that a token names. One that names none is not ours.
    pub(crate) fn find(&self, name: Option<&str>) -> Option<&Jwk> {
        let id = Id::parse(name?)?;
        self.parsed.iter().find(|(key, _)| key.id() == id).map(|(_, public)| public)
    }

    fn jwks(&self, now: UnixTime, longest: u64) -> Value {
        let published: Vec<_> = self.keys.published_keys(now, longest).collect();
        let told = self
            .keys
            .all()
            .iter()
            .zip(&self.parsed)
            .filter(|(kept, _)| published.contains(kept));
        let keys: Vec<Value> = told.filter_map(|(_, (_, public))| public.to_public_jwk()).collect();
        json!({ "keys": keys })
    }
}

/// Where the one record lies.
fn record_id() -> Id {
    Id(Digest::new("the keys that sign").truncated())
}

impl Gateway {
    /// The keys, once they are read. A new one is made behind whoever asks, when it is time.
    pub(crate) fn keys_or_rotate(&self) -> Option<Arc<LoadedKeys>> {
        let ready = self.signing.ready.load_full();
        if ready.as_ref().is_none_or(|ready| ready.keys.is_rotation_due(self.clock.now())) {
            self.load_or_rotate_in_background();
        }
        ready
    }

    /// The public keys (RFC 7517), for whoever verifies what we sign; `None`: there are none, or not yet.
    pub fn published_keys(&self) -> Option<Value> {
        let live = self.live();
        if !live.needs_signing_keys() {
            return None;
        }
        Some(self.keys_or_rotate()?.jwks(self.clock.now(), live.longest_access()))
    }

    /// Whether what must be signed can be.
    pub(crate) fn can_sign(&self) -> bool {
        !self.live().needs_signing_keys() || self.signing.ready.load().is_some()
    }

    /// Reads the keys; makes the first one, or the next one when it is time. Several instances agree by the record: the
    /// first to write it has made the key, and the others read it.
    pub(crate) async fn load_or_rotate(&self) -> Result<(), StoreError> {
        let live = self.live();
        if !live.needs_signing_keys() {
            return Ok(());
        }
        let (now, longest) = (self.clock.now(), live.longest_access());
        let handle = Handle::<SigningRecord>::new(record_id());
        match self.store.read(&handle).await? {
            None => match self.store.insert(record_id(), SigningKeys::new(signing_key::generate(), now)).await {
                Ok(_) => tracing::info!("a key was made to sign with"),
                Err(InsertError::AlreadyExists) => {}
                Err(InsertError::Store(error)) => return Err(error),
            },
            Some(SigningRecord::SigningKeys(keys)) if keys.is_rotation_due(now) => {
                let new = signing_key::generate();
                let step = |keys: SigningKeys| keys.rotated(new.clone(), now, longest).map(|keys| (keys, ()));
                match self.store.transition(&handle, step).await {
                    Ok(_) => tracing::info!("a new key was made to sign with; it is published now and used in an hour"),
                    Err(TransitionError::Rejected(RotationNotDue) | TransitionError::NotFound | TransitionError::WrongState) => {}
                    Err(TransitionError::Store(error)) => return Err(error),
                }
            }
            Some(SigningRecord::SigningKeys(_)) => {}
        }
        let Some(SigningRecord::SigningKeys(keys)) = self.store.read(&handle).await? else {
            return Ok(());
        };
        if let Some(ready) = LoadedKeys::new(keys) {
            self.signing.ready.store(Some(Arc::new(ready)));
        } else {
            tracing::error!("the keys that sign cannot be used");
        }
        Ok(())
    }

    /// The same, behind whatever goes on, and once at a time.
    pub(crate) fn load_or_rotate_in_background(&self) {
        if self.signing.keeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (gateway, work) = (self.clone(), self.inflight.lock(Id::random()));
        self.back.spawn(async move {
            let _work = work;
            let kept = gateway.load_or_rotate().await;
            gateway.signing.keeping.store(false, Ordering::Release);
            if let Err(why) = kept {
                tracing::warn!(%why, "the keys that sign could not be read");
            }
        });
    }

    /// Another instance may have made a key.
    pub(crate) fn apply_signing_change(&self, change: &Change) {
        if change.of::<SigningRecord>().is_some() || *change == Change::Gap {
            self.load_or_rotate_in_background();
        }
    }
}
