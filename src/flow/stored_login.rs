//! The operator's sign-in for a stored credential, which a command starts:
//! `StoredLoginRedirect → StoredLoginCallback → StoredLoginDone | StoredLoginFailed`.
//!
//! The callback may reach another process, the running gateway. It checks `state` and `iss`, and leaves
//! the code in the record. Only the command exchanges the code.

use serde::{Deserialize, Serialize};

use crate::base::ids::Digest;
use crate::base::record::{Record, states};
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;
use crate::flow::authorize::CodeExchange;
use crate::flow::error::{RejectReason, check_digest, check_not_expired};
use crate::flow::expected_issuer::ExpectedIssuer;

/// The limit for the exchange of the code, and the time for which its result can be read, in seconds.
const EXCHANGE_SECONDS: u64 = 120;
/// The maximum length of a stored reason, in characters.
const MAX_REASON_CHARS: usize = 300;

/// The browser went to the upstream's authorization endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredLoginRedirect {
    service: String,
    state: Digest,
    #[serde(with = "at_rest")]
    verifier: Secret,
    issuer: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    issuer_is_guess: bool,
    iss_promised: bool,
    expires: UnixTime,
}

/// The upstream's code arrived. The command that started the sign-in exchanges it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredLoginCallback {
    service: String,
    #[serde(with = "at_rest")]
    code: Secret,
    #[serde(with = "at_rest")]
    verifier: Secret,
    issuer: String,
    expires: UnixTime,
}

/// The credential is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredLoginDone {
    expires: UnixTime,
}

/// The sign-in failed, or the user or the upstream refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredLoginFailed {
    reason: String,
    expires: UnixTime,
}

/// The record of a sign-in.
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum StoredLoginRecord {
    /// See [`StoredLoginRedirect`].
    StoredLoginRedirect(StoredLoginRedirect),
    /// See [`StoredLoginCallback`].
    StoredLoginCallback(StoredLoginCallback),
    /// See [`StoredLoginDone`].
    StoredLoginDone(StoredLoginDone),
    /// See [`StoredLoginFailed`].
    StoredLoginFailed(StoredLoginFailed),
}

states!(StoredLoginRecord: StoredLoginRedirect, StoredLoginCallback, StoredLoginDone, StoredLoginFailed);

impl Record for StoredLoginRecord {
    const KIND: &'static str = "stored-login";

    fn expires_at(&self) -> UnixTime {
        match self {
            Self::StoredLoginRedirect(state) => state.expires,
            Self::StoredLoginCallback(state) => state.expires,
            Self::StoredLoginDone(state) => state.expires,
            Self::StoredLoginFailed(state) => state.expires,
        }
    }
}

/// The values of one sign-in. The random values are new for each sign-in.
#[derive(Clone, Debug)]
pub struct StoredLoginParams {
    /// The name of the service.
    pub service: String,
    /// The digest of the random part of `state`.
    pub state: Digest,
    /// The PKCE verifier.
    pub verifier: Secret,
    /// The issuer of the upstream AS, compared byte for byte.
    pub issuer: String,
    /// Whether `issuer` is only the origin of the authorization endpoint. Then any issuer there is accepted.
    pub issuer_is_guess: bool,
    /// The upstream's metadata promises `iss` in the response (RFC 9207 §3).
    pub iss_promised: bool,
    /// The time limit for the browser, in seconds.
    pub ttl: u64,
}

/// The parameters of the upstream's callback, without its result.
#[derive(Clone, Copy, Debug)]
pub struct StoredLoginCallbackParams<'a> {
    /// The service of the callback's path.
    pub service: &'a str,
    /// The random part of `state`.
    pub state: &'a str,
    /// The parameter `iss` (RFC 9207).
    pub issuer: Option<&'a str>,
}

impl StoredLoginRedirect {
    /// Starts a sign-in.
    pub fn new(params: StoredLoginParams, now: UnixTime) -> Self {
        Self {
            service: params.service,
            state: params.state,
            verifier: params.verifier,
            issuer: params.issuer,
            issuer_is_guess: params.issuer_is_guess,
            iss_promised: params.iss_promised,
            expires: now.plus_seconds(params.ttl),
        }
    }

    /// Accepts the upstream's code. The state is consumed, so a second callback fails.
    ///
    /// # Errors
    /// If the callback is late, or its `state`, service or `iss` is not that of this sign-in.
    pub fn code_received(
        self,
        params: StoredLoginCallbackParams<'_>,
        code: &Secret,
        now: UnixTime,
    ) -> Result<(StoredLoginCallback, ()), RejectReason> {
        self.check(params, now)?;
        self.code_pasted(code, now)
    }

    /// Accepts a code that the user pasted without its `state` and `iss`. The PKCE verifier still binds it to
    /// this sign-in (RFC 7636 §1).
    ///
    /// # Errors
    /// If it is late.
    pub fn code_pasted(self, code: &Secret, now: UnixTime) -> Result<(StoredLoginCallback, ()), RejectReason> {
        check_not_expired(self.expires, now)?;
        let next = StoredLoginCallback {
            service: self.service,
            code: code.clone(),
            verifier: self.verifier,
            issuer: self.issuer,
            expires: now.plus_seconds(EXCHANGE_SECONDS),
        };
        Ok((next, ()))
    }

