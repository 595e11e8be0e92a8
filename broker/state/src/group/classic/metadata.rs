//! What consumers say of themselves in JoinGroup and are told in SyncGroup, as far as their coordinator looks into it.
//!
//! In: bytes of a member. Out: the topics that it subscribes to, and what its restart changes. Bytes that cannot be read are
//! nobody's fault: the group may be of programs that are no consumers, and then nothing follows from them.

use super::super::consumer::embedded;
use ottla_protocol::Message;
use ottla_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use ottla_protocol::wire::Reader;
use std::collections::BTreeSet;

/// What a consumer subscribes to; `None` if that cannot be read.
pub(super) fn subscribed_topics(metadata: &[u8]) -> Option<Vec<&str>> {
    Some(read::<ConsumerProtocolSubscription<'_>>(metadata)?.topics)
}

/// Whether a consumer says that it owns partitions (KIP-429).
pub(super) fn owns_any(metadata: &[u8]) -> bool {
    read::<ConsumerProtocolSubscription<'_>>(metadata).is_some_and(|said| embedded::owns_any(&said))
}

/// Whether the others need not know that a static member starts anew: what it said was `before`, is `after` now, and its
/// leader gave it `assignment`.
///
/// They must know if it subscribes to other topics. And they must know if it owned more than it was left with: it was to
/// give that up and to join again, so that somebody else gets it, and whoever starts anew does not know of that.
pub(super) fn changes_nothing(before: &[u8], after: &[u8], assignment: &[u8]) -> bool {
    let (Some(before), Some(after)) = (
        read::<ConsumerProtocolSubscription<'_>>(before),
        read::<ConsumerProtocolSubscription<'_>>(after),
    ) else {
        return true;
    };
    if BTreeSet::from_iter(&before.topics) != BTreeSet::from_iter(&after.topics) {
        return false;
    }
    let assigned = match assignment {
        [] => Vec::new(),
        bytes => match read::<ConsumerProtocolAssignment<'_>>(bytes) {
            Some(assignment) => assignment.assigned_partitions,
            None => return true,
        },
    };
    let is_left = |topic: &str, partition: &i32| {
        let mut of_topic = assigned.iter().filter(|assigned| assigned.topic == topic);
        of_topic.any(|assigned| assigned.partitions.contains(partition))
    };
    let mut owned = before.owned_partitions.iter();
    owned.all(|owned| owned.partitions.iter().all(|partition| is_left(owned.topic, partition)))
}

/// A message of a consumer, which has no negative version.
fn read<'a, M: Message<'a>>(bytes: &'a [u8]) -> Option<M> {
    Reader::new(bytes).i16().ok().filter(|version| *version >= 0)?;
    embedded::read(bytes).ok()
}
