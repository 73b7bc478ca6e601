//! What is asked of a Vault before anything is kept there: that it can compare and set, and lets us.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::store::vault::at::{VaultAt, VaultLogin};
use crate::store::vault::calls::{ANSWER, Failed};
use crate::store::vault::link::Link;
use crate::store::vault::listing;
use crate::store::vault::row::{self, Done};

/// What is tried at the start, and by every ping. No kind of record has a dot in its name.
pub(super) const START: &str = "our.start";

/// Why a Vault is refused.
#[derive(Debug)]
pub enum NotOpened {
    /// The file with the CA.
    Ca(String),
    /// It is not there, or sealed; with what it said.
    Unreachable(String),
    /// It does not let us in; with what it said, and whether that was by AppRole.
    Login(String, bool),
    /// The mount cannot compare and set; with what it is.
    NotKv2(String, String),
    /// We may not do what we must; with what Vault said, and the policy that is needed.
    Forbidden(String, String),
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ca(why) => f.write_str(why),
            Self::Unreachable(why) | Self::Forbidden(why, _) => write!(f, "Vault: {why}"),
            Self::Login(why, true) => write!(f, "Vault: the AppRole login is refused: {why}"),
            Self::Login(why, false) => write!(f, "Vault: the token is refused: {why}"),
            Self::NotKv2(mount, what) => write!(
                f,
                "Vault: the mount {mount} is {what}, which cannot compare and set; two instances could spend the same refresh token"
            ),
        }
    }
}

impl NotOpened {
    /// What to do instead.
    pub fn instead(&self) -> String {
        match self {
            Self::Ca(_) => "name a file with certificates in PEM: `ca` at [store]".to_owned(),
            Self::Unreachable(_) => "check `url` at [store], and that Vault runs and is unsealed".to_owned(),
            Self::Login(_, true) => "check role_id, secret_id, approle_mount and namespace at [store]".to_owned(),
            Self::Login(_, false) => "give a token that has not ended: token or token_file at [store]; check namespace".to_owned(),
            Self::NotKv2(..) => {
                "use a mount of KV version 2 (vault secrets enable -path=mcp -version=2 kv), and name it at [store]: mount = \"mcp\""
                    .to_owned()
            }
            Self::Forbidden(_, policy) => format!("give the token or role this policy (docs/stores.md):\n{policy}"),
        }
    }
}

impl std::error::Error for NotOpened {}

/// What Vault tells of a mount.
#[derive(Deserialize)]
struct Mount {
    #[serde(rename = "type")]
    kind: String,
    options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    version: Option<String>,
}

/// Refuses a Vault that cannot keep records.
pub(super) async fn checked(link: &Arc<Link>) -> Result<(), NotOpened> {
    link.begin().await.map_err(|why| match why {
        Failed::Refused(503, _) | Failed::NotAsked(_) | Failed::Lost(_) => NotOpened::Unreachable(why.to_string()),
        Failed::Refused(..) => NotOpened::Login(why.to_string(), matches!(link.at.login, VaultLogin::AppRole { .. })),
    })?;
    let mount = mounted(link).await.map_err(|why| refused(link, &why))?;
    let version = mount.options.and_then(|options| options.version);
    if mount.kind != "kv" || version.as_deref() != Some("2") {
        let what = match (mount.kind.as_str(), version) {
            ("kv" | "generic", version) => format!("KV version {}", version.as_deref().unwrap_or("1")),
            (other, _) => format!("of the type {other}"),
        };
        return Err(NotOpened::NotKv2(link.at.mount.clone(), what));
    }
    permitted(link).await.map_err(|why| refused(link, &why))
}

/// Tries everything that a token must be allowed, but for removing.
async fn permitted(link: &Link) -> Result<(), Failed> {
    // Once written it stays: that it is stale is said after the permission was judged.
    let (Done::Written | Done::Stale) = row::put(link, START, 0, &json!({ "is": "here" })).await?;
    row::keep_one(link, START).await?;
    row::read(link, START).await?;
    listing::names(link, "").await.map(drop)
}

/// What was said no to, in the words of whoever can do something about it.
pub(super) fn refused(link: &Link, why: &Failed) -> NotOpened {
    match why {
        Failed::Refused(403, _) => NotOpened::Forbidden(why.to_string(), policy(&link.at)),
        Failed::NotAsked(_) | Failed::Lost(_) | Failed::Refused(..) => NotOpened::Unreachable(why.to_string()),
    }
}

/// What a token must be allowed.
fn policy(at: &VaultAt) -> String {
    let VaultAt { mount, prefix, .. } = at;
    format!(
        "path \"{mount}/data/{prefix}/*\" {{ capabilities = [\"create\", \"read\", \"update\"] }}\npath \"{mount}/metadata/{prefix}/*\" {{ capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\"] }}"
    )
}

/// What the mount is. Every token that may do something there may ask this; where it is not known, whoever may see all.
async fn mounted(link: &Link) -> Result<Mount, Failed> {
    let mount = &link.at.mount;
    let said: Result<Value, Failed> = match link.read(&format!("sys/internal/ui/mounts/{mount}"), ANSWER).await {
        Ok(answer) if !answer.is_absent() => answer.read(),
        Ok(_) => Err(Failed::Refused(
            403,
            format!("of {mount}: there is no such mount, or it is not for us"),
        )),
        Err(why) => Err(why),
    };
    if let Ok(found) = said.as_ref().map(|said| &said["data"])
        && let Ok(found) = Mount::deserialize(found)
    {
        return Ok(found);
    }
    let all: Value = match link.read("sys/mounts", ANSWER).await {
        Ok(answer) if !answer.is_absent() => answer.read()?,
        // What it said first is nearer to the reason.
        Ok(_) | Err(_) => return Err(said.err().unwrap_or_else(Failed::senseless)),
    };
    let name = format!("{mount}/");
    let found = all["data"].get(&name).or_else(|| all.get(&name));
    found
        .and_then(|found| Mount::deserialize(found).ok())
        .ok_or_else(|| Failed::Refused(404, format!("there is no mount {mount}")))
}
