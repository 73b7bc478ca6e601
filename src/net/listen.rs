//! Binds listeners: one for each worker, without sharing a port by accident.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// The number of connections that the kernel queues while a worker is busy.
const BACKLOG: i32 = 1024;

/// Binds one non-blocking listener. With `reuse_port` more can be bound beside it
/// ([`bind_workers`]), but a port on which another process listens is still an error.
///
/// `SO_REUSEPORT` alone would silently give half of the connections to a second gateway that was
/// started by mistake. So the port is first bound exclusively and released. Two gateways that start
/// at the same instant can both succeed. Other users' processes cannot: Linux shares a port only
/// between processes of one user.
///
/// # Errors
/// The system's error: the address is in use, is not local, or is not permitted.
pub fn bind(addr: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    if !reuse_port {
        return listen(addr, false);
    }
    let exclusive = socket(addr)?;
    exclusive.bind(&addr.into())?;
    // For port 0 the system chose a port, which is bound again.
    let bound_addr = exclusive.local_addr()?.as_socket().unwrap_or(addr);
    drop(exclusive);
    listen(bound_addr, true)
}

/// Binds `addr` once per worker (`workers`). On Linux each worker has its own socket, and the
/// kernel distributes the connections; elsewhere all workers share one socket.
///
/// # Errors
/// As [`bind`].
pub fn bind_workers(addr: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    let own_sockets = cfg!(target_os = "linux") && workers > 1;
    let first = bind(addr, own_sockets)?;
    let bound_addr = first.local_addr()?;
    let mut listeners = vec![first];
    while listeners.len() < workers {
        listeners.push(if own_sockets {
            listen(bound_addr, true)?
        } else {
            listeners[0].try_clone()?
        });
    }
    Ok(listeners)
}

/// Whether this machine lacks the address, for instance `::1` where IPv6 is off. For callers that
/// bind `127.0.0.1` and `[::1]`, of which one is enough.
pub fn is_missing_address(error: &io::Error) -> bool {
    // `EAFNOSUPPORT` has no `ErrorKind` yet.
    let no_family = if cfg!(target_os = "linux") { 97 } else { 47 };
    error.kind() == io::ErrorKind::AddrNotAvailable || error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(no_family)
}

fn socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // As in `std`: a restart need not wait until old connections expire. On Windows the same option
    // lets another process take a port in use.
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
    fn every_worker_has_a_listener_on_the_same_port() {
        let listeners = bind_workers(any(), 3).expect("bound");
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().expect("address")).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports.iter().all(|port| *port == ports[0]) && ports[0].port() != 0);
    }

    #[test]
    fn a_port_in_use_is_detected_even_when_shared() {
        for (first_shared, second_shared) in [(true, true), (false, true), (true, false), (false, false)] {
            let first = bind(any(), first_shared).expect("bound");
            let second = bind(first.local_addr().expect("address"), second_shared);
            let error = second.expect_err("taken");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{first_shared} {second_shared}");
            assert!(!is_missing_address(&error));
        }
    }

    #[test]
    fn binding_a_foreign_address_is_reported_as_a_missing_address() {
        let foreign = bind(SocketAddr::from(([192, 0, 2, 1], 0)), false);
        assert!(is_missing_address(&foreign.expect_err("not ours")));
    }
}
