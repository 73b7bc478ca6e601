//! GROUND. Sockets, both ways: who may be dialled ([`dial`]), requests out ([`client`]),
//! requests in ([`server`]), the bodies of both ([`body`]) and TLS ([`tls`]).
//!
//! Knows no OAuth. Everything that waits on the network waits here.

mod activity;
pub mod body;
pub mod client;
pub mod dial;
pub mod listen;
mod pool;
pub mod probe;
pub mod self_signed;
pub mod server;
pub mod stop;
mod target;
pub mod tls;
