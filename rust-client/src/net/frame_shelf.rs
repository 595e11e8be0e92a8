//! Memory of large frames, used again.
//!
//! In: buffers whose frames nobody holds any more. Out: the same buffers, for the next frames of about that size. Fresh memory
//! costs the operating system a fault and a cleared page for every 4 KiB, which is a tenth of all that reading records costs.
//!
//! It keeps few buffers, none for a frame much smaller than itself, and none once the peer has nothing more to send.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// How many buffers are kept: one that is being filled while another one is being read.
const MOST_BUFFERS: usize = 2;

/// A buffer larger than this is not kept.
const LARGEST_BUFFER: usize = 16 * 1024 * 1024;

/// The buffers of one connection.
#[derive(Debug, Default)]
pub(super) struct FrameShelf {
    free: Arc<Free>,
}

#[derive(Debug, Default)]
struct Free {
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Free {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        // Whatever panicked, a list of buffers is a list of buffers.
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FrameShelf {
    /// An empty buffer for a frame of `total` bytes, if there is one. It may be too small, but is never more than twice as
    /// large: frames that wait must not hold memory that nobody counts.
    pub fn take(&self, total: usize) -> Option<Vec<u8>> {
        let mut buffers = self.free.lock();
        let fits = |buffer: &Vec<u8>| buffer.capacity() / 2 <= total;
        let place = buffers.iter().rposition(fits)?;
        Some(buffers.swap_remove(place))
    }

    /// A frame whose buffer comes back here when the last share of it is gone.
    pub fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent {
            buffer,
            home: Arc::downgrade(&self.free),
        })
    }

    /// Lets go of all memory. What is lent still comes back.
    pub fn clear(&self) {
        self.free.lock().clear();
    }
}

/// A buffer in use.
struct Lent {
    buffer: Vec<u8>,
    home: Weak<Free>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut buffers = home.lock();
        if buffers.len() < MOST_BUFFERS && buffer.capacity() <= LARGEST_BUFFER {
            buffer.clear();
            buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(shelf: &FrameShelf, bytes: usize) -> Bytes {
        shelf.lend(vec![7; bytes])
    }

    #[test]
    fn a_buffer_comes_back_when_the_last_share_of_its_frame_is_gone() {
        let shelf = FrameShelf::default();
        let frame = filled(&shelf, 1000);
        let share = frame.slice(10..20);
        drop(frame);
        assert!(shelf.take(1000).is_none(), "a share of it is still read");
        assert_eq!(share, [7; 10].as_slice());
        drop(share);
        let buffer = shelf.take(1000).unwrap();
        assert!(buffer.is_empty() && buffer.capacity() >= 1000);
    }

    #[test]
    fn a_small_frame_does_not_hold_a_large_buffer() {
        let shelf = FrameShelf::default();
        drop(filled(&shelf, 10_000));
        assert!(shelf.take(4_999).is_none());
        assert!(shelf.take(5_000).is_some());
    }

    #[test]
    fn only_a_few_buffers_are_kept_and_none_that_is_huge() {
        let shelf = FrameShelf::default();
        let frames: Vec<Bytes> = (0..MOST_BUFFERS + 3).map(|_| filled(&shelf, 1000)).collect();
        drop(frames);
        assert_eq!(shelf.free.lock().len(), MOST_BUFFERS);
        shelf.clear();
        drop(filled(&shelf, LARGEST_BUFFER + 1));
        assert!(shelf.free.lock().is_empty());
    }

    #[test]
    fn a_frame_outlives_its_shelf() {
        let frame = filled(&FrameShelf::default(), 10);
        assert_eq!(frame, [7; 10].as_slice());
    }
}
