//! What a consumer does in a group: subscribing, committing, leaving.
//!
//! In: topics, offsets and records as JSON. Out: answers by post, and events as JSON, of which the JavaScript half makes calls of
//! the program's functions. Nothing here calls the program.

use std::collections::BTreeMap;
use std::time::Duration;

use napi::bindgen_prelude::Result;
use napi_derive::napi;
use ottla_bindings_core::{ConsumerClosed, Error, Event, HandedOffset, OffsetAndMetadata, Offsets, TopicPartition};
use serde_json::{Value, json};

use crate::border::{call, parsed, partitions, told};
use crate::consumer::{Consumer, named};

/// `[topic, partition, offset, leader epoch, words]`; offsets are decimal texts.
type Row = (String, i32, String, Option<i32>, String);

fn offset_of(text: &str) -> std::result::Result<i64, Error> {
    text.parse()
        .map_err(|_| Error::argument(format!("{text} is no offset")))
}

/// Offsets out of JSON.
pub(crate) fn offsets(list: &str) -> std::result::Result<Offsets, Error> {
    let rows: Vec<Row> = parsed(list)?;
    let own = |(topic, partition, offset, epoch, words): Row| {
        let offset = OffsetAndMetadata::new(offset_of(&offset)?)
            .metadata(words)
            .leader_epoch(epoch.unwrap_or(-1));
        Ok((TopicPartition::new(topic.as_str(), partition), offset))
    };
    rows.into_iter().map(own).collect()
}

/// `[topic, partition, offset, leader epoch, assignment]` of records out of JSON.
fn handed(list: &str) -> std::result::Result<Vec<HandedOffset>, Error> {
    let rows: Vec<(String, i32, String, i32, u64)> = parsed(list)?;
    let own = |(topic, partition, offset, epoch, assignment): (String, i32, String, i32, u64)| {
        let partition = TopicPartition::new(topic.as_str(), partition);
        Ok(HandedOffset::new(partition, offset_of(&offset)?, epoch, assignment))
    };
    rows.into_iter().map(own).collect()
}

/// `[topic, partition, offset, leader epoch, words]`, or `null` in place of the last three.
pub(crate) fn committed(of: &TopicPartition, offset: Option<&OffsetAndMetadata>) -> Value {
    match offset {
        Some(known) => json!([
            of.topic.as_ref(),
            of.partition,
            known.offset.to_string(),
            known.leader_epoch,
            known.metadata
        ]),
        None => json!([of.topic.as_ref(), of.partition, null]),
    }
}

/// An event as JSON.
pub(crate) fn event(event: &Event) -> Value {
    json!({
        "name": event.name(),
        "partitions": named(event.partitions()),
        "error": event.error().map(told),
        "detail": event.detail(),
    })
}

fn closed(closed: &ConsumerClosed) -> Value {
    let list = |offsets: &BTreeMap<TopicPartition, i64>| -> Value {
        let row = |(of, offset): (&TopicPartition, &i64)| json!([of.topic.as_ref(), of.partition, offset.to_string()]);
        offsets.iter().map(row).collect()
    };
    json!({
        "committed": list(&closed.committed),
        "unprocessed": list(&closed.unprocessed),
        "finished": closed.finished,
        "error": closed.error.as_ref().map(told),
    })
}

/// -1 for what is not known.
fn count(number: i32) -> Option<usize> {
    usize::try_from(number).ok()
}

#[napi]
impl Consumer {
    /// Whether it has a `group.id`.
    #[napi]
    pub fn in_group(&self) -> bool {
        self.core.has_group()
    }

    /// So many records of the last poll are processed.
    #[napi]
    pub fn processed(&self, done: u32) {
        self.core.processed(done as usize);
    }

    /// Goes back to these offsets (JSON, `[[topic, partition, offset]]`), which were polled and not handed over.
    #[napi]
    pub fn give_back(&self, out: i32, firsts: String) -> Result<()> {
        call(|| {
            let rows: Vec<(String, i32, String)> = parsed(&firsts)?;
            let own = |(topic, partition, offset): (String, i32, String)| {
                Ok((TopicPartition::new(topic.as_str(), partition), offset_of(&offset)?))
            };
            let firsts: std::result::Result<Vec<_>, Error> = rows.into_iter().map(own).collect();
            self.core.give_back(0, count(out).unwrap_or(0), &firsts?)
        })
    }

