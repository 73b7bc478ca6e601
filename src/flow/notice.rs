//! What instances that keep nothing tell each other of a grant (`store = "none"` with a Redis): which of its refresh pairs were
//! used, which of the upstream's refresh tokens were replaced, whether somebody asks the upstream right now, and that it ended.
//! No token is in it and no name.

use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::flow::error::RejectReason;
use crate::flow::grant::LEASE_SECONDS;
use crate::oauth::token_response::UpstreamRefreshToken;

/// How many used generations and replaced tokens are remembered.
const REMEMBERED: usize = 16;

/// What was told of a grant that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When each of the last generations was used, newest last.
    used: Vec<(u32, UnixTime)>,
    /// The last tokens of the upstream's that were replaced, newest last.
    replaced: Vec<Mark>,
    asking: Option<Asking>,
    expires: UnixTime,
}

/// Who asks the upstream, and until when it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Asking {
    owner: Id,
    attempt: Id,
    lease: UnixTime,
}

/// Who asks: an instance, in one attempt of its many.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The instance.
    pub owner: Id,
    /// The attempt.
    pub attempt: Id,
    /// It saw that another's lease is over, and gave him time to tell what came of it.
    pub has_waited: bool,
}

/// Tells a token from others, and no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark(Id);

/// That a grant has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over {
    /// Until when a refresh pair of it could be presented.
    pub expires: UnixTime,
}

/// That a code was redeemed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// The instance that did.
    pub owner: Id,
    /// When the code would have ended.
    pub expires: UnixTime,
}

/// What a presented generation is worth, as far as others tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Nobody used it.
    First,
    /// It was used, not long ago or perhaps in vain.
    InGrace,
    /// It was used, and whoever did has gone on.
    Replay,
}

/// What instances tell each other of a grant that lives.
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum NoticeRecord {
    /// See [`Told`].
    Told(Told),
}

states!(NoticeRecord: Told);

impl Record for NoticeRecord {
    const KIND: &'static str = "notice";

    fn expires_at(&self) -> UnixTime {
        let Self::Told(told) = self;
        told.expires
    }
}

/// That a grant has ended.
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum EndRecord {
    /// See [`Over`].
    Over(Over),
}

states!(EndRecord: Over);

impl Record for EndRecord {
    const KIND: &'static str = "end";

    fn expires_at(&self) -> UnixTime {
        let Self::Over(over) = self;
        over.expires
    }
}

/// That a code was redeemed.
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum UseRecord {
    /// See [`Used`].
    Used(Used),
}

states!(UseRecord: Used);

impl Record for UseRecord {
    const KIND: &'static str = "use";

    fn expires_at(&self) -> UnixTime {
        let Self::Used(used) = self;
        used.expires
    }
}

impl Mark {
    /// Of the upstream's refresh token.
    pub fn of(token: &UpstreamRefreshToken) -> Self {
        Self(Id(Digest::new(token.expose()).truncated()))
    }
}

impl Default for NoticeRecord {
    fn default() -> Self {
        Self::Told(Told::default())
    }
}

impl Default for Told {
    /// Nothing was told.
    fn default() -> Self {
        Self {
            used: Vec::new(),
            replaced: Vec::new(),
            asking: None,
            expires: UnixTime(0),
        }
    }
}

impl Told {
    /// What a pair of this `generation` is worth that was not used here; `grace` in seconds.
    pub fn judged(&self, generation: u32, grace: u64, now: UnixTime) -> Worth {
        let newest = self.newest();
        match self.used.iter().find(|(used, _)| *used == generation) {
            Some((_, at)) if now.seconds_since(*at) < grace => Worth::InGrace,
            // Nobody came back with what was given for it: the answer may be lost.
            Some(_) if newest == Some(generation) => Worth::InGrace,
            Some(_) => Worth::Replay,
            // Used so long ago that it is forgotten.
            None if newest.is_some_and(|newest| newest > generation) && self.used.len() == REMEMBERED => Worth::Replay,
            None => Worth::First,
        }
    }

    /// The newest generation that was used.
    pub fn newest(&self) -> Option<u32> {
        self.used.last().map(|(newest, _)| *newest)
    }

    /// An instance is about to show `token` to the upstream: no other does at the same time, and none that was replaced is shown.
    /// Says whether the turn is taken. Where it was another's, who may be dead, or late to tell what came of it, it is only by one
    /// who has waited for that: who waits holds nothing that would be held up if he died.
    pub fn asked(mut self, token: &Mark, by: Asker, until: UnixTime, now: UnixTime) -> Result<(Self, bool), RejectReason> {
        if self.replaced.contains(token) {
            return Err(RejectReason::Replaced);
        }
        let other = self.asking.as_ref().filter(|asking| asking.owner != by.owner);
        if other.is_some_and(|asking| asking.lease > now) {
            return Err(RejectReason::Busy);
        }
        if other.is_some() && !by.has_waited {
            return Ok((self, false));
        }
        let (Asker { owner, attempt, .. }, lease) = (by, now.plus_seconds(LEASE_SECONDS));
        self.asking = Some(Asking { owner, attempt, lease });
        self.expires = self.expires.max(until).max(lease);
        Ok((self, true))
    }

