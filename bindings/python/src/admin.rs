//! Topics, groups and the cluster.
//!
//! In: names and numbers. Out: operations whose answers are plain tuples and dictionaries, from which the package's Python
//! half makes its classes. What failed for one topic is an exception in its place.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use ottla::NewTopic;
use ottla_bindings_core::Error;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::batch::pair;
use crate::consumer::object;
use crate::errors::{call, exception};
use crate::operation::Operation;
use crate::{group, input};

/// An admin client; the package's admin clients are subclasses.
#[pyclass(frozen, subclass, weakref, module = "ottla._native")]
pub(crate) struct Admin {
    core: OnceLock<ottla_bindings_core::Admin>,
}

impl Admin {
    fn core(&self) -> PyResult<&ottla_bindings_core::Admin> {
        self.core
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("this admin client was not initialised: call super().__init__()"))
    }
}

/// Answers by name; an exception in the place of what failed.
fn answers<T>(
    py: Python<'_>,
    answers: BTreeMap<String, Result<T, Error>>,
    tell: impl Fn(T) -> PyResult<Py<PyAny>>,
) -> PyResult<Py<PyAny>> {
    let dict = PyDict::new(py);
    for (name, answer) in answers {
        match answer {
            Ok(answer) => dict.set_item(name, tell(answer)?)?,
            Err(error) => dict.set_item(name, exception(py, &error, 1)?)?,
        }
    }
    Ok(dict.into_any().unbind())
}

/// Name, partitions, replication factor, assignments, configuration of a topic to be created.
type Wish = (
    String,
    Option<i32>,
    Option<i16>,
    Option<Vec<Vec<i32>>>,
    Vec<(String, String)>,
);

fn new_topic((name, partitions, replicas, assignments, config): Wish) -> NewTopic {
    let mut topic = NewTopic::new(name);
    if let Some(partitions) = partitions {
        topic = topic.partitions(partitions);
    }
    if let Some(replicas) = replicas {
        topic = topic.replication_factor(replicas);
    }
    if let Some(assignments) = assignments {
        topic = topic.assignments(assignments);
    }
    config
        .into_iter()
        .fold(topic, |topic, (key, value)| topic.config(key, value))
}

