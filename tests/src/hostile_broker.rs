//! A broker that lies: it stands before an honest one in this process and changes, replaces or swallows what it likes.
//!
//! In: a script that is asked about every request. Out: an address for clients, and counts of what they asked. Everything
//! the script leaves alone is answered by the honest broker, so a client that survives a lie can be watched to recover,
//! and what it was told can be compared with what is really in the log.

// It stands still where a test would have to.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use std::sync::{Arc, Mutex};

use ottla_broker::Cluster;
use ottla_protocol::wire::Reader;
use ottla_protocol::{ApiKey, Message, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::hostile::framed;

/// A request as the script sees it.
pub struct Asked<'a> {
    /// The API.
    pub api: ApiKey,
    /// The version.
    pub version: i16,
    /// The number that the answer must repeat.
    pub correlation_id: i32,
    /// The request behind its header.
    pub body: &'a [u8],
    /// How many requests of this API came before, on any connection.
    pub before: usize,
}

/// What changes the honest answer, given without its length prefix, into the bytes that go out.
type Change = Box<dyn FnOnce(Vec<u8>) -> Vec<u8> + Send>;

/// What becomes of a request.
pub enum Plan {
    /// It is carried out and answered.
    Honest,
    /// It is carried out, and these bytes go out instead of the answer.
    Change(Change),
    /// As `Change`, and the connection is closed behind them.
    ChangeAndClose(Change),
    /// As `Change`, byte by byte.
    Drip(Change),
    /// It is not carried out, and these bytes go out.
    Instead(Vec<u8>),
    /// It is not carried out, these bytes go out, and the connection is closed.
    InsteadAndClose(Vec<u8>),
}

impl Asked<'_> {
    /// The request, decoded.
    pub fn request<'m, M: Message<'m>>(&'m self) -> M {
        M::decode(&mut Reader::new(self.body), self.version).unwrap()
    }

    /// `body` as the answer, well framed.
    pub fn answer<'m, M: Message<'m>>(&self, body: &M) -> Vec<u8> {
        let pieces = frame::encode_response(self.api, self.version, self.correlation_id, body);
        pieces.unwrap().into_vec()
    }

    /// A plan that decodes the honest answer as `$message`, lets `lie` change it and encodes it again.
    pub fn retell(&self, lie: impl FnOnce(&Retold, &[u8]) -> Vec<u8> + Send + 'static) -> Plan {
        let retold = Retold {
            api: self.api,
            version: self.version,
            correlation_id: self.correlation_id,
        };
        Plan::Change(Box::new(move |answer| {
            let (_, at) = frame::decode_response_header(retold.api, retold.version, &answer).unwrap();
            lie(&retold, answer.get(at..).unwrap_or_default())
        }))
    }
}

/// What an answer must agree with.
pub struct Retold {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
}

impl Retold {
    /// The honest answer.
    pub fn read<'m, M: Message<'m>>(&self, body: &'m [u8]) -> M {
        M::decode(&mut Reader::new(body), self.version).unwrap()
    }

    /// The other one.
    pub fn write<'m, M: Message<'m>>(&self, body: &M) -> Vec<u8> {
        let pieces = frame::encode_response(self.api, self.version, self.correlation_id, body);
        pieces.unwrap().into_vec()
    }
}

type Script = dyn Fn(&Asked<'_>) -> Plan + Send + Sync;

/// The two brokers. They end when this is dropped.
pub struct HostileBroker {
    /// The honest one.
    pub honest: Cluster,
    port: u16,
    asked: Arc<Mutex<Vec<ApiKey>>>,
    script: Arc<Mutex<Arc<Script>>>,
    task: JoinHandle<()>,
}

impl HostileBroker {
    /// Starts both; the honest one tells clients to come back to the other. Honest until a script is set.
    pub async fn start() -> HostileBroker {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let honest = Cluster::builder()
            .property("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}"))
            .start()
            .await
            .unwrap();
        let behind = honest.broker().addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Arc<Script>>> = Arc::new(Mutex::new(Arc::new(|_: &Asked<'_>| Plan::Honest)));
        let (log, scripts) = (asked.clone(), script.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let honest = TcpStream::connect(behind).await.unwrap();
                connections.spawn(serve(stream, honest, scripts.clone(), log.clone()));
            }
        });
        HostileBroker {
            honest,
            port,
            asked,
            script,
            task,
        }
    }

    /// Follows `script` from now on; counting begins anew.
    pub fn follow(&self, script: impl Fn(&Asked<'_>) -> Plan + Send + Sync + 'static) {
        self.asked.lock().unwrap().clear();
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// Where clients find it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where the honest one is found.
    pub fn honest_address(&self) -> String {
        self.honest.broker().addr().unwrap().to_string()
    }

    /// How often an API was asked for.
    pub fn count(&self, api: ApiKey) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| **asked == api).count()
    }
}

impl Drop for HostileBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = stream.read_u32().await.ok()?;
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

/// One connection, until either side or the script ends it.
async fn serve(
    mut stream: TcpStream,
    mut honest: TcpStream,
    script: Arc<Mutex<Arc<Script>>>,
    log: Arc<Mutex<Vec<ApiKey>>>,
) -> Option<()> {
    loop {
        let request = read_frame(&mut stream).await?;
        let (header, body_at) = frame::decode_request_header(&request).unwrap();
        let api = ApiKey::from_code(header.api_key).unwrap();
        let script = script.lock().unwrap().clone();
        let before = {
            let mut log = log.lock().unwrap();
            log.push(api);
            log.iter().filter(|asked| **asked == api).count() - 1
        };
        let plan = script(&Asked {
            api,
            version: header.api_version,
            correlation_id: header.correlation_id,
            body: &request[body_at..],
            before,
        });
        let answer = match &plan {
            Plan::Instead(_) | Plan::InsteadAndClose(_) => vec![],
            _ => {
                honest.write_all(&framed(&request)).await.ok()?;
                read_frame(&mut honest).await?
            }
        };
        let (bytes, drip, close) = match plan {
            Plan::Honest => (framed(&answer), false, false),
            Plan::Change(change) => (change(answer), false, false),
            Plan::ChangeAndClose(change) => (change(answer), false, true),
            Plan::Drip(change) => (change(answer), true, false),
            Plan::Instead(bytes) => (bytes, false, false),
            Plan::InsteadAndClose(bytes) => (bytes, false, true),
        };
        if drip {
            stream.set_nodelay(true).ok()?;
            for byte in bytes {
                stream.write_all(&[byte]).await.ok()?;
                tokio::task::yield_now().await;
            }
        } else {
            stream.write_all(&bytes).await.ok()?;
        }
        if close {
            return None;
        }
    }
}
