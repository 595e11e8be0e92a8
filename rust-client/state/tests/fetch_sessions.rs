//! Whatever happens between a client and a broker, a fetch that the broker carries out is for exactly what the client wants.
//!
//! The broker here is a model, written after KIP-227 and not after the client: it keeps what it was told, forgets
//! sessions when it likes, and loses answers and requests.

#![allow(clippy::unwrap_used, clippy::panic)] // what the test did not expect must stop it

use std::collections::BTreeMap;

use ottla_client_state::TopicPartition;
use ottla_client_state::fetch_session::{FINAL_EPOCH, FetchSession, Naming, Params, SessionRequest, Wanted};
use ottla_protocol::{ErrorCode, Uuid};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// A partition as the wire names it.
type Key = (String, Uuid, i32);
type Asked = BTreeMap<Key, Params>;

/// What the client wants in one round, and what befalls the request.
#[derive(Debug, Clone)]
struct Round {
    /// Topic and partition, generation of the topic (its id), offset, leader epoch.
    wanted: BTreeMap<(u8, i32), (u8, i64, i32)>,
    naming: Naming,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// The broker carries it out, and the answer gets lost.
    AnswerLost,
    RequestLost,
    /// The broker had to make room for others before.
    Evicted,
    /// The broker wants no session (any more) after this one.
    Declined,
    /// The answer does not fit.
    Odd,
    /// The request as a whole is refused for a reason that has nothing to do with sessions.
    Refused,
}

fn round() -> impl Strategy<Value = Round> {
    let wanted = btree_map((0u8..2, 0i32..4), (0u8..2, 0i64..3, 0i32..2), 0..6);
    let naming = prop_oneof![8 => Just(Naming::Ids), 1 => Just(Naming::Names), 1 => Just(Naming::NoSessions)];
    let fate = prop_oneof![
        10 => Just(Fate::Answered),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::RequestLost),
        1 => Just(Fate::Evicted),
        1 => Just(Fate::Declined),
        1 => Just(Fate::Odd),
        1 => Just(Fate::Refused),
    ];
    (wanted, naming, fate).prop_map(|(wanted, naming, fate)| Round { wanted, naming, fate })
}

#[derive(Debug)]
struct Session {
    naming: Naming,
    next_epoch: i32,
    asked: Asked,
}

#[derive(Debug, Default)]
struct Broker {
    sessions: BTreeMap<i32, Session>,
    last_id: i32,
}

impl Broker {
    /// What a request makes the broker fetch, and the session that it answers in.
    fn carry_out(
        &mut self,
        (id, epoch): (i32, i32),
        naming: Naming,
        named: Asked,
        forgotten: &[Key],
        keep: bool,
    ) -> Result<(Asked, i32), ErrorCode> {
        if naming == Naming::NoSessions {
            return Ok((named, 0));
        }
        if epoch == 0 || epoch == FINAL_EPOCH {
            self.sessions.remove(&id);
            if epoch == FINAL_EPOCH || !keep || named.is_empty() {
                return Ok((named, 0));
            }
            self.last_id += 1;
            let session = Session {
                naming,
                next_epoch: 1,
                asked: named.clone(),
            };
            self.sessions.insert(self.last_id, session);
            return Ok((named, self.last_id));
        }
        let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.next_epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.naming != naming {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.next_epoch += 1;
        session.asked.extend(named);
        for key in forgotten {
            assert!(session.asked.remove(key).is_some(), "taken back without being there");
        }
        let asked = session.asked.clone();
        if !keep || asked.is_empty() {
            self.sessions.remove(&id);
            return Ok((asked, 0));
        }
        Ok((asked, id))
    }
}

fn key(naming: Naming, partition: &TopicPartition, id: Uuid) -> Key {
    match naming {
        Naming::Ids => (String::new(), id, partition.partition),
        Naming::Names | Naming::NoSessions => (partition.topic.to_string(), Uuid::ZERO, partition.partition),
    }
}

/// The id of a topic in one of its lives.
fn id_of(topic: u8, generation: u8) -> Uuid {
    Uuid([1 + topic * 10 + generation; 16])
}

fn send(
    broker: &mut Broker,
    request: &SessionRequest,
    wanted: &[Wanted<'_>],
    round: &Round,
) -> Result<(Asked, i32), ErrorCode> {
    let named = request.named.iter().map(|place| &wanted[*place]);
    let named = named.map(|wanted| (key(round.naming, wanted.partition, wanted.topic_id), wanted.params));
    let forgotten = request
        .forgotten
        .iter()
        .map(|(partition, id)| key(round.naming, partition, *id));
    let forgotten: Vec<Key> = forgotten.collect();
    let keep = round.fate != Fate::Declined;
    broker.carry_out(
        (request.id, request.epoch),
        round.naming,
        named.collect(),
        &forgotten,
        keep,
    )
}

proptest! {
    #[test]
    fn what_the_broker_fetches_is_what_the_client_wants(rounds in vec(round(), 1..40)) {
        let (mut client, mut broker) = (FetchSession::new(), Broker::default());
        let mut unheard = 0;
        for round in &rounds {
            let partitions: Vec<(TopicPartition, Uuid, Params)> = round
                .wanted
                .iter()
                .map(|((topic, partition), (generation, offset, leader_epoch))| {
                    let params = Params { offset: *offset, last_epoch: -1, leader_epoch: *leader_epoch, max_bytes: 10 };
                    (TopicPartition::new(format!("t{topic}"), *partition), id_of(*topic, *generation), params)
                })
                .collect();
            let wanted: Vec<Wanted<'_>> = partitions
                .iter()
                .map(|(partition, topic_id, params)| Wanted { partition, topic_id: *topic_id, params: *params })
                .collect();
            let expected: Asked = wanted
                .iter()
                .map(|wanted| (key(round.naming, wanted.partition, wanted.topic_id), wanted.params))
                .collect();
            if round.fate == Fate::Evicted {
                broker.sessions.clear();
            }
            let request = client.next_request(&wanted, round.naming);
            if round.fate == Fate::RequestLost {
                client.handle_failure();
                continue;
            }
            if round.fate == Fate::Refused {
                prop_assert!(!client.handle_error(ErrorCode::ClusterAuthorizationFailed));
                continue;
            }
            let outcome = match send(&mut broker, &request, &wanted, round) {
                Ok(outcome) => outcome,
                Err(code) => {
                    prop_assert_eq!(round.fate, Fate::Evicted, "only a session that is gone is refused: {:?}", code);
                    prop_assert!(request.is_partial() && client.handle_error(code));
                    let anew = client.next_request(&wanted, round.naming);
                    prop_assert!(!anew.is_partial() && anew.forgotten.is_empty());
                    send(&mut broker, &anew, &wanted, round).unwrap()
                }
            };
            let (fetched, session_id) = outcome;
            prop_assert_eq!(fetched, expected);
            match round.fate {
                Fate::AnswerLost => client.handle_failure(),
                fate => client.handle_answer(session_id, fate != Fate::Odd),
            }
            // What the client never heard of, or cannot name any more, it cannot end.
            let lost = matches!(round.fate, Fate::AnswerLost | Fate::Odd) || round.naming == Naming::NoSessions;
            unheard += usize::from(lost);
            prop_assert!(broker.sessions.len() <= 1 + unheard, "given up, not ended: {:?}", broker.sessions);
        }
    }
}
