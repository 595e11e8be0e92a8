//! What a batch must be before it may enter a log, as Kafka's broker demands it of format 2.
//!
//! In: the bytes of one partition in a Produce request, the topic's settings, the time. Out: a copy of the batch,
//! ready but for its offset and leader epoch, or the reason for refusing it. It knows nothing of offsets, producers'
//! history or files, and needs no lock.
//!
//! Checks in order: one batch of format 2, base offset 0, size, checksum, header, records (count, offset deltas, keys
//! on a compacted topic, timestamps). Then, where the topic asks for it: another codec, the broker's time.

use ottla_protocol::records::{
    BATCH_HEADER_LEN, Compression, Compressor, Outline, RecordBatch, RecordError, RecordsSummary, TimestampType, batch,
};

use super::config::LogConfig;
use super::contents::{self, Contents};
use super::error::{AppendError, RefusedRecord};

/// Who wants to append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppendOrigin {
    /// A Produce request: everything is checked.
    Client,
    /// The broker's own coordinators: they may write control records and batches without sequences.
    Coordinator,
}

/// The timestamp that means "none".
const NO_TIMESTAMP: i64 = -1;
/// How many records are named when a batch is refused for them.
const REFUSED_RECORDS_MAX: usize = 1000;

/// A batch that passed.
#[derive(Debug)]
pub(super) struct Checked {
    /// The whole batch; base offset and leader epoch are still to be set.
    pub bytes: Vec<u8>,
    /// The broker's time in it, if the topic wants that.
    pub log_append_time: Option<i64>,
}

/// Checks `records`, which should be exactly one batch, and makes the copy that will be appended.
pub(super) fn check(
    records: &[u8],
    config: &LogConfig,
    origin: AppendOrigin,
    now_ms: i64,
) -> Result<Checked, AppendError> {
    let batch = only_batch(records)?;
    check_header(&batch, config, origin)?;
    let check = |contents: &Contents<'_>| check_records(&batch, contents, config, origin, now_ms);
    contents::unfold(&batch, config.decompressed_bytes_max(), check).map_err(unreadable)?
}

fn check_records(
    batch: &RecordBatch<'_>,
    contents: &Contents<'_>,
    config: &LogConfig,
    origin: AppendOrigin,
    now_ms: i64,
) -> Result<Checked, AppendError> {
    let summary = contents.summarize().map_err(unreadable)?;
    if origin == AppendOrigin::Client {
        check_keys(contents, &summary, config)?;
        check_timestamps(batch, contents, &summary, config, now_ms)?;
    }
    finish(batch, contents, &summary, config, now_ms)
}

fn refused(contents: &Contents<'_>, wrong: &dyn Fn(&Outline) -> bool, message: &str) -> Vec<RefusedRecord> {
    let outlines = contents.outlines(REFUSED_RECORDS_MAX, wrong);
    let refused = outlines.iter().map(|record| RefusedRecord {
        batch_index: record.index,
        message: message.to_owned(),
    });
    refused.collect()
}

fn invalid(text: impl Into<String>) -> AppendError {
    AppendError::InvalidRecord(text.into())
}

fn only_batch(records: &[u8]) -> Result<RecordBatch<'_>, AppendError> {
    let (batch, rest) = RecordBatch::parse(records).map_err(|error| match error {
        RecordError::Truncated { .. } => invalid("a Produce request must hold one whole record batch per partition"),
        RecordError::UnsupportedMagic { .. } => invalid(error.to_string()),
        RecordError::UnknownCompression { .. } if checksum_fits(records) => AppendError::UnsupportedCompression(error),
        RecordError::InvalidRecordCount { .. } | RecordError::InvalidOffsets { .. } if checksum_fits(records) => {
            invalid(error.to_string())
        }
        error => AppendError::Corrupt(error),
    })?;
    // A partial second batch is ignored, as it always was.
    if RecordBatch::parse(rest).is_ok() {
        return Err(invalid(
            "a Produce request must hold one record batch per partition, not more",
        ));
    }
    Ok(batch)
}

