//! Binding listeners: one for each lane, and no port shared by accident.

use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;
use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;

/// Connections the kernel holds for us while a lane is busy.
const BACKLOG: i32 = 1024;

/// Binds one listener, non-blocking. With `reuse_port` more can be bound beside it, see
/// [`bind_workers`]; also then a port that somebody else already listens on is an error.
///
/// With `SO_REUSEPORT` alone a second gateway, started by mistake, would silently get half of the
/// first one's connections. So the port is bound alone first, and let go again. Two gateways that
/// start within the same instant can still both get through; nobody else's can, as Linux shares a
/// port only between processes of one user.
///
/// # Errors
/// The system's own: the address is taken, is not ours, or may not be used.
pub fn bind(addr: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    if !reuse_port {
        return listen(addr, false);
    }
    let alone = socket(addr)?;
    alone.bind(&addr.into())?;
    // With port 0 the system chose one, and that is the one to bind again.
    let chosen = alone.local_addr()?.as_socket().unwrap_or(addr);
    drop(alone);
    listen(chosen, true)
}

/// Binds `addr` once for each of `lanes`. On Linux every lane gets a socket of its own, and the
/// kernel spreads the connections; elsewhere all are handles of one socket.
///
/// # Errors
/// As [`bind`].
pub fn bind_workers(addr: SocketAddr, lanes: usize) -> io::Result<Vec<TcpListener>> {
    let own_sockets = cfg!(target_os = "linux") && lanes > 1;
    let first = bind(addr, own_sockets)?;
    let chosen = first.local_addr()?;
    let mut all = vec![first];
    while all.len() < lanes {
        all.push(if own_sockets { listen(chosen, true)? } else { all[0].try_clone()? });
    }
    Ok(all)
}

/// Whether `error` says that this machine has no such address at all: an IPv6 loopback where
/// IPv6 is switched off. For callers that bind `127.0.0.1` and `[::1]` and can do with one.
pub fn is_missing_address(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own yet.
    let no_family = if cfg!(target_os = "linux") { 97 } else { 47 };
    error.kind() == io::ErrorKind::AddrNotAvailable || error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(no_family)
}

fn socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // As std does: a restart need not wait for old connections to be forgotten. On Windows the
    // same option lets a stranger take a port in use, so not there.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn listen(addr: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = socket(addr)?;
    #[cfg(unix)]
    socket.set_reuse_port(reuse_port)?;
    #[cfg(not(unix))]
    let _ = reuse_port;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn every_lane_has_a_listener_on_the_same_port() {
        let lanes = bind_workers(any(), 3).expect("bound");
        let ports: Vec<_> = lanes.iter().map(|lane| lane.local_addr().expect("address")).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports.iter().all(|port| *port == ports[0]) && ports[0].port() != 0);
    }

    #[test]
    fn a_port_in_use_is_noticed_whoever_shares_it() {
        for (theirs, ours) in [(true, true), (false, true), (true, false), (false, false)] {
            let first = bind(any(), theirs).expect("bound");
            let taken = bind(first.local_addr().expect("address"), ours);
            let error = taken.expect_err("taken");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{theirs} {ours}");
            assert!(!is_missing_address(&error));
        }
    }

    #[test]
    fn an_address_that_is_not_ours_is_told_apart() {
        let foreign = bind(SocketAddr::from(([192, 0, 2, 1], 0)), false);
        assert!(is_missing_address(&foreign.expect_err("not ours")));
    }
}
