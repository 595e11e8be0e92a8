//! What Python hands in: bytes in their several forms, headers, records.
//!
//! In: any object. Out: views of its bytes where Python guarantees that they stay (`bytes`, `str`), copies otherwise, or a
//! `TypeError` that names the argument.

use std::borrow::Cow;

use ottla_bindings_core::{Record, TopicPartition};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMapping, PyString, PyTuple};

/// `bytes`, `str` (as UTF-8), or a copy of anything with the buffer protocol.
#[inline]
pub(crate) fn bytes<'a>(object: &'a Bound<'_, PyAny>, what: &str) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Cow::Borrowed(bytes.as_bytes()));
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Cow::Borrowed(text.to_str()?.as_bytes()));
    }
    let buffer = PyBuffer::<u8>::get(object).map_err(|_| {
        let found = object.get_type();
        PyTypeError::new_err(format!(
            "{what} must be bytes, str, a buffer of bytes or None, not {found}"
        ))
    })?;
    Ok(Cow::Owned(buffer.to_vec(object.py())?))
}

#[inline]
fn optional<'a>(object: Option<&'a Bound<'_, PyAny>>, what: &str) -> PyResult<Option<Cow<'a, [u8]>>> {
    object.map(|object| bytes(object, what)).transpose()
}

/// The parts of a record as Python objects.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a, 'py> {
    pub topic: &'a Bound<'py, PyString>,
    pub value: Option<&'a Bound<'py, PyAny>>,
    pub key: Option<&'a Bound<'py, PyAny>>,
    pub headers: Option<&'a Bound<'py, PyAny>>,
    pub partition: Option<i32>,
    pub timestamp: Option<i64>,
}

impl Parts<'_, '_> {
    /// Calls `send` with the record.
    #[inline]
    pub fn with<T>(&self, send: impl FnOnce(Record<'_>) -> T) -> PyResult<T> {
        let value = optional(self.value, "value")?;
        let key = optional(self.key, "key")?;
        let mut record = Record::to(self.topic.to_str()?);
        if let Some(value) = &value {
            record = record.value(&**value);
        }
        if let Some(key) = &key {
            record = record.key(&**key);
        }
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        if let Some(timestamp) = self.timestamp {
            record = record.timestamp(timestamp);
        }
        match self.headers {
            None => Ok(send(record)),
            Some(headers) => with_headers(record, headers, send),
        }
    }
}

fn with_headers<'a, T>(
    record: Record<'a>,
    headers: &Bound<'_, PyAny>,
    send: impl FnOnce(Record<'_>) -> T,
) -> PyResult<T> {
    let pairs = match headers.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => headers.clone(),
    };
    let mut held: Vec<(Bound<'_, PyString>, Option<Bound<'_, PyAny>>)> = Vec::new();
    for pair in pairs.try_iter()? {
        let pair = pair?;
        let (key, value) = pair
            .extract()
            .map_err(|_| PyTypeError::new_err("headers must be a mapping or a sequence of (str, bytes) pairs"))?;
        held.push((key, value));
    }
    let values = held
        .iter()
        .map(|(_, value)| optional(value.as_ref(), "a header's value"))
        .collect::<PyResult<Vec<_>>>()?;
    let mut record: Record<'_> = record;
    for ((key, _), value) in held.iter().zip(&values) {
        record = match value {
            Some(value) => record.header(key.to_str()?, &**value),
            None => record.null_header(key.to_str()?),
        };
    }
    Ok(send(record))
}

/// One element of `send_many`: a value, a pair of key and value, or an `ottla.Record`.
pub(crate) struct Element<'py> {
    pub value: Option<Bound<'py, PyAny>>,
    pub key: Option<Bound<'py, PyAny>>,
    pub headers: Option<Bound<'py, PyAny>>,
    pub partition: Option<i32>,
    pub timestamp: Option<i64>,
}

impl<'py> Element<'py> {
    #[inline]
    pub fn of(object: Bound<'py, PyAny>) -> PyResult<Element<'py>> {
        let none = |object: Bound<'py, PyAny>| (!object.is_none()).then_some(object);
        let tuple = match object.cast_into::<PyTuple>() {
            Ok(tuple) => tuple,
            Err(error) => {
                return Ok(Element {
                    value: none(error.into_inner()),
                    key: None,
                    headers: None,
                    partition: None,
                    timestamp: None,
                });
            }
        };
        match tuple.len() {
            2 => Ok(Element {
                key: none(tuple.get_item(0)?),
                value: none(tuple.get_item(1)?),
                headers: None,
                partition: None,
                timestamp: None,
            }),
            5 => Ok(Element {
                value: none(tuple.get_item(0)?),
                key: none(tuple.get_item(1)?),
                headers: none(tuple.get_item(2)?),
                partition: tuple.get_item(3)?.extract()?,
                timestamp: tuple.get_item(4)?.extract()?,
            }),
            other => Err(PyTypeError::new_err(format!(
                "a record must be a value, a (key, value) pair or an ottla.Record, not a tuple of {other}"
            ))),
        }
    }

    pub fn parts<'a>(&'a self, topic: &'a Bound<'py, PyString>) -> Parts<'a, 'py> {
        Parts {
            topic,
            value: self.value.as_ref(),
            key: self.key.as_ref(),
            headers: self.headers.as_ref(),
            partition: self.partition,
            timestamp: self.timestamp,
        }
    }
}

/// The elements of an iterable, all taken apart before the first is sent.
pub(crate) fn elements<'py>(records: &Bound<'py, PyAny>) -> PyResult<Vec<Element<'py>>> {
    if records.is_instance_of::<PyBytes>() || records.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(
            "send_many takes an iterable of records; for one record there is send",
        ));
    }
    if let Ok(list) = records.cast::<PyList>() {
        return list.iter().map(Element::of).collect();
    }
    records.try_iter()?.map(|object| Element::of(object?)).collect()
}

/// A `(topic, partition)` pair.
pub(crate) fn partition(object: &Bound<'_, PyAny>) -> PyResult<TopicPartition> {
    let (topic, partition): (String, i32) = object
        .extract()
        .map_err(|_| PyTypeError::new_err(format!("a partition must be a (topic, number) pair, not {object}")))?;
    Ok(TopicPartition::new(topic, partition))
}

/// Many of them.
pub(crate) fn partitions(objects: &Bound<'_, PyAny>) -> PyResult<Vec<TopicPartition>> {
    objects.try_iter()?.map(|object| partition(&object?)).collect()
}

/// A time in seconds from now.
pub(crate) fn seconds(timeout: f64) -> PyResult<std::time::Duration> {
    std::time::Duration::try_from_secs_f64(timeout).map_err(|_| {
        PyValueError::new_err(format!(
            "a timeout must be a number of seconds from 0 up, not {timeout}"
        ))
    })
}
