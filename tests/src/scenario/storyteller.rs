//! The runner in Rust: does what a scenario says with Ottla's async API, and tells what came of it.
//!
//! Takes the text of a scenario and the three addresses of `tests/scenarios/README.md`. Gives the transcript. Refuses what that page does
//! not know.

mod groups;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use ottla::{
    Admin, Consumer, Delivery, Error, ErrorKind, NewTopic, OwnedRecord, Partitioner, Persisted, Producer, Record,
    TopicPartition,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use groups::Reader;

use super::script::{Command, EXPECTED, escape, is_command, partitions, unescape};
use crate::peer::Failure;
use crate::peer::lines::from_hex;

/// How long a poll waits for its records, and a close for its acknowledgements.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the brokers and the stage are.
pub struct Place {
    /// `bootstrap.servers`.
    pub bootstrap: String,
    /// The control port.
    pub stage: String,
    /// What all names of topics begin with.
    pub prefix: String,
}

impl Place {
    /// The one that the environment names.
    ///
    /// # Errors
    /// A variable is missing.
    pub fn from_env() -> Result<Place, Failure> {
        let read = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
        Ok(Place {
            bootstrap: read("OTTLA_BOOTSTRAP")?,
            stage: read("OTTLA_STAGE")?,
            prefix: read("OTTLA_PREFIX")?,
        })
    }
}

/// Tells stories, one after the other.
pub struct Storyteller {
    place: Place,
    stage: BufReader<TcpStream>,
}

impl Storyteller {
    /// Connects to the stage.
    ///
    /// # Errors
    /// It is not there.
    pub async fn new(place: Place) -> Result<Storyteller, Failure> {
        let stage = TcpStream::connect(&place.stage).await;
        let stage = stage.map_err(|error| format!("the stage at {}: {error}", place.stage))?;
        Ok(Storyteller {
            place,
            stage: BufReader::new(stage),
        })
    }

    /// Does what `text` says. `tell` gets each command as soon as it is done, with all that it printed.
    ///
    /// # Errors
    /// What keeps the story from going on: see the page.
    pub async fn tell(&mut self, stem: &str, text: &str, mut tell: impl FnMut(&str)) -> Result<(), Failure> {
        self.say(&format!("begin {stem}")).await?;
        tell(&format!("=== {stem}\n"));
        let mut story = Story {
            bootstrap: self.place.bootstrap.clone(),
            topics: format!("{}.{stem}.", self.place.prefix),
            clients: BTreeMap::new(),
            error: String::new(),
            printed: vec![],
        };
        for line in text.lines().map(str::trim_end).filter(|line| is_command(line)) {
            let done = match line.strip_prefix("stage ") {
                Some(words) => self.say(words).await.map(|answer| story.printed.extend(answer)),
                None => story.follow(line).await,
            };
            done.map_err(|error| format!("{stem}: {line}: {error}"))?;
            let mut told = format!("{line}\n");
            for printed in story.printed.drain(..) {
                let _ = writeln!(told, "{EXPECTED}{printed}");
            }
            tell(&told);
        }
        story.end().await;
        Ok(())
    }

    /// Says a line to the stage. Gives what it has to say beyond `ok`.
    async fn say(&mut self, words: &str) -> Result<Option<String>, Failure> {
        let lost = |error: std::io::Error| format!("the stage: {error}");
        self.stage
            .write_all(format!("{words}\n").as_bytes())
            .await
            .map_err(lost)?;
        let mut answer = String::new();
        self.stage.read_line(&mut answer).await.map_err(lost)?;
        match answer.trim_end().split_once(' ').unwrap_or((answer.trim_end(), "")) {
            ("ok", "") => Ok(None),
            ("ok", text) => Ok(Some(text.to_owned())),
            _ => Err(format!("the stage: {answer:?}")),
        }
    }
}

/// A client by its name.
enum Client {
    Producer(Sender),
    Consumer(Box<Reader>),
    Admin(Box<Admin>),
}

/// A producer and its sends that were not told yet.
struct Sender {
    producer: Producer,
    sends: Vec<Result<Delivery, Error>>,
    told: usize,
}

/// One file.
struct Story {
    bootstrap: String,
    /// What stands before the name of a topic.
    topics: String,
    clients: BTreeMap<String, Client>,
    /// The text of the last error.
    error: String,
    printed: Vec<String>,
}

impl Story {
    async fn follow(&mut self, line: &str) -> Result<(), Failure> {
        let command = Command::parse(line)?;
        match command.name {
            "producer" | "consumer" | "admin" => self.build(&command).await,
            "error_has" => self.error_has(&command),
            "partition_for" => self.partition_for(&command),
            "partition_vectors" => self.partition_vectors(&command),
            "close" => self.close(&command).await,
            "create_topic" | "delete_topic" => self.administer(&command).await,
            "send" => self.send(&command).await,
            "flush" => {
                self.sender(&command)?.producer.flush().await;
                Ok(())
            }
            "await" => self.outcomes(&command).await,
            "poll" => self.poll(&command).await,
            "position" => self.position(&command).await,
            "beginning_offsets" | "end_offsets" => self.bounds(&command).await,
            "assign" | "pause" | "resume" | "seek" | "seek_to_beginning" | "seek_to_end" | "seek_to_timestamp" => {
                self.steer(&command)
            }
            _ => self.follow_group(&command).await,
        }
    }

