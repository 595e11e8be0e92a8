//! A finished batch on its way: a header that may still be stamped, and a body that nobody changes any more.
//!
//! Takes what the builder sealed. Gives the two pieces to be written, with a CRC that fits. It does not look into the
//! body.

use bytes::Bytes;

use super::checksum::{crc32c_of_joined, crc32c_of_two};
use super::{BATCH_HEADER_LEN, at, bit, field, set_field};

/// A finished batch: 61 bytes of header of its own, and records that are shared and never change.
///
/// Until it is stamped it belongs to no producer.
#[derive(Debug, Clone)]
pub struct SealedBatch {
    header: [u8; BATCH_HEADER_LEN],
    body: Bytes,
    /// The CRC of the body alone, if it was worked out while the records were written.
    body_crc: Option<u32>,
    /// Whether the CRC field is that of the present header and body.
    checksummed: bool,
}

impl SealedBatch {
    pub(super) fn new(header: [u8; BATCH_HEADER_LEN], body: Bytes, body_crc: Option<u32>) -> Self {
        SealedBatch {
            header,
            body,
            body_crc,
            checksummed: false,
        }
    }

    /// Names the producer and computes the CRC. May be called again for a retry under another id, epoch or sequence:
    /// only the header is rewritten.
    pub fn stamp(&mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32, transactional: bool) {
        let others = self.attributes() & !bit::TRANSACTIONAL;
        let attributes = if transactional {
            others | bit::TRANSACTIONAL
        } else {
            others
        };
        set_field(&mut self.header, at::ATTRIBUTES, attributes.to_be_bytes());
        set_field(&mut self.header, at::PRODUCER_ID, producer_id.to_be_bytes());
        set_field(&mut self.header, at::PRODUCER_EPOCH, producer_epoch.to_be_bytes());
        set_field(&mut self.header, at::BASE_SEQUENCE, base_sequence.to_be_bytes());
        self.header = self.header_with_crc();
        self.checksummed = true;
    }

    /// Sets the first record's offset (0 until then). Outside the CRC's range.
    pub fn set_base_offset(&mut self, base_offset: i64) {
        set_field(&mut self.header, at::BASE_OFFSET, base_offset.to_be_bytes());
    }

    /// Sets the partition leader epoch (-1 until then). Outside the CRC's range.
    pub fn set_partition_leader_epoch(&mut self, leader_epoch: i32) {
        set_field(&mut self.header, at::PARTITION_LEADER_EPOCH, leader_epoch.to_be_bytes());
    }

    /// Sets the control bit: the batch's record is for brokers, and consumers do not see it.
    pub fn mark_control(&mut self) {
        let attributes = self.attributes() | bit::CONTROL;
        set_field(&mut self.header, at::ATTRIBUTES, attributes.to_be_bytes());
        self.checksummed = false;
    }

    /// Header and body, in wire order. The body is shared, not copied.
    pub fn pieces(&self) -> [Bytes; 2] {
        [Bytes::copy_from_slice(&self.header()), self.body.clone()]
    }

    /// The header with its CRC.
    pub fn header(&self) -> [u8; BATCH_HEADER_LEN] {
        if self.checksummed {
            self.header
        } else {
            self.header_with_crc()
        }
    }

    /// The records, compressed if the batch is.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The whole batch in one piece (copies).
    pub fn to_vec(&self) -> Vec<u8> {
        [&self.header()[..], &self.body].concat()
    }

    /// Bytes of the whole batch.
    #[allow(clippy::len_without_is_empty)] // a sealed batch is never empty
    pub fn len(&self) -> usize {
        BATCH_HEADER_LEN + self.body.len()
    }

    /// Records in the batch.
    pub fn record_count(&self) -> u32 {
        u32::from_be_bytes(field(&self.header, at::RECORD_COUNT))
    }

    /// The first record's timestamp in milliseconds.
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(field(&self.header, at::BASE_TIMESTAMP))
    }

    /// The latest timestamp in milliseconds.
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(field(&self.header, at::MAX_TIMESTAMP))
    }

    /// The first record's offset: 0 unless set.
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(field(&self.header, at::BASE_OFFSET))
    }

    /// The sequence of the first record, or -1.
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(field(&self.header, at::BASE_SEQUENCE))
    }

    /// The producer id, or -1.
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(field(&self.header, at::PRODUCER_ID))
    }

    /// The producer epoch, or -1.
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(field(&self.header, at::PRODUCER_EPOCH))
    }

    fn attributes(&self) -> i16 {
        i16::from_be_bytes(field(&self.header, at::ATTRIBUTES))
    }

    fn header_with_crc(&self) -> [u8; BATCH_HEADER_LEN] {
        let mut header = self.header;
        let (_, covered) = header.split_at(at::ATTRIBUTES);
        let crc = match self.body_crc {
            Some(body_crc) => crc32c_of_joined(covered, body_crc, self.body.len()),
            None => crc32c_of_two(covered, &self.body),
        };
        set_field(&mut header, at::CRC, crc.to_be_bytes());
        header
    }
}
