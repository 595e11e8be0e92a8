//! ConsumerGroupDescribe (key 69), versions 0 and 1.
//!
//! - Each group by itself: NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS, and GROUP_ID_NOT_FOUND for one that does not
//!   exist or is of another kind; clients then ask DescribeGroups.
//! - For each member what it has and what it should have, of topics that exist. From version 1 on, whether it speaks the
//!   classic protocol.
//!
//! Not supported: authorized operations (the answer is -2147483648, "not known").

use super::groups::{self, Described, OPERATIONS_NOT_KNOWN};
use super::{Context, Reply, ReplyTo};
use ottla_broker_state::group::GroupShard;
use ottla_broker_state::group::consumer::{DescribedGroup, DescribedMember, DescribedPartitions};
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::consumer_group_describe_response as response;
use ottla_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};
use ottla_protocol::{ApiKey, ErrorCode};

/// From this version on the kind of a member is told.
const FIRST_VERSION_WITH_MEMBER_TYPE: i16 = 1;
/// Kinds of members.
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;
const UNKNOWN_MEMBER: i8 = -1;

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: ConsumerGroupDescribeRequest<'_>) -> Reply {
    let to = ReplyTo::new(ApiKey::ConsumerGroupDescribe, header);
    groups::describe(
        context,
        &request.group_ids,
        GroupShard::describe_consumer,
        move |groups| respond(to, groups),
    )
}

fn respond(to: ReplyTo, groups: &[Described<DescribedGroup>]) -> Reply {
    to.with(&ConsumerGroupDescribeResponse {
        groups: groups.iter().map(|group| described(to.version, group)).collect(),
        ..ConsumerGroupDescribeResponse::default()
    })
}

fn described(version: i16, (id, described): &Described<DescribedGroup>) -> response::DescribedGroup<'_> {
    let nothing = response::DescribedGroup {
        group_id: id,
        authorized_operations: OPERATIONS_NOT_KNOWN,
        ..response::DescribedGroup::default()
    };
    match described {
        Ok(Some(group)) => response::DescribedGroup {
            group_state: group.state,
            group_epoch: group.epoch,
            assignment_epoch: group.assignment_epoch,
            assignor_name: group.assignor,
            members: group.members.iter().map(|one| member(version, one)).collect(),
            ..nothing
        },
        Ok(None) => response::DescribedGroup {
            error_code: ErrorCode::GroupIdNotFound.code(),
            error_message: Some("there is no consumer group of this name"),
            ..nothing
        },
        Err(code) => response::DescribedGroup {
            error_code: code.code(),
            ..nothing
        },
    }
}

fn member(version: i16, member: &DescribedMember) -> response::Member<'_> {
    response::Member {
        member_id: &member.member_id,
        instance_id: member.instance_id.as_deref(),
        rack_id: member.rack_id.as_deref(),
        member_epoch: member.epoch,
        client_id: &member.client_id,
        client_host: &member.client_host,
        subscribed_topic_names: member.topics.iter().map(|name| &**name).collect(),
        subscribed_topic_regex: member.regex.as_deref(),
        assignment: assignment(&member.assigned),
        target_assignment: assignment(&member.target),
        member_type: match member.is_classic {
            _ if version < FIRST_VERSION_WITH_MEMBER_TYPE => UNKNOWN_MEMBER,
            true => CLASSIC_MEMBER,
            false => CONSUMER_MEMBER,
        },
    }
}

fn assignment(topics: &[DescribedPartitions]) -> response::Assignment<'_> {
    response::Assignment {
        topic_partitions: topics
            .iter()
            .map(|topic| response::TopicPartitions {
                topic_id: topic.topic_id,
                topic_name: &topic.topic,
                partitions: topic.partitions.clone(),
            })
            .collect(),
    }
}
