//! Approvals and pins as the people who decide see them: lists, decisions, approved definitions. A gateway
//! may use the same store at the same time; it learns of a decision from the store's changes.

use std::convert::Infallible;

use crate::base::ids::{Digest, Id};
use crate::base::time::{Clock, UnixTime};
use crate::flow::approval::{ApprovalRecord, Approved, Proposed};
use crate::flow::deciders::{Deciders, DecidersRecord};
use crate::flow::pins::{PinError, Pinned, PinsRecord};
use crate::flow::tool_call::{ApprovalError, Decider};
use crate::mcp::json;
use crate::store::{Handle, Store, StoreError, TransitionError, UpsertError};

/// How many records one page of a scan has.
const PAGE_SIZE: usize = 500;

/// A decision about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The call may be sent once.
    Approve,
    /// It is refused.
    Deny,
}

/// Why a decision has no effect.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// There is no such approval.
    #[error("there is no such approval, or it ended some time ago")]
    NotFound,
    /// It is decided, or it has ended. The text is its state.
    #[error("it is already decided: {0}")]
    AlreadyDecided(&'static str),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why pins are not changed.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// The service has no pins.
    #[error("the gateway has not listed the tools of this service yet")]
    NotFound,
    /// The definition is another one, or there is none.
    #[error(transparent)]
    Rejected(PinError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An approval, for a list or a page.
#[derive(Clone, Debug)]
pub struct ApprovalView {
    /// Its id.
    pub id: Id,
    /// Its record.
    pub record: ApprovalRecord,
}

impl ApprovalView {
    /// Whether a person can decide.
    pub fn is_undecided(&self, now: UnixTime) -> bool {
        matches!(self.record, ApprovalRecord::Proposed(_)) && self.record.tool_call().expires > now
    }

    /// Of these approvals, the call of the same tool that was approved last before this one, by the same
    /// deciders.
    pub fn last_approved<'a>(&self, all: &'a [Self]) -> Option<&'a Self> {
        let call = self.record.tool_call();
        let is_same_tool = |other: &&Self| {
            let other = other.record.tool_call();
            other.binding.service == call.binding.service && other.binding.tool == call.binding.tool && other.decider == call.decider
        };
        let is_approved = |other: &&Self| !matches!(other.record, ApprovalRecord::Denied(_)) && other.record.decision().is_some();
        let approved = all
            .iter()
            .filter(|other| other.id != self.id)
            .filter(is_same_tool)
            .filter(is_approved);
        approved.max_by_key(|other| (other.record.decision().map(|decision| decision.at), other.id))
    }

    /// The arguments, and what else the call sends, one member on each line.
    pub fn argument_lines(&self) -> Vec<String> {
        let call = self.record.tool_call();
        let mut lines = pretty_lines(&call.arguments);
        if let Some(also_sent) = &call.also_sent {
            // No argument can bring this line: the lines of the arguments are one JSON value.
            lines.push("Also sent:".to_owned());
            lines.extend(pretty_lines(also_sent));
        }
        lines
    }

    /// The state for people: a proposal that nobody decided in time is expired.
    pub fn state(&self, now: UnixTime) -> &'static str {
        if matches!(self.record, ApprovalRecord::Proposed(_)) && !self.is_undecided(now) {
            "expired"
        } else {
            self.record.state_name()
        }
    }
}

fn pretty_lines(text: &str) -> Vec<String> {
    let value = json::parse(text.as_bytes()).ok();
    let pretty = value.and_then(|value| serde_json::to_string_pretty(&value).ok());
    pretty.as_deref().unwrap_or(text).lines().map(str::to_owned).collect()
}

/// The approvals and pins of a store.
#[derive(Clone, Debug)]
pub struct ApprovalAdmin {
    store: Store,
    clock: Clock,
}

