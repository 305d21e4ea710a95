//! The same defects behind a wall: the real core in a component, or in a process of its own, serving real connections
//! over a link, until its defect fires. The program lives, the fault is named, and both connections are told.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bulkhead::artifact::Artifact;
use bulkhead::device::link::{Link, LinkConfig, LinkEnd};
use bulkhead::fault::{Budget, Ending, Fault, Rule};
use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use bulkhead::placement::process::{Launch, Process};
use bulkhead::{ConnectOptions, ListenOptions, ListenerId, Options, Stack, StreamError, StreamId};
use bulkhead_wit::{Address, Endpoint, Setting, Time, limits};
use hostile_core::{Defect, SETTING};

const SERVER: [u8; 4] = [10, 0, 0, 1];
const CLIENT: [u8; 4] = [10, 0, 0, 2];

/// The component, loaded once for all tests.
fn artifact() -> &'static Artifact {
    static ARTIFACT: OnceLock<Artifact> = OnceLock::new();
    ARTIFACT.get_or_init(|| {
        // `cargo xtask guests` puts guests beside cargo's own folder for tests.
        let guests = std::env::var_os("BULKHEAD_GUESTS").map(PathBuf::from);
        let guests =
            guests.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("guests"));
        Artifact::from_file(&guests.join("hostile-guest.wasm")).expect("run `cargo xtask guests` first")
    })
}

/// A server whose module has a defect, an honest client, two connections between them.
struct World {
    server: Stack,
    client: Stack,
    ends: (LinkEnd, LinkEnd),
    link: Link,
    listener: ListenerId,
    accepted: Vec<StreamId>,
    opened: Vec<StreamId>,
    defect: Defect,
    now: Time,
}

impl World {
    fn new(instance: Box<dyn Instance>, defect: Defect) -> Self {
        let mut options = Options::new(SERVER.into(), 24, 1500, [1, 2, 3, 4]);
        options.config.settings.push(Setting { key: SETTING, value: defect.after(6) });
        let mut server = Stack::new(instance, options).expect("the server starts");
        let local = Endpoint::new(Address::from_v4(SERVER), 80);
        let listener = server.listen(local, ListenOptions::default()).expect("it listens");
        let honest = Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new())));
        let mut client =
            Stack::new(honest, Options::new(CLIENT.into(), 24, 1500, [5, 6, 7, 8])).expect("a client");
        let opened =
            (0..2).map(|_| client.connect(local, ConnectOptions::default()).expect("a place")).collect();
        let (link, one, other) = Link::new(LinkConfig::default(), 1);
        let ends = (one, other);
        Self { server, client, ends, link, listener, accepted: Vec::new(), opened, defect, now: 0 }
    }

    /// A millisecond of everything: both stacks, the link, and both applications, which echo and ask.
    fn tick(&mut self) -> Result<(), Arc<Fault>> {
        self.now += limits::MILLISECOND;
        self.link.advance(self.now);
        self.client.turn(self.now, &mut self.ends.1).expect("the client is honest");
        self.link.advance(self.now);
        self.server.turn(self.now, &mut self.ends.0)?;
        while let Ok(accepted) = self.server.accept(self.listener) {
            self.accepted.push(accepted.stream);
        }
        let mut bytes = [0; 4096];
        for stream in self.accepted.clone() {
            if let Ok(count) = self.server.read(stream, &mut bytes) {
                let _ = self.server.write(stream, &bytes[..count]);
            }
        }
        for stream in self.opened.clone() {
            let _ = self.client.read(stream, &mut bytes);
            let _ = self.client.write(stream, &[7; 700]);
        }
        Ok(())
    }

    /// Runs until the defect has fired; gives the fault, after a look at who was told.
    fn fault(mut self) -> Fault {
        for _ in 0..2000 {
            let Err(fault) = self.tick() else { continue };
            assert_eq!(self.accepted.len(), 2, "both connections were open");
            for stream in self.accepted.clone() {
                let told = loop {
                    // Bytes that had been exposed before are still there to be read.
                    match self.server.read(stream, &mut [0; 4096]) {
                        Ok(count) if count > 0 => {}
                        other => break other,
                    }
                };
                assert!(matches!(&told, Err(StreamError::Fault(of)) if *of == fault), "{told:?}");
            }
            return (*fault).clone();
        }
        panic!("{:?} did not fire", self.defect);
    }
}

