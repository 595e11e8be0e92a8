//! The `ottla` command as a person at a terminal meets it: a broker process, then one command after the other.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a broken assumption ends a test

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A broker process on a free port, stopped at the end.
struct BrokerProcess {
    child: Child,
    address: String,
}

impl BrokerProcess {
    fn start(arguments: &[&str]) -> BrokerProcess {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
            .arg("broker")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("bootstrap.servers=")
            .expect("the broker says where it is")
            .to_owned();
        BrokerProcess { child, address }
    }

    fn ottla(&self, arguments: &[&str]) -> Output {
        self.ottla_with_input(arguments, "")
    }

    fn ottla_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let (subcommand, rest) = arguments.split_first().unwrap();
        run(
            &[&[*subcommand, "--bootstrap-server", &self.address], rest].concat(),
            input,
        )
    }

    fn succeeds(&self, arguments: &[&str]) -> String {
        succeeded(self.ottla(arguments))
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn succeeded(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn failed(output: Output) -> String {
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn topics_are_created_listed_described_altered_and_deleted() {
    let broker = BrokerProcess::start(&[]);
    broker.succeeds(&[
        "topics",
        "--create",
        "--topic",
        "gpsraw",
        "--partitions",
        "2",
        "--config",
        "retention.ms=86400000",
    ]);
    assert_eq!(broker.succeeds(&["topics", "--list"]), "gpsraw\n");

    let described = broker.succeeds(&["topics", "--describe", "--topic", "gpsraw"]);
    assert!(
        described.contains("PartitionCount: 2") && described.contains("Configs: retention.ms=86400000"),
        "{described}"
    );

    broker.succeeds(&[
        "topics",
        "--alter",
        "--topic",
        "gpsraw",
        "--partitions",
        "3",
        "--config",
        "retention.ms=1000",
    ]);
    let described = broker.succeeds(&["topics", "--describe", "--topic", "gpsraw"]);
    assert!(
        described.contains("PartitionCount: 3") && described.contains("Configs: retention.ms=1000"),
        "{described}"
    );

    broker.succeeds(&["topics", "--delete", "--topic", "gpsraw"]);
    assert_eq!(broker.succeeds(&["topics", "--list"]), "");
}

#[test]
fn creating_twice_fails_unless_told_otherwise() {
    let broker = BrokerProcess::start(&[]);
    broker.succeeds(&["topics", "--create", "--topic", "twice"]);
    assert!(failed(broker.ottla(&["topics", "--create", "--topic", "twice"])).contains("twice"));
    broker.succeeds(&["topics", "--create", "--topic", "twice", "--if-not-exists"]);
}

#[test]
fn keys_headers_and_tombstones_arrive_as_they_were_typed() {
    let broker = BrokerProcess::start(&[]);
    broker.succeeds(&["topics", "--create", "--topic", "typed", "--partitions", "1"]);
    let produce = [
        "produce",
        "--topic",
        "typed",
        "--property",
        "parse.key=true",
        "--property",
        "parse.headers=true",
        "--property",
        "null.marker=NULL",
        "--compression-codec",
        "zstd",
    ];
    let report = broker.ottla_with_input(&produce, "a:1,a:2\tk1\tv1\nNULL\tNULL\tv2\nb:NULL\tk3\tNULL\n");
    assert!(String::from_utf8_lossy(&report.stderr).contains("3 records delivered, 0 failed"));
    succeeded(report);

    let consume = [
        "consume",
        "--topic",
        "typed",
        "--from-beginning",
        "--max-messages",
        "3",
        "--format",
        "json",
    ];
    let lines = broker.succeeds(&consume);
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let parts: Vec<_> = records
        .iter()
        .map(|record| (&record["offset"], &record["key"], &record["headers"], &record["value"]))
        .collect();
    let expected = serde_json::json!([
        [0, "k1", [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}], "v1"],
        [1, null, [], "v2"],
        [2, "k3", [{"key": "b", "value": null}], null]
    ]);
    assert_eq!(serde_json::to_value(parts).unwrap(), expected);
}

#[test]
fn consuming_begins_where_it_is_told() {
    let broker = BrokerProcess::start(&[]);
    broker.succeeds(&["topics", "--create", "--topic", "places", "--partitions", "1"]);
    succeeded(broker.ottla_with_input(&["produce", "--topic", "places"], "zero\none\ntwo\nthree\n"));
    let from = |offset: &str, most: &str| {
        broker.succeeds(&[
            "consume",
            "--topic",
            "places",
            "--partition",
            "0",
            "--offset",
            offset,
            "--max-messages",
            most,
        ])
    };
    assert_eq!(from("2", "2"), "two\nthree\n");
    assert_eq!(from("-1", "1"), "three\n");
    assert_eq!(from("earliest", "1"), "zero\n");
    assert_eq!(from("timestamp:0", "1"), "zero\n");
}

#[test]
fn what_was_not_delivered_is_counted_and_ends_with_one() {
    let broker = BrokerProcess::start(&["--override", "auto.create.topics.enable=false"]);
    broker.succeeds(&[
        "topics",
        "--create",
        "--topic",
        "tiny",
        "--partitions",
        "1",
        "--config",
        "max.message.bytes=100",
    ]);
    let long = "x".repeat(500);
    let report =
        failed(broker.ottla_with_input(&["produce", "--topic", "tiny", "--sync"], &format!("{long}\nshort\n")));
    assert!(report.contains("1 record delivered, 1 failed"), "{report}");
    assert!(report.contains("1 record not delivered"), "{report}");
}

#[test]
fn an_unknown_topic_is_answered_with_the_nearest_name() {
    let broker = BrokerProcess::start(&["--override", "auto.create.topics.enable=false"]);
    broker.succeeds(&["topics", "--create", "--topic", "gpsraw"]);
    let text = failed(broker.ottla(&["topics", "--describe", "--topic", "gpsrow"]));
    assert!(text.contains("gpsraw"), "{text}");
}

#[test]
fn old_options_are_answered_with_the_new_ones() {
    let text = failed(run(&["topics", "--zookeeper", "localhost:2181", "--list"], ""));
    assert!(text.contains("--bootstrap-server"), "{text}");
    let broker = BrokerProcess::start(&[]);
    assert_eq!(
        succeeded(run(&["topics", "--broker-list", &broker.address, "--list"], "")),
        ""
    );
}

#[test]
fn a_refused_connection_names_the_address() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let address = free.to_string();
    let arguments = [
        "topics",
        "--bootstrap-server",
        &address,
        "--list",
        "--property",
        "default.api.timeout.ms=2000",
    ];
    let text = failed(run(&arguments, ""));
    assert!(text.contains(&address) && text.contains("refused"), "{text}");
}

#[test]
fn a_misspelt_broker_key_is_answered_with_the_nearest() {
    let text = failed(run(&["broker", "--override", "num.partition=2"], ""));
    assert!(text.contains("num.partitions"), "{text}");
}

#[test]
fn perf_writes_and_reads_all_its_records() {
    let broker = BrokerProcess::start(&[]);
    broker.succeeds(&["topics", "--create", "--topic", "load", "--partitions", "2"]);
    let address = broker.address.as_str();
    let perf = |what: &str| {
        succeeded(run(
            &[
                "perf",
                what,
                "--bootstrap-server",
                address,
                "--topic",
                "load",
                "--num-records",
                "20000",
            ],
            "",
        ))
    };
    assert!(perf("produce").contains("20,000 records written"));
    assert!(perf("consume").contains("20,000 records read"));
}

#[test]
fn the_demonstration_holds_the_order_of_every_track() {
    let table = succeeded(run(&["demo"], ""));
    assert_eq!(table.matches(" yes").count(), 4, "{table}");
}
