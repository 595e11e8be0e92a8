//! How bytes get to a broker.
//!
//! In: a host, a port, the socket's settings, and TLS if the connection is to be encrypted. Out: a connected stream.
//! Whoever asks for TLS gets TLS or an error.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use tokio_rustls::client::TlsStream;

use super::tls::Tls;
use crate::config::ClientConfig;

/// A connected stream.
pub(super) enum Transport {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why no connection could be made.
#[derive(Debug)]
pub(super) enum ConnectFailure {
    /// The name has no address.
    Unresolved(io::Error),
    /// No address of the name answered; the last one's reason.
    Io(SocketAddr, io::Error),
    /// The time for it ran out.
    TimedOut,
    /// This address answered, and the TLS handshake with it failed.
    Tls(SocketAddr, io::Error),
    /// This address answered, and did not complete the TLS handshake in time.
    TlsTimedOut(SocketAddr),
}

impl Transport {
    /// Connects to `host`, trying all its addresses in turn. Each attempt may take `patience`, the TLS handshake
    /// included. An address that answers is the last one tried: who is refused by one broker is not accepted by its twin.
    ///
    /// Cancel-safe: dropping it closes what was opened.
    pub async fn connect(
        host: &str,
        port: u16,
        config: &ClientConfig,
        tls: Option<&Tls>,
        patience: Duration,
    ) -> Result<Transport, ConnectFailure> {
        let resolving = tokio::time::timeout(patience, tokio::net::lookup_host((host, port)));
        let addresses = resolving
            .await
            .map_err(|_| ConnectFailure::TimedOut)?
            .map_err(ConnectFailure::Unresolved)?;
        let mut failure = ConnectFailure::Unresolved(io::Error::other("the name has no address"));
        for address in addresses {
            let deadline = Instant::now() + patience;
            match tokio::time::timeout_at(deadline, dial(address, config)).await {
                Ok(Ok(stream)) => {
                    return match tls {
                        None => Ok(Transport::Tcp(stream)),
                        Some(tls) => secure(tls, host, address, stream, deadline).await,
                    };
                }
                Ok(Err(error)) => failure = ConnectFailure::Io(address, error),
                Err(_) => failure = ConnectFailure::TimedOut,
            }
        }
        Err(failure)
    }
}

async fn secure(
    tls: &Tls,
    host: &str,
    address: SocketAddr,
    stream: TcpStream,
    deadline: Instant,
) -> Result<Transport, ConnectFailure> {
    match tokio::time::timeout_at(deadline, tls.handshake(host, stream)).await {
        Ok(Ok(stream)) => Ok(Transport::Tls(Box::new(stream))),
        Ok(Err(error)) => Err(ConnectFailure::Tls(address, error)),
        Err(_) => Err(ConnectFailure::TlsTimedOut(address)),
    }
}

async fn dial(address: SocketAddr, config: &ClientConfig) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Before connecting: the receive buffer's size decides the window that TCP offers.
    if let Some(bytes) = config.send_buffer_bytes {
        socket.set_send_buffer_size(u32::try_from(bytes).unwrap_or(u32::MAX))?;
    }
    if let Some(bytes) = config.receive_buffer_bytes {
        socket.set_recv_buffer_size(u32::try_from(bytes).unwrap_or(u32::MAX))?;
    }
    let stream = socket.connect(address).await?;
    // A request is written whole; waiting for more would only add delay.
    stream.set_nodelay(true)?;
    // A broker that vanished without a word is noticed even on an idle connection.
    socket2::SockRef::from(&stream).set_keepalive(true)?;
    Ok(stream)
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Transport::Tls(stream) => match Pin::new(stream.as_mut()).poll_read(cx, buffer) {
                // A peer that closes without TLS's goodbye. Frames know their length, so nothing can be cut unnoticed.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                other => other,
            },
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Transport::Tcp(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
