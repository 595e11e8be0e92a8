//! Plays a script to one member.
//!
//! Commands: `member key=value ...`, `subscribe TOPIC ...`, `pattern REGEX`, `unsubscribe`, `close [leave|remain]`,
//! `enforce REASON`, `topics NAME=COUNT[/ID][@RACK] ... [NAME=absent]`, `poll`, `extend MS`, `revoked`, `assigned`,
//! `join ok GENERATION ME LEADER ASSIGNOR [skip] [MEMBER ...]`, `join ERROR [MEMBER]`, `sync ok PARTITION ...|!`,
//! `sync ERROR`, `beat ok EPOCH [INTERVAL|-] [none|ID:N,N ...]`, `beat ERROR`, `heartbeat ok|ERROR`, `leave ok|ERROR`, `fail REQUEST REASON`, `commit ERROR [EPOCH]`, `state`.
//! `at MS` lets the time go on, waking the member whenever it asks for it.

use std::sync::Arc;

use ottla_client_state::Time;
use ottla_client_state::assignor::{self, Assignor, GroupTopic, TopicImage};
use ottla_client_state::membership::{
    Action, ConsumerGroupHeartbeatAnswer, Generation, GroupConfig, GroupResponse, JoinGroupAnswer, LeaveMode,
    Membership, RequestFailure, RequestKind, Subscription, SyncGroupAnswer,
};
use ottla_protocol::Uuid;

use crate::words;

pub struct Stage {
    member: Membership,
    now: Time,
    /// The number of the last assignment.
    assigned: u64,
    out: Vec<String>,
}

fn member(settings: &[&str]) -> Membership {
    let mut config = GroupConfig::new("g");
    // A flat wait has no jitter, which keeps the times of the stories plain.
    config.retry_backoff_max_ms = config.retry_backoff_ms;
    let mut assignors: Vec<Arc<dyn Assignor>> = vec![assignor::by_name("range").unwrap()];
    let (mut consumer, mut remote_assignor) = (false, None);
    for setting in settings {
        let (key, value) = setting.split_once('=').expect("key=value");
        match key {
            "instance" => config.group_instance_id = Some(value.into()),
            "rack" => config.rack = Some(value.into()),
            "protocol" => consumer = value == "consumer",
            "remote" => remote_assignor = Some(value.into()),
            "session" => config.session_timeout_ms = value.parse().unwrap(),
            "heartbeat" => config.heartbeat_interval_ms = value.parse().unwrap(),
            "poll" => config.max_poll_interval_ms = value.parse().unwrap(),
            "assignors" => {
                let named = |name: &str| assignor::by_name(name).unwrap_or_else(|| panic!("no assignor {name}"));
                assignors = value.split(',').map(named).collect();
            }
            other => panic!("unknown key {other}"),
        }
    }
    match consumer {
        true => Membership::consumer(config, "me", remote_assignor),
        false => Membership::classic(config, assignors).unwrap(),
    }
}

fn topics(words: &[&str]) -> TopicImage {
    let mut image = TopicImage::new();
    for word in words {
        let (name, rest) = word.split_once('=').expect("name=count");
        let (rest, rack) = rest
            .split_once('@')
            .map_or((rest, None), |(rest, rack)| (rest, Some(rack)));
        let (count, id) = rest.split_once('/').unwrap_or((rest, "0"));
        if count == "absent" {
            image.insert_absent(name);
            continue;
        }
        let mut topic = GroupTopic::of(count.parse().unwrap());
        topic.id = Uuid::from_u128(id.parse().unwrap());
        topic.racks = rack.map_or(Vec::new(), |rack| vec![[rack.into()].into(); topic.partitions as usize]);
        image.insert(name, topic);
    }
    image
}

fn request_kind(name: &str) -> RequestKind {
    match name {
        "join" => RequestKind::JoinGroup,
        "sync" => RequestKind::SyncGroup,
        "heartbeat" => RequestKind::Heartbeat,
        "leave" => RequestKind::LeaveGroup,
        "beat" => RequestKind::ConsumerGroupHeartbeat,
        other => panic!("unknown request {other}"),
    }
}

fn failure(word: &str) -> RequestFailure {
    match word {
        "disconnected" => RequestFailure::Disconnected,
        "timeout" => RequestFailure::TimedOut,
        "no-coordinator" => RequestFailure::NoCoordinator(None),
        "unsupported" => RequestFailure::UnsupportedVersion,
        "refused" => RequestFailure::Refused("wrong password".into()),
        name => RequestFailure::NoCoordinator(Some(words::code(name))),
    }
}

impl Stage {
    pub fn new() -> Stage {
        Stage {
            member: member(&[]),
            now: Time::ZERO,
            assigned: 0,
            out: Vec::new(),
        }
    }

