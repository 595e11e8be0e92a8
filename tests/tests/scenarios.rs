//! One set of scenarios, told by every language, on both brokers: all transcripts are the same. `tests/scenarios/README.md` says how.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use ottla_tests::peer::broker_process::Kind;
use ottla_tests::scenario::judge::{Scenario, difference, hear};
use ottla_tests::scenario::runners::{RUNNERS, Runner};
use ottla_tests::scenario::stage::Stage;
use ottla_tests::scenario::ways::Ways;
use ottla_tests::secured::SecuredBroker;

#[test]
fn every_language_tells_the_same_story_on_ottla() {
    tell_all(Kind::Ottla);
}

#[test]
fn every_language_tells_the_same_story_on_apache_kafka() {
    tell_all(Kind::Apache);
}

#[test]
fn every_language_comes_in_and_stays_out_alike_on_secured_listeners_of_ottla() {
    tell_secured(Kind::Ottla);
}

#[test]
fn every_language_comes_in_and_stays_out_alike_on_secured_listeners_of_apache_kafka() {
    tell_secured(Kind::Apache);
}

#[test]
fn a_runner_that_is_missing_or_ends_early_or_tells_otherwise_is_found_out() {
    let stage = Stage::start(Kind::Ottla, "scenarios-found-out").unwrap();
    let scenarios = Scenario::all().unwrap();
    let one: Vec<&Scenario> = scenarios.iter().take(1).collect();
    let told = |name, command| tell(&stage, &Runner { name, command }, &one, false).join("\n");
    assert!(told("missing", || Err("is not built".to_owned())).contains("missing: is not built"));
    assert!(told("absent", || Ok(Command::new("/no/such/program"))).contains("absent does not start"));
    let early = told("early", || Ok(Command::new("false")));
    assert!(early.contains("early ended with exit status: 1"), "{early}");
    assert!(early.contains("not told"), "{early}");
    // It ends well, and has told nothing.
    let silent = told("silent", || Ok(Command::new("true")));
    assert!(
        !silent.contains("ended with") && silent.contains("not told"),
        "{silent}"
    );
}

#[test]
fn every_scenario_says_what_it_proves_and_what_it_needs() {
    for scenario in Scenario::all().unwrap() {
        let stem = &scenario.stem;
        let title = scenario.text.lines().next().unwrap_or_default();
        assert!(title.starts_with("# ") && title.ends_with('.'), "{stem}: {title:?}");
        let asks = ["stage fault ", "stage freeze", "stage thaw"];
        let asked = scenario
            .text
            .lines()
            .any(|line| asks.iter().any(|words| line.starts_with(words)));
        assert_eq!(!scenario.fits(Kind::Apache), asked, "{stem}: needs faults, or does not");
    }
}

fn tell_all(kind: Kind) {
    let is_author = std::env::var_os("UPDATE").is_some();
    if is_author && kind == Kind::Apache {
        println!("The expected lines are written anew on Ottla's broker.");
        return;
    }
    let scenarios = Scenario::all().unwrap();
    let told: Vec<&Scenario> = scenarios
        .iter()
        .filter(|scenario| scenario.fits(kind) && is_chosen("OTTLA_SCENARIO", &scenario.stem))
        .collect();
    let stage = Stage::start(kind, "scenarios").unwrap();
    tell_by_all(&stage, &told, is_author);
}

/// The expected lines of these are written by hand.
fn tell_secured(kind: Kind) {
    let broker = SecuredBroker::start(kind, "scenarios-secured", &["auto.create.topics.enable=false"]).unwrap();
    let stage = Stage::around(kind, broker.bootstrap_of("PLAINTEXT")).unwrap();
    let ways = Ways::of(&broker).unwrap();
    let chosen = |scenario: &&Scenario| is_chosen("OTTLA_SCENARIO", &scenario.stem);
    let told: Vec<&Scenario> = ways.scenarios.iter().filter(chosen).collect();
    tell_by_all(&stage, &told, false);
}

fn tell_by_all(stage: &Stage, told: &[&Scenario], is_author: bool) {
    let mut faults = vec![];
    let chosen = RUNNERS.iter().filter(|runner| {
        std::env::var("OTTLA_RUNNER").is_ok_and(|name| name == runner.name)
            || std::env::var_os("OTTLA_RUNNER").is_none()
    });
    for runner in chosen.take(if is_author { 1 } else { RUNNERS.len() }) {
        faults.extend(tell(stage, runner, told, is_author));
    }
    let count = faults.len();
    assert!(faults.is_empty(), "{count} differences:\n\n{}", faults.join("\n"));
}

fn is_chosen(variable: &str, name: &str) -> bool {
    std::env::var(variable).is_ok_and(|part| name.contains(&part)) || std::env::var_os(variable).is_none()
}

fn tell(stage: &Stage, runner: &Runner, scenarios: &[&Scenario], is_author: bool) -> Vec<String> {
    let (stories, trouble) = match hear(stage, runner, scenarios) {
        Ok(heard) => heard,
        Err(error) => return vec![format!("{}: {error}", runner.name)],
    };
    let mut faults: Vec<String> = trouble.into_iter().collect();
    for scenario in scenarios {
        let story = stories.get(&scenario.stem);
        match story {
            Some(story) if is_author => scenario.update(story).unwrap(),
            _ => {
                let (runner, kind, stem) = (runner.name, stage.kind, &scenario.stem);
                let shown = difference(scenario, story).map(|shown| format!("{runner} on {kind:?}, {stem}:\n{shown}"));
                faults.extend(shown);
            }
        }
    }
    let (name, kind, told) = (runner.name, stage.kind, scenarios.len());
    println!(
        "| {name} | {kind:?} | {told} scenarios | {} differences |",
        faults.len()
    );
    faults
}
