//! What a consumer reads and how far it is: the rules, one by one.

use super::*;

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn state(policy: ResetPolicy) -> SubscriptionState {
    SubscriptionState::new(policy, Backoff::new(100, 1000, 1))
}

/// One partition, placed at offset 10.
fn placed() -> (SubscriptionState, u64) {
    let mut state = state(ResetPolicy::Earliest);
    state.assign(&[tp(0)]);
    state.seek(&tp(0), 10);
    let fence = fetches(&state)[0].fence;
    (state, fence)
}

fn brought(next_offset: i64, bytes: usize, high_watermark: i64) -> Brought {
    Brought {
        next_offset,
        last_epoch: (bytes > 0).then_some(3),
        bytes,
        high_watermark,
    }
}

fn fetches(state: &SubscriptionState) -> Vec<FetchTarget> {
    state.fetchable(|_| true, 1000, Time::ZERO)
}

#[test]
fn a_new_partition_starts_where_the_policy_says() {
    let mut state = state(ResetPolicy::Latest);
    state.assign(&[tp(0)]);
    assert!(fetches(&state).is_empty());
    let reset = state.next_reset(|_| true, Time::ZERO).unwrap();
    assert_eq!((reset.target, &reset.partition), (Target::Latest, &tp(0)));
    assert_eq!(state.next_reset(|_| true, Time::ZERO), None, "asked once");
    state.handle_offset(&tp(0), reset.fence, 42);
    assert_eq!((state.position(&tp(0)), fetches(&state)[0].offset), (Some(42), 42));
}

#[test]
fn no_fetch_waits_for_news_while_a_full_partition_would_be_left_out() {
    let mut state = state(ResetPolicy::Earliest);
    state.assign(&[tp(0), tp(1)]);
    state.seek(&tp(0), 10);
    state.seek(&tp(1), 10);
    let targets = fetches(&state);
    assert_eq!(targets.len(), 2);
    let (full, at_end) = (targets[0].fence, targets[1].fence);
    assert!(state.handle_fetched(&tp(0), full, brought(20, 1000, 100)));
    assert_eq!(
        fetches(&state).len(),
        1,
        "nothing is known of the other partition's end"
    );
    assert!(state.handle_fetched(&tp(1), at_end, brought(10, 0, 10)));
    assert!(fetches(&state).is_empty(), "the other partition is at its end");
    state.set_paused(&tp(0), true);
    assert_eq!(fetches(&state).len(), 1, "a paused partition is left out anyway");
    state.set_paused(&tp(0), false);
    assert!(state.advance(&tp(0), full, 20, 3, 1000));
    assert_eq!(fetches(&state).len(), 2, "room for both");
}

#[test]
fn a_partition_without_a_leader_is_not_looked_up() {
    let mut state = state(ResetPolicy::Latest);
    state.assign(&[tp(0), tp(1)]);
    let reset = state
        .next_reset(|partition| partition.partition == 1, Time::ZERO)
        .unwrap();
    assert_eq!(reset.partition, tp(1));
    assert_eq!(state.next_reset(|partition| partition.partition == 1, Time::ZERO), None);
}

#[test]
fn without_a_policy_the_application_must_say() {
    let mut state = state(ResetPolicy::None);
    state.assign(&[tp(0)]);
    assert_eq!(state.next_reset(|_| true, Time::ZERO), None);
    assert_eq!(state.without_position().collect::<Vec<_>>(), [&tp(0)]);
    assert!(state.seek(&tp(0), 3));
    assert_eq!(state.without_position().count(), 0);
}

#[test]
fn a_position_moves_only_when_records_are_handed_over() {
    let (mut state, fence) = placed();
    assert!(state.handle_fetched(&tp(0), fence, brought(20, 500, 100)));
    assert_eq!(state.position(&tp(0)), Some(10));
    assert_eq!(fetches(&state)[0].offset, 20, "the next fetch runs ahead");
    assert!(state.advance(&tp(0), fence, 15, 3, 250));
    assert_eq!(state.position(&tp(0)), Some(15));
    assert_eq!(state.high_watermark(&tp(0)), Some(100));
}

