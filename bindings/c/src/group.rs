//! Consumers as members of a group.

use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::time::Duration;

use ottla_bindings_core::{Consumer, ConsumerClosed, Error, Event, OffsetAndMetadata, Offsets, TopicPartition};

use crate::admin::ottla_topics;
use crate::batch::ottla_batch;
use crate::border::{Given, c_string, ffi, give_text};
use crate::consumer::{CONSUMERS, ottla_consumer, partitions};
use crate::error::ottla_error;
use crate::ottla_topic_partition;
use crate::waiting::{Deadline, for_future};

/// What happened to a consumer in its group.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ottla_event_kind {
    /// These partitions are assigned now, and nothing of them was handed over yet; there may be none.
    OTTLA_EVENT_ASSIGNED = 0,
    /// These partitions are given up: nothing of them is handed over any more. They go to other members when the callback has
    /// returned, or the consumer is closed meanwhile.
    OTTLA_EVENT_REVOKED = 1,
    /// These partitions belong to others already; `error` says why, and so does a poll that follows.
    OTTLA_EVENT_LOST = 2,
    /// A rebalance begins; `detail` says why.
    OTTLA_EVENT_REBALANCING = 3,
    /// Offsets could not be committed, and nobody waited for it: `error` says why.
    OTTLA_EVENT_COMMIT_FAILED = 4,
    /// A partition has records and does not move; `detail` is its progress in JSON, as in ottla_consumer_progress().
    OTTLA_EVENT_STALLED = 5,
}

/// What a callback is told. Everything it points to lives until the callback returns.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ottla_event {
    /// sizeof(ottla_event) of the library.
    pub struct_size: usize,
    /// What happened.
    pub kind: ottla_event_kind,
    /// The partitions that it is about.
    pub partitions: *const ottla_topic_partition,
    /// How many.
    pub partition_count: usize,
    /// What went wrong, or NULL. It stays the library's.
    pub error: *const ottla_error,
    /// More about it, or NULL.
    pub detail: *const c_char,
}

/// A function of the program that is told. It runs inside of ottla_consumer_poll(), ottla_consumer_unsubscribe() and
/// ottla_consumer_close_within(), in the thread that calls them, and may use the consumer, but not poll, close or free it.
pub type ottla_event_cb =
    Option<unsafe extern "C" fn(consumer: *mut ottla_consumer, event: *const ottla_event, opaque: *mut c_void)>;

/// An offset to commit or to store: that of the next record to read.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ottla_offset {
    /// The name of the topic.
    pub topic: *const c_char,
    /// Words of the program to be kept with it, or NULL.
    pub metadata: *const c_char,
    /// The offset.
    pub offset: i64,
    /// The partition.
    pub partition: i32,
    /// The leader epoch of the last record before it, or -1.
    pub leader_epoch: i32,
}

/// What closing a consumer did. Begin with OTTLA_CLOSED_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ottla_closed {
    /// sizeof(ottla_closed), set by the caller.
    pub struct_size: usize,
    /// For how many partitions offsets were committed.
    pub committed: usize,
    /// How many partitions have records that were handed over and are not known to be processed.
    pub unprocessed: usize,
    /// Whether all was done in time; otherwise the group waits for this member until its session ends.
    pub finished: bool,
}

/// Partitions. A plain pointer: whoever got it frees it once with ottla_partitions_free().
pub struct ottla_partitions {
    topics: Vec<CString>,
    partitions: Vec<i32>,
}

impl ottla_partitions {
    fn new(partitions: &[TopicPartition]) -> Self {
        ottla_partitions {
            topics: partitions.iter().map(|of| c_string(&of.topic)).collect(),
            partitions: partitions.iter().map(|of| of.partition).collect(),
        }
    }

    fn get(&self, index: usize) -> Option<ottla_topic_partition> {
        Some(ottla_topic_partition {
            topic: self.topics.get(index)?.as_ptr(),
            partition: *self.partitions.get(index)?,
        })
    }
}

