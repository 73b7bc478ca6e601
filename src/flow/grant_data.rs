//! The data of a grant, which all its active states share, and its stored form.

use serde::{Deserialize, Serialize};

use crate::base::time::UnixTime;
use crate::flow::branches::{Branches, RefreshedBranch};
use crate::flow::credential::Credential;
use crate::flow::refresh_rules::RefreshRules;
use crate::flow::superseded::Superseded;
use crate::flow::user::User;
use crate::oauth::scope::Scopes;
use crate::oauth::token_response::UpstreamTokens;
use crate::token::lifetime::{self, Ttl};

/// The data of a grant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "StoredGrantData", into = "StoredGrantData")]
pub struct GrantData {
    /// The client's id.
    pub client_id: String,
    /// The service's name.
    pub service: String,
    /// The user.
    pub who: User,
    /// The granted scopes.
    pub scopes: Scopes,
    /// The issuer of the upstream's authorization server, byte by byte: the tokens go to no other.
    /// `None` if the user gave them here, or there are none.
    pub issuer: Option<String>,
    /// When the grant was created.
    pub granted_at: UnixTime,
    pub(super) generation: u32,
    /// Whether the client has used the current generation.
    pub(super) confirmed: bool,
    /// When earlier generations were superseded.
    pub(super) superseded: Superseded,
    /// The branches of the current generation, and the abandoned ones.
    pub(super) branches: Branches,
    /// Whether the client is native: it has a loopback or private-use redirect URI.
    pub(super) is_native_client: bool,
    pub(super) credential: Credential,
    /// When the latest access pair ends. A tombstone outlives it.
    pub(super) access_ends: UnixTime,
    /// When the upstream last answered 401 to a token that cannot be refreshed, and at which generation.
    pub(super) refused: Option<(UnixTime, u32)>,
    /// When the latest refresh pair ends.
    pub(super) refresh_ends: UnixTime,
}

/// The data of a new grant.
#[derive(Clone, Debug)]
pub struct NewGrant {
    /// The client's id.
    pub client_id: String,
    /// Whether the client is native: it has a loopback or private-use redirect URI.
    pub is_native_client: bool,
    /// The service's name.
    pub service: String,
    /// The user.
    pub who: User,
    /// The granted scopes.
    pub scopes: Scopes,
    /// The issuer of the upstream's authorization server; `None` if the user gave the tokens here, or
    /// there are none.
    pub issuer: Option<String>,
    /// The upstream's tokens; `None` if it takes no token of the user's.
    pub tokens: Option<UpstreamTokens>,
}

impl GrantData {
    /// The first generation of a new grant. It stores the upstream's answer, so that the tokens can be
    /// revoked if the code is replayed.
    pub fn new(grant: NewGrant, rules: RefreshRules, now: UnixTime) -> Self {
        Self {
            client_id: grant.client_id,
            service: grant.service,
            who: grant.who,
            scopes: grant.scopes,
            issuer: grant.issuer,
            granted_at: now,
            generation: 1,
            confirmed: false,
            superseded: Superseded::default(),
            branches: Branches::new(now),
            is_native_client: grant.is_native_client,
            credential: Credential::new(grant.tokens),
            access_ends: now,
            refused: None,
            refresh_ends: now,
        }
        .with_current_tokens(rules, now)
    }

    /// Its branches.
    pub fn branches(&self) -> &Branches {
        &self.branches
    }

    /// Whether the client is native, as its registration said last.
    pub fn is_native_client(&self) -> bool {
        self.is_native_client
    }

    /// The current generation.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The upstream credential.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// The upstream's latest answer, while it is stored.
    pub fn latest(&self) -> Option<&UpstreamTokens> {
        self.credential.latest()
    }

    /// Whether this answer of the upstream's is stored.
    pub fn has_answer(&self, tokens: &UpstreamTokens) -> bool {
        self.latest() == Some(tokens)
    }

    /// When the upstream's latest answer is no longer needed; `None` if it is still needed, or was removed.
    pub fn prune_at(&self, rules: RefreshRules) -> Option<UnixTime> {
        // The first generation supersedes none. In the first reuse window, a replayed code must still
        // revoke the upstream's tokens.
        let last_superseded_at = self.superseded.last_time().unwrap_or(self.granted_at);
        let is_confirmed_answer = self.latest().is_some() && self.confirmed && !self.credential.is_reference();
        is_confirmed_answer.then(|| last_superseded_at.plus_seconds(self.reuse_window(rules)))
    }

