//! The keys that sign here: one sealed record that all instances share, and what was read of it. Made only once a service
//! needs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use serde_json::{Value, json};

use crate::base::ids::{Digest, Id};
use crate::base::signing::{self, SigningKey};
use crate::base::time::UnixTime;
use crate::gateway::Gateway;
use crate::oauth::jwk::Jwk;
use crate::store::{Change, Handle, Missed, NotInserted, StoreError};
use crate::token::signing::{NotDue, SigningKeys, SigningRecord};

/// What this process knows of the keys.
#[derive(Debug, Default)]
pub struct Signing {
    ready: ArcSwapOption<Ready>,
    keeping: AtomicBool,
}

/// All keys, ready to be used.
#[derive(Debug)]
pub(crate) struct Ready {
    keys: SigningKeys,
    parsed: Vec<(SigningKey, Jwk)>,
}

impl Ready {
    /// `None`: one of them is no key.
    fn new(keys: SigningKeys) -> Option<Self> {
        let parsed = keys.all().iter().map(|kept| {
            let key = SigningKey::parse(&kept.key).ok()?;
            let public = Jwk::es256(&key.id().to_string(), key.point())?;
            Some((key, public))
        });
        let parsed = parsed.collect::<Option<_>>()?;
        Some(Self { keys, parsed })
    }

    /// A token of this kind with these claims, signed by the key whose turn it is; `None`: nothing can be signed.
    pub(crate) fn signed(&self, kind: &str, claims: &Value, now: UnixTime) -> Option<String> {
        let (key, _) = &self.parsed[self.keys.signing(now)];
        key.signed(kind, claims)
    }

    /// The key that a token names. One that names none is not ours.
    pub(crate) fn named(&self, name: Option<&str>) -> Option<&Jwk> {
        let id = Id::parse(name?)?;
        self.parsed.iter().find(|(key, _)| key.id() == id).map(|(_, public)| public)
    }

    fn document(&self, now: UnixTime, longest: u64) -> Value {
        let published: Vec<_> = self.keys.published(now, longest).collect();
        let told = self
            .keys
            .all()
            .iter()
            .zip(&self.parsed)
            .filter(|(kept, _)| published.contains(kept));
        let keys: Vec<Value> = told.filter_map(|(_, (_, public))| public.published()).collect();
        json!({ "keys": keys })
    }
}

/// Where the one record lies.
fn place() -> Id {
    Id(Digest::of("the keys that sign").short())
}

impl Gateway {
    /// The keys, once they are read. A new one is made behind whoever asks, when it is time.
    pub(crate) fn signing(&self) -> Option<Arc<Ready>> {
        let ready = self.signing.ready.load_full();
        if ready.as_ref().is_none_or(|ready| ready.keys.is_due(self.clock.now())) {
            self.keep_signing_soon();
        }
        ready
    }

    /// The public keys (RFC 7517), for whoever verifies what we sign; `None`: there are none, or not yet.
    pub fn published_keys(&self) -> Option<Value> {
        let live = self.live();
        if !live.signs() {
            return None;
        }
        Some(self.signing()?.document(self.clock.now(), live.longest_access()))
    }

    /// Whether what must be signed can be.
    pub(crate) fn can_sign(&self) -> bool {
        !self.live().signs() || self.signing.ready.load().is_some()
    }

    /// Reads the keys; makes the first one, or the next one when it is time. Several instances agree by the record: the
    /// first to write it has made the key, and the others read it.
    pub(crate) async fn keep_signing(&self) -> Result<(), StoreError> {
        let live = self.live();
        if !live.signs() {
            return Ok(());
        }
        let (now, longest) = (self.clock.now(), live.longest_access());
        let handle = Handle::<SigningRecord>::of(place());
        match self.store.read(&handle).await? {
            None => match self.store.insert(place(), SigningKeys::first(signing::made(), now)).await {
                Ok(_) => tracing::info!("a key was made to sign with"),
                Err(NotInserted::AlreadyThere) => {}
                Err(NotInserted::Store(error)) => return Err(error),
            },
            Some(SigningRecord::SigningKeys(keys)) if keys.is_due(now) => {
                let new = signing::made();
                let step = |keys: SigningKeys| keys.rotated(new.clone(), now, longest).map(|keys| (keys, ()));
                match self.store.transition(&handle, step).await {
                    Ok(_) => tracing::info!("a new key was made to sign with; it is published now and used in an hour"),
                    Err(Missed::Rejected(NotDue) | Missed::Absent | Missed::OtherState) => {}
                    Err(Missed::Store(error)) => return Err(error),
                }
            }
            Some(SigningRecord::SigningKeys(_)) => {}
        }
        let Some(SigningRecord::SigningKeys(keys)) = self.store.read(&handle).await? else {
            return Ok(());
        };
        if let Some(ready) = Ready::new(keys) {
            self.signing.ready.store(Some(Arc::new(ready)));
        } else {
            tracing::error!("the keys that sign cannot be used");
        }
        Ok(())
    }

    /// The same, behind whatever goes on, and once at a time.
    pub(crate) fn keep_signing_soon(&self) {
        if self.signing.keeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (gateway, work) = (self.clone(), self.inflight.begin(Id::fresh()));
        self.back.spawn(async move {
            let _work = work;
            let kept = gateway.keep_signing().await;
            gateway.signing.keeping.store(false, Ordering::Release);
            if let Err(why) = kept {
                tracing::warn!(%why, "the keys that sign could not be read");
            }
        });
    }

    /// Another instance may have made a key.
    pub(crate) fn learn_signing(&self, change: &Change) {
        if change.of::<SigningRecord>().is_some() || *change == Change::Gap {
            self.keep_signing_soon();
        }
    }
}
