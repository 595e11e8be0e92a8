//! The transport of a connection: a socket, or TLS over one.
//!
//! In: bytes to send. Out: bytes that came. Both without waiting; `readable` and `writable` wait. Over a plain socket this is
//! the socket itself and nothing more: no copy, no buffer.

use crate::security::tls::TlsStream;
use bytes::BytesMut;
use std::io::{self, IoSlice};
use tokio::net::TcpStream;

/// What a connection reads from and writes to.
pub enum Transport {
    /// The socket.
    Plain(TcpStream),
    /// TLS over it.
    Tls(Box<TlsStream>),
}

impl Transport {
    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Transport::Plain(stream) => stream,
            Transport::Tls(tls) => tls.socket(),
        }
    }

    /// Waits until there is something to read, or the end.
    ///
    /// # Errors
    /// The socket's.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Transport::Plain(stream) => stream.readable().await,
            Transport::Tls(tls) => tls.readable().await,
        }
    }

    /// Waits until there is room to write.
    ///
    /// # Errors
    /// The socket's.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket().writable().await
    }

    /// Reads into the room that `buffer` has; 0 when the peer has closed.
    ///
    /// # Errors
    /// WouldBlock when there is nothing to read; the socket's.
    pub fn try_read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.try_read_buf(buffer),
            Transport::Tls(tls) => tls.try_read_buf(buffer),
        }
    }

    /// Writes as much of `slices` as there is room for.
    ///
    /// # Errors
    /// WouldBlock when there is none; the socket's.
    pub fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.try_write_vectored(slices),
            Transport::Tls(tls) => tls.try_write_vectored(slices),
        }
    }

    /// Sends what was written and lies here still.
    ///
    /// # Errors
    /// WouldBlock when the socket does not take all; the socket's.
    pub fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(_) => Ok(()),
            Transport::Tls(tls) => tls.try_flush(),
        }
    }

    /// True when everything that was written has been handed to the socket.
    pub fn is_flushed(&self) -> bool {
        match self {
            Transport::Plain(_) => true,
            Transport::Tls(tls) => tls.is_flushed(),
        }
    }

    /// Tells the peer that nothing more will be written, where the transport has a word for it. It leaves with
    /// [`Transport::try_flush`].
    pub fn close_notify(&mut self) {
        if let Transport::Tls(tls) = self {
            tls.close_notify();
        }
    }
}
