//! What can be said on the command line.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_wit::{Setting, registry};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::address::Cidr;
use super::compare::{COMPARE_EXAMPLES, Compare, Serve};
use super::control::path_for;
use super::fuzz_arguments::{FUZZ_EXAMPLES, Fuzz};
use super::gateway::{GATEWAY_EXAMPLES, Gateway, Inside, SLIRP4NETNS, SLIRP4NETNS_HELP, Slirp4netns};
use super::link_arguments::{LINK_EXAMPLES, LinkRun};

const EXAMPLES: &str = "\
Examples:
  sudo bulkhead run http ./site                   serve a directory; then: curl http://10.77.0.2/
  sudo bulkhead run echo discard:4000 http:8080 . several applications, with ports of their own
  sudo bulkhead run --pcap wire.pcap echo         write every frame to a file that Wireshark reads
  bulkhead inspect                                what the bundled TCP module is, and what it may do
  bulkhead inspect other.wasm                     the same for another module
  bulkhead fuzz other.wasm                        search it for faults, until Ctrl-C
  bulkhead check other.wasm                       what it can do: the contract, and scripts";

const RUN_EXAMPLES: &str = "\
Applications (the default ports are those of the services):
  echo[:PORT]        sends back what it is sent (port 7)
  discard[:PORT]     reads and says nothing (port 9)
  source[:PORT]      sends lines without end (port 19)
  http[:PORT] DIR    serves a directory (port 80)
  perf[:PORT]        what iperf3 measures against (port 5201)
  forward PORT=HOST:PORT
                     connections to the stack's port go to a target of the host's
  forward host:[ADDRESS:]PORT=HOST:PORT
                     connections to the host's port (127.0.0.1) go through the stack to a target
  socks5[:PORT]      a proxy on the host (127.0.0.1, port 1080) that connects through the stack
  perf-to HOST[:PORT][,seconds=N][,parallel=N][,reverse][,both]
                     measures against `iperf3 -s` through the stack

