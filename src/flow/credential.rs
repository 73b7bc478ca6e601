//! The upstream credential of a grant, and the usability of a stored one.

use crate::base::time::UnixTime;
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamRefreshToken, UpstreamTokens};

/// The time before its expiry at which a stored token is renewed, in seconds.
pub const RENEW_BEFORE_SECONDS: u64 = 60;
/// For how many seconds after a renewal a token is not renewed again, although the upstream refuses it
/// or it ends soon: another one would be no better.
const RENEW_PAUSE_SECONDS: u64 = 30;

/// The upstream credential of a grant. `latest` is the upstream's latest answer, until the client has
/// confirmed its generation and the reuse window is over.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The upstream takes no token of the user's.
    None,
    /// An access token without a refresh token (GitHub OAuth Apps).
    AccessToken {
        /// The latest answer.
        latest: Option<UpstreamTokens>,
    },
    /// The upstream gave a refresh token, which the client's refresh pair holds.
    RefreshToken {
        /// The latest answer.
        latest: Option<UpstreamTokens>,
    },
    /// The pairs refer to these tokens, which are stored while the grant is active.
    Reference {
        /// The tokens.
        tokens: UpstreamTokens,
        /// When the gateway last renewed them without a client.
        renewed_at: Option<UnixTime>,
    },
}

/// The usability of a stored credential for a request.
#[derive(Clone, Debug)]
pub enum ReferenceStatus<'a> {
    /// The token is valid.
    Valid(&'a UpstreamTokens),
    /// A new token is to be requested with this refresh token.
    Renew(UpstreamRefreshToken),
    /// The token is not valid, and cannot be renewed.
    Expired,
}

impl Credential {
    /// The credential of tokens that the upstream just issued.
    pub(super) fn new(tokens: Option<UpstreamTokens>) -> Self {
        match tokens {
            None => Self::None,
            Some(tokens) if tokens.refresh.is_some() => Self::RefreshToken { latest: Some(tokens) },
            Some(tokens) => Self::AccessToken { latest: Some(tokens) },
        }
    }

    /// Whether pairs refer to stored tokens.
    pub fn is_reference(&self) -> bool {
        matches!(self, Self::Reference { .. })
    }

    /// Whether the upstream gave a refresh token.
    pub fn is_refreshable(&self) -> bool {
        match self {
            Self::None | Self::AccessToken { .. } => false,
            Self::RefreshToken { .. } => true,
            Self::Reference { tokens, .. } => tokens.refresh.is_some(),
        }
    }

    /// The upstream's latest answer, while it is stored.
    pub fn latest(&self) -> Option<&UpstreamTokens> {
        match self {
            Self::None => None,
            Self::AccessToken { latest } | Self::RefreshToken { latest } => latest.as_ref(),
            Self::Reference { tokens, .. } => Some(tokens),
        }
    }

    /// The credential with newer tokens, to which the pairs refer or not.
    #[must_use]
    pub(super) fn with_tokens(self, tokens: UpstreamTokens, is_reference: bool) -> Self {
        if !is_reference {
            return Self::new(Some(tokens));
        }
        let renewed_at = match self {
            Self::Reference { renewed_at, .. } => renewed_at,
            Self::None | Self::AccessToken { .. } | Self::RefreshToken { .. } => None,
        };
        Self::Reference { tokens, renewed_at }
    }

    /// The credential after the gateway renewed it without a client.
    #[must_use]
    pub(super) fn renewed(self, tokens: UpstreamTokens, now: UnixTime) -> Self {
        match self {
            Self::Reference { .. } => Self::Reference {
                tokens,
                renewed_at: Some(now),
            },
            Self::None | Self::AccessToken { .. } | Self::RefreshToken { .. } => Self::new(Some(tokens)),
        }
    }

