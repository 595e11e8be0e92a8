//! Consumers of assigned partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ottla_bindings_core::{Bell, Consumer, Error, Event, Kind, Polled, TopicPartition};

use crate::batch::ottla_batch;
use crate::border::{Given, ffi};
use crate::config::{ottla_config, pairs};
use crate::error::{OTTLA_OK, ottla_error};
use crate::group::Callback;
use crate::handles::{InUse, Sort, Table};
use crate::ottla_topic_partition;
use crate::waiting::{Deadline, for_future, interrupted, on_bell};

/// A consumer. A handle: NULL, a freed or a wrong one is an error, never a crash.
pub struct ottla_consumer {
    _opaque: [u8; 0],
}

pub(crate) struct Client {
    pub core: Consumer,
    pub bell: Bell,
    /// Somebody watches the descriptor, so that it has to tell of what is left after a poll as well.
    watched: AtomicBool,
    /// Threads that poll. There should be one; a second one must not sleep because of what the first one took.
    polling: AtomicU32,
    callback: Mutex<Callback>,
    /// The partitions that the callback knows to be this consumer's.
    told: Mutex<BTreeSet<TopicPartition>>,
}

impl Client {
    pub fn listen(&self, callback: Callback) {
        *lock(&self.callback) = callback;
    }

    /// Tells the program, and then the group that it may go on.
    fn handle(&self, consumer: *mut ottla_consumer, event: &Event) {
        match event {
            Event::Assigned(partitions) => lock(&self.told).extend(partitions.iter().cloned()),
            Event::Revoked(partitions) | Event::Lost(partitions, _) => {
                lock(&self.told).retain(|known| !partitions.contains(known));
            }
            _ => {}
        }
        let callback = *lock(&self.callback);
        callback.tell(consumer, event);
        if matches!(event, Event::Revoked(_)) {
            // It only fails once the consumer is closed, which lets go by itself.
            let _ = self.core.acknowledge();
        }
    }

    /// Tells the program that all its partitions are given up, because it wants that itself.
    pub fn let_go(&self, consumer: *mut ottla_consumer) {
        let partitions: Vec<TopicPartition> = std::mem::take(&mut *lock(&self.told)).into_iter().collect();
        if !partitions.is_empty() {
            let callback = *lock(&self.callback);
            callback.tell(consumer, &Event::Revoked(partitions));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is whole after every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One thread that polls, for as long as this lives.
struct Polling<'c>(&'c AtomicU32);

impl<'c> Polling<'c> {
    fn begin(polling: &'c AtomicU32) -> Self {
        polling.fetch_add(1, Ordering::SeqCst);
        Polling(polling)
    }

    fn are_several(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 1
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) static CONSUMERS: Table<Client> = Table::new(Sort::Consumer, "consumer");

impl InUse<'_, Client> {
    /// The consumer, once it has connected.
    pub(crate) fn connected(&self) -> Result<&Consumer, Error> {
        for_future(self.core.connected(), Deadline::after(-1), self.place, "connecting")??;
        Ok(&self.core)
    }
}

/// Partitions out of an array.
pub(crate) fn partitions(
    given: Given,
    first: *const ottla_topic_partition,
    count: usize,
) -> Result<Vec<TopicPartition>, Error> {
    let array = given.array(first, count, "partitions")?;
    array
        .iter()
        .map(|one| {
            Ok(TopicPartition::new(
                given.text(one.topic, "the topic of a partition")?,
                one.partition,
            ))
        })
        .collect()
}

fn partition(given: Given, topic: *const c_char, partition: i32) -> Result<TopicPartition, Error> {
    Ok(TopicPartition::new(given.text(topic, "topic")?, partition))
}

/// Makes a consumer, which begins to connect and reads nothing yet: see ottla_consumer_assign().
///
/// Returns: OTTLA_ERROR_CONFIG for a mistake in the configuration. Whether it could connect is told by the next call.
/// Ownership: the configuration is copied. The caller frees `*consumer` with ottla_consumer_free().
/// Threads: any, and so are all other functions of a consumer; but only one thread at a time should poll, or the order of
/// records is lost between them. Calls that are not said to take a timeout wait for the connection, and for nothing else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_new(
    config: *const ottla_config,
    consumer: *mut *mut ottla_consumer,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let out = given.out(consumer, "consumer")?;
        let pairs = pairs(config)?;
        *out = CONSUMERS.insert(|place| {
            let bell = place.bell()?.clone();
            Ok(Client {
                core: Consumer::start(pairs, Vec::new(), bell.waker())?,
                bell,
                watched: AtomicBool::new(false),
                polling: AtomicU32::new(0),
                callback: Mutex::default(),
                told: Mutex::default(),
            })
        })?;
        Ok(())
    })
}

