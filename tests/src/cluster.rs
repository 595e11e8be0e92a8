//! Three nodes of Apache Kafka 4.3.1, each broker and controller, behind one proxy each.
//!
//! Takes wishes about nodes (kill, start, pause) and about leaders. Gives the bootstrap addresses, which lead through the
//! proxies, and what the nodes say of a partition. Nodes talk among themselves without proxies.
//!
//! Failures are noticed within two seconds instead of Kafka's nine, so that a test sees many of them.

use std::time::{Duration, Instant};

use crate::peer::Failure;
use crate::peer::broker_process::{BrokerProcess, Kind};
use crate::peer::java::JavaTools;
use crate::peer::ports::free_ports;
use crate::place;
use crate::proxy::Proxy;
use crate::wire::Wire;

const NODES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// The cluster. Node ids are 1, 2 and 3.
pub struct ApacheCluster {
    nodes: Vec<BrokerProcess>,
    proxies: Vec<Proxy>,
    tools: JavaTools,
}

impl ApacheCluster {
    /// Starts it. `properties` are added to each node's server.properties.
    ///
    /// # Errors
    /// When it does not come up within a minute.
    pub fn start(properties: &[&str]) -> Result<ApacheCluster, Failure> {
        let ports = free_ports(3 * NODES).map_err(|error| error.to_string())?;
        let proxies: Vec<Proxy> = (0..NODES).map(|_| Proxy::bind()).collect::<Result<_, _>>()?;
        // A cluster that lives until its process ends is never dropped: its data must not pile up run by run.
        let program = std::env::current_exe().unwrap_or_default();
        let root = place::target()
            .join("ottla-cluster")
            .join(program.file_name().unwrap_or_default());
        let _ = std::fs::remove_dir_all(&root);
        let mut nodes = vec![];
        for (place, proxy) in proxies.iter().enumerate() {
            let text = node_properties(place, &ports, proxy.port()) + &properties.join("\n");
            let data = Some(root.join((place + 1).to_string()));
            let mut node = BrokerProcess::prepare(Kind::Apache, data, ports[3 * place], &[], &text)?;
            node.set_heap("256m");
            proxy.connect_to(node.port());
            nodes.push(node);
        }
        // A node opens its port when the others have elected a controller with it.
        for node in &mut nodes {
            node.spawn()?;
        }
        for node in &mut nodes {
            node.await_port()?;
        }
        let tools = JavaTools::start()?;
        Ok(ApacheCluster { nodes, proxies, tools })
    }

