//! The stored credential of a service: the operator obtained it once, and the gateway refreshes it.
//! `SignedIn ⇄ Renewing → NeedsLogin`. A service without a record is not signed in yet.
//!
//! A credential is bound to the MCP server and the issuer at which it was obtained. It never goes to
//! another one, even if the configuration or the upstream's metadata change.

use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::flow::error::RejectReason;
use crate::flow::grant::{LEASE_SECONDS, RefreshAttempt};
use crate::flow::stored_token::{CredentialKind, OAuthCredential};
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamRefreshToken, UpstreamTokens};

/// The time before its expiry at which a token is renewed, in seconds.
pub const RENEW_BEFORE_SECONDS: u64 = 60;
/// The time after a renewal in which a token is not renewed again, in seconds. If the upstream refuses such
/// a new token, another one would not help.
pub const RENEW_PAUSE_SECONDS: u64 = 30;
/// The pause after a failed renewal, in seconds.
const FAILURE_PAUSE_SECONDS: u64 = 5;
/// The maximum length of a stored reason, in characters.
const MAX_REASON_CHARS: usize = 200;

/// The service that a credential is used for, as it is configured now.
#[derive(Clone, Copy, Debug)]
pub struct CredentialTarget<'a> {
    /// The name of the service.
    pub service: &'a str,
    /// The origin of its MCP server.
    pub origin: &'a str,
    /// The configured issuer of the upstream AS. `None`: the issuer of the login.
    pub issuer: Option<&'a str>,
}

/// The last failure of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialFailure {
    /// When it happened.
    pub at: UnixTime,
    /// What happened. It contains no secret.
    pub reason: String,
}

impl CredentialFailure {
    /// A failure at this time. A long reason is truncated.
    pub fn new(reason: &str, at: UnixTime) -> Self {
        let reason = reason.chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect();
        Self { at, reason }
    }
}

/// A credential, with the times of its use and its last failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredCredential {
    service: String,
    origin: String,
    kind: CredentialKind,
    obtained_at: UnixTime,
    renewed_at: Option<UnixTime>,
    last_failure: Option<CredentialFailure>,
}

/// The usability of a credential for a request.
#[derive(Clone, Debug)]
pub enum CredentialStatus<'a> {
    /// An API key, which does not end.
    ApiKey(&'a Secret),
    /// The tokens are valid.
    Valid(&'a UpstreamTokens),
    /// The gateway must request new tokens with this refresh token.
    Renew(&'a UpstreamRefreshToken),
    /// The last renewal failed within the last seconds, and there is no valid token.
    Failing,
    /// The upstream refuses tokens that it issued within the last seconds. Newer tokens would not help.
    Refused,
    /// Only a new login helps.
    NeedsLogin,
}

/// A credential in use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignedIn {
    credential: StoredCredential,
}

/// A credential whose upstream is being asked for new tokens, by the attempt that holds the lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Renewing {
    credential: StoredCredential,
    attempt: Id,
    owner: Id,
    lease: UnixTime,
}

/// A credential whose refresh token the upstream refused. The record stays, so that a mistake of the
/// upstream loses nothing, and `status` can show the reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NeedsLogin {
    credential: StoredCredential,
    since: UnixTime,
}

/// The record of a service's stored credential.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum StoredCredentialRecord {
    /// See [`SignedIn`].
    SignedIn(SignedIn),
    /// See [`Renewing`].
    Renewing(Renewing),
    /// See [`NeedsLogin`].
    NeedsLogin(NeedsLogin),
}

states!(StoredCredentialRecord: SignedIn, Renewing, NeedsLogin);

impl Record for StoredCredentialRecord {
    const KIND: &'static str = "stored-credential";

    fn expires_at(&self) -> UnixTime {
        UnixTime::NEVER
    }
}

/// A renewal at the upstream, for the attempt that has the lease.
#[derive(Debug)]
pub struct LeasedRenewal {
    /// The attempt.
    pub attempt: Id,
    /// The credential to renew.
    pub credential: StoredCredential,
    /// The refresh token to send.
    pub token: UpstreamRefreshToken,
}

impl StoredCredential {
    /// A credential that was just obtained for the MCP server of this origin.
    pub fn new(service: &str, origin: &str, kind: CredentialKind, now: UnixTime) -> Self {
        Self {
            service: service.to_owned(),
            origin: origin.to_owned(),
            kind,
            obtained_at: now,
            renewed_at: None,
            last_failure: None,
        }
    }

    /// The id of the record of this service.
    pub fn record_id(service: &str) -> Id {
        Id(Digest::new(&format!("stored credential\n{service}")).truncated())
    }

