//! The records of the topics, who has processed them, and what the group has committed: the judge of every record.
//!
//! In: records that a consumer processed, offsets that the coordinator wrote, and what excuses a repetition. It stops the
//! schedule when a record is skipped, when one is processed twice without excuse, or when an offset goes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_broker_state::group::topics::{TopicView, TopicsImage};
use ottla_client_state::TopicPartition;
use ottla_protocol::Uuid;

/// One partition.
#[derive(Debug, Default)]
pub struct Records {
    /// How many records there are.
    pub end: i64,
    /// How often each was processed.
    times: Vec<u32>,
    /// All before this offset were processed.
    whole_until: i64,
    /// Records before this offset may be processed again: somebody was cut off before it could commit.
    excused_until: i64,
}

/// All partitions.
#[derive(Debug, Default)]
pub struct Topics {
    pub by_partition: BTreeMap<TopicPartition, Records>,
    /// Partitions of each topic.
    pub counts: BTreeMap<Arc<str>, u32>,
    pub processed: u64,
    pub repeated: u64,
}

impl Topics {
    pub fn create(&mut self, topic: &Arc<str>, partitions: u32, records: i64) {
        let before = self.counts.insert(Arc::clone(topic), partitions).unwrap_or(0);
        for number in before..partitions {
            let partition = TopicPartition::new(Arc::clone(topic), number as i32);
            let mut fresh = Records::default();
            fresh.append(records);
            self.by_partition.insert(partition, fresh);
        }
    }

    /// Offsets `from..to` were processed. `elsewhere` says whether somebody else believes to have the partition, which
    /// excuses a repetition: that only one of them is right is for others to judge.
    pub fn process(&mut self, partition: &TopicPartition, from: i64, to: i64, elsewhere: bool) {
        let Some(records) = self.by_partition.get_mut(partition) else {
            panic!("{partition} does not exist, and was read");
        };
        for offset in from..to {
            let times = &mut records.times[offset as usize];
            *times += 1;
            self.processed += 1;
            if *times > 1 {
                self.repeated += 1;
                assert!(
                    elsewhere || offset < records.excused_until,
                    "record {offset} of {partition} was processed again, although it was committed before the partition was \
                     handed over"
                );
            }
        }
        while records
            .times
            .get(records.whole_until as usize)
            .is_some_and(|times| *times > 0)
        {
            records.whole_until += 1;
        }
    }

    /// Whoever had the partition until `position` could not commit all of it.
    pub fn excuse(&mut self, partition: &TopicPartition, position: i64) {
        if let Some(records) = self.by_partition.get_mut(partition) {
            records.excused_until = records.excused_until.max(position);
        }
    }

    /// The coordinator has written `offset`.
    pub fn check_committed(&self, partition: &TopicPartition, offset: i64) {
        let records = &self.by_partition[partition];
        assert!(
            offset <= records.whole_until,
            "{offset} of {partition} was committed, and record {} was never processed",
            records.whole_until
        );
    }

    pub fn end(&self, partition: &TopicPartition) -> i64 {
        self.by_partition.get(partition).map_or(0, |records| records.end)
    }
}

/// The topics as the coordinator sees them at one moment.
#[derive(Debug, Clone)]
pub struct TopicsSeen {
    version: i64,
    counts: BTreeMap<Arc<str>, u32>,
}

impl Topics {
    pub fn seen(&self) -> Arc<TopicsSeen> {
        Arc::new(TopicsSeen {
            version: self.counts.values().map(|count| i64::from(*count)).sum(),
            counts: self.counts.clone(),
        })
    }
}

/// The id of a topic.
pub fn topic_id(name: &str) -> Uuid {
    Uuid::from_u128(name.bytes().fold(7_u128, |sum, byte| sum * 256 + u128::from(byte)))
}

impl TopicsSeen {
    fn view(&self, name: &Arc<str>, count: u32) -> TopicView {
        TopicView {
            name: Arc::clone(name),
            id: topic_id(name),
            partitions: count as usize,
        }
    }
}

impl TopicsImage for TopicsSeen {
    fn version(&self) -> i64 {
        self.version
    }

    fn by_name(&self, name: &str) -> Option<TopicView> {
        let (name, count) = self.counts.get_key_value(name)?;
        Some(self.view(name, *count))
    }

    fn by_id(&self, id: Uuid) -> Option<TopicView> {
        let (name, count) = self.counts.iter().find(|(name, _)| topic_id(name) == id)?;
        Some(self.view(name, *count))
    }

    fn for_each_name(&self, each: &mut dyn FnMut(&Arc<str>)) {
        self.counts.keys().for_each(each);
    }

    fn racks(&self, _name: &str) -> Vec<Vec<Arc<str>>> {
        Vec::new()
    }
}

impl Records {
    pub fn append(&mut self, records: i64) {
        self.end += records;
        self.times.resize(self.end as usize, 0);
    }
}