    /// When pairs that are issued now from the upstream's `tokens` end: access, refresh.
    pub fn pair_expiry(&self, tokens: Option<&UpstreamTokens>, ttl: Ttl, now: UnixTime) -> (UnixTime, UnixTime) {
        // The gateway renews stored tokens automatically if they have a refresh token.
        let tokens = tokens.filter(|tokens| !(self.credential.is_reference() && tokens.refresh.is_some()));
        // Without a refresh token, the refresh pair ends with the access token.
        let upstream_end = tokens.and_then(|tokens| {
            if tokens.refresh.is_some() {
                tokens.refresh_expires
            } else {
                tokens.expires
            }
        });
        (
            lifetime::access_ends(now, ttl.access, tokens.and_then(|tokens| tokens.expires)),
            lifetime::refresh_ends(now, ttl, self.granted_at, upstream_end),
        )
    }

    /// When the last generation was superseded; `None` if none was, or if it is not known.
    pub fn last_refreshed(&self) -> Option<UnixTime> {
        self.superseded.last_time().filter(|time| *time != UnixTime::default())
    }

    /// When the latest refresh pair ends.
    pub fn refresh_ends(&self) -> UnixTime {
        self.refresh_ends
    }

    /// The granted scopes when the upstream issues `tokens`: what it says with them is newer than what
    /// the grant began with (RFC 6749 §6).
    pub fn scopes_with(&self, tokens: Option<&UpstreamTokens>) -> Scopes {
        let granted_scope = tokens.and_then(|tokens| tokens.scope.as_deref());
        granted_scope.map_or_else(|| self.scopes.clone(), |granted_scope| self.scopes.granted_to_client(granted_scope))
    }

    /// Whether pairs of `tokens` refer to them.
    pub(super) fn needs_reference(&self, tokens: &UpstreamTokens, rules: RefreshRules) -> bool {
        let text_bytes = self.who.subject.len() + self.scopes_with(Some(tokens)).to_string().len();
        let refresh_bytes = tokens.refresh.as_ref().map_or(0, |token| token.expose().len());
        rules.needs_reference(text_bytes, tokens.access.expose().len(), refresh_bytes)
    }

    /// Decides whether pairs of the latest answer refer to it, and notes when they end.
    #[must_use]
    pub(super) fn with_current_tokens(mut self, rules: RefreshRules, now: UnixTime) -> Self {
        if let Some(tokens) = self.latest().cloned() {
            let is_reference = self.needs_reference(&tokens, rules);
            self.replace_credential(|credential| credential.with_tokens(tokens, is_reference));
        }
        let (access_ends, refresh_ends) = self.pair_expiry(self.latest(), rules.ttl, now);
        self.with_expiry(access_ends, refresh_ends)
    }

    /// Notes when pairs of this grant end, so that the record and its tombstone outlive them.
    #[must_use]
    pub(super) fn with_expiry(mut self, access_ends: UnixTime, refresh_ends: UnixTime) -> Self {
        self.access_ends = self.access_ends.max(access_ends);
        self.refresh_ends = refresh_ends;
        self
    }

    /// Replaces the credential by the result of `change`.
    pub(super) fn replace_credential(&mut self, change: impl FnOnce(Credential) -> Credential) {
        let credential = std::mem::replace(&mut self.credential, Credential::None);
        self.credential = change(credential);
    }

    /// The time for which a superseded refresh token of this grant is accepted, in seconds.
    pub(super) fn reuse_window(&self, rules: RefreshRules) -> u64 {
        rules.reuse_window.seconds(self.is_native_client)
    }

    /// Starts the next generation, refreshed from the branch `parent`, if it is one of the current
    /// generation.
    pub(super) fn supersede(&mut self, parent: Option<u8>, rules: RefreshRules, now: UnixTime) {
        self.superseded.note(self.generation, self.reuse_window(rules), now);
        let refreshed = if self.confirmed {
            RefreshedBranch::Used(parent)
        } else {
            RefreshedBranch::Unused
        };
        self.branches.supersede(self.generation, refreshed, now);
        self.generation += 1;
        self.confirmed = false;
    }

    /// Adopts a newer generation: another instance, or a store that was restored from a backup, does
    /// not know when the generations before it were superseded.
    pub(super) fn skip_to(&mut self, generation: u32, rules: RefreshRules, now: UnixTime) {
        let last_skipped = generation.saturating_sub(1);
        if rules.is_client_side {
            self.superseded.note(last_skipped, self.reuse_window(rules), now);
        } else {
            self.superseded.note_unknown(last_skipped);
        }
        self.branches.supersede(self.generation, RefreshedBranch::Unknown, now);
        self.generation = generation;
    }

    /// Notes that the client uses a branch of the current generation.
    pub(super) fn note_use(&mut self, branch: u8, now: UnixTime) {
        self.confirmed = true;
        self.branches.note_use(branch, now);
    }

    /// Whether a token of this generation and branch is of an abandoned branch.
    pub fn is_abandoned(&self, generation: u32, branch: u8) -> bool {
        self.branches.is_abandoned(generation, branch, self.generation)
    }
}