/// Waits until the consumer has connected, at most `timeout_ms` (-1: for ever; it gives up by itself, too).
///
/// Errors: OTTLA_ERROR_CONNECT and its like; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED by ottla_consumer_wake().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_connected(
    consumer: *mut ottla_consumer,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let connected = client.core.connected();
        for_future(connected, Deadline::after(timeout_ms), client.place, "connecting")?
    })
}

/// Reads exactly these partitions from now on. Those that were assigned before keep their positions; others begin where
/// auto.offset.reset says, or where a seek does.
///
/// Ownership: the array is copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_assign(
    consumer: *mut ottla_consumer,
    partitions: *const ottla_topic_partition,
    count: usize,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let wanted = self::partitions(given, partitions, count)?;
        client.connected()?.assign(&wanted)
    })
}

/// Reads all partitions that these topics have now, which it asks the broker for, at most `timeout_ms` (-1: for ever).
///
/// Errors: OTTLA_ERROR_UNKNOWN_TOPIC; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED by ottla_consumer_wake().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_assign_topics(
    consumer: *mut ottla_consumer,
    topics: *const *const c_char,
    count: usize,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let names = given.array(topics, count, "topics")?.iter();
        let names: Result<Vec<String>, Error> =
            names.map(|name| Ok(given.text(*name, "a topic")?.to_owned())).collect();
        let assigning = client.core.assign_topics(names?);
        for_future(
            assigning,
            Deadline::after(timeout_ms),
            client.place,
            "asking for partitions",
        )?
    })
}

/// Takes records: waits for the first one at most `timeout_ms` (0: not at all; -1: for ever). At most max.poll.records.
///
/// `*batch` is NULL after the time.
/// Ownership: the caller frees `*batch` with ottla_batch_free().
/// In a group the records of earlier polls count as processed now, and the event callback runs in here.
/// Errors: what befell a partition, once: ottla_error_partition() says which, and the next call goes on;
/// OTTLA_ERROR_FENCED, once, when the membership in the group was lost: the next call joins again;
/// OTTLA_ERROR_INTERRUPTED by ottla_consumer_wake(), which the next call does not repeat; OTTLA_ERROR_CLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_poll(
    consumer: *mut ottla_consumer,
    timeout_ms: i32,
    batch: *mut *mut ottla_batch,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let out = given.out(batch, "batch")?;
        let deadline = Deadline::after(timeout_ms);
        let polling = Polling::begin(&client.polling);
        loop {
            client.bell.silence();
            let polled = client.core.try_poll(None);
            let watched = client.watched.load(Ordering::Acquire) || polling.are_several();
            match polled {
                Ok(Polled::Nothing) => {}
                Ok(Polled::Event(event)) => {
                    client.handle(consumer, &event);
                    continue;
                }
                Ok(Polled::Closed) => {
                    if polling.are_several() {
                        client.bell.ring();
                    }
                    return Err(Error::new(Kind::Closed, "this consumer is closed"));
                }
                found => {
                    if watched {
                        // There may be more: whoever watches is to come back.
                        client.bell.ring();
                    }
                    if let Polled::Records(records) = found? {
                        *out = Box::into_raw(Box::new(ottla_batch::from(records)));
                    }
                    return Ok(());
                }
            }
            let (woken, over) = (client.place.was_woken(), deadline.is_over());
            // A descriptor that is watched is somebody who waits; who goes away is not.
            if watched || !(woken || over) {
                client.core.arm()?;
            } else {
                client.core.disarm()?;
                if polling.are_several() {
                    // Another one has begun to wait meanwhile, and armed it before we did that.
                    client.core.arm()?;
                }
            }
            if woken {
                return Err(interrupted());
            }
            if over {
                *out = ptr::null_mut();
                return Ok(());
            }
            on_bell(&client.bell, deadline);
        }
    })
}

