//! What a broker remembers of a client's fetches (KIP-227), and so what the next request need not say.
//!
//! In: the partitions to fetch from one broker now, and what became of the request before. Out: which of them the next
//! request names, which ones it takes back, and under which session id and epoch it goes out. It sends nothing and knows no
//! records.
//!
//! A request is whole or partial. A whole one names everything, and its answer may begin a session. A partial one, within
//! a session, names what differs from what the broker remembers; its answer leaves out partitions of which there is
//! nothing new to tell. Whenever it is not certain what the broker remembers - no answer came, or one that does not fit -
//! the next request is whole, and ends the session that may still be there.
//!
//! What is left out of `wanted` is taken back, as Kafka's own consumer does: a partition that has enough in the buffer
//! would otherwise be sent from its old offset again.

use std::collections::BTreeMap;

use ottla_protocol::{ErrorCode, Uuid};

use crate::TopicPartition;

/// No session.
const NO_SESSION: i32 = 0;
/// The epoch of a request that asks for a new session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that ends its session.
pub const FINAL_EPOCH: i32 = -1;

/// How a request names topics. A session keeps to one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// The version of the request has no sessions (before 7).
    #[default]
    NoSessions,
    /// By name (versions 7 to 12).
    Names,
    /// By id (since version 13).
    Ids,
}

/// A partition to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The partition.
    pub partition: &'a TopicPartition,
    /// The id of its topic; does not matter where names are used.
    pub topic_id: Uuid,
    /// What else the request says of it.
    pub params: Params,
}

/// What a request says of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// The first offset.
    pub offset: i64,
    /// The leader epoch of the record before it; -1 if unknown.
    pub last_epoch: i32,
    /// The leader epoch that is known; -1 if none is.
    pub leader_epoch: i32,
    /// The most bytes.
    pub max_bytes: i32,
}

/// What a request says on account of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    /// The session; 0 for none.
    pub id: i32,
    /// Its epoch; 0 asks for a new session and ends the one of `id`.
    pub epoch: i32,
    /// Places in the list of what is wanted, of those that the request names.
    pub named: Vec<usize>,
    /// What the broker is to forget, and the ids under which it knows the topics (zero where names are used).
    pub forgotten: Vec<(TopicPartition, Uuid)>,
}

impl SessionRequest {
    /// Whether it says only what has changed, so that its answer leaves out what has not.
    pub fn is_partial(&self) -> bool {
        self.epoch > INITIAL_EPOCH
    }
}

#[derive(Debug, Clone, Copy)]
struct Remembered {
    topic_id: Uuid,
    params: Params,
    /// The request that last wanted it.
    turn: u64,
}

/// The session with one broker.
#[derive(Debug, Default)]
pub struct FetchSession {
    id: i32,
    /// Of the next request. 0: the next one is whole.
    epoch: i32,
    naming: Naming,
    /// What the broker remembers if the last request reached it.
    remembered: BTreeMap<TopicPartition, Remembered>,
    turn: u64,
}

