//! Bytes that no honest client sends, and what a broker does with them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::peer::lines::from_hex;
use crate::place;

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
    let mut frame = vec![0; 4];
    frame.extend_from_slice(&key.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&7_i32.to_be_bytes());
    frame.extend_from_slice(&[0, 1, b'h']);
    frame.extend_from_slice(body);
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}
