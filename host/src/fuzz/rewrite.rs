//! Coverage by rewriting: counters are put into the core module inside a component, and a way to read them onto it.
//!
//! Nothing that was there is renumbered. The core module gets one more type, function, memory and two exports at the ends
//! of its index spaces; each edge of its control flow gets six instructions that count in the new memory, which nothing
//! else of the module can address. The component gets an alias of both, and one exported function that lifts the counters
//! as `list<u8>` with the new memory as its own: the host reads them in place. So any guest works, stripped or not,
//! whatever language it was written in, and whether or not it has an allocator.
//!
//! An address that is constant and a memory that never grows need no bounds check, so a probe is a load, an add and a store.

use std::fmt;
use std::ops::Range;

use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption, CodeSection, Component, ComponentAliasSection,
    ComponentExportKind, ComponentExportSection, ComponentTypeSection, ComponentValType, ExportKind,
    ExportSection, Function, FunctionSection, Instruction, MemArg, MemorySection, MemoryType, Module,
    ModuleSection, PrimitiveValType, RawSection, TypeSection, ValType,
};
use wasmparser::{Encoding, Instance, Parser, Payload, Validator};

use super::limits;
use super::survey::{self, Survey};

/// The component's export that gives the counters since the last call, and sets them to zero.
pub(crate) const COUNTERS: &str = "bulkhead-fuzz-counters";

/// A component with counters in it.
#[derive(Clone, Debug)]
pub struct Instrumented {
    /// The component.
    pub component: Vec<u8>,
    /// Where each counter stands in the module it was made from.
    pub probes: Vec<Probe>,
    /// Names of functions by index, where the module has them.
    pub names: Vec<(u32, String)>,
    /// Constants that its code compares with, ascending.
    pub constants: Vec<u64>,
    /// Where the core module lies in the bytes that were given.
    pub core: Range<usize>,
}

/// Where a counter stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// The function's index in the core module.
    pub function: u32,
    /// Bytes from the beginning of the code section's contents, as line tables count.
    pub offset: u32,
}

/// Why a file cannot be instrumented.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RewriteError {
    /// It is no valid component.
    Malformed(String),
    /// It is a core module, not a component.
    NotComponent,
    /// None of its core modules has code and a memory of its own.
    NoCode,
    /// It has counters already.
    Instrumented,
    /// It needs more counters than there may be.
    TooLarge {
        /// Counters that it needs.
        probes: u32,
    },
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(detail) => write!(f, "is no valid component: {detail}"),
            Self::NotComponent => f.write_str("is a core module; wrap it with `wasm-tools component new`"),
            Self::NoCode => f.write_str("has no core module with code and a memory of its own"),
            Self::Instrumented => f.write_str("is instrumented already; give the module as it was built"),
            Self::TooLarge { probes } => {
                write!(f, "has {probes} edges, {} can be counted", limits::PROBES)
            }
        }
    }
}

impl std::error::Error for RewriteError {}

impl From<wasmparser::BinaryReaderError> for RewriteError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<reencode::Error> for RewriteError {
    fn from(error: reencode::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Puts counters into the largest core module of a component.
///
/// # Errors
/// Why this file cannot be instrumented. Nothing of it is run.
pub fn instrument(component: &[u8]) -> Result<Instrumented, RewriteError> {
    let outline = Outline::of(component)?;
    let (number, range) = outline.largest(component)?;
    let module = component.get(range.clone()).unwrap_or_default();
    let survey = Survey::of(module)?;
    if survey.is_instrumented {
        return Err(RewriteError::Instrumented);
    }
    if survey.probes > limits::PROBES {
        return Err(RewriteError::TooLarge { probes: survey.probes });
    }
    let mut rewriter = Rewriter::new(&survey);
    let mut rewritten = Module::new();
    rewriter.parse_core_module(&mut rewritten, Parser::new(0), module)?;
    let instance = outline.instance_of(number).ok_or(RewriteError::NoCode)?;
    Ok(Instrumented {
        component: outline.assemble(component, number, &rewritten, instance),
        probes: rewriter.probes,
        names: survey.names,
        constants: survey.constants.into_iter().collect(),
        core: range,
    })
}

/// A component as far as it has to be known: its sections, and the sizes of the index spaces that are appended to.
struct Outline {
    /// Id and contents of each section, in order.
    sections: Vec<(u8, Range<usize>)>,
    /// Which of them are core modules, by module index.
    modules: Vec<usize>,
    /// For each core instance the module that it is made of.
    instances: Vec<Option<u32>>,
    memories: u32,
    core_functions: u32,
    functions: u32,
    types: u32,
}

/// A range within a slice in memory.
fn within(range: Range<u64>) -> Range<usize> {
    // What does not fit into memory was never read.
    usize::try_from(range.start).unwrap_or(usize::MAX)..usize::try_from(range.end).unwrap_or(usize::MAX)
}

impl Outline {
    fn of(bytes: &[u8]) -> Result<Self, RewriteError> {
        let mut outline = Self {
            sections: Vec::new(),
            modules: Vec::new(),
            instances: Vec::new(),
            memories: 0,
            core_functions: 0,
            functions: 0,
            types: 0,
        };
        let mut validator = Validator::new();
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            match &payload {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    return Err(RewriteError::NotComponent);
                }
                Payload::Version { .. } => depth += 1,
                Payload::End(_) if depth == 1 => outline.sizes(&validator),
                Payload::End(_) => depth -= 1,
                _ if depth == 1 => outline.section(&payload)?,
                _ => {}
            }
            validator.payload(&payload)?;
        }
        Ok(outline)
    }

