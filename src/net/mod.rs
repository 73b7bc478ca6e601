//! GROUND. Sockets, both ways: who may be dialled ([`dial`]), requests out ([`client`]),
//! requests in ([`server`]), the bodies of both ([`body`]) and TLS ([`tls`]).
//!
//! Knows no OAuth. Everything that waits on the network waits here.

mod activity;
pub mod body;
pub mod dial;
pub mod http_client;
pub mod listen;
pub mod local_probe;
mod pool;
mod request_target;
pub mod self_signed;
pub mod server;
pub mod stop;
pub mod tls;
