//! Seals long-lived records again after a key rotation, page by page. Then older keys can leave the
//! key ring, and every record still opens. Flows, sign-ins of commands and approvals are left out,
//! because they expire within an hour.

use std::time::Duration;

use crate::app::App;
use crate::app::authorize::remembered_consent::ConsentRecord;
use crate::app::discovery::issuer_binding::UpstreamIssuerRecord;
use crate::app::discovery::upstream::UpstreamClientRecord;
use crate::base::record::Record;
use crate::flow::access_key::AccessKeyRecord;
use crate::flow::api_key::ApiKeyRecord;
use crate::flow::branches::AbandonedRecord;
use crate::flow::deciders::DecidersRecord;
use crate::flow::grant::GrantRecord;
use crate::flow::pins::PinsRecord;
use crate::flow::resource_server::ServerRecord;
use crate::flow::stored_credential::StoredCredentialRecord;
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError};
use crate::token::signing_keys::SigningRecord;

/// The delay between two pages, and between two checks of the keys.
const RESEAL_PAGE_DELAY: Duration = Duration::from_millis(500);
const KEY_CHECK_INTERVAL: Duration = Duration::from_secs(60);

impl App {
    /// Checks repeatedly whether another key seals now, and seals the records again.
    pub(crate) async fn reseal_loop(&self, stop: &CancellationToken) {
        loop {
            let result = tokio::select! {
                () = stop.cancelled() => return,
                result = self.reseal() => result,
            };
            if let Err(error) = result {
                tracing::warn!(why = %error, "not all records could be sealed with the new key; that is tried again");
            }
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(KEY_CHECK_INTERVAL) => {} }
        }
    }

    async fn reseal(&self) -> Result<(), StoreError> {
        let store = &self.core.store;
        if let Some(key) = store.key_for_reseal().await? {
            reseal_all::<SigningRecord>(store).await?;
            reseal_all::<ApiKeyRecord>(store).await?;
            reseal_all::<PinsRecord>(store).await?;
            reseal_all::<DecidersRecord>(store).await?;
            reseal_all::<AccessKeyRecord>(store).await?;
            reseal_all::<ServerRecord>(store).await?;
            reseal_all::<StoredCredentialRecord>(store).await?;
            reseal_all::<AbandonedRecord>(store).await?;
            reseal_all::<ConsentRecord>(store).await?;
            reseal_all::<UpstreamClientRecord>(store).await?;
            reseal_all::<UpstreamIssuerRecord>(store).await?;
            reseal_all::<GrantRecord>(store).await?;
            // The key check comes last: it marks the work as complete.
            if store.mark_resealed(key).await? {
                tracing::info!("every record that stays is sealed with the new key");
            }
        }
        Ok(())
    }
}

async fn reseal_all<R: Record>(store: &Store) -> Result<(), StoreError> {
    let mut cursor = None;
    loop {
        cursor = store.reseal_page::<R>(cursor).await?;
        if cursor.is_none() {
            return Ok(());
        }
        tokio::time::sleep(RESEAL_PAGE_DELAY).await;
    }
}
