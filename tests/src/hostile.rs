//! Bytes that no honest client sends, and what a broker does with them.

// An arena stops the test at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::peer::broker_process::{BrokerProcess, Kind};
use crate::peer::librdkafka::Librdkafka;
use crate::peer::lines::from_hex;
use crate::peer::{Client, Content, Outgoing};
use crate::place;

/// Which a broker may grow by while it is attacked with small frames.
pub const GROWTH_KIB: u64 = 64 * 1024;

/// A broker, an honest client, and the memory the broker had before the attack.
pub struct Arena {
    /// The broker.
    pub broker: BrokerProcess,
    honest: Librdkafka,
    /// The topic of the honest client.
    pub topic: String,
    before_kib: u64,
}

impl Arena {
    /// Starts a broker and serves an honest client.
    ///
    /// # Panics
    /// When the broker does not start or does not serve.
    pub fn open(name: &str) -> Arena {
        let broker = BrokerProcess::start(Kind::Ottla, name, &[]).unwrap();
        let honest = Librdkafka::start().unwrap();
        honest.create_topic(&broker.bootstrap(), "honest", 1).unwrap();
        let mut arena = Arena {
            broker,
            honest,
            topic: "honest".to_owned(),
            before_kib: 0,
        };
        // Whatever its threads take once, for good, was taken.
        (0..5).for_each(|_| arena.serve_honestly());
        arena.before_kib = arena.broker.memory_kib("VmHWM").unwrap();
        arena
    }

    /// Somebody else.
    pub fn attacker(&self) -> Attacker {
        Attacker::new(&self.broker.bootstrap())
    }

    /// What the broker has grown by so far.
    ///
    /// # Panics
    /// When it is gone.
    pub fn grown_kib(&self) -> u64 {
        let peak = self.broker.memory_kib("VmHWM").unwrap();
        peak.saturating_sub(self.before_kib)
    }

    /// The honest client writes ten records and reads all that it ever wrote.
    ///
    /// # Panics
    /// When it cannot.
    pub fn serve_honestly(&self) {
        let content = Content {
            key: None,
            value: Some(b"honest".to_vec()),
            headers: vec![],
        };
        let records = vec![
            Outgoing {
                content: content.clone(),
                timestamp: None
            };
            10
        ];
        let bootstrap = self.broker.bootstrap();
        let receipts = self
            .honest
            .produce(&bootstrap, &self.topic, "none", &records)
            .unwrap()
            .unwrap();
        let count = receipts.iter().map(|receipt| receipt.offset + 1).max().unwrap() as usize;
        let read = self.honest.consume(&bootstrap, &self.topic, 0, count).unwrap();
        assert!(read.iter().all(|record| record.content == content));
    }

    /// The attack is over: nothing broke, nothing grew, honest clients are served.
    /// The attack is over: nothing broke, nothing grew by `growth_kib`, honest clients are served. Gives the growth.
    ///
    /// # Panics
    /// When it is not so.
    pub fn close(mut self, growth_kib: u64) -> u64 {
        self.serve_honestly();
        assert_eq!(self.broker.exited(), None, "the broker is gone: {}", self.broker.log());
        let grown = self.grown_kib();
        println!("peak memory grew by {grown} KiB from {} KiB", self.before_kib);
        assert!(
            grown < growth_kib,
            "memory grew by {grown} KiB, at most {growth_kib} allowed"
        );
        let log = self.broker.log();
        assert!(!log.contains("panicked"), "{log}");
        self.broker.stop().unwrap();
        grown
    }
}

/// A valid request made by Kafka's own classes, every field set.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The API key.
    pub key: i16,
    /// The version.
    pub version: i16,
    /// The schema's name, such as `Metadata`.
    pub name: String,
    /// With its length prefix.
    pub frame: Vec<u8>,
}

