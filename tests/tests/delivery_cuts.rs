//! The wire between a producer and its broker breaks, at every byte of a request and of its answer, and answers come twice,
//! late, in the wrong order or not at all.
//!
//! An idempotent producer writes each record once and in order through all of it; a producer that only retries loses none.
//! Counted record by record through librdkafka, on Ottla's broker and on Apache Kafka 4.3.1.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ottla_protocol::ApiKey;
use ottla_tests::delivery::{Stage, Writer};
use ottla_tests::history::Verdict;
use ottla_tests::peer::broker_process::Kind;
use ottla_tests::proxy::{Action, Rule, Side};
use ottla_tests::rng::Rng;

const AT_LEAST_ONCE: [(&str, &str); 2] = [("enable.idempotence", "false"), ("acks", "all")];
const REQUEST_TIMEOUT_MS: u64 = 300;

fn long() -> bool {
    std::env::var_os("OTTLA_LONG").is_some()
}

fn produce(side: Side, after: u64, action: Action) -> Rule {
    Rule {
        api: ApiKey::Produce,
        side,
        after,
        action,
    }
}

fn tell(what: &str, faults: u64, verdict: &Verdict) {
    println!("| {what} | {faults} |{}", verdict.row());
}

#[test]
fn a_cut_at_any_byte_leaves_one_copy_in_order_on_ottla() {
    let verdict = cut_everywhere(Kind::Ottla, "cuts-ottla-idempotent", &[]);
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!(verdict.acked, verdict.read, "{verdict:?}");
}

#[test]
fn a_cut_at_any_byte_leaves_one_copy_in_order_on_apache_kafka() {
    let verdict = cut_everywhere(Kind::Apache, "cuts-apache-idempotent", &[]);
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!(verdict.acked, verdict.read, "{verdict:?}");
}

#[test]
fn retries_without_idempotence_lose_nothing_at_any_cut_on_ottla() {
    at_least_once(Kind::Ottla, "cuts-ottla-retries");
}

#[test]
fn retries_without_idempotence_lose_nothing_at_any_cut_on_apache_kafka() {
    at_least_once(Kind::Apache, "cuts-apache-retries");
}

fn at_least_once(kind: Kind, name: &str) {
    let verdict = cut_everywhere(kind, name, &AT_LEAST_ONCE);
    assert!(verdict.is_honest(), "{verdict:?}");
    assert_eq!(verdict.failed + verdict.refused, 0, "{verdict:?}");
    // The harness sees what it is to see: an answer that was cut leaves two copies.
    assert!(verdict.duplicated > 0, "{verdict:?}");
}

/// For each number of bytes, of a request and of an answer: two requests leave, and the first (or the second) is cut after
/// so many bytes.
fn cut_everywhere(kind: Kind, name: &str, properties: &[(&str, &str)]) -> Verdict {
    let stage = Stage::start(kind, name).unwrap();
    let mut writer = stage.writer("cuts", properties).unwrap();
    // The first round may find a leader that does not know yet that it is one.
    writer.round(4).unwrap();
    let before = stage.proxy.counts();
    writer.round(4).unwrap();
    let usual = stage.proxy.counts();
    let requests = |counts: &ottla_tests::proxy::Counts| counts.frames_of(Side::Request, ApiKey::Produce);
    assert_eq!(requests(&usual) - requests(&before), 2, "two records a batch");
    let (mut cuts, mut sizes) = (0, vec![]);
    for side in [Side::Request, Side::Response] {
        let size = usual.size_of(side, ApiKey::Produce);
        sizes.push(size);
        for after in 0..if long() { 2 } else { 1 } {
            for bytes in 0..=size {
                one_cut(&stage, &mut writer, produce(side, after, Action::CutAfter(bytes)));
                cuts += 1;
            }
        }
    }
    stage.proxy.wait("the last cut", |counts| counts.cut == cuts).unwrap();
    let verdict = writer.end().unwrap();
    tell(&format!("{kind:?}: {name}, frames of {sizes:?} bytes"), cuts, &verdict);
    verdict
}

fn one_cut(stage: &Stage, writer: &mut Writer<'_>, rule: Rule) {
    // An answer opens the way for two requests at once.
    writer.round(2).unwrap();
    stage.proxy.arm(rule);
    writer.round(4).unwrap();
    assert_eq!(stage.proxy.counts().armed, 0, "{rule:?}");
}

#[test]
fn strange_answers_leave_one_copy_in_order_on_ottla() {
    strange(Kind::Ottla, "strange-ottla");
}

#[test]
fn strange_answers_leave_one_copy_in_order_on_apache_kafka() {
    strange(Kind::Apache, "strange-apache");
}

