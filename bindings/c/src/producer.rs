//! Producers.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use ottla_bindings_core::{Bell, Closed, Error, Flushed, Kind, Producer, Receipt, Record};

use crate::border::{Given, ffi, give_text};
use crate::config::{ottla_config, pairs};
use crate::error::ottla_error;
use crate::handles::{InUse, Sort, Table};
use crate::reports::{Telling, ottla_report};
use crate::waiting::{Deadline, for_future, interrupted, on_bell};
use crate::{ottla_bytes, ottla_header};

/// A producer. A handle: NULL, a freed or a wrong one is an error, never a crash.
pub struct ottla_producer {
    _opaque: [u8; 0],
}

/// A flag of a record: no delivery report, unless something goes wrong; see ottla_producer_failures().
pub const OTTLA_RECORD_NO_REPORT: u32 = 1;

/// A record to be sent. Begin with OTTLA_RECORD_INIT, then set what you need.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ottla_record {
    /// sizeof(ottla_record).
    pub struct_size: usize,
    /// The topic.
    pub topic: *const c_char,
    /// The key, or null.
    pub key: ottla_bytes,
    /// The value, or null for a tombstone.
    pub value: ottla_bytes,
    /// The headers in order; a key may occur more than once. NULL if there are none.
    pub headers: *const ottla_header,
    /// How many headers.
    pub header_count: usize,
    /// Given back in the report, never looked at.
    pub opaque: *mut c_void,
    /// Milliseconds since 1970, or -1 for now.
    pub timestamp_ms: i64,
    /// The partition, or -1 for the partitioner's choice.
    pub partition: i32,
    /// 0, or OTTLA_RECORD_NO_REPORT.
    pub flags: u32,
}

/// What became of records. Begin with OTTLA_COUNTS_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ottla_counts {
    /// sizeof(ottla_counts).
    pub struct_size: usize,
    /// Written (with acks=0: given to the socket).
    pub delivered: u64,
    /// Failed, and certainly not in the log.
    pub failed: u64,
    /// Failed, and possibly in the log.
    pub unknown: u64,
    /// Not settled yet.
    pub pending: u64,
}

/// A function of the program that is told of deliveries. The report is valid until it returns.
pub type ottla_delivery_callback = Option<unsafe extern "C" fn(report: *const ottla_report, user_data: *mut c_void)>;

/// What a handle stands for.
struct Client {
    core: Producer,
    bell: Bell,
    telling: Mutex<Telling>,
    callback: Mutex<Callback>,
    /// `close` has ended: there will be no more reports.
    ended: AtomicBool,
}

#[derive(Clone, Copy)]
struct Callback {
    call: ottla_delivery_callback,
    user_data: *mut c_void,
}

// SAFETY: the pointer is only handed back to the program, in the thread that polls, as its documentation says.
unsafe impl Send for Callback {}

static PRODUCERS: Table<Client> = Table::new(Sort::Producer, "producer");

const NO_CALLBACK: Callback = Callback {
    call: None,
    user_data: ptr::null_mut(),
};

/// Makes a producer, which begins to connect; it takes records at once.
///
/// Returns: OTTLA_ERROR_CONFIG for a mistake in the configuration. Whether it could connect is told by
/// ottla_producer_connected(), or by the first call after it failed.
/// Ownership: the configuration is copied. The caller frees `*producer` with ottla_producer_free().
/// Threads: any, and so are all other functions of a producer unless they say otherwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_new(
    config: *const ottla_config,
    producer: *mut *mut ottla_producer,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let out = given.out(producer, "producer")?;
        let pairs = pairs(config)?;
        *out = PRODUCERS.insert(|place| {
            let bell = place.bell()?.clone();
            Ok(Client {
                core: Producer::start(pairs, bell.waker())?,
                bell,
                telling: Mutex::default(),
                callback: Mutex::new(NO_CALLBACK),
                ended: AtomicBool::new(false),
            })
        })?;
        Ok(())
    })
}

/// Waits until the producer has connected, at most `timeout_ms` (-1: for ever; it gives up by itself, too).
///
/// Errors: OTTLA_ERROR_CONNECT and its like; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED by ottla_producer_wake().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_connected(
    producer: *mut ottla_producer,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = PRODUCERS.get(producer)?;
        let connected = client.core.connected();
        for_future(connected, Deadline::after(timeout_ms), client.place, "connecting")?
    })
}

