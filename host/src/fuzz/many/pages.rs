//! The memory of LLMP's messages: files without a name, which the system takes back with the process, however it ends.
//!
//! LibAFL's standard is System V shared memory, which stays behind a process that was killed. Its own memory files close one
//! descriptor twice when two threads have the same page; so here each mapping has a descriptor of its own.

use std::fs::File;
use std::os::fd::IntoRawFd;

use libafl_bolts::Error;
use libafl_bolts::shmem::unix_shmem::memfd::{MemfdShMem, MemfdShMemProvider};
use libafl_bolts::shmem::{ShMemId, ShMemProvider};

/// A page of messages.
pub(super) type Page = MemfdShMem;

/// Makes pages, and finds those of other threads of this process by their descriptor.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages;

impl ShMemProvider for Pages {
    type ShMem = Page;

    fn new() -> Result<Self, Error> {
        Ok(Self)
    }

    fn new_shmem(&mut self, size: usize) -> Result<Page, Error> {
        MemfdShMemProvider::new()?.new_shmem(size)
    }

    fn shmem_from_id_and_size(&mut self, id: ShMemId, size: usize) -> Result<Page, Error> {
        let name = format!("/proc/self/fd/{}", i32::from(id));
        let file = File::options().read(true).write(true).open(name)?;
        // From here on the descriptor belongs to the mapping, which closes it.
        let own = ShMemId::from_int(file.into_raw_fd());
        MemfdShMemProvider::new()?.shmem_from_id_and_size(own, size)
    }
}
