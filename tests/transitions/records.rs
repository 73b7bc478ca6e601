//! Sample records of earlier versions in `tests/records`. The current version reads all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use mcp_oauth_gateway::app::access_keys::{AccessKeySpec, AccessKeys};
use mcp_oauth_gateway::app::api_keys::{ApiKeySpec, ApiKeys};
use mcp_oauth_gateway::app::authorize::remembered_consent::ConsentRecord;
use mcp_oauth_gateway::app::discovery::issuer_binding::UpstreamIssuerRecord;
use mcp_oauth_gateway::app::discovery::upstream::UpstreamClientRecord;
use mcp_oauth_gateway::base::ids::{Digest, Id};
use mcp_oauth_gateway::base::keyring::KeyRing;
use mcp_oauth_gateway::base::record::Record;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::signing_key;
use mcp_oauth_gateway::base::time::{Clock, UnixTime};
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::flow::TRANSITIONS;
use mcp_oauth_gateway::flow::access_key::{AccessKeyRecord, KeyHolder};
use mcp_oauth_gateway::flow::api_key::ApiKeyRecord;
use mcp_oauth_gateway::flow::approval::ApprovalRecord;
use mcp_oauth_gateway::flow::branches::AbandonedRecord;
use mcp_oauth_gateway::flow::deciders::{Deciders, DecidersRecord, DecidingUser};
use mcp_oauth_gateway::flow::flow_record::FlowRecord;
use mcp_oauth_gateway::flow::grant::{GrantRecord, RefreshAttempt};
use mcp_oauth_gateway::flow::latest_approval::LatestApprovalRecord;
use mcp_oauth_gateway::flow::pins::PinsRecord;
use mcp_oauth_gateway::flow::resource_server::{RegisteredServer, ServerInfo, ServerRecord};
use mcp_oauth_gateway::flow::stored_credential::{CredentialFailure, Renewing, SignedIn, StoredCredential, StoredCredentialRecord};
use mcp_oauth_gateway::flow::stored_login::{StoredLoginParams, StoredLoginRecord, StoredLoginRedirect};
use mcp_oauth_gateway::flow::stored_token::CredentialKind;
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::store::{Backend, Export, Memory, Sqlite, Store};
use mcp_oauth_gateway::token::header::TokenMode;
use mcp_oauth_gateway::token::signing_keys::{SigningKeys, SigningRecord};
use serde_json::{Value, json};

use crate::moves::acts::{Act, Bring, Form, Gives, With};
use crate::moves::world::{KEY, World};

/// A time at which no record of the folder had expired.
const THEN: u64 = 1_000_000;

const DAY: u64 = 86_400;

/// The longest life of a record of each kind in seconds, with the default lifetimes. `None` means
/// no limit: the operator bounds their number, and a request alone never creates one.
const LIES: [(&str, Option<u64>); 16] = [
    ("abandoned-branches", Some(3_600 + 300)),
    ("access-key", None),
    ("api-key", None),
    ("approval", Some(1_800 + 600)),
    ("approval-latest", Some(1_800 + 600)),
    ("consent", Some(90 * DAY)),
    ("deciders", None),
    ("flow", Some(1_800)),
    ("grant", Some(90 * DAY)),
    ("resource-server", None),
    ("signing-keys", None),
    ("stored-credential", None),
    ("tool-pins", None),
    ("stored-login", Some(600)),
    ("upstream-client", None),
    ("upstream-issuer", None),
];

/// Kinds of earlier versions that are no longer read. An import copies them, and they expire.
const REMOVED: [&str; 3] = ["end", "notice", "use"];

/// Calls a function for every kind of record.
macro_rules! kinds {
    ($each:ident($($argument:expr),*)) => {{
        $each::<FlowRecord>($($argument),*).await;
        $each::<GrantRecord>($($argument),*).await;
        $each::<AbandonedRecord>($($argument),*).await;
        $each::<AccessKeyRecord>($($argument),*).await;
        $each::<ApiKeyRecord>($($argument),*).await;
        $each::<ApprovalRecord>($($argument),*).await;
        $each::<LatestApprovalRecord>($($argument),*).await;
        $each::<PinsRecord>($($argument),*).await;
        $each::<ConsentRecord>($($argument),*).await;
        $each::<DecidersRecord>($($argument),*).await;
        $each::<StoredLoginRecord>($($argument),*).await;
        $each::<ServerRecord>($($argument),*).await;
        $each::<SigningRecord>($($argument),*).await;
        $each::<StoredCredentialRecord>($($argument),*).await;
        $each::<UpstreamClientRecord>($($argument),*).await;
        $each::<UpstreamIssuerRecord>($($argument),*).await;
    }};
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/records")
}

