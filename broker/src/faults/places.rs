//! Where an error goes, API by API.
//!
//! In: a decoded request or answer, and the [`Target`] of a rule. Out: the same, changed. No bytes here. A test compares
//! the list of APIs with the table of what the broker serves, so an API that is added there must be added here.

use super::answers::{MESSAGE, Target};
use super::rule::WireCode;
use crate::handlers::Context;
use ottla_broker_state::fetch_sessions::{self, SessionKey};
use ottla_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use ottla_protocol::messages::create_topics_response::CreatableTopicResult;
use ottla_protocol::messages::delete_topics_response::DeletableTopicResult;
use ottla_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use ottla_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use ottla_protocol::messages::*;
use ottla_protocol::wire::Records;
use ottla_protocol::{ErrorCode, Message, Request, Uuid};
use std::collections::HashSet;

/// Calls a function with the request type of an API.
macro_rules! for_api {
    ($key:expr, $function:ident ( $($argument:expr),* ), $otherwise:expr) => {
        match $key {
            ApiKey::Produce => $function::<ProduceRequest<'_>>($($argument),*),
            ApiKey::Fetch => $function::<FetchRequest<'_>>($($argument),*),
            ApiKey::ListOffsets => $function::<ListOffsetsRequest<'_>>($($argument),*),
            ApiKey::Metadata => $function::<MetadataRequest<'_>>($($argument),*),
            ApiKey::FindCoordinator => $function::<FindCoordinatorRequest<'_>>($($argument),*),
            ApiKey::OffsetCommit => $function::<OffsetCommitRequest<'_>>($($argument),*),
            ApiKey::OffsetFetch => $function::<OffsetFetchRequest<'_>>($($argument),*),
            ApiKey::JoinGroup => $function::<JoinGroupRequest<'_>>($($argument),*),
            ApiKey::Heartbeat => $function::<HeartbeatRequest<'_>>($($argument),*),
            ApiKey::LeaveGroup => $function::<LeaveGroupRequest<'_>>($($argument),*),
            ApiKey::SyncGroup => $function::<SyncGroupRequest<'_>>($($argument),*),
            ApiKey::DescribeGroups => $function::<DescribeGroupsRequest<'_>>($($argument),*),
            ApiKey::ListGroups => $function::<ListGroupsRequest<'_>>($($argument),*),
            ApiKey::DeleteGroups => $function::<DeleteGroupsRequest<'_>>($($argument),*),
            ApiKey::OffsetDelete => $function::<OffsetDeleteRequest<'_>>($($argument),*),
            ApiKey::ConsumerGroupHeartbeat => $function::<ConsumerGroupHeartbeatRequest<'_>>($($argument),*),
            ApiKey::ConsumerGroupDescribe => $function::<ConsumerGroupDescribeRequest<'_>>($($argument),*),
            ApiKey::SaslHandshake => $function::<SaslHandshakeRequest<'_>>($($argument),*),
            ApiKey::ApiVersions => $function::<ApiVersionsRequest<'_>>($($argument),*),
            ApiKey::CreateTopics => $function::<CreateTopicsRequest<'_>>($($argument),*),
            ApiKey::DeleteTopics => $function::<DeleteTopicsRequest<'_>>($($argument),*),
            ApiKey::InitProducerId => $function::<InitProducerIdRequest<'_>>($($argument),*),
            ApiKey::OffsetForLeaderEpoch => $function::<OffsetForLeaderEpochRequest<'_>>($($argument),*),
            ApiKey::DescribeConfigs => $function::<DescribeConfigsRequest<'_>>($($argument),*),
            ApiKey::SaslAuthenticate => $function::<SaslAuthenticateRequest<'_>>($($argument),*),
            ApiKey::CreatePartitions => $function::<CreatePartitionsRequest<'_>>($($argument),*),
            ApiKey::IncrementalAlterConfigs => $function::<IncrementalAlterConfigsRequest<'_>>($($argument),*),
            ApiKey::DescribeCluster => $function::<DescribeClusterRequest>($($argument),*),
            ApiKey::DescribeTopicPartitions => $function::<DescribeTopicPartitionsRequest<'_>>($($argument),*),
            _ => $otherwise,
        }
    };
}
pub(super) use for_api;

