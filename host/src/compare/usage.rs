//! What a process has used, as the kernel tells everybody.

use std::io;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// This process, and those that it starts, may have as many files open as the system lets it: how many.
///
/// # Errors
/// What the system says.
pub fn may_open() -> io::Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// A process, or this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage(pub u32);

impl Usage {
    /// This process.
    #[must_use]
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// CPU time of all its threads that are alive, in seconds.
    #[must_use]
    pub fn cpu(self) -> f64 {
        let of = |text: String| text.split_whitespace().next().and_then(|number| number.parse::<f64>().ok());
        let threads = self.threads();
        threads.filter_map(|path| of(std::fs::read_to_string(path.join("schedstat")).ok()?)).sum::<f64>()
            / 1e9
    }

    /// Bytes of memory that it has resident, files and shared memory left out or not.
    #[must_use]
    pub fn memory(self, with_files: bool) -> f64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.0)).unwrap_or_default();
        let mut pages = statm.split_whitespace().skip(1).filter_map(|pages| pages.parse::<f64>().ok());
        let (resident, shared) = (pages.next().unwrap_or(0.0), pages.next().unwrap_or(0.0));
        (resident - if with_files { 0.0 } else { shared }) * rustix::param::page_size() as f64
    }

    /// The number of context switches of all its threads.
    #[must_use]
    pub fn switches(self) -> f64 {
        let of = |path: std::path::PathBuf| -> f64 {
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
            counts.filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok()).sum()
        };
        self.threads().map(of).sum()
    }

    /// Keeps all its threads on one processor, or lets them go where they will.
    pub fn pin(self, processor: Option<usize>) {
        for task in self.threads() {
            let id = task.file_name().and_then(|name| name.to_str()?.parse().ok()).and_then(Pid::from_raw);
            if id.is_some() {
                pin(id, processor);
            }
        }
    }

    fn threads(self) -> impl Iterator<Item = std::path::PathBuf> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0)).ok();
        tasks.into_iter().flatten().flatten().map(|entry| entry.path())
    }
}

/// Keeps a thread, or this one, on one processor; or lets it go where it will.
pub fn pin(thread: Option<Pid>, processor: Option<usize>) {
    let mut set = CpuSet::new();
    match processor {
        Some(processor) => set.set(processor),
        None => (0..CpuSet::MAX_CPU).for_each(|processor| set.set(processor)),
    }
    // A thread that has ended since needs no place.
    let _ = sched_setaffinity(thread, &set);
}