    /// All nodes, through their proxies.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.proxies.iter().map(Proxy::bootstrap).collect();
        addresses.join(",")
    }

    /// The wire before a node.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn proxy(&self, node: i32) -> &Proxy {
        &self.proxies[place(node)]
    }

    /// Kafka's own tools.
    pub fn tools(&self) -> &JavaTools {
        &self.tools
    }

    /// A node's process.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn node(&mut self, node: i32) -> &mut BrokerProcess {
        &mut self.nodes[place(node)]
    }

    /// Every node runs, whatever was done to it.
    ///
    /// # Errors
    /// When one does not come back.
    pub fn heal(&mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            if node.is_started() && node.exited().is_none() {
                node.resume()?;
            } else {
                node.kill();
                node.spawn()?;
            }
        }
        self.nodes.iter_mut().try_for_each(BrokerProcess::await_port)
    }

    /// Creates a topic with a replica of each partition on every node, `configs` as `key=value`.
    ///
    /// # Errors
    /// The tool's.
    pub fn create_topic(&self, topic: &str, partitions: i32, configs: &[&str]) -> Result<(), Failure> {
        let (partitions_text, bootstrap) = (partitions.to_string(), self.nodes[0].bootstrap());
        #[rustfmt::skip]
        let mut args = vec![
            "--create", "--topic", topic, "--partitions", &partitions_text, "--replication-factor", "3",
        ];
        for config in configs {
            args.extend(["--config", config]);
        }
        self.tools.topics(&bootstrap, &args)?;
        for partition in 0..partitions {
            self.await_in_sync(topic, partition)?;
        }
        Ok(())
    }

    /// Leader and in-sync replicas, by the word of the first node in `ask` that answers. A paused one never does.
    ///
    /// # Errors
    /// When none answers.
    pub fn leader(&self, topic: &str, partition: i32, ask: &[i32]) -> Result<(i32, Vec<i32>), Failure> {
        let mut last = "nobody was asked".to_owned();
        for node in ask {
            let asked =
                Wire::connect(&self.nodes[place(*node)].bootstrap()).and_then(|mut wire| wire.leader(topic, partition));
            match asked {
                Ok(known) => return Ok(known),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Waits until a node of `among` leads the partition, by its own word.
    ///
    /// # Errors
    /// When none does within a minute.
    pub fn await_leader(&self, topic: &str, partition: i32, among: &[i32]) -> Result<i32, Failure> {
        let mut leader = -1;
        self.wait(&format!("a leader among {among:?}"), |cluster| {
            for node in among {
                let said = cluster.leader(topic, partition, &[*node]);
                if said.is_ok_and(|(said, _)| said == *node) {
                    leader = *node;
                    return true;
                }
            }
            false
        })?;
        Ok(leader)
    }

    /// Waits until all replicas are in sync, by the word of every node.
    ///
    /// # Errors
    /// When they are not within a minute.
    pub fn await_in_sync(&self, topic: &str, partition: i32) -> Result<(), Failure> {
        self.wait("that all replicas are in sync", |cluster| {
            [1, 2, 3].iter().all(|node| {
                let said = cluster.leader(topic, partition, &[*node]);
                said.is_ok_and(|(leader, in_sync)| leader > 0 && in_sync.len() == NODES)
            })
        })
    }

    /// Makes `to` the preferred leader and has it elected, with Kafka's own tools; waits until it leads.
    ///
    /// # Errors
    /// The tools', or that it does not lead within a minute.
    pub fn move_leader(&self, topic: &str, partition: i32, to: i32) -> Result<(), Failure> {
        let bootstrap = self.nodes[place(to)].bootstrap();
        let others: Vec<String> = [1, 2, 3]
            .iter()
            .filter(|node| **node != to)
            .map(i32::to_string)
            .collect();
        let plan = format!(
            r#"{{"version":1,"partitions":[{{"topic":"{topic}","partition":{partition},"replicas":[{to},{}]}}]}}"#,
            others.join(",")
        );
        let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        std::fs::write(file.path(), plan).map_err(|error| error.to_string())?;
        let plan = file.path().display().to_string();
        #[rustfmt::skip]
        let args = ["--bootstrap-server", &bootstrap, "--reassignment-json-file", &plan, "--execute"];
        self.tools
            .run("org.apache.kafka.tools.reassign.ReassignPartitionsCommand", &args, b"")?
            .success()?;
        let partition_text = partition.to_string();
        #[rustfmt::skip]
        let args = [
            "--bootstrap-server", &bootstrap, "--election-type", "preferred", "--topic", topic, "--partition", &partition_text,
        ];
        // A replica that has just fallen behind cannot be elected, until it has caught up.
        let start = Instant::now();
        loop {
            let ran = self
                .tools
                .run("org.apache.kafka.tools.LeaderElectionCommand", &args, b"")?
                .success();
            match ran {
                Ok(_) => return self.await_leader(topic, partition, &[to]).map(drop),
                Err(error) if start.elapsed() > PATIENCE => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn wait(&self, what: &str, mut happened: impl FnMut(&ApacheCluster) -> bool) -> Result<(), Failure> {
        let start = Instant::now();
        while !happened(self) {
            if start.elapsed() > PATIENCE {
                return Err(format!("no sign of {what}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn place(node: i32) -> usize {
    usize::try_from(node - 1).unwrap_or(usize::MAX)
}

/// Three ports a node: for clients, for the other brokers, for the controllers.
fn node_properties(place: usize, ports: &[u16], proxy: u16) -> String {
    let (node, client, broker, controller) = (place + 1, ports[3 * place], ports[3 * place + 1], ports[3 * place + 2]);
    let voters: Vec<String> = (0..NODES)
        .map(|voter| format!("{}@127.0.0.1:{}", voter + 1, ports[3 * voter + 2]))
        .collect();
    let voters = voters.join(",");
    format!(
        "node.id={node}
process.roles=broker,controller
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
inter.broker.listener.name=BROKERS
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,BROKERS:PLAINTEXT,CONTROLLER:PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:{client},BROKERS://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{proxy},BROKERS://127.0.0.1:{broker}
default.replication.factor=3
min.insync.replicas=2
unclean.leader.election.enable=false
auto.leader.rebalance.enable=false
auto.create.topics.enable=false
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=200
controller.quorum.fetch.timeout.ms=1000
controller.quorum.election.timeout.ms=500
controller.quorum.election.backoff.max.ms=300
replica.lag.time.max.ms=2000
replica.fetch.wait.max.ms=100
num.network.threads=1
num.io.threads=2
num.replica.fetchers=1
offsets.topic.num.partitions=1
log.cleaner.enable=false
"
    )
}
