//! Choosing a local port (RFC 6056 3.3.3, simple hash-based selection), of this shard's class.

use crate::instance::Instance;
use crate::limits::PORT_TRIES;
use bulkhead_wit::{Address, Endpoint};

/// A port of ours that `is_free` says yes to; `None` if there is none.
pub(crate) fn choose(
    instance: &mut Instance,
    local: Address,
    remote: Endpoint,
    mut is_free: impl FnMut(Endpoint) -> bool,
) -> Option<u16> {
    let (first, last) = (u32::from(instance.ports.0), u32::from(instance.ports.1));
    let shards = u32::from(instance.shards);
    // The first port of our class: port % shards == shard.
    let first = first + (u32::from(instance.shard) + shards - first % shards) % shards;
    let count = if first > last { return None } else { (last - first) / shards + 1 };
    let words = [local.high, local.low, remote.address.high, remote.address.low, u64::from(remote.port)];
    let offset = instance.keys.ports.secret(&words) as u32;
    for _ in 0..count.min(PORT_TRIES) {
        let index = offset.wrapping_add(instance.port_counter) % count;
        instance.port_counter = instance.port_counter.wrapping_add(1);
        let port = u16::try_from(first + index * shards).ok()?;
        if is_free(Endpoint::new(local, port)) {
            return Some(port);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_of_our_class_and_run_out() {
        let mut instance = Instance { ports: (40_000, 40_099), shard: 3, shards: 8, ..Instance::default() };
        let remote = Endpoint::new(Address::from_v4([10, 0, 0, 2]), 80);
        let local = Address::from_v4([10, 0, 0, 1]);
        let mut taken = alloc::collections::BTreeSet::new();
        while let Some(port) = choose(&mut instance, local, remote, |end| !taken.contains(&end.port)) {
            assert_eq!(port % 8, 3);
            assert!((40_000..=40_099).contains(&port));
            taken.insert(port);
        }
        assert_eq!(taken.len(), 13);
    }
}
