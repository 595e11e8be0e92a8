//! One connection of the proxy: frames one way, frames the other way, and what is done to them.
//!
//! Each way has a reader, which takes whole frames and asks what to do, and a writer, which does it. Between them lies a
//! queue, so that a frame that waits does not stop the reading: latency is latency and not a smaller throughput.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Action, Shared, Side};

/// Frames between reader and writer.
const QUEUE: usize = 256;
/// A length beyond this is no frame; the connection is passed through as it is from there on.
const LARGEST: usize = 256 << 20;
/// After a cut, how long the rest of what a side sends is read and thrown away.
const LINGER: Duration = Duration::from_secs(5);

/// What both ways of a connection know.
struct Way {
    shared: Arc<Shared>,
    side: Side,
    /// Requests without an answer yet: correlation id and API.
    asked: Arc<Mutex<VecDeque<(i32, i16)>>>,
    cut: watch::Sender<bool>,
}

/// A frame between reader and writer.
struct Frame {
    bytes: Vec<u8>,
    due: Instant,
    action: Option<Action>,
}

/// Serves a connection until both ways have ended.
pub(super) async fn run(client: TcpStream, broker: TcpStream, shared: Arc<Shared>) {
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let asked = Arc::new(Mutex::default());
    let cut = watch::Sender::new(false);
    let way = |side| Way {
        shared: shared.clone(),
        side,
        asked: Arc::clone(&asked),
        cut: cut.clone(),
    };
    tokio::join!(
        one_way(from_client, to_broker, way(Side::Request)),
        one_way(from_broker, to_client, way(Side::Response)),
    );
}

async fn one_way(mut from: OwnedReadHalf, to: OwnedWriteHalf, way: Way) {
    let (queue, frames) = mpsc::channel(QUEUE);
    let mut cut = way.cut.subscribe();
    let reading = async {
        tokio::select! {
            () = read(&mut from, queue, &way) => {}
            () = happens(&mut cut) => {}
        }
        if *way.cut.borrow() {
            let _ = tokio::time::timeout(LINGER, discard(&mut from)).await;
        }
    };
    tokio::join!(reading, write(to, frames, &way));
}

async fn happens(cut: &mut watch::Receiver<bool>) {
    // The sender lives as long as the connection.
    let _ = cut.wait_for(|cut| *cut).await;
}

async fn discard(from: &mut OwnedReadHalf) {
    let mut bytes = [0; 4096];
    while from.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}

async fn read(from: &mut OwnedReadHalf, queue: mpsc::Sender<Frame>, way: &Way) {
    loop {
        let (bytes, whole) = read_frame(from).await;
        if bytes.is_empty() {
            return;
        }
        let (action, latency) = if whole {
            way.judge(&bytes)
        } else {
            (None, Duration::ZERO)
        };
        let frame = Frame {
            bytes,
            due: Instant::now() + latency,
            action,
        };
        if queue.send(frame).await.is_err() || !whole {
            return;
        }
    }
}

/// A frame with its length prefix, or what there was of it at the end of the stream.
async fn read_frame(from: &mut OwnedReadHalf) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    while bytes.len() < 4 {
        if !read_some(from, &mut bytes, 4).await {
            return (bytes, false);
        }
    }
    let length: [u8; 4] = [bytes[0], bytes[1], bytes[2], bytes[3]];
    let end = u32::from_be_bytes(length) as usize + 4;
    while bytes.len() < end {
        if end > LARGEST || !read_some(from, &mut bytes, end).await {
            return (bytes, false);
        }
    }
    (bytes, true)
}

async fn read_some(from: &mut OwnedReadHalf, bytes: &mut Vec<u8>, end: usize) -> bool {
    let missing = (end - bytes.len()) as u64;
    from.take(missing).read_buf(bytes).await.is_ok_and(|count| count > 0)
}

