//! PartitionState: what one broker knows about one partition it holds a replica of.
//!
//! In: the assignment decided by the controller, log end offsets (ours and, on a leader, those the followers fetch
//! from), `now`. Out: the high watermark, and proposals to change the in-sync replicas (ISR), which count only once
//! the controller has committed them.
//! It does not hold records, does not know producers and does not talk to the controller.
//!
//! Three rules carry the weight:
//! - The high watermark is the lowest log end offset of the *maximal* ISR: the committed one plus additions that are
//!   proposed but not yet committed. So it can never be ahead of a replica that may become leader.
//! - It does not advance while the ISR is smaller than `min.insync.replicas`.
//! - Within a leader epoch it never falls.

use crate::Time;
use std::collections::BTreeMap;

/// What the controller has decided about a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assignment {
    /// The broker that leads; `None` while no replica can.
    pub leader: Option<i32>,
    /// Grows with every new leader.
    pub leader_epoch: i32,
    /// Grows with every change of the assignment; proposals name the epoch they build on.
    pub partition_epoch: i32,
    /// All brokers that hold a replica, preferred leader first.
    pub replicas: Vec<i32>,
    /// The committed in-sync replicas.
    pub isr: Vec<i32>,
}

/// What an accepted assignment made of this replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleChange {
    /// Nothing that matters to the caller changed: same role, same leader epoch.
    None,
    /// We lead from now on. Batches get the new leader epoch; appends start at the present log end offset.
    BecameLeader,
    /// Another broker leads. Everything parked here must be answered with NOT_LEADER_OR_FOLLOWER.
    BecameFollower,
}

/// A change of the in-sync replicas that this leader asks the controller for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrProposal {
    /// The ISR wanted, in the order of the replicas.
    pub isr: Vec<i32>,
    /// The epoch this proposal was made at; the controller refuses it if another change came first.
    pub partition_epoch: i32,
}

/// Why a follower's progress was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowerError {
    /// We do not lead this partition.
    NotLeader,
    /// That broker holds no replica of this partition.
    NotReplica,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Appends come from producers. `start` is the log end offset at which our epoch began: a follower below it may
    /// still hold records of an older epoch that we lack, so it cannot be in sync.
    Leader { start: i64 },
    /// Appends come from the leader, and so does the high watermark.
    Follower,
}

#[derive(Debug, Clone, Copy)]
struct Follower {
    /// The offset the follower last asked for: it holds everything before it.
    log_end_offset: i64,
    /// When it last held everything we had.
    caught_up_at: Time,
    /// Our log end offset when it last fetched, and when that was.
    leader_end_at_fetch: i64,
    fetched_at: Time,
}

/// Leader or follower, log end offset, ISR and high watermark of one replica.
#[derive(Debug)]
pub struct PartitionState {
    broker_id: i32,
    role: Role,
    assignment: Assignment,
    /// Replicas proposed for the ISR: they already count for the high watermark.
    proposed: Option<Vec<i32>>,
    followers: BTreeMap<i32, Follower>,
    min_insync_replicas: usize,
    log_end_offset: i64,
    high_watermark: i64,
}

impl PartitionState {
    /// A replica on `broker_id` that has just been opened: a follower of nobody until the first assignment.
    ///
    /// `high_watermark` is the one checkpointed; it is cut to `log_end_offset`, because recovery may have cut the log.
    pub fn new(broker_id: i32, log_end_offset: i64, high_watermark: i64) -> Self {
        PartitionState {
            broker_id,
            role: Role::Follower,
            assignment: Assignment {
                leader_epoch: -1,
                partition_epoch: -1,
                ..Assignment::default()
            },
            proposed: None,
            followers: BTreeMap::new(),
            min_insync_replicas: 1,
            log_end_offset,
            high_watermark: high_watermark.min(log_end_offset),
        }
    }

    /// Takes in what the controller decided. An assignment older than the one known is ignored.
    pub fn assign(&mut self, assignment: Assignment, now: Time) -> RoleChange {
        let known = &self.assignment;
        if (assignment.leader_epoch, assignment.partition_epoch) < (known.leader_epoch, known.partition_epoch) {
            return RoleChange::None;
        }
        let new_epoch = assignment.leader_epoch > known.leader_epoch;
        let leads = assignment.leader == Some(self.broker_id);
        let led = self.is_leader();
        self.assignment = assignment;
        self.proposed = None;
        let change = match (led, leads) {
            (true, false) => self.follow(),
            (false, true) => self.lead(now),
            (true, true) if new_epoch => self.lead(now),
            (false, false) if new_epoch => self.follow(),
            _ => RoleChange::None,
        };
        if leads {
            self.track_replicas(now);
            self.advance();
        }
        change
    }

