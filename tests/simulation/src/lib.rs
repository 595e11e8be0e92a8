//! Consumers and the coordinator of their group in one room: the minds that ship, on a simulated wire, in virtual time.
//!
//! The client's membership (`ottla-client-state`) and the broker's coordinator (`ottla-broker-state`) meet here without
//! tokio, sockets, files or a clock. A seed decides everything: the group, its settings, when which message arrives or is
//! lost, who dies, stops, goes on, when the coordinator crashes and how much of its log is left. What is promised is checked
//! at every step:
//!
//! - no partition belongs to two members at a time as long as the coordinator takes both for members, and none is given to
//!   two members in one generation;
//! - a committed offset never goes back, and every record before it was processed by somebody;
//! - a record is processed again only if whoever processed it was cut off, killed or fenced before it could commit;
//! - an acknowledged commit outlives every crash of the coordinator, and a shard that reads the log knows what the living
//!   one has written;
//! - every request that was promised an answer gets one, and only one;
//! - once the faults are over, the group comes to rest and every partition is read to its end, within the session timeout
//!   and the rebalance timeouts; after that one member joins, leaves or dies, and the group is at rest again within two
//!   heartbeats, or a session timeout and two heartbeats, and one more for each generation in which a cooperative member
//!   asked for its assignment after another had given up its partitions already.

#![allow(clippy::expect_used, clippy::panic)] // a broken promise must stop the schedule

mod application;
mod coordinator;
mod coverage;
mod driver;
mod faults;
mod judge;
mod network;
mod offsets;
mod plan;
mod process;
mod records;
mod wire;
mod world;

pub use coverage::Coverage;

/// Runs the schedule of a seed, and adds what it reached to `coverage`. Panics if a promise is broken. With `tells` it
/// prints what happens.
pub fn run(seed: u64, tells: bool, coverage: &mut Coverage) {
    let mut world = world::World::new(seed, tells);
    while world.faults_left > 0 {
        let until = world.now + 1_000;
        while world.step(until) {}
    }
    let rest = world.now + world.plan.fault_every_ms;
    while world.step(rest) {}
    world.finish();
    let mut reached = std::mem::take(&mut world.coverage);
    reached.schedule(
        world.plan.kind,
        world.topics.processed,
        world.topics.repeated,
        world.now,
    );
    coverage.merge(reached);
}