/// A request that is carried out, if any, with the version for it; the answer without errors to what is not.
pub(super) type Parts<R, A> = (Option<(R, i16)>, Option<A>);

/// What faults must know about an API.
pub(super) trait Places<'a>: Message<'a> + Request {
    /// Whether the request names what is meant.
    fn touches(&self, target: &Target) -> bool;

    /// Takes the request apart so that what is meant has no effect. By default it has none anyway.
    fn without_effect(self, _target: &Target, version: i16) -> Parts<Self, Self::Response<'a>> {
        (Some((self, version)), None)
    }

    /// True if nobody waits for an answer.
    fn unanswered(&self) -> bool {
        false
    }

    /// Joins two answers to parts of one request. Only APIs that are taken apart have that.
    fn append<'b>(_to: &mut Self::Response<'b>, _more: Self::Response<'b>) {}

    /// What the broker may leave out of the answer though it is meant, as within a fetch session. Found out before the request
    /// is carried out.
    fn left_out(&self, _context: &Context, _target: &Target) -> Vec<SessionKey> {
        Vec::new()
    }

    /// Puts it into the answer, so that an error has its place.
    fn complete<'b>(_answer: &mut Self::Response<'b>, _left_out: &'b [SessionKey]) {}

    /// Puts an error in its place. `version` says which places there are.
    fn spoil(answer: &mut Self::Response<'_>, target: &Target, code: WireCode, version: i16);

    /// The place of `throttle_time_ms`, if there is one.
    fn throttle<'t>(answer: &'t mut Self::Response<'_>) -> Option<&'t mut i32>;
}

/// Splits a list in what stays and what is meant.
pub(super) fn part<T>(list: Vec<T>, meant: impl FnMut(&T) -> bool) -> (Vec<T>, Vec<T>) {
    let (meant, rest) = list.into_iter().partition(meant);
    (rest, meant)
}

/// Takes out of `topics` the partitions that are meant, and the topics that have none left. Gives what `refuse` makes of each
/// topic that `named` knows and of what was taken out of it.
pub(super) fn take_apart<T, P, R>(
    topics: &mut Vec<T>,
    named: impl Fn(&T) -> bool,
    partitions: impl Fn(&mut T) -> &mut Vec<P>,
    meant: impl Fn(&P) -> bool,
    refuse: impl Fn(&T, Vec<P>) -> R,
) -> Vec<R> {
    let mut refused = Vec::new();
    for topic in topics.iter_mut().filter(|topic| named(topic)) {
        let (rest, taken) = part(std::mem::take(partitions(topic)), &meant);
        *partitions(topic) = rest;
        refused.push(refuse(topic, taken));
    }
    topics.retain_mut(|topic| !partitions(topic).is_empty());
    refused
}

macro_rules! throttle {
    () => {
        fn throttle<'t>(answer: &'t mut Self::Response<'_>) -> Option<&'t mut i32> {
            Some(&mut answer.throttle_time_ms)
        }
    };
}
pub(super) use throttle;

