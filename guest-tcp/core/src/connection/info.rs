//! What `query` tells of a connection, in the registry's order.

use super::Connection;
use crate::instance::Instance;
use alloc::vec;
use alloc::vec::Vec;
use bulkhead_wit::Time;
use bulkhead_wit::registry::info;

impl Connection {
    /// All fields of the info registry.
    pub(crate) fn info(&self, now: Time, instance: &Instance) -> Vec<u64> {
        let mut fields = vec![0_u64; info::ALL.len()];
        self.recovery.info(now, &mut fields);
        let negotiated = &self.negotiated;
        let options = u64::from(negotiated.timestamps)
            | u64::from(negotiated.sack) << 1
            | u64::from(negotiated.window_scale) << 2
            | u64::from(negotiated.ecn) << 3;
        let since = |at: Time| now.saturating_sub(at);
        for (key, value) in [
            (info::STATE, u64::from(self.state.number())),
            (info::SND_MSS, u64::from(self.send_mss())),
            (info::RCV_MSS, u64::from(self.receive.mss)),
            (info::ADVMSS, u64::from(self.announced_mss(instance))),
            (info::PMTU, u64::from(self.path_mtu)),
            (info::PROBES, u64::from(self.send.probes.max(self.send.keepalive_probes))),
            (info::LAST_DATA_SENT, since(self.activity.sent_at)),
            (info::LAST_DATA_RECV, since(self.activity.received_at)),
            (info::LAST_ACK_RECV, since(self.activity.acked_at)),
            (info::RCV_RTT, self.receive.tuning.rtt),
            (info::RCV_SPACE, self.receive.limit.saturating_sub(self.receive.consumed)),
            (info::OPTIONS, options),
            (info::WSCALES, u64::from(self.receive.scale) | u64::from(self.send.scale) << 4),
            (info::OOO_PACKETS, u64::from(self.activity.out_of_order)),
            (info::BYTES_SENT, self.activity.bytes_sent),
            (info::BYTES_ACKED, self.acknowledged()),
            (info::BYTES_RECEIVED, self.receive.next),
            (info::SEGS_OUT, u64::from(self.activity.segs_out)),
            (info::SEGS_IN, u64::from(self.activity.segs_in)),
            (info::SND_WND, u64::from(self.send.window)),
            (info::RCV_WND, self.receive.window()),
        ] {
            if let Some(field) = fields.get_mut(usize::from(key)) {
                *field = value;
            }
        }
        fields
    }
}