    /// The name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The API key or the tokens.
    pub fn kind(&self) -> &CredentialKind {
        &self.kind
    }

    /// The OAuth login; `None` for an API key.
    pub fn oauth(&self) -> Option<&OAuthCredential> {
        match &self.kind {
            CredentialKind::OAuth(oauth) => Some(oauth),
            CredentialKind::ApiKey { .. } => None,
        }
    }

    /// When the operator obtained it.
    pub fn obtained_at(&self) -> UnixTime {
        self.obtained_at
    }

    /// When the gateway last renewed its tokens.
    pub fn renewed_at(&self) -> Option<UnixTime> {
        self.renewed_at
    }

    /// The last failure, unless a renewal succeeded since.
    pub fn last_failure(&self) -> Option<&CredentialFailure> {
        self.last_failure.as_ref()
    }

    /// Whether it was obtained for this MCP server and issuer. Otherwise it must not be sent.
    pub fn is_for(&self, target: CredentialTarget<'_>) -> bool {
        let is_issuer = |configured: &str| self.oauth().is_none_or(|oauth| oauth.issuer == configured);
        self.service == target.service && self.origin == target.origin && target.issuer.is_none_or(is_issuer)
    }

    /// The usability for a request, if the upstream refused `refused_token`.
    pub fn status(&self, refused_token: Option<&UpstreamAccessToken>, now: UnixTime) -> CredentialStatus<'_> {
        let tokens = match &self.kind {
            CredentialKind::ApiKey { key } => return CredentialStatus::ApiKey(key),
            CredentialKind::OAuth(oauth) => &oauth.tokens,
        };
        let ends_within = |seconds| tokens.expires.is_some_and(|end| end <= now.plus_seconds(seconds));
        let is_within = |time: Option<UnixTime>, seconds| time.is_some_and(|time| now.seconds_since(time) < seconds);
        let is_valid = !ends_within(0) && refused_token != Some(&tokens.access);
        let was_just_renewed = is_within(self.renewed_at, RENEW_PAUSE_SECONDS);
        let failed_just_now = is_within(self.last_failure.as_ref().map(|failure| failure.at), FAILURE_PAUSE_SECONDS);
        match &tokens.refresh {
            Some(_) if !is_valid && !ends_within(0) && was_just_renewed => CredentialStatus::Refused,
            Some(_) if failed_just_now && is_valid => CredentialStatus::Valid(tokens),
            Some(_) if failed_just_now => CredentialStatus::Failing,
            Some(refresh) if !is_valid || (ends_within(RENEW_BEFORE_SECONDS) && !was_just_renewed) => CredentialStatus::Renew(refresh),
            Some(_) | None if is_valid => CredentialStatus::Valid(tokens),
            Some(_) | None => CredentialStatus::NeedsLogin,
        }
    }
}

impl SignedIn {
    /// The credential of a login, or a key that the operator gave.
    pub fn new(credential: StoredCredential) -> Self {
        Self { credential }
    }
}

impl StoredCredentialRecord {
    /// The gateway asks the upstream for new tokens, because these end soon or are the `refused_token`.
    /// One attempt has the lease; others wait.
    ///
    /// # Errors
    /// If another attempt has the lease, or no renewal is needed or possible.
    pub fn credential_renewal_started(
        self,
        refused_token: Option<&UpstreamAccessToken>,
        attempt: RefreshAttempt,
        now: UnixTime,
    ) -> Result<(Self, LeasedRenewal), RejectReason> {
        let credential = match self {
            Self::SignedIn(state) => state.credential,
            Self::Renewing(state) if state.is_abandoned(attempt, now) => state.credential,
            Self::Renewing(_) => return Err(RejectReason::Busy),
            Self::NeedsLogin(_) => return Err(RejectReason::NotNeeded),
        };
        let CredentialStatus::Renew(token) = credential.status(refused_token, now) else {
            return Err(RejectReason::NotNeeded);
        };
        let renewal = LeasedRenewal {
            attempt: attempt.id,
            token: token.clone(),
            credential: credential.clone(),
        };
        let renewing = Renewing {
            credential,
            attempt: attempt.id,
            owner: attempt.owner,
            lease: now.plus_seconds(LEASE_SECONDS),
        };
        Ok((renewing.into(), renewal))
    }

    /// The operator obtained another credential, in any state of the record. Returns the previous one.
    pub fn replaced(self, credential: StoredCredential) -> (Self, StoredCredential) {
        (SignedIn { credential }.into(), self.into_credential())
    }

