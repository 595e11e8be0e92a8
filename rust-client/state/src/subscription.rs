//! What a consumer reads and how far it is.
//!
//! In: what the application assigns, seeks, pauses and takes; what fetches and offset look-ups bring. Out: which
//! partitions to fetch from where ([`SubscriptionState::fetchable`]) and for which to look up an offset
//! ([`SubscriptionState::next_reset`]). It sends nothing and holds no records.
//!
//! A partition has two places. `position` is the next record the application will get; it moves in
//! [`SubscriptionState::advance`] and nowhere else. `fetch_offset` runs ahead of it, as far as data is buffered.
//! Every partition carries a fence: a number that changes whenever the application moves it elsewhere. What was asked
//! for under an older fence is stale and is dropped.
//!
//! Both places have the leader epoch of the record before them, where one is known (KIP-320). A fetch tells it to the
//! broker, which so notices that the log was cut and written anew below the place.

mod fetching;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::backoff::Backoff;
use crate::{Time, TopicPartition};

/// Where to start when there is no position, or when it lies outside the log (`auto.offset.reset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResetPolicy {
    /// At the first record that is still there.
    Earliest,
    /// After the last record.
    Latest,
    /// Nowhere: the application must say.
    None,
    /// At the first record not older than this (KIP-1106).
    ByDuration {
        /// How far back from now, in milliseconds.
        ms: u64,
    },
}

/// The place that an offset look-up is to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The first record that is still there.
    Earliest,
    /// After the last record.
    Latest,
    /// The first record whose timestamp is at least this, in milliseconds since 1970; the end if there is none.
    Timestamp(i64),
    /// As `Timestamp`, so many milliseconds before the moment of the look-up.
    Ago(u64),
}

/// A look-up that a partition waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// The partition.
    pub partition: TopicPartition,
    /// What to look up.
    pub target: Target,
    /// To be handed back with the answer.
    pub fence: u64,
}

/// One partition of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchTarget {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset wanted.
    pub offset: i64,
    /// The leader epoch of the record before it, if known.
    pub last_epoch: Option<i32>,
    /// To be handed back with the answer.
    pub fence: u64,
}

/// What a fetch brought for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brought {
    /// The offset after the records; the one asked for if there are none.
    pub next_offset: i64,
    /// The leader epoch of the last record, if there is one.
    pub last_epoch: Option<i32>,
    /// Bytes of records, which are in the buffer now.
    pub bytes: usize,
    /// The high watermark that was told.
    pub high_watermark: i64,
}

/// What became of a partition whose log was cut below what was read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncated {
    /// It was fetched under an old fence, or records wait to be handed over first; nothing happens.
    Stale,
    /// It goes on at this offset, where the log and what was read part.
    Moved(i64),
    /// There is no policy: the application must be told, and must seek.
    Fail,
}

/// What became of a partition whose position lies outside the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfRange {
    /// It was fetched under an old fence; nothing happens.
    Stale,
    /// The policy decides: a look-up of this target follows.
    Reset(Target),
    /// There is no policy: the application must be told, and must seek.
    Fail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nobody has said where to start and the policy is `none`. Nothing is fetched until a seek.
    Unknown,
    /// The committed offset must be looked up. `asking`: the question is on its way.
    Committed { asking: bool },
    /// An offset must be looked up. `asking`: the question is on its way.
    Resetting { target: Target, asking: bool },
    /// Fetching; `fetch_offset` is the next offset to ask for, `epoch` the leader epoch of the record before it.
    At { fetch_offset: i64, epoch: Option<i32> },
}

#[derive(Debug, Clone)]
struct Partition {
    fence: u64,
    place: Place,
    /// The offset of the next record for the application; `None` until known.
    position: Option<i64>,
    /// The leader epoch of the record before it, if known.
    position_epoch: Option<i32>,
    paused: bool,
    /// The partition is being given up: nothing of it is fetched or handed over any more.
    revoked: bool,
    /// Which assignment of the partition this is: what was handed over under an earlier one must not be committed.
    assignment: u64,
    /// A fetch of it is on the wire.
    in_flight: bool,
    buffered_bytes: usize,
    failures: u32,
    not_before: Time,
    high_watermark: Option<i64>,
}

