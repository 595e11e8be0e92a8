//! Fetch sessions (KIP-227): what a client fetches, remembered, so that it need not say it each time.
//!
//! In: session id, epoch and partitions of each Fetch, the time, and what became of each partition. Out: all partitions
//! to fetch, in a fair order, and which of them the client must be told of. A session id that is not known, or an epoch
//! out of turn, is an error, and the client begins anew.
//!
//! Sessions and the partitions in them are bounded. A new session takes the place of another only if that was not used
//! for two minutes, or is as old and smaller; else the client goes on without one. So no crowd of clients can take
//! away the sessions of those who use theirs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_protocol::wire::Uuid;

use crate::Time;

/// How long a session is safe: from its last use, and from its creation against a larger one.
const SAFE_MS: u64 = 120_000;
/// The partitions that all sessions together may hold, about 100 bytes each.
const PARTITIONS_MAX: usize = 500_000;

/// No session.
pub const NO_SESSION: i32 = 0;
/// The epoch of a request that wants a new session.
pub const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that wants none, or ends the one it has.
pub const FINAL_EPOCH: i32 = -1;

/// A partition as a session knows it: by the topic's id from Fetch version 13 on, before by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Name of the topic; empty where ids are used.
    pub topic: Arc<str>,
    /// Id of the topic; zero where names are used.
    pub topic_id: Uuid,
    /// Number of the partition.
    pub partition: i32,
}

/// What a client wants of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The partition.
    pub key: SessionKey,
    /// The first offset.
    pub fetch_offset: i64,
    /// The most bytes.
    pub max_bytes: i32,
    /// The leader epoch that the client knows; -1 if it does not say.
    pub current_leader_epoch: i32,
    /// The leader epoch of the record before the first offset; -1 if it does not say.
    pub last_fetched_epoch: i32,
}

/// What a client is told of a partition besides records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The high watermark.
    pub high_watermark: i64,
    /// The last stable offset.
    pub last_stable_offset: i64,
    /// Where the log starts.
    pub log_start_offset: i64,
    /// There are records.
    pub records: bool,
    /// There is an error or another word that must reach the client each time.
    pub urgent: bool,
}

/// Why a session cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// FETCH_SESSION_ID_NOT_FOUND.
    #[error("no such fetch session")]
    IdNotFound,
    /// INVALID_FETCH_SESSION_EPOCH.
    #[error("the fetch session is at another epoch")]
    InvalidEpoch,
    /// FETCH_SESSION_TOPIC_ID_ERROR.
    #[error("the fetch session was begun with names of topics and goes on with ids, or the other way round")]
    TopicIds,
}

/// How a fetch is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetching {
    /// Without a session: exactly what the request names.
    Alone(Vec<Wanted>),
    /// The same, and the answer may begin a session.
    Begins(Vec<Wanted>),
    /// Within a session: all that it holds.
    Continues {
        /// The session.
        id: i32,
        /// All its partitions; those that gave records last come last.
        wanted: Vec<Wanted>,
    },
}

#[derive(Debug)]
struct Cached {
    wanted: Wanted,
    told: Option<Told>,
}

#[derive(Debug)]
struct Session {
    by_id: bool,
    next_epoch: i32,
    created: Time,
    used: Time,
    /// In the order of the next fetch.
    partitions: BTreeMap<u64, Cached>,
    places: HashMap<SessionKey, u64>,
    next_place: u64,
}

/// All sessions of a broker.
#[derive(Debug)]
pub struct FetchSessions {
    slots: usize,
    sessions: HashMap<i32, Session>,
    /// Partitions in all sessions.
    partitions: usize,
    /// The most of them.
    partitions_max: usize,
}