Examples:
  sudo bulkhead run http ./site
      Makes the interface bulkhead0: the kernel is 10.77.0.1, the sandboxed stack 10.77.0.2.
      In another terminal: curl http://10.77.0.2/

  sudo bulkhead run echo http:8080 . --address 10.9.0.2/24 --address fd09::2/64
      Two applications, and both versions of IP. Then: curl -6 'http://[fd09::2]:8080/'

  sudo bulkhead run source --placement native --offload off
      The same protocol code without its sandbox, on the plain device: what does the wall cost?
      In another terminal: curl -s telnet://10.77.0.2:19 </dev/null | head -c 1G >/dev/null

  sudo bulkhead run http . --module ./my-tcp.wasm --pcap wire.pcap -vv
      Another protocol module; frames go to a file, and what happens to standard error.

  sudo bulkhead run forward 80=127.0.0.1:3000 forward host:8080=10.77.0.1:80 socks5
      A server of the host's behind the stack, a way through the stack from the host, and a proxy.
      In another terminal: curl --socks5-hostname 127.0.0.1:1080 http://10.77.0.1:8000/

  sudo bulkhead run --config /etc/bulkhead.toml --metrics 127.0.0.1:9100
      The file has the long options as keys: applications = [\"http ./site\"], tun = \"tun7\",
      [setting] nodelay = 1.
      In another terminal: sudo bulkhead stat --watch

Without root: let root prepare the interface once, with `ip tuntap add dev bulkhead0 mode tun user YOU`, \
`ip addr add 10.77.0.1/24 dev bulkhead0` and `ip link set bulkhead0 up`, or give the program the capability with \
`setcap cap_net_admin+ep`.

The first Ctrl-C (or SIGTERM) ends in kind: listeners close, what is on its way is delivered, and after --drain \
seconds what is left is reset. The second one ends at once. Exit codes: 0 ended as asked, 1 failed, 2 wrong usage.";

const CHECK_HELP: &str = "\
Two hosts with an instance each open, send, close, lose and reset over a link in memory; one instance takes over from \
another in mid-stream. Then the scripts run, each against a fresh instance: what arrives and what must leave, segment by \
segment. What a module does not serve is n/a, and no failure.

Examples:
  bulkhead check                                       the bundled module
  bulkhead check my-tcp.wasm --scripts tests/conformance --pcap /tmp/failed
  bulkhead check my-udp.wasm --json
  bulkhead check guest-neighbours.wasm --setting link-address=2199023255553
      02:00:00:00:00:01, without which it does not start

Exit codes: 0 everything holds, 1 something does not, or the module cannot be run, 2 wrong usage.";
const REPLAY_EXAMPLES: &str = "\
Examples:
  sudo bulkhead run http ./site --record run.rec   record; then, with or without root:
  bulkhead replay run.rec                          does it do the same again?
  bulkhead replay run.rec --placement native       and without the sandbox?
  bulkhead replay run.rec --module other.wasm      where does another module first differ?
  bulkhead replay run.rec --print --until 20       the first 20 steps, segment by segment
  bulkhead replay fault.rec                        the fault again, with the module's own backtrace

Exit codes: 0 as recorded, 1 not as recorded or not to be read, 2 wrong usage.";

const SWAP_EXAMPLES: &str = "\
Examples:
  sudo bulkhead swap ./my-tcp.wasm                another module, with all connections as they are
  sudo bulkhead swap --shadow 1000 ./my-tcp.wasm  the same, if it says the same for 1,000 steps
  sudo bulkhead swap --placement native           the bundled module without its sandbox
  sudo bulkhead swap                              the bundled module in its sandbox again
  sudo bulkhead swap --cold ./tiny-tcp.wasm       cannot read the state: connections are reset

The newcomer is compiled and rehearses with a copy of the state before anything waits. It must account for every \
connection with the host's own numbers; if it refuses, differs or fails in its first step, nothing has changed, and if \
it fails within its next 64 steps the former module takes over again. Exit codes: 0 swapped, 1 not swapped, 2 wrong usage.";

const UPGRADE_EXAMPLES: &str = "\
Examples:
  sudo bulkhead upgrade                           after the program's file was replaced
  sudo bulkhead upgrade ./bulkhead --tun tun7     another file, and another instance

The instance starts the new program with its own command line, gives it the device, the state of the protocol module, all \
buffers, listeners and sockets, and what its applications are about, and ends with success once the new one has said that it \
took over. If the new program refuses or fails before that, nothing has changed. Connections of echo, discard, source, http, \
forward and socks5 go along, of all shards, and recordings and files of frames go on; measurements (perf, perf-to) do not go \
along, and are refused before anything is touched. Exit codes: 0 taken over, 1 not, 2 wrong usage.";

/// The command by which this program becomes the server process of one more of its kind.
pub(super) const SERVE_MODULE: &str = "serve-module";
/// The command by which this program becomes a child of a comparison.
pub(super) const COMPARE_SERVE: &str = "compare-serve";

/// TCP behind a wall: the protocol stack is a WebAssembly component in a sandbox, a function call away from the
/// applications and unable to touch a byte of theirs.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, about, after_help = EXAMPLES, propagate_version = true)]
pub(super) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,

    /// Says more on standard error: connections, then decisions, then everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serves applications on a sandboxed TCP stack, over a TUN device of its own
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<Run>),
    /// Shows the connections of a running instance
    Stat(Stat),
    /// Gives any program a network through the sandboxed stack, without root
    #[command(after_help = GATEWAY_EXAMPLES)]
    Gateway(Box<Gateway>),
    /// The gateway for tools that call slirp4netns, by its words
    #[command(name = SLIRP4NETNS, after_help = SLIRP4NETNS_HELP)]
    Slirp4netns(Box<Slirp4netns>),
    /// The part of the gateway that is inside
    #[command(hide = true)]
    GatewayInside(Inside),
    /// Puts another protocol module into a running instance, between two steps: no connection notices
    #[command(after_help = SWAP_EXAMPLES)]
    Swap(Swap),
    /// Replaces the program of a running instance, with everything that it does: no connection notices
    #[command(after_help = UPGRADE_EXAMPLES)]
    Upgrade(Upgrade),
    /// Gives a running instance other secrets, before a recording of it is handed on: connections to come do not follow from it
    Reseed(Whom),
    /// Prints what is made of the command line: a man page, completions, a systemd unit
    #[command(subcommand)]
    Generate(Generate),
    /// Shows what a protocol module is and what it may do, without running traffic through it
    Inspect(Inspect),
    /// Holds a protocol module against the contract and against conformance scripts, in virtual time
    #[command(after_help = CHECK_HELP)]
    Check(Check),
    /// Feeds a recording to a module, and finds where it first does something else than what was recorded
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Replay),
    /// Serves the bundled module to the program that started this one, over shared memory
    #[command(name = SERVE_MODULE, hide = true)]
    ServeModule,
    /// Measures the placements side by side: what a wall costs, and (with `faults`) what it buys
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(Compare),
    /// A child of a comparison
    #[command(name = COMPARE_SERVE, hide = true)]
    CompareServe(Serve),
    /// Searches a protocol module for faults, as a file: without its source and without a network
    #[command(after_help = FUZZ_EXAMPLES)]
    Fuzz(Box<Fuzz>),
    /// Joins two TUN interfaces by a link with loss, delay, reordering and more: where the kernel has no netem
    #[command(after_help = LINK_EXAMPLES)]
    Link(Box<LinkRun>),
}

