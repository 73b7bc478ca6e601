//! Approvals of tool calls and pins of tool definitions, for the proxy: proposes a call, waits for the
//! decision, and stores that the call is sent before it is sent.

mod deciders;
mod elsewhere;
mod listings;
mod recorded;
pub mod request_state;
mod wait_queue;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use crate::app::approval_admin::{ApprovalAdmin, ApprovalView, DecisionError, Verdict, ignore_rejection};
use crate::app::approvals::listings::Listings;
pub(in crate::app) use crate::app::approvals::listings::{Listing, ListingKey};
use crate::app::approvals::recorded::RecordedDecisions;
pub(in crate::app) use crate::app::approvals::wait_queue::Ticket;
use crate::app::approvals::wait_queue::WaitQueue;
use crate::app::audit_events;
use crate::app::core::Core;
use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::flow::approval::{ApprovalRecord, Approved, AwaitingInput, Executing, Proposed};
use crate::flow::latest_approval::{Latest, LatestApprovalRecord};
use crate::flow::pins::{PinError, Pinned, PinsRecord};
use crate::flow::tool_call::{ApprovalError, CallBinding, CallOutcome, Decider, ProposedCall};
use crate::mcp::tool::ToolDefinition;
use crate::store::{Change, Handle, InsertError, StoreError, TransitionError};

/// The most calls of one caller, or of one user with all clients, that wait for a decision.
const MAX_PENDING: usize = 32;
/// How often a waiting call reads its approval, if no change was reported.
const POLL_INTERVAL: Duration = Duration::from_millis(700);
/// How often a call is proposed while other processes propose the same one.
const MAX_ATTEMPTS: usize = 8;

/// Why a call is not proposed.
#[derive(Debug, thiserror::Error)]
pub(in crate::app) enum ProposeError {
    /// Too many calls of the caller wait for a decision.
    #[error("too many calls wait for a decision")]
    TooMany,
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The approval that a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum Proposal {
    /// Its own: a person decides, or decided, and it was not used.
    Open(Id),
    /// That of an equal call, which is executed, or whose outcome is unknown.
    Unsettled(Id),
}

/// Where a waiting call stands.
#[derive(Debug)]
pub(in crate::app) enum WaitState {
    /// The record, as it is now.
    Decided(Box<ApprovalRecord>),
    /// Nobody has decided yet.
    Undecided,
    /// There is no record any more.
    Gone,
}

/// The approvals and pins of this process.
pub struct Approvals {
    core: Arc<Core>,
    admin: ApprovalAdmin,
    /// This process, as the owner of calls.
    owner: Id,
    queue: WaitQueue,
    /// Held from the count of the undecided calls to the insertion of another one, so that concurrent calls do not
    /// exceed [`MAX_PENDING`].
    insertion: Mutex<()>,
    changed: Notify,
    listings: Listings,
    recorded: RecordedDecisions,
}

impl Approvals {
    pub(in crate::app) fn new(core: Arc<Core>) -> Self {
        let admin = ApprovalAdmin::new(core.store.clone(), core.clock.clone());
        Self {
            core,
            admin,
            owner: Id::random(),
            queue: WaitQueue::default(),
            insertion: Mutex::new(()),
            changed: Notify::new(),
            listings: Listings::default(),
            recorded: RecordedDecisions::new(),
        }
    }

    /// The approvals and pins, for decisions and pages.
    pub fn admin(&self) -> &ApprovalAdmin {
        &self.admin
    }

    /// Decides about a call, and wakes the calls that wait.
    ///
    /// # Errors
    /// If it was decided before, or the store fails.
    pub async fn decide(&self, view: &ApprovalView, verdict: Verdict, by: &str) -> Result<(), DecisionError> {
        // Before the change is reported, which may be at any time from now on.
        self.recorded.note_call(view.id);
        if let Err(error) = self.admin.decide(view.id, verdict, by).await {
            self.recorded.forget_call(view.id);
            return Err(error);
        }
        let is_approved = verdict == Verdict::Approve;
        self.core
            .audit
            .record(audit_events::call_decided(view.id, view.record.tool_call(), by, is_approved));
        self.changed.notify_waiters();
        Ok(())
    }

    /// Wakes the calls that wait for a decision.
    pub(in crate::app) fn apply_change(&self, change: &Change) {
        if change.of::<ApprovalRecord>().is_some() || *change == Change::Gap {
            self.changed.notify_waiters();
        }
    }