/// Requests and answers that are dropped, doubled, swapped, late, or later than `request.timeout.ms`.
fn strange(kind: Kind, name: &str) {
    let stage = Stage::start(kind, name).unwrap();
    let mut rng = Rng::announced(name);
    let late = Action::Delay(Duration::from_millis(REQUEST_TIMEOUT_MS / 6));
    let too_late = Action::Delay(Duration::from_millis(REQUEST_TIMEOUT_MS * 4 / 3));
    #[rustfmt::skip]
    let faults = [
        ("answers-dropped", Side::Response, Action::Drop),
        ("answers-doubled", Side::Response, Action::Duplicate),
        ("answers-swapped", Side::Response, Action::Swap),
        ("answers-late", Side::Response, late),
        ("answers-too-late", Side::Response, too_late),
        ("requests-dropped", Side::Request, Action::Drop),
        ("requests-doubled", Side::Request, Action::Duplicate),
        ("requests-swapped", Side::Request, Action::Swap),
        ("requests-too-late", Side::Request, too_late),
        ("requests-held", Side::Request, Action::Hold(60)),
    ];
    for (fault, side, action) in faults {
        let verdict = rounds(&stage, &mut rng, fault, (side, action), true);
        tell(&format!("{kind:?}: {fault}, idempotent"), rounds_of_each(), &verdict);
        assert!(verdict.is_clean(), "{fault}: {verdict:?}");
        assert_eq!(verdict.acked, verdict.read, "{fault}: {verdict:?}");
    }
    for (fault, side, action) in faults {
        let is_control = fault == "answers-dropped";
        if !is_control && !long() {
            continue;
        }
        let verdict = rounds(&stage, &mut rng, &format!("{fault}-retries"), (side, action), false);
        tell(&format!("{kind:?}: {fault}, only retries"), rounds_of_each(), &verdict);
        assert!(verdict.is_honest(), "{fault}: {verdict:?}");
        // The same rounds without idempotence: this is what the zeros above are worth.
        assert!(verdict.duplicated > 0 || !is_control, "{verdict:?}");
    }
}

fn rounds_of_each() -> u64 {
    if long() { 30 } else { 4 }
}

fn rounds(stage: &Stage, rng: &mut Rng, topic: &str, (side, action): (Side, Action), idempotent: bool) -> Verdict {
    let timeout = REQUEST_TIMEOUT_MS.to_string();
    let mut properties = vec![("request.timeout.ms", timeout.as_str())];
    if !idempotent {
        properties.extend(AT_LEAST_ONCE);
    }
    let mut writer = stage.writer(topic, &properties).unwrap();
    for round in 0..rounds_of_each() {
        writer.round(2).unwrap();
        let before = stage.proxy.counts();
        stage.proxy.arm(produce(side, rng.below(3), action));
        let outstanding = writer.send(8).unwrap();
        let happened = |counts: &ottla_tests::proxy::Counts| counts.faults() > before.faults();
        if matches!(action, Action::Hold(_)) && round % 2 == 0 {
            stage.proxy.wait("holding", happened).unwrap();
            // Random moments: some before the client hangs up, some while it tries again, some after.
            std::thread::sleep(Duration::from_millis(rng.below(REQUEST_TIMEOUT_MS * 3 / 2)));
            stage.proxy.release();
        }
        writer.settle(outstanding).unwrap();
        stage.proxy.wait("the fault", happened).unwrap();
        // In the other rounds the copy comes after everything else was acknowledged.
        stage.proxy.release();
    }
    writer.end().unwrap()
}

#[test]
fn a_late_copy_of_a_batch_given_up_is_never_behind_its_successors_on_ottla() {
    given_up(Kind::Ottla, "given-up-ottla");
}

#[test]
fn a_late_copy_of_a_batch_given_up_is_never_behind_its_successors_on_apache_kafka() {
    given_up(Kind::Apache, "given-up-apache");
}

/// A request is held, and nobody can connect anew, until `delivery.timeout.ms` is over: its batch and those behind it are
/// given up, as no retry can leave. Others follow. Then it arrives.
fn given_up(kind: Kind, name: &str) {
    let stage = Stage::start(kind, name).unwrap();
    let mut rng = Rng::announced(name);
    let timeouts = [
        // The second batch of a round is not full: it leaves by this.
        ("linger.ms", "50"),
        ("request.timeout.ms", "200"),
        // Longer than a machine stands still: what is to be held has to leave.
        ("delivery.timeout.ms", "3000"),
    ];
    let mut writer = stage.writer("given-up", &timeouts).unwrap();
    let copies = if long() { 40 } else { 8 };
    for _ in 0..copies {
        // Under load even this may take longer than that; then it is one more fate to be judged.
        writer.round(2).unwrap();
        let (before, passing) = (stage.proxy.counts(), rng.below(2));
        stage
            .proxy
            .arm(produce(Side::Request, passing, Action::HoldAndRefuse(rng.index(100))));
        let outstanding = writer.send(4).unwrap();
        let numbers: Vec<u64> = outstanding.iter().map(|(number, _)| *number).collect();
        stage.proxy.wait("holding", |counts| counts.held > before.held).unwrap();
        writer.settle(outstanding).unwrap();
        // Two records a batch: what was held, and what stood behind it. The batch before it may have arrived or not.
        for number in &numbers[2 * passing as usize..] {
            assert!(writer.has_failed(*number), "{number} of {numbers:?} arrived");
        }
        stage.proxy.admit();
        let after = writer.send(2 + rng.below(3)).unwrap();
        if rng.below(2) == 0 {
            writer.settle(after).unwrap();
            stage.proxy.release();
        } else {
            stage.proxy.release();
            writer.settle(after).unwrap();
        }
        stage
            .proxy
            .wait("the late copy", |counts| counts.released == counts.held)
            .unwrap();
    }
    let verdict = writer.end().unwrap();
    tell(&format!("{kind:?}: given up, then late"), copies, &verdict);
    assert!(verdict.is_clean(), "{verdict:?}");
    // In each round some of it was on its way when it was given up: of that nobody can be certain.
    assert!(verdict.failed >= copies as usize, "{verdict:?}");
}