/// Committed offsets. A plain pointer: whoever got it frees it once with ottla_offsets_free().
pub struct ottla_offsets {
    partitions: ottla_partitions,
    offsets: Vec<Option<(OffsetAndMetadata, CString)>>,
}

/// The callback of a consumer. The program says that its `opaque` may be used from whatever thread polls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Callback {
    function: ottla_event_cb,
    opaque: *mut c_void,
}

// SAFETY: a function and a number for the library; what `opaque` points to is the program's affair, and the header says that
// the callback runs in whatever thread polls.
unsafe impl Send for Callback {}

impl Default for Callback {
    fn default() -> Self {
        Callback {
            function: None,
            opaque: ptr::null_mut(),
        }
    }
}

impl Callback {
    pub fn tell(self, consumer: *mut ottla_consumer, event: &Event) {
        let Some(function) = self.function else { return };
        let named = ottla_partitions::new(event.partitions());
        let partitions: Vec<ottla_topic_partition> =
            (0..named.partitions.len()).filter_map(|at| named.get(at)).collect();
        let error = event.error().map(ottla_error::from);
        let detail = event.detail().map(c_string);
        let told = ottla_event {
            struct_size: size_of::<ottla_event>(),
            kind: match event {
                Event::Assigned(_) => ottla_event_kind::OTTLA_EVENT_ASSIGNED,
                Event::Revoked(_) => ottla_event_kind::OTTLA_EVENT_REVOKED,
                Event::Lost(..) => ottla_event_kind::OTTLA_EVENT_LOST,
                Event::Rebalancing(_) => ottla_event_kind::OTTLA_EVENT_REBALANCING,
                Event::CommitFailed(_) => ottla_event_kind::OTTLA_EVENT_COMMIT_FAILED,
                Event::Stalled(..) => ottla_event_kind::OTTLA_EVENT_STALLED,
            },
            partitions: partitions.as_ptr(),
            partition_count: partitions.len(),
            error: error.as_ref().map_or(ptr::null(), ptr::from_ref),
            detail: detail.as_ref().map_or(ptr::null(), |detail| detail.as_ptr()),
        };
        // SAFETY: the program's own function, with what its type says; everything lives until it returns.
        unsafe { function(consumer, &told, self.opaque) };
    }
}

/// Offsets out of an array.
pub(crate) fn offsets(given: Given, first: *const ottla_offset, count: usize) -> Result<Offsets, Error> {
    let array = given.array(first, count, "offsets")?;
    array
        .iter()
        .map(|one| {
            let topic = given.text(one.topic, "the topic of an offset")?;
            let words = given.optional_text(one.metadata, "the metadata of an offset")?;
            let offset = OffsetAndMetadata::new(one.offset)
                .metadata(words.unwrap_or_default())
                .leader_epoch(one.leader_epoch);
            Ok((TopicPartition::new(topic, one.partition), offset))
        })
        .collect()
}

fn member(consumer: *const ottla_consumer) -> Result<crate::handles::InUse<'static, crate::consumer::Client>, Error> {
    CONSUMERS.get(consumer)
}

/// Has a function told of the group: partitions that come and go, rebalances, failed commits, partitions that stand still.
/// `callback` NULL: nobody. Set it before the first poll. Without it, polls alone keep a member in order.
///
/// `opaque` is handed to the function as it is, in whatever thread polls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_set_event_cb(
    consumer: *mut ottla_consumer,
    callback: ottla_event_cb,
    opaque: *mut c_void,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        member(consumer)?.listen(Callback {
            function: callback,
            opaque,
        });
        Ok(())
    })
}

/// Reads these topics as a member of the group (the key group.id), instead of those before. Partitions come with a later poll.
///
/// What is processed is committed by itself (enable.auto.commit, the default), before partitions go to another member, and
/// by ottla_consumer_close_within(). The records of a poll are processed when the next poll begins.
/// Errors: OTTLA_ERROR_CONFIG without group.id; OTTLA_ERROR_ARGUMENT after ottla_consumer_assign().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_subscribe(
    consumer: *mut ottla_consumer,
    topics: *const *const c_char,
    count: usize,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = member(consumer)?;
        let names = given.array(topics, count, "topics")?.iter();
        let names: Result<Vec<String>, Error> =
            names.map(|name| Ok(given.text(*name, "a topic")?.to_owned())).collect();
        client.connected()?.subscribe(names?)
    })
}

