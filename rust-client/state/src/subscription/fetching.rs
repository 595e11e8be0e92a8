//! Fetching: what to ask for, and what the answers do to the places.
//!
//! In: the moment, what fetches bring, what the application takes. Out: the targets of the next fetch, and what became of a
//! place that the log does not have (any more).

use super::{Brought, FetchTarget, OutOfRange, Partition, Place, ResetPolicy, SubscriptionState, Truncated};
use crate::{Time, TopicPartition};

impl SubscriptionState {
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
                Place::Committed { .. } | Place::Resetting { .. }
                    if state.failures == 0 && !state.paused && !state.revoked =>
                {
                    return Vec::new();
                }
                Place::At { fetch_offset, epoch } if state.wants_fetch(enough, now) => {
                    behind |= state.high_watermark.is_none_or(|end| fetch_offset < end);
                    targets.push(FetchTarget {
                        partition: partition.clone(),
                        offset: fetch_offset,
                        last_epoch: epoch,
                        fence: state.fence,
                    });
                }
                _ => left_out |= !state.paused && !state.revoked && state.buffered_bytes >= enough,
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

    /// A fetch was answered. False if what it brought is stale and must be dropped.
    pub fn handle_fetched(&mut self, partition: &TopicPartition, fence: u64, brought: Brought) -> bool {
        // It holds whatever the fence, and within a fetch session a broker tells it once.
        if let Some(state) = self.partitions.get_mut(partition) {
            state.high_watermark = Some(brought.high_watermark).filter(|offset| *offset >= 0);
        }
        let Some(state) = self.current(partition, fence) else {
            return false;
        };
        state.failures = 0;
        let Place::At { fetch_offset, epoch } = &mut state.place else {
            return false;
        };
        if brought.next_offset > *fetch_offset {
            (*fetch_offset, *epoch) = (brought.next_offset, brought.last_epoch);
        }
        state.buffered_bytes += brought.bytes;
        true
    }

    /// The application took records up to `next_offset`, exclusively, the last one of the leader epoch `epoch`, and `bytes`
    /// left the buffer. False if they were stale and must not be handed over.
    pub fn advance(
        &mut self,
        partition: &TopicPartition,
        fence: u64,
        next_offset: i64,
        epoch: i32,
        bytes: usize,
    ) -> bool {
        let Some(state) = self.current(partition, fence) else {
            return false;
        };
        state.buffered_bytes = state.buffered_bytes.saturating_sub(bytes);
        // Never backwards: a broker that repeats itself must not make the application see a record twice.
        if state.position.is_none_or(|position| position < next_offset) {
            state.position = Some(next_offset);
            state.position_epoch = Some(epoch).filter(|epoch| *epoch >= 0);
        }
        true
    }

    /// The buffered data of `partition` was dropped unread: it is fetched again from the position.
    pub fn handle_dropped(&mut self, partition: &TopicPartition, fence: u64) {
        let next_fence = self.new_fence();
        if let Some(state) = self.current(partition, fence)
            && let (Place::At { .. }, Some(position)) = (state.place, state.position)
        {
            state.fence = next_fence;
            state.place = Place::At {
                fetch_offset: position,
                epoch: state.position_epoch,
            };
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
        if !state.place.is_at(offset) {
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

    /// The broker says that what was read up to `offset`, which was asked for under `fence`, is not what its log has:
    /// that parts from it at `end_offset`, the end of leader epoch `epoch` (KIP-320). What came after was lost when a
    /// leader with less of the log took over.
    ///
    /// With a policy the partition goes on there, so that the records written in place of the lost ones are read. While
    /// data is buffered nothing is decided, as for a place outside of the log.
    pub fn handle_diverging(
        &mut self,
        partition: &TopicPartition,
        fence: u64,
        offset: i64,
        (epoch, end_offset): (i32, i64),
        now: Time,
    ) -> Truncated {
        let (policy, next_fence) = (self.policy, self.new_fence());
        let Some(state) = self.current(partition, fence) else {
            return Truncated::Stale;
        };
        if !state.place.is_at(offset) {
            return Truncated::Stale;
        }
        if state.buffered_bytes > 0 {
            self.fail(partition, now);
            return Truncated::Stale;
        }
        if policy == ResetPolicy::None {
            state.place = Place::Unknown;
            return Truncated::Fail;
        }
        // Never forwards: that would skip records.
        let offset = end_offset.clamp(0, offset);
        let epoch = Some(epoch).filter(|epoch| *epoch >= 0);
        state.fence = next_fence;
        state.place = Place::At {
            fetch_offset: offset,
            epoch,
        };
        (state.position, state.position_epoch) = (Some(offset), epoch);
        Truncated::Moved(offset)
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
}

impl Place {
    fn is_at(&self, offset: i64) -> bool {
        matches!(self, Place::At { fetch_offset, .. } if *fetch_offset == offset)
    }
}

impl Partition {
    fn wants_fetch(&self, enough: usize, now: Time) -> bool {
        !self.paused && !self.revoked && !self.in_flight && self.buffered_bytes < enough && self.not_before <= now
    }
}
