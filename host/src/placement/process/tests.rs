//! A server that lies: a thread of the test that writes what it likes into the shared memory, while the process that
//! the host watches is one that does nothing.

use super::*;
use bulkhead_wit::encoding::{OUTPUTS_MAX, encode_outputs};
use bulkhead_wit::{Event, Note};

/// What a lying server says to every request: kind, length, and the bytes.
type Lie = (u32, usize, Vec<u8>);

/// A host whose server answers with these.
fn host(lies: Vec<Lie>) -> Process {
    let (region, file) = Region::create().unwrap();
    let theirs = Region::open(&file).unwrap();
    std::thread::spawn(move || {
        let mut channel = Channel::of_server(theirs);
        for (kind, length, bytes) in lies {
            let _ = channel.wait(None);
            assert!(channel.region().write(FROM_SERVER, &bytes));
            channel.post(kind, length);
        }
    });
    let child = Child::start(&Launch::new("/bin/sleep", ["100"]), file).unwrap();
    let channel = Channel::of_host(region, Duration::ZERO);
    let live = Live { child, channel, bytes: Vec::new() };
    Process { description: Description::default(), live: Some(live), cost: StepCost::default() }
}

fn honest(outputs: &Outputs) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_outputs(outputs, &mut bytes);
    bytes
}

/// The fault of a step that is answered so.
fn fault(kind: u32, length: usize, bytes: Vec<u8>) -> Fault {
    let mut process = host(vec![(kind, length, bytes)]);
    let mut outputs = Outputs::default();
    let fault = process.step(&Inputs::default(), &mut outputs).unwrap_err();
    assert_eq!(outputs, Outputs::default());
    if !matches!(fault, Fault::Refused(_)) {
        assert_eq!(process.id(), None);
        assert_eq!(process.step(&Inputs::default(), &mut outputs), Err(Fault::Ended));
    }
    fault
}

const DONE: u32 = Answer::Done as u32;

#[test]
fn an_honest_answer_is_taken() {
    let said = Outputs { deadline: 7, ..Outputs::default() };
    let bytes = honest(&said);
    let mut process = host(vec![(DONE, bytes.len(), bytes)]);
    let mut outputs = Outputs::default();
    process.step(&Inputs::default(), &mut outputs).unwrap();
    assert_eq!(outputs, said);
}

#[test]
fn a_lie_is_a_fault_with_a_name() {
    let rule = |fault: Fault| fault.rule().unwrap_or_else(|| panic!("{fault}"));
    assert_eq!(rule(fault(DONE, 0, Vec::new())), Rule::Encoding);
    assert_eq!(rule(fault(DONE, 100, vec![0xff; 100])), Rule::Encoding);
    let mut cut = honest(&Outputs::default());
    cut.pop();
    assert_eq!(rule(fault(DONE, cut.len(), cut)), Rule::Encoding);
    let events = vec![Event::Release(0); limits::EVENTS + 1];
    let many = honest(&Outputs { events, ..Outputs::default() });
    assert_eq!(rule(fault(DONE, many.len(), many)), Rule::Counts);
    assert_eq!(rule(fault(77, 0, Vec::new())), Rule::Encoding);
    for length in [OUTPUTS_MAX + 1, u32::MAX as usize] {
        let long = fault(DONE, length, Vec::new());
        assert_eq!(long, Fault::over(Budget::Outputs { limit: OUTPUTS_MAX as u64 }));
    }
}

#[test]
fn words_of_a_liar_are_only_words() {
    let words = b"src/no\nwhere.rs\n99999999999999999999\n\x1b[31mboo".to_vec();
    let said = fault(Answer::Panicked as u32, words.len(), words).to_string();
    assert!(!said.contains('\u{1b}') && !said.contains('\n'), "{said}");
    let refused = fault(Answer::Refused as u32, 3, vec![0xff; 3]);
    assert!(matches!(&refused, Fault::Refused(refused) if refused.call == "step"), "{refused}");
}

/// Bytes that are nearly an answer: whatever comes of them, it is an answer or a fault.
#[test]
fn garbage_of_every_kind_is_survived() {
    let notes = vec![Note { text: "a note".into(), ..Note::default() }; 3];
    let good = honest(&Outputs { notes, headers: vec![1; 40], ..Outputs::default() });
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let lies = std::iter::repeat_with(|| {
        let mut bytes = good.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 24) as u8;
        }
        (DONE, bytes.len(), bytes)
    });
    let mut outputs = Outputs::default();
    for lie in lies.take(60) {
        let result = host(vec![lie]).step(&Inputs::default(), &mut outputs);
        assert!(matches!(result, Ok(()) | Err(Fault::Broken(_))), "{result:?}");
    }
}