    /// The open approval of this call. Without one, the call is proposed.
    ///
    /// # Errors
    /// If too many calls of the caller wait, or the store fails.
    pub(in crate::app) async fn propose(&self, call: &ProposedCall) -> Result<Proposal, ProposeError> {
        let (index, now) = (Handle::<LatestApprovalRecord>::new(call.binding.id()), self.core.clock.now());
        for _ in 0..MAX_ATTEMPTS {
            let latest = self.core.store.read(&index).await?.map(|record| record.approval());
            if let Some(id) = latest
                && let Some(record) = self.core.store.read(&Handle::<ApprovalRecord>::new(id)).await?
            {
                if record.is_open(now) && record.tool_call().binding == call.binding {
                    return Ok(Proposal::Open(id));
                }
                if record.is_unsettled() {
                    return Ok(Proposal::Unsettled(id));
                }
            }
            let insertion = self.insertion.lock().await;
            if self.pending_beside(call).await? >= MAX_PENDING {
                return Err(ProposeError::TooMany);
            }
            let id = loop {
                let id = Id::random();
                // No command line takes it for a flag.
                if !id.to_string().starts_with('-') {
                    break id;
                }
            };
            let handle = match self.core.store.insert(id, Proposed::new(call.clone())).await {
                Ok(handle) => handle,
                Err(InsertError::AlreadyExists) => continue,
                Err(InsertError::Store(error)) => return Err(error.into()),
            };
            drop(insertion);
            if self.take_place(&index, latest, id, call.expires).await? {
                self.core.audit.record(audit_events::call_proposed(id, call));
                tracing::info!(approval = %id, service = call.binding.service, "a tool call waits for approval");
                return Ok(Proposal::Open(id));
            }
            self.core.store.remove(&handle).await?;
        }
        Err(StoreError::Unavailable("too many others propose the same call".to_owned()).into())
    }

    /// Makes a new approval the latest one of its call. Returns false if another process was faster.
    async fn take_place(
        &self,
        index: &Handle<LatestApprovalRecord>,
        previous: Option<Id>,
        id: Id,
        expires: UnixTime,
    ) -> Result<bool, StoreError> {
        let Some(previous) = previous else {
            return match self.core.store.insert(index.id(), Latest::new(id, expires)).await {
                Ok(_) => Ok(true),
                Err(InsertError::AlreadyExists) => Ok(false),
                Err(InsertError::Store(error)) => Err(error),
            };
        };
        let step = |latest: Latest| latest.replaced(previous, id, expires).map(|next| (next, ()));
        match self.core.store.transition(index, step).await {
            Ok(_) => Ok(true),
            Err(TransitionError::NotFound | TransitionError::WrongState | TransitionError::Rejected(_)) => Ok(false),
            Err(TransitionError::Store(error)) => Err(error),
        }
    }

    /// Forgets the approval of a call whose outcome is unknown, once its caller was told.
    ///
    /// # Errors
    /// If the store fails.
    pub(in crate::app) async fn forget_latest(&self, binding: &CallBinding, id: Id) -> Result<(), StoreError> {
        let index = Handle::<LatestApprovalRecord>::new(binding.id());
        self.core.store.remove_if(&index, |record| record.approval() == id).await.map(drop)
    }

    /// The number of undecided calls that count together with this one. A user who registers more clients gets no
    /// more calls.
    async fn pending_beside(&self, call: &ProposedCall) -> Result<usize, StoreError> {
        let now = self.core.clock.now();
        let all = self.admin.list().await?;
        let is_same_caller = |other: &ProposedCall| match &call.decider {
            Decider::User(_) => other.decider == call.decider,
            Decider::Approvers => other.binding.caller == call.binding.caller,
        };
        Ok(all
            .iter()
            .filter(|view| view.is_undecided(now) && is_same_caller(view.record.tool_call()))
            .count())
    }

    /// A place in the queue of an approval. Of several waiting calls, the oldest executes.
    pub(in crate::app) fn enqueue(&self, id: Id) -> Ticket {
        self.queue.enqueue(id)
    }

    /// The state of an approval, after its time was considered.
    ///
    /// # Errors
    /// If the store fails.
    pub(in crate::app) async fn state(&self, id: Id) -> Result<WaitState, StoreError> {
        self.admin.settle(id).await?;
        let (now, owner, is_single) = (self.core.clock.now(), self.owner, self.core.store.is_single());
        let lost = |state: Executing| state.lost(owner, is_single, now).map(|next| (next, ()));
        ignore_rejection(self.core.store.transition(&Handle::<ApprovalRecord>::new(id), lost).await)?;
        Ok(match self.core.store.read(&Handle::<ApprovalRecord>::new(id)).await? {
            None => WaitState::Gone,
            Some(ApprovalRecord::Proposed(_)) => WaitState::Undecided,
            Some(record) => WaitState::Decided(Box::new(record)),
        })
    }

    /// Waits for a change of an approval, at most until `end`.
    pub(in crate::app) async fn wait(&self, end: Instant) {
        let next = end.min(Instant::now() + POLL_INTERVAL);
        tokio::select! {
            () = self.changed.notified() => {}
            () = tokio::time::sleep_until(next) => {}
        }
    }

