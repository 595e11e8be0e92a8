//! The fetch sessions of a broker: the mind with a lock, a clock and random numbers.
//!
//! In: Fetch requests and their outcomes, from the handler. Out: what [`ottla_broker_state::fetch_sessions`] decides. The
//! lock is held for a look into the table and never across an await.

use ottla_broker_state::Time;
use ottla_broker_state::fetch_sessions::{FetchSessions, Fetching, SessionError, SessionKey, Told, Wanted};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// All sessions of a broker. They end with it.
#[derive(Debug)]
pub struct FetchSessionCache {
    sessions: Mutex<FetchSessions>,
    started: Instant,
}

impl FetchSessionCache {
    /// At most `slots` sessions (`max.incremental.fetch.session.cache.slots`).
    pub fn new(slots: usize) -> Self {
        FetchSessionCache {
            sessions: Mutex::new(FetchSessions::new(slots)),
            started: Instant::now(),
        }
    }

    /// See [`FetchSessions::begin`].
    pub fn begin(
        &self,
        session: (i32, i32),
        by_id: bool,
        wanted: Vec<Wanted>,
        forgotten: &[SessionKey],
    ) -> Result<Fetching, SessionError> {
        self.lock().begin(session, by_id, wanted, forgotten, self.now())
    }

    /// See [`FetchSessions::create`].
    pub fn create(&self, by_id: bool, wanted: Vec<Wanted>, told: &[Told]) -> i32 {
        // An id that is taken gives no session, and the client asks for one again with its next fetch.
        let id = rand::random_range(1..=i32::MAX);
        self.lock().create(id, by_id, wanted, told, self.now())
    }

    /// See [`FetchSessions::changed`].
    pub fn changed(&self, id: i32, outcomes: &[(SessionKey, Told)]) -> Vec<bool> {
        self.lock().changed(id, outcomes)
    }

    /// See [`FetchSessions::partitions_of`].
    pub fn partitions_of(&self, id: i32) -> Vec<SessionKey> {
        self.lock().partitions_of(id).cloned().collect()
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, FetchSessions> {
        // Every step under the lock leaves the table whole.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
