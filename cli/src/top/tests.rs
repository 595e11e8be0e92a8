//! The screen and the plain text of a small cluster, as a person sees them.

use std::time::Duration;

use ottla::TopicPartition;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::draw::draw;
use super::plain;
use super::rates::Seen;
use super::sample::{Broker, Group, GroupPartition, Partition, Sample, Topic};
use super::view::{Tab, View};

/// A look after `seconds`: a topic that gets 120 records a second, and a group that is 30 behind.
fn look(seconds: u64) -> Sample {
    let end = |share: i64| Some(seconds as i64 * share);
    let part = |share: i64| Partition {
        leader: Some(1),
        end: end(share),
    };
    let topic = |internal, partitions| Topic {
        internal,
        out_of_sync: 0,
        partitions,
    };
    let read = |share: i64, owner: &str| GroupPartition {
        committed: Some(seconds as i64 * share - 15),
        end: end(share),
        owner: Some(owner.to_owned()).filter(|owner| !owner.is_empty()),
    };
    let partitions = [
        (TopicPartition::new("gpsraw", 0), read(100, "tracker /10.0.0.7")),
        (TopicPartition::new("gpsraw", 1), read(20, "")),
    ];
    let maps = Group {
        state: "Stable".into(),
        protocol: "classic".into(),
        members: 1,
        partitions: partitions.into(),
    };
    let idle = Group {
        state: "Empty".into(),
        protocol: "classic".into(),
        ..Group::default()
    };
    Sample {
        at: Duration::from_secs(seconds),
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".into(),
        brokers: vec![Broker {
            id: 1,
            address: "127.0.0.1:9092".into(),
            rack: None,
            controller: true,
            leads: 3,
            replicas: 3,
        }],
        topics: [
            ("__consumer_offsets".into(), topic(true, [(0, part(1))].into())),
            ("gpsraw".into(), topic(false, [(0, part(100)), (1, part(20))].into())),
        ]
        .into(),
        groups: [("idle".into(), idle), ("maps".into(), maps)].into(),
    }
}

fn seen() -> Seen {
    let mut seen = Seen::default();
    seen.take_in(look(10));
    seen.take_in(look(12));
    seen
}

/// The lines of the screen, without spaces at their ends.
fn screen(seen: &Seen, view: &mut View, told: &str, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(92, height)).unwrap();
    terminal.draw(|frame| draw(frame, seen, view, told)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = buffer.content.chunks(92).map(|line| {
        let line: String = line.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    });
    lines.collect()
}

fn shown(lines: &[String]) -> String {
    lines.join("\n")
}

#[test]
fn groups_stand_with_their_lag_and_below_them_the_partitions_of_the_selected_one() {
    let seen = seen();
    let mut view = View::default();
    let down = ratatui::crossterm::event::KeyCode::Down;
    view.handle_key(down.into(), &seen);
    let expected = "\
cluster MkU3OEVBNTcwNTJENDM2Qg: 1 broker, 2 topics, 2 groups
 Brokers │ Topics │ Groups
  GROUP  STATE   PROTOCOL  MEMBERS  LAG  RECORDS/S-OUT
  idle   Empty   classic   0        -    -
> maps   Stable  classic   1        30   120
 maps ──────────────────────────────────────────────────────────────────────────────────────
PARTITION  CURRENT-OFFSET  END-OFFSET  LAG  RECORDS/S-OUT  MEMBER
gpsraw-0   1,185           1,200       15   100            tracker /10.0.0.7
gpsraw-1   225             240         15   20             -

q quit  tab next table  arrows select  / filter  i internal topics";
    assert_eq!(shown(&screen(&seen, &mut view, "", 11)), expected);
}

#[test]
fn topics_stand_with_their_ends_and_what_comes_in() {
    let seen = seen();
    let mut view = View::default();
    view.tab = Tab::Topics;
    view.filter = "gps".into();
    let expected = "\
cluster MkU3OEVBNTcwNTJENDM2Qg: 1 broker, 2 topics, 2 groups
 Brokers │ Topics │ Groups
  TOPIC   PARTITIONS  OUT-OF-SYNC  END-OFFSETS  RECORDS/S-IN
> gpsraw  2           0            1,440        120

 gpsraw ────────────────────────────────────────────────────────────────────────────────────
PARTITION  LEADER  END-OFFSET  RECORDS/S-IN
gpsraw-0   1       1,200       100
gpsraw-1   1       240         20

filter: gps  esc clear  q quit  tab next table  arrows select  / filter  i internal topics";
    assert_eq!(shown(&screen(&seen, &mut view, "", 11)), expected);
}

#[test]
fn brokers_have_no_partitions_below_them_and_a_failed_look_says_why() {
    let seen = seen();
    let mut view = View::default();
    view.tab = Tab::Brokers;
    let lines = screen(&seen, &mut view, "connection refused", 7);
    let expected = "\
no answer: connection refused
 Brokers │ Topics │ Groups
  BROKER  ADDRESS         RACK  CONTROLLER  LEADS  REPLICAS
> 1       127.0.0.1:9092  -     yes         3      3


q quit  tab next table  arrows select  / filter  i internal topics";
    assert_eq!(shown(&lines), expected);
}

#[test]
fn the_selected_row_is_on_a_screen_that_is_too_small_for_all() {
    let mut sample = look(10);
    let idle = sample.groups["idle"].clone();
    sample.groups = (0..100)
        .map(|number| (format!("group-{number:02}"), idle.clone()))
        .collect();
    let mut seen = Seen::default();
    seen.take_in(sample);
    let mut view = View::default();
    view.handle_key(ratatui::crossterm::event::KeyCode::End.into(), &seen);
    let lines = screen(&seen, &mut view, "", 12);
    assert!(
        lines.iter().any(|line| line.starts_with("> group-99")),
        "{}",
        shown(&lines)
    );
}

#[test]
fn an_empty_cluster_and_a_tiny_screen_are_drawn_too() {
    let mut view = View::default();
    for height in [1, 3, 24] {
        assert_eq!(
            screen(&Seen::default(), &mut view, "", height).len(),
            usize::from(height)
        );
    }
    view.typing = true;
    assert!(shown(&screen(&seen(), &mut view, "", 24)).contains("filter: _"));
}

#[test]
fn the_plain_text_has_all_tables_with_a_word_in_every_column() {
    let expected = "\
cluster MkU3OEVBNTcwNTJENDM2Qg: 1 broker, 2 topics, 2 groups

BROKER  ADDRESS         RACK  CONTROLLER  LEADS  REPLICAS
1       127.0.0.1:9092  -     yes         3      3

TOPIC   PARTITIONS  OUT-OF-SYNC  END-OFFSETS  RECORDS/S-IN
gpsraw  2           0            1,440        120

GROUP  STATE   PROTOCOL  MEMBERS  LAG  RECORDS/S-OUT
idle   Empty   classic   0        -    -
maps   Stable  classic   1        30   120

GROUP  PARTITION  CURRENT-OFFSET  END-OFFSET  LAG  RECORDS/S-OUT  MEMBER
maps   gpsraw-0   1,185           1,200       15   100            tracker /10.0.0.7
maps   gpsraw-1   225             240         15   20             -";
    assert_eq!(shown(&plain::lines(&seen(), &View::default())), expected);
}
