//! Delivery reports, one at a time, out of the runs in which the core gives them.
//!
//! In: runs. Out: structures in the caller's array, or calls of the caller's function. What a report points to stays until
//! the next poll: names of topics until the producer is gone, errors until then.

use std::collections::{HashMap, VecDeque};
use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;

use ottla_bindings_core::{Error, Gathered, Report, TopicPartition};

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

/// The way from runs to reports.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    runs: VecDeque<Report>,
    /// How far the first run was told.
    told: u32,
    current: Option<Current>,
    topics: HashMap<String, CString>,
    errors: Errors,
}

/// The errors of the last poll. Boxed, because reports point at them.
#[allow(clippy::vec_box)]
type Errors = Vec<Box<ottla_error>>;

/// What all reports of the first run have in common.
#[derive(Debug)]
struct Current {
    partition: Arc<TopicPartition>,
    report: ottla_report,
}

// SAFETY: the pointers in `Current` are to strings and boxes that the same `Telling` owns, and the opaque ones are numbers
// to us.
unsafe impl Send for Telling {}

impl Telling {
    /// The errors of the last poll are of no use any more.
    pub fn begin(&mut self) {
        self.current = self.current.take().filter(|current| current.report.error.is_null());
        self.errors.clear();
    }

    pub fn add(&mut self, runs: Gathered) {
        self.runs.extend(runs);
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Tells at most `most` reports to `tell`, and says how many. `size` is the size of the structure as the caller knows it.
    pub fn tell(&mut self, most: usize, size: usize, mut tell: impl FnMut(&ottla_report)) -> usize {
        let mut count = 0;
        while count < most {
            let Some(run) = self.runs.front() else { break };
            let common = match &self.current {
                // Runs of one partition follow each other, most of them delivered: they differ in two numbers.
                Some(current) if self.told > 0 || is_like(current, run) => current.report,
                _ => begin_run(&mut self.current, &mut self.topics, &mut self.errors, run),
            };
            let mut report = ottla_report {
                struct_size: size,
                ..common
            };
            let (base, timestamp) = match &run.result {
                Ok(reported) => (reported.base_offset, reported.timestamp),
                Err(_) => (None, -1),
            };
            report.timestamp_ms = timestamp;
            while self.told < run.count && count < most {
                let nth = u64::from(self.told);
                report.opaque = ptr::without_provenance_mut(run.first.wrapping_add(nth) as usize);
                report.offset = base.map_or(-1, |base| base.saturating_add_unsigned(nth));
                tell(&report);
                self.told += 1;
                count += 1;
            }
            if self.told >= run.count {
                self.told = 0;
                self.runs.pop_front();
            }
        }
        count
    }
}

fn is_like(current: &Current, run: &Report) -> bool {
    current.report.code == OTTLA_OK && run.result.is_ok() && Arc::ptr_eq(&current.partition, &run.partition)
}

#[cold]
fn begin_run(
    current: &mut Option<Current>,
    topics: &mut HashMap<String, CString>,
    errors: &mut Errors,
    run: &Report,
) -> ottla_report {
    let topic: &str = &run.partition.topic;
    if !topics.contains_key(topic) {
        topics.insert(topic.to_owned(), c_string(topic));
    }
    let mut report = ottla_report {
        partition: run.partition.partition,
        topic: topics.get(topic).map_or(ptr::null(), |name| name.as_ptr()),
        ..ottla_report::EMPTY
    };
    if let Err(failed) = &run.result {
        let mut error = Box::new(ottla_error::from(&Error::from(failed.clone())));
        error.is_about(topic, run.partition.partition);
        report.code = error.number();
        report.persisted = persisted(failed.persisted());
        report.error = &raw const *error;
        errors.push(error);
    }
    *current = Some(Current {
        partition: run.partition.clone(),
        report,
    });
    report
}