    /// Reads these topics (JSON) as a member of the group.
    #[napi]
    pub fn subscribe(&self, topics: String) -> Result<()> {
        call(|| self.core.subscribe(parsed(&topics)?))
    }

    /// Reads all topics with such a name.
    #[napi]
    pub fn subscribe_pattern(&self, pattern: String) -> Result<()> {
        call(|| self.core.subscribe_pattern(&pattern))
    }

    /// Posts when the group is left.
    #[napi]
    pub fn unsubscribe(&self, id: u32) -> Result<()> {
        let left = self.core.unsubscribe();
        self.post.answer(id, async { left.await.map(|()| Value::Null) })
    }

    /// The topics subscribed to.
    #[napi]
    pub fn subscription(&self) -> Result<Vec<String>> {
        call(|| self.core.subscription())
    }

    /// The program was told of revoked partitions.
    #[napi]
    pub fn acknowledge(&self) -> Result<()> {
        call(|| self.core.acknowledge())
    }

    /// Posts when all is committed that was handed over (`out` records of the last poll; -1: all), or stored.
    #[napi]
    pub fn commit(&self, id: u32, out: i32) -> Result<()> {
        let done = self.core.commit(count(out));
        self.post.answer(id, async { done.await.map(|()| Value::Null) })
    }

    /// The same for nobody to wait for.
    #[napi]
    pub fn commit_in_background(&self, out: i32) -> Result<()> {
        call(|| self.core.commit_in_background(count(out)))
    }

    /// Posts when these offsets (JSON) are committed.
    #[napi]
    pub fn commit_offsets(&self, id: u32, list: String) -> Result<()> {
        let done = self.core.commit_offsets(call(|| offsets(&list))?);
        self.post.answer(id, async { done.await.map(|()| Value::Null) })
    }

    /// Posts when the offsets after these records (JSON) are committed.
    #[napi]
    pub fn commit_handed(&self, id: u32, list: String) -> Result<()> {
        let done = self.core.commit_handed(call(|| handed(&list))?);
        self.post.answer(id, async { done.await.map(|()| Value::Null) })
    }

    /// Stores these offsets (JSON).
    #[napi]
    pub fn store_offsets(&self, list: String) -> Result<()> {
        call(|| self.core.store_offsets(offsets(&list)?))
    }

    /// Stores the offsets after these records (JSON).
    #[napi]
    pub fn store_handed(&self, list: String) -> Result<()> {
        call(|| self.core.store_handed(handed(&list)?))
    }

    /// Posts the committed offsets of these partitions (JSON).
    #[napi]
    pub fn committed(&self, id: u32, list: String) -> Result<()> {
        let asked = self.core.committed(call(|| partitions(&list))?);
        self.post.answer(id, async {
            let known = asked.await?;
            let rows = known.iter().map(|(of, offset)| committed(of, offset.as_ref()));
            Ok::<_, Error>(rows.collect::<Value>())
        })
    }

    /// Who it is in its group, as JSON.
    #[napi]
    pub fn group_metadata(&self) -> Result<String> {
        call(|| self.core.group_metadata_json())
    }

    /// Has the group rebalance.
    #[napi]
    pub fn enforce_rebalance(&self, reason: String) -> Result<()> {
        call(|| self.core.enforce_rebalance(&reason))
    }

    /// The next poll may take so many milliseconds.
    #[napi]
    pub fn extend_poll(&self, within: f64) -> Result<()> {
        call(|| {
            let within = Duration::try_from_secs_f64(within / 1000.0)
                .map_err(|_| Error::argument(format!("{within} is no time in milliseconds")))?;
            self.core.extend_poll(within)
        })
    }

    /// How far each partition is, as JSON.
    #[napi]
    pub fn progress(&self) -> Result<String> {
        call(|| self.core.progress())
    }

    /// How the consumer is, as JSON.
    #[napi]
    pub fn health(&self) -> Result<String> {
        call(|| self.core.health())
    }

    /// Closes it, and posts what was committed once the group is left, or after so many milliseconds.
    #[napi]
    pub fn finish(&self, id: u32, within: f64, out: i32) -> Result<()> {
        let within = Duration::try_from_secs_f64(within / 1000.0).unwrap_or(Duration::MAX);
        let finishing = self.core.finish(within, None, count(out));
        self.post.answer(id, async {
            let told = finishing.await?;
            Ok::<_, Error>(closed(&told))
        })
    }
}