    /// The upstream's callback had an error.
    ///
    /// # Errors
    /// As [`StoredLoginRedirect::code_received`].
    pub fn login_refused(
        self,
        params: StoredLoginCallbackParams<'_>,
        reason: &str,
        now: UnixTime,
    ) -> Result<(StoredLoginFailed, ()), RejectReason> {
        self.check(params, now)?;
        Ok((failed(reason, now), ()))
    }

    fn check(&self, params: StoredLoginCallbackParams<'_>, now: UnixTime) -> Result<(), RejectReason> {
        check_not_expired(self.expires, now)?;
        check_digest(&self.state, Some(params.state), RejectReason::WrongUpstreamState)?;
        if params.service != self.service {
            return Err(RejectReason::WrongService);
        }
        let expected = ExpectedIssuer {
            issuer: &self.issuer,
            is_guess: self.issuer_is_guess,
            is_promised: self.iss_promised,
        };
        expected.check(params.issuer)
    }
}

impl StoredLoginCallback {
    /// The code, and the parameters of its exchange.
    pub fn exchange(&self) -> (Secret, CodeExchange) {
        let exchange = CodeExchange {
            verifier: self.verifier.clone(),
            issuer: self.issuer.clone(),
        };
        (self.code.clone(), exchange)
    }

    /// The credential of the exchange is stored.
    pub fn credential_stored(self, now: UnixTime) -> (StoredLoginDone, ()) {
        let expires = now.plus_seconds(EXCHANGE_SECONDS);
        (StoredLoginDone { expires }, ())
    }

    /// The exchange failed, or its result could not be stored.
    pub fn login_failed(self, reason: &str, now: UnixTime) -> (StoredLoginFailed, ()) {
        (failed(reason, now), ())
    }
}

impl StoredLoginFailed {
    /// The reason, without control characters.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

fn failed(reason: &str, now: UnixTime) -> StoredLoginFailed {
    StoredLoginFailed {
        reason: reason.chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect(),
        expires: now.plus_seconds(EXCHANGE_SECONDS),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixTime = UnixTime(1_000);

    fn redirect(iss_promised: bool, issuer_is_guess: bool) -> StoredLoginRedirect {
        let params = StoredLoginParams {
            service: "stripe".to_owned(),
            state: Digest::new("s3cret"),
            verifier: Secret::from("verifier"),
            issuer: "https://as".to_owned(),
            issuer_is_guess,
            iss_promised,
            ttl: 300,
        };
        StoredLoginRedirect::new(params, NOW)
    }

    proptest! {
        /// Exactly the callback of this sign-in is accepted, whatever else is sent.
        #[test]
        fn only_the_own_callback_is_accepted(
            service in prop::sample::select(vec!["stripe", "other", ""]),
            state in prop::sample::select(vec!["s3cret", "s3cre", "", "S3cret"]),
            issuer in prop::sample::select(vec![
                None, Some("https://as"), Some("https://as/"), Some("https://as/tenant"), Some("https://evil"), Some("https://as@evil"),
                Some("https://as.evil"), Some("http://as"), Some("https://as:8443"), Some(""),
            ]),
            promised in any::<bool>(),
            guessed in any::<bool>(),
            late in any::<bool>(),
        ) {
            let params = StoredLoginCallbackParams { service, state, issuer };
            let now = NOW.plus_seconds(if late { 300 } else { 299 });
            // A guessed issuer is the origin of the server.
            let is_issuer = match issuer {
                None => !promised,
                Some("https://as") => true,
                Some("https://as/" | "https://as/tenant") => guessed,
                Some(_) => false,
            };
            let is_own = service == "stripe" && state == "s3cret" && !late && is_issuer;
            let accepted = redirect(promised, guessed).code_received(params, &Secret::from("c"), now);
            prop_assert_eq!(accepted.is_ok(), is_own);
            prop_assert_eq!(redirect(promised, guessed).login_refused(params, "x", now).is_ok(), is_own);
            if let Ok((callback, ())) = accepted {
                let (code, exchange) = callback.exchange();
                prop_assert_eq!((code.expose(), exchange.verifier.expose(), exchange.issuer.as_str()), ("c", "verifier", "https://as"));
            }
        }
    }

    #[test]
    fn a_reason_cannot_steer_a_terminal_or_grow() {
        let (callback, ()) = redirect(false, false).code_pasted(&Secret::from("c"), NOW).unwrap();
        let (failed, ()) = callback.login_failed(&format!("a\u{1b}[31m\n{}", "x".repeat(1_000)), NOW);
        assert!(failed.reason().starts_with("a[31mxx") && failed.reason().chars().count() == MAX_REASON_CHARS);
    }
}
