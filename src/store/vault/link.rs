//! The way to a Vault, with a token that is renewed before it ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Mutex as Turn, Notify};
use tokio::time::{sleep, timeout};

use crate::base::secret::{Secret, at_rest};
use crate::base::time::Stopwatch;
use crate::store::vault::at::{VaultAt, VaultLogin};
use crate::store::vault::calls::{ANSWER, Answer, Ask, Calls, Failed};

/// How long after a login another one is refused: a role without rights must not become a flood of logins.
const PAUSE_MICROS: u64 = 2_000_000;
/// How long to wait after a renewal that failed.
const AGAIN: Duration = Duration::from_secs(5);
/// How often it is said that a token has ended for which we have no other.
const ENDED: Duration = Duration::from_secs(60);
/// How long a token that never ends, or of which nothing is known, is left alone.
const SELDOM: Duration = Duration::from_secs(3600);

/// A token, and what is known of its end.
#[derive(Clone)]
struct Held {
    number: u64,
    token: Secret,
    lease: Lease,
    /// Of the first lease; renewals up to a token's greatest age get shorter and shorter.
    first: u64,
}

/// How long it is good, in seconds (0: without end), and whether it can be made longer.
#[derive(Clone, Copy)]
struct Lease {
    seconds: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(with = "at_rest")]
    client_token: Secret,
    lease_duration: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct Renewed {
    auth: Renewal,
}

#[derive(Deserialize)]
struct Renewal {
    lease_duration: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct LookedUp {
    data: Ttl,
}

#[derive(Deserialize)]
struct Ttl {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

/// The way to Vault for everybody in this process.
pub(super) struct Link {
    pub(super) at: VaultAt,
    calls: Calls,
    held: Mutex<Option<Held>>,
    /// Who has it may sign in; when that was last done.
    turn: Turn<Option<Stopwatch>>,
    is_new: Notify,
}

impl Link {
    /// Nothing is asked yet.
    pub(super) fn new(at: VaultAt) -> Result<Self, String> {
        Ok(Self {
            calls: Calls::new(&at)?,
            at,
            held: Mutex::default(),
            turn: Turn::default(),
            is_new: Notify::new(),
        })
    }

    /// Signs in for the first time, and from then on keeps a token, on the runtime that this is called on.
    pub(super) async fn begin(self: &Arc<Self>) -> Result<(), Failed> {
        self.signed_in(None).await?;
        let link = Arc::clone(self);
        tokio::spawn(async move {
            let mut pause = None;
            loop {
                let wait = pause.take().unwrap_or_else(|| link.held().map_or(AGAIN, |held| held.lease.wait()));
                // Who signed in meanwhile has told a new end.
                if timeout(wait.min(SELDOM), link.is_new.notified()).await.is_err() {
                    pause = link.prolong().await;
                }
            }
        });
        Ok(())
    }

    /// Asks with our token. A refusal may mean that the token has ended: then signs in, and asks once more. It may as well
    /// mean that the policy lacks something, and to sign in for that would leave a token in Vault each time.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Answer, Failed> {
        let held = match self.held() {
            Some(held) => held,
            None => self.signed_in(None).await?,
        };
        let answer = self.calls.send(ask, Some(&held.token)).await;
        let Err(Failed::Refused(403, said)) = answer else {
            return answer;
        };
        let is_newest = self.held().is_some_and(|now| now.number == held.number);
        if is_newest && !matches!(self.look_up(&held.token).await, Err(Failed::Refused(403, _))) {
            return Err(Failed::Refused(403, said));
        }
        let instead = match self.signed_in(Some(held.number)).await {
            Ok(next) if next.number != held.number => return self.calls.send(ask, Some(&next.token)).await,
            Ok(_) => "the token has ended".to_owned(),
            Err(why) => format!("signing in again failed: {why}"),
        };
        Err(Failed::Refused(403, format!("{said}; {instead}")))
    }

    /// As [`Link::ask`], for what may be asked twice.
    pub(super) async fn read(&self, path: &str, within: Duration) -> Result<Answer, Failed> {
        let ask = Ask {
            method: "GET",
            path,
            body: None,
            within,
        };
        match self.ask(&ask).await {
            Err(Failed::Lost(_)) => self.ask(&ask).await,
            answer => answer,
        }
    }

    fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold(&self, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        self.is_new.notify_waiters();
    }

    /// A token other than the one with the number `not`, or the same if there can be no other now.
    async fn signed_in(&self, not: Option<u64>) -> Result<Held, Failed> {
        let mut last = self.turn.lock().await;
        if let Some(held) = self.held() {
            let is_fresh = last.is_some_and(|last| last.micros() < PAUSE_MICROS);
            let is_given = matches!(self.at.login, VaultLogin::Token(_));
            if Some(held.number) != not || is_fresh || is_given {
                return Ok(held);
            }
        }
        *last = Some(Stopwatch::start());
        let (token, lease) = self.login().await?;
        let held = Held {
            number: self.held().map_or(1, |held| held.number + 1),
            token,
            lease,
            first: lease.seconds,
        };
        self.hold(held.clone());
        Ok(held)
    }

