//! The sandbox against modules written by hand: what goes in and out, and everything that a module can do to break out
//! or to break down.

use bulkhead::artifact::Artifact;
use bulkhead::device::Capabilities;
use bulkhead::device::queue::QueueDevice;
use bulkhead::fault::{Budget, Fault, Rule};
use bulkhead::placement::Instance;
use bulkhead::{ListenOptions, Options, Stack};
use bulkhead_tests::wat::{self, Wat};
use bulkhead_wit::{
    Address, Call, Config, Endpoint, Event, Evidence, Handle, Inputs, Kind, MarkAt, Message, NEVER, Outputs,
    Position, Room, Segment, Source, Target, limits,
};

fn load(module: &Wat) -> Artifact {
    Artifact::with_cache("test", &module.component(), None).expect("a module that loads")
}

/// One step of a fresh instance of this module.
fn step_with(module: &Wat, inputs: &Inputs<'_>) -> (Result<(), Fault>, Outputs) {
    let mut instance = load(module).instance().expect("an instance");
    instance.start(&Config::default()).expect("it starts");
    let mut outputs = Outputs::default();
    let result = instance.step(inputs, &mut outputs);
    if result.is_err() {
        assert_eq!(
            instance.step(inputs, &mut outputs),
            Err(Fault::Ended),
            "a failed instance is not entered"
        );
        assert_eq!(instance.save(), Err(Fault::Ended));
    }
    (result, outputs)
}

fn fault(module: &Wat) -> Fault {
    step_with(module, &Inputs::default()).0.expect_err("a fault")
}

#[test]
fn an_idle_step_gives_nothing() {
    let (result, outputs) = step_with(&Wat::default(), &Inputs::default());
    assert_eq!(result, Ok(()));
    assert_eq!(outputs, Outputs { deadline: NEVER, ..Outputs::default() });
}

/// A `step` that gives back a list's bytes as its headers.
fn echo(list: &str, size: u32) -> Wat {
    Wat::step(format!(
        "(i32.store (i32.const {}) (local.get ${list}))
         (i32.store (i32.const {}) (i32.mul (local.get ${list}_n) (i32.const {size})))",
        wat::HEADERS,
        wat::HEADERS + 4
    ))
}

#[test]
fn segments_arrive_as_the_canonical_abi_has_them() {
    let segment = Segment {
        header: 0x0403_0201,
        payload: 0x0807_0605,
        header_length: 0x0a09,
        transport: 0x0c0b,
        mss: 0x0e0d,
        count: 0x100f,
        protocol: 17,
        kind: Kind::IcmpError,
        evidence: Evidence::Absent,
        device: 20,
    };
    let segments = [segment, Segment { header: 7, ..Segment::default() }];
    let (result, outputs) =
        step_with(&echo("segments", 20), &Inputs { segments: &segments, ..Inputs::default() });
    assert_eq!(result, Ok(()));
    let first: Vec<u8> = (1..=17).chain([2, 2, 20]).collect();
    assert_eq!(outputs.headers[..20], first);
    assert_eq!(outputs.headers[20..24], [7, 0, 0, 0]);
    assert_eq!(outputs.headers.len(), 40);
}

#[test]
fn positions_and_messages_arrive_as_the_canonical_abi_has_them() {
    let marks = MarkAt::PUSH.with(MarkAt::WAITING);
    let position = Position { connection: Handle::by_module(3, 9), written: 1, consumed: 2, limit: 3, marks };
    let inputs = Inputs { positions: &[position], ..Inputs::default() };
    let (result, outputs) = step_with(&echo("positions", 40), &inputs);
    assert_eq!(result, Ok(()));
    let expected = [position.connection.0, 1, 2, 3].map(u64::to_le_bytes).concat();
    assert_eq!(outputs.headers[..32], expected);
    assert_eq!(outputs.headers[32], 17);

    let endpoint = |low, port| Endpoint::new(Address { high: 5, low }, port);
    let message = Message {
        socket: Handle(6),
        length: 7,
        hop_limit: 8,
        traffic_class: 9,
        source: endpoint(10, 11),
        to: endpoint(12, 0x1314),
    };
    let inputs = Inputs { messages: &[message], ..Inputs::default() };
    let (result, outputs) = step_with(&echo("messages", 64), &inputs);
    assert_eq!(result, Ok(()));
    assert_eq!(outputs.headers[..16], [6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8, 9, 0, 0]);
    assert_eq!((outputs.headers[16], outputs.headers[24], outputs.headers[32]), (5, 10, 11));
    assert_eq!((outputs.headers[40], outputs.headers[48]), (5, 12));
    assert_eq!(outputs.headers[56..58], [0x14, 0x13]);
}

