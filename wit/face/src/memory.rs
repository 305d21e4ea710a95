//! The allocator and the panic handler.
#![expect(unsafe_code, reason = "an allocator hands out raw memory; a panic text stands at a fixed address")]

use core::alloc::Layout;
use core::arch::wasm32::{memory_grow, memory_size};
use core::cell::UnsafeCell;
use core::fmt::Write;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::cell::TalcSyncCell;
use talc::source::Source;
use talc::wasm::WasmBinning;

/// Bytes of a page of linear memory.
const PAGE: usize = 64 * 1024;

unsafe extern "C" {
    /// Where the linker's data ends; its address is its value.
    static __heap_base: u8;
}

/// Takes all the memory that is there from the start, and grows only where the build allows for more. A memory of
/// fixed size can be put back by copying, so guests are built with one.
#[derive(Debug)]
struct Memory {
    taken: bool,
}

// SAFETY: `acquire` touches the allocator only through `claim`, as the trait asks.
unsafe impl Source for Memory {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let (base, size) = if talc.source.taken {
            // The allocator's own book-keeping takes less than another page.
            let pages = (layout.size() + layout.align()).div_ceil(PAGE) + 1;
            let before = memory_grow::<0>(pages);
            if before == usize::MAX {
                return Err(());
            }
            (before * PAGE, pages * PAGE)
        } else {
            talc.source.taken = true;
            let base = (&raw const __heap_base) as usize;
            (base, (memory_size::<0>() * PAGE).saturating_sub(base))
        };
        // SAFETY: from `__heap_base` to the end nobody else uses the memory, and pages that were just grown are nobody's.
        unsafe { talc.claim(base as *mut u8, size) }.map(drop).ok_or(())
    }
}

#[global_allocator]
static ALLOCATOR: TalcSyncCell<Memory, WasmBinning> = TalcSyncCell::new_wasm(Memory { taken: false });

/// Bytes of a panic text that are kept.
const TEXT: usize = 1024;

/// The text of the last panic, for whoever looks at the memory afterwards: its length, then UTF-8.
#[repr(C)]
pub(crate) struct PanicText {
    length: UnsafeCell<u32>,
    text: UnsafeCell<[u8; TEXT]>,
}

// SAFETY: a component has one thread.
unsafe impl Sync for PanicText {}

/// Exported, so that its address is known by this name.
// SAFETY: nothing else is called so.
#[unsafe(no_mangle)]
pub(crate) static bulkhead_panic: PanicText =
    PanicText { length: UnsafeCell::new(0), text: UnsafeCell::new([0; TEXT]) };

/// Writes as much as fits.
struct Cursor<'a> {
    text: &'a mut [u8],
    at: usize,
}

impl Write for Cursor<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let rest = self.text.get_mut(self.at..).unwrap_or(&mut []);
        let length = text.len().min(rest.len());
        if let (Some(to), Some(from)) = (rest.get_mut(..length), text.as_bytes().get(..length)) {
            to.copy_from_slice(from);
        }
        self.at += length;
        Ok(())
    }
}

#[panic_handler]
fn panicked(info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: one thread, and a panic is the last thing that happens in it.
    let text = unsafe { &mut *bulkhead_panic.text.get() };
    let mut cursor = Cursor { text, at: 0 };
    let _ = write!(cursor, "{info}");
    let length = cursor.at as u32;
    // SAFETY: as above.
    unsafe { *bulkhead_panic.length.get() = length };
    core::arch::wasm32::unreachable()
}
