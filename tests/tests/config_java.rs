//! The rules by which a producer is idempotent or refused, against those of Kafka's own class in the pinned jar.

#![allow(clippy::unwrap_used)] // a broken assumption ends a test

use std::io::Write;
use std::process::{Command, Stdio};

use ottla::config::{ClientKind, Settings};
use ottla_tests::peer::java::jars;
use ottla_tests::place;

/// Every combination of the keys that idempotence depends on, set and not set.
fn combinations() -> Vec<Vec<(&'static str, &'static str)>> {
    let keys: [(&str, &[&str]); 4] = [
        ("acks", &["all", "-1", "1", "0"]),
        ("retries", &["0", "3"]),
        ("max.in.flight.requests.per.connection", &["1", "5", "6"]),
        ("enable.idempotence", &["true", "false"]),
    ];
    let mut all = vec![Vec::new()];
    for (key, values) in keys {
        let with = |known: &Vec<_>| {
            values
                .iter()
                .map(|value| [&known[..], &[(key, *value)]].concat())
                .collect::<Vec<_>>()
        };
        let more: Vec<Vec<_>> = all.iter().flat_map(with).collect();
        all.extend(more);
    }
    all
}

/// What Kafka's producer makes of each.
fn of_java(combinations: &[Vec<(&str, &str)>]) -> Vec<String> {
    let mut child = Command::new("java")
        .args(["-XX:TieredStopAtLevel=1", "-cp", &format!("{}/*", jars().display())])
        .arg(place::repository().join("tests/java/ProducerConfigs.java"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines: Vec<String> = combinations
        .iter()
        .map(|pairs| {
            pairs
                .iter()
                .map(|(key, value)| format!("{key}={value} "))
                .collect::<String>()
                + "\n"
        })
        .collect();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.concat().as_bytes())
        .unwrap();
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let said = |line: &&str| matches!(*line, "true" | "false" | "refused");
    output.lines().filter(said).map(str::to_owned).collect()
}

/// What ours makes of one.
fn of_ottla(pairs: &[(&str, &str)]) -> String {
    let mut settings = Settings::new(ClientKind::Producer);
    settings.set("bootstrap.servers", "localhost:9092");
    for (key, value) in pairs {
        settings.set(key, value);
    }
    settings
        .producer()
        .map_or_else(|_| "refused".to_owned(), |config| config.enable_idempotence.to_string())
}

#[test]
fn idempotence_is_on_off_or_refused_as_in_kafkas_producer() {
    let combinations = combinations();
    assert_eq!(combinations.len(), 5 * 3 * 4 * 3);
    let theirs = of_java(&combinations);
    assert_eq!(theirs.len(), combinations.len());
    let differing: Vec<String> = combinations
        .iter()
        .zip(&theirs)
        .filter(|(pairs, theirs)| of_ottla(pairs) != **theirs)
        .map(|(pairs, theirs)| format!("{pairs:?}: Kafka {theirs}, Ottla {}", of_ottla(pairs)))
        .collect();
    assert!(differing.is_empty(), "\n{}", differing.join("\n"));
}
