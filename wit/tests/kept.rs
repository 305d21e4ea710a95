//! States as bytes: what is written is read again, and nothing else is.

use bulkhead_wit::kept::{self, Kept};
use bulkhead_wit::{Address, Endpoint, Handle, Listen};

#[derive(Clone, Copy, PartialEq, Debug, Default)]
enum Light {
    #[default]
    Red,
    Green,
}

#[derive(Clone, PartialEq, Debug, Default)]
struct Crossing {
    light: Light,
    is_open: bool,
    number: u16,
    waiting: Vec<(Handle, Listen)>,
}

bulkhead_wit::kept! {
    enum Light { Red Green }
    struct Crossing { light is_open number waiting }
}

const FORMAT: u64 = 7;

fn crossing() -> Crossing {
    let local = Endpoint::new(Address::from_v4([10, 0, 0, 1]), 80);
    let listen =
        Listen { listener: 3, local, allow: 9, receive_first: 1, receive_max: 2, ..Listen::default() };
    Crossing { light: Light::Green, is_open: true, number: 500, waiting: vec![(Handle(5), listen); 2] }
}

#[test]
fn what_is_written_is_read() {
    let bytes = kept::save(FORMAT, &mut crossing());
    assert_eq!(bytes[..40], [7, 1, 1, 500, 2_u64].map(u64::to_le_bytes).concat());
    let mut read = Crossing::default();
    assert!(kept::load(FORMAT, &bytes, &mut read));
    assert_eq!(read, crossing());
    assert_eq!(kept::save(FORMAT, &mut read), bytes);
}

#[test]
fn nothing_else_is_read() {
    let good = kept::save(FORMAT, &mut crossing());
    let refused = |bytes: &[u8]| !kept::load(FORMAT, bytes, &mut Crossing::default());
    assert!((0..good.len()).all(|length| refused(&good[..length])));
    assert!(refused(&[&good[..], &[0]].concat()));
    // Another format, no light, no bool, a number that is too large, and more connections than can be.
    for (at, value) in [(0, 8), (8, 2), (16, 2), (24, 1 << 16), (32, u64::MAX)] {
        let mut bad = good.clone();
        bad[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
        assert!(refused(&bad), "{value} at {at}");
    }
}

#[test]
fn a_count_that_was_made_up_costs_nothing() {
    let bytes = [FORMAT, 1 << 20].map(u64::to_le_bytes).concat();
    let mut list: Vec<u64> = Vec::new();
    assert!(!kept::load(FORMAT, &bytes, &mut list));
    assert!(list.len() < 2);
    list.walk(&mut kept::Walk::Read(None));
}