/// What is served, and on what.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Applications: echo, discard, source, http DIR, perf, forward LISTEN=TARGET, socks5, perf-to SERVER; see below
    #[arg(required = true, value_name = "APP")]
    pub(super) applications: Vec<OsString>,

    /// More of the options below, and applications, from a file in TOML; what is said here comes before it
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// The control socket, which `bulkhead stat` asks; by default one for the interface in $XDG_RUNTIME_DIR/bulkhead or
    /// /run/bulkhead
    #[arg(long, value_name = "PATH")]
    pub(super) control: Option<PathBuf>,

    /// Serve figures for Prometheus at this address of the host's
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) metrics: Option<SocketAddr>,

    /// The protocol module, a component; the bundled TCP module if not given
    #[arg(long, value_name = "FILE.wasm")]
    pub(super) module: Option<PathBuf>,

    /// Where the module runs
    #[arg(long, value_enum, default_value_t = Placement::Wasm)]
    pub(super) placement: Placement,

    /// With --placement process: how long each side looks for the other's word before it sleeps. 50 if not given, 0 where
    /// there is one processor
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(super) server_spin: Option<u64>,

    /// The TUN interface, which is created if there is none and is gone afterwards
    #[arg(long, value_name = "NAME", default_value = "bulkhead0")]
    pub(super) tun: String,

    /// An address of the stack's with the length of its network; may be repeated (one IPv4 network, any of IPv6)
    #[arg(long, value_name = "CIDR", default_value = "10.77.0.2/24")]
    pub(super) address: Vec<Cidr>,

    /// The kernel's address in the network of --address; the other (or first) host of it if not given
    #[arg(long, value_name = "ADDRESS")]
    pub(super) peer_address: Vec<IpAddr>,

    /// The longest datagram on the interface, in bytes
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(576..=65_535))]
    pub(super) mtu: Option<u32>,

    /// Leave checksums and segmentation to the kernel; without it every frame is one of the MTU. On where it can be had
    #[arg(long, value_enum)]
    pub(super) offload: Option<Switch>,

    /// Stacks side by side, each with an instance, a queue of the interface and a thread of its own; needs offload
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) shards: u16,

    /// Look for frames without sleeping for this long after the last one: less latency, for a core
    #[arg(long, value_name = "MICROSECONDS", default_value = "0", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(super) busy_poll: u64,

    /// Write every frame to this file, for Wireshark or tcpdump; with shards, each further one's to FILE.1 and so on
    #[arg(long, value_name = "FILE")]
    pub(super) pcap: Option<PathBuf>,

    /// Record everything that the module is given, for `bulkhead replay`; with shards, each further one's to FILE.1 and so
    /// on. It holds no application's bytes, but addresses, ports and the seed of all randomness: it is yours alone (mode 0600)
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,

    /// Write a report of each failure of the module into this folder, with a recording that does it again; the newest are kept,
    /// at most 32 and 256 MiB. They are yours alone (mode 0600), and hold no application's bytes
    #[arg(long, value_name = "DIR")]
    pub(super) reports: Option<PathBuf>,

    /// Keep what the module was given since its last checkpoint in memory; off saves some percent, and loses every
    /// connection when the module fails
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub(super) recording: Switch,

    /// A setting of the module's, the default of its connections, as in nodelay=1 or congestion=reno; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub(super) setting: Vec<Setting>,

    /// Print the summary as JSON
    #[arg(long)]
    pub(super) json: bool,

    /// How long open connections may take to end once the end was asked for
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(super) drain: Duration,

    /// Seed of all randomness of the stack, for tests: with it, sequence numbers and ports can be foreseen
    #[arg(long, value_name = "NUMBER")]
    pub(super) seed: Option<u64>,

    /// The successor of the instance at the other end of the standard input, which has started it
    #[arg(long, hide = true)]
    pub(super) take_over: bool,

    /// The whole command line.
    #[arg(skip)]
    pub(super) words: Vec<OsString>,

    /// The program's own file.
    #[arg(skip)]
    pub(super) program: Option<PathBuf>,
}

