//! Hostile bytes against the running process `ottla broker`.
//!
//! Whatever comes, the broker answers with an error or closes the connection: it does not panic, does not hang, does not
//! allocate what a length or a count merely promises, and still serves an honest client afterwards.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::time::Duration;

use ottla_protocol::records::Compression;
use ottla_tests::hostile::{Attacker, BOMBS, Outcome, Sample, frame, samples};
use ottla_tests::peer::broker_process::{BrokerProcess, Kind};
use ottla_tests::peer::librdkafka::Librdkafka;
use ottla_tests::peer::{Client, Content, Outgoing};
use ottla_tests::rng::Rng;
use ottla_tests::wire::{Wire, batch};

const PATIENCE: Duration = Duration::from_secs(5);
/// Fetch may wait as long as it is told to, and Produce with acks=0 has no answer.
const SHORT: Duration = Duration::from_millis(30);
const MAY_BE_SILENT: [&str; 2] = ["Fetch", "Produce"];
/// Which a broker may grow by while it is attacked with small frames.
const GROWTH_KIB: u64 = 64 * 1024;

/// A broker, an honest client, and the memory the broker had before the attack.
struct Arena {
    broker: BrokerProcess,
    honest: Librdkafka,
    topic: String,
    before_kib: u64,
}

impl Arena {
    fn open(name: &str) -> Arena {
        let broker = BrokerProcess::start(Kind::Ottla, name, &[]).unwrap();
        let honest = Librdkafka::start().unwrap();
        honest.create_topic(&broker.bootstrap(), "honest", 1).unwrap();
        let mut arena = Arena {
            broker,
            honest,
            topic: "honest".to_owned(),
            before_kib: 0,
        };
        arena.serve_honestly();
        arena.before_kib = arena.broker.memory_kib("VmHWM").unwrap();
        arena
    }

    fn attacker(&self) -> Attacker {
        Attacker::new(&self.broker.bootstrap())
    }

    fn serve_honestly(&self) {
        let content = Content {
            key: None,
            value: Some(b"honest".to_vec()),
            headers: vec![],
        };
        let records = vec![
            Outgoing {
                content: content.clone(),
                timestamp: None
            };
            10
        ];
        let bootstrap = self.broker.bootstrap();
        let receipts = self
            .honest
            .produce(&bootstrap, &self.topic, "none", &records)
            .unwrap()
            .unwrap();
        let count = receipts.iter().map(|receipt| receipt.offset + 1).max().unwrap() as usize;
        let read = self.honest.consume(&bootstrap, &self.topic, 0, count).unwrap();
        assert!(read.iter().all(|record| record.content == content));
    }

    /// The attack is over: nothing broke, nothing grew, honest clients are served.
    fn close(mut self, growth_kib: u64) {
        self.serve_honestly();
        assert_eq!(self.broker.exited(), None, "the broker is gone: {}", self.broker.log());
        let peak = self.broker.memory_kib("VmHWM").unwrap();
        let grown = peak.saturating_sub(self.before_kib);
        println!("peak memory grew by {grown} KiB from {} KiB", self.before_kib);
        assert!(
            grown < growth_kib,
            "memory grew by {grown} KiB, at most {growth_kib} allowed"
        );
        let log = self.broker.log();
        assert!(!log.contains("panicked"), "{log}");
        self.broker.stop().unwrap();
    }
}

/// Sends a request, and lets only those be silent that may be.
fn probe(attacker: &mut Attacker, sample: &Sample, frame: &[u8]) -> Outcome {
    let may_be_silent = MAY_BE_SILENT.contains(&sample.name.as_str());
    let outcome = attacker.send(frame, if may_be_silent { SHORT } else { PATIENCE });
    assert!(
        outcome != Outcome::Silent || may_be_silent,
        "{} version {} hangs on {frame:02x?}",
        sample.name,
        sample.version
    );
    outcome
}

#[test]
fn length_and_count_bombs_in_every_request_are_refused() {
    let arena = Arena::open("hostile-bombs");
    let mut attacker = arena.attacker();
    let (mut sent, mut closed) = (0, 0);
    for sample in samples() {
        probe(&mut attacker, &sample, &sample.frame);
        for bomb in BOMBS {
            for at in 8..=sample.frame.len().saturating_sub(bomb.len()) {
                let mut frame = sample.frame.clone();
                frame[at..at + bomb.len()].copy_from_slice(bomb);
                let outcome = probe(&mut attacker, &sample, &frame);
                sent += 1;
                closed += usize::from(outcome == Outcome::Closed);
            }
        }
    }
    println!("{sent} bombs, {closed} of them answered by closing the connection");
    arena.close(GROWTH_KIB);
}

#[test]
fn every_key_and_version_known_or_not_is_answered_or_closed() {
    let arena = Arena::open("hostile-versions");
    let mut attacker = arena.attacker();
    for key in (-1..=100).chain([i16::MAX, i16::MIN]) {
        for version in (-1..=25).chain([i16::MAX, i16::MIN]) {
            for body in [&[][..], &[0; 64]] {
                let outcome = attacker.send(&frame(key, version, body), PATIENCE);
                let silent = outcome == Outcome::Silent;
                assert!(!silent || key <= 1, "key {key} version {version} hangs");
            }
        }
    }
    arena.close(GROWTH_KIB);
}

