//! Approvals and pins under random acts, compared with what may happen at all.

use mcp_oauth_gateway::base::ids::{Digest, Id};
use mcp_oauth_gateway::base::record::State;
use mcp_oauth_gateway::base::time::UnixTime;
use mcp_oauth_gateway::flow::approval::{ApprovalRecord, Approved, AwaitingInput, EXECUTION_LEASE_SECONDS, Executing, Proposed};
use mcp_oauth_gateway::flow::latest_approval::Latest;
use mcp_oauth_gateway::flow::pins::{PinError, Pinned};
use mcp_oauth_gateway::flow::tool_call::{ApprovalError, CallBinding, CallOutcome, Decider, ProposedCall};
use mcp_oauth_gateway::mcp::tool::{PinStatus, ToolDefinition};
use mcp_oauth_gateway::store::{Handle, Store};
use proptest::prelude::*;
use serde_json::json;

const TTL: u64 = 100;

fn binding() -> CallBinding {
    CallBinding {
        caller: "user alice client 1".into(),
        service: "tracker".into(),
        tool: "create_issue".into(),
        arguments: Digest::new("{}"),
        also_sent: None,
        pin: Some(Digest::new("definition")),
        policy: Digest::new("policy"),
    }
}

/// The binding of another call, which differs in one thing.
fn other(what: u8) -> CallBinding {
    let mut other = binding();
    match what % 8 {
        0 => other.caller = "user mallory client 1".into(),
        1 => other.service = "tracker2".into(),
        2 => other.tool = "create_issues".into(),
        3 => other.arguments = Digest::new("{\"a\":1}"),
        4 => other.pin = Some(Digest::new("another definition")),
        5 => other.pin = None,
        6 => other.also_sent = Some(Digest::new("{\"query\":\"a=1\"}")),
        _ => other.policy = Digest::new("another policy"),
    }
    other
}

fn proposed(now: u64) -> Proposed {
    Proposed::new(ProposedCall {
        binding: binding(),
        caller_name: "alice with client".into(),
        decider: Decider::User("alice".into()),
        arguments: "{}".into(),
        also_sent: None,
        reason: "default = \"ask\"".into(),
        created: UnixTime(now),
        expires: UnixTime(now + TTL),
    })
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Wait(u8),
    Approve,
    Deny,
    Expire,
    Start { other: Option<u8>, owner: u8 },
    Extend { owner: u8 },
    Finish { owner: u8 },
    Ask { owner: u8 },
    Answer { other: Option<u8>, round: u8, owner: u8 },
    Lose { owner: u8, is_single: bool },
}

fn act() -> impl Strategy<Value = Act> {
    let other = prop::option::weighted(0.3, any::<u8>());
    prop_oneof![
        (0u8..60).prop_map(Act::Wait),
        Just(Act::Approve),
        Just(Act::Deny),
        Just(Act::Expire),
        (other.clone(), 0u8..2).prop_map(|(other, owner)| Act::Start { other, owner }),
        (0u8..2).prop_map(|owner| Act::Extend { owner }),
        (0u8..2).prop_map(|owner| Act::Finish { owner }),
        (0u8..2).prop_map(|owner| Act::Ask { owner }),
        (other, 0u8..3, 0u8..2).prop_map(|(other, round, owner)| Act::Answer { other, round, owner }),
        (0u8..2, any::<bool>()).prop_map(|(owner, is_single)| Act::Lose { owner, is_single }),
    ]
}

fn owner(of: u8) -> Id {
    Id([of; 16])
}

/// Applies a step to a record in the right state; otherwise, nothing changes.
fn step<S: State<Record = ApprovalRecord>, N: Into<ApprovalRecord>>(
    record: &mut ApprovalRecord,
    step: impl FnOnce(S) -> Result<N, ApprovalError>,
) -> bool {
    let Some(state) = S::from_record(record.clone()) else {
        return false;
    };
    match step(state) {
        Ok(next) => {
            *record = next.into();
            true
        }
        Err(_) => false,
    }
}

