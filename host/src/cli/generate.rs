//! What is made of the command line itself: a man page, completions, a systemd unit.

use std::process::ExitCode;

use clap::CommandFactory as _;

use super::arguments::{Arguments, Generate};
use super::report::print;

const UNIT: &str = "\
[Unit]
Description=Applications on a TCP stack behind a wall
Documentation=man:bulkhead(1)
After=network.target

[Service]
ExecStart=@PROGRAM@ run --config /etc/bulkhead.toml
KillMode=mixed
TimeoutStopSec=30
Restart=on-failure
RuntimeDirectory=bulkhead
RuntimeDirectoryMode=0700
CacheDirectory=bulkhead
Environment=XDG_CACHE_HOME=/var/cache
DynamicUser=yes
AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_BIND_SERVICE
DeviceAllow=/dev/net/tun rw
DevicePolicy=closed
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
";

/// Prints it.
///
/// # Errors
/// What the system says to writing.
pub(super) fn generate(what: &Generate) -> anyhow::Result<ExitCode> {
    let mut out = Vec::new();
    match what {
        Generate::Man => man(&mut out)?,
        Generate::Completions { shell } => {
            clap_complete::generate(*shell, &mut Arguments::command(), "bulkhead", &mut out);
        }
        Generate::Systemd => {
            let program = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/bulkhead".into());
            out.extend(UNIT.replace("@PROGRAM@", &program.display().to_string()).into_bytes());
        }
    }
    print(&String::from_utf8_lossy(&out))?;
    Ok(ExitCode::SUCCESS)
}

/// One page: the program, then each command.
fn man(out: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut command = Arguments::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(out)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let page = clap_mangen::Man::new(sub.clone());
        out.extend(format!(".SH COMMAND: {}\n", sub.get_name()).into_bytes());
        page.render_description_section(out)?;
        page.render_synopsis_section(out)?;
        page.render_options_section(out)?;
        page.render_extra_section(out)?;
    }
    Ok(())
}
