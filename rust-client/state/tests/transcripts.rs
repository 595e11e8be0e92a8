//! The queue's behaviour as stories: commands in, words out, compared with the files in `testdata`.
//!
//! `UPDATE=1 cargo test -p ottla-client-state --test transcripts` writes the files anew; a change of behaviour is then
//! reviewed as a change of text.
//!
//! Commands: `config key=value ...`, `identity ID EPOCH`, `start ID EPOCH SEQUENCE` (as if that many had been sent),
//! `at MS`, `recreate ID` (the topic was created again with this id), `append RECORDS`, `flush`, `send [leader=NODE/EPOCH]` (takes batches until there are no more),
//! `ok BATCH OFFSET`, `error BATCH NAME`, `lost BATCH`, `not-sent BATCH`, `timeout`, `close`, `state`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a mistake in a script must stop the test

use std::collections::BTreeMap;
use std::path::Path;

use ottla_client_state::Time;
use ottla_client_state::batch::{BatchId, Body};
use ottla_client_state::partition_queue::{LeaderAt, Next, PartitionQueue, QueueConfig};
use ottla_client_state::sequence::{Answer, Outcome, Persisted, ProducerIdentity, Reason};
use ottla_protocol::records::{Compression, SealedBatch};
use ottla_protocol::{ErrorCode, Uuid};

/// A record of 8 bytes takes 15 in its batch.
const RECORD_SIZE: usize = 15;

struct Stage {
    queue: PartitionQueue<u64>,
    now: Time,
    leader: LeaderAt,
    identity: Option<ProducerIdentity>,
    records: u64,
    sealed: BTreeMap<BatchId, SealedBatch>,
    out: Vec<String>,
}

fn queue_config(words: &[&str]) -> QueueConfig {
    let mut config = QueueConfig {
        batch_size: 61 + 4 * RECORD_SIZE,
        linger_ms: 5,
        delivery_timeout_ms: 2000,
        retries: u32::MAX,
        idempotent: true,
        max_in_flight: 5,
        compression_level: None,
        checksum_early: true,
    };
    for word in words {
        let (key, value) = word.split_once('=').expect("key=value");
        match key {
            "batch_records" => config.batch_size = 61 + value.parse::<usize>().unwrap() * RECORD_SIZE,
            "linger" => config.linger_ms = value.parse().unwrap(),
            "delivery_timeout" => config.delivery_timeout_ms = value.parse().unwrap(),
            "retries" => config.retries = value.parse().unwrap(),
            "idempotent" => config.idempotent = value.parse().unwrap(),
            "max_in_flight" => config.max_in_flight = value.parse().unwrap(),
            other => panic!("unknown key {other}"),
        }
    }
    config
}