/// A file descriptor for poll(2), epoll and event loops: readable while ottla_consumer_poll() may have something (sometimes
/// it has not), or was woken. -1 for what is no consumer.
///
/// Ownership: it stays the consumer's; do not read or close it, and do not use it after ottla_consumer_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_fd(consumer: *const ottla_consumer) -> c_int {
    let fd = CONSUMERS.get(consumer).map(|client| {
        client.watched.store(true, Ordering::Release);
        client.bell.ring();
        client.bell.fd()
    });
    fd.unwrap_or(-1)
}

/// Goes on at `offset`.
///
/// Errors: OTTLA_ERROR_ARGUMENT if the partition is not assigned or the offset negative. An offset that is not there is told
/// by a later poll, or mended by auto.offset.reset.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_seek(
    consumer: *mut ottla_consumer,
    topic: *const c_char,
    partition: i32,
    offset: i64,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let place = self::partition(given, topic, partition)?;
        client.connected()?.seek(&place, offset)
    })
}

/// Goes on at the first record that is still there. Errors: OTTLA_ERROR_ARGUMENT if the partition is not assigned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_seek_to_beginning(
    consumer: *mut ottla_consumer,
    topic: *const c_char,
    partition: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let place = self::partition(given, topic, partition)?;
        client.connected()?.seek_to_beginning(&place)
    })
}

/// Goes on after the last record. Errors: OTTLA_ERROR_ARGUMENT if the partition is not assigned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_seek_to_end(
    consumer: *mut ottla_consumer,
    topic: *const c_char,
    partition: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let place = self::partition(given, topic, partition)?;
        client.connected()?.seek_to_end(&place)
    })
}

/// Goes on at the first record whose timestamp is at least `timestamp_ms` (milliseconds since 1970).
///
/// Errors: OTTLA_ERROR_ARGUMENT if the partition is not assigned or the timestamp negative.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_seek_to_timestamp(
    consumer: *mut ottla_consumer,
    topic: *const c_char,
    partition: i32,
    timestamp_ms: i64,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let place = self::partition(given, topic, partition)?;
        client.connected()?.seek_to_timestamp(&place, timestamp_ms)
    })
}

/// Asks for the offset of the next record that will be handed over; waits while it is looked up, at most `timeout_ms` (-1: for
/// ever).
///
/// Errors: OTTLA_ERROR_ARGUMENT if the partition is not assigned; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_position(
    consumer: *mut ottla_consumer,
    topic: *const c_char,
    partition: i32,
    timeout_ms: i32,
    offset: *mut i64,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let out = given.out(offset, "offset")?;
        let asking = client.core.position(self::partition(given, topic, partition)?);
        *out = for_future(
            asking,
            Deadline::after(timeout_ms),
            client.place,
            "asking for the position",
        )??;
        Ok(())
    })
}

/// How many records are ahead of the position, as of the last fetch; `*lag` is -1 while that is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_lag(
    consumer: *mut ottla_consumer,
    topic: *const c_char,
    partition: i32,
    lag: *mut i64,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let out = given.out(lag, "lag")?;
        let place = self::partition(given, topic, partition)?;
        *out = client.connected()?.lag(&place)?.unwrap_or(-1);
        Ok(())
    })
}

/// Stops handing over records of these partitions. Errors: OTTLA_ERROR_ARGUMENT if one is not assigned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_pause(
    consumer: *mut ottla_consumer,
    partitions: *const ottla_topic_partition,
    count: usize,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let these = self::partitions(given, partitions, count)?;
        client.connected()?.pause(&these)
    })
}

/// Goes on with paused partitions. Errors: OTTLA_ERROR_ARGUMENT if one is not assigned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_resume(
    consumer: *mut ottla_consumer,
    partitions: *const ottla_topic_partition,
    count: usize,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let these = self::partitions(given, partitions, count)?;
        client.connected()?.resume(&these)
    })
}

/// Writes the answers for an array of partitions, in its order.
fn write_offsets<T>(
    given: Given,
    offsets: *mut i64,
    asked: &[TopicPartition],
    answers: &BTreeMap<TopicPartition, T>,
    offset: impl Fn(&T) -> i64,
) -> Result<(), Error> {
    let places = given.array_out(offsets, asked.len(), "offsets")?;
    for (place, partition) in places.iter_mut().zip(asked) {
        *place = answers.get(partition).map_or(-1, &offset);
    }
    Ok(())
}