/// Tells a client that builds wrong headers from bytes damaged on the way.
fn checksum_fits(records: &[u8]) -> bool {
    let field = |at: usize| {
        records
            .get(at..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map(|raw| u32::from_be_bytes(*raw))
    };
    let (Some(length), Some(crc)) = (field(8), field(17)) else {
        return false;
    };
    let covered = usize::try_from(length)
        .ok()
        .and_then(|length| records.get(21..length.checked_add(12)?));
    covered.is_some_and(|covered| ottla_protocol::records::crc32c(covered) == crc)
}

fn check_header(batch: &RecordBatch<'_>, config: &LogConfig, origin: AppendOrigin) -> Result<(), AppendError> {
    if origin == AppendOrigin::Client && batch.base_offset() != 0 {
        return Err(invalid(format!(
            "the base offset of a new batch must be 0, not {}",
            batch.base_offset()
        )));
    }
    // A coordinator keeps to bounds of its own.
    if origin == AppendOrigin::Client && batch.size() > config.max_message_bytes {
        return Err(AppendError::TooLarge {
            size: batch.size(),
            limit: config.max_message_bytes,
        });
    }
    batch.verify_crc().map_err(AppendError::Corrupt)?;
    let count = i64::from(batch.record_count());
    if count == 0 || count != i64::from(batch.last_offset_delta()) + 1 {
        let delta = batch.last_offset_delta();
        return Err(invalid(format!(
            "{count} records do not fit a last offset delta of {delta}"
        )));
    }
    if origin == AppendOrigin::Coordinator {
        return Ok(());
    }
    if batch.is_control() {
        return Err(invalid("clients may not write control records"));
    }
    if batch.producer_id() >= 0 && (batch.base_sequence() < 0 || batch.producer_epoch() < 0) {
        let (sequence, epoch) = (batch.base_sequence(), batch.producer_epoch());
        return Err(invalid(format!(
            "an idempotent batch cannot have sequence {sequence} and epoch {epoch}"
        )));
    }
    if batch.is_transactional() {
        return Err(AppendError::Transactional);
    }
    Ok(())
}

fn unreadable(error: RecordError) -> AppendError {
    match error {
        RecordError::CorruptCompression { .. } => AppendError::Corrupt(error),
        RecordError::UnknownCompression { .. } | RecordError::CompressionUnavailable { .. } => {
            AppendError::UnsupportedCompression(error)
        }
        error => invalid(error.to_string()),
    }
}

fn check_keys(contents: &Contents<'_>, summary: &RecordsSummary, config: &LogConfig) -> Result<(), AppendError> {
    if !config.compact || summary.first_without_key.is_none() {
        return Ok(());
    }
    let message = "a record of a compacted topic must have a key";
    let keyless = refused(contents, &|record| !record.has_key, message);
    Err(AppendError::InvalidRecords(keyless))
}

fn check_timestamps(
    batch: &RecordBatch<'_>,
    contents: &Contents<'_>,
    summary: &RecordsSummary,
    config: &LogConfig,
    now_ms: i64,
) -> Result<(), AppendError> {
    let refuse = |wrong: &dyn Fn(i64) -> bool, message: &str| {
        let records = refused(contents, &|record| wrong(record.timestamp), message);
        Err(AppendError::InvalidTimestamp(records))
    };
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        return refuse(&|_| true, "producers may not set the timestamp type to LogAppendTime");
    }
    if config.message_timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let earliest = now_ms.saturating_sub(config.message_timestamp_before_max_ms);
    let latest = now_ms.saturating_add(config.message_timestamp_after_max_ms);
    let wrong = |timestamp: i64| timestamp != NO_TIMESTAMP && (timestamp < earliest || timestamp > latest);
    // The earliest may be "none" and hide another: only the records themselves can tell then.
    if wrong(summary.min_timestamp) || wrong(summary.max_timestamp) || earliest > 0 && summary.min_timestamp < 0 {
        let message = format!("the timestamp is not within {earliest}..={latest}");
        let error = refuse(&wrong, &message);
        if matches!(&error, Err(AppendError::InvalidTimestamp(refused)) if refused.is_empty()) {
            return Ok(());
        }
        return error;
    }
    Ok(())
}

fn finish(
    batch: &RecordBatch<'_>,
    contents: &Contents<'_>,
    summary: &RecordsSummary,
    config: &LogConfig,
    now_ms: i64,
) -> Result<Checked, AppendError> {
    let source = batch.compression().map_err(unreadable)?;
    let target = config.compression.unwrap_or(source);
    let mut bytes = if target == source {
        batch.raw().to_vec()
    } else {
        recompressed(batch, &contents.whole().map_err(unreadable)?, target, config)?
    };
    if bytes.len() > config.max_message_bytes {
        return Err(AppendError::TooLarge {
            size: bytes.len(),
            limit: config.max_message_bytes,
        });
    }
    debug_assert!(bytes.len() >= BATCH_HEADER_LEN);
    if config.message_timestamp_type == TimestampType::LogAppendTime && !batch.is_control() {
        batch::patch_log_append_time(&mut bytes, now_ms);
        return Ok(Checked {
            bytes,
            log_append_time: Some(now_ms),
        });
    }
    // Searches by time rely on the header's word.
    if batch.timestamp_type() == TimestampType::CreateTime && batch.max_timestamp() != summary.max_timestamp {
        batch::patch_max_timestamp(&mut bytes, summary.max_timestamp);
    }
    Ok(Checked {
        bytes,
        log_append_time: None,
    })
}

fn recompressed(
    batch: &RecordBatch<'_>,
    plain: &[u8],
    target: Compression,
    config: &LogConfig,
) -> Result<Vec<u8>, AppendError> {
    let mut compressor = Compressor::new(target, config.compression_level).map_err(unreadable)?;
    batch.recompress(plain, &mut compressor).map_err(unreadable)
}
