//! The work that runs in the background all the time: it follows the store's changes, prunes grants,
//! removes expired records and seals records with a new key.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Sleep;

use crate::app::App;
use crate::app::revocations::ChangeOutcome;
use tokio_util::sync::CancellationToken;

use crate::store::{Change, ChangeReceiver, Cursor, StoreError};

/// The delays between tries to load the revocation list at the start: the first, and the longest.
const FIRST_LOAD_DELAY: Duration = Duration::from_millis(100);
const MAX_LOAD_DELAY: Duration = Duration::from_secs(5);

/// How long after a missed change the revocation list is loaded again, and how long after that failed.
const RELOAD_DELAY: Duration = Duration::from_millis(200);
const RELOAD_RETRY_DELAY: Duration = Duration::from_secs(1);

/// How often expired records and quiet sources are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// How often the gateway looks for servers whose proof is due.
const PROOF_INTERVAL: Duration = Duration::from_secs(60);

/// How long after a page of grants the next one is read: in the first pass, and later; and how long
/// after a pass the next one begins.
const FIRST_PASS_PAGE_DELAY: Duration = Duration::from_millis(100);
const PAGE_DELAY: Duration = Duration::from_secs(1);
const PASS_DELAY: Duration = Duration::from_secs(60);

/// Waits for the sleep; for ever if there is none.
async fn until(sleep: Option<&mut Pin<Box<Sleep>>>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

impl App {
    /// Loads what the first MCP request needs, and then runs until `stop`. Spawned once, on the
    /// background runtime.
    pub async fn run(&self, stop: CancellationToken) {
        // Subscribed before the load, so that no change is missed in between.
        let changes = self.core.store.changes();
        let mut delay = FIRST_LOAD_DELAY;
        while let Err(error) = self.revocations.load().await {
            tracing::error!(why = %error, "the ended grants cannot be read, and no MCP request is answered before; if keys are lost for good, delete store.sqlite3, or in Redis or Vault what is under the prefix: everybody then signs in again");
            tokio::select! { () = tokio::time::sleep(delay) => {}, () = stop.cancelled() => return }
            delay = (delay * 2).min(MAX_LOAD_DELAY);
        }
        if let Err(error) = Box::pin(self.servers.load()).await {
            tracing::error!(%error, "the registered servers cannot be read; restart the gateway when the store answers");
        }
        self.rotate_signing_keys().await;
        self.approvals.load_approved_tools().await;
        // Concurrently: a revocation does not wait for a sweep of a large store, nor a sweep for a pass
        // over all grants or for a slow server.
        futures_util::future::join5(
            self.watch_changes(changes, &stop),
            self.sweep_loop(&stop),
            self.prune_grants(&stop),
            self.reseal_loop(&stop),
            Box::pin(self.proof_loop(&stop)),
        )
        .await;
    }

    /// Asks the origins of registered servers again, once a day.
    async fn proof_loop(&self, stop: &CancellationToken) {
        loop {
            tokio::select! { () = stop.cancelled() => return, () = self.servers.check_due_proofs() => {} }
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(PROOF_INTERVAL) => {} }
        }
    }

    async fn sweep_loop(&self, stop: &CancellationToken) {
        let mut tick = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            tokio::select! { () = stop.cancelled() => return, () = self.sweep() => {} }
        }
    }

    async fn watch_changes(&self, mut changes: ChangeReceiver, stop: &CancellationToken) {
        // When the revocation list is loaded again, if a change was missed.
        let mut reload: Option<Pin<Box<Sleep>>> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // Only the wait can be cancelled: a change that was taken is also applied.
                change = changes.next() => if self.apply_change(change).await == ChangeOutcome::Missed {
                    // Not at once: many may be missed in one moment.
                    reload.get_or_insert_with(|| Box::pin(tokio::time::sleep(RELOAD_DELAY)));
                },
                () = until(reload.as_mut()) => {
                    reload = None;
                    if let Err(error) = self.revocations.load().await {
                        tracing::warn!(%error, "the ended grants could not be read again");
                        reload = Some(Box::pin(tokio::time::sleep(RELOAD_RETRY_DELAY)));
                    }
                    self.drop_all_ended();
                }
            }
        }
    }

    async fn rotate_signing_keys(&self) {
        if let Err(error) = self.signing_keys.load_or_rotate().await {
            tracing::error!(%error, "the signing keys cannot be read; they are read again later");
        }
    }

    async fn apply_change(&self, change: Change) -> ChangeOutcome {
        self.signing_keys.apply_change(&change);
        self.grants.apply_change(&change).await;
        self.approvals.apply_change(&change);
        self.approvals.record_elsewhere(&change).await;
        self.stored.apply_change(&change);
        Box::pin(self.servers.apply_change(&change)).await;
        let outcome = self.revocations.apply_change(&change).await;
        if let ChangeOutcome::Ended(id) = outcome {
            self.grants.drop_ended(id);
        }
        outcome
    }

    /// Ends the streams and forgets the tokens of everything on the revocation list.
    fn drop_all_ended(&self) {
        for id in self.revocations.ids() {
            self.revocations.end_streams(id);
            self.grants.drop_ended(id);
        }
    }

    async fn sweep(&self) {
        let now = self.core.clock.now();
        self.approvals.update_deciders().await;
        self.revocations.sweep();
        self.clients.sweep();
        self.introspection.sweep();
        self.servers.sweep();
        self.token_endpoint.sweep();
        self.authorize.sweep(now);
        self.proxy.sweep(now);
        self.rotate_signing_keys().await;
        match self.core.store.sweep().await {
            Ok(0) => {}
            Ok(removed) => tracing::debug!(removed, "expired records removed"),
            Err(error) => tracing::warn!(%error, "expired records could not be removed"),
        }
    }

    /// Reads all grants again and again, one page a second, so that the cost per second does not depend
    /// on their number: some milliseconds of one thread. A million grants take half an hour, which is
    /// early enough: the answers that are removed were kept for hours. A list of due times would take
    /// memory for every grant, and would not know those that another process wrote.
    async fn prune_grants(&self, stop: &CancellationToken) {
        let mut page_delay = FIRST_PASS_PAGE_DELAY;
        let mut cursor = None;
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = self.prune_next_page(cursor) => next,
            };
            if let Err(error) = &next {
                tracing::warn!(%error, "grants could not be pruned");
            }
            if let Ok(None) = next {
                page_delay = PAGE_DELAY;
            }
            cursor = next.unwrap_or_default();
            let delay = if cursor.is_some() { page_delay } else { PASS_DELAY };
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(delay) => {} }
        }
    }

    /// Prunes a page of grants, and after the last one reads the revoked API keys. Returns the cursor of
    /// the next page.
    async fn prune_next_page(&self, cursor: Option<Cursor>) -> Result<Option<Cursor>, StoreError> {
        let next = self.grants.prune_page(cursor).await?;
        if next.is_none() {
            if let Err(error) = self.revocations.load_api_keys().await {
                tracing::warn!(%error, "the revoked API keys could not be read again");
            }
            self.drop_all_ended();
        }
        Ok(next)
    }

    /// Checks that everything is loaded and the store answers.
    ///
    /// # Errors
    /// The text says what is missing.
    pub async fn check_ready(&self) -> Result<(), String> {
        if !self.revocations.is_loaded() {
            return Err("the ended grants are not loaded yet".into());
        }
        if !self.signing_keys.can_sign() {
            return Err("the signing keys are not read yet".into());
        }
        self.ping.check(&self.core.store, &self.core.tasks).await
    }

    /// Resolves when no detached work is left: what the upstream rotated is committed.
    pub async fn tasks_finished(&self) {
        self.core.tasks.finished().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::app::api_keys::{ApiKeySpec, ApiKeys};
    use crate::app::authorize::pending_flows;
    use crate::app::core::AppParts;
    use crate::app::tasks::Tasks;
    use crate::base::keyring::{self, KeyRing};
    use crate::base::time::{Clock, UnixTime};
    use crate::base::url::ExactUrl;
    use crate::net::http_client::HttpClient;
    use crate::oauth::scope::Scopes;
    use crate::observe::audit::AuditLog;
    use crate::service::adapter_urls::AdapterUrls;
    use crate::service::client::ClientDocuments;
    use crate::service::config::Config;
    use crate::service::public_urls::PublicUrls;
    use crate::store::{Backend, Memory, Store};

    /// An app without background work: it learns of no change.
    fn app() -> Arc<App> {
        let clock = Clock::Fixed(Arc::new(1_000.into()));
        let keys = Arc::new(ArcSwap::from_pointee(
            KeyRing::parse(keyring::generate(UnixTime(0)).expose()).unwrap(),
        ));
        App::new(AppParts {
            store: Store::new(Backend::Memory(Memory::new()), Arc::clone(&keys), clock.clone()),
            keys,
            urls: PublicUrls::new(ExactUrl::parse("https://gateway.example").unwrap(), Vec::new()),
            config: Config {
                services: Vec::new(),
                users: Vec::new(),
                session_ttl: 3_600,
                idps: Vec::new(),
                clients: Vec::new(),
                cors_origins: Vec::new(),
                public_directory: false,
                approvers: Vec::new(),
                adapters: AdapterUrls::default(),
                json_token: false,
                announces_iss: true,
                redirect_schemes: vec![],
                client_documents: ClientDocuments::default(),
            },
            clock,
            max_pending_flows: pending_flows::MAX_PENDING_FLOWS,
            audit: AuditLog::default(),
            tasks: Tasks::new(tokio::runtime::Handle::current(), HttpClient::without_roots()),
        })
    }

    #[tokio::test]
    async fn a_missed_api_key_revocation_is_found_by_the_next_prune_pass() {
        let app = app();
        app.revocations.load().await.unwrap();
        let api_keys = ApiKeys::new(app.core.store.clone(), Arc::clone(&app.core.keys), app.core.clock.clone());
        let spec = || ApiKeySpec {
            service: "batch".to_owned(),
            name: None,
            scopes: Scopes::default(),
            ttl: None,
        };
        let (revoked, other) = (api_keys.add(spec()).await.unwrap(), api_keys.add(spec()).await.unwrap());
        api_keys.revoke(revoked.id).await.unwrap();
        assert!(!app.revocations.is_revoked(revoked.id), "no message came");
        assert!(app.prune_next_page(None).await.unwrap().is_none());
        assert!(app.revocations.is_revoked(revoked.id));
        assert!(!app.revocations.is_revoked(other.id));
    }
}