/// Sends a record. Never blocks.
///
/// OTTLA_ERROR_QUEUE_FULL means that buffer.memory is full (or, with reports, that too many of them wait to be polled): the
/// record was not taken. Poll for reports, or wait with ottla_producer_ready(), and send it again. Before the producer has
/// connected and before the topic's metadata is here, records are taken and wait inside, up to a quarter of buffer.memory.
///
/// Ownership: everything that the record points to is copied; after the call all of it is the caller's again.
/// Promises: records of one partition are written in the order of the calls, and each is reported exactly once (unless
/// its flags say otherwise), at the latest after delivery.timeout.ms.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_send(
    producer: *mut ottla_producer,
    record: *const ottla_record,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        PRODUCERS.with(producer, |client| {
            given.with_sized(record, EMPTY_RECORD, "record", |record| send(given, client, record))
        })
    })
}

/// Sends many records with one call, in their order, until one is not taken.
///
/// `*sent` is how many were taken, and is written also when the call fails: record number `*sent` is the one that the error is
/// about, and the rest was not looked at. `records[0].struct_size` is the size of each.
/// Otherwise as ottla_producer_send().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_send_batch(
    producer: *mut ottla_producer,
    records: *const ottla_record,
    count: usize,
    sent: *mut usize,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = PRODUCERS.get(producer)?;
        let sent = given.out(sent, "sent")?;
        *sent = 0;
        if count == 0 {
            return Ok(());
        }
        let size = given.size_of(records, "records")?;
        for nth in 0..count {
            let record = records.wrapping_byte_add(nth * size);
            given.with_sized(record, EMPTY_RECORD, "records", |record| send(given, &client, record))?;
            *sent += 1;
        }
        Ok(())
    })
}

const EMPTY_RECORD: ottla_record = ottla_record {
    struct_size: size_of::<ottla_record>(),
    topic: ptr::null(),
    key: NULL,
    value: NULL,
    headers: ptr::null(),
    header_count: 0,
    opaque: ptr::null_mut(),
    timestamp_ms: -1,
    partition: -1,
    flags: 0,
};

const NULL: ottla_bytes = ottla_bytes {
    data: ptr::null(),
    len: 0,
};

#[inline]
fn send(given: Given, client: &Client, from: &ottla_record) -> Result<(), Error> {
    let mut record = Record::to(given.text(from.topic, "the record's topic")?);
    if let Some(key) = given.bytes(from.key) {
        record = record.key(key);
    }
    if let Some(value) = given.bytes(from.value) {
        record = record.value(value);
    }
    if from.partition != -1 {
        record = record.partition(checked(from.partition)?);
    }
    if from.timestamp_ms != -1 {
        record = record.timestamp(from.timestamp_ms);
    }
    if from.header_count > 0 {
        record = with_headers(given, record, from)?;
    }
    let receipt = match from.flags & OTTLA_RECORD_NO_REPORT {
        0 => Receipt::Tag(from.opaque.addr() as u64),
        _ => Receipt::None,
    };
    client.core.try_send(record, receipt).map(|_| ())
}

fn checked(partition: i32) -> Result<i32, Error> {
    match partition {
        0.. => Ok(partition),
        _ => Err(Error::argument(format!(
            "the record's partition is {partition}: it must be 0 or more, or -1 for the partitioner's choice"
        ))),
    }
}

fn with_headers<'a>(given: Given, mut record: Record<'a>, from: &ottla_record) -> Result<Record<'a>, Error> {
    for header in given.array(from.headers, from.header_count, "the record's headers")? {
        let key = std::str::from_utf8(given.bytes(header.key).unwrap_or_default())
            .map_err(|error| Error::argument(format!("the key of a header is not UTF-8: {error}")))?;
        record = match given.bytes(header.value) {
            Some(value) => record.header(key, value),
            None => record.null_header(key),
        };
    }
    Ok(record)
}

/// Waits until ottla_producer_send() has room again, at most `timeout_ms` (-1: for ever).
///
/// Another thread may be faster: send, and wait again if it is still full.
/// Errors: OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED by ottla_producer_wake(); OTTLA_ERROR_CLOSED; why it did not connect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_ready(
    producer: *mut ottla_producer,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = PRODUCERS.get(producer)?;
        let room = client.core.room();
        for_future(room, Deadline::after(timeout_ms), client.place, "waiting for room")?
    })
}