    /// This generation was used by `attempt`; with what the upstream replaced, if it did.
    #[must_use]
    pub fn used(mut self, generation: u32, replaced: Option<Mark>, attempt: Id, until: UnixTime, now: UnixTime) -> Self {
        self = self.released(attempt);
        if self.used.iter().all(|(used, _)| *used != generation) {
            self.used.push((generation, now));
            self.used.sort_unstable();
        }
        self.replaced.extend(replaced);
        let excess = self.used.len().saturating_sub(REMEMBERED);
        self.used.drain(..excess);
        let excess = self.replaced.len().saturating_sub(REMEMBERED);
        self.replaced.drain(..excess);
        self.expires = self.expires.max(until);
        self
    }

    /// Nothing came of it.
    #[must_use]
    pub fn released(mut self, attempt: Id) -> Self {
        self.asking = self.asking.filter(|asking| asking.attempt != attempt);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;

    const A: Asker = Asker {
        owner: Id([1; 16]),
        attempt: Id([2; 16]),
        has_waited: false,
    };
    const B: Asker = Asker {
        owner: Id([3; 16]),
        attempt: Id([4; 16]),
        has_waited: false,
    };
    const END: UnixTime = UnixTime(1_000_000);

    fn mark(token: &str) -> Mark {
        Mark::of(&UpstreamRefreshToken::new(Secret::from(token)))
    }

    #[test]
    fn one_instance_asks_at_a_time_and_another_when_it_is_dead() {
        let asked = |notice: &Told, by, now| notice.clone().asked(&mark("x"), by, END, UnixTime(now));
        let (notice, is_taken) = asked(&Told::default(), A, 100).unwrap();
        assert!(is_taken);
        assert_eq!(asked(&notice, B, 174), Err(RejectReason::Busy));
        assert!(asked(&notice, A, 101).unwrap().1);
        let (same, is_taken) = asked(&notice, B, 175).unwrap();
        assert!(!is_taken && same == notice, "it may be late to tell what came of it");
        let waited = Asker { has_waited: true, ..B };
        assert!(asked(&notice, waited, 175).unwrap().1);
        assert_eq!(asked(&notice, waited, 174), Err(RejectReason::Busy));
        assert!(asked(&notice.clone().released(B.attempt), B, 101).is_err());
        assert!(asked(&notice.clone().released(A.attempt), B, 101).unwrap().1);
        // What an earlier attempt of the same instance says late changes nothing.
        let later = Asker { attempt: Id([9; 16]), ..A };
        let (notice, _) = asked(&notice, later, 110).unwrap();
        assert_eq!(asked(&notice.released(A.attempt), B, 111), Err(RejectReason::Busy));
    }

    #[test]
    fn what_was_replaced_is_not_shown_again_by_anybody() {
        let notice = Told::default().used(0, Some(mark("x")), A.attempt, END, UnixTime(100));
        assert_eq!(notice.clone().asked(&mark("x"), A, END, UnixTime(101)), Err(RejectReason::Replaced));
        assert!(notice.asked(&mark("y"), B, END, UnixTime(101)).is_ok());
    }

    #[test]
    fn a_used_generation_has_its_grace_and_longer_while_nobody_came_back_with_its_successor() {
        let first = Told::default().used(3, None, A.attempt, END, UnixTime(100));
        assert_eq!(first.judged(3, 50, UnixTime(149)), Worth::InGrace);
        assert_eq!(first.judged(3, 50, UnixTime(150)), Worth::InGrace);
        assert_eq!(first.judged(4, 50, UnixTime(150)), Worth::First);
        let next = first.used(4, None, A.attempt, END, UnixTime(120));
        assert_eq!(next.judged(3, 50, UnixTime(149)), Worth::InGrace);
        assert_eq!(next.judged(3, 50, UnixTime(150)), Worth::Replay);
        assert_eq!(next.judged(3, 0, UnixTime(120)), Worth::Replay);
        assert_eq!(next.judged(4, 0, UnixTime(120)), Worth::InGrace);
    }

    #[test]
    fn it_does_not_grow_and_what_it_forgot_is_a_replay() {
        let mut notice = Told::default();
        for n in 0..100 {
            notice = notice.used(n, Some(mark(&n.to_string())), A.attempt, END, UnixTime(100));
        }
        assert_eq!((notice.used.len(), notice.replaced.len()), (REMEMBERED, REMEMBERED));
        let (asked, _) = notice.clone().asked(&mark("next"), A, END, UnixTime(4_000_000_000)).unwrap();
        assert!(serde_json::to_vec(&asked).unwrap().len() < 900);
        assert_eq!(notice.judged(7, 1_000, UnixTime(100)), Worth::Replay);
        assert_eq!(notice.judged(100, 1_000, UnixTime(100)), Worth::First);
        // The first time counts.
        let again = notice.clone().used(99, None, B.attempt, END, UnixTime(900));
        assert_eq!(again, notice);
        assert_eq!(notice.expires, END);
    }
}