#[test]
fn headers_calls_and_numbers_arrive() {
    let step = format!(
        "(i64.store (i32.const {0}) (i64.add (local.get $now)
           (i64.extend_i32_u (i32.add (local.get $room) (local.get $room_bytes)))))
         (i32.store8 (i32.const {1}) (i32.load8_u (local.get $calls)))
         (i32.store (i32.const {2}) (local.get $headers))
         (i32.store (i32.const {2}) (local.get $headers))
         (i32.store (i32.const {3}) (local.get $headers_n))",
        wat::OUTPUTS,
        wat::OUTPUTS + 16,
        wat::HEADERS,
        wat::HEADERS + 4
    );
    let calls = [Call::Shutdown(Handle(3)), Call::Unlisten(1)];
    let inputs = Inputs {
        now: 1 << 40,
        room: Room { sends: 2, bytes: 3 },
        headers: b"header",
        calls: &calls,
        ..Inputs::default()
    };
    let (result, outputs) = step_with(&Wat::step(step), &inputs);
    assert_eq!(result, Ok(()));
    assert_eq!(outputs.deadline, (1 << 40) + 5);
    assert!(outputs.unfinished, "the number of `shutdown` is 8");
    assert_eq!(outputs.headers, b"header");
}

#[test]
fn outputs_are_read_as_the_canonical_abi_has_them() {
    let mut send = [1u64, 2].map(u64::to_le_bytes).concat();
    send.extend([3u32, 4].map(u32::to_le_bytes).concat());
    send.extend([5u16, 6, 7].map(u16::to_le_bytes).concat());
    send.extend([Source::Hold as u8, 0xff]);
    let (result, outputs) = step_with(&Wat::default().with_list(wat::SENDS, 1, send), &Inputs::default());
    assert_eq!(result, Ok(()));
    let send = outputs.sends[0];
    assert_eq!((send.of, send.at, send.header, send.length), (1, 2, 3, 4));
    assert_eq!((send.header_length, send.transport, send.mss), (5, 6, 7));
    assert_eq!((send.source, send.how.0), (Source::Hold, 1), "unknown flags are ignored");

    let mut place = [1u64, 2].map(u64::to_le_bytes).concat();
    place.extend([3u32, 4, 5].map(u32::to_le_bytes).concat());
    place.extend([Source::Staged as u8, Target::Hold as u8, 0, 0]);
    let (result, outputs) = step_with(&Wat::default().with_list(wat::PLACES, 1, place), &Inputs::default());
    assert_eq!(result, Ok(()));
    let place = outputs.places[0];
    assert_eq!((place.of, place.at, place.segment, place.skip, place.length), (1, 2, 3, 4, 5));
    assert_eq!((place.source, place.target), (Source::Staged, Target::Hold));

    let mut mark = [1u64, 2, 3].map(u64::to_le_bytes).concat();
    mark.extend([4u32, 5, 6, 0].map(u32::to_le_bytes).concat());
    let (result, outputs) = step_with(&Wat::default().with_list(wat::MARKS, 1, mark), &Inputs::default());
    assert_eq!(result, Ok(()));
    let mark = outputs.marks[0];
    assert_eq!((mark.connection.0, mark.exposed, mark.acknowledged), (1, 2, 3));
    assert_eq!((mark.by, mark.want_receive, mark.want_send), (4, 5, 6));
}

