//! Gzip (RFC 1952): our own ten bytes of header around a raw deflate stream, because the raw streams are what the
//! library can reset and use again.

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Compression, RecordError, next_room};

/// Magic, deflate, no flags, no time, no hint, unknown operating system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

const CORRUPT: RecordError = RecordError::CorruptCompression {
    compression: Compression::Gzip,
};
const FAILED: RecordError = RecordError::CompressionFailed {
    compression: Compression::Gzip,
};

pub struct Encoder {
    deflate: Compress,
}

impl Encoder {
    /// `level` is 1 to 9, or -1 for the library's default.
    pub fn new(level: i32) -> Self {
        let level = u32::try_from(level).map_or_else(|_| flate2::Compression::default(), flate2::Compression::new);
        Encoder {
            deflate: Compress::new(level, false),
        }
    }

    pub fn encode(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), RecordError> {
        self.deflate.reset();
        output.extend_from_slice(&HEADER);
        loop {
            // Deflate stores what it cannot compress, at five bytes for each 16 KiB.
            let read = self.deflate.total_in() as usize;
            let rest = input.get(read..).unwrap_or_default();
            output.reserve(rest.len() / 2 + 128);
            match self.deflate.compress_vec(rest, output, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => break,
                Ok(_) => {}
                Err(_) => return Err(FAILED),
            }
        }
        output.extend_from_slice(&crc_fast::crc32_iso_hdlc(input).to_le_bytes());
        // The format wants the size modulo 2^32.
        output.extend_from_slice(&(input.len() as u32).to_le_bytes());
        Ok(())
    }
}

pub struct Decoder {
    inflate: Decompress,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder {
            inflate: Decompress::new(false),
        }
    }
}

impl Decoder {
    /// Decodes all members of `input`: the format lets them follow one another, and Java reads them so.
    pub fn decode(&mut self, input: &[u8], max_bytes: usize, output: &mut Vec<u8>) -> Result<(), RecordError> {
        let start = output.len();
        let mut rest = input;
        loop {
            let member = output.len();
            rest = self.member(skip_header(rest).ok_or(CORRUPT)?, start, max_bytes, output)?;
            let (trailer, after) = rest.split_first_chunk::<8>().ok_or(CORRUPT)?;
            let content = output.get(member..).unwrap_or_default();
            let mut expected = [0; 8];
            expected[..4].copy_from_slice(&crc_fast::crc32_iso_hdlc(content).to_le_bytes());
            expected[4..].copy_from_slice(&(content.len() as u32).to_le_bytes());
            if *trailer != expected {
                return Err(CORRUPT);
            }
            if after.is_empty() {
                return Ok(());
            }
            rest = after;
        }
    }

    /// Inflates one member and returns what follows its deflate stream.
    fn member<'a>(
        &mut self,
        deflated: &'a [u8],
        start: usize,
        max_bytes: usize,
        output: &mut Vec<u8>,
    ) -> Result<&'a [u8], RecordError> {
        self.inflate.reset(false);
        loop {
            let produced = output.len() - start;
            // One byte of room beyond the limit, so that a stream of exactly the limit can still find its end.
            let left = max_bytes.saturating_add(1).saturating_sub(produced);
            if left == 0 {
                return Err(RecordError::DecompressedTooLarge { limit: max_bytes });
            }
            if output.capacity() == output.len() {
                output.reserve_exact(next_room(produced, left));
            }
            let rest = deflated.get(self.inflate.total_in() as usize..).unwrap_or_default();
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress_vec(rest, output, FlushDecompress::None)
                .map_err(|_| CORRUPT)?;
            if output.len() - start > max_bytes {
                return Err(RecordError::DecompressedTooLarge { limit: max_bytes });
            }
            if status == Status::StreamEnd {
                return Ok(deflated.get(self.inflate.total_in() as usize..).unwrap_or_default());
            }
            if before == (self.inflate.total_in(), self.inflate.total_out()) {
                return Err(CORRUPT);
            }
        }
    }
}

/// Bytes that come out in one step.
const STEP: usize = 64 << 10;

/// Decodes all members of `input` through a buffer of [`STEP`] bytes.
pub fn decode_in_steps(
    input: &[u8],
    sink: &mut dyn FnMut(&[u8]) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    let mut inflate = Decompress::new(false);
    let mut step = Vec::with_capacity(STEP);
    let mut rest = input;
    loop {
        let deflated = skip_header(rest).ok_or(CORRUPT)?;
        inflate.reset(false);
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc);
        loop {
            step.clear();
            let read = inflate.total_in();
            let left = deflated.get(read as usize..).unwrap_or_default();
            let status = inflate.decompress_vec(left, &mut step, FlushDecompress::None);
            let status = status.map_err(|_| CORRUPT)?;
            digest.update(&step);
            sink(&step)?;
            if status == Status::StreamEnd {
                break;
            }
            if step.is_empty() && read == inflate.total_in() {
                return Err(CORRUPT);
            }
        }
        rest = deflated.get(inflate.total_in() as usize..).unwrap_or_default();
        let (trailer, after) = rest.split_first_chunk::<8>().ok_or(CORRUPT)?;
        let mut expected = [0; 8];
        expected[..4].copy_from_slice(&(digest.finalize() as u32).to_le_bytes());
        expected[4..].copy_from_slice(&(inflate.total_out() as u32).to_le_bytes());
        if *trailer != expected {
            return Err(CORRUPT);
        }
        if after.is_empty() {
            return Ok(());
        }
        rest = after;
    }
}

/// Skips a member's header with all its optional fields.
fn skip_header(input: &[u8]) -> Option<&[u8]> {
    const HEADER_CRC: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;

    let (header, mut rest) = input.split_first_chunk::<10>()?;
    if !header.starts_with(&[0x1f, 0x8b, 8]) {
        return None;
    }
    let flags = header[3];
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}
