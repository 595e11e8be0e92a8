//! What the machines of both group protocols promise their driver, whatever coordinator and application do.
//!
//! A random story is played to a member, and each promise is checked at each step: one request of a kind under way, nothing
//! but heartbeats while partitions are being let go, every partition told exactly once as added and once as let go or lost,
//! no wake-up for nothing. Then the coordinator and the application behave, and the member must come to rest with what it
//! was given, or be out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what the test did not expect must stop it

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ottla_client_state::assignor::{Assignment, GroupMember, GroupTopic, TopicImage, by_name, codec};
use ottla_client_state::membership::{
    Action, ConsumerGroupHeartbeatAnswer, Generation, GroupConfig, GroupRequest, GroupResponse, JoinGroupAnswer,
    JoinedMember, LeaveMode, Membership, Phase, RequestFailure, RequestKind, Subscription, SyncGroupAnswer,
};
use ottla_client_state::{Time, TopicPartition};
use ottla_protocol::{ErrorCode, Uuid};
use proptest::prelude::*;

const TOPICS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    /// Answers the request at this place of those under way: well, or with this error. The bits choose the contents.
    Answer(prop::sample::Index, Option<i16>, u16),
    Fail(prop::sample::Index, u8),
    Revoked,
    Assigned,
    Poll,
    Extend(u64),
    Subscribe(u8),
    Unsubscribe,
    Close(u8),
    Commit(i16, bool),
    Metadata(u8),
    Enforce,
}

fn error() -> impl Strategy<Value = i16> {
    use ErrorCode as E;
    let likely = [
        E::RebalanceInProgress,
        E::IllegalGeneration,
        E::UnknownMemberId,
        E::FencedMemberEpoch,
        E::NotCoordinator,
        E::CoordinatorLoadInProgress,
        E::MemberIdRequired,
        E::StaleMemberEpoch,
    ];
    let likely: Vec<i16> = likely.iter().map(|code| code.code()).collect();
    let all: Vec<i16> = ErrorCode::ALL
        .iter()
        .map(|code| code.code())
        .filter(|code| *code != 0)
        .collect();
    prop_oneof![4 => prop::sample::select(likely), 1 => prop::sample::select(all), 1 => any::<i16>()]
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => prop_oneof![0u64..200, 0u64..5_000, 0u64..70_000].prop_map(Step::Wait),
        12 => (index(), prop::option::weighted(0.3, error()), any::<u16>()).prop_map(|(at, code, bits)| Step::Answer(at, code, bits)),
        2 => (index(), 0u8..6).prop_map(|(at, how)| Step::Fail(at, how)),
        4 => Just(Step::Revoked),
        4 => Just(Step::Assigned),
        3 => Just(Step::Poll),
        1 => (0u64..400_000).prop_map(Step::Extend),
        2 => any::<u8>().prop_map(Step::Subscribe),
        1 => Just(Step::Unsubscribe),
        1 => prop::option::weighted(0.3, 0u8..3).prop_map(|mode| mode.map_or(Step::Poll, Step::Close)),
        1 => (error(), any::<bool>()).prop_map(|(code, current)| Step::Commit(code, current)),
        2 => any::<u8>().prop_map(Step::Metadata),
        1 => Just(Step::Enforce),
    ]
}

struct Driver {
    member: Membership,
    now: Time,
    under_way: BTreeMap<RequestKind, GroupRequest>,
    /// What the application has been told that it has.
    has: BTreeSet<TopicPartition>,
    letting_go: Option<Vec<TopicPartition>>,
    /// The number of the assignment that it takes over.
    taking_over: Option<u64>,
    /// Such that ended because the application left with nothing in hand: it may still say that it took them over.
    ended: VecDeque<u64>,
    epoch: i32,
}