/// One request for each (API key, version) of Kafka 4.4.0.
///
/// # Panics
/// When `tests/java/Requests.java` fails.
pub fn samples() -> Vec<Sample> {
    let output = Command::new("java")
        .arg("-cp")
        .arg(format!("{}/*", place::peer("kafka-4.4.0").display()))
        .arg(place::repository().join("tests/java/Requests.java"))
        .output();
    let text = match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        other => panic!("tests/java/Requests.java: {other:?}"),
    };
    let sample = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [key, version, name, frame] = fields.as_slice() else {
            return None;
        };
        let (key, version) = (key.parse().ok()?, version.parse().ok()?);
        Some(Sample {
            key,
            version,
            name: (*name).to_owned(),
            frame: from_hex(frame).ok()?,
        })
    };
    text.lines().filter_map(sample).collect()
}

/// What a broker did with some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It sent a whole frame of this many bytes.
    Answered(usize),
    /// It closed the connection.
    Closed,
    /// Neither, in the given time.
    Silent,
}

/// A connection that is made again when it is gone.
pub struct Attacker {
    address: String,
    stream: Option<TcpStream>,
}

impl Attacker {
    /// Connects when first used.
    pub fn new(address: &str) -> Attacker {
        Attacker {
            address: address.to_owned(),
            stream: None,
        }
    }

    /// Sends `bytes`, waits at most `patience` for a whole frame. A connection that answered is used again.
    ///
    /// # Panics
    /// When the broker does not accept connections any more.
    pub fn send(&mut self, bytes: &[u8], patience: Duration) -> Outcome {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect(),
        };
        let _ = stream.set_read_timeout(Some(patience));
        // The broker may close while we still write: that is an answer too.
        let _ = stream.write_all(bytes);
        let outcome = read_frame(&mut stream);
        if matches!(outcome, Outcome::Answered(_)) {
            self.stream = Some(stream);
        }
        outcome
    }

    /// Sends `bytes` on a connection of their own, and says with a FIN that no more will come.
    ///
    /// # Panics
    /// When the broker does not accept connections any more.
    pub fn send_and_finish(&self, bytes: &[u8], patience: Duration) -> Outcome {
        let mut stream = self.connect();
        let _ = stream.set_read_timeout(Some(patience));
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        read_frame(&mut stream)
    }

    /// A new connection.
    ///
    /// # Panics
    /// When the broker does not accept connections any more.
    pub fn connect(&self) -> TcpStream {
        match TcpStream::connect(&self.address) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                stream
            }
            Err(error) => panic!("the broker does not accept connections any more: {error}"),
        }
    }
}

fn read_frame(stream: &mut TcpStream) -> Outcome {
    let mut length = [0; 4];
    let judge = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Outcome::Silent,
        _ => Outcome::Closed,
    };
    if let Err(error) = stream.read_exact(&mut length) {
        return judge(error);
    }
    let mut left = u32::from_be_bytes(length) as usize;
    let size = left + 4;
    let mut buffer = [0; 16 * 1024];
    while left > 0 {
        let want = left.min(buffer.len());
        match stream.read(&mut buffer[..want]) {
            Ok(0) => return Outcome::Closed,
            Ok(read) => left -= read,
            Err(error) => return judge(error),
        }
    }
    Outcome::Answered(size)
}

/// Lengths and counts that promise far more than follows, in every encoding the protocol has for one.
pub const BOMBS: [&[u8]; 6] = [
    &[0x7f, 0xff, 0xff, 0xff],             // 2^31 - 1 as i32
    &[0x80, 0x00, 0x00, 0x00],             // -2^31 as i32
    &[0xff, 0xff, 0xff, 0xff, 0x07],       // 2^31 - 1 as unsigned varint
    &[0xff, 0xff, 0xff, 0xff, 0x0f],       // 2^32 - 1 as unsigned varint
    &[0x7f, 0xff],                         // 2^15 - 1 as i16
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80], // a varint without an end
];

/// A request header (key, version, correlation id, client id), and its length prefix counting `body`.
pub fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&key.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&7_i32.to_be_bytes());
    frame.extend_from_slice(&[0, 1, b'h']);
    frame.extend_from_slice(body);
    framed(&frame)
}

/// `bytes` behind their length.
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut frame = (bytes.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(bytes);
    frame
}
