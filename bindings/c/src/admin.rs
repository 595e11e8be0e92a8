//! Topics: to create, delete, list and count.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::ptr;

use ottla_bindings_core::{Admin, Error, Kind, NewTopic};

use crate::border::{c_string, ffi};
use crate::config::{ottla_config, pairs};
use crate::error::{OTTLA_OK, ottla_error};
use crate::handles::{Sort, Table};
use crate::waiting::{Deadline, for_future};

/// An admin client. A handle: NULL, a freed or a wrong one is an error, never a crash.
pub struct ottla_admin {
    _opaque: [u8; 0],
}

/// Names of topics. A plain pointer: whoever got it frees it once with ottla_topics_free().
pub struct ottla_topics {
    pub(crate) names: Vec<CString>,
}

pub(crate) static ADMINS: Table<Admin> = Table::new(Sort::Admin, "admin client");

/// The answer about the one thing that was asked for.
pub(crate) fn only<K, T>(answers: BTreeMap<K, Result<T, Error>>) -> Result<T, Error> {
    let answer = answers.into_values().next();
    answer.unwrap_or_else(|| {
        Err(Error::new(
            Kind::Protocol,
            "the broker's answer says nothing about what was asked",
        ))
    })
}

/// Makes an admin client. It connects with the first call that needs a broker.
///
/// Returns: OTTLA_ERROR_CONFIG for a mistake in the configuration.
/// Ownership: the configuration is copied. The caller frees `*admin` with ottla_admin_free().
/// Threads: any, and so are all other functions of an admin client. They wait at most `timeout_ms` (-1: as long as the
/// client's own timeouts say) and may be ended by ottla_admin_wake(); what was asked of the broker may still be done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_new(
    config: *const ottla_config,
    admin: *mut *mut ottla_admin,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let out = given.out(admin, "admin")?;
        let pairs = pairs(config)?;
        *out = ADMINS.insert(|_| Admin::start(pairs))?;
        Ok(())
    })
}

/// Waits until the admin client has connected, as the first call that needs a broker would do.
///
/// Errors: OTTLA_ERROR_CONNECT and its like; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_connected(
    admin: *mut ottla_admin,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = ADMINS.get(admin)?;
        for_future(
            client.connected(),
            Deadline::after(timeout_ms),
            client.place,
            "connecting",
        )?
    })
}

/// Creates a topic.
///
/// `partitions`, `replication_factor`: -1 for the broker's default. `config`: the topic's own keys, such as "retention.ms", or
/// NULL.
/// Errors: 36 (TOPIC_ALREADY_EXISTS) and what else a broker may say; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_create_topic(
    admin: *mut ottla_admin,
    topic: *const c_char,
    partitions: i32,
    replication_factor: i32,
    config: *const ottla_config,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = ADMINS.get(admin)?;
        let mut wish = NewTopic::new(given.text(topic, "topic")?);
        if partitions != -1 {
            wish = wish.partitions(partitions);
        }
        if replication_factor != -1 {
            let replicas = i16::try_from(replication_factor)
                .map_err(|_| Error::argument(format!("replication_factor is {replication_factor}")))?;
            wish = wish.replication_factor(replicas);
        }
        if !config.is_null() {
            wish = pairs(config)?
                .into_iter()
                .fold(wish, |wish, (key, value)| wish.config(key, value));
        }
        let creating = client.create_topics(vec![wish], false);
        let answers = for_future(creating, Deadline::after(timeout_ms), client.place, "creating a topic")??;
        only(answers).map(|_| ())
    })
}

/// Deletes a topic.
///
/// Errors: OTTLA_ERROR_UNKNOWN_TOPIC as the kind, 3 as the code; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_delete_topic(
    admin: *mut ottla_admin,
    topic: *const c_char,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = ADMINS.get(admin)?;
        let deleting = client.delete_topics(vec![given.text(topic, "topic")?.to_owned()]);
        only(for_future(
            deleting,
            Deadline::after(timeout_ms),
            client.place,
            "deleting a topic",
        )??)
    })
}