impl Driver {
    fn new(protocol: u8, is_static: bool) -> Driver {
        let mut config = GroupConfig::new("g");
        config.group_instance_id = is_static.then(|| "i".into());
        let assignors = |name| vec![by_name(name).unwrap()];
        let member = match protocol {
            0 => Membership::classic(config, assignors("range")).unwrap(),
            1 => Membership::classic(config, assignors("cooperative-sticky")).unwrap(),
            _ => Membership::consumer(config, "me", None),
        };
        Driver {
            member,
            now: Time::ZERO,
            under_way: BTreeMap::new(),
            has: BTreeSet::new(),
            letting_go: None,
            taking_over: None,
            ended: VecDeque::new(),
            epoch: 0,
        }
    }

    /// Executes what the member wants, and checks its promises.
    fn drain(&mut self) {
        for _ in 0..50 {
            let Some(action) = self.member.next_action(self.now) else {
                assert_eq!(
                    self.member.next_action(self.now),
                    None,
                    "asking once more changes nothing"
                );
                let wake = self.member.wake_at();
                assert!(
                    wake.is_none_or(|at| at > self.now),
                    "at {} it asks to be woken at {wake:?}",
                    self.now
                );
                return;
            };
            self.execute(action);
        }
        panic!("it wants ever more");
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::Send(request) => {
                let beat = matches!(
                    request.kind(),
                    RequestKind::Heartbeat | RequestKind::ConsumerGroupHeartbeat
                );
                assert!(
                    self.letting_go.is_none() || beat,
                    "{request:?} while partitions are let go"
                );
                let before = self.under_way.insert(request.kind(), request);
                assert!(before.is_none(), "two at once: {before:?}");
            }
            Action::Revoke { partitions, .. } => {
                assert!(self.letting_go.is_none() && !partitions.is_empty());
                let set: BTreeSet<_> = partitions.iter().cloned().collect();
                assert!(
                    set.len() == partitions.len() && set.is_subset(&self.has),
                    "{partitions:?} of {:?}",
                    self.has
                );
                self.letting_go = Some(partitions);
                self.taking_over = None;
            }
            Action::Assign {
                number,
                added,
                all,
                generation,
            } => {
                assert!(self.letting_go.is_none() && self.taking_over.is_none());
                assert_eq!(Some(&generation), self.member.generation().as_ref());
                for partition in added {
                    assert!(self.has.insert(partition.clone()), "{partition} is added twice");
                }
                assert_eq!(self.has.iter().cloned().collect::<Vec<_>>(), all);
                self.taking_over = Some(number);
            }
            Action::Lost { partitions, .. } => {
                let has = std::mem::take(&mut self.has);
                assert_eq!(has.into_iter().collect::<Vec<_>>(), partitions);
                self.letting_go = None;
                self.taking_over = None;
            }
            Action::FindCoordinator | Action::RefreshMetadata { .. } | Action::Rebalance { .. } | Action::Fail(_) => {}
        }
    }

    fn play(&mut self, step: &Step) {
        let now = self.now;
        match step {
            Step::Wait(ms) => self.wait(*ms),
            Step::Answer(at, code, bits) => {
                if let Some(request) = self.take(at) {
                    let response = self.response(&request, *code, *bits);
                    self.member.handle_response(response, now);
                }
            }
            Step::Fail(at, how) => {
                let failures = [
                    RequestFailure::Disconnected,
                    RequestFailure::TimedOut,
                    RequestFailure::NoCoordinator(None),
                    RequestFailure::NoCoordinator(Some(ErrorCode::GroupAuthorizationFailed.code())),
                    RequestFailure::Refused("no".into()),
                    RequestFailure::UnsupportedVersion,
                ];
                if let Some(request) = self.take(at) {
                    let failure = failures[usize::from(*how)].clone();
                    self.member.handle_failure(request.kind(), failure, now);
                }
            }
            Step::Revoked => self.revoked(),
            Step::Assigned => self.assigned(),
            Step::Poll => self.member.handle_poll(now),
            Step::Extend(ms) => self.member.handle_extended(now.plus_ms(*ms), now),
            Step::Subscribe(bits) => self.member.handle_subscribed(Subscription::to(chosen(*bits)), now),
            Step::Unsubscribe => {
                self.leave_with_nothing();
                self.member.handle_unsubscribed(now);
            }
            Step::Close(mode) => {
                let modes = [LeaveMode::Default, LeaveMode::Leave, LeaveMode::Remain];
                self.leave_with_nothing();
                self.member.handle_leave(modes[usize::from(*mode)], now);
            }
            Step::Commit(code, current) => {
                let stamp = self.member.generation().filter(|_| *current).unwrap_or(Generation {
                    member_id: "somebody".into(),
                    epoch: 1,
                });
                self.member.handle_fenced_commit(*code, &stamp, now);
            }
            Step::Metadata(bits) => self.metadata(*bits),
            Step::Enforce => self.member.handle_enforced("why not".into(), now),
        }
        self.drain();
    }

    fn wait(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        while let Some(at) = self.member.wake_at().filter(|at| *at <= until) {
            self.now = at;
            self.member.handle_timeout(at);
            self.drain();
        }
        self.now = until;
    }

    fn take(&mut self, at: &prop::sample::Index) -> Option<GroupRequest> {
        let kinds: Vec<RequestKind> = self.under_way.keys().copied().collect();
        let kind = (!kinds.is_empty()).then(|| kinds[at.index(kinds.len())])?;
        self.under_way.remove(&kind)
    }

    fn revoked(&mut self) {
        for partition in self.letting_go.take().unwrap_or_default() {
            self.has.remove(&partition);
        }
        self.member.handle_revoked(self.now);
    }

    fn assigned(&mut self) {
        // In the order in which they were given, as an application does.
        if let Some(number) = self.ended.pop_front() {
            let phase = self.member.phase();
            self.member.handle_assigned(number, self.now);
            assert_eq!(self.member.phase(), phase, "assignment {number} had ended");
        } else if let Some(number) = self.taking_over.take() {
            self.member.handle_assigned(number, self.now);
        }
    }

    fn leave_with_nothing(&mut self) {
        if self.has.is_empty() {
            self.ended.extend(self.taking_over.take());
        }
    }

    fn metadata(&mut self, bits: u8) {
        let mut image = TopicImage::new();
        for (place, name) in TOPICS.iter().enumerate() {
            if bits & (1 << place) == 0 {
                let mut topic = GroupTopic::of(4 + u32::from(bits >> 6));
                topic.id = id(place);
                image.insert(*name, topic);
            }
        }
        self.member.handle_metadata(Arc::new(image), self.now);
    }

    fn response(&mut self, request: &GroupRequest, code: Option<i16>, bits: u16) -> GroupResponse {
        let error_code = code.unwrap_or(0);
        self.epoch += 1;
        match request {
            GroupRequest::JoinGroup(join) => {
                let member_id = if join.member_id.is_empty() {
                    format!("m{}", self.epoch).into()
                } else {
                    join.member_id.clone()
                };
                let (protocol, metadata) = join.protocols[0].clone();
                let leads = bits & 1 == 1;
                let me = JoinedMember {
                    member_id: member_id.clone(),
                    group_instance_id: None,
                    metadata,
                };
                let other = GroupMember {
                    topics: chosen(bits as u8).into_iter().map(Arc::from).collect(),
                    ..GroupMember::default()
                };
                let other = JoinedMember {
                    member_id: "other".into(),
                    group_instance_id: None,
                    metadata: codec::encode_subscription(&other, 3).unwrap(),
                };
                GroupResponse::JoinGroup(JoinGroupAnswer {
                    error_code,
                    generation_id: self.epoch,
                    protocol_name: Some(protocol),
                    leader: if leads { member_id.clone() } else { "other".into() },
                    skip_assignment: bits & 2 == 2,
                    member_id,
                    members: if leads { vec![me, other] } else { Vec::new() },
                })
            }
            GroupRequest::SyncGroup(_) => {
                let partitions = numbers(bits)
                    .into_iter()
                    .map(|(topic, number)| (TOPICS[topic], number).into());
                let assignment = Assignment {
                    partitions: partitions.collect(),
                    user_data: None,
                };
                GroupResponse::SyncGroup(SyncGroupAnswer {
                    error_code,
                    protocol_name: None,
                    assignment: codec::encode_assignment(&assignment, 3).unwrap(),
                })
            }
            GroupRequest::Heartbeat(_) => GroupResponse::Heartbeat(error_code),
            GroupRequest::LeaveGroup(_) => GroupResponse::LeaveGroup(error_code),
            GroupRequest::ConsumerGroupHeartbeat(_) => {
                let target = numbers(bits)
                    .into_iter()
                    .map(|(topic, number)| (id(topic), vec![number]));
                GroupResponse::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatAnswer {
                    error_code,
                    member_epoch: self.epoch,
                    heartbeat_interval_ms: 5_000,
                    assignment: (bits & 1 == 1).then(|| target.collect()),
                    ..ConsumerGroupHeartbeatAnswer::default()
                })
            }
        }
    }

    /// From here on everybody behaves. Gives the phase in which the member comes to rest.
    fn come_to_rest(&mut self, bits: u16) -> Phase {
        self.member.handle_subscribed(Subscription::to(TOPICS), self.now);
        // Who is stable already has what it was given before, and needs a reason to be given something else.
        self.member.handle_enforced("to come to rest".into(), self.now);
        self.metadata(0);
        for _ in 0..200 {
            self.drain();
            if self.letting_go.is_some() {
                self.revoked();
            } else if self.taking_over.is_some() {
                self.assigned();
            }
            self.drain();
            self.member.handle_poll(self.now);
            self.drain();
            while let Some((_, request)) = self.under_way.pop_first() {
                // With the same assignment each time.
                let response = self.response(&request, None, bits | 1);
                self.member.handle_response(response, self.now);
                self.drain();
            }
            self.wait(500);
        }
        self.member.state().phase
    }
}