    /// Notes that the credential did not work. The state stays.
    #[must_use]
    pub fn failed(mut self, failure: CredentialFailure) -> Self {
        match &mut self {
            Self::SignedIn(SignedIn { credential })
            | Self::Renewing(Renewing { credential, .. })
            | Self::NeedsLogin(NeedsLogin { credential, .. }) => credential.last_failure = Some(failure),
        }
        self
    }

    /// The credential, in any state.
    pub fn credential(&self) -> &StoredCredential {
        match self {
            Self::SignedIn(SignedIn { credential })
            | Self::Renewing(Renewing { credential, .. })
            | Self::NeedsLogin(NeedsLogin { credential, .. }) => credential,
        }
    }

    fn into_credential(self) -> StoredCredential {
        match self {
            Self::SignedIn(SignedIn { credential })
            | Self::Renewing(Renewing { credential, .. })
            | Self::NeedsLogin(NeedsLogin { credential, .. }) => credential,
        }
    }

    /// The time since which only a new login helps. `None`: the upstream has not refused the credential.
    pub fn needs_login_since(&self) -> Option<UnixTime> {
        match self {
            Self::NeedsLogin(state) => Some(state.since),
            Self::SignedIn(_) | Self::Renewing(_) => None,
        }
    }

    /// The usability for a request, if the upstream refused `refused_token`.
    pub fn status(&self, refused_token: Option<&UpstreamAccessToken>, now: UnixTime) -> CredentialStatus<'_> {
        match self {
            Self::SignedIn(SignedIn { credential }) | Self::Renewing(Renewing { credential, .. }) => credential.status(refused_token, now),
            Self::NeedsLogin(_) => CredentialStatus::NeedsLogin,
        }
    }
}

impl Renewing {
    /// Whether the attempt that holds the lease can no longer run.
    fn is_abandoned(&self, attempt: RefreshAttempt, now: UnixTime) -> bool {
        self.lease <= now || (attempt.is_exclusive && self.owner != attempt.owner)
    }

    fn into_credential_of(self, attempt: Id) -> Result<StoredCredential, RejectReason> {
        if self.attempt == attempt {
            Ok(self.credential)
        } else {
            Err(RejectReason::LeaseLost)
        }
    }

    /// The upstream issued new tokens. Without a new refresh token the old one stays (RFC 6749 §6).
    ///
    /// # Errors
    /// If another attempt took over.
    pub fn renewed(self, attempt: Id, tokens: UpstreamTokens, now: UnixTime) -> Result<(SignedIn, ()), RejectReason> {
        let credential = self.into_credential_of(attempt)?;
        let kind = match credential.kind {
            CredentialKind::OAuth(oauth) => CredentialKind::OAuth(Box::new(oauth.with_tokens(tokens))),
            CredentialKind::ApiKey { key } => CredentialKind::ApiKey { key },
        };
        let credential = StoredCredential {
            kind,
            renewed_at: Some(now),
            last_failure: None,
            ..credential
        };
        Ok((SignedIn { credential }, ()))
    }

    /// The upstream gave no usable answer. The next renewal sends the same refresh token again.
    ///
    /// # Errors
    /// If another attempt took over.
    pub fn renewal_failed(self, attempt: Id, failure: CredentialFailure) -> Result<(SignedIn, ()), RejectReason> {
        let credential = StoredCredential {
            last_failure: Some(failure),
            ..self.into_credential_of(attempt)?
        };
        Ok((SignedIn { credential }, ()))
    }

