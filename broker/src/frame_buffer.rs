//! Frame buffers: the bytes of one connection before they mean something and after they no longer do.
//!
//! [`Inbox`] takes bytes as they arrive and gives whole frames. It refuses lengths above the limit, and first bytes
//! that belong to another protocol. Memory follows the bytes that have arrived, never a length prefix.
//!
//! [`Outbox`] takes responses in order and gives slices for vectored writes; small ones are joined, so that many
//! responses leave in one system call.

use crate::config::security::SecurityProtocol;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;
use thiserror::Error;

/// Room that is made for bytes of a connection that has not yet sent one valid request.
const FIRST_READ: usize = 4 * 1024;
/// The largest room that is made ahead of the bytes of a frame.
const LARGEST_READ: usize = 1024 * 1024;
/// The largest room for frames that are small: several come in one read.
const LARGEST_SHARED_READ: usize = 256 * 1024;
/// Pieces below this are copied together; a copy of them is cheaper than another slice in a vectored write.
const JOIN_BELOW: usize = 8 * 1024;
/// Slices in one vectored write.
const SLICES: usize = 64;

/// Why a connection is closed without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The length prefix is negative.
    #[error("a frame cannot have {0} bytes; the peer does not speak Kafka's protocol")]
    NegativeLength(i32),
    /// The length prefix is above the limit.
    #[error("a frame of {length} bytes is larger than {} ({})", .limit.key, .limit.bytes)]
    TooLarge {
        /// What the length prefix says.
        length: usize,
        /// The limit.
        limit: FrameLimit,
    },
    /// The first bytes are a TLS ClientHello.
    #[error("the peer speaks TLS, but this listener is {0} (set security.protocol={0} in the client)")]
    Tls(SecurityProtocol),
    /// The first bytes are an HTTP request line.
    #[error("the peer speaks HTTP; this port speaks Kafka's protocol")]
    Http,
}

/// The largest frame, and the key that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimit {
    /// In bytes, without the length prefix.
    pub bytes: usize,
    /// The name of the key.
    pub key: &'static str,
}

impl FrameLimit {
    /// `socket.request.max.bytes`.
    pub const fn of_requests(bytes: usize) -> Self {
        let key = "socket.request.max.bytes";
        FrameLimit { bytes, key }
    }

    /// `sasl.server.max.receive.size`: before authentication.
    pub const fn before_authentication(bytes: usize) -> Self {
        let key = "sasl.server.max.receive.size";
        FrameLimit { bytes, key }
    }
}

/// Bytes that arrived and are not yet frames.
#[derive(Debug)]
pub struct Inbox {
    buffer: BytesMut,
    limit: FrameLimit,
    protocol: SecurityProtocol,
    /// Room made for one read; grows while reads fill it.
    chunk: usize,
    /// True once the first frame was whole: until then, the first bytes are checked for other protocols.
    greeted: bool,
}

impl Inbox {
    /// For frames within `limit`, on a listener of `protocol`.
    pub fn new(limit: FrameLimit, protocol: SecurityProtocol) -> Self {
        Inbox {
            buffer: BytesMut::new(),
            limit,
            protocol,
            chunk: FIRST_READ,
            greeted: false,
        }
    }

    /// From now on, frames within `limit` are taken.
    pub fn set_limit(&mut self, limit: FrameLimit) {
        self.limit = limit;
    }