fn id(topic: usize) -> Uuid {
    Uuid::from_u128(topic as u128 + 1)
}

fn chosen(bits: u8) -> Vec<&'static str> {
    let names = TOPICS.iter().enumerate().filter(|(place, _)| bits & (1 << place) != 0);
    names.map(|(_, name)| *name).collect()
}

/// Topic and number for each of twelve bits.
fn numbers(bits: u16) -> Vec<(usize, i32)> {
    (0..12)
        .filter(|bit| bits & (1 << bit) != 0)
        .map(|bit| (bit / 4, (bit % 4) as i32))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_member_keeps_its_promises_and_comes_to_rest(
        protocol in 0u8..3,
        is_static: bool,
        steps in prop::collection::vec(step(), 0..60),
        bits: u16,
    ) {
        let mut driver = Driver::new(protocol, is_static);
        driver.member.handle_subscribed(Subscription::to(["a", "b"]), Time::ZERO);
        driver.drain();
        let mut closed = false;
        for step in &steps {
            closed |= matches!(step, Step::Close(_));
            driver.play(step);
        }
        let phase = driver.come_to_rest(bits);
        if closed {
            prop_assert_eq!(phase, Phase::Left);
            prop_assert!(driver.has.is_empty());
        } else {
            prop_assert_eq!(phase, Phase::Stable);
            let has: Vec<_> = driver.has.iter().cloned().collect();
            prop_assert_eq!(&driver.member.assignment(), &has);
            let expected = numbers(bits | 1).into_iter().map(|(topic, number)| (TOPICS[topic], number).into());
            prop_assert_eq!(has, expected.collect::<Vec<TopicPartition>>());
        }
    }
}
