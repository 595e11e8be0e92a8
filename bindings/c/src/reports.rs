//! Delivery reports, one at a time, out of what the core tells of whole batches.
//!
//! In: batch reports. Out: structures in the caller's array, or calls of the caller's function. What a report points to stays until
//! the next poll: names of topics until the producer is gone, errors until then.

use std::collections::{HashMap, VecDeque};
use std::ffi::{CString, c_char, c_void};
use std::ptr;

use ottla_bindings_core::{BatchReport, Error, Gathered, Tags};

use crate::border::c_string;
use crate::error::{OTTLA_OK, ottla_error, ottla_persisted, persisted};

/// What became of one record. Begin with OTTLA_REPORT_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ottla_report {
    /// sizeof(ottla_report), set by the caller in the first element of an array.
    pub struct_size: usize,
    /// The record's own `opaque`.
    pub opaque: *mut c_void,
    /// OTTLA_OK: it was written. Anything else: it failed; see `error`.
    pub code: i32,
    /// The partition, or -1 if it never got one.
    pub partition: i32,
    /// The offset, or -1 if it failed or the broker does not tell (acks=0).
    pub offset: i64,
    /// The timestamp in milliseconds since 1970, or -1 if it failed.
    pub timestamp_ms: i64,
    /// The topic. Valid until the producer is freed.
    pub topic: *const c_char,
    /// Why it failed, or NULL. Not the caller's: valid until the next ottla_producer_poll() of this producer.
    pub error: *const ottla_error,
    /// Whether a record that failed may be in the log all the same.
    pub persisted: ottla_persisted,
}

impl ottla_report {
    pub(crate) const EMPTY: ottla_report = ottla_report {
        struct_size: size_of::<ottla_report>(),
        opaque: ptr::null_mut(),
        code: OTTLA_OK,
        partition: -1,
        offset: -1,
        timestamp_ms: -1,
        topic: ptr::null(),
        error: ptr::null(),
        persisted: ottla_persisted::OTTLA_PERSISTED_NO,
    };
}

/// The way from batches to reports.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    batches: VecDeque<BatchReport>,
    /// How far the first batch was told: the stretch, and how many records of it.
    stretch: usize,
    told: usize,
    /// What all reports of the first batch have in common, once the first of them was told.
    current: Option<ottla_report>,
    topics: HashMap<String, CString>,
    errors: Errors,
}

/// The errors of the last poll. Boxed, because reports point at them.
#[allow(clippy::vec_box)]
type Errors = Vec<Box<ottla_error>>;

// SAFETY: the pointers in `current` are to strings and boxes that the same `Telling` owns, and the opaque ones are numbers
// to us.
unsafe impl Send for Telling {}

impl Telling {
    /// The errors of the last poll are of no use any more.
    pub fn begin(&mut self) {
        self.current = self.current.filter(|report| report.error.is_null());
        self.errors.clear();
    }

    pub fn add(&mut self, reports: Gathered) {
        self.batches.extend(reports.into_batches());
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Tells at most `most` reports to `tell`, and says how many. `size` is the size of the structure as the caller knows it.
    pub fn tell(&mut self, most: usize, size: usize, mut tell: impl FnMut(&ottla_report)) -> usize {
        let mut count = 0;
        while count < most
            && let Some(batch) = self.batches.front()
            && let Some(stretch) = batch.stretch(self.stretch)
        {
            let common = *self
                .current
                .get_or_insert_with(|| common(&mut self.topics, &mut self.errors, batch));
            let timestamp_ms = if common.error.is_null() { stretch.timestamp } else { -1 };
            let mut report = ottla_report {
                struct_size: size,
                timestamp_ms,
                ..common
            };
            let end = stretch.tags.len().min(self.told + (most - count));
            let mut one = |nth: usize, tag: u64| {
                report.opaque = ptr::without_provenance_mut(tag as usize);
                report.offset = stretch
                    .base_offset
                    .map_or(-1, |base| base.saturating_add_unsigned(nth as u64));
                tell(&report);
            };
            match stretch.tags {
                Tags::Sequence { first, .. } => {
                    (self.told..end).for_each(|nth| one(nth, first.wrapping_add(nth as u64)));
                }
                Tags::List(tags) => {
                    let rest = tags.iter().enumerate().take(end).skip(self.told);
                    rest.for_each(|(nth, tag)| one(nth, *tag));
                }
            }
            count += end - self.told;
            self.told = end;
            if end == stretch.tags.len() {
                (self.stretch, self.told) = (self.stretch + 1, 0);
                if batch.stretch(self.stretch).is_none() {
                    (self.stretch, self.current) = (0, None);
                    self.batches.pop_front();
                }
            }
        }
        count
    }
}

/// What all reports of a batch have in common.
#[cold]
fn common(topics: &mut HashMap<String, CString>, errors: &mut Errors, batch: &BatchReport) -> ottla_report {
    let (topic, partition) = (&*batch.partition().topic, batch.partition().partition);
    if !topics.contains_key(topic) {
        topics.insert(topic.to_owned(), c_string(topic));
    }
    let mut report = ottla_report {
        partition,
        topic: topics.get(topic).map_or(ptr::null(), |name| name.as_ptr()),
        ..ottla_report::EMPTY
    };
    if let Err(failed) = batch.result() {
        let mut error = Box::new(ottla_error::from(&Error::from(failed.clone())));
        error.is_about(topic, partition);
        report.code = error.number();
        report.persisted = persisted(failed.persisted());
        report.error = &raw const *error;
        errors.push(error);
    }
    report
}
