//! Where nothing is kept, but instances tell each other what they used up (`store = "none"` with a Redis): what one of them
//! redeemed, replaced or ended is refused by the others. Without that, each knows of itself.

use std::time::Duration;

use crate::app::Gateway;
use crate::app::error::Rejection;
use crate::app::refresh::LEASE_WAIT_SECONDS;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::{Digest, Id};
use crate::base::time::UnixTime;
use crate::flow::error::RejectReason;
use crate::flow::grant::{GrantRecord, Refreshing};
use crate::flow::grant_data::GrantData;
use crate::flow::notice::{Asker, EndRecord, Mark, NoticeRecord, Over, Told, UseRecord, Used, Worth};
use crate::net::stop::Stop;
use crate::oauth::token_response::UpstreamRefreshToken;
use crate::store::{Change, ChangeReceiver, Handle, InsertError, Store, StoreError, TransitionError};
use crate::token::lifetime::Ttl;

/// How long a client waits for its answer until the others are told, which goes on without it.
const TELLING: Duration = Duration::from_secs(2);

/// Longer than it may take to tell what came of asking, once that can be told.
const LATE: Duration = Duration::from_secs(2);
/// How long after what was missed could not be read it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// A presented refresh pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// Its grant.
    pub grant: Id,
    /// Its generation.
    pub generation: u32,
    /// When it ends.
    pub expires: UnixTime,
}

impl Gateway {
    /// The grant that a code begins: where nothing is kept, each instance has to find the same.
    pub(super) fn grant_id_for_code(&self, secret: &str) -> Id {
        if self.store.is_stateless() {
            named("grant", secret)
        } else {
            Id::random()
        }
    }

    /// Whether no other instance redeemed this code. From then on none does.
    pub(super) async fn is_first_with(&self, secret: &str, until: UnixTime) -> Result<bool, StoreError> {
        let Some(notices) = self.store.notices() else {
            return Ok(true);
        };
        let (id, owner) = (named("code", secret), self.owner);
        match notices.insert(id, Used { owner, expires: until }).await {
            Ok(_) => Ok(true),
            // By us, when we could not be told so.
            Err(InsertError::AlreadyExists) => Ok(notices
                .read(&Handle::<UseRecord>::new(id))
                .await?
                .is_some_and(|UseRecord::Used(used)| used.owner == owner)),
            Err(InsertError::Store(why)) => Err(why),
        }
    }

    /// Whether another instance told that a grant has ended.
    pub(super) async fn has_ended_elsewhere(&self, grant: Id) -> Result<bool, StoreError> {
        let Some(notices) = self.store.notices() else {
            return Ok(false);
        };
        let ended = notices.read(&Handle::<EndRecord>::new(grant)).await?.is_some();
        if ended {
            self.mark_ended(grant);
        }
        Ok(ended)
    }

    /// Insists that no instance used this refresh pair up, or ended its grant.
    pub(super) async fn unspent(&self, running: &ActiveService, handle: &Handle<GrantRecord>, shown: Shown) -> Result<(), Rejection> {
        let Some(notices) = self.store.notices() else {
            return Ok(());
        };
        if self.has_ended_elsewhere(shown.grant).await? {
            return Err(Rejection::Unknown("this sign-in was ended; sign in again"));
        }
        // Who may only read finds nothing used up, and would have nobody told.
        notices.ping().await?;
        let NoticeRecord::Told(told) = notices.read(&Handle::new(shown.grant)).await?.unwrap_or_default();
        if told.judged(shown.generation, self.rules(running).reuse_window, self.clock.now()) != Worth::Replay {
            return Ok(());
        }
        // Who went on last is this instance: what it remembers says what the pair is worth.
        let there = self.store.read(handle).await?;
        if there.is_some_and(|record| record.data().is_none_or(|held| Some(held.generation()) > told.newest())) {
            return Ok(());
        }
        tracing::warn!(grant = %shown.grant, "a refresh token was replayed that another instance had used up; its grant is ended");
        if let Some(held) = self.end_grant(handle).await? {
            self.revoke_upstream(&held, None);
        }
        Err(Rejection::Grant(RejectReason::Replayed))
    }

    /// Whether a grant was ended while the upstream was asked. Who cannot be asked has not heard of it: what was obtained is handed out.
    pub(super) async fn was_ended_meanwhile(&self, grant: Id) -> bool {
        self.store.notices().is_some() && (self.ended.contains(grant) || self.has_ended_elsewhere(grant).await.unwrap_or(false))
    }

