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
use crate::store::at_rest;
use crate::store::backend::{Act, Put, Row, Version, Write};
use crate::store::changes::News;
use crate::store::error::StoreError;
use crate::store::handle::key;
use crate::store::mark::KeyMark;
use crate::store::{PAGE, Store, TRIES, answering, contended, pause};

const CHECK: Label = Label("check of an export");
/// What the first line says this is, and what its check value says when it opens.
const FORMAT: &str = "mcp-oauth-gateway store";
/// The version of the lines.
const VERSION: u32 = 1;
/// How many are written at once, so that SQLite waits for the disk once for all of them.
const TOGETHER: usize = 256;
/// The longest line, in bytes: far more than the longest record.
const LONGEST: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
    /// Opens with the key ring that the records open with.
    check: String,
}

/// A line after the first one.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Sealed(Sealed),
    End(End),
}

/// A record as it lies at rest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    key: String,
    value: String,
    expires: UnixTime,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
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
pub struct Imported {
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
pub enum NotMoved {
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

impl fmt::Display for NotMoved {
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

impl std::error::Error for NotMoved {}

impl From<StoreError> for NotMoved {
    fn from(why: StoreError) -> Self {
        Self::Store(why)
    }
}

impl From<io::Error> for NotMoved {
    fn from(why: io::Error) -> Self {
        Self::Io(why.to_string())
    }
}

/// What came of one record.
enum Landed {
    Moved,
    AlreadyThere,
    Expired,
    Foreign,
}

impl<R: BufRead> Export<R> {
    /// Reads the first line, and insists that our keys open what follows. Before a store is made for it.
    pub fn open(from: R, ring: &KeyRing) -> Result<Self, NotMoved> {
        let (line, records) = (0, 0);
        let mut export = Self { from, line, records };
        let text = export.line()?.ok_or(NotMoved::NotAnExport)?;
        // Of a later version only these two are known.
        let said: serde_json::Value = serde_json::from_str(&text).map_err(|_| NotMoved::NotAnExport)?;
        let version = said["version"].as_u64().and_then(|version| u32::try_from(version).ok());
        match version.filter(|_| said["format"] == FORMAT) {
            Some(VERSION) => {}
            Some(newer) if newer > VERSION => return Err(NotMoved::Newer(newer)),
            Some(_) | None => return Err(NotMoved::NotAnExport),
        }
        let head: Head = serde_json::from_value(said).map_err(|_| NotMoved::NotAnExport)?;
        let check = URL_SAFE_NO_PAD.decode(head.check).map_err(|_| NotMoved::NotAnExport)?;
        let opened = seal::unboxed(ring, CHECK, b"", &check).map_err(|_| NotMoved::OtherKeys)?;
        if *opened == FORMAT.as_bytes() {
            Ok(export)
        } else {
            Err(NotMoved::NotAnExport)
        }
    }

    /// The next records, sealed; fewer than [`TOGETHER`] only at the end.
    fn next(&mut self) -> Result<Vec<Sealed>, (Vec<Sealed>, NotMoved)> {
        let mut several = Vec::with_capacity(TOGETHER);
        while several.len() < TOGETHER {
            match self.record() {
                Ok(Some(sealed)) => several.push(sealed),
                Ok(None) => break,
                Err(why) => return Err((several, why)),
            }
        }
        Ok(several)
    }

    fn record(&mut self) -> Result<Option<Sealed>, NotMoved> {
        let text = self.line()?.ok_or(NotMoved::CutOff(self.line))?;
        match serde_json::from_str(&text) {
            Ok(Line::Sealed(sealed)) => {
                self.records += 1;
                Ok(Some(sealed))
            }
            Ok(Line::End(end)) if end.records == self.records && self.line()?.is_none() => Ok(None),
            // The last line of what was cut off is half a line.
            Err(_) if !text.ends_with('\n') => Err(NotMoved::CutOff(self.line - 1)),
            Ok(Line::End(_)) | Err(_) => Err(NotMoved::Broken(self.line)),
        }
    }

