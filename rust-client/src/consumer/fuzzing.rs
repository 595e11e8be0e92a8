//! A door for fuzzers: what happens to the bytes of a partition between the socket and the application.
//!
//! In: batches as a broker sent them. Out: how far reading came. Only in builds with the feature `fuzzing`.

use bytes::Bytes;
use ottla_client_state::TopicPartition;
use ottla_protocol::records::Decompressor;

use super::absorb::measure;
use super::decode::{CompletedFetch, DecodeOptions, OpenFetch, Step, Want};

/// How far reading came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadFetched {
    /// The position after it.
    pub position: i64,
    /// Records that would have been handed over.
    pub records: usize,
}

/// Reads `batches` from `offset` on as a consumer would, three records a poll, up to the end or the first error.
/// `aborted` lists transactions by producer id and first offset.
pub fn read_fetched(batches: Bytes, offset: i64, aborted: Option<Vec<(i64, i64)>>) -> ReadFetched {
    let mut read = ReadFetched {
        position: offset,
        records: 0,
    };
    let Ok(run) = measure(&batches) else { return read };
    let options = DecodeOptions {
        check_crcs: false,
        max_decompressed_bytes: 1 << 20,
    };
    let mut open = OpenFetch::new(CompletedFetch {
        partition: TopicPartition::new("t", 0),
        fence: 0,
        offset,
        batches: batches.slice(..run.bytes),
        aborted,
    });
    let mut scratch = Decompressor::new();
    let want = Want { now: 3, each: 2 };
    loop {
        match open.next(want, options, &mut scratch) {
            Ok(Step::Records { chunk, .. }) => {
                read.records += chunk.count;
                read.position = chunk.next_offset;
            }
            Ok(Step::Skipped { next_offset, .. }) => read.position = next_offset,
            Ok(Step::End) | Err(_) => return read,
        }
    }
}
