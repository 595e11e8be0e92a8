//! What a record costs: append, seal, stamp, iterate; and the codecs.
//!
//! `cargo bench -p ottla-protocol --bench records`. Throughput is in records for the per-record costs and in bytes
//! without compression for the codecs.

#![allow(clippy::unwrap_used, missing_docs)] // a benchmark fails by panicking, and criterion's macros have no docs

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ottla_protocol::records::{
    Compression, Compressor, Decompressor, Header, RecordBatch, RecordBatchBuilder, SealedBatch, crc32c,
};

const NOW: i64 = 1_700_000_000_000;
/// A batch of the default `batch.size`, 16 KiB, holds about this many records of 100 bytes.
const RECORDS: u64 = 140;

fn fill(buffer: Vec<u8>, count: u64, key: Option<&[u8]>, value: &[u8], headers: &[Header<'_>]) -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new(buffer);
    for number in 0..count {
        builder.append(NOW + number as i64, key, Some(value), headers).unwrap();
    }
    builder
}

/// Records of plain JSON whose fields vary.
fn json(bytes: usize) -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new(Vec::with_capacity(bytes + 256));
    let mut state = 1u64;
    while builder.size() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (truck, speed) = (state >> 48, state >> 40 & 127);
        let value = format!(
            r#"{{"truck":{truck},"speed":{speed},"latitude":52.{},"longitude":13.{},"state":"driving"}}"#,
            state >> 20 & 0xfffff,
            state & 0xfffff
        );
        builder
            .append(NOW, Some(&truck.to_be_bytes()), Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder
}

fn building(c: &mut Criterion) {
    let value = [b'v'; 100];
    let key = [b'k'; 16];
    let header = [Header {
        key: "trace-id",
        value: Some(b"0123456789abcdef"),
    }];
    let mut group = c.benchmark_group("append 100 B");
    group.throughput(Throughput::Elements(RECORDS));
    let mut buffer = Vec::with_capacity(32 << 10);
    group.bench_function("no key", |b| {
        b.iter(|| buffer = fill(std::mem::take(&mut buffer), RECORDS, None, black_box(&value), &[]).into_buffer());
    });
    group.bench_function("key of 16 B", |b| {
        b.iter(|| {
            buffer = fill(std::mem::take(&mut buffer), RECORDS, Some(&key), black_box(&value), &[]).into_buffer();
        });
    });
    group.bench_function("key and header", |b| {
        b.iter(|| {
            buffer = fill(
                std::mem::take(&mut buffer),
                RECORDS,
                Some(&key),
                black_box(&value),
                &header,
            )
            .into_buffer();
        });
    });
    group.finish();

    let sealed = fill(Vec::new(), RECORDS, None, &value, &[])
        .seal(Compression::None, None)
        .unwrap();
    let bytes = sealed.to_vec();
    let mut group = c.benchmark_group("batch of 16 KiB");
    group.bench_function("seal", |b| {
        let filled = || fill(Vec::with_capacity(32 << 10), RECORDS, None, &value, &[]);
        b.iter_batched(
            filled,
            |builder| builder.seal(Compression::None, None),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("stamp", |b| {
        let mut sealed = sealed.clone();
        b.iter(|| sealed.stamp(black_box(4711), 0, 7, false));
    });
    group.bench_function("pieces", |b| b.iter(|| SealedBatch::pieces(black_box(&sealed))));
    group.bench_function("crc32c", |b| b.iter(|| crc32c(black_box(&bytes))));
    group.finish();
}

fn read(bytes: &[u8], check: bool) -> usize {
    let (batch, _) = RecordBatch::parse(black_box(bytes)).unwrap();
    if check {
        batch.verify_crc().unwrap();
    }
    let mut seen = 0;
    for record in batch.iter_over(batch.records_raw()) {
        let record = record.unwrap();
        seen += record.key().map_or(0, <[u8]>::len) + black_box(record).value().map_or(0, <[u8]>::len);
    }
    seen
}

fn reading(c: &mut Criterion) {
    let value = [b'v'; 100];
    let key = [b'k'; 16];
    let mut group = c.benchmark_group("iterate 100 B");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, key) in [("no key", None), ("key of 16 B", Some(&key[..]))] {
        let bytes = fill(Vec::new(), RECORDS, key, &value, &[])
            .seal(Compression::None, None)
            .unwrap()
            .to_vec();
        group.bench_function(name, |b| b.iter(|| read(&bytes, false)));
        group.bench_function(format!("{name}, with CRC"), |b| b.iter(|| read(&bytes, true)));
        group.bench_function(format!("{name}, summarize"), |b| {
            b.iter(|| {
                let (batch, _) = RecordBatch::parse(black_box(&bytes)).unwrap();
                batch.iter_over(batch.records_raw()).summarize()
            });
        });
    }
    group.finish();
}

fn codecs(c: &mut Criterion) {
    for size in [16 << 10, 1 << 20] {
        let builder = json(size);
        let plain = builder.records();
        let mut group = c.benchmark_group(format!("codec, {} KiB", size >> 10));
        group.throughput(Throughput::Bytes(plain.len() as u64));
        group.sample_size(20);
        for (compression, level) in [
            (Compression::Gzip, None),
            (Compression::Gzip, Some(1)),
            (Compression::Snappy, None),
            (Compression::Lz4, None),
            (Compression::Zstd, None),
            (Compression::Zstd, Some(1)),
        ] {
            let name = level.map_or(compression.to_string(), |level| format!("{compression} {level}"));
            let mut compressor = Compressor::new(compression, level).unwrap();
            let mut packed = Vec::new();
            group.bench_function(format!("{name}, compress"), |b| {
                b.iter(|| {
                    packed.clear();
                    compressor.compress_into(black_box(plain), &mut packed)
                });
            });
            let mut scratch = Decompressor::new();
            group.bench_function(format!("{name}, decompress"), |b| {
                b.iter(|| {
                    scratch
                        .decompress(compression, black_box(&packed), size * 2)
                        .map(<[u8]>::len)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, building, reading, codecs);
criterion_main!(benches);