#[pymethods]
impl Admin {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Admin { core: OnceLock::new() }
    }

    /// Checks the configuration.
    fn _start(&self, py: Python<'_>, pairs: Vec<(String, String)>) -> PyResult<()> {
        let core = call(py, || ottla_bindings_core::Admin::start(pairs))?;
        self.core
            .set(core)
            .map_err(|_| PyRuntimeError::new_err("this admin client was initialised already"))
    }

    /// Connects.
    fn _connected(&self) -> PyResult<Operation> {
        Ok(Operation::silent(self.core()?.connected()))
    }

    /// Creates topics: (id, partitions, replication factor) of each.
    fn _create_topics(&self, topics: Vec<Wish>, validate_only: bool) -> PyResult<Operation> {
        let topics = topics.into_iter().map(new_topic).collect();
        let created = self.core()?.create_topics(topics, validate_only);
        Ok(Operation::new(created, |py, created| {
            answers(py, created, |topic| {
                let of = (topic.id.to_string(), topic.partitions, topic.replication_factor);
                Ok(of.into_pyobject(py)?.into_any().unbind())
            })
        }))
    }

    /// Deletes topics.
    fn _delete_topics(&self, names: Vec<String>) -> PyResult<Operation> {
        let deleted = self.core()?.delete_topics(names);
        Ok(Operation::new(deleted, |py, deleted| {
            answers(py, deleted, |()| Ok(py.None()))
        }))
    }

    /// Gives topics more partitions: so many in total.
    fn _create_partitions(&self, totals: Vec<(String, i32)>) -> PyResult<Operation> {
        let created = self.core()?.create_partitions(totals);
        Ok(Operation::new(created, |py, created| {
            answers(py, created, |()| Ok(py.None()))
        }))
    }

    /// All topics: (name, id, internal) of each.
    fn _list_topics(&self) -> PyResult<Operation> {
        let topics = self.core()?.list_topics();
        Ok(Operation::new(topics, |py, topics| {
            let rows: Vec<_> = topics
                .iter()
                .map(|topic| (&*topic.name, topic.id.to_string(), topic.internal))
                .collect();
            Ok(rows.into_pyobject(py)?.into_any().unbind())
        }))
    }

    /// (id, internal, partitions) of each topic; a partition is (number, leader, leader epoch, replicas, in sync, offline).
    fn _describe_topics(&self, names: Vec<String>) -> PyResult<Operation> {
        let described = self.core()?.describe_topics(names);
        Ok(Operation::new(described, |py, described| {
            answers(py, described, |topic| {
                let partitions: Vec<_> = topic
                    .partitions
                    .into_iter()
                    .map(|part| {
                        let replicas = (part.replicas, part.in_sync, part.offline);
                        (part.partition, part.leader, part.leader_epoch, replicas)
                    })
                    .collect();
                let of = (topic.id.to_string(), topic.internal, partitions);
                Ok(of.into_pyobject(py)?.into_any().unbind())
            })
        }))
    }

    /// (cluster id, controller, brokers); a broker is (id, host, port, rack).
    fn _describe_cluster(&self) -> PyResult<Operation> {
        let described = self.core()?.describe_cluster();
        Ok(Operation::new(described, |py, cluster| {
            let brokers: Vec<_> = cluster
                .brokers
                .into_iter()
                .map(|broker| (broker.id, broker.host, broker.port, broker.rack))
                .collect();
            let of = (cluster.cluster_id, cluster.controller, brokers);
            Ok(of.into_pyobject(py)?.into_any().unbind())
        }))
    }

    /// All groups, as JSON.
    fn _list_groups(&self, states: Vec<String>, types: Vec<String>) -> PyResult<Operation> {
        let groups = self.core()?.list_groups(states, types);
        Ok(Operation::new(groups, |py, groups| object(groups.into_pyobject(py)?)))
    }

    /// Groups with their members: JSON of each.
    fn _describe_consumer_groups(&self, groups: Vec<String>) -> PyResult<Operation> {
        let described = self.core()?.describe_consumer_groups(groups);
        Ok(Operation::new(described, |py, described| {
            answers(py, described, |group| object(group.into_pyobject(py)?))
        }))
    }

    /// (offset, leader epoch, words) of each partition.
    fn _list_consumer_group_offsets(&self, group: String, require_stable: bool) -> PyResult<Operation> {
        let offsets = self.core()?.list_consumer_group_offsets(group, require_stable);
        Ok(Operation::new(offsets, |py, offsets| {
            let dict = PyDict::new(py);
            for (partition, offset) in &offsets {
                dict.set_item(pair(py, partition)?, group::committed(offset))?;
            }
            object(dict)
        }))
    }

    /// Commits offsets for a group without members.
    fn _alter_consumer_group_offsets(&self, group: String, rows: Vec<group::Row>) -> PyResult<Operation> {
        let offsets = group::offsets(rows).into_iter().collect();
        let altered = self.core()?.alter_consumer_group_offsets(group, offsets);
        Ok(Operation::new(altered, group::by_partition))
    }

    /// Forgets committed offsets.
    fn _delete_consumer_group_offsets(&self, group: String, partitions: &Bound<'_, PyAny>) -> PyResult<Operation> {
        let partitions = input::partitions(partitions)?;
        let deleted = self.core()?.delete_consumer_group_offsets(group, partitions);
        Ok(Operation::new(deleted, group::by_partition))
    }

    /// Deletes groups.
    fn _delete_consumer_groups(&self, groups: Vec<String>) -> PyResult<Operation> {
        let deleted = self.core()?.delete_consumer_groups(groups);
        Ok(Operation::new(deleted, |py, deleted| {
            answers(py, deleted, |()| Ok(py.None()))
        }))
    }

    /// Ends it.
    fn _close(&self, py: Python<'_>) -> PyResult<()> {
        let core = self.core()?;
        call(py, || core.close())
    }
}
