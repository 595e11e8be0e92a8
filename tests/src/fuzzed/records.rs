//! Any bytes as a run of record batches; as records behind a header that is right, in every codec; and as the choices
//! of someone who builds a batch. What can be read can be built again, and reads the same.

use ottla_protocol::records::{
    Compression, Compressor, ControlRecord, Decompressor, Header, Record, RecordBatch, RecordBatchBuilder,
    RecordBatches, crc32c,
};

/// What a broker would allow; the fuzzer's own limit is 64 MiB.
const CAP: usize = 4 << 20;

/// Runs the target on `bytes`.
pub fn run(bytes: &[u8]) {
    let [mode, bytes @ ..] = bytes else { return };
    match mode % 4 {
        0 => read_run(bytes),
        1 | 2 => read_behind_header(bytes),
        _ => build(bytes),
    }
}

fn read_run(bytes: &[u8]) {
    let mut batches = RecordBatches::new(bytes);
    let mut read = 0;
    for batch in batches.by_ref().flatten() {
        read += batch.size();
        assert!(batch.next_offset() > batch.last_offset());
        let _ = batch.verify_crc();
        read_batch(&batch);
    }
    assert_eq!(read + batches.remaining().len(), bytes.len());
}

/// The first three bytes choose codec, flags and record count, so that the records are reached.
fn read_behind_header(bytes: &[u8]) {
    let [codec, flags, count, records @ ..] = bytes else {
        return;
    };
    let mut batch = vec![0; 61];
    batch.extend_from_slice(records);
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[22] = (codec % 5) | (flags & !7);
    batch[23..27].copy_from_slice(&i32::from(*count).to_be_bytes());
    batch[57..61].copy_from_slice(&i32::from(*count).to_be_bytes());
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    let (batch, rest) = RecordBatch::parse(&batch).expect("the header is right");
    assert!(rest.is_empty());
    batch.verify_crc().expect("the checksum is right");
    read_batch(&batch);
}

fn read_batch(batch: &RecordBatch<'_>) {
    let mut scratch = Decompressor::new();
    let Ok(plain) = batch.records_bytes(&mut scratch, CAP) else {
        return;
    };
    let compression = batch.compression().expect("looked at by parse");
    assert!(plain.len() <= CAP || compression == Compression::None);
    let mut records: Vec<Record<'_>> = vec![];
    for record in batch.iter_over(plain) {
        let Ok(record) = record else { return };
        let _ = ControlRecord::read(&record);
        if record.headers().any(|header| header.is_err()) || record.timestamp < -1 {
            return;
        }
        records.push(record);
    }
    if batch.iter_over(plain).summarize().is_err() || records.is_empty() {
        return;
    }
    let mut builder = RecordBatchBuilder::new(Vec::new());
    for record in &records {
        let headers: Vec<Header<'_>> = record.headers().flatten().collect();
        let size = builder.record_size(record.timestamp, record.key(), record.value(), &headers);
        let before = builder.size();
        builder
            .append(record.timestamp, record.key(), record.value(), &headers)
            .expect("it was read");
        assert_eq!(builder.size(), before + size);
    }
    let again = builder.seal(compression, None).expect("not empty").to_vec();
    let (again, _) = RecordBatch::parse(&again).expect("we wrote it");
    again.verify_crc().expect("we wrote it");
    let mut scratch = Decompressor::new();
    let same = again.records(&mut scratch, usize::MAX).expect("we wrote it").flatten();
    assert!(same.eq_by_content(&records));
    let mut compressor = Compressor::new(Compression::Lz4, None).expect("a codec of this build");
    batch.recompress(plain, &mut compressor).expect("it is small");
}

trait EqByContent {
    fn eq_by_content(self, others: &[Record<'_>]) -> bool;
}

impl<'a, I: Iterator<Item = Record<'a>>> EqByContent for I {
    fn eq_by_content(self, others: &[Record<'_>]) -> bool {
        let mut others = others.iter();
        let mut all = self.zip(others.by_ref());
        let equal = all.all(|(one, other)| {
            (one.key(), one.value(), one.timestamp) == (other.key(), other.value(), other.timestamp)
                && one.headers().eq(other.headers())
        });
        drop(all);
        equal && others.next().is_none()
    }
}

/// Each record is a length for its key, one for its value and a timestamp; a zero length is null.
fn build(bytes: &[u8]) {
    let [codec, rest @ ..] = bytes else { return };
    let compression = Compression::from_code(codec % 5).expect("five codes");
    let mut builder = RecordBatchBuilder::new(Vec::with_capacity(usize::from(*codec)));
    let mut rest = rest;
    while let [key, value, t0, t1, t2, t3, t4, t5, t6, t7, after @ ..] = rest {
        let timestamp = i64::from_le_bytes([*t0, *t1, *t2, *t3, *t4, *t5, *t6, *t7]);
        let (key, after) = after.split_at(usize::from(*key).min(after.len()));
        let (value, after) = after.split_at(usize::from(*value).min(after.len()));
        let null = |bytes| Some(bytes).filter(|bytes: &&[u8]| !bytes.is_empty());
        let appended = builder.append(timestamp, null(key), null(value), &[]);
        assert_eq!(appended.is_ok(), timestamp >= -1);
        rest = after;
    }
    let (count, plain) = (builder.count(), builder.records().to_vec());
    let Ok(sealed) = builder.seal(compression, None) else {
        assert_eq!(count, 0);
        return;
    };
    let sealed = sealed.to_vec();
    let (batch, _) = RecordBatch::parse(&sealed).expect("we wrote it");
    batch.verify_crc().expect("we wrote it");
    let mut scratch = Decompressor::new();
    assert_eq!(
        batch.records_bytes(&mut scratch, plain.len()).expect("we wrote it"),
        plain
    );
    let summary = batch
        .records(&mut scratch, plain.len())
        .expect("we wrote it")
        .summarize()
        .expect("we wrote it");
    assert_eq!(summary.count, count);
}
