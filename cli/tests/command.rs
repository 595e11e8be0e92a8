//! The `ottla` command as a person at a terminal meets it: a broker process, then one command after the other.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a broken assumption ends a test

mod support;

use std::io::Write;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use support::{BrokerProcess, failed, run, signal, succeeded};

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
fn the_number_of_partitions_of_the_offsets_topic_stays() {
    let broker = BrokerProcess::start(&[]);
    let alter = [
        "topics",
        "--alter",
        "--topic",
        "__consumer_offsets",
        "--partitions",
        "60",
    ];
    assert!(failed(broker.ottla(&alter)).contains("cannot be changed"));
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
fn perf_writes_a_files_values_after_warming_up_and_prints_metrics() {
    let broker = BrokerProcess::start(&[]);
    broker.succeeds(&["topics", "--create", "--topic", "values", "--partitions", "1"]);
    let folder = tempfile::tempdir().unwrap();
    let values = folder.path().join("values");
    std::fs::write(&values, "red;green;blue;").unwrap();
    let address = broker.address.as_str();
    let perf = |more: &[&str]| {
        let first = ["perf", "produce", "--bootstrap-server", address, "--topic", "values"];
        succeeded(run(&[&first, more].concat(), ""))
    };
    let text = perf(&[
        "--num-records",
        "300",
        "--warmup-records",
        "100",
        "--payload-file",
        values.to_str().unwrap(),
        "--payload-delimiter",
        ";",
        "--command-property",
        "linger.ms=1",
        "client.id=loaded",
        "--print-metrics",
    ]);
    for part in [
        "100 records written",
        "steady state:",
        "200 records written",
        "ms 99.9th",
        "ottla_producer_records_delivered_total{client_id=\"loaded\"} 300",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let lines = broker.succeeds(&[
        "consume",
        "--topic",
        "values",
        "--from-beginning",
        "--max-messages",
        "300",
    ]);
    assert!(lines.lines().all(|line| ["red", "green", "blue"].contains(&line)));
    assert!(perf(&["--num-records", "3", "--payload-monotonic"]).contains("3 records written"));
    let from = [
        "consume",
        "--topic",
        "values",
        "--partition",
        "0",
        "--offset",
        "300",
        "--max-messages",
        "3",
    ];
    assert_eq!(broker.succeeds(&from), "0\n1\n2\n");
}

#[test]
fn one_broker_of_the_list_that_answers_is_enough() {
    let broker = BrokerProcess::start(&[]);
    let servers = format!("127.0.0.1:1,{}", broker.address);
    let arguments = ["produce", "--bootstrap-server", &servers, "--topic", "listed", "--sync"];
    let report = run(&arguments, "one\ntwo\n");
    assert!(String::from_utf8_lossy(&report.stderr).contains("2 records delivered, 0 failed, 0 unknown"));
    succeeded(report);
}

#[test]
fn settings_come_from_a_file_then_from_properties_then_from_options() {
    let broker = BrokerProcess::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("producer.properties");
    std::fs::write(
        &config,
        "# small\nmax.request.size=10\nenable.idempotence=true\nacks=0\n",
    )
    .unwrap();
    let config = config.to_str().unwrap();
    let produce = |more: &[&str]| broker.ottla_with_input(&[&["produce", "--topic", "set"], more].concat(), "a line\n");
    let text = failed(produce(&["--producer.config", config]));
    assert!(text.contains("enable.idempotence=true needs acks=all"), "{text}");
    // An option counts more than the file and a property.
    let acks = ["--producer-property", "acks=1", "--request-required-acks", "all"];
    let text = failed(produce(&[&["--command-config", config], &acks[..]].concat()));
    assert!(
        text.contains("max.request.size (10)") && text.contains("0 records delivered, 1 failed"),
        "{text}"
    );
    // A property counts more than the file, and the last one of a kind counts.
    let size = [
        "--command-property",
        "max.request.size=5",
        "--command-property",
        "max.request.size=1000",
    ];
    succeeded(produce(&[&["--command-config", config], &acks[..], &size].concat()));
    let options = [
        "--request-required-acks",
        "1",
        "--message-send-max-retries",
        "3",
        "--retry-backoff-ms",
        "10",
        "--timeout",
        "0",
        "--max-block-ms",
        "5000",
    ];
    succeeded(produce(&options));
    let text = failed(produce(&["--request-required-acks", "2"]));
    assert!(text.contains("acks"), "{text}");
}

#[test]
fn a_reader_file_says_how_lines_are_cut_and_the_command_line_wins() {
    let broker = BrokerProcess::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("reader.properties");
    std::fs::write(&config, "parse.key=true\nkey.separator=:\n").unwrap();
    let config = config.to_str().unwrap();
    let produce = ["produce", "--topic", "cut", "--reader-config", config];
    succeeded(broker.ottla_with_input(&produce, "k:v\n"));
    let other = [&produce[..], &["--reader-property", "key.separator=;"]].concat();
    succeeded(broker.ottla_with_input(&other, "k:;v\n"));
    let consume = ["consume", "--topic", "cut", "--from-beginning", "--max-messages", "2"];
    let lines = broker.succeeds(&[&consume[..], &["--property", "print.key=true"]].concat());
    assert_eq!(lines, "k\tv\nk:\tv\n");
}

/// Stops a process until it is told to go on (`-CONT`), and waits until it stands: a busy machine takes its time.
fn freeze(child: &Child) {
    signal(child, "-STOP");
    let state = || {
        let output = Command::new("ps")
            .args(["-o", "state=", "-p", &child.id().to_string()])
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    while !state().trim_start().starts_with('T') {
        std::thread::yield_now();
    }
}

/// A producer at a terminal, and what it has been given.
fn typing(broker: &BrokerProcess, more: &[&str]) -> Child {
    let first = [
        "produce",
        "--bootstrap-server",
        &broker.address,
        "--topic",
        "typed",
        "--timeout",
        "0",
    ];
    let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(first)
        .args(more)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
    let consume = ["consume", "--topic", "typed", "--from-beginning", "--max-messages", "1"];
    assert_eq!(broker.succeeds(&consume), "one\n");
    child
}

#[test]
fn ctrl_c_ends_the_reading_and_reports_what_was_sent() {
    let broker = BrokerProcess::start(&[]);
    broker.succeeds(&["topics", "--create", "--topic", "typed", "--partitions", "1"]);
    let child = typing(&broker, &[]);
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("1 record delivered, 0 failed, 0 unknown"), "{text}");
    assert!(output.status.success(), "{text}");
}

#[test]
fn a_record_whose_answer_never_came_is_counted_as_unknown() {
    let broker = BrokerProcess::start(&[]);
    broker.succeeds(&["topics", "--create", "--topic", "typed", "--partitions", "1"]);
    let limits = [
        "--request-timeout-ms",
        "3000",
        "--producer-property",
        "delivery.timeout.ms=8000",
    ];
    let mut child = typing(&broker, &limits);
    freeze(&broker.child);
    child.stdin.take().unwrap().write_all(b"two\n").unwrap();
    let output = child.wait_with_output().unwrap();
    signal(&broker.child, "-CONT");
    let text = failed(output);
    assert!(text.contains("1 record delivered, 0 failed, 1 unknown"), "{text}");
    assert!(
        text.contains("1 record not delivered (1 of them possibly written)"),
        "{text}"
    );
}

#[test]
fn the_demonstration_holds_the_order_of_every_track() {
    let table = succeeded(run(&["demo"], ""));
    assert_eq!(table.matches(" yes").count(), 4, "{table}");
    // One of the two readers leaves, and the other goes on with its partition.
    assert!(
        table.contains("b left after 100 points, a goes on with gpsraw-1"),
        "{table}"
    );
    assert!(table.contains("4,828 by a, 100 by b"), "{table}");
    assert!(table.contains("2 of 2 partitions to their ends"), "{table}");
}
