//! Free ports.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

/// The ports given so far, to this process.
static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// `N` ports of the loopback address that nobody listened on a moment ago, and that were not given before:
/// two servers that start side by side must not take one another's answers for their own.
pub(super) fn free<const N: usize>() -> [u16; N] {
    let mut given = GIVEN.lock().unwrap();
    let given = given.get_or_insert_default();
    let mut passed_over = Vec::new();
    [(); N].map(|()| {
        loop {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            if given.insert(port) {
                return port;
            }
            // Held until the end, so that it is not offered again.
            passed_over.push(listener);
        }
    })
}
