//! Which applications are served, and where.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::failure::usage;
use crate::apps::connect::Target;
use crate::apps::perf;

/// Applications of one run, at most.
const APPLICATIONS: usize = 64;

/// An application and where its connections come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Application {
    pub(super) kind: Kind,
    pub(super) at: At,
}

/// Where an application listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum At {
    /// On this port of the sandboxed stack.
    Stack(u16),
    /// On a socket of the host's.
    Host(SocketAddr),
    /// Nowhere: it connects.
    Nowhere,
}

/// What an application does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Echo,
    Discard,
    Source,
    /// Serves this directory.
    Http(PathBuf),
    /// Hands connections to a target: by the host where they come from the stack, else by the stack.
    Forward(Target),
    /// A proxy of the host's whose connections leave through the stack.
    Socks5,
    /// What `iperf3 -c` talks to.
    Perf,
    /// Talks to `iperf3 -s` through the stack.
    PerfTo(Target, perf::Plan),
}

impl Kind {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Discard => "discard",
            Self::Source => "source",
            Self::Http(_) => "http",
            Self::Forward(_) => "forward",
            Self::Socks5 => "socks5",
            Self::Perf => "perf",
            Self::PerfTo(..) => "perf-to",
        }
    }
}

impl fmt::Display for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.kind.name();
        match (&self.kind, self.at) {
            (Kind::Forward(target), At::Stack(port)) => write!(f, "{name} {port}={target}"),
            (Kind::Forward(target), At::Host(at)) => write!(f, "{name} host:{at}={target}"),
            (Kind::PerfTo(target, _), _) => write!(f, "{name} {target}"),
            (_, At::Stack(port)) => write!(f, "{name}:{port}"),
            (_, At::Host(at)) => write!(f, "{name}:{at}"),
            (_, At::Nowhere) => f.write_str(name),
        }
    }
}

impl Application {
    /// A line that a user can type to try it, where there is one.
    pub(super) fn try_it(&self, address: IpAddr) -> Option<String> {
        let port = match self.at {
            At::Stack(port) => port,
            At::Host(at) if self.kind == Kind::Socks5 => {
                return Some(format!("curl --socks5-hostname {at} http://example.org/"));
            }
            At::Host(_) | At::Nowhere => return None,
        };
        let at = SocketAddr::new(address, port);
        // A shell would take the brackets of an IPv6 address for a pattern, and curl for a range.
        let (options, quote) = if address.is_ipv6() { ("-g ", "'") } else { ("", "") };
        Some(match self.kind {
            Kind::Echo => format!("(echo hello; sleep 1) | curl -s {options}{quote}telnet://{at}{quote}"),
            Kind::Discard => format!("head -c 100M /dev/zero | curl {options}{quote}telnet://{at}{quote}"),
            Kind::Source => {
                format!("curl {options}{quote}telnet://{at}{quote} </dev/null | head -c 100M >/dev/null")
            }
            Kind::Http(_) if port == 80 => {
                let text = at.to_string();
                let host = text.trim_end_matches(":80");
                format!("curl {options}{quote}http://{host}/{quote}")
            }
            Kind::Http(_) => format!("curl {options}{quote}http://{at}/{quote}"),
            Kind::Perf if port == 5201 => format!("iperf3 -c {address}"),
            Kind::Perf => format!("iperf3 -c {address} -p {port}"),
            Kind::Forward(_) | Kind::Socks5 | Kind::PerfTo(..) => return None,
        })
    }
}

/// Reads the words of the command line: `http` is followed by its directory, `forward` by where from and where to.
///
/// # Errors
/// A line about the command line.
pub(super) fn applications(words: &[OsString]) -> anyhow::Result<Vec<Application>> {
    let mut found: Vec<Application> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        let mut operand = |what: &str| {
            words.next().ok_or_else(|| usage(format!("{text} needs {what}"))).map(OsString::as_os_str)
        };
        let stack = |default: u16| number(name, port, default).map(At::Stack);
        let (kind, at) = match name {
            "echo" => (Kind::Echo, stack(7)?),
            "discard" => (Kind::Discard, stack(9)?),
            "source" => (Kind::Source, stack(19)?),
            "perf" => (Kind::Perf, stack(5201)?),
            "http" => {
                let directory = operand("the directory that it is to serve, as in `http .`")?;
                (Kind::Http(PathBuf::from(directory)), stack(80)?)
            }
            "socks5" => (Kind::Socks5, At::Host(host_end(name, port, 1080)?)),
            "forward" => {
                forward(operand("where from and where to, as in `forward 8080=127.0.0.1:3000`")?.to_str())?
            }
            "perf-to" => perf_to(operand("a server, as in `perf-to 10.77.0.1:5201`")?.to_str())?,
            _ => {
                let word = word.display();
                return Err(usage(format!(
                    "{word}: no such application; there are echo, discard, source, perf (each with an optional \
                     :PORT), http[:PORT] DIR, forward LISTEN=TARGET, socks5[:PORT] and perf-to HOST:PORT"
                )));
            }
        };
        let application = Application { kind, at };
        if at != At::Nowhere
            && let Some(other) = found.iter().find(|other| other.at == at)
        {
            let port = match at {
                At::Stack(port) => port,
                At::Host(end) => end.port(),
                At::Nowhere => 0,
            };
            return Err(usage(format!(
                "{other} and {application} cannot share port {port}; give one of them another"
            )));
        }
        found.push(application);
    }
    if found.len() > APPLICATIONS {
        return Err(usage(format!("{APPLICATIONS} applications at most")));
    }
    Ok(found)
}

