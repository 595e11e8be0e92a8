//! Every example runs to its end against a broker of its own, and says what its head promises.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a broken assumption ends a test

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use ottla::blocking::Consumer;
use ottla_broker::Cluster;

/// How many points `gpsraw` has.
const POINTS: usize = 4928;

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

/// Runs a member of the group `g` of the topic `gpsraw` until it has printed a line for each record, and ends it as Ctrl-C does.
/// Gives what it printed, and how far the group is then.
fn run_member(program: &str) -> (Vec<String>, String, i64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(Cluster::start()).unwrap();
    let servers = cluster.bootstrap_servers();
    let produced = Command::new(env!("CARGO_BIN_EXE_produce"))
        .arg(&servers)
        .output()
        .unwrap();
    assert!(produced.status.success());
    let mut member = Command::new(program)
        .args([&servers, "g", "gpsraw"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(member.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.take(POINTS).map(Result::unwrap).collect();
    let id = member.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = member.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let processed = runtime.block_on(async {
        let next = ottla::Consumer::builder().bootstrap_servers(&servers).group_id("g");
        let next = next.build().await.unwrap();
        let partitions = next.partitions_for("gpsraw").await.unwrap();
        let committed = next.committed(&partitions).await.unwrap();
        committed.into_values().flatten().map(|known| known.offset).sum()
    });
    runtime.block_on(cluster.stop()).unwrap();
    (lines, errors, processed)
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
fn a_member_of_a_group_reads_everything_and_leaves_on_ctrl_c() {
    let (lines, errors, processed) = run_member(env!("CARGO_BIN_EXE_group"));
    assert_eq!(lines.len(), POINTS);
    assert!(errors.contains("assigned") && errors.contains("given up"), "{errors}");
    // The records of the last poll are not processed unless another poll says so.
    assert!(processed <= POINTS as i64, "{processed}");
}

#[test]
fn workers_do_everything_and_all_that_is_done_is_committed() {
    let (lines, errors, processed) = run_member(env!("CARGO_BIN_EXE_parallel"));
    let distinct: std::collections::BTreeSet<&String> = lines.iter().collect();
    assert_eq!(distinct.len(), POINTS);
    assert_eq!(processed, POINTS as i64, "{errors}");
}

#[test]
fn positions_that_the_program_keeps_itself_count_nothing_twice() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(Cluster::start()).unwrap();
    let servers = cluster.bootstrap_servers();
    let folder = tempfile::tempdir().unwrap();
    let run = |program: &str, more: &[&std::path::Path]| {
        let output = Command::new(program).arg(&servers).args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(env!("CARGO_BIN_EXE_produce"), &[]);
    let manual = || run(env!("CARGO_BIN_EXE_manual"), &[&folder.path().join("state")]);
    assert_eq!(manual(), "4928 points more, 4928 in all\n");
    assert_eq!(manual(), "0 points more, 4928 in all\n");
    run(env!("CARGO_BIN_EXE_produce"), &[]);
    assert_eq!(manual(), "4928 points more, 9856 in all\n");
    runtime.block_on(cluster.stop()).unwrap();
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
