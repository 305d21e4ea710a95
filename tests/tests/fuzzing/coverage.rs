//! A module with counters does what it did without, and files that cannot have counters are refused with a reason.

use bulkhead::Options;
use bulkhead::fuzz::{RewriteError, Target, instrument};
use bulkhead::placement::Instance;
use bulkhead_wit::{Address, Batch, Call, Endpoint, Listen, Listening, Outputs, Room, Segment, limits};

use bulkhead_tests::frames::{ACK, SYN, Tcp};

fn listen() -> Call {
    Call::Listen(Listen {
        listener: 1,
        local: Endpoint::new(Address::from_v4([10, 0, 0, 1]), 80),
        how: Listening::default(),
        allow: 10,
        receive_first: 65_536,
        receive_max: 65_536,
        settings: Vec::new(),
    })
}

fn segment(batch: &mut Batch, tcp: &Tcp, payload: u32) {
    let bytes = tcp.header();
    batch.segments.push(Segment {
        header: batch.headers.len() as u32,
        payload,
        header_length: bytes.len() as u16,
        transport: 20,
        mss: payload.max(1) as u16,
        count: 1,
        protocol: 6,
        ..Segment::default()
    });
    batch.headers.extend(bytes);
}

/// A handshake and data, as batches; the sequence number that the module chose is read from its answer.
fn dialogue(mut step: impl FnMut(&Batch) -> Outputs) {
    let mut batch = Batch { room: Room { sends: 100, bytes: 1 << 20 }, ..Batch::default() };
    batch.calls.push(listen());
    step(&batch);
    batch.clear();
    let syn =
        Tcp { source: ([10, 0, 0, 2], 4000), destination: ([10, 0, 0, 1], 80), seq: 99, ack: 0, flags: SYN };
    batch.now = limits::SECOND;
    segment(&mut batch, &syn, 0);
    let answer = step(&batch);
    let header = &answer.headers[answer.sends[0].header as usize..];
    let isn = u32::from_be_bytes(header[24..28].try_into().expect("four bytes"));
    for (seq, payload) in [(100, 0), (100, 500), (700, 20), (600, 100)] {
        batch.clear();
        batch.now += limits::MILLISECOND;
        segment(&mut batch, &Tcp { seq, ack: isn.wrapping_add(1), flags: ACK, ..syn }, payload);
        step(&batch);
    }
}

#[test]
fn an_instrumented_module_gives_the_same_outputs() {
    let target = Target::bundled().expect("the bundled module");
    let config = Options::new([10, 0, 0, 1].into(), 24, 1500, [1, 2, 3, 4]).config;
    let mut plain = target.plain().expect("an instance");
    let mut counted = target.counted().expect("an instance");
    plain.start(&config).expect("it starts");
    counted.start(&config).expect("it starts");
    let all = target.instrumented().probes.len();
    let idle = counted.counters(|counters| counters.to_vec()).expect("counters");
    assert_eq!(idle.len(), all, "a counter for each probe");
    let mut seen = vec![false; all];
    dialogue(|batch| {
        let (mut one, mut other) = (Outputs::default(), Outputs::default());
        plain.step(&batch.inputs(), &mut one).expect("no fault");
        counted.step(&batch.inputs(), &mut other).expect("no fault");
        assert_eq!(one, other);
        counted
            .counters(|now| now.iter().zip(&mut seen).for_each(|(count, seen)| *seen |= *count > 0))
            .expect("counters");
        one
    });
    let edges = seen.iter().filter(|seen| **seen).count();
    assert!(edges > 300 && edges < all / 2, "{edges} of {all} edges");
    let again = counted.counters(|counters| counters.iter().all(|count| *count == 0));
    assert_eq!(again, Ok(true), "taking the counters sets them to zero");
    assert_eq!(plain.save(), counted.save());
    assert!(target.instrumented().names.iter().any(|(_, name)| name.contains("bulkhead_tcp")));
    assert!(!target.instrumented().constants.is_empty());
}

#[test]
fn files_that_cannot_be_instrumented_are_refused_with_a_reason() {
    let component = |text: &str| instrument(&wat::parse_str(text).expect("it is WebAssembly text"));
    assert!(matches!(instrument(b""), Err(RewriteError::Malformed(_))));
    assert!(matches!(instrument(b"\0asm\x0d\0\x01\0junk"), Err(RewriteError::Malformed(_))));
    assert_eq!(component("(module)").map(drop), Err(RewriteError::NotComponent));
    assert_eq!(component("(component)").map(drop), Err(RewriteError::NoCode));
    let without_memory =
        r#"(component (core module $m (func (export "f"))) (core instance (instantiate $m)))"#;
    assert_eq!(component(without_memory).map(drop), Err(RewriteError::NoCode));
    let never_made = r#"(component (core module (memory 1) (func (export "f"))))"#;
    assert_eq!(component(never_made).map(drop), Err(RewriteError::NoCode));
    let whole = r#"(component (core module $m (memory 1) (func (export "f") (if (i32.const 1) (then))))
        (core instance (instantiate $m)))"#;
    let instrumented = component(whole).expect("it can be instrumented");
    assert_eq!(instrumented.probes.len(), 3, "entry, then, and what follows");
    assert_eq!(instrument(&instrumented.component).map(drop), Err(RewriteError::Instrumented));
}

#[test]
fn damaged_files_are_an_error_or_a_component() {
    let whole = r#"(component (core module $m (memory 1)
        (func (export "f") (param i32) (result i32) (loop (br_if 0 (i32.eq (local.get 0) (i32.const 77)))) (i32.const 5)))
        (core instance (instantiate $m)))"#;
    let bytes = wat::parse_str(whole).expect("it is WebAssembly text");
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bent = bytes.clone();
            bent[at] ^= 1 << bit;
            let _ = instrument(&bent);
        }
        let _ = instrument(&bytes[..at]);
    }
    let instrumented = instrument(&bytes).expect("it can be instrumented");
    assert_eq!(instrumented.constants, [77]);
}
