//! A running stack goes over to another process, and no connection notices.
//!
//! The predecessor stops what its applications do, gives their sockets to a [`HandOver`], each with a note of where its
//! application stands, and sends [`encode`](HandOver::encode)'s bytes and the device's descriptor to the successor, by
//! whatever way. That one builds the stack with [`Builder::take_over`](super::Builder::take_over), which holds the
//! module's account against the ledgers as a swap does, and says so. Until then the predecessor can
//! [go on](HandOver::go_on); with [`complete`](HandOver::complete) it lets go, and only then may the successor's driver run.

use super::handle::Net;
use super::listener::TcpListener;
use super::stream::TcpStream;
use super::udp::UdpSocket;
use super::{NetError, slots::Wake};
use crate::handover::wire::{Carried, put, put_bytes, put_count};
use crate::handover::{FORMAT, MAGIC, NOTE};
use std::io;

/// A stack that stands still, for a successor to take over. No turn is taken meanwhile: what arrives waits in the device.
///
/// Dropping it lets the stack go on, and closes the sockets that were given to it.
#[derive(Debug)]
pub struct HandOver {
    net: Net,
    sockets: Taken,
    is_over: bool,
}

/// Sockets that changed hands, each with the note that its application left with it, in the order in which they were given.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Taken {
    /// Listeners. Connections that nobody has accepted are accepted by the successor.
    pub listeners: Vec<(TcpListener, Vec<u8>)>,
    /// Streams. What was written and not acknowledged, and what arrived and was not read, goes along.
    pub streams: Vec<(TcpStream, Vec<u8>)>,
    /// Datagram sockets, with what waits in them.
    pub sockets: Vec<(UdpSocket, Vec<u8>)>,
    /// Streams that their application had not given to the hand-over: in the successor they are reset.
    pub abandoned: usize,
}

impl Net {
    /// From here on the stack stands still. Sockets that are to go along are given to what is returned; nobody else should
    /// use the stack meanwhile: what is read from a socket that is not given is lost to the successor.
    ///
    /// # Errors
    /// The stack is ending, a module has ended, or the stack has something to do without an end
    /// ([`io::ErrorKind::ResourceBusy`]). Then nothing has changed.
    pub fn hand_over(&self) -> io::Result<HandOver> {
        self.shared().call(|state, wake| state.stand(wake))?;
        Ok(HandOver { net: self.clone(), sockets: Taken::default(), is_over: false })
    }
}

impl HandOver {
    /// A listener goes along.
    pub fn listener(&mut self, listener: TcpListener, note: Vec<u8>) {
        self.sockets.listeners.push((listener, note));
    }

    /// A stream goes along.
    pub fn stream(&mut self, stream: TcpStream, note: Vec<u8>) {
        self.sockets.streams.push((stream, note));
    }

    /// A datagram socket goes along.
    pub fn socket(&mut self, socket: UdpSocket, note: Vec<u8>) {
        self.sockets.sockets.push((socket, note));
    }

    /// Everything in bytes, for [`Builder::take_over`](super::Builder::take_over): the seed of all randomness and what
    /// applications have sent and not read among them, so they are for the successor's eyes alone.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a note of more than [`NOTE`] bytes; how a module
    /// failed to save its state, as the source. The stack can [go on](Self::go_on).
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let Taken { listeners, streams, sockets, .. } = &self.sockets;
        let notes = listeners.iter().map(|(_, note)| note).chain(streams.iter().map(|(_, note)| note));
        if notes.chain(sockets.iter().map(|(_, note)| note)).any(|note| note.len() > NOTE) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a note is too long"));
        }
        let mut to = Vec::from(MAGIC);
        FORMAT.put(&mut to);
        self.net.shared().call(|state, _| state.put(&mut to))?;
        put_count(listeners.len(), &mut to);
        for (listener, note) in listeners {
            listener.id().put(&mut to);
            put_bytes(note, &mut to);
        }
        put_count(streams.len(), &mut to);
        for (stream, note) in streams {
            put!(&mut to, stream.id(), stream.linger());
            put_bytes(note, &mut to);
        }
        put_count(sockets.len(), &mut to);
        for (socket, note) in sockets {
            let (module, id) = socket.id();
            put!(&mut to, module as u64, id, socket.local_addr(), socket.peer_addr());
            put_bytes(note, &mut to);
        }
        Ok(to)
    }

    /// Nobody has taken over: the stack goes on as if nothing had happened, and so may the applications.
    #[must_use]
    pub fn go_on(mut self) -> Taken {
        self.end(None);
        std::mem::take(&mut self.sockets)
    }

    /// The successor has everything: this stack ends without a word to any peer, and its sockets with
    /// [`NetError::HandedOver`].
    pub fn complete(mut self) {
        self.end(Some(NetError::HandedOver));
    }

    fn end(&mut self, end: Option<NetError>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        // Declared before the lock is taken, so that it wakes after it is given up.
        let mut wake = Wake::default();
        let mut state = self.net.shared().lock();
        match end {
            None => state.go_on(&mut wake),
            Some(end) => {
                state.let_go();
                state.finish(end, &mut wake);
            }
        }
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        self.end(None);
    }
}
