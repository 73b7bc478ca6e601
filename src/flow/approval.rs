//! The approval of one exact tool call: `Proposed → Approved → Executing → Executed`, or `Denied`, or
//! `Expired`.
//!
//! An approval is bound to caller, service, tool, arguments, pin and policy, and it executes once.
//! [`Executing`] is stored before the call is sent. If the process that sends it disappears, the outcome
//! is unknown, and the call is not sent again.

use serde::{Deserialize, Serialize};

use crate::base::ids::Id;
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::flow::tool_call::{ApprovalError, CallBinding, CallOutcome, HumanDecision, ProposedCall};

/// How long a process may be silent before the outcome of its call counts as unknown, in seconds.
pub const EXECUTION_LEASE_SECONDS: u64 = 30;

/// How long a decided approval stays after its end, in seconds, so that its page says what happened.
pub(super) const LISTED_SECONDS: u64 = 600;

/// Nobody has decided yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Proposed {
    call: ProposedCall,
}

/// A person approved the call. It has not been sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Approved {
    call: ProposedCall,
    decision: HumanDecision,
}

/// The call is sent, and its answer is awaited. This state is stored before the call is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Executing {
    call: ProposedCall,
    decision: HumanDecision,
    owner: Id,
    lease_until: UnixTime,
    round: u32,
}

/// The upstream asked for input of the user (MCP 2026-07-28, `input_required`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AwaitingInput {
    call: ProposedCall,
    decision: HumanDecision,
    round: u32,
    /// The result that asks, as JSON.
    asked: String,
}

/// The call ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Executed {
    call: ProposedCall,
    decision: HumanDecision,
    outcome: CallOutcome,
    at: UnixTime,
}

/// A person denied the call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Denied {
    call: ProposedCall,
    decision: HumanDecision,
}

/// The approval ended before the call was sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Expired {
    call: ProposedCall,
    at: UnixTime,
}

/// The record of an approval.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum ApprovalRecord {
    /// See [`Proposed`].
    Proposed(Proposed),
    /// See [`Approved`].
    Approved(Approved),
    /// See [`Executing`].
    Executing(Executing),
    /// See [`AwaitingInput`].
    AwaitingInput(AwaitingInput),
    /// See [`Executed`].
    Executed(Executed),
    /// See [`Denied`].
    Denied(Denied),
    /// See [`Expired`].
    Expired(Expired),
}

states!(ApprovalRecord: Proposed, Approved, Executing, AwaitingInput, Executed, Denied, Expired);

impl Proposed {
    /// A call that needs a decision.
    pub fn new(call: ProposedCall) -> Self {
        Self { call }
    }

    /// A person approves the call.
    ///
    /// # Errors
    /// If the approval has expired.
    pub fn approved(self, by: &str, now: UnixTime) -> Result<Approved, ApprovalError> {
        let decision = self.call.decision(by, now)?;
        Ok(Approved { call: self.call, decision })
    }

    /// A person denies the call.
    ///
    /// # Errors
    /// If the approval has expired.
    pub fn denied(self, by: &str, now: UnixTime) -> Result<Denied, ApprovalError> {
        let decision = self.call.decision(by, now)?;
        Ok(Denied { call: self.call, decision })
    }

    /// Nobody decided in time.
    ///
    /// # Errors
    /// If there is still time.
    pub fn expired(self, now: UnixTime) -> Result<Expired, ApprovalError> {
        self.call.check_expired(now)?;
        Ok(Expired { call: self.call, at: now })
    }
}

impl Approved {
    /// The process `owner` is about to send the call.
    ///
    /// # Errors
    /// If the call is another one than the approved one, or the approval has expired.
    pub fn started(self, binding: &CallBinding, owner: Id, now: UnixTime) -> Result<Executing, ApprovalError> {
        if self.call.binding != *binding {
            return Err(ApprovalError::OtherCall);
        }
        if self.call.expires <= now {
            return Err(ApprovalError::Expired);
        }
        Ok(Executing {
            call: self.call,
            decision: self.decision,
            owner,
            lease_until: now.plus_seconds(EXECUTION_LEASE_SECONDS),
            round: 0,
        })
    }

    /// The call was not sent in time.
    ///
    /// # Errors
    /// If there is still time.
    pub fn expired(self, now: UnixTime) -> Result<Expired, ApprovalError> {
        self.call.check_expired(now)?;
        Ok(Expired { call: self.call, at: now })
    }
}

impl Executing {
    /// The process still waits for the answer.
    ///
    /// # Errors
    /// If another process executes the call.
    pub fn extended(self, owner: Id, now: UnixTime) -> Result<Self, ApprovalError> {
        self.check_owner(owner)?;
        Ok(Self {
            lease_until: now.plus_seconds(EXECUTION_LEASE_SECONDS),
            ..self
        })
    }

    /// The call ended.
    ///
    /// # Errors
    /// If another process executes the call.
    pub fn finished(self, owner: Id, outcome: CallOutcome, now: UnixTime) -> Result<Executed, ApprovalError> {
        self.check_owner(owner)?;
        Ok(Executed {
            call: self.call,
            decision: self.decision,
            outcome,
            at: now,
        })
    }

