//! Logs for the operator, and the audit log.

pub mod audit;
pub mod log;
pub mod log_queue;
pub mod refusal_limit;
pub mod request_origin;