impl FetchSessions {
    /// At most `slots` sessions (`max.incremental.fetch.session.cache.slots`).
    pub fn new(slots: usize) -> Self {
        FetchSessions {
            slots,
            sessions: HashMap::new(),
            partitions: 0,
            partitions_max: PARTITIONS_MAX,
        }
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// What a session holds; nothing if there is no such session.
    pub fn partitions_of(&self, id: i32) -> impl Iterator<Item = &SessionKey> {
        let session = self.sessions.get(&id);
        session.into_iter().flat_map(|session| session.places.keys())
    }

    /// Takes in a request. `by_id`: its topics have ids.
    pub fn begin(
        &mut self,
        (id, epoch): (i32, i32),
        by_id: bool,
        wanted: Vec<Wanted>,
        forgotten: &[SessionKey],
        now: Time,
    ) -> Result<Fetching, SessionError> {
        if epoch == FINAL_EPOCH || epoch == INITIAL_EPOCH {
            self.remove(id);
            return Ok(match epoch {
                INITIAL_EPOCH if !wanted.is_empty() => Fetching::Begins(wanted),
                _ => Fetching::Alone(wanted),
            });
        }
        let session = self.sessions.get_mut(&id).ok_or(SessionError::IdNotFound)?;
        if epoch != session.next_epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if by_id != session.by_id {
            return Err(SessionError::TopicIds);
        }
        session.next_epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.used = now;
        let before = session.partitions.len();
        session.update(wanted, forgotten);
        let after = session.partitions.len();
        let wanted: Vec<Wanted> = session
            .partitions
            .values()
            .map(|cached| cached.wanted.clone())
            .collect();
        self.partitions = self.partitions - before + after;
        if after == 0 || self.partitions > self.partitions_max {
            self.remove(id);
            return Ok(Fetching::Alone(wanted));
        }
        Ok(Fetching::Continues { id, wanted })
    }

    /// Begins the session of a fetch that [`begins`](Fetching::Begins) one and was told `told`, in the order of its
    /// partitions. `id` is random. Gives the session's id, or [`NO_SESSION`] if there is no room.
    pub fn create(&mut self, id: i32, by_id: bool, wanted: Vec<Wanted>, told: &[Told], now: Time) -> i32 {
        if id <= 0 || self.sessions.contains_key(&id) || !self.make_room(wanted.len(), now) {
            return NO_SESSION;
        }
        let mut session = Session {
            by_id,
            next_epoch: 1,
            created: now,
            used: now,
            partitions: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
        };
        let order: Vec<SessionKey> = wanted.iter().map(|wanted| wanted.key.clone()).collect();
        session.update(wanted, &[]);
        for (key, told) in order.iter().zip(told) {
            session.tell(key, *told);
        }
        self.partitions += session.partitions.len();
        self.sessions.insert(id, session);
        id
    }

    /// Says which partitions the client of a session must be told of: those with records or something urgent, and those
    /// of which it knows something else. What was told is remembered.
    pub fn changed(&mut self, id: i32, outcomes: &[(SessionKey, Told)]) -> Vec<bool> {
        match self.sessions.get_mut(&id) {
            Some(session) => outcomes.iter().map(|(key, told)| session.tell(key, *told)).collect(),
            // It had to make room meanwhile.
            None => vec![true; outcomes.len()],
        }
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.partitions.len();
        }
    }

    fn make_room(&mut self, size: usize, now: Time) -> bool {
        if self.slots == 0 || size > self.partitions_max {
            return false;
        }
        while self.sessions.len() >= self.slots || self.partitions + size > self.partitions_max {
            let yields = |session: &Session| {
                now.since(session.used) > SAFE_MS
                    || (now.since(session.created) > SAFE_MS && session.partitions.len() < size)
            };
            let weakest = self.sessions.iter().filter(|(_, session)| yields(session));
            let weakest = weakest.min_by_key(|(id, session)| {
                let stale = now.since(session.used) > SAFE_MS;
                (!stale, session.partitions.len(), **id)
            });
            match weakest.map(|(id, _)| *id) {
                Some(id) => self.remove(id),
                None => return false,
            }
        }
        true
    }
}

