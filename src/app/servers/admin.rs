//! `/api/servers`: owners register, list, change and remove their servers.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::servers::lookup::Admin;
use crate::app::servers::{ApiError, Servers};
use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::base::url::ExactUrl;
use crate::flow::access_key::KeyHolder;
use crate::flow::resource_server::{RegisteredServer, ServerInfo, service_name};
use crate::oauth::bearer::{self, BearerHeader};
use crate::oauth::scope::Scopes;
use crate::service;
use crate::store::TransitionError;
use crate::token::access_key::AccessKeyKind;

/// The maximum number of servers of one owner.
const MAX_SERVERS: usize = 1_000;
/// The maximum length of a name, as of a title in the configuration.
const MAX_NAME_CHARS: usize = 40;
const MAX_DESCRIPTION_CHARS: usize = 1_000;
const MAX_SCOPES: usize = 50;

/// The body of a request for a server. An absent member leaves the value unchanged.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ServerInput {
    /// The resource.
    pub server_url: Option<String>,
    /// The name that users see.
    pub server_name: Option<String>,
    /// A description, for owners only.
    pub description: Option<String>,
    /// The scopes that clients may request.
    pub scopes: Option<Vec<String>>,
    /// The URL of a logo.
    pub logo_url: Option<String>,
    /// `jwt` or `opaque`.
    pub token_mode: Option<String>,
    /// The owner; only a key for every owner may set it.
    pub owner: Option<String>,
}

impl Servers {
    /// Authenticates the program that sends a request.
    ///
    /// # Errors
    /// [`ApiError::Unauthorized`] if the key is missing or not valid; or the store fails.
    pub async fn authenticate(self: &Arc<Self>, authorization: Option<&str>, source: IpAddr) -> Result<Admin, ApiError> {
        let BearerHeader::Bearer(key) = bearer::parse(authorization) else {
            return Err(ApiError::Unauthorized);
        };
        let found = self.keys.find_valid(AccessKeyKind::Admin, &Secret::from(key)).await?;
        let Some(key) = found else {
            let is_allowed = self.wrong_keys.allow(source, &self.core.urls.trusted_proxies);
            return Err(if is_allowed { ApiError::Unauthorized } else { ApiError::TooMany });
        };
        let owner = match key.holder {
            KeyHolder::Owner(owner) => Some(owner),
            KeyHolder::AllOwners => None,
            KeyHolder::Server(_) => return Err(ApiError::Unauthorized),
        };
        if key.is_use_due {
            let this = Arc::clone(self);
            self.core.tasks.spawn(async move {
                if let Err(error) = this.keys.note_use(key.id).await {
                    tracing::debug!(%error, "the use of a key was not stored");
                }
            });
        }
        Ok(Admin::new(owner))
    }

    /// Registers a server.
    ///
    /// # Errors
    /// If a member is wrong, another server has the resource, or the store fails.
    pub async fn register(self: &Arc<Self>, admin: &Admin, input: ServerInput) -> Result<Value, ApiError> {
        let owner = match (admin.owner(), &input.owner) {
            (Some(own), None) => own.to_owned(),
            (Some(own), Some(owner)) if own == owner => own.to_owned(),
            (Some(_), Some(_)) => return Err(ApiError::NotFound),
            (None, Some(owner)) => owner.clone(),
            (None, None) => "operator".to_owned(),
        };
        let info = new_server(owner, input, self.core.clock.now())?;
        self.check_resource(&info.resource)?;
        let servers = self.all().await?;
        if servers.iter().filter(|(_, server)| server.info().owner == info.owner).count() >= MAX_SERVERS {
            return Err(ApiError::Conflict(format!(
                "the owner has {MAX_SERVERS} servers; remove some first"
            )));
        }
        let (id, server) = (Id::random(), RegisteredServer::new(info));
        self.core.store.insert(id, server.clone()).await?;
        self.reload(id).await?;
        tracing::info!(server = service_name(id), owner = server.info().owner, "a server was registered");
        self.check_proof_detached(id);
        Ok(self.view(id, &server))
    }

