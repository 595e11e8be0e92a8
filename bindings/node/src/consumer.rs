//! Receiving: one buffer for each poll.
//!
//! In: partitions and calls that do not wait. Out: a poll's records in one buffer that the JavaScript half reads lazily, so that
//! a field that nobody looks at costs nothing. The layout, all numbers little-endian and aligned:
//!
//! | bytes | are |
//! |---|---|
//! | 16 | records, runs, where the bytes begin, 0 |
//! | 16 a record | offset less that of its run, timestamp (both floating-point) |
//! | 32 a record | run, then place and length (-1: null) of key, value and headers in the bytes; number of headers |
//! | 32 a run | topic, partition, offset (two halves, low first), timestamp type (1: the broker's), leader epoch, assignment (two halves) |
//! | the rest | keys, values, headers |

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use napi::bindgen_prelude::{Either4, Env, Null, Result, Undefined, Unknown};
use napi_derive::napi;
use ottla::{TimestampType, TopicPartition};
use ottla_bindings_core::{Batch, Consumer as Core, Error, Polled, Span};
use serde_json::{Value, json};

use crate::border::{Post, Wake, call, pairs, parsed, partitions, thrown, waking};
use crate::group;
use crate::memory::buffer;

const HEAD: usize = 16;
const NUMBERS: usize = 16;
const INDEX: usize = 32;
const RUN: usize = 32;

/// A consumer.
#[napi]
pub struct Consumer {
    pub(crate) core: Core,
    pub(crate) post: Post,
    topics: Mutex<Topics>,
}

#[derive(Default)]
struct Topics {
    names: Vec<String>,
    numbers: HashMap<String, i32>,
}

impl Topics {
    fn number(&mut self, name: &str) -> i32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as i32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }
}

#[napi]
impl Consumer {
    /// Checks the options and begins to connect. `assign` is JSON, `[[topic, partition], ...]`.
    #[napi(constructor)]
    pub fn new(options: Vec<Vec<String>>, assign: String, wake: Wake) -> Result<Self> {
        let waker = waking(wake);
        let post = Post::new(waker.clone());
        let core = call(|| Core::start(pairs(options)?, partitions(&assign)?, waker))?;
        Ok(Consumer {
            core,
            post,
            topics: Mutex::default(),
        })
    }