/// The stored form of [`GrantData`]. Its booleans together say what [`Credential`] says. Version 1 has
/// no branches.
#[derive(Clone, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "records that are stored have this form")]
struct StoredGrantData {
    client_id: String,
    service: String,
    who: User,
    scopes: Scopes,
    issuer: Option<String>,
    granted: UnixTime,
    generation: u32,
    proved: bool,
    superseded: Superseded,
    #[serde(default)]
    branches: Branches,
    #[serde(default = "is_native_before_version_2")]
    native: bool,
    latest: Option<UpstreamTokens>,
    access_ends: UnixTime,
    refused: Option<(UnixTime, u32)>,
    refresh_ends: UnixTime,
    /// The upstream gave a refresh token.
    refreshable: bool,
    /// The upstream takes no token of the user's.
    #[serde(default)]
    bare: bool,
    /// The pairs refer to `latest`.
    #[serde(default)]
    kept: bool,
    /// When the gateway last renewed `latest` without a client.
    #[serde(default)]
    renewed: Option<UnixTime>,
}

/// Version 1 gave every client the window of a native one. The next refresh notes what the client is.
fn is_native_before_version_2() -> bool {
    true
}

impl From<StoredGrantData> for GrantData {
    fn from(stored: StoredGrantData) -> Self {
        Self {
            credential: match (stored.latest, stored.kept) {
                (Some(tokens), true) => Credential::Reference {
                    tokens,
                    renewed_at: stored.renewed,
                },
                (None, _) if stored.bare => Credential::None,
                (latest, _) if stored.refreshable => Credential::RefreshToken { latest },
                (latest, _) => Credential::AccessToken { latest },
            },
            client_id: stored.client_id,
            service: stored.service,
            who: stored.who,
            scopes: stored.scopes,
            issuer: stored.issuer,
            granted_at: stored.granted,
            generation: stored.generation,
            confirmed: stored.proved,
            superseded: stored.superseded,
            branches: stored.branches,
            is_native_client: stored.native,
            access_ends: stored.access_ends,
            refused: stored.refused,
            refresh_ends: stored.refresh_ends,
        }
    }
}

impl From<GrantData> for StoredGrantData {
    fn from(data: GrantData) -> Self {
        let (refreshable, is_reference) = (data.credential.is_refreshable(), data.credential.is_reference());
        let has_no_credential = matches!(data.credential, Credential::None);
        let (latest, renewed_at) = match data.credential {
            Credential::None => (None, None),
            Credential::AccessToken { latest } | Credential::RefreshToken { latest } => (latest, None),
            Credential::Reference { tokens, renewed_at } => (Some(tokens), renewed_at),
        };
        Self {
            client_id: data.client_id,
            service: data.service,
            who: data.who,
            scopes: data.scopes,
            issuer: data.issuer,
            granted: data.granted_at,
            generation: data.generation,
            proved: data.confirmed,
            superseded: data.superseded,
            branches: data.branches,
            native: data.is_native_client,
            latest,
            access_ends: data.access_ends,
            refused: data.refused,
            refresh_ends: data.refresh_ends,
            refreshable,
            bare: has_no_credential,
            kept: is_reference,
            renewed: renewed_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each form of version 1 reads as one credential and is written as it was.
    #[test]
    fn stored_grant_data_of_version_1_round_trips_unchanged() {
        let tokens = serde_json::json!({
            "access": "a", "refresh": "r", "expires": 9, "refresh_expires": null, "scope": null
        });
        for (latest, refreshable, has_no_credential, is_reference, renewed_at, expected) in [
            (None, false, true, false, None, "None"),
            (None, false, false, false, None, "AccessToken"),
            (Some(&tokens), false, false, false, None, "AccessToken"),
            (None, true, false, false, None, "RefreshToken"),
            (Some(&tokens), true, false, false, None, "RefreshToken"),
            (Some(&tokens), true, false, true, None, "Reference"),
            (Some(&tokens), true, false, true, Some(7), "Reference"),
        ] {
            let stored = serde_json::json!({
                "client_id": "c", "service": "s", "who": User::with_name("alice"), "scopes": Scopes::default(), "issuer": "i",
                "granted": 1, "generation": 2, "proved": true, "superseded": [[1, 2]], "latest": latest, "access_ends": 3,
                "refused": null, "refresh_ends": 4, "refreshable": refreshable, "bare": has_no_credential, "kept": is_reference, "renewed": renewed_at
            });
            let data: GrantData = serde_json::from_value(stored.clone()).unwrap();
            assert!(format!("{:?}", data.credential).starts_with(expected), "{expected}");
            let mut serialized = serde_json::to_value(&data).unwrap();
            // Version 2 adds these.
            for added in ["branches", "native"] {
                assert!(serialized.as_object_mut().unwrap().remove(added).is_some(), "{added}");
            }
            assert_eq!(serialized, stored, "{expected}");
        }
    }
}
