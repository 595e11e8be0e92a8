//! Bugs put into copies of the machine, to see that the schedules find them.
//!
//! Takes a table of bugs, each a place in the source and what would stand there by mistake. The source itself has no
//! switches for them: each bug is written into a copy of this crate below the build folder, the schedules run there, and must
//! break a promise. That costs some seconds a bug, so it belongs to `make long`; that every place is still there is
//! checked by every `cargo test`.
//!
//! A rule that another one backs up is not here, because breaking it alone breaks no promise: the limit of requests under way
//! (the sender has it too), no sixth batch behind a doubt (a transcript tells it), the wrap of sequences (a property).
//!
//! `BUGS=word` tries only those whose name has the word, `SCHEDULES=n` gives them more or less time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // without a copy there is nothing to test

use std::path::{Path, PathBuf};
use std::process::Command;

const QUEUE: &str = "partition_queue.rs";
const SEQUENCE: &str = "sequence.rs";

struct Bug {
    /// What is wrong, as a fact.
    name: &'static str,
    file: &'static str,
    /// Stands there once.
    right: &'static str,
    wrong: &'static str,
}

const BUGS: [Bug; 19] = [
    Bug {
        name: "a retry takes a new sequence",
        file: QUEUE,
        right: "if let Some(stamp) = batch.stamp {\n            let gap",
        wrong: "if let Some(stamp) = batch.stamp.filter(|_| batch.attempts == 0) {\n            let gap",
    },
    Bug {
        name: "the epoch is raised with requests under way",
        file: QUEUE,
        right: "self.sequences.gap() == Gap::None || self.in_flight > 0",
        wrong: "self.sequences.gap() == Gap::None",
    },
    Bug {
        name: "the epoch is raised before the batches before the gap are resolved",
        file: QUEUE,
        right: "(self.sequences.is_before_gap(stamp) || self.sequences.gap() == Gap::Possible)",
        wrong: "self.sequences.gap() == Gap::Possible",
    },
    Bug {
        name: "a refusal makes certain what was in doubt",
        file: SEQUENCE,
        right: "batch.persisted.max(doubt_after(error))",
        wrong: "doubt_after(error)",
    },
    Bug {
        name: "a lost request leaves no doubt",
        file: SEQUENCE,
        right: "retry_or_fail(batch, Persisted::Possibly, true, text)",
        wrong: "retry_or_fail(batch, batch.persisted, true, text)",
    },
    Bug {
        name: "NOT_LEADER_OR_FOLLOWER leaves no doubt (KAFKA-13574)",
        file: SEQUENCE,
        right: "| ErrorCode::LeaderNotAvailable",
        wrong: "| ErrorCode::LeaderNotAvailable | ErrorCode::NotLeaderOrFollower",
    },
    Bug {
        name: "a retried batch goes to the back of the queue",
        file: QUEUE,
        right: "self.sequences.hold_back();\n                Settled::Retry { refresh }",
        wrong: "let batch = self.batches.remove(place);\n                self.batches.extend(batch);\n                \
                Settled::Retry { refresh }",
    },
    Bug {
        name: "a second request leaves before the leader has acknowledged one",
        file: QUEUE,
        right: "if self.in_flight > 0 && !self.sequences.may_pipeline() {",
        wrong: "if false {",
    },
    Bug {
        name: "a duplicate is taken for a failure",
        file: SEQUENCE,
        right: "ErrorCode::DuplicateSequenceNumber if batch.idempotent => done(answer)",
        wrong: "ErrorCode::DuplicateSequenceNumber if batch.idempotent => fail(answer, Persisted::No, false)",
    },
    Bug {
        name: "both halves of a batch have its sequence",
        file: QUEUE,
        right: "base_sequence: sequence_after(stamp.base_sequence, head)",
        wrong: "base_sequence: stamp.base_sequence",
    },
    Bug {
        name: "a batch that may be written is cut",
        file: SEQUENCE,
        right: "if batch.records > 1 && batch.persisted == Persisted::No =>",
        wrong: "if batch.records > 1 =>",
    },
    Bug {
        name: "a batch in flight does not expire",
        file: QUEUE,
        right: "Some(batch) if batch.deadline <= now =>",
        wrong: "Some(batch) if batch.deadline <= now && !batch.is_in_flight() =>",
    },
    Bug {
        name: "tickets complete as they are resolved",
        file: QUEUE,
        right: "if !self.batches.front()?.is_resolved() {\n            return None;\n        }\n        \
                let batch = self.batches.pop_front()?;",
        wrong: "let place = self.batches.iter().position(ProducerBatch::is_resolved)?;\n        \
                let batch = self.batches.remove(place)?;",
    },
    Bug {
        name: "a batch with a stray copy is sent again in a new epoch",
        file: QUEUE,
        right: "let unsafe_again = batch.stray ||",
        wrong: "let unsafe_again =",
    },
    Bug {
        name: "a batch is believed overtaken by the one before it",
        file: SEQUENCE,
        right: "end != stamp.base_sequence && is_at_or_after",
        wrong: "is_at_or_after",
    },
    Bug {
        name: "a topic created again is taken for the old one",
        file: QUEUE,
        right: "let other_log = leader.topic_id != self.leader.topic_id;",
        wrong: "let other_log = false;",
    },
    Bug {
        name: "one attempt too many is made",
        file: SEQUENCE,
        right: "let verdict = if batch.attempts <= batch.retries {",
        wrong: "let verdict = if batch.attempts <= batch.retries.saturating_add(1) {",
    },
    Bug {
        name: "a spent producer id is used again",
        file: SEQUENCE,
        right: "if self.spent == Some(offered.id) || busy {",
        wrong: "if busy {",
    },
    Bug {
        name: "a new producer id is taken while batches of the old one wait",
        file: SEQUENCE,
        right: "if self.spent == Some(offered.id) || busy {",
        wrong: "if self.spent == Some(offered.id) {",
    },
];

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source(file: &str) -> String {
    let path = crate_folder().join("src").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_seeded_bug_still_has_its_place() {
    for Bug { name, file, right, .. } in BUGS {
        let times = source(file).matches(right).count();
        assert_eq!(
            times, 1,
            "\"{name}\": {file} has this {times} times, and must once:\n{right}"
        );
    }
}

/// A workspace with this crate alone, in which bugs may be written.
struct Copy {
    root: PathBuf,
}

impl Copy {
    fn make() -> Copy {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seeded-bugs");
        let repository = crate_folder().join("../..");
        let manifest = std::fs::read_to_string(repository.join("Cargo.toml")).unwrap();
        let (head, rest) = manifest.split_once("members = [").unwrap();
        let (_, rest) = rest.split_once(']').unwrap();
        let manifest = format!("{head}members = [\"rust-client/state\"]{rest}");
        let state = root.join("rust-client/state");
        let _ = std::fs::remove_dir_all(&state);
        copy_folder(&crate_folder().join("src"), &state.join("src"));
        copy_folder(&crate_folder().join("tests/schedules"), &state.join("tests/schedules"));
        std::fs::copy(crate_folder().join("Cargo.toml"), state.join("Cargo.toml")).unwrap();
        write(&root.join("Cargo.toml"), &manifest);
        std::fs::copy(repository.join("Cargo.lock"), root.join("Cargo.lock")).unwrap();
        let protocol = root.join("protocol");
        let _ = std::fs::remove_dir_all(&protocol);
        copy_folder(&repository.join("protocol"), &protocol);
        Copy { root }
    }

    /// Runs the schedules, and gives the number of the first that breaks a promise, with the words of the failure.
    fn run(&self, schedules: u64) -> Option<(u64, String)> {
        let output = Command::new(env!("CARGO"))
            .args([
                "test",
                "--offline",
                "--quiet",
                "--package",
                "ottla-client-state",
                "--test",
                "schedules",
            ])
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .env("SCHEDULES", schedules.to_string())
            .env("RUST_BACKTRACE", "0")
            .envs([("SEED", "1"), ("THREADS", "1")])
            .env_remove("STORY")
            .env_remove("SUMMARY")
            .output()
            .unwrap();
        if output.status.success() {
            return None;
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        let seed = said
            .lines()
            .find_map(|line| line.strip_prefix("seed ")?.strip_suffix(" breaks a promise"));
        let Some(seed) = seed.and_then(|seed| seed.parse().ok()) else {
            panic!("the copy does not run:\n{said}");
        };
        let words = said.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
        Some((seed, words.unwrap_or_default().chars().take(100).collect()))
    }
}

#[test]
#[ignore = "builds the crate once for each bug; part of `make long`"]
fn the_schedules_find_every_seeded_bug() {
    let number = std::env::var("SCHEDULES").ok().and_then(|text| text.parse().ok());
    let schedules = number.unwrap_or(20_000);
    let wanted = std::env::var("BUGS").unwrap_or_default();
    let copy = Copy::make();
    assert_eq!(copy.run(500), None, "without a bug nothing is found");
    let mut survivors = Vec::new();
    for bug in BUGS.iter().filter(|bug| bug.name.contains(&wanted)) {
        let path = copy.root.join("rust-client/state/src").join(bug.file);
        let right = source(bug.file);
        write(&path, &right.replacen(bug.right, bug.wrong, 1));
        match copy.run(schedules) {
            Some((found, words)) => println!("| {} | {found} | {words} |", bug.name),
            None => survivors.push(bug.name),
        }
        write(&path, &right);
    }
    assert!(survivors.is_empty(), "{schedules} schedules do not find: {survivors:?}");
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        // The corpus and the build of the fuzz targets are large and of no use here.
        if entry.file_name() == "fuzz" || entry.file_name() == "target" {
            continue;
        }
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
