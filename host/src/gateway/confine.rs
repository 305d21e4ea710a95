//! What the gateway's process gives up once everything is set up, and before the first packet: a bug in it, or in what it
//! is made of, then finds neither files nor programs nor privileges.
//!
//! Two filters of system calls stand one behind the other. Whatever [`CALLS`] does not name is refused (`EPERM`), so that a
//! rare call that nobody thought of costs an error and not somebody's network; and what only an intruder would call
//! ([`FATAL`]) ends the process at once. Landlock takes the file system away besides, where the kernel has it.

use std::collections::BTreeMap;
use std::io;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetStatus,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use rustix::time::{ClockId, clock_gettime};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

/// The system calls that remain, by what they are for; docs/gateway.md has the same list.
const CALLS: &[(&str, i64)] = &[
    // Frames, bytes and datagrams.
    ("read", libc::SYS_read),
    ("readv", libc::SYS_readv),
    ("write", libc::SYS_write),
    ("writev", libc::SYS_writev),
    ("recvfrom", libc::SYS_recvfrom),
    ("recvmsg", libc::SYS_recvmsg),
    ("sendto", libc::SYS_sendto),
    ("sendmsg", libc::SYS_sendmsg),
    ("fcntl", libc::SYS_fcntl),
    ("close", libc::SYS_close),
    // The host's sockets. Only of the Internet: see `filter`.
    ("socket", libc::SYS_socket),
    ("connect", libc::SYS_connect),
    ("bind", libc::SYS_bind),
    ("accept4", libc::SYS_accept4),
    ("shutdown", libc::SYS_shutdown),
    ("getsockname", libc::SYS_getsockname),
    ("getpeername", libc::SYS_getpeername),
    ("getsockopt", libc::SYS_getsockopt),
    ("setsockopt", libc::SYS_setsockopt),
    // Waiting.
    ("epoll_ctl", libc::SYS_epoll_ctl),
    #[cfg(target_arch = "x86_64")]
    ("epoll_wait", libc::SYS_epoll_wait),
    ("epoll_pwait", libc::SYS_epoll_pwait),
    ("ppoll", libc::SYS_ppoll),
    ("timerfd_settime", libc::SYS_timerfd_settime),
    ("futex", libc::SYS_futex),
    ("sched_yield", libc::SYS_sched_yield),
    ("nanosleep", libc::SYS_nanosleep),
    ("clock_nanosleep", libc::SYS_clock_nanosleep),
    ("clock_gettime", libc::SYS_clock_gettime),
    ("restart_syscall", libc::SYS_restart_syscall),
    // Memory, none of it to be executed: also that of an instance which follows one that failed.
    ("mmap", libc::SYS_mmap),
    ("mprotect", libc::SYS_mprotect),
    ("munmap", libc::SYS_munmap),
    ("mremap", libc::SYS_mremap),
    ("madvise", libc::SYS_madvise),
    ("brk", libc::SYS_brk),
    ("getrandom", libc::SYS_getrandom),
    // Signals: a module's traps, Ctrl-C, the program's end, and the word to it that it should.
    ("rt_sigaction", libc::SYS_rt_sigaction),
    ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    ("rt_sigreturn", libc::SYS_rt_sigreturn),
    ("sigaltstack", libc::SYS_sigaltstack),
    ("kill", libc::SYS_kill),
    ("wait4", libc::SYS_wait4),
    ("waitid", libc::SYS_waitid),
    ("getpid", libc::SYS_getpid),
    ("gettid", libc::SYS_gettid),
    // The end.
    ("tgkill", libc::SYS_tgkill),
    ("exit", libc::SYS_exit),
    ("exit_group", libc::SYS_exit_group),
];

/// What ends the process: to run something else, to look into another process, to leave the namespaces, to change the
/// kernel.
const FATAL: &[(&str, i64)] = &[
    ("execve", libc::SYS_execve),
    ("execveat", libc::SYS_execveat),
    ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("setns", libc::SYS_setns),
    ("unshare", libc::SYS_unshare),
    ("mount", libc::SYS_mount),
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("kexec_load", libc::SYS_kexec_load),
];

