//! A broker as a child process that can be killed and started again: Apache Kafka 4.3.1 or `ottla broker`.
//!
//! Both get the same few lines of server.properties. The port is the broker's own from before its first start to the
//! end of this process, and is kept over restarts, as clients expect.

use std::fs::File;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::ports::free_ports;
use super::{Failure, java};
use crate::place;
use crate::proxy::Proxy;

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Apache Kafka 4.3.1, one KRaft node.
    Apache,
    /// The command `ottla broker`.
    Ottla,
}

/// The broker. Killed on drop.
pub struct BrokerProcess {
    kind: Kind,
    port: u16,
    /// What it listens on besides.
    other_ports: Vec<u16>,
    dir: PathBuf,
    process: Option<Child>,
    /// Ends Ottla's broker with the test, also one in a static, which is never dropped. Apache's driver sees to itself.
    watcher: Option<Child>,
    home: tempfile::TempDir,
    /// Apache Kafka's heap at most.
    heap: &'static str,
    environment: Vec<(&'static str, &'static str)>,
}

impl BrokerProcess {
    /// Starts a broker on a free port and waits until it accepts connections. `properties` are lines added to its
    /// server.properties. Its data directory is [`place::data_dir`]`(name)`, kept for `DumpLogSegments`; Apache Kafka's
    /// is temporary, nobody needs to judge that.
    ///
    /// # Errors
    /// When it does not start within a minute; with its log.
    pub fn start(kind: Kind, name: &str, properties: &[&str]) -> Result<BrokerProcess, Failure> {
        let data = if kind == Kind::Ottla {
            Some(place::data_dir(name))
        } else {
            None
        };
        BrokerProcess::start_on(kind, data, properties)
    }

    /// Like [`BrokerProcess::start`], but clients are told to come through `proxy`, which leads here from now on.
    ///
    /// # Errors
    /// When it does not start within a minute; with its log.
    pub fn start_behind(proxy: &Proxy, kind: Kind, name: &str, properties: &[&str]) -> Result<BrokerProcess, Failure> {
        let data = (kind == Kind::Ottla).then(|| place::data_dir(name));
        let broker = BrokerProcess::start_at(kind, data, properties, Some(proxy.port()))?;
        proxy.connect_to(broker.port);
        Ok(broker)
    }

    /// Like [`BrokerProcess::start`], on a data directory that exists (a temporary one if `None`).
    ///
    /// # Errors
    /// When it does not start within a minute; with its log.
    pub fn start_on(kind: Kind, data: Option<PathBuf>, properties: &[&str]) -> Result<BrokerProcess, Failure> {
        BrokerProcess::start_at(kind, data, properties, None)
    }

    fn start_at(
        kind: Kind,
        data: Option<PathBuf>,
        properties: &[&str],
        advertised: Option<u16>,
    ) -> Result<BrokerProcess, Failure> {
        let ports = free_ports(2).map_err(|error| format!("{kind:?} does not start: {error}"))?;
        let (port, controller) = (ports[0], ports[1]);
        let mut text = format!("node.id=1\nlisteners=PLAINTEXT://127.0.0.1:{port}");
        if kind == Kind::Apache {
            text.push_str(&format!(
                ",CONTROLLER://127.0.0.1:{controller}\n{}",
                apache_properties(controller)
            ));
        }
        let advertised = advertised.unwrap_or(port);
        text.push_str(&format!("\nadvertised.listeners=PLAINTEXT://127.0.0.1:{advertised}\n"));
        for line in properties {
            text.push_str(&format!("{line}\n"));
        }
        let mut broker = BrokerProcess::prepare(kind, data, port, &[], &text)?;
        broker.restart()?;
        Ok(broker)
    }

