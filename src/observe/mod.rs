//! Logs for the operator, and the audit log.

pub mod audit;
pub mod log;
pub mod request_origin;