fn number(name: &str, port: Option<&str>, default: u16) -> anyhow::Result<u16> {
    let Some(text) = port else { return Ok(default) };
    let number = text.parse().ok().filter(|port| *port != 0);
    number.ok_or_else(|| usage(format!("{name}:{text}: no port; give a number from 1 to 65535")))
}

/// A port of the host's own loopback, or a whole end.
fn host_end(name: &str, text: Option<&str>, default: u16) -> anyhow::Result<SocketAddr> {
    match text.map(str::parse) {
        Some(Ok(end)) => Ok(end),
        _ => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), number(name, text, default)?)),
    }
}

/// `PORT=HOST:PORT` from the stack to the host, `host:[ADDRESS:]PORT=HOST:PORT` from the host into the stack.
fn forward(text: Option<&str>) -> anyhow::Result<(Kind, At)> {
    let text = text.unwrap_or_default();
    let example = "as in `forward 8080=127.0.0.1:3000`, or `forward host:9000=10.77.0.1:80` the other way";
    let (listen, target) = text
        .split_once('=')
        .ok_or_else(|| usage(format!("forward {text}: where from and where to, {example}")))?;
    let target: Target =
        target.parse().map_err(|wrong| usage(format!("forward {text}: the target is {wrong}")))?;
    let at = match listen.strip_prefix("host:") {
        Some(end) => At::Host(host_end("forward host", Some(end), 0)?),
        None => At::Stack(number("forward", Some(listen), 0)?),
    };
    Ok((Kind::Forward(target), at))
}

/// `HOST:PORT[,seconds=N][,parallel=N][,reverse][,both]`.
fn perf_to(text: Option<&str>) -> anyhow::Result<(Kind, At)> {
    let text = text.unwrap_or_default();
    let wrong = |what: &str| usage(format!("perf-to {text}: {what}"));
    let mut parts = text.split(',');
    let server = parts.next().unwrap_or_default();
    let server = if server.contains(':') { server.to_owned() } else { format!("{server}:5201") };
    let target: Target = server.parse().map_err(wrong)?;
    let mut plan = perf::Plan {
        time: Duration::from_secs(10),
        bytes: 0,
        parallel: 1,
        reverse: false,
        both: false,
        block: 128 << 10,
    };
    for part in parts {
        match part.split_once('=') {
            None if part == "reverse" => plan.reverse = true,
            None if part == "both" => plan.both = true,
            Some(("seconds", value)) => {
                let seconds = value.parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
                plan.time = Duration::from_secs(seconds.ok_or_else(|| wrong("1 to 86400 seconds"))?);
            }
            Some(("parallel", value)) => {
                let count = value.parse().ok().filter(|count| (1..=128).contains(count));
                plan.parallel = count.ok_or_else(|| wrong("1 to 128 streams"))?;
            }
            _ => return Err(wrong("after the server come seconds=N, parallel=N, reverse, both")),
        }
    }
    Ok((Kind::PerfTo(target, plan), At::Nowhere))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Vec<String>, String> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let found = applications(&words).map_err(|error| error.to_string())?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn words_become_applications() {
        let all = parse("echo discard:4000 http . source http:8080 echo").unwrap();
        assert_eq!(all, ["echo:7", "discard:4000", "http:80", "source:19", "http:8080"]);
        let all = parse("forward 81=localhost:3000 forward host:9000=10.0.0.1:80 socks5 perf").unwrap();
        assert_eq!(
            all,
            [
                "forward 81=localhost:3000",
                "forward host:127.0.0.1:9000=10.0.0.1:80",
                "socks5:127.0.0.1:1080",
                "perf:5201"
            ]
        );
        assert_eq!(parse("perf-to 10.0.0.1,reverse,parallel=4").unwrap(), ["perf-to 10.0.0.1:5201"]);
        assert_eq!(parse("socks5:[::1]:99").unwrap(), ["socks5:[::1]:99"]);
        assert!(parse("smtp").unwrap_err().contains("no such application"));
        assert!(parse("echo http").unwrap_err().contains("needs the directory"));
        assert!(parse("echo:0").unwrap_err().contains("no port"));
        assert!(parse("echo:http").unwrap_err().contains("no port"));
        assert!(parse("echo source:7").unwrap_err().contains("share port 7"));
        assert!(parse("forward 80").unwrap_err().contains("where from"));
        assert!(parse("forward 80=3000").unwrap_err().contains("target"));
        assert!(parse("perf-to 10.0.0.1,parallel=0").unwrap_err().contains("1 to 128"));
    }

    #[test]
    fn lines_to_try_have_the_real_address() {
        let http = |port| Application { kind: Kind::Http(".".into()), at: At::Stack(port) };
        let try_it = |port, address: &str| http(port).try_it(address.parse().unwrap()).unwrap();
        assert_eq!(try_it(80, "10.77.0.2"), "curl http://10.77.0.2/");
        assert_eq!(try_it(8080, "10.77.0.2"), "curl http://10.77.0.2:8080/");
        assert_eq!(try_it(80, "fd77::80"), "curl -g 'http://[fd77::80]/'");
    }
}
