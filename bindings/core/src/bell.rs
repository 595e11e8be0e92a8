//! A bell: the wake-up as a file descriptor, for event loops that watch those.
//!
//! In: rings from any thread. Out: a descriptor that is readable from the first ring until it is silenced. However often it
//! rings, one read silences it, and while it rings a further ring costs one atomic operation.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use crate::error::{Error, Kind};
use crate::mailbox::waker;

/// A file descriptor that is readable while there is something to look at. Clones are the same bell.
#[derive(Debug, Clone)]
pub struct Bell {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rings: AtomicBool,
    /// The end that is watched.
    read: OwnedFd,
    /// The end that is written to, if it is another one.
    write: Option<OwnedFd>,
}

impl Bell {
    /// A silent bell.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new() -> Result<Bell, Error> {
        let (read, write) = descriptors().map_err(|error| {
            Error::new(
                Kind::Runtime,
                format!("no file descriptor for waking the event loop: {error}"),
            )
        })?;
        let rings = AtomicBool::new(false);
        Ok(Bell {
            shared: Arc::new(Shared { rings, read, write }),
        })
    }

    /// The descriptor, for `poll`, `epoll`, `add_reader`. It stays the bell's: nobody else reads or closes it.
    pub fn fd(&self) -> RawFd {
        self.shared.read.as_raw_fd()
    }

    /// The descriptor, borrowed.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.read.as_fd()
    }

    /// Makes the descriptor readable, if it is not already.
    pub fn ring(&self) {
        if !self.shared.rings.swap(true, Ordering::AcqRel) {
            let one = 1_u64.to_ne_bytes();
            let end = self.shared.write.as_ref().unwrap_or(&self.shared.read);
            // It can only fail when the counter or pipe is full, and then it is readable.
            let _ = rustix::io::write(end, &one);
        }
    }

    /// Silences it. Look at everything it may have rung for after this call, not before.
    pub fn silence(&self) {
        let mut taken = [0; 8];
        // Read first: who rings between the two steps rings again at the next occasion, and we look after both.
        let _ = rustix::io::read(&self.shared.read, &mut taken);
        self.shared.rings.store(false, Ordering::Release);
    }

    /// A waker that rings it.
    pub fn waker(&self) -> Waker {
        let bell = self.clone();
        waker(move || bell.ring())
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn descriptors() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    use rustix::event::{EventfdFlags, eventfd};
    Ok((eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?, None))
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn descriptors() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    let (read, write) = rustix::pipe::pipe()?;
    for end in [&read, &write] {
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(end, true)?;
    }
    Ok((read, Some(write)))
}
