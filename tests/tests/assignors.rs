//! The groups in `tests/vectors/assignors.txt` are divided as Kafka's own assignors divide them today: the program that wrote
//! the file is asked again. How ours divide them is tested in `rust-client/state/tests/assignor_vectors.rs`.
//!
//! `UPDATE=1` writes the file anew.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::process::Command;

use ottla_tests::place;

#[test]
fn the_published_assignments_are_javas() {
    let mut command = Command::new("java");
    command.arg("-cp").arg(place::peer("kafka-4.4.0").join("*"));
    command.arg(place::repository().join("tests/java/Assignments.java"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = place::repository().join("tests/vectors/assignors.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &output.stdout).unwrap();
    }
    let published = std::fs::read(&path).unwrap();
    assert!(
        published == output.stdout,
        "Java divides some group otherwise; UPDATE=1 writes the file anew"
    );
}