    fn lead(&mut self, now: Time) -> RoleChange {
        self.role = Role::Leader {
            start: self.log_end_offset,
        };
        self.followers.clear();
        self.track_replicas(now);
        RoleChange::BecameLeader
    }

    fn follow(&mut self) -> RoleChange {
        self.role = Role::Follower;
        self.followers.clear();
        RoleChange::BecameFollower
    }

    /// Forgets replicas that were taken away and starts to watch new ones.
    fn track_replicas(&mut self, now: Time) {
        let (me, replicas) = (self.broker_id, &self.assignment.replicas);
        self.followers.retain(|id, _| replicas.contains(id));
        for id in replicas.iter().copied().filter(|id| *id != me) {
            // A new leader gives every follower the benefit of one lag period before it is judged.
            let fresh = Follower {
                log_end_offset: -1,
                caught_up_at: now,
                leader_end_at_fetch: -1,
                fetched_at: now,
            };
            self.followers.entry(id).or_insert(fresh);
        }
    }

    /// `min.insync.replicas` of the topic; at least 1.
    pub fn set_min_insync_replicas(&mut self, min_insync_replicas: usize) {
        self.min_insync_replicas = min_insync_replicas.max(1);
        self.advance();
    }

    /// Our own log grew to `log_end_offset`. Returns the high watermark if it moved.
    pub fn appended(&mut self, log_end_offset: i64) -> Option<i64> {
        self.log_end_offset = self.log_end_offset.max(log_end_offset);
        self.advance()
    }

    /// Our own log was cut to `log_end_offset` (a follower only: a leader's log never shrinks).
    pub fn truncated(&mut self, log_end_offset: i64) {
        self.log_end_offset = log_end_offset;
        self.high_watermark = self.high_watermark.min(log_end_offset);
    }

    /// The leader's high watermark, as a fetch response told it. Returns ours if it moved.
    pub fn leader_high_watermark(&mut self, high_watermark: i64) -> Option<i64> {
        self.raise(high_watermark.min(self.log_end_offset))
    }

    /// A follower asked for `offset`, so it holds everything before. Returns the high watermark if it moved.
    pub fn follower_at(&mut self, replica: i32, offset: i64, now: Time) -> Result<Option<i64>, FollowerError> {
        if !self.is_leader() {
            return Err(FollowerError::NotLeader);
        }
        let leader_end = self.log_end_offset;
        let follower = self.followers.get_mut(&replica).ok_or(FollowerError::NotReplica)?;
        if offset >= leader_end {
            follower.caught_up_at = now;
        } else if offset >= follower.leader_end_at_fetch && follower.leader_end_at_fetch >= 0 {
            // It has what we had when it last asked: it keeps pace, one round behind, under a steady load.
            follower.caught_up_at = follower.caught_up_at.max(follower.fetched_at);
        }
        follower.log_end_offset = offset;
        follower.leader_end_at_fetch = leader_end;
        follower.fetched_at = now;
        Ok(self.advance())
    }

    /// The change of the ISR to ask the controller for, if there is one and none is under way.
    ///
    /// A follower joins once it holds everything up to the high watermark and up to the start of our epoch. It leaves
    /// when it has not been caught up for `lag_max_ms` (`replica.lag.time.max.ms`).
    pub fn next_isr_proposal(&mut self, now: Time, lag_max_ms: u64) -> Option<IsrProposal> {
        let Role::Leader { start } = self.role else { return None };
        if self.proposed.is_some() {
            return None;
        }
        let in_sync = |id: &i32| {
            if *id == self.broker_id {
                return true;
            }
            let Some(follower) = self.followers.get(id) else {
                return false;
            };
            if self.assignment.isr.contains(id) {
                follower.log_end_offset >= self.log_end_offset || now.since(follower.caught_up_at) <= lag_max_ms
            } else {
                follower.log_end_offset >= self.high_watermark.max(start)
            }
        };
        let isr: Vec<i32> = self.assignment.replicas.iter().copied().filter(in_sync).collect();
        let same = isr.len() == self.assignment.isr.len() && isr.iter().all(|id| self.assignment.isr.contains(id));
        if same {
            return None;
        }
        self.proposed = Some(isr.clone());
        Some(IsrProposal {
            isr,
            partition_epoch: self.assignment.partition_epoch,
        })
    }