/// Asks the broker for the first offset of each partition that is still there; they need not be assigned. Waits at most
/// `timeout_ms` (-1: for ever).
///
/// `offsets`: room for `count` numbers, in the order of the partitions.
/// Errors: OTTLA_ERROR_UNKNOWN_TOPIC; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED; all or nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_beginning_offsets(
    consumer: *mut ottla_consumer,
    partitions: *const ottla_topic_partition,
    count: usize,
    timeout_ms: i32,
    offsets: *mut i64,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let these = self::partitions(given, partitions, count)?;
        let asking = client.core.beginning_offsets(these.clone());
        let answers = for_future(asking, Deadline::after(timeout_ms), client.place, "asking for offsets")??;
        write_offsets(given, offsets, &these, &answers, |offset| *offset)
    })
}

/// Asks the broker for the offset after the last record of each partition. Otherwise as ottla_consumer_beginning_offsets().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_end_offsets(
    consumer: *mut ottla_consumer,
    partitions: *const ottla_topic_partition,
    count: usize,
    timeout_ms: i32,
    offsets: *mut i64,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let these = self::partitions(given, partitions, count)?;
        let asking = client.core.end_offsets(these.clone());
        let answers = for_future(asking, Deadline::after(timeout_ms), client.place, "asking for offsets")??;
        write_offsets(given, offsets, &these, &answers, |offset| *offset)
    })
}

/// Asks the broker, for each partition, for the offset of the first record whose timestamp is at least the one in
/// `timestamps_ms` (as many as partitions); -1 if there is none. Otherwise as ottla_consumer_beginning_offsets().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_offsets_for_times(
    consumer: *mut ottla_consumer,
    partitions: *const ottla_topic_partition,
    timestamps_ms: *const i64,
    count: usize,
    timeout_ms: i32,
    offsets: *mut i64,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let these = self::partitions(given, partitions, count)?;
        let times = given.array(timestamps_ms, count, "timestamps_ms")?;
        let asked = these.iter().cloned().zip(times.iter().copied()).collect();
        let asking = client.core.offsets_for_times(asked);
        let answers = for_future(asking, Deadline::after(timeout_ms), client.place, "asking for offsets")??;
        write_offsets(given, offsets, &these, &answers, |found| found.offset.unwrap_or(-1))
    })
}

/// Asks how many partitions a topic has. Waits at most `timeout_ms` (-1: for ever).
///
/// Errors: OTTLA_ERROR_UNKNOWN_TOPIC; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_partition_count(
    consumer: *mut ottla_consumer,
    topic: *const c_char,
    timeout_ms: i32,
    count: *mut i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        let out = given.out(count, "count")?;
        let asking = client.core.partitions_for(given.text(topic, "topic")?.to_owned());
        let partitions = for_future(
            asking,
            Deadline::after(timeout_ms),
            client.place,
            "asking for partitions",
        )??;
        *out = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
        Ok(())
    })
}

/// Ends the waiting of whoever waits for this consumer, or of the next one who does: it returns OTTLA_ERROR_INTERRUPTED.
///
/// Threads: any; may also be called from a signal handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_wake(consumer: *mut ottla_consumer) -> i32 {
    match CONSUMERS.wake(consumer) {
        true => OTTLA_OK,
        false => Kind::Argument.number(),
    }
}

/// Ends the consumer: every poll returns OTTLA_ERROR_CLOSED from now on, also one that waits. Returns at once; may be called
/// again. Batches stay valid. A member of a group leaves it in the background; see ottla_consumer_close_within().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_close(consumer: *mut ottla_consumer, error: *mut *mut ottla_error) -> i32 {
    ffi!(error, |given| {
        let client = CONSUMERS.get(consumer)?;
        client.core.close()?;
        client.bell.ring();
        Ok(())
    })
}

/// Closes and frees a consumer. NULL is allowed. Batches stay valid.
///
/// OTTLA_ERROR_ARGUMENT if it was freed before. In the child of a fork it frees the handle and leaves the parent's consumer
/// alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_free(consumer: *mut ottla_consumer) -> i32 {
    ffi!(ptr::null_mut(), |given| {
        if consumer.is_null() {
            return Ok(());
        }
        let held = CONSUMERS.remove(consumer)?;
        // In the child of a fork there is nothing to close.
        let _ = held.client().core.close();
        Ok(())
    })
}
