//! Ports for brokers in processes of their own, which open them a while after they were chosen.
//!
//! The kernel hands out the ports of its own range to every connection and every `bind(0)`, so that one of them may be
//! somebody else's by the time the broker opens it, and a client would talk to a stranger. These lie below that range,
//! and each belongs to one test process until that ends: it holds the lock of a file that is named after the port.

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{Error, Result};
use std::net::TcpListener;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Where the search may begin; below are ports that need rights or have a meaning.
const FIRST: u16 = 10_000;

/// The kernel's range where it cannot be read: Linux's default.
const KERNELS: u16 = 32_768;

/// The locks of the ports that this process has.
static OWN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// `count` ports of 127.0.0.1 that nothing listens on, and that are given to nobody else while this process lives.
///
/// # Errors
/// When the lock files cannot be made, or all ports are taken.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let range = range();
    let size = usize::from(range.end - range.start);
    let start = RandomState::new().hash_one(std::process::id()) as usize % size;
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = vec![];
    for step in 0..size {
        if found.len() == count {
            break;
        }
        let port = range.start + ((start + step) % size) as u16;
        if let Some(lock) = take(port)? {
            own.push(lock);
            found.push(port);
        }
    }
    if found.len() < count {
        return Err(Error::other(format!("fewer than {count} ports of {range:?} are free")));
    }
    Ok(found)
}

/// The ports below those that the kernel hands out; any above 10,000 where it leaves none there.
fn range() -> Range<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let lowest = text.split_whitespace().next().and_then(|word| word.parse().ok());
    let end = lowest.unwrap_or(KERNELS);
    if end > FIRST + 2_000 {
        FIRST..end
    } else {
        FIRST..u16::MAX
    }
}

/// The lock of a port that nobody has and nothing listens on.
fn take(port: u16) -> Result<Option<File>> {
    let folder = std::env::temp_dir().join("ottla-ports");
    std::fs::create_dir_all(&folder)?;
    let lock = File::options()
        .create(true)
        .append(true)
        .open(folder.join(port.to_string()))?;
    match lock.try_lock() {
        Ok(()) => Ok(TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let mut ports: Vec<u16> = (0..20).flat_map(|_| free_ports(5).unwrap()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 100);
        assert!(take(ports[0]).unwrap().is_none(), "it was given twice");
    }

    #[test]
    fn a_port_that_is_listened_on_is_not_given() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(take(port).unwrap().is_none());
    }
}
