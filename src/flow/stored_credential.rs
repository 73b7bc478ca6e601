//! The stored credential of a service: the operator obtained it once, and the gateway refreshes it.
//! `SignedIn ⇄ Renewing → NeedsLogin`. A service without a record is not signed in yet.
//!
//! A credential is bound to the MCP server and the issuer that it was obtained at. It never goes to
//! another one, whatever the configuration or the upstream's metadata say later.

use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::flow::error::RejectReason;
use crate::flow::grant::{LEASE_SECONDS, RefreshAttempt};
use crate::flow::stored_token::{CredentialKind, OAuthCredential};
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamRefreshToken, UpstreamTokens};

/// How long before its end a token is renewed, in seconds.
pub const RENEW_BEFORE_SECONDS: u64 = 60;
/// For how many seconds after a renewal a token is not renewed again, although the upstream refuses it:
/// another one would be no better.
const RENEW_PAUSE_SECONDS: u64 = 30;
/// For how many seconds after a failed renewal no other one is tried.
const FAILURE_PAUSE_SECONDS: u64 = 5;
/// The longest stored reason of a failure, in characters.
const MAX_REASON_CHARS: usize = 200;

/// The service that a credential is used for, as it is configured now.
#[derive(Clone, Copy, Debug)]
pub struct CredentialTarget<'a> {
    /// The name of the service.
    pub service: &'a str,
    /// The origin of its MCP server.
    pub origin: &'a str,
    /// The configured issuer of the upstream AS. `None`: the one of the login.
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
    /// A failure at this time. A long reason is cut.
    pub fn new(reason: &str, at: UnixTime) -> Self {
        let reason = reason.chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect();
        Self { at, reason }
    }
}

/// A credential, and what is known of its use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredCredential {
    service: String,
    origin: String,
    kind: CredentialKind,
    obtained_at: UnixTime,
    renewed_at: Option<UnixTime>,
    last_failure: Option<CredentialFailure>,
}

/// What a credential is worth to a request.
#[derive(Clone, Debug)]
pub enum CredentialStatus<'a> {
    /// An API key, which does not end.
    ApiKey(&'a Secret),
    /// The tokens are valid.
    Valid(&'a UpstreamTokens),
    /// New tokens are to be requested with this refresh token.
    Renew(&'a UpstreamRefreshToken),
    /// The last renewal failed a moment ago, and there is no valid token.
    Failing,
    /// The upstream refuses tokens that it issued a moment ago: newer ones would be no better.
    Refused,
    /// Only a new login helps.
    NeedsLogin,
}

/// A credential that is used.
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

/// A credential whose refresh token the upstream refused. The record stays, so that nothing is lost by a
/// mistake of the upstream, and `status` can say what happened.
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
    /// What is renewed.
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
    pub fn id_of(service: &str) -> Id {
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

    /// The OAuth login, if it is no API key.
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

    /// What went wrong last, if nothing worked since.
    pub fn last_failure(&self) -> Option<&CredentialFailure> {
        self.last_failure.as_ref()
    }

    /// Whether it was obtained for this MCP server and issuer. Otherwise it must not be sent.
    pub fn is_for(&self, target: CredentialTarget<'_>) -> bool {
        let is_issuer = |configured: &str| self.oauth().is_none_or(|oauth| oauth.issuer == configured);
        self.service == target.service && self.origin == target.origin && target.issuer.is_none_or(is_issuer)
    }

    /// What it is worth to a request, if the upstream refused `refused_token`.
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

    /// The operator obtained another credential, whatever the record was doing. Returns the one before.
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

    /// The credential, in whatever state.
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

    /// Since when only a new login helps. `None`: the upstream has not refused the credential.
    pub fn needs_login_since(&self) -> Option<UnixTime> {
        match self {
            Self::NeedsLogin(state) => Some(state.since),
            Self::SignedIn(_) | Self::Renewing(_) => None,
        }
    }

    /// What the record is worth to a request, if the upstream refused `refused_token`.
    pub fn status(&self, refused_token: Option<&UpstreamAccessToken>, now: UnixTime) -> CredentialStatus<'_> {
        match self {
            Self::SignedIn(SignedIn { credential }) | Self::Renewing(Renewing { credential, .. }) => credential.status(refused_token, now),
            Self::NeedsLogin(_) => CredentialStatus::NeedsLogin,
        }
    }
}

impl Renewing {
    /// Whether no attempt can be alive that holds the lease.
    fn is_abandoned(&self, attempt: RefreshAttempt, now: UnixTime) -> bool {
        self.lease <= now || (attempt.is_exclusive && self.owner != attempt.owner)
    }

    fn owned_by(self, attempt: Id) -> Result<StoredCredential, RejectReason> {
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
        let credential = self.owned_by(attempt)?;
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
            ..self.owned_by(attempt)?
        };
        Ok((SignedIn { credential }, ()))
    }

    /// The upstream refused the refresh token for good.
    ///
    /// # Errors
    /// If another attempt took over.
    pub fn renewal_refused(self, attempt: Id, failure: CredentialFailure) -> Result<(NeedsLogin, ()), RejectReason> {
        let since = failure.at;
        let credential = StoredCredential {
            last_failure: Some(failure),
            ..self.owned_by(attempt)?
        };
        Ok((NeedsLogin { credential, since }, ()))
    }
}
