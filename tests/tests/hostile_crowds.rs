//! Crowds of connections against the running process `ottla broker`: idle ones, ones that write a byte at a time, ones
//! that never read.
//!
//! Nobody else notices: the honest client's requests keep completing, and the memory of a connection has a bound.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use ottla_protocol::frame;
use ottla_protocol::messages::FetchRequest;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla_protocol::records::Compression;
use ottla_tests::hostile::{Arena, GROWTH_KIB, frame as request};
use ottla_tests::place;
use ottla_tests::wire::{Wire, batch};

/// Connections in a crowd.
const CROWD: usize = 2_000;
/// What one connection that does nothing may take: its task and two empty buffers, and what it once needed.
const IDLE_KIB: u64 = 16;

fn crowd(arena: &Arena, size: usize) -> Vec<TcpStream> {
    let attacker = arena.attacker();
    (0..size).map(|_| attacker.connect()).collect()
}

/// A crowd that was served once: whoever has not said a word is closed after a while.
fn greeted_crowd(arena: &Arena, size: usize) -> Vec<TcpStream> {
    let attacker = arena.attacker();
    let greet = |_| {
        let mut stream = attacker.connect();
        stream.write_all(&hello()).unwrap();
        assert!(read_answer(&mut stream) > 80);
        stream
    };
    (0..size).map(greet).collect()
}

/// ApiVersions 0.
fn hello() -> Vec<u8> {
    request(18, 0, &[])
}

fn read_answer(stream: &mut TcpStream) -> usize {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    answer.len()
}

#[test]
fn two_thousand_idle_connections_hinder_nobody() {
    let arena = Arena::open("hostile-idle");
    // One half never says a word, the other was served once.
    let silent = crowd(&arena, CROWD / 2);
    let mut held = greeted_crowd(&arena, CROWD / 2);
    (0..5).for_each(|_| arena.serve_honestly());
    let grown = arena.grown_kib();
    println!(
        "{CROWD} idle connections: {grown} KiB, {} bytes each",
        grown * 1024 / CROWD as u64
    );
    assert!(grown < CROWD as u64 * IDLE_KIB, "grew by {grown} KiB");
    // They are served as before.
    for stream in &mut held {
        stream.write_all(&hello()).unwrap();
        assert!(read_answer(stream) > 80);
    }
    drop((silent, held));
    arena.close(CROWD as u64 * IDLE_KIB + GROWTH_KIB);
}

#[test]
fn two_thousand_writers_of_a_byte_at_a_time_hinder_nobody() {
    let arena = Arena::open("hostile-slow");
    let mut held = greeted_crowd(&arena, CROWD);
    let hello = hello();
    for (at, byte) in hello.iter().enumerate() {
        for stream in &mut held {
            stream.write_all(&[*byte]).unwrap();
        }
        if at % 5 == 0 {
            arena.serve_honestly();
        }
    }
    for stream in &mut held {
        assert!(read_answer(stream) > 80);
    }
    let grown = arena.grown_kib();
    println!(
        "{CROWD} slow writers: {grown} KiB, {} bytes each",
        grown * 1024 / CROWD as u64
    );
    drop(held);
    arena.close(CROWD as u64 * IDLE_KIB);
}

#[test]
fn whoever_never_reads_is_not_answered_without_end() {
    let arena = Arena::open("hostile-unread");
    let bootstrap = arena.broker.bootstrap();
    let mut wire = Wire::connect(&bootstrap).unwrap();
    wire.create_topic("large", 1).unwrap();
    for _ in 0..4 {
        let batch = batch(&[&vec![7; 900_000]], Compression::None).unwrap();
        assert_eq!(wire.produce("large", 0, &batch).unwrap().0, 0);
    }
    let partition = FetchPartition {
        current_leader_epoch: -1,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic = FetchTopic {
        topic: "large",
        partitions: vec![partition],
        ..FetchTopic::default()
    };
    let fetch = FetchRequest {
        replica_id: -1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..FetchRequest::default()
    };
    let fetch = frame::encode_request(12, 1, Some("unread"), &fetch).unwrap().into_vec();
    // 900 MB of answers are asked for on each of ten connections.
    let fetches = fetch.repeat(1_000);
    let mut held = crowd(&arena, 10);
    for stream in &mut held {
        stream.set_nonblocking(true).unwrap();
        // What does not fit into the socket's buffers any more was not taken: that is the point.
        let _ = stream.write(&fetches);
    }
    (0..5).for_each(|_| arena.serve_honestly());
    let grown = arena.grown_kib();
    println!("10 connections that never read: {grown} KiB, {} each", grown / 10);
    // Answers that wait may take 4 MiB and one answer more, and they are mostly views of the log's own tail.
    assert!(grown < 10 * 5 * 1024 + GROWTH_KIB, "grew by {grown} KiB");
    // Whoever reads after all gets all of it, in order.
    let mut stream = held.swap_remove(0);
    stream.set_nonblocking(false).unwrap();
    for _ in 0..100 {
        assert!(read_answer(&mut stream) > 900_000);
    }
    drop((held, stream));
    arena.close(10 * 5 * 1024 + GROWTH_KIB);
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_goes() {
    let mut process = Command::new("sh")
        .args(["-c", "ulimit -Sn 128; ulimit -Hn 4096; exec \"$0\" broker"])
        .arg(place::ottla_command())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.trim().strip_prefix("bootstrap.servers=").unwrap().to_owned();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let mut held = vec![];
    for _ in 0..500 {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(&hello()).unwrap();
        assert!(read_answer(&mut stream) > 80);
        held.push(stream);
    }
    Command::new("kill").arg(process.id().to_string()).status().unwrap();
    let mut log = String::new();
    process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(process.wait().unwrap().success(), "{log}");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = files
        .split_whitespace()
        .filter(|word| word.parse::<u64>().is_ok())
        .collect();
    assert_eq!(numbers, ["4096", "4096"], "{files}");
    assert!(
        log.contains("4096") && log.contains("ulimit"),
        "few files are worth a line: {log}"
    );
}
