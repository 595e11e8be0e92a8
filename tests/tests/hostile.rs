//! Hostile bytes against the running process `ottla broker`.
//!
//! Whatever comes, the broker answers with an error or closes the connection: it does not panic, does not hang, does not
//! allocate what a length or a count merely promises, and still serves an honest client afterwards.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::time::Duration;

use ottla_broker::served_apis;
use ottla_protocol::ApiKey;
use ottla_protocol::records::Compression;
use ottla_protocol_generate::load;
use ottla_protocol_generate::sample::{Count, sample_with_unknown_tags};
use ottla_protocol_generate::schema::{Kind, Message};
use ottla_tests::hostile::{Arena, Attacker, BOMBS, GROWTH_KIB, Outcome, Sample, frame, framed, samples};
use ottla_tests::place;
use ottla_tests::rng::Rng;
use ottla_tests::wire::{Wire, batch};

const PATIENCE: Duration = Duration::from_secs(20);
/// Fetch may wait as long as it is told to, and Produce with acks=0 has no answer.
const SHORT: Duration = Duration::from_millis(30);
const MAY_BE_SILENT: [&str; 2] = ["Fetch", "Produce"];
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
fn every_count_and_length_of_every_served_request_may_lie() {
    let arena = Arena::open("hostile-counts");
    let release = load(&[place::peer("kafka-4.4.0")]).unwrap();
    let mut attacker = arena.attacker();
    let (mut lies, mut positions) = (0, 0);
    for api in served_apis() {
        let is_it = |message: &&Message| message.kind == Kind::Request && message.api_key == Some(api.key.code());
        let message = release.messages.iter().find(is_it).unwrap();
        for version in api.min_version..=api.max_version {
            let header = header(api.key, version);
            // An array may be empty and a field null: several samples reach what one does not.
            for seed in 0..4 {
                let sample = sample_with_unknown_tags(message, version, seed);
                let places = sample.counts.iter().map(|count| Count {
                    offset: count.offset + header.bytes.len(),
                    ..*count
                });
                let whole = [&header.bytes[..], &sample.bytes].concat();
                for place in header.counts.iter().copied().chain(places) {
                    positions += 1;
                    for lie in lies_about(place) {
                        let mut bytes = whole[..place.offset].to_vec();
                        bytes.extend_from_slice(lie);
                        bytes.extend_from_slice(&whole[place.offset + place.width..]);
                        let outcome = attacker.send(&framed(&bytes), PATIENCE);
                        assert_eq!(outcome, Outcome::Closed, "{} v{version} {place:?}", message.name);
                        lies += 1;
                    }
                }
            }
        }
    }
    println!("{lies} lies at {positions} positions");
    arena.close(GROWTH_KIB);
}

struct Header {
    bytes: Vec<u8>,
    counts: Vec<Count>,
}

/// The header before a request, and where it counts: the client id, and the tagged fields of flexible versions.
fn header(key: ApiKey, version: i16) -> Header {
    let mut bytes = frame(key.code(), version, &[])[4..].to_vec();
    let mut counts = vec![Count {
        offset: 8,
        width: 2,
        compact: false,
    }];
    if key.request_header_version(version) >= 2 {
        for compact in [1, 2] {
            // One unknown field of one byte, behind its tag.
            counts.push(Count {
                offset: bytes.len() + 2 * (compact - 1),
                width: 1,
                compact: true,
            });
        }
        bytes.extend_from_slice(&[1, 100, 1, 9]);
    }
    Header { bytes, counts }
}

fn lies_about(place: Count) -> &'static [&'static [u8]] {
    match (place.compact, place.width) {
        (true, _) => &[
            &[0x80, 0x80, 0x80, 0x80, 0x08],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0xff, 0xff, 0xff, 0xff, 0xff],
        ],
        (false, 2) => &[&[0x7f, 0xff]],
        (false, _) => &[&[0x7f, 0xff, 0xff, 0xff], &[0x7f, 0, 0, 0]],
    }
}

#[test]
fn millions_of_tagged_fields_are_not_kept() {
    let arena = Arena::open("hostile-tags");
    let count = [0x80, 0xad, 0xe2, 0x04];
    // 10 million of 2 bytes each: tag, length 0.
    let tags: Vec<u8> = (0..10_000_000_u32).flat_map(|tag| [(tag % 128) as u8, 0]).collect();
    let places: [(i16, i16, &[u8]); 3] = [
        (18, 3, &[]),                                           // ApiVersions: in the header
        (3, 12, &[0, 0, 1, 0]),                                 // Metadata: after no topics and two flags
        (3, 12, &[&[0, 2][..], &[7; 16], &[2, b't']].concat()), // in its first topic
    ];
    for (key, version, before) in places {
        let outcome = arena
            .attacker()
            .send(&frame(key, version, &[before, &count, &tags].concat()), PATIENCE);
        assert_ne!(outcome, Outcome::Silent);
    }
    // The frame itself is 20 MB, and the buffer it arrives in doubles.
    arena.close(2 * 20 * 1024 + GROWTH_KIB);
}

#[test]
fn a_frame_of_minimal_elements_takes_no_more_than_its_size() {
    let arena = Arena::open("hostile-minimal");
    // Topics without a name: 2 bytes each in Metadata 1, 32 in memory.
    let count = 20_000_000_u32;
    let mut body = count.to_be_bytes().to_vec();
    body.resize(body.len() + 2 * count as usize, 0);
    assert_eq!(arena.attacker().send(&frame(3, 1, &body), PATIENCE), Outcome::Closed);
    arena.close(2 * 40 * 1024 + GROWTH_KIB);
}

const CODECS: [(Compression, usize); 4] = [
    (Compression::Gzip, 256),
    (Compression::Lz4, 200),
    (Compression::Zstd, 512),
    // One to twenty-one is the best it can do, and a batch has 1 MiB at most.
    (Compression::Snappy, 19),
];

#[test]
fn batches_unfold_in_bounded_memory_whatever_they_unfold_to() {
    let arena = Arena::open("hostile-codecs");
    let bootstrap = arena.broker.bootstrap();
    Wire::connect(&bootstrap).unwrap().create_topic("bombs", 1).unwrap();
    let send = |bomb: &[u8]| Wire::connect(&bootstrap).unwrap().produce("bombs", 0, bomb).unwrap().0;
    for (codec, mib) in CODECS {
        let bomb = batch(&[&vec![0; mib << 20]], codec).unwrap();
        let error = send(&bomb);
        println!(
            "{codec:?}: {} bytes for {mib} MiB are answered with code {error}",
            bomb.len()
        );
        assert_eq!(error == 0, mib < 64, "{codec:?}: code {error}");
        // One record of almost all that is allowed, and many records of the same.
        let most = mib.min(63) << 20;
        assert_eq!(send(&batch(&[&vec![0; most]], codec).unwrap()), 0, "{codec:?}");
        let many = vec![&[0; 1 << 14][..]; most >> 15];
        assert_eq!(send(&batch(&many, codec).unwrap()), 0, "{codec:?}");
    }
    let zeros = vec![0; 100 << 20];
    let bombs: Vec<Vec<u8>> = CODECS
        .iter()
        .map(|(codec, mib)| batch(&[&zeros[..mib.min(&100) << 20]], *codec).unwrap())
        .collect();
    // A crowd of bombs at once costs no more than one.
    std::thread::scope(|scope| {
        for bomb in bombs.iter().cycle().take(16) {
            scope.spawn(move || send(bomb));
        }
    });
    arena.close(GROWTH_KIB);
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
