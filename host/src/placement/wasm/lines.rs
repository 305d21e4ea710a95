//! Source lines of a module's backtrace.
//!
//! wasmtime would read a module's line tables again for each frame of each backtrace, which takes longer than a whole recovery.
//! Here they are read once for a backtrace, and not at all where the places are known: what fails again fails there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};
use bytes::Bytes;
use wasmparser::{Parser, Payload};
use wasmtime::FrameInfo;

use super::blame::{demangled, short};
use crate::fault::Frame;

/// Places that are remembered.
const KNOWN: usize = 4096;

type Context<'c> = addr2line::Context<EndianSlice<'c, LittleEndian>>;

/// The line tables of a component.
pub(crate) struct Lines {
    component: Bytes,
    known: Mutex<HashMap<usize, Vec<Frame>>>,
}

impl Lines {
    /// Of a component's bytes.
    pub(crate) fn new(component: Bytes) -> Self {
        Self { component, known: Mutex::default() }
    }

    /// The frames that each frame of the machine stands for, innermost first: functions are inlined into each other. None where
    /// there are no tables.
    pub(super) fn of(&self, infos: &[FrameInfo]) -> Vec<Vec<Frame>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tables = None;
        let mut find = |info: &FrameInfo| {
            // The modules that wit-component puts between have no memory of their own, and no tables.
            info.module().exports().find(|export| export.ty().memory().is_some())?;
            let offset = info.module_offset()?;
            if let Some(frames) = known.get(&offset) {
                return Some(frames.clone());
            }
            let tables = tables.get_or_insert_with(|| Tables::of(&self.component)).as_ref()?;
            let frames = tables.find(offset)?;
            if known.len() < KNOWN {
                known.insert(offset, frames.clone());
            }
            Some(frames)
        };
        infos.iter().map(|info| find(info).unwrap_or_default()).collect()
    }
}

/// Line tables that have been read.
pub(crate) struct Tables<'c> {
    /// Where the code section of the core module that has them begins, in bytes of the component: what they count from.
    code: u64,
    context: Context<'c>,
}

impl<'c> Tables<'c> {
    /// Those of a component, or of a core module.
    pub(crate) fn of(component: &'c [u8]) -> Option<Self> {
        let (mut code, mut sections) = (0_u64, BTreeMap::new());
        for payload in Parser::new(0).parse_all(component).flatten() {
            match payload {
                // Another module begins.
                Payload::Version { .. } if sections.contains_key(SectionId::DebugLine.name()) => break,
                Payload::Version { .. } => sections.clear(),
                Payload::CodeSectionStart { range, .. } => code = range.start,
                Payload::CustomSection(section) if section.name().starts_with(".debug_") => {
                    sections.insert(section.name(), section.data());
                }
                _ => {}
            }
        }
        let section = |id: SectionId| -> Result<EndianSlice<'c, LittleEndian>, std::convert::Infallible> {
            Ok(EndianSlice::new(sections.get(id.name()).copied().unwrap_or_default(), LittleEndian))
        };
        let Ok(dwarf) = Dwarf::load(section);
        Some(Self { code, context: Context::from_dwarf(dwarf).ok()? })
    }

    /// The file, as it was called when it was compiled, and the line of an address, which counts from the code section on. Damaged
    /// tables tell nothing, and break nothing.
    #[cfg(feature = "fuzz")]
    pub(crate) fn line(&self, address: u64) -> Option<(&str, u32)> {
        let place = self.context.find_location(address).ok()??;
        Some((place.file?, place.line?))
    }

    /// What a place of the component stands for.
    fn find(&self, offset: usize) -> Option<Vec<Frame>> {
        let address = (offset as u64).checked_sub(self.code)?;
        let mut inlined = self.context.find_frames(address).skip_all_loads().ok()?;
        let mut frames = Vec::new();
        while let Ok(Some(found)) = inlined.next() {
            let function = found.function.as_ref().and_then(|name| name.raw_name().ok());
            let place = found.location.as_ref();
            frames.push(Frame {
                function: function.map(|name| demangled(name.as_ref())).unwrap_or_default(),
                file: place.and_then(|place| place.file).map(short),
                line: place.and_then(|place| place.line),
            });
        }
        Some(frames)
    }
}