/// A running instance.
#[derive(Debug, Args)]
pub(super) struct Whom {
    /// The interface of the instance
    #[arg(long, value_name = "NAME", default_value = "bulkhead0")]
    tun: String,

    /// Its control socket, where it is not in the usual place
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,

    /// Print it as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Whom {
    /// Its control socket.
    pub(super) fn path(&self) -> PathBuf {
        self.control.clone().unwrap_or_else(|| path_for(&self.tun))
    }
}

/// Which program takes over, and from whom.
#[derive(Debug, Args)]
pub(super) struct Upgrade {
    /// The program that takes over; the running one's own file, as it is now, if not given
    #[arg(value_name = "PROGRAM")]
    pub(super) program: Option<PathBuf>,

    #[command(flatten)]
    pub(super) whom: Whom,
}

/// What takes over, and from whom.
#[derive(Debug, Args)]
pub(super) struct Swap {
    /// The component that takes over; the bundled TCP module if not given
    #[arg(value_name = "FILE.wasm")]
    pub(super) file: Option<PathBuf>,

    /// Where it runs
    #[arg(long, value_enum, default_value_t = Placement::Wasm)]
    pub(super) placement: Placement,

    /// Before that, an instance of it is given the same inputs for this many steps (10 s at most), and must say the same
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) shadow: Option<u32>,

    /// It starts empty, and every connection is reset: for a module that cannot read the other's state
    #[arg(long, conflicts_with = "shadow")]
    pub(super) cold: bool,

    /// The running instance
    #[command(flatten)]
    pub(super) whom: Whom,
}

/// Whom to ask.
#[derive(Debug, Args)]
pub(super) struct Stat {
    /// The running instance
    #[command(flatten)]
    pub(super) whom: Whom,

    /// Again and again, after this many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = pause)]
    pub(super) watch: Option<f64>,
}

/// What is done again.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The recording, of `bulkhead run --record` or of a fault's report
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    /// Feed it to this module, a component; to the recorded one if not given, which has to be a bundled one then
    #[arg(long, value_name = "FILE.wasm")]
    pub(super) module: Option<PathBuf>,

    /// Where the module runs; as recorded if not given
    #[arg(long, value_enum)]
    pub(super) placement: Option<Placement>,

    /// Begin at the last checkpoint that was taken before this step
    #[arg(long, value_name = "STEP")]
    pub(super) from: Option<u64>,

    /// End after this step
    #[arg(long, value_name = "STEP")]
    pub(super) until: Option<u64>,

    /// Print every segment, as tcpdump would, and what else went in and came out
    #[arg(long)]
    pub(super) print: bool,

    /// Write every segment to this file, for Wireshark or tcpdump; there are headers in it and no payload
    #[arg(long, value_name = "FILE")]
    pub(super) pcap: Option<PathBuf>,

    /// Write a copy for others: addresses and ports replaced, the same by the same, without seed, states and hashes. It is read
    /// with --print or --pcap, which show what went in, and can be fed to no module
    #[arg(long, value_name = "FILE", conflicts_with_all = ["module", "placement", "from", "until", "print", "pcap", "json"])]
    pub(super) redact: Option<PathBuf>,

    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What is made of the command line.
#[derive(Debug, Subcommand)]
pub(super) enum Generate {
    /// A man page
    Man,
    /// What a shell completes
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// A systemd unit, which reads /etc/bulkhead.toml
    Systemd,
}