/// A file descriptor for poll(2), epoll and event loops: readable while ottla_producer_poll() has reports, or was woken (and now
/// and then once for nothing). -1 for what is no producer.
///
/// Ownership: it stays the producer's; do not read or close it, and do not use it after ottla_producer_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_fd(producer: *const ottla_producer) -> c_int {
    PRODUCERS.get(producer).map_or(-1, |client| client.bell.fd())
}

/// Has reports told to `callback`, in place of the array of ottla_producer_poll(). NULL ends that.
///
/// Threads: it is called only inside of ottla_producer_poll(), by the thread that called it, never by a thread of the library.
/// It may send records; it must not poll the same producer (which is an error) nor leave by longjmp or a C++ exception.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_set_delivery_callback(
    producer: *mut ottla_producer,
    callback: ottla_delivery_callback,
    user_data: *mut c_void,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = PRODUCERS.get(producer)?;
        let call = callback;
        *client.callback.lock().unwrap_or_else(PoisonError::into_inner) = Callback { call, user_data };
        Ok(())
    })
}

/// Takes delivery reports: at most `capacity` of them into `reports`, or all there are to the callback (with `reports` NULL
/// and `capacity` 0). Waits for the first one at most `timeout_ms` (0: not at all; -1: for ever).
///
/// `reports[0].struct_size` is the size of each; OTTLA_REPORT_INIT sets it. `*count` is how many came, 0 after the time.
///
/// Ownership: see ottla_report for how long what a report points to is valid.
/// Threads: one at a time; a second one gets OTTLA_ERROR_ARGUMENT.
/// Errors: OTTLA_ERROR_INTERRUPTED by ottla_producer_wake(), which the next call does not repeat; OTTLA_ERROR_CLOSED when the
/// producer was closed and everything was told.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_poll(
    producer: *mut ottla_producer,
    reports: *mut ottla_report,
    capacity: usize,
    timeout_ms: i32,
    count: *mut usize,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = PRODUCERS.get(producer)?;
        let out = given.out(count, "count")?;
        let callback = *client.callback.lock().unwrap_or_else(PoisonError::into_inner);
        let size = match callback.call {
            Some(_) => 0,
            None if capacity == 0 => return Err(Error::argument("capacity is 0, and there is no callback")),
            None => given.size_of(reports, "reports")?,
        };
        let mut telling = match client.telling.try_lock() {
            Ok(telling) => telling,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::argument(
                    "another thread, or the delivery callback, polls this producer",
                ));
            }
        };
        telling.begin();
        let deadline = Deadline::after(timeout_ms);
        while !gather(&client, &mut telling)? {
            if client.place.was_woken() {
                return Err(interrupted());
            }
            if client.ended.load(Ordering::Acquire) {
                if gather(&client, &mut telling)? {
                    break;
                }
                return Err(ended());
            }
            if deadline.is_over() {
                break;
            }
            on_bell(&client.bell, deadline);
        }
        let mut at = reports;
        let (most, size) = match callback.call {
            Some(_) => (usize::MAX, size_of::<ottla_report>()),
            None => (capacity, size),
        };
        let told = telling.tell(most, size, |report| {
            match callback.call {
                // SAFETY: the program gave the function and its argument for this.
                Some(call) => unsafe { call(report, callback.user_data) },
                None => {
                    given.write_sized(at, size, || *report);
                    at = at.wrapping_byte_add(size);
                }
            }
        });
        if !telling.is_empty() {
            client.bell.ring();
        }
        *out = told;
        Ok(())
    })
}

fn ended() -> Error {
    Error::new(Kind::Closed, "this producer is closed, and has told everything")
}

/// Brings reports from the core. Says whether there are any.
fn gather(client: &InUse<'_, Client>, telling: &mut Telling) -> Result<bool, Error> {
    if client.bell.is_ringing() || telling.is_empty() {
        client.bell.silence();
        telling.add(client.core.take_reports()?);
    }
    Ok(!telling.is_empty())
}

/// Ends the waiting of whoever waits for this producer (in poll, ready, flush, close), or of the next one who does:
/// it returns OTTLA_ERROR_INTERRUPTED.
///
/// Threads: any; may also be called from a signal handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_wake(producer: *mut ottla_producer) -> i32 {
    match PRODUCERS.wake(producer) {
        true => crate::error::OTTLA_OK,
        false => Kind::Argument.number(),
    }
}

