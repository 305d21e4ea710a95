//! A copy of a recording that does not tell whose it is.
//!
//! Addresses and ports are replaced, each by the same one wherever it stands; the seed of all randomness, saved states (which hold keys
//! and addresses) and the hashes of outputs (which could be guessed from) are left out, and so are checksums and options that
//! might carry an address. What stays true: every input's time, order, kind and size, sequence numbers, flags, windows and
//! timestamps; where the module failed, over which input, and its backtrace. Such a copy is read, and cannot be fed to a module.

use super::entry::{self, Entry, Failure, Kind as Of, Saved, check_of};
use super::read::{ReadError, Reader};
use bulkhead_wit::encoding::decode_inputs;
use bulkhead_wit::registry::protocol;
use bulkhead_wit::{Address, Batch, Call, Config, Endpoint, Kind};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};

/// Writes a copy; gives the steps in it.
///
/// # Errors
/// Where the recording cannot be read, or the copy not written.
pub fn redact<R: Read>(reader: &mut Reader<R>, to: &mut impl Write) -> Result<u64, ReadError> {
    let header =
        super::Header { is_redacted: true, has_payload: false, origin: 0, ..reader.header().clone() };
    to.write_all(&header.encode())?;
    let (mut names, mut batch, mut bytes, mut steps) = (Names::default(), Batch::default(), Vec::new(), 0);
    loop {
        let at = reader.position();
        bytes.clear();
        let Some(entry) = reader.next_entry()? else { break };
        match entry {
            Entry::Start(config) => entry::put_start(&names.config(&config), &mut bytes),
            Entry::Load(saved) => entry::put_saved(Of::Load, &names.saved(&saved), &mut bytes),
            Entry::Checkpoint(saved) => entry::put_saved(Of::Checkpoint, &names.saved(&saved), &mut bytes),
            Entry::Step(inputs) => {
                decode_inputs(inputs, &mut batch).map_err(|error| {
                    ReadError::Malformed(super::Malformed::Body { at, what: error.to_string() })
                })?;
                names.batch(&mut batch);
                entry::put_step(&batch.inputs(), &mut bytes);
                steps += 1;
            }
            Entry::Outputs(_) => entry::put_outputs(0, &mut bytes),
            Entry::Fault(failure) => {
                let text = names.text(failure.text);
                let outputs = failure.outputs.map(|_| 0);
                entry::put_fault(Failure { outputs, text: &text }, &mut bytes);
            }
            Entry::Payload(_) => continue,
            Entry::End => {}
        }
        to.write_all(&bytes)?;
        to.write_all(&check_of(&bytes))?;
    }
    if !reader.is_cut_off() {
        bytes.clear();
        entry::put(Of::End, &mut bytes, |_| {});
        to.write_all(&bytes)?;
        to.write_all(&check_of(&bytes))?;
    }
    to.flush()?;
    Ok(steps)
}

/// Who is called what, in the order in which they appear.
#[derive(Debug, Default)]
struct Names {
    addresses: HashMap<Address, Address>,
    ports: HashMap<u16, u16>,
}

/// The shortest header of IPv4, and the fixed one of IPv6.
const IPV4_MIN: usize = 20;
const IPV6: usize = 40;

impl Names {
    fn address(&mut self, address: Address) -> Address {
        let is_everybody = address.v4() == Some([255; 4]);
        if address.is_unspecified() || is_everybody {
            return address;
        }
        let next = self.addresses.len() as u32 + 1;
        *self.addresses.entry(address).or_insert_with(|| {
            if address.is_v4() {
                // 240.0.0.0/4 is nobody's (RFC 1112 4), and has room for more strangers than a recording can name.
                let [_, high, middle, low] = next.to_be_bytes();
                Address::from_v4([240, high, middle, low])
            } else {
                // Set aside for documents (RFC 3849).
                Address { high: 0x2001_0db8 << 32, low: next.into() }
            }
        })
    }

    fn port(&mut self, port: u16) -> u16 {
        // Never more names than ports: each has another one.
        let next = self.ports.len() as u16 + 1;
        if port == 0 { 0 } else { *self.ports.entry(port).or_insert(next) }
    }

    fn end(&mut self, end: &mut Endpoint) {
        *end = Endpoint::new(self.address(end.address), self.port(end.port));
    }

    fn config(&mut self, config: &Config) -> Config {
        let mut config = Config { seed: (0, 0, 0, 0), ..config.clone() };
        for prefix in &mut config.addresses {
            prefix.address = self.address(prefix.address);
        }
        config
    }

