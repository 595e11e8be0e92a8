//! A bell: the wake-up as a file descriptor, for event loops that watch those.
//!
//! In: rings from any thread. Out: a descriptor that is readable from the first ring until it is silenced. However often it
//! rings, one read silences it, and while it rings a further ring costs one atomic operation.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::task::Waker;

use crate::error::{Error, Kind};
use crate::mailbox::waker;

/// A file descriptor that is readable while there is something to look at. Clones are the same bell.
#[derive(Debug, Clone)]
pub struct Bell {
    shared: Arc<Shared>,
}

/// Nothing is readable, and nothing is about to be.
const SILENT: u8 = 0;
/// Somebody is about to make it readable, or to silence it.
const PULLED: u8 = 1;
/// It is readable.
const RINGS: u8 = 2;

#[derive(Debug)]
struct Shared {
    /// `SILENT`, `PULLED` or `RINGS`.
    state: AtomicU8,
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
        let state = AtomicU8::new(SILENT);
        Ok(Bell {
            shared: Arc::new(Shared { state, read, write }),
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

    /// Makes the descriptor readable, if it is not already. Takes no lock and no memory, so that a signal handler may call
    /// it.
    pub fn ring(&self) {
        let state = &self.shared.state;
        // With the one in `silence`: either we see that it was silenced, or who silenced it sees what we ring for.
        fence(Ordering::SeqCst);
        if state
            .compare_exchange(SILENT, PULLED, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            return;
        }
        let one = 1_u64.to_ne_bytes();
        let end = self.shared.write.as_ref().unwrap_or(&self.shared.read);
        // It can only fail when the counter or pipe is full, and then it is readable.
        let _ = rustix::io::write(end, &one);
        state.store(RINGS, Ordering::Release);
    }

    /// Whether there is, or will be in a moment, something to silence. Costs one atomic read.
    #[inline]
    pub fn is_ringing(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) != SILENT
    }

    /// Silences it, at the cost of one atomic read if it is silent. Look at everything it may have rung for after this call,
    /// not before.
    pub fn silence(&self) {
        let state = &self.shared.state;
        // One that is only pulled yet stays as it is, and will be found readable once more for nothing. Pulled while we read,
        // so that of several who silence it only one takes a ring away: another could leave it readable and silent.
        if state.load(Ordering::Acquire) == RINGS
            && state
                .compare_exchange(RINGS, PULLED, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        {
            let mut taken = [0; 8];
            // Read first: who rings between the two steps rings in vain, and we look after both.
            let _ = rustix::io::read(&self.shared.read, &mut taken);
            state.store(SILENT, Ordering::Release);
            fence(Ordering::SeqCst);
        }
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
