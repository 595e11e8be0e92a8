//! A bell: the wake-up of a thread that waits for it, or as a file descriptor for event loops that watch those.
//!
//! In: rings from any thread. Out: [`Bell::wait`] returns, and once somebody has asked for the descriptor it is readable from
//! the first ring until it is silenced. However often it rings, one read silences it, and while it rings a further ring costs
//! one atomic operation. In the child of a fork it is deaf: the descriptor is the parent's as well. As long as nobody watches,
//! nothing is written and nothing read: on Linux a ring then costs a system call only if somebody waits.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::thread::futex;

use crate::error::{Error, Kind};
use crate::mailbox::waker;
use crate::runtime::{FORKS, generation, too_many_forks, watch_forks};

/// Rings while there is something to look at. Clones are the same bell.
#[derive(Debug, Clone)]
pub struct Bell {
    shared: Arc<Shared>,
}

/// Nothing is readable, and nothing is about to be.
const SILENT: u32 = 0;
/// Somebody is about to make it readable, or to silence it.
const PULLED: u32 = 1;
/// It is readable, if it is watched.
const RINGS: u32 = 2;

#[derive(Debug)]
struct Shared {
    /// `SILENT`, `PULLED` or `RINGS`.
    state: AtomicU32,
    /// Somebody has the descriptor, for good. Elsewhere than on Linux everybody waits by it.
    watched: AtomicBool,
    /// How many wait without it.
    waiting: AtomicU32,
    /// The process that made it. What it has in memory a fork copies, but the descriptor is shared: if the child wrote or read,
    /// the parent's would be readable and silent for ever, or silent for ever.
    process: u32,
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
        watch_forks();
        let (read, write) = descriptors().map_err(|error| {
            Error::new(
                Kind::Runtime,
                format!("no file descriptor for waking the event loop: {error}"),
            )
        })?;
        Ok(Bell {
            shared: Arc::new(Shared {
                state: AtomicU32::new(SILENT),
                watched: AtomicBool::new(!CAN_WAIT),
                waiting: AtomicU32::new(0),
                process: generation(),
                read,
                write,
            }),
        })
    }

    /// The descriptor, for `poll`, `epoll`, `add_reader`. It stays the bell's: nobody else reads or closes it.
    pub fn fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }

    /// The descriptor, borrowed.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        let shared = &self.shared;
        // What rang before was not written. Whoever rings from now on sees that it is watched.
        if !shared.is_foreign() && !shared.watched.swap(true, Ordering::SeqCst) && shared.turn(RINGS, PULLED) {
            shared.make_readable();
            shared.wake();
        }
        shared.read.as_fd()
    }

    /// Waits until it rings, or at most for `timeout`; `None` is for ever. May return for nothing.
    pub fn wait(&self, timeout: Option<Duration>) {
        // A time that cannot be told is one that never comes.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        if self.shared.watched.load(Ordering::SeqCst) {
            let _ = poll(&mut [PollFd::new(&self.shared.read, PollFlags::IN)], timeout.as_ref());
        } else {
            self.shared.wait(timeout.as_ref());
        }
    }

    /// Makes the descriptor readable, if it is not already. Takes no lock and no memory, so that a signal handler may call
    /// it.
    pub fn ring(&self) {
        let shared = &*self.shared;
        if shared.is_foreign() {
            return;
        }
        // With the one in `silence`: either we see that it was silenced, or who silenced it sees what we ring for.
        fence(Ordering::SeqCst);
        if shared.watched.load(Ordering::SeqCst) {
            if !shared.turn(SILENT, PULLED) {
                return;
            }
            shared.make_readable();
        } else {
            if !shared.turn(SILENT, RINGS) {
                return;
            }
            // It is watched since: readable, or silenced again by somebody who looks after us, or yet to be made readable.
            if shared.watched.load(Ordering::SeqCst) && shared.turn(RINGS, PULLED) {
                shared.make_readable();
            }
        }
        shared.wake();
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
        if self.shared.is_foreign() {
            return;
        }
        if !self.shared.watched.load(Ordering::SeqCst) {
            if state.load(Ordering::Acquire) == RINGS && self.shared.turn(RINGS, SILENT) {
                fence(Ordering::SeqCst);
                // It has been watched since, and this took away what it was made readable for.
                if self.shared.watched.load(Ordering::SeqCst) {
                    self.ring();
                }
            }
            return;
        }
        // One that is only pulled yet stays as it is, and will be found readable once more for nothing. Pulled while we read,
        // so that of several who silence it only one takes a ring away: another could leave it readable and silent.
        if state.load(Ordering::Acquire) == RINGS && self.shared.turn(RINGS, PULLED) {
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

/// A bell for each process of a line of forks: a child must not touch its parent's.
#[derive(Debug)]
pub struct ProcessBell {
    bells: [OnceLock<Bell>; FORKS],
}

impl ProcessBell {
    /// None yet.
    #[allow(clippy::new_without_default)] // for statics
    pub const fn new() -> ProcessBell {
        ProcessBell {
            bells: [const { OnceLock::new() }; FORKS],
        }
    }

    /// The bell of this process.
    ///
    /// # Errors
    /// The process has no file descriptor left, or is the child of too many forks.
    pub fn get(&self) -> Result<&Bell, Error> {
        let slot = self.bells.get(generation() as usize).ok_or_else(too_many_forks)?;
        match slot.get() {
            Some(bell) => Ok(bell),
            None => {
                let bell = Bell::new()?;
                Ok(slot.get_or_init(|| bell))
            }
        }
    }

    /// Rings it, if there can be one.
    pub fn ring(&self) {
        if let Ok(bell) = self.get() {
            bell.ring();
        }
    }
}

impl Shared {
    /// Turns it from one state to another, if it is in the first. Whoever turns it to `PULLED` holds it.
    fn turn(&self, from: u32, to: u32) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    #[inline]
    fn is_foreign(&self) -> bool {
        self.process != generation()
    }

    /// Only for who has pulled it.
    fn make_readable(&self) {
        let one = 1_u64.to_ne_bytes();
        // It can only fail when the counter or pipe is full, and then it is readable.
        let _ = rustix::io::write(self.write.as_ref().unwrap_or(&self.read), &one);
        self.state.store(RINGS, Ordering::SeqCst);
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const CAN_WAIT: bool = true;

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Shared {
    fn wait(&self, timeout: Option<&Timespec>) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // Not at all, if it rings already; and a signal is no harm: it may return for nothing.
        let _ = futex::wait(&self.state, futex::Flags::PRIVATE, SILENT, timeout);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let _ = futex::wake(&self.state, futex::Flags::PRIVATE, u32::MAX >> 1);
        }
    }
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const CAN_WAIT: bool = false;

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
impl Shared {
    fn wait(&self, _timeout: Option<&Timespec>) {}

    fn wake(&self) {}
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;

    fn is_readable(bell: &Bell) -> bool {
        let now = Timespec::try_from(Duration::ZERO).unwrap();
        poll(&mut [PollFd::new(&bell.as_fd(), PollFlags::IN)], Some(&now)).unwrap() == 1
    }

    #[test]
    fn what_rang_before_somebody_watched_is_readable() {
        let bell = Bell::new().unwrap();
        bell.ring();
        assert!(is_readable(&bell));
        bell.silence();
        assert!(!is_readable(&bell) && !bell.is_ringing());
        bell.ring();
        bell.ring();
        assert!(is_readable(&bell));
        bell.silence();
        assert!(!is_readable(&bell));
    }

    /// One counts up and rings; the other waits, for ever, until it has seen each number. A ring that is lost hangs it.
    fn hand_over(bell: &Bell, rounds: u64) {
        let (said, seen) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|threads| {
            threads.spawn(|| {
                for number in 1..=rounds {
                    said.store(number, Ordering::Release);
                    bell.ring();
                    while seen.load(Ordering::Acquire) < number {
                        thread::yield_now();
                    }
                }
            });
            let mut last = 0;
            while last < rounds {
                bell.silence();
                let now = said.load(Ordering::Acquire);
                if now == last {
                    bell.wait(None);
                    continue;
                }
                last = now;
                seen.store(now, Ordering::Release);
            }
        });
    }

    #[test]
    fn no_ring_is_lost_on_whoever_waits() {
        let bell = Bell::new().unwrap();
        hand_over(&bell, 5_000);
        let watched = Bell::new().unwrap();
        let _ = watched.fd();
        hand_over(&watched, 5_000);
    }

    #[test]
    fn no_ring_is_lost_when_somebody_begins_to_watch() {
        for _ in 0..150 {
            let bell = Bell::new().unwrap();
            let other = bell.clone();
            thread::scope(|threads| {
                threads.spawn(move || {
                    let _ = other.fd();
                });
                hand_over(&bell, 20);
            });
            // What is readable is silenced by one call, and what is silent is not readable.
            bell.silence();
            assert!(!is_readable(&bell) && !bell.is_ringing());
            bell.ring();
            assert!(is_readable(&bell));
        }
    }

    #[test]
    fn waiting_ends_with_its_time() {
        let bell = Bell::new().unwrap();
        bell.wait(Some(Duration::from_millis(1)));
        let _ = bell.fd();
        bell.silence();
        bell.wait(Some(Duration::from_millis(1)));
        assert!(!bell.is_ringing());
    }
}
