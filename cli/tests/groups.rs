//! Consumer groups at the command line: members, what they commit, and what is done to their offsets from outside.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a broken assumption ends a test

#[path = "support/maps.rs"]
mod maps;
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use maps::consume;
use support::{BrokerProcess, failed, run, signal, succeeded};

/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker with `records` records in `gpsraw`.
fn broker_with(partitions: &str, records: usize) -> BrokerProcess {
    let broker = maps::broker(partitions);
    produce(&broker, "gpsraw", records);
    broker
}

fn produce(broker: &BrokerProcess, topic: &str, records: usize) {
    let lines: String = (0..records).map(|number| format!("key-{number}:{number}\n")).collect();
    let keyed = ["--property", "parse.key=true", "--property", "key.separator=:"];
    succeeded(broker.ottla_with_input(&[&["produce", "--topic", topic], &keyed[..]].concat(), &lines));
}

fn numbers(range: std::ops::Range<usize>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

/// The cells of the rows below the heading.
fn cells(table: &str) -> Vec<Vec<&str>> {
    let rows = table.lines().skip(1);
    rows.map(|row| row.split_whitespace().collect()).collect()
}

/// CURRENT-OFFSET, LOG-END-OFFSET and LAG of each partition.
fn offsets(broker: &BrokerProcess) -> Vec<Vec<String>> {
    let table = broker.succeeds(&["groups", "--describe", "--group", "maps"]);
    let rows = cells(&table).into_iter();
    rows.map(|row| row[3..6].iter().map(|cell| (*cell).to_owned()).collect())
        .collect()
}

fn reset(broker: &BrokerProcess, more: &[&str]) -> String {
    let first = ["groups", "--reset-offsets", "--group", "maps"];
    broker.succeeds(&[&first, more].concat())
}

/// A member in a process of its own, stopped at the end.
struct Member(Child);

impl Member {
    fn start(broker: &BrokerProcess, more: &[&str]) -> Member {
        let first = ["consume", "--bootstrap-server", &broker.address, "--group", "maps"];
        let properties = [
            "--consumer-property",
            "heartbeat.interval.ms=100",
            "--consumer-property",
            "client.id=tracker",
        ];
        let child = Command::new(env!("CARGO_BIN_EXE_ottla"))
            .args(first)
            .args(properties)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Member(child.unwrap())
    }

    /// The lines of its standard output, until they are as many or it has ended.
    fn lines(&mut self, count: usize) -> Vec<String> {
        let output = BufReader::new(self.0.stdout.take().unwrap());
        output.lines().take(count).map(Result::unwrap).collect()
    }

    /// Waits until it says that something was assigned to it.
    fn assigned(&mut self) {
        let mut told = BufReader::new(self.0.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("assigned: ") {
            line.clear();
            assert!(
                told.read_line(&mut line).unwrap() > 0,
                "it ended before anything was assigned"
            );
        }
        // The rest is read as well: a full pipe would hold it up.
        std::thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
    }

    /// Ctrl-C.
    fn stop(mut self) {
        signal(&self.0, "-INT");
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks again until the answer fits.
fn wait_until(what: &str, mut ask: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !ask() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_member_commits_what_it_printed_and_the_next_one_goes_on_there() {
    let broker = broker_with("1", 10);
    assert_eq!(consume(&broker, "4"), numbers(0..4));
    assert_eq!(offsets(&broker), [["4", "10", "6"]]);
    assert_eq!(consume(&broker, "6"), numbers(4..10));
    assert_eq!(offsets(&broker), [["10", "10", "0"]]);
}

#[test]
fn a_group_reads_several_topics_and_those_that_a_pattern_matches() {
    let broker = broker_with("1", 2);
    broker.succeeds(&["topics", "--create", "--topic", "gpsclean", "--partitions", "1"]);
    produce(&broker, "gpsclean", 2);
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let end = ["--from-beginning", "--max-messages", "4"];
    let named = [
        "consume", "--group", "named", "--topic", "gpsraw", "--topic", "gpsclean",
    ];
    assert_eq!(
        sorted(broker.succeeds(&[&named[..], &end].concat())),
        ["0", "0", "1", "1"]
    );
    let pattern = ["consume", "--group", "pattern", "--include", "gps.*"];
    assert_eq!(
        sorted(broker.succeeds(&[&pattern[..], &end].concat())),
        ["0", "0", "1", "1"]
    );
}

#[test]
fn options_that_contradict_a_group_are_refused() {
    for wrong in [
        &["--group", "g", "--topic", "t", "--partition", "0"][..],
        &["--include", "t"],
        &["--group", "g"],
    ] {
        let output = run(&[&["consume"], wrong].concat(), "");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn groups_are_listed_and_described_with_their_members() {
    let broker = broker_with("2", 0);
    let mut member = Member::start(&broker, &["--topic", "gpsraw"]);
    member.assigned();
    assert_eq!(broker.succeeds(&["groups", "--list"]), "maps\n");
    let listed = |more: &[&str]| broker.succeeds(&[&["groups", "--list"], more].concat());
    let table = listed(&["--state", "--type"]);
    assert_eq!(
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["GROUP", "TYPE", "STATE"]
    );
    assert_eq!(cells(&table), [["maps", "classic", "Stable"]]);
    assert_eq!(cells(&listed(&["--state", "Empty"])), [[""; 0]; 0]);
    assert_eq!(cells(&listed(&["--state", "stable,Empty"])).len(), 1);

    let describe = |more: &[&str]| broker.succeeds(&[&["groups", "--describe", "--group", "maps"], more].concat());
    let table = describe(&["--members", "--verbose"]);
    let rows = cells(&table);
    assert!(rows[0][1].starts_with("tracker-"), "{table}");
    assert_eq!(
        (rows[0][2], rows[0][4], rows[0][5], rows[0][7]),
        ("-", "tracker", "2", "gpsraw:0,1"),
        "{table}"
    );
    assert_eq!(cells(&describe(&["--state"])), [["maps", "1", "range", "Stable", "1"]]);
    let table = describe(&["--offsets"]);
    assert_eq!(cells(&table)[1][..6], ["maps", "gpsraw", "1", "-", "0", "-"], "{table}");
    assert_eq!(cells(&table)[1][8], "tracker", "{table}");
    member.stop();

    assert_eq!(cells(&describe(&["--state"]))[0][3..], ["Empty", "0"]);
    let text = failed(broker.ottla(&["groups", "--describe", "--group", "mpas"]));
    assert!(text.contains("\"mpas\" does not exist"), "{text}");
}

#[test]
fn offsets_of_a_group_in_use_are_not_reset_and_it_is_not_deleted() {
    let broker = broker_with("1", 5);
    assert_eq!(consume(&broker, "2"), numbers(0..2));
    let mut member = Member::start(&broker, &["--topic", "gpsraw"]);
    assert_eq!(member.lines(3), ["2", "3", "4"]);
    let arguments = [
        "groups",
        "--reset-offsets",
        "--group",
        "maps",
        "--topic",
        "gpsraw",
        "--to-earliest",
        "--execute",
    ];
    let output = broker.ottla(&arguments);
    assert!(output.stdout.is_empty());
    let text = failed(output);
    for part in ["\"maps\" is in use", "Stable", "tracker", "stop them first"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = failed(broker.ottla(&["groups", "--delete", "--group", "maps"]));
    assert!(text.contains("maps"), "{text}");
    let text = failed(broker.ottla(&["groups", "--delete-offsets", "--group", "maps", "--topic", "gpsraw"]));
    assert!(text.contains("stop it first"), "{text}");
    member.stop();
    wait_until("the offsets were committed at the end", || {
        offsets(&broker) == [["5", "5", "0"]]
    });
    succeeded(broker.ottla(&arguments));
    assert_eq!(offsets(&broker), [["0", "5", "5"]]);
}

#[test]
fn offsets_go_where_they_are_told_and_only_with_execute() {
    let broker = broker_with("1", 10);
    assert_eq!(consume(&broker, "10"), numbers(0..10));
    let everything = ["--all-topics"];
    let moved = |place: &[&str]| {
        let table = reset(&broker, &[place, &everything, &["--execute"]].concat());
        let rows = cells(&table);
        let offset = rows[0][3].to_owned();
        assert_eq!(offsets(&broker)[0][0], offset, "{table}");
        offset
    };
    let output = broker.ottla(&[
        "groups",
        "--reset-offsets",
        "--group",
        "maps",
        "--topic",
        "gpsraw:0",
        "--to-offset",
        "3",
    ]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("add --execute"));
    assert_eq!(cells(&succeeded(output)), [["maps", "gpsraw", "0", "3"]]);
    assert_eq!(offsets(&broker)[0][0], "10");

    assert_eq!(moved(&["--to-offset", "3"]), "3");
    assert_eq!(moved(&["--shift-by", "-2"]), "1");
    assert_eq!(moved(&["--to-latest"]), "10");
    assert_eq!(moved(&["--to-offset", "99"]), "10");
    assert_eq!(moved(&["--to-datetime", "2001-01-01T00:00:00Z"]), "0");
    assert_eq!(moved(&["--to-datetime", "2999-01-01T00:00:00"]), "10");
    assert_eq!(moved(&["--by-duration", "PT1H"]), "0");
    assert_eq!(moved(&["--to-current"]), "0");
    assert_eq!(moved(&["--to-latest"]), "10");
    assert_eq!(moved(&["--to-earliest"]), "0");
    assert_eq!(consume(&broker, "10"), numbers(0..10));
}

#[test]
fn exported_offsets_come_back_from_a_file_also_to_another_group() {
    let broker = broker_with("1", 10);
    consume(&broker, "7");
    let lines = reset(&broker, &["--all-topics", "--to-current", "--export"]);
    assert_eq!(lines, "gpsraw,0,7\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("offsets.csv");
    std::fs::write(&file, lines).unwrap();
    let arguments = [
        "groups",
        "--reset-offsets",
        "--group",
        "others",
        "--execute",
        "--from-file",
        file.to_str().unwrap(),
    ];
    assert_eq!(cells(&broker.succeeds(&arguments)), [["others", "gpsraw", "0", "7"]]);
    let next = [
        "consume",
        "--group",
        "others",
        "--topic",
        "gpsraw",
        "--max-messages",
        "3",
    ];
    assert_eq!(broker.succeeds(&next), numbers(7..10));
}

#[test]
fn what_a_reset_lacks_is_told_before_anybody_is_asked() {
    let told = |more: &[&str]| {
        failed(run(
            &[&["groups", "--reset-offsets", "--group", "g"], more].concat(),
            "",
        ))
    };
    assert!(told(&["--all-topics"]).contains("--to-earliest"));
    assert!(told(&["--to-latest"]).contains("--all-topics"));
    assert!(told(&["--all-topics", "--to-datetime", "yesterday"]).contains("YYYY-MM-DD"));
    assert!(told(&["--topic", "t:x", "--to-latest"]).contains("--topic t:x"));
}

#[test]
fn offsets_and_groups_are_deleted() {
    let broker = broker_with("2", 10);
    consume(&broker, "10");
    let delete = ["groups", "--delete-offsets", "--group", "maps", "--topic", "gpsraw:1"];
    assert_eq!(cells(&broker.succeeds(&delete)), [["gpsraw", "1", "Successful"]]);
    assert_eq!(offsets(&broker).len(), 1);
    assert_eq!(
        broker.succeeds(&["groups", "--delete", "--group", "maps"]),
        "Deleted group maps.\n"
    );
    assert_eq!(broker.succeeds(&["groups", "--list"]), "");
    assert!(failed(broker.ottla(&["groups", "--delete", "--group", "maps"])).contains("does not exist"));
}
