//! Groups on our broker: Kafka's own tools (4.3.1) as members, as administrators, and as readers of what it wrote; and
//! clients of other languages as members, each of which reads a whole topic, commits, and goes on there the next time.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use ottla_tests::groups::room;
use ottla_tests::peer::java::JavaTools;
use ottla_tests::peer::librdkafka::Librdkafka;
use ottla_tests::peer::ours::{OurBroker, OurClient};
use ottla_tests::peer::program::Program;
use ottla_tests::peer::{Client as _, Content, Outgoing};

const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const TOPIC: &str = "lines";
const GROUP: &str = "readers";

struct Room {
    tools: JavaTools,
    broker: OurBroker,
}

impl Room {
    fn start(name: &str) -> Room {
        let room = Room {
            tools: JavaTools::start().unwrap(),
            broker: OurBroker::start(name).unwrap(),
        };
        let bootstrap = room.broker.bootstrap();
        let create = ["--create", "--topic", TOPIC, "--partitions", "1"];
        room.tools.topics(&bootstrap, &create).unwrap();
        let lines: String = (0..30).map(|number| format!("{number}\n")).collect();
        let produce = ["--bootstrap-server", &bootstrap, "--topic", TOPIC];
        room.tools
            .run(PRODUCER, &produce, lines.as_bytes())
            .unwrap()
            .success()
            .unwrap();
        room
    }

    /// What the console consumer reads as a member of the group, then commits and leaves.
    fn consume(&self, count: usize) -> Vec<String> {
        let bootstrap = self.broker.bootstrap();
        let count = count.to_string();
        #[rustfmt::skip]
        let args = [
            "--bootstrap-server", &bootstrap, "--topic", TOPIC, "--group", GROUP, "--from-beginning",
            "--max-messages", &count, "--timeout-ms", "60000",
        ];
        let text = self.tools.run(CONSUMER, &args, b"").unwrap().success().unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn groups(&self, args: &[&str]) -> String {
        let bootstrap = self.broker.bootstrap();
        let all = [&["--bootstrap-server", &bootstrap][..], args].concat();
        let outcome = self.tools.run(GROUPS, &all, b"").unwrap();
        let stderr = outcome.stderr.clone();
        outcome.success().unwrap() + &stderr
    }

    /// CURRENT-OFFSET, LOG-END-OFFSET and LAG of the partition, as the group tool shows them.
    fn progress(&self) -> [String; 3] {
        let text = self.groups(&["--describe", "--group", GROUP, "--offsets"]);
        let line = text.lines().find(|line| line.contains(TOPIC));
        let fields: Vec<&str> = line.unwrap_or_else(|| panic!("{text}")).split_whitespace().collect();
        [3, 4, 5].map(|index| fields[index].to_owned())
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn javas_console_consumer_goes_on_where_its_group_was_and_the_group_tool_shows_and_moves_it() {
    let room = Room::start("groups-java");
    assert_eq!(room.consume(10), numbers(0..10));
    assert_eq!(room.progress(), ["10", "30", "20"]);
    assert_eq!(room.consume(20), numbers(10..30));
    assert_eq!(room.progress(), ["30", "30", "0"]);
    assert!(room.groups(&["--list", "--state"]).contains("Empty"));
    #[rustfmt::skip]
    room.groups(&["--group", GROUP, "--reset-offsets", "--to-offset", "25", "--topic", TOPIC, "--execute"]);
    assert_eq!(room.progress(), ["25", "30", "5"]);
    assert_eq!(room.consume(5), numbers(25..30));
    room.groups(&["--group", GROUP, "--delete-offsets", "--topic", TOPIC]);
    let members = room.groups(&["--describe", "--group", GROUP, "--state"]);
    assert!(members.contains("Empty"), "{members}");
    room.groups(&["--group", GROUP, "--delete"]);
    assert!(!room.groups(&["--list"]).contains(GROUP));
}

#[test]
fn dump_log_segments_reads_every_record_of_the_groups() {
    let room = Room::start("groups-dump");
    room.consume(10);
    let (mut offsets, mut members, mut faults) = (0, 0, Vec::new());
    for partition in 0..5 {
        let directory = room.broker.data_dir().join(format!("__consumer_offsets-{partition}"));
        let log = directory.join("00000000000000000000.log").display().to_string();
        let text = room.tools.dump_log(&["--offsets-decoder", "--files", &log]).unwrap();
        for line in text.lines() {
            offsets += usize::from(line.contains("\"type\":\"1\"") && line.contains(GROUP));
            members += usize::from(line.contains("\"type\":\"2\"") && line.contains("\"protocolType\":\"consumer\""));
            if line.contains("isvalid: false") || line.contains("Failed to decode") || line.contains("unknown") {
                faults.push(line.to_owned());
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(offsets > 0 && members > 1, "{offsets} offsets, {members} generations");
}

#[test]
fn librdkafka_reads_a_topic_as_a_group_and_goes_on_where_it_was() {
    goes_on("groups-librdkafka", Librdkafka::start().unwrap().program());
}

#[test]
fn aiokafka_reads_a_topic_as_a_group_and_goes_on_where_it_was() {
    goes_on("groups-aiokafka", &Program::aiokafka().unwrap());
}

#[test]
fn kafkajs_reads_a_topic_as_a_group_and_goes_on_where_it_was() {
    goes_on("groups-kafkajs", &Program::kafkajs().unwrap());
}

#[test]
fn platformatic_reads_a_topic_as_a_group_and_goes_on_where_it_was() {
    goes_on("groups-platformatic", &Program::platformatic().unwrap());
}

#[test]
fn franz_go_reads_a_topic_as_a_group_and_goes_on_where_it_was() {
    goes_on("groups-franz-go", &Program::franz_go().unwrap());
}

/// The group's commits are judged by a client of ours that asks for them.
fn goes_on(name: &str, client: &Program) {
    const PARTITIONS: i32 = 3;
    let broker = OurBroker::start(name).unwrap();
    let bootstrap = broker.bootstrap();
    let librdkafka = Librdkafka::start().unwrap();
    librdkafka.create_topic(&bootstrap, room::TOPIC, PARTITIONS).unwrap();
    let writer = OurClient::start().unwrap();
    let mut ends = [0; PARTITIONS as usize];
    for round in 0..2 {
        let mut written = vec![];
        for receipt in writer
            .produce(&bootstrap, room::TOPIC, "none", &outgoing(round))
            .unwrap()
            .unwrap()
        {
            written.push((receipt.partition, receipt.offset));
            ends[receipt.partition as usize] = receipt.offset + 1;
        }
        written.sort_unstable();
        let read = client
            .read_in_group(&bootstrap, "readers", room::TOPIC, written.len())
            .unwrap();
        assert_eq!(read, written, "round {round}");
        let committed = room::committed(&bootstrap, "readers").unwrap();
        assert_eq!(committed.into_values().collect::<Vec<_>>(), ends, "round {round}");
    }
}

fn outgoing(round: u32) -> Vec<Outgoing> {
    let text = |number: u32| Some(format!("{round}-{number}").into_bytes());
    let record = |number| Outgoing {
        timestamp: None,
        content: Content {
            key: text(number),
            value: text(number),
            headers: vec![],
        },
    };
    (0..60).map(record).collect()
}
