//! The codecs read every framing that Kafka's clients write, whoever wrote it, and refuse damage.

#![cfg(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::io::{Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use ottla_protocol::records::{Compression, Compressor, Decompressor, RecordBatchBuilder, RecordError};

const CAP: usize = 4 << 20;

fn text(len: usize) -> Vec<u8> {
    (0..len)
        .flat_map(|number| format!("record {} of many; ", number % 1000).into_bytes())
        .take(len)
        .collect()
}

fn pack(compression: Compression, plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    Compressor::new(compression, None)
        .unwrap()
        .compress_into(plain, &mut packed)
        .unwrap();
    packed
}

fn unpack(compression: Compression, packed: &[u8]) -> Result<Vec<u8>, RecordError> {
    let mut plain = Vec::new();
    Decompressor::new()
        .decompress_into(compression, packed, CAP, &mut plain)
        .map(|()| plain)
}

#[test]
fn every_size_around_a_block_comes_back() {
    let whole = text(200_000);
    let mut scratch = Decompressor::new();
    for compression in Compression::ALL {
        let mut compressor = Compressor::new(compression, None).unwrap();
        for size in [
            0, 1, 2, 12, 13, 100, 32_767, 32_768, 32_769, 65_534, 65_535, 65_536, 65_537, 131_072, 200_000,
        ] {
            let mut packed = Vec::new();
            compressor.compress_into(&whole[..size], &mut packed).unwrap();
            let plain = scratch.decompress(compression, &packed, size);
            assert_eq!(plain, Ok(&whole[..size]), "{compression} {size}");
        }
    }
}

#[test]
fn lz4_frames_of_other_writers_are_read() {
    let plain = text(300_000);
    for info in [
        FrameInfo::new(),
        FrameInfo::new()
            .block_mode(BlockMode::Linked)
            .block_size(BlockSize::Max64KB),
        FrameInfo::new().block_size(BlockSize::Max4MB),
        FrameInfo::new()
            .block_size(BlockSize::Max64KB)
            .block_checksums(true)
            .content_checksum(true),
        FrameInfo::new()
            .block_size(BlockSize::Max256KB)
            .content_size(Some(300_000)),
    ] {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&plain).unwrap();
        let frame = encoder.finish().unwrap();
        assert_eq!(unpack(Compression::Lz4, &frame).unwrap(), plain);
        let mut room = Vec::new();
        let outcome = Decompressor::new().decompress_into(Compression::Lz4, &frame, 299_999, &mut room);
        assert_eq!(outcome, Err(RecordError::DecompressedTooLarge { limit: 299_999 }));
        for end in (0..frame.len()).step_by(997).chain([frame.len() - 1, frame.len() - 4]) {
            assert!(
                unpack(Compression::Lz4, &frame[..end]).is_err(),
                "cut at {end} of {}",
                frame.len()
            );
        }
    }
}

#[test]
fn lz4_frames_that_we_write_are_read_by_the_library() {
    let plain = text(300_000);
    let packed = pack(Compression::Lz4, &plain);
    let mut read = Vec::new();
    FrameDecoder::new(&packed[..]).read_to_end(&mut read).unwrap();
    assert_eq!(read, plain);
}

#[test]
fn frames_in_a_row_are_read_as_one() {
    let plain = text(70_000);
    let twice = plain.repeat(2);
    for compression in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let packed = pack(compression, &plain).repeat(2);
        assert_eq!(unpack(compression, &packed).unwrap(), twice, "{compression}");
    }
}

#[test]
fn plain_snappy_without_a_frame_is_read() {
    let plain = text(100_000);
    let packed = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    assert_eq!(unpack(Compression::Snappy, &packed).unwrap(), plain);
}

#[test]
fn gzip_headers_with_every_field_are_read() {
    let plain = text(10_000);
    let packed = pack(Compression::Gzip, &plain);
    let mut member = vec![0x1f, 0x8b, 8, 0b0001_1110, 1, 2, 3, 4, 0, 3];
    member.extend_from_slice(&[3, 0, b'x', b'y', b'z']);
    member.extend_from_slice(b"name\0comment\0");
    member.extend_from_slice(&[7, 7]);
    for cut in 0..member.len() {
        assert!(unpack(Compression::Gzip, &member[..cut]).is_err());
    }
    member.extend_from_slice(&packed[10..]);
    assert_eq!(unpack(Compression::Gzip, &member).unwrap(), plain);
}

