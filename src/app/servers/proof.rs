//! The proof of a resource: a document at its origin that names the server.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use serde::Deserialize;
use serde_json::Value;

use crate::app::servers::lookup::Admin;
use crate::app::servers::{ApiError, Servers};
use crate::base::ids::Id;
use crate::base::url::ExactUrl;
use crate::flow::resource_server::{RegisteredServer, service_name};
use crate::upstream::resource_proof::fetch_proof;

/// How many origins the gateway asks at a time, on its own account. Each may take seconds.
const MAX_CONCURRENT_CHECKS: usize = 16;

/// The document: the servers whose resource is at this origin.
#[derive(Debug, Deserialize)]
struct Document {
    servers: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    issuer: String,
    server_id: String,
    resource: String,
}

impl Servers {
    /// Asks the origin of a server's resource now.
    ///
    /// # Errors
    /// If the server is unknown or another owner's, or the store fails.
    pub async fn check_proof(&self, admin: &Admin, name: &str) -> Result<Value, ApiError> {
        let (id, server) = self.find(admin, name).await?;
        self.ask_origin(id, &server).await?;
        self.show(admin, name).await
    }

    /// Asks the origin of a new server, without delaying the response.
    pub(super) fn check_proof_detached(self: &Arc<Self>, id: Id) {
        let this = Arc::clone(self);
        self.core.tasks.spawn(async move { this.check_proof_of(id).await });
    }

    /// Asks the origins that were not asked for a day.
    pub(in crate::app) async fn check_due_proofs(&self) {
        let now = self.core.clock.now();
        let Ok(all) = self.all().await else { return };
        let due = all.into_iter().filter(|(_, server)| server.is_proof_due(now));
        let check = |(id, server): (Id, RegisteredServer)| async move {
            if let Err(error) = self.ask_origin(id, &server).await {
                tracing::warn!(?error, "the proof of a server could not be stored");
            }
        };
        stream::iter(due).for_each_concurrent(MAX_CONCURRENT_CHECKS, check).await;
    }

    async fn check_proof_of(&self, id: Id) {
        if let Ok(Some(server)) = self.read_registered(id).await
            && let Err(error) = self.ask_origin(id, &server).await
        {
            tracing::warn!(?error, "the proof of a server could not be stored");
        }
    }

    async fn ask_origin(&self, id: Id, server: &RegisteredServer) -> Result<(), ApiError> {
        let resource = &server.info().resource;
        // A resource belongs to one proven server.
        let name = service_name(id);
        let is_taken = self.core.config().externals().any(|active| {
            let other = &active.service;
            other.is_resource_proven && other.mcp == *resource && other.name != name
        });
        let confirms = !is_taken && self.is_confirmed(&name, resource).await;
        let now = self.core.clock.now();
        let step = |server: RegisteredServer| Ok::<_, Infallible>((server.proof_checked(resource, confirms, now), ()));
        // Removed meanwhile: there is nothing to prove.
        let _ = self.core.store.transition(&Self::handle(id), step).await;
        Ok(self.reload(id).await?)
    }

    /// Whether the document at the origin names issuer, server and resource.
    async fn is_confirmed(&self, name: &str, resource: &ExactUrl) -> bool {
        let issuer = format!("{}/mcp/{name}", self.core.urls.public_url());
        let (http, loopback) = (self.core.tasks.http(), self.core.urls.is_loopback());
        let Some(body) = fetch_proof(http, resource, loopback).await else {
            return false;
        };
        let document = serde_json::from_slice::<Document>(&body);
        document.is_ok_and(|document| {
            document
                .servers
                .iter()
                .any(|entry| entry.issuer == issuer && entry.server_id == name && entry.resource == resource.as_str())
        })
    }
}
