//! Every example runs to its end against a broker of its own, and says what its head promises.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a broken assumption ends a test

use std::process::Command;

use ottla::blocking::Consumer;
use ottla_broker::Cluster;

/// Runs an example. Gives what it printed, and the records of `topic` afterwards: value and number of headers.
fn run(program: &str, topic: &str) -> (String, Vec<(String, usize)>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(Cluster::start()).unwrap();
    let servers = cluster.bootstrap_servers();
    let output = Command::new(program).arg(&servers).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let records = read(&servers, topic);
    runtime.block_on(cluster.stop()).unwrap();
    (String::from_utf8(output.stdout).unwrap(), records)
}

fn read(servers: &str, topic: &str) -> Vec<(String, usize)> {
    let builder = Consumer::builder().bootstrap_servers(servers);
    let mut consumer = builder.auto_offset_reset("earliest").build().unwrap();
    let partitions = consumer.partitions_for(topic).unwrap();
    let count: i64 = consumer.end_offsets(&partitions).unwrap().values().sum();
    consumer.assign(&partitions).unwrap();
    let mut records = Vec::new();
    while records.len() < count as usize {
        for record in &consumer.poll().unwrap().unwrap() {
            let value = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
            records.push((value, record.headers().count()));
        }
    }
    records
}

fn distinct(records: &[(String, usize)]) -> usize {
    let values: std::collections::BTreeSet<&str> = records.iter().map(|(value, _)| value.as_str()).collect();
    values.len()
}

#[test]
fn at_most_once_writes_nothing_twice() {
    let (text, records) = run(env!("CARGO_BIN_EXE_at_most_once"), "temperature");
    assert_eq!(text, "1000 delivered, 0 lost, 0 perhaps lost; none written twice\n");
    assert_eq!((records.len(), distinct(&records)), (1000, 1000));
}

#[test]
fn at_least_once_writes_every_order() {
    let (text, records) = run(env!("CARGO_BIN_EXE_at_least_once"), "orders");
    assert_eq!(text, "1000 orders written, 0 of them perhaps twice\n");
    assert_eq!(distinct(&records), 1000);
}

#[test]
fn exactly_once_writes_every_booking_once() {
    let (text, records) = run(env!("CARGO_BIN_EXE_exactly_once"), "bookings");
    assert_eq!(text, "1000 bookings written once and in order, 0 in doubt\n");
    assert_eq!((records.len(), distinct(&records)), (1000, 1000));
}

#[test]
fn the_blocking_program_reads_what_its_threads_wrote() {
    let (text, records) = run(env!("CARGO_BIN_EXE_blocking"), "blocking");
    assert_eq!(text, "1000 delivered, 1000 read\n");
    assert_eq!((records.len(), distinct(&records)), (1000, 4));
}

#[test]
fn the_observer_gives_each_record_its_header() {
    let (text, records) = run(env!("CARGO_BIN_EXE_observer"), "audited");
    assert!(text.starts_with("100 acknowledged\n"), "{text}");
    assert_eq!(records.len(), 100);
    assert!(records.iter().all(|(_, headers)| *headers == 1));
}

#[test]
fn the_tracks_are_written_in_full() {
    let (text, records) = run(env!("CARGO_BIN_EXE_produce"), "gpsraw");
    assert!(text.ends_with("4928 delivered, 0 failed, 0 unknown\n"), "{text}");
    assert_eq!(records.len(), 4928);
}

#[test]
fn examples_fit_on_a_page() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        // The ones with the tracks and with workers are programs, not lessons.
        let most = if path.ends_with("produce.rs") || path.ends_with("parallel.rs") {
            70
        } else {
            60
        };
        assert!(lines <= most, "{}: {lines} lines", path.display());
    }
}
