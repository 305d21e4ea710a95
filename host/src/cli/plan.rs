//! Which applications are served, and where.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::failure::usage;

/// Applications of one run, at most.
const APPLICATIONS: usize = 64;

/// An application and its port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Application {
    pub(super) kind: Kind,
    pub(super) port: u16,
}

/// What an application does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Echo,
    Discard,
    Source,
    /// Serves this directory.
    Http(PathBuf),
}

impl Kind {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Discard => "discard",
            Self::Source => "source",
            Self::Http(_) => "http",
        }
    }

    const fn default_port(&self) -> u16 {
        match self {
            Self::Echo => 7,
            Self::Discard => 9,
            Self::Source => 19,
            Self::Http(_) => 80,
        }
    }
}

impl fmt::Display for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), self.port)
    }
}

impl Application {
    /// A line that a user can type to try it.
    pub(super) fn try_it(&self, address: IpAddr) -> String {
        let at = SocketAddr::new(address, self.port);
        // A shell would take the brackets of an IPv6 address for a pattern, and curl for a range.
        let (options, quote) = if address.is_ipv6() { ("-g ", "'") } else { ("", "") };
        match self.kind {
            Kind::Echo => format!("(echo hello; sleep 1) | curl -s {options}{quote}telnet://{at}{quote}"),
            Kind::Discard => format!("head -c 100M /dev/zero | curl {options}{quote}telnet://{at}{quote}"),
            Kind::Source => {
                format!("curl {options}{quote}telnet://{at}{quote} </dev/null | head -c 100M >/dev/null")
            }
            Kind::Http(_) if self.port == 80 => {
                let text = at.to_string();
                let host = text.trim_end_matches(":80");
                format!("curl {options}{quote}http://{host}/{quote}")
            }
            Kind::Http(_) => format!("curl {options}{quote}http://{at}/{quote}"),
        }
    }
}

/// Reads the words of the command line: `http` is followed by its directory.
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
        let kind = match name {
            "echo" => Kind::Echo,
            "discard" => Kind::Discard,
            "source" => Kind::Source,
            "http" => Kind::Http(words.next().map(PathBuf::from).ok_or_else(|| {
                usage(format!("{text} needs the directory that it is to serve, as in `{text} .`"))
            })?),
            _ => {
                let word = word.display();
                return Err(usage(format!(
                    "{word}: no such application; there are echo, discard, source (each with an optional :PORT) and \
                     http[:PORT] DIR"
                )));
            }
        };
        let port = match port {
            None => kind.default_port(),
            Some(text) => text
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| usage(format!("{name}:{text}: no port; give a number from 1 to 65535")))?,
        };
        let application = Application { kind, port };
        if let Some(other) = found.iter().find(|other| other.port == port) {
            return Err(usage(format!(
                "{other} and {application} cannot share port {port}; give one of them another, as in {}:{}",
                application.kind.name(),
                port.checked_add(8000).unwrap_or(8000)
            )));
        }
        found.push(application);
    }
    if found.len() > APPLICATIONS {
        return Err(usage(format!("{APPLICATIONS} applications at most")));
    }
    Ok(found)
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
        assert!(parse("smtp").unwrap_err().contains("no such application"));
        assert!(parse("echo http").unwrap_err().contains("needs the directory"));
        assert!(parse("echo:0").unwrap_err().contains("no port"));
        assert!(parse("echo:http").unwrap_err().contains("no port"));
        assert!(parse("echo source:7").unwrap_err().contains("share port 7"));
    }

    #[test]
    fn lines_to_try_have_the_real_address() {
        let http = |port| Application { kind: Kind::Http(".".into()), port };
        assert_eq!(http(80).try_it("10.77.0.2".parse().unwrap()), "curl http://10.77.0.2/");
        assert_eq!(http(8080).try_it("10.77.0.2".parse().unwrap()), "curl http://10.77.0.2:8080/");
        assert_eq!(http(80).try_it("fd77::80".parse().unwrap()), "curl -g 'http://[fd77::80]/'");
        assert_eq!(http(81).try_it("fd77::2".parse().unwrap()), "curl -g 'http://[fd77::2]:81/'");
    }
}
