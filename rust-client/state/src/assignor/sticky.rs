//! `sticky` (KIP-54) and `cooperative-sticky` (KIP-429): as balanced as can be, moving as little as can be.
//!
//! Both divide in the same way, see `balance.rs`, and differ in where a member says what it had. `sticky` is eager: its
//! members have let go of everything when they join, so their assignor's user data tells of the last assignment and its
//! generation (KIP-341). `cooperative-sticky` goes by what members still own, and by the generation in their subscription
//! (KIP-792) or, from older members, in the user data. And it gives nobody a partition that another member has not let go
//! of yet: that one learns first that it is to go, and the group rebalances once more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::wire::{DecodeError, Reader, Writer};

use super::balance::{Claim, divide};
use super::{Assignment, Assignor, AssignorError, GroupMember, Previous, RebalanceProtocol, TopicImage, codec};
use crate::TopicPartition;

/// Who does not say in which generation it got its partitions.
const NO_GENERATION: i32 = -1;
/// Fewest bytes of a topic with no partitions: two lengths.
const MIN_TOPIC_BYTES: usize = 6;

/// Kafka's `sticky` assignor.
#[derive(Debug, Clone, Copy, Default)]
pub struct StickyAssignor;

/// Kafka's `cooperative-sticky` assignor.
#[derive(Debug, Clone, Copy, Default)]
pub struct CooperativeStickyAssignor;

impl Assignor for StickyAssignor {
    fn name(&self) -> &str {
        "sticky"
    }

    fn user_data(&self, _topics: &[Arc<str>], previous: Previous<'_>) -> Option<Bytes> {
        // Before the first assignment there is nothing to tell.
        (previous.generation > NO_GENERATION)
            .then(|| encode_claim(previous))
            .flatten()
    }

    fn assign(
        &self,
        members: &[GroupMember],
        topics: &TopicImage,
    ) -> Result<BTreeMap<Arc<str>, Assignment>, AssignorError> {
        let claims: Vec<Claim> = members
            .iter()
            .map(|member| eager_claim(member.user_data.as_deref()))
            .collect();
        Ok(divide(members, &claims, topics))
    }
}

impl Assignor for CooperativeStickyAssignor {
    fn name(&self) -> &str {
        "cooperative-sticky"
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Cooperative, RebalanceProtocol::Eager]
    }

    fn user_data(&self, _topics: &[Arc<str>], previous: Previous<'_>) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(&previous.generation.to_be_bytes()))
    }

    fn assign(
        &self,
        members: &[GroupMember],
        topics: &TopicImage,
    ) -> Result<BTreeMap<Arc<str>, Assignment>, AssignorError> {
        let claims: Vec<Claim> = members.iter().map(cooperative_claim).collect();
        let mut divided = divide(members, &claims, topics);
        hold_back(members, &mut divided);
        Ok(divided)
    }
}

/// Takes from an assignment what its new owner must not have yet, because another member of the group still owns it
/// (KIP-429). Every cooperative assignor needs this at its end.
///
/// Of two members that both say they own a partition the one of the later generation is believed; of the same generation,
/// neither.
pub fn hold_back(members: &[GroupMember], divided: &mut BTreeMap<Arc<str>, Assignment>) {
    let mut claims: HashMap<&TopicPartition, Vec<(&Arc<str>, i32)>> = HashMap::new();
    for member in members {
        let generation = cooperative_generation(member);
        for partition in &member.owned {
            claims
                .entry(partition)
                .or_default()
                .push((&member.member_id, generation));
        }
    }
    for (member, assignment) in divided {
        assignment.partitions.retain(|partition| {
            let claims = claims.get(partition).map_or(&[][..], Vec::as_slice);
            let own = claims.iter().find(|(claimant, _)| *claimant == member);
            let mut others = claims.iter().filter(|(claimant, _)| *claimant != member);
            others.all(|(_, generation)| own.is_some_and(|(_, own)| own > generation))
        });
    }
}

