//! Outgoing connections: resolve a name, check its addresses, connect to *the checked address*.
//!
//! A name that is resolved again can have another address (DNS rebinding), so nothing here goes
//! back from an address to a name. An IP literal in a URL is checked like an address from DNS.

use crate::base::endpoint_network::EndpointNetwork;
use crate::base::special_ip::{self, AddressKind, Cidr};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// The time for which a connection attempt runs before the next address is tried in parallel (RFC 8305 §5).
const NEXT_ADDRESS_DELAY: Duration = Duration::from_millis(250);
/// Maximum number of a name's addresses that are tried.
const MAX_ADDRESSES: usize = 8;

/// Addresses that the gateway may connect to. They depend on the party that named the address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AddressPolicy {
    /// The operator named it in the configuration: any address.
    Anything,
    /// A client named it: global addresses, over https only.
    Public {
        /// Also allows loopback, with plain http too. For a gateway that is itself on loopback.
        loopback: bool,
    },
    /// A configured upstream named it: global addresses, and those of the upstream's own network.
    /// Link-local, metadata, multicast and unspecified addresses are never allowed, even if listed.
    AsUpstream {
        /// The upstream is on loopback, so it may name loopback.
        loopback: bool,
        /// The upstream is on a private network, so it may name private addresses.
        private: bool,
        /// The upstream uses plain http, so it may name plain http.
        plain_http: bool,
        /// The operator's `allow_addresses`.
        extra: Arc<[Cidr]>,
    },
}

impl AddressPolicy {
    /// The policy for addresses that an upstream names. `peers` are the addresses of the connections on
    /// which it answered. The upstream counts as loopback or private if all of them are: a name that is
    /// looked up apart from the connection can have another address then (DNS rebinding).
    pub fn for_upstream_at(peers: &[IpAddr], plain_http: bool, extra: Arc<[Cidr]>) -> AddressPolicy {
        let are_all = |is_kind: fn(AddressKind) -> bool| {
            let mut kinds = peers.iter().map(|peer| special_ip::address_kind(*peer));
            !peers.is_empty() && kinds.all(is_kind)
        };
        AddressPolicy::AsUpstream {
            loopback: are_all(|kind| kind == AddressKind::Loopback),
            private: are_all(AddressKind::is_private),
            plain_http,
            extra,
        }
    }

    /// The policy for endpoints in this network. `None`: the operator named them.
    pub fn in_network(network: Option<EndpointNetwork>, extra: Arc<[Cidr]>) -> AddressPolicy {
        match network {
            None => Self::Anything,
            Some(EndpointNetwork {
                loopback,
                private,
                plain_http,
            }) => Self::AsUpstream {
                loopback,
                private,
                plain_http,
                extra,
            },
        }
    }

    /// The network of endpoints with this policy. `None`: any.
    pub fn network(&self) -> Option<EndpointNetwork> {
        match self {
            Self::Anything => None,
            Self::Public { loopback } => Some(EndpointNetwork {
                loopback: *loopback,
                private: false,
                plain_http: false,
            }),
            Self::AsUpstream {
                loopback,
                private,
                plain_http,
                extra: _,
            } => Some(EndpointNetwork {
                loopback: *loopback,
                private: *private,
                plain_http: *plain_http,
            }),
        }
    }

    /// Checks one address of `host`.
    ///
    /// # Errors
    /// [`AddressRefused`] with the reason, for logs and for the operator.
    pub fn check(&self, host: &str, address: IpAddr, https: bool) -> Result<(), AddressRefused> {
        let kind = special_ip::address_kind(address);
        let (address_ok, http_ok) = match self {
            Self::Anything => (true, true),
            Self::Public { loopback } => {
                let is_local = *loopback && kind == AddressKind::Loopback;
                (kind == AddressKind::Global || is_local, is_local)
            }
            Self::AsUpstream {
                loopback,
                private,
                plain_http,
                extra,
            } => {
                let is_local = (*loopback && kind == AddressKind::Loopback)
                    || (*private && kind.is_private())
                    || extra.iter().any(|block| block.contains(address));
                (kind == AddressKind::Global || (is_local && !kind.is_never_allowed()), *plain_http)
            }
        };
        if !address_ok {
            return Err(AddressRefused::SpecialPurpose {
                host: host.to_owned(),
                address,
                kind,
            });
        }
        if !https && !http_ok {
            return Err(AddressRefused::NotHttps { host: host.to_owned() });
        }
        Ok(())
    }
}

