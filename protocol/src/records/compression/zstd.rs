//! Zstandard frames, whole at a time: the output is the window, so no window is allocated whatever a frame asks for.
//! What is too large for that is decoded in steps, with a window that has a limit.

use std::io::Cursor;

use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer};

use super::{Compression, RecordError};

/// Room to begin with when a frame does not say its size, or says one that we do not believe yet.
const FIRST_ROOM: usize = 64 << 10;
/// A ratio beyond which a frame's stated size is not taken for granted.
const USUAL_RATIO: usize = 32;

const CORRUPT: RecordError = RecordError::CorruptCompression {
    compression: Compression::Zstd,
};
const FAILED: RecordError = RecordError::CompressionFailed {
    compression: Compression::Zstd,
};

pub struct Encoder {
    context: CCtx<'static>,
}

impl Encoder {
    pub fn new(level: i32) -> Result<Self, RecordError> {
        let mut context = CCtx::try_create().ok_or(FAILED)?;
        context
            .set_parameter(CParameter::CompressionLevel(level))
            .map_err(|_| FAILED)?;
        Ok(Encoder { context })
    }

    pub fn encode(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), RecordError> {
        output.reserve(zstd_safe::compress_bound(input.len()));
        let outcome = at_end(output, |room| self.context.compress2(room, input));
        outcome.map_err(|_| FAILED)
    }
}

pub struct Decoder {
    context: DCtx<'static>,
}

impl Decoder {
    pub fn new() -> Result<Self, RecordError> {
        Ok(Decoder {
            context: DCtx::try_create().ok_or(FAILED)?,
        })
    }

    pub fn decode(&mut self, input: &[u8], max_bytes: usize, output: &mut Vec<u8>) -> Result<(), RecordError> {
        let start = output.len();
        let mut room = first_room(input).min(max_bytes);
        loop {
            output.reserve_exact(room);
            let usable = output.capacity() - start;
            match at_end(output, |room| self.context.decompress(room, input)) {
                Ok(()) if output.len() - start > max_bytes => break,
                Ok(()) => return Ok(()),
                Err(code) if zstd_safe::is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) => {
                    if usable >= max_bytes {
                        break;
                    }
                    // Begins again, but with twice the room: all attempts together cost less than two of the last.
                    output.truncate(start);
                    room = usable.saturating_mul(2).min(max_bytes);
                }
                Err(_) => return Err(CORRUPT),
            }
        }
        Err(RecordError::DecompressedTooLarge { limit: max_bytes })
    }
}

/// Bytes that come out in one step.
const STEP: usize = 128 << 10;

/// Decodes all frames through a buffer of [`STEP`] bytes and the window that they ask for, which may take up to half of
/// `max_bytes`: a frame that wants more belongs to a batch that is too large.
pub fn decode_in_steps(
    input: &[u8],
    max_bytes: usize,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), RecordError>,
) -> Result<(), RecordError> {
    // A context of its own: the library would keep the window for the next batch.
    let mut context = DCtx::try_create().ok_or(FAILED)?;
    let window_log = (max_bytes / 2).max(1).ilog2().clamp(10, 30);
    context
        .set_parameter(DParameter::WindowLogMax(window_log))
        .map_err(|_| FAILED)?;
    let mut step = vec![0; STEP];
    let mut source = InBuffer::around(input);
    loop {
        let mut room = OutBuffer::around(step.as_mut_slice());
        let expected = context.decompress_stream(&mut room, &mut source).map_err(|code| {
            if zstd_safe::is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge) {
                RecordError::DecompressedTooLarge { limit: max_bytes }
            } else {
                CORRUPT
            }
        })?;
        let written = room.pos();
        sink(step.get(..written).unwrap_or_default())?;
        let read = source.pos() == input.len();
        // Zero: a frame has ended, and nothing of it waits inside the context.
        match (read, expected) {
            (true, 0) => return Ok(()),
            (true, _) if written < STEP => return Err(CORRUPT),
            _ => {}
        }
    }
}

/// Runs a codec call on the room behind the content of `output`, which then grows by what the call wrote.
fn at_end(
    output: &mut Vec<u8>,
    call: impl FnOnce(&mut Cursor<Vec<u8>>) -> Result<usize, zstd_safe::ErrorCode>,
) -> Result<(), zstd_safe::ErrorCode> {
    let start = output.len() as u64;
    let mut room = Cursor::new(std::mem::take(output));
    room.set_position(start);
    let outcome = call(&mut room);
    *output = room.into_inner();
    outcome.map(|_| ())
}

fn first_room(input: &[u8]) -> usize {
    let believable = input.len().saturating_mul(USUAL_RATIO).max(FIRST_ROOM);
    match zstd_safe::get_frame_content_size(input) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX).min(believable),
        _ => input.len().saturating_mul(4).clamp(FIRST_ROOM, believable),
    }
}
