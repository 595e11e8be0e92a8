//! What two looks at a cluster say together: records a second.
//!
//! In: samples, one after the other. Out: rates and lags of topics, groups and partitions; `None` where the two looks do not tell
//! (there is only one yet; a topic was created again; offsets were reset backwards; no time went by between them).

use std::time::Duration;

use ottla::TopicPartition;

use super::sample::{Group, Sample};

/// The last look and the one before it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    before: Option<Sample>,
    pub now: Sample,
}

impl Seen {
    /// Takes in a new look.
    pub fn take_in(&mut self, sample: Sample) {
        // The empty look before the first one is none.
        let first = self.now == Sample::default();
        let before = std::mem::replace(&mut self.now, sample);
        self.before = (!first).then_some(before);
    }

    /// Records a second written to a partition.
    pub fn written(&self, topic: &str, partition: i32) -> Option<f64> {
        let end = |sample: &Sample| sample.topics.get(topic)?.partitions.get(&partition)?.end;
        self.rate(end)
    }

    /// Records a second written to a topic: to those partitions of which it is known.
    pub fn written_to(&self, topic: &str) -> Option<f64> {
        let partitions = &self.now.topics.get(topic)?.partitions;
        sum(partitions.keys().map(|partition| self.written(topic, *partition)))
    }

    /// Records a second that a group has committed of a partition.
    pub fn read(&self, group: &str, partition: &TopicPartition) -> Option<f64> {
        let committed = |sample: &Sample| sample.groups.get(group)?.partitions.get(partition)?.committed;
        self.rate(committed)
    }

    /// Records a second that a group has committed.
    pub fn read_by(&self, group: &str) -> Option<f64> {
        let partitions = &self.now.groups.get(group)?.partitions;
        sum(partitions.keys().map(|partition| self.read(group, partition)))
    }

    fn rate(&self, offset: impl Fn(&Sample) -> Option<i64>) -> Option<f64> {
        let before = self.before.as_ref()?;
        let elapsed = self.now.at.checked_sub(before.at)?;
        per_second(offset(before)?, offset(&self.now)?, elapsed)
    }
}

fn per_second(before: i64, now: i64, elapsed: Duration) -> Option<f64> {
    let moved = u32::try_from(now.checked_sub(before)?.min(i64::from(u32::MAX))).ok()?;
    (!elapsed.is_zero()).then(|| f64::from(moved) / elapsed.as_secs_f64())
}

/// The sum of what is known; nothing if nothing is.
fn sum(rates: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    rates.flatten().fold(None, |sum, rate| Some(sum.unwrap_or(0.0) + rate))
}

/// How many records a group is behind, over all partitions with a committed offset.
pub fn lag_of(group: &Group) -> Option<i64> {
    let lags = group.partitions.values();
    lags.filter_map(|partition| crate::groups::lag(partition.committed, partition.end))
        .fold(None, |sum, lag| Some(sum.unwrap_or(0_i64).saturating_add(lag)))
}

#[cfg(test)]
mod tests {
    // A test may stop at what it did not expect.
    #![allow(clippy::unwrap_used)]

    use super::super::sample::{GroupPartition, Partition, Topic};
    use super::*;

    /// A look after `ms`, with the ends of two partitions and what a group has committed of the first.
    pub fn look(ms: u64, ends: [i64; 2], committed: Option<i64>) -> Sample {
        let partitions = (0..).zip(ends).map(|(number, end)| {
            let end = Some(end);
            (number, Partition { leader: Some(1), end })
        });
        let topic = Topic {
            partitions: partitions.collect(),
            ..Topic::default()
        };
        let part = GroupPartition {
            committed,
            end: Some(ends[0]),
            owner: None,
        };
        let group = Group {
            partitions: [(TopicPartition::new("gpsraw", 0), part)].into(),
            ..Group::default()
        };
        Sample {
            at: Duration::from_millis(ms),
            topics: [("gpsraw".to_owned(), topic)].into(),
            groups: [("maps".to_owned(), group)].into(),
            ..Sample::default()
        }
    }

    fn seen(looks: impl IntoIterator<Item = Sample>) -> Seen {
        let mut seen = Seen::default();
        looks.into_iter().for_each(|look| seen.take_in(look));
        seen
    }

    #[test]
    fn a_rate_is_what_was_added_between_the_last_two_looks_by_the_time_between_them() {
        let seen = seen([
            look(0, [0, 0], Some(0)),
            look(1_000, [100, 0], Some(50)),
            look(3_500, [350, 50], Some(300)),
        ]);
        assert_eq!(
            (seen.written("gpsraw", 0), seen.written("gpsraw", 1)),
            (Some(100.0), Some(20.0))
        );
        assert_eq!(seen.written_to("gpsraw"), Some(120.0));
        assert_eq!(seen.read_by("maps"), Some(100.0));
        assert_eq!(lag_of(&seen.now.groups["maps"]), Some(50));
    }

    #[test]
    fn one_look_tells_no_rate_and_nor_do_two_at_the_same_time() {
        assert_eq!(seen([look(0, [5, 5], Some(1))]).written_to("gpsraw"), None);
        let same = seen([look(7, [5, 5], Some(1)), look(7, [6, 6], Some(2))]);
        assert_eq!((same.written_to("gpsraw"), same.read_by("maps")), (None, None));
    }

    #[test]
    fn offsets_that_went_back_tell_no_rate_and_do_not_spoil_the_sum() {
        let seen = seen([look(0, [500, 10], Some(400)), look(1_000, [3, 30], Some(0))]);
        assert_eq!(
            (seen.written("gpsraw", 0), seen.written_to("gpsraw")),
            (None, Some(20.0))
        );
        assert_eq!(seen.read_by("maps"), None);
    }

    #[test]
    fn what_is_new_in_the_second_look_has_no_rate_yet() {
        let mut before = look(0, [0, 0], None);
        before.topics.clear();
        let seen = seen([before, look(1_000, [70, 0], Some(3))]);
        assert_eq!((seen.written_to("gpsraw"), seen.read_by("maps")), (None, None));
    }

    #[test]
    fn without_a_committed_offset_there_is_no_lag() {
        assert_eq!(lag_of(&look(0, [5, 5], None).groups["maps"]), None);
    }
}
