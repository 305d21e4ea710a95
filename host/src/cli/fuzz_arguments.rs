//! What can be said to `bulkhead fuzz`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_wit::Setting;
use clap::{Args, Subcommand};

use super::arguments::setting;

/// Shown below the options.
pub(super) const FUZZ_EXAMPLES: &str = "\
What it does: invents segments, calls and pauses, hands them to the module, and looks at everything that comes out. Cases that \
reach new code are kept and changed further. What it finds: traps, hangs, broken rules of the contract, acknowledgements of what \
was never sent, data outside the peer's window or after a FIN, wrong bytes, silence where something is outstanding, \
sequence numbers that can be foreseen, and states that cannot be loaded again.

Examples:
  bulkhead fuzz                                     the bundled TCP module, until Ctrl-C
  bulkhead fuzz my-tcp.wasm --corpus fuzz --jobs 4  yours; the next run goes on from fuzz/
  bulkhead fuzz my-tcp.wasm --broker 0.0.0.0:1337   others may join, with --join HOST:1337
  bulkhead fuzz my-tcp.wasm --ci                    100,000 runs of a fixed seed, and JSON
  bulkhead fuzz new.wasm --against old.wasm         also: does it do what the old one did?
  bulkhead fuzz replay fuzz/findings/NAME           every event and frame, and the backtrace
  bulkhead fuzz min case.txt                        the smallest case that shows the same
  bulkhead fuzz cmin --corpus fuzz                  the fewest cases that reach the same code
  bulkhead fuzz cover --corpus fuzz --html c.html   which lines the corpus reaches

A case is text, an event a line, and can be written by hand:
  seg 0 S opts=mss:1460,scale:7,sackok    a SYN of peer 0; numbers count from what was said last
  seg 0 A                                 its acknowledgement: the handshake is complete
  write 0 3000                            the application writes
  seg 0 A ack=-1460 win=0                 acknowledges all but 1460 bytes; the window is closed
  wait 500000                             half a second passes

Exit codes: 0 nothing found, 1 something found, 2 it could not be run.";

/// A campaign, or something with what one has left behind.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Fuzz {
    /// Something with what a campaign has left behind
    #[command(subcommand)]
    pub(super) tool: Option<Tool>,

    #[command(flatten)]
    pub(super) module: FuzzModule,

    /// Keep corpus and findings in this directory, and go on from what is there; a temporary one if not given
    #[arg(long, value_name = "DIR")]
    pub(super) corpus: Option<PathBuf>,

    /// More to begin with, a file or a directory of files: cases, captures (pcap, pcapng: whoever a connection's SYN goes to is
    /// the module), and recordings of `bulkhead run --record`
    #[arg(long, value_name = "PATH")]
    pub(super) seeds: Vec<PathBuf>,

    /// A dictionary as AFL and libFuzzer have them: name=\"\\x05\\x02\" a line; what the module compares with is known without
    #[arg(long, value_name = "FILE")]
    pub(super) dict: Option<PathBuf>,

    /// End after this time, as in 90, 5m or 2h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) time: Option<Duration>,

    /// End after so many runs
    #[arg(long, value_name = "NUMBER")]
    pub(super) execs: Option<u64>,

    /// Threads, which share corpus and findings
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=48))]
    pub(super) jobs: u16,

    /// Be a broker at this address, on the loopback interface if it is a port alone: LibAFL's loop in each thread, and other
    /// machines may join
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = broker, conflicts_with = "blind")]
    pub(super) broker: Option<SocketAddr>,

    /// Share cases with another machine's broker; may be repeated. It must fuzz the same file
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "blind")]
    pub(super) join: Vec<String>,

    /// End with the first finding
    #[arg(long)]
    pub(super) first: bool,

    #[command(flatten)]
    pub(super) compared: FuzzCompared,

    /// For continuous integration: 100,000 runs if nothing else is said, no terminal, a JSON summary on standard output
    #[arg(long)]
    pub(super) ci: bool,

    /// A fresh instance for each run, rather than one that is started anew
    #[arg(long)]
    pub(super) fresh: bool,

    /// Without coverage, to see what it is good for
    #[arg(long)]
    pub(super) blind: bool,

    /// Packets as bytes, without any notion of a protocol, to see what that is good for
    #[arg(long)]
    pub(super) bytes: bool,
}