#[test]
fn enough_in_the_buffer_stops_the_fetching_of_that_partition() {
    let (mut state, fence) = placed();
    state.handle_fetched(&tp(0), fence, brought(20, 1000, 100));
    assert!(fetches(&state).is_empty());
    state.advance(&tp(0), fence, 20, 3, 1000);
    assert_eq!(fetches(&state).len(), 1);
}

#[test]
fn after_a_seek_everything_older_is_stale() {
    let (mut state, fence) = placed();
    state.seek(&tp(0), 5);
    assert!(!state.handle_fetched(&tp(0), fence, brought(20, 10, 100)));
    assert!(!state.advance(&tp(0), fence, 20, 3, 10));
    assert_eq!(
        state.handle_out_of_range(&tp(0), fence, 10, Time::ZERO),
        OutOfRange::Stale
    );
    assert_eq!((state.position(&tp(0)), fetches(&state)[0].offset), (Some(5), 5));
}

#[test]
fn a_seek_wins_over_a_look_up_on_its_way() {
    let mut state = state(ResetPolicy::Earliest);
    state.assign(&[tp(0)]);
    let reset = state.next_reset(|_| true, Time::ZERO).unwrap();
    state.seek(&tp(0), 7);
    state.handle_offset(&tp(0), reset.fence, 0);
    assert_eq!(state.position(&tp(0)), Some(7));
}

#[test]
fn a_position_outside_the_log_follows_the_policy() {
    let (mut state, fence) = placed();
    let answer = state.handle_out_of_range(&tp(0), fence, 10, Time::ZERO);
    assert_eq!(answer, OutOfRange::Reset(Target::Earliest));
    assert!(state.next_reset(|_| true, Time::ZERO).is_some());
}

#[test]
fn records_already_buffered_are_handed_over_before_a_reset() {
    let (mut state, fence) = placed();
    state.handle_fetched(&tp(0), fence, brought(20, 100, 30));
    assert_eq!(
        state.handle_out_of_range(&tp(0), fence, 20, Time::ZERO),
        OutOfRange::Stale
    );
    assert!(state.advance(&tp(0), fence, 20, 3, 100), "still current");
    assert_eq!(
        state.handle_out_of_range(&tp(0), fence, 20, Time(2000)),
        OutOfRange::Reset(Target::Earliest)
    );
}

#[test]
fn without_a_policy_a_position_outside_the_log_is_the_applications_business() {
    let mut state = state(ResetPolicy::None);
    state.assign(&[tp(0)]);
    state.seek(&tp(0), 10);
    let fence = fetches(&state)[0].fence;
    assert_eq!(
        state.handle_out_of_range(&tp(0), fence, 10, Time::ZERO),
        OutOfRange::Fail
    );
    assert!(fetches(&state).is_empty());
}

#[test]
fn a_paused_partition_keeps_its_place_and_is_not_fetched() {
    let (mut state, _) = placed();
    assert!(state.set_paused(&tp(0), true));
    assert!(fetches(&state).is_empty() && state.is_paused(&tp(0)));
    state.set_paused(&tp(0), false);
    assert_eq!(fetches(&state)[0].offset, 10);
}

#[test]
fn dropped_data_is_fetched_again() {
    let (mut state, fence) = placed();
    state.handle_fetched(&tp(0), fence, brought(20, 1000, 100));
    state.handle_dropped(&tp(0), fence);
    assert!(!state.is_current(&tp(0), fence));
    assert_eq!(fetches(&state)[0].offset, 10);
}

#[test]
fn a_partition_on_the_wire_is_not_asked_for_twice() {
    let (mut state, _) = placed();
    let targets = fetches(&state);
    state.handle_fetch_sent(&targets);
    assert!(fetches(&state).is_empty());
    state.handle_fetch_ended(&targets);
    assert_eq!(fetches(&state).len(), 1);
}

