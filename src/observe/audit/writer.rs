//! Writes the audit log: a thread that owns the file, standard output, and the end of the chain.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::base::time::Clock;
use crate::observe::audit::chain::ChainEnd;
use crate::observe::audit::event::{AuditEvent, AuditEventKind, AuditOutcome, AuditRecord};
use crate::observe::audit::{AuditLog, MAX_WAITING, Message, Sender};

/// The number of bytes at the end of a file that are read to find its last record.
const TAIL_BYTES: u64 = 256 * 1024;

/// The destinations of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditTargets {
    /// The file; it is created with mode 0600, and appended to.
    pub file: Option<PathBuf>,
    /// Whether the audit log is also written to standard output.
    pub stdout: bool,
}

impl AuditTargets {
    /// Whether there is a destination.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The thread that writes.
#[derive(Debug)]
pub struct AuditWriter(JoinHandle<()>);

impl AuditWriter {
    /// Waits until everything is written, after [`AuditLog::close`].
    pub fn wait(self) {
        let _ = self.0.join();
    }
}

/// Starts the log. Its first record is a checkpoint.
///
/// # Errors
/// If the file cannot be opened, another process writes to it, or its end is no audit log.
pub fn start(targets: AuditTargets, clock: Clock) -> io::Result<(AuditLog, AuditWriter)> {
    let (messages, receiver) = sync_channel(MAX_WAITING);
    let lost = Arc::new(AtomicU64::new(0));
    let mut output = Output {
        file: targets.file.as_deref().map(open).transpose()?,
        chain: ChainEnd::default(),
        has_failed: false,
        targets,
        clock: clock.clone(),
    };
    if let Some(file) = &mut output.file {
        output.chain = last_record(file)?;
    }
    output.write(&output.checkpoint("start"));
    let lost_by_senders = Arc::clone(&lost);
    let thread = std::thread::Builder::new()
        .name("audit".to_owned())
        .spawn(move || output.run(&receiver, &lost_by_senders))?;
    Ok((AuditLog(Some(Arc::new(Sender { messages, lost, clock }))), AuditWriter(thread)))
}

struct Output {
    targets: AuditTargets,
    file: Option<File>,
    chain: ChainEnd,
    /// The last write failed, which is logged once.
    has_failed: bool,
    clock: Clock,
}

impl Output {
    fn run(mut self, messages: &Receiver<Message>, lost: &AtomicU64) {
        while let Ok(message) = messages.recv() {
            let count = lost.swap(0, Ordering::Relaxed);
            if count > 0 {
                tracing::error!(lost = count, "audit events are lost: the audit log cannot be written fast enough");
                let gap = AuditEvent::new(AuditEventKind::Gap, AuditOutcome::Failure).with("lost", count);
                self.write(&self.record(gap));
            }
            match message {
                Message::Record(record) => self.write(&record),
                Message::Reopen => self.reopen(),
                Message::Close => return,
            }
        }
    }

    fn record(&self, event: AuditEvent) -> AuditRecord {
        AuditRecord {
            time: self.clock.now(),
            origin: None,
            event,
        }
    }

    fn checkpoint(&self, reason: &'static str) -> AuditRecord {
        self.record(AuditEvent::new(AuditEventKind::Checkpoint, AuditOutcome::Success).with("reason", reason))
    }

    /// Opens the file again. If it was moved away, the new one begins with a checkpoint that continues
    /// the chain.
    fn reopen(&mut self) {
        let Some(path) = &self.targets.file else { return };
        // Released first: the lock of a file that is still in place would be this process's own.
        self.file = None;
        match open(path) {
            Ok(file) => self.file = Some(file),
            Err(error) => tracing::error!(path = %path.display(), %error, "the audit log cannot be opened again"),
        }
        self.write(&self.checkpoint("reopened"));
    }

    fn write(&mut self, record: &AuditRecord) {
        let mut chain = self.chain.clone();
        let line = format!("{}\n", chain.append(record.to_json()));
        if let Err(error) = self.write_line(&line) {
            if !self.has_failed {
                tracing::error!(%error, "the audit log cannot be written");
            }
            self.has_failed = true;
            return;
        }
        (self.chain, self.has_failed) = (chain, false);
    }

    fn write_line(&mut self, line: &str) -> io::Result<()> {
        if let Some(path) = &self.targets.file {
            if self.file.is_none() {
                self.file = Some(open(path)?);
            }
            if let Some(file) = &mut self.file {
                let end = file.seek(SeekFrom::End(0))?;
                if let Err(error) = file.write_all(line.as_bytes()) {
                    // A part of a record would end the chain.
                    let _ = file.set_len(end);
                    return Err(error);
                }
            }
        }
        if self.targets.stdout {
            let mut stdout = io::stdout().lock();
            stdout.write_all(line.as_bytes())?;
            stdout.flush()?;
        }
        Ok(())
    }
}

/// Opens the file for this process alone.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => io::Error::other("another process writes its audit log there; give each its own file"),
        std::fs::TryLockError::Error(error) => error,
    })?;
    Ok(file)
}

/// The end of the chain in the file. A record that a crash cut off is removed: it was never complete.
fn last_record(file: &mut File) -> io::Result<ChainEnd> {
    let length = file.seek(SeekFrom::End(0))?;
    let start = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let complete = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |position| position + 1);
    if complete < tail.len() {
        file.set_len(start + complete as u64)?;
    }
    let text = String::from_utf8_lossy(&tail[..complete]);
    let Some(line) = text.lines().next_back() else {
        return Ok(ChainEnd::default());
    };
    let mut chain = None;
    ChainEnd::follow(&mut chain, line)
        .map_err(|error| io::Error::other(format!("its last line does not continue an audit log: {error}")))?;
    Ok(chain.unwrap_or_default())
}
