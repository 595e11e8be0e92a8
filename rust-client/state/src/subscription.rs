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
    /// To be handed back with the answer.
    pub fence: u64,
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
    /// An offset must be looked up. `asking`: the question is on its way.
    Resetting { target: Target, asking: bool },
    /// Fetching; `fetch_offset` is the next offset to ask for.
    At { fetch_offset: i64 },
}

#[derive(Debug, Clone)]
struct Partition {
    fence: u64,
    place: Place,
    /// The offset of the next record for the application; `None` until known.
    position: Option<i64>,
    paused: bool,
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
    next_fence: u64,
    backoff: Backoff,
}

impl SubscriptionState {
    /// Nothing assigned.
    pub fn new(policy: ResetPolicy, backoff: Backoff) -> Self {
        SubscriptionState {
            partitions: BTreeMap::new(),
            policy,
            next_fence: 1,
            backoff,
        }
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
        Partition {
            fence: self.new_fence(),
            place: self.policy_place(),
            position: None,
            paused: false,
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
        let fence = self.new_fence();
        self.move_to(partition, fence, Place::At { fetch_offset: offset }, Some(offset))
    }

    /// Moves `partition` to where `target` will be found. False if it is not assigned.
    pub fn seek_to(&mut self, partition: &TopicPartition, target: Target) -> bool {
        let fence = self.new_fence();
        self.move_to(partition, fence, Place::Resetting { target, asking: false }, None)
    }

    fn move_to(&mut self, partition: &TopicPartition, fence: u64, place: Place, position: Option<i64>) -> bool {
        let Some(state) = self.partitions.get_mut(partition) else {
            return false;
        };
        *state = Partition {
            fence,
            place,
            position,
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

    /// A look-up found `offset`.
    pub fn handle_offset(&mut self, partition: &TopicPartition, fence: u64, offset: i64) {
        if let Some(state) = self.current(partition, fence)
            && matches!(state.place, Place::Resetting { .. })
        {
            state.place = Place::At { fetch_offset: offset };
            state.position = Some(offset);
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

    /// What to fetch from a leader now: the partitions that `led` accepts, not paused, not on the wire, with a known
    /// place and less than `enough` bytes in the buffer.
    ///
    /// Empty while a partition of this leader waits for its first look-up: a fetch that starts without it would keep
    /// it waiting for `fetch.max.wait.ms`. Empty, for the same reason, while there is only news to wait for and a
    /// partition has so much in the buffer that it would be left out: it could not be fetched again before the wait is
    /// over, though the application may have emptied the buffer long before.
    pub fn fetchable(&self, led: impl Fn(&TopicPartition) -> bool, enough: usize, now: Time) -> Vec<FetchTarget> {
        let mut targets = Vec::new();
        let (mut behind, mut left_out) = (false, false);
        for (partition, state) in self.partitions.iter().filter(|(partition, _)| led(partition)) {
            match state.place {
                Place::Resetting { .. } if state.failures == 0 && !state.paused => return Vec::new(),
                Place::At { fetch_offset } if state.wants_fetch(enough, now) => {
                    behind |= state.high_watermark.is_none_or(|end| fetch_offset < end);
                    targets.push(FetchTarget {
                        partition: partition.clone(),
                        offset: fetch_offset,
                        fence: state.fence,
                    });
                }
                _ => left_out |= !state.paused && state.buffered_bytes >= enough,
            }
        }
        if left_out && !behind {
            targets.clear();
        }
        targets
    }

    /// A fetch of these went on the wire.
    pub fn handle_fetch_sent(&mut self, targets: &[FetchTarget]) {
        for target in targets {
            if let Some(state) = self.partitions.get_mut(&target.partition) {
                state.in_flight = true;
            }
        }
    }

    /// The fetch of these is over, whatever it brought.
    pub fn handle_fetch_ended(&mut self, targets: &[FetchTarget]) {
        for target in targets {
            if let Some(state) = self.partitions.get_mut(&target.partition) {
                state.in_flight = false;
            }
        }
    }

    /// A fetch brought `bytes` of records up to `next_offset`, exclusively; they are in the buffer now. False if they
    /// are stale and must be dropped.
    pub fn handle_fetched(
        &mut self,
        partition: &TopicPartition,
        fence: u64,
        next_offset: i64,
        bytes: usize,
        high_watermark: i64,
    ) -> bool {
        let Some(state) = self.current(partition, fence) else {
            return false;
        };
        state.high_watermark = Some(high_watermark).filter(|offset| *offset >= 0);
        state.failures = 0;
        let Place::At { fetch_offset } = &mut state.place else {
            return false;
        };
        *fetch_offset = next_offset.max(*fetch_offset);
        state.buffered_bytes += bytes;
        true
    }

    /// The application took records up to `next_offset`, exclusively, and `bytes` left the buffer. False if they were
    /// stale and must not be handed over.
    pub fn advance(&mut self, partition: &TopicPartition, fence: u64, next_offset: i64, bytes: usize) -> bool {
        let Some(state) = self.current(partition, fence) else {
            return false;
        };
        state.buffered_bytes = state.buffered_bytes.saturating_sub(bytes);
        // Never backwards: a broker that repeats itself must not make the application see a record twice.
        state.position = Some(state.position.map_or(next_offset, |position| position.max(next_offset)));
        true
    }

    /// The buffered data of `partition` was dropped unread: it is fetched again from the position.
    pub fn handle_dropped(&mut self, partition: &TopicPartition, fence: u64) {
        let next_fence = self.new_fence();
        if let Some(state) = self.current(partition, fence)
            && let (Place::At { .. }, Some(position)) = (state.place, state.position)
        {
            state.fence = next_fence;
            state.place = Place::At { fetch_offset: position };
            state.buffered_bytes = 0;
        }
    }

    /// The broker says that `offset`, which was asked for under `fence`, lies outside the log.
    ///
    /// While data is buffered before that offset, nothing is decided: the application shall get that data first, and
    /// the question is asked again after the backoff.
    pub fn handle_out_of_range(
        &mut self,
        partition: &TopicPartition,
        fence: u64,
        offset: i64,
        now: Time,
    ) -> OutOfRange {
        let target = self.policy_target();
        let Some(state) = self.current(partition, fence) else {
            return OutOfRange::Stale;
        };
        // The answer to an older question: the fetch offset has moved on since.
        if state.place != (Place::At { fetch_offset: offset }) {
            return OutOfRange::Stale;
        }
        if state.buffered_bytes > 0 {
            self.fail(partition, now);
            return OutOfRange::Stale;
        }
        match target {
            Some(target) => {
                state.place = Place::Resetting { target, asking: false };
                state.position = None;
                OutOfRange::Reset(target)
            }
            None => {
                state.place = Place::Unknown;
                OutOfRange::Fail
            }
        }
    }

    /// A fetch of `partition` failed, or what it brought cannot be read: it is fetched again from the same place after
    /// the backoff.
    pub fn handle_fetch_failed(&mut self, partition: &TopicPartition, fence: u64, now: Time) {
        if self.is_current(partition, fence) {
            self.fail(partition, now);
        }
    }

    /// As [`SubscriptionState::handle_fetch_failed`], whatever the fence.
    pub fn fail_current(&mut self, partition: &TopicPartition, now: Time) {
        self.fail(partition, now);
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

impl Partition {
    fn wants_fetch(&self, enough: usize, now: Time) -> bool {
        !self.paused && !self.in_flight && self.buffered_bytes < enough && self.not_before <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    fn state(policy: ResetPolicy) -> SubscriptionState {
        SubscriptionState::new(policy, Backoff::new(100, 1000, 1))
    }

    /// One partition, placed at offset 10.
    fn placed() -> (SubscriptionState, u64) {
        let mut state = state(ResetPolicy::Earliest);
        state.assign(&[tp(0)]);
        state.seek(&tp(0), 10);
        let fence = fetches(&state)[0].fence;
        (state, fence)
    }

    fn fetches(state: &SubscriptionState) -> Vec<FetchTarget> {
        state.fetchable(|_| true, 1000, Time::ZERO)
    }

    #[test]
    fn a_new_partition_starts_where_the_policy_says() {
        let mut state = state(ResetPolicy::Latest);
        state.assign(&[tp(0)]);
        assert!(fetches(&state).is_empty());
        let reset = state.next_reset(|_| true, Time::ZERO).unwrap();
        assert_eq!((reset.target, &reset.partition), (Target::Latest, &tp(0)));
        assert_eq!(state.next_reset(|_| true, Time::ZERO), None, "asked once");
        state.handle_offset(&tp(0), reset.fence, 42);
        assert_eq!((state.position(&tp(0)), fetches(&state)[0].offset), (Some(42), 42));
    }

    #[test]
    fn no_fetch_waits_for_news_while_a_full_partition_would_be_left_out() {
        let mut state = state(ResetPolicy::Earliest);
        state.assign(&[tp(0), tp(1)]);
        state.seek(&tp(0), 10);
        state.seek(&tp(1), 10);
        let targets = fetches(&state);
        assert_eq!(targets.len(), 2);
        let (full, at_end) = (targets[0].fence, targets[1].fence);
        assert!(state.handle_fetched(&tp(0), full, 20, 1000, 100));
        assert_eq!(
            fetches(&state).len(),
            1,
            "nothing is known of the other partition's end"
        );
        assert!(state.handle_fetched(&tp(1), at_end, 10, 0, 10));
        assert!(fetches(&state).is_empty(), "the other partition is at its end");
        state.set_paused(&tp(0), true);
        assert_eq!(fetches(&state).len(), 1, "a paused partition is left out anyway");
        state.set_paused(&tp(0), false);
        assert!(state.advance(&tp(0), full, 20, 1000));
        assert_eq!(fetches(&state).len(), 2, "room for both");
    }

    #[test]
    fn a_partition_without_a_leader_is_not_looked_up() {
        let mut state = state(ResetPolicy::Latest);
        state.assign(&[tp(0), tp(1)]);
        let reset = state
            .next_reset(|partition| partition.partition == 1, Time::ZERO)
            .unwrap();
        assert_eq!(reset.partition, tp(1));
        assert_eq!(state.next_reset(|partition| partition.partition == 1, Time::ZERO), None);
    }

    #[test]
    fn without_a_policy_the_application_must_say() {
        let mut state = state(ResetPolicy::None);
        state.assign(&[tp(0)]);
        assert_eq!(state.next_reset(|_| true, Time::ZERO), None);
        assert_eq!(state.without_position().collect::<Vec<_>>(), [&tp(0)]);
        assert!(state.seek(&tp(0), 3));
        assert_eq!(state.without_position().count(), 0);
    }

    #[test]
    fn a_position_moves_only_when_records_are_handed_over() {
        let (mut state, fence) = placed();
        assert!(state.handle_fetched(&tp(0), fence, 20, 500, 100));
        assert_eq!(state.position(&tp(0)), Some(10));
        assert_eq!(fetches(&state)[0].offset, 20, "the next fetch runs ahead");
        assert!(state.advance(&tp(0), fence, 15, 250));
        assert_eq!(state.position(&tp(0)), Some(15));
        assert_eq!(state.high_watermark(&tp(0)), Some(100));
    }

    #[test]
    fn enough_in_the_buffer_stops_the_fetching_of_that_partition() {
        let (mut state, fence) = placed();
        state.handle_fetched(&tp(0), fence, 20, 1000, 100);
        assert!(fetches(&state).is_empty());
        state.advance(&tp(0), fence, 20, 1000);
        assert_eq!(fetches(&state).len(), 1);
    }

    #[test]
    fn after_a_seek_everything_older_is_stale() {
        let (mut state, fence) = placed();
        state.seek(&tp(0), 5);
        assert!(!state.handle_fetched(&tp(0), fence, 20, 10, 100));
        assert!(!state.advance(&tp(0), fence, 20, 10));
        assert_eq!(
            state.handle_out_of_range(&tp(0), fence, 10, Time::ZERO),
            OutOfRange::Stale
        );
        assert_eq!((state.position(&tp(0)), fetches(&state)[0].offset), (Some(5), 5));
    }

    #[test]
    fn a_seek_wins_over_a_look_up_on_its_way() {
        let mut state = state(ResetPolicy::Earliest);
        state.assign(&[tp(0)]);
        let reset = state.next_reset(|_| true, Time::ZERO).unwrap();
        state.seek(&tp(0), 7);
        state.handle_offset(&tp(0), reset.fence, 0);
        assert_eq!(state.position(&tp(0)), Some(7));
    }

    #[test]
    fn a_position_outside_the_log_follows_the_policy() {
        let (mut state, fence) = placed();
        let answer = state.handle_out_of_range(&tp(0), fence, 10, Time::ZERO);
        assert_eq!(answer, OutOfRange::Reset(Target::Earliest));
        assert!(state.next_reset(|_| true, Time::ZERO).is_some());
    }

    #[test]
    fn records_already_buffered_are_handed_over_before_a_reset() {
        let (mut state, fence) = placed();
        state.handle_fetched(&tp(0), fence, 20, 100, 30);
        assert_eq!(
            state.handle_out_of_range(&tp(0), fence, 20, Time::ZERO),
            OutOfRange::Stale
        );
        assert!(state.advance(&tp(0), fence, 20, 100), "still current");
        assert_eq!(
            state.handle_out_of_range(&tp(0), fence, 20, Time(2000)),
            OutOfRange::Reset(Target::Earliest)
        );
    }

    #[test]
    fn without_a_policy_a_position_outside_the_log_is_the_applications_business() {
        let mut state = state(ResetPolicy::None);
        state.assign(&[tp(0)]);
        state.seek(&tp(0), 10);
        let fence = fetches(&state)[0].fence;
        assert_eq!(
            state.handle_out_of_range(&tp(0), fence, 10, Time::ZERO),
            OutOfRange::Fail
        );
        assert!(fetches(&state).is_empty());
    }

    #[test]
    fn a_paused_partition_keeps_its_place_and_is_not_fetched() {
        let (mut state, _) = placed();
        assert!(state.set_paused(&tp(0), true));
        assert!(fetches(&state).is_empty() && state.is_paused(&tp(0)));
        state.set_paused(&tp(0), false);
        assert_eq!(fetches(&state)[0].offset, 10);
    }

    #[test]
    fn dropped_data_is_fetched_again() {
        let (mut state, fence) = placed();
        state.handle_fetched(&tp(0), fence, 20, 1000, 100);
        state.handle_dropped(&tp(0), fence);
        assert!(!state.is_current(&tp(0), fence));
        assert_eq!(fetches(&state)[0].offset, 10);
    }

    #[test]
    fn a_partition_on_the_wire_is_not_asked_for_twice() {
        let (mut state, _) = placed();
        let targets = fetches(&state);
        state.handle_fetch_sent(&targets);
        assert!(fetches(&state).is_empty());
        state.handle_fetch_ended(&targets);
        assert_eq!(fetches(&state).len(), 1);
    }

    #[test]
    fn a_failed_fetch_waits_and_then_asks_for_the_same() {
        let (mut state, fence) = placed();
        state.handle_fetch_failed(&tp(0), fence, Time::ZERO);
        assert!(fetches(&state).is_empty());
        let due = state.wake_at(Time::ZERO).unwrap();
        assert_eq!(state.fetchable(|_| true, 1000, due)[0].offset, 10);
    }

    #[test]
    fn a_failed_look_up_waits_and_is_tried_again_without_holding_up_the_others() {
        let mut state = state(ResetPolicy::Earliest);
        state.assign(&[tp(0), tp(1)]);
        state.seek(&tp(1), 1);
        assert!(fetches(&state).is_empty(), "the first look-up is worth waiting for");
        let reset = state.next_reset(|_| true, Time::ZERO).unwrap();
        state.handle_reset_failed(&tp(0), reset.fence, Time::ZERO);
        assert_eq!(fetches(&state).len(), 1);
        assert_eq!(state.next_reset(|_| true, Time::ZERO), None);
        assert!(state.next_reset(|_| true, Time(1000)).is_some());
    }

    #[test]
    fn partitions_assigned_again_keep_their_place() {
        let (mut state, fence) = placed();
        state.assign(&[tp(0), tp(1)]);
        assert!(state.is_current(&tp(0), fence));
        assert_eq!(state.position(&tp(0)), Some(10));
        state.assign(&[tp(1)]);
        assert_eq!((state.position(&tp(0)), state.assigned().len()), (None, 1));
    }

    #[test]
    fn a_topic_created_anew_is_read_from_its_beginning_also_under_latest() {
        let mut state = state(ResetPolicy::Latest);
        state.assign(&[tp(0)]);
        state.seek(&tp(0), 10);
        let fence = fetches(&state)[0].fence;
        assert_eq!(state.handle_recreated("orders"), [tp(0)]);
        assert!(!state.is_current(&tp(0), fence));
        assert_eq!(
            state.next_reset(|_| true, Time::ZERO).map(|reset| reset.target),
            Some(Target::Earliest)
        );
        assert!(state.handle_recreated("other").is_empty());
    }
}
