//! The reasons why a command has no result.

use redis::RedisError;

/// The reason why a command has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The command was not sent.
    #[error("{0}")]
    NotAsked(String),
    /// The command was sent, and Redis may still execute it.
    #[error("{0}")]
    Lost(String),
    /// The same: the response did not come in time.
    #[error("no answer in time")]
    Late,
    /// Redis returned this error code and detail, and did not execute the command.
    #[error("it says {0} {1}")]
    Refused(String, String),
}

impl CommandError {
    pub(super) fn of(error: &RedisError) -> Self {
        match error.code() {
            // Only these codes keep the detail: in others it can repeat the command's arguments.
            Some(code @ ("NOPERM" | "OOM" | "MISCONF" | "READONLY" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "NOREPLICAS")) => {
                Self::Refused(code.to_owned(), error.detail().unwrap_or_default().to_owned())
            }
            Some(code) => Self::Refused(code.to_owned(), String::new()),
            None if error.is_timeout() => Self::Late,
            None => Self::Lost(error.category().to_owned()),
        }
    }

    /// Whether a new connection may help: this one is dead, or its server is not a usable master.
    pub(super) fn is_connection_error(&self) -> bool {
        match self {
            Self::NotAsked(_) => false,
            Self::Lost(_) | Self::Late => true,
            Self::Refused(code, _) => matches!(code.as_str(), "READONLY" | "MASTERDOWN" | "LOADING" | "NOAUTH"),
        }
    }

    /// Whether the ACL forbids the command, or Redis does not know it.
    pub(super) fn is_permission_error(&self) -> bool {
        matches!(self, Self::Refused(code, _) if code == "NOPERM" || code == "ERR")
    }
}
