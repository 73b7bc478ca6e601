//! Export and import of a whole store. Each record stays sealed for its place, so an export is
//! worthless without the keys. It has one JSON line per record, a header and a final count.

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
/// The name of the format in the header. The sealed check value contains the same text.
const FORMAT: &str = "mcp-oauth-gateway store";
/// The version of the format.
const VERSION: u32 = 1;
/// How many records are written concurrently, so that SQLite syncs once for all of them.
const BATCH_SIZE: usize = 256;
/// The maximum length of a line, in bytes: far more than the longest record.
const MAX_LINE_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct ExportHeader {
    format: String,
    version: u32,
    /// A sealed value that opens with the same key ring as the records.
    check: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ExportLine {
    Sealed(ExportedRecord),
    End(ExportTrailer),
}

/// A record as the backend stores it.
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

/// An export to be read. Its header opened with our keys.
#[derive(Debug)]
pub struct Export<R> {
    from: R,
    /// The number of the line that was read last.
    line: u64,
    records: u64,
}

/// The result of an import. Repeating the import inserts the records that are still missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// The number of records that were inserted.
    pub moved: u64,
    /// The number of records whose key exists already; the existing records stay unchanged.
    pub already_there: u64,
    /// The number of expired records, which were skipped.
    pub expired: u64,
    /// The number of skipped records that our keys do not open at their place. Scans would fail.
    pub foreign: u64,
}

/// Why an export or an import failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The first line is not the header of an export.
    #[error("this is not what `mcp-oauth-gateway store export` writes")]
    NotAnExport,
    /// A newer program wrote the export, in this version of the format.
    #[error("this export has version {0}, which is newer than this program")]
    Newer(u32),
    /// The export was sealed with keys that are not in this key ring.
    #[error("this export was sealed with keys that are not in this key ring")]
    OtherKeys,
    /// The line with this number is malformed.
    #[error("line {0} of the export is broken; what stands before it is moved")]
    Broken(u64),
    /// The export ends too early, after the line with this number.
    #[error("the export ends too early, after line {0}; what is in it is moved")]
    CutOff(u64),
    /// The export cannot be read or written, with the reason.
    #[error("{0}")]
    Io(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<io::Error> for TransferError {
    fn from(why: io::Error) -> Self {
        Self::Io(why.to_string())
    }
}

enum ImportOutcome {
    Moved,
    AlreadyThere,
    Expired,
    Foreign,
}

impl<R: BufRead> Export<R> {
    /// Reads the header and checks that `ring` opens the export, before a target store is created.
    ///
    /// # Errors
    /// If the input is not an export, has a newer version or other keys, or cannot be read.
    pub fn open(from: R, ring: &KeyRing) -> Result<Self, TransferError> {
        let (line, records) = (0, 0);
        let mut export = Self { from, line, records };
        let text = export.line()?.ok_or(TransferError::NotAnExport)?;
        // Only these two fields are known to exist in a later version.
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

    /// Reads the next sealed records. There are fewer than [`BATCH_SIZE`] only at the end.
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
            // A truncated export ends within a line.
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
    /// Writes all records as they are stored, of every kind and version, and returns their number.
    /// This includes records that do not open. Records that are written meanwhile may be missing.
    pub async fn export(&self, to: &mut impl io::Write) -> Result<u64, TransferError> {
        let check = seal::seal_message(
            self.keys.load().sealing_key(self.clock.now()),
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
        // The key check belongs to this store only; the target store has its own.
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

    /// Inserts the records of an export. Changes no record that exists already.
    pub async fn import<R: BufRead>(&self, mut export: Export<R>) -> Result<ImportReport, TransferError> {
        let mut imported = ImportReport::default();
        loop {
            // The records before a malformed line are imported.
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
        // Resealed with the current key, so that the key check stays true.
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
                // An expired record is replaced.
                Some(_) | None => {}
            }
            check_unanswered(lost.len())?;
            backoff(tried).await;
        }
        Err(contention_error())
    }

    /// The kind and id of a sealed record of any version, if it opens at the key `place`.
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
