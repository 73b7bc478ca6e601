//! What a grant keeps for pairs that refer to it: when it keeps, and what the kept is worth.

use crate::base::time::UnixTime;
use crate::flow::grant_data::{GrantData, RefreshRules};
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamRefreshToken, UpstreamTokens};
use crate::token::header::TokenMode;
use crate::token::pair;

/// The upstream is asked for a successor of a kept token that ends within so many seconds.
pub const RENEW_BEFORE_SECONDS: u64 = 60;
/// A token that is refused, or near its end, within so many seconds of its renewal is not helped by another one.
const RENEW_PAUSE_SECONDS: u64 = 30;

/// What the kept is worth now.
#[derive(Clone, Debug)]
pub enum ReferenceStatus<'a> {
    /// It is good.
    Valid(&'a UpstreamTokens),
    /// The upstream is to be asked for a successor, with this token.
    Renew(UpstreamRefreshToken),
    /// Nothing, and there is nothing to renew it with.
    Expired,
}

impl GrantData {
    /// Whether the pairs of the current generation refer to what is kept here.
    pub fn is_reference(&self) -> bool {
        self.kept
    }

    /// Whether pairs made of `tokens` refer to them: where the service wants it so, and where they would be too long.
    pub(super) fn needs_reference(&self, tokens: &UpstreamTokens, rules: RefreshRules) -> bool {
        if rules.carried {
            return false;
        }
        match rules.mode {
            TokenMode::Reference => true,
            // A JWT carries nothing of the upstream's, and a raw token is nothing else.
            TokenMode::Jwt => false,
            #[cfg(feature = "raw")]
            TokenMode::Raw => false,
            TokenMode::Sealed | TokenMode::Plain => {
                let texts = self.who.subject.len() + self.scopes_with(Some(tokens)).to_string().len();
                let length = |token: &str| pair::length(rules.mode, texts, token.len());
                let refresh = tokens.refresh.as_ref().map_or(0, |token| length(token.expose()));
                length(tokens.access.expose()) > pair::MAX_HEADER_VALUE_BYTES || refresh > pair::MAX_PAIR_BYTES
            }
        }
    }

    /// Pairs of the current generation are made of the latest answer now: notes whether it is kept, and when they end.
    #[must_use]
    pub(super) fn with_current_tokens(mut self, rules: RefreshRules, now: UnixTime) -> Self {
        self.kept = self.latest.as_ref().is_some_and(|tokens| self.needs_reference(tokens, rules));
        let (access_ends, refresh_ends) = self.pair_expiry(self.latest.as_ref(), rules.ttl, now);
        self.with_expiry(access_ends, refresh_ends)
    }