    fn sizes(&mut self, validator: &Validator) {
        if let Some(types) = validator.types(0) {
            self.memories = types.memory_count();
            self.core_functions = types.function_count();
            self.functions = types.component_function_count();
            self.types = types.component_type_count();
        }
    }

    fn section(&mut self, payload: &Payload<'_>) -> Result<(), RewriteError> {
        if let Payload::InstanceSection(section) = payload {
            for instance in section.clone() {
                self.instances.push(match instance? {
                    Instance::Instantiate { module_index, .. } => Some(module_index),
                    Instance::FromExports(_) => None,
                });
            }
        }
        if let Some((id, range)) = payload.as_section() {
            if matches!(payload, Payload::ModuleSection { .. }) {
                self.modules.push(self.sections.len());
            }
            self.sections.push((id, within(range)));
        }
        Ok(())
    }

    /// The core module with the most code of those that have a memory of their own: adapters have none.
    fn largest(&self, bytes: &[u8]) -> Result<(usize, Range<usize>), RewriteError> {
        let mut largest: Option<(u64, usize, Range<usize>)> = None;
        for (number, section) in self.modules.iter().enumerate() {
            let Some((_, range)) = self.sections.get(*section) else { continue };
            let survey = Survey::of(bytes.get(range.clone()).unwrap_or_default())?;
            let is_whole = survey.memories > 0 && survey.defined > 0 && survey.exports;
            if is_whole && largest.as_ref().is_none_or(|(code, ..)| survey.code > *code) {
                largest = Some((survey.code, number, range.clone()));
            }
        }
        largest.map(|(_, number, range)| (number, range)).ok_or(RewriteError::NoCode)
    }

    fn instance_of(&self, module: usize) -> Option<u32> {
        let made_of = |of: &Option<u32>| of.is_some_and(|of| of as usize == module);
        self.instances.iter().position(made_of).map(|index| index as u32)
    }

    /// The component anew: every section as it was, but for the module; and the export of the counters at the end.
    fn assemble(&self, bytes: &[u8], module: usize, rewritten: &Module, instance: u32) -> Vec<u8> {
        let mut component = Component::new();
        for (number, (id, range)) in self.sections.iter().enumerate() {
            if self.modules.get(module) == Some(&number) {
                component.section(&ModuleSection(rewritten));
            } else {
                let data = bytes.get(range.clone()).unwrap_or_default();
                component.section(&RawSection { id: *id, data });
            }
        }
        let mut aliases = ComponentAliasSection::new();
        for (kind, name) in [(ExportKind::Memory, survey::MEMORY), (ExportKind::Func, survey::TAKE)] {
            aliases.alias(Alias::CoreInstanceExport { instance, kind, name });
        }
        component.section(&aliases);
        let mut types = ComponentTypeSection::new();
        types.defined_type().list(ComponentValType::Primitive(PrimitiveValType::U8));
        types
            .function()
            .params(std::iter::empty::<(&str, ComponentValType)>())
            .result(Some(ComponentValType::Type(self.types)));
        component.section(&types);
        let mut functions = CanonicalFunctionSection::new();
        functions.lift(self.core_functions, self.types + 1, [CanonicalOption::Memory(self.memories)]);
        component.section(&functions);
        let mut exports = ComponentExportSection::new();
        exports.export(COUNTERS, ComponentExportKind::Func, self.functions, None);
        component.section(&exports);
        component.finish()
    }
}

