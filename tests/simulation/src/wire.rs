//! What travels between a consumer and its coordinator, and how the two minds' words for it are turned into each other.
//!
//! In: requests of a member and of its consumer. Out: calls of a [`GroupShard`], and its replies as the member knows them.
//! Nothing is encoded on the way: that the bytes are right is proved elsewhere, between real programs.

use std::sync::Arc;

use ottla_broker_state::group::consumer::{HeartbeatReply, HeartbeatRequest as ConsumerHeartbeatRequest};
use ottla_broker_state::group::{
    Client, GroupConfig, GroupRecord, GroupShard, JoinReply, Moment, OffsetFetch, Outcome, SyncReply, Ticket,
};
use ottla_client_state::TopicPartition;
use ottla_client_state::membership::{
    ConsumerGroupHeartbeat, ConsumerGroupHeartbeatAnswer, GroupRequest, GroupResponse, Heartbeat, JoinGroup,
    JoinGroupAnswer, JoinedMember, LeaveGroup, SyncGroup, SyncGroupAnswer,
};
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, SyncGroupRequest,
};
use ottla_protocol::{ErrorCode, Uuid};

/// The only group there is.
pub const GROUP: &str = "g";

/// Names a request for life.
pub type CallId = u64;

/// What a consumer asks of its coordinator.
#[derive(Debug, Clone)]
pub enum Request {
    Group(GroupRequest),
    Commit(Commit),
    FetchOffsets(FetchOffsets),
}

/// OffsetCommit.
#[derive(Debug, Clone)]
pub struct Commit {
    pub member_id: Arc<str>,
    pub epoch: i32,
    pub instance_id: Option<Arc<str>>,
    pub offsets: Vec<(TopicPartition, i64)>,
}

/// OffsetFetch.
#[derive(Debug, Clone)]
pub struct FetchOffsets {
    /// Member id and epoch, where the protocol has them checked.
    pub stamp: Option<(Arc<str>, i32)>,
    pub partitions: Vec<TopicPartition>,
}

/// What the coordinator answers.
#[derive(Debug, Clone)]
pub enum Answer {
    Group(GroupResponse),
    Commit(Vec<(TopicPartition, ErrorCode)>),
    Offsets(Result<Vec<(TopicPartition, Option<i64>)>, ErrorCode>),
}

impl Request {
    /// Kafka's name of it.
    pub fn name(&self) -> &'static str {
        match self {
            Request::Group(request) => request.kind().name(),
            Request::Commit(_) => "OffsetCommit",
            Request::FetchOffsets(_) => "OffsetFetch",
        }
    }

    /// The answer of a coordinator that does nothing with it.
    pub fn refused(&self, error: ErrorCode) -> Answer {
        let code = error.code();
        match self {
            Request::Group(GroupRequest::JoinGroup(_)) => Answer::Group(GroupResponse::JoinGroup(JoinGroupAnswer {
                error_code: code,
                generation_id: -1,
                ..JoinGroupAnswer::default()
            })),
            Request::Group(GroupRequest::SyncGroup(_)) => Answer::Group(GroupResponse::SyncGroup(SyncGroupAnswer {
                error_code: code,
                ..SyncGroupAnswer::default()
            })),
            Request::Group(GroupRequest::Heartbeat(_)) => Answer::Group(GroupResponse::Heartbeat(code)),
            Request::Group(GroupRequest::LeaveGroup(_)) => Answer::Group(GroupResponse::LeaveGroup(code)),
            Request::Group(GroupRequest::ConsumerGroupHeartbeat(_)) => refused_heartbeat(error),
            Request::Commit(commit) => Answer::Commit(
                commit
                    .offsets
                    .iter()
                    .map(|(partition, _)| (partition.clone(), error))
                    .collect(),
            ),
            Request::FetchOffsets(_) => Answer::Offsets(Err(error)),
        }
    }
}

impl Answer {
    /// The error in it: of the whole, or the first of a partition.
    pub fn code(&self) -> i16 {
        match self {
            Answer::Group(GroupResponse::JoinGroup(answer)) => answer.error_code,
            Answer::Group(GroupResponse::SyncGroup(answer)) => answer.error_code,
            Answer::Group(GroupResponse::Heartbeat(code) | GroupResponse::LeaveGroup(code)) => *code,
            Answer::Group(GroupResponse::ConsumerGroupHeartbeat(answer)) => answer.error_code,
            Answer::Commit(results) => {
                let failed = results.iter().find(|(_, error)| *error != ErrorCode::None);
                failed.map_or(0, |(_, error)| error.code())
            }
            Answer::Offsets(Ok(_)) => 0,
            Answer::Offsets(Err(error)) => error.code(),
        }
    }
}

/// What became of a request in a shard: what is to be written, and the answer, now or under a ticket.
pub struct Handled {
    pub records: Vec<GroupRecord>,
    pub outcome: Outcome<Answer>,
}