    /// What the kept is worth to a request, when the upstream has `refused` that token. The pairs of a grant that keeps
    /// no longer hold the upstream's refresh token themselves: then nothing is renewed.
    pub fn reference_status(&self, refused: Option<&UpstreamAccessToken>, now: UnixTime) -> ReferenceStatus<'_> {
        let Some(latest) = &self.latest else {
            return ReferenceStatus::Expired;
        };
        let good = self.valid_tokens(refused, now);
        let near = latest.expires.is_some_and(|end| end <= now.plus_seconds(RENEW_BEFORE_SECONDS));
        let just_renewed = self.renewed.is_some_and(|at| now.seconds_since(at) < RENEW_PAUSE_SECONDS);
        let ended = latest.expires.is_some_and(|end| end <= now);
        let wanting = ended || ((good.is_none() || near) && !just_renewed);
        match latest.refresh.as_ref().filter(|_| self.kept && wanting) {
            Some(token) => ReferenceStatus::Renew(token.clone()),
            None => good.map_or(ReferenceStatus::Expired, ReferenceStatus::Valid),
        }
    }

    /// What is kept, while it is neither at its end nor the one that the upstream has `refused`.
    pub fn valid_tokens(&self, refused: Option<&UpstreamAccessToken>, now: UnixTime) -> Option<&UpstreamTokens> {
        let lives = |tokens: &&UpstreamTokens| tokens.expires.is_none_or(|end| end > now);
        let latest = self.latest.as_ref().filter(lives)?;
        (refused != Some(&latest.access)).then_some(latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::flow::grant_data::{NewGrant, RefreshAction, RefreshPayload, RefreshRequest};
    use crate::flow::user::User;
    use crate::oauth::scope::Scopes;

    fn tokens(access: &str, refresh: bool, ends: u64) -> UpstreamTokens {
        UpstreamTokens {
            access: UpstreamAccessToken::new(Secret::from(access)),
            refresh: refresh.then(|| UpstreamRefreshToken::new(Secret::from(format!("to renew {access}")))),
            expires: Some(UnixTime(ends)),
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

    fn held(mode: TokenMode, tokens: UpstreamTokens) -> GrantData {
        let began = NewGrant {
            client_id: "client".into(),
            service: "default".into(),
            who: User::with_name("alice"),
            scopes: Scopes::default(),
            issuer: Some("https://as".into()),
            tokens: Some(tokens),
        };
        GrantData::new(began, rules(mode), UnixTime(0))
    }

    fn is_asked(held: &GrantData, refused: Option<&str>, now: u64) -> bool {
        let refused = refused.map(|text| UpstreamAccessToken::new(Secret::from(text)));
        matches!(held.reference_status(refused.as_ref(), UnixTime(now)), ReferenceStatus::Renew(_))
    }

    #[test]
    fn the_upstream_is_asked_for_a_successor_near_the_end_and_for_one_that_it_refused() {
        let held = held(TokenMode::Reference, tokens("one", true, 1_000));
        assert!(!is_asked(&held, None, 939) && is_asked(&held, None, 940) && is_asked(&held, None, 1_001));
        assert!(is_asked(&held, Some("one"), 10) && !is_asked(&held, Some("before"), 10));
    }

    #[test]
    fn a_token_that_was_just_renewed_is_not_renewed_again_before_it_ends() {
        let mut held = held(TokenMode::Reference, tokens("one", true, 1_000));
        held.renewed = Some(UnixTime(960));
        assert!(!is_asked(&held, None, 989) && !is_asked(&held, Some("one"), 989));
        assert!(matches!(held.reference_status(None, UnixTime(989)), ReferenceStatus::Valid(_)));
        assert!(is_asked(&held, None, 990) && is_asked(&held, Some("one"), 990));
        held.renewed = Some(UnixTime(999));
        assert!(is_asked(&held, None, 1_000));
    }

    #[test]
    fn what_cannot_be_renewed_is_good_until_it_ends_or_is_refused() {
        for held in [
            held(TokenMode::Reference, tokens("one", false, 1_000)),
            held(TokenMode::Sealed, tokens("one", true, 1_000)),
        ] {
            let spent = |refused: Option<&UpstreamAccessToken>, now| {
                matches!(held.reference_status(refused, UnixTime(now)), ReferenceStatus::Expired)
            };
            assert!(!spent(None, 999) && spent(None, 1_000));
            assert!(spent(Some(&UpstreamAccessToken::new(Secret::from("one"))), 10));
        }
    }

    #[test]
    fn a_grant_that_keeps_shows_the_upstream_what_it_keeps_and_not_what_an_older_pair_brings() {
        let mut held = held(TokenMode::Reference, tokens("newest", true, 100));
        let pair = RefreshRequest {
            generation: 1,
            client_id: "client",
            brought: RefreshPayload::Refresh(UpstreamRefreshToken::new(Secret::from("rotated away"))),
        };
        let Ok(RefreshAction::Ask(token)) = held.present(&pair, rules(TokenMode::Reference), UnixTime(90)) else {
            panic!("near the end of what is kept, the upstream is asked")
        };
        assert_eq!(token.expose(), "to renew newest");
    }

    #[test]
    fn what_is_kept_is_not_tidied_while_the_grant_lives() {
        for (mode, tidied) in [(TokenMode::Reference, false), (TokenMode::Sealed, true)] {
            let mut held = held(mode, tokens("one", true, 1_000));
            held.confirmed = true;
            assert_eq!(held.prune_at(rules(mode)).is_some(), tidied);
        }
    }

    #[test]
    fn our_own_life_is_told_only_where_what_is_kept_can_be_renewed() {
        let access_ends = |refresh| held(TokenMode::Reference, tokens("one", refresh, 1_000)).access_ends.0;
        assert_eq!((access_ends(true), access_ends(false)), (3_600, 990));
    }
}