/// Reads all topics whose whole name matches a regular expression. Otherwise as ottla_consumer_subscribe().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_subscribe_pattern(
    consumer: *mut ottla_consumer,
    pattern: *const c_char,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = member(consumer)?;
        let pattern = given.text(pattern, "pattern")?;
        client.connected()?.subscribe_pattern(pattern)
    })
}

/// Commits what is processed, lets go of all partitions and leaves the group. Waits at most `timeout_ms` (-1: for ever; it gives
/// up by itself, too).
///
/// Errors: OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED; it goes on in the background.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_unsubscribe(
    consumer: *mut ottla_consumer,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = member(consumer)?;
        client.let_go(consumer);
        let leaving = client.core.unsubscribe();
        for_future(leaving, Deadline::after(timeout_ms), client.place, "leaving the group")?
    })
}

/// The topics subscribed to. Ownership: the caller frees `*topics` with ottla_topics_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_subscription(
    consumer: *mut ottla_consumer,
    topics: *mut *mut ottla_topics,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = member(consumer)?;
        let out = given.out(topics, "topics")?;
        let names = client.connected()?.subscription()?;
        let names = names.iter().map(|name| c_string(name)).collect();
        *out = Box::into_raw(Box::new(ottla_topics { names }));
        Ok(())
    })
}

/// The partitions that are assigned, by the group or by the program. Ownership: the caller frees `*partitions` with
/// ottla_partitions_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_assignment(
    consumer: *mut ottla_consumer,
    partitions: *mut *mut ottla_partitions,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = member(consumer)?;
        let out = given.out(partitions, "partitions")?;
        let assigned = client.connected()?.assignment()?;
        *out = Box::into_raw(Box::new(ottla_partitions::new(&assigned)));
        Ok(())
    })
}

/// How many partitions there are. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_partitions_len(partitions: *const ottla_partitions) -> usize {
    // SAFETY: the header's first rule: NULL, or a list that was not freed.
    unsafe { partitions.as_ref() }.map_or(0, |partitions| partitions.partitions.len())
}

/// Partition number `index`, from 0, in order; its topic is NULL if there is none. The topic lives as long as the list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_partitions_get(
    partitions: *const ottla_partitions,
    index: usize,
) -> ottla_topic_partition {
    // SAFETY: as in `ottla_partitions_len`.
    let found = unsafe { partitions.as_ref() }.and_then(|partitions| partitions.get(index));
    found.unwrap_or(ottla_topic_partition {
        topic: ptr::null(),
        partition: -1,
    })
}

/// Frees a list of partitions. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_partitions_free(partitions: *mut ottla_partitions) {
    if !partitions.is_null() {
        // SAFETY: `ottla_consumer_assignment` made it with `Box::into_raw`, and the caller frees it once.
        drop(unsafe { Box::from_raw(partitions) });
    }
}

/// Commits all records that were handed over; with enable.auto.offset.store=false what was stored. Waits at most `timeout_ms` (-1:
/// for ever; it gives up by itself, too).
///
/// Errors: OTTLA_ERROR_FENCED when the group went on without this consumer, and nothing was overwritten;
/// OTTLA_ERROR_CONFIG without group.id; OTTLA_ERROR_TIMEOUT and OTTLA_ERROR_INTERRUPTED: it may be committed all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_commit(
    consumer: *mut ottla_consumer,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = member(consumer)?;
        client.connected()?;
        let committing = client.core.commit(None);
        for_future(committing, Deadline::after(timeout_ms), client.place, "committing")?
    })
}

/// Begins to commit as ottla_consumer_commit(), and does not wait. A failure is an event, OTTLA_EVENT_COMMIT_FAILED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_commit_async(
    consumer: *mut ottla_consumer,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        member(consumer)?.connected()?.commit_in_background(None)
    })
}

