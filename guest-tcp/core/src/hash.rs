//! SipHash (Aumasson and Bernstein 2012), the keyed hash behind the demultiplexer, initial sequence numbers, ports and
//! cookies: whoever does not know the key can neither predict nor collide.

use bulkhead_wit::{Address, Endpoint};

/// A 128-bit key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Key(pub u64, pub u64);

impl Key {
    /// Another key from this one, for another purpose.
    pub(crate) fn derive(self, purpose: u64) -> Self {
        let first = sip::<2, 4>(self, &[purpose, 0]);
        let second = sip::<2, 4>(self, &[purpose, 1]);
        Self(first, second)
    }

    /// SipHash-2-4 of some words: for what an attacker may see.
    pub(crate) fn secret(self, words: &[u64]) -> u64 {
        sip::<2, 4>(self, words)
    }

    /// SipHash-1-3 of a connection's two ends: for tables. IPv4 addresses are packed, so that there is less to hash;
    /// the length, which is hashed too, tells the two forms apart.
    pub(crate) fn tuple(self, local: Endpoint, remote: Endpoint) -> u64 {
        if local.address.is_v4() && remote.address.is_v4() {
            let addresses = local.address.low << 32 | remote.address.low & 0xffff_ffff;
            return sip::<1, 3>(self, &[addresses, ports(local, remote)]);
        }
        sip::<1, 3>(self, &tuple_words(local, remote))
    }
}

/// Both ends as words.
pub(crate) fn tuple_words(local: Endpoint, remote: Endpoint) -> [u64; 5] {
    let Address { high, low } = local.address;
    [high, low, remote.address.high, remote.address.low, ports(local, remote)]
}

fn ports(local: Endpoint, remote: Endpoint) -> u64 {
    u64::from(local.port) << 16 | u64::from(remote.port)
}

struct State([u64; 4]);

impl State {
    const fn round(&mut self) {
        let Self([v0, v1, v2, v3]) = self;
        *v0 = v0.wrapping_add(*v1);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v3);
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.wrapping_add(*v3);
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.wrapping_add(*v1);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v2 = v2.rotate_left(32);
    }
}

/// SipHash-C-D over whole words, which is SipHash over their little-endian bytes.
fn sip<const C: u32, const D: u32>(key: Key, words: &[u64]) -> u64 {
    let mut state = State([
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ]);
    let length = (words.len() as u64).wrapping_mul(8) << 56;
    for word in words.iter().copied().chain(core::iter::once(length)) {
        state.0[3] ^= word;
        for _ in 0..C {
            state.round();
        }
        state.0[0] ^= word;
    }
    state.0[2] ^= 0xff;
    for _ in 0..D {
        state.round();
    }
    state.0[0] ^ state.0[1] ^ state.0[2] ^ state.0[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation's vectors: key 00..0f, inputs of 0, 8 and 16 bytes 00, 01, ...
    #[test]
    fn agrees_with_the_reference_vectors() {
        let key = Key(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(key.secret(&[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(key.secret(&[0x0706_0504_0302_0100]), 0x93f5_f579_9a93_2462);
    }
}
