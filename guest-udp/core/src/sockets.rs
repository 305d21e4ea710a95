//! The sockets, and whose a datagram is.

use alloc::collections::BTreeMap;
use bulkhead_wit::registry::reason;
use bulkhead_wit::{Address, Bind, Endpoint, Handle, Listening};

use crate::limits::SOCKETS;

/// A socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Socket {
    pub(crate) local: Endpoint,
    /// The only peer, or unspecified.
    pub(crate) remote: Endpoint,
    pub(crate) dual_stack: bool,
    /// Time to live; 0 is the instance's.
    pub(crate) ttl: u8,
    pub(crate) traffic_class: u8,
}

type Ends = (Endpoint, Endpoint);

/// All of them, by handle and by their ends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sockets {
    by_handle: BTreeMap<u64, Socket>,
    by_ends: BTreeMap<Ends, Handle>,
}

/// The unspecified address of the same family.
fn any_like(address: Address) -> Address {
    if address.is_v4() { Address::from_v4([0; 4]) } else { Address::UNSPECIFIED }
}

impl Sockets {
    /// Binds a socket.
    ///
    /// # Errors
    /// The reason's number.
    pub(crate) fn bind(&mut self, bind: &Bind, is_ours: bool) -> Result<(), u16> {
        let any = bind.local.address.is_unspecified();
        // Any port of any address: a gateway.
        let takes_all = any && bind.how.contains(Listening::ANY_ADDRESS);
        if (bind.local.port == 0 && !takes_all) || bind.socket.is_by_module() {
            return Err(reason::INVALID);
        }
        if !any && !is_ours {
            return Err(reason::NOT_AVAILABLE);
        }
        if self.by_handle.len() >= SOCKETS {
            return Err(reason::EXHAUSTED);
        }
        let ends = (bind.local, bind.remote);
        let dual_stack = any && !bind.local.address.is_v4() && bind.how.contains(Listening::DUAL_STACK);
        // `::` for both versions takes the place of 0.0.0.0 too.
        let v4 = (Endpoint::new(Address::from_v4([0; 4]), bind.local.port), bind.remote);
        let v6 = (Endpoint::new(Address::UNSPECIFIED, bind.local.port), bind.remote);
        let is_taken_by_dual = any
            && bind.local.address.is_v4()
            && self.by_ends.get(&v6).is_some_and(|h| self.get(*h).is_some_and(|s| s.dual_stack));
        if self.by_ends.contains_key(&ends)
            || self.by_handle.contains_key(&bind.socket.0)
            || is_taken_by_dual
            || (dual_stack && self.by_ends.contains_key(&v4))
        {
            return Err(reason::IN_USE);
        }
        let socket = Socket { local: bind.local, remote: bind.remote, dual_stack, ttl: 0, traffic_class: 0 };
        self.insert(bind.socket, socket);
        Ok(())
    }

    pub(crate) fn insert(&mut self, handle: Handle, socket: Socket) {
        self.by_ends.insert((socket.local, socket.remote), handle);
        self.by_handle.insert(handle.0, socket);
    }

    pub(crate) fn remove(&mut self, handle: Handle) -> bool {
        let Some(socket) = self.by_handle.remove(&handle.0) else { return false };
        self.by_ends.remove(&(socket.local, socket.remote));
        true
    }

    pub(crate) fn get(&self, handle: Handle) -> Option<&Socket> {
        self.by_handle.get(&handle.0)
    }

    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut Socket> {
        self.by_handle.get_mut(&handle.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_handle.len()
    }

    /// In the order of their handles.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Handle, &Socket)> {
        self.by_handle.iter().map(|(handle, socket)| (Handle(*handle), socket))
    }

    /// The socket that a datagram between these ends is for: the one that says the most about them.
    pub(crate) fn find(&self, local: Endpoint, remote: Endpoint) -> Option<Handle> {
        let nobody = Endpoint::default();
        let any = Endpoint::new(any_like(local.address), local.port);
        for ends in [(local, remote), (any, remote), (local, nobody), (any, nobody)] {
            if let Some(handle) = self.by_ends.get(&ends) {
                return Some(*handle);
            }
        }
        let dual = |ends: Ends| {
            let handle = self.by_ends.get(&ends).copied();
            handle.filter(|handle| local.address.is_v4() <= self.get(*handle).is_some_and(|s| s.dual_stack))
        };
        let both = Endpoint::new(Address::UNSPECIFIED, local.port);
        let all_v4 = (Endpoint::new(any.address, 0), nobody);
        dual((both, remote))
            .or_else(|| dual((both, nobody)))
            .or_else(|| self.by_ends.get(&all_v4).copied())
            .or_else(|| dual((nobody, nobody)))
    }
}
