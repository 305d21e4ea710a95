//! Protocol modules written by hand, in WebAssembly text: for what no compiler would produce.

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

/// Where the module's `outputs` record lies: 72 bytes.
pub const OUTPUTS: u32 = 1024;
/// Where its `description` lies.
const DESCRIPTION: u32 = 2048;
/// Zeroes: an `ok`, or an empty list.
const NOTHING: u32 = 3072;
/// Free for a test's own data, up to the [`ARENA`].
pub const DATA: u32 = 4096;
/// Where inputs are allocated, from here on.
pub const ARENA: u32 = 65_536;

/// Offsets of the lists in `outputs`: address and length, four bytes each.
pub const HEADERS: u32 = OUTPUTS + 20;
/// See [`HEADERS`].
pub const SENDS: u32 = OUTPUTS + 28;
/// See [`HEADERS`].
pub const PLACES: u32 = OUTPUTS + 36;
/// See [`HEADERS`].
pub const MARKS: u32 = OUTPUTS + 44;
/// See [`HEADERS`].
pub const EVENTS: u32 = OUTPUTS + 52;
/// See [`HEADERS`].
pub const NOTES: u32 = OUTPUTS + 60;

/// A module that does nothing, until a test says otherwise.
#[derive(Clone)]
pub struct Wat {
    /// Pages of memory: at first, and at most.
    pub pages: (u32, u32),
    /// What `describe` does before it answers.
    pub describe: String,
    /// What `start` does before it says yes.
    pub start: String,
    /// What `step` does before it hands over `outputs`. Parameters: `$now`, `$room`, and for each list of
    /// `headers`, `segments`, `positions`, `messages` and `calls` its address (`$headers`) and length (`$headers_n`).
    pub step: String,
    /// What `save` gives: an expression for the address of a list's address and length.
    pub save: String,
    /// Imports.
    pub imports: String,
    /// Functions and globals of its own.
    pub items: String,
    /// Bytes in its memory.
    pub data: Vec<(u32, Vec<u8>)>,
    /// The WIT package's version.
    pub version: &'static str,
    /// The world.
    pub world: &'static str,
}

impl Default for Wat {
    fn default() -> Self {
        Self {
            pages: (4, 4),
            describe: String::new(),
            start: String::new(),
            step: String::new(),
            save: format!("(i32.const {NOTHING})"),
            imports: String::new(),
            items: String::new(),
            data: Vec::new(),
            version: "1.0.0",
            world: "protocol-module",
        }
    }
}

impl Wat {
    /// A module whose `step` does this.
    #[must_use]
    pub fn step(step: impl Into<String>) -> Self {
        Self { step: step.into(), ..Self::default() }
    }

    /// With an import.
    #[must_use]
    pub fn importing(mut self, import: &str) -> Self {
        self.imports.push_str(import);
        self
    }

    /// With a list in its outputs: `count` records, as these bytes, at [`DATA`].
    #[must_use]
    pub fn with_list(mut self, list: u32, count: u32, records: Vec<u8>) -> Self {
        self.data.push((list, [DATA.to_le_bytes(), count.to_le_bytes()].concat()));
        self.data.push((DATA, records));
        self
    }

    /// The core module's text.
    fn text(&self) -> String {
        let mut data = format!(
            "{}{}{}",
            segment(OUTPUTS, &u64::MAX.to_le_bytes()),
            segment(DESCRIPTION, &[(DESCRIPTION + 64).to_le_bytes(), 4u32.to_le_bytes()].concat()),
            segment(DESCRIPTION + 64, b"test"),
        );
        for (at, bytes) in &self.data {
            data.push_str(&segment(*at, bytes));
        }
        let face = format!("bulkhead:protocol/protocol@{}", self.version);
        let Self { pages: (least, most), describe, start, step, save, imports, items, .. } = self;
        format!(
            r#"(module
  {imports}
  (memory (export "memory") {least} {most})
  (global $next (mut i32) (i32.const {ARENA}))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "{face}#describe") (result i32) {describe} (i32.const {DESCRIPTION}))
  (func (export "{face}#start") (param i32) (result i32) {start} (i32.const {NOTHING}))
  (func (export "{face}#save") (result i32) {save})
  (func (export "{face}#load") (param i32) (result i32) (i32.const {NOTHING}))
  (func (export "{face}#step") (param $now i64) (param $room i32) (param $room_bytes i32)
    (param $headers i32) (param $headers_n i32) (param $segments i32) (param $segments_n i32)
    (param $positions i32) (param $positions_n i32) (param $messages i32) (param $messages_n i32)
    (param $calls i32) (param $calls_n i32) (result i32)
    (global.set $next (i32.const {ARENA}))
    {step}
    (i32.const {OUTPUTS}))
  {items}
  {data})"#
        )
    }

    /// The core module.
    ///
    /// # Panics
    /// Where the text is not valid.
    #[must_use]
    pub fn core(&self) -> Vec<u8> {
        wat::parse_str(self.text()).unwrap_or_else(|error| panic!("{error}\n{}", self.text()))
    }

    /// The component.
    ///
    /// # Panics
    /// Where the module does not fit the contract.
    #[must_use]
    pub fn component(&self) -> Vec<u8> {
        let contract =
            include_str!("../../wit/bulkhead.wit").replace("@1.0.0;", &format!("@{};", self.version));
        let contract =
            format!("{contract}\nworld greedy {{ import payload; import other; export protocol; }}\n")
                + "interface other { clock: func() -> u64; }";
        let mut resolve = Resolve::default();
        let package = resolve.push_str("bulkhead.wit", &contract).expect("the contract parses");
        let world = resolve.select_world(&[package], Some(self.world)).expect("the world exists");
        let mut core = self.core();
        wit_component::embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8)
            .expect("metadata fits");
        let mut encoder = ComponentEncoder::default();
        encoder
            .validate(true)
            .module(&core)
            .and_then(|encoder| encoder.encode())
            .unwrap_or_else(|error| panic!("{error:#}\n{}", self.text()))
    }
}

fn segment(at: u32, bytes: &[u8]) -> String {
    let bytes: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!("(data (i32.const {at}) \"{bytes}\")\n")
}
