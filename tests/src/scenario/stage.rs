//! The stage of the scenarios: a broker, the wire before it, and the control port by which a scenario breaks both.
//!
//! Takes lines on the control port, one answer each; the words are those of `tests/scenarios/README.md`. Ottla's broker runs in this
//! process, so that its faults can be asked for. Refuses faults inside of Apache Kafka, which has none to give, and those of a
//! wire that it was not given.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ottla_broker::faults::{Fault, Faults, Rule as BrokerRule};
use ottla_broker::{Cluster, ClusterBuilder};
use ottla_protocol::ApiKey;
use tokio::runtime::Runtime;

use crate::peer::Failure;
use crate::peer::broker_process::{BrokerProcess, Kind};
use crate::peer::ours::runtime;
use crate::place;
use crate::proxy::{Action, Proxy, Rule, Side};

/// How long `fired` waits for a fault inside the broker; the proxy has its own, as long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Topics are what scenarios create, and nothing else. Members of groups hear of each other at once.
const PROPERTIES: [(&str, &str); 4] = [
    ("auto.create.topics.enable", "false"),
    ("group.consumer.min.heartbeat.interval.ms", "100"),
    ("group.consumer.heartbeat.interval.ms", "100"),
    ("group.consumer.assignment.interval.ms", "0"),
];

/// Broker, wire and control port.
pub struct Stage {
    /// Which broker it is.
    pub kind: Kind,
    bootstrap: String,
    control: SocketAddr,
    shared: Arc<Shared>,
    _broker: Broker,
}

enum Broker {
    Ottla { _cluster: Box<Cluster>, _runtime: Runtime },
    Apache { _process: Box<BrokerProcess> },
    Elsewhere,
}

struct Shared {
    proxy: Option<Proxy>,
    faults: Option<Faults>,
    waiting: Runtime,
    state: Mutex<State>,
}

/// What was asked for since the last `clear`.
#[derive(Default)]
struct State {
    scenario: String,
    /// Faults inside the broker, and how often each is to happen.
    installed: Vec<(Fault, u64)>,
}

impl Stage {
    /// Starts everything. Ottla's data is kept under `name`, to be judged by Kafka's tools.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn start(kind: Kind, name: &str) -> Result<Stage, Failure> {
        let proxy = Proxy::bind()?;
        let (broker, faults) = match kind {
            Kind::Ottla => {
                let (cluster, runtime) = ottla(&proxy, name)?;
                let faults = cluster.faults().clone();
                let broker = Broker::Ottla {
                    _cluster: Box::new(cluster),
                    _runtime: runtime,
                };
                (broker, Some(faults))
            }
            Kind::Apache => {
                let lines = PROPERTIES.map(|(key, value)| format!("{key}={value}"));
                let process = BrokerProcess::start_behind(&proxy, kind, name, &lines.each_ref().map(String::as_str))?;
                let broker = Broker::Apache {
                    _process: Box::new(process),
                };
                (broker, None)
            }
        };
        let bootstrap = proxy.bootstrap();
        Stage::open(kind, bootstrap, broker, Some(proxy), faults)
    }

    /// A stage for a broker that runs already, without a wire of its own: nothing can be broken.
    ///
    /// # Errors
    /// The control port does not open.
    pub fn around(kind: Kind, bootstrap: String) -> Result<Stage, Failure> {
        Stage::open(kind, bootstrap, Broker::Elsewhere, None, None)
    }

    fn open(
        kind: Kind,
        bootstrap: String,
        broker: Broker,
        proxy: Option<Proxy>,
        faults: Option<Faults>,
    ) -> Result<Stage, Failure> {
        let text = |error: std::io::Error| format!("the control port does not open: {error}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(text)?;
        let control = listener.local_addr().map_err(text)?;
        let shared = Arc::new(Shared {
            proxy,
            faults,
            waiting: runtime()?,
            state: Mutex::default(),
        });
        let heard = shared.clone();
        // Both kinds of threads end with the process, or with their connection.
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let heard = heard.clone();
                std::thread::spawn(move || listen(&stream, &heard));
            }
        });
        Ok(Stage {
            kind,
            bootstrap,
            control,
            shared,
            _broker: broker,
        })
    }

    /// What clients take as `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The address of the control port.
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// The scenario that was begun last.
    pub fn scenario(&self) -> String {
        self.shared.lock().scenario.clone()
    }

    /// Takes back what a runner has left behind.
    pub fn clear(&self) {
        self.shared.clear();
    }
}

fn ottla(proxy: &Proxy, name: &str) -> Result<(Cluster, Runtime), Failure> {
    let runtime = runtime()?;
    let builder = Cluster::builder()
        .data_dir(place::data_dir(name))
        .property("advertised.listeners", format!("PLAINTEXT://{}", proxy.bootstrap()));
    let set = |builder: ClusterBuilder, (key, value)| builder.property(key, value);
    let builder = PROPERTIES.into_iter().fold(builder, set);
    let cluster = runtime.block_on(builder.start()).map_err(|error| error.to_string())?;
    let address = cluster.broker().addr().ok_or("the broker does not listen")?;
    proxy.connect_to(address.port());
    Ok((cluster, runtime))
}

