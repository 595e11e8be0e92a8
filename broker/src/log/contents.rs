//! The records of one batch, whatever it unfolds to.
//!
//! In: a batch and the most it may unfold to. Out: a summary, an outline of each record, or all of its bytes. Refuses
//! what does not read and what unfolds to more.
//!
//! Almost every batch unfolds to little, in a buffer that each thread keeps. A larger one is read in steps that keep
//! nothing, and one at a time in the whole process, so that a crowd of bombs costs no more memory than one of them.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use ottla_protocol::records::{Decompressor, Outline, RecordBatch, RecordError, RecordsSummary, with_decompressor};

/// What is unfolded in one piece. A batch has 1 MiB at most unless the topic says otherwise.
const AT_ONCE_BYTES: usize = 4 << 20;

/// Held while a larger one is read.
static LARGE: Mutex<()> = Mutex::new(());

/// The records of `batch`.
pub(super) struct Contents<'a> {
    batch: RecordBatch<'a>,
    limit: usize,
    /// Unless they are too large for one piece.
    plain: Option<&'a [u8]>,
}

/// Calls `work` with the records of `batch`, which may unfold to `limit` bytes.
///
/// # Errors
/// What the codec says. A larger batch may turn out to be wrong only when `work` reads it.
pub(super) fn unfold<T>(
    batch: &RecordBatch<'_>,
    limit: usize,
    work: impl FnOnce(&Contents<'_>) -> T,
) -> Result<T, RecordError> {
    with_decompressor(|scratch| match batch.records_bytes(scratch, limit.min(AT_ONCE_BYTES)) {
        Ok(plain) => Ok(work(&Contents {
            batch: *batch,
            limit,
            plain: Some(plain),
        })),
        Err(RecordError::DecompressedTooLarge { .. }) if limit > AT_ONCE_BYTES => {
            let _alone = LARGE.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(work(&Contents {
                batch: *batch,
                limit,
                plain: None,
            }))
        }
        Err(error) => Err(error),
    })
}

impl Contents<'_> {
    /// What a pass over all records finds.
    ///
    /// # Errors
    /// Any flaw of a record, and what the codec says.
    pub fn summarize(&self) -> Result<RecordsSummary, RecordError> {
        match self.plain {
            Some(plain) => self.batch.iter_over(plain).summarize(),
            None => self.batch.summarize_in_steps(self.limit),
        }
    }

    /// The first `most` records that are `wanted`, up to the first that does not read.
    pub fn outlines(&self, most: usize, wanted: &dyn Fn(&Outline) -> bool) -> Vec<Outline> {
        if let Some(plain) = self.plain {
            let whole = self.batch.iter_over(plain).map_while(Result::ok);
            let outlines = whole.map(|record| record.outline());
            return outlines.filter(wanted).take(most).collect();
        }
        let mut found = Vec::new();
        // An error ends the search like the end of the batch.
        let _ = self.batch.walk_in_steps(self.limit, &mut |outline| {
            if found.len() < most && wanted(&outline) {
                found.push(outline);
            }
            Ok(())
        });
        found
    }

    /// All records without compression.
    ///
    /// # Errors
    /// What the codec says.
    pub fn whole(&self) -> Result<Cow<'_, [u8]>, RecordError> {
        if let Some(plain) = self.plain {
            return Ok(Cow::Borrowed(plain));
        }
        let mut bytes = Vec::new();
        let codec = self.batch.compression()?;
        Decompressor::new().decompress_into(codec, self.batch.records_raw(), self.limit, &mut bytes)?;
        Ok(Cow::Owned(bytes))
    }
}