    /// What is here, at most `most` records (0: `max.poll.records`): a buffer; `undefined` for nothing yet; `null` when it is
    /// closed; a text of JSON for an event that is to be told first.
    #[napi]
    pub fn poll<'env>(&self, env: &'env Env, most: u32) -> Result<Either4<Unknown<'env>, Undefined, Null, String>> {
        let polled = call(|| self.core.try_poll((most > 0).then_some(most as usize)))?;
        Ok(match polled {
            Polled::Records(batch) => Either4::A(self.pack(env, &batch)?),
            Polled::Event(event) => Either4::D(group::event(&event).to_string()),
            Polled::Nothing => Either4::B(()),
            Polled::Closed => Either4::C(Null),
        })
    }

    /// The name of a topic that a buffer gives by number.
    #[napi]
    pub fn topic(&self, number: i32) -> Option<String> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.names.get(usize::try_from(number).ok()?).cloned()
    }

    /// Has us woken once, when a poll may find something.
    #[napi]
    pub fn arm(&self) -> Result<()> {
        call(|| self.core.arm())
    }

    /// Nobody waits for a wake-up any more.
    #[napi]
    pub fn disarm(&self) -> Result<()> {
        call(|| self.core.disarm())
    }

    /// Answers that have come.
    #[napi]
    pub fn take_mail(&self) -> Vec<String> {
        self.post.take()
    }

    /// Posts when it is connected.
    #[napi]
    pub fn connected(&self, id: u32) -> Result<()> {
        let connected = self.core.connected();
        self.post.answer(id, async { connected.await.map(|()| Value::Null) })
    }

    /// Posts when all partitions of these topics (JSON) are assigned.
    #[napi]
    pub fn assign_topics(&self, id: u32, topics: String) -> Result<()> {
        let topics = call(|| parsed(&topics))?;
        let assigned = self.core.assign_topics(topics);
        self.post.answer(id, async { assigned.await.map(|()| Value::Null) })
    }

    /// Reads exactly these partitions (JSON) from now on.
    #[napi]
    pub fn assign(&self, list: String) -> Result<()> {
        call(|| self.core.assign(&partitions(&list)?))
    }

    /// The assigned partitions, as JSON.
    #[napi]
    pub fn assignment(&self) -> Result<String> {
        call(|| Ok(named(&self.core.assignment()?).to_string()))
    }

    /// Goes on at an offset, given in decimal.
    #[napi]
    pub fn seek(&self, topic: String, partition: i32, offset: String) -> Result<()> {
        call(|| {
            let to = offset
                .parse()
                .map_err(|_| Error::argument(format!("{offset} is no offset")))?;
            self.core.seek(&TopicPartition::new(topic.as_str(), partition), to)
        })
    }

    /// Goes on at the beginning (-2), at the end (-1), or at a timestamp in milliseconds.
    #[napi]
    pub fn seek_to(&self, topic: String, partition: i32, place: f64) -> Result<()> {
        let partition = TopicPartition::new(topic.as_str(), partition);
        call(|| match place {
            -2.0 => self.core.seek_to_beginning(&partition),
            -1.0 => self.core.seek_to_end(&partition),
            timestamp => self.core.seek_to_timestamp(&partition, timestamp as i64),
        })
    }

    /// Stops handing over these partitions (JSON), or goes on with them.
    #[napi]
    pub fn pause(&self, list: String, paused: bool) -> Result<()> {
        call(|| match paused {
            true => self.core.pause(&partitions(&list)?),
            false => self.core.resume(&partitions(&list)?),
        })
    }

    /// The paused partitions, as JSON.
    #[napi]
    pub fn paused(&self) -> Result<String> {
        call(|| Ok(named(&self.core.paused()?).to_string()))
    }

    /// How far behind a partition is; nothing before its first fetch.
    #[napi]
    pub fn lag(&self, topic: String, partition: i32) -> Result<Option<f64>> {
        let partition = TopicPartition::new(topic.as_str(), partition);
        call(|| Ok(self.core.lag(&partition)?.map(|lag| lag as f64)))
    }

    /// Posts the offset of the next record that is handed over.
    #[napi]
    pub fn position(&self, id: u32, topic: String, partition: i32) -> Result<()> {
        let position = self.core.position(TopicPartition::new(topic.as_str(), partition));
        self.post
            .answer(id, async { position.await.map(|offset| json!(offset.to_string())) })
    }

    /// Posts the first (or, at the `end`, the last) offsets of these partitions (JSON).
    #[napi]
    pub fn offsets(&self, id: u32, list: String, end: bool) -> Result<()> {
        let list = call(|| partitions(&list))?;
        let (first, last) = (self.core.beginning_offsets(list.clone()), self.core.end_offsets(list));
        self.post.answer(id, async move {
            let offsets = if end { last.await? } else { first.await? };
            let told =
                |(at, offset): (TopicPartition, i64)| json!([at.topic.as_ref(), at.partition, offset.to_string()]);
            Ok::<_, Error>(offsets.into_iter().map(told).collect::<Value>())
        })
    }

    /// Posts for each `[topic, partition, timestamp]` (JSON) the first record that is not older.
    #[napi]
    pub fn offsets_for_times(&self, id: u32, list: String) -> Result<()> {
        let list: Vec<(String, i32, i64)> = call(|| parsed(&list))?;
        let times = list
            .into_iter()
            .map(|(topic, partition, timestamp)| (TopicPartition::new(topic.as_str(), partition), timestamp));
        let offsets = self.core.offsets_for_times(times.collect());
        self.post.answer(id, async {
            let told = |(at, found): (TopicPartition, ottla::ListedOffset)| {
                let offset = found.offset.map(|offset| offset.to_string());
                json!([
                    at.topic.as_ref(),
                    at.partition,
                    offset,
                    found.timestamp,
                    found.leader_epoch
                ])
            };
            Ok::<_, Error>(offsets.await?.into_iter().map(told).collect::<Value>())
        })
    }

    /// Posts the partitions of a topic.
    #[napi]
    pub fn partitions_for(&self, id: u32, topic: String) -> Result<()> {
        let known = self.core.partitions_for(topic);
        self.post.answer(id, async { known.await.map(|list| named(&list)) })
    }

    /// Ends it.
    #[napi]
    pub fn close(&self) -> Result<()> {
        call(|| self.core.close())
    }
}