/// Gives a topic more partitions: `partitions` in total. Keys may go to other partitions from then on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_create_partitions(
    admin: *mut ottla_admin,
    topic: *const c_char,
    partitions: i32,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = ADMINS.get(admin)?;
        let creating = client.create_partitions(vec![(given.text(topic, "topic")?.to_owned(), partitions)]);
        only(for_future(
            creating,
            Deadline::after(timeout_ms),
            client.place,
            "creating partitions",
        )??)
    })
}

/// Asks how many partitions a topic has.
///
/// Errors: OTTLA_ERROR_UNKNOWN_TOPIC as the kind, 3 as the code; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_partition_count(
    admin: *mut ottla_admin,
    topic: *const c_char,
    timeout_ms: i32,
    count: *mut i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = ADMINS.get(admin)?;
        let out = given.out(count, "count")?;
        let asking = client.describe_topics(vec![given.text(topic, "topic")?.to_owned()]);
        let topic = only(for_future(
            asking,
            Deadline::after(timeout_ms),
            client.place,
            "describing a topic",
        )??)?;
        *out = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        Ok(())
    })
}

/// Lists all topics but Kafka's own.
///
/// Ownership: the caller frees `*topics` with ottla_topics_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_list_topics(
    admin: *mut ottla_admin,
    timeout_ms: i32,
    topics: *mut *mut ottla_topics,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = ADMINS.get(admin)?;
        let out = given.out(topics, "topics")?;
        let asking = client.list_topics();
        let listed = for_future(asking, Deadline::after(timeout_ms), client.place, "listing topics")??;
        let mut names: Vec<CString> = listed
            .iter()
            .filter(|topic| !topic.internal)
            .map(|topic| c_string(&topic.name))
            .collect();
        names.sort();
        *out = Box::into_raw(Box::new(ottla_topics { names }));
        Ok(())
    })
}

/// How many names there are. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_topics_len(topics: *const ottla_topics) -> usize {
    // SAFETY: the header's first rule: NULL, or a list that was not freed.
    unsafe { topics.as_ref() }.map_or(0, |topics| topics.names.len())
}

/// Name number `index`, from 0, in alphabetical order; NULL if there is none. Lives as long as the list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_topics_get(topics: *const ottla_topics, index: usize) -> *const c_char {
    // SAFETY: as in `ottla_topics_len`.
    let name = unsafe { topics.as_ref() }.and_then(|topics| topics.names.get(index));
    name.map_or(ptr::null(), |name| name.as_ptr())
}

/// Frees a list of names. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_topics_free(topics: *mut ottla_topics) {
    if !topics.is_null() {
        // SAFETY: `ottla_admin_list_topics` made it with `Box::into_raw`, and the caller frees it once.
        drop(unsafe { Box::from_raw(topics) });
    }
}

/// Ends the waiting of whoever waits for this client, or of the next one who does, within 50 ms: it returns
/// OTTLA_ERROR_INTERRUPTED.
///
/// Threads: any; may also be called from a signal handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_wake(admin: *mut ottla_admin) -> i32 {
    match ADMINS.wake(admin) {
        true => OTTLA_OK,
        false => Kind::Argument.number(),
    }
}

/// Closes the connections as soon as open calls have ended; calls give OTTLA_ERROR_CLOSED from now on. Returns at once; may be
/// called again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_close(admin: *mut ottla_admin, error: *mut *mut ottla_error) -> i32 {
    ffi!(error, |given| { ADMINS.get(admin)?.close() })
}

/// Closes and frees an admin client. NULL is allowed. OTTLA_ERROR_ARGUMENT if it was freed before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_free(admin: *mut ottla_admin) -> i32 {
    ffi!(ptr::null_mut(), |given| {
        match admin.is_null() {
            true => Ok(()),
            false => ADMINS.remove(admin).map(|_| ()),
        }
    })
}