fn cooperative_generation(member: &GroupMember) -> i32 {
    let told = || {
        let bytes = member.user_data.as_deref()?.first_chunk()?;
        Some(i32::from_be_bytes(*bytes))
    };
    member.generation.or_else(told).unwrap_or(NO_GENERATION)
}

fn cooperative_claim(member: &GroupMember) -> Claim {
    Claim {
        partitions: member.owned.clone(),
        generation: cooperative_generation(member),
    }
}

/// What a member of a `sticky` group had; nothing if it cannot be read.
fn eager_claim(user_data: Option<&[u8]>) -> Claim {
    user_data.and_then(|bytes| decode_claim(bytes).ok()).unwrap_or_default()
}

/// Topics with their partitions, then the generation; version 0 ends before it.
fn decode_claim(bytes: &[u8]) -> Result<Claim, DecodeError> {
    let mut reader = Reader::new(bytes);
    let topics: Vec<(&str, Vec<i32>)> = reader.array(false, MIN_TOPIC_BYTES, |r| {
        let topic = r.str(false)?;
        let partitions = r.array(false, 4, Reader::i32)?;
        Ok::<_, DecodeError>((topic, partitions))
    })?;
    let generation = if reader.remaining() >= 4 {
        reader.i32()?
    } else {
        NO_GENERATION
    };
    Ok(Claim {
        partitions: codec::sound(topics.iter().map(|(topic, numbers)| (*topic, &**numbers))),
        generation: generation.max(NO_GENERATION),
    })
}

fn encode_claim(previous: Previous<'_>) -> Option<Bytes> {
    let topics: Vec<_> = codec::by_topic(previous.partitions).into_iter().collect();
    let mut writer = Writer::new();
    writer.array(&topics, false, |w, (topic, partitions)| {
        w.str(topic, false);
        w.array(partitions, false, |w, number| {
            w.i32(*number);
        });
    });
    writer.i32(previous.generation);
    writer.into_vec().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sticky_member_had_survives_its_user_data() {
        let partitions = [("a", 0).into(), ("a", 7).into(), ("b", 1).into()];
        let previous = Previous {
            partitions: &partitions,
            generation: 5,
        };
        let bytes = StickyAssignor.user_data(&[], previous).unwrap();
        let claim = eager_claim(Some(&bytes));
        assert_eq!((claim.partitions, claim.generation), (partitions.to_vec(), 5));
        let version_0 = &bytes[..bytes.len() - 4];
        let claim = eager_claim(Some(version_0));
        assert_eq!(
            (claim.partitions, claim.generation),
            (partitions.to_vec(), NO_GENERATION)
        );
    }

    #[test]
    fn user_data_that_is_none_is_nothing_owned() {
        let huge = [0x7f, 0xff, 0xff, 0xff, 0, 1];
        for bytes in [
            &b""[..],
            b"\x00",
            b"\xff\xff\xff\xff",
            &huge,
            b"\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\x01",
        ] {
            assert!(eager_claim(Some(bytes)).partitions.is_empty());
        }
        let negative = b"\0\0\0\x01\0\x01a\0\0\0\x03\xff\xff\xff\xff\0\0\0\x02\0\0\0\x02\xff\xff\xff\x00";
        let claim = eager_claim(Some(negative));
        assert_eq!(
            (claim.partitions, claim.generation),
            (vec![("a", 2).into()], NO_GENERATION)
        );
    }

    #[test]
    fn an_older_member_tells_its_generation_in_user_data() {
        let previous = Previous {
            partitions: &[],
            generation: 9,
        };
        let mut member = GroupMember {
            user_data: CooperativeStickyAssignor.user_data(&[], previous),
            ..GroupMember::default()
        };
        assert_eq!(cooperative_generation(&member), 9);
        member.generation = Some(12);
        assert_eq!(cooperative_generation(&member), 12);
        member.generation = None;
        member.user_data = Some(Bytes::from_static(b"\x01\x02"));
        assert_eq!(cooperative_generation(&member), NO_GENERATION);
    }
}
