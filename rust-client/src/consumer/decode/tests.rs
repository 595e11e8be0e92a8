//! Batches, cut and damaged in every way, read without a broker.

use bytes::Bytes;
use ottla_client_state::TopicPartition;
use ottla_protocol::records::{Compression, Decompressor, RecordBatchBuilder, RecordError};
use proptest::prelude::{prop_assert_eq, proptest};

use super::{CompletedFetch, DecodeOptions, OpenFetch, Step, Want};
use crate::ConsumerRecords;
use crate::tests::{Batch, marker, transactions};

const OPTIONS: DecodeOptions = DecodeOptions {
    check_crcs: true,
    max_decompressed_bytes: 1 << 20,
};

fn open(batches: Vec<Vec<u8>>, offset: i64, aborted: Option<Vec<(i64, i64)>>) -> OpenFetch {
    OpenFetch::new(CompletedFetch {
        partition: TopicPartition::new("orders", 0),
        fence: 1,
        offset,
        batches: Bytes::from(batches.concat()),
        aborted,
    })
}

fn polls_of(most: usize) -> Want {
    Want { now: most, each: most }
}

/// Reads everything in steps of `most` records; gives the offsets, the last position, and the error if there is one.
fn read(open: &mut OpenFetch, most: usize) -> (Vec<i64>, i64, Option<RecordError>) {
    read_as(open, &[polls_of(most)])
}

/// The same with polls that want this and then that, over and over.
fn read_as(open: &mut OpenFetch, wants: &[Want]) -> (Vec<i64>, i64, Option<RecordError>) {
    let (mut offsets, mut position) = (Vec::new(), open.position);
    let mut decompressor = Decompressor::new();
    for want in wants.iter().cycle() {
        match open.next(*want, OPTIONS, &mut decompressor) {
            Ok(Step::Records { chunk, .. }) => {
                assert!(chunk.count <= want.now);
                let first = chunk.iter().next().unwrap().unwrap().offset;
                let last = chunk.iter().last().unwrap().unwrap().offset;
                assert!(position <= first && last < chunk.next_offset);
                position = chunk.next_offset;
                let mut records = ConsumerRecords::default();
                records.push(chunk);
                for record in &records {
                    assert_eq!(record.value(), Some(record.offset().to_string().as_bytes()));
                    assert_eq!((record.timestamp(), record.leader_epoch()), (1000 + record.offset(), 3));
                    offsets.push(record.offset());
                }
            }
            Ok(Step::Skipped { next_offset, .. }) => position = next_offset,
            Ok(Step::End) => return (offsets, position, None),
            Err(error) => return (offsets, position, Some(error)),
        }
    }
    unreachable!("no polls")
}

#[test]
fn records_come_once_and_in_order_however_they_are_cut() {
    for compression in Compression::ALL {
        for most in [1, 2, 3, 7, 100] {
            let batches = vec![
                Batch::new(10, 5).bytes(),
                Batch::new(15, 3).compressed(compression).bytes(),
            ];
            let (offsets, position, error) = read(&mut open(batches, 10, None), most);
            assert_eq!(
                (offsets, position, error),
                ((10..18).collect(), 18, None),
                "{compression}, {most} at once"
            );
        }
    }
}

proptest! {
    #[test]
    fn whatever_the_batches_and_the_cuts_every_record_comes_once(
        sizes in proptest::collection::vec((1i64..6, 0i64..3, 0u8..5), 1..8),
        start in 0i64..40,
        wants in proptest::collection::vec((1usize..9, 1usize..9), 1..5),
    ) {
        let (mut next, mut batches, mut expected) = (0, Vec::new(), Vec::new());
        for (count, gap, codec) in sizes {
            let codec = Compression::from_code(codec).unwrap();
            batches.push(Batch::new(next, count).compressed(codec).bytes());
            expected.extend((next..next + count).filter(|offset| *offset >= start));
            next += count + gap;
        }
        let wants: Vec<Want> = wants.into_iter().map(|(now, each)| Want { now, each }).collect();
        let (offsets, _, error) = read_as(&mut open(batches, start, None), &wants);
        prop_assert_eq!((offsets, error), (expected, None));
    }
}

#[test]
fn records_before_the_position_are_skipped() {
    for most in [1, 100] {
        let batches = vec![Batch::new(10, 5).bytes(), Batch::new(15, 5).bytes()];
        assert_eq!(
            read(&mut open(batches.clone(), 13, None), most),
            ((13..20).collect(), 20, None)
        );
        assert_eq!(read(&mut open(batches, 17, None), most), ((17..20).collect(), 20, None));
    }
}