impl<'a> Places<'a> for ProduceRequest<'a> {
    throttle!();

    fn touches(&self, target: &Target) -> bool {
        let mut topics = self
            .topic_data
            .iter()
            .filter(|data| target.topic(data.name, data.topic_id));
        topics.any(|data| data.partition_data.iter().any(|part| target.partition(part.index)))
    }

    fn unanswered(&self) -> bool {
        self.acks == 0
    }

    fn without_effect(mut self, target: &Target, version: i16) -> Parts<Self, ProduceResponse<'a>> {
        let answer = |index| PartitionProduceResponse {
            index,
            ..Default::default()
        };
        let responses = take_apart(
            &mut self.topic_data,
            |data| target.topic(data.name, data.topic_id),
            |data| &mut data.partition_data,
            |part| target.partition(part.index),
            |data, meant| TopicProduceResponse {
                name: data.name,
                topic_id: data.topic_id,
                partition_responses: meant.iter().map(|part| answer(part.index)).collect(),
            },
        );
        let refused = ProduceResponse {
            responses,
            ..Default::default()
        };
        ((!self.topic_data.is_empty()).then_some((self, version)), Some(refused))
    }

    fn append<'b>(to: &mut ProduceResponse<'b>, more: ProduceResponse<'b>) {
        for topic in more.responses {
            let same =
                |other: &&mut TopicProduceResponse<'_>| other.name == topic.name && other.topic_id == topic.topic_id;
            match to.responses.iter_mut().find(same) {
                Some(other) => other.partition_responses.extend(topic.partition_responses),
                None => to.responses.push(topic),
            }
        }
    }

    fn spoil(answer: &mut ProduceResponse<'_>, target: &Target, code: WireCode, _version: i16) {
        let meant = |topic: &&mut TopicProduceResponse<'_>| target.topic(topic.name, topic.topic_id);
        let topics = answer.responses.iter_mut().filter(meant);
        for part in topics.flat_map(|topic| &mut topic.partition_responses) {
            if target.partition(part.index) {
                *part = PartitionProduceResponse {
                    index: part.index,
                    error_code: code.0,
                    base_offset: -1,
                    error_message: Some(MESSAGE),
                    ..Default::default()
                };
            }
        }
    }
}

impl<'a> Places<'a> for FetchRequest<'a> {
    throttle!();

    fn touches(&self, target: &Target) -> bool {
        let mut topics = self
            .topics
            .iter()
            .filter(|topic| target.topic(topic.topic, topic.topic_id));
        topics.any(|topic| topic.partitions.iter().any(|part| target.partition(part.partition)))
    }

    fn without_effect(mut self, _target: &Target, version: i16) -> Parts<Self, FetchResponse<'a>> {
        // An error is answered at once.
        self.max_wait_ms = 0;
        (Some((self, version)), None)
    }

    fn left_out(&self, context: &Context, target: &Target) -> Vec<SessionKey> {
        if self.session_epoch <= fetch_sessions::INITIAL_EPOCH {
            return Vec::new();
        }
        let mut held: HashSet<SessionKey> = context
            .broker
            .fetch_sessions
            .partitions_of(self.session_id)
            .into_iter()
            .collect();
        let key = |topic: &str, topic_id, partition| SessionKey {
            topic: topic.into(),
            topic_id,
            partition,
        };
        for topic in &self.topics {
            let parts = topic.partitions.iter();
            held.extend(parts.map(|part| key(topic.topic, topic.topic_id, part.partition)));
        }
        for topic in &self.forgotten_topics_data {
            for index in &topic.partitions {
                held.remove(&key(topic.topic, topic.topic_id, *index));
            }
        }
        held.retain(|key| target.topic(&key.topic, key.topic_id) && target.partition(key.partition));
        held.into_iter().collect()
    }

    fn complete<'b>(answer: &mut FetchResponse<'b>, left_out: &'b [SessionKey]) {
        if answer.error_code != 0 {
            return;
        }
        for key in left_out {
            let same =
                |topic: &FetchableTopicResponse<'_>| topic.topic == &*key.topic && topic.topic_id == key.topic_id;
            let told = |part: &PartitionData<'_>| part.partition_index == key.partition;
            // A topic may come several times.
            let mut topics = answer.responses.iter().filter(|topic| same(topic));
            if topics.any(|topic| topic.partitions.iter().any(told)) {
                continue;
            }
            let nothing = PartitionData {
                partition_index: key.partition,
                records: Records::EMPTY,
                ..Default::default()
            };
            match answer.responses.iter_mut().find(|topic| same(topic)) {
                Some(topic) => topic.partitions.push(nothing),
                None => answer.responses.push(FetchableTopicResponse {
                    topic: &key.topic,
                    topic_id: key.topic_id,
                    partitions: vec![nothing],
                }),
            }
        }
    }

    fn spoil(answer: &mut FetchResponse<'_>, target: &Target, code: WireCode, version: i16) {
        if target.top_level && version >= 7 {
            answer.error_code = code.0;
            answer.responses.clear();
            return;
        }
        for topic in &mut answer.responses {
            if !target.topic(topic.topic, topic.topic_id) {
                continue;
            }
            for part in &mut topic.partitions {
                if target.partition(part.partition_index) {
                    part.error_code = code.0;
                    part.high_watermark = -1;
                    part.last_stable_offset = -1;
                    part.log_start_offset = -1;
                    part.aborted_transactions = None;
                    part.records = Records::EMPTY;
                }
            }
        }
    }
}

