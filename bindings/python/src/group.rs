//! What a consumer does in a group: subscribing, committing, leaving.
//!
//! In: topics, offsets, records that were handed out. Out: operations, and events as tuples, from which the package's Python
//! half makes calls of the application's functions. Nothing here calls the application.

use std::collections::BTreeMap;

use ottla_bindings_core::{ConsumerClosed, Error, Event, OffsetAndMetadata, Offsets, TopicPartition};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::batch::{Batch, ConsumerRecord, pair};
use crate::consumer::{Consumer, list, object};
use crate::errors::{call, exception};
use crate::input;
use crate::operation::Operation;

/// Topic, partition, offset, leader epoch and words of an offset.
pub(crate) type Row = (String, i32, i64, Option<i32>, String);

pub(crate) fn offsets(rows: Vec<Row>) -> Offsets {
    rows.into_iter()
        .map(|(topic, partition, offset, epoch, words)| {
            let offset = OffsetAndMetadata::new(offset).metadata(words);
            let offset = epoch.map_or_else(|| offset.clone(), |epoch| offset.clone().leader_epoch(epoch));
            (TopicPartition::new(topic, partition), offset)
        })
        .collect()
}

/// (offset, leader epoch, words).
pub(crate) fn committed(offset: &OffsetAndMetadata) -> (i64, Option<i32>, &str) {
    (offset.offset, offset.leader_epoch, &offset.metadata)
}

/// (name, partitions, error, detail).
pub(crate) fn event<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyAny>> {
    let error = event.error().map(|error| exception(py, error, 1)).transpose()?;
    let told = (event.name(), list(py, event.partitions())?, error, event.detail());
    Ok(told.into_pyobject(py)?.into_any())
}

fn closed(py: Python<'_>, closed: &ConsumerClosed) -> PyResult<Py<PyAny>> {
    let dict = |offsets: &BTreeMap<TopicPartition, i64>| {
        let dict = PyDict::new(py);
        for (partition, offset) in offsets {
            dict.set_item(pair(py, partition)?, offset)?;
        }
        PyResult::Ok(dict)
    };
    let error = closed.error.as_ref().map(|error| exception(py, error, 1)).transpose()?;
    let told = (
        dict(&closed.committed)?,
        dict(&closed.unprocessed)?,
        closed.finished,
        error,
    );
    object(told.into_pyobject(py)?)
}

/// Whether it has a `group.id`.
#[pyfunction]
pub(crate) fn group_in_group(consumer: &Bound<'_, Consumer>) -> PyResult<bool> {
    Ok(consumer.get().inner()?.in_group)
}

/// Reads these topics as a member of the group.
#[pyfunction]
pub(crate) fn group_subscribe(consumer: &Bound<'_, Consumer>, py: Python<'_>, topics: Vec<String>) -> PyResult<()> {
    let inner = consumer.get().inner()?;
    call(py, || inner.core.subscribe(topics))
}

/// Reads all topics with such a name.
#[pyfunction]
pub(crate) fn group_subscribe_pattern(consumer: &Bound<'_, Consumer>, py: Python<'_>, pattern: &str) -> PyResult<()> {
    let inner = consumer.get().inner()?;
    call(py, || inner.core.subscribe_pattern(pattern))
}

/// Leaves the group.
#[pyfunction]
pub(crate) fn group_unsubscribe(consumer: &Bound<'_, Consumer>) -> PyResult<Operation> {
    let inner = consumer.get().inner()?;
    if let Some((_, done)) = inner.counts() {
        inner.core.processed(done);
    }
    inner.drop_waiting();
    Ok(Operation::silent(inner.core.unsubscribe()))
}

/// The topics subscribed to.
#[pyfunction]
pub(crate) fn group_subscription(consumer: &Bound<'_, Consumer>, py: Python<'_>) -> PyResult<Vec<String>> {
    let inner = consumer.get().inner()?;
    call(py, || inner.core.subscription())
}

/// The application was told of revoked partitions.
#[pyfunction]
pub(crate) fn group_acknowledge(consumer: &Bound<'_, Consumer>, py: Python<'_>) -> PyResult<()> {
    let inner = consumer.get().inner()?;
    call(py, || inner.core.acknowledge())
}

/// Commits what was handed out, or stored.
#[pyfunction]
pub(crate) fn group_commit(consumer: &Bound<'_, Consumer>) -> PyResult<Operation> {
    let inner = consumer.get().inner()?;
    let out = inner.counts().map(|(out, _)| out);
    Ok(Operation::silent(inner.core.commit(out)))
}

/// The same for nobody to wait for.
#[pyfunction]
pub(crate) fn group_commit_in_background(consumer: &Bound<'_, Consumer>, py: Python<'_>) -> PyResult<()> {
    let inner = consumer.get().inner()?;
    let out = inner.counts().map(|(out, _)| out);
    call(py, || inner.core.commit_in_background(out))
}

/// Commits these offsets.
#[pyfunction]
pub(crate) fn group_commit_offsets(consumer: &Bound<'_, Consumer>, rows: Vec<Row>) -> PyResult<Operation> {
    Ok(Operation::silent(
        consumer.get().inner()?.core.commit_offsets(offsets(rows)),
    ))
}

