//! What the state has that its sockets and fragments do not show.

use bulkhead_udp::Udp;
use bulkhead_wit::registry::setting;
use bulkhead_wit::{Batch, Call, Change, Config, Handle, Module as _, Outputs, Setting};

#[test]
fn the_time_to_live_goes_with_the_state_where_no_configuration_says_otherwise() {
    let ttl = |value| Setting { key: setting::TTL, value };
    let (plain, with_ttl) = (Config::default(), Config { settings: vec![ttl(7)], ..Config::default() });
    let [mut udp, mut other, mut fresh] = [Udp::new(), Udp::new(), Udp::new()];
    udp.start(&plain).unwrap();
    let calls = vec![Call::Set(Change { of: Handle::INSTANCE, setting: ttl(9) })];
    udp.step(&Batch { calls, ..Batch::default() }.inputs(), &mut Outputs::default());
    let saved = udp.save();
    other.load(&plain, 1, &saved).unwrap();
    assert_eq!(other.save(), saved);
    other.load(&with_ttl, 1, &saved).unwrap();
    fresh.start(&with_ttl).unwrap();
    assert_eq!(other.save(), fresh.save());
    // The format before this one had everything else.
    let mut former = saved.clone();
    former[0] = 1;
    former.drain(16..24);
    other.load(&plain, 1, &former).unwrap();
    fresh.start(&plain).unwrap();
    assert_eq!(other.save(), fresh.save());
}