#[test]
fn what_is_no_kafka_at_all_is_closed() {
    let arena = Arena::open("hostile-garbage");
    let mut rng = Rng::announced("garbage");
    let mut attacker = arena.attacker();
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".to_vec();
    let mut tls = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    tls.extend(rng.bytes(508));
    for bytes in [
        http,
        tls,
        b"SSH-2.0-x\r\n".to_vec(),
        vec![0; 4],
        vec![0xff; 4096],
        vec![0x7f, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(attacker.send(&bytes, PATIENCE), Outcome::Closed, "{:02x?}", &bytes[..4]);
    }
    for _ in 0..500 {
        let length = rng.index(2_000);
        let bytes = rng.bytes(length);
        arena.attacker().send_and_finish(&bytes, PATIENCE);
    }
    arena.close(GROWTH_KIB);
}

#[test]
fn half_frames_and_promised_lengths_cost_no_memory() {
    let arena = Arena::open("hostile-half");
    let attacker = arena.attacker();
    // Each promises almost the largest frame that is allowed, sends three bytes of it, and stays.
    let mut held = vec![];
    for _ in 0..200 {
        let mut stream = attacker.connect();
        stream.write_all(&[0x06, 0x00, 0x00, 0x00, 0, 3, 0]).unwrap();
        held.push(stream);
    }
    for sample in samples().iter().step_by(7) {
        for cut in [1, 3, 4, 7, 11, sample.frame.len() - 1] {
            attacker.send_and_finish(&sample.frame[..cut.min(sample.frame.len() - 1)], PATIENCE);
        }
    }
    arena.serve_honestly();
    drop(held);
    arena.close(GROWTH_KIB);
}

#[test]
fn millions_of_tagged_fields_are_not_kept() {
    let arena = Arena::open("hostile-tags");
    // ApiVersions 3: the header's tagged fields, 10 million of 2 bytes each (tag, length 0), tags ascending by 1 modulo 128.
    let mut body = vec![];
    body.extend_from_slice(&[0x80, 0xad, 0xe2, 0x04]);
    body.extend((0..10_000_000_u32).flat_map(|tag| [(tag % 128) as u8, 0]));
    let outcome = arena.attacker().send(&frame(18, 3, &body), Duration::from_secs(20));
    assert_ne!(outcome, Outcome::Silent);
    // The frame itself is 20 MB.
    arena.close(2 * 20 * 1024 + GROWTH_KIB);
}

#[test]
fn a_batch_that_would_decompress_to_half_a_gib_is_refused_before_that() {
    let arena = Arena::open("hostile-codecs");
    for (codec, mib) in [
        (Compression::Gzip, 256),
        (Compression::Lz4, 200),
        (Compression::Zstd, 512),
    ] {
        let bomb = batch(&[&vec![0; mib << 20]], codec).unwrap();
        assert!(bomb.len() < 1_000_000, "{codec:?}: {}", bomb.len());
        let (error, _) = Wire::connect(&arena.broker.bootstrap())
            .unwrap()
            .produce("honest", 0, &bomb)
            .unwrap();
        println!(
            "{codec:?}: {} bytes for {mib} MiB are answered with code {error}",
            bomb.len()
        );
        assert_ne!(error, 0, "{codec:?}: the bomb is in the log");
    }
    // A batch may unfold to 64 MiB, in a buffer that grows by doubling.
    arena.close(2 * 64 * 1024 + 16 * 1024);
}

#[test]
fn random_mutations_of_valid_requests_break_nothing() {
    let arena = Arena::open("hostile-mutations");
    let mut rng = Rng::announced("mutations");
    let mut attacker = arena.attacker();
    let samples = samples();
    let rounds = if std::env::var_os("OTTLA_LONG").is_some() {
        200_000
    } else {
        8_000
    };
    for _ in 0..rounds {
        let sample = &samples[rng.index(samples.len())];
        let frame = mutated(&mut rng, sample);
        probe(&mut attacker, sample, &frame);
    }
    arena.close(GROWTH_KIB);
}

/// One to four changes: a bit, a byte, a cut, a repetition, a bomb. The length prefix stays right.
fn mutated(rng: &mut Rng, sample: &Sample) -> Vec<u8> {
    let mut body = sample.frame[12..].to_vec();
    for _ in 0..=rng.below(3) {
        let at = rng.index(body.len().max(1));
        match rng.below(5) {
            0 if !body.is_empty() => body[at] ^= 1 << rng.below(8),
            1 if !body.is_empty() => body[at] = rng.next_u64() as u8,
            2 => body.truncate(at),
            3 => {
                let end = (at + rng.index(40)).min(body.len());
                let again = body[at.min(end)..end].to_vec();
                body.splice(at.min(body.len())..at.min(body.len()), again);
            }
            _ => {
                let bomb = BOMBS[rng.index(BOMBS.len())];
                let end = (at + bomb.len()).min(body.len());
                body.splice(at.min(end)..end, bomb.iter().copied());
            }
        }
    }
    let mut frame = sample.frame[..12].to_vec();
    frame.extend_from_slice(&body);
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}
