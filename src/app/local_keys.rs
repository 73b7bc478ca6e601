//! The local key and the adapter key of this machine, as digests. Where there is no key, none is accepted.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::base::ids::{Digest, Id};
use crate::base::secret::Secret;
use crate::token::local_key::LocalKeyKind;

/// A key that a caller presented, and which is the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalKeyId(pub Id);

#[derive(Debug)]
struct AcceptedKey {
    digest: Digest,
    id: LocalKeyId,
}

/// The keys that are accepted now.
#[derive(Debug, Default)]
pub struct LocalKeys {
    local: ArcSwapOption<AcceptedKey>,
    adapter: ArcSwapOption<AcceptedKey>,
}

impl LocalKeys {
    fn slot(&self, kind: LocalKeyKind) -> &ArcSwapOption<AcceptedKey> {
        match kind {
            LocalKeyKind::Local => &self.local,
            LocalKeyKind::Adapter => &self.adapter,
        }
    }

    /// Accepts this key from now on, and no other one of its kind. Returns the id of the key before, if
    /// it is another one.
    pub(in crate::app) fn replace(&self, kind: LocalKeyKind, key: Option<&Secret>) -> Option<LocalKeyId> {
        let accepted = key.map(|key| {
            let digest = Digest::new(key.expose());
            let id = LocalKeyId(Id(digest.truncated()));
            Arc::new(AcceptedKey { digest, id })
        });
        let id = accepted.as_ref().map(|key| key.id);
        let before = self.slot(kind).swap(accepted)?.id;
        (Some(before) != id).then_some(before)
    }

    /// Whether the key with this id is still the current one of its kind.
    pub fn is_current(&self, kind: LocalKeyKind, id: LocalKeyId) -> bool {
        self.slot(kind).load().as_ref().is_some_and(|key| key.id == id)
    }

    /// The id of the key, if it is the current one of its kind. Compares in constant time.
    pub fn identify(&self, kind: LocalKeyKind, presented: &str) -> Option<LocalKeyId> {
        let accepted = self.slot(kind).load();
        accepted.as_ref().filter(|key| key.digest.matches(presented)).map(|key| key.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_current_key_of_its_kind_is_accepted() {
        let keys = LocalKeys::default();
        let (one, other) = (LocalKeyKind::Local.encode(&[1; 32]), LocalKeyKind::Local.encode(&[2; 32]));
        assert_eq!(keys.identify(LocalKeyKind::Local, ""), None);
        assert_eq!(keys.replace(LocalKeyKind::Local, Some(&one)), None);
        let id = keys.identify(LocalKeyKind::Local, one.expose());
        assert!(id.is_some() && keys.identify(LocalKeyKind::Adapter, one.expose()).is_none());
        let is_current = |id: Option<LocalKeyId>| id.is_some_and(|id| keys.is_current(LocalKeyKind::Local, id));
        assert!(is_current(id) && !keys.is_current(LocalKeyKind::Adapter, id.unwrap()));
        assert_eq!(keys.replace(LocalKeyKind::Local, Some(&one)), None);
        assert_eq!(keys.replace(LocalKeyKind::Local, Some(&other)), id);
        assert_eq!(keys.identify(LocalKeyKind::Local, one.expose()), None);
        assert!(!is_current(id));
        keys.replace(LocalKeyKind::Local, None);
        assert_eq!(keys.identify(LocalKeyKind::Local, other.expose()), None);
    }
}
