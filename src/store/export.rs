//! Everything at once, from one backend to another: each record as it lies at rest, sealed for its place, so that what is
//! exported is worth nothing to whoever lacks the keys. One JSON line each, after a line that says what this is and before
//! one that says how many there were.

use std::fmt;
use std::io::{self, BufRead};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::base::ids::Id;
use crate::base::keyring::KeyRing;
use crate::base::random;
use crate::base::record::Record as _;
use crate::base::seal::{self, Label};
use crate::base::time::UnixTime;
use crate::store::backend::{Row, Version, Write, WriteOp, WriteOutcome};
use crate::store::change_feed::ChangeEvent;
use crate::store::error::StoreError;
use crate::store::handle::key;
use crate::store::key_check::KeyCheck;
use crate::store::sealed_record;
use crate::store::{MAX_ATTEMPTS, MAX_PAGE_SIZE, Store, backoff, check_unanswered, contention_error};

const CHECK: Label = Label("check of an export");
/// What the first line says this is, and what its check value says when it opens.
const FORMAT: &str = "mcp-oauth-gateway store";
/// The version of the lines.
const VERSION: u32 = 1;
/// How many are written at once, so that SQLite waits for the disk once for all of them.
const BATCH_SIZE: usize = 256;
/// The longest line, in bytes: far more than the longest record.
const MAX_LINE_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct ExportHeader {
    format: String,
    version: u32,
    /// Opens with the key ring that the records open with.
    check: String,
}

/// A line after the first one.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ExportLine {
    Sealed(ExportedRecord),
    End(ExportTrailer),
}

/// A record as it lies at rest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportedRecord {
    key: String,
    value: String,
    expires: UnixTime,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportTrailer {
    records: u64,
}

/// An export that is sealed with keys of ours, about to be read.
#[derive(Debug)]
pub struct Export<R> {
    from: R,
    /// The line that was read last.
    line: u64,
    records: u64,
}

/// What came of an import. The same import again moves what is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// So many records are there now that were not.
    pub moved: u64,
    /// So many have one under their key already, which stays as it is.
    pub already_there: u64,
    /// So many had expired, and were left out.
    pub expired: u64,
    /// So many do not open with our keys at their place, and were left out: where they lay, nothing could be listed.
    pub foreign: u64,
}

