//! What the server gives up before it looks at the first request: everything but computing, memory up to a bound, and
//! waking its host.

use std::collections::BTreeMap;
use std::io;

use bulkhead_wit::limits;
use rustix::process::{DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use rustix::{fs::Gid, fs::Uid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

/// Memory beyond the module's own that a server may have: the program's data and the buffers of its channel.
const BESIDE: usize = 192 << 20;
/// Who is nobody on every Linux.
const NOBODY: u32 = 65_534;

/// Before any other thread runs: limits, and another user where this one is root.
///
/// # Errors
/// What the system says.
pub(super) fn leave_user() -> io::Result<()> {
    for (resource, most) in [
        (Resource::Core, 0),
        (Resource::Data, (limits::MEMORY + BESIDE) as u64),
        // No file is opened and none written to; what is open stays so.
        (Resource::Nofile, 0),
        (Resource::Fsize, 0),
        (Resource::Memlock, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    if geteuid().is_root() {
        let (group, user) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
    }
    // Other processes of that user may not look into this one.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .and_then(|()| set_no_new_privs(true))
        .map_err(io::Error::from)
}

/// For all threads: from now on any system call but a few ends the process (signal 31, SIGSYS).
///
/// # Errors
/// What the system says.
pub(super) fn leave_system() -> io::Result<()> {
    let program = filter().map_err(|error| io::Error::other(error.to_string()))?;
    apply_filter_all_threads(&program).map_err(|error| io::Error::other(error.to_string()))
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in [
        // Waiting for the host, and waking it.
        libc::SYS_futex,
        libc::SYS_restart_syscall,
        libc::SYS_clock_gettime,
        // The allocator.
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        // To end: by itself, by a panic's abort, by the handler that tells of an exhausted stack.
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_getpid,
        libc::SYS_gettid,
    ] {
        rules.insert(call, Vec::new());
    }
    let is = |argument: u8, value: i64| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value as u64)
    };
    let has = |argument: u8, mask: i32, value: i32| {
        let masked = SeccompCmpOp::MaskedEq(mask as u64);
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, masked, value as u64)
    };
    let own = i64::from(std::process::id());
    let not_executable = || has(2, libc::PROT_EXEC, 0);
    // The pipe whose end is ours, last words, and a signal to itself.
    for (call, condition) in
        [(libc::SYS_read, is(0, 0)?), (libc::SYS_write, is(0, 2)?), (libc::SYS_tgkill, is(0, own)?)]
    {
        rules.insert(call, vec![SeccompRule::new(vec![condition])?]);
    }
    let anonymous = has(3, libc::MAP_ANONYMOUS, libc::MAP_ANONYMOUS)?;
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![anonymous, not_executable()?])?]);
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![not_executable()?])?]);
    let target = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, target)?.try_into()
}