impl Stage {
    fn new() -> Stage {
        Stage {
            queue: PartitionQueue::new(queue_config(&[])),
            now: Time(0),
            leader: LeaderAt {
                node_id: 1,
                epoch: 0,
                topic_id: Uuid([1; 16]),
            },
            identity: Some(ProducerIdentity { id: 7, epoch: 0 }),
            records: 0,
            sealed: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    fn say(&mut self, words: String) {
        self.out.push(format!("-> {words}"));
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| words.get(place).expect("a number").parse::<i64>().expect("a number");
        match words[0] {
            "config" => self.queue = PartitionQueue::new(queue_config(&words[1..])),
            "identity" => {
                self.identity = Some(ProducerIdentity {
                    id: number(1),
                    epoch: number(2) as i16,
                })
            }
            "start" => {
                let identity = ProducerIdentity {
                    id: number(1),
                    epoch: number(2) as i16,
                };
                self.identity = Some(identity);
                self.queue.sequences_mut().start_at(identity, number(3) as i32);
            }
            "at" => self.now = Time(number(1) as u64),
            "recreate" => self.leader.topic_id = Uuid([number(1) as u8; 16]),
            "append" => (0..number(1)).for_each(|_| self.append()),
            "flush" => self.queue.close_open(),
            "send" => self.send(words.get(1).copied()),
            "ok" => self.settle(number(1), Outcome::Answered(Answer::written(number(2)))),
            "error" => {
                let code = (-1..200)
                    .filter_map(ErrorCode::from_code)
                    .find(|code| code.name() == words[2]);
                self.settle(
                    number(1),
                    Outcome::Answered(Answer::error(code.expect("the name of an error"))),
                );
            }
            "lost" => self.settle(number(1), Outcome::Lost("the connection was lost".into())),
            "not-sent" => self.settle(number(1), Outcome::NotSent("no connection".into())),
            "timeout" => self.queue.handle_timeout(self.now),
            "close" => self.queue.abort(&Reason::Closed),
            "state" => {
                let batches = self.queue.describe().join(", ");
                let gap = self.queue.sequences().gap();
                self.say(format!(
                    "[{batches}] gap: {gap:?}, in flight: {}",
                    self.queue.in_flight()
                ));
            }
            other => panic!("unknown command {other}"),
        }
        self.completions();
    }

    fn append(&mut self) {
        let value = self.records.to_be_bytes();
        if self.queue.append(0, None, Some(&value), &[]).unwrap().is_none() {
            let begun = self
                .queue
                .append_new(Vec::new(), self.records, self.now, 0, None, Some(&value), &[]);
            if begun.expect("a record that can be written").wake {
                self.say("wake the sender".into());
            }
        }
        self.records += 1;
    }

    fn send(&mut self, leader: Option<&str>) {
        if let Some((node, epoch)) = leader.and_then(|word| word.strip_prefix("leader=")?.split_once('/')) {
            self.leader = LeaderAt {
                node_id: node.parse().unwrap(),
                epoch: epoch.parse().unwrap(),
                ..self.leader
            };
        }
        loop {
            let next = self.queue.next_batch(self.leader, self.identity, None, false, self.now);
            let drained = match next {
                Next::Batch(drained) => drained,
                Next::NoRoom => return self.say("no room".into()),
                Next::Wait(at) => return self.say(format!("wait until {}", at.0)),
                Next::Blocked => return self.say("blocked".into()),
                Next::Empty => return self.say("nothing to send".into()),
            };
            let mut sealed = match drained.body {
                Body::Records(builder) => builder.seal(Compression::None, None).unwrap(),
                Body::Sealed(sealed) => sealed,
            };
            let by = drained.stamp.map_or(String::new(), |stamp| {
                let ProducerIdentity { id, epoch } = stamp.identity;
                sealed.stamp(id, epoch, stamp.base_sequence, false);
                format!(", producer {id} epoch {epoch} sequence {}", stamp.base_sequence)
            });
            let (id, records, attempts) = (drained.id.0, sealed.record_count(), drained.attempts);
            self.say(format!(
                "batch {id} to broker {}: {records} records{by}, attempt {attempts}",
                self.leader.node_id
            ));
            self.sealed.insert(drained.id, sealed);
        }
    }

    fn settle(&mut self, batch: i64, outcome: Outcome) {
        let id = BatchId(batch as u64);
        let Some(sealed) = self.sealed.remove(&id) else {
            return self.say(format!("batch {batch} is not under way"));
        };
        let settled = self.queue.settle(id, outcome, sealed, 100, self.now);
        self.say(format!("{settled:?}"));
    }

    fn completions(&mut self) {
        while let Some(done) = self.queue.next_completion() {
            let first = done.tickets + u64::from(done.first);
            let last = first + u64::from(done.records) - 1;
            let result = match done.result {
                Ok(written) => format!("written at {}", written.base_offset),
                Err(failure) => {
                    let sure = match failure.persisted {
                        Persisted::No => "not written",
                        Persisted::Possibly => "possibly written",
                        Persisted::Yes => "written",
                    };
                    format!(
                        "failed, {sure}, after {} attempts: {}",
                        failure.attempts, failure.reason
                    )
                }
            };
            self.say(format!("tickets {first} to {last}: {result}"));
        }
    }
}

/// The script with the answers it gets now.
fn play(script: &str) -> String {
    let mut stage = Stage::new();
    let mut out = String::new();
    for line in script.lines().filter(|line| !line.starts_with("->")) {
        out += line;
        out.push('\n');
        let command = line.split('#').next().unwrap_or_default().trim();
        if !command.is_empty() {
            stage.command(command);
            for said in stage.out.drain(..) {
                out += &said;
                out.push('\n');
            }
        }
    }
    out
}

#[test]
fn the_queue_behaves_as_the_transcripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut played = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("queue_") {
            continue;
        }
        let script = std::fs::read_to_string(&path).unwrap();
        let now = play(&script);
        played += 1;
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, now).unwrap();
        } else {
            assert_eq!(now, script, "{name} tells another story; UPDATE=1 writes it anew");
        }
    }
    assert!(played >= 12, "only {played} transcripts in {}", folder.display());
}