    fn saved<'a>(&mut self, saved: &Saved<'a>) -> Saved<'a> {
        Saved { config: self.config(&saved.config), state: &[], ..*saved }
    }

    fn batch(&mut self, batch: &mut Batch) {
        let Batch { headers, segments, messages, calls, .. } = batch;
        for segment in segments {
            let from = segment.header as usize;
            let Some(header) =
                headers.get_mut(from..).and_then(|rest| rest.get_mut(..usize::from(segment.header_length)))
            else {
                continue;
            };
            match segment.kind {
                Kind::Whole | Kind::IcmpError => self.packet(header),
                Kind::Fragment => _ = self.network(header),
                // Nobody knows what is in it.
                Kind::Frame => header.fill(0),
            }
        }
        for message in messages {
            self.end(&mut message.source);
            self.end(&mut message.to);
        }
        calls.iter_mut().for_each(|call| self.call(call));
    }

    fn call(&mut self, call: &mut Call) {
        match call {
            Call::Configure(config) => *config = self.config(config),
            Call::Reseed(seed) => *seed = (0, 0, 0, 0),
            Call::Listen(listen) => self.end(&mut listen.local),
            Call::Open(open) => {
                self.end(&mut open.local);
                self.end(&mut open.remote);
            }
            Call::Bind(bind) => {
                self.end(&mut bind.local);
                self.end(&mut bind.remote);
            }
            Call::Allow(_) | Call::Unlisten(_) | Call::Decide(_) | Call::Shutdown(_) => {}
            Call::Close(_) | Call::Abort(_) | Call::Set(_) | Call::Query(_) | Call::Report(_) => {}
        }
    }

    /// A network header and what follows it, as far as it is there.
    fn packet(&mut self, header: &mut [u8]) {
        let Some((protocol, at)) = self.network(header) else { return header.fill(0) };
        let Some(transport) = header.get_mut(at..) else { return };
        let is_icmp = protocol == protocol::ICMP || protocol == protocol::ICMPV6;
        let checksum = match protocol {
            protocol::TCP => 16,
            protocol::UDP => 6,
            _ => 2,
        };
        clear(transport, checksum..checksum + 2);
        if is_icmp {
            // A redirect names a router; of an echo, identifier and number stay.
            if transport.first() == Some(&5) || transport.first() == Some(&137) {
                transport.fill(0);
            }
            let quotes = transport.get(8).is_some_and(|first| matches!(first >> 4, 4 | 6));
            if quotes && let Some(quoted) = transport.get_mut(8..) {
                self.packet(quoted);
            }
        } else if protocol == protocol::TCP || protocol == protocol::UDP {
            for place in [0..2, 2..4] {
                if let Some([high, low]) = transport.get_mut(place) {
                    [*high, *low] = self.port(u16::from_be_bytes([*high, *low])).to_be_bytes();
                }
            }
            if protocol == protocol::TCP {
                options(transport);
            }
        } else {
            transport.fill(0);
        }
    }

    /// The network header; gives the protocol of what follows, and where that begins.
    fn network(&mut self, header: &mut [u8]) -> Option<(u8, usize)> {
        match header.first()? >> 4 {
            4 if header.len() >= IPV4_MIN => {
                let (length, protocol) = (usize::from(header[0] & 15) * 4, header[9]);
                for place in [12..16, 16..20] {
                    let own = header.get_mut(place)?;
                    let address = self.address(Address::from_v4(own.try_into().ok()?));
                    own.copy_from_slice(&address.v4()?);
                }
                clear(header, 10..12);
                // Routes, and who was there when.
                if let Some(options) = header.get_mut(IPV4_MIN..length) {
                    options.fill(1);
                }
                Some((protocol, length))
            }
            6 if header.len() >= IPV6 => {
                for place in [8..24, 24..40] {
                    let own = header.get_mut(place)?;
                    let address = self.address(Address::from_v6(own.try_into().ok()?));
                    own.copy_from_slice(&address.octets());
                }
                // The flow label may be a hash of both ends.
                header[1] &= 0xf0;
                clear(header, 2..4);
                Some(extensions(header))
            }
            _ => None,
        }
    }

    /// Text in which endpoints and addresses may stand.
    fn text(&mut self, text: &str) -> String {
        let is_part = |letter: char| letter.is_ascii_hexdigit() || matches!(letter, '.' | ':' | '[' | ']');
        let (mut named, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(begin) = rest.find(is_part) {
            let (before, from) = rest.split_at(begin);
            let (word, after) = from.split_at(from.find(|letter| !is_part(letter)).unwrap_or(from.len()));
            let core = word.trim_end_matches(['.', ':']);
            named.push_str(before);
            // `core::cell` has an address of IPv6 in it, but for the letters around.
            let goes_on =
                |letter: Option<char>| letter.is_some_and(|one| one.is_alphanumeric() || one == '_');
            let is_within = goes_on(named.chars().next_back()) || goes_on(after.chars().next());
            let name = if is_within { None } else { self.word(core) };
            named.push_str(name.as_deref().unwrap_or(core));
            named.push_str(&word[core.len()..]);
            rest = after;
        }
        named + rest
    }

    fn word(&mut self, word: &str) -> Option<String> {
        if let Ok(end) = word.parse::<SocketAddr>() {
            let mut end = Endpoint::from(end);
            self.end(&mut end);
            return Some(end.to_string());
        }
        let address = match word.parse::<IpAddr>().ok()? {
            IpAddr::V4(address) => Address::from_v4(address.octets()),
            IpAddr::V6(address) => Address::from_v6(address.octets()),
        };
        Some(self.address(address).to_string())
    }
}