impl ApprovalAdmin {
    /// The approvals and pins in `store`.
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// The time.
    pub fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// All approvals, the oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list(&self) -> Result<Vec<ApprovalView>, StoreError> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let (page, next) = self.store.scan::<ApprovalRecord>(cursor, PAGE_SIZE).await?;
            all.extend(page.into_iter().map(|(handle, record)| ApprovalView { id: handle.id(), record }));
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        all.sort_by_key(|view| (view.record.tool_call().created, view.id));
        Ok(all)
    }

    /// An approval; `None` if there is none of this id.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn find(&self, id: Id) -> Result<Option<ApprovalView>, StoreError> {
        let record = self.store.read(&Handle::<ApprovalRecord>::new(id)).await?;
        Ok(record.map(|record| ApprovalView { id, record }))
    }

    /// Decides about a call.
    ///
    /// # Errors
    /// If there is no such approval, it was decided before, or the store fails.
    pub async fn decide(&self, id: Id, verdict: Verdict, by: &str) -> Result<(), DecisionError> {
        let (now, handle) = (self.clock.now(), Handle::<ApprovalRecord>::new(id));
        let result = match verdict {
            Verdict::Approve => {
                let step = |state: Proposed| state.approved(by, now).map(|next| (next, ()));
                self.store.transition(&handle, step).await.map(drop)
            }
            Verdict::Deny => {
                let step = |state: Proposed| state.denied(by, now).map(|next| (next, ()));
                self.store.transition(&handle, step).await.map(drop)
            }
        };
        match result {
            Ok(()) => Ok(()),
            Err(TransitionError::NotFound) => Err(DecisionError::NotFound),
            Err(TransitionError::Rejected(_)) => Err(DecisionError::AlreadyDecided("expired")),
            Err(TransitionError::WrongState) => {
                let view = self.find(id).await?.ok_or(DecisionError::NotFound)?;
                Err(DecisionError::AlreadyDecided(view.record.state_name()))
            }
            Err(TransitionError::Store(error)) => Err(error.into()),
        }
    }

    /// Ends an approval whose time is over.
    ///
    /// # Errors
    /// If the store fails.
    pub(in crate::app) async fn settle(&self, id: Id) -> Result<(), StoreError> {
        let (now, handle) = (self.clock.now(), Handle::<ApprovalRecord>::new(id));
        let expired = |state: Proposed| state.expired(now).map(|next| (next, ()));
        ignore_rejection(self.store.transition(&handle, expired).await)?;
        let unsent = |state: Approved| state.expired(now).map(|next| (next, ()));
        ignore_rejection(self.store.transition(&handle, unsent).await)
    }

    /// Who may decide, as the gateway that runs here stored it; `None` if none did yet.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn deciders(&self) -> Result<Option<Deciders>, StoreError> {
        let record = self.store.read(&Handle::<DecidersRecord>::new(DecidersRecord::id())).await?;
        Ok(record.map(DecidersRecord::deciders))
    }

    /// Stores who may decide, unless the store says so already. No record: no user may decide.
    ///
    /// # Errors
    /// If the store fails.
    pub(in crate::app) async fn store_deciders(&self, deciders: &Deciders) -> Result<(), StoreError> {
        let is_stored = match self.deciders().await? {
            Some(stored) => stored == *deciders,
            None => deciders.users().is_empty(),
        };
        if is_stored {
            return Ok(());
        }
        let handle = Handle::<DecidersRecord>::new(DecidersRecord::id());
        let step = |_: Option<DecidersRecord>| Ok::<_, Infallible>((deciders.clone().into(), ()));
        match self.store.upsert(&handle, step).await {
            Ok(_) => Ok(()),
            Err(UpsertError::Store(error)) => Err(error),
            Err(UpsertError::Rejected(never)) => match never {},
        }
    }

    /// The pins of a service; `None` if the gateway has not listed its tools yet.
    ///
    /// # Errors
    /// If the store fails, or the pins cannot be read.
    pub async fn pins(&self, service: &str) -> Result<Option<Pinned>, StoreError> {
        let record = self.store.read(&Handle::<PinsRecord>::new(PinsRecord::id(service))).await?;
        Ok(record.map(|record| record.pins().clone()))
    }

    /// Approves the latest definition of a tool, or of all tools. It must have the digest that the person
    /// saw.
    ///
    /// # Errors
    /// If there are no pins, the definition is another one, or the store fails.
    pub async fn approve_pins(&self, service: &str, tool: Option<&str>, expected: &Digest, by: &str) -> Result<(), PinsError> {
        let handle = Handle::<PinsRecord>::new(PinsRecord::id(service));
        let step = |pins: Pinned| {
            let next = match tool {
                Some(tool) => pins.approved(tool, expected, by),
                None => pins.all_approved(expected, by),
            };
            next.map(|next| (next, ()))
        };
        match self.store.transition(&handle, step).await {
            Ok(_) => Ok(()),
            Err(TransitionError::NotFound | TransitionError::WrongState) => Err(PinsError::NotFound),
            Err(TransitionError::Rejected(error)) => Err(PinsError::Rejected(error)),
            Err(TransitionError::Store(error)) => Err(error.into()),
        }
    }

    /// Forgets the pins of a service: the next list is the first one again. Unreadable pins go too.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn reset_pins(&self, service: &str) -> Result<(), StoreError> {
        self.store.remove(&Handle::<PinsRecord>::new(PinsRecord::id(service))).await
    }
}

/// A state machine that is in another state needs nothing.
pub(in crate::app) fn ignore_rejection<T>(result: Result<T, TransitionError<ApprovalError>>) -> Result<(), StoreError> {
    match result {
        Ok(_) | Err(TransitionError::NotFound | TransitionError::WrongState | TransitionError::Rejected(_)) => Ok(()),
        Err(TransitionError::Store(error)) => Err(error),
    }
}

/// Whether this user may see an approval and decide about it. Approvers also decide about calls of users
/// of an identity provider, who have no password here; only their names have a colon.
pub fn may_decide(decider: &Decider, user: &str, is_approver: bool) -> bool {
    match decider {
        Decider::User(subject) => subject == user || (is_approver && subject.contains(':')),
        Decider::Approvers => is_approver,
    }
}