fn listen(stream: &TcpStream, shared: &Shared) {
    let mut answers = stream;
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let answer = match shared.obey(&line) {
            Ok(()) => "ok\n".to_owned(),
            Err(error) => format!("error {}\n", error.replace('\n', " ")),
        };
        if answers.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn obey(&self, line: &str) -> Result<(), Failure> {
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match word {
            "begin" => {
                self.clear();
                self.lock().scenario = rest.to_owned();
            }
            "clear" => self.clear(),
            "fault" => self.install(rest)?,
            "freeze" => self.faults()?.freeze(),
            "thaw" => self.faults()?.thaw(),
            "proxy" => self.arm(rest)?,
            "fired" => self.fired()?,
            "release" => self.proxy()?.release(),
            "admit" => self.proxy()?.admit(),
            _ => return Err(format!("the stage has no word {word:?}")),
        }
        Ok(())
    }

    fn clear(&self) {
        if let Some(proxy) = &self.proxy {
            proxy.disarm();
            proxy.admit();
            proxy.release();
        }
        if let Some(faults) = &self.faults {
            faults.clear_all();
        }
        self.lock().installed.clear();
    }

    fn proxy(&self) -> Result<&Proxy, Failure> {
        let proxy = self.proxy.as_ref();
        proxy.ok_or_else(|| "this stage has no wire of its own".to_owned())
    }

    fn faults(&self) -> Result<&Faults, Failure> {
        let faults = self.faults.as_ref();
        faults.ok_or_else(|| "Apache Kafka has no faults on request: the file says `# needs: faults`".to_owned())
    }

    fn install(&self, text: &str) -> Result<(), Failure> {
        let rule: BrokerRule = text.parse().map_err(|error| format!("{text}: {error}"))?;
        let times = number(text, "times")?;
        let fault = self.faults()?.add(rule);
        self.lock().installed.push((fault, times.unwrap_or(0)));
        Ok(())
    }

    fn arm(&self, text: &str) -> Result<(), Failure> {
        let word = |name| word(text, name);
        let api = word("api").and_then(|name| (0..=100).filter_map(ApiKey::from_code).find(|api| api.name() == name));
        let side = match word("side") {
            Some("request") => Side::Request,
            Some("response") => Side::Response,
            _ => return Err(format!("{text}: side=request or side=response is expected")),
        };
        let bytes = |name: &str| number(text, name).map(|count| count.map(|count| count as usize));
        let late = number(text, "delay_ms")?;
        let actions = [
            bytes("cut_after")?.map(Action::CutAfter),
            bytes("hold")?.map(Action::Hold),
            bytes("hold_and_refuse")?.map(Action::HoldAndRefuse),
            late.map(|ms| Action::Delay(Duration::from_millis(ms))),
            word("drop").map(|_| Action::Drop),
            word("duplicate").map(|_| Action::Duplicate),
            word("swap").map(|_| Action::Swap),
        ];
        let [action] = actions.into_iter().flatten().collect::<Vec<_>>()[..] else {
            return Err(format!("{text}: one action is expected"));
        };
        let rule = Rule {
            api: api.ok_or_else(|| format!("{text}: the name of an API is expected"))?,
            side,
            after: number(text, "skip")?.unwrap_or(0),
            action,
        };
        for _ in 0..number(text, "times")?.unwrap_or(1) {
            self.proxy()?.arm(rule);
        }
        Ok(())
    }

    fn fired(&self) -> Result<(), Failure> {
        // Each rule has taken its frame. What it does to it may be overtaken by a cut of the same connection.
        if let Some(proxy) = &self.proxy {
            proxy.wait("a fault of the wire", |counts| counts.armed == 0)?;
        }
        let installed = self.lock().installed.clone();
        for (fault, times) in installed {
            let firing = async { tokio::time::timeout(PATIENCE, fault.fired(times)).await };
            if self.waiting.block_on(firing) != Ok(true) {
                let (rule, hits) = (fault.rule(), fault.hits());
                return Err(format!("{rule}: happened {hits} times"));
            }
        }
        Ok(())
    }
}

/// The value of a word: what stands behind its `=`, or nothing.
fn word<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let words = text
        .split_whitespace()
        .map(|word| word.split_once('=').unwrap_or((word, "")));
    words
        .into_iter()
        .find(|(word, _)| *word == name)
        .map(|(_, value)| value)
}

fn number(text: &str, name: &str) -> Result<Option<u64>, Failure> {
    let number = |value: &str| value.parse().map_err(|_| format!("{text}: {name} is no number"));
    word(text, name).map(number).transpose()
}
