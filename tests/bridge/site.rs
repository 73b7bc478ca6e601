//! The gateway's binary with a local service, on data that outlives the process.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, header};
use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::base::keyring::KeyRing;
use mcp_oauth_gateway::base::time::{Clock, UnixTime};
use mcp_oauth_gateway::flow::stored_credential::{SignedIn, StoredCredential, StoredCredentialRecord};
use mcp_oauth_gateway::flow::stored_token::{CredentialKind, OAuthCredential};
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::net::dial::AddressPolicy;
use mcp_oauth_gateway::net::http_client::RequestPolicy;
use mcp_oauth_gateway::store::{Backend, Handle, Sqlite, Store, UpsertError};
use serde_json::json;

use crate::bridge::{login, whoami};
use crate::support::browser::{Browser, Page};
use crate::support::client::McpClient;
use crate::support::port::free_port;
use crate::support::process::{Process, command};

/// See [the module](self).
pub(crate) struct Site {
    pub standin: Standin,
    pub data: tempfile::TempDir,
    port: u16,
}

impl Site {
    /// The configuration and the upstream, without a running gateway.
    pub(crate) fn new() -> Self {
        let site = Self {
            standin: Standin::start(Profile::Standard),
            data: tempfile::tempdir().unwrap(),
            port: free_port(),
        };
        let file = format!(
            "public_url = \"http://127.0.0.1:{0}\"\nlisten = [\"127.0.0.1:{0}\"]\nlog = \"debug\"\n[services.default]\ndefault = true\nurl = \"{1}\"\naccess = \"local\"\nupstream = \"stored\"\n",
            site.port,
            site.standin.mcp_url()
        );
        std::fs::write(site.path().join("gateway.toml"), file).unwrap();
        site
    }

    pub(crate) fn path(&self) -> &Path {
        self.data.path()
    }

    /// The command that serves this configuration.
    pub(crate) fn command(&self) -> std::process::Command {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path().join("log"))
            .unwrap();
        let mut command = command();
        command
            .arg("--config")
            .arg(self.path().join("gateway.toml"))
            .arg("--data-dir")
            .arg(self.path())
            .stdout(Stdio::null())
            .stderr(log);
        command
    }

    pub(crate) async fn start(&self) -> Process {
        self.ready(&mut self.command()).await
    }

    /// Starts this command and waits until it serves.
    pub(crate) async fn ready(&self, command: &mut std::process::Command) -> Process {
        Process::ready(command, self.port, self.path()).await
    }

    /// The store, opened beside the gateway, as commands do it.
    fn store(&self) -> Store {
        let keys = std::fs::read_to_string(self.path().join("keys.json")).unwrap();
        let keys = Arc::new(ArcSwap::from_pointee(KeyRing::parse(&keys).unwrap()));
        Store::new(Backend::Sqlite(Sqlite::open(self.path()).unwrap()), keys, Clock::System)
    }

    fn handle() -> Handle<StoredCredentialRecord> {
        Handle::new(StoredCredential::record_id("default"))
    }

    /// Signs in at the upstream and writes the record.
    pub(crate) async fn sign_in(&self) {
        let oauth = login(&self.standin, Clock::System.now()).await;
        self.write(oauth).await;
    }

    /// Writes the record with these tokens.
    pub(crate) async fn write(&self, oauth: OAuthCredential) {
        let origin = self.standin.origin();
        let kind = CredentialKind::OAuth(Box::new(oauth));
        let credential = StoredCredential::new("default", &origin, kind, Clock::System.now());
        let step = |record: Option<StoredCredentialRecord>| -> Result<_, UpsertError<()>> {
            Ok(match record {
                Some(record) => (record.replaced(credential.clone()).0, ()),
                None => (SignedIn::new(credential.clone()).into(), ()),
            })
        };
        self.store().upsert(&Self::handle(), step).await.unwrap();
    }

    /// Makes the access token end at this time, so that the next call refreshes it.
    pub(crate) async fn end_token(&self, time: UnixTime) {
        let record = self.record().await;
        let mut oauth = record.credential().oauth().unwrap().clone();
        oauth.tokens.expires = Some(time);
        self.write(oauth).await;
    }

    /// The record. There is always one, and it opens.
    pub(crate) async fn record(&self) -> StoredCredentialRecord {
        self.store().read(&Self::handle()).await.unwrap().expect("the record is there")
    }

    /// The local key, as a program reads it.
    pub(crate) fn key(&self) -> String {
        std::fs::read_to_string(self.path().join("local-key")).unwrap().trim().to_owned()
    }

    /// Calls a tool with the local key.
    pub(crate) async fn call(&self) -> Page {
        whoami(&self.program(), &self.key()).await
    }

    /// Sends a call, whose answer may be cut.
    pub(crate) fn call_until_killed(&self) -> impl Future<Output = ()> + Send + 'static {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "whoami", "arguments": {} } });
        let request = Request::post(format!("http://127.0.0.1:{}/mcp", self.port))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key()))
            .body(RequestBody::Full(body.to_string().into()))
            .unwrap();
        let policy = RequestPolicy {
            addresses: AddressPolicy::Anything,
            connect: Duration::from_secs(5),
            first_byte: Some(Duration::from_secs(20)),
            http2: false,
        };
        async move { drop(Browser::default().client.send(request, &policy).await) }
    }

    pub(crate) fn program(&self) -> McpClient {
        McpClient::configured(&format!("http://127.0.0.1:{}", self.port), "", "")
    }
}