/// Commits these offsets. Otherwise as ottla_consumer_commit().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_commit_offsets(
    consumer: *mut ottla_consumer,
    offsets: *const ottla_offset,
    count: usize,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = member(consumer)?;
        let committing = client.core.commit_offsets(self::offsets(given, offsets, count)?);
        for_future(committing, Deadline::after(timeout_ms), client.place, "committing")?
    })
}

/// Commits the offsets after the first `count` records of a batch. Otherwise as ottla_consumer_commit(); OTTLA_ERROR_FENCED
/// also for records of a partition that was given up since, even if it has come back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_commit_records(
    consumer: *mut ottla_consumer,
    batch: *const ottla_batch,
    count: usize,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = member(consumer)?;
        let handed = given.read(batch, "batch")?.handed(count);
        let committing = client.core.commit_handed(handed);
        for_future(committing, Deadline::after(timeout_ms), client.place, "committing")?
    })
}

/// Says that everything before these offsets is processed: the next commit takes them. For enable.auto.offset.store=false.
///
/// Errors: OTTLA_ERROR_FENCED for a partition that is not assigned any more; the others are stored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_store_offsets(
    consumer: *mut ottla_consumer,
    offsets: *const ottla_offset,
    count: usize,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let offsets = self::offsets(given, offsets, count)?;
        member(consumer)?.connected()?.store_offsets(offsets)
    })
}

/// Says that the first `count` records of a batch are processed. Otherwise as ottla_consumer_store_offsets().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_store_records(
    consumer: *mut ottla_consumer,
    batch: *const ottla_batch,
    count: usize,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let handed = given.read(batch, "batch")?.handed(count);
        member(consumer)?.connected()?.store_handed(handed)
    })
}

/// Asks the group's coordinator for the committed offset of each partition, with what was kept with it. Waits at most `timeout_ms`
/// (-1: for ever; it gives up by itself, too).
///
/// `*offsets`: as many as partitions, in their order. Ownership: the caller frees it with ottla_offsets_free().
/// Errors: OTTLA_ERROR_CONFIG without group.id; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_committed(
    consumer: *mut ottla_consumer,
    partitions: *const ottla_topic_partition,
    count: usize,
    timeout_ms: i32,
    offsets: *mut *mut ottla_offsets,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = member(consumer)?;
        let out = given.out(offsets, "offsets")?;
        let these = self::partitions(given, partitions, count)?;
        let asking = client.core.committed(these.clone());
        let answers = for_future(asking, Deadline::after(timeout_ms), client.place, "asking for offsets")??;
        let known = |of: &TopicPartition| {
            let offset = answers.get(of).cloned().flatten()?;
            let metadata = c_string(&offset.metadata);
            Some((offset, metadata))
        };
        *out = Box::into_raw(Box::new(ottla_offsets {
            offsets: these.iter().map(known).collect(),
            partitions: ottla_partitions::new(&these),
        }));
        Ok(())
    })
}

/// How many offsets there are. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_offsets_len(offsets: *const ottla_offsets) -> usize {
    // SAFETY: the header's first rule: NULL, or a list that was not freed.
    unsafe { offsets.as_ref() }.map_or(0, |offsets| offsets.offsets.len())
}

/// Offset number `index`, from 0; its offset is -1 and its metadata NULL where nothing was committed, its topic NULL if there is no
/// such number. What it points to lives as long as the list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_offsets_get(offsets: *const ottla_offsets, index: usize) -> ottla_offset {
    // SAFETY: as in `ottla_offsets_len`.
    let list = unsafe { offsets.as_ref() };
    let place = list.and_then(|list| list.partitions.get(index));
    let known = list.and_then(|list| list.offsets.get(index)?.as_ref());
    ottla_offset {
        topic: place.map_or(ptr::null(), |place| place.topic),
        metadata: known.map_or(ptr::null(), |(_, metadata)| metadata.as_ptr()),
        offset: known.map_or(-1, |(known, _)| known.offset),
        partition: place.map_or(-1, |place| place.partition),
        leader_epoch: known.and_then(|(known, _)| known.leader_epoch).unwrap_or(-1),
    }
}

