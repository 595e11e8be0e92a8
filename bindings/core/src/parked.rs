//! Records that have to wait: for the connection, for their topic's metadata, for room in `buffer.memory`.
//!
//! In: records that could not be put into a batch at once, copied, because their owner does not wait. Out: the same, in
//! order, as soon as they can go, or why not. Each topic has a lane of its own, so that one that does not exist holds up no
//! other; while a topic has a lane, everything for it goes through there. The bytes that wait are bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ottla::Record;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{Error, Kind};
use crate::producer::Receipt;

/// What a parked record takes beside its bytes, roughly.
const OVERHEAD: usize = 128;

/// More records than this make a lane long.
const LONG: usize = 64;

/// A record that owns its bytes.
#[derive(Debug)]
pub(crate) struct Parked {
    partition: Option<i32>,
    timestamp: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    pub receipt: Receipt,
    /// When `max.block.ms` is over for it.
    pub deadline: Instant,
    size: usize,
}

impl Parked {
    pub fn new(record: &Record<'_>, receipt: Receipt, max_block: Duration) -> Self {
        let headers: Vec<_> = record
            .get_headers()
            .iter()
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect();
        let bytes = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let of_headers: usize = headers
            .iter()
            .map(|(key, value)| OVERHEAD / 2 + key.len() + bytes(value.as_deref()))
            .sum();
        Parked {
            partition: record.get_partition(),
            timestamp: record.get_timestamp(),
            key: record.get_key().map(<[u8]>::to_vec),
            value: record.get_value().map(<[u8]>::to_vec),
            size: OVERHEAD + bytes(record.get_key()) + bytes(record.get_value()) + of_headers,
            headers,
            receipt,
            deadline: Instant::now() + max_block,
        }
    }

    /// The record, to be sent.
    pub fn record<'a>(&'a self, topic: &'a str) -> Record<'a> {
        let mut record = Record::to(topic);
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        if let Some(timestamp) = self.timestamp {
            record = record.timestamp(timestamp);
        }
        if let Some(key) = &self.key {
            record = record.key(key);
        }
        if let Some(value) = &self.value {
            record = record.value(value);
        }
        for (key, value) in &self.headers {
            record = match value {
                Some(value) => record.header(key, value),
                None => record.null_header(key),
            };
        }
        record
    }
}

/// The lanes of one producer.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Mutex<Table>,
    /// Lanes there are. Read without the lock for each record that is sent.
    open: AtomicUsize,
    limit: usize,
    /// Something went on.
    moved: Notify,
}

#[derive(Debug, Default)]
struct Table {
    of_topic: HashMap<String, Lane>,
    bytes: usize,
    /// Records that have left their lane and not yet arrived.
    going: usize,
    /// Numbers lanes: a topic may have one, and later another.
    next_lane: u64,
    closed: bool,
}

#[derive(Debug)]
struct Lane {
    number: u64,
    waiting: VecDeque<Parked>,
    /// Records that went through so far.
    done: u64,
}

/// What became of a record that was to be parked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is in a lane that somebody serves already.
    Queued,
    /// It is the first: its lane needs somebody to serve it.
    First,
    /// Its topic has no lane, and it was only to be queued behind others.
    NoLane,
}

