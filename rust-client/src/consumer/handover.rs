//! Handing records over: from the buffer to the application, moving the positions.
//!
//! In: fetches in the buffer. Out: records, in order, each once. What was handed over is noted ([`Handed`]), so that the
//! next sign of the application can say that it is processed. It waits for nothing.

use std::sync::PoisonError;

use ottla_client_state::TopicPartition;
use ottla_client_state::commit::OffsetAndMetadata;
use ottla_protocol::records::{Decompressor, RecordError};

use super::decode::{DecodeOptions, OpenFetch, Step, Want};
use super::fetcher::State;
use super::records::{Chunk, ConsumerRecords};
use super::{Consumer, no_position};
use crate::error::{Error, ErrorKind, Result};

/// What handing over needs.
#[derive(Debug)]
pub(super) struct Reader {
    /// The fetch that is being given out.
    open: Option<OpenFetch>,
    decompressor: Decompressor,
    options: DecodeOptions,
}

/// How far a partition has been handed over since the application last said that all before is processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handed {
    /// The offset after the last record handed over or skipped.
    pub next_offset: i64,
    /// The leader epoch of the last record handed over; -1 if there was none or the broker did not say.
    pub leader_epoch: i32,
    /// The assignment of the partition under which it was handed over.
    pub assignment: u64,
    /// Whether there was a record, or only what is skipped.
    pub records: bool,
}

impl Handed {
    /// What to commit once it is processed.
    pub fn processed(&self) -> OffsetAndMetadata {
        OffsetAndMetadata::new(self.next_offset).leader_epoch(self.leader_epoch)
    }
}

impl Reader {
    pub fn new(options: DecodeOptions) -> Self {
        Reader {
            open: None,
            decompressor: Decompressor::new(),
            options,
        }
    }
}

impl State {
    fn note_handed(&mut self, partition: &TopicPartition, next_offset: i64, leader_epoch: Option<i32>) {
        let Some(assignment) = self.subscription.assignment_of(partition) else {
            return;
        };
        let handed = Handed {
            next_offset,
            leader_epoch: leader_epoch.unwrap_or(-1),
            assignment,
            records: leader_epoch.is_some(),
        };
        let known = self.handed.entry(partition.clone()).or_insert(handed);
        if known.assignment != assignment {
            *known = handed;
        }
        known.next_offset = known.next_offset.max(next_offset);
        known.leader_epoch = known.leader_epoch.max(handed.leader_epoch);
        known.records |= handed.records;
    }
}

impl Consumer {
    /// Takes what the buffer has, without waiting. All that is taken is returned.
    pub(super) fn take(&self, most: usize) -> Result<ConsumerRecords> {
        let mut records = ConsumerRecords::default();
        // A panic while decoding leaves at worst a fetch that is gone; it is fetched again.
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = &mut *reader;
        while records.len() < most {
            // Records that were taken already go first; their errors wait for the next poll.
            if records.is_empty() {
                self.next_error()?;
            }
            let Some(mut open) = self.next_open(reader) else { break };
            let want = Want {
                now: most - records.len(),
                each: most,
            };
            let step = open.next(want, reader.options, &mut reader.decompressor);
            if let Some(chunk) = self.settle(reader, open, step) {
                records.push(chunk);
            }
        }
        Ok(records)
    }

    fn next_error(&self) -> Result<()> {
        let mut state = self.shared.lock();
        let State {
            subscription,
            errors,
            told_unplaced,
            ..
        } = &mut *state;
        for partition in subscription.without_position() {
            if told_unplaced.insert(partition.clone()) {
                errors.push_back(no_position(partition));
            }
        }
        errors.pop_front().map_or(Ok(()), Err)
    }

    /// The fetch to read from, if there is one whose records are wanted now.
    fn next_open(&self, reader: &mut Reader) -> Option<OpenFetch> {
        let mut state = self.shared.lock();
        let State {
            subscription, buffer, ..
        } = &mut *state;
        let mut released = false;
        if let Some(open) = reader.open.take() {
            if !subscription.is_current(&open.partition, open.fence) {
                buffer.release(open.bytes_left());
                released = true;
            } else if subscription.is_paused(&open.partition) {
                // Paused in the middle: given back, to be fetched again when it resumes.
                buffer.release(open.bytes_left());
                subscription.handle_dropped(&open.partition, open.fence);
                released = true;
            } else {
                return Some(open);
            }
        }
        released |= !buffer
            .discard(|fetch| !subscription.is_current(&fetch.partition, fetch.fence))
            .is_empty();
        let next = buffer.take(|fetch| !subscription.is_paused(&fetch.partition));
        drop(state);
        if released {
            self.shared.make_room();
        }
        next.map(OpenFetch::new)
    }

    /// Moves the position over what a step gave, and lets go of its bytes. Gives the records if they are still wanted.
    fn settle(
        &self,
        reader: &mut Reader,
        open: OpenFetch,
        step: std::result::Result<Step, RecordError>,
    ) -> Option<Chunk> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let State {
            subscription, buffer, ..
        } = state;
        let (partition, fence) = (open.partition.clone(), open.fence);
        match step {
            Ok(Step::Records { mut chunk, released }) => {
                buffer.release(released);
                let current = subscription.advance(&partition, fence, chunk.next_offset, chunk.leader_epoch, released);
                reader.open = Some(open);
                if !current {
                    return None;
                }
                chunk.assignment = subscription.assignment_of(&partition).unwrap_or(0);
                if self.shared.group.is_some() {
                    state.note_handed(&partition, chunk.next_offset, Some(chunk.leader_epoch));
                }
                Some(chunk)
            }
            Ok(Step::Skipped {
                next_offset,
                leader_epoch,
                released,
            }) => {
                buffer.release(released);
                let current = subscription.advance(&partition, fence, next_offset, leader_epoch, released);
                reader.open = Some(open);
                if current && self.shared.group.is_some() {
                    state.note_handed(&partition, next_offset, None);
                }
                None
            }
            Ok(Step::End) => {
                drop(guard);
                self.shared.make_room();
                None
            }
            Err(flaw) => {
                buffer.release(open.bytes_left());
                let position = subscription.position(&partition).unwrap_or(open.position);
                subscription.handle_dropped(&partition, fence);
                subscription.fail_current(&partition, self.shared.client.now());
                guard.report(unreadable(&partition, position, flaw));
                drop(guard);
                self.shared.stir();
                None
            }
        }
    }
}

fn unreadable(partition: &TopicPartition, position: i64, flaw: RecordError) -> Error {
    let text = format!(
        "{partition}: the batch at offset {position} cannot be read: {flaw}. Seek to a higher offset to go on behind it"
    );
    Error::new(ErrorKind::Corrupt, text)
        .with_partition(partition, Some(position))
        .with_source(flaw)
}
