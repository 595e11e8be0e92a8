//! CRC-32C (Castagnoli), of bytes in one piece, in two, or still being written.
//!
//! Takes bytes, gives checksums. It does not know what a batch is.

use std::sync::LazyLock;

use crc_fast::{CrcAlgorithm, Digest};

/// How many bytes are taken at a time: few enough to be in the nearest cache still, enough to be worth the call.
const STRETCH: usize = 16 << 10;

/// Below this, reading all bytes once more costs less than joining two checksums.
const WORTH_JOINING: usize = 64 << 10;

/// The polynomial of CRC-32C without its highest power, the lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The polynomial 1 in that order of bits.
const ONE: u32 = 1 << 31;

/// CRC-32C (Castagnoli), as in the header of a batch and in producer snapshots.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC-32C of two pieces that lie apart, as if they were joined.
pub(crate) fn crc32c_of_two(first: &[u8], second: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(first);
    digest.update(second);
    // The algorithm has 32 bits; the library answers all widths in 64.
    digest.finalize() as u32
}

/// CRC-32C of `first` and of a piece of which only the checksum and the length are at hand, as if they were joined.
///
/// Appending `n` bytes to a message multiplies the polynomial behind its checksum by x^8n, and everything else about a
/// CRC is addition (an exclusive or). `crc_fast` can join as well, but works the powers out anew each time.
pub(crate) fn crc32c_of_joined(first: &[u8], second_crc: u32, second_len: usize) -> u32 {
    let mut shifted = crc32c(first);
    let mut bytes = second_len;
    for power in POWERS.iter() {
        if bytes & 1 == 1 {
            shifted = product(shifted, *power);
        }
        bytes >>= 1;
    }
    shifted ^ second_crc
}

/// x^8, x^16, x^32 and so on, each the square of the one before: one for each bit of a length in bytes. A batch has at
/// most 2^31 of them.
static POWERS: LazyLock<[u32; 32]> = LazyLock::new(|| {
    let mut powers = [ONE >> 8; 32];
    let mut last = ONE >> 8;
    for power in powers.iter_mut().skip(1) {
        last = product(last, last);
        *power = last;
    }
    powers
});

/// The product of two polynomials, modulo the one of CRC-32C.
fn product(a: u32, mut b: u32) -> u32 {
    let mut sum = 0;
    for bit in (0..32).rev() {
        if (a >> bit) & 1 == 1 {
            sum ^= b;
        }
        // Times x; what overflows is replaced by what it is modulo the polynomial.
        b = (b >> 1) ^ if b & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    sum
}

/// The checksum of bytes that are still being written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunningChecksum {
    state: u64,
    /// Bytes taken so far.
    done: usize,
    /// The next stretch is taken when so many bytes are written.
    due: usize,
}

impl RunningChecksum {
    /// Never due.
    pub fn off() -> Self {
        RunningChecksum {
            state: 0,
            done: 0,
            due: usize::MAX,
        }
    }

    /// Of nothing so far.
    pub fn on() -> Self {
        RunningChecksum {
            state: Digest::new(CrcAlgorithm::Crc32Iscsi).get_state(),
            done: 0,
            due: STRETCH,
        }
    }

    /// Whether `written` bytes are enough for a further stretch.
    #[inline(always)]
    pub fn is_due(&self, written: usize) -> bool {
        written >= self.due
    }

    /// Takes what `written` has beyond the bytes taken before.
    #[cold]
    pub fn advance(&mut self, written: &[u8]) {
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, self.state);
        digest.update(written.get(self.done..).unwrap_or_default());
        self.state = digest.get_state();
        self.done = written.len();
        self.due = self.done.saturating_add(STRETCH);
    }

    /// The checksum of all of `written`; `None` if it is off or all the bytes are as well read once more.
    pub fn finish(mut self, written: &[u8]) -> Option<u32> {
        if self.due == usize::MAX || written.len() < WORTH_JOINING {
            return None;
        }
        self.advance(written);
        Some(Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, self.state).finalize() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| ((at * 31) >> 3) as u8).collect()
    }

    #[test]
    fn pieces_give_the_checksum_of_the_whole() {
        let whole = bytes(300_000);
        for cut in [0, 1, 40, 4096, 34_465, 168_928, 299_999, 300_000] {
            let (first, second) = whole.split_at(cut);
            assert_eq!(crc32c_of_two(first, second), crc32c(&whole), "cut at {cut}");
            assert_eq!(
                crc32c_of_joined(first, crc32c(second), second.len()),
                crc32c(&whole),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn bytes_taken_while_they_are_written_give_the_same_checksum() {
        let whole = bytes(WORTH_JOINING + 12_345);
        for step in [1_000, STRETCH, STRETCH + 1, 100_000] {
            let mut running = RunningChecksum::on();
            let mut end = 0;
            while end < whole.len() {
                end = (end + step).min(whole.len());
                if running.is_due(end) {
                    running.advance(&whole[..end]);
                }
            }
            assert_eq!(running.finish(&whole), Some(crc32c(&whole)), "steps of {step}");
        }
    }

    #[test]
    fn small_batches_are_left_to_one_pass() {
        assert_eq!(RunningChecksum::on().finish(&bytes(100)), None);
        assert_eq!(RunningChecksum::off().finish(&bytes(WORTH_JOINING)), None);
    }
}
