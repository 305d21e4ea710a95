//! What can be said to `bulkhead link`.

use std::path::PathBuf;
use std::str::FromStr;

use bulkhead::device::link::Impairments;
use bulkhead_wit::Time;
use bulkhead_wit::limits::{MICROSECOND, MILLISECOND, SECOND};
use clap::Args;

pub(super) const LINK_EXAMPLES: &str = "\
Each impairment is a value for both directions, or two with a slash between them: from --a to --b, and back.

Examples:
  sudo bulkhead link --a wan0@left --b wan0@right --delay 50ms --loss 1%
      Makes wan0 in the network namespaces `left` and `right`, with 100 ms and a loss of 1 %
      each way between them.
      Addresses: ip netns exec left ip addr add 10.1.0.1/24 dev wan0, and 10.1.0.2/24 at the right.

  sudo bulkhead link --a a0 --b b0 --rate 20Mbit/2Mbit --queue 100k/20k --delay 15ms --seed 7
      A line of 20 Mbit/s there and 2 back, which loses the same frames in every run.

The first Ctrl-C (or SIGTERM) ends it and prints what happened. Interfaces that it made are gone afterwards.";

/// What is joined, and what happens in between.
#[derive(Debug, Args)]
pub(super) struct LinkRun {
    /// The first TUN interface, and the network namespace that it is in (a name of `ip netns`, or a path)
    #[arg(long, value_name = "NAME[@NETNS]")]
    pub(super) a: LinkEndArgument,

    /// The second one
    #[arg(long, value_name = "NAME[@NETNS]")]
    pub(super) b: LinkEndArgument,

    /// Share of frames that are lost, as in 1%
    #[arg(long, value_name = "SHARE", default_value = "0")]
    loss: Ways<Share>,

    /// Share of frames that arrive twice
    #[arg(long, value_name = "SHARE", default_value = "0")]
    duplicate: Ways<Share>,

    /// Share of frames in which a bit is flipped
    #[arg(long, value_name = "SHARE", default_value = "0")]
    corrupt: Ways<Share>,

    /// Share of frames that take longer, and so let others pass
    #[arg(long, value_name = "SHARE", default_value = "0")]
    reorder: Ways<Share>,

    /// How much longer these take, at most
    #[arg(long, value_name = "TIME", default_value = "5ms")]
    reorder_delay: Ways<Span>,

    /// How long every frame takes, as in 20ms
    #[arg(long, value_name = "TIME", default_value = "0")]
    delay: Ways<Span>,

    /// How much longer a frame may take; the order is kept
    #[arg(long, value_name = "TIME", default_value = "0")]
    jitter: Ways<Span>,

    /// Bits a second, as in 20Mbit; 0 is no limit
    #[arg(long, value_name = "RATE", default_value = "0")]
    rate: Ways<Amount>,

    /// Bytes that may wait for the rate, as in 100k; 0 is no limit
    #[arg(long, value_name = "BYTES", default_value = "0")]
    queue: Ways<Amount>,

    /// The longest datagram on both interfaces and on the link, in bytes; without it, what the interfaces have
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(576..=65_535))]
    pub(super) mtu: Option<u32>,

    /// Seed of all that is left to chance; random if not given, and printed
    #[arg(long, value_name = "NUMBER")]
    pub(super) seed: Option<u64>,

    /// Print the summary as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl LinkRun {
    /// What happens from the first interface to the second, and back.
    pub(super) fn impairments(&self) -> [Impairments; 2] {
        [0, 1].map(|way| Impairments {
            loss: self.loss.0[way].0,
            duplicate: self.duplicate.0[way].0,
            corrupt: self.corrupt.0[way].0,
            reorder: self.reorder.0[way].0,
            reorder_delay: self.reorder_delay.0[way].0,
            delay: self.delay.0[way].0,
            jitter: self.jitter.0[way].0,
            rate: self.rate.0[way].0,
            queue: self.queue.0[way].0,
        })
    }
}

/// An interface, perhaps in another network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LinkEndArgument {
    pub(super) name: String,
    pub(super) namespace: Option<PathBuf>,
}

impl FromStr for LinkEndArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, namespace) = match text.split_once('@') {
            None => (text, None),
            Some((_, "")) => return Err("no namespace after the @".into()),
            Some((name, path)) if path.contains('/') => (name, Some(path.into())),
            Some((name, known)) => (name, Some(PathBuf::from("/run/netns").join(known))),
        };
        bulkhead::device::interface::Interface::new(name).map_err(|error| error.to_string())?;
        Ok(Self { name: name.to_owned(), namespace })
    }
}

/// A value for each direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ways<T>([T; 2]);

impl<T: FromStr<Err = String> + Copy> FromStr for Ways<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            None => text.parse().map(|both| Self([both; 2])),
            Some((there, back)) => Ok(Self([there.parse()?, back.parse()?])),
        }
    }
}

/// A number before its unit.
fn scaled(text: &str, units: &[(&str, f64)]) -> Result<f64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let value: f64 = digits.parse().map_err(|_| format!("{text}: no number"))?;
    let scale = units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    let scale = scale.or((value == 0.0 && unit.is_empty()).then_some(1.0)).ok_or_else(|| {
        let known: Vec<&str> = units.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
        format!("{text}: the unit is one of {}", known.join(", "))
    })?;
    Ok(value * scale)
}

/// Millionths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Share(u32);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let millionths = scaled(text, &[("%", 10_000.0)])?;
        if millionths > 1e6 { Err("more than 100 %".into()) } else { Ok(Self(millionths.round() as u32)) }
    }
}

/// Nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span(Time);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("us", MICROSECOND as f64), ("ms", MILLISECOND as f64), ("s", SECOND as f64)];
        let time = scaled(text, &units)?;
        if time > 3600.0 * SECOND as f64 { Err("more than an hour".into()) } else { Ok(Self(time as Time)) }
    }
}

/// Bytes, or bits a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Amount(u64);

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units =
            [("", 1.0), ("k", 1024.0), ("M", 1_048_576.0), ("kbit", 1e3), ("Mbit", 1e6), ("Gbit", 1e9)];
        Ok(Self(scaled(text, &units)? as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_units_and_directions() {
        assert_eq!("1%".parse(), Ok(Ways([Share(10_000); 2])));
        assert_eq!("0.1%/3%".parse(), Ok(Ways([Share(1000), Share(30_000)])));
        assert_eq!("1.5ms/0".parse(), Ok(Ways([Span(1_500_000), Span(0)])));
        assert_eq!("20Mbit".parse(), Ok(Ways([Amount(20_000_000); 2])));
        for wrong in ["5", "-1%", "200%", "x"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
        assert!("3 parsecs".parse::<Span>().is_err());
    }

    #[test]
    fn interfaces_may_be_elsewhere() {
        let end = "wan0@left".parse::<LinkEndArgument>().unwrap();
        assert_eq!((end.name.as_str(), end.namespace), ("wan0", Some("/run/netns/left".into())));
        let end = "wan0@/proc/1/ns/net".parse::<LinkEndArgument>().unwrap();
        assert_eq!(end.namespace, Some("/proc/1/ns/net".into()));
        assert!("an interface".parse::<LinkEndArgument>().is_err());
        assert!("wan0@".parse::<LinkEndArgument>().is_err());
    }
}