proptest! {
    #[test]
    fn a_call_is_sent_once_as_it_was_approved_and_never_after_its_end(acts in prop::collection::vec(act(), 1..40)) {
        let (mut now, mut record) = (1_000, ApprovalRecord::from(proposed(1_000)));
        // What happened, by a model of its own.
        let (mut approvals, mut refusals, mut starts, mut rounds, mut last_heard) = (0, 0, 0, Vec::new(), 0);
        let mut running: Option<u8> = None;
        for act in acts {
            let time = UnixTime(now);
            let in_time = now < 1_000 + TTL;
            match act {
                Act::Wait(seconds) => now += u64::from(seconds),
                Act::Approve => if step(&mut record, |s: Proposed| s.approved("alice", time)) {
                    prop_assert!(in_time && approvals == 0 && refusals == 0);
                    approvals += 1;
                },
                Act::Deny => if step(&mut record, |s: Proposed| s.denied("alice", time)) {
                    prop_assert!(in_time && approvals == 0);
                    refusals += 1;
                },
                Act::Expire => {
                    let waiting = step(&mut record, |s: Proposed| s.expired(time));
                    let unsent = step(&mut record, |s: Approved| s.expired(time));
                    prop_assert!(!(waiting || unsent) || (!in_time && starts == 0));
                    refusals += usize::from(waiting || unsent);
                }
                Act::Start { other: what, owner: of } => {
                    let called = what.map_or_else(binding, other);
                    if step(&mut record, |s: Approved| s.started(&called, owner(of), time)) {
                        prop_assert!(what.is_none() && in_time && approvals == 1 && refusals == 0 && starts == 0);
                        (starts, running, last_heard) = (1, Some(of), now);
                    }
                }
                Act::Extend { owner: of } => if step(&mut record, |s: Executing| s.extended(owner(of), time)) {
                    prop_assert_eq!(running, Some(of));
                    last_heard = now;
                },
                Act::Finish { owner: of } => if step(&mut record, |s: Executing| s.finished(owner(of), CallOutcome::Result("{}".into()), time)) {
                    prop_assert_eq!(running, Some(of));
                    running = None;
                },
                Act::Ask { owner: of } => if step(&mut record, |s: Executing| s.input_requested(owner(of), "{}".into())) {
                    prop_assert_eq!(running, Some(of));
                    running = None;
                },
                Act::Answer { other: what, round, owner: of } => {
                    let called = what.map_or_else(binding, other);
                    if step(&mut record, |s: AwaitingInput| s.input_given(&called, round.into(), owner(of), time)) {
                        prop_assert!(what.is_none() && in_time && starts == 1 && !rounds.contains(&round));
                        rounds.push(round);
                        (running, last_heard) = (Some(of), now);
                    }
                }
                Act::Lose { owner: of, is_single } => if step(&mut record, |s: Executing| s.lost(owner(of), is_single, time)) {
                    prop_assert!(running.is_some() && (now >= last_heard + EXECUTION_LEASE_SECONDS || (is_single && running != Some(of))));
                    running = None;
                },
            }
            prop_assert_eq!(matches!(record, ApprovalRecord::Executing(_)), running.is_some());
            prop_assert_eq!(record.is_open(UnixTime(now)), starts == 0 && refusals == 0 && now < 1_000 + TTL);
            prop_assert_eq!(&record.tool_call().binding, &binding());
        }
    }

    #[test]
    fn only_an_approved_definition_that_is_listed_counts_as_pinned(acts in prop::collection::vec((0u8..4, 0u8..3, 0u8..4), 1..30), quarantine: bool) {
        let tool = |name: u8, text: u8| ToolDefinition::from_value(&json!({
            "name": format!("t{name}"), "description": format!("d{text}"), "annotations": {"readOnlyHint": true}
        })).unwrap();
        let mut pins = Pinned::new("s", &[tool(0, 0), tool(1, 0)], quarantine, UnixTime(1)).unwrap();
        // Per tool: the definition that counts, who approved it, and what was seen last.
        let mut counts = [Some(0), Some(0), None];
        let mut approved = [false; 3];
        let mut latest = [Some(0), Some(0), None];
        for (what, name, text) in acts {
            let index = usize::from(name);
            match what {
                0 | 1 => {
                    let list = [tool(name, text)];
                    let knows = pins.knows(&list);
                    pins = pins.listed(&list, UnixTime(2)).unwrap();
                    prop_assert!(pins.knows(&list));
                    if counts[index] != Some(text) {
                        latest[index] = Some(text);
                    }
                    let _ = knows;
                }
                _ => {
                    let result = pins.clone().approved(&format!("t{name}"), &tool(name, text).digest(), "alice");
                    if latest[index] == Some(text) {
                        pins = result.unwrap();
                        (counts[index], approved[index]) = (Some(text), true);
                    } else {
                        let expected = if latest[index].is_none() { PinError::NoSuchTool } else { PinError::OtherDigest };
                        prop_assert_eq!(result.unwrap_err(), expected);
                    }
                }
            }
            for (index, name) in (0..3).zip(0u8..) {
                for text in 0..4 {
                    let status = pins.status(&format!("t{name}"), Some(&tool(name, text).digest()));
                    let expected = match (counts[index], approved[index]) {
                        (Some(_), false) if quarantine => PinStatus::Quarantined,
                        (Some(pinned), is_read_only) if pinned == text => PinStatus::Pinned { is_read_only },
                        (Some(_), _) => PinStatus::Changed,
                        (None, _) => PinStatus::New,
                    };
                    prop_assert_eq!(status, expected);
                }
                prop_assert_eq!(pins.status(&format!("t{name}"), None), PinStatus::Unlisted);
            }
        }
    }
}

