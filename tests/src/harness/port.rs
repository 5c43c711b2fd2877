//! Free ports.

use std::net::{Ipv4Addr, TcpListener};

/// `N` different ports of the loopback address that nobody listened on a moment ago.
pub(super) fn free<const N: usize>() -> [u16; N] {
    // All are held until all are chosen, so that they differ.
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