impl Handled {
    fn now(records: Vec<GroupRecord>, answer: Answer) -> Handled {
        Handled {
            records,
            outcome: Outcome::Now(answer),
        }
    }
}

/// Who asks, beside the request: what the broker knows of the connection.
pub struct Sender<'a> {
    pub name: &'a str,
    pub config: &'a GroupConfig,
    pub join_version: i16,
    pub fresh_id: Uuid,
}

/// Has a shard carry out a request.
pub fn carry_out(shard: &mut GroupShard, request: &Request, sender: &Sender<'_>, moment: Moment) -> Handled {
    match request {
        Request::Group(GroupRequest::JoinGroup(request)) => join(shard, request, sender, moment),
        Request::Group(GroupRequest::SyncGroup(request)) => sync(shard, request, moment),
        Request::Group(GroupRequest::Heartbeat(request)) => heartbeat(shard, request, moment),
        Request::Group(GroupRequest::LeaveGroup(request)) => leave(shard, request, moment),
        Request::Group(GroupRequest::ConsumerGroupHeartbeat(request)) => {
            consumer_heartbeat(shard, request, sender, moment)
        }
        Request::Commit(request) => commit(shard, request, moment),
        Request::FetchOffsets(request) => Handled::now(Vec::new(), fetch_offsets(shard, request)),
    }
}

fn parked_or<T>(outcome: Outcome<T>, answer: impl FnOnce(T) -> Answer) -> Outcome<Answer> {
    match outcome {
        Outcome::Now(reply) => Outcome::Now(answer(reply)),
        Outcome::Parked(ticket) => Outcome::Parked(ticket),
    }
}

fn join(shard: &mut GroupShard, request: &JoinGroup, sender: &Sender<'_>, moment: Moment) -> Handled {
    let protocols = request.protocols.iter();
    let message = JoinGroupRequest {
        group_id: &request.group_id,
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        member_id: &request.member_id,
        group_instance_id: request.group_instance_id.as_deref(),
        protocol_type: "consumer",
        protocols: protocols
            .map(|(name, metadata)| JoinGroupRequestProtocol { name, metadata })
            .collect(),
        reason: Some(&request.reason),
    };
    let client = Client {
        id: sender.name,
        host: "/127.0.0.1",
        fresh_id: sender.fresh_id,
    };
    let effect = shard.join(&message, sender.join_version, client, moment);
    Handled {
        records: effect.records,
        outcome: parked_or(effect.reply, joined),
    }
}

/// A reply to JoinGroup as the member knows it.
pub fn joined(reply: JoinReply) -> Answer {
    let member = |member: ottla_broker_state::group::JoinedMember| JoinedMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        metadata: member.metadata,
    };
    Answer::Group(GroupResponse::JoinGroup(JoinGroupAnswer {
        error_code: reply.error.code(),
        generation_id: reply.generation,
        protocol_name: reply.protocol,
        leader: reply.leader,
        skip_assignment: reply.skip_assignment,
        member_id: reply.member_id,
        members: reply.members.into_iter().map(member).collect(),
    }))
}

fn sync(shard: &mut GroupShard, request: &SyncGroup, moment: Moment) -> Handled {
    let assignments = request.assignments.iter();
    let message = SyncGroupRequest {
        group_id: &request.group_id,
        generation_id: request.generation_id,
        member_id: &request.member_id,
        group_instance_id: request.group_instance_id.as_deref(),
        protocol_type: Some("consumer"),
        protocol_name: Some(&request.protocol_name),
        assignments: assignments
            .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment })
            .collect(),
    };
    let effect = shard.sync(&message, moment);
    Handled {
        records: effect.records,
        outcome: parked_or(effect.reply, synced),
    }
}

/// A reply to SyncGroup as the member knows it.
pub fn synced(reply: SyncReply) -> Answer {
    Answer::Group(GroupResponse::SyncGroup(SyncGroupAnswer {
        error_code: reply.error.code(),
        protocol_name: reply.protocol,
        assignment: reply.assignment,
    }))
}

fn heartbeat(shard: &mut GroupShard, request: &Heartbeat, moment: Moment) -> Handled {
    let message = HeartbeatRequest {
        group_id: &request.group_id,
        generation_id: request.generation_id,
        member_id: &request.member_id,
        group_instance_id: request.group_instance_id.as_deref(),
    };
    let effect = shard.heartbeat(&message, moment);
    Handled::now(
        effect.records,
        Answer::Group(GroupResponse::Heartbeat(effect.reply.code())),
    )
}

fn refused_heartbeat(error: ErrorCode) -> Answer {
    Answer::Group(GroupResponse::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatAnswer {
        error_code: error.code(),
        ..ConsumerGroupHeartbeatAnswer::default()
    }))
}

