//! Any bytes as what a connection brings to a broker: cut into frames, dispatched and carried out, on a real log.
//!
//! The first byte chooses between a raw stream and frames whose header is right, which get further. Answers that wait
//! are dropped, as when the peer hangs up.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ottla_broker::config::security::SecurityProtocol;
use ottla_broker::frame_buffer::{FrameLimit, Inbox};
use ottla_broker::handlers::{Context, Reply};
use ottla_broker::{Cluster, dispatch, served_apis};
use tokio::runtime::Runtime;

use super::{byte, sized};

/// Larger frames are refused.
const MAX_FRAME: usize = 1 << 20;
/// A broker is replaced after this many runs, so that topics do not pile up.
const RUNS: u32 = 2_000;

/// A broker in memory, as far as the system has such a place.
struct World {
    runtime: Runtime,
    cluster: Option<Cluster>,
    data: PathBuf,
    runs: u32,
}

/// The process ends without dropping it.
static WORLD: Mutex<Option<World>> = Mutex::new(None);

/// A folder in memory, as far as the system has such a place. Those of processes that are gone are removed.
fn folder() -> PathBuf {
    const PREFIX: &str = "ottla-fuzz-";
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let folder = root.join(format!("{PREFIX}{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("a folder");
    folder
}

impl World {
    fn new() -> World {
        let data = folder();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let cluster = runtime.block_on(
            Cluster::builder()
                .data_dir(&data)
                .property("auto.create.topics.enable", "false")
                .start(),
        );
        let mut world = World {
            runtime,
            cluster: Some(cluster.expect("a broker")),
            data,
            runs: 0,
        };
        // CreateTopics 2: topic `t` with 2 partitions.
        let create = b"\0\x13\0\x02\0\0\0\x01\xff\xff\0\0\0\x01\0\x01t\0\0\0\x02\0\x01\0\0\0\0\0\0\0\0\0\0\x27\x10\0";
        assert!(world.carry_out(create), "topic `t` is created");
        world
    }

    /// Gives a frame to the broker. False if the connection ends.
    fn carry_out(&mut self, frame: &[u8]) -> bool {
        let Some(shared) = self.cluster.as_ref().and_then(|cluster| cluster.broker().shared()) else {
            return false;
        };
        let context = Context {
            broker: Arc::clone(shared),
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            listener: "PLAINTEXT".into(),
            connection: 1,
            sasl: None,
        };
        self.runtime.block_on(async {
            let mut reply = dispatch::dispatch(&context, frame).await;
            if let Reply::Parked(parked) = &mut reply {
                // Looked at once; then the peer has gone.
                let now = tokio::time::timeout(std::time::Duration::ZERO, parked).await;
                return !matches!(now, Ok(Reply::Close(_)));
            }
            !matches!(reply, Reply::Close(_))
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            // Inside its runtime, so that its timer can end.
            let _inside = self.runtime.enter();
            cluster.abort();
        }
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// Runs the target on `bytes`.
pub fn run(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else {
        return;
    };
    let stream = if mode % 4 == 0 { bytes.to_vec() } else { framed(bytes) };
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    if world.as_ref().is_some_and(|world| world.runs >= RUNS) {
        *world = None; // before the next one takes its folder
    }
    let world = world.get_or_insert_with(World::new);
    world.runs += 1;
    let mut inbox = Inbox::new(FrameLimit::of_requests(MAX_FRAME), SecurityProtocol::Plaintext);
    for piece in stream.chunks(1 << 16) {
        inbox.with_room().extend_from_slice(piece);
        inbox.arrived(piece.len());
        loop {
            match inbox.next_frame() {
                Ok(Some(frame)) if world.carry_out(&frame) => {}
                Ok(None) => break,
                _ => return,
            }
        }
    }
}

/// Requests one after the other: a row of the served table, a version, and a body behind its length.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut stream = Vec::new();
    while !rest.is_empty() {
        let row = served_apis()[usize::from(byte(&mut rest)) % served_apis().len()];
        let count = row.max_version - row.min_version + 1;
        let version = row.min_version + i16::from(byte(&mut rest)) % count;
        let body = sized(&mut rest);
        let mut frame = Vec::new();
        frame.extend_from_slice(&row.key.code().to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 9, 0, 1, b'f']);
        if row.key.request_header_version(version) >= 2 {
            frame.push(0);
        }
        frame.extend_from_slice(body);
        stream.extend_from_slice(&u32::try_from(frame.len()).unwrap_or(0).to_be_bytes());
        stream.extend_from_slice(&frame);
    }
    stream
}