    /// The controller refused the proposal, or its answer was lost. (A commit arrives as an assignment.)
    pub fn isr_proposal_failed(&mut self) -> Option<i64> {
        self.proposed = None;
        self.advance()
    }

    fn advance(&mut self) -> Option<i64> {
        if !self.is_leader() || self.assignment.isr.len() < self.min_insync_replicas {
            return None;
        }
        let proposed = self.proposed.iter().flatten();
        let lowest = self
            .assignment
            .isr
            .iter()
            .chain(proposed)
            .map(|id| self.end_of(*id))
            .min();
        lowest.and_then(|lowest| self.raise(lowest))
    }

    fn end_of(&self, replica: i32) -> i64 {
        if replica == self.broker_id {
            return self.log_end_offset;
        }
        self.followers
            .get(&replica)
            .map_or(-1, |follower| follower.log_end_offset)
    }

    fn raise(&mut self, high_watermark: i64) -> Option<i64> {
        if high_watermark <= self.high_watermark {
            return None;
        }
        self.high_watermark = high_watermark;
        Some(high_watermark)
    }

    /// True while this broker leads the partition.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader { .. })
    }

    /// The epoch of the last assignment; -1 before the first.
    pub fn leader_epoch(&self) -> i32 {
        self.assignment.leader_epoch
    }

    /// The leader that the last assignment names.
    pub fn leader(&self) -> Option<i32> {
        self.assignment.leader
    }

    /// Consumers may read everything below this offset.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// One past the last record of our own replica.
    pub fn log_end_offset(&self) -> i64 {
        self.log_end_offset
    }

    /// True when `acks=all` can be promised: the committed ISR holds at least `min.insync.replicas` members.
    pub fn enough_in_sync(&self) -> bool {
        self.assignment.isr.len() >= self.min_insync_replicas
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: u64 = 30_000;

    fn assignment(leader: i32, leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> Assignment {
        let (replicas, isr) = (vec![1, 2, 3], isr.to_vec());
        Assignment {
            leader: Some(leader),
            leader_epoch,
            partition_epoch,
            replicas,
            isr,
        }
    }

    fn leader_of_three() -> PartitionState {
        let mut state = PartitionState::new(1, 10, 0);
        assert_eq!(
            state.assign(assignment(1, 0, 0, &[1, 2, 3]), Time(0)),
            RoleChange::BecameLeader
        );
        state
    }

    #[test]
    fn a_single_replica_commits_what_it_appends() {
        let mut state = PartitionState::new(1, 0, 0);
        let alone = Assignment {
            leader: Some(1),
            leader_epoch: 0,
            partition_epoch: 0,
            replicas: vec![1],
            isr: vec![1],
        };
        assert_eq!(state.assign(alone, Time(0)), RoleChange::BecameLeader);
        assert_eq!(state.appended(7), Some(7));
        assert_eq!(state.appended(7), None);
        assert_eq!(state.high_watermark(), 7);
    }

    #[test]
    fn a_restarted_single_replica_commits_what_its_log_holds() {
        let mut state = PartitionState::new(1, 42, 0);
        let alone = Assignment {
            leader: Some(1),
            leader_epoch: 3,
            partition_epoch: 5,
            replicas: vec![1],
            isr: vec![1],
        };
        state.assign(alone, Time(0));
        assert_eq!(state.high_watermark(), 42);
    }

    #[test]
    fn a_checkpoint_above_the_recovered_log_is_cut() {
        assert_eq!(PartitionState::new(1, 5, 9).high_watermark(), 5);
    }

    #[test]
    fn the_high_watermark_is_the_lowest_end_in_the_isr() {
        let mut state = leader_of_three();
        assert_eq!(state.appended(20), None);
        assert_eq!(state.follower_at(2, 15, Time(1)), Ok(None));
        assert_eq!(state.follower_at(3, 12, Time(2)), Ok(Some(12)));
        assert_eq!(state.follower_at(3, 20, Time(3)), Ok(Some(15)));
    }

    #[test]
    fn the_high_watermark_waits_for_min_insync_replicas() {
        let mut state = leader_of_three();
        state.set_min_insync_replicas(2);
        state.assign(assignment(1, 0, 1, &[1]), Time(5));
        assert!(!state.enough_in_sync());
        assert_eq!(state.appended(30), None);
        assert_eq!(state.follower_at(2, 30, Time(6)), Ok(None));
        state.assign(assignment(1, 0, 2, &[1, 2]), Time(7));
        assert_eq!(state.high_watermark(), 30);
    }

    #[test]
    fn a_silent_follower_leaves_the_isr_after_the_lag_and_not_before() {
        let mut state = leader_of_three();
        state.appended(11);
        state.follower_at(2, 11, Time(20_000)).unwrap();
        assert_eq!(state.next_isr_proposal(Time(LAG), LAG), None);
        let proposal = state.next_isr_proposal(Time(LAG + 1), LAG).unwrap();
        assert_eq!(
            proposal,
            IsrProposal {
                isr: vec![1, 2],
                partition_epoch: 0
            }
        );
        assert_eq!(state.next_isr_proposal(Time(LAG + 2), LAG), None);
    }

    #[test]
    fn a_follower_that_keeps_pace_one_round_behind_stays_in_sync() {
        let mut state = leader_of_three();
        for round in 0..100_u64 {
            let now = Time(round * 1_000);
            state.appended(10 + 10 * (round as i64 + 1));
            for follower in [2, 3] {
                state.follower_at(follower, 10 + 10 * round as i64, now).unwrap();
            }
            assert_eq!(state.next_isr_proposal(now, LAG), None);
        }
    }

    #[test]
    fn a_shrink_counts_only_once_committed_and_a_growth_at_once() {
        let mut state = leader_of_three();
        state.appended(50);
        state.follower_at(2, 50, Time(40_000)).unwrap();
        state.next_isr_proposal(Time(40_001), LAG).unwrap();
        assert_eq!(state.high_watermark(), 0, "3 is still in the committed ISR");
        state.assign(assignment(1, 0, 1, &[1, 2]), Time(40_002));
        assert_eq!(state.high_watermark(), 50);

        state.follower_at(3, 50, Time(40_003)).unwrap();
        state.next_isr_proposal(Time(40_004), LAG).unwrap();
        state.appended(60);
        state.follower_at(2, 60, Time(40_005)).unwrap();
        assert_eq!(state.high_watermark(), 50, "3 may be elected from now on, so it counts");
        assert_eq!(state.isr_proposal_failed(), Some(60));
    }

    #[test]
    fn a_follower_below_the_start_of_the_epoch_is_not_in_sync() {
        let mut state = PartitionState::new(1, 10, 4);
        state.assign(assignment(1, 2, 2, &[1]), Time(0));
        state.follower_at(2, 9, Time(1)).unwrap();
        assert_eq!(state.next_isr_proposal(Time(2), LAG), None);
        state.follower_at(2, 10, Time(3)).unwrap();
        assert_eq!(state.next_isr_proposal(Time(4), LAG).unwrap().isr, vec![1, 2]);
    }

    #[test]
    fn an_older_assignment_is_ignored() {
        let mut state = PartitionState::new(1, 0, 0);
        state.assign(assignment(2, 5, 9, &[2]), Time(0));
        assert_eq!(state.assign(assignment(1, 4, 8, &[1]), Time(1)), RoleChange::None);
        assert_eq!(state.leader(), Some(2));
    }

    #[test]
    fn a_deposed_leader_refuses_followers_and_takes_the_new_leaders_watermark() {
        let mut state = leader_of_three();
        assert_eq!(
            state.assign(assignment(2, 1, 1, &[2, 3]), Time(1)),
            RoleChange::BecameFollower
        );
        assert_eq!(state.follower_at(3, 10, Time(2)), Err(FollowerError::NotLeader));
        assert_eq!(state.leader_high_watermark(99), Some(10), "never beyond our own log");
        state.truncated(6);
        assert_eq!((state.high_watermark(), state.log_end_offset()), (6, 6));
    }

    #[test]
    fn a_stranger_is_no_follower() {
        assert_eq!(
            leader_of_three().follower_at(9, 0, Time(0)),
            Err(FollowerError::NotReplica)
        );
    }
}
