//! The audit log of a gateway that serves.

use crate::base::time::Clock;
use crate::config::validate::{AuditConfig, Validated};
use crate::observe::audit::writer::{AuditTargets, AuditWriter};
use crate::observe::audit::{self, AuditLog};

/// The audit log, and its writer if there is one.
#[derive(Default)]
pub(super) struct RunningAudit {
    pub(super) log: AuditLog,
    writer: Option<AuditWriter>,
}

impl RunningAudit {
    /// Writes what is waiting, and ends the log.
    pub(super) fn finish(self) {
        self.log.close();
        if let Some(writer) = self.writer {
            writer.wait();
        }
    }

    /// Starts the audit log, if one is configured.
    ///
    /// # Errors
    /// If its file cannot be written, or is no audit log.
    pub(super) fn start(validated: &Validated, clock: &Clock) -> Result<Self, String> {
        let AuditConfig { file, stdout } = validated.start.audit.clone();
        let targets = AuditTargets { file, stdout };
        if targets.is_empty() {
            return Ok(Self::default());
        }
        let (log, writer) = audit::writer::start(targets, clock.clone()).map_err(|error| {
            let instead = "name a file that the gateway may write, in a directory that exists, and that no other gateway uses";
            validated.locations.audit.wrong(error.to_string(), instead).to_string()
        })?;
        Ok(Self { log, writer: Some(writer) })
    }
}