fn clear(bytes: &mut [u8], place: std::ops::Range<usize>) {
    if let Some(place) = bytes.get_mut(place) {
        place.fill(0);
    }
}

/// Walks extension headers, and leaves of them only what they are and how long; fragment headers hold nothing of anybody.
fn extensions(header: &mut [u8]) -> (u8, usize) {
    let (mut next, mut at) = (header.get(6).copied().unwrap_or_default(), IPV6);
    while matches!(next, 0 | 43 | 44 | 60) {
        let Some([following, length]) = header.get(at..at + 2).and_then(|two| two.first_chunk()).copied()
        else {
            break;
        };
        let end = if next == 44 { at + 8 } else { at + (usize::from(length) + 1) * 8 };
        if next != 44 {
            clear(header, at + 2..end.min(header.len()));
        }
        (next, at) = (following, end);
    }
    (next, at)
}

/// Options of TCP that are known to hold numbers and nothing else; what others hold goes.
fn options(tcp: &mut [u8]) {
    let end = (usize::from(tcp.get(12).copied().unwrap_or_default() >> 4) * 4).min(tcp.len());
    let mut at = 20;
    while let Some(kind) = tcp.get(at..end).and_then(<[u8]>::first).copied() {
        let length = match kind {
            0 => break,
            1 => 1,
            _ => usize::from(tcp.get(at + 1).copied().unwrap_or_default()).max(2),
        };
        if !matches!(kind, 1..=5 | 8) {
            clear(tcp, at + 2..(at + length).min(end));
        }
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_wherever_they_stand() {
        let mut names = Names::default();
        let text = names.text("a segment from 192.0.2.9:443 to 10.77.0.2:50000, by 192.0.2.9: at core::cell, lib.rs:12:7 of [fe80::1]:80.");
        assert_eq!(
            text,
            "a segment from 240.0.0.1:1 to 240.0.0.2:2, by 240.0.0.1: at core::cell, lib.rs:12:7 of [2001:db8::3]:3."
        );
        assert_eq!(names.port(443), 1);
        assert_eq!(names.port(0), 0);
    }

    #[test]
    fn checksums_routes_and_strange_options_go() {
        let mut packet =
            vec![0x46, 0, 0, 0, 1, 2, 0x40, 0, 64, 6, 7, 7, 192, 0, 2, 9, 10, 77, 0, 2, 7, 4, 9, 9];
        packet.extend([1, 187, 195, 80, 1, 2, 3, 4, 5, 6, 7, 8, 0x80, 16, 1, 1, 9, 9, 0, 0]);
        packet.extend([1, 1, 253, 6, 9, 9, 9, 9, 3, 3, 7, 0]);
        Names::default().packet(&mut packet);
        let expected = [
            &[0x46, 0, 0, 0, 1, 2, 0x40, 0, 64, 6, 0, 0, 240, 0, 0, 1, 240, 0, 0, 2, 1, 1, 1, 1][..],
            &[0, 1, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0x80, 16, 1, 1, 0, 0, 0, 0],
            &[1, 1, 253, 6, 0, 0, 0, 0, 3, 3, 7, 0],
        ];
        assert_eq!(packet, expected.concat());
    }

    #[test]
    fn noise_is_survived() {
        let mut state = 1_u64;
        for length in 0..200 {
            let mut noise: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            for first in [0x45, 0x4f, 0x60] {
                noise.first_mut().into_iter().for_each(|byte| *byte = first);
                Names::default().packet(&mut noise.clone());
            }
        }
    }
}
