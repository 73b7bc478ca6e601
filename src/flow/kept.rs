//! What a grant keeps for pairs that refer to it: when it keeps, and what the kept is worth.

use crate::base::time::UnixTime;
use crate::flow::held::{Held, Rules};
use crate::oauth::answer::{Tokens, UpstreamAccess, UpstreamRefresh};
use crate::token::half::Mode;
use crate::token::pair;

/// The upstream is asked for a successor of a kept token that ends within so many seconds.
pub const AHEAD: u64 = 60;
/// A token that is refused, or near its end, within so many seconds of its renewal is not helped by another one.
const RESTED: u64 = 30;

/// What the kept is worth now.
#[derive(Clone, Debug)]
pub enum Worth<'a> {
    /// It is good.
    Good(&'a Tokens),
    /// The upstream is to be asked for a successor, with this token.
    Ask(UpstreamRefresh),
    /// Nothing, and there is nothing to renew it with.
    Spent,
}

impl Held {
    /// Whether the pairs of the current generation refer to what is kept here.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// Whether pairs made of `tokens` refer to them: where the service wants it so, and where they would be too long.
    pub(super) fn keeps(&self, tokens: &Tokens, rules: Rules) -> bool {
        match rules.mode {
            Mode::Reference => true,
            Mode::Sealed | Mode::Plain => {
                let texts = self.who.subject.len() + self.scopes_with(Some(tokens)).to_string().len();
                let length = |token: &str| pair::length(rules.mode, texts, token.len());
                let refresh = tokens.refresh.as_ref().map_or(0, |token| length(token.expose()));
                length(tokens.access.expose()) > pair::COMFORTABLE || refresh > pair::LONGEST
            }
        }
    }

    /// Pairs of the current generation are made of the latest answer now: notes whether it is kept, and when they end.
    #[must_use]
    pub(super) fn made(mut self, rules: Rules, now: UnixTime) -> Self {
        self.kept = self.latest.as_ref().is_some_and(|tokens| self.keeps(tokens, rules));
        let (access_ends, refresh_ends) = self.ends(self.latest.as_ref(), rules.ttl, now);
        self.ending(access_ends, refresh_ends)
    }

    /// What the kept is worth to a request, when the upstream has `refused` that token. The pairs of a grant that keeps
    /// no longer hold the upstream's refresh token themselves: then nothing is renewed.
    pub fn worth(&self, refused: Option<&UpstreamAccess>, now: UnixTime) -> Worth<'_> {
        let Some(latest) = &self.latest else { return Worth::Spent };
        let refused = refused.is_some_and(|token| *token == latest.access);
        let ends = latest.expires.unwrap_or(UnixTime::NEVER);
        let just_renewed = self.renewed.is_some_and(|at| now.since(at) < RESTED);
        let wanting = ends <= now || ((refused || ends <= now.after(AHEAD)) && !just_renewed);
        match latest.refresh.as_ref().filter(|_| self.kept && wanting) {
            Some(token) => Worth::Ask(token.clone()),
            None if !refused && ends > now => Worth::Good(latest),
            None => Worth::Spent,
        }
    }
}