#[test]
fn a_failed_fetch_waits_and_then_asks_for_the_same() {
    let (mut state, fence) = placed();
    state.handle_fetch_failed(&tp(0), fence, Time::ZERO);
    assert!(fetches(&state).is_empty());
    let due = state.wake_at(Time::ZERO).unwrap();
    assert_eq!(state.fetchable(|_| true, 1000, due)[0].offset, 10);
}

#[test]
fn a_failed_look_up_waits_and_is_tried_again_without_holding_up_the_others() {
    let mut state = state(ResetPolicy::Earliest);
    state.assign(&[tp(0), tp(1)]);
    state.seek(&tp(1), 1);
    assert!(fetches(&state).is_empty(), "the first look-up is worth waiting for");
    let reset = state.next_reset(|_| true, Time::ZERO).unwrap();
    state.handle_reset_failed(&tp(0), reset.fence, Time::ZERO);
    assert_eq!(fetches(&state).len(), 1);
    assert_eq!(state.next_reset(|_| true, Time::ZERO), None);
    assert!(state.next_reset(|_| true, Time(1000)).is_some());
}

#[test]
fn partitions_assigned_again_keep_their_place() {
    let (mut state, fence) = placed();
    state.assign(&[tp(0), tp(1)]);
    assert!(state.is_current(&tp(0), fence));
    assert_eq!(state.position(&tp(0)), Some(10));
    state.assign(&[tp(1)]);
    assert_eq!((state.position(&tp(0)), state.assigned().len()), (None, 1));
}

#[test]
fn a_topic_created_anew_is_read_from_its_beginning_also_under_latest() {
    let mut state = state(ResetPolicy::Latest);
    state.assign(&[tp(0)]);
    state.seek(&tp(0), 10);
    let fence = fetches(&state)[0].fence;
    assert_eq!(state.handle_recreated("orders"), [tp(0)]);
    assert!(!state.is_current(&tp(0), fence));
    assert_eq!(
        state.next_reset(|_| true, Time::ZERO).map(|reset| reset.target),
        Some(Target::Earliest)
    );
    assert!(state.handle_recreated("other").is_empty());
}

#[test]
fn a_fetch_tells_the_epoch_of_the_record_before_it() {
    let (mut state, fence) = placed();
    assert_eq!(
        fetches(&state)[0].last_epoch,
        None,
        "nobody knows what came before a seek"
    );
    state.handle_fetched(&tp(0), fence, brought(20, 100, 100));
    assert_eq!(fetches(&state)[0].last_epoch, Some(3));
    state.handle_fetched(&tp(0), fence, brought(20, 0, 100));
    assert_eq!(fetches(&state)[0].last_epoch, Some(3), "no news");
    assert_eq!(state.position_epoch(&tp(0)), None);
    state.advance(&tp(0), fence, 15, 2, 50);
    assert_eq!(state.position_epoch(&tp(0)), Some(2));
    state.handle_dropped(&tp(0), fence);
    assert_eq!(
        (fetches(&state)[0].offset, fetches(&state)[0].last_epoch),
        (15, Some(2))
    );
    state.seek_with_epoch(&tp(0), 40, Some(7));
    assert_eq!(
        (fetches(&state)[0].offset, fetches(&state)[0].last_epoch),
        (40, Some(7))
    );
    state.seek_with_epoch(&tp(0), 40, Some(-1));
    assert_eq!(fetches(&state)[0].last_epoch, None);
}