    /// The next whole frame, without its length prefix; `None` until more bytes arrive.
    pub fn next_frame(&mut self) -> Result<Option<BytesMut>, Refusal> {
        let Some(length) = self.frame_length()? else {
            return Ok(None);
        };
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.greeted = true;
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length)))
    }

    fn frame_length(&self) -> Result<Option<usize>, Refusal> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        if !self.greeted {
            sniff(*prefix, self.protocol)?;
        }
        let length = i32::from_be_bytes(*prefix);
        let length = usize::try_from(length).map_err(|_| Refusal::NegativeLength(length))?;
        if length > self.limit.bytes {
            let limit = self.limit;
            return Err(Refusal::TooLarge { length, limit });
        }
        Ok(Some(length))
    }

    /// What has arrived of a frame that is not whole yet, without its length prefix.
    pub fn begun(&self) -> &[u8] {
        self.buffer.get(4..).unwrap_or_default()
    }

    /// The buffer with room for the next read.
    ///
    /// The room is bounded: 4 KiB before the first frame, then at most 1 MiB ahead of what has arrived, and never
    /// more than a frame still lacks or a read of small frames can use.
    pub fn with_room(&mut self) -> &mut BytesMut {
        let whole = self.frame_length().ok().flatten().map_or(0, |length| 4 + length);
        let missing = whole.saturating_sub(self.buffer.len());
        let room = if self.greeted {
            missing.clamp(self.chunk, LARGEST_READ)
        } else {
            FIRST_READ.max(self.buffer.len())
        };
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < missing.min(room).max(1) || spare < FIRST_READ / 4 {
            self.buffer.reserve(room);
        }
        &mut self.buffer
    }

    /// A read brought `bytes`. Returns how much larger the next room for small frames is if they filled it.
    pub fn arrived(&mut self, bytes: usize) {
        if bytes >= self.chunk && self.greeted {
            self.chunk = (self.chunk * 2).min(LARGEST_SHARED_READ);
        }
    }

    /// True when no frame has begun.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// True once a whole frame has come.
    pub fn greeted(&self) -> bool {
        self.greeted
    }

    /// Gives memory back while the connection is quiet.
    pub fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.chunk = FIRST_READ;
        }
    }
}

/// Whether the first bytes are an HTTP request line.
pub(crate) fn is_http(prefix: [u8; 4]) -> bool {
    const METHODS: [&[u8; 4]; 9] = [
        b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"PRI ",
    ];
    METHODS.contains(&&prefix)
}

/// Refuses first bytes of other protocols by name. As a length, each of them would be above any sensible limit.
fn sniff(prefix: [u8; 4], protocol: SecurityProtocol) -> Result<(), Refusal> {
    match prefix {
        // A TLS record of type handshake, version 3.x.
        [0x16, 0x03, 0..=4, _] => Err(Refusal::Tls(protocol)),
        _ if is_http(prefix) => Err(Refusal::Http),
        _ => Ok(()),
    }
}

/// Responses that are not yet written.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Bytes>,
    /// Small pieces that follow the last of `pieces`.
    joined: BytesMut,
    bytes: usize,
}

