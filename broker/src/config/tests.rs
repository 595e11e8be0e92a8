use super::*;

fn parse(text: &str) -> Result<BrokerConfig, ConfigError> {
    BrokerConfig::from_properties(text)
}

fn problem(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_gives_a_broker_on_port_9092() {
    let config = parse("").unwrap();
    assert_eq!(config.node_id, 1);
    assert_eq!(
        config.listeners,
        [Listener {
            name: "PLAINTEXT".into(),
            host: String::new(),
            port: 9092
        }]
    );
    assert_eq!(config.inter_broker_listener_name, "PLAINTEXT");
    assert_eq!(config.log_dir, Path::new("/tmp/kafka-logs"));
    assert_eq!(config.socket_request_max_bytes, 100 << 20);
    assert_eq!(config.log_flush_scheduler_interval_ms, 1000);
    assert!(config.warnings().is_empty());
}

#[test]
fn a_file_of_kafka_0_8_starts_with_warnings_that_name_todays_keys() {
    let config = parse(
        "broker.id=0\nport=9092\nhost.name=localhost\nnum.network.threads=3\nnum.io.threads=8\n\
         socket.send.buffer.bytes=1048576\nsocket.receive.buffer.bytes=1048576\nsocket.request.max.bytes=104857600\n\
         log.dirs=/var/kafka\nnum.partitions=2\nlog.retention.hours=168\nlog.segment.bytes=536870912\n\
         log.retention.check.interval.ms=60000\nlog.cleaner.enable=false\nzookeeper.connect=localhost:2181\n\
         zookeeper.connection.timeout.ms=1000000\n",
    )
    .unwrap();
    assert_eq!(config.node_id, 0);
    assert_eq!(config.listeners[0].to_string(), "PLAINTEXT://localhost:9092");
    assert_eq!(config.log_dir, Path::new("/var/kafka"));
    assert_eq!(config.num_partitions, 2);
    let warnings = config.warnings().join("\n");
    assert_eq!(config.warnings().len(), 3, "{warnings}");
    assert!(
        warnings.contains("write listeners=PLAINTEXT://localhost:9092 instead"),
        "{warnings}"
    );
    assert!(warnings.contains("num.io.threads, num.network.threads"), "{warnings}");
    assert!(warnings.contains("there is no ZooKeeper"), "{warnings}");
}

#[test]
fn a_combined_node_of_kafka_4_starts_without_opening_its_controller_listener() {
    let config = parse(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.bootstrap.servers=localhost:9093\n\
         listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
         advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
         controller.listener.names=CONTROLLER\nlog.dirs=/tmp/kraft-combined-logs\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n",
    )
    .unwrap();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.advertised_listeners[0].to_string(), "PLAINTEXT://localhost:9092");
    assert!(
        config.warnings()[0].contains("CONTROLLER://:9093 is not opened"),
        "{:?}",
        config.warnings()
    );
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
    assert_eq!(
        problem("node.id=1\nnum.partition=3"),
        "line 2: num.partition is not a key of the broker; did you mean num.partitions?"
    );
    assert_eq!(problem("colour=red"), "line 1: colour is not a key of the broker");
    assert!(
        BrokerConfig::from_pairs([("colour", "red")])
            .unwrap_err()
            .line
            .is_none()
    );
}

#[test]
fn what_cannot_be_obeyed_is_refused_with_the_reason() {
    assert!(problem("authorizer.class.name=Foo").contains("authorization"));
    assert!(problem("log.preallocate=true").contains("files grow as they are written"));
    assert!(problem("log.cleaner.dedupe.buffer.size=1000").contains("1048577"));
    assert!(problem("listeners=INSIDE://:9093").contains("add INSIDE:PLAINTEXT"));
    assert!(problem("process.roles=broker").contains("several nodes"));
    assert!(problem("controller.quorum.voters=1@a:1,2@b:1").contains("several nodes"));
    assert!(problem("log.dirs=/a,/b").contains("2 directories"));
    assert!(parse("log.cleanup.policy=delete\nunclean.leader.election.enable=FALSE").is_ok());
    assert!(parse("controller.quorum.voters=1@localhost:9093").is_ok());
}

#[test]
fn values_are_held_against_their_ranges() {
    assert_eq!(
        problem("num.partitions=0"),
        "line 1: num.partitions must be 1 or more, not \"0\""
    );
    assert!(problem("num.partitions=many").contains("whole number"));
    assert!(problem("auto.create.topics.enable=yes").contains("true or false"));
    assert!(problem("log.segment.bytes=1024").contains("1048576 or more"));
    assert!(problem("log.retention.hours=-2").contains("-1 or more"));
}

#[test]
fn an_override_takes_the_place_of_the_files_value() {
    let given = |pairs: &[(&str, &str)]| {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        BrokerConfig::from_properties_with("node.id=1\nnum.partitions=2", &pairs)
    };
    let config = given(&[("num.partitions", "3"), ("num.partitions", "4")]).unwrap();
    assert_eq!((config.node_id, config.num_partitions), (1, 4));
    let wrong = given(&[("num.partitions", "0")]).unwrap_err();
    assert_eq!(wrong.to_string(), "num.partitions must be 1 or more, not \"0\"");
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    assert!(problem("broker.id=1\nnode.id=2").contains("differ"));
    assert!(problem("node.id=1\nnode.id=2").contains("line 2: node.id is given twice"));
    assert!(problem("port=1\nlisteners=PLAINTEXT://:2").contains("both given"));
    assert!(problem("advertised.listeners=PLAINTEXT://0.0.0.0:9092").contains("no client can connect"));
    assert!(problem("advertised.listeners=OTHER://h:9092").contains("not one of listeners"));
    assert!(problem("inter.broker.listener.name=OTHER").contains("not one of listeners"));
    assert!(parse("broker.id=2\nnode.id=2").is_ok());
    assert!(parse("node.id=2\nnode.id=2").is_ok());
}

#[test]
fn an_empty_value_of_a_key_without_default_counts_as_absent() {
    let config = parse("broker.rack=\nlog.retention.ms=\nadvertised.listeners=").unwrap();
    assert_eq!(config.rack, None);
    assert!(config.advertised_listeners.is_empty());
}

#[test]
fn old_advertised_names_are_obeyed_for_the_port_that_is_bound() {
    let config = parse("advertised.host.name=example.org").unwrap();
    let told = config.advertise(&[4711], "box");
    assert_eq!(told[0].to_string(), "PLAINTEXT://example.org:4711");
    assert!(problem("advertised.port=1").contains("advertised.host.name"));
}

#[test]
fn negative_buffers_and_idle_times_leave_things_alone() {
    let config = parse("socket.send.buffer.bytes=-1\nconnections.max.idle.ms=-1").unwrap();
    assert_eq!(config.socket_send_buffer_bytes, None);
    assert_eq!(config.connections_max_idle_ms, None);
}