/// Re-encodes a core module with counters in it.
struct Rewriter {
    /// Index of the added type, of the added function, and of the added memory.
    type_index: u32,
    function_index: u32,
    memory: u32,
    /// Counters in all, which is where their copy begins.
    counters: u32,
    /// The function that comes next.
    function: u32,
    code_from: u64,
    probes: Vec<Probe>,
}

impl Rewriter {
    fn new(survey: &Survey) -> Self {
        Self {
            type_index: survey.types,
            function_index: survey.imported + survey.defined,
            memory: survey.imported_memories + survey.memories,
            counters: survey.probes,
            function: survey.imported,
            code_from: survey.code_from,
            probes: Vec::with_capacity(survey.probes as usize),
        }
    }

    /// Where the address and the length of the copy stand: behind counters and copy, aligned.
    fn pair(&self) -> u32 {
        (2 * self.counters).next_multiple_of(4)
    }

    fn at(&self, offset: u32, align: u32) -> MemArg {
        MemArg { offset: u64::from(offset), align, memory_index: self.memory }
    }

    /// Counts one more passage at this place.
    fn probe(&mut self, function: &mut Function, position: u64) {
        let number = self.probes.len() as u32;
        let offset = u32::try_from(position.saturating_sub(self.code_from)).unwrap_or(u32::MAX);
        self.probes.push(Probe { function: self.function, offset });
        let counter = self.at(number, 0);
        function
            .instruction(&Instruction::I32Const(0))
            .instruction(&Instruction::I32Const(0))
            .instruction(&Instruction::I32Load8U(counter))
            .instruction(&Instruction::I32Const(1))
            .instruction(&Instruction::I32Add)
            .instruction(&Instruction::I32Store8(counter));
    }

    /// Copies the counters, sets them to zero, and gives the address of the copy's address and length.
    fn take(&self) -> Function {
        let (counters, pair) = (self.counters.cast_signed(), self.pair());
        let mut function = Function::new([]);
        function
            .instruction(&Instruction::I32Const(counters))
            .instruction(&Instruction::I32Const(0))
            .instruction(&Instruction::I32Const(counters))
            .instruction(&Instruction::MemoryCopy { src_mem: self.memory, dst_mem: self.memory })
            .instruction(&Instruction::I32Const(0))
            .instruction(&Instruction::I32Const(0))
            .instruction(&Instruction::I32Const(counters))
            .instruction(&Instruction::MemoryFill(self.memory));
        for offset in [pair, pair + 4] {
            function
                .instruction(&Instruction::I32Const(0))
                .instruction(&Instruction::I32Const(counters))
                .instruction(&Instruction::I32Store(self.at(offset, 2)));
        }
        function.instruction(&Instruction::I32Const(pair.cast_signed())).instruction(&Instruction::End);
        function
    }
}

type Encoded = Result<(), reencode::Error>;

impl Reencode for Rewriter {
    type Error = std::convert::Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Encoded {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([], [ValType::I32]);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Encoded {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.type_index);
        Ok(())
    }

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: wasmparser::MemorySectionReader<'_>,
    ) -> Encoded {
        utils::parse_memory_section(self, memories, section)?;
        let pages = u64::from(self.pair() + 8).div_ceil(65_536);
        memories.memory(MemoryType {
            minimum: pages,
            maximum: Some(pages),
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Encoded {
        utils::parse_export_section(self, exports, section)?;
        exports.export(survey::MEMORY, ExportKind::Memory, self.memory);
        exports.export(survey::TAKE, ExportKind::Func, self.function_index);
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Encoded {
        for body in section {
            self.parse_function_body(code, body?)?;
        }
        code.function(&self.take());
        Ok(())
    }

    fn parse_function_body(&mut self, code: &mut CodeSection, body: wasmparser::FunctionBody<'_>) -> Encoded {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let mut operators = body.get_operators_reader()?;
        self.probe(&mut function, operators.original_position());
        let mut depth = 0;
        while !operators.eof() {
            let operator = operators.clone().read()?;
            function.instruction(&self.parse_instruction(&mut operators)?);
            if survey::is_edge(&operator, &mut depth) {
                self.probe(&mut function, operators.original_position());
            }
        }
        code.function(&function);
        self.function += 1;
        Ok(())
    }

    /// Line tables count the bytes of the code as it was, and would lie now.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Encoded {
        if section.name().starts_with(".debug") {
            Ok(())
        } else {
            utils::parse_custom_section(self, module, section)
        }
    }
}
