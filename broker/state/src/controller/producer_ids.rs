//! Producer ids: handed to brokers in blocks, never twice.

use super::{ApiError, ClusterImage};
use ottla_protocol::ErrorCode;
use ottla_protocol::internal::ProducerIdsRecord;
use ottla_protocol::internal::metadata::MetadataRecord;
use std::ops::Range;

/// How many ids a block has. A broker that stops loses what is left of its block, and nothing else.
pub const BLOCK_SIZE: i64 = 1000;

/// The next block for `broker`, and the record that takes it. The ids may be used once the record is committed.
///
/// # Errors
/// UNKNOWN_SERVER_ERROR when all 2^63 ids are used up.
pub fn allocate(image: &ClusterImage, broker: i32) -> Result<(MetadataRecord<'static>, Range<i64>), ApiError> {
    let first = image.next_producer_id();
    let Some(next_producer_id) = first.checked_add(BLOCK_SIZE) else {
        return Err(ApiError::new(ErrorCode::UnknownServerError, "no producer ids are left"));
    };
    let broker_epoch = image.broker(broker).map_or(-1, |broker| broker.epoch);
    let record = ProducerIdsRecord {
        broker_id: broker,
        broker_epoch,
        next_producer_id,
    };
    Ok((MetadataRecord::ProducerIds(record), first..next_producer_id))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{apply, cluster};
    use super::*;

    #[test]
    fn blocks_follow_each_other_without_overlap() {
        let mut image = cluster(1);
        let (record, first) = allocate(&image, 1).unwrap();
        apply(&mut image, &[record]);
        let (_, second) = allocate(&image, 1).unwrap();
        assert_eq!((first, second), (0..1000, 1000..2000));
    }
}