/// Which module, and how it is started.
#[derive(Debug, Clone, Args)]
pub(super) struct FuzzModule {
    /// The module, a component; the bundled TCP module if not given
    #[arg(value_name = "FILE.wasm")]
    pub(super) file: Option<PathBuf>,

    #[command(flatten)]
    pub(super) start: FuzzStart,
}

/// What a module is compared with.
#[derive(Debug, Clone, Args)]
pub(super) struct FuzzCompared {
    /// Compare with another module, or with `native`, the bundled TCP compiled into this program
    #[arg(long, value_name = "FILE.wasm|native")]
    pub(super) against: Option<String>,
}

/// The module by an option, where files are something else.
#[derive(Debug, Clone, Args)]
pub(super) struct FuzzOther {
    /// The module, a component; the bundled TCP module if not given
    #[arg(long = "module", value_name = "FILE.wasm")]
    pub(super) file: Option<PathBuf>,

    #[command(flatten)]
    pub(super) start: FuzzStart,
}

/// How a module is started.
#[derive(Debug, Clone, Args)]
pub(super) struct FuzzStart {
    /// The bundled UDP module
    #[arg(long)]
    pub(super) udp: bool,

    /// Seed of all randomness: the campaign's, and the module's
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(super) seed: u64,

    /// A setting of the module's, as in nodelay=1; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub(super) setting: Vec<Setting>,
}

/// What can be done with what a campaign has left behind.
#[derive(Debug, Subcommand)]
pub(super) enum Tool {
    /// Runs a case and shows every event, every frame, and what is wrong
    Replay {
        /// A case's file, or a finding's directory
        #[arg(value_name = "CASE")]
        case: PathBuf,

        /// Write the frames to this file, for Wireshark
        #[arg(long, value_name = "FILE")]
        pcap: Option<PathBuf>,

        #[command(flatten)]
        module: FuzzOther,

        #[command(flatten)]
        compared: FuzzCompared,
    },
    /// Makes a case small that shows something
    Min {
        /// The case's file, or a finding's directory
        #[arg(value_name = "CASE")]
        case: PathBuf,

        /// Where the small one goes; standard output if not given
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,

        #[command(flatten)]
        module: FuzzOther,

        #[command(flatten)]
        compared: FuzzCompared,
    },
    /// Leaves out of a corpus what adds no edge
    Cmin {
        /// The campaign's directory
        #[arg(long, value_name = "DIR")]
        corpus: PathBuf,

        #[command(flatten)]
        module: FuzzOther,
    },
    /// Shows what a corpus reaches, by function and by source line
    Cover {
        /// The campaign's directory
        #[arg(long, value_name = "DIR")]
        corpus: PathBuf,

        /// Write it in lcov's format
        #[arg(long, value_name = "FILE")]
        lcov: Option<PathBuf>,

        /// Write it as a page
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,

        /// Where the sources are that the page shows
        #[arg(long, value_name = "DIR", default_value = ".")]
        sources: PathBuf,

        #[command(flatten)]
        module: FuzzOther,
    },
}

fn broker(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse::<u16>().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    port.or_else(|_| text.parse())
        .map_err(|_| "a port, or an address and a port, as in 0.0.0.0:1337".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        unit => return Err(format!("`{unit}` is no unit of time; there are s, m and h")),
    };
    let number: u64 = digits.parse().map_err(|_| "a number and s, m or h, as in 90s".to_owned())?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(|| "too long".to_owned())
}
