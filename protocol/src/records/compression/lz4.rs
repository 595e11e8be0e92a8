//! LZ4 frames: what Kafka's clients write is read by our own few lines, every other legal frame by the library.
//!
//! The library's frame reader and writer allocate their blocks anew for each frame. All clients use the same
//! seven bytes of frame header, so one comparison decides for the short way, which allocates nothing.

use std::io::BufRead;

use lz4_flex::block::{self, CompressTable};
use lz4_flex::frame::FrameDecoder;

use super::{Compression, RecordError};

/// Magic, version 1 with independent blocks and no checksums, blocks up to 64 KiB, and the checksum of these two.
const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const BLOCK_LEN: usize = 64 << 10;
/// In a block's length: the block is stored as it is.
const STORED: u32 = 1 << 31;
const END: [u8; 4] = [0; 4];

const CORRUPT: RecordError = RecordError::CorruptCompression {
    compression: Compression::Lz4,
};
const FAILED: RecordError = RecordError::CompressionFailed {
    compression: Compression::Lz4,
};

pub struct Encoder {
    /// For blocks below 65,535 bytes: half the memory and faster.
    small: CompressTable,
    large: CompressTable,
}

impl Encoder {
    pub fn new() -> Self {
        Encoder {
            small: CompressTable::small(),
            large: CompressTable::large(),
        }
    }

    pub fn encode(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), RecordError> {
        output.extend_from_slice(&HEADER);
        for plain in input.chunks(BLOCK_LEN) {
            let length_at = output.len();
            let block_at = length_at + 4;
            output.resize(block_at + block::get_maximum_output_size(plain.len()), 0);
            let room = output.get_mut(block_at..).unwrap_or_default();
            let table = if plain.len() < usize::from(u16::MAX) {
                &mut self.small
            } else {
                &mut self.large
            };
            let packed = block::compress_into_with_table(plain, room, table).map_err(|_| FAILED)?;
            let length = if packed < plain.len() {
                output.truncate(block_at + packed);
                packed as u32
            } else {
                output.truncate(block_at);
                output.extend_from_slice(plain);
                plain.len() as u32 | STORED
            };
            if let Some(field) = output.get_mut(length_at..block_at) {
                field.copy_from_slice(&length.to_le_bytes());
            }
        }
        output.extend_from_slice(&END);
        Ok(())
    }
}

pub struct Decoder {
    /// Room for one block, made once: room at the end of the output would have to be zeroed for each block.
    block: Box<[u8]>,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder {
            block: vec![0; BLOCK_LEN].into_boxed_slice(),
        }
    }
}

impl Decoder {
    /// Decodes one frame or several in a row.
    pub fn decode(&mut self, input: &[u8], max_bytes: usize, output: &mut Vec<u8>) -> Result<(), RecordError> {
        let limit = output.len().saturating_add(max_bytes);
        self.decode_in_steps(input, &mut |plain: &[u8]| {
            if plain.len() > limit - output.len() {
                return Err(RecordError::DecompressedTooLarge { limit: max_bytes });
            }
            output.extend_from_slice(plain);
            Ok(())
        })
    }

    /// The same, block by block.
    pub fn decode_in_steps<S>(&mut self, input: &[u8], sink: &mut S) -> Result<(), RecordError>
    where
        S: FnMut(&[u8]) -> Result<(), RecordError> + ?Sized,
    {
        let mut rest = input;
        while !rest.is_empty() {
            rest = match rest.strip_prefix(&HEADER) {
                Some(blocks) => self.decode_blocks(blocks, sink)?,
                None => decode_any(rest, sink)?,
            };
        }
        Ok(())
    }

    /// Decodes the blocks of a frame that begins with [`HEADER`] and returns what follows it.
    fn decode_blocks<'a, S>(&mut self, blocks: &'a [u8], sink: &mut S) -> Result<&'a [u8], RecordError>
    where
        S: FnMut(&[u8]) -> Result<(), RecordError> + ?Sized,
    {
        let mut rest = blocks;
        loop {
            let (length, after) = rest.split_first_chunk::<4>().ok_or(CORRUPT)?;
            if *length == END {
                return Ok(after);
            }
            let length = u32::from_le_bytes(*length);
            let packed_len = (length & !STORED) as usize;
            if packed_len > BLOCK_LEN {
                return Err(CORRUPT);
            }
            let (packed, after) = after.split_at_checked(packed_len).ok_or(CORRUPT)?;
            rest = after;
            if length & STORED != 0 {
                sink(packed)?;
            } else {
                let written = block::decompress_into(packed, &mut self.block).map_err(|_| CORRUPT)?;
                sink(self.block.get(..written).unwrap_or_default())?;
            }
        }
    }
}

/// Decodes one frame with linked blocks, checksums, a size or larger blocks and returns what follows it.
fn decode_any<'a, S>(input: &'a [u8], sink: &mut S) -> Result<&'a [u8], RecordError>
where
    S: FnMut(&[u8]) -> Result<(), RecordError> + ?Sized,
{
    // The library takes a frame without its end mark for a whole one, so the walk over the blocks is ours.
    let after = after_frame(input).ok_or(CORRUPT)?;
    let frame = input.get(..input.len() - after.len()).unwrap_or_default();
    let mut decoder = FrameDecoder::new(frame);
    loop {
        let block = decoder.fill_buf().map_err(|_| CORRUPT)?;
        if block.is_empty() {
            return Ok(after);
        }
        sink(block)?;
        let length = block.len();
        decoder.consume(length);
    }
}

/// Walks over one frame, block by block, and returns what follows it; `None` if the frame does not end.
fn after_frame(input: &[u8]) -> Option<&[u8]> {
    const BLOCK_CHECKSUM: u8 = 1 << 4;
    const CONTENT_SIZE: u8 = 1 << 3;
    const CONTENT_CHECKSUM: u8 = 1 << 2;
    const DICTIONARY: u8 = 1;

    // Magic, flags and block size; then the optional fields and the header's checksum byte.
    let ([m0, m1, m2, m3, flags, _block_size], rest) = input.split_first_chunk::<6>()?;
    let has = |flag| usize::from(flags & flag != 0);
    if !HEADER.starts_with(&[*m0, *m1, *m2, *m3]) || flags >> 6 != 1 {
        return None;
    }
    let mut rest = rest.get(8 * has(CONTENT_SIZE) + 4 * has(DICTIONARY) + 1..)?;
    loop {
        let (length, blocks) = rest.split_first_chunk::<4>()?;
        if *length == END {
            return blocks.get(4 * has(CONTENT_CHECKSUM)..);
        }
        let length = (u32::from_le_bytes(*length) & !STORED) as usize;
        rest = blocks.get(length..)?.get(4 * has(BLOCK_CHECKSUM)..)?;
    }
}
