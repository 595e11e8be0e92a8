//! Bugs put into copies of the minds and of their drivers, to see that the room finds them.
//!
//! Takes a table of bugs, each a place in a source and what would stand there by mistake. The sources have no switches for
//! them: each bug is written into a copy of the crates below the build folder, the schedules run there, and must break a
//! promise. That costs some time a bug, so it belongs to `make long`; that every place is still there is checked by every
//! `cargo test`.
//!
//! `BUGS=word` tries only those whose name has the word, `SCHEDULES=n` gives them more or less time, `SUMMARY=file` has the
//! table written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // without a copy there is nothing to test

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const CLASSIC: &str = "broker/state/src/group/classic/mod.rs";
const JOIN: &str = "broker/state/src/group/classic/join.rs";
const SYNC: &str = "broker/state/src/group/classic/sync.rs";
const RECONCILE: &str = "broker/state/src/group/consumer/reconcile.rs";
const SHARD: &str = "broker/state/src/group/shard.rs";
const MEMBER: &str = "rust-client/state/src/membership/classic.rs";
const ANSWERS: &str = "rust-client/state/src/membership/classic/answers.rs";
const CONSUMER: &str = "rust-client/state/src/membership/consumer.rs";
const COMMIT: &str = "rust-client/state/src/commit.rs";
const RANGE: &str = "rust-client/state/src/assignor/range.rs";
const COORDINATOR: &str = "tests/simulation/src/coordinator.rs";
const APPLICATION: &str = "tests/simulation/src/application.rs";
const OFFSETS: &str = "tests/simulation/src/offsets.rs";

struct Bug {
    /// What is wrong, as a fact.
    name: &'static str,
    file: &'static str,
    /// Stands there once.
    right: &'static str,
    wrong: &'static str,
}

