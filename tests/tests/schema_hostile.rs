//! Every message of every version, cut short, damaged, and with counts that lie: an error or a message, never a panic,
//! and never memory that a count asked for.
//!
//! One test alone in its process, because it watches the memory of the process.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use ottla_protocol::catalog::{MessageInfo, RecodeError};
use ottla_protocol::{internal, messages};
use ottla_protocol_generate::load;
use ottla_protocol_generate::sample::{Count, sample};
use ottla_protocol_generate::schema::Message;
use std::path::Path;

/// Samples of each message in each version.
const SAMPLES: u64 = 2;

/// Far less than the smallest of the counts would take if it were believed, far more than the test needs.
const MEMORY_LIMIT_BYTES: u64 = 256 << 20;

#[test]
fn no_hostile_message_panics_or_takes_memory() {
    let jars = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.peers/kafka-4.4.0"));
    assert!(
        jars.join("kafka-clients-4.4.0.jar").exists(),
        "Kafka's jars are not installed: run `make peers` first"
    );
    let release = load(&[jars.to_owned()]).unwrap();
    let before = peak_memory_bytes();
    let (mut cut_count, mut damaged_count, mut bomb_count) = (0, 0, 0);
    for message in &release.messages {
        let info = messages::CATALOG
            .iter()
            .chain(internal::CATALOG)
            .find(|info| info.name == message.name)
            .unwrap();
        for version in message.valid.first..=message.valid.last {
            for seed in 0..SAMPLES {
                let sample = sample(message, version, seed);
                cut_count += cut(info, version, &sample.bytes);
                damaged_count += damaged(info, version, &sample.bytes, seed);
                bomb_count += bombs(info, message, version, &sample.bytes, &sample.counts);
            }
        }
    }
    let grown = peak_memory_bytes() - before;
    assert!(grown < MEMORY_LIMIT_BYTES, "{grown} bytes");
    println!(
        "{cut_count} cut short, {damaged_count} damaged, {bomb_count} with a lying count, {grown} bytes of memory"
    );
}

fn cut(info: &MessageInfo, version: i16, bytes: &[u8]) -> usize {
    for end in 0..bytes.len() {
        let result = info.recode(&bytes[..end], version);
        assert!(
            matches!(result, Err(RecodeError::Decode(_))),
            "{} v{version} cut at {end}: {result:?}",
            info.name
        );
    }
    bytes.len()
}

/// One byte after another is changed. What can still be read must be possible to write.
fn damaged(info: &MessageInfo, version: i16, bytes: &[u8], seed: u64) -> usize {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() {
        let was = bytes[at];
        for value in [0x00, 0x7f, 0x80, 0xff, was ^ (1 << ((at as u64 + seed) % 8))] {
            bytes[at] = value;
            let result = info.recode(&bytes, version);
            assert!(
                !matches!(result, Err(RecodeError::Encode(_))),
                "{} v{version}: {result:?}",
                info.name
            );
        }
        bytes[at] = was;
    }
    bytes.len() * 5
}

/// Each count and length says 2^31 - 1, or the most that fits.
fn bombs(info: &MessageInfo, message: &Message, version: i16, bytes: &[u8], counts: &[Count]) -> usize {
    for count in counts {
        let lies: &[&[u8]] = match (count.compact, count.width) {
            (true, _) => &[&[0x80, 0x80, 0x80, 0x80, 0x08], &[0xff, 0xff, 0xff, 0xff, 0x0f]],
            (false, 2) => &[&[0x7f, 0xff]],
            (false, _) => &[&[0x7f, 0xff, 0xff, 0xff]],
        };
        for lie in lies {
            let mut bomb = bytes[..count.offset].to_vec();
            bomb.extend_from_slice(lie);
            bomb.extend_from_slice(&bytes[count.offset + count.width..]);
            let error = info.recode(&bomb, version).unwrap_err();
            let RecodeError::Decode(error) = error else {
                panic!("{error}")
            };
            assert_eq!(error.place.message, message.name, "{error}");
            assert!(!error.field.is_empty(), "{error}");
        }
    }
    counts.len()
}

/// The most address space that this process has had, allocated but untouched memory included.
fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes << 10
}
