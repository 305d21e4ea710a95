//! What can be told of a module without running it.

use bulkhead_wit::{CONTRACT, limits};
use wasmparser::{ConstExpr, Encoding, ExternalKind, Global, Operator, Parser, Payload};

use super::error::Problem;
use crate::placement::wasm::PanicText;

/// The contract's interface without its version.
const INTERFACE: &str = "bulkhead:protocol/protocol@";
/// What a module of the second world imports.
const PAYLOAD: &str = "bulkhead:protocol/payload@";
/// The exported data symbol where a module's panic handler leaves its text: a length (`u32`), then so many bytes of UTF-8.
const PANIC_SYMBOL: &str = "bulkhead_panic";
const PAGE: u64 = 65_536;

/// What was found in a module's file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Bytes of the file.
    pub size: usize,
    /// The BLAKE3 hash of its bytes, which names it in recordings and in the cache.
    pub hash: [u8; 32],
    /// What the component imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Whether it cannot reach a byte of payload: it imports nothing.
    pub payload_blind: bool,
    /// Its memories; a protocol module has one.
    pub memories: Vec<Memory>,
    /// Mutable globals of its core modules. Recovery by memory asks for at most one, the stack pointer.
    pub mutable_globals: usize,
    /// Bytes of code.
    pub code: usize,
    pub(crate) panic: Option<PanicText>,
}

/// The limits of a linear memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// Bytes that it begins with.
    pub least: u64,
    /// Bytes that it may grow to by its own account; the host's limit stands beside it.
    pub most: Option<u64>,
}

impl Facts {
    /// Reads a file's bytes and checks what it is, what it exports and what it imports.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, Problem> {
        check_kind(bytes)?;
        let mut facts = Self {
            size: bytes.len(),
            hash: *blake3::hash(bytes).as_bytes(),
            imports: Vec::new(),
            exports: Vec::new(),
            payload_blind: false,
            memories: Vec::new(),
            mutable_globals: 0,
            code: 0,
            panic: None,
        };
        facts.read(bytes).map_err(|error| Problem::Malformed(error.message().to_owned()))?;
        facts.payload_blind = facts.imports.is_empty();
        facts.check()?;
        Ok(facts)
    }

    /// The hash in hexadecimal.
    #[must_use]
    pub fn hash_text(&self) -> String {
        blake3::Hash::from_bytes(self.hash).to_hex().to_string()
    }

    fn read(&mut self, bytes: &[u8]) -> wasmparser::Result<()> {
        let mut depth = 0;
        let mut module = CoreModule::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => {
                    depth -= 1;
                    self.panic = self.panic.or(module.panic_text());
                    module = CoreModule::default();
                }
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section {
                        self.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section {
                        self.exports.push(export?.name.name.to_owned());
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        let memory = memory?;
                        let bytes = |pages: u64| pages.saturating_mul(PAGE);
                        self.memories
                            .push(Memory { least: bytes(memory.initial), most: memory.maximum.map(bytes) });
                    }
                }
                Payload::GlobalSection(section) => {
                    for global in section {
                        let global = global?;
                        self.mutable_globals += usize::from(global.ty.mutable);
                        module.globals.push(constant(&global));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if export.kind == ExternalKind::Global && export.name == PANIC_SYMBOL {
                            module.symbol = Some(export.index as usize);
                        }
                    }
                }
                Payload::CodeSectionStart { size, .. } => self.code += size as usize,
                _ => {}
            }
        }
        Ok(())
    }

    /// Bytes of memory that an instance may have, by its own account and by the host's.
    pub(crate) fn memory(&self) -> u64 {
        let most = |memory: &Memory| memory.most.unwrap_or(u64::MAX).min(limits::MEMORY as u64);
        self.memories.iter().map(most).max().unwrap_or(0)
    }

    fn check(&self) -> Result<(), Problem> {
        if !self.exports.iter().any(|export| export == CONTRACT) {
            return Err(match self.exports.iter().find(|export| export.starts_with(INTERFACE)) {
                Some(found) => Problem::Version { found: found.clone() },
                None => Problem::NotProtocol { exports: self.exports.clone() },
            });
        }
        let more: Vec<String> =
            self.imports.iter().filter(|import| !import.starts_with(PAYLOAD)).cloned().collect();
        if !more.is_empty() {
            return Err(Problem::Imports(more));
        }
        match self.memories.iter().map(|memory| memory.least).max() {
            Some(least) if least > limits::MEMORY as u64 => Err(Problem::Memory { least }),
            _ => Ok(()),
        }
    }
}

/// The globals of one core module, and which of them is the address of its panic text.
#[derive(Default)]
struct CoreModule {
    globals: Vec<Option<u32>>,
    symbol: Option<usize>,
}

impl CoreModule {
    /// Modules with imported globals, whose numbers come first, do not occur: there is nothing to import.
    fn panic_text(&self) -> Option<PanicText> {
        let address = *self.globals.get(self.symbol?)?;
        Some(PanicText { address: address? })
    }
}

/// The value of an immutable global that is given by a constant.
fn constant(global: &Global<'_>) -> Option<u32> {
    let value = |expression: &ConstExpr<'_>| match expression.get_operators_reader().read() {
        Ok(Operator::I32Const { value }) => Some(value.cast_unsigned()),
        _ => None,
    };
    if global.ty.mutable { None } else { value(&global.init_expr) }
}

/// What kind of file it is, by its first bytes.
fn check_kind(bytes: &[u8]) -> Result<(), Problem> {
    const MAGIC: &[u8] = b"\0asm";
    if bytes.is_empty() {
        return Err(Problem::Empty);
    }
    if bytes.len() > super::SIZE_MAX {
        return Err(Problem::TooLarge { size: bytes.len() as u64 });
    }
    if !bytes.starts_with(MAGIC) {
        let first = bytes.get(..bytes.len().min(512)).unwrap_or_default();
        let is_text = first.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace());
        return Err(if is_text { Problem::Text } else { Problem::NotWasm });
    }
    match Parser::new(0).parse_all(bytes).next() {
        Some(Ok(Payload::Version { encoding: Encoding::Component, .. })) => Ok(()),
        Some(Ok(_)) => Err(Problem::CoreModule),
        Some(Err(error)) => Err(Problem::Malformed(error.message().to_owned())),
        None => Err(Problem::Malformed("it ends after its first bytes".into())),
    }
}