    /// The upstream's refusal of the refresh token is final.
    ///
    /// # Errors
    /// If another attempt took over.
    pub fn renewal_refused(self, attempt: Id, failure: CredentialFailure) -> Result<(NeedsLogin, ()), RejectReason> {
        let since = failure.at;
        let credential = StoredCredential {
            last_failure: Some(failure),
            ..self.into_credential_of(attempt)?
        };
        Ok((NeedsLogin { credential, since }, ()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oauth::token_response::UpstreamAccessToken;

    const NOW: UnixTime = UnixTime(1_000_000);

    fn tokens(name: &str, ends: u64) -> UpstreamTokens {
        UpstreamTokens {
            access: UpstreamAccessToken::new(Secret::from(format!("access {name}"))),
            refresh: Some(UpstreamRefreshToken::new(Secret::from(format!("refresh {name}")))),
            expires: Some(UnixTime(ends)),
            refresh_expires: None,
            scope: None,
        }
    }

    fn credential(tokens: UpstreamTokens, now: UnixTime) -> StoredCredential {
        let client = serde_json::json!({ "id": "gateway", "secret": null, "auth_method": "none" });
        let oauth = OAuthCredential {
            issuer: "https://as.example".to_owned(),
            token_endpoint: "https://as.example/token".to_owned(),
            revocation_endpoint: None,
            network: None,
            client: serde_json::from_value(client).unwrap(),
            scopes: String::new(),
            resource: Some("https://mcp.example".to_owned()),
            tokens,
        };
        StoredCredential::new("one", "https://mcp.example", CredentialKind::OAuth(Box::new(oauth)), now)
    }

    fn attempt(number: u8, owner: u8, is_exclusive: bool) -> RefreshAttempt {
        RefreshAttempt {
            id: Id([number; 16]),
            owner: Id([owner; 16]),
            is_exclusive,
        }
    }

    #[test]
    fn a_credential_is_for_one_service_origin_and_issuer() {
        let credential = credential(tokens("a", 0), NOW);
        let is_for = |service, origin, issuer| credential.is_for(CredentialTarget { service, origin, issuer });
        assert!(is_for("one", "https://mcp.example", None));
        assert!(is_for("one", "https://mcp.example", Some("https://as.example")));
        assert!(!is_for("one", "https://mcp.example", Some("https://as.example/")));
        assert!(!is_for("one", "https://mcp.example:444", None));
        assert!(!is_for("two", "https://mcp.example", None));
    }

    #[test]
    fn a_token_is_renewed_near_its_end_and_after_a_401_but_not_in_a_loop() {
        let mut one = credential(tokens("a", 2_000), UnixTime(0));
        let refused = UpstreamAccessToken::new(Secret::from("access a"));
        let renews = |one: &StoredCredential, refused, now| matches!(one.status(refused, UnixTime(now)), CredentialStatus::Renew(_));
        assert!(!renews(&one, None, 1_939) && renews(&one, None, 1_940) && renews(&one, None, 2_001));
        assert!(renews(&one, Some(&refused), 10));
        one.renewed_at = Some(UnixTime(1_930));
        assert!(!renews(&one, None, 1_959) && renews(&one, None, 1_960));
        assert!(matches!(one.status(Some(&refused), UnixTime(1_959)), CredentialStatus::Refused));
        one.last_failure = Some(CredentialFailure::new("down", UnixTime(1_997)));
        assert!(matches!(one.status(None, UnixTime(1_999)), CredentialStatus::Valid(_)));
        assert!(matches!(one.status(None, UnixTime(2_001)), CredentialStatus::Failing));
        assert!(renews(&one, None, 2_002));
    }

    #[test]
    fn a_failure_has_no_control_characters_and_is_short() {
        let failure = CredentialFailure::new(&format!("a\u{1b}[31m\n{}", "b".repeat(500)), NOW);
        assert!(failure.reason.starts_with("a[31mb") && failure.reason.len() == MAX_REASON_CHARS);
    }

    /// What happens to a credential.
    #[derive(Clone, Debug)]
    enum Act {
        Start { owner: u8, is_exclusive: bool },
        Answer { attempt: usize, rotates: bool },
        Fail { attempt: usize },
        Refuse { attempt: usize },
        Login,
        Wait(u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            4 => (0..3u8, any::<bool>()).prop_map(|(owner, is_exclusive)| Act::Start { owner, is_exclusive }),
            3 => (0..4usize, any::<bool>()).prop_map(|(attempt, rotates)| Act::Answer { attempt, rotates }),
            2 => (0..4usize).prop_map(|attempt| Act::Fail { attempt }),
            1 => (0..4usize).prop_map(|attempt| Act::Refuse { attempt }),
            1 => Just(Act::Login),
            2 => (0..200u64).prop_map(Act::Wait),
        ];
        proptest::collection::vec(act, 0..60)
    }

    /// A running attempt, as the test sees it.
    #[derive(Debug)]
    struct Running {
        id: Id,
        owner: u8,
        since: UnixTime,
        login: u32,
    }

    /// A record, and a small model beside it: who holds the lease, and which tokens are right.
    struct Model {
        record: Option<StoredCredentialRecord>,
        holder: Option<Id>,
        running: Vec<Running>,
        /// The number of the login, and of the tokens.
        login: u32,
        issued: u32,
        refresh: String,
        needs_login: bool,
        now: UnixTime,
    }

    impl Model {
        fn refresh_token(record: &StoredCredentialRecord) -> String {
            let oauth = record.credential().oauth().expect("a credential of tokens is never lost");
            oauth.tokens.refresh.as_ref().expect("nor is its refresh token").expose().to_owned()
        }

        fn start(&mut self, owner: u8, is_exclusive: bool) {
            let number = u8::try_from(self.issued % 200).unwrap();
            self.issued += 1;
            let attempt = attempt(number, owner, is_exclusive);
            let record = self.record.take().unwrap();
            let copy: StoredCredentialRecord = serde_json::from_value(serde_json::to_value(&record).unwrap()).unwrap();
            let is_held = self
                .holder
                .and_then(|holder| self.running.iter().find(|running| running.id == holder));
            let may_take = is_held
                .is_none_or(|running| self.now.seconds_since(running.since) >= LEASE_SECONDS || (is_exclusive && running.owner != owner));
            match record.credential_renewal_started(None, attempt, self.now) {
                Ok((record, renewal)) => {
                    assert!(may_take && !self.needs_login, "a second attempt beside a living one");
                    assert_eq!(renewal.token.expose(), self.refresh, "only the newest token is sent");
                    self.holder = Some(attempt.id);
                    let (since, login) = (self.now, self.login);
                    self.running.push(Running {
                        id: attempt.id,
                        owner,
                        since,
                        login,
                    });
                    self.record = Some(record);
                }
                Err(reason) => {
                    assert!(reason == RejectReason::NotNeeded || !may_take, "{reason}");
                    self.record = Some(copy);
                }
            }
        }

        /// The end of an attempt: `Ok` if the record accepted it.
        fn end(&mut self, which: usize, end: impl FnOnce(Renewing, Id, UnixTime) -> Result<StoredCredentialRecord, RejectReason>) -> bool {
            if self.running.is_empty() {
                return false;
            }
            let running = self.running.remove(which % self.running.len());
            let is_holder = self.holder == Some(running.id) && running.login == self.login;
            let record = self.record.take().unwrap();
            let copy = serde_json::from_value(serde_json::to_value(&record).unwrap()).unwrap();
            let ended = match record {
                StoredCredentialRecord::Renewing(state) => end(state, running.id, self.now),
                StoredCredentialRecord::SignedIn(_) | StoredCredentialRecord::NeedsLogin(_) => Err(RejectReason::LeaseLost),
            };
            assert_eq!(ended.is_ok(), is_holder, "only the holder of the lease ends an attempt");
            self.record = Some(ended.unwrap_or(copy));
            if is_holder {
                self.holder = None;
            }
            is_holder
        }

        fn act(&mut self, act: &Act) {
            match *act {
                Act::Start { owner, is_exclusive } => self.start(owner, is_exclusive),
                Act::Answer { attempt, rotates } => {
                    self.issued += 1;
                    let mut new = tokens(&self.issued.to_string(), self.now.0 + 100);
                    if !rotates {
                        new.refresh = None;
                    }
                    let answer = new.clone();
                    let ended = self.end(attempt, |state, id, now| {
                        state.renewed(id, answer, now).map(|(state, ())| state.into())
                    });
                    if let (true, Some(refresh)) = (ended, new.refresh) {
                        refresh.expose().clone_into(&mut self.refresh);
                    }
                }
                Act::Fail { attempt } => {
                    let failure = CredentialFailure::new("down", self.now);
                    self.end(attempt, |state, id, _| {
                        state.renewal_failed(id, failure).map(|(state, ())| state.into())
                    });
                }
                Act::Refuse { attempt } => {
                    let failure = CredentialFailure::new("invalid_grant", self.now);
                    self.needs_login |= self.end(attempt, |state, id, _| {
                        state.renewal_refused(id, failure).map(|(state, ())| state.into())
                    });
                }
                Act::Login => {
                    self.issued += 1;
                    self.login += 1;
                    let new = tokens(&self.issued.to_string(), self.now.0 + 100);
                    self.refresh = new.refresh.as_ref().unwrap().expose().to_owned();
                    let (record, before) = self.record.take().unwrap().replaced(credential(new, self.now));
                    assert!(before.oauth().is_some());
                    (self.record, self.holder, self.needs_login) = (Some(record), None, false);
                }
                Act::Wait(seconds) => self.now = self.now.plus_seconds(seconds),
            }
            let record = self.record.as_ref().unwrap();
            assert_eq!(Self::refresh_token(record), self.refresh);
            assert_eq!(record.needs_login_since().is_some(), self.needs_login);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn a_stored_credential_is_never_lost_and_has_one_renewal_at_a_time(acts in acts()) {
            let first = tokens("0", NOW.0 + 10);
            let mut model = Model {
                refresh: first.refresh.as_ref().unwrap().expose().to_owned(),
                record: Some(SignedIn::new(credential(first, NOW)).into()),
                holder: None,
                running: Vec::new(),
                login: 0,
                issued: 0,
                needs_login: false,
                now: NOW,
            };
            for act in &acts {
                model.act(act);
            }
        }
    }
}
