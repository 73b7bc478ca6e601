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
use crate::store::attempts::{MAX_ATTEMPTS, backoff, check_unanswered, contention_error};
use crate::store::change_feed::ChangeEvent;
use crate::store::error::StoreError;
use crate::store::handle::key;
use crate::store::key_check::KeyCheck;
use crate::store::records::{MAX_PAGE_SIZE, Store};
use crate::store::row::{Row, Version, Write, WriteOp, WriteOutcome};
use crate::store::sealed_record;

const CHECK: Label = Label("check of an export");
/// The name of the format in the header. The sealed check value contains the same text.
const FORMAT: &str = "mcp-oauth-gateway store";
/// The version of the format.
const VERSION: u32 = 1;
/// The number of records that are written concurrently, so that SQLite syncs once for all of them.
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

/// The reason why an export or an import failed.
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
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
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
    pub fn open(reader: R, ring: &KeyRing) -> Result<Self, TransferError> {
        let (line, records) = (0, 0);
        let mut export = Self {
            from: reader,
            line,
            records,
        };
        let text = export.line()?.ok_or(TransferError::NotAnExport)?;
        // Only these two fields are known to exist in a later version.
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|_| TransferError::NotAnExport)?;
        let version = json["version"].as_u64().and_then(|version| u32::try_from(version).ok());
        match version.filter(|_| json["format"] == FORMAT) {
            Some(VERSION) => {}
            Some(newer) if newer > VERSION => return Err(TransferError::Newer(newer)),
            Some(_) | None => return Err(TransferError::NotAnExport),
        }
        let header: ExportHeader = serde_json::from_value(json).map_err(|_| TransferError::NotAnExport)?;
        let check = URL_SAFE_NO_PAD.decode(header.check).map_err(|_| TransferError::NotAnExport)?;
        let plaintext = seal::open_message(ring, CHECK, b"", &check).map_err(|_| TransferError::OtherKeys)?;
        if *plaintext == FORMAT.as_bytes() {
            Ok(export)
        } else {
            Err(TransferError::NotAnExport)
        }
    }

    /// Reads the next sealed records. There are fewer than [`BATCH_SIZE`] only at the end.
    fn next(&mut self) -> Result<Vec<ExportedRecord>, (Vec<ExportedRecord>, TransferError)> {
        let mut batch = Vec::with_capacity(BATCH_SIZE);
        while batch.len() < BATCH_SIZE {
            match self.record() {
                Ok(Some(record)) => batch.push(record),
                Ok(None) => break,
                Err(error) => return Err((batch, error)),
            }
        }
        Ok(batch)
    }

    fn record(&mut self) -> Result<Option<ExportedRecord>, TransferError> {
        let text = self.line()?.ok_or(TransferError::CutOff(self.line))?;
        match serde_json::from_str(&text) {
            Ok(ExportLine::Sealed(record)) => {
                self.records += 1;
                Ok(Some(record))
            }
            Ok(ExportLine::End(trailer)) if trailer.records == self.records && self.line()?.is_none() => Ok(None),
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
    pub async fn export(&self, writer: &mut impl io::Write) -> Result<u64, TransferError> {
        let check = seal::seal_message(
            self.keys.load().sealing_key(self.clock.now()),
            CHECK,
            random::salt_and_nonce(),
            b"",
            FORMAT.as_bytes(),
        );
        let header = ExportHeader {
            format: FORMAT.to_owned(),
            version: VERSION,
            check: URL_SAFE_NO_PAD.encode(check),
        };
        write_line(writer, &header)?;
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
                    write_line(writer, &ExportLine::Sealed(ExportedRecord { key, value, expires }))?;
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        write_line(writer, &ExportLine::End(ExportTrailer { records }))?;
        writer.flush()?;
        Ok(records)
    }

    /// Inserts the records of an export. Changes no record that exists already.
    pub async fn import<R: BufRead>(&self, mut export: Export<R>) -> Result<ImportReport, TransferError> {
        let mut report = ImportReport::default();
        loop {
            // The records before a malformed line are imported.
            let (batch, error) = match export.next() {
                Ok(batch) => (batch, None),
                Err((batch, error)) => (batch, Some(error)),
            };
            let is_last = batch.len() < BATCH_SIZE;
            for outcome in join_all(batch.into_iter().map(|record| self.import_one(record))).await {
                match outcome? {
                    ImportOutcome::Moved => report.moved += 1,
                    ImportOutcome::AlreadyThere => report.already_there += 1,
                    ImportOutcome::Expired => report.expired += 1,
                    ImportOutcome::Foreign => report.foreign += 1,
                }
            }
            match error {
                Some(error) => return Err(error),
                None if is_last => return Ok(report),
                None => {}
            }
        }
    }

    async fn import_one(&self, record: ExportedRecord) -> Result<ImportOutcome, StoreError> {
        let now = self.clock.now();
        let ExportedRecord { key, value, expires } = record;
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
            Some(key_id) if *key_id == ring.sealing_key(now).id() => value,
            Some(_) | None => sealed_record::reseal(&ring, now, &space, &key, &value).map_or(value, |(_, resealed)| resealed),
        };
        let mut unanswered = Vec::new();
        let mut seen_version = None;
        for attempt in 0..MAX_ATTEMPTS {
            let version = Version::fresh();
            let value = value.clone();
            let row = Row { value, version, expires };
            let space = space.clone().into();
            let write = Write {
                key: key.clone(),
                operation: seen_version.map_or_else(
                    || WriteOp::Insert(row.clone()),
                    |seen_version| WriteOp::Replace(seen_version, row.clone()),
                ),
                event: ChangeEvent::Put { space, id },
            };
            match self.backend.compare_and_set(write).await? {
                WriteOutcome::Written => return Ok(ImportOutcome::Moved),
                WriteOutcome::Stale => {}
                WriteOutcome::Unknown => unanswered.push(version),
            }
            let stored = self.backend.get(&key).await?;
            seen_version = stored.as_ref().map(|row| row.version);
            match stored {
                Some(row) if unanswered.contains(&row.version) => return Ok(ImportOutcome::Moved),
                Some(row) if row.expires >= now => return Ok(ImportOutcome::AlreadyThere),
                // An expired record is replaced.
                Some(_) | None => {}
            }
            check_unanswered(unanswered.len())?;
            backoff(attempt).await;
        }
        Err(contention_error())
    }

    /// The kind and id of a sealed record of any version, if it opens at the key `record_key`.
    fn named(&self, record_key: &str, value: &[u8]) -> Option<(String, Id)> {
        let (space, _) = record_key.split_once('/')?;
        let id = sealed_record::id(&self.keys.load(), space, record_key, value)?;
        (key(space, id) == record_key).then(|| (space.to_owned(), id))
    }
}

fn write_line(writer: &mut impl io::Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *writer, line)?;
    writer.write_all(b"\n")
}