#[test]
fn events_and_notes_are_read() {
    let mut event = vec![10, 0, 0, 0, 0, 0, 0, 0];
    event.extend(9u64.to_le_bytes());
    event.extend([wat::DATA + 40, 2].map(u32::to_le_bytes).concat());
    event.resize(40, 0);
    event.extend([7u64, 8].map(u64::to_le_bytes).concat());
    let (result, outputs) = step_with(&Wat::default().with_list(wat::EVENTS, 1, event), &Inputs::default());
    assert_eq!(result, Ok(()));
    let Event::Info(info) = &outputs.events[0] else { panic!("{:?}", outputs.events) };
    assert_eq!((info.of.0, info.fields.as_slice()), (9, [7, 8].as_slice()));

    let note = |text: &[u8]| {
        let mut note = vec![3, 0, 0, 0, 0, 0, 0, 0];
        note.extend(5u64.to_le_bytes());
        note.extend([wat::DATA + 24, text.len() as u32].map(u32::to_le_bytes).concat());
        note.extend(text);
        Wat::default().with_list(wat::NOTES, 1, note)
    };
    let (result, outputs) = step_with(&note("grüße".as_bytes()), &Inputs::default());
    assert_eq!(result, Ok(()));
    assert_eq!((outputs.notes[0].level, outputs.notes[0].connection.0), (3, 5));
    assert_eq!(outputs.notes[0].text, "grüße");
    assert_eq!(fault(&note(b"\xff\xfe")).rule(), Some(Rule::Text));
    assert_eq!(fault(&note(&[b'x'; limits::NOTE_BYTES + 1])).rule(), Some(Rule::Text));
}

#[test]
fn values_that_name_nothing_are_faults() {
    let with = |list, size, at: usize, value| {
        let mut record = vec![0; size];
        record[at] = value;
        fault(&Wat::default().with_list(list, 1, record))
    };
    for (list, size, at, value) in [
        (wat::SENDS, 32, 30, 6),
        (wat::PLACES, 32, 28, 6),
        (wat::PLACES, 32, 29, 3),
        (wat::EVENTS, 40, 0, 12),
        (wat::EVENTS, 40, 0, 255),
    ] {
        let fault = with(list, size, at, value);
        assert_eq!(fault.rule(), Some(Rule::Encoding), "{fault}");
        assert!(fault.to_string().contains(&value.to_string()), "{fault}");
    }
}

#[test]
fn lists_that_lie_about_their_length_are_faults_and_allocate_nothing() {
    let list = |list: u32, address: u32, length: u32| {
        let mut module = Wat::default();
        module.data.push((list, [address.to_le_bytes(), length.to_le_bytes()].concat()));
        fault(&module)
    };
    let lists = [wat::HEADERS, wat::SENDS, wat::PLACES, wat::MARKS, wat::EVENTS, wat::NOTES];
    let limits =
        [limits::HEADER_BYTES, limits::SENDS, limits::PLACES, limits::MARKS, limits::EVENTS, limits::NOTES];
    for (at, limit) in lists.into_iter().zip(limits) {
        for length in [limit as u32 + 1, u32::MAX / 32, u32::MAX] {
            assert_eq!(list(at, 0, length).rule(), Some(Rule::Counts), "list at {at}, length {length}");
        }
        for address in [0xffff_fff8, 4 * 65_536] {
            assert_eq!(list(at, address, 1).rule(), Some(Rule::Encoding), "list at {at}, address {address}");
        }
    }
    assert_eq!(list(wat::SENDS, 4, 1).rule(), Some(Rule::Encoding), "not aligned");
    let fields = |address: u32, length: u32| {
        let mut event = vec![10; 8];
        event.extend(0u64.to_le_bytes());
        event.extend([address, length].map(u32::to_le_bytes).concat());
        event.resize(40, 0);
        fault(&Wat::default().with_list(wat::EVENTS, 1, event)).rule()
    };
    assert_eq!(fields(0, limits::INFO_FIELDS as u32 + 1), Some(Rule::Counts));
    assert_eq!(fields(0xffff_fff8, 1), Some(Rule::Encoding));
}

#[test]
fn an_allocator_that_answers_nonsense_is_a_fault() {
    let segments = [Segment::default()];
    let inputs = Inputs { segments: &segments, ..Inputs::default() };
    for next in [0xffff_fff0u32, 4 * 65_536 - 8, 4] {
        let module = Wat {
            start: format!("(global.set $next (i32.const {}))", next.cast_signed()),
            items: String::new(),
            ..Wat::default()
        };
        let (result, _) = step_with(&module, &inputs);
        // 4 is rounded up by the allocator, and is where nothing of the module's own lies.
        assert_eq!(result.err().and_then(|fault| fault.rule()), (next != 4).then_some(Rule::Encoding));
    }
}