    /// A broker that is not started yet. It will listen for clients on `port`, and on `other_ports` if it has several
    /// listeners; `properties` are its whole server.properties but `log.dirs`.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn prepare(
        kind: Kind,
        data: Option<PathBuf>,
        port: u16,
        other_ports: &[u16],
        properties: &str,
    ) -> Result<BrokerProcess, Failure> {
        let io = |error: std::io::Error| format!("{kind:?} does not start: {error}");
        let home = tempfile::tempdir().map_err(io)?;
        let dir = data.unwrap_or_else(|| home.path().join("data"));
        let text = format!("log.dirs={}\n{properties}", dir.display());
        std::fs::write(home.path().join("server.properties"), text).map_err(io)?;
        Ok(BrokerProcess {
            kind,
            port,
            other_ports: other_ports.to_vec(),
            dir,
            process: None,
            watcher: None,
            home,
            heap: "512m",
            environment: vec![],
        })
    }

    /// Three of them must run on a small machine.
    pub(crate) fn set_heap(&mut self, heap: &'static str) {
        self.heap = heap;
    }

    /// From the next start on, the process finds this in its environment.
    pub fn set_environment(&mut self, name: &'static str, value: &'static str) {
        self.environment.push((name, value));
    }

    /// Starts the broker again after [`BrokerProcess::kill`], on the same port and data.
    ///
    /// # Errors
    /// When it does not start within a minute; with its log.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.spawn()?;
        self.await_port()
    }

    /// The first half of [`BrokerProcess::restart`]: several brokers may need each other to come up.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn(&mut self) -> Result<(), Failure> {
        let kind = self.kind;
        let io = |error: std::io::Error| format!("{kind:?} does not start: {error}");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .map_err(io)?;
        let properties = self.home.path().join("server.properties");
        let mut command = match kind {
            Kind::Apache => java::driver_with_heap(self.heap),
            Kind::Ottla => Command::new(place::ottla_command()),
        };
        command.arg("broker").envs(self.environment.iter().copied());
        if kind == Kind::Ottla {
            command.arg("--config");
        }
        command.arg(properties).current_dir(self.home.path());
        // Apache's driver ends with its standard input.
        command
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(io)?)
            .stderr(log);
        self.dismiss();
        let process = command.spawn().map_err(io)?;
        if kind == Kind::Ottla {
            self.watcher = Some(watch(&process).map_err(io)?);
        }
        self.process = Some(process);
        Ok(())
    }

    /// The second half: waits until the broker accepts connections on each of its ports. Apache Kafka opens them one
    /// after the other, in no order.
    ///
    /// # Errors
    /// When it ends, or does not within a minute; with its log.
    pub fn await_port(&mut self) -> Result<(), Failure> {
        let (kind, start) = (self.kind, Instant::now());
        for port in std::iter::once(self.port).chain(self.other_ports.clone()) {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                let ended = self.exited();
                if ended.is_some() || start.elapsed() > Duration::from_secs(60) {
                    return Err(format!("{kind:?} does not start ({ended:?}): {}", self.log()));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// SIGSTOP: the process stands still, and its connections stay open.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<(), Failure> {
        self.signal("STOP")
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<(), Failure> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> Result<(), Failure> {
        let process = self.process.as_ref().ok_or("the broker does not run")?;
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(process.id().to_string())
            .status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("kill -{name}: {other:?}")),
        }
    }

    /// kill -9, and waits for the process to be gone.
    pub fn kill(&mut self) {
        self.dismiss();
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Before its broker goes: a number may soon be another process's.
    fn dismiss(&mut self) {
        if let Some(mut watcher) = self.watcher.take() {
            let _ = watcher.kill();
            let _ = watcher.wait();
        }
    }

    /// Asks the broker to stop (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// When it is not gone after half a minute.
    pub fn stop(&mut self) -> Result<ExitStatus, Failure> {
        let Some(mut process) = self.process.take() else {
            return Err("the broker does not run".to_owned());
        };
        self.dismiss();
        let _ = Command::new("kill").arg(process.id().to_string()).status();
        let start = Instant::now();
        loop {
            match process.try_wait() {
                Ok(Some(status)) => return Ok(status),
                _ if start.elapsed() > Duration::from_secs(30) => {
                    let _ = process.kill();
                    let _ = process.wait();
                    return Err(format!("{:?} does not stop: {}", self.kind, self.log()));
                }
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Whether there is a process, running or paused.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// How the process ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process
            .as_mut()
            .and_then(|process| process.try_wait().ok().flatten())
    }

    /// The port it listens on for clients, whatever it tells them.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`, past any proxy.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it keeps its partitions.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// All it has logged since it was first started.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// A field of `/proc/PID/status` in KiB, such as `VmRSS` or `VmHWM`.
    pub fn memory_kib(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.as_ref()?.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(field))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("log.txt")
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            println!("--- the end of the log of {:?}:\n{}", self.kind, tail(&self.log(), 40));
        }
    }
}

/// A process that ends with its standard input, which is ours, and takes `process` along.
fn watch(process: &Child) -> std::io::Result<Child> {
    Command::new("sh")
        .args(["-c", "cat > /dev/null; kill -9 \"$0\""])
        .arg(process.id().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// What one KRaft node needs to be a whole cluster.
pub(crate) fn apache_properties(controller: u16) -> String {
    format!(
        "process.roles=broker,controller
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
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
log.cleaner.enable=false"
    )
}
