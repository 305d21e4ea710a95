//! The children of a comparison: a stack over a TUN device, the kernel's own, or nothing but a pipe.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use bulkhead::compare::{listen, listen_at};
use bulkhead::device::{OffloadTun, TunOptions};
use bulkhead::net::Builder;
use clap::Args;
use clap::ValueEnum as _;

use super::subject::context;
use super::variant::Variant;

/// What a comparison starts itself.
#[derive(Debug, Args)]
pub(in super::super) struct Serve {
    /// `hop`, or a placement
    what: String,
    /// Tells its network from those of others
    #[arg(default_value_t = 0)]
    number: u8,
}

/// Serves until its input ends, which it does when whoever started it is gone.
///
/// # Errors
/// Where the device or the stack cannot be set up.
pub(in super::super) fn serve(arguments: &Serve) -> anyhow::Result<ExitCode> {
    if arguments.what == "hop" {
        let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
        let mut byte = [0];
        while input.read_exact(&mut byte).is_ok() {
            output.write_all(&byte)?;
            output.flush()?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let variant = Variant::from_str(&arguments.what, false).map_err(anyhow::Error::msg)?;
    std::thread::spawn(|| {
        let _ = io::stdin().lock().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (tasks, address, server) = if variant == Variant::Kernel {
            let address = IpAddr::V4(Ipv4Addr::new(127, 0, 77, 2));
            (listen_at(address, 0)?, address, None)
        } else {
            let network = |last: u8| IpAddr::V4(Ipv4Addr::new(10, 77, 100 + arguments.number, last));
            let device = OffloadTun::open(&TunOptions {
                name: format!("bhcompare{}", arguments.number),
                addresses: vec![(network(1), 24)],
                up: true,
                ..TunOptions::default()
            })?;
            let (instance, server) = variant.instance(false).map_err(context(variant))?;
            let net = Builder::new(device).instance(instance).address(network(2), 24).spawn()?;
            (listen(&net)?, network(2), server)
        };
        let server = server.map(|id| id.to_string()).unwrap_or_default();
        writeln!(io::stdout(), "ready {address} {server}")?;
        for task in tasks {
            task.await?;
        }
        Ok(ExitCode::SUCCESS)
    })
}
