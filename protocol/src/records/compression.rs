//! Compression of a batch's records: none, gzip, snappy, lz4 and zstd in Kafka's framings.
//!
//! Takes bytes and gives bytes. Both directions work in contexts that their owner keeps ([`Compressor`],
//! [`Decompressor`]): making one costs more than a small batch does. Refuses to decompress beyond the caller's limit,
//! and never reserves memory because the data claims a size: room grows with what has really come out.
//!
//! Who has no place to keep a context borrows the thread's: [`with_compressor`], [`with_decompressor`].
//!
//! Each codec is a cargo feature of the same name; without it, its code is still known by name.

use std::cell::Cell;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::RecordError;

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

/// A larger buffer is not kept for the next batch: one giant should not cost its room for ever.
const MAX_KEPT_BYTES: usize = 4 << 20;

/// How the records of a batch are compressed. The discriminants are the codes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy blocks of 32 KiB behind the header of Xerial's Java library.
    Snappy = 2,
    /// LZ4 frames of independent 64 KiB blocks.
    Lz4 = 3,
    /// Zstandard, RFC 8878 (KIP-110).
    Zstd = 4,
}

impl Compression {
    /// All codecs by code.
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// The code in the attributes of a batch.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The codec of a code; `None` for 5 to 7, which were never assigned.
    pub fn from_code(code: u8) -> Option<Compression> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The name in Kafka's configuration: `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// Whether this build can compress and decompress it.
    pub fn is_available(self) -> bool {
        match self {
            Compression::None => true,
            Compression::Gzip => cfg!(feature = "gzip"),
            Compression::Snappy => cfg!(feature = "snappy"),
            Compression::Lz4 => cfg!(feature = "lz4"),
            Compression::Zstd => cfg!(feature = "zstd"),
        }
    }

    /// The levels that Kafka allows (KIP-390); none for codecs without levels. Gzip also knows -1, its default.
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Compression::None | Compression::Snappy => None,
            Compression::Gzip => Some(1..=9),
            Compression::Lz4 => Some(1..=17),
            Compression::Zstd => Some(-131_072..=22),
        }
    }

    /// Kafka's default level; none for codecs without levels.
    pub fn default_level(self) -> Option<i32> {
        match self {
            Compression::None | Compression::Snappy => None,
            Compression::Gzip => Some(-1),
            Compression::Lz4 => Some(9),
            Compression::Zstd => Some(3),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is no codec's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of none, gzip, snappy, lz4, zstd")]
pub struct UnknownCompressionName;

impl FromStr for Compression {
    type Err = UnknownCompressionName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == text)
            .ok_or(UnknownCompressionName)
    }
}

/// A compression context: one codec at one level, used for one batch after another.
pub struct Compressor {
    compression: Compression,
    asked_level: Option<i32>,
    encoder: Encoder,
    /// Where compressed bytes go before they replace the plain ones.
    scratch: Vec<u8>,
}

enum Encoder {
    None,
    #[cfg(feature = "gzip")]
    Gzip(gzip::Encoder),
    #[cfg(feature = "snappy")]
    Snappy(Box<snappy::Encoder>),
    #[cfg(feature = "lz4")]
    Lz4(lz4::Encoder),
    #[cfg(feature = "zstd")]
    Zstd(zstd::Encoder),
}

impl Compressor {
    /// Makes a context. `level` is the codec's own number, `None` its default; codecs without levels ignore it. LZ4
    /// checks its level and then has one speed only: Kafka's default for it is the fast compressor too.
    ///
    /// # Errors
    /// [`RecordError::InvalidCompressionLevel`], [`RecordError::CompressionUnavailable`].
    pub fn new(compression: Compression, level: Option<i32>) -> Result<Compressor, RecordError> {
        let default = compression.default_level();
        let checked = match (compression.levels(), level) {
            (Some(levels), Some(level)) if levels.contains(&level) || default == Some(level) => Some(level),
            (Some(_), Some(level)) => return Err(RecordError::InvalidCompressionLevel { compression, level }),
            _ => default,
        };
        let encoder = Self::encoder(compression, checked.unwrap_or_default())?;
        Ok(Compressor {
            compression,
            asked_level: level,
            encoder,
            scratch: Vec::new(),
        })
    }