#[test]
fn zstd_frames_that_do_not_say_their_size_are_read() {
    let plain = text(1_000_000);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.write_all(&plain).unwrap();
    let packed = encoder.finish().unwrap();
    assert_eq!(zstd::zstd_safe::get_frame_content_size(&packed).ok().flatten(), None);
    assert_eq!(unpack(Compression::Zstd, &packed).unwrap(), plain);
    let mut room = Vec::new();
    let outcome = Decompressor::new().decompress_into(Compression::Zstd, &packed, 999_999, &mut room);
    assert_eq!(outcome, Err(RecordError::DecompressedTooLarge { limit: 999_999 }));
}

#[test]
fn damage_is_refused_or_gives_other_bytes_but_never_too_many() {
    let plain = text(500);
    for compression in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let packed = pack(compression, &plain);
        let mut scratch = Decompressor::new();
        for bit in 0..packed.len() * 8 {
            let mut damaged = packed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match scratch.decompress(compression, &damaged, 1000) {
                Ok(bytes) => assert!(bytes.len() <= 1000),
                Err(RecordError::CorruptCompression { .. } | RecordError::DecompressedTooLarge { limit: 1000 }) => {}
                Err(other) => panic!("{compression}: {other}"),
            }
        }
        for end in 0..packed.len() {
            let cut = scratch.decompress(compression, &packed[..end], 1000);
            // Xerial's framing has no end mark: a stream that ends between two blocks is whole.
            let whole = compression == Compression::Snappy && end == 16;
            assert!(cut.is_err() || whole, "{compression} cut at {end}");
        }
    }
}

#[test]
fn gzip_checks_its_trailer() {
    let packed = pack(Compression::Gzip, &text(500));
    for byte in packed.len() - 8..packed.len() {
        let mut damaged = packed.clone();
        damaged[byte] ^= 1;
        let corrupt = RecordError::CorruptCompression {
            compression: Compression::Gzip,
        };
        assert_eq!(unpack(Compression::Gzip, &damaged), Err(corrupt));
    }
}

#[test]
fn levels_are_those_of_kafka() {
    let accepted = |compression, level| Compressor::new(compression, Some(level)).is_ok();
    for (compression, good, bad) in [
        (Compression::Gzip, [-1, 1, 9], [-2, 0, 10]),
        (Compression::Lz4, [1, 9, 17], [-1, 0, 18]),
        (Compression::Zstd, [-131_072, 0, 22], [-131_073, 23, i32::MAX]),
    ] {
        assert!(
            good.into_iter().all(|level| accepted(compression, level)),
            "{compression}"
        );
        assert!(
            !bad.into_iter().any(|level| accepted(compression, level)),
            "{compression}"
        );
    }
    assert!(accepted(Compression::None, 5) && accepted(Compression::Snappy, 5));
    let plain = text(100_000);
    let size = |compression, level| {
        let mut packed = Vec::new();
        Compressor::new(compression, Some(level))
            .unwrap()
            .compress_into(&plain, &mut packed)
            .unwrap();
        packed.len()
    };
    assert!(size(Compression::Gzip, 9) < size(Compression::Gzip, 1));
    assert!(size(Compression::Zstd, 19) < size(Compression::Zstd, -50));
}

#[test]
fn names_and_codes_are_those_of_kafka() {
    for (code, name) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let compression: Compression = name.parse().unwrap();
        assert_eq!(
            (usize::from(compression.code()), compression.to_string()),
            (code, name.to_string())
        );
        assert_eq!(Compression::from_code(code as u8), Some(compression));
        assert!(compression.is_available());
    }
    assert_eq!(Compression::from_code(5), None);
    assert!("LZ4".parse::<Compression>().is_err());
}

#[test]
fn sealing_with_changing_levels_on_one_thread_uses_the_level_asked_for() {
    let sealed = |level| {
        let mut builder = RecordBatchBuilder::new(Vec::new());
        builder.append(0, None, Some(&text(50_000)), &[]).unwrap();
        builder.seal(Compression::Zstd, level).unwrap().len()
    };
    let (fast, best) = (sealed(Some(-50)), sealed(Some(19)));
    assert!(best < fast);
    assert_eq!((sealed(Some(-50)), sealed(Some(19))), (fast, best));
}