impl<'a> Places<'a> for OffsetForLeaderEpochRequest<'a> {
    throttle!();

    fn touches(&self, target: &Target) -> bool {
        let mut topics = self.topics.iter().filter(|topic| target.topic(topic.topic, Uuid::ZERO));
        topics.any(|topic| topic.partitions.iter().any(|part| target.partition(part.partition)))
    }

    fn spoil(answer: &mut OffsetForLeaderEpochResponse<'_>, target: &Target, code: WireCode, _version: i16) {
        let topics = answer.topics.iter_mut();
        for topic in topics.filter(|topic| target.topic(topic.topic, Uuid::ZERO)) {
            let partitions = topic.partitions.iter_mut();
            for part in partitions.filter(|part| target.partition(part.partition)) {
                (part.error_code, part.leader_epoch, part.end_offset) = (code.0, -1, -1);
            }
        }
    }
}

impl<'a> Places<'a> for ListOffsetsRequest<'a> {
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

    fn spoil(answer: &mut ListOffsetsResponse<'_>, target: &Target, code: WireCode, _version: i16) {
        for topic in &mut answer.topics {
            if !target.topic(topic.name, Uuid::ZERO) {
                continue;
            }
            for part in &mut topic.partitions {
                if target.partition(part.partition_index) {
                    (part.error_code, part.timestamp, part.offset, part.leader_epoch) = (code.0, -1, -1, -1);
                }
            }
        }
    }
}

/// Before this version a Metadata request cannot say that it creates nothing.
const FIRST_METADATA_WITHOUT_EFFECT: i16 = 4;

impl<'a> Places<'a> for MetadataRequest<'a> {
    throttle!();

    fn touches(&self, target: &Target) -> bool {
        let named = |topic: &metadata_request::MetadataRequestTopic<'_>| {
            target.topic(topic.name.unwrap_or_default(), topic.topic_id)
        };
        // No list means all topics; in version 0, whose list is never null, an empty one does.
        self.topics
            .as_ref()
            .is_none_or(|topics| topics.is_empty() || topics.iter().any(named))
    }

    fn without_effect(mut self, target: &Target, version: i16) -> Parts<Self, MetadataResponse<'a>> {
        if self.touches(target) {
            self.allow_auto_topic_creation = false;
        }
        if version == 0 && self.topics.as_ref().is_some_and(Vec::is_empty) {
            self.topics = None;
        }
        (Some((self, version.max(FIRST_METADATA_WITHOUT_EFFECT))), None)
    }

    fn spoil(answer: &mut MetadataResponse<'_>, target: &Target, code: WireCode, version: i16) {
        if target.top_level && version >= 13 {
            answer.error_code = code.0;
            return;
        }
        for topic in &mut answer.topics {
            if !target.topic(topic.name.unwrap_or_default(), topic.topic_id) {
                continue;
            }
            if target.partition.is_none() {
                // A topic that cannot be told about has no partitions, and one that nobody knows has no id.
                topic.error_code = code.0;
                topic.partitions.clear();
                if code == ErrorCode::UnknownTopicOrPartition.into() {
                    topic.topic_id = Uuid::ZERO;
                }
                continue;
            }
            for part in topic
                .partitions
                .iter_mut()
                .filter(|part| target.partition(part.partition_index))
            {
                part.error_code = code.0;
                if code == ErrorCode::LeaderNotAvailable.into() {
                    part.leader_id = -1;
                }
            }
        }
    }
}

