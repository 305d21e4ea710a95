//! Both ends of the protocol against each other, over the kernel's sockets.

use std::time::Duration;

use super::Plan;
use super::client::measure;
use super::server::Perf;
use crate::apps::connect::{Host, Target};
use crate::apps::tests::served;

#[tokio::test]
async fn both_directions_and_several_streams() {
    let served = served(Perf::default()).await;
    let target = Target { host: served.at.ip().to_string(), port: served.at.port() };
    for (reverse, both, parallel) in [(false, false, 1), (true, false, 3), (false, true, 2)] {
        let plan = Plan { time: Duration::ZERO, bytes: 1 << 20, parallel, reverse, both, block: 32 << 10 };
        let measured = measure(&Host, &target, plan, [parallel as u8; 37], |_, _| {}).await.unwrap();
        let streams = parallel as u64 * if both { 2 } else { 1 };
        // What was on its way at the end is not counted, as with iperf3.
        assert!(measured.received > 0 && measured.received <= streams * ((1 << 20) + (32 << 10)));
        if reverse {
            assert!(measured.received >= streams << 20);
        }
    }
    served.stopper.stop();
    served.task.await.unwrap().unwrap();
}
