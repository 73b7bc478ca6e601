//! The mark that tells whether the records of a Vault are sealed with our keys.

use crate::base::random;
use crate::base::seal::{self, Label};
use crate::base::time::{Clock, UnixTime};
use crate::store::Keys;
use crate::store::backend::{Row, Version};
use crate::store::vault::at::VaultAt;
use crate::store::vault::calls::Failed;
use crate::store::vault::link::Link;
use crate::store::vault::row::{self, Done, Found, New};
use crate::store::vault::start::{NotOpened, refused};

const LABEL: Label = Label("mark of a shared store");
/// What the mark says.
const WORDS: &[u8] = b"mcp-oauth-gateway";
/// Where it is. No kind of record has a dot in its name.
const MARK: &str = "our.mark";

/// Leaves our mark where there is none, and refuses one that our keys do not open.
pub(super) async fn checked(link: &Link, keys: &Keys, clock: &Clock) -> Result<(), NotOpened> {
    let failed = |why: Failed| refused(link, &why);
    // Whoever of several instances is first, the mark that is there now decides.
    let mark = sealed(&link.at, keys, clock);
    row::write(link, MARK, 0, New::Row(&mark)).await.map_err(failed)?;
    match row::find(link, MARK).await.map_err(failed)? {
        Found::Row(_, row) if opens(&link.at, keys, &row) => Ok(()),
        Found::Row(..) => Err(NotOpened::OtherKeys(row::path(link, "data", MARK))),
        Found::Nothing | Found::Gone(..) | Found::Closing(_) => {
            let path = row::path(link, "metadata", MARK);
            let why = format!("somebody deleted {path}; if all beside it shall go, delete it whole: vault kv metadata delete");
            Err(NotOpened::Unreachable(why))
        }
    }
}

/// Seals the mark anew once another key seals: the old one will leave the ring some day.
pub(super) async fn keep(link: &Link, keys: &Keys, clock: &Clock) -> Result<(), Failed> {
    let (count, is_old) = match row::find(link, MARK).await? {
        Found::Row(count, row) => {
            let sealing = keys.load().sealing(clock.now()).id();
            (count, opens(&link.at, keys, &row) && !row.value.starts_with(&sealing))
        }
        Found::Nothing => (0, true),
        Found::Gone(..) | Found::Closing(_) => return Ok(()),
    };
    if is_old {
        // If somebody else was faster it is done as well.
        let (Done::Written | Done::Stale) = row::write(link, MARK, count, New::Row(&sealed(&link.at, keys, clock))).await?;
    }
    Ok(())
}

fn sealed(at: &VaultAt, keys: &Keys, clock: &Clock) -> Row {
    let value = seal::boxed(&keys.load(), clock.now(), LABEL, random::fresh(), at.prefix.as_bytes(), WORDS);
    Row {
        value,
        version: Version::fresh(),
        expires: UnixTime::NEVER,
    }
}

fn opens(at: &VaultAt, keys: &Keys, row: &Row) -> bool {
    seal::unboxed(&keys.load(), LABEL, at.prefix.as_bytes(), &row.value).is_ok_and(|plain| *plain == WORDS)
}
