//! ssh and scp of OpenSSH, against dropbear: its package brings no service that would start by itself.

use std::path::Path;

use anyhow::{Context as _, ensure};

use super::{client, noise, same, server, sha256};
use crate::factor::Cell;
use crate::place::Ends;

/// Bytes each way: encryption is slow beside the rest.
fn bytes(cell: &Cell) -> usize {
    cell.bytes() / 4
}

/// A user database in which root is at home in the namespace's folder; for the server alone, in a mount namespace of its
/// own, which `ip netns exec` gives it.
fn database(folder: &Path) -> anyhow::Result<()> {
    let own = std::fs::read_to_string("/etc/passwd")?;
    let root = own.lines().find(|line| line.starts_with("root:")).context("there is no root")?;
    let mut fields: Vec<&str> = root.split(':').collect();
    let home = folder.to_string_lossy();
    ensure!(fields.len() == 7, "a line of /etc/passwd");
    fields[5] = &home;
    fields[6] = "/bin/sh";
    Ok(std::fs::write(folder.join("passwd"), fields.join(":") + "\n")?)
}

pub(super) fn copy(cell: &Cell, ends: &Ends<'_>) -> anyhow::Result<String> {
    let (near, far) = (ends.client.folder(), ends.server.folder());
    let at = |folder: &Path, name: &str| folder.join(name).to_string_lossy().into_owned();
    let (key, host) = (at(near, "key"), at(far, "hostkey"));
    ends.client.run(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &key])?;
    ends.server.run(&["dropbearkey", "-t", "ed25519", "-f", &host])?;
    std::fs::create_dir(far.join(".ssh"))?;
    std::fs::copy(format!("{key}.pub"), far.join(".ssh/authorized_keys"))?;
    database(far)?;
    let dropbear = format!(
        "mount --bind {} /etc/passwd && exec dropbear -F -E -s -r {host} -P {} -W 1000000 -p {}",
        at(far, "passwd"),
        at(far, "pid"),
        ends.listen
    );
    server(ends, &["sh", "-c", &dropbear])?;

    let original = noise(near, "file", bytes(cell))?;
    let options = "-q -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
                   -o IdentitiesOnly=yes -o ConnectTimeout=15 -o ServerAliveInterval=4 -o ServerAliveCountMax=2";
    let (target, port) = (ends.target.ip(), ends.target.port());
    let there = format!("ssh {options} -i {key} -p {port} root@{target} sha256sum < {}", original.display());
    let output = client(ends.client, &["sh", "-c", &there]).context("ssh")?;
    let sum = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        sum.split(' ').next() == Some(&sha256(ends.client, &original)?),
        "ssh: the bytes arrived as others"
    );

    let copy = near.join("copy");
    let remote = noise(far, "remote", bytes(cell))?;
    // A colon ends the host, so that an IPv6 address needs brackets.
    let host = if target.is_ipv6() { format!("[{target}]") } else { target.to_string() };
    let back =
        format!("scp -O {options} -i {key} -P {port} root@{host}:{} {}", remote.display(), copy.display());
    client(ends.client, &["sh", "-c", &back]).context("scp")?;
    same(ends.client, &remote, &copy)?;
    Ok(format!("{} KiB each way, same sha256", bytes(cell) >> 10))
}
