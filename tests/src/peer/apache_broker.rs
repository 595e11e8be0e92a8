//! An Apache Kafka 4.3.1 node (KRaft, broker and controller in one), as a child process.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::{Failure, java};

/// The node. Killed on drop; also ends when this process does.
pub struct ApacheBroker {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl ApacheBroker {
    /// Formats a directory, starts the node on a free port, and waits until it accepts connections. `properties` are
    /// added to server.properties as they are.
    ///
    /// # Errors
    /// When it does not start within a minute; with the end of its log.
    pub fn start(properties: &[&str]) -> Result<ApacheBroker, Failure> {
        let dir = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        let (port, controller) = free_ports()?;
        let file = dir.path().join("server.properties");
        let mut text = server_properties(port, controller, &dir.path().join("data").display().to_string());
        for line in properties {
            text.push_str(line);
            text.push('\n');
        }
        let io = |error: std::io::Error| format!("Apache Kafka does not start: {error}");
        std::fs::write(&file, text).map_err(io)?;
        let log = std::fs::File::create(dir.path().join("log.txt")).map_err(io)?;
        let process = java::driver()
            .arg("broker")
            .arg(&file)
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(io)?)
            .stderr(log)
            .spawn()
            .map_err(io)?;
        let mut broker = ApacheBroker { process, port, dir };
        broker.wait()?;
        Ok(broker)
    }

    fn wait(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.try_wait().ok().flatten();
            if ended.is_some() || start.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(self.dir.path().join("log.txt")).unwrap_or_default();
                return Err(format!("Apache Kafka does not start ({ended:?}): {log}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// `127.0.0.1:PORT`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it keeps its partitions.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}

impl Drop for ApacheBroker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> Result<(u16, u16), Failure> {
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    let both = || -> std::io::Result<(u16, u16)> {
        let (one, two) = (bind()?, bind()?);
        Ok((port(&one)?, port(&two)?))
    };
    both().map_err(|error| format!("no free port: {error}"))
}

/// One port that was free a moment ago.
///
/// # Errors
/// When the machine has none.
pub fn free_port() -> Result<u16, Failure> {
    free_ports().map(|(port, _)| port)
}

fn server_properties(port: u16, controller: u16, data: &str) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
num.network.threads=1
num.io.threads=2
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.enable=false
"
    )
}