impl Lanes {
    pub fn new(limit: usize) -> Self {
        Lanes {
            lanes: Mutex::default(),
            open: AtomicUsize::new(0),
            limit,
            moved: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Every change under it is small and leaves the counts right.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any topic has a lane.
    #[inline]
    pub fn are_empty(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// Whether the lane of this topic moves already and is still long: whoever can wait had better not make it longer.
    pub fn is_draining(&self, topic: &str) -> bool {
        let table = self.lock();
        table
            .of_topic
            .get(topic)
            .is_some_and(|lane| lane.done > 0 && lane.waiting.len() > LONG)
    }

    /// Parks a record; only behind others, if it need not open a lane.
    pub fn park(&self, topic: &str, opens: bool, parked: impl FnOnce() -> Parked) -> Result<Place, Error> {
        let mut table = self.lock();
        if table.closed {
            return Err(Error::closed("producer"));
        }
        let known = table.of_topic.contains_key(topic);
        if !known && !opens {
            return Ok(Place::NoLane);
        }
        let parked = parked();
        if table.bytes > 0 && table.bytes.saturating_add(parked.size) > self.limit {
            let text = format!(
                "{} bytes of records wait already for room in buffer.memory or for metadata (the limit is {}): wait until \
                 the producer is ready again",
                table.bytes, self.limit
            );
            return Err(Error::new(Kind::QueueFull, text));
        }
        table.bytes += parked.size;
        if let Some(lane) = table.of_topic.get_mut(topic) {
            lane.waiting.push_back(parked);
            return Ok(Place::Queued);
        }
        let lane = Lane {
            number: table.next_lane,
            waiting: VecDeque::from([parked]),
            done: 0,
        };
        table.next_lane += 1;
        table.of_topic.insert(topic.to_owned(), lane);
        self.open.store(table.of_topic.len(), Ordering::Release);
        Ok(Place::First)
    }

    /// The next record of a lane, which stays there until [`went`](Lanes::went) is said. Closes a lane that is empty.
    pub fn next(&self, topic: &str) -> Option<Parked> {
        let mut table = self.lock();
        let parked = table.of_topic.get_mut(topic)?.waiting.pop_front();
        if parked.is_some() {
            table.going += 1;
        } else {
            table.of_topic.remove(topic);
            self.open.store(table.of_topic.len(), Ordering::Release);
            drop(table);
            self.moved.notify_waiters();
        }
        parked
    }

    /// A record has left its lane, to where it belongs.
    pub fn went(&self, topic: &str, parked: &Parked) {
        let mut table = self.lock();
        table.bytes = table.bytes.saturating_sub(parked.size);
        table.going = table.going.saturating_sub(1);
        if let Some(lane) = table.of_topic.get_mut(topic) {
            lane.done += 1;
        }
        drop(table);
        self.moved.notify_waiters();
    }

    /// Takes no more records; gives those that wait, by topic.
    pub fn close(&self) -> Vec<(String, Parked)> {
        let mut table = self.lock();
        table.closed = true;
        table.bytes = 0;
        let lanes = std::mem::take(&mut table.of_topic);
        self.open.store(0, Ordering::Release);
        drop(table);
        self.moved.notify_waiters();
        lanes
            .into_iter()
            .flat_map(|(topic, lane)| lane.waiting.into_iter().map(move |parked| (topic.clone(), parked)))
            .collect()
    }

    /// Records that are parked.
    pub fn count(&self) -> u64 {
        let table = self.lock();
        let waiting: usize = table.of_topic.values().map(|lane| lane.waiting.len()).sum();
        (waiting + table.going) as u64
    }

    /// Whether no more records are taken.
    pub fn are_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits until no record is between its lane and where it belongs.
    pub async fn settled(&self) {
        self.wait(|table| table.going == 0).await;
    }

    /// Waits until no more records are taken.
    pub async fn closed(&self) {
        self.wait(|table| table.closed).await;
    }

    /// Waits until there is room for a good deal more.
    pub async fn roomy(&self) {
        self.wait(|table| table.bytes <= self.limit / 2 || table.closed).await;
    }

    /// Waits until everything that is parked now has gone.
    pub async fn passed(&self) {
        let ends: Vec<(String, u64, u64)> = self
            .lock()
            .of_topic
            .iter()
            .map(|(topic, lane)| {
                // The one that is being sent is in no list, and counts.
                (topic.clone(), lane.number, lane.done + lane.waiting.len() as u64 + 1)
            })
            .collect();
        self.wait(|table| {
            ends.iter().all(|(topic, number, end)| match table.of_topic.get(topic) {
                Some(lane) => lane.number != *number || lane.done >= *end,
                None => true,
            })
        })
        .await;
    }

    async fn wait(&self, over: impl Fn(&Table) -> bool) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            // Registered before looking, so that nothing that happens between is missed.
            moved.as_mut().enable();
            if over(&self.lock()) {
                return;
            }
            moved.await;
        }
    }
}
