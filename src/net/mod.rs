//! Network I/O: address policy ([`dial`]), HTTP client ([`http_client`]), HTTP server ([`server`]),
//! bodies ([`body`]) and TLS ([`tls`]).
//!
//! Knows no OAuth.

mod activity;
pub mod body;
pub mod byte_watch;
pub mod connection_quota;
pub mod dial;
pub mod generated_body;
pub mod http_client;
pub mod listen;
pub mod local_probe;
pub mod open_files;
mod pool;
mod request_target;
pub mod self_signed;
pub mod server;
pub mod tls;
mod write_deadline;
