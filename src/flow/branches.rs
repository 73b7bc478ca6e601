//! The branches of a grant: several refresh tokens of one generation, and which of them are abandoned.
//!
//! A superseded refresh token may get an equivalent pair. That pair is a new branch of the current
//! generation. If the token was presented because the response was lost, the earlier branches of the
//! generation are abandoned: a use of one of them is a reuse (RFC 9700 §4.14.2).

use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;

/// The maximum number of branches of one generation. After that, the newest one is issued again.
const MAX_BRANCHES: usize = 16;
/// The number of superseded generations whose abandoned branches are remembered.
const MAX_GENERATIONS: usize = 16;

/// One branch of the current generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// When it was issued.
    pub issued: UnixTime,
    /// When its use was first noted.
    pub used: Option<UnixTime>,
}

/// The abandoned branches of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbandonedBranches {
    /// The generation.
    pub generation: u32,
    /// The branches below this one are abandoned.
    pub first_live: u8,
}

impl AbandonedBranches {
    /// Whether a token of this generation and branch is of an abandoned branch.
    pub fn contains(self, generation: u32, branch: u8) -> bool {
        generation == self.generation && branch < self.first_live
    }
}

/// Two branches that both refreshed: two holders of the grant's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParallelUse {
    /// When that was first seen.
    pub since: UnixTime,
    /// The generation that was current when it was last seen.
    pub generation: u32,
}

/// The known branches of the superseded generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefreshedBranch {
    /// A branch of it was seen in use. This branch is refreshed, if it is one of that generation.
    Used(Option<u8>),
    /// None of its branches was seen in use: a superseded refresh token counts as one of it.
    Unused,
    /// Nothing: the store does not know the generations in between.
    Unknown,
}

/// The branches of the current generation, and the abandoned ones of earlier generations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branches {
    current: Vec<Branch>,
    first_live: u8,
    abandoned: Vec<AbandonedBranches>,
    /// The branch of the generation before that was refreshed into this one, if it is known.
    parent: Option<u8>,
    /// The latest generation before the current one that was seen in use, if it is known. The client
    /// may have lost the responses with all generations after it.
    last_used: Option<u32>,
    pub(super) parallel: Option<ParallelUse>,
}

impl Default for Branches {
    fn default() -> Self {
        Self::new(UnixTime::default())
    }
}

impl Branches {
    /// The only branch of a grant's first generation.
    pub(super) fn new(now: UnixTime) -> Self {
        Self {
            current: vec![Branch { issued: now, used: None }],
            first_live: 0,
            abandoned: Vec::new(),
            parent: None,
            last_used: None,
            parallel: None,
        }
    }

    /// The branches of the current generation, the abandoned ones included.
    pub fn current(&self) -> &[Branch] {
        &self.current
    }

    /// Since when two branches both refresh, if they do.
    pub fn parallel(&self) -> Option<ParallelUse> {
        self.parallel
    }

    /// The number of the newest branch.
    pub(super) fn newest(&self) -> u8 {
        index(self.current.len().saturating_sub(1))
    }

    /// The branch that was refreshed into the current generation, if it is known.
    pub(super) fn parent(&self) -> Option<u8> {
        self.parent
    }

    /// Whether this branch of `generation` is abandoned, where `current` is the current generation.
    pub(super) fn is_abandoned(&self, generation: u32, branch: u8, current: u32) -> bool {
        let of_current = AbandonedBranches {
            generation: current,
            first_live: self.first_live,
        };
        std::iter::once(&of_current)
            .chain(&self.abandoned)
            .any(|abandoned| abandoned.contains(generation, branch))
    }

    /// Whether `generation` may be the last one that the client received, where no branch of the
    /// generation `current` was seen in use.
    pub(super) fn may_be_last_received(&self, generation: u32, current: u32) -> bool {
        generation >= self.last_used.unwrap_or(current.saturating_sub(1))
    }

    /// Starts the generation after `generation`, with one branch.
    pub(super) fn supersede(&mut self, generation: u32, refreshed: RefreshedBranch, now: UnixTime) {
        match refreshed {
            RefreshedBranch::Unknown => (self.parent, self.last_used) = (None, None),
            RefreshedBranch::Used(branch) => (self.parent, self.last_used) = (branch, Some(generation)),
            RefreshedBranch::Unused => {
                self.last_used = self.last_used.or(generation.checked_sub(1));
                self.parent = None;
            }
        }
        let first_live = std::mem::take(&mut self.first_live);
        if first_live > 0 {
            self.abandoned.push(AbandonedBranches { generation, first_live });
            let excess = self.abandoned.len().saturating_sub(MAX_GENERATIONS);
            self.abandoned.drain(..excess);
        }
        self.current = vec![Branch { issued: now, used: None }];
    }

    /// Issues a branch of the current generation and returns its number.
    pub(super) fn issue(&mut self, now: UnixTime) -> u8 {
        if self.current.len() < MAX_BRANCHES {
            self.current.push(Branch { issued: now, used: None });
        }
        self.newest()
    }

    /// Abandons the branches of the current generation that were issued so far, and returns which ones
    /// are abandoned.
    pub(super) fn abandon_all(&mut self, generation: u32) -> AbandonedBranches {
        // The last branch stays: it is issued again.
        self.first_live = index(self.current.len().min(MAX_BRANCHES - 1));
        AbandonedBranches {
            generation,
            first_live: self.first_live,
        }
    }

    /// Notes the first use of a branch of the current generation. A store that was restored from a
    /// backup may not know the branch yet.
    pub(super) fn note_use(&mut self, branch: u8, now: UnixTime) {
        while self.current.len() <= usize::from(branch).min(MAX_BRANCHES - 1) {
            self.current.push(Branch { issued: now, used: None });
        }
        if let Some(branch) = self.current.get_mut(usize::from(branch)) {
            branch.used = branch.used.or(Some(now));
        }
    }
}

/// The abandoned branches of one generation of a grant, stored until no access pair of theirs can be
/// alive. Every instance loads these records, so that a proxied request reads no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandoned {
    grant: Id,
    branches: AbandonedBranches,
    expires: UnixTime,
}

/// The record of [`Abandoned`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum AbandonedRecord {
    /// The branches are abandoned.
    Abandoned(Abandoned),
}

states!(AbandonedRecord: Abandoned);

impl Record for AbandonedRecord {
    const KIND: &'static str = "abandoned-branches";

    fn expires_at(&self) -> UnixTime {
        let Self::Abandoned(abandoned) = self;
        abandoned.expires
    }
}

impl AbandonedRecord {
    /// The id of the record of this generation of a grant.
    pub fn id(grant: Id, generation: u32) -> Id {
        Id(Digest::new(&format!("abandoned branches {grant} {generation}")).truncated())
    }

    /// The record before with these branches, which may be more by now.
    #[must_use]
    pub fn merged(before: Option<Self>, grant: Id, branches: AbandonedBranches, expires: UnixTime) -> Self {
        let first_live = before.map_or(0, |Self::Abandoned(before)| before.branches.first_live);
        let branches = AbandonedBranches {
            first_live: branches.first_live.max(first_live),
            ..branches
        };
        Self::Abandoned(Abandoned { grant, branches, expires })
    }

    /// The grant, and its abandoned branches.
    pub fn branches(&self) -> (Id, AbandonedBranches) {
        let Self::Abandoned(abandoned) = self;
        (abandoned.grant, abandoned.branches)
    }
}

fn index(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}