    async fn end(mut self) {
        while let Some((_, client)) = self.clients.pop_first() {
            match client {
                Client::Producer(sender) => drop(sender.producer.close(Duration::ZERO).await),
                Client::Consumer(reader) => drop(reader.close(Duration::from_secs(10)).await),
                Client::Admin(admin) => admin.close().await,
            }
        }
    }

    fn print(&mut self, line: impl Into<String>) {
        self.printed.push(line.into());
    }

    fn print_error(&mut self, error: &Error) {
        self.error = error.to_string();
        self.print(error_line(error));
    }

    fn print_if_error<T>(&mut self, outcome: Result<T, Error>) -> Option<T> {
        outcome.inspect_err(|error| self.print_error(error)).ok()
    }

    fn sender(&mut self, command: &Command<'_>) -> Result<&mut Sender, Failure> {
        match self.clients.get_mut(command.client.unwrap_or_default()) {
            Some(Client::Producer(sender)) => Ok(sender),
            _ => Err(format!("{:?} is no producer", command.client)),
        }
    }

    fn consumer(&mut self, command: &Command<'_>) -> Result<&mut Consumer, Failure> {
        match self.clients.get_mut(command.client.unwrap_or_default()) {
            Some(Client::Consumer(reader)) => Ok(&mut reader.consumer),
            _ => Err(format!("{:?} is no consumer", command.client)),
        }
    }

    fn topic(&self, name: &str) -> Result<String, Failure> {
        Ok(format!("{}{}", self.topics, text(name)?))
    }

    fn partitions(&self, text: &str) -> Result<Vec<TopicPartition>, Failure> {
        let named = partitions(text)?.into_iter();
        named
            .map(|(topic, partition)| Ok(TopicPartition::new(self.topic(topic)?, partition)))
            .collect()
    }

    /// The one partition of the word `partition`.
    fn partition(&self, command: &Command<'_>) -> Result<TopicPartition, Failure> {
        let mut named = self.partitions(command.needed("partition")?)?;
        named.pop().ok_or_else(|| "no partition is named".to_owned())
    }

    /// A name of a topic or group as the scenario calls it.
    fn inside<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix(&self.topics).unwrap_or(name)
    }

    /// As the scenario calls it.
    fn shown(&self, topic: &str, partition: i32) -> String {
        format!("{}:{partition}", self.inside(topic))
    }

    async fn build(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let name = command.client.ok_or("the client has no name")?.to_owned();
        let mut keys = vec![("bootstrap.servers".to_owned(), self.bootstrap.clone())];
        let mut is_member = false;
        for (key, value) in &command.words {
            match *key {
                "assign" => {}
                "group.id" if !value.is_empty() => {
                    is_member = true;
                    keys.push(((*key).to_owned(), self.topic(value)?));
                }
                key => keys.push((key.to_owned(), text(value)?)),
            }
        }
        macro_rules! with_keys {
            ($builder:expr) => {
                keys.iter()
                    .fold($builder, |builder, (key, value)| builder.set(key, value))
            };
        }
        let built = match command.name {
            "producer" => with_keys!(Producer::builder()).build().await.map(|producer| {
                Client::Producer(Sender {
                    producer,
                    sends: vec![],
                    told: 0,
                })
            }),
            "consumer" => {
                let assigned = self.partitions(command.raw("assign").unwrap_or_default())?;
                let builder = with_keys!(Consumer::builder()).assign(assigned);
                let built = Reader::build(builder, is_member).await;
                built.map(|reader| Client::Consumer(Box::new(reader)))
            }
            _ => {
                let built = with_keys!(Admin::builder()).build().await;
                built.map(|admin| Client::Admin(Box::new(admin)))
            }
        };
        if let Some(client) = self.print_if_error(built) {
            self.clients.insert(name, client);
        }
        Ok(())
    }