impl Consumer {
    fn pack<'env>(&self, env: &'env Env, batch: &Batch) -> Result<Unknown<'env>> {
        let ranges = ranges(batch);
        let bytes: usize = ranges.iter().map(|range| range.end - range.start).sum();
        let begin = HEAD + batch.len() * (NUMBERS + INDEX) + ranges.len() * RUN;
        // Places in the buffer are told in 31 bits.
        if i32::try_from(begin + bytes).is_err() {
            let text = format!("{bytes} bytes in one poll are too many: ask for fewer records");
            return Err(thrown(Error::new(ottla_bindings_core::Kind::TooLarge, text)));
        }
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers: Vec<i32> = batch
            .runs()
            .map(|(partition, _)| topics.number(&partition.topic))
            .collect();
        drop(topics);
        buffer(env, begin + bytes, |whole| {
            let (fixed, blob) = whole.split_at_mut(begin);
            Packing { fixed, at: 0 }.write(batch, &ranges, &numbers);
            let mut blob = blob;
            for (range, (_, run)) in ranges.iter().zip(batch.runs()) {
                let part = run.get(range.start..range.end).unwrap_or_default();
                let (place, rest) = std::mem::take(&mut blob).split_at_mut(range.end - range.start);
                place.copy_from_slice(part);
                blob = rest;
            }
        })
    }
}

/// The part of a run's bytes that its records use: a poll may hand over a few records of a large batch.
struct Range {
    start: usize,
    end: usize,
    /// Of its first record.
    offset: i64,
    timestamp_type: i32,
    leader_epoch: i32,
    assignment: u64,
}

fn ranges(batch: &Batch) -> Vec<Range> {
    let mut ranges: Vec<Range> = batch
        .runs()
        .enumerate()
        .map(|(run, _)| Range {
            assignment: batch.assignment_of(run),
            start: usize::MAX,
            end: 0,
            offset: -1,
            timestamp_type: 0,
            leader_epoch: -1,
        })
        .collect();
    for record in batch.iter() {
        let Some(range) = ranges.get_mut(record.run()) else {
            continue;
        };
        if range.offset < 0 {
            range.offset = record.offset();
            range.timestamp_type = i32::from(record.timestamp_type() == TimestampType::LogAppendTime);
            range.leader_epoch = record.leader_epoch();
        }
        for span in [record.key_span(), record.value_span(), record.header_span()] {
            if let Ok(length @ 1..) = usize::try_from(span.len) {
                range.start = range.start.min(span.at as usize);
                range.end = range.end.max(span.at as usize + length);
            }
        }
    }
    for range in &mut ranges {
        range.start = range.start.min(range.end);
    }
    ranges
}

/// Writes everything before the bytes of the records.
struct Packing<'a> {
    fixed: &'a mut [u8],
    at: usize,
}

impl Packing<'_> {
    fn write(mut self, batch: &Batch, ranges: &[Range], topics: &[i32]) {
        self.ints([batch.len() as i32, ranges.len() as i32, self.fixed.len() as i32, 0]);
        for record in batch.iter() {
            let base = ranges.get(record.run()).map_or(0, |range| range.offset);
            self.put((record.offset() - base) as f64);
            self.put(record.timestamp() as f64);
        }
        // Where each run's bytes begin, less where they began in the run.
        let mut shifts = Vec::with_capacity(ranges.len());
        let mut end = self.fixed.len() as i64;
        for range in ranges {
            shifts.push(end - range.start as i64);
            end += (range.end - range.start) as i64;
        }
        for record in batch.iter() {
            let shift = shifts.get(record.run()).copied().unwrap_or_default();
            let place = |span: Span| [(i64::from(span.at) + shift) as i32, span.len];
            let [key, key_length] = place(record.key_span());
            let [value, value_length] = place(record.value_span());
            let [headers, header_length] = place(record.header_span());
            let (run, count) = (record.run() as i32, record.header_count() as i32);
            self.ints([run, key, key_length, value, value_length, headers, header_length, count]);
        }
        for ((range, topic), (partition, _)) in ranges.iter().zip(topics).zip(batch.runs()) {
            let (low, high) = (range.offset as i32, (range.offset >> 32) as i32);
            let (kind, epoch) = (range.timestamp_type, range.leader_epoch);
            let assignment = range.assignment;
            let (first, second) = (assignment as i32, (assignment >> 32) as i32);
            self.ints([*topic, partition.partition, low, high, kind, epoch, first, second]);
        }
    }

    fn put(&mut self, number: f64) {
        self.bytes(&number.to_le_bytes());
    }

    fn ints<const N: usize>(&mut self, numbers: [i32; N]) {
        for number in numbers {
            self.bytes(&number.to_le_bytes());
        }
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        if let Some(place) = self.fixed.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        self.at = end;
    }
}

pub(crate) fn named(list: &[TopicPartition]) -> Value {
    list.iter().map(|at| json!([at.topic.as_ref(), at.partition])).collect()
}