/// The reason why the gateway does not connect to an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefused {
    /// The address is reserved for a purpose that the policy does not allow.
    #[error("{host} is at {address}, a {kind} address")]
    SpecialPurpose {
        /// The requested name or IP literal.
        host: String,
        /// The address of `host`.
        address: IpAddr,
        /// The purpose for which the address is reserved.
        kind: AddressKind,
    },
    /// The URL is plain http, which the policy does not allow.
    #[error("{host} is named without https")]
    NotHttps {
        /// The requested name or IP literal.
        host: String,
    },
}

/// The reason why there is no connection. In every case no byte was sent.
#[derive(Debug)]
pub enum DialError {
    /// The policy forbids every address of the name.
    Refused(AddressRefused),
    /// The name cannot be resolved.
    Unresolved(io::Error),
    /// No address accepted a connection. Contains the last error.
    Unreachable(io::Error),
}

/// Resolves `host`, drops the addresses that `policy` refuses, and connects to one of the others.
/// Attempts start at most 250 ms apart; the first success wins. The caller sets the timeout.
///
/// # Errors
/// [`DialError`]. It is [`DialError::Refused`] only if every address was refused.
pub async fn dial(host: &str, port: u16, https: bool, policy: &AddressPolicy) -> Result<TcpStream, DialError> {
    let resolved = resolve(host, port).await.map_err(DialError::Unresolved)?;
    let mut usable = Vec::with_capacity(resolved.len());
    let mut refused = None;
    for address in resolved {
        match policy.check(host, address.ip(), https) {
            Ok(()) => usable.push(address),
            Err(reason) => refused = refused.or(Some(reason)),
        }
    }
    match refused {
        Some(reason) if usable.is_empty() => Err(DialError::Refused(reason)),
        _ => race(usable).await.map_err(DialError::Unreachable),
    }
}

/// Resolves `host` as written in a URL: a name, an IPv4 literal, or an IPv6 literal in brackets.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let name = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(literal) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(literal, port)]);
    }
    Ok(tokio::net::lookup_host((name, port)).await?.take(MAX_ADDRESSES).collect())
}

async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut remaining = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match remaining.next() {
            Some(address) => attempts.push(TcpStream::connect(address)),
            None if attempts.is_empty() => return Err(last_error),
            None => {}
        }
        let result = if remaining.len() == 0 {
            attempts.next().await
        } else {
            tokio::time::timeout(NEXT_ADDRESS_DELAY, attempts.next()).await.ok().flatten()
        };
        match result {
            Some(Ok(stream)) => {
                prepare(&stream);
                return Ok(stream);
            }
            Some(Err(cause)) => last_error = cause,
            None => {}
        }
    }
}

