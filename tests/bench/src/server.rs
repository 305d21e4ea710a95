//! The applications: the same code over the kernel's sockets and over bulkhead's.

use std::future::Future;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bulkhead::ListenOptions;
use bulkhead::device::shard::shards;
use bulkhead::device::{Device, OffloadTun, Tun, TunOptions};
use bulkhead::net::{Builder, Net};
use bulkhead::placement::native::Native;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::subject::{Kind, PEER4, PEER6, STACK4, STACK6};

pub(crate) const ECHO: u16 = 7;
pub(crate) const DISCARD: u16 = 9;
pub(crate) const SOURCE: u16 = 19;
/// Answers every 64 bytes with 64 bytes.
pub(crate) const SHORT: u16 = 8064;
/// Answers every 64 bytes with 16 KiB.
pub(crate) const LONG: u16 = 8016;
pub(crate) const PORTS: [u16; 5] = [ECHO, DISCARD, SOURCE, SHORT, LONG];
/// Bytes of a request.
pub(crate) const REQUEST: usize = 64;
/// Bytes of a long answer.
pub(crate) const ANSWER: usize = 16 << 10;
/// Bytes of a read or write in bulk.
pub(crate) const CHUNK: usize = 256 << 10;

/// Serves on this stack until the process is killed.
pub(crate) fn serve(kind: Kind) -> anyhow::Result<()> {
    match kind {
        Kind::Kernel => runtime()?.block_on(kernel()),
        Kind::Smoltcp => crate::smoltcp::serve(),
        Kind::Shards => sharded(),
        Kind::Wasm | Kind::Native | Kind::WasmPlain | Kind::NativePlain => single(kind),
    }
}

/// Tells whoever started us that it can begin.
pub(crate) fn ready() {
    // Whoever started us may be gone already; then nobody reads it.
    let _ = writeln!(io::stdout(), "ready");
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// How an application on this port serves a connection.
async fn application(port: u16, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    match port {
        ECHO => {
            let mut buffer = vec![0; CHUNK];
            loop {
                let length = stream.read(&mut buffer).await?;
                if length == 0 {
                    return stream.shutdown().await;
                }
                stream.write_all(&buffer[..length]).await?;
            }
        }
        DISCARD => {
            let mut buffer = vec![0; CHUNK];
            while stream.read(&mut buffer).await? > 0 {}
            stream.shutdown().await
        }
        SOURCE => {
            let buffer = vec![0x5a; CHUNK];
            loop {
                stream.write_all(&buffer).await?;
            }
        }
        _ => {
            let answer = vec![0x5a; if port == LONG { ANSWER } else { REQUEST }];
            let mut request = [0; REQUEST];
            while stream.read_exact(&mut request).await.is_ok() {
                stream.write_all(&answer).await?;
            }
            stream.shutdown().await
        }
    }
}

async fn accept<S, F>(port: u16, mut next: impl FnMut() -> F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    while let Ok(stream) = next().await {
        // A client that has seen enough resets its connection.
        tokio::spawn(async move { drop(application(port, stream).await) });
    }
}

async fn kernel() -> anyhow::Result<()> {
    let mut last = None;
    for port in PORTS {
        let socket = tokio::net::TcpSocket::new_v6()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv6Addr::UNSPECIFIED, port).into())?;
        let listener = socket.listen(4096)?;
        last = Some(tokio::spawn(async move {
            accept(port, async || {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            })
            .await;
        }));
    }
    ready();
    if let Some(last) = last {
        last.await?;
    }
    Ok(())
}

fn options(multi_queue: bool) -> anyhow::Result<TunOptions> {
    let addresses = vec![(PEER4.parse()?, 24), (PEER6.parse()?, 64)];
    Ok(TunOptions { name: "bench0".into(), addresses, up: true, multi_queue, ..TunOptions::default() })
}

fn addressed(builder: Builder) -> anyhow::Result<Builder> {
    Ok(builder.address(STACK4.parse()?, 24).address(STACK6.parse()?, 64))
}

/// Accepts on all ports of a stack, on the current runtime.
fn listen(net: &Net) -> anyhow::Result<Vec<tokio::task::JoinHandle<()>>> {
    let mut tasks = Vec::new();
    for port in PORTS {
        let local = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        let options = ListenOptions { dual_stack: true, ..ListenOptions::default() };
        let listener = net.listen_with(local, options)?;
        tasks.push(tokio::spawn(async move {
            accept(port, async || listener.accept().await.map(|(stream, _)| stream)).await;
        }));
    }
    Ok(tasks)
}

fn single(kind: Kind) -> anyhow::Result<()> {
    let is_plain = matches!(kind, Kind::WasmPlain | Kind::NativePlain);
    let device: Box<dyn Device> = if is_plain {
        Box::new(Tun::open(&options(false)?)?)
    } else {
        Box::new(OffloadTun::open(&options(false)?)?)
    };
    let mut builder = addressed(Builder::new(device))?;
    if matches!(kind, Kind::Native | Kind::NativePlain) {
        builder = builder.instance(Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new()))));
    }
    let net = builder.spawn()?;
    runtime()?.block_on(async {
        let tasks = listen(&net)?;
        ready();
        for task in tasks {
            task.await?;
        }
        Ok(())
    })
}

/// Two shards, each with a thread for stack and applications.
fn sharded() -> anyhow::Result<()> {
    const COUNT: u16 = 2;
    let mut queues: Vec<Box<dyn Device>> = vec![Box::new(OffloadTun::open(&options(true)?)?)];
    let another = TunOptions { name: "bench0".into(), multi_queue: true, ..TunOptions::default() };
    queues.push(Box::new(OffloadTun::open(&another)?));
    let mut threads = Vec::new();
    for (index, shard) in (0..).zip(shards(queues, 32_768..=60_999)?) {
        let (net, driver) =
            addressed(Builder::new(shard))?.shard(index, COUNT).turns_in_calls(true).build()?;
        threads.push(std::thread::spawn(move || -> anyhow::Result<()> {
            runtime()?.block_on(async {
                let _tasks = listen(&net)?;
                driver.run().await?;
                Ok(())
            })
        }));
    }
    // Listening is a turn of each stack's own and takes no time worth the name.
    std::thread::sleep(std::time::Duration::from_millis(100));
    ready();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a shard has failed"))??;
    }
    Ok(())
}