    async fn login(&self) -> Result<(Secret, Lease), Failed> {
        let (mount, role, secret) = match &self.at.login {
            VaultLogin::Token(token) => return Ok((token.clone(), self.looked_up(token).await?)),
            VaultLogin::AppRole { mount, role, secret } => (mount, role, secret),
        };
        let mut body = json!({ "role_id": role });
        if let Some(secret) = secret {
            body["secret_id"] = secret.expose().into();
        }
        let ask = Ask {
            method: "POST",
            path: &format!("auth/{mount}/login"),
            body: Some(&body),
            within: ANSWER,
        };
        let LoggedIn { auth } = self.calls.send(&ask, None).await?.there()?.read()?;
        let (seconds, renewable) = (auth.lease_duration, auth.renewable);
        Ok((auth.client_token, Lease { seconds, renewable }))
    }

    /// What Vault knows of a token that somebody made.
    async fn looked_up(&self, token: &Secret) -> Result<Lease, Failed> {
        let lease = self.look_up(token).await?;
        if lease.seconds > 0 && !lease.renewable {
            let seconds = lease.seconds;
            tracing::warn!(seconds, "the token for Vault cannot be renewed: when it ends nobody can sign in");
        }
        Ok(lease)
    }

    async fn look_up(&self, token: &Secret) -> Result<Lease, Failed> {
        let ask = Ask {
            method: "GET",
            path: "auth/token/lookup-self",
            body: None,
            within: ANSWER,
        };
        let LookedUp { data } = self.calls.send(&ask, Some(token)).await?.there()?.read()?;
        let (seconds, renewable) = (data.ttl, data.renewable);
        Ok(Lease { seconds, renewable })
    }

    /// Makes the token last longer, or signs in anew. If neither can be done, says when to try again.
    async fn prolong(&self) -> Option<Duration> {
        let held = self.held().filter(|held| held.lease.seconds > 0)?;
        let (why, again) = match self.renewed(&held).await {
            Ok(lease) if lease.seconds >= held.first / 4 => {
                self.hold(Held { lease, ..held });
                return None;
            }
            Ok(lease) => {
                self.hold(Held { lease, ..held.clone() });
                ("it has almost reached its greatest age".to_owned(), lease.wait().max(AGAIN))
            }
            Err(why) => (why.to_string(), AGAIN.min(held.lease.wait())),
        };
        if let VaultLogin::Token(token) = &self.at.login {
            return Some(self.ending(&held, token, &why, again).await);
        }
        match self.signed_in(Some(held.number)).await {
            Ok(next) if next.number != held.number => return None,
            Ok(_) => tracing::warn!(why, "the token for Vault is not renewed; that is tried again and again"),
            Err(login) => {
                tracing::warn!(why, %login, "the token for Vault is not renewed, nor is there another; that is tried again and again")
            }
        }
        Some(again)
    }

    /// A given token that is not renewed. We have no other: says so the oftener the nearer its end is, and when to look again.
    async fn ending(&self, held: &Held, token: &Secret, why: &str, again: Duration) -> Duration {
        match self.look_up(token).await {
            Ok(lease) if lease.seconds > 0 => {
                self.hold(Held { lease, ..held.clone() });
                let seconds = lease.seconds;
                tracing::warn!(
                    why,
                    seconds,
                    "the token for Vault ends in so many seconds: give another one (token or token_file at [store]) and start again"
                );
                lease.wait().max(AGAIN)
            }
            Err(Failed::Refused(403, _)) => {
                tracing::error!("the token for Vault has ended: give another one (token or token_file at [store]) and start again");
                ENDED
            }
            Ok(_) | Err(_) => {
                tracing::warn!(why, "the token for Vault is not renewed; that is tried again and again");
                again
            }
        }
    }

    async fn renewed(&self, held: &Held) -> Result<Lease, Failed> {
        if !held.lease.renewable {
            return Err(Failed::NotAsked("it cannot be renewed".to_owned()));
        }
        let ask = Ask {
            method: "POST",
            path: "auth/token/renew-self",
            body: Some(&json!({})),
            within: ANSWER,
        };
        let Renewed { auth } = self.calls.send(&ask, Some(&held.token)).await?.there()?.read()?;
        let (seconds, renewable) = (auth.lease_duration, auth.renewable);
        Ok(Lease { seconds, renewable })
    }
}

impl Lease {
    /// Until half of it has gone.
    fn wait(self) -> Duration {
        match self.seconds {
            0 => SELDOM,
            seconds => Duration::from_millis(seconds.saturating_mul(500)).max(Duration::from_millis(250)),
        }
    }
}

/// Waits a little; for those who try again.
pub(super) async fn pause() {
    sleep(Duration::from_millis(250)).await;
}
