//! A batch as columns, by Arrow's C data interface.
//!
//! In: views of records. Out: two capsules, a schema and a struct array with the columns topic, partition, offset,
//! timestamp, key, value and headers. Their bytes are copied once, column by column; no Python object is made for a record,
//! and nothing of Arrow is needed to build it. See <https://arrow.apache.org/docs/format/CDataInterface.html>.

// The interface is raw pointers by nature: what is exported is owned by the structs' own release functions.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;

use ottla_bindings_core::RecordView;
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

const NULLABLE: i64 = 2;

/// `struct ArrowSchema` of the interface.
#[repr(C)]
struct ArrowSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut ArrowSchema,
    dictionary: *mut ArrowSchema,
    release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    private_data: *mut c_void,
}

/// `struct ArrowArray` of the interface.
#[repr(C)]
struct ArrowArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const c_void,
    children: *mut *mut ArrowArray,
    dictionary: *mut ArrowArray,
    release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    private_data: *mut c_void,
}

// SAFETY: what they point to is plain memory that only their owner touches.
unsafe impl Send for ArrowSchema {}
// SAFETY: as above.
unsafe impl Send for ArrowArray {}

impl Drop for ArrowSchema {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the struct is whole, and whoever takes its content sets `release` to null.
            unsafe { release(self) };
        }
    }
}

impl Drop for ArrowArray {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: as above.
            unsafe { release(self) };
        }
    }
}

/// What an exported struct owns.
struct Held<T> {
    children: Vec<Box<T>>,
    child_pointers: Vec<*mut T>,
    dictionary: Option<Box<T>>,
    buffers: Vec<Buffer>,
    buffer_pointers: Vec<*const c_void>,
}

/// A column's memory.
enum Buffer {
    Absent,
    Bytes(Vec<u8>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
}

impl Buffer {
    fn pointer(&self) -> *const c_void {
        match self {
            Buffer::Absent => std::ptr::null(),
            Buffer::Bytes(bytes) => bytes.as_ptr().cast(),
            Buffer::Ints(ints) => ints.as_ptr().cast(),
            Buffer::Longs(longs) => longs.as_ptr().cast(),
        }
    }
}

/// A column: its type, and its content if there is one.
struct Column {
    name: &'static CStr,
    format: &'static CStr,
    nullable: bool,
    length: usize,
    nulls: usize,
    buffers: Vec<Buffer>,
    children: Vec<Column>,
    dictionary: Option<Box<Column>>,
}

impl Column {
    fn new(name: &'static CStr, format: &'static CStr, length: usize, buffers: Vec<Buffer>) -> Self {
        Column {
            name,
            format,
            nullable: false,
            length,
            nulls: 0,
            buffers,
            children: Vec::new(),
            dictionary: None,
        }
    }

    fn schema(&self) -> ArrowSchema {
        let children = self.children.iter().map(|child| Box::new(child.schema())).collect();
        let dictionary = self.dictionary.as_ref().map(|column| Box::new(column.schema()));
        let held = hold(children, dictionary, Vec::new());
        ArrowSchema {
            format: self.format.as_ptr(),
            name: self.name.as_ptr(),
            metadata: std::ptr::null(),
            flags: if self.nullable { NULLABLE } else { 0 },
            n_children: held.children.len() as i64,
            children: held.child_pointers.as_ptr().cast_mut(),
            dictionary: dictionary_pointer(&held),
            release: Some(release_schema),
            private_data: Box::into_raw(held).cast(),
        }
    }

    fn array(self) -> ArrowArray {
        let children = self.children.into_iter().map(|child| Box::new(child.array())).collect();
        let dictionary = self.dictionary.map(|column| Box::new(column.array()));
        let held = hold(children, dictionary, self.buffers);
        ArrowArray {
            length: self.length as i64,
            null_count: self.nulls as i64,
            offset: 0,
            n_buffers: held.buffers.len() as i64,
            n_children: held.children.len() as i64,
            buffers: held.buffer_pointers.as_ptr().cast_mut(),
            children: held.child_pointers.as_ptr().cast_mut(),
            dictionary: dictionary_pointer(&held),
            release: Some(release_array),
            private_data: Box::into_raw(held).cast(),
        }
    }
}

fn hold<T>(mut children: Vec<Box<T>>, dictionary: Option<Box<T>>, buffers: Vec<Buffer>) -> Box<Held<T>> {
    let child_pointers = children.iter_mut().map(|child| &raw mut **child).collect();
    let buffer_pointers = buffers.iter().map(Buffer::pointer).collect();
    Box::new(Held {
        children,
        child_pointers,
        dictionary,
        buffers,
        buffer_pointers,
    })
}

fn dictionary_pointer<T>(held: &Held<T>) -> *mut T {
    held.dictionary
        .as_ref()
        .map_or(null_mut(), |dictionary| (&raw const **dictionary).cast_mut())
}

/// Called once by whoever has the struct, or by its own drop.
unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: the interface calls it with a struct that was exported here and not released yet, whose `private_data` is
    // the box made in `schema`. Children that were moved out have no release function, and their drop does nothing.
    unsafe {
        drop(Box::from_raw((*schema).private_data.cast::<Held<ArrowSchema>>()));
        (*schema).release = None;
    }
}

