//! `healthcheck`: whether the gateway on this machine is ready, for container health checks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::cli::load_config;
use crate::config::from_flags::DEFAULT_PORT;
use crate::config::listen;
use crate::net::local_probe;

/// Asks at `port`, or at the configured addresses. Fails if no gateway answers or it is not ready.
pub(super) fn run(config: Option<&Path>, port: Option<u16>) -> Result<(), String> {
    let loopbacks = |port: u16| listen::loopback_addresses(port);
    let addresses = match (port, config) {
        (Some(port), _) => loopbacks(port),
        (None, Some(path)) => load_config::listen_addresses(path)?.into_iter().flat_map(reachable).collect(),
        (None, None) => loopbacks(DEFAULT_PORT),
    };
    ask(&addresses)
}

/// Asks at the addresses that a gateway listens on. Fails if no gateway answers or it is not ready.
pub(super) fn ask_listeners(listen: &[SocketAddr]) -> Result<(), String> {
    let addresses: Vec<SocketAddr> = listen.iter().copied().flat_map(reachable).collect();
    ask(&addresses)
}

/// Asks at these addresses. Fails if no gateway answers or it is not ready.
fn ask(addresses: &[SocketAddr]) -> Result<(), String> {
    let address_list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let status_line = local_probe::first_line(addresses, "/health/ready")
        .map_err(|error| format!("no gateway answers at {}: {error}", address_list.join(" or ")))?;
    if status_line.starts_with("HTTP/1.") && status_line.get(9..12) == Some("200") {
        Ok(())
    } else {
        Err(format!(
            "not ready: {}",
            if status_line.is_empty() { "no answer" } else { &status_line }
        ))
    }
}

/// The addresses at which this machine reaches a listener.
fn reachable(address: SocketAddr) -> Vec<SocketAddr> {
    let port = address.port();
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![(Ipv4Addr::LOCALHOST, port).into()],
        // A listener on `[::]` usually accepts IPv4 too.
        IpAddr::V6(ip) if ip.is_unspecified() => vec![(Ipv6Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, port).into()],
        IpAddr::V4(_) | IpAddr::V6(_) => vec![address],
    }
}
