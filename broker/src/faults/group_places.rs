//! Where an error goes, in the APIs of groups. See [`super::places`].
//!
//! A rule for a topic means the topic's part of OffsetCommit, OffsetFetch and OffsetDelete; the other APIs name no topics
//! and are not meant by it.

use super::answers::{MESSAGE, Target};
use super::places::{Parts, Places, take_apart, throttle};
use super::rule::WireCode;
use ottla_protocol::Uuid;
use ottla_protocol::messages::leave_group_response::MemberResponse;
use ottla_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use ottla_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use ottla_protocol::messages::*;

/// From this version on LeaveGroup answers each member.
const FIRST_LEAVE_WITH_MANY: i16 = 3;
/// From this version on OffsetFetch answers many groups.
const FIRST_FETCH_WITH_MANY: i16 = 8;

impl<'a> Places<'a> for OffsetCommitRequest<'a> {
    throttle!();

    fn touches(&self, target: &Target) -> bool {
        let mut topics = self
            .topics
            .iter()
            .filter(|topic| target.topic(topic.name, topic.topic_id));
        topics.any(|topic| {
            topic
                .partitions
                .iter()
                .any(|part| target.partition(part.partition_index))
        })
    }

    fn without_effect(mut self, target: &Target, version: i16) -> Parts<Self, OffsetCommitResponse<'a>> {
        let answer = |partition_index| OffsetCommitResponsePartition {
            partition_index,
            ..Default::default()
        };
        let topics = take_apart(
            &mut self.topics,
            |topic| target.topic(topic.name, topic.topic_id),
            |topic| &mut topic.partitions,
            |part| target.partition(part.partition_index),
            |topic, meant| OffsetCommitResponseTopic {
                name: topic.name,
                topic_id: topic.topic_id,
                partitions: meant.iter().map(|part| answer(part.partition_index)).collect(),
            },
        );
        let refused = OffsetCommitResponse {
            topics,
            ..Default::default()
        };
        ((!self.topics.is_empty()).then_some((self, version)), Some(refused))
    }

    fn append<'b>(to: &mut OffsetCommitResponse<'b>, more: OffsetCommitResponse<'b>) {
        for topic in more.topics {
            let same = |other: &&mut OffsetCommitResponseTopic<'_>| {
                other.name == topic.name && other.topic_id == topic.topic_id
            };
            match to.topics.iter_mut().find(same) {
                Some(other) => other.partitions.extend(topic.partitions),
                None => to.topics.push(topic),
            }
        }
    }

    fn spoil(answer: &mut OffsetCommitResponse<'_>, target: &Target, code: WireCode, _version: i16) {
        let meant = |topic: &&mut OffsetCommitResponseTopic<'_>| target.topic(topic.name, topic.topic_id);
        for part in answer
            .topics
            .iter_mut()
            .filter(meant)
            .flat_map(|topic| &mut topic.partitions)
        {
            if target.partition(part.partition_index) {
                part.error_code = code.0;
            }
        }
    }
}

impl<'a> Places<'a> for OffsetFetchRequest<'a> {
    throttle!();

    fn touches(&self, target: &Target) -> bool {
        let any = |indexes: &[i32]| indexes.iter().any(|index| target.partition(*index));
        let single = |topic: &offset_fetch_request::OffsetFetchRequestTopic<'_>| {
            target.topic(topic.name, Uuid::ZERO) && any(&topic.partition_indexes)
        };
        let many = |topic: &offset_fetch_request::OffsetFetchRequestTopics<'_>| {
            target.topic(topic.name, topic.topic_id) && any(&topic.partition_indexes)
        };
        // No list means all topics.
        let in_group = |group: &offset_fetch_request::OffsetFetchRequestGroup<'_>| {
            group.topics.as_ref().is_none_or(|topics| topics.iter().any(many))
        };
        if self.groups.is_empty() {
            return self.topics.as_ref().is_none_or(|topics| topics.iter().any(single));
        }
        self.groups.iter().any(in_group)
    }

    fn spoil(answer: &mut OffsetFetchResponse<'_>, target: &Target, code: WireCode, version: i16) {
        if target.top_level && (2..FIRST_FETCH_WITH_MANY).contains(&version) {
            answer.error_code = code.0;
            answer.topics.clear();
            return;
        }
        if target.top_level && version >= FIRST_FETCH_WITH_MANY {
            for group in &mut answer.groups {
                group.error_code = code.0;
                group.topics.clear();
            }
            return;
        }
        for topic in &mut answer.topics {
            if !target.topic(topic.name, Uuid::ZERO) {
                continue;
            }
            for part in topic
                .partitions
                .iter_mut()
                .filter(|part| target.partition(part.partition_index))
            {
                (part.error_code, part.committed_offset, part.metadata) = (code.0, -1, Some(""));
            }
        }
        for topic in answer.groups.iter_mut().flat_map(|group| &mut group.topics) {
            if !target.topic(topic.name, topic.topic_id) {
                continue;
            }
            for part in topic
                .partitions
                .iter_mut()
                .filter(|part| target.partition(part.partition_index))
            {
                (part.error_code, part.committed_offset, part.metadata) = (code.0, -1, Some(""));
            }
        }
    }
}