    /// The servers that a program manages, the oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list(&self, admin: &Admin) -> Result<Value, ApiError> {
        let mut all = self.all().await?;
        all.retain(|(_, server)| admin.manages(&server.info().owner));
        all.sort_by_key(|(id, server)| (server.info().created, *id));
        let servers: Vec<Value> = all.iter().map(|(id, server)| self.view(*id, server)).collect();
        Ok(json!({ "servers": servers }))
    }

    /// Changes a server. Another URL ends the proof, and tokens for the earlier URL are no longer active.
    ///
    /// # Errors
    /// As [`Servers::register`].
    pub async fn change(self: &Arc<Self>, admin: &Admin, name: &str, input: ServerInput) -> Result<Value, ApiError> {
        let (id, server) = self.find(admin, name).await?;
        if input.owner.is_some() {
            return Err(invalid("owner: it cannot be changed"));
        }
        let info = apply_input(server.info().clone(), input)?;
        if info.resource != server.info().resource {
            self.check_resource(&info.resource)?;
        }
        let step = |server: RegisteredServer| Ok::<_, std::convert::Infallible>((server.edited(info.clone()), ()));
        self.core
            .store
            .transition(&Self::handle(id), step)
            .await
            .map_err(transition_error)?;
        self.reload(id).await?;
        self.check_proof_detached(id);
        self.show(admin, name).await
    }

    /// Removes a server. Its keys are no longer accepted, and its tokens are no longer active.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], also for another owner's; or the store fails.
    pub async fn remove(&self, admin: &Admin, name: &str) -> Result<(), ApiError> {
        let (id, _) = self.find(admin, name).await?;
        let now = self.core.clock.now();
        let step = |server: RegisteredServer| Ok::<_, std::convert::Infallible>((server.removed(now), ()));
        self.core
            .store
            .transition(&Self::handle(id), step)
            .await
            .map_err(transition_error)?;
        self.reload(id).await?;
        tracing::info!(server = name, "a server was removed");
        Ok(())
    }

    /// Checks that no service of the file and no proven server has this resource.
    fn check_resource(&self, resource: &ExactUrl) -> Result<(), ApiError> {
        let is_taken = self.core.config().externals().any(|active| {
            let service = &active.service;
            service.is_resource_proven && service.mcp == *resource
        });
        if is_taken {
            return Err(ApiError::Conflict("another server has this URL, and has proven it".to_owned()));
        }
        Ok(())
    }
}

pub(super) fn invalid(what: &str) -> ApiError {
    ApiError::Invalid(what.to_owned())
}

fn transition_error(error: TransitionError<std::convert::Infallible>) -> ApiError {
    match error {
        TransitionError::NotFound | TransitionError::WrongState => ApiError::NotFound,
        TransitionError::Store(error) => error.into(),
        TransitionError::Rejected(never) => match never {},
    }
}

/// Checks the request for a new server of an owner.
///
/// # Errors
/// If a member is missing or wrong.
pub fn new_server(owner: String, input: ServerInput, now: UnixTime) -> Result<ServerInfo, ApiError> {
    if !is_owner_name(&owner) {
        return Err(invalid("owner: use 1 to 64 letters, digits and any of - . _ @"));
    }
    let missing = |name: &str| invalid(&format!("{name} is missing"));
    let info = ServerInfo {
        owner,
        resource: resource(input.server_url.as_deref().ok_or_else(|| missing("server_url"))?)?,
        name: name(input.server_name.as_deref().ok_or_else(|| missing("server_name"))?)?,
        description: String::new(),
        scopes: Scopes::default(),
        logo_url: None,
        is_opaque: false,
        created: now,
    };
    apply_input(info, input)
}

/// Applies the members of a request to a server.
fn apply_input(mut info: ServerInfo, input: ServerInput) -> Result<ServerInfo, ApiError> {
    if let Some(url) = input.server_url {
        info.resource = resource(&url)?;
    }
    if let Some(text) = input.server_name {
        info.name = name(&text)?;
    }
    if let Some(description) = input.description {
        if description.chars().count() > MAX_DESCRIPTION_CHARS {
            return Err(invalid("description: it is too long"));
        }
        info.description = description;
    }
    if let Some(scopes) = input.scopes {
        let parsed = Scopes::parse(&scopes.join(" "));
        if scopes.len() > MAX_SCOPES || parsed.list().len() != scopes.len() {
            return Err(invalid("scopes: write each scope as a text of its own, at most 50"));
        }
        info.scopes = parsed;
    }
    if let Some(url) = input.logo_url {
        let is_https = ExactUrl::parse(&url).is_ok_and(|url| url.url().scheme() == "https");
        if !url.is_empty() && !is_https {
            return Err(invalid("logo_url: it is not an https URL"));
        }
        info.logo_url = Some(url).filter(|url| !url.is_empty());
    }
    match input.token_mode.as_deref() {
        None => {}
        Some("jwt") => info.is_opaque = false,
        Some("opaque") => info.is_opaque = true,
        Some(_) => return Err(invalid("token_mode: use jwt or opaque")),
    }
    Ok(info)
}

fn resource(text: &str) -> Result<ExactUrl, ApiError> {
    let url = ExactUrl::parse(text).map_err(|error| invalid(&format!("server_url: it {error}")))?;
    service::check_resource(&url).map_err(|what| invalid(&format!("server_url: {what}")))?;
    Ok(url)
}

fn name(text: &str) -> Result<String, ApiError> {
    let is_good = (1..=MAX_NAME_CHARS).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    is_good
        .then(|| text.to_owned())
        .ok_or_else(|| invalid("server_name: use 1 to 40 characters on one line"))
}

fn is_owner_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._@".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}
