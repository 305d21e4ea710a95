//! Errors of the sandbox, as faults.

use wasmtime::{Error, Trap as Code, WasmBacktrace, WasmCoreDump};

use super::engine::Host;
use super::lines::Lines;
use crate::fault::{Budget, Fault, Frame, Overrun, Rule, Trap};

/// What wasmtime says when a call gives back more bytes than the store allows.
const TOO_MUCH: &str = "too much data is being copied between the host and the guest";
/// Frames of a backtrace that are kept.
const FRAMES: usize = 32;

/// The fault that an error of a call is. `panic` tells where the module keeps its panic text, `lines` its source lines, `lifted`
/// how many bytes the call might give back.
pub(super) fn fault(
    error: &Error,
    store: &mut wasmtime::Store<Host>,
    (panic, lines): (Option<PanicText>, &Lines),
    lifted: usize,
) -> Fault {
    let frames = error.downcast_ref::<WasmBacktrace>().map(|trace| frames(trace, lines)).unwrap_or_default();
    if let Some(fault) = error.downcast_ref::<Fault>() {
        return match fault {
            Fault::Budget(overrun) => Fault::Budget(Overrun { budget: overrun.budget, frames }),
            other => other.clone(),
        };
    }
    if let (Some(Code::OutOfFuel), Some(limit)) = (error.downcast_ref::<Code>(), store.data().fuel) {
        return Fault::Budget(Overrun { budget: Budget::Fuel { limit }, frames });
    }
    if let Some(code) = error.downcast_ref::<Code>() {
        let panic = panic.and_then(|text| {
            let dump = error.downcast_ref::<WasmCoreDump>()?;
            text.read(dump, store)
        });
        return Fault::Trap(Box::new(Trap { code: code.to_string(), panic, frames }));
    }
    let text = error.root_cause().to_string();
    if text.contains(TOO_MUCH) {
        return Fault::over(Budget::Outputs { limit: lifted as u64 });
    }
    Fault::broken(Rule::Encoding, text)
}

fn frames(backtrace: &WasmBacktrace, lines: &Lines) -> Vec<Frame> {
    // A stack without end has thousands.
    let infos = backtrace.frames().get(..FRAMES).unwrap_or(backtrace.frames());
    let mut frames = Vec::new();
    for (info, found) in infos.iter().zip(lines.of(infos)) {
        let name = || {
            let number = || format!("function {}", info.func_index());
            info.func_name().map_or_else(number, demangled)
        };
        if found.is_empty() {
            frames.push(Frame { function: name(), file: None, line: None });
        }
        frames.extend(found.into_iter().map(|frame| match frame.function.is_empty() {
            true => Frame { function: name(), ..frame },
            false => frame,
        }));
    }
    frames.truncate(FRAMES);
    frames
}

pub(super) fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// A source path without what is particular to the machine that built the module. The language's own library keeps its
/// name in front.
pub(super) fn short(path: &str) -> String {
    if let Some((_, within)) = path.split_once("/library/") {
        return format!("library/{within}");
    }
    let parts: Vec<&str> = path.rsplit('/').take(4).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}

/// Where a module keeps the text of its last panic: a length (`u32`, little endian) and that many bytes of UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PanicText {
    /// Address in its memory.
    pub(crate) address: u32,
}

impl PanicText {
    /// The longest text that is read, in bytes.
    const LIMIT: usize = 1024;

    fn read(self, dump: &WasmCoreDump, store: &wasmtime::Store<Host>) -> Option<String> {
        let memory = dump.memories().first()?.data(store);
        let (length, rest) = memory.get(self.address as usize..)?.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 {
            return None;
        }
        let text = rest.get(..length.min(Self::LIMIT))?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}