impl<'a> Places<'a> for OffsetDeleteRequest<'a> {
    throttle!();

    fn touches(&self, target: &Target) -> bool {
        let mut topics = self.topics.iter().filter(|topic| target.topic(topic.name, Uuid::ZERO));
        topics.any(|topic| {
            topic
                .partitions
                .iter()
                .any(|part| target.partition(part.partition_index))
        })
    }

    fn without_effect(mut self, target: &Target, version: i16) -> Parts<Self, OffsetDeleteResponse<'a>> {
        let answer = |partition_index| OffsetDeleteResponsePartition {
            partition_index,
            ..Default::default()
        };
        let topics = take_apart(
            &mut self.topics,
            |topic| target.topic(topic.name, Uuid::ZERO),
            |topic| &mut topic.partitions,
            |part| target.partition(part.partition_index),
            |topic, meant| OffsetDeleteResponseTopic {
                name: topic.name,
                partitions: meant.iter().map(|part| answer(part.partition_index)).collect(),
            },
        );
        let refused = OffsetDeleteResponse {
            topics,
            ..Default::default()
        };
        ((!self.topics.is_empty()).then_some((self, version)), Some(refused))
    }

    fn append<'b>(to: &mut OffsetDeleteResponse<'b>, more: OffsetDeleteResponse<'b>) {
        for topic in more.topics {
            match to.topics.iter_mut().find(|other| other.name == topic.name) {
                Some(other) => other.partitions.extend(topic.partitions),
                None => to.topics.push(topic),
            }
        }
    }

    fn spoil(answer: &mut OffsetDeleteResponse<'_>, target: &Target, code: WireCode, _version: i16) {
        if target.top_level || answer.topics.is_empty() {
            answer.error_code = code.0;
            answer.topics.clear();
            return;
        }
        for topic in answer
            .topics
            .iter_mut()
            .filter(|topic| target.topic(topic.name, Uuid::ZERO))
        {
            for part in topic
                .partitions
                .iter_mut()
                .filter(|part| target.partition(part.partition_index))
            {
                part.error_code = code.0;
            }
        }
    }
}

impl<'a> Places<'a> for JoinGroupRequest<'a> {
    throttle!();

    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn without_effect(self, _target: &Target, _version: i16) -> Parts<Self, JoinGroupResponse<'a>> {
        let answer = JoinGroupResponse {
            member_id: self.member_id,
            ..JoinGroupResponse::default()
        };
        (None, Some(answer))
    }

    fn spoil(answer: &mut JoinGroupResponse<'_>, _target: &Target, code: WireCode, version: i16) {
        *answer = JoinGroupResponse {
            error_code: code.0,
            generation_id: -1,
            // Null is for later versions.
            protocol_name: (version < 7).then_some(""),
            member_id: answer.member_id,
            ..JoinGroupResponse::default()
        };
    }
}

impl<'a> Places<'a> for SyncGroupRequest<'a> {
    throttle!();

    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn without_effect(self, _target: &Target, _version: i16) -> Parts<Self, SyncGroupResponse<'a>> {
        (None, Some(SyncGroupResponse::default()))
    }

    fn spoil(answer: &mut SyncGroupResponse<'_>, _target: &Target, code: WireCode, _version: i16) {
        *answer = SyncGroupResponse {
            error_code: code.0,
            ..SyncGroupResponse::default()
        };
    }
}

