//! The lines that `tests/java/RecordsPeer.java` prints for a run of batches, as Ottla reads the same bytes.

use std::fmt::Write;

use ottla_protocol::records::{
    ControlRecord, Decompressor, Record, RecordBatch, RecordBatches, RecordError, TimestampType,
};

/// Describes every batch and every record, and ends with a line "error ..." at the first flaw.
pub fn describe(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut scratch = Decompressor::new();
    for batch in RecordBatches::new(bytes) {
        let outcome = batch.and_then(|batch| describe_batch(&batch, &mut scratch, &mut out));
        if let Err(error) = outcome {
            let _ = writeln!(out, "error {error}");
        }
    }
    out
}

fn describe_batch(batch: &RecordBatch<'_>, scratch: &mut Decompressor, out: &mut String) -> Result<(), RecordError> {
    batch.verify_crc()?;
    let time = if batch.timestamp_type() == TimestampType::CreateTime {
        "create"
    } else {
        "append"
    };
    let horizon = batch
        .delete_horizon()
        .map_or("none".to_string(), |horizon| horizon.to_string());
    let _ = write!(out, "batch offsets={}..{}", batch.base_offset(), batch.last_offset());
    let _ = write!(out, " size={} epoch={}", batch.size(), batch.partition_leader_epoch());
    let _ = write!(out, " crc={} codec={} time={time}", batch.crc(), batch.compression()?);
    let _ = write!(
        out,
        " base={} max={} horizon={horizon}",
        batch.base_timestamp(),
        batch.max_timestamp()
    );
    let _ = write!(
        out,
        " transactional={} control={}",
        batch.is_transactional(),
        batch.is_control()
    );
    let _ = write!(out, " producer={}/{}", batch.producer_id(), batch.producer_epoch());
    let _ = write!(out, " sequences={}..{}", batch.base_sequence(), batch.last_sequence());
    let _ = writeln!(out, " count={}", batch.record_count());
    for record in batch.records(scratch, 64 << 20)? {
        describe_record(batch, &record?, out)?;
    }
    Ok(())
}

fn describe_record(batch: &RecordBatch<'_>, record: &Record<'_>, out: &mut String) -> Result<(), RecordError> {
    let _ = write!(out, "record offset={} time={}", record.offset, record.timestamp);
    let _ = write!(
        out,
        " key={} value={} headers=[",
        hex(record.key()),
        hex(record.value())
    );
    for (position, header) in record.headers().enumerate() {
        let header = header?;
        let comma = if position == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{}:{}", hex(Some(header.key.as_bytes())), hex(header.value));
    }
    out.push(']');
    if batch.is_control() {
        let _ = match ControlRecord::read(record)? {
            ControlRecord::EndTransaction(marker) => {
                let end = if marker.committed { "commit" } else { "abort" };
                write!(out, " control={end}/{}", marker.coordinator_epoch)
            }
            ControlRecord::Other { control_type } => write!(out, " control=other/{control_type}"),
        };
    }
    out.push('\n');
    Ok(())
}

fn hex(bytes: Option<&[u8]>) -> String {
    bytes.map_or("null".to_string(), to_hex)
}

/// Two lower-case digits a byte.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The reverse of [`to_hex`].
///
/// # Panics
/// If the text is not made of such digits.
pub fn from_hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// One batch or run of batches in the output of `RecordsPeer write`.
pub struct Sample {
    /// What it is.
    pub name: String,
    /// The batches.
    pub bytes: Vec<u8>,
    /// What Kafka reads in them.
    pub description: String,
}

/// Reads what `RecordsPeer write` prints.
///
/// # Panics
/// If the text is something else.
pub fn samples(text: &str) -> Vec<Sample> {
    let mut samples = vec![];
    let mut lines = text.lines();
    while let Some(name) = lines.next() {
        let name = name.strip_prefix("name ").unwrap().to_string();
        let bytes = from_hex(lines.next().and_then(|line| line.strip_prefix("hex ")).unwrap());
        let description = lines
            .by_ref()
            .take_while(|line| *line != "end")
            .flat_map(|line| [line, "\n"])
            .collect();
        samples.push(Sample {
            name,
            bytes,
            description,
        });
    }
    samples
}
