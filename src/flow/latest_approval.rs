//! The record that knows the latest approval of one exact call.

use serde::{Deserialize, Serialize};

use crate::base::ids::Id;
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::flow::approval::LISTED_SECONDS;
use crate::flow::tool_call::ApprovalError;

/// The latest approval of one exact call, by which an equal call finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latest {
    approval: Id,
    expires: UnixTime,
}

/// The record that knows the latest approval of one exact call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum LatestApprovalRecord {
    /// See [`Latest`].
    Latest(Latest),
}

states!(LatestApprovalRecord: Latest);

impl Latest {
    /// The first approval of a call.
    pub fn new(approval: Id, expires: UnixTime) -> Self {
        Self { approval, expires }
    }

    /// Another approval takes the place of `previous`.
    ///
    /// # Errors
    /// If another approval took its place before.
    pub fn replaced(self, previous: Id, approval: Id, expires: UnixTime) -> Result<Self, ApprovalError> {
        if self.approval != previous {
            return Err(ApprovalError::Replaced);
        }
        Ok(Self { approval, expires })
    }
}

impl LatestApprovalRecord {
    /// The approval.
    pub fn approval(&self) -> Id {
        let Self::Latest(latest) = self;
        latest.approval
    }
}

impl Record for LatestApprovalRecord {
    const KIND: &'static str = "approval-latest";

    fn expires_at(&self) -> UnixTime {
        let Self::Latest(latest) = self;
        latest.expires.plus_seconds(LISTED_SECONDS)
    }
}