fn consumer_heartbeat(
    shard: &mut GroupShard,
    request: &ConsumerGroupHeartbeat,
    sender: &Sender<'_>,
    moment: Moment,
) -> Handled {
    let owned = request.topic_partitions.as_ref();
    let message = ConsumerHeartbeatRequest {
        member_id: Arc::clone(&request.member_id),
        member_epoch: request.member_epoch,
        instance_id: request.instance_id.clone(),
        rack_id: request.rack_id.clone(),
        rebalance_timeout_ms: request.rebalance_timeout_ms.unwrap_or(-1),
        topics: request
            .subscribed_topic_names
            .as_ref()
            .map(|names| names.iter().cloned().collect()),
        regex: request.subscribed_topic_regex.clone(),
        assignor: request.server_assignor.clone(),
        owned: owned.map(|topics| {
            topics
                .iter()
                .map(|(id, numbers)| (*id, numbers.iter().copied().collect()))
                .collect()
        }),
    };
    if let Err(error) = message.check(&request.group_id, 1, &sender.config.consumer) {
        panic!("{} sends what no coordinator takes: {error}", sender.name);
    }
    let client = Client {
        id: sender.name,
        host: "/127.0.0.1",
        fresh_id: sender.fresh_id,
    };
    let effect = shard.consumer_heartbeat(&request.group_id, &message, client, moment);
    let answer = match effect.reply {
        Ok(reply) => beaten(reply),
        Err(error) => refused_heartbeat(error.code),
    };
    Handled::now(effect.records, answer)
}

fn beaten(reply: HeartbeatReply) -> Answer {
    let assignment = reply.assignment.map(|topics| {
        let topics = topics.into_iter();
        topics
            .map(|(id, numbers)| (id, numbers.into_iter().collect()))
            .collect()
    });
    Answer::Group(GroupResponse::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatAnswer {
        error_code: 0,
        error_message: None,
        member_id: Some(reply.member_id),
        member_epoch: reply.member_epoch,
        heartbeat_interval_ms: reply.heartbeat_interval_ms,
        assignment,
    }))
}

fn leave(shard: &mut GroupShard, request: &LeaveGroup, moment: Moment) -> Handled {
    let message = LeaveGroupRequest {
        group_id: &request.group_id,
        members: vec![MemberIdentity {
            member_id: &request.member_id,
            group_instance_id: request.group_instance_id.as_deref(),
            reason: Some(&request.reason),
        }],
        ..LeaveGroupRequest::default()
    };
    let effect = shard.leave(&message, moment);
    let error = match effect.reply {
        Ok(left) => left.first().map_or(ErrorCode::None, |left| left.error),
        Err(error) => error,
    };
    Handled::now(effect.records, Answer::Group(GroupResponse::LeaveGroup(error.code())))
}

fn commit(shard: &mut GroupShard, request: &Commit, moment: Moment) -> Handled {
    let partition = |(partition, offset): &(TopicPartition, i64)| OffsetCommitRequestPartition {
        partition_index: partition.partition,
        committed_offset: *offset,
        committed_leader_epoch: -1,
        committed_metadata: Some(""),
    };
    // One topic for each partition keeps the answers in the order of the request.
    let topics = request.offsets.iter().map(|one| OffsetCommitRequestTopic {
        name: &one.0.topic,
        topic_id: Uuid::ZERO,
        partitions: vec![partition(one)],
    });
    let message = OffsetCommitRequest {
        group_id: GROUP,
        generation_id_or_member_epoch: request.epoch,
        member_id: &request.member_id,
        group_instance_id: request.instance_id.as_deref(),
        retention_time_ms: -1,
        topics: topics.collect(),
    };
    let effect = shard.commit_offsets(&message, 9, moment);
    let answer = match effect.reply {
        Ok(results) => {
            let partitions = request.offsets.iter().map(|(partition, _)| partition.clone());
            partitions.zip(results.into_iter().flatten()).collect()
        }
        Err(error) => request
            .offsets
            .iter()
            .map(|(partition, _)| (partition.clone(), error))
            .collect(),
    };
    Handled::now(effect.records, Answer::Commit(answer))
}

fn fetch_offsets(shard: &GroupShard, request: &FetchOffsets) -> Answer {
    let fetched = shard.fetch_offsets(OffsetFetch {
        group: GROUP,
        member_id: request.stamp.as_ref().map(|(id, _)| &**id),
        member_epoch: request.stamp.as_ref().map_or(-1, |(_, epoch)| *epoch),
    });
    Answer::Offsets(fetched.map(|topics| {
        let offset = |partition: &TopicPartition| {
            let offsets = topics?.get(&partition.topic)?;
            Some(offsets.get(&partition.partition)?.offset)
        };
        let partitions = request.partitions.iter();
        partitions
            .map(|partition| (partition.clone(), offset(partition)))
            .collect()
    }))
}

/// The ticket and the answer of a promise kept.
pub fn kept(ticket: Ticket, reply: ottla_broker_state::group::GroupReply) -> (Ticket, Answer) {
    use ottla_broker_state::group::GroupReply;
    match reply {
        GroupReply::Join(reply) => (ticket, joined(reply)),
        GroupReply::Sync(reply) => (ticket, synced(reply)),
    }
}