/// How many records with OTTLA_RECORD_NO_REPORT failed since the last call, and why the first of them did.
///
/// `*first` is NULL if none failed; otherwise the caller frees it with ottla_error_free(). Both may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_failures(
    producer: *mut ottla_producer,
    count: *mut u64,
    first: *mut *mut ottla_error,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = PRODUCERS.get(producer)?;
        let failures = client.core.take_unclaimed()?;
        if let Some(count) = given.optional_out(count) {
            *count = failures.as_ref().map_or(0, |failures| failures.count);
        }
        if let Some(first) = given.optional_out(first) {
            *first = failures.map_or(ptr::null_mut(), |failures| {
                Box::into_raw(Box::new(ottla_error::from(&failures.first)))
            });
        }
        Ok(())
    })
}

/// Sends everything queued so far without lingering, and waits until each record of it is delivered or has failed, at most
/// `timeout_ms` (-1: until delivery.timeout.ms is over).
///
/// `*counts` (may be NULL) counts these records, also when the time was over; then `pending` is not 0 and the call returns
/// OTTLA_ERROR_TIMEOUT. Records that failed make no error here: their reports do, and ottla_producer_failures().
/// Their reports are there when it returns, to be polled.
/// Errors: OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED by ottla_producer_wake(); why it did not connect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_flush(
    producer: *mut ottla_producer,
    timeout_ms: i32,
    counts: *mut ottla_counts,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = PRODUCERS.get(producer)?;
        let flush = client.core.flush(duration(timeout_ms));
        let flushed = for_future(flush, Deadline::after(-1), client.place, "flushing")??;
        write_counts(given, counts, flushed)?;
        match flushed.pending {
            0 => Ok(()),
            pending => Err(Error::new(
                Kind::Timeout,
                format!("{pending} records are not settled yet after the {timeout_ms} ms given to it"),
            )),
        }
    })
}

/// Takes no more records, sends what is queued, and ends the producer, at the latest after `timeout_ms` (-1: after
/// delivery.timeout.ms). What was not acknowledged by then fails, and its report says whether it may be in the log.
///
/// `*counts` (may be NULL) counts all records since the producer was made. All reports are there when it returns: poll until
/// OTTLA_ERROR_CLOSED. A second call finds nothing left to do. It always returns in time.
/// Errors: OTTLA_ERROR_INTERRUPTED by ottla_producer_wake(): it takes no more records then, but call this again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_close(
    producer: *mut ottla_producer,
    timeout_ms: i32,
    counts: *mut ottla_counts,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = PRODUCERS.get(producer)?;
        let close = client.core.close(duration(timeout_ms).unwrap_or(FOREVER));
        let closed = for_future(close, Deadline::after(-1), client.place, "closing")??;
        client.ended.store(true, Ordering::Release);
        client.bell.ring();
        let Closed {
            delivered,
            failed,
            unknown,
        } = closed;
        let counted = Flushed {
            delivered,
            failed,
            unknown,
            pending: 0,
        };
        write_counts(given, counts, counted)
    })
}

/// A timeout that the client's own ones end.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

fn duration(timeout_ms: i32) -> Option<Duration> {
    u64::try_from(timeout_ms).ok().map(Duration::from_millis)
}

fn write_counts(given: Given, counts: *mut ottla_counts, counted: Flushed) -> Result<(), Error> {
    if counts.is_null() {
        return Ok(());
    }
    let size = given.size_of(counts, "counts")?;
    let value = ottla_counts {
        struct_size: size,
        delivered: counted.delivered,
        failed: counted.failed,
        unknown: counted.unknown,
        pending: counted.pending,
    };
    given.write_sized(counts, size, || value);
    Ok(())
}

/// Totals, and what the producer does now, as text in Prometheus' format. "" before it has connected.
///
/// Ownership: the caller frees `*text` with ottla_string_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_metrics(
    producer: *mut ottla_producer,
    text: *mut *mut c_char,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = PRODUCERS.get(producer)?;
        let out = given.out(text, "text")?;
        let metrics = client.core.metrics()?;
        *out = give_text(&metrics.map(|metrics| metrics.to_prometheus()).unwrap_or_default());
        Ok(())
    })
}

/// Frees a producer. NULL is allowed. Does not wait: records that are queued are still sent in the background while the
/// process lives, so call ottla_producer_close() first. Reports that were not polled are gone.
///
/// OTTLA_ERROR_ARGUMENT if it was freed before. In the child of a fork it frees the handle and leaves the parent's producer
/// alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_producer_free(producer: *mut ottla_producer) -> i32 {
    ffi!(ptr::null_mut(), |given| {
        match producer.is_null() {
            true => Ok(()),
            false => PRODUCERS.remove(producer).map(|_| ()),
        }
    })
}