/// Why an export was not made, or not read to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum TransferError {
    /// The first line is none of ours.
    NotAnExport,
    /// A newer program wrote it, in this version.
    Newer(u32),
    /// It was sealed with keys that are not in this ring.
    OtherKeys,
    /// This line is not what it should be.
    Broken(u64),
    /// It ends too early, after this line.
    CutOff(u64),
    /// It cannot be read or written.
    Io(String),
    /// The store failed.
    Store(StoreError),
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnExport => f.write_str("this is not what `mcp-oauth-gateway store export` writes"),
            Self::Newer(version) => write!(f, "this export has version {version}, which is newer than this program"),
            Self::OtherKeys => f.write_str("this export was sealed with keys that are not in this key ring"),
            Self::Broken(line) => write!(f, "line {line} of the export is broken; what stands before it is moved"),
            Self::CutOff(line) => write!(f, "the export ends too early, after line {line}; what is in it is moved"),
            Self::Io(why) => f.write_str(why),
            Self::Store(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for TransferError {}

impl From<StoreError> for TransferError {
    fn from(why: StoreError) -> Self {
        Self::Store(why)
    }
}

impl From<io::Error> for TransferError {
    fn from(why: io::Error) -> Self {
        Self::Io(why.to_string())
    }
}

/// What came of one record.
enum ImportOutcome {
    Moved,
    AlreadyThere,
    Expired,
    Foreign,
}

impl<R: BufRead> Export<R> {
    /// Reads the first line, and insists that our keys open what follows. Before a store is made for it.
    pub fn open(from: R, ring: &KeyRing) -> Result<Self, TransferError> {
        let (line, records) = (0, 0);
        let mut export = Self { from, line, records };
        let text = export.line()?.ok_or(TransferError::NotAnExport)?;
        // Of a later version only these two are known.
        let said: serde_json::Value = serde_json::from_str(&text).map_err(|_| TransferError::NotAnExport)?;
        let version = said["version"].as_u64().and_then(|version| u32::try_from(version).ok());
        match version.filter(|_| said["format"] == FORMAT) {
            Some(VERSION) => {}
            Some(newer) if newer > VERSION => return Err(TransferError::Newer(newer)),
            Some(_) | None => return Err(TransferError::NotAnExport),
        }
        let head: ExportHeader = serde_json::from_value(said).map_err(|_| TransferError::NotAnExport)?;
        let check = URL_SAFE_NO_PAD.decode(head.check).map_err(|_| TransferError::NotAnExport)?;
        let opened = seal::open_message(ring, CHECK, b"", &check).map_err(|_| TransferError::OtherKeys)?;
        if *opened == FORMAT.as_bytes() {
            Ok(export)
        } else {
            Err(TransferError::NotAnExport)
        }
    }

    /// The next records, sealed; fewer than [`BATCH_SIZE`] only at the end.
    fn next(&mut self) -> Result<Vec<ExportedRecord>, (Vec<ExportedRecord>, TransferError)> {
        let mut several = Vec::with_capacity(BATCH_SIZE);
        while several.len() < BATCH_SIZE {
            match self.record() {
                Ok(Some(sealed)) => several.push(sealed),
                Ok(None) => break,
                Err(why) => return Err((several, why)),
            }
        }
        Ok(several)
    }

    fn record(&mut self) -> Result<Option<ExportedRecord>, TransferError> {
        let text = self.line()?.ok_or(TransferError::CutOff(self.line))?;
        match serde_json::from_str(&text) {
            Ok(ExportLine::Sealed(sealed)) => {
                self.records += 1;
                Ok(Some(sealed))
            }
            Ok(ExportLine::End(end)) if end.records == self.records && self.line()?.is_none() => Ok(None),
            // The last line of what was cut off is half a line.
            Err(_) if !text.ends_with('\n') => Err(TransferError::CutOff(self.line - 1)),
            Ok(ExportLine::End(_)) | Err(_) => Err(TransferError::Broken(self.line)),
        }
    }

    fn line(&mut self) -> Result<Option<String>, TransferError> {
        let mut bytes = Vec::new();
        io::Read::take(&mut self.from, MAX_LINE_BYTES).read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        String::from_utf8(bytes).map(Some).map_err(|_| TransferError::Broken(self.line))
    }
}

impl Store {
    /// Writes all records as they lie at rest, of whatever kind and version, also such as do not open; and says how many.
    /// What is written to the store meanwhile may be missed.
    pub async fn export(&self, to: &mut impl io::Write) -> Result<u64, TransferError> {
        let check = seal::seal_message(
            &self.keys.load(),
            self.clock.now(),
            CHECK,
            random::salt_and_nonce(),
            b"",
            FORMAT.as_bytes(),
        );
        let head = ExportHeader {
            format: FORMAT.to_owned(),
            version: VERSION,
            check: URL_SAFE_NO_PAD.encode(check),
        };
        write_line(to, &head)?;
        let mut records = 0;
        // The mark of the keys is that of one store: another one gets its own.
        let spaces = self.backend.spaces().await?.into_iter().filter(|space| space != KeyCheck::KIND);
        for space in spaces {
            let mut after = None;
            loop {
                let page = self.backend.scan(&space, after, MAX_PAGE_SIZE).await?;
                for (key, row) in page.rows {
                    records += 1;
                    let value = URL_SAFE_NO_PAD.encode(row.value);
                    let expires = row.expires;
                    write_line(to, &ExportLine::Sealed(ExportedRecord { key, value, expires }))?;
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        write_line(to, &ExportLine::End(ExportTrailer { records }))?;
        to.flush()?;
        Ok(records)
    }

    /// Puts all records of an export where nothing lies under their keys; nothing that is there is changed.
    pub async fn import<R: BufRead>(&self, mut export: Export<R>) -> Result<ImportReport, TransferError> {
        let mut imported = ImportReport::default();
        loop {
            // What stands before a broken line is good.
            let (several, end) = match export.next() {
                Ok(several) => (several, None),
                Err((several, why)) => (several, Some(why)),
            };
            let is_last = several.len() < BATCH_SIZE;
            for landed in join_all(several.into_iter().map(|sealed| self.import_one(sealed))).await {
                match landed? {
                    ImportOutcome::Moved => imported.moved += 1,
                    ImportOutcome::AlreadyThere => imported.already_there += 1,
                    ImportOutcome::Expired => imported.expired += 1,
                    ImportOutcome::Foreign => imported.foreign += 1,
                }
            }
            match end {
                Some(why) => return Err(why),
                None if is_last => return Ok(imported),
                None => {}
            }
        }
    }

    async fn import_one(&self, sealed: ExportedRecord) -> Result<ImportOutcome, StoreError> {
        let now = self.clock.now();
        let ExportedRecord { key, value, expires } = sealed;
        if expires < now {
            return Ok(ImportOutcome::Expired);
        }
        let value = URL_SAFE_NO_PAD.decode(value).unwrap_or_default();
        let Some((space, id)) = self.named(&key, &value) else {
            return Ok(ImportOutcome::Foreign);
        };
        // Whatever the mark says of the keys stays true.
        let ring = self.keys.load_full();
        let value = match value.first_chunk() {
            Some(by) if *by == ring.sealing_key(now).id() => value,
            Some(_) | None => sealed_record::reseal(&ring, now, &space, &key, &value).map_or(value, |(_, anew)| anew),
        };
        let mut lost = Vec::new();
        let mut seen = None;
        for tried in 0..MAX_ATTEMPTS {
            let version = Version::fresh();
            let value = value.clone();
            let row = Row { value, version, expires };
            let space = space.clone().into();
            let write = Write {
                key: key.clone(),
                act: seen.map_or_else(|| WriteOp::Insert(row.clone()), |seen| WriteOp::Replace(seen, row.clone())),
                news: ChangeEvent::Put { space, id },
            };
            match self.backend.compare_and_set(write).await? {
                WriteOutcome::Written => return Ok(ImportOutcome::Moved),
                WriteOutcome::Stale => {}
                WriteOutcome::Unknown => lost.push(version),
            }
            let there = self.backend.get(&key).await?;
            seen = there.as_ref().map(|row| row.version);
            match there {
                Some(row) if lost.contains(&row.version) => return Ok(ImportOutcome::Moved),
                Some(row) if row.expires >= now => return Ok(ImportOutcome::AlreadyThere),
                // What has expired makes room.
                Some(_) | None => {}
            }
            check_unanswered(lost.len())?;
            backoff(tried).await;
        }
        Err(contention_error())
    }

    /// The kind and the id of a sealed record of any version, if it opens where it is to lie.
    fn named(&self, place: &str, value: &[u8]) -> Option<(String, Id)> {
        let (space, _) = place.split_once('/')?;
        let id = sealed_record::id(&self.keys.load(), space, place, value)?;
        (key(space, id) == place).then(|| (space.to_owned(), id))
    }
}

fn write_line(to: &mut impl io::Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.write_all(b"\n")
}