/// The fault behind the wall.
fn behind(defect: Defect) -> Fault {
    World::new(Box::new(artifact().instance().expect("an instance")), defect).fault()
}

/// The fault in a process of its own.
fn in_a_process(defect: Defect) -> Fault {
    let launch = Launch::new(env!("CARGO_BIN_EXE_module-server"), ["hostile"]);
    World::new(Box::new(Process::new(&launch).expect("a server")), defect).fault()
}

/// The rule that is broken, which must be the same with and without a wall.
fn rule(defect: Defect) -> Option<Rule> {
    let behind = behind(defect);
    assert_eq!(behind, in_a_process(defect), "{defect:?}");
    let native = Native::new(Box::new(hostile_core::Tcp::new()));
    let without = World::new(Box::new(native), defect).fault();
    assert_eq!(behind, without, "{defect:?}");
    behind.rule()
}

#[test]
fn each_broken_rule_is_named_behind_the_wall_as_without_it() {
    for (defect, expected) in [
        (Defect::PayloadIndex, Rule::PlaceBinding),
        (Defect::OutsideQueue, Rule::Payload),
        (Defect::Redirect, Rule::SendBinding),
        (Defect::AnotherConnection, Rule::PlaceBinding),
        (Defect::WrongOffset, Rule::PlaceBinding),
        (Defect::Hole, Rule::ReceiveMemory),
        (Defect::ForgedSource, Rule::Address),
        (Defect::FalseAcknowledgement, Rule::Acknowledged),
        (Defect::FalseEnd, Rule::Finished),
        (Defect::FalseFin, Rule::SendBinding),
        (Defect::TooManySends, Rule::Counts),
        (Defect::NearDeadline, Rule::Deadline),
        (Defect::UnknownHandle, Rule::Handle),
    ] {
        assert_eq!(rule(defect), Some(expected), "{defect:?}");
    }
    // These do not even come through a wall, where lengths are checked before anything is copied.
    for (defect, expected) in [(Defect::TooManyEvents, Rule::Counts), (Defect::LongNote, Rule::Text)] {
        assert_eq!(behind(defect).rule(), Some(expected), "{defect:?}");
        assert_eq!(in_a_process(defect).rule(), Some(Rule::Counts), "{defect:?}");
    }
}

#[test]
fn a_panic_is_told_in_the_modules_own_words_with_its_place() {
    let fault = behind(Defect::Panic);
    let text = fault.to_string();
    assert!(text.contains("a defect that a test asked for"), "{text}");
    assert!(fault.report().contains("hostile-core/src/lib.rs"), "{}", fault.report());
}

#[test]
fn an_endless_loop_ends_by_its_budget() {
    let fault = behind(Defect::Loop);
    let Fault::Budget(overrun) = &fault else { panic!("{fault}") };
    assert!(matches!(overrun.budget, Budget::Cpu { .. }), "{fault}");
    assert!(fault.report().contains("hostile-core/src/lib.rs"), "{}", fault.report());
}

/// What a process of its own says of code that stops: a panic's words and place, and how the others ended it.
#[test]
fn a_process_tells_how_it_ended() {
    let panic = in_a_process(Defect::Panic);
    assert!(panic.to_string().contains("a defect that a test asked for"), "{panic}");
    assert!(panic.report().contains("hostile-core/src/lib.rs"), "{}", panic.report());
    let endless = in_a_process(Defect::Loop);
    let Fault::Budget(overrun) = &endless else { panic!("{endless}") };
    assert!(matches!(overrun.budget, Budget::Cpu { .. }), "{endless}");
    for (defect, words) in [(Defect::Memory, "memory allocation"), (Defect::Stack, "overflowed its stack")] {
        let Fault::Lost(lost) = in_a_process(defect) else { panic!("{defect:?}") };
        assert_eq!(lost.ending, Ending::Killed { signal: 6 }, "{defect:?}");
        assert!(lost.words.contains(words), "{defect:?}: {lost}");
    }
}

#[test]
fn memory_without_end_a_bottomless_stack_and_a_wild_read_are_traps() {
    for (defect, word) in
        [(Defect::Memory, "memory"), (Defect::Stack, "memory access"), (Defect::WildRead, "memory")]
    {
        let fault = behind(defect);
        assert!(matches!(fault, Fault::Trap(_)), "{defect:?}: {fault}");
        assert!(fault.to_string().contains(word), "{defect:?}: {fault}");
    }
}