impl<'a> Places<'a> for FindCoordinatorRequest<'a> {
    throttle!();

    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn without_effect(self, _target: &Target, version: i16) -> Parts<Self, FindCoordinatorResponse<'a>> {
        // The first request for a group would create __consumer_offsets.
        let coordinator = |key: &&'a str| find_coordinator_response::Coordinator {
            key,
            ..Default::default()
        };
        let coordinators = if version < 4 {
            Vec::new()
        } else {
            self.coordinator_keys.iter().map(coordinator).collect()
        };
        let answer = FindCoordinatorResponse {
            coordinators,
            ..FindCoordinatorResponse::default()
        };
        (None, Some(answer))
    }

    fn spoil(answer: &mut FindCoordinatorResponse<'_>, _target: &Target, code: WireCode, version: i16) {
        if version < 4 {
            (answer.error_code, answer.error_message) = (code.0, Some(MESSAGE));
            (answer.node_id, answer.host, answer.port) = (-1, "", -1);
        }
        for coordinator in &mut answer.coordinators {
            (coordinator.error_code, coordinator.error_message) = (code.0, Some(MESSAGE));
            (coordinator.node_id, coordinator.host, coordinator.port) = (-1, "", -1);
        }
    }
}

impl<'a> Places<'a> for SaslHandshakeRequest<'a> {
    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn without_effect(self, _target: &Target, _version: i16) -> Parts<Self, SaslHandshakeResponse<'a>> {
        (None, Some(SaslHandshakeResponse::default()))
    }

    fn spoil(answer: &mut SaslHandshakeResponse<'_>, _target: &Target, code: WireCode, _version: i16) {
        answer.error_code = code.0;
    }

    fn throttle<'t>(_answer: &'t mut SaslHandshakeResponse<'_>) -> Option<&'t mut i32> {
        None
    }
}

impl<'a> Places<'a> for SaslAuthenticateRequest<'a> {
    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn without_effect(self, _target: &Target, _version: i16) -> Parts<Self, SaslAuthenticateResponse<'a>> {
        (None, Some(SaslAuthenticateResponse::default()))
    }

    fn spoil(answer: &mut SaslAuthenticateResponse<'_>, _target: &Target, code: WireCode, _version: i16) {
        *answer = SaslAuthenticateResponse {
            error_code: code.0,
            error_message: Some(MESSAGE),
            ..Default::default()
        };
    }

    fn throttle<'t>(_answer: &'t mut SaslAuthenticateResponse<'_>) -> Option<&'t mut i32> {
        None
    }
}

impl<'a> Places<'a> for ApiVersionsRequest<'a> {
    throttle!();

    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn spoil(answer: &mut ApiVersionsResponse<'_>, _target: &Target, code: WireCode, _version: i16) {
        answer.error_code = code.0;
    }
}

impl<'a> Places<'a> for CreateTopicsRequest<'a> {
    throttle!();

    fn touches(&self, target: &Target) -> bool {
        self.topics.iter().any(|topic| target.topic(topic.name, Uuid::ZERO))
    }

    fn without_effect(mut self, target: &Target, version: i16) -> Parts<Self, CreateTopicsResponse<'a>> {
        let (rest, meant) = part(self.topics, |topic| target.topic(topic.name, Uuid::ZERO));
        self.topics = rest;
        let answer = |name| CreatableTopicResult {
            name,
            ..Default::default()
        };
        let refused = CreateTopicsResponse {
            topics: meant.iter().map(|topic| answer(topic.name)).collect(),
            ..Default::default()
        };
        ((!self.topics.is_empty()).then_some((self, version)), Some(refused))
    }

    fn append<'b>(to: &mut CreateTopicsResponse<'b>, more: CreateTopicsResponse<'b>) {
        to.topics.extend(more.topics);
    }

    fn spoil(answer: &mut CreateTopicsResponse<'_>, target: &Target, code: WireCode, _version: i16) {
        for topic in answer
            .topics
            .iter_mut()
            .filter(|topic| target.topic(topic.name, Uuid::ZERO))
        {
            *topic = CreatableTopicResult {
                name: topic.name,
                error_code: code.0,
                error_message: Some(MESSAGE),
                ..Default::default()
            };
        }
    }
}

