//! A tool call that needs a decision: what an approval is bound to, who decides, and how the call ended.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::base::ids::{Digest, Id};
use crate::base::time::UnixTime;
use crate::mcp::canonical_json;

/// Why a transition is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// The call is another one than the approved one.
    #[error("the approval is for another call")]
    OtherCall,
    /// The approval has ended.
    #[error("the approval has expired")]
    Expired,
    /// The approval has not ended yet.
    #[error("the approval has not expired")]
    NotExpired,
    /// The input is for another round of the call.
    #[error("the input is for another round of the call")]
    OtherRound,
    /// Another process executes the call.
    #[error("another process executes the call")]
    OtherOwner,
    /// The process that executes the call was heard of lately.
    #[error("the call is still executed")]
    StillExecuted,
    /// Another approval took its place.
    #[error("another approval took its place")]
    Replaced,
}

/// What an approval is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallBinding {
    /// Who calls: a user with a client, an API key, or the local key.
    pub caller: String,
    /// The service.
    pub service: String,
    /// The tool.
    pub tool: String,
    /// The digest of the canonical arguments.
    pub arguments: Digest,
    /// The digest of what the call sends besides; `None` if it sends nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also_sent: Option<Digest>,
    /// The digest of the definition that the upstream lists for the caller; `None` if it lists none, or
    /// definitions are not pinned.
    pub pin: Option<Digest>,
    /// The version of the tool policy.
    pub policy: Digest,
}

impl CallBinding {
    /// The digest of everything that the approval is bound to.
    pub fn digest(&self) -> Digest {
        let mut members = json!({
            "caller": self.caller,
            "service": self.service,
            "tool": self.tool,
            "arguments": self.arguments.to_hex(),
            "pin": self.pin.as_ref().map(Digest::to_hex),
            "policy": self.policy.to_hex(),
        });
        // A call that sends nothing else has the digest that it had before this member existed.
        if let Some(also_sent) = &self.also_sent {
            members["also_sent"] = also_sent.to_hex().into();
        }
        canonical_json::digest(&members)
    }

    /// The id of the record that knows the latest approval of this call.
    pub fn id(&self) -> Id {
        Id(self.digest().truncated())
    }
}

/// Who decides about a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decider {
    /// The user of the grant.
    User(String),
    /// The approvers of the configuration.
    Approvers,
}

/// A call that waits, or waited, for a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedCall {
    /// What the approval is bound to.
    pub binding: CallBinding,
    /// The caller, as pages show it.
    pub caller_name: String,
    /// Who decides.
    pub decider: Decider,
    /// The canonical arguments.
    pub arguments: String,
    /// What the call sends besides its tool and arguments, as canonical JSON; `None` if it sends nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also_sent: Option<String>,
    /// Why a person is asked.
    pub reason: String,
    /// When the call came.
    pub created: UnixTime,
    /// When the approval ends.
    pub expires: UnixTime,
}

/// A person's decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HumanDecision {
    /// The user who decided.
    pub by: String,
    /// When.
    pub at: UnixTime,
}

/// How an executed call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallOutcome {
    /// The upstream answered with this result, as JSON.
    Result(String),
    /// The upstream answered with this JSON-RPC error, as JSON.
    Error(String),
    /// The upstream answered, and the answer is too long to keep.
    NotKept,
    /// The call may have been executed, and no answer is known.
    Unknown,
    /// The call was not sent.
    NotSent(String),
}

impl ProposedCall {
    pub(super) fn decision(&self, by: &str, now: UnixTime) -> Result<HumanDecision, ApprovalError> {
        if self.expires <= now {
            return Err(ApprovalError::Expired);
        }
        Ok(HumanDecision {
            by: by.to_owned(),
            at: now,
        })
    }

    pub(super) fn check_expired(&self, now: UnixTime) -> Result<(), ApprovalError> {
        if self.expires <= now {
            Ok(())
        } else {
            Err(ApprovalError::NotExpired)
        }
    }
}
