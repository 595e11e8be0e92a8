//! Snappy in the framing of Xerial's Java library: 16 bytes of header, then blocks, each behind its big-endian
//! length. Plain snappy without framing is read as well; some clients write that.

use snap::raw;

use super::{Compression, RecordError};

/// The first eight bytes of the header; two big-endian version numbers follow.
const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_LEN: usize = 16;
const VERSION: [u8; 4] = 1u32.to_be_bytes();
/// Plain bytes in one block, as Java writes them.
const BLOCK_LEN: usize = 32 << 10;

/// The best that snappy can do: a copy of 64 bytes takes three. A block that claims more lies.
const MAX_RATIO: usize = 22;

const CORRUPT: RecordError = RecordError::CorruptCompression {
    compression: Compression::Snappy,
};
const FAILED: RecordError = RecordError::CompressionFailed {
    compression: Compression::Snappy,
};

pub struct Encoder {
    snappy: raw::Encoder,
}

impl Encoder {
    pub fn new() -> Self {
        Encoder {
            snappy: raw::Encoder::new(),
        }
    }

    pub fn encode(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), RecordError> {
        output.extend_from_slice(&MAGIC);
        output.extend_from_slice(&VERSION);
        output.extend_from_slice(&VERSION);
        for block in input.chunks(BLOCK_LEN) {
            let length_at = output.len();
            let block_at = length_at + 4;
            output.resize(block_at + raw::max_compress_len(block.len()), 0);
            let room = output.get_mut(block_at..).unwrap_or_default();
            let length = self.snappy.compress(block, room).map_err(|_| FAILED)?;
            output.truncate(block_at + length);
            if let Some(field) = output.get_mut(length_at..block_at) {
                field.copy_from_slice(&(length as u32).to_be_bytes());
            }
        }
        Ok(())
    }
}

pub struct Decoder {
    snappy: raw::Decoder,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder {
            snappy: raw::Decoder::new(),
        }
    }
}

impl Decoder {
    pub fn decode(&mut self, input: &[u8], max_bytes: usize, output: &mut Vec<u8>) -> Result<(), RecordError> {
        let limit = output.len().saturating_add(max_bytes);
        for block in Blocks::new(input) {
            self.block(block?, limit, max_bytes, output)?;
        }
        Ok(())
    }

    fn block(&mut self, block: &[u8], limit: usize, max_bytes: usize, output: &mut Vec<u8>) -> Result<(), RecordError> {
        let length = raw::decompress_len(block).map_err(|_| CORRUPT)?;
        if length > block.len().saturating_mul(MAX_RATIO) {
            return Err(CORRUPT);
        }
        let at = output.len();
        if length > limit - at {
            return Err(RecordError::DecompressedTooLarge { limit: max_bytes });
        }
        output.resize(at + length, 0);
        let written = self
            .snappy
            .decompress(block, output.get_mut(at..).unwrap_or_default())
            .map_err(|_| CORRUPT)?;
        if written == length { Ok(()) } else { Err(CORRUPT) }
    }
}

/// Decodes block by block; a block that says it is larger than `max_bytes` is refused.
pub fn decode_in_steps(
    input: &[u8],
    max_bytes: usize,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    let mut decoder = Decoder::default();
    let mut plain = Vec::new();
    for block in Blocks::new(input) {
        plain.clear();
        decoder.block(block?, max_bytes, max_bytes, &mut plain)?;
        sink(&plain)?;
    }
    Ok(())
}

/// The blocks of a framed stream; plain snappy is one block.
struct Blocks<'a> {
    rest: &'a [u8],
    framed: bool,
}

impl<'a> Blocks<'a> {
    fn new(input: &'a [u8]) -> Self {
        Blocks {
            rest: input,
            framed: input.starts_with(&MAGIC),
        }
    }

    fn framed_block(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        // Streams may be joined, each with its own header.
        while self.rest.starts_with(&MAGIC) {
            self.rest = self.rest.get(HEADER_LEN..).ok_or(CORRUPT)?;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (length, after) = self.rest.split_first_chunk::<4>().ok_or(CORRUPT)?;
        let block = after.split_at_checked(u32::from_be_bytes(*length) as usize);
        let (block, after) = block.ok_or(CORRUPT)?;
        self.rest = after;
        Ok(Some(block))
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<&'a [u8], RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        if !self.framed {
            return Some(Ok(std::mem::take(&mut self.rest)));
        }
        let block = self.framed_block();
        if block.is_err() {
            self.rest = &[];
        }
        block.transpose()
    }
}
