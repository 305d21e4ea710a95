//! The memory that host and server both map: a page of control words, and a part for each direction.
//!
//! The other side may write at any moment, whatever was agreed. So all of it is atomic words, each of which is read
//! once, into memory that is nobody else's, and looked at there. Copies go by eight bytes.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bulkhead_wit::encoding::{INPUTS_MAX, OUTPUTS_MAX};
use bulkhead_wit::{Summary, limits};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Bytes of the control page.
const CONTROL: usize = 4096;
/// What goes to the server: a step's inputs, or a configuration and a saved state. Memory that nobody writes to costs
/// nothing.
pub(super) const TO_SERVER: Range<usize> = CONTROL..CONTROL + limits::SAVE + (1 << 20);
/// What comes from it: a step's outputs, a saved state, or a summary of every connection.
pub(super) const FROM_SERVER: Range<usize> = TO_SERVER.end..TO_SERVER.end + (128 << 20);
const LENGTH: usize = FROM_SERVER.end;
const WORD: usize = size_of::<u64>();

const _: () = assert!(INPUTS_MAX <= TO_SERVER.end - TO_SERVER.start);
const _: () = assert!(OUTPUTS_MAX <= FROM_SERVER.end - FROM_SERVER.start);
const _: () =
    assert!(limits::CONNECTIONS as usize * size_of::<Summary>() <= FROM_SERVER.end - FROM_SERVER.start);
const _: () = assert!(TO_SERVER.end.is_multiple_of(WORD) && LENGTH.is_multiple_of(CONTROL));

/// The mapped memory.
#[derive(Debug)]
pub(super) struct Region {
    base: NonNull<AtomicU64>,
}

#[expect(unsafe_code, reason = "the mapping belongs to no thread, and all access to it is atomic")]
// SAFETY: see the reason; the pointer is never changed after the mapping was made.
unsafe impl Send for Region {}

impl Region {
    /// Fresh memory, all zero, whose size is fixed for both sides; and the file that stands for it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn create() -> io::Result<(Self, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
        let made = memfd_create("bulkhead", flags);
        // Kernels before 6.3 do not know the flag that forbids to execute it.
        let file =
            made.or_else(|_| memfd_create("bulkhead", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING))?;
        ftruncate(&file, LENGTH as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::map(&file)?, file))
    }

    /// The memory that somebody else created.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a file that is no such memory; what the system says.
    pub(super) fn open(file: &impl AsFd) -> io::Result<Self> {
        let is_sealed = fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        if !is_sealed || usize::try_from(fstat(file)?.st_size) != Ok(LENGTH) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Self::map(file)
    }

    #[expect(unsafe_code, reason = "shared memory is mapped, and there is no safe way to")]
    fn map(file: &impl AsFd) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing that exists.
        let base = unsafe { mmap(std::ptr::null_mut(), LENGTH, protection, MapFlags::SHARED, file, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base })
    }

    /// A control word, by its number.
    #[expect(unsafe_code, reason = "a view of the mapping")]
    pub(super) fn control(&self, number: usize) -> &AtomicU32 {
        const COUNT: usize = CONTROL / size_of::<AtomicU32>();
        // SAFETY: the mapping begins with this page, lives as long as `self`, is aligned to pages, and nobody on this
        // side looks at this page other than by atomic words of this size.
        let words = unsafe { std::slice::from_raw_parts(self.base.cast::<AtomicU32>().as_ptr(), COUNT) };
        // Numbers are constants of ours; the first word stands for those that are none.
        words.get(number).unwrap_or(&words[0])
    }

    /// The words of a part behind the control page.
    #[expect(unsafe_code, reason = "a view of the mapping")]
    fn words(&self, part: Range<usize>) -> &[AtomicU64] {
        const COUNT: usize = (LENGTH - CONTROL) / WORD;
        // SAFETY: the mapping is LENGTH bytes long, lives as long as `self`, cannot shrink since its size is sealed, is
        // aligned to pages, and this side looks at this part by atomic words of this size alone.
        let words = unsafe { std::slice::from_raw_parts(self.base.add(CONTROL / WORD).as_ptr(), COUNT) };
        let at = |byte: usize| byte.saturating_sub(CONTROL) / WORD;
        words.get(at(part.start)..at(part.end)).unwrap_or_default()
    }

    /// Copies bytes to the beginning of a part. Says whether they fit.
    pub(super) fn write(&self, part: Range<usize>, bytes: &[u8]) -> bool {
        if bytes.len() > part.len() {
            return false;
        }
        let words = self.words(part);
        let (whole, rest) = bytes.as_chunks();
        for (word, bytes) in words.iter().zip(whole) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        if !rest.is_empty()
            && let Some(word) = words.get(whole.len())
        {
            let mut last = [0; WORD];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            word.store(u64::from_ne_bytes(last), Ordering::Relaxed);
        }
        true
    }

    /// Copies this many bytes from the beginning of a part, each read once, to the beginning of `into`, which may have
    /// more behind them. Says whether there are as many.
    pub(super) fn read(&self, part: Range<usize>, length: usize, into: &mut Vec<u8>) -> bool {
        let padded = length.next_multiple_of(WORD);
        if padded > part.len() {
            return false;
        }
        if into.len() < padded {
            into.resize(padded, 0);
        }
        let to = into.get_mut(..padded).unwrap_or_default().as_chunks_mut::<WORD>().0;
        for (to, word) in to.iter_mut().zip(self.words(part)) {
            *to = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        true
    }
}

impl Drop for Region {
    #[expect(unsafe_code, reason = "what was mapped is unmapped")]
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length by us, and no reference into it outlives `self`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), LENGTH) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_from_one_mapping_to_the_other() {
        let (ours, file) = Region::create().unwrap();
        let theirs = Region::open(&file).unwrap();
        for length in [0, 1, 7, 8, 9, 4096, 100_003] {
            let bytes: Vec<u8> = (0..length).map(|at: usize| (at * 31) as u8).collect();
            let mut got = Vec::new();
            for part in [TO_SERVER, FROM_SERVER] {
                assert!(ours.write(part.clone(), &bytes));
                assert!(theirs.read(part, length, &mut got));
                assert_eq!(got[..length], bytes);
            }
        }
        assert!(!ours.read(FROM_SERVER, FROM_SERVER.len() + 1, &mut Vec::new()));
        ours.control(3).store(7, Ordering::Relaxed);
        assert_eq!(theirs.control(3).load(Ordering::Relaxed), 7);
    }

    #[test]
    fn its_size_is_fixed_and_other_files_are_refused() {
        let (_region, file) = Region::create().unwrap();
        assert!(ftruncate(&file, 0).is_err());
        let other = memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(Region::open(&other).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