#[test]
fn a_trap_names_its_function() {
    let mut module = Wat::step("(call $guilty)");
    module.items = "(func $guilty unreachable)".into();
    let fault = fault(&module);
    let Fault::Trap(trap) = &fault else { panic!("{fault}") };
    assert!(trap.code.contains("unreachable"), "{fault}");
    assert!(fault.to_string().contains("guilty"), "{fault}");
    assert!(fault.report().lines().count() >= 3, "{}", fault.report());
}

#[test]
fn a_panic_text_is_found_where_the_module_says_it_is() {
    let mut module = Wat::step("unreachable");
    module.items = format!("(global (export \"bulkhead_panic\") i32 (i32.const {}))", wat::DATA);
    module.data.push((wat::DATA, [&7u32.to_le_bytes()[..], b"no luck"].concat()));
    assert!(fault(&module).to_string().starts_with("the module panicked: no luck"), "{}", fault(&module));
}

#[test]
fn memory_accesses_divisions_and_indirect_calls_that_fail_are_traps() {
    for step in [
        "(drop (i32.load (i32.const 0x7fff0000)))",
        "(i32.store (i32.const -4) (i32.const 1))",
        "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
        "(call_indirect (i32.const 7))",
    ] {
        let mut module = Wat::step(step);
        module.items = "(table 1 funcref)".into();
        assert!(matches!(fault(&module), Fault::Trap(_)), "{step}");
    }
}

#[test]
fn a_stack_overflow_is_a_trap() {
    let mut module = Wat::step("(call $down)");
    module.items = "(func $down (call $down) (call $down))".into();
    let fault = fault(&module);
    assert!(fault.to_string().contains("call stack exhausted"), "{fault}");
}

#[test]
fn an_endless_loop_is_ended_by_its_budget() {
    let mut module = Wat::step("(call $spin)");
    module.items = "(func $spin (loop $again (br $again)))".into();
    let fault = fault(&module);
    let Fault::Budget(overrun) = &fault else { panic!("{fault}") };
    assert!(matches!(overrun.budget, Budget::Cpu { .. }), "{fault}");
    assert!(fault.to_string().contains("spin"), "{fault}");
}

#[test]
fn an_endless_loop_in_an_allocation_or_before_the_first_step_is_ended_too() {
    let spin = "(loop $again (br $again))";
    let artifact =
        Artifact::with_cache("test", &Wat { start: spin.into(), ..Wat::default() }.component(), None);
    let fault = artifact.unwrap().instance().unwrap().start(&Config::default()).unwrap_err();
    assert!(
        matches!(&fault, Fault::Budget(overrun) if matches!(overrun.budget, Budget::Cpu { .. })),
        "{fault}"
    );

    let module = Wat { describe: spin.into(), ..Wat::default() };
    let error = Artifact::with_cache("test", &module.component(), None).err().expect("no description");
    assert!(error.to_string().contains("exceeded its time"), "{error}");

    let module = Wat { items: format!("(func $begin {spin}) (start $begin)"), ..Wat::default() };
    let error = Artifact::with_cache("test", &module.component(), None).err().expect("no instance");
    assert!(error.to_string().contains("exceeded its time"), "{error}");
}

#[test]
fn memory_without_end_is_ended_by_its_limit() {
    let mut module = Wat::step("(loop $again (drop (memory.grow (i32.const 16))) (br $again))");
    module.pages = (4, 65_536);
    let fault = fault(&module);
    let Fault::Budget(overrun) = &fault else { panic!("{fault}") };
    assert!(matches!(overrun.budget, Budget::Memory { .. }), "{fault}");
}

#[test]
fn a_state_beyond_its_limit_is_a_fault() {
    let module = Wat {
        pages: (2048, 2048),
        save: format!("(i32.const {})", wat::DATA),
        data: vec![(wat::DATA, [0u32, limits::SAVE as u32 + 1].map(u32::to_le_bytes).concat())],
        ..Wat::default()
    };
    let fault = load(&module).instance().unwrap().save().unwrap_err();
    assert_eq!(fault, Fault::over(Budget::Outputs { limit: limits::SAVE as u64 }));
}