impl<'a> Places<'a> for DeleteTopicsRequest<'a> {
    throttle!();

    fn touches(&self, target: &Target) -> bool {
        let state = |topic: &delete_topics_request::DeleteTopicState<'_>| {
            target.topic(topic.name.unwrap_or_default(), topic.topic_id)
        };
        self.topics.iter().any(state) || self.topic_names.iter().any(|name| target.topic(name, Uuid::ZERO))
    }

    fn without_effect(mut self, target: &Target, version: i16) -> Parts<Self, DeleteTopicsResponse<'a>> {
        let (rest, states) = part(self.topics, |topic| {
            target.topic(topic.name.unwrap_or_default(), topic.topic_id)
        });
        let (rest_names, names) = part(self.topic_names, |name| target.topic(name, Uuid::ZERO));
        (self.topics, self.topic_names) = (rest, rest_names);
        let answer = |name, topic_id| DeletableTopicResult {
            name,
            topic_id,
            ..Default::default()
        };
        let by_state = states.iter().map(|state| answer(state.name, state.topic_id));
        let by_name = names.iter().map(|name| answer(Some(*name), Uuid::ZERO));
        let refused = DeleteTopicsResponse {
            responses: by_state.chain(by_name).collect(),
            ..Default::default()
        };
        let is_empty = self.topics.is_empty() && self.topic_names.is_empty();
        ((!is_empty).then_some((self, version)), Some(refused))
    }

    fn append<'b>(to: &mut DeleteTopicsResponse<'b>, more: DeleteTopicsResponse<'b>) {
        to.responses.extend(more.responses);
    }

    fn spoil(answer: &mut DeleteTopicsResponse<'_>, target: &Target, code: WireCode, _version: i16) {
        for topic in &mut answer.responses {
            if target.topic(topic.name.unwrap_or_default(), topic.topic_id) {
                (topic.error_code, topic.error_message) = (code.0, Some(MESSAGE));
            }
        }
    }
}

impl<'a> Places<'a> for InitProducerIdRequest<'a> {
    throttle!();

    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn without_effect(self, _target: &Target, _version: i16) -> Parts<Self, InitProducerIdResponse> {
        (None, Some(InitProducerIdResponse::default()))
    }

    fn spoil(answer: &mut InitProducerIdResponse, _target: &Target, code: WireCode, _version: i16) {
        *answer = InitProducerIdResponse {
            error_code: code.0,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
    }
}

impl<'a> Places<'a> for DescribeConfigsRequest<'a> {
    throttle!();

    fn touches(&self, target: &Target) -> bool {
        let meant = |one: &describe_configs_request::DescribeConfigsResource<'_>| {
            target.resource(one.resource_type, one.resource_name)
        };
        self.resources.iter().any(meant)
    }

    fn spoil(answer: &mut DescribeConfigsResponse<'_>, target: &Target, code: WireCode, _version: i16) {
        for one in &mut answer.results {
            if target.resource(one.resource_type, one.resource_name) {
                (one.error_code, one.error_message) = (code.0, Some(MESSAGE));
                one.configs.clear();
            }
        }
    }
}