    #[allow(unused_variables)] // without any codec nobody reads the level
    fn encoder(compression: Compression, level: i32) -> Result<Encoder, RecordError> {
        match compression {
            Compression::None => Ok(Encoder::None),
            #[cfg(feature = "gzip")]
            Compression::Gzip => Ok(Encoder::Gzip(gzip::Encoder::new(level))),
            #[cfg(feature = "snappy")]
            Compression::Snappy => Ok(Encoder::Snappy(Box::new(snappy::Encoder::new()))),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => Ok(Encoder::Lz4(lz4::Encoder::new())),
            #[cfg(feature = "zstd")]
            Compression::Zstd => zstd::Encoder::new(level).map(Encoder::Zstd),
            #[allow(unreachable_patterns)] // reachable without the features
            compression => Err(RecordError::CompressionUnavailable { compression }),
        }
    }

    /// The codec.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Appends `input`, compressed, to `output`.
    ///
    /// # Errors
    /// [`RecordError::CompressionFailed`] when the codec runs out of memory; `output` is then of no use.
    pub fn compress_into(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), RecordError> {
        match &mut self.encoder {
            Encoder::None => {
                output.extend_from_slice(input);
                Ok(())
            }
            #[cfg(feature = "gzip")]
            Encoder::Gzip(encoder) => encoder.encode(input, output),
            #[cfg(feature = "snappy")]
            Encoder::Snappy(encoder) => encoder.encode(input, output),
            #[cfg(feature = "lz4")]
            Encoder::Lz4(encoder) => encoder.encode(input, output),
            #[cfg(feature = "zstd")]
            Encoder::Zstd(encoder) => encoder.encode(input, output),
        }
    }

    /// Replaces the content of `buffer` by its compressed form.
    ///
    /// # Errors
    /// As [`compress_into`](Self::compress_into); `buffer` is then unchanged.
    pub fn compress_in_place(&mut self, buffer: &mut Vec<u8>) -> Result<(), RecordError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        self.compress_into(buffer, &mut scratch)?;
        // Copied rather than swapped: a pooled buffer must come back with the size its pool gave it.
        buffer.clear();
        buffer.extend_from_slice(&scratch);
        if scratch.capacity() <= MAX_KEPT_BYTES {
            self.scratch = scratch;
        }
        Ok(())
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor")
            .field("compression", &self.compression)
            .field("level", &self.asked_level)
            .finish_non_exhaustive()
    }
}

/// Decompression contexts of all codecs, each made when first needed, and the room for one batch.
#[derive(Default)]
pub struct Decompressor {
    #[cfg(feature = "gzip")]
    gzip: Option<gzip::Decoder>,
    #[cfg(feature = "snappy")]
    snappy: Option<snappy::Decoder>,
    #[cfg(feature = "lz4")]
    lz4: Option<lz4::Decoder>,
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::Decoder>,
    buffer: Vec<u8>,
}