impl Session {
    fn update(&mut self, wanted: Vec<Wanted>, forgotten: &[SessionKey]) {
        for wanted in wanted {
            match self
                .places
                .get(&wanted.key)
                .and_then(|place| self.partitions.get_mut(place))
            {
                Some(cached) => cached.wanted = wanted,
                None => {
                    self.places.insert(wanted.key.clone(), self.next_place);
                    self.partitions.insert(self.next_place, Cached { wanted, told: None });
                    self.next_place += 1;
                }
            }
        }
        for key in forgotten {
            if let Some(place) = self.places.remove(key) {
                self.partitions.remove(&place);
            }
        }
    }

    /// Remembers what the client is told; says whether it must be.
    fn tell(&mut self, key: &SessionKey, told: Told) -> bool {
        let Some(place) = self.places.get_mut(key) else {
            return true;
        };
        let Some(mut cached) = self.partitions.remove(place) else {
            return true;
        };
        let must = told.records || told.urgent || cached.told != Some(told);
        // After an error the client must hear that it is over.
        cached.told = (!told.urgent).then_some(Told { records: false, ..told });
        if told.records {
            // Who gave records stands behind those who did not: the answer has an end.
            *place = self.next_place;
            self.next_place += 1;
        }
        self.partitions.insert(*place, cached);
        must
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> SessionKey {
        SessionKey {
            topic: "".into(),
            topic_id: Uuid([7; 16]),
            partition,
        }
    }

    fn wanted(partition: i32, fetch_offset: i64) -> Wanted {
        Wanted {
            key: key(partition),
            fetch_offset,
            max_bytes: 100,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
        }
    }

    fn told(high_watermark: i64, records: bool) -> Told {
        Told {
            high_watermark,
            last_stable_offset: high_watermark,
            log_start_offset: 0,
            records,
            urgent: false,
        }
    }

    fn session(sessions: &mut FetchSessions, id: i32, partitions: i32, now: Time) -> i32 {
        let all: Vec<Wanted> = (0..partitions).map(|partition| wanted(partition, 0)).collect();
        let begun = sessions.begin((NO_SESSION, INITIAL_EPOCH), true, all.clone(), &[], now);
        assert_eq!(begun, Ok(Fetching::Begins(all.clone())));
        let first = vec![told(10, false); all.len()];
        sessions.create(id, true, all, &first, now)
    }

    fn offsets(fetching: Result<Fetching, SessionError>) -> Vec<(i32, i64)> {
        let Ok(Fetching::Continues { wanted, .. }) = fetching else {
            panic!("{fetching:?}")
        };
        wanted
            .iter()
            .map(|wanted| (wanted.key.partition, wanted.fetch_offset))
            .collect()
    }

    #[test]
    fn a_session_remembers_what_was_wanted_and_takes_in_what_changes() {
        let mut sessions = FetchSessions::new(10);
        assert_eq!(session(&mut sessions, 5, 3, Time(0)), 5);
        let next = sessions.begin((5, 1), true, vec![wanted(1, 40), wanted(9, 2)], &[key(0)], Time(1));
        assert_eq!(offsets(next), [(1, 40), (2, 0), (9, 2)]);
        assert_eq!(
            offsets(sessions.begin((5, 2), true, vec![], &[], Time(2))),
            [(1, 40), (2, 0), (9, 2)]
        );
        let emptied = sessions.begin((5, 3), true, vec![], &[key(1), key(2), key(9)], Time(3));
        assert_eq!(emptied, Ok(Fetching::Alone(vec![])));
        assert_eq!(
            sessions.begin((5, 4), true, vec![], &[], Time(4)),
            Err(SessionError::IdNotFound)
        );
        assert_eq!(sessions.partitions, 0);
    }

    #[test]
    fn only_what_changed_is_told_and_who_gave_records_goes_last() {
        let mut sessions = FetchSessions::new(10);
        session(&mut sessions, 5, 3, Time(0));
        let urgent = Told {
            urgent: true,
            ..told(-1, false)
        };
        let mut tell = |answers: [Told; 3]| {
            let outcomes: Vec<_> = (0..3).map(key).zip(answers).collect();
            sessions.changed(5, &outcomes)
        };
        let same = told(10, false);
        assert_eq!(tell([same, same, same]), [false, false, false]);
        assert_eq!(tell([told(10, true), told(11, false), same]), [true, true, false]);
        assert_eq!(tell([same, told(11, false), urgent]), [false, false, true]);
        assert_eq!(tell([same, told(11, false), urgent]), [false, false, true]);
        assert_eq!(
            tell([same, told(11, false), same]),
            [false, false, true],
            "the error is over"
        );
        assert_eq!(
            offsets(sessions.begin((5, 1), true, vec![], &[], Time(1))),
            [(1, 0), (2, 0), (0, 0)]
        );
    }

    #[test]
    fn ids_epochs_and_the_way_of_naming_topics_must_fit() {
        let mut sessions = FetchSessions::new(10);
        session(&mut sessions, 5, 1, Time(0));
        let mut begin = |id, epoch, by_id| sessions.begin((id, epoch), by_id, vec![], &[], Time(1));
        assert_eq!(begin(6, 1, true), Err(SessionError::IdNotFound));
        assert_eq!(begin(5, 2, true), Err(SessionError::InvalidEpoch));
        assert_eq!(begin(5, 1, false), Err(SessionError::TopicIds));
        assert!(matches!(begin(5, 1, true), Ok(Fetching::Continues { .. })));
        assert_eq!(begin(5, 1, true), Err(SessionError::InvalidEpoch), "a repeat");
        assert_eq!(begin(5, FINAL_EPOCH, true), Ok(Fetching::Alone(vec![])));
        assert_eq!(begin(5, 2, true), Err(SessionError::IdNotFound));
    }

    #[test]
    fn after_the_last_epoch_comes_the_first() {
        let mut sessions = FetchSessions::new(10);
        session(&mut sessions, 5, 1, Time(0));
        sessions.sessions.get_mut(&5).unwrap().next_epoch = i32::MAX;
        assert!(sessions.begin((5, i32::MAX), true, vec![], &[], Time(1)).is_ok());
        assert!(sessions.begin((5, 1), true, vec![], &[], Time(1)).is_ok());
    }

    #[test]
    fn a_crowd_cannot_take_the_sessions_of_those_who_use_theirs() {
        let mut sessions = FetchSessions::new(2);
        assert_eq!(session(&mut sessions, 1, 3, Time(0)), 1);
        assert_eq!(session(&mut sessions, 2, 3, Time(0)), 2);
        for id in 3..100 {
            assert_eq!(session(&mut sessions, id, 50, Time(SAFE_MS)), NO_SESSION);
        }
        assert!(sessions.begin((1, 1), true, vec![], &[], Time(SAFE_MS)).is_ok());
        let later = Time(SAFE_MS + 1);
        assert_eq!(session(&mut sessions, 100, 3, later), 100, "2 was not used for long");
        assert_eq!(
            sessions.begin((2, 1), true, vec![], &[], later),
            Err(SessionError::IdNotFound)
        );
        assert_eq!(
            session(&mut sessions, 101, 3, later),
            NO_SESSION,
            "1 is in use and as large"
        );
        assert_eq!(session(&mut sessions, 102, 4, later), 102, "1 is old and smaller");
        assert_eq!(
            session(&mut sessions, 103, 9, later),
            NO_SESSION,
            "the others are young"
        );
        assert_eq!(session(&mut FetchSessions::new(0), 1, 1, Time(0)), NO_SESSION);
    }

    #[test]
    fn the_partitions_of_all_sessions_are_bounded() {
        let mut sessions = FetchSessions::new(1_000);
        let half = 50;
        sessions.partitions_max = 100;
        assert_eq!(session(&mut sessions, 1, half, Time(0)), 1);
        assert_eq!(session(&mut sessions, 2, half, Time(0)), 2);
        assert_eq!(session(&mut sessions, 3, 1, Time(0)), NO_SESSION);
        let more = (half..half + 1).map(|partition| wanted(partition, 0)).collect();
        assert!(matches!(
            sessions.begin((1, 1), true, more, &[], Time(0)),
            Ok(Fetching::Alone(_))
        ));
        assert_eq!((sessions.len(), sessions.partitions), (1, 50));
    }
}