/// Gives everything up that carrying needs not, for all threads; Landlock's part for this thread, which is the one that
/// carries. Nothing gives it back.
///
/// # Errors
/// What the system says; Landlock's absence is no error.
pub(crate) fn confine() -> io::Result<()> {
    // What looks for the kernel's clock page does so once, in a file.
    let _ = clock_gettime(ClockId::Monotonic);
    set_no_new_privs(true)?;
    // Other processes of this user may not look into this one.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    let landlock = leave_files().map_err(io::Error::other)?;
    tracing::debug!(?landlock, "confined");
    for filter in [fatal(), allowed()] {
        let program = filter.map_err(io::Error::other)?;
        apply_filter_all_threads(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

/// No file and no folder is opened, made or removed any more.
fn leave_files() -> Result<RulesetStatus, landlock::RulesetError> {
    let all = AccessFs::from_all(ABI::V6);
    let rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(all)?.create()?;
    Ok(rules.restrict_self()?.ruleset)
}

type Filter = Result<BpfProgram, seccompiler::BackendError>;

fn fatal() -> Filter {
    let rules = FATAL.iter().map(|(_, number)| (*number, Vec::new())).collect();
    filter(rules, SeccompAction::Allow, SeccompAction::KillProcess)
}

fn allowed() -> Filter {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.iter().map(|(_, number)| (*number, Vec::new())).collect();
    let on = |argument: u8, operator: SeccompCmpOp, value: i32| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value as u64)?;
        SeccompRule::new(vec![condition])
    };
    let family = |family| on(0, SeccompCmpOp::Eq, family);
    rules.insert(libc::SYS_socket, vec![family(libc::AF_INET)?, family(libc::AF_INET6)?]);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![on(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?]);
    }
    filter(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)
}

fn filter(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> Filter {
    let target = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, otherwise, matching, target)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Output};

    use super::*;

    /// Which deed the confined child tries.
    const DEED: &str = "BULKHEAD_CONFINED_DEED";

    fn confined(deed: &str) -> Output {
        let test = "gateway::confine::tests::a_confined_child";
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(DEED, deed)
            .output()
            .unwrap()
    }

    #[test]
    #[ignore = "the child of other tests"]
    fn a_confined_child() {
        let Ok(deed) = std::env::var(DEED) else { return };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        confine().unwrap();
        let refused = |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::PermissionDenied;
        match deed.as_str() {
            "carry" => {
                let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (other, _) = listener.accept().unwrap();
                drop((one, other));
            }
            "read" => assert!(refused(File::open("/etc/passwd").map(drop))),
            "write" => assert!(refused(File::create("/tmp/bulkhead-confined").map(drop))),
            "local" => assert!(refused(UnixStream::pair().map(drop))),
            "run" => drop(Command::new("/bin/true").status()),
            "thread" => assert!(refused(std::thread::Builder::new().spawn(|| ()).map(drop))),
            other => unreachable!("{other}"),
        }
    }

    #[test]
    fn it_goes_on_carrying_and_can_open_nothing() {
        for deed in ["carry", "read", "write", "local", "thread"] {
            let output = confined(deed);
            assert!(output.status.success(), "{deed}: {output:?}");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("1 passed"), "{deed}: {said}");
        }
    }

    #[test]
    fn what_only_an_intruder_would_call_ends_it() {
        // By the child that was forked to run it, or by the whole process where it is spawned without a fork.
        let output = confined("run");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.signal() == Some(libc::SIGSYS) || said.contains("1 passed"), "{output:?}");
    }

    #[test]
    fn the_documents_list_is_the_one_that_is_set_up() {
        let page = include_str!("../../../docs/gateway.md");
        let list = |begin: &str| -> Vec<String> {
            let line = page.lines().find(|line| line.starts_with(begin)).unwrap_or_default();
            line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let names =
            |calls: &[(&str, i64)]| calls.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(list("Allowed:"), names(CALLS));
        assert_eq!(list("Fatal:"), names(FATAL));
    }
}