    /// Stores that this process sends the call. Of all processes, only one succeeds.
    ///
    /// # Errors
    /// If the approval is for another call, has expired or was used; or the store fails.
    pub(in crate::app) async fn start(&self, id: Id, binding: &CallBinding) -> Result<(), TransitionError<ApprovalError>> {
        let (now, owner) = (self.core.clock.now(), self.owner);
        let step = |state: Approved| state.started(binding, owner, now).map(|next| (next, ()));
        self.core.store.transition(&Handle::new(id), step).await?;
        self.core.audit.record(audit_events::call_executed(id, binding));
        Ok(())
    }

    /// Stores that this process forwards the user's input to the upstream.
    ///
    /// # Errors
    /// As [`Approvals::start`]; also if the input is for another round.
    pub(in crate::app) async fn start_round(
        &self,
        id: Id,
        binding: &CallBinding,
        round: u32,
    ) -> Result<(), TransitionError<ApprovalError>> {
        let (now, owner) = (self.core.clock.now(), self.owner);
        let step = |state: AwaitingInput| state.input_given(binding, round, owner, now).map(|next| (next, ()));
        self.core.store.transition(&Handle::new(id), step).await?;
        self.core.audit.record(audit_events::call_executed(id, binding));
        Ok(())
    }

    /// Says that this process still executes the call.
    ///
    /// # Errors
    /// If it does not, or the store fails.
    pub(in crate::app) async fn extend(&self, id: Id) -> Result<(), TransitionError<ApprovalError>> {
        let (now, owner) = (self.core.clock.now(), self.owner);
        let step = |state: Executing| state.extended(owner, now).map(|next| (next, ()));
        self.core.store.transition(&Handle::new(id), step).await.map(drop)
    }

    /// Stores how the call ended.
    ///
    /// # Errors
    /// If another process took it for lost, or the store fails.
    pub(in crate::app) async fn finish(&self, id: Id, outcome: &CallOutcome) -> Result<(), TransitionError<ApprovalError>> {
        let (now, owner) = (self.core.clock.now(), self.owner);
        let step = |state: Executing| state.finished(owner, outcome.clone(), now).map(|next| (next, ()));
        self.core.store.transition(&Handle::new(id), step).await?;
        self.core.audit.record(audit_events::call_returned(id, outcome));
        Ok(())
    }

    /// Stores that the upstream asks for input, and returns the round.
    ///
    /// # Errors
    /// As [`Approvals::finish`].
    pub(in crate::app) async fn ask_input(&self, id: Id, asked: &str) -> Result<u32, TransitionError<ApprovalError>> {
        let owner = self.owner;
        let step = |state: Executing| {
            let next = state.input_requested(owner, asked.to_owned())?;
            let round = next.round();
            Ok((next, round))
        };
        Ok(self.core.store.transition(&Handle::new(id), step).await?.effect)
    }

    /// Compares a list of tools with the pins of the service, and stores what is new.
    ///
    /// # Errors
    /// If the store fails, or there are too many tools.
    pub(in crate::app) async fn note_tools(
        &self,
        service: &str,
        tools: &[ToolDefinition],
        is_quarantined: bool,
    ) -> Result<Pinned, TransitionError<PinError>> {
        let now = self.core.clock.now();
        let handle = Handle::<PinsRecord>::new(PinsRecord::id(service));
        for _ in 0..MAX_ATTEMPTS {
            match self.core.store.read(&handle).await? {
                Some(record) if record.pins().knows(tools) => return Ok(record.pins().clone()),
                Some(_) => {
                    let step = |pins: Pinned| {
                        let next = pins.listed(tools, now)?;
                        Ok((next.clone(), next))
                    };
                    match self.core.store.transition(&handle, step).await {
                        Ok(done) => return Ok(done.effect),
                        Err(TransitionError::NotFound) => {}
                        Err(error) => return Err(error),
                    }
                }
                None => {
                    let first = Pinned::new(service, tools, is_quarantined, now).map_err(TransitionError::Rejected)?;
                    match self.core.store.insert(handle.id(), first.clone()).await {
                        Ok(_) => return Ok(first),
                        Err(InsertError::AlreadyExists) => {}
                        Err(InsertError::Store(error)) => return Err(error.into()),
                    }
                }
            }
        }
        Err(StoreError::Unavailable("too many others write the pins".to_owned()).into())
    }

    /// The last list of a caller, if it is young.
    pub(in crate::app) fn listing(&self, key: &ListingKey) -> Option<Arc<Listing>> {
        self.listings.get(key, self.core.clock.now())
    }

    /// Remembers the list of a caller.
    pub(in crate::app) fn remember_listing(&self, key: &ListingKey, tools: &[ToolDefinition], epoch: u64) -> Arc<Listing> {
        self.listings.put(key, tools, self.core.clock.now(), epoch)
    }

    /// Forgets the list of a caller, so that the tools are listed again.
    pub(in crate::app) fn forget_listing(&self, key: &ListingKey) {
        self.listings.forget(key);
    }

    /// The number of times that the service said that its tools changed.
    pub(in crate::app) fn listing_epoch(&self, service: &str) -> Arc<std::sync::atomic::AtomicU64> {
        self.listings.epoch(service)
    }
}