#[test]
fn a_long_computation_within_the_budget_is_left_alone() {
    // Some milliseconds of work, in many steps, with the ticker at work meanwhile.
    let step = "(local.set $room (i32.const 1000000))
        (loop $again (br_if $again (local.tee $room (i32.sub (local.get $room) (i32.const 1)))))";
    let mut instance = load(&Wat::step(step)).instance().unwrap();
    let mut outputs = Outputs::default();
    for _ in 0..50 {
        assert_eq!(instance.step(&Inputs::default(), &mut outputs), Ok(()));
    }
    assert_eq!(instance.cost().steps, 50);
}

// ---- the second world

const STAGE: &str =
    "(import \"bulkhead:protocol/payload@1.0.0\" \"stage\" (func $stage (param i32 i32) (result i32)))";
const READ: &str =
    "(import \"bulkhead:protocol/payload@1.0.0\" \"read\" (func $read (param i32 i64 i64 i32 i32)))";

fn with_payload(module: Wat, import: &str) -> Wat {
    Wat { world: "protocol-module-with-payload", ..module }.importing(import)
}

/// What comes of a step of this module in a host.
fn hosted(module: &Wat) -> Result<(), std::sync::Arc<Fault>> {
    let instance = Box::new(load(module).instance().expect("an instance"));
    let options = Options::new([10, 0, 0, 1].into(), 24, 1500, [1, 2, 3, 4]);
    let mut stack = Stack::new(instance, options).expect("it starts");
    stack
        .listen(Endpoint::new(Address::from_v4([10, 0, 0, 1]), 80), ListenOptions::default())
        .expect("a call");
    stack.turn(0, &mut QueueDevice::new(Capabilities::plain(1500))).map(drop)
}

#[test]
fn payload_is_read_and_staged_in_steps_only() {
    let stages = "(drop (call $stage (i32.const 0) (i32.const 8)))";
    let reads = format!(
        "(call $read (i32.const 1) (i64.const 0) (i64.const 0) (i32.const 8) (i32.const {}))",
        wat::DATA
    );
    for (import, call) in [(STAGE, stages), (READ, reads.as_str())] {
        let describing = with_payload(Wat { describe: call.into(), ..Wat::default() }, import);
        let Err(error) = Artifact::with_cache("test", &describing.component(), None) else {
            panic!("it was described")
        };
        assert!(error.to_string().contains("outside of a step"), "{error}");
        let starting = with_payload(Wat { start: call.into(), ..Wat::default() }, import);
        let fault = load(&starting).instance().unwrap().start(&Config::default()).unwrap_err();
        assert_eq!(fault.rule(), Some(Rule::Payload), "{fault}");
    }
    assert_eq!(hosted(&with_payload(Wat::step(stages), STAGE)), Ok(()));
}

#[test]
fn payload_that_is_not_there_and_staging_without_end_are_faults_by_name() {
    let read = |source: u32, of: u64| {
        let to = wat::DATA;
        let step = format!(
            "(call $read (i32.const {source}) (i64.const {of}) (i64.const 0) (i32.const -1) (i32.const {to}))"
        );
        hosted(&with_payload(Wat::step(step), READ)).expect_err("a fault").rule()
    };
    assert_eq!(read(1, 7), Some(Rule::Handle));
    for source in [0, 2, 3, 4, 5, 6, 255] {
        assert_eq!(read(source, 0), Some(Rule::Payload), "source {source}");
    }
    let endless = "(loop $again (drop (call $stage (i32.const 0) (i32.const 1024))) (br $again))";
    let fault = hosted(&with_payload(Wat::step(endless), STAGE)).expect_err("a fault");
    assert_eq!(fault.rule(), Some(Rule::Counts), "{fault}");
    // Bytes that are not in its memory.
    let outside = "(drop (call $stage (i32.const 262140) (i32.const 8)))";
    let fault = hosted(&with_payload(Wat::step(outside), STAGE)).expect_err("a fault");
    assert_eq!(fault.rule(), Some(Rule::Encoding), "{fault}");
}
