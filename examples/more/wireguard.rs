//! A stack behind WireGuard, in user space from the application down: boringtun encrypts, a UDP socket of the host
//! carries, and the tunnel is the stack's device. No interface, no route, no privileges. Two peers over loopback.

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use bulkhead::device::{Capabilities, Device, Offload};
use bulkhead::frame::{Frame, FramePool};
use bulkhead_more_examples::builder;
use std::error::Error;
use std::io::{self, IoSlice};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What is left of 1,500 bytes for the datagrams inside, as WireGuard's tools reckon.
const MTU: u32 = 1420;
/// Room for a datagram with all that encryption adds.
const ROOM: usize = 2048;

/// A tunnel to one peer, as the device of a stack.
struct WireGuard {
    tunnel: Tunn,
    socket: UdpSocket,
    arrived: [u8; ROOM],
    made: [u8; ROOM],
    /// What arrived made something that is to be asked for.
    has_more: bool,
}

impl WireGuard {
    /// `socket` is connected to the peer's.
    fn new(own: StaticSecret, peer: PublicKey, socket: UdpSocket, index: u32) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let tunnel = Tunn::new(own, peer, None, None, index, None);
        Ok(Self { tunnel, socket, arrived: [0; ROOM], made: [0; ROOM], has_more: false })
    }
}

/// What a full socket does not take is lost, as on any wire.
fn send(socket: &UdpSocket, datagram: &[u8]) -> io::Result<bool> {
    match socket.send(datagram) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

impl Device for WireGuard {
    fn capabilities(&self) -> Capabilities {
        Capabilities::plain(MTU)
    }

    fn receive(&mut self, pool: &mut FramePool) -> io::Result<Option<Frame>> {
        // Handshakes that are due, and new keys: the stack's own timers call often enough.
        if let TunnResult::WriteToNetwork(datagram) = self.tunnel.update_timers(&mut self.made) {
            send(&self.socket, datagram)?;
        }
        loop {
            let length = if self.has_more {
                0
            } else {
                match self.socket.recv(&mut self.arrived) {
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    Err(error) => return Err(error),
                }
            };
            // An empty datagram asks for what waited for a handshake.
            let datagram = self.arrived.get(..length).unwrap_or_default();
            let result = self.tunnel.decapsulate(None, datagram, &mut self.made);
            self.has_more = matches!(result, TunnResult::WriteToNetwork(_));
            match result {
                TunnResult::WriteToNetwork(datagram) => drop(send(&self.socket, datagram)?),
                TunnResult::WriteToTunnelV4(frame, _) | TunnResult::WriteToTunnelV6(frame, _) => {
                    return pool.copy(&[IoSlice::new(frame)], Offload::default()).map(Some);
                }
                // Whatever is not from the peer is nobody's.
                TunnResult::Done | TunnResult::Err(_) => {}
            }
        }
    }

    fn transmit(&mut self, parts: &[IoSlice<'_>], _: Offload) -> io::Result<bool> {
        let frame: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        match self.tunnel.encapsulate(&frame, &mut self.made) {
            TunnResult::WriteToNetwork(datagram) => send(&self.socket, datagram),
            // It waits in the tunnel for the end of a handshake.
            _ => Ok(true),
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

/// Two ends of a tunnel over loopback. Keys for an example: real ones are random.
fn tunnel() -> io::Result<(WireGuard, WireGuard)> {
    let sockets = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    sockets.0.connect(sockets.1.local_addr()?)?;
    sockets.1.connect(sockets.0.local_addr()?)?;
    let secrets = (StaticSecret::from([1; 32]), StaticSecret::from([2; 32]));
    let keys = (PublicKey::from(&secrets.0), PublicKey::from(&secrets.1));
    let left = WireGuard::new(secrets.0, keys.1, sockets.0, 1)?;
    Ok((left, WireGuard::new(secrets.1, keys.0, sockets.1, 2)?))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (left, right) = tunnel()?;
    let server = builder(left).address([10, 0, 0, 1].into(), 24).spawn()?;
    let client = builder(right).address([10, 0, 0, 2].into(), 24).spawn()?;

    let listener = server.listen(([10, 0, 0, 1], 7).into())?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await?;
                write.shutdown().await
            });
        }
    });
    let stream = client.connect(([10, 0, 0, 1], 7).into()).await?;
    let (mut read, mut write) = stream.into_split();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|at| ((at * 31) >> 3) as u8).collect();
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        write.write_all(&copy).await?;
        write.shutdown().await
    });
    let mut back = Vec::new();
    read.read_to_end(&mut back).await?;
    writing.await??;
    println!("{} bytes came back through the tunnel", back.len());
    assert!(back == sent);
    println!("{}", client.shutdown(Duration::from_secs(5)).await);
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