    async fn close(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let patience = command.number("timeout_ms")?.map_or(PATIENCE, Duration::from_millis);
        let name = command.client.unwrap_or_default();
        match self.clients.get_mut(name) {
            Some(Client::Producer(sender)) => {
                let closed = sender.producer.close(patience).await;
                if let Some(closed) = self.print_if_error(closed) {
                    let (delivered, failed, unknown) = (closed.delivered, closed.failed, closed.unknown);
                    self.print(format!(
                        "closed delivered={delivered} failed={failed} unknown={unknown}"
                    ));
                }
            }
            Some(Client::Consumer(reader)) => {
                if let Some(closed) = reader.close(patience).await
                    && let Some(line) = self.print_if_error(closed)
                {
                    self.print(line);
                }
            }
            Some(Client::Admin(_)) => {
                if let Some(Client::Admin(admin)) = self.clients.remove(name) {
                    admin.close().await;
                }
            }
            None => return Err(format!("{name:?} is no client")),
        }
        Ok(())
    }

    fn error_has(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let wanted = text(command.needed("text")?)?;
        let has = self.error.contains(&wanted);
        self.print(yes_or_no(has));
        Ok(())
    }

    async fn administer(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let topic = self.topic(command.needed("topic")?)?;
        let Some(Client::Admin(admin)) = self.clients.get(command.client.unwrap_or_default()) else {
            return Err(format!("{:?} is no admin client", command.client));
        };
        let outcome = if command.name == "create_topic" {
            let mut wanted = NewTopic::new(&topic).partitions(command.needed_number("partitions")?);
            for (key, value) in &command.words {
                if !["topic", "partitions"].contains(key) {
                    wanted = wanted.config(*key, text(value)?);
                }
            }
            let answers = admin.create_topics(&[wanted]).await;
            answers.and_then(|answers| answers.into_values().try_for_each(|answer| answer.map(drop)))
        } else {
            let answers = admin.delete_topics(&[&topic]).await;
            answers.and_then(|answers| answers.into_values().collect::<Result<(), Error>>())
        };
        self.print_if_error(outcome);
        Ok(())
    }

    async fn send(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let topic = self.topic(command.needed("topic")?)?;
        let (key, value, headers) = (command.bytes("key")?, command.bytes("value")?, command.headers()?);
        let mut record = Record::to(&topic);
        if let Some(key) = &key {
            record = record.key(key);
        }
        if let Some(value) = &value {
            record = record.value(value);
        }
        if let Some(partition) = command.number("partition")? {
            record = record.partition(partition);
        }
        if let Some(timestamp) = command.number("timestamp")? {
            record = record.timestamp(timestamp);
        }
        for (key, value) in &headers {
            record = match value {
                Some(value) => record.header(key, value),
                None => record.null_header(key),
            };
        }
        let sender = self.sender(command)?;
        let sent = sender.producer.send(record).await;
        sender.sends.push(sent);
        Ok(())
    }

    async fn outcomes(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let sender = self.sender(command)?;
        sender.producer.flush().await;
        let sends = std::mem::take(&mut sender.sends);
        let first = sender.told + 1;
        sender.told += sends.len();
        for (number, sent) in (first..).zip(sends) {
            let outcome = match sent {
                Ok(delivery) => delivery.await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(metadata) => {
                    let offset = metadata.offset.map_or("none".to_owned(), |offset| offset.to_string());
                    self.print(format!("{number} partition={} offset={offset}", metadata.partition));
                }
                Err(error) => {
                    self.error = error.to_string();
                    let persisted = match error.persisted() {
                        Persisted::No => "no",
                        Persisted::Possibly => "possibly",
                        Persisted::Yes => "yes",
                    };
                    self.print(format!("{number} {} persisted={persisted}", error_line(&error)));
                }
            }
        }
        Ok(())
    }

    async fn poll(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let until: usize = command.needed_number("until")?;
        let with_timestamps = command.raw("timestamps") == Some("yes");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let Some(Client::Consumer(reader)) = self.clients.get_mut(command.client.unwrap_or_default()) else {
            return Err(format!("{:?} is no consumer", command.client));
        };
        let (mut seen, mut end): (Vec<OwnedRecord>, _) = (std::mem::take(&mut reader.kept), None);
        while seen.len() < until && end.is_none() {
            match tokio::time::timeout_at(deadline, reader.consumer.poll()).await {
                Ok(Ok(Some(records))) => seen.extend(records.iter().map(|record| record.to_owned())),
                Ok(Ok(None)) => end = Some(Err("closed")),
                Ok(Err(error)) => end = Some(Ok(error)),
                Err(_) => end = Some(Err("nothing more")),
            }
        }
        seen.sort_by(|a, b| (&a.topic, a.partition, a.offset).cmp(&(&b.topic, b.partition, b.offset)));
        for record in seen {
            let place = self.shown(&record.topic, record.partition);
            self.print(record_line(&place, &record, with_timestamps));
        }
        match end {
            Some(Ok(error)) => self.print_error(&error),
            Some(Err(words)) => self.print(words),
            None => {}
        }
        Ok(())
    }

