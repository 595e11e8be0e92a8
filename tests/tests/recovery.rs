//! A log that was cut at any byte of its last batch, and a log with a flipped bit.
//!
//! The broker stops, the file is changed, the broker starts: it must serve every whole and intact batch before the damage
//! and no byte of the damage, and it must go on from there.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use ottla_protocol::records::{Compression, RecordBatches};
use ottla_tests::peer::broker_process::{BrokerProcess, Kind};
use ottla_tests::place;
use ottla_tests::rng::Rng;
use ottla_tests::wire::{Wire, batch};

const TOPIC: &str = "logged";
const LOG: &str = "logged-0/00000000000000000000.log";
const CLEAN: &str = ".kafka_cleanshutdown";
/// Before the CRC: base offset, length, leader epoch, magic. The CRC does not cover them.
const UNCOVERED: std::ops::Range<usize> = 0..17;
const LENGTH: std::ops::Range<usize> = 8..12;

/// How the broker ended that wrote a log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It was asked to stop: everything is fsynced, and marked as such.
    Stopped,
    /// kill -9: nothing is known to be on the disk.
    Killed,
}

/// A data directory with five batches in one log.
struct Original {
    dir: PathBuf,
    log: Vec<u8>,
    /// Where each batch starts, and the end.
    starts: Vec<usize>,
    /// The base offset of each batch, and the log end offset.
    offsets: Vec<i64>,
}

impl Original {
    fn write(name: &str, end: End) -> Original {
        let mut broker = BrokerProcess::start(Kind::Ottla, name, &[]).unwrap();
        let mut wire = Wire::connect(&broker.bootstrap()).unwrap();
        wire.create_topic(TOPIC, 1).unwrap();
        for at in 0..5_u8 {
            let values: Vec<Vec<u8>> = (0..=at)
                .map(|n| format!("batch {at}, record {n}").into_bytes())
                .collect();
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            let codec = if at == 2 { Compression::Gzip } else { Compression::None };
            let (error, _) = wire.produce(TOPIC, 0, &batch(&values, codec).unwrap()).unwrap();
            assert_eq!(error, 0);
        }
        match end {
            End::Stopped => drop(broker.stop().unwrap()),
            End::Killed => broker.kill(),
        }
        let dir = broker.data_dir();
        let log = std::fs::read(dir.join(LOG)).unwrap();
        let (mut starts, mut offsets, mut at) = (vec![], vec![], 0);
        for found in RecordBatches::new(&log) {
            let found = found.unwrap();
            starts.push(at);
            offsets.push(found.base_offset());
            at += found.size();
            if at == log.len() {
                offsets.push(found.next_offset());
            }
        }
        starts.push(at);
        assert_eq!(starts.len(), 6);
        assert_eq!(
            dir.join(CLEAN).exists(),
            end == End::Stopped,
            "only a clean stop leaves {CLEAN}"
        );
        Original {
            dir,
            log,
            starts,
            offsets,
        }
    }

    /// A copy with another log.
    fn damaged(&self, name: &str, log: &[u8]) -> PathBuf {
        let dir = place::data_dir(name);
        copy(&self.dir, &dir);
        std::fs::write(dir.join(LOG), log).unwrap();
        dir
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&path, &target);
        } else {
            std::fs::copy(path, target).unwrap();
        }
    }
}

#[test]
fn a_log_cut_at_every_byte_of_its_last_batch_recovers_to_whole_batches() {
    let original = Original::write("recovery-cut", End::Killed);
    let whole = original.starts[4];
    for cut in whole..original.log.len() {
        let dir = original.damaged("recovery-cut-work", &original.log[..cut]);
        let mut broker = BrokerProcess::start_on(Kind::Ottla, Some(dir), &[]).unwrap();
        let mut wire = Wire::connect(&broker.bootstrap()).unwrap();
        let fetched = wire.fetch(TOPIC, 0, 0).unwrap();
        assert_eq!(
            (fetched.error, fetched.high_watermark),
            (0, original.offsets[4]),
            "cut at {cut}"
        );
        assert_eq!(fetched.records, original.log[..whole], "cut at {cut}");
        let (error, offset) = wire
            .produce(TOPIC, 0, &batch(&[b"after"], Compression::None).unwrap())
            .unwrap();
        assert_eq!(
            (error, offset),
            (0, original.offsets[4]),
            "cut at {cut}: the next record"
        );
        if cut + 1 == original.log.len() {
            broker.stop().unwrap();
        }
    }
    println!("{} cuts", original.log.len() - whole);
}

#[test]
fn a_bit_flipped_in_the_last_batch_of_a_killed_broker_ends_the_log_before_it() {
    let original = Original::write("recovery-flip", End::Killed);
    let mut rng = Rng::announced("flips after a kill");
    let whole = original.starts[4];
    for at in
        (whole..original.log.len()).filter(|at| !UNCOVERED.contains(&(at - whole)) || LENGTH.contains(&(at - whole)))
    {
        let mut log = original.log.clone();
        log[at] ^= 1 << rng.below(8);
        let dir = original.damaged("recovery-flip-work", &log);
        let mut broker = BrokerProcess::start_on(Kind::Ottla, Some(dir), &[]).unwrap();
        let fetched = Wire::connect(&broker.bootstrap()).unwrap().fetch(TOPIC, 0, 0).unwrap();
        assert_eq!(fetched.records, original.log[..whole], "flipped at {at}");
        assert_eq!(fetched.high_watermark, original.offsets[4], "flipped at {at}");
        if at + 1 == original.log.len() {
            broker.stop().unwrap();
        }
    }
}

#[test]
fn a_bit_flipped_anywhere_in_a_cleanly_stopped_log_is_never_served() {
    let original = Original::write("recovery-rot", End::Stopped);
    let mut rng = Rng::announced("flips after a clean stop");
    let (start, end) = (original.starts[2], original.starts[3]);
    let mut refused = 0;
    for at in (start + UNCOVERED.end..end).step_by(3) {
        let mut log = original.log.clone();
        log[at] ^= 1 << rng.below(8);
        // Not left for DumpLogSegments: it would rightly complain.
        let dir = original.damaged("recovery-rot-work", &log);
        let broker = BrokerProcess::start_on(Kind::Ottla, Some(dir.clone()), &[]).unwrap();
        let mut wire = Wire::connect(&broker.bootstrap()).unwrap();
        for from in original.offsets[..5].iter().copied() {
            let fetched = wire.fetch(TOPIC, 0, from).unwrap();
            for served in RecordBatches::new(&fetched.records) {
                let served = served.unwrap();
                assert!(
                    served.verify_crc().is_ok(),
                    "flipped at {at}, fetched from {from}: the damage was served"
                );
            }
            if from == original.offsets[2] {
                assert!(
                    fetched.error != 0 || fetched.records.is_empty(),
                    "flipped at {at}: {fetched:?}"
                );
                refused += 1;
            }
            if from == 0 {
                assert!(
                    fetched.records.starts_with(&original.log[..start]),
                    "what is before the damage is served"
                );
            }
        }
        drop(broker);
        std::fs::remove_dir_all(dir).unwrap();
    }
    assert!(refused > 10);
}