    /// The credential without the upstream's latest answer, which is no longer needed or no longer true.
    #[must_use]
    pub(super) fn without_latest(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::AccessToken { .. } => Self::AccessToken { latest: None },
            Self::Reference { ref tokens, .. } if tokens.refresh.is_none() => Self::AccessToken { latest: None },
            Self::RefreshToken { .. } | Self::Reference { .. } => Self::RefreshToken { latest: None },
        }
    }

    /// The usability of the credential for a request, if the upstream refused `refused_token`. A pair that
    /// is no reference holds the upstream's refresh token itself, so nothing is renewed for it.
    pub fn reference_status(&self, refused_token: Option<&UpstreamAccessToken>, now: UnixTime) -> ReferenceStatus<'_> {
        let valid = self.valid_tokens(refused_token, now);
        if let Self::Reference { tokens, renewed_at } = self
            && let Some(refresh) = &tokens.refresh
        {
            let ends_within = |seconds| tokens.expires.is_some_and(|end| end <= now.plus_seconds(seconds));
            let was_just_renewed = renewed_at.is_some_and(|time| now.seconds_since(time) < RENEW_PAUSE_SECONDS);
            let is_renewal_useful = valid.is_none() || ends_within(RENEW_BEFORE_SECONDS);
            if ends_within(0) || (is_renewal_useful && !was_just_renewed) {
                return ReferenceStatus::Renew(refresh.clone());
            }
        }
        valid.map_or(ReferenceStatus::Expired, ReferenceStatus::Valid)
    }

    /// The tokens, if they have not ended and are not the `refused_token`.
    pub fn valid_tokens(&self, refused_token: Option<&UpstreamAccessToken>, now: UnixTime) -> Option<&UpstreamTokens> {
        let has_not_ended = |tokens: &&UpstreamTokens| tokens.expires.is_none_or(|end| end > now);
        let latest = self.latest().filter(has_not_ended)?;
        (refused_token != Some(&latest.access)).then_some(latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::flow::grant_data::{GrantData, NewGrant};
    use crate::flow::refresh::{RefreshAction, RefreshPayload, RefreshRequest};
    use crate::flow::refresh_rules::RefreshRules;
    use crate::flow::user::User;
    use crate::oauth::scope::Scopes;
    use crate::oauth::token_response::UpstreamRefreshToken;
    use crate::token::header::TokenMode;

    fn tokens(access: &str, refresh: bool, expires: u64) -> UpstreamTokens {
        UpstreamTokens {
            access: UpstreamAccessToken::new(Secret::from(access)),
            refresh: refresh.then(|| UpstreamRefreshToken::new(Secret::from(format!("to renew {access}")))),
            expires: Some(UnixTime(expires)),
            refresh_expires: None,
            scope: None,
        }
    }

    fn rules(mode: TokenMode) -> RefreshRules {
        RefreshRules {
            mode,
            ..RefreshRules::default()
        }
    }

    fn grant(mode: TokenMode, tokens: UpstreamTokens) -> GrantData {
        let new_grant = NewGrant {
            client_id: "client".into(),
            is_native_client: true,
            service: "default".into(),
            who: User::with_name("alice"),
            scopes: Scopes::default(),
            issuer: Some("https://as".into()),
            tokens: Some(tokens),
        };
        GrantData::new(new_grant, rules(mode), UnixTime(0))
    }

    fn renewed(data: &mut GrantData, time: u64) {
        let Credential::Reference { renewed_at, .. } = &mut data.credential else {
            panic!("the pairs refer to stored tokens")
        };
        *renewed_at = Some(UnixTime(time));
    }

    fn is_renewed(data: &GrantData, refused_token: Option<&str>, now: u64) -> bool {
        let refused_token = refused_token.map(|text| UpstreamAccessToken::new(Secret::from(text)));
        matches!(
            data.credential.reference_status(refused_token.as_ref(), UnixTime(now)),
            ReferenceStatus::Renew(_)
        )
    }

    #[test]
    fn a_stored_token_is_refreshed_near_its_expiry_and_after_a_401() {
        let data = grant(TokenMode::Reference, tokens("one", true, 1_000));
        assert!(!is_renewed(&data, None, 939) && is_renewed(&data, None, 940) && is_renewed(&data, None, 1_001));
        assert!(is_renewed(&data, Some("one"), 10) && !is_renewed(&data, Some("before"), 10));
    }

    #[test]
    fn a_new_token_is_refreshed_again_only_after_a_pause_or_expiry() {
        let mut data = grant(TokenMode::Reference, tokens("one", true, 1_000));
        renewed(&mut data, 960);
        assert!(!is_renewed(&data, None, 989) && !is_renewed(&data, Some("one"), 989));
        assert!(matches!(
            data.credential.reference_status(None, UnixTime(989)),
            ReferenceStatus::Valid(_)
        ));
        assert!(is_renewed(&data, None, 990) && is_renewed(&data, Some("one"), 990));
        renewed(&mut data, 999);
        assert!(is_renewed(&data, None, 1_000));
    }

    #[test]
    fn a_token_without_refresh_is_valid_until_expiry_or_a_401() {
        for data in [
            grant(TokenMode::Reference, tokens("one", false, 1_000)),
            grant(TokenMode::Sealed, tokens("one", true, 1_000)),
        ] {
            let is_expired = |refused_token: Option<&UpstreamAccessToken>, now| {
                matches!(
                    data.credential.reference_status(refused_token, UnixTime(now)),
                    ReferenceStatus::Expired
                )
            };
            assert!(!is_expired(None, 999) && is_expired(None, 1_000));
            assert!(is_expired(Some(&UpstreamAccessToken::new(Secret::from("one"))), 10));
        }
    }

    #[test]
    fn a_refresh_uses_the_stored_token_and_not_the_presented_one() {
        let mut data = grant(TokenMode::Reference, tokens("newest", true, 100));
        let pair = RefreshRequest {
            generation: 1,
            branch: 0,
            client_id: "client",
            is_native_client: true,
            was_current: true,
            payload: RefreshPayload::Refresh(UpstreamRefreshToken::new(Secret::from("rotated away"))),
        };
        let accepted = data.present(&pair, rules(TokenMode::Reference), UnixTime(90));
        let Ok(RefreshAction::Ask(token)) = accepted.map(|accepted| accepted.action) else {
            panic!("near its end, the stored token is renewed")
        };
        assert_eq!(token.expose(), "to renew newest");
    }

    #[test]
    fn stored_tokens_are_not_pruned_while_the_grant_is_active() {
        for (mode, is_pruned) in [(TokenMode::Reference, false), (TokenMode::Sealed, true)] {
            let mut data = grant(mode, tokens("one", true, 1_000));
            data.confirmed = true;
            assert_eq!(data.prune_at(rules(mode)).is_some(), is_pruned);
        }
    }

    #[test]
    fn a_reference_pair_gets_the_full_lifetime_only_with_a_refresh_token() {
        let access_ends = |refresh| grant(TokenMode::Reference, tokens("one", refresh, 1_000)).access_ends.0;
        assert_eq!((access_ends(true), access_ends(false)), (3_600, 990));
    }
}
