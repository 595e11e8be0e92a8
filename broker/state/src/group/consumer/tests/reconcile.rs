//! Single steps of the reconciliation.

use super::super::member::Member;
use super::super::reconcile::{MustRejoin, Reconciliation};
use super::*;

const TOPIC: Uuid = Uuid([1; 16]);
const OTHER: Uuid = Uuid([2; 16]);

fn set(partitions: &[i32]) -> Partitions {
    Partitions::from([(TOPIC, partitions.iter().copied().collect())])
}

fn since(partitions: &[(i32, i32)]) -> EpochPartitions {
    EpochPartitions::from([(TOPIC, partitions.iter().copied().collect())])
}

fn member(epoch: i32, state: MemberState, assigned: &[(i32, i32)]) -> Member {
    Member {
        epoch,
        previous_epoch: epoch,
        state,
        assigned: since(assigned),
        ..Member::new("a".into())
    }
}

fn step(member: &Member, target: (i32, &Partitions), owned: Option<&Partitions>, taken: &[i32]) -> Member {
    let subscribed = BTreeSet::from([TOPIC]);
    let reconciliation = Reconciliation {
        target_epoch: target.0,
        target: target.1,
        subscribed: &subscribed,
        subscription_changed: false,
        owned,
        is_free: &|_, partition| !taken.contains(&partition),
    };
    reconciliation.step(member).unwrap()
}

#[test]
fn new_partitions_carry_the_epoch_of_their_target_and_old_ones_their_own() {
    let next = step(
        &member(3, MemberState::Stable, &[(0, 2)]),
        (4, &set(&[0, 1])),
        None,
        &[0],
    );
    assert_eq!(
        (next.epoch, next.previous_epoch, next.state),
        (4, 3, MemberState::Stable)
    );
    assert_eq!(next.assigned, since(&[(0, 2), (1, 4)]));
}

#[test]
fn what_others_have_is_waited_for_in_the_new_epoch() {
    let next = step(
        &member(3, MemberState::Stable, &[(0, 2)]),
        (4, &set(&[0, 1, 2])),
        None,
        &[0, 1],
    );
    assert_eq!((next.epoch, next.state), (4, MemberState::UnreleasedPartitions));
    assert_eq!(next.assigned, since(&[(0, 2), (2, 4)]));
    let later = step(&next, (4, &set(&[0, 1, 2])), None, &[0]);
    assert_eq!((later.epoch, later.state), (4, MemberState::Stable));
    assert_eq!(later.assigned, since(&[(0, 2), (1, 4), (2, 4)]));
}

#[test]
fn a_member_that_has_to_give_up_gets_nothing_new() {
    let next = step(
        &member(3, MemberState::Stable, &[(0, 2), (1, 2)]),
        (4, &set(&[0, 2])),
        None,
        &[0, 1],
    );
    assert_eq!((next.epoch, next.state), (3, MemberState::UnrevokedPartitions));
    assert_eq!(next.assigned, since(&[(0, 2)]));
    assert_eq!(next.pending_revocation, since(&[(1, 2)]));
    // It has not said anything, or still owns it.
    assert!(step(&next, (4, &set(&[0, 2])), None, &[0, 1]).same_assignment(&next));
    assert!(step(&next, (4, &set(&[0, 2])), Some(&set(&[0, 1])), &[0, 1]).same_assignment(&next));
    let done = step(&next, (4, &set(&[0, 2])), Some(&set(&[0])), &[0, 1]);
    assert_eq!((done.epoch, done.state), (4, MemberState::Stable));
    assert_eq!(done.assigned, since(&[(0, 2), (2, 4)]));
    assert!(done.pending_revocation.is_empty());
}

#[test]
fn what_it_reports_not_to_own_needs_no_giving_up() {
    let next = step(
        &member(3, MemberState::Stable, &[(0, 2), (1, 2)]),
        (4, &set(&[0])),
        Some(&set(&[0])),
        &[0, 1],
    );
    assert_eq!((next.epoch, next.state), (4, MemberState::Stable));
}

#[test]
fn what_was_to_be_given_up_and_is_wanted_again_is_given_back() {
    let mut waiting = member(3, MemberState::UnrevokedPartitions, &[(0, 2)]);
    waiting.pending_revocation = since(&[(1, 2)]);
    let next = step(&waiting, (5, &set(&[0, 1])), Some(&set(&[0])), &[0, 1]);
    assert_eq!((next.epoch, next.state), (5, MemberState::Stable));
    assert_eq!(next.assigned, since(&[(0, 2), (1, 5)]));
}

#[test]
fn an_older_target_does_not_bring_back_what_is_not_subscribed_to() {
    let target = Partitions::from([(TOPIC, BTreeSet::from([0])), (OTHER, BTreeSet::from([0]))]);
    let next = step(&member(3, MemberState::Stable, &[(0, 2)]), (4, &target), None, &[0]);
    assert_eq!(next.assigned, since(&[(0, 2)]));
    assert_eq!(next.state, MemberState::Stable);
}

#[test]
fn a_state_of_another_version_starts_afresh() {
    let strange = member(3, MemberState::Unknown, &[(0, 2)]);
    let (subscribed, target, nothing) = (BTreeSet::from([TOPIC]), set(&[0]), Partitions::new());
    let mut reconciliation = Reconciliation {
        target_epoch: 4,
        target: &target,
        subscribed: &subscribed,
        subscription_changed: false,
        owned: None,
        is_free: &|_, _| true,
    };
    assert_eq!(reconciliation.step(&strange), Err(MustRejoin));
    reconciliation.owned = Some(&target);
    assert_eq!(reconciliation.step(&strange), Err(MustRejoin));
    reconciliation.owned = Some(&nothing);
    assert_eq!(reconciliation.step(&strange).unwrap().epoch, 4);
}