    pub fn command(&mut self, line: &str, file: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (verb, rest) = (words[0], &words[1..]);
        let now = self.now;
        match verb {
            "member" => self.member = member(rest),
            "at" => self.go_on(Time(rest[0].parse().unwrap())),
            "state" => self.tell_state(),
            "subscribe" => self
                .member
                .handle_subscribed(Subscription::to(rest.iter().copied()), now),
            "pattern" => self
                .member
                .handle_subscribed(Subscription::Pattern(rest[0].into()), now),
            "unsubscribe" => self.member.handle_unsubscribed(now),
            "close" => {
                let mode = match rest.first() {
                    Some(&"leave") => LeaveMode::Leave,
                    Some(&"remain") => LeaveMode::Remain,
                    _ => LeaveMode::Default,
                };
                self.member.handle_leave(mode, now);
            }
            "enforce" => self.member.handle_enforced(rest.join(" ").into(), now),
            "topics" => self.member.handle_metadata(Arc::new(topics(rest)), now),
            "poll" => self.member.handle_poll(now),
            "extend" => self.member.handle_extended(Time(rest[0].parse().unwrap()), now),
            "revoked" => self.member.handle_revoked(now),
            "assigned" => {
                let number = rest.first().map_or(self.assigned, |number| number.parse().unwrap());
                self.member.handle_assigned(number, now);
            }
            "fail" => {
                let kind = request_kind(rest[0]);
                self.member.handle_failure(kind, failure(rest[1]), now);
            }
            "commit" => self.commit(rest),
            _ => match response(&words) {
                Some(response) => self.member.handle_response(response, now),
                None => panic!("{file}: unknown command {verb}"),
            },
        }
        self.actions();
        std::mem::take(&mut self.out)
    }

    fn commit(&mut self, words: &[&str]) {
        let mut stamp = self.member.generation().unwrap_or(Generation {
            member_id: "".into(),
            epoch: -1,
        });
        if let Some(epoch) = words.get(1) {
            stamp.epoch = epoch.parse().unwrap();
        }
        self.member
            .handle_fenced_commit(words::code(words[0]), &stamp, self.now);
    }

    fn go_on(&mut self, until: Time) {
        while let Some(at) = self.member.wake_at().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.member.handle_timeout(self.now);
            let told = self.out.len();
            self.actions();
            assert!(
                told < self.out.len() || self.member.wake_at() != Some(at),
                "it asks to be woken at {at} for nothing"
            );
        }
        self.now = until;
    }

    fn actions(&mut self) {
        while let Some(action) = self.member.next_action(self.now) {
            if let Action::Assign { number, .. } = action {
                self.assigned = number;
            }
            self.out
                .push(format!("-> {} {}", self.now.0, words::say_action(&action)));
        }
    }

    fn tell_state(&mut self) {
        let state = self.member.state();
        let owned = self.member.assignment();
        let generation = state
            .generation
            .map_or("no generation".into(), |generation| generation.to_string());
        let leads = if state.is_leader { ", leads" } else { "" };
        let trouble = state.trouble.map_or(String::new(), |trouble| {
            format!(", trouble with {} since {}", trouble.request.name(), trouble.since)
        });
        let (phase, owned) = (state.phase, words::list(&owned));
        self.out.push(format!(
            "-> {phase:?} since {}, {generation}, {owned}{leads}{trouble}",
            state.since
        ));
    }
}

fn response(words: &[&str]) -> Option<GroupResponse> {
    let (outcome, rest) = (
        words.get(1).copied().unwrap_or("ok"),
        words.get(2..).unwrap_or_default(),
    );
    Some(match words[0] {
        "join" if outcome == "ok" => GroupResponse::JoinGroup(JoinGroupAnswer {
            error_code: 0,
            generation_id: rest[0].parse().unwrap(),
            member_id: rest[1].into(),
            leader: rest[2].into(),
            protocol_name: Some(rest[3].into()),
            skip_assignment: rest.get(4) == Some(&"skip"),
            members: rest[4..]
                .iter()
                .filter(|word| **word != "skip")
                .map(|word| words::joined(word))
                .collect(),
        }),
        "join" => GroupResponse::JoinGroup(JoinGroupAnswer {
            error_code: words::code(outcome),
            generation_id: -1,
            member_id: rest.first().copied().unwrap_or_default().into(),
            ..JoinGroupAnswer::default()
        }),
        "sync" => GroupResponse::SyncGroup(SyncGroupAnswer {
            error_code: words::code(outcome),
            protocol_name: None,
            assignment: if rest == ["!"] {
                bytes::Bytes::from_static(b"\x00")
            } else {
                words::assignment(rest)
            },
        }),
        "heartbeat" => GroupResponse::Heartbeat(words::code(outcome)),
        "leave" => GroupResponse::LeaveGroup(words::code(outcome)),
        "beat" => GroupResponse::ConsumerGroupHeartbeat(beat(outcome, rest)),
        _ => return None,
    })
}

fn beat(outcome: &str, rest: &[&str]) -> ConsumerGroupHeartbeatAnswer {
    let interval = rest.get(1).and_then(|word| word.parse().ok()).unwrap_or(5000);
    let assignment = rest.get(2..).filter(|words| !words.is_empty());
    let topic = |word: &&str| {
        let (id, numbers) = word.split_once(':').expect("id:numbers");
        let numbers = numbers.split(',').map(|number| number.parse().unwrap());
        (Uuid::from_u128(id.parse().unwrap()), numbers.collect())
    };
    ConsumerGroupHeartbeatAnswer {
        error_code: words::code(outcome),
        member_epoch: rest.first().map_or(-1, |epoch| epoch.parse().unwrap()),
        heartbeat_interval_ms: interval,
        assignment: assignment.map(|words| words.iter().filter(|word| **word != "none").map(topic).collect()),
        ..ConsumerGroupHeartbeatAnswer::default()
    }
}