    /// Insists that this may be shown to the upstream, and that no other instance does so meanwhile; waits for one that does.
    pub(super) async fn asks_alone(&self, (shown, attempt): (Shown, Id), token: &UpstreamRefreshToken) -> Result<(), Rejection> {
        let Some(notices) = self.store.notices() else {
            return Ok(());
        };
        let (mark, give_up) = (Mark::of(token), tokio::time::sleep(Duration::from_secs(LEASE_WAIT_SECONDS)));
        tokio::pin!(give_up);
        let mut has_waited = false;
        loop {
            let now = self.clock.now();
            let by = Asker {
                owner: self.owner,
                attempt,
                has_waited,
            };
            let asked = told(notices, shown, |notice| notice.asked(&mark, by, shown.expires, now)).await;
            match asked {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    tokio::time::sleep(LATE).await;
                    has_waited = true;
                }
                Err(TransitionError::Rejected(RejectReason::Busy)) => tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(100)) => has_waited = false,
                    () = &mut give_up => return Err(Rejection::TryLater { retry_after: 5 }),
                },
                Err(TransitionError::Rejected(why)) => return Err(Rejection::Grant(why)),
                Err(TransitionError::Store(why)) => return Err(why.into()),
                Err(TransitionError::NotFound | TransitionError::WrongState) => return Err(Rejection::TryLater { retry_after: 1 }),
            }
        }
    }

    /// Gives an attempt back that may not ask the upstream.
    pub(super) async fn gave_up(&self, handle: &Handle<GrantRecord>, attempt: Id) {
        let _ = self.store.transition(handle, |s: Refreshing| s.released(attempt)).await;
    }

    /// Tells that nothing came of asking the upstream.
    pub(super) async fn asked_in_vain(&self, shown: Shown, attempt: Id) {
        self.tell(shown, move |notice| notice.released(attempt)).await;
    }

    /// Tells that this pair is used up, and what the upstream replaced.
    pub(super) async fn used_up(&self, (shown, attempt): (Shown, Id), replaced: Option<&UpstreamRefreshToken>, held: &GrantData) {
        if self.store.notices().is_none() {
            return;
        }
        let (now, replaced) = (self.clock.now(), replaced.map(Mark::of));
        let until = shown.expires.max(held.refresh_ends());
        self.tell(shown, move |notice| {
            notice.used(shown.generation, replaced.clone(), attempt, until, now)
        })
        .await;
    }

    /// Tells that a grant has ended, to its last pair's end.
    pub(super) async fn tell_ended(&self, grant: Id, held: Option<&GrantData>) -> Result<(), StoreError> {
        let Some(notices) = self.store.notices().cloned() else {
            return Ok(());
        };
        // It may have begun when it could live longer.
        let longest = self
            .clock
            .now()
            .plus_seconds(self.live().longest_grant().max(Ttl::default().absolute));
        let expires = held.map_or(longest, |held| longest.max(held.refresh_ends()));
        let work = self.inflight.lock(Id::random());
        // Detached: whoever asked for it may hang up.
        let telling = self.back.spawn(async move {
            let _work = work;
            match notices.insert(grant, Over { expires }).await {
                Ok(_) | Err(InsertError::AlreadyExists) => Ok(()),
                Err(InsertError::Store(why)) => Err(why),
            }
        });
        telling
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("it was not told".to_owned())))
    }

    /// Takes in what the others tell of ended grants.
    pub(super) async fn hearing(&self, told: Option<ChangeReceiver>, stop: &Stop) {
        let (Some(mut told), Some(notices)) = (told, self.store.notices()) else {
            return;
        };
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                change = told.next() => change,
            };
            if let Some(ended) = change.of::<EndRecord>() {
                self.mark_ended(ended.id());
            }
            if change == Change::Gap {
                tokio::select! { () = stop.cancelled() => return, () = self.heard_again(notices) => {} }
            }
        }
    }

    async fn heard_again(&self, notices: &Store) {
        while let Err(why) = self.ended.load_notices(notices).await {
            tracing::warn!(%why, "what other instances ended could not be read again");
            tokio::time::sleep(AGAIN).await;
        }
        self.ended.ids().into_iter().for_each(|id| self.drop_grant_state(id));
    }

    /// As often as it takes, for what was done cannot be undone; but nobody waits for it for long.
    async fn tell(&self, shown: Shown, step: impl Fn(Told) -> Told + Send + Sync + 'static) {
        let Some(notices) = self.store.notices().cloned() else {
            return;
        };
        let work = self.inflight.lock(Id::random());
        let telling = self.back.spawn(async move {
            let _work = work;
            let mut pause = Duration::from_millis(50);
            while let Err(why) = told(&notices, shown, |notice| Ok((step(notice), ()))).await {
                tracing::error!(%why, "the other instances cannot be told what was used up; trying again and again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LATE / 2);
            }
        });
        drop(tokio::time::timeout(TELLING, telling).await);
    }
}

/// Moves the notice of a grant, or begins one; what `step` gave besides.
async fn told<T>(
    notices: &Store,
    shown: Shown,
    step: impl Fn(Told) -> Result<(Told, T), RejectReason>,
) -> Result<T, TransitionError<RejectReason>> {
    let handle = Handle::<NoticeRecord>::new(shown.grant);
    let moved = |NoticeRecord::Told(told)| step(told).map(|(next, out)| (next.into(), out));
    loop {
        match notices.update(&handle, moved).await {
            Ok((_, out)) => return Ok(out),
            Err(TransitionError::NotFound) => {}
            Err(why) => return Err(why),
        }
        let (first, out) = step(Told::default()).map_err(TransitionError::Rejected)?;
        match notices.insert(shown.grant, first).await {
            Ok(_) => return Ok(out),
            Err(InsertError::AlreadyExists) => {}
            Err(InsertError::Store(why)) => return Err(TransitionError::Store(why)),
        }
    }
}

fn named(what: &str, secret: &str) -> Id {
    Id(Digest::new(&format!("{what} {secret}")).truncated())
}
