//! Groups: to list, describe and delete, and their offsets.

use std::ffi::c_char;

use ottla_bindings_core::Error;

use crate::admin::{ADMINS, only, ottla_admin};
use crate::border::{ffi, give_text};
use crate::consumer::partitions;
use crate::error::ottla_error;
use crate::group::{offsets, ottla_offset};
use crate::ottla_topic_partition;
use crate::waiting::{Deadline, for_future};

/// Lists all groups, as a JSON array of objects: group_id, group_type, protocol_type, state.
///
/// Ownership: the caller frees `*json` with ottla_string_free().
/// Errors: what a broker may say; OTTLA_ERROR_TIMEOUT; OTTLA_ERROR_INTERRUPTED. So for the next ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_list_groups(
    admin: *mut ottla_admin,
    timeout_ms: i32,
    json: *mut *mut c_char,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = ADMINS.get(admin)?;
        let out = given.out(json, "json")?;
        let asking = client.list_groups(Vec::new(), Vec::new());
        let groups = for_future(asking, Deadline::after(timeout_ms), client.place, "listing groups")??;
        *out = give_text(&groups);
        Ok(())
    })
}

/// Describes a group with its members, as a JSON object: group_id, group_type, state, protocol_type, assignor, coordinator,
/// group_epoch, assignment_epoch, members (member_id, instance_id, client_id, host, subscription, assignment, ...).
///
/// Ownership: the caller frees `*json` with ottla_string_free(). Errors: 69 (GROUP_ID_NOT_FOUND).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_describe_group(
    admin: *mut ottla_admin,
    group: *const c_char,
    timeout_ms: i32,
    json: *mut *mut c_char,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = ADMINS.get(admin)?;
        let out = given.out(json, "json")?;
        let asking = client.describe_consumer_groups(vec![given.text(group, "group")?.to_owned()]);
        let answers = for_future(asking, Deadline::after(timeout_ms), client.place, "describing a group")??;
        *out = give_text(&only(answers)?);
        Ok(())
    })
}

/// All committed offsets of a group, as a JSON array of objects: topic, partition, offset, leader_epoch, metadata.
///
/// Ownership: the caller frees `*json` with ottla_string_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_list_group_offsets(
    admin: *mut ottla_admin,
    group: *const c_char,
    timeout_ms: i32,
    json: *mut *mut c_char,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = ADMINS.get(admin)?;
        let out = given.out(json, "json")?;
        let asking = client.list_consumer_group_offsets_json(given.text(group, "group")?.to_owned());
        let known = for_future(asking, Deadline::after(timeout_ms), client.place, "asking for offsets")??;
        *out = give_text(&known);
        Ok(())
    })
}

/// Commits offsets on behalf of a group that has no members. Errors: that of the first partition that could not be; OTTLA_ERROR_FENCED
/// for a group with members.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_alter_group_offsets(
    admin: *mut ottla_admin,
    group: *const c_char,
    offsets: *const ottla_offset,
    count: usize,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = ADMINS.get(admin)?;
        let wanted = self::offsets(given, offsets, count)?.into_iter().collect();
        let altering = client.alter_consumer_group_offsets(given.text(group, "group")?.to_owned(), wanted);
        let answers = for_future(altering, Deadline::after(timeout_ms), client.place, "committing")??;
        answers.into_values().collect::<Result<(), Error>>()
    })
}

/// Forgets committed offsets of a group, of topics that none of its members is subscribed to. Errors: that of the first partition
/// that could not be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_delete_group_offsets(
    admin: *mut ottla_admin,
    group: *const c_char,
    partitions: *const ottla_topic_partition,
    count: usize,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = ADMINS.get(admin)?;
        let these = self::partitions(given, partitions, count)?;
        let deleting = client.delete_consumer_group_offsets(given.text(group, "group")?.to_owned(), these);
        let answers = for_future(deleting, Deadline::after(timeout_ms), client.place, "deleting offsets")??;
        answers.into_values().collect::<Result<(), Error>>()
    })
}

/// Deletes a group with all its committed offsets. Errors: 68 (NON_EMPTY_GROUP), 69 (GROUP_ID_NOT_FOUND).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_admin_delete_group(
    admin: *mut ottla_admin,
    group: *const c_char,
    timeout_ms: i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let client = ADMINS.get(admin)?;
        let deleting = client.delete_consumer_groups(vec![given.text(group, "group")?.to_owned()]);
        only(for_future(
            deleting,
            Deadline::after(timeout_ms),
            client.place,
            "deleting a group",
        )??)
    })
}