    async fn position(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let partition = self.partition(command)?;
        let position = self.consumer(command)?.position(&partition).await;
        if let Some(position) = self.print_if_error(position) {
            let place = self.shown(&partition.topic, partition.partition);
            self.print(format!("{place} position={position}"));
        }
        Ok(())
    }

    async fn bounds(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let asked = self.partitions(command.needed("partitions")?)?;
        let consumer = self.consumer(command)?;
        let bounds = if command.name == "end_offsets" {
            consumer.end_offsets(&asked).await
        } else {
            consumer.beginning_offsets(&asked).await
        };
        for (partition, offset) in self.print_if_error(bounds).unwrap_or_default() {
            let place = self.shown(&partition.topic, partition.partition);
            self.print(format!("{place} offset={offset}"));
        }
        Ok(())
    }

    /// Everything that changes where a consumer stands.
    fn steer(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let outcome = match command.name {
            "assign" | "pause" | "resume" => {
                let named = self.partitions(command.needed("partitions")?)?;
                let consumer = self.consumer(command)?;
                match command.name {
                    "assign" => consumer.assign(&named),
                    "pause" => consumer.pause(&named),
                    _ => consumer.resume(&named),
                }
            }
            "seek" | "seek_to_beginning" | "seek_to_end" | "seek_to_timestamp" => {
                let partition = self.partition(command)?;
                let consumer = self.consumer(command)?;
                match command.name {
                    "seek" => consumer.seek(&partition, command.needed_number("offset")?),
                    "seek_to_beginning" => consumer.seek_to_beginning(&partition),
                    "seek_to_end" => consumer.seek_to_end(&partition),
                    _ => consumer.seek_to_timestamp(&partition, command.needed_number("timestamp")?),
                }
            }
            other => return Err(format!("there is no command {other}")),
        };
        self.print_if_error(outcome);
        Ok(())
    }

    fn partition_for(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let key = command.bytes("key")?;
        let place = place_of(command.needed("rule")?, key.as_deref(), command.needed("partitions")?)?;
        self.print(place);
        Ok(())
    }

    fn partition_vectors(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let file = command.needed("file")?;
        let vectors = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        let mut lines = 0;
        for line in vectors.lines().filter(|line| !line.starts_with('#')) {
            let [rule, word, partitions, expected] = line.split(' ').collect::<Vec<_>>()[..] else {
                return Err(format!("{file}: {line:?} has not four words"));
            };
            let key = match word {
                "null" => None,
                "empty" => Some(vec![]),
                digits => Some(from_hex(digits)?),
            };
            let place = place_of(rule, key.as_deref(), partitions)?;
            if place != expected {
                self.print(format!("{rule} {word} {partitions} is {place}"));
            }
            lines += 1;
        }
        self.print(format!("{lines} lines"));
        Ok(())
    }
}

fn place_of(rule: &str, key: Option<&[u8]>, partitions: &str) -> Result<String, Failure> {
    let rule: Partitioner = rule.parse().map_err(|_| format!("there is no partitioner {rule}"))?;
    let count = partitions
        .parse()
        .map_err(|_| format!("{partitions} is no number of partitions"))?;
    let place = rule.partition_for_key(key, count);
    Ok(place.map_or("any".to_owned(), |place| place.to_string()))
}

/// A value that must be text.
fn text(value: &str) -> Result<String, Failure> {
    String::from_utf8(unescape(value)?).map_err(|error| error.to_string())
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn error_line(error: &Error) -> String {
    let code = error.raw_code().map_or("none".to_owned(), |code| code.to_string());
    let (kind, retriable) = (kind_name(error.kind()), yes_or_no(error.retriable()));
    format!("error kind={kind} code={code} retriable={retriable}")
}

/// `UnknownTopic` is `unknown_topic`.
fn kind_name(kind: ErrorKind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn record_line(place: &str, record: &OwnedRecord, with_timestamp: bool) -> String {
    let mut line = format!("{place} offset={}", record.offset);
    for (name, bytes) in [("key", &record.key), ("value", &record.value)] {
        if let Some(bytes) = bytes {
            let _ = write!(line, " {name}={}", escape(bytes));
        }
    }
    for header in &record.headers {
        let _ = write!(line, " header={}", escape(header.key.as_bytes()));
        if let Some(value) = &header.value {
            let _ = write!(line, ":{}", escape(value));
        }
    }
    if with_timestamp {
        let _ = write!(line, " timestamp={}", record.timestamp);
    }
    line
}