const BUGS: [Bug; 22] = [
    Bug {
        name: "a member's session never ends",
        file: CLASSIC,
        right: "        self.remove(id, ErrorCode::UnknownMemberId, turn);\n        self.after_removal(turn);",
        wrong: "",
    },
    Bug {
        name: "the answers to SyncGroup are lost",
        file: SYNC,
        right: "            turn.reply(ticket, GroupReply::Sync(reply));\n            turn.await_session",
        wrong: "            let _ = (ticket, reply);\n            turn.await_session",
    },
    Bug {
        name: "who has not joined again stays in the group",
        file: JOIN,
        right: "for id in &late {",
        wrong: "for id in late.iter().skip(1) {",
    },
    Bug {
        name: "a member id is given twice",
        file: JOIN,
        right: "hyphenated(self.client.fresh_id)",
        wrong: "hyphenated(Uuid::ZERO)",
    },
    Bug {
        name: "the coordinator forgets the offsets when it loads",
        file: SHARD,
        right: "        self.offsets.replay(&group, topic, partition, value);",
        wrong: "        if !self.loading {\n            self.offsets.replay(&group, topic, partition, value);\n        }",
    },
    Bug {
        name: "a consumer group gives a partition that another member still has",
        file: RECONCILE,
        right: "                if its_own || (self.is_free)(*topic, *partition) {",
        wrong: "                if true {",
    },
    Bug {
        name: "a consumer group does not wait for a member to give up",
        file: RECONCILE,
        right: "if !to_revoke.is_empty() && self.owns_any_of(&to_revoke) {",
        wrong: "if to_revoke.len() > 9 {",
    },
    Bug {
        name: "an eager member joins again without letting go",
        file: MEMBER,
        right: "self.protocol == RebalanceProtocol::Eager || !self.is_subscribed(&partition.topic)",
        wrong: "!self.is_subscribed(&partition.topic)",
    },
    Bug {
        name: "a cooperative member gives up and does not join again",
        file: MEMBER,
        right: "                self.rejoin.get_or_insert(RebalanceReason::PartitionsGivenUp);",
        wrong: "",
    },
    Bug {
        name: "a member that nobody knows keeps its partitions",
        file: ANSWERS,
        right: "                self.lose(LostReason::Fenced { code });\n                self.enter_unjoined(reason, now);",
        wrong: "                self.enter_unjoined(reason, now);",
    },
    Bug {
        name: "a heartbeat's answer that asks to join again is ignored",
        file: ANSWERS,
        right: "                if !matches!(self.state, State::Syncing { .. }) {\n                    self.want_rejoin",
        wrong: "                if false {\n                    self.want_rejoin",
    },
    Bug {
        name: "a consumer member says at once that it has given up",
        file: CONSUMER,
        right: "        for partition in partitions {\n            self.owned.remove(partition);\n        }\n        self.enter(State::Stable, now);",
        wrong: "        self.enter(State::Stable, now);",
    },
    Bug {
        name: "the leader gives a partition to two members",
        file: RANGE,
        right: "                numbers.sort_unstable();",
        wrong: "                numbers.push(0);\n                numbers.sort_unstable();\n                numbers.dedup();",
    },
    Bug {
        name: "answers leave before their records are committed",
        file: COORDINATOR,
        right: "            until: self.log.len(),",
        wrong: "            until: 0,",
    },
    Bug {
        name: "the last record is missing when the log is read",
        file: COORDINATOR,
        right: "        self.log.truncate(self.ends.last().copied().unwrap_or(self.committed));",
        wrong: "        self.log.truncate(self.ends.last().copied().unwrap_or(self.committed).saturating_sub(1));",
    },
    Bug {
        name: "offsets are stored when records are handed over",
        file: APPLICATION,
        right: "                held.touched = true;",
        wrong: "                held.touched = true;\n                process.offsets.note(partition, held.assignment, to.into(), Time(self.now));",
    },
    Bug {
        name: "an offset of an earlier assignment is committed",
        file: APPLICATION,
        right: "if process.has(&handed.partition, handed.assignment) {\n            keep(process, Time(self.now));",
        wrong: "if let Some(now) = process.held.get(&handed.partition).map(|held| held.assignment) {\n            keep(process, Time(self.now));\n            process.offsets.note(&handed.partition, now, handed.to.into(), Time(self.now));",
    },
    Bug {
        name: "a commit that is acknowledged takes along what was processed meanwhile",
        file: COMMIT,
        right: ".is_some_and(|processed| processed.offset == offset)",
        wrong: ".is_some()",
    },
    Bug {
        name: "an automatic commit takes back what the application has committed by itself",
        file: COMMIT,
        right: "            *processed = chosen.offset.clone();",
        wrong: "            let _ = processed;",
    },
    Bug {
        name: "automatic commits end with the first",
        file: COMMIT,
        right: "        self.next_auto = now.plus_ms(interval.max(1));",
        wrong: "        self.next_auto = now.plus_ms(interval.max(1) + 1_000_000_000);",
    },
    Bug {
        name: "a partition is let go before its offsets are committed",
        file: OFFSETS,
        right: "            let open = process.uncommitted(|partition| partitions.contains(partition));",
        wrong: "            let open = process.uncommitted(|_| false);",
    },
    Bug {
        name: "a new owner begins at the start instead of the committed offset",
        file: OFFSETS,
        right: "held.position = Some(offset.unwrap_or(0));",
        wrong: "held.position = Some(offset.unwrap_or(0).min(0));",
    },
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn source(file: &str) -> String {
    let path = repository().join(file);
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

/// What is copied.
const MEMBERS: [&str; 3] = ["rust-client/state", "broker/state", "tests/simulation"];

/// A workspace with the minds and the room alone, in which bugs may be written.
struct Copy {
    root: PathBuf,
}

impl Copy {
    fn make() -> Copy {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seeded-bugs-of-groups");
        let manifest = source("Cargo.toml");
        let (head, rest) = manifest.split_once("members = [").unwrap();
        let (_, rest) = rest.split_once(']').unwrap();
        let folders = [
            "rust-client/state/src",
            "broker/state/src",
            "tests/simulation/src",
            "tests/simulation/tests",
        ];
        for folder in folders {
            copy_folder(&repository().join(folder), &root.join(folder));
        }
        for member in MEMBERS {
            for file in ["Cargo.toml", "README.md"] {
                let from = repository().join(member).join(file);
                if from.exists() {
                    write_if_new(&root.join(member).join(file), &std::fs::read(from).unwrap());
                }
            }
        }
        // The profile of packages that are not here would be a warning each.
        let rest: Vec<&str> = rest.split("\n[profile.").collect();
        let kept = rest
            .iter()
            .enumerate()
            .filter(|(place, part)| *place == 0 || !part.starts_with("dist"));
        let kept: Vec<&str> = kept.map(|(_, part)| *part).collect();
        let kept = kept.join("\n[profile.");
        // No bug is in the protocol: it is taken from where it is.
        let protocol = format!("path = {:?}", repository().join("protocol").canonicalize().unwrap());
        let kept = kept.replacen(r#"path = "protocol""#, &protocol, 1);
        // What is to be built shall be built soon, and need not be the fastest; a bug is one line, and changes little.
        let kept = kept.replacen("ottla-protocol]\nopt-level = 1", "ottla-protocol]\nopt-level = 0", 1);
        let mut manifest = format!("{head}members = {MEMBERS:?}{kept}");
        for package in ["ottla-client-state", "ottla-broker-state", "ottla-simulation"] {
            let quick = "opt-level = 1\nincremental = true\ndebug = false";
            let _ = write!(manifest, "\n[profile.checked.package.{package}]\n{quick}\n");
        }
        write_if_new(&root.join("Cargo.toml"), manifest.as_bytes());
        write_if_new(&root.join("Cargo.lock"), source("Cargo.lock").as_bytes());
        Copy { root }
    }

    /// Runs the schedules, and gives the number of the first that breaks a promise, with the words of the failure.
    fn run(&self, schedules: u64) -> Option<(u64, String)> {
        let output = Command::new(env!("CARGO"))
            .args(["test", "--offline", "--quiet", "--profile", "checked"])
            .args(["--package", "ottla-simulation", "--test", "schedules"])
            .current_dir(&self.root)
            .env(
                "CARGO_TARGET_DIR",
                Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap(),
            )
            .env("SCHEDULES", schedules.to_string())
            .env("RUST_BACKTRACE", "0")
            .envs([("SEED", "1"), ("THREADS", "1")])
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
        Some((seed, words.unwrap_or_default().chars().take(150).collect()))
    }
}

#[test]
#[ignore = "builds the minds once for each bug; part of `make long`"]
fn the_room_finds_every_seeded_bug() {
    let number = std::env::var("SCHEDULES").ok().and_then(|text| text.parse().ok());
    let schedules = number.unwrap_or(20_000);
    let wanted = std::env::var("BUGS").unwrap_or_default();
    let copy = Copy::make();
    assert_eq!(copy.run(500), None, "without a bug nothing is found");
    let (mut survivors, mut table) = (
        Vec::new(),
        String::from("| bug | schedules | what breaks |\n|---|---|---|\n"),
    );
    for bug in BUGS.iter().filter(|bug| bug.name.contains(&wanted)) {
        let path = copy.root.join(bug.file);
        let right = std::fs::read_to_string(&path).unwrap();
        write(&path, right.replacen(bug.right, bug.wrong, 1).as_bytes());
        match copy.run(schedules) {
            Some((found, words)) => {
                let row = format!("| {} | {found} | {words} |", bug.name);
                println!("{row}");
                let _ = writeln!(table, "{row}");
            }
            None => survivors.push(bug.name),
        }
        write(&path, right.as_bytes());
    }
    if let Some(path) = std::env::var_os("SUMMARY") {
        write(Path::new(&path), table.as_bytes());
    }
    assert!(survivors.is_empty(), "{schedules} schedules do not find: {survivors:?}");
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// What is as it was is left alone, so that it is not built again.
fn write_if_new(path: &Path, bytes: &[u8]) {
    if std::fs::read(path).ok().as_deref() != Some(bytes) {
        write(path, bytes);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            write_if_new(&target, &std::fs::read(&path).unwrap());
        }
    }
}