/// Disables Nagle's algorithm, and sets keepalive to detect a vanished peer within minutes. Errors
/// are ignored, because a socket that refuses an option still works.
pub(super) fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15));
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(policy: &AddressPolicy, text: &str) -> bool {
        policy.check("host", text.parse().expect(text), true).is_ok()
    }

    fn upstream(loopback: bool, private: bool, extra: &[&str]) -> AddressPolicy {
        let extra = extra.iter().map(|block| block.parse().expect("block")).collect();
        AddressPolicy::AsUpstream {
            loopback,
            private,
            plain_http: false,
            extra,
        }
    }

    #[test]
    fn the_address_policy_decides_which_special_addresses_are_allowed() {
        let public = AddressPolicy::Public { loopback: false };
        let local = AddressPolicy::Public { loopback: true };
        let remote = upstream(false, false, &[]);
        let on_loopback = upstream(true, false, &[]);
        let on_private = upstream(false, true, &[]);
        // Columns: anything, public, public with loopback, remote, loopback and private upstream.
        for (address, expected) in [
            ("8.8.8.8", [true, true, true, true, true, true]),
            ("127.0.0.1", [true, false, true, false, true, false]),
            ("::1", [true, false, true, false, true, false]),
            ("::ffff:127.0.0.1", [true, false, true, false, true, false]),
            ("10.0.0.1", [true, false, false, false, false, true]),
            ("fd00::1", [true, false, false, false, false, true]),
            ("64:ff9b::10.0.0.1", [true, false, false, false, false, true]),
            ("169.254.169.254", [true, false, false, false, false, false]),
            ("2002:a9fe:a9fe::", [true, false, false, false, false, false]),
            ("fe80::1", [true, false, false, false, false, false]),
            ("0.0.0.0", [true, false, false, false, false, false]),
            ("224.0.0.1", [true, false, false, false, false, false]),
        ] {
            let policies = [&AddressPolicy::Anything, &public, &local, &remote, &on_loopback, &on_private];
            assert_eq!(policies.map(|policy| judged(policy, address)), expected, "{address}");
        }
    }

    #[test]
    fn a_listed_address_is_allowed_unless_it_is_metadata_or_link_local() {
        let policy = upstream(false, false, &["10.1.0.0/16", "169.254.0.0/16", "127.0.0.0/8"]);
        assert!(judged(&policy, "10.1.2.3") && judged(&policy, "127.0.0.1"));
        assert!(!judged(&policy, "10.2.0.1"));
        assert!(!judged(&policy, "169.254.169.254") && !judged(&policy, "169.254.1.1"));
    }

    #[test]
    fn plain_http_is_refused_unless_the_address_policy_allows_it() {
        let global: IpAddr = "8.8.8.8".parse().expect("address");
        let loopback: IpAddr = "127.0.0.1".parse().expect("address");
        let not_https = Err(AddressRefused::NotHttps { host: "h".into() });
        let local = AddressPolicy::Public { loopback: true };
        assert_eq!(local.check("h", global, false), not_https);
        assert_eq!(local.check("h", loopback, false), Ok(()));
        assert_eq!(upstream(true, false, &[]).check("h", loopback, false), not_https);
        let plain = AddressPolicy::AsUpstream {
            loopback: true,
            private: false,
            plain_http: true,
            extra: Arc::new([]),
        };
        assert_eq!(plain.check("h", loopback, false), Ok(()));
        assert_eq!(AddressPolicy::Anything.check("h", global, false), Ok(()));
    }

    #[tokio::test]
    async fn names_and_literals_of_special_addresses_are_refused_when_dialled() {
        let policy = AddressPolicy::Public { loopback: false };
        for host in ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]"] {
            let refused = dial(host, 9, true, &policy).await;
            assert!(
                matches!(&refused, Err(DialError::Refused(AddressRefused::SpecialPurpose { .. }))),
                "{host}: {refused:?}"
            );
        }
    }

    #[tokio::test]
    async fn the_next_address_is_tried_after_an_unreachable_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let reachable = listener.local_addr().expect("address");
        let unreachable = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
            listener.local_addr().expect("address")
        };
        let stream = race(vec![unreachable, reachable]).await.expect("connected");
        assert_eq!(stream.peer_addr().expect("peer"), reachable);
        assert!(race(vec![unreachable]).await.is_err());
        assert!(race(vec![]).await.is_err());
    }

    #[test]
    fn an_upstream_on_a_local_address_permits_addresses_of_that_kind() {
        for (peers, expected) in [
            (&["127.0.0.1", "::1"][..], (true, false)),
            (&["10.0.0.1", "fd00::1"], (false, true)),
            (&["::ffff:127.0.0.1"], (true, false)),
            // One connection went elsewhere, or there was none.
            (&["127.0.0.1", "8.8.8.8"], (false, false)),
            (&["10.0.0.1", "127.0.0.1"], (false, false)),
            (&[], (false, false)),
        ] {
            let peers: Vec<IpAddr> = peers.iter().map(|peer| peer.parse().expect("address")).collect();
            let AddressPolicy::AsUpstream { loopback, private, .. } = AddressPolicy::for_upstream_at(&peers, true, Arc::new([])) else {
                panic!("another policy")
            };
            assert_eq!((loopback, private), expected, "{peers:?}");
        }
    }

    #[test]
    fn an_address_refusal_names_host_address_and_kind() {
        let address = "10.0.0.1".parse().expect("address");
        let refused = AddressPolicy::Public { loopback: false }.check("as.example", address, true);
        assert_eq!(
            refused.expect_err("refused").to_string(),
            "as.example is at 10.0.0.1, a private address"
        );
    }
}
