//! Logs for the operator.

pub mod log;
