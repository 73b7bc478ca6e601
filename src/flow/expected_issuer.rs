//! The check of `iss` in the response of an authorization server (RFC 9207 §2.4), for every kind of
//! sign-in.

use crate::base::url::ExactUrl;
use crate::flow::error::RejectReason;

/// The authorization server that the browser was sent to.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpectedIssuer<'a> {
    /// Its issuer.
    pub(super) issuer: &'a str,
    /// Whether `issuer` is only the origin of the authorization endpoint. Then any issuer there is accepted.
    pub(super) is_guess: bool,
    /// Whether the server's metadata promises `iss` in the response (RFC 9207 §3).
    pub(super) is_promised: bool,
}

impl ExpectedIssuer<'_> {
    /// Checks the parameter `iss` of the response, so that the response of another server is refused.
    ///
    /// # Errors
    /// If a promised `iss` is missing, or it is another issuer.
    pub(super) fn check(self, sent: Option<&str>) -> Result<(), RejectReason> {
        match sent {
            None if self.is_promised => Err(RejectReason::MissingIssuer),
            Some(issuer) if !self.is_issuer(issuer) => Err(RejectReason::WrongIssuer),
            None | Some(_) => Ok(()),
        }
    }

    /// Compares byte for byte. Where nothing says the issuer, its origin counts; the callback URL of each
    /// service is another one, so responses of two servers cannot be mixed up.
    fn is_issuer(self, text: &str) -> bool {
        text == self.issuer || (self.is_guess && ExactUrl::parse(text).is_ok_and(|issuer| issuer.origin() == self.issuer))
    }
}
