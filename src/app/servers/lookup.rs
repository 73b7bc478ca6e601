//! Finds servers for a program with an admin key, and builds the responses about them.

use serde_json::{Value, json};

use crate::app::servers::{ApiError, Servers};
use crate::base::ids::Id;
use crate::flow::resource_server::{RegisteredServer, ServerRecord, parse_service_name, service_name};

/// A program that an admin key authenticated.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The owner; `None`: every owner.
    owner: Option<String>,
}

impl Admin {
    pub(super) fn new(owner: Option<String>) -> Self {
        Self { owner }
    }

    /// The owner; `None`: every owner.
    pub(super) fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Whether this program manages the servers of an owner.
    pub(super) fn manages(&self, owner: &str) -> bool {
        self.owner.as_deref().is_none_or(|own| own == owner)
    }
}

impl Servers {
    /// One server.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], also for another owner's; or the store fails.
    pub async fn show(&self, admin: &Admin, name: &str) -> Result<Value, ApiError> {
        let (id, server) = self.find(admin, name).await?;
        Ok(self.view(id, &server))
    }

    /// The server of this name, if the program manages it.
    pub(super) async fn find(&self, admin: &Admin, name: &str) -> Result<(Id, RegisteredServer), ApiError> {
        let id = parse_service_name(name).ok_or(ApiError::NotFound)?;
        let record = self.core.store.read(&Self::handle(id)).await?;
        let server = record.and_then(ServerRecord::registered);
        let server = server.filter(|server| admin.manages(&server.info().owner));
        Ok((id, server.ok_or(ApiError::NotFound)?))
    }

    pub(super) fn view(&self, id: Id, server: &RegisteredServer) -> Value {
        let (info, base) = (server.info(), self.core.urls.public_url());
        let name = service_name(id);
        json!({
            "server_id": name,
            "server_url": info.resource,
            "server_name": info.name,
            "description": info.description,
            "scopes": info.scopes.list(),
            "logo_url": info.logo_url,
            "owner": info.owner,
            "token_mode": if info.is_opaque { "opaque" } else { "jwt" },
            "verified": server.is_proven(),
            "created_at": info.created,
            "issuer": format!("{base}/mcp/{name}"),
            "introspection_endpoint": format!("{base}/introspect/mcp/{name}"),
        })
    }
}
