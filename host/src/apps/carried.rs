//! Connections that stand still: taken out of the hands of their application, to go on later, here or in another process.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use bulkhead::net;

use super::{Connection, Listener};

/// A socket, or a file, in nobody's hands.
#[derive(Debug)]
pub(crate) enum Socket {
    /// A connection of the sandboxed stack's.
    Stack(net::TcpStream),
    /// A connection of the host's, or a file.
    Fd(OwnedFd),
}

/// A connection that can be put aside and taken up again.
pub(crate) trait Carried: Connection + Sized {
    /// Nobody reads or writes from now on.
    ///
    /// # Errors
    /// What the system says.
    fn put_aside(self) -> io::Result<Socket>;

    /// Goes on with it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a socket of another kind; what the system says.
    fn take_up(socket: Socket) -> io::Result<Self>;

    /// Ends it at once. The peer is told, and does not take what it has got for all there was.
    fn reset(self);
}

fn other_kind() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a socket of another kind than the application has")
}

impl Carried for net::TcpStream {
    fn put_aside(self) -> io::Result<Socket> {
        Ok(Socket::Stack(self))
    }

    fn take_up(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Stack(stream) => Ok(stream),
            Socket::Fd(_) => Err(other_kind()),
        }
    }

    fn reset(self) {
        self.abort();
    }
}

impl Carried for tokio::net::TcpStream {
    fn put_aside(self) -> io::Result<Socket> {
        Ok(Socket::Fd(self.into_std()?.into()))
    }

    fn take_up(socket: Socket) -> io::Result<Self> {
        match socket {
            // It does not block: that goes along with a descriptor.
            Socket::Fd(fd) => Self::from_std(fd.into()),
            Socket::Stack(_) => Err(other_kind()),
        }
    }

    fn reset(self) {
        // Where that fails there is nothing to reset any more.
        let _ = self.set_zero_linger();
    }
}

/// Where an application stands with a connection, in its own terms; nothing at the beginning.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) numbers: Vec<u64>,
    /// Bytes that were read and are not worked on, or that wait to be written.
    pub(crate) texts: Vec<Vec<u8>>,
    /// What it holds beside the connection.
    pub(crate) beside: Vec<Socket>,
}

impl Left {
    /// A number; 0 if it was not left.
    pub(crate) fn number(&self, at: usize) -> u64 {
        self.numbers.get(at).copied().unwrap_or_default()
    }

    /// Takes a text; empty if it was not left.
    pub(crate) fn text(&mut self, at: usize) -> Vec<u8> {
        self.texts.get_mut(at).map(std::mem::take).unwrap_or_default()
    }
}

/// How the service of a connection came to its end.
#[derive(Debug)]
pub(crate) enum End<S> {
    /// The connection is over.
    Over,
    /// It stands still, as was asked for.
    Stands(S, Left),
    /// What it was handed on to has failed, or is not there: it is to be reset.
    Broken(S, io::Error),
}

/// A connection that stands still.
#[derive(Debug)]
pub(crate) struct Standing<S> {
    pub(crate) stream: S,
    pub(crate) peer: SocketAddr,
    pub(crate) left: Left,
}

/// An application that stands still, or has not begun: where it listens, and what is open.
#[derive(Debug)]
pub(crate) struct Rest<L: Listener> {
    pub(crate) listener: L,
    pub(crate) open: Vec<Standing<L::Stream>>,
}