#[test]
fn an_approval_of_all_pins_needs_the_digest_of_what_was_shown() {
    let tool = |text: &str| ToolDefinition::from_value(&json!({"name": "a", "description": text})).unwrap();
    let pins = Pinned::new("s", &[tool("1")], true, UnixTime(1)).unwrap();
    let shown = pins.digest();
    let changed = pins.clone().listed(&[tool("2")], UnixTime(2)).unwrap();
    assert_eq!(changed.all_approved(&shown, "alice").unwrap_err(), PinError::OtherDigest);
    let approved = pins.all_approved(&shown, "alice").unwrap();
    assert_eq!(
        approved.status("a", Some(&tool("1").digest())),
        PinStatus::Pinned { is_read_only: false }
    );
}

/// Stores a record of each state.
pub(crate) async fn samples(store: &Store, now: UnixTime) {
    let id = |name: &str| Id(Digest::new(name).truncated());
    let (by, own) = ("alice", owner(1));
    store.insert(id("proposed"), proposed(now.0)).await.unwrap();
    let approve = |s: Proposed| s.approved(by, now).map(|next| (next, ()));
    let start = |s: Approved| s.started(&binding(), own, now).map(|next| (next, ()));
    for last in [
        "approved",
        "executing",
        "awaiting",
        "executed",
        "unknown",
        "error",
        "notkept",
        "notsent",
    ] {
        let mut handle: Handle<ApprovalRecord> = store.insert(id(last), proposed(now.0)).await.unwrap();
        handle = store.transition(&handle, approve).await.unwrap().handle;
        if last == "approved" {
            continue;
        }
        handle = store.transition(&handle, start).await.unwrap().handle;
        let outcome = match last {
            "executed" => CallOutcome::Result("{\"content\":[]}".into()),
            "unknown" => CallOutcome::Unknown,
            "error" => CallOutcome::Error("{\"code\":-32602,\"message\":\"no\"}".into()),
            "notkept" => CallOutcome::NotKept,
            "notsent" => CallOutcome::NotSent("the upstream cannot be reached".into()),
            "awaiting" => {
                let ask = |s: Executing| s.input_requested(own, "{}".into()).map(|next| (next, ()));
                store.transition(&handle, ask).await.unwrap();
                continue;
            }
            _ => continue,
        };
        let finish = |s: Executing| s.finished(own, outcome.clone(), now).map(|next| (next, ()));
        store.transition(&handle, finish).await.unwrap();
    }
    let handle = store.insert(id("denied"), proposed(now.0)).await.unwrap();
    store
        .transition(&handle, |s: Proposed| s.denied(by, now).map(|next| (next, ())))
        .await
        .unwrap();
    let handle = store.insert(id("expired"), proposed(now.0 - TTL)).await.unwrap();
    store
        .transition(&handle, |s: Proposed| s.expired(now).map(|next| (next, ())))
        .await
        .unwrap();
    store
        .insert(binding().id(), Latest::new(id("proposed"), now.plus_seconds(TTL)))
        .await
        .unwrap();
    let tool = |text: &str| ToolDefinition::from_value(&json!({"name": "create_issue", "description": text})).unwrap();
    let pins = Pinned::new("tracker", &[tool("Creates an issue")], false, now).unwrap();
    let shown = tool("Creates an issue").digest();
    let pins = pins
        .approved("create_issue", &shown, by)
        .unwrap()
        .listed(&[tool("Creates an issue!")], now)
        .unwrap();
    store.insert(id("pins"), pins).await.unwrap();
}