impl Decompressor {
    /// Makes an empty set; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decompresses `input` into this context's own buffer, replacing what was there.
    ///
    /// # Errors
    /// As [`decompress_into`](Self::decompress_into).
    pub fn decompress(
        &mut self,
        compression: Compression,
        input: &[u8],
        max_bytes: usize,
    ) -> Result<&[u8], RecordError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.capacity() > MAX_KEPT_BYTES {
            buffer = Vec::new();
        }
        buffer.clear();
        let outcome = self.decompress_into(compression, input, max_bytes, &mut buffer);
        if outcome.is_err() && buffer.capacity() > MAX_KEPT_BYTES {
            buffer = Vec::new();
        }
        self.buffer = buffer;
        outcome.map(|()| self.buffer.as_slice())
    }

    /// Decompresses `input` to the end of `output`.
    ///
    /// At most `max_bytes` come out, and room is made for no more; what comes out after an error is of no use.
    ///
    /// # Errors
    /// [`RecordError::DecompressedTooLarge`], [`RecordError::CorruptCompression`],
    /// [`RecordError::CompressionUnavailable`].
    pub fn decompress_into(
        &mut self,
        compression: Compression,
        input: &[u8],
        max_bytes: usize,
        output: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        match compression {
            Compression::None if input.len() > max_bytes => Err(RecordError::DecompressedTooLarge { limit: max_bytes }),
            Compression::None => {
                output.extend_from_slice(input);
                Ok(())
            }
            // Not even nothing is written as nothing. Some of the libraries would take it for no frames at all.
            compression if input.is_empty() => Err(RecordError::CorruptCompression { compression }),
            #[cfg(feature = "gzip")]
            Compression::Gzip => self.gzip.get_or_insert_default().decode(input, max_bytes, output),
            #[cfg(feature = "snappy")]
            Compression::Snappy => self.snappy.get_or_insert_default().decode(input, max_bytes, output),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => self.lz4.get_or_insert_default().decode(input, max_bytes, output),
            #[cfg(feature = "zstd")]
            Compression::Zstd => match &mut self.zstd {
                Some(decoder) => decoder.decode(input, max_bytes, output),
                empty => empty.insert(zstd::Decoder::new()?).decode(input, max_bytes, output),
            },
            #[allow(unreachable_patterns)] // reachable without the features
            compression => Err(RecordError::CompressionUnavailable { compression }),
        }
    }
}

impl Decompressor {
    /// Decompresses `input` and gives what comes out to `sink` piece by piece, in order. Nothing is kept: memory is one
    /// step of the codec. A zstd frame may ask for a window of at most half of `max_bytes`; how much comes out in all is
    /// for `sink` to bound.
    ///
    /// # Errors
    /// As [`decompress_into`](Self::decompress_into), and the first error of `sink`.
    #[allow(unused_variables)] // without any codec nobody reads the limit
    pub fn decompress_in_steps(
        compression: Compression,
        input: &[u8],
        max_bytes: usize,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        match compression {
            Compression::None => sink(input),
            compression if input.is_empty() => Err(RecordError::CorruptCompression { compression }),
            #[cfg(feature = "gzip")]
            Compression::Gzip => gzip::decode_in_steps(input, sink),
            #[cfg(feature = "snappy")]
            Compression::Snappy => snappy::decode_in_steps(input, max_bytes, sink),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => lz4::Decoder::default().decode_in_steps(input, sink),
            #[cfg(feature = "zstd")]
            Compression::Zstd => zstd::decode_in_steps(input, max_bytes, sink),
            #[allow(unreachable_patterns)] // reachable without the features
            compression => Err(RecordError::CompressionUnavailable { compression }),
        }
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor")
            .field("capacity", &self.buffer.capacity())
            .finish_non_exhaustive()
    }
}

/// Calls `work` with this thread's compression context, made anew if the last one was of another codec or level.
///
/// # Errors
/// As [`Compressor::new`], and what `work` returns.
pub fn with_compressor<T>(
    compression: Compression,
    level: Option<i32>,
    work: impl FnOnce(&mut Compressor) -> Result<T, RecordError>,
) -> Result<T, RecordError> {
    thread_local! {
        static KEPT: Cell<Option<Compressor>> = const { Cell::new(None) };
    }
    // Taken out, not borrowed: `work` may come here again.
    let kept = KEPT
        .take()
        .filter(|kept| kept.compression == compression && kept.asked_level == level);
    let mut compressor = kept.map_or_else(|| Compressor::new(compression, level), Ok)?;
    let outcome = work(&mut compressor);
    KEPT.set(Some(compressor));
    outcome
}

/// Calls `work` with this thread's decompression contexts.
pub fn with_decompressor<T>(work: impl FnOnce(&mut Decompressor) -> T) -> T {
    thread_local! {
        static KEPT: Cell<Option<Decompressor>> = const { Cell::new(None) };
    }
    let mut decompressor = KEPT.take().unwrap_or_default();
    let outcome = work(&mut decompressor);
    KEPT.set(Some(decompressor));
    outcome
}

/// How much room to add next: as much as there is already, within bounds. Doubling keeps the copying linear, and the
/// start is small because a batch may claim anything.
#[cfg(feature = "gzip")]
fn next_room(produced: usize, left: usize) -> usize {
    produced.clamp(16 << 10, 1 << 20).min(left)
}