impl<'a> Places<'a> for CreatePartitionsRequest<'a> {
    throttle!();

    fn touches(&self, target: &Target) -> bool {
        self.topics.iter().any(|topic| target.topic(topic.name, Uuid::ZERO))
    }

    fn without_effect(mut self, target: &Target, version: i16) -> Parts<Self, CreatePartitionsResponse<'a>> {
        let (rest, meant) = part(self.topics, |topic| target.topic(topic.name, Uuid::ZERO));
        self.topics = rest;
        let answer = |name| CreatePartitionsTopicResult {
            name,
            ..Default::default()
        };
        let refused = CreatePartitionsResponse {
            results: meant.iter().map(|topic| answer(topic.name)).collect(),
            ..Default::default()
        };
        ((!self.topics.is_empty()).then_some((self, version)), Some(refused))
    }

    fn append<'b>(to: &mut CreatePartitionsResponse<'b>, more: CreatePartitionsResponse<'b>) {
        to.results.extend(more.results);
    }

    fn spoil(answer: &mut CreatePartitionsResponse<'_>, target: &Target, code: WireCode, _version: i16) {
        for topic in answer
            .results
            .iter_mut()
            .filter(|topic| target.topic(topic.name, Uuid::ZERO))
        {
            (topic.error_code, topic.error_message) = (code.0, Some(MESSAGE));
        }
    }
}

impl<'a> Places<'a> for IncrementalAlterConfigsRequest<'a> {
    throttle!();

    fn touches(&self, target: &Target) -> bool {
        let meant = |one: &incremental_alter_configs_request::AlterConfigsResource<'_>| {
            target.resource(one.resource_type, one.resource_name)
        };
        self.resources.iter().any(meant)
    }

    fn without_effect(mut self, target: &Target, version: i16) -> Parts<Self, IncrementalAlterConfigsResponse<'a>> {
        let (rest, meant) = part(self.resources, |one| {
            target.resource(one.resource_type, one.resource_name)
        });
        self.resources = rest;
        let answer = |one: &incremental_alter_configs_request::AlterConfigsResource<'a>| AlterConfigsResourceResponse {
            resource_type: one.resource_type,
            resource_name: one.resource_name,
            ..Default::default()
        };
        let refused = IncrementalAlterConfigsResponse {
            responses: meant.iter().map(answer).collect(),
            ..Default::default()
        };
        ((!self.resources.is_empty()).then_some((self, version)), Some(refused))
    }

    fn append<'b>(to: &mut IncrementalAlterConfigsResponse<'b>, more: IncrementalAlterConfigsResponse<'b>) {
        to.responses.extend(more.responses);
    }

    fn spoil(answer: &mut IncrementalAlterConfigsResponse<'_>, target: &Target, code: WireCode, _version: i16) {
        for one in &mut answer.responses {
            if target.resource(one.resource_type, one.resource_name) {
                (one.error_code, one.error_message) = (code.0, Some(MESSAGE));
            }
        }
    }
}

impl<'a> Places<'a> for DescribeClusterRequest {
    throttle!();

    fn touches(&self, _target: &Target) -> bool {
        false
    }

    fn spoil(answer: &mut DescribeClusterResponse<'_>, _target: &Target, code: WireCode, _version: i16) {
        (answer.error_code, answer.error_message) = (code.0, Some(MESSAGE));
        answer.brokers.clear();
    }
}

impl<'a> Places<'a> for DescribeTopicPartitionsRequest<'a> {
    throttle!();

    fn touches(&self, target: &Target) -> bool {
        self.topics.is_empty() || self.topics.iter().any(|topic| target.topic(topic.name, Uuid::ZERO))
    }

    fn spoil(answer: &mut DescribeTopicPartitionsResponse<'_>, target: &Target, code: WireCode, _version: i16) {
        for topic in &mut answer.topics {
            if !target.topic(topic.name.unwrap_or_default(), topic.topic_id) {
                continue;
            }
            if target.partition.is_none() {
                topic.error_code = code.0;
                topic.partitions.clear();
            }
            for part in &mut topic.partitions {
                if target.partition(part.partition_index) {
                    part.error_code = code.0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::ApiKey;

    fn known<'a, R: Places<'a>>() -> Option<ApiKey> {
        Some(R::API_KEY)
    }

    #[test]
    fn every_served_api_has_a_place_for_errors() {
        for api in crate::served_apis() {
            assert_eq!(for_api!(api.key, known(), None), Some(api.key));
        }
    }
}