impl FetchSession {
    /// No session yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next request, for exactly what is `wanted` (each partition once). One is on its way at a time: what became of it is
    /// told before the next one.
    pub fn next_request(&mut self, wanted: &[Wanted<'_>], naming: Naming) -> SessionRequest {
        self.turn += 1;
        if naming != self.naming || naming == Naming::NoSessions {
            self.epoch = INITIAL_EPOCH;
            self.naming = naming;
        }
        if self.epoch == INITIAL_EPOCH {
            self.remembered.clear();
        }
        let mut request = SessionRequest {
            id: self.id,
            epoch: self.epoch,
            named: Vec::new(),
            forgotten: Vec::new(),
        };
        for (place, wanted) in wanted.iter().enumerate() {
            let now = Remembered {
                topic_id: if naming == Naming::Ids {
                    wanted.topic_id
                } else {
                    Uuid::ZERO
                },
                params: wanted.params,
                turn: self.turn,
            };
            match self.remembered.get_mut(wanted.partition) {
                Some(before) => {
                    let same_topic = before.topic_id == now.topic_id;
                    let same = same_topic && before.params == now.params;
                    if !same_topic {
                        request.forgotten.push((wanted.partition.clone(), before.topic_id));
                    }
                    *before = now;
                    if same {
                        continue;
                    }
                }
                None => {
                    self.remembered.insert(wanted.partition.clone(), now);
                }
            }
            request.named.push(place);
        }
        if self.remembered.len() > wanted.len() {
            let turn = self.turn;
            self.remembered.retain(|partition, remembered| {
                let kept = remembered.turn == turn;
                if !kept {
                    request.forgotten.push((partition.clone(), remembered.topic_id));
                }
                kept
            });
        }
        request
    }

    /// The request was answered without an error, in the session `id`. `fits`: the answer told of nothing that was not
    /// asked for and, if the request was whole, of everything that was.
    pub fn handle_answer(&mut self, id: i32, fits: bool) {
        let partial = self.epoch > INITIAL_EPOCH;
        if !fits || (partial && id != NO_SESSION && id != self.id) {
            self.epoch = INITIAL_EPOCH;
        } else if id <= NO_SESSION || self.naming == Naming::NoSessions {
            // The broker keeps none, or none any more.
            (self.id, self.epoch) = (NO_SESSION, INITIAL_EPOCH);
        } else {
            self.id = id;
            self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        }
    }

    /// The request as a whole was answered with an error. True if that only ends the session: the next request, a whole
    /// one, may follow at once.
    pub fn handle_error(&mut self, code: ErrorCode) -> bool {
        let partial = self.epoch > INITIAL_EPOCH;
        self.epoch = INITIAL_EPOCH;
        if code == ErrorCode::FetchSessionIdNotFound {
            self.id = NO_SESSION;
        }
        // If it happens to a whole request as well, it is not about what we remember.
        partial
            && matches!(
                code,
                ErrorCode::FetchSessionIdNotFound
                    | ErrorCode::InvalidFetchSessionEpoch
                    | ErrorCode::FetchSessionTopicIdError
            )
    }

    /// The request was not sent, or its answer did not come or could not be read.
    pub fn handle_failure(&mut self) {
        self.epoch = INITIAL_EPOCH;
    }

    /// The session that the broker may have of us, to be ended with [`FINAL_EPOCH`].
    pub fn open(&self) -> Option<i32> {
        (self.id != NO_SESSION).then_some(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid([1; 16]);
    const OTHER_ID: Uuid = Uuid([2; 16]);

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    /// Partitions and offsets wanted of topic `id`.
    fn ask(session: &mut FetchSession, naming: Naming, id: Uuid, offsets: &[(i32, i64)]) -> SessionRequest {
        let partitions: Vec<TopicPartition> = offsets.iter().map(|(partition, _)| tp(*partition)).collect();
        let wanted: Vec<Wanted<'_>> = offsets
            .iter()
            .zip(&partitions)
            .map(|((_, offset), partition)| Wanted {
                partition,
                topic_id: id,
                params: Params {
                    offset: *offset,
                    last_epoch: -1,
                    leader_epoch: 3,
                    max_bytes: 100,
                },
            })
            .collect();
        session.next_request(&wanted, naming)
    }

    fn request(id: i32, epoch: i32, named: &[usize], forgotten: &[(i32, Uuid)]) -> SessionRequest {
        SessionRequest {
            id,
            epoch,
            named: named.to_vec(),
            forgotten: forgotten.iter().map(|(partition, id)| (tp(*partition), *id)).collect(),
        }
    }

    /// A session 7 that holds partitions 0 and 1 at offset 10.
    fn begun(naming: Naming) -> FetchSession {
        let mut session = FetchSession::new();
        let first = ask(&mut session, naming, ID, &[(0, 10), (1, 10)]);
        assert_eq!(first, request(0, 0, &[0, 1], &[]));
        assert!(!first.is_partial());
        session.handle_answer(7, true);
        session
    }

    #[test]
    fn within_a_session_only_what_changed_is_named_and_what_is_left_out_is_taken_back() {
        let mut session = begun(Naming::Ids);
        let same = ask(&mut session, Naming::Ids, ID, &[(1, 10), (0, 10)]);
        assert_eq!(same, request(7, 1, &[], &[]));
        assert!(same.is_partial());
        session.handle_answer(7, true);
        let moved = ask(&mut session, Naming::Ids, ID, &[(1, 11), (2, 5)]);
        assert_eq!(moved, request(7, 2, &[0, 1], &[(0, ID)]));
        session.handle_answer(7, true);
        let back = ask(&mut session, Naming::Ids, ID, &[(0, 10), (1, 11)]);
        assert_eq!(back, request(7, 3, &[0], &[(2, ID)]));
    }

    #[test]
    fn a_topic_created_anew_is_named_by_its_new_id_and_taken_back_by_its_old_one() {
        let mut session = begun(Naming::Ids);
        let anew = ask(&mut session, Naming::Ids, OTHER_ID, &[(0, 10), (1, 10)]);
        assert_eq!(anew, request(7, 1, &[0, 1], &[(0, ID), (1, ID)]));
        let mut session = begun(Naming::Names);
        let anew = ask(&mut session, Naming::Names, OTHER_ID, &[(0, 10), (1, 0)]);
        assert_eq!(anew, request(7, 1, &[1], &[]), "names know no ids");
    }

    #[test]
    fn another_way_of_naming_topics_begins_a_session_anew() {
        let mut session = begun(Naming::Names);
        assert_eq!(
            ask(&mut session, Naming::Ids, ID, &[(0, 10), (1, 10)]),
            request(7, 0, &[0, 1], &[])
        );
        session.handle_answer(8, true);
        assert_eq!(
            ask(&mut session, Naming::Ids, ID, &[(0, 10)]),
            request(8, 1, &[], &[(1, ID)])
        );
        let old = ask(&mut session, Naming::NoSessions, ID, &[(0, 10)]);
        assert_eq!(old, request(8, 0, &[0], &[]));
        session.handle_answer(9, true);
        assert_eq!(session.open(), None, "such a version tells no session");
    }

    #[test]
    fn errors_of_the_session_are_answered_with_a_whole_request_at_once_but_only_once() {
        for (code, id) in [
            (ErrorCode::FetchSessionIdNotFound, 0),
            (ErrorCode::InvalidFetchSessionEpoch, 7),
            (ErrorCode::FetchSessionTopicIdError, 7),
        ] {
            let mut session = begun(Naming::Ids);
            assert_eq!(ask(&mut session, Naming::Ids, ID, &[(0, 10)]).epoch, 1);
            assert!(session.handle_error(code), "{code:?}");
            assert_eq!(
                ask(&mut session, Naming::Ids, ID, &[(0, 10)]),
                request(id, 0, &[0], &[])
            );
            assert!(!session.handle_error(code), "{code:?}");
        }
        let mut session = begun(Naming::Ids);
        assert_eq!(ask(&mut session, Naming::Ids, ID, &[(0, 10)]).epoch, 1);
        assert!(!session.handle_error(ErrorCode::InconsistentTopicId));
        assert_eq!(ask(&mut session, Naming::Ids, ID, &[(0, 10)]), request(7, 0, &[0], &[]));
    }

    #[test]
    fn a_lost_answer_or_one_that_does_not_fit_is_followed_by_a_whole_request() {
        let spoil: [fn(&mut FetchSession); 3] = [
            FetchSession::handle_failure,
            |session| session.handle_answer(7, false),
            |session| session.handle_answer(8, true),
        ];
        for spoil in spoil {
            let mut session = begun(Naming::Ids);
            ask(&mut session, Naming::Ids, ID, &[(0, 10), (1, 12)]);
            spoil(&mut session);
            assert_eq!(session.open(), Some(7));
            let whole = ask(&mut session, Naming::Ids, ID, &[(0, 10), (1, 12)]);
            assert_eq!(whole, request(7, 0, &[0, 1], &[]), "the old session ends");
        }
    }

    #[test]
    fn a_broker_without_room_for_a_session_is_asked_in_full_each_time() {
        let mut session = begun(Naming::Ids);
        ask(&mut session, Naming::Ids, ID, &[(0, 10)]);
        session.handle_answer(0, true);
        assert_eq!(ask(&mut session, Naming::Ids, ID, &[(0, 10)]), request(0, 0, &[0], &[]));
        session.handle_answer(-5, true);
        assert_eq!(ask(&mut session, Naming::Ids, ID, &[(0, 10)]), request(0, 0, &[0], &[]));
        assert_eq!(session.open(), None);
    }

    #[test]
    fn after_the_last_epoch_comes_the_first() {
        let mut session = begun(Naming::Ids);
        session.epoch = i32::MAX;
        assert_eq!(ask(&mut session, Naming::Ids, ID, &[(0, 10), (1, 10)]).epoch, i32::MAX);
        session.handle_answer(7, true);
        assert_eq!(ask(&mut session, Naming::Ids, ID, &[(0, 10), (1, 10)]).epoch, 1);
    }
}