/// The partitions of one consumer.
#[derive(Debug)]
pub struct SubscriptionState {
    partitions: BTreeMap<TopicPartition, Partition>,
    policy: ResetPolicy,
    /// New partitions start where their group has committed, if it has.
    from_committed: bool,
    next_fence: u64,
    backoff: Backoff,
}

/// What a partition waits for before it can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// For the application to seek: there is no place and no policy.
    NoPosition,
    /// For the committed offset.
    AwaitsCommitted,
    /// For an offset to be looked up.
    AwaitsOffset,
    /// For nothing: it has its place.
    Placed,
}

impl SubscriptionState {
    /// Nothing assigned.
    pub fn new(policy: ResetPolicy, backoff: Backoff) -> Self {
        SubscriptionState {
            partitions: BTreeMap::new(),
            policy,
            from_committed: false,
            next_fence: 1,
            backoff,
        }
    }

    /// Has partitions that are assigned from now on start where their group has committed; where it has not, by the
    /// policy.
    #[must_use]
    pub fn from_committed(mut self) -> Self {
        self.from_committed = true;
        self
    }

    /// Reads exactly `partitions` from now on. Those that were assigned before keep their place.
    pub fn assign(&mut self, partitions: &[TopicPartition]) {
        let mut before = std::mem::take(&mut self.partitions);
        for partition in partitions {
            let kept = before.remove(partition);
            let state = kept.unwrap_or_else(|| self.fresh());
            self.partitions.insert(partition.clone(), state);
        }
    }

    fn fresh(&mut self) -> Partition {
        let fence = self.new_fence();
        Partition {
            fence,
            place: match self.from_committed {
                true => Place::Committed { asking: false },
                false => self.policy_place(),
            },
            position: None,
            position_epoch: None,
            paused: false,
            revoked: false,
            assignment: fence,
            in_flight: false,
            buffered_bytes: 0,
            failures: 0,
            not_before: Time::ZERO,
            high_watermark: None,
        }
    }

    fn new_fence(&mut self) -> u64 {
        self.next_fence += 1;
        self.next_fence
    }

    fn policy_place(&self) -> Place {
        match self.policy_target() {
            Some(target) => Place::Resetting { target, asking: false },
            None => Place::Unknown,
        }
    }

    fn policy_target(&self) -> Option<Target> {
        match self.policy {
            ResetPolicy::Earliest => Some(Target::Earliest),
            ResetPolicy::Latest => Some(Target::Latest),
            ResetPolicy::ByDuration { ms } => Some(Target::Ago(ms)),
            ResetPolicy::None => None,
        }
    }

    /// The assigned partitions, in order.
    pub fn assigned(&self) -> impl ExactSizeIterator<Item = &TopicPartition> {
        self.partitions.keys()
    }

    /// Whether `partition` is assigned.
    pub fn is_assigned(&self, partition: &TopicPartition) -> bool {
        self.partitions.contains_key(partition)
    }

    /// The assigned partitions for which no place is known and none is being looked up.
    pub fn without_position(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions
            .iter()
            .filter(|(_, state)| state.place == Place::Unknown)
            .map(|(partition, _)| partition)
    }

    /// Moves `partition` to `offset`. False if it is not assigned.
    pub fn seek(&mut self, partition: &TopicPartition, offset: i64) -> bool {
        self.seek_with_epoch(partition, offset, None)
    }

    /// As [`seek`](SubscriptionState::seek), with the leader epoch of the record before `offset`, as a committed offset
    /// has it: the first fetch then notices if the log was cut below `offset` since.
    pub fn seek_with_epoch(&mut self, partition: &TopicPartition, offset: i64, epoch: Option<i32>) -> bool {
        let fence = self.new_fence();
        let epoch = epoch.filter(|epoch| *epoch >= 0);
        let place = Place::At {
            fetch_offset: offset,
            epoch,
        };
        self.move_to(partition, fence, place, Some((offset, epoch)))
    }

    /// Moves `partition` to where `target` will be found. False if it is not assigned.
    pub fn seek_to(&mut self, partition: &TopicPartition, target: Target) -> bool {
        let fence = self.new_fence();
        self.move_to(partition, fence, Place::Resetting { target, asking: false }, None)
    }