    /// The upstream asks for input.
    ///
    /// # Errors
    /// If another process executes the call.
    pub fn input_requested(self, owner: Id, asked: String) -> Result<AwaitingInput, ApprovalError> {
        self.check_owner(owner)?;
        Ok(AwaitingInput {
            call: self.call,
            decision: self.decision,
            round: self.round,
            asked,
        })
    }

    /// The process was not heard of in time. Whether the upstream executed the call is unknown. With
    /// `is_single`, no process but `owner` uses the store, so any other one has ended.
    ///
    /// # Errors
    /// If the process was heard of lately.
    pub fn lost(self, owner: Id, is_single: bool, now: UnixTime) -> Result<Executed, ApprovalError> {
        let has_ended = is_single && self.owner != owner;
        if self.lease_until > now && !has_ended {
            return Err(ApprovalError::StillExecuted);
        }
        Ok(Executed {
            call: self.call,
            decision: self.decision,
            outcome: CallOutcome::Unknown,
            at: now,
        })
    }

    fn check_owner(&self, owner: Id) -> Result<(), ApprovalError> {
        if self.owner == owner {
            Ok(())
        } else {
            Err(ApprovalError::OtherOwner)
        }
    }
}

impl AwaitingInput {
    /// The client sends the input for this round, and the process `owner` is about to forward it.
    ///
    /// # Errors
    /// If the call or the round is another one, or the approval has expired.
    pub fn input_given(self, binding: &CallBinding, round: u32, owner: Id, now: UnixTime) -> Result<Executing, ApprovalError> {
        if self.call.binding != *binding {
            return Err(ApprovalError::OtherCall);
        }
        if self.round != round {
            return Err(ApprovalError::OtherRound);
        }
        if self.call.expires <= now {
            return Err(ApprovalError::Expired);
        }
        Ok(Executing {
            call: self.call,
            decision: self.decision,
            owner,
            lease_until: now.plus_seconds(EXECUTION_LEASE_SECONDS),
            round: self.round.saturating_add(1),
        })
    }

    /// The round, counted from 0.
    pub fn round(&self) -> u32 {
        self.round
    }

    /// The result that asks for input, as JSON.
    pub fn asked(&self) -> &str {
        &self.asked
    }
}

impl Executed {
    /// How the call ended.
    pub fn outcome(&self) -> &CallOutcome {
        &self.outcome
    }
}

impl ApprovalRecord {
    /// The call.
    pub fn tool_call(&self) -> &ProposedCall {
        match self {
            Self::Proposed(state) => &state.call,
            Self::Approved(state) => &state.call,
            Self::Executing(state) => &state.call,
            Self::AwaitingInput(state) => &state.call,
            Self::Executed(state) => &state.call,
            Self::Denied(state) => &state.call,
            Self::Expired(state) => &state.call,
        }
    }

    /// The decision, if there is one.
    pub fn decision(&self) -> Option<&HumanDecision> {
        match self {
            Self::Proposed(_) | Self::Expired(_) => None,
            Self::Approved(state) => Some(&state.decision),
            Self::Executing(state) => Some(&state.decision),
            Self::AwaitingInput(state) => Some(&state.decision),
            Self::Executed(state) => Some(&state.decision),
            Self::Denied(state) => Some(&state.decision),
        }
    }

    /// Whether an equal call attaches to this approval instead of proposing another one.
    pub fn is_open(&self, now: UnixTime) -> bool {
        match self {
            Self::Proposed(state) => state.call.expires > now,
            Self::Approved(state) => state.call.expires > now,
            Self::Executing(_) | Self::AwaitingInput(_) | Self::Executed(_) | Self::Denied(_) | Self::Expired(_) => false,
        }
    }

    /// Whether the call is executed now, or its outcome is unknown.
    pub fn is_unsettled(&self) -> bool {
        match self {
            Self::Executing(_) => true,
            Self::Executed(state) => state.outcome == CallOutcome::Unknown,
            Self::Proposed(_) | Self::Approved(_) | Self::AwaitingInput(_) | Self::Denied(_) | Self::Expired(_) => false,
        }
    }

    /// The state, for lists.
    pub fn state_name(&self) -> &'static str {
        match self {
            Self::Proposed(_) => "proposed",
            Self::Approved(_) => "approved",
            Self::Executing(_) => "executing",
            Self::AwaitingInput(_) => "awaiting input",
            Self::Executed(_) => "executed",
            Self::Denied(_) => "denied",
            Self::Expired(_) => "expired",
        }
    }
}

impl Record for ApprovalRecord {
    const KIND: &'static str = "approval";

    fn expires_at(&self) -> UnixTime {
        let end = self.tool_call().expires;
        let last = match self {
            Self::Executing(state) => end.max(state.lease_until),
            Self::Executed(state) => end.max(state.at),
            Self::Proposed(_) | Self::Approved(_) | Self::AwaitingInput(_) | Self::Denied(_) | Self::Expired(_) => end,
        };
        last.plus_seconds(LISTED_SECONDS)
    }
}
