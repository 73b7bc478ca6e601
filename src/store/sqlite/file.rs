//! The store file: its directory, its mode, its schema, and how it is opened.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::base::time::UnixTime;
use crate::store::error::StoreError;

/// The name of the file in the data directory.
pub const FILE_NAME: &str = "store.sqlite3";

/// The schema version that this program writes.
const SCHEMA_VERSION: i64 = 1;

/// The time to wait for another process to finish its write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// `seq` grows with every write and never repeats: rows above the last known one are external.
const SCHEMA_SQL: &str = "
    CREATE TABLE record (
        key     TEXT    NOT NULL PRIMARY KEY,
        value   BLOB    NOT NULL,
        version BLOB    NOT NULL,
        expires INTEGER NOT NULL,
        seq     INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX record_expires ON record (expires);
    CREATE INDEX record_seq ON record (seq);
    CREATE TABLE counter (seq INTEGER NOT NULL) STRICT;
    INSERT INTO counter VALUES (0);
";

/// The reason why a store file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SqliteOpenError {
    /// The directory, the file or a thread cannot be created, or a mode cannot be set.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// SQLite refuses the file, with this message.
    #[error("{0}: {1}")]
    Sqlite(PathBuf, String),
    /// The schema has this version, which another program wrote, most likely a newer one.
    #[error("{0}: its layout has version {1}, which this program does not know")]
    OtherSchema(PathBuf, i64),
}

/// Creates what is missing of `dir` and the file, private to this user. Returns the path.
pub(super) fn create(dir: &Path) -> Result<PathBuf, SqliteOpenError> {
    let path = dir.join(FILE_NAME);
    make_directory(dir).map_err(|error| SqliteOpenError::Io(dir.to_owned(), error))?;
    make_private(&path).map_err(|error| SqliteOpenError::Io(path.clone(), error))?;
    sync_directory(dir).map_err(|error| SqliteOpenError::Io(dir.to_owned(), error))?;
    Ok(path)
}

/// Opens the connection that writes. Creates the schema in a new file.
pub(super) fn open_writer(path: &Path) -> Result<Connection, SqliteOpenError> {
    let sqlite_error = |error: rusqlite::Error| SqliteOpenError::Sqlite(path.to_owned(), error.to_string());
    let (mut db, mode) = retry_busy(|| {
        let db = opened(path)?;
        let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        Ok((db, mode))
    })
    .map_err(sqlite_error)?;
    if mode != "wal" {
        let reason = format!("it takes no write-ahead log, only {mode}");
        return Err(SqliteOpenError::Sqlite(path.to_owned(), reason));
    }
    let version = retry_busy(|| create_schema(&mut db)).map_err(sqlite_error)?;
    if version != SCHEMA_VERSION {
        return Err(SqliteOpenError::OtherSchema(path.to_owned(), version));
    }
    Ok(db)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    retry_busy(|| {
        let db = opened(path)?;
        db.pragma_update(None, "query_only", true)?;
        Ok(db)
    })
}

/// Repeats `step` while another connection opens or closes the file. Switching to the log, and
/// recovering it, then fail with "locked" at once, despite the busy timeout.
fn retry_busy<T>(mut step: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let pause = Duration::from_millis(20);
    for _ in 0..BUSY_TIMEOUT.as_millis() / pause.as_millis() {
        match step() {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => std::thread::sleep(pause),
            result => return result,
        }
    }
    step()
}

/// SQLite's message never contains stored data: statements are constant and values are bound.
pub(super) fn failed(error: &rusqlite::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// A time as a SQLite integer, which has a sign. Later times become its maximum.
pub(super) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn opened(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(db)
}

/// Creates the schema in an empty file. Returns the schema version of the file.
fn create_schema(db: &mut Connection) -> rusqlite::Result<i64> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != 0 {
        return Ok(version);
    }
    tx.execute_batch(SCHEMA_SQL)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    tx.commit()?;
    Ok(SCHEMA_VERSION)
}

#[cfg(unix)]
fn make_directory(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(not(unix))]
fn make_directory(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

/// SQLite gives its log and index the file's mode, so the mode is set before SQLite opens the file.
#[cfg(unix)]
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::set_permissions(&name, fs::Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// A new file survives a power cut only if its directory is synced. SQLite does not do it here.
#[cfg(unix)]
fn sync_directory(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn make_private(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    Ok(())
}