/// Commits the offset after a record.
#[pyfunction]
pub(crate) fn group_commit_record(consumer: &Bound<'_, Consumer>, record: &ConsumerRecord) -> PyResult<Operation> {
    Ok(Operation::silent(
        consumer.get().inner()?.core.commit_handed(record.handed()),
    ))
}

/// Commits the offsets after a batch.
#[pyfunction]
pub(crate) fn group_commit_batch(consumer: &Bound<'_, Consumer>, batch: &Batch) -> PyResult<Operation> {
    Ok(Operation::silent(
        consumer.get().inner()?.core.commit_handed(batch.handed()),
    ))
}

/// Stores these offsets.
#[pyfunction]
pub(crate) fn group_store_offsets(consumer: &Bound<'_, Consumer>, py: Python<'_>, rows: Vec<Row>) -> PyResult<()> {
    let inner = consumer.get().inner()?;
    call(py, || inner.core.store_offsets(offsets(rows)))
}

/// Stores the offset after a record.
#[pyfunction]
pub(crate) fn group_store_record(
    consumer: &Bound<'_, Consumer>,
    py: Python<'_>,
    record: &ConsumerRecord,
) -> PyResult<()> {
    let inner = consumer.get().inner()?;
    call(py, || inner.core.store_handed(record.handed()))
}

/// Stores the offsets after a batch.
#[pyfunction]
pub(crate) fn group_store_batch(consumer: &Bound<'_, Consumer>, py: Python<'_>, batch: &Batch) -> PyResult<()> {
    let inner = consumer.get().inner()?;
    call(py, || inner.core.store_handed(batch.handed()))
}

/// (offset, leader epoch, words) of each partition, or None.
#[pyfunction]
pub(crate) fn group_committed(consumer: &Bound<'_, Consumer>, partitions: &Bound<'_, PyAny>) -> PyResult<Operation> {
    let partitions = input::partitions(partitions)?;
    let asked = consumer.get().inner()?.core.committed(partitions);
    Ok(Operation::new(asked, |py, answers| {
        let dict = PyDict::new(py);
        for (partition, offset) in &answers {
            dict.set_item(pair(py, partition)?, offset.as_ref().map(committed))?;
        }
        object(dict)
    }))
}

/// (group id, generation, member id, instance id).
#[pyfunction]
pub(crate) fn group_group_metadata<'py>(
    consumer: &Bound<'py, Consumer>,
    py: Python<'py>,
) -> PyResult<Bound<'py, PyTuple>> {
    let inner = consumer.get().inner()?;
    let known = call(py, || inner.core.group_metadata())?;
    let instance = known.group_instance_id.as_deref();
    (&*known.group_id, known.generation_id, &*known.member_id, instance).into_pyobject(py)
}

/// Has the group rebalance.
#[pyfunction]
pub(crate) fn group_enforce_rebalance(consumer: &Bound<'_, Consumer>, py: Python<'_>, reason: &str) -> PyResult<()> {
    let inner = consumer.get().inner()?;
    call(py, || inner.core.enforce_rebalance(reason))
}

/// The next poll may take so many seconds.
#[pyfunction]
pub(crate) fn group_extend_poll(consumer: &Bound<'_, Consumer>, py: Python<'_>, within: f64) -> PyResult<()> {
    let (inner, within) = (consumer.get().inner()?, input::seconds(within)?);
    call(py, || inner.core.extend_poll(within))
}

/// How far each partition is, as JSON.
#[pyfunction]
pub(crate) fn group_progress(consumer: &Bound<'_, Consumer>, py: Python<'_>) -> PyResult<String> {
    let inner = consumer.get().inner()?;
    call(py, || inner.core.progress())
}

/// How the consumer is, as JSON.
#[pyfunction]
pub(crate) fn group_health(consumer: &Bound<'_, Consumer>, py: Python<'_>) -> PyResult<String> {
    let inner = consumer.get().inner()?;
    call(py, || inner.core.health())
}

/// Closes it, and commits and leaves the group within so many seconds: (committed, unprocessed, finished, error).
#[pyfunction]
pub(crate) fn group_finish(consumer: &Bound<'_, Consumer>, within: f64) -> PyResult<Operation> {
    let (inner, within) = (consumer.get().inner()?, input::seconds(within)?);
    let counts = inner.counts();
    let (out, done) = (counts.map(|(out, _)| out), counts.map(|(_, done)| done));
    inner.drop_waiting();
    let finishing = inner.core.finish(within, done, out);
    Ok(Operation::new(finishing, |py, told| closed(py, &told)))
}

/// Answers by partition; an exception in the place of what failed.
pub(crate) fn by_partition(
    py: Python<'_>,
    answers: BTreeMap<TopicPartition, Result<(), Error>>,
) -> PyResult<Py<PyAny>> {
    let dict = PyDict::new(py);
    for (partition, answer) in answers {
        let told = answer.err().map(|error| exception(py, &error, 1)).transpose()?;
        dict.set_item(pair(py, &partition)?, told)?;
    }
    object(dict)
}