/// As `release_schema`.
unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: as there.
    unsafe {
        drop(Box::from_raw((*array).private_data.cast::<Held<ArrowArray>>()));
        (*array).release = None;
    }
}

/// Collects byte strings, some of which may be missing.
struct Strings {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    valid: Vec<u8>,
    nulls: usize,
}

impl Strings {
    fn with_capacity(count: usize) -> Self {
        let mut offsets = Vec::with_capacity(count + 1);
        offsets.push(0);
        Strings {
            offsets,
            bytes: Vec::new(),
            valid: vec![0; count.div_ceil(8)],
            nulls: 0,
        }
    }

    fn push(&mut self, part: Option<&[u8]>) -> PyResult<()> {
        let at = self.offsets.len() - 1;
        match part {
            Some(part) => {
                self.bytes.extend_from_slice(part);
                if at / 8 >= self.valid.len() {
                    self.valid.push(0);
                }
                self.valid[at / 8] |= 1 << (at % 8);
            }
            None => {
                self.nulls += 1;
                if at / 8 >= self.valid.len() {
                    self.valid.push(0);
                }
            }
        }
        let end = i32::try_from(self.bytes.len())
            .map_err(|_| PyOverflowError::new_err("a column of more than 2 GiB: take fewer records in a batch"))?;
        self.offsets.push(end);
        Ok(())
    }

    fn column(self, name: &'static CStr, format: &'static CStr, nullable: bool) -> Column {
        let length = self.offsets.len() - 1;
        let valid = match self.nulls {
            0 => Buffer::Absent,
            _ => Buffer::Bytes(self.valid),
        };
        let buffers = vec![valid, Buffer::Ints(self.offsets), Buffer::Bytes(self.bytes)];
        Column {
            nullable,
            nulls: self.nulls,
            ..Column::new(name, format, length, buffers)
        }
    }
}

/// All columns of these records.
fn columns<'a>(records: impl Iterator<Item = RecordView<'a>> + Clone) -> PyResult<Column> {
    let count = records.clone().count();
    let (mut keys, mut values) = (Strings::with_capacity(count), Strings::with_capacity(count));
    let (mut partitions, mut offsets) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut timestamps = Vec::with_capacity(count);
    let mut topics: Vec<&str> = Vec::new();
    let mut topic_numbers = Vec::with_capacity(count);
    let (mut header_keys, mut header_values) = (Strings::with_capacity(0), Strings::with_capacity(0));
    let mut header_ends = Vec::with_capacity(count + 1);
    header_ends.push(0);
    for record in records {
        let of = record.topic_partition();
        // Nearly always the one before.
        let number = topics.iter().rposition(|known| **known == *of.topic);
        let number = number.unwrap_or_else(|| {
            topics.push(&of.topic);
            topics.len() - 1
        });
        topic_numbers.push(number as i32);
        partitions.push(of.partition);
        offsets.push(record.offset());
        timestamps.push(record.timestamp());
        keys.push(record.key())?;
        values.push(record.value())?;
        for header in record.headers() {
            header_keys.push(Some(header.key.as_bytes()))?;
            header_values.push(header.value)?;
        }
        header_ends.push((header_keys.offsets.len() - 1) as i32);
    }
    let mut names = Strings::with_capacity(topics.len());
    topics.iter().try_for_each(|topic| names.push(Some(topic.as_bytes())))?;
    let numbers = |name, format, buffer| Column::new(name, format, count, vec![Buffer::Absent, buffer]);
    let topic = Column {
        dictionary: Some(Box::new(names.column(c"", c"u", false))),
        ..numbers(c"topic", c"i", Buffer::Ints(topic_numbers))
    };
    let header_count = header_keys.offsets.len() - 1;
    let entry = Column {
        children: vec![
            header_keys.column(c"key", c"u", false),
            header_values.column(c"value", c"z", true),
        ],
        ..Column::new(c"item", c"+s", header_count, vec![Buffer::Absent])
    };
    let headers = Column {
        children: vec![entry],
        ..numbers(c"headers", c"+l", Buffer::Ints(header_ends))
    };
    Ok(Column {
        children: vec![
            topic,
            numbers(c"partition", c"i", Buffer::Ints(partitions)),
            numbers(c"offset", c"l", Buffer::Longs(offsets)),
            numbers(c"timestamp", c"tsm:UTC", Buffer::Longs(timestamps)),
            keys.column(c"key", c"z", true),
            values.column(c"value", c"z", true),
            headers,
        ],
        ..Column::new(c"", c"+s", count, vec![Buffer::Absent])
    })
}

/// Schema and array of these records, as capsules.
pub(crate) fn export<'py, 'a>(
    py: Python<'py>,
    records: impl Iterator<Item = RecordView<'a>> + Clone,
) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
    let columns = columns(records)?;
    let schema = PyCapsule::new_with_value(py, columns.schema(), c"arrow_schema")?;
    let array = PyCapsule::new_with_value(py, columns.array(), c"arrow_array")?;
    Ok((schema, array))
}

/// The schema alone.
pub(crate) fn export_schema(py: Python<'_>) -> PyResult<Bound<'_, PyCapsule>> {
    let columns = columns(std::iter::empty())?;
    PyCapsule::new_with_value(py, columns.schema(), c"arrow_schema")
}