impl Way {
    /// What is to be done with a frame.
    fn judge(&self, bytes: &[u8]) -> (Option<Action>, Duration) {
        let number = |at: usize| bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let api = match self.side {
            Side::Request => {
                let api = bytes.get(4..6).map_or(-1, |two| i16::from_be_bytes([two[0], two[1]]));
                asked.push_back((number(8).map_or(-1, i32::from_be_bytes), api));
                api
            }
            Side::Response => {
                let correlation = number(4).map_or(-1, i32::from_be_bytes);
                // Those before it are never answered: Produce with acks=0.
                let place = asked.iter().position(|(asked, _)| *asked == correlation);
                place
                    .and_then(|place| asked.drain(..=place).next_back())
                    .map_or(-1, |(_, api)| api)
            }
        };
        drop(asked);
        self.shared.judge(self.side, api, bytes.len())
    }
}

async fn write(to: OwnedWriteHalf, mut frames: mpsc::Receiver<Frame>, way: &Way) {
    let mut writer = Writer { to, way, later: None };
    let mut cut = way.cut.subscribe();
    loop {
        let next = tokio::select! {
            next = frames.recv() => next,
            () = happens(&mut cut) => break,
        };
        let Some(frame) = next else { break };
        if !writer.take(frame).await || *way.cut.borrow() {
            break;
        }
    }
    let later = writer.later.take().filter(|_| !*way.cut.borrow());
    if let Some(later) = later {
        writer.put(&later).await;
    }
    let _ = writer.to.shutdown().await;
}

struct Writer<'w> {
    to: OwnedWriteHalf,
    way: &'w Way,
    /// The frame that goes after the next one.
    later: Option<Vec<u8>>,
}

impl Writer<'_> {
    /// Does with a frame what its rule says. False when the other side is gone.
    async fn take(&mut self, frame: Frame) -> bool {
        let Frame { bytes, due, action } = frame;
        tokio::time::sleep_until(due).await;
        let shared = self.way.shared.clone();
        let went_on = match action {
            None => self.put(&bytes).await,
            Some(Action::CutAfter(count)) => {
                let put = self.put(&bytes[..count.min(bytes.len())]).await;
                let _ = self.to.shutdown().await;
                self.way.cut.send_replace(true);
                shared.count(|counts| counts.cut += 1);
                return put;
            }
            Some(Action::Delay(time)) => {
                tokio::time::sleep(time).await;
                shared.count(|counts| counts.delayed += 1);
                self.put(&bytes).await
            }
            Some(Action::Drop) => {
                shared.count(|counts| counts.dropped += 1);
                return true;
            }
            Some(Action::Duplicate) => {
                let put = self.put(&bytes).await && self.put(&bytes).await;
                shared.count(|counts| counts.duplicated += 1);
                put
            }
            Some(Action::Swap) => {
                shared.count(|counts| counts.swapped += 1);
                // Two in a row are only put off.
                if let Some(before) = self.later.replace(bytes) {
                    return self.put(&before).await;
                }
                return true;
            }
            Some(Action::Hold(count)) => self.hold(&bytes, count).await,
            Some(Action::HoldAndRefuse(count)) => {
                shared.lock().refuses = true;
                self.hold(&bytes, count).await
            }
        };
        match self.later.take() {
            Some(later) => went_on && self.put(&later).await,
            None => went_on,
        }
    }

    async fn hold(&mut self, bytes: &[u8], count: usize) -> bool {
        let (before, after) = bytes.split_at(count.min(bytes.len()));
        let mut releases = self.way.shared.releases.subscribe();
        let put = before.is_empty() || self.put(before).await;
        self.way.shared.count(|counts| counts.held += 1);
        // The sender of the releases lives as long as this connection.
        let _ = releases.changed().await;
        let put = put && self.put(after).await;
        self.way.shared.count(|counts| counts.released += 1);
        put
    }

    async fn put(&mut self, bytes: &[u8]) -> bool {
        self.to.write_all(bytes).await.is_ok()
    }
}
