//! What has to be known of a core module before a byte of it is rewritten: its index spaces, how many places of its
//! code are worth a counter, and what its code compares with.

use std::collections::BTreeSet;

use wasmparser::{BinaryReaderError, KnownCustom, Name, Operator, Parser, Payload, TypeRef};

use super::limits;

/// A core module in numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey {
    /// Types that it defines; a recursive group counts all of its members.
    pub(super) types: u32,
    /// Functions that it imports.
    pub(super) imported: u32,
    /// Functions that it defines.
    pub(super) defined: u32,
    /// Memories that it imports.
    pub(super) imported_memories: u32,
    /// Memories that it defines.
    pub(super) memories: u32,
    /// Whether it exports anything.
    pub(super) exports: bool,
    /// Whether it exports one of the names that instrumentation adds.
    pub(super) is_instrumented: bool,
    /// Counters that it needs.
    pub(super) probes: u32,
    /// Where the contents of its code section begin, in bytes of the module: what line tables count from.
    pub(super) code_from: u64,
    /// Bytes of its code section.
    pub(super) code: u64,
    /// Constants that its code compares with, without those that every program compares with.
    pub(super) constants: BTreeSet<u64>,
    /// Names of functions by their index, where the module has a name section.
    pub(super) names: Vec<(u32, String)>,
}

/// The export by which the counters are taken out of a core module.
pub(super) const TAKE: &str = "bulkhead-fuzz-take";
/// The export of the memory that they are in.
pub(super) const MEMORY: &str = "bulkhead-fuzz-memory";

impl Survey {
    /// Reads a core module once.
    pub(super) fn of(module: &[u8]) -> Result<Self, BinaryReaderError> {
        let mut survey = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            survey.read(payload?)?;
        }
        Ok(survey)
    }

    fn read(&mut self, payload: Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    self.types += group?.types().len() as u32;
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    match import?.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => self.imported += 1,
                        TypeRef::Memory(_) => self.imported_memories += 1,
                        _ => {}
                    }
                }
            }
            Payload::FunctionSection(section) => self.defined = section.count(),
            Payload::MemorySection(section) => self.memories = section.count(),
            Payload::ExportSection(section) => {
                for export in section {
                    let name = export?.name;
                    self.exports = true;
                    self.is_instrumented |= name == TAKE || name == MEMORY;
                }
            }
            Payload::CodeSectionStart { range, .. } => {
                (self.code_from, self.code) = (range.start, range.end - range.start);
            }
            Payload::CodeSectionEntry(body) => self.body(&body)?,
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    self.names(names);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn body(&mut self, body: &wasmparser::FunctionBody<'_>) -> Result<(), BinaryReaderError> {
        // One at the entry.
        self.probes += 1;
        let mut constant = None;
        let mut depth = 0u32;
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            self.probes += u32::from(is_edge(&operator, &mut depth));
            if let (Some(value), true) = (constant.take(), compares(&operator))
                && self.constants.len() < limits::CONSTANTS
                && is_telling(value)
            {
                self.constants.insert(value);
            }
            constant = match operator {
                Operator::I32Const { value } => Some(u64::from(value.cast_unsigned())),
                Operator::I64Const { value } => Some(value.cast_unsigned()),
                _ => None,
            };
        }
        Ok(())
    }

    /// A name section that is damaged names nothing: it is a help for people, not a part of the program.
    fn names(&mut self, section: wasmparser::NameSectionReader<'_>) {
        for subsection in section.into_iter().flatten() {
            if let Name::Function(map) = subsection {
                let named = map.into_iter().flatten().take(limits::NAMES);
                self.names.extend(named.map(|naming| (naming.index, naming.name.to_owned())));
            }
        }
    }
}

/// Whether what follows this operator begins a new edge of the control flow. `depth` counts open blocks, so that the
/// function's last `end`, which nothing follows, is none. Control flow is structured, so each such place is an edge of
/// its own: no two share a counter.
pub(super) fn is_edge(operator: &Operator<'_>, depth: &mut u32) -> bool {
    match operator {
        Operator::Block { .. } | Operator::TryTable { .. } => {
            *depth += 1;
            false
        }
        Operator::Loop { .. } | Operator::If { .. } => {
            *depth += 1;
            true
        }
        Operator::Else | Operator::BrIf { .. } => true,
        Operator::End => {
            let inner = *depth > 0;
            *depth = depth.saturating_sub(1);
            inner
        }
        _ => false,
    }
}

fn compares(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::I32Eq
            | Operator::I32Ne
            | Operator::I64Eq
            | Operator::I64Ne
            | Operator::I32LtU
            | Operator::I32GtU
            | Operator::I32LeU
            | Operator::I32GeU
            | Operator::I64LtU
            | Operator::I64GtU
            | Operator::BrTable { .. }
    )
}

/// 0, 1 and -1 say nothing, and a mutator tries them anyway.
fn is_telling(value: u64) -> bool {
    value > 1 && value != u64::from(u32::MAX) && value != u64::MAX
}
