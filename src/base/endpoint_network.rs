//! The network that a server is on. Addresses that the server names must be of the same one.

use serde::{Deserialize, Serialize};

/// The networks beside the global one in which the endpoints of a server may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointNetwork {
    /// The server is on loopback.
    pub loopback: bool,
    /// The server is on a private network.
    pub private: bool,
    /// The server uses plain http.
    pub plain_http: bool,
}