#[test]
fn a_log_that_was_cut_is_read_on_from_where_it_parts() {
    let (mut state, fence) = placed();
    state.handle_fetched(&tp(0), fence, brought(20, 100, 100));
    let diverging = |state: &mut SubscriptionState, now| state.handle_diverging(&tp(0), fence, 20, (2, 12), now);
    assert_eq!(
        diverging(&mut state, Time::ZERO),
        Truncated::Stale,
        "first what is buffered"
    );
    assert!(fetches(&state).is_empty());
    state.advance(&tp(0), fence, 20, 3, 100);
    assert_eq!(diverging(&mut state, Time(2000)), Truncated::Moved(12));
    assert_eq!(
        (state.position(&tp(0)), state.position_epoch(&tp(0))),
        (Some(12), Some(2))
    );
    let next = state.fetchable(|_| true, 1000, Time(5000));
    assert_eq!(
        (next[0].offset, next[0].last_epoch),
        (12, Some(2)),
        "which may part again"
    );
    assert!(!state.is_current(&tp(0), fence), "what is still on the wire is stale");
    let fence = next[0].fence;
    let lie = state.handle_diverging(&tp(0), fence, 12, (2, 500), Time(5000));
    assert_eq!(lie, Truncated::Moved(12), "never forwards");
}

#[test]
fn without_a_policy_a_log_that_was_cut_is_the_applications_business() {
    let mut state = state(ResetPolicy::None);
    state.assign(&[tp(0)]);
    state.seek_with_epoch(&tp(0), 10, Some(5));
    let fence = fetches(&state)[0].fence;
    let diverging = |state: &mut SubscriptionState| state.handle_diverging(&tp(0), fence, 10, (4, 8), Time::ZERO);
    assert_eq!(diverging(&mut state), Truncated::Fail);
    assert!(fetches(&state).is_empty());
    assert_eq!(state.position(&tp(0)), Some(10), "for the application to see");
    assert_eq!(diverging(&mut state), Truncated::Stale, "told once");
}

#[test]
fn a_partition_of_a_group_starts_where_the_group_has_committed_and_else_by_the_policy() {
    let mut state = state(ResetPolicy::Latest).from_committed();
    state.assign(&[tp(0), tp(1), tp(2)]);
    assert!(fetches(&state).is_empty());
    assert_eq!(
        state.next_reset(|_| true, Time::ZERO),
        None,
        "the policy has no say yet"
    );
    let wanted = state.next_committed(Time::ZERO);
    assert_eq!(wanted.len(), 3);
    assert!(state.next_committed(Time::ZERO).is_empty(), "asked once");
    state.handle_committed(&wanted[0].0, wanted[0].1, Some((7, Some(2))));
    state.handle_committed(&wanted[1].0, wanted[1].1, None);
    state.handle_committed_failed(&wanted[2].0, wanted[2].1, Time::ZERO);
    assert_eq!(
        (state.position(&tp(0)), state.position_epoch(&tp(0))),
        (Some(7), Some(2))
    );
    assert_eq!(
        state
            .next_reset(|_| true, Time::ZERO)
            .map(|reset| (reset.partition, reset.target)),
        Some((tp(1), Target::Latest))
    );
    assert_eq!(state.standing(&tp(2)), Some(Standing::AwaitsCommitted));
    assert_eq!(state.next_committed(Time(1000)).len(), 1, "after the backoff");
}

#[test]
fn a_seek_wins_over_a_committed_offset_on_its_way() {
    let mut state = state(ResetPolicy::Latest).from_committed();
    state.assign(&[tp(0)]);
    let wanted = state.next_committed(Time::ZERO);
    state.seek(&tp(0), 3);
    state.handle_committed(&tp(0), wanted[0].1, Some((7, Some(2))));
    assert_eq!(state.position(&tp(0)), Some(3));
}

#[test]
fn a_partition_that_is_given_up_is_not_fetched_and_what_is_buffered_of_it_is_stale() {
    let (mut state, fence) = placed();
    state.handle_fetched(&tp(0), fence, brought(20, 500, 100));
    assert!(state.handle_revoked(&tp(0)));
    assert!(fetches(&state).is_empty() && state.is_revoked(&tp(0)));
    assert!(!state.is_current(&tp(0), fence));
    assert_eq!(state.position(&tp(0)), Some(10), "the position stays, to be committed");
    let before = state.assignment_of(&tp(0));
    state.assign(&[]);
    state.assign(&[tp(0)]);
    assert_ne!(
        state.assignment_of(&tp(0)),
        before,
        "assigned again it is another assignment"
    );
    assert!(!state.is_revoked(&tp(0)));
}