/// Frees a list of offsets. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_offsets_free(offsets: *mut ottla_offsets) {
    if !offsets.is_null() {
        // SAFETY: `ottla_consumer_committed` made it with `Box::into_raw`, and the caller frees it once.
        drop(unsafe { Box::from_raw(offsets) });
    }
}

/// Has the group divide its partitions anew, for a reason that only the program knows; NULL for none. Does not wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_enforce_rebalance(
    consumer: *mut ottla_consumer,
    reason: *const c_char,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let reason = given.optional_text(reason, "reason")?.unwrap_or_default();
        member(consumer)?.connected()?.enforce_rebalance(reason)
    })
}

/// Says that processing goes on and the next poll comes within so many milliseconds, whatever max.poll.interval.ms is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_extend_poll(
    consumer: *mut ottla_consumer,
    within_ms: u32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let within = Duration::from_millis(within_ms.into());
        member(consumer)?.connected()?.extend_poll(within)
    })
}

/// Gives a text about a consumer away.
fn text(
    given: Given,
    consumer: *const ottla_consumer,
    json: *mut *mut c_char,
    ask: impl FnOnce(&Consumer) -> Result<String, Error>,
) -> Result<(), Error> {
    let client = member(consumer)?;
    let out = given.out(json, "json")?;
    *out = give_text(&ask(client.connected()?)?);
    Ok(())
}

/// Who this consumer is in its group, as a JSON object: group_id, generation_id (-1 while it is no member), member_id,
/// group_instance_id. Ownership: the caller frees `*json` with ottla_string_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_group_metadata(
    consumer: *mut ottla_consumer,
    json: *mut *mut c_char,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        text(given, consumer, json, Consumer::group_metadata_json)
    })
}

/// How far each partition is and why it does not move, as a JSON array of objects: topic, partition, position, committed, lag,
/// state, error, since_ms. Ownership: the caller frees `*json` with ottla_string_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_progress(
    consumer: *mut ottla_consumer,
    json: *mut *mut c_char,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| { text(given, consumer, json, Consumer::progress) })
}

/// How a consumer is, as a JSON object: group (group_id, phase, generation, coordinator, trouble, time_to_poll_ms, ...),
/// partitions as in ottla_consumer_progress(), buffered_bytes, metadata_error. Ownership: the caller frees `*json` with
/// ottla_string_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_health(
    consumer: *mut ottla_consumer,
    json: *mut *mut c_char,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| { text(given, consumer, json, Consumer::health) })
}

/// Closes a consumer and waits, at most `timeout_ms` (0 or more), until what is processed is committed and the group is left. The
/// callback hears that all partitions are given up. The records of the last poll are processed only if
/// ottla_consumer_commit() said so.
///
/// `closed`: what it did, or NULL. Not all done in time is no error: `closed->finished` says so.
/// Errors: why offsets could not be committed; `closed` is written all the same. OTTLA_ERROR_INTERRUPTED by
/// ottla_consumer_wake(); it goes on in the background then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_consumer_close_within(
    consumer: *mut ottla_consumer,
    timeout_ms: u32,
    closed: *mut ottla_closed,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = member(consumer)?;
        client.let_go(consumer);
        let deadline = Duration::from_millis(timeout_ms.into());
        let closing = client.core.finish(deadline, None, None);
        client.bell.ring();
        let told: ConsumerClosed = for_future(closing, Deadline::after(-1), client.place, "closing")??;
        if !closed.is_null() {
            let size = given.size_of(closed, "closed")?;
            let report = ottla_closed {
                struct_size: size,
                committed: told.committed.len(),
                unprocessed: told.unprocessed.len(),
                finished: told.finished,
            };
            given.write_sized(closed, size, || report);
        }
        told.error.map_or(Ok(()), Err)
    })
}
