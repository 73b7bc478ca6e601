//! What the back runtime does all the time: learns of ended grants, writes behind, sweeps.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Sleep;

use crate::base::ids::Id;
use crate::flow::grant::GrantRecord;
use crate::flow::held::{Held, Rules};
use crate::flow::rejected::Rejected;
use crate::gateway::Gateway;
use crate::gateway::ended::Learned;
use crate::net::stop::Stop;
use crate::store::{Change, Changes, Cursor, Handle, Missed, Store, StoreError};

/// How long after something was missed everything is read again; five times so long where that failed.
const REREAD: Duration = Duration::from_millis(200);

/// A tombstone lies no longer than the longest access token lives, and a little; so long, in seconds, is looked for at least,
/// because `access_ttl` may have been longer. What was longer still is found by the first pass over all grants.
const TOMBSTONE: u64 = 86_400;
/// More than what it lies beyond that, and clocks of several instances differ, in seconds.
const SPARE: u64 = 3_600;

/// How long after a page of grants the next one is read, of the first pass and of later ones; and how long after the last one
/// the first one again.
const FIRST_PAGES: Duration = Duration::from_millis(100);
const PAGES: Duration = Duration::from_secs(1);
const PASSES: Duration = Duration::from_secs(60);

/// Waits for it, or for ever if there is nothing to wait for.
async fn due(again: Option<&mut Pin<Box<Sleep>>>) {
    match again {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

impl Gateway {
    /// Loads what must be known before the first MCP request, then keeps it true until draining. To be spawned once.
    pub async fn upkeep(&self, stop: Stop) {
        let (changes, told) = (self.store.changes(), self.store.notices().map(Store::changes));
        let mut pause = Duration::from_millis(100);
        while let Err(why) = self.load_ended().await {
            tracing::error!(%why, "the ended grants cannot be read, and no MCP request is answered before; if keys are lost for good, delete store.sqlite3, or in Redis or Vault what is under the prefix: everybody then signs in again");
            tokio::select! { () = tokio::time::sleep(pause) => {}, () = stop.draining() => return }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
        self.upkeep_signing().await;
        // Side by side: a revocation does not wait until a large store has been swept, nor a sweep until all grants were read.
        let learning = futures_util::future::join(self.learning(changes, &stop), self.hearing(told, &stop));
        futures_util::future::join4(learning, self.sweeping(&stop), self.tidying(&stop), self.following_keys(&stop)).await;
    }

    async fn load_ended(&self) -> Result<(), StoreError> {
        let longest = self.live().longest_access().max(TOMBSTONE);
        self.ended.load(&self.store, self.clock.now().after(longest).after(SPARE)).await
    }

    async fn sweeping(&self, stop: &Stop) {
        let mut tick = tokio::time::interval(Duration::from_secs(60));
        loop {
            tokio::select! {
                () = stop.draining() => return,
                _ = tick.tick() => {}
            }
            tokio::select! { () = stop.draining() => return, () = self.sweep() => {} }
        }
    }

    async fn learning(&self, mut changes: Changes, stop: &Stop) {
        // Until when to wait before everything is read again, while something was missed.
        let mut again: Option<Pin<Box<Sleep>>> = None;
        loop {
            tokio::select! {
                () = stop.draining() => return,
                // Only the wait may be given up halfway: a change that was taken is also learned.
                change = changes.next() => if self.learn(change).await == Learned::Missed {
                    // Not at once: many may be missed in one moment.
                    again.get_or_insert_with(|| Box::pin(tokio::time::sleep(REREAD)));
                },
                () = due(again.as_mut()) => {
                    again = None;
                    if let Err(why) = self.load_ended().await {
                        tracing::warn!(%why, "the ended grants could not be read again");
                        again = Some(Box::pin(tokio::time::sleep(REREAD * 5)));
                    }
                    self.ended.all().into_iter().for_each(|id| self.is_over(id));
                }
            }
        }
    }

    async fn upkeep_signing(&self) {
        if let Err(why) = self.keep_signing().await {
            tracing::error!(%why, "the keys that sign cannot be read; they are tried again");
        }
    }

    async fn learn(&self, change: Change) -> Learned {
        self.learn_signing(&change);
        match change.of::<GrantRecord>() {
            Some(handle) => self.kept_changed(&handle).await,
            None if change == Change::Gap => self.kept.clear(),
            None => {}
        }
        let learned = self.ended.learn(&self.store, &change).await;
        if let Learned::Ended(id) = learned {
            self.is_over(id);
        }
        learned
    }

    /// Drops what is kept and open for what has ended.
    pub(super) fn is_over(&self, id: Id) {
        self.kept.forget(id);
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
    async fn tidying(&self, stop: &Stop) {
        let mut pages = FIRST_PAGES;
        let mut cursor = None;
        loop {
            let next = tokio::select! {
                () = stop.draining() => return,
                next = self.tidied(cursor) => next,
            };
            if let Err(why) = &next {
                tracing::warn!(%why, "grants could not be tidied");
            }
            if let Ok(None) = next {
                pages = PAGES;
            }
            cursor = next.unwrap_or_default();
            let pause = if cursor.is_some() { pages } else { PASSES };
            tokio::select! { () = stop.draining() => return, () = tokio::time::sleep(pause) => {} }
        }
    }

    /// Tidies a page of grants, and after the last one reads the revoked API keys and what others ended; where the other grants are.
    async fn tidied(&self, cursor: Option<Cursor>) -> Result<Option<Cursor>, StoreError> {
        let next = self.tidied_page(cursor).await?;
        if next.is_none() {
            match self.ended.load_keys(&self.store).await {
                Ok(()) => {}
                Err(why) => tracing::warn!(%why, "the revoked API keys could not be read again"),
            }
            if let Some(notices) = self.store.notices()
                && let Err(why) = self.ended.load_notices(notices).await
            {
                tracing::warn!(%why, "what other instances ended could not be read again");
            }
            self.ended.all().into_iter().for_each(|id| self.is_over(id));
        }
        Ok(next)
    }

    /// Drops the upstream's answers that nobody can need any more from some grants; where the others are.
    async fn tidied_page(&self, cursor: Option<Cursor>) -> Result<Option<Cursor>, StoreError> {
        let (page, next) = self.store.scan::<GrantRecord>(cursor, 500).await?;
        let (live, now) = (self.live(), self.clock.now());
        for (handle, record) in page {
            // On the way: word of it may have been lost, for the nodes of a cluster keep no copy of what they say.
            if let Some(until) = record.ended_until() {
                self.ended.add(handle.id(), until);
                self.is_over(handle.id());
                continue;
            }
            let service = record.held().and_then(|held| live.find(&held.service));
            let rules = service.map_or_else(Rules::default, |running| self.rules(running));
            if record.held().and_then(|held| held.tidy_at(rules)).is_some_and(|at| at <= now) {
                let _ = self
                    .store
                    .update(&handle, |r: GrantRecord| Ok::<_, Rejected>((r.tidied(rules, now), ())))
                    .await;
            }
        }
        Ok(next)
    }

    /// Written behind: the client has the pair of this generation.
    pub(crate) fn proved(&self, grant: Id, generation: u32) {
        let (gateway, running) = (self.clone(), self.inflight.begin(Id::fresh()));
        self.back.spawn(async move {
            let _running = running;
            let handle = Handle::<GrantRecord>::of(grant);
            let _ = gateway
                .store
                .update(&handle, |r: GrantRecord| Ok::<_, Rejected>((r.proved(generation), ())))
                .await;
        });
    }

    /// Written behind, once a minute for each generation: the upstream said 401 to a token that cannot be refreshed.
    pub(crate) fn refused_upstream(&self, grant: Id, generation: u32) {
        if !self.refused.first(grant, generation, self.clock.now()) {
            return;
        }
        let (gateway, running) = (self.clone(), self.inflight.begin(Id::fresh()));
        self.back.spawn(async move {
            let _running = running;
            let (handle, now) = (Handle::<GrantRecord>::of(grant), gateway.clock.now());
            let longest = gateway.live().longest_access();
            // Where there is something to refresh with, a 401 is nothing to note: the client refreshes.
            let record = gateway.store.read(&handle).await.ok().flatten();
            if record.as_ref().and_then(GrantRecord::held).is_none_or(Held::is_refreshable) {
                return;
            }
            let noted = gateway
                .store
                .update(&handle, |r: GrantRecord| {
                    Ok::<_, Rejected>(r.refused_upstream(generation, now, longest))
                })
                .await;
            match noted {
                Ok((_, true)) => {
                    tracing::warn!(%grant, "the upstream refused its token twice; the user must sign in again");
                    gateway.has_ended(grant);
                }
                Ok((_, false)) | Err(Missed::Absent | Missed::OtherState | Missed::Rejected(_) | Missed::Store(_)) => {}
            }
        });
    }

    /// Whether everything is loaded and the store answers.
    pub async fn is_ready(&self) -> Result<(), String> {
        if !self.ended.is_complete() {
            return Err("the ended grants are not loaded yet".into());
        }
        if !self.can_sign() {
            return Err("the keys that sign are not read yet".into());
        }
        self.store.ping().await.map_err(|why| why.to_string())
    }

    /// Resolves when no detached work is left: what the upstream rotated is committed.
    pub async fn finished(&self) {
        self.inflight.finished().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::base::keyring::{self, KeyRing};
    use crate::base::time::{Clock, UnixTime};
    use crate::base::url::Address;
    use crate::gateway::api_keys::{ApiKeys, Wanted};
    use crate::gateway::live::Setup;
    use crate::gateway::password::Passwords;
    use crate::gateway::site::Site;
    use crate::gateway::{Lane, Parts, waiting};
    use crate::net::client::Client;
    use crate::oauth::scope::Scopes;
    use crate::store::{Backend, Memory, Store};

    /// A gateway whose upkeep does not run: no word of anything comes to it.
    fn deaf() -> Gateway {
        let clock = Clock::Fixed(Arc::new(1_000.into()));
        let keys = Arc::new(ArcSwap::from_pointee(KeyRing::parse(keyring::made(UnixTime(0)).expose()).unwrap()));
        Gateway::new(Parts {
            store: Store::new(Backend::Memory(Memory::new()), Arc::clone(&keys), clock.clone()),
            keys,
            site: Site::new(Address::parse("https://gateway.example").unwrap(), Vec::new()),
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
            most_waiting: waiting::MOST,
            back: tokio::runtime::Handle::current(),
            back_lane: Lane {
                client: Client::to_nobody(),
            },
        })
    }

    #[tokio::test]
    async fn an_api_key_of_whose_revocation_no_word_came_is_refused_after_the_next_pass() {
        let gateway = deaf();
        gateway.load_ended().await.unwrap();
        let operator = ApiKeys {
            store: gateway.store.clone(),
            keys: Arc::clone(&gateway.keys),
            clock: gateway.clock.clone(),
        };
        let wanted = || Wanted {
            service: "batch".to_owned(),
            name: None,
            scopes: Scopes::default(),
            lives: None,
        };
        let (taken, other) = (operator.add(wanted()).await.unwrap(), operator.add(wanted()).await.unwrap());
        operator.revoke(taken.id).await.unwrap();
        assert!(!gateway.ended.contains(taken.id), "nobody has told");
        assert!(gateway.tidied(None).await.unwrap().is_none());
        assert!(gateway.ended.contains(taken.id));
        assert!(!gateway.ended.contains(other.id));
    }
}
