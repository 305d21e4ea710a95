//! The stacks that serve the applications.

use std::io::{self, Write as _};
use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::bail;
use bulkhead::compare::{listen, listen_at};
use bulkhead::device::shard::{Key, shards};
use bulkhead::device::{Device, OffloadTun, Tun, TunOptions};
use bulkhead::net::Builder;
use bulkhead::placement::native::Native;

use crate::subject::{Kind, PEER4, PEER6, STACK4, STACK6};

/// How long a stack polls that is asked to: longer than a round trip.
const BUSY_POLL: Duration = Duration::from_micros(100);

/// Serves on this stack until the process is killed; the kernel's on ports that are so many further.
pub(crate) fn serve(kind: Kind, further: u16) -> anyhow::Result<()> {
    bulkhead::compare::may_open()?;
    match kind {
        Kind::Kernel => runtime()?.block_on(kernel(further)),
        Kind::Smoltcp => crate::smoltcp::serve(),
        Kind::Lwip => bail!("lwIP's server is a program of its own"),
        Kind::Shards => sharded(),
        Kind::Wasm
        | Kind::Native
        | Kind::Spawned
        | Kind::Unrecorded
        | Kind::Polling
        | Kind::WasmPlain
        | Kind::NativePlain => single(kind),
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

async fn kernel(further: u16) -> anyhow::Result<()> {
    let tasks = listen_at(Ipv6Addr::UNSPECIFIED.into(), further)?;
    ready();
    for task in tasks {
        task.await?;
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

fn single(kind: Kind) -> anyhow::Result<()> {
    let is_plain = matches!(kind, Kind::WasmPlain | Kind::NativePlain);
    let device: Box<dyn Device> = if is_plain {
        Box::new(Tun::open(&options(false)?)?)
    } else {
        Box::new(OffloadTun::open(&options(false)?)?)
    };
    let mut builder = addressed(Builder::new(device))?.recording(kind != Kind::Unrecorded);
    if matches!(kind, Kind::Native | Kind::NativePlain) {
        builder = builder.instance(Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new()))));
    }
    if kind == Kind::Polling {
        builder = builder.busy_poll(BUSY_POLL);
    }
    if kind == Kind::Spawned {
        let net = builder.spawn()?;
        return runtime()?.block_on(async {
            let tasks = listen(&net)?;
            ready();
            for task in tasks {
                task.await?;
            }
            Ok(())
        });
    }
    let (net, driver) = builder.turns_in_calls(true).build()?;
    runtime()?.block_on(async {
        let _tasks = listen(&net)?;
        ready();
        driver.run().await?;
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
    for (index, shard) in (0..).zip(shards(queues, 32_768..=60_999, Key::random()?)?) {
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