fn ring(text: &str) -> Arc<ArcSwap<KeyRing>> {
    Arc::new(ArcSwap::from_pointee(KeyRing::single(text).unwrap()))
}

/// Collects the paths of all fields. The items of a list share one path.
fn shape(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                shape(value, &format!("{at}.{name}"), into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| shape(item, &format!("{at}[]"), into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => drop(into.insert(at.to_owned())),
    }
}

/// Whether `read` contains everything in `kept`. It may have additional, newer fields.
fn is_within(kept: &Value, read: &Value) -> bool {
    match (kept, read) {
        (Value::Object(kept), Value::Object(read)) => kept
            .iter()
            .all(|(name, kept)| read.get(name).is_some_and(|read| is_within(kept, read))),
        (Value::Array(kept), Value::Array(read)) => {
            kept.len() == read.len() && kept.iter().zip(read).all(|(kept, read)| is_within(kept, read))
        }
        (kept, read) => kept == read,
    }
}

/// A sample file, such as `grant.Active.1.json`.
struct Kept {
    name: String,
    space: String,
    state: String,
    said: Value,
}

fn kept() -> Vec<Kept> {
    let mut all = Vec::new();
    for file in std::fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if let [space, state, _, "json"] = name.split('.').collect::<Vec<_>>()[..] {
            all.push(Kept {
                space: space.to_owned(),
                state: state.to_owned(),
                said: serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap(),
                name,
            });
        }
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

/// Regular flows for every service, stopped after one to six moves.
fn journeys(gives: Gives, bare: Gives) -> Vec<Act> {
    let mut acts = Vec::new();
    for service in 0..6 {
        for moves in 1..=6 {
            let gives = if moves % 2 == 0 { gives } else { bare };
            acts.push(Act::Journey {
                client: 0,
                service,
                gives,
                moves,
            });
        }
    }
    acts
}

/// Records of every kind and state that the current version writes, made by scripted acts.
async fn today() -> Store {
    let (gives, bare) = (
        Gives {
            refresh: true,
            life: Some(3_600),
        },
        Gives {
            refresh: false,
            life: None,
        },
    );
    let acts = journeys(gives, bare);
    let spend = [
        Act::Journey {
            client: 1,
            service: 0,
            gives,
            moves: 5,
        },
        Act::Redeem {
            flow: 0,
            by: None,
            with: With::Own,
            at_once: true,
        },
    ];
    // 112 selects the pair before the newest one.
    let present_at = |pair| Act::Present {
        pair,
        by: None,
        owner: 0,
        alone: false,
        was_current: false,
    };
    // The grant of a provider's user, and a check of the user.
    let by_provider = [
        Act::Journey {
            client: 1,
            service: 4,
            gives,
            moves: 7,
        },
        spend[1],
    ];
    let check = Act::CheckUser {
        grant: 0,
        owner: 0,
        alone: false,
        later: true,
    };
    let (present, answer) = (present_at(0), Act::Answer { attempt: 0, gives });
    let ends: [&[Act]; 12] = [
        &[
            Act::Begin {
                client: 0,
                state: true,
                service: 4,
            },
            Act::ToIdp {
                flow: 0,
                form: Form::Own,
                promise: true,
            },
        ],
        &[
            Act::Begin {
                client: 2,
                state: true,
                service: 0,
            },
            Act::Deny { flow: 0, form: Form::Own },
        ],
        &[
            Act::Journey {
                client: 1,
                service: 0,
                gives,
                moves: 3,
            },
            Act::HandOn {
                flow: 0,
                bring: Bring::Own,
            },
        ],
        &spend,
        &[spend[0], spend[1], present],
        &[spend[0], spend[1], present, answer],
        // The response with the second generation is lost, and its first branch is abandoned.
        &[spend[0], spend[1], present, answer, Act::Wait(61), present_at(112), present, answer],
        // Two branches of the second generation both refresh.
        &[
            spend[0],
            spend[1],
            present,
            answer,
            present_at(112),
            present_at(112),
            answer,
            present_at(112),
        ],
        &[spend[0], spend[1], Act::End { grant: 0 }],
        &by_provider,
        &[by_provider[0], by_provider[1], check],
        &[spend[0], spend[1], Act::Renewed { grant: 0, gives }],
    ];
    let mut worlds: Vec<_> = acts.into_iter().map(|act| (TokenMode::Sealed, vec![act])).collect();
    for mode in [TokenMode::Sealed, TokenMode::Reference] {
        worlds.extend(ends.map(|acts| (mode, acts.to_vec())));
    }
    let keys = ring(KEY);
    let clock = Clock::Fixed(Arc::new(AtomicU64::new(THEN)));
    let all = Store::new(Backend::Memory(Memory::new()), keys.clone(), clock.clone());
    for (n, (mode, acts)) in (0..).zip(worlds) {
        let mut world = World::new(60, mode);
        world.skip(n);
        for act in acts {
            world.act(act).await;
        }
        let mut text = Vec::new();
        world.store.export(&mut text).await.unwrap();
        let done = all.import(Export::open(&text[..], &keys.load()).unwrap()).await.unwrap();
        assert_eq!((done.already_there, done.expired, done.foreign), (0, 0, 0));
    }
    of_the_house(&all, ApiKeys::new(all.clone(), keys, clock)).await;
    all
}

/// Adds the records that no flow creates.
async fn of_the_house(all: &Store, house: ApiKeys) {
    crate::approvals::samples(all, UnixTime(THEN)).await;
    let wanted = ApiKeySpec {
        service: "batch".into(),
        name: Some("nightly".into()),
        scopes: Scopes::parse("read write"),
        ttl: None,
    };
    house.add(wanted.clone()).await.unwrap();
    let taken_back = house.add(wanted).await.unwrap();
    house.revoke(taken_back.id).await.unwrap();
    let id = |name: &str| Id(Digest::new(name).truncated());
    let now = UnixTime(THEN);
    all.insert(id("signing"), SigningKeys::new(signing_key::generate(), now))
        .await
        .unwrap();
    let registration = json!({
        "issuer": "https://upstream.example", "client_id": "gateway", "client_secret": "a secret", "auth_method": "client_secret_basic",
        "expires": 2_000_000, "redirect_uri": "https://gateway.example/upstream/callback/default",
    });
    let UpstreamClientRecord::OwnRegistration(client) = read(&json!({ "state": "Kept", "is": { "registration": registration } }));
    all.insert(id("client"), client).await.unwrap();
    let previous = json!({ "issuer": "https://former.example", "changed_at": now });
    let pinned = json!({ "issuer": "https://upstream.example", "secret": Digest::new("a secret"), "previous": previous });
    let UpstreamIssuerRecord::IssuerBinding(pinned) = read(&json!({ "state": "Pinned", "is": pinned }));
    all.insert(id("issuer"), pinned).await.unwrap();
    let branches = json!({ "grant": id("grant"), "branches": { "generation": 2, "first_live": 1 }, "expires": now.plus_seconds(3_900) });
    let AbandonedRecord::Abandoned(abandoned) = read(&json!({ "state": "Abandoned", "is": branches }));
    all.insert(id("abandoned"), abandoned).await.unwrap();
    let given = json!({ "scopes": ["read", "write"], "issuer": "https://upstream.example", "expires": now.plus_seconds(90 * DAY) });
    let ConsentRecord::Consent(given) = read(&json!({ "state": "Given", "is": given }));
    all.insert(id("consent"), given).await.unwrap();
    let decider = DecidingUser {
        name: "alice".into(),
        hash: Secret::from("a hash"),
        is_approver: true,
    };
    all.insert(DecidersRecord::id(), Deciders::new(vec![decider])).await.unwrap();
    stored_credentials(all).await;
    resource_servers(all).await;
    access_keys(&AccessKeys::new(all.clone(), Clock::Fixed(Arc::new(AtomicU64::new(THEN))))).await;
}

/// Adds a server that is new, one that is proven, and one that was removed.
async fn resource_servers(all: &Store) {
    let (now, resource) = (UnixTime(THEN), ExactUrl::parse("https://files.example.com/mcp").unwrap());
    let info = |logo: Option<&str>| ServerInfo {
        owner: "ops".into(),
        resource: resource.clone(),
        name: "Files".into(),
        description: "a folder".into(),
        scopes: Scopes::parse("read write"),
        logo_url: logo.map(str::to_owned),
        is_opaque: logo.is_some(),
        created: now,
    };
    all.insert(Id::random(), RegisteredServer::new(info(None))).await.unwrap();
    let proven = RegisteredServer::new(info(Some("https://files.example.com/logo.png"))).proof_checked(&resource, true, now);
    all.insert(Id::random(), proven.clone()).await.unwrap();
    all.insert(Id::random(), proven.removed(now)).await.unwrap();
}

/// Adds a key of each holder; one was used, and one is revoked.
async fn access_keys(keys: &AccessKeys) {
    for holder in [
        KeyHolder::Server("files".into()),
        KeyHolder::Owner("ops".into()),
        KeyHolder::AllOwners,
    ] {
        let spec = |name: &str| AccessKeySpec {
            holder: holder.clone(),
            name: Some(name.to_owned()),
            ttl: None,
        };
        let id = keys.add(spec("first")).await.unwrap().id;
        keys.note_use(id).await.unwrap();
        let revoked = keys.add(spec("second")).await.unwrap();
        keys.revoke(revoked.id).await.unwrap();
    }
}

/// Adds an API key, and tokens in each state.
async fn stored_credentials(all: &Store) {
    let now = UnixTime(THEN);
    let tokens = json!({ "access": "a token", "refresh": "another token", "expires": now, "refresh_expires": 2_000_000, "scope": "read" });
    let oauth = json!({
        "type": "oauth", "issuer": "https://upstream.example", "token_endpoint": "https://upstream.example/token",
        "revocation_endpoint": "https://upstream.example/revoke", "scopes": "read", "resource": "https://mcp.example", "tokens": tokens,
        "network": { "loopback": false, "private": true, "plain_http": false },
        "client": { "id": "gateway", "secret": "a secret", "auth_method": "client_secret_basic" },
    });
    let credential = |name: &str, kind: &Value| {
        let kind: CredentialKind = serde_json::from_value(kind.clone()).unwrap();
        SignedIn::new(StoredCredential::new(name, "https://mcp.example", kind, now))
    };
    let insert = |name: &'static str, kind| all.insert(StoredCredential::record_id(name), credential(name, kind));
    let key = json!({ "type": "api_key", "key": "a key" });
    insert("key", &key).await.unwrap();
    for name in ["signed-in", "renewing", "failed", "renewed", "refused"] {
        let handle = insert(name, &oauth).await.unwrap();
        if name == "signed-in" {
            continue;
        }
        let (id, owner) = (Id([1; 16]), Id([2; 16]));
        let attempt = RefreshAttempt {
            id,
            owner,
            is_exclusive: true,
        };
        let start = |record: StoredCredentialRecord| record.credential_renewal_started(None, attempt, now);
        let renewal = all.update(&handle, start).await.unwrap().1;
        let new = renewal.credential.oauth().unwrap().tokens.clone();
        let failure = CredentialFailure::new("the upstream does not answer", now);
        match name {
            "failed" => drop(
                all.transition(&handle, |s: Renewing| s.renewal_failed(id, failure.clone()))
                    .await
                    .unwrap(),
            ),
            "renewed" => drop(
                all.transition(&handle, |s: Renewing| s.renewed(id, new.clone(), now))
                    .await
                    .unwrap(),
            ),
            "refused" => drop(
                all.transition(&handle, |s: Renewing| s.renewal_refused(id, failure.clone()))
                    .await
                    .unwrap(),
            ),
            _ => {}
        }
    }
    stored_logins(all, now).await;
}

/// Adds a sign-in for a stored credential in each of its states.
async fn stored_logins(all: &Store, now: UnixTime) {
    let redirect_to = |issuer_is_guess| {
        let params = StoredLoginParams {
            service: "stripe".to_owned(),
            state: Digest::new("state"),
            verifier: Secret::from("a verifier"),
            issuer: "https://upstream.example".to_owned(),
            issuer_is_guess,
            iss_promised: true,
            ttl: 600,
        };
        StoredLoginRedirect::new(params, now)
    };
    let redirect = || redirect_to(false);
    let callback = || redirect().code_pasted(&Secret::from("a code"), now).unwrap().0;
    let id = |name: &str| Id(Digest::new(name).truncated());
    all.insert(id("login redirect"), redirect()).await.unwrap();
    all.insert(id("login redirect to a guessed issuer"), redirect_to(true))
        .await
        .unwrap();
    all.insert(id("login callback"), callback()).await.unwrap();
    all.insert(id("login done"), callback().credential_stored(now).0).await.unwrap();
    let (failed, ()) = callback().login_failed("access was denied at the upstream", now);
    all.insert(id("login failed"), failed).await.unwrap();
}

fn read<R: Record>(said: &Value) -> R {
    R::deserialize(said).unwrap_or_else(|why| panic!("{why}: {said}"))
}

/// Serialized records by kind and state.
type Written = BTreeMap<(String, String), Vec<Value>>;

async fn gather<R: Record>(store: &Store, into: &mut Written) {
    let mut cursor = None;
    loop {
        let (page, next) = store.scan::<R>(cursor, 100).await.unwrap();
        for (handle, record) in page {
            let said = serde_json::to_value(&record).unwrap();
            let state = said["state"].as_str().unwrap().to_owned();
            let envelope = json!({ "v": R::VERSION, "id": handle.id(), "r": said });
            into.entry((R::KIND.to_owned(), state)).or_default().push(envelope);
        }
        cursor = next;
        if cursor.is_none() {
            return;
        }
    }
}

async fn written(store: &Store) -> Written {
    let mut all = Written::new();
    kinds!(gather(store, &mut all));
    all
}

/// One record for each form that the current version writes and no sample file has.
async fn missing() -> Vec<(String, Value)> {
    let kept = kept();
    let mut new = Vec::new();
    for ((space, state), records) in written(&today().await).await {
        let of_it: Vec<_> = kept.iter().filter(|kept| kept.space == space && kept.state == state).collect();
        let (mut known, mut number) = (BTreeSet::new(), of_it.len());
        for kept in of_it {
            shape(&kept.said, "", &mut known);
        }
        for record in records {
            let mut fields = BTreeSet::new();
            shape(&record, "", &mut fields);
            if number == 0 || !fields.is_subset(&known) {
                known.extend(fields);
                number += 1;
                new.push((format!("{space}.{state}.{number}.json"), record));
            }
        }
    }
    new
}

#[tokio::test]
async fn every_sample_record_is_read_without_losing_a_field() {
    async fn all<R: Record>(kept: &[Kept], seen: &mut usize) {
        for kept in kept.iter().filter(|kept| kept.space == R::KIND) {
            assert!(kept.said["v"].as_u64().unwrap() <= u64::from(R::VERSION), "{}", kept.name);
            let again = serde_json::to_value(read::<R>(&kept.said["r"])).unwrap();
            assert!(is_within(&kept.said["r"], &again), "{}: {again}", kept.name);
            *seen += 1;
        }
    }
    let (kept, mut seen) = (kept(), 0);
    kinds!(all(&kept, &mut seen));
    assert_eq!(seen, kept.len(), "a file of no kind that is read");
}

#[tokio::test]
async fn a_sample_exists_for_every_record_kind_state_and_field() {
    let missing = missing().await;
    if !missing.is_empty() {
        let new = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("records");
        std::fs::create_dir_all(&new).unwrap();
        let number = exports().len() + 1;
        let mut export = std::fs::File::create(new.join(format!("export-{number}.jsonl"))).unwrap();
        today().await.export(&mut export).await.unwrap();
        std::fs::write(new.join(format!("export-{number}.key")), format!("{KEY}\n")).unwrap();
        for (name, record) in &missing {
            let text = serde_json::to_string_pretty(record).unwrap();
            std::fs::write(new.join(name), format!("{text}\n")).unwrap();
        }
        let names: Vec<_> = missing.into_iter().map(|(name, _)| name).collect();
        panic!(
            "tests/records has no {names:?}; copy what is in {} to it, over nothing",
            new.display()
        );
    }
    let kept: BTreeSet<String> = kept().into_iter().map(|kept| kept.state).collect();
    for transition in &TRANSITIONS {
        // The stored name of this state is older than its name in the code.
        let stored_name = if transition.to == "StatelessCode" {
            "CodeCarried"
        } else {
            transition.to
        };
        assert!(kept.contains(stored_name), "no sample of {stored_name}");
    }
}

/// The numbers of the sample exports.
fn exports() -> Vec<u32> {
    (1..1_000)
        .take_while(|n| folder().join(format!("export-{n}.jsonl")).exists())
        .collect()
}

/// Whether a line of an export is a record of a kind that is no longer read.
fn is_of_a_removed_kind(line: &[u8]) -> bool {
    let said: Value = serde_json::from_slice(line).unwrap_or_default();
    let kind = said["key"].as_str().and_then(|key| key.split_once('/'));
    kind.is_some_and(|(kind, _)| REMOVED.contains(&kind))
}

#[tokio::test]
async fn every_sample_export_can_be_imported_and_read() {
    let numbers = exports();
    assert!(!numbers.is_empty());
    for n in numbers {
        let keys = ring(&std::fs::read_to_string(folder().join(format!("export-{n}.key"))).unwrap());
        let text = std::fs::read(folder().join(format!("export-{n}.jsonl"))).unwrap();
        let lines = text.split_inclusive(|byte| *byte == b'\n').count();
        let removed = text.split(|byte| *byte == b'\n').filter(|line| is_of_a_removed_kind(line)).count();
        let dir = tempfile::tempdir().unwrap();
        for backend in [Backend::Memory(Memory::new()), Backend::Sqlite(Sqlite::open(dir.path()).unwrap())] {
            let store = Store::new(backend, keys.clone(), Clock::Fixed(Arc::new(AtomicU64::new(THEN))));
            let done = store.import(Export::open(&text[..], &keys.load()).unwrap()).await.unwrap();
            assert_eq!((done.moved, done.foreign, done.expired), (lines as u64 - 2, 0, 0));
            let records: usize = written(&store).await.values().map(Vec::len).sum();
            assert_eq!(records, lines - 2 - removed, "all others are of a kind that is read");
        }
    }
}

#[tokio::test]
async fn every_record_kind_expires_or_is_bounded_by_configuration() {
    async fn all<R: Record>(kept: &[Kept], known: &mut BTreeSet<String>) {
        known.insert(R::KIND.to_owned());
        let lies = LIES.iter().find(|(space, _)| *space == R::KIND);
        let (_, most) = lies.unwrap_or_else(|| panic!("how long does a {} record lie?", R::KIND));
        for kept in kept.iter().filter(|kept| kept.space == R::KIND) {
            let lies = read::<R>(&kept.said["r"]).expires_at().seconds_since(UnixTime(THEN));
            assert!(most.is_none_or(|most| lies <= most), "{} lies for {lies} s", kept.name);
        }
    }
    // The key check: each store has one, without an expiry.
    let mut known = BTreeSet::from(["key-mark".to_owned()]);
    kinds!(all(&kept(), &mut known));
    assert_eq!(known, spaces(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")));
}

/// The longest life of a record that is not sealed again after a key rotation.
const LONGEST_UNSEALED: u64 = 3_600;

#[tokio::test]
async fn every_record_that_lives_longer_than_an_hour_is_sealed_again_after_a_key_rotation() {
    async fn one<R: Record>(code: &str) {
        let (_, longest) = LIES.iter().find(|(kind, _)| *kind == R::KIND).unwrap();
        let name = std::any::type_name::<R>().rsplit("::").next().unwrap();
        let is_resealed = code.contains(&format!("reseal_all::<{name}>(store)"));
        let is_short = longest.is_some_and(|longest| longest <= LONGEST_UNSEALED);
        assert!(is_resealed || is_short, "src/app/reseal.rs leaves out {name}");
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/app/reseal.rs");
    let code = std::fs::read_to_string(path).unwrap();
    kinds!(one(&code));
}

/// The record kinds that the source defines, without those of its own tests.
fn spaces(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(spaces(&path));
        } else if !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("const KIND: &'static str = \"").skip(1);
            found.extend(names.filter_map(|after| Some(after.split_once('"')?.0.to_owned())));
        }
    }
    found
}
