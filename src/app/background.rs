//! What the back runtime does all the time: learns of ended grants, writes behind, sweeps.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Sleep;

use crate::app::Gateway;
use crate::app::revocations::list::ChangeOutcome;
use crate::base::ids::Id;
use crate::flow::error::RejectReason;
use crate::flow::grant::GrantRecord;
use crate::flow::grant_data::{GrantData, RefreshRules};
use crate::net::stop::Stop;
use crate::store::{Change, ChangeReceiver, Cursor, Handle, StoreError, TransitionError};

/// How long after something was missed everything is read again; five times so long where that failed.
const RELOAD_DELAY: Duration = Duration::from_millis(200);

/// A tombstone lies no longer than the longest access token lives, and a little; so long, in seconds, is looked for at least,
/// because `access_ttl` may have been longer. What was longer still is found by the first pass over all grants.
const MIN_TOMBSTONE_SECONDS: u64 = 86_400;
/// More than what it lies beyond that, and clocks of several instances differ, in seconds.
const CLOCK_MARGIN_SECONDS: u64 = 3_600;

/// How long after a page of grants the next one is read, of the first pass and of later ones; and how long after the last one
/// the first one again.
const FIRST_PASS_PAGE_DELAY: Duration = Duration::from_millis(100);
const PAGE_DELAY: Duration = Duration::from_secs(1);
const PASS_DELAY: Duration = Duration::from_secs(60);

