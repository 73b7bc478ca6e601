//! The gateway renews by itself what it keeps: one asks the upstream, across requests and processes; the client's pairs
//! stay as they are.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::Id;
use crate::flow::grant::{Attempt, GrantRecord};
use crate::flow::kept::Worth;
use crate::flow::rejected::Rejected;
use crate::gateway::Gateway;
use crate::gateway::kept::{SPENT, Token, later};
use crate::gateway::live::Running;
use crate::gateway::proxy::Denied;
use crate::gateway::rejection::Rejection;
use crate::oauth::answer::UpstreamAccess;
use crate::store::{Handle, Missed};

/// How long a request waits for somebody else's attempt, in seconds.
const PATIENCE: u64 = 20;
/// How long a request waits at most; what runs for it runs on.
const LONGEST: Duration = Duration::from_secs(60 + PATIENCE);

impl Gateway {
    /// A good token of this grant, newer than the one that the upstream `refused`.
    pub(crate) async fn renewed(&self, running: &Arc<Running>, grant: Id, refused: Option<&UpstreamAccess>) -> Result<Arc<Token>, Denied> {
        let (gateway, running, refused) = (self.clone(), Arc::clone(running), refused.cloned());
        // Detached, as a client's refresh is: what the upstream rotates is not lost with a request that was given up.
        let detached = self
            .back
            .spawn(async move { gateway.renew(&running, grant, refused.as_ref()).await });
        match tokio::time::timeout(LONGEST, detached).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(Denied::Later),
        }
    }

    /// The same behind a request that does not wait for it.
    pub(crate) fn renew_behind(&self, running: &Arc<Running>, grant: Id, refused: Option<&UpstreamAccess>) {
        let (gateway, running, refused) = (self.clone(), Arc::clone(running), refused.cloned());
        let work = self.inflight.begin(Id::fresh());
        self.back.spawn(async move {
            let _work = work;
            let _ = gateway.renew(&running, grant, refused.as_ref()).await;
        });
    }

    async fn renew(&self, running: &Arc<Running>, grant: Id, refused: Option<&UpstreamAccess>) -> Result<Arc<Token>, Denied> {
        let handle = Handle::<GrantRecord>::of(grant);
        let give_up = tokio::time::sleep(Duration::from_secs(PATIENCE));
        tokio::pin!(give_up);
        // Who has waited for another's attempt does not make one of its own: if that failed, so would the next.
        let mut waited = false;
        loop {
            if let Some(winner) = self.inflight.watch(grant) {
                waited = true;
                tokio::select! {
                    _ = tokio::time::timeout(Duration::from_millis(250), winner.notified()) => continue,
                    () = &mut give_up => return Err(Denied::Later),
                }
            }
            let record = self.store.read(&handle).await.map_err(|why| later(&why))?;
            let held = record.as_ref().and_then(GrantRecord::held).ok_or(SPENT)?;
            match held.worth(refused, self.clock.now()) {
                Worth::Good(tokens) => return Ok(Token::of(tokens)),
                Worth::Spent => return Err(SPENT),
                Worth::Ask(_) if waited => return held.good(refused, self.clock.now()).map(Token::of).ok_or(Denied::Later),
                // Found before the lease is taken, so that looking for it does not use the lease up.
                Worth::Ask(_) => drop(self.target(&self.back_lane, running).await),
            }
            let attempt = Attempt {
                id: Id::fresh(),
                owner: self.owner,
                alone: self.store.is_single(),
            };
            let now = self.clock.now();
            match self.store.update(&handle, |r: GrantRecord| r.renew(refused, attempt, now)).await {
                Ok((handle, (token, held))) => {
                    let work = (self.inflight.begin(grant), &handle);
                    let answered = self.asked_upstream(work, running, attempt, token, held).await;
                    return answered
                        .map(|(_, _, tokens)| Token::of(&tokens))
                        .map_err(|why| self.unrenewed(grant, &why));
                }
                Err(Missed::Rejected(Rejected::Busy)) => tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                    () = &mut give_up => return Err(Denied::Later),
                },
                // Another look says what it is now.
                Err(Missed::Rejected(_) | Missed::OtherState | Missed::Absent) => {}
                Err(Missed::Store(why)) => return Err(later(&why)),
            }
        }
    }

    fn unrenewed(&self, grant: Id, why: &Rejection) -> Denied {
        let passing = why.retry_after().is_some() || matches!(why, Rejection::Grant(Rejected::LeaseLost));
        if passing && !self.ended.contains(grant) {
            Denied::Later
        } else {
            SPENT
        }
    }
}