    fn line(&mut self) -> Result<Option<String>, NotMoved> {
        let mut bytes = Vec::new();
        io::Read::take(&mut self.from, LONGEST).read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        String::from_utf8(bytes).map(Some).map_err(|_| NotMoved::Broken(self.line))
    }
}

impl Store {
    /// Writes all records as they lie at rest, of whatever kind and version, also such as do not open; and says how many.
    /// What is written to the store meanwhile may be missed.
    pub async fn export(&self, to: &mut impl io::Write) -> Result<u64, NotMoved> {
        let check = seal::boxed(&self.keys.load(), self.clock.now(), CHECK, random::fresh(), b"", FORMAT.as_bytes());
        let head = Head {
            format: FORMAT.to_owned(),
            version: VERSION,
            check: URL_SAFE_NO_PAD.encode(check),
        };
        write_line(to, &head)?;
        let mut records = 0;
        // The mark of the keys is that of one store: another one gets its own.
        let spaces = self.backend.spaces().await?.into_iter().filter(|space| space != KeyMark::SPACE);
        for space in spaces {
            let mut after = None;
            loop {
                let page = self.backend.scan(&space, after, PAGE).await?;
                for (key, row) in page.rows {
                    records += 1;
                    let value = URL_SAFE_NO_PAD.encode(row.value);
                    let expires = row.expires;
                    write_line(to, &Line::Sealed(Sealed { key, value, expires }))?;
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        write_line(to, &Line::End(End { records }))?;
        to.flush()?;
        Ok(records)
    }

    /// Puts all records of an export where nothing lies under their keys; nothing that is there is changed.
    pub async fn import<R: BufRead>(&self, mut export: Export<R>) -> Result<Imported, NotMoved> {
        let mut imported = Imported::default();
        loop {
            // What stands before a broken line is good.
            let (several, end) = match export.next() {
                Ok(several) => (several, None),
                Err((several, why)) => (several, Some(why)),
            };
            let is_last = several.len() < TOGETHER;
            for landed in join_all(several.into_iter().map(|sealed| self.landed(sealed))).await {
                match landed? {
                    Landed::Moved => imported.moved += 1,
                    Landed::AlreadyThere => imported.already_there += 1,
                    Landed::Expired => imported.expired += 1,
                    Landed::Foreign => imported.foreign += 1,
                }
            }
            match end {
                Some(why) => return Err(why),
                None if is_last => return Ok(imported),
                None => {}
            }
        }
    }

    async fn landed(&self, sealed: Sealed) -> Result<Landed, StoreError> {
        let now = self.clock.now();
        let Sealed { key, value, expires } = sealed;
        if expires < now {
            return Ok(Landed::Expired);
        }
        let value = URL_SAFE_NO_PAD.decode(value).unwrap_or_default();
        let Some((space, id)) = self.named(&key, &value) else {
            return Ok(Landed::Foreign);
        };
        // Whatever the mark says of the keys stays true.
        let ring = self.keys.load_full();
        let value = match value.first_chunk() {
            Some(by) if *by == ring.sealing(now).id() => value,
            Some(_) | None => at_rest::sealed_anew(&ring, now, &space, &key, &value).map_or(value, |(_, anew)| anew),
        };
        let mut lost = Vec::new();
        let mut seen = None;
        for tried in 0..TRIES {
            let version = Version::fresh();
            let value = value.clone();
            let row = Row { value, version, expires };
            let space = space.clone().into();
            let write = Write {
                key: key.clone(),
                act: seen.map_or_else(|| Act::Insert(row.clone()), |seen| Act::Replace(seen, row.clone())),
                news: News::Put { space, id },
            };
            match self.backend.put_if(write).await? {
                Put::Written => return Ok(Landed::Moved),
                Put::Stale => {}
                Put::Unknown => lost.push(version),
            }
            let there = self.backend.get(&key).await?;
            seen = there.as_ref().map(|row| row.version);
            match there {
                Some(row) if lost.contains(&row.version) => return Ok(Landed::Moved),
                Some(row) if row.expires >= now => return Ok(Landed::AlreadyThere),
                // What has expired makes room.
                Some(_) | None => {}
            }
            answering(lost.len())?;
            pause(tried).await;
        }
        Err(contended())
    }

    /// The kind and the id of a sealed record of any version, if it opens where it is to lie.
    fn named(&self, place: &str, value: &[u8]) -> Option<(String, Id)> {
        let (space, _) = place.split_once('/')?;
        let id = at_rest::id(&self.keys.load(), space, place, value)?;
        (key(space, id) == place).then(|| (space.to_owned(), id))
    }
}

fn write_line(to: &mut impl io::Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.write_all(b"\n")
}