/// Waits for it, or for ever if there is nothing to wait for.
async fn due(again: Option<&mut Pin<Box<Sleep>>>) {
    match again {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

impl Gateway {
    /// Loads what must be known before the first MCP request, then keeps it true until draining. To be spawned once.
    pub async fn run(&self, stop: Stop) {
        let changes = self.store.changes();
        let mut pause = Duration::from_millis(100);
        while let Err(why) = self.load_revocations().await {
            tracing::error!(%why, "the ended grants cannot be read, and no MCP request is answered before; if keys are lost for good, delete store.sqlite3, or in Redis or Vault what is under the prefix: everybody then signs in again");
            tokio::select! { () = tokio::time::sleep(pause) => {}, () = stop.cancelled() => return }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
        self.upkeep_signing().await;
        // Side by side: a revocation does not wait until a large store has been swept, nor a sweep until all grants were read.
        futures_util::future::join4(
            self.watch_changes(changes, &stop),
            self.sweep_loop(&stop),
            self.prune_grants(&stop),
            self.reseal_loop(&stop),
        )
        .await;
    }

    async fn load_revocations(&self) -> Result<(), StoreError> {
        let longest = self.live().longest_access().max(MIN_TOMBSTONE_SECONDS);
        self.ended
            .load(
                &self.store,
                self.clock.now().plus_seconds(longest).plus_seconds(CLOCK_MARGIN_SECONDS),
            )
            .await
    }

    async fn sweep_loop(&self, stop: &Stop) {
        let mut tick = tokio::time::interval(Duration::from_secs(60));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            tokio::select! { () = stop.cancelled() => return, () = self.sweep() => {} }
        }
    }

    async fn watch_changes(&self, mut changes: ChangeReceiver, stop: &Stop) {
        // Until when to wait before everything is read again, while something was missed.
        let mut again: Option<Pin<Box<Sleep>>> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // Only the wait may be given up halfway: a change that was taken is also learned.
                change = changes.next() => if self.apply_change(change).await == ChangeOutcome::Missed {
                    // Not at once: many may be missed in one moment.
                    again.get_or_insert_with(|| Box::pin(tokio::time::sleep(RELOAD_DELAY)));
                },
                () = due(again.as_mut()) => {
                    again = None;
                    if let Err(why) = self.load_revocations().await {
                        tracing::warn!(%why, "the ended grants could not be read again");
                        again = Some(Box::pin(tokio::time::sleep(RELOAD_DELAY * 5)));
                    }
                    self.ended.ids().into_iter().for_each(|id| self.drop_grant_state(id));
                }
            }
        }
    }

    async fn upkeep_signing(&self) {
        if let Err(why) = self.load_or_rotate().await {
            tracing::error!(%why, "the keys that sign cannot be read; they are tried again");
        }
    }

    async fn apply_change(&self, change: Change) -> ChangeOutcome {
        self.apply_signing_change(&change);
        match change.of::<GrantRecord>() {
            Some(handle) => self.invalidate_if_changed(&handle).await,
            None if change == Change::Gap => self.kept.clear(),
            None => {}
        }
        let learned = self.ended.apply_change(&self.store, &change).await;
        if let ChangeOutcome::Ended(id) = learned {
            self.drop_grant_state(id);
        }
        learned
    }

    /// Drops what is kept and open for what has ended.
    fn drop_grant_state(&self, id: Id) {
        self.kept.remove(id);
        self.streams.end(id);
    }

    async fn sweep(&self) {
        self.ended.sweep(&self.clock);
        self.streams.sweep();
        self.limits.sweep();
        self.sessions.sweep(self.clock.now());
        self.waiting.sweep(self.clock.now());
        self.upkeep_signing().await;
        match self.store.sweep().await {
            Ok(0) => {}
            Ok(swept) => tracing::debug!(swept, "expired records removed"),
            Err(why) => tracing::warn!(%why, "expired records could not be removed"),
        }
    }

    /// All grants are read again and again, a page at a time with a pause after each, so that it costs the same however many
    /// there are: at most a page a second, some milliseconds of one thread, once the first pass is over. A few hundred grants are looked at every minute
    /// or so, a million in a little more than half an hour. Nothing depends on the moment: an answer that is dropped half an
    /// hour after its grace was kept for hours already. To remember instead when each is due would cost memory for every
    /// grant that is in use, and all would have to be read all the same for those that another process wrote.
    async fn prune_grants(&self, stop: &Stop) {
        let mut pages = FIRST_PASS_PAGE_DELAY;
        let mut cursor = None;
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = self.prune_next_page(cursor) => next,
            };
            if let Err(why) = &next {
                tracing::warn!(%why, "grants could not be tidied");
            }
            if let Ok(None) = next {
                pages = PAGE_DELAY;
            }
            cursor = next.unwrap_or_default();
            let pause = if cursor.is_some() { pages } else { PASS_DELAY };
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
        }
    }

    /// Tidies a page of grants, and after the last one reads the revoked API keys; where the other grants are.
    async fn prune_next_page(&self, cursor: Option<Cursor>) -> Result<Option<Cursor>, StoreError> {
        let next = self.prune_page(cursor).await?;
        if next.is_none() {
            match self.ended.load_keys(&self.store).await {
                Ok(()) => {}
                Err(why) => tracing::warn!(%why, "the revoked API keys could not be read again"),
            }
            self.ended.ids().into_iter().for_each(|id| self.drop_grant_state(id));
        }
        Ok(next)
    }

    /// Drops the upstream's answers that nobody can need any more from some grants; where the others are.
    async fn prune_page(&self, cursor: Option<Cursor>) -> Result<Option<Cursor>, StoreError> {
        let (page, next) = self.store.scan::<GrantRecord>(cursor, 500).await?;
        let (live, now) = (self.live(), self.clock.now());
        for (handle, record) in page {
            // On the way: word of it may have been lost, for the nodes of a cluster keep no copy of what they say.
            if let Some(until) = record.ended_until() {
                self.ended.add(handle.id(), until);
                self.drop_grant_state(handle.id());
                continue;
            }
            let service = record.data().and_then(|held| live.find(&held.service));
            let rules = service.map_or_else(RefreshRules::default, |running| self.rules(running));
            if record.data().and_then(|held| held.prune_at(rules)).is_some_and(|at| at <= now) {
                let _ = self
                    .store
                    .update(&handle, |r: GrantRecord| Ok::<_, RejectReason>((r.pruned(rules, now), ())))
                    .await;
            }
        }
        Ok(next)
    }

    /// Written behind: the client has the pair of this generation.
    pub(crate) fn note_confirmation(&self, grant: Id, generation: u32) {
        let (gateway, running) = (self.clone(), self.inflight.lock(Id::random()));
        self.back.spawn(async move {
            let _running = running;
            let handle = Handle::<GrantRecord>::new(grant);
            let _ = gateway
                .store
                .update(&handle, |r: GrantRecord| Ok::<_, RejectReason>((r.confirmed(generation), ())))
                .await;
        });
    }

    /// Written behind, once a minute for each generation: the upstream said 401 to a token that cannot be refreshed.
    pub(crate) fn note_upstream_401(&self, grant: Id, generation: u32) {
        if !self.refused.note_once(grant, generation, self.clock.now()) {
            return;
        }
        let (gateway, running) = (self.clone(), self.inflight.lock(Id::random()));
        self.back.spawn(async move {
            let _running = running;
            let (handle, now) = (Handle::<GrantRecord>::new(grant), gateway.clock.now());
            let longest = gateway.live().longest_access();
            // Where there is something to refresh with, a 401 is nothing to note: the client refreshes.
            let record = gateway.store.read(&handle).await.ok().flatten();
            if record.as_ref().and_then(GrantRecord::data).is_none_or(GrantData::is_refreshable) {
                return;
            }
            let noted = gateway
                .store
                .update(&handle, |r: GrantRecord| {
                    Ok::<_, RejectReason>(r.upstream_401_seen(generation, now, longest))
                })
                .await;
            match noted {
                Ok((_, true)) => {
                    tracing::warn!(%grant, "the upstream refused its token twice; the user must sign in again");
                    gateway.mark_ended(grant);
                }
                Ok((_, false))
                | Err(TransitionError::NotFound | TransitionError::WrongState | TransitionError::Rejected(_) | TransitionError::Store(_)) =>
                    {}
            }
        });
    }

    /// Whether everything is loaded and the store answers.
    pub async fn is_ready(&self) -> Result<(), String> {
        if !self.ended.is_loaded() {
            return Err("the ended grants are not loaded yet".into());
        }
        if !self.can_sign() {
            return Err("the keys that sign are not read yet".into());
        }
        self.store.ping().await.map_err(|why| why.to_string())
    }

    /// Resolves when no detached work is left: what the upstream rotated is committed.
    pub async fn drained(&self) {
        self.inflight.drained().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::app::api_keys::{ApiKeySpec, ApiKeys};
    use crate::app::authorize::pending_flows;
    use crate::app::password::Passwords;
    use crate::app::runtime_config::Setup;
    use crate::app::{Lane, Parts};
    use crate::base::keyring::{self, KeyRing};
    use crate::base::time::{Clock, UnixTime};
    use crate::base::url::ExactUrl;
    use crate::net::http_client::HttpClient;
    use crate::oauth::scope::Scopes;
    use crate::service::public_urls::PublicUrls;
    use crate::store::{Backend, Memory, Store};

    /// A gateway whose upkeep does not run: no word of anything comes to it.
    fn deaf() -> Gateway {
        let clock = Clock::Fixed(Arc::new(1_000.into()));
        let keys = Arc::new(ArcSwap::from_pointee(
            KeyRing::parse(keyring::generate(UnixTime(0)).expose()).unwrap(),
        ));
        Gateway::new(Parts {
            store: Store::new(Backend::Memory(Memory::new()), Arc::clone(&keys), clock.clone()),
            keys,
            site: PublicUrls::new(ExactUrl::parse("https://gateway.example").unwrap(), Vec::new()),
            setup: Setup {
                services: Vec::new(),
                passwords: Passwords::new(Vec::new(), clock.clone()),
                session_ttl: 3_600,
                idps: Vec::new(),
                clients: Vec::new(),
                cors_origins: Vec::new(),
                public_directory: false,
                json_token: false,
            },
            clock,
            most_waiting: pending_flows::MAX_PENDING_FLOWS,
            back: tokio::runtime::Handle::current(),
            back_lane: Lane {
                client: HttpClient::without_roots(),
            },
        })
    }

    #[tokio::test]
    async fn an_api_key_of_whose_revocation_no_word_came_is_refused_after_the_next_pass() {
        let gateway = deaf();
        gateway.load_revocations().await.unwrap();
        let operator = ApiKeys {
            store: gateway.store.clone(),
            keys: Arc::clone(&gateway.keys),
            clock: gateway.clock.clone(),
        };
        let wanted = || ApiKeySpec {
            service: "batch".to_owned(),
            name: None,
            scopes: Scopes::default(),
            ttl: None,
        };
        let (taken, other) = (operator.add(wanted()).await.unwrap(), operator.add(wanted()).await.unwrap());
        operator.revoke(taken.id).await.unwrap();
        assert!(!gateway.ended.contains(taken.id), "nobody has told");
        assert!(gateway.prune_next_page(None).await.unwrap().is_none());
        assert!(gateway.ended.contains(taken.id));
        assert!(!gateway.ended.contains(other.id));
    }
}
