//! Cuts a stream of bytes into frames.
//!
//! In: bytes as they arrive. Out: frames without their length prefix, each in a buffer of its own; those of large frames are
//! used again when nobody reads them any more ([`FrameShelf`]).
//! It refuses a length that no answer can have, before memory is given to it, and recognises what other servers say
//! when they are spoken to in Kafka's protocol.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::frame_shelf::FrameShelf;

/// Bytes read at once while frames are small.
const SCRATCH_BYTES: usize = 8 * 1024;

/// Memory given to a frame before any of its bytes have arrived. Beyond it, memory doubles as bytes arrive.
const FIRST_RESERVATION: usize = 1024 * 1024;

/// Why no more frames come.
#[derive(Debug)]
pub(super) enum ReadEnd {
    /// The other side closed; `inside` says that it did so in the middle of a frame.
    Closed { inside: bool },
    /// The operating system says so.
    Io(io::Error),
    /// A length that no answer can have.
    BadLength { length: i64, limit: usize },
    /// The first bytes are not Kafka's but those of this kind of server.
    Foreign(&'static str),
}

/// Reads frames. One for each connection.
pub(super) struct FrameReader {
    /// Bytes of small frames; `consumed` of them have been given out.
    scratch: Vec<u8>,
    consumed: usize,
    /// A frame too large for the scratch buffer, and its full length.
    large: Option<(Vec<u8>, usize)>,
    shelf: FrameShelf,
    limit: usize,
    any_frame_yet: bool,
}

impl FrameReader {
    /// Takes frames of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        FrameReader {
            scratch: Vec::new(),
            consumed: 0,
            large: None,
            shelf: FrameShelf::default(),
            limit,
            any_frame_yet: false,
        }
    }

    /// From the next frame on, takes frames of at most `limit` bytes.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The next frame, without its length prefix.
    pub fn poll_frame<T: AsyncRead + Unpin>(
        &mut self,
        stream: &mut T,
        context: &mut Context<'_>,
    ) -> Poll<Result<Bytes, ReadEnd>> {
        loop {
            if let Some(frame) = self.take_frame()? {
                self.any_frame_yet = true;
                return Poll::Ready(Ok(frame));
            }
            let read = match &mut self.large {
                Some((buffer, total)) => {
                    let missing = *total - buffer.len();
                    if buffer.capacity() == buffer.len() {
                        buffer.reserve_exact(missing.min(buffer.len().max(FIRST_RESERVATION)));
                    }
                    // Never beyond this frame: the next one gets its own buffer.
                    let room = missing.min(buffer.capacity() - buffer.len());
                    ready!(poll_read(stream, buffer, room, context))
                }
                None => {
                    self.make_room();
                    let room = self.scratch.capacity() - self.scratch.len();
                    ready!(poll_read(stream, &mut self.scratch, room, context))
                }
            };
            match read {
                Ok(0) => return Poll::Ready(Err(self.end())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(ReadEnd::Io(error))),
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<Bytes>, ReadEnd> {
        if let Some((buffer, total)) = &self.large {
            if buffer.len() < *total {
                return Ok(None);
            }
            return Ok(self.large.take().map(|(buffer, _)| self.shelf.lend(buffer)));
        }
        let rest = &self.scratch[self.consumed..];
        if !self.any_frame_yet
            && let Some(server) = foreign(rest)
        {
            return Err(ReadEnd::Foreign(server));
        }
        let Some((prefix, body)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*prefix);
        // The correlation id alone takes four bytes.
        let total = usize::try_from(length)
            .ok()
            .filter(|length| (4..=self.limit).contains(length));
        let Some(total) = total else {
            return Err(ReadEnd::BadLength {
                length: length.into(),
                limit: self.limit,
            });
        };
        if let Some(frame) = body.get(..total) {
            let frame = Bytes::copy_from_slice(frame);
            self.consumed += 4 + total;
            // Who answers in a few bytes has nothing more to send for now.
            self.shelf.clear();
            return Ok(Some(frame));
        }
        if total + 4 > SCRATCH_BYTES {
            let mut buffer = self
                .shelf
                .take(total)
                .unwrap_or_else(|| Vec::with_capacity(total.min(FIRST_RESERVATION)));
            buffer.extend_from_slice(body);
            self.scratch.clear();
            self.consumed = 0;
            self.large = Some((buffer, total));
        }
        Ok(None)
    }

    /// Room for the rest of a small frame: given out bytes make way.
    fn make_room(&mut self) {
        self.scratch.drain(..self.consumed);
        self.consumed = 0;
        if self.scratch.capacity() < SCRATCH_BYTES {
            self.scratch.reserve_exact(SCRATCH_BYTES - self.scratch.len());
        }
    }

    fn end(&self) -> ReadEnd {
        let inside = self.large.is_some() || self.scratch.len() > self.consumed;
        ReadEnd::Closed { inside }
    }
}

/// Reads at most `room` bytes to the end of `buffer`, which has that room.
fn poll_read<T: AsyncRead + Unpin>(
    stream: &mut T,
    buffer: &mut Vec<u8>,
    room: usize,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut buffer = buffer.limit(room);
    // The future keeps nothing between polls, so a new one each time loses nothing.
    pin!(stream.read_buf(&mut buffer)).poll(context)
}

/// The kind of server whose first bytes these are, if it is not a Kafka broker.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    const SIGNS: [(&[u8], &str); 5] = [
        // A TLS alert or handshake record of any version. As a length both would be above 350 MB.
        (&[0x15, 0x03], "TLS"),
        (&[0x16, 0x03], "TLS"),
        (b"HTTP", "HTTP"),
        (b"SSH-", "SSH"),
        (b"220 ", "SMTP or FTP"),
    ];
    SIGNS
        .iter()
        .find(|(sign, _)| bytes.starts_with(sign))
        .map(|(_, server)| *server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn read(bytes: &[u8], limit: usize) -> (Vec<Bytes>, ReadEnd) {
        let (mut near, mut far) = tokio::io::duplex(64);
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move {
            // The reader may refuse and go away before everything is written.
            let _ = far.write_all(&bytes).await;
        });
        let mut reader = FrameReader::new(limit);
        let mut frames = Vec::new();
        let end = loop {
            match std::future::poll_fn(|context| reader.poll_frame(&mut near, context)).await {
                Ok(frame) => frames.push(frame),
                Err(end) => break end,
            }
        };
        drop(near);
        writer.await.unwrap();
        (frames, end)
    }

    fn frame(length: usize) -> Vec<u8> {
        let mut bytes = (length as i32).to_be_bytes().to_vec();
        bytes.extend((0..length).map(|i| i as u8));
        bytes
    }

    #[tokio::test]
    async fn frames_of_all_sizes_come_out_as_they_went_in() {
        let sizes = [
            4,
            5,
            SCRATCH_BYTES - 5,
            SCRATCH_BYTES - 4,
            SCRATCH_BYTES - 3,
            4,
            3 * FIRST_RESERVATION + 7,
            9,
        ];
        let bytes: Vec<u8> = sizes.iter().flat_map(|size| frame(*size)).collect();
        let (frames, end) = read(&bytes, usize::MAX >> 1).await;
        assert_eq!(frames.iter().map(Bytes::len).collect::<Vec<_>>(), sizes);
        for (got, size) in frames.iter().zip(sizes) {
            assert!(**got == frame(size)[4..], "frame of {size} bytes");
        }
        assert!(matches!(end, ReadEnd::Closed { inside: false }));
    }

    #[tokio::test]
    async fn the_memory_of_a_large_frame_is_used_for_the_next_one_and_let_go_of_at_the_end() {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let mut reader = FrameReader::new(1 << 30);
        let mut memory = Vec::new();
        for size in [50_000, 40_000, 60_000] {
            far.write_all(&frame(size)).await.unwrap();
            let read = std::future::poll_fn(|context| reader.poll_frame(&mut near, context))
                .await
                .unwrap();
            assert!(*read == frame(size)[4..], "frame of {size} bytes");
            memory.push(read.as_ptr());
        }
        assert_eq!(memory[0], memory[1]);
        assert!(reader.shelf.take(60_000).is_some());
        far.write_all(&[frame(60_000), frame(5)].concat()).await.unwrap();
        for _ in 0..2 {
            std::future::poll_fn(|context| reader.poll_frame(&mut near, context))
                .await
                .unwrap();
        }
        assert!(reader.shelf.take(60_000).is_none());
    }

    #[tokio::test]
    async fn a_frame_cut_short_is_not_a_frame() {
        for cut in [1, 3, 4, 10] {
            let (frames, end) = read(&frame(20)[..cut], 1000).await;
            assert!(
                frames.is_empty() && matches!(end, ReadEnd::Closed { inside: true }),
                "cut at {cut}"
            );
        }
    }

    #[tokio::test]
    async fn a_length_that_no_answer_can_have_is_refused_before_memory_is_given_to_it() {
        for length in [-1, 0, 3, 1001, i32::MAX] {
            let (_, end) = read(&length.to_be_bytes(), 1000).await;
            assert!(matches!(end, ReadEnd::BadLength { .. }), "{length}: {end:?}");
        }
    }

    #[tokio::test]
    async fn other_servers_are_recognised_by_their_first_words() {
        for (words, server) in [
            (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "HTTP"),
            (&[0x15, 0x03, 0x03, 0, 2, 2, 80], "TLS"),
            (b"SSH-2.0-OpenSSH_9.2", "SSH"),
        ] {
            let (_, end) = read(words, 1 << 30).await;
            assert!(matches!(end, ReadEnd::Foreign(found) if found == server), "{end:?}");
        }
    }

    #[tokio::test]
    async fn a_large_claim_with_few_bytes_takes_little_memory() {
        let mut reader = FrameReader::new(1 << 30);
        let (mut near, mut far) = tokio::io::duplex(64);
        far.write_all(&(1i32 << 29).to_be_bytes()).await.unwrap();
        far.write_all(&[1, 2, 3]).await.unwrap();
        drop(far);
        let end = std::future::poll_fn(|context| reader.poll_frame(&mut near, context)).await;
        assert!(matches!(end, Err(ReadEnd::Closed { inside: true })));
        assert!(reader.large.unwrap().0.capacity() <= FIRST_RESERVATION);
    }
}
