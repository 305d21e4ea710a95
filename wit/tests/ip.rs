//! Network headers: what is built is read back, and what is cut off is not.

use bulkhead_wit::Address;
use bulkhead_wit::ip::{Fragment, Ip};

#[test]
fn what_is_built_is_read_back() {
    for (source, destination) in [
        (Address::from_v4([10, 0, 0, 1]), Address::from_v4([10, 0, 0, 2])),
        (Address::from_v6([1; 16]), Address::from_v6([2; 16])),
    ] {
        let ip = Ip { source, destination, ttl: 63, traffic_class: 0xb9 };
        let mut header = Vec::new();
        ip.build(6, true, &mut header);
        assert_eq!(Ip::parse(&header), Some(ip));
        let least = if source.is_v4() { 20 } else { 40 };
        assert_eq!(header.len(), least);
        assert!((0..least).all(|length| Ip::parse(&header[..length]).is_none()));
    }
}

#[test]
fn a_fragment_says_where_it_belongs() {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[4..8].copy_from_slice(&[0x12, 0x34, 0x20, 0x02]);
    header[9] = 17;
    let fragment = Fragment { identification: 0x1234, offset: 16, more: true, protocol: 17 };
    assert_eq!(Fragment::parse(&header), Some(fragment));
    // Behind a header of options for every hop.
    let mut header = [0; 56];
    (header[0], header[6], header[40]) = (0x60, 0, 44);
    header[48..].copy_from_slice(&[17, 0, 0, 0x11, 0, 0, 0x12, 0x34]);
    assert_eq!(Fragment::parse(&header), Some(fragment));
    assert_eq!(Fragment::parse(&header[..52]), None);
}