#[test]
fn a_compacted_batch_moves_the_position_over_what_is_gone() {
    let mut batch = Batch::new(10, 10);
    batch.offsets = vec![12, 19];
    let mut gone = Batch::new(20, 5);
    gone.offsets = vec![24];
    for most in [1, 100] {
        let batches = vec![batch.bytes(), gone.bytes(), Batch::new(30, 1).bytes()];
        assert_eq!(
            read(&mut open(batches, 10, None), most),
            (vec![12, 19, 24, 30], 31, None)
        );
    }
    // All records that the position wants are gone: only the position moves.
    let mut emptied = Batch::new(10, 10);
    emptied.offsets = vec![11, 12];
    let mut bytes = emptied.bytes();
    let last_offset_delta = 23..27;
    bytes[last_offset_delta].copy_from_slice(&9i32.to_be_bytes());
    let options = DecodeOptions {
        check_crcs: false,
        ..OPTIONS
    };
    let step = open(vec![bytes], 15, None).next(polls_of(100), options, &mut Decompressor::new());
    assert!(matches!(step, Ok(Step::Skipped { next_offset: 20, .. })), "{step:?}");
}

#[test]
fn control_batches_are_never_handed_over() {
    let batches = vec![
        Batch::new(0, 2).transactional(5).bytes(),
        marker(2, 5, false),
        Batch::new(3, 1).bytes(),
    ];
    assert_eq!(read(&mut open(batches, 0, None), 100), (vec![0, 1, 3], 4, None));
}

#[test]
fn aborted_transactions_are_left_out_whatever_the_order_of_the_list() {
    for list in [
        vec![(5, 0), (6, 11)],
        vec![(6, 11), (5, 0)],
        vec![(6, 11), (5, 0), (5, 0), (6, 11)],
    ] {
        for most in [1, 100] {
            let (offsets, position, error) = read(&mut open(transactions(), 0, Some(list.clone())), most);
            assert_eq!((offsets, position, error), (vec![2, 3, 6, 8, 9], 13, None), "{list:?}");
        }
    }
}

#[test]
fn an_aborted_transaction_without_records_takes_nothing_else_with_it() {
    // Its records are gone by compaction, or lie before the position; only the marker is left.
    let batches = vec![
        marker(5, 5, false),
        Batch::new(6, 2).transactional(5).bytes(),
        marker(8, 5, true),
    ];
    assert_eq!(
        read(&mut open(batches, 4, Some(vec![(5, 0)])), 100),
        (vec![6, 7], 9, None)
    );
    let twice = vec![
        marker(5, 5, false),
        marker(6, 5, false),
        Batch::new(7, 1).transactional(5).bytes(),
    ];
    assert_eq!(read(&mut open(twice, 4, Some(vec![(5, 0)])), 100), (vec![7], 8, None));
}

#[test]
fn a_batch_that_cannot_be_read_gives_nothing_and_holds_the_position() {
    let good = Batch::new(0, 3).bytes();
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bad = Batch::new(3, 3).compressed(Compression::Lz4).bytes();
        change(&mut bad);
        bad
    };
    let flipped = damaged(&|bad| *bad.last_mut().unwrap() ^= 1);
    let counted = damaged(&|bad| bad[57..61].copy_from_slice(&i32::MAX.to_be_bytes()));
    for bad in [flipped, counted] {
        let mut fetch = open(vec![good.clone(), bad], 0, None);
        let (offsets, position, error) = read(&mut fetch, 100);
        assert_eq!((offsets, position), (vec![0, 1, 2], 3));
        assert!(error.is_some());
        assert!(read(&mut fetch, 100).2.is_some(), "and again");
    }
}

#[test]
fn a_decompression_bomb_is_stopped_at_the_limit() {
    for compression in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut builder = RecordBatchBuilder::new(Vec::new());
        builder.append(1000, None, Some(&vec![0; 4 << 20]), &[]).unwrap();
        let bomb = builder.seal(compression, None).unwrap().to_vec();
        let (offsets, _, error) = read(&mut open(vec![bomb], 0, None), 100);
        assert!(offsets.is_empty());
        assert_eq!(
            error,
            Some(RecordError::DecompressedTooLarge {
                limit: OPTIONS.max_decompressed_bytes
            })
        );
    }
}

#[test]
fn without_check_crcs_a_wrong_checksum_is_not_looked_at() {
    let mut bytes = Batch::new(0, 3).bytes();
    bytes[17] ^= 1;
    let options = DecodeOptions {
        check_crcs: false,
        ..OPTIONS
    };
    assert!(matches!(
        open(vec![bytes], 0, None).next(polls_of(9), options, &mut Decompressor::new()),
        Ok(Step::Records { .. })
    ));
}
