//! `/api/grants`: lists and ends the grants at an owner's servers.

use serde_json::{Value, json};

use crate::app::audit_events::{self, EndReason};
use crate::app::clients;
use crate::app::servers::load::PAGE_SIZE;
use crate::app::servers::lookup::Admin;
use crate::app::servers::{ApiError, Servers};
use crate::base::ids::Id;
use crate::flow::grant::GrantRecord;
use crate::flow::grant_data::GrantData;
use crate::store::Handle;

impl Servers {
    /// The grants at the servers that a program manages.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list_grants(&self, admin: &Admin) -> Result<Value, ApiError> {
        let (mut grants, mut cursor) = (Vec::new(), None);
        loop {
            let (page, next) = self.core.store.scan::<GrantRecord>(cursor, PAGE_SIZE).await?;
            for (handle, record) in page {
                let Some(data) = record.data() else { continue };
                if self.is_managed(admin, &data.service).await? {
                    grants.push(self.grant_view(handle.id(), data));
                }
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(json!({ "grants": grants }));
            }
        }
    }

    /// Ends a grant: its tokens are no longer active.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], also for a grant at another owner's server; or the store fails.
    pub async fn end_grant(&self, admin: &Admin, grant: &str) -> Result<(), ApiError> {
        let handle = Handle::<GrantRecord>::new(Id::parse(grant).ok_or(ApiError::NotFound)?);
        let record = self.core.store.read(&handle).await?;
        let data = record.as_ref().and_then(|record| record.data()).ok_or(ApiError::NotFound)?;
        if !self.is_managed(admin, &data.service).await? {
            return Err(ApiError::NotFound);
        }
        if let Some(data) = self.grants.end(&handle).await? {
            let event = audit_events::grant_ended(handle.id(), &data, EndReason::OtherProcess);
            self.core.audit.record(event);
        }
        Ok(())
    }

    /// Whether a service is a registered server that the program manages.
    async fn is_managed(&self, admin: &Admin, service: &str) -> Result<bool, ApiError> {
        match self.find(admin, service).await {
            Ok(_) => Ok(true),
            Err(ApiError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn grant_view(&self, id: Id, data: &GrantData) -> Value {
        json!({
            "grant_id": id,
            "server_id": data.service,
            "user": data.who.subject,
            "client_id": data.client_id,
            "client_name": clients::registered_name(&self.core.keys.load(), &data.client_id),
            "scopes": data.scopes.list(),
            "granted_at": data.granted_at,
        })
    }
}