impl<'a> Places<'a> for HeartbeatRequest<'a> {
    throttle!();

    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn without_effect(self, _target: &Target, _version: i16) -> Parts<Self, HeartbeatResponse> {
        (None, Some(HeartbeatResponse::default()))
    }

    fn spoil(answer: &mut HeartbeatResponse, _target: &Target, code: WireCode, _version: i16) {
        answer.error_code = code.0;
    }
}

impl<'a> Places<'a> for ConsumerGroupHeartbeatRequest<'a> {
    throttle!();

    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn without_effect(self, _target: &Target, _version: i16) -> Parts<Self, ConsumerGroupHeartbeatResponse<'a>> {
        let answer = ConsumerGroupHeartbeatResponse {
            member_id: Some(self.member_id),
            member_epoch: self.member_epoch,
            ..ConsumerGroupHeartbeatResponse::default()
        };
        (None, Some(answer))
    }

    fn spoil(answer: &mut ConsumerGroupHeartbeatResponse<'_>, _target: &Target, code: WireCode, _version: i16) {
        *answer = ConsumerGroupHeartbeatResponse {
            error_code: code.0,
            error_message: Some(MESSAGE),
            ..ConsumerGroupHeartbeatResponse::default()
        };
    }
}

impl<'a> Places<'a> for ConsumerGroupDescribeRequest<'a> {
    throttle!();

    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn spoil(answer: &mut ConsumerGroupDescribeResponse<'_>, _target: &Target, code: WireCode, _version: i16) {
        for group in &mut answer.groups {
            *group = consumer_group_describe_response::DescribedGroup {
                error_code: code.0,
                error_message: Some(MESSAGE),
                group_id: group.group_id,
                authorized_operations: group.authorized_operations,
                ..Default::default()
            };
        }
    }
}

impl<'a> Places<'a> for LeaveGroupRequest<'a> {
    throttle!();

    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn without_effect(self, _target: &Target, version: i16) -> Parts<Self, LeaveGroupResponse<'a>> {
        let member = |member: &leave_group_request::MemberIdentity<'a>| MemberResponse {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            error_code: 0,
        };
        let members = if version < FIRST_LEAVE_WITH_MANY {
            Vec::new()
        } else {
            self.members.iter().map(member).collect()
        };
        let answer = LeaveGroupResponse {
            members,
            ..LeaveGroupResponse::default()
        };
        (None, Some(answer))
    }

    fn spoil(answer: &mut LeaveGroupResponse<'_>, target: &Target, code: WireCode, _version: i16) {
        if target.top_level || answer.members.is_empty() {
            answer.error_code = code.0;
            answer.members.clear();
        }
        for member in &mut answer.members {
            member.error_code = code.0;
        }
    }
}

impl<'a> Places<'a> for DescribeGroupsRequest<'a> {
    throttle!();

    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn spoil(answer: &mut DescribeGroupsResponse<'_>, _target: &Target, code: WireCode, version: i16) {
        for group in &mut answer.groups {
            *group = describe_groups_response::DescribedGroup {
                error_code: code.0,
                error_message: (version >= 6).then_some(MESSAGE),
                group_id: group.group_id,
                authorized_operations: group.authorized_operations,
                ..Default::default()
            };
        }
    }
}

impl<'a> Places<'a> for ListGroupsRequest<'a> {
    throttle!();

    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn spoil(answer: &mut ListGroupsResponse<'_>, _target: &Target, code: WireCode, _version: i16) {
        answer.error_code = code.0;
        answer.groups.clear();
    }
}

impl<'a> Places<'a> for DeleteGroupsRequest<'a> {
    throttle!();

    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn without_effect(self, _target: &Target, _version: i16) -> Parts<Self, DeleteGroupsResponse<'a>> {
        let result = |group_id: &&'a str| delete_groups_response::DeletableGroupResult {
            group_id,
            ..Default::default()
        };
        let answer = DeleteGroupsResponse {
            results: self.groups_names.iter().map(result).collect(),
            ..DeleteGroupsResponse::default()
        };
        (None, Some(answer))
    }

    fn spoil(answer: &mut DeleteGroupsResponse<'_>, _target: &Target, code: WireCode, _version: i16) {
        for group in &mut answer.results {
            group.error_code = code.0;
        }
    }
}