/// What is looked at.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The module, a component; the bundled TCP module if not given
    #[arg(value_name = "FILE.wasm")]
    pub(super) module: Option<PathBuf>,

    /// Print it as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What is held against what.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The module, a component; the bundled TCP module if not given
    #[arg(value_name = "MODULE.wasm")]
    pub(super) module: Option<PathBuf>,

    /// Run every .pkt script below this folder; a basic set that this program carries inside it if not given
    #[arg(long, value_name = "DIR")]
    pub(super) scripts: Option<PathBuf>,

    /// Where the module runs
    #[arg(long, value_enum, default_value_t = Placement::Wasm)]
    pub(super) placement: Placement,

    /// A setting that the module is started with, as in congestion=reno; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub(super) setting: Vec<Setting>,

    /// Write the frames of each failed script to a file in this folder, for Wireshark
    #[arg(long, value_name = "DIR")]
    pub(super) pcap: Option<PathBuf>,

    /// Print it as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Where a module runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Placement {
    /// As a component in a sandbox, in this process
    Wasm,
    /// The same code compiled into this program, without a wall: for comparison
    Native,
    /// The same code in a server process without privileges, over shared memory: as a microkernel has it
    Process,
}

/// On or off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

/// The longest drain: an hour.
const DRAIN_SECONDS_MAX: f64 = 3600.0;

fn pause(text: &str) -> Result<f64, String> {
    let seconds = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.1..=DRAIN_SECONDS_MAX).contains(&seconds) { Ok(seconds) } else { Err("0.1 to 3600 seconds".into()) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.0..=DRAIN_SECONDS_MAX).contains(&seconds) {
        return Err(format!("0 to {DRAIN_SECONDS_MAX} seconds"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// A name or number of the registry, and a number or, for what is named by text, at most eight ASCII characters.
pub(super) fn setting(text: &str) -> Result<Setting, String> {
    let (name, value) = text.split_once('=').ok_or("a name and a value, such as nodelay=1")?;
    let known = registry::setting::ALL.iter().find(|(_, known)| *known == name).map(|(key, _)| *key);
    let key = known.or_else(|| name.parse().ok()).ok_or_else(|| {
        let names: Vec<&str> = registry::setting::ALL.iter().map(|(_, name)| *name).collect();
        format!("no such setting; there are {}", names.join(", "))
    })?;
    let value = match value.parse() {
        Ok(number) => number,
        Err(_) if key == registry::setting::CONGESTION && value.is_ascii() && value.len() <= 8 => {
            let mut bytes = [0; 8];
            bytes.iter_mut().zip(value.bytes()).for_each(|(to, from)| *to = from);
            u64::from_le_bytes(bytes)
        }
        Err(_) => return Err("no number; times are in nanoseconds".to_owned()),
    };
    Ok(Setting { key, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn examples_fit_the_width_of_the_help() {
        // What is longer is broken where it reads badly; paragraphs are one line each, which are broken at any width.
        const WIDTH: usize = 100;
        let command = Arguments::command();
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in text.lines().filter(|line| line.starts_with(' ')) {
                assert!(line.chars().count() <= WIDTH, "{}: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn a_usual_line_is_understood() {
        let line =
            "bulkhead run http:8080 /srv echo --address 10.1.0.2/24 --address fd00::2/64 --drain 0.5 -vv";
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(arguments.verbose, 2);
        let Command::Run(run) = arguments.command else { panic!("run") };
        assert_eq!(run.applications, ["http:8080", "/srv", "echo"]);
        assert_eq!((run.address.len(), run.drain), (2, Duration::from_millis(500)));
        assert_eq!(setting("nodelay=1").unwrap(), Setting { key: registry::setting::NODELAY, value: 1 });
        assert_eq!(setting("congestion=reno").unwrap().value, u64::from_le_bytes(*b"reno\0\0\0\0"));
        assert_eq!(setting("4096=7").unwrap(), Setting { key: 4096, value: 7 });
        for wrong in [
            "bulkhead run",
            "bulkhead run echo --address 10.0.0.1",
            "bulkhead run echo --mtu 100",
            "bulkhead run echo --drain -1",
            "bulkhead run echo --placement elsewhere",
            "bulkhead run echo --setting nodelay",
            "bulkhead run echo --setting delay=1",
            "bulkhead run echo --setting nodelay=yes",
        ] {
            assert_eq!(Arguments::try_parse_from(wrong.split(' ')).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