    fn move_to(
        &mut self,
        partition: &TopicPartition,
        fence: u64,
        place: Place,
        position: Option<(i64, Option<i32>)>,
    ) -> bool {
        let Some(state) = self.partitions.get_mut(partition) else {
            return false;
        };
        *state = Partition {
            fence,
            place,
            position: position.map(|(offset, _)| offset),
            position_epoch: position.and_then(|(_, epoch)| epoch),
            ..state.clone()
        };
        state.buffered_bytes = 0;
        state.failures = 0;
        state.not_before = Time::ZERO;
        true
    }

    /// Pauses or resumes `partition`: paused, it keeps its place and nothing of it is fetched or handed over. False
    /// if it is not assigned.
    pub fn set_paused(&mut self, partition: &TopicPartition, paused: bool) -> bool {
        let found = self.partitions.get_mut(partition);
        found.map(|state| state.paused = paused).is_some()
    }

    /// Whether `partition` is assigned and paused.
    pub fn is_paused(&self, partition: &TopicPartition) -> bool {
        self.partitions.get(partition).is_some_and(|state| state.paused)
    }

    /// The paused partitions, in order.
    pub fn paused(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions
            .iter()
            .filter(|(_, state)| state.paused)
            .map(|(partition, _)| partition)
    }

    /// The offset of the next record that the application gets; `None` while unknown or not assigned.
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.partitions.get(partition)?.position
    }

    /// The leader epoch of the record before the position, if it is known: to be committed with it.
    pub fn position_epoch(&self, partition: &TopicPartition) -> Option<i32> {
        self.partitions.get(partition)?.position_epoch
    }

    /// The high watermark that the last fetch of `partition` reported.
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<i64> {
        self.partitions.get(partition)?.high_watermark
    }

    /// Whether data fetched under `fence` is still wanted.
    pub fn is_current(&self, partition: &TopicPartition, fence: u64) -> bool {
        self.partitions.get(partition).is_some_and(|state| state.fence == fence)
    }

    /// The next partition whose offset must be looked up and that `askable` accepts (its leader is known); each is
    /// given out once until its answer is handled.
    pub fn next_reset(&mut self, askable: impl Fn(&TopicPartition) -> bool, now: Time) -> Option<Reset> {
        for (partition, state) in &mut self.partitions {
            if let Place::Resetting { target, asking } = &mut state.place
                && !*asking
                && state.not_before <= now
                && askable(partition)
            {
                *asking = true;
                return Some(Reset {
                    partition: partition.clone(),
                    target: *target,
                    fence: state.fence,
                });
            }
        }
        None
    }

    /// The partitions whose committed offset must be fetched, each with the fence to be handed back; each is given out
    /// once until its answer is handled.
    pub fn next_committed(&mut self, now: Time) -> Vec<(TopicPartition, u64)> {
        let mut wanted = Vec::new();
        for (partition, state) in &mut self.partitions {
            if let Place::Committed { asking } = &mut state.place
                && !*asking
                && !state.revoked
                && state.not_before <= now
            {
                *asking = true;
                wanted.push((partition.clone(), state.fence));
            }
        }
        wanted
    }

    /// The committed offset of `partition` and the leader epoch committed with it, or `None` if nothing is committed: then
    /// the policy decides.
    pub fn handle_committed(&mut self, partition: &TopicPartition, fence: u64, committed: Option<(i64, Option<i32>)>) {
        let by_policy = self.policy_place();
        if let Some(state) = self.current(partition, fence)
            && matches!(state.place, Place::Committed { .. })
        {
            state.failures = 0;
            state.position = committed.map(|(offset, _)| offset);
            state.position_epoch = committed.and_then(|(_, epoch)| epoch);
            state.place = match committed {
                Some((fetch_offset, epoch)) => Place::At { fetch_offset, epoch },
                None => by_policy,
            };
        }
    }

    /// The committed offset of `partition` could not be fetched; it is asked for again after the backoff.
    pub fn handle_committed_failed(&mut self, partition: &TopicPartition, fence: u64, now: Time) {
        if let Some(state) = self.current(partition, fence)
            && let Place::Committed { asking } = &mut state.place
        {
            *asking = false;
            self.fail(partition, now);
        }
    }

    /// Nothing of `partition` is fetched or handed over any more; it keeps its position until it is assigned no longer.
    /// False if it is not assigned.
    pub fn handle_revoked(&mut self, partition: &TopicPartition) -> bool {
        let fence = self.new_fence();
        let Some(state) = self.partitions.get_mut(partition) else {
            return false;
        };
        state.revoked = true;
        state.fence = fence;
        state.buffered_bytes = 0;
        if let (Place::At { .. }, Some(position)) = (state.place, state.position) {
            state.place = Place::At {
                fetch_offset: position,
                epoch: state.position_epoch,
            };
        }
        true
    }

    /// Whether `partition` is assigned and being given up.
    pub fn is_revoked(&self, partition: &TopicPartition) -> bool {
        self.partitions.get(partition).is_some_and(|state| state.revoked)
    }

    /// Which assignment of `partition` this is: a number that is another one each time it is assigned anew.
    pub fn assignment_of(&self, partition: &TopicPartition) -> Option<u64> {
        self.partitions.get(partition).map(|state| state.assignment)
    }

    /// What `partition` waits for before it can be fetched; `None` if it is not assigned.
    pub fn standing(&self, partition: &TopicPartition) -> Option<Standing> {
        Some(match self.partitions.get(partition)?.place {
            Place::Unknown => Standing::NoPosition,
            Place::Committed { .. } => Standing::AwaitsCommitted,
            Place::Resetting { .. } => Standing::AwaitsOffset,
            Place::At { .. } => Standing::Placed,
        })
    }

    /// How many bytes of `partition` wait to be handed over.
    pub fn buffered_bytes(&self, partition: &TopicPartition) -> usize {
        self.partitions.get(partition).map_or(0, |state| state.buffered_bytes)
    }

    /// How often in a row asking about `partition` has failed.
    pub fn failures(&self, partition: &TopicPartition) -> u32 {
        self.partitions.get(partition).map_or(0, |state| state.failures)
    }

    /// Whether a fetch of `partition` is on the wire.
    pub fn is_in_flight(&self, partition: &TopicPartition) -> bool {
        self.partitions.get(partition).is_some_and(|state| state.in_flight)
    }

    /// A look-up found `offset`.
    pub fn handle_offset(&mut self, partition: &TopicPartition, fence: u64, offset: i64) {
        if let Some(state) = self.current(partition, fence)
            && matches!(state.place, Place::Resetting { .. })
        {
            state.place = Place::At {
                fetch_offset: offset,
                epoch: None,
            };
            (state.position, state.position_epoch) = (Some(offset), None);
            state.failures = 0;
        }
    }

    /// A look-up failed; it is tried again after the backoff.
    pub fn handle_reset_failed(&mut self, partition: &TopicPartition, fence: u64, now: Time) {
        if let Some(state) = self.current(partition, fence)
            && let Place::Resetting { asking, .. } = &mut state.place
        {
            *asking = false;
            self.fail(partition, now);
        }
    }

    /// The topic was deleted and created anew: its partitions' offsets mean nothing any more. Gives those that moved.
    ///
    /// They start at the beginning, also under `latest`: all of the new topic was written after the old one was
    /// being read, so skipping any of it would lose records. Without a policy the application must seek.
    pub fn handle_recreated(&mut self, topic: &str) -> Vec<TopicPartition> {
        let place = match self.policy {
            ResetPolicy::None => Place::Unknown,
            _ => Place::Resetting {
                target: Target::Earliest,
                asking: false,
            },
        };
        let mut moved = Vec::new();
        let partitions: Vec<_> = self
            .partitions
            .keys()
            .filter(|key| &*key.topic == topic)
            .cloned()
            .collect();
        for partition in partitions {
            let fence = self.new_fence();
            if self.move_to(&partition, fence, place, None) {
                moved.push(partition);
            }
        }
        moved
    }

    /// When a partition that waits for its backoff is due; `None` if none waits.
    pub fn wake_at(&self, now: Time) -> Option<Time> {
        let waiting = self.partitions.values().filter(|state| state.not_before > now);
        waiting.map(|state| state.not_before).min()
    }

    fn current(&mut self, partition: &TopicPartition, fence: u64) -> Option<&mut Partition> {
        self.partitions.get_mut(partition).filter(|state| state.fence == fence)
    }

    fn fail(&mut self, partition: &TopicPartition, now: Time) {
        if let Some(state) = self.partitions.get_mut(partition) {
            state.failures = state.failures.saturating_add(1);
            state.not_before = now.plus_ms(self.backoff.next_ms(state.failures));
        }
    }
}