impl Outbox {
    /// Adds `piece` behind everything else.
    pub fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if piece.len() < JOIN_BELOW {
            self.joined.extend_from_slice(&piece);
        } else {
            self.seal();
            self.pieces.push_back(piece);
        }
    }

    fn seal(&mut self) {
        if !self.joined.is_empty() {
            self.pieces.push_back(self.joined.split().freeze());
        }
    }

    /// Bytes not yet written.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// True when everything has been written.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Gives the next slices to `write` and forgets what it took.
    pub fn write_with<E>(&mut self, write: impl FnOnce(&[IoSlice<'_>]) -> Result<usize, E>) -> Result<usize, E> {
        self.seal();
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        let written = write(slices.get(..count).unwrap_or_default())?;
        self.forget(written);
        Ok(written)
    }

    fn forget(&mut self, written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        let mut left = written;
        while let Some(piece) = self.pieces.front_mut() {
            if left < piece.len() {
                piece.advance(left);
                return;
            }
            left -= piece.len();
            self.pieces.pop_front();
        }
    }

    /// Gives memory back while the connection is quiet.
    pub fn rest(&mut self) {
        if self.is_empty() {
            *self = Outbox::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(limit: usize) -> Inbox {
        Inbox::new(FrameLimit::of_requests(limit), SecurityProtocol::Plaintext)
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as i32).to_be_bytes()[..], body].concat()
    }

    fn feed(inbox: &mut Inbox, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let buffer = inbox.with_room();
            let room = (buffer.capacity() - buffer.len()).min(bytes.len());
            assert!(room > 0, "there is always room for the next read");
            buffer.extend_from_slice(&bytes[..room]);
            inbox.arrived(room);
            bytes = &bytes[room..];
        }
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_are_cut() {
        let bodies: Vec<Vec<u8>> = [0_usize, 1, 7, 5_000, 70_000]
            .iter()
            .map(|n| vec![*n as u8; *n])
            .collect();
        let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
        for step in [1, 3, 1_000, stream.len()] {
            let (mut inbox, mut seen) = (empty(1 << 20), Vec::new());
            for piece in stream.chunks(step) {
                feed(&mut inbox, piece);
                while let Some(frame) = inbox.next_frame().unwrap() {
                    seen.push(frame.to_vec());
                }
            }
            assert_eq!(seen, bodies);
        }
    }

    #[test]
    fn a_length_prefix_alone_reserves_a_bounded_room() {
        let mut inbox = empty(100 << 20);
        feed(&mut inbox, &(90_i32 << 20).to_be_bytes());
        assert!(inbox.next_frame().unwrap().is_none());
        assert!(inbox.with_room().capacity() <= 2 * FIRST_READ);

        let mut greeted = empty(100 << 20);
        feed(&mut greeted, &framed(b"hello"));
        greeted.next_frame().unwrap().unwrap();
        feed(&mut greeted, &(90_i32 << 20).to_be_bytes());
        assert!(greeted.with_room().capacity() <= 2 * LARGEST_READ);
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_before_its_bytes_arrive() {
        let mut inbox = empty(1_000);
        feed(&mut inbox, &1_001_i32.to_be_bytes());
        assert_eq!(
            inbox.next_frame(),
            Err(Refusal::TooLarge {
                length: 1_001,
                limit: FrameLimit::of_requests(1_000)
            })
        );
        let mut inbox = empty(1_000);
        feed(&mut inbox, &(-1_i32).to_be_bytes());
        assert_eq!(inbox.next_frame(), Err(Refusal::NegativeLength(-1)));
    }

    #[test]
    fn other_protocols_are_called_by_their_name() {
        for (first, refusal) in [
            (&b"GET / HTTP/1.1\r\n"[..], Refusal::Http),
            (&b"PRI * HTTP/2.0\r\n"[..], Refusal::Http),
            (
                &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01][..],
                Refusal::Tls(SecurityProtocol::Plaintext),
            ),
        ] {
            let mut inbox = empty(usize::MAX);
            feed(&mut inbox, first);
            assert_eq!(inbox.next_frame(), Err(refusal));
        }
    }

    #[test]
    fn responses_leave_in_order_whatever_a_write_takes() {
        let pieces: Vec<Bytes> = [10_usize, 9_000, 20, 30, 20_000, 5]
            .iter()
            .map(|n| Bytes::from(vec![*n as u8; *n]))
            .collect();
        for step in [1, 7, 10_000, 1 << 20] {
            let (mut outbox, mut wire) = (Outbox::default(), Vec::new());
            pieces.iter().for_each(|piece| outbox.push(piece.clone()));
            while !outbox.is_empty() {
                let take = |slices: &[IoSlice<'_>]| {
                    let before = wire.len();
                    wire.extend(slices.iter().flat_map(|slice| slice.iter().copied()).take(step));
                    Ok::<_, ()>(wire.len() - before)
                };
                outbox.write_with(take).unwrap();
            }
            assert_eq!(wire, pieces.concat());
        }
    }

    #[test]
    fn small_responses_are_joined_into_one_slice() {
        let mut outbox = Outbox::default();
        (0..100).for_each(|_| outbox.push(Bytes::from_static(b"small")));
        outbox
            .write_with(|slices| {
                assert_eq!(slices.len(), 1);
                Ok::<_, ()>(slices[0].len())
            })
            .unwrap();
        assert!(outbox.is_empty());
    }
}
