//! Programs that people use, inside, and their servers outside: git, apt, pip, ssh, rsync, wget.

use std::fs;
use std::path::Path;

use bulkhead_namespace::Namespace;

use super::real::{have, nginx, start};
use super::{HOST, MIB, host, inside, noise, report, said};

/// What a shell prints in the namespace that plays the host.
fn outside(space: &Namespace, line: &str) -> String {
    let output = space.run(&["sh", "-ec", line]).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Everything that is asked for through the gateway, by HTTP.
fn web(space: &Namespace) -> impl Drop {
    nginx(space, &format!("{HOST}:80"), None)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs root"]
fn tun_git_clones_and_pushes() {
    let Some(space) = host().filter(|_| have(&["git", "nginx"])) else { return };
    let folder = text(space.folder());
    fs::write(space.folder().join("noise"), noise(4 * MIB)).unwrap();
    // Packed and bare, as a server has it; whoever may read it may write to it.
    let head = outside(
        &space,
        &format!(
            "cd {folder}; export HOME={folder} GIT_CONFIG_NOSYSTEM=1; git init -q work; cd work; cp ../noise .; git add noise; \
             git -c user.name=a -c user.email=a@example.org commit -q -m first; \
             git clone -q --bare . ../repository.git; cd ../repository.git; git config daemon.receivepack true; \
             git update-server-info; git rev-parse HEAD"
        ),
    );
    let _daemon = start(
        &space,
        &[
            "git",
            "daemon",
            "--export-all",
            &format!("--base-path={folder}"),
            &format!("--listen={HOST}"),
            &folder,
        ],
        &format!("{HOST}:9418"),
    );
    let _web = web(&space);
    for (number, url) in
        [format!("git://{HOST}/repository.git"), format!("http://{HOST}/repository.git")].iter().enumerate()
    {
        let line = format!(
            "set -e; cd {folder}; export HOME={folder} GIT_CONFIG_NOSYSTEM=1; git clone -q {url} copy{number}; \
             cmp noise copy{number}/noise; cd copy{number}; git fsck --no-progress; git rev-parse HEAD"
        );
        assert_eq!(said(&inside(&space, &[], &line)), head, "{url}");
    }
    let line = format!(
        "set -e; export HOME={folder} GIT_CONFIG_NOSYSTEM=1; cd {folder}/copy0; head -c 2000000 /dev/urandom > more; git add more; \
         git -c user.name=a -c user.email=a@example.org commit -q -m second; git push -q origin HEAD; git rev-parse HEAD"
    );
    let pushed = said(&inside(&space, &[], &line));
    assert_eq!(outside(&space, &format!("git -C {folder}/repository.git rev-parse HEAD")), pushed);
}

/// A mirror with one package, which has one file.
const MIRROR: &str = r#"
cd "$1"; mkdir -p package/DEBIAN package/opt pool
cp noise package/opt/noise
printf 'Package: bulkhead-noise\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: noise\n' > package/DEBIAN/control
dpkg-deb --root-owner-group -Znone -b package pool/noise.deb > /dev/null
{ cat package/DEBIAN/control
  printf 'Filename: ./pool/noise.deb\nSize: %s\nSHA256: %s\n' "$(stat -c %s pool/noise.deb)" "$(sha256sum pool/noise.deb | cut -d' ' -f1)"
} > Packages
gzip -k Packages
printf 'SHA256:\n' > Release
for file in Packages Packages.gz; do
  printf ' %s %s %s\n' "$(sha256sum $file | cut -d' ' -f1)" "$(stat -c %s $file)" $file >> Release
done
mkdir -p apt/lists/partial apt/cache/archives/partial apt/etc; touch apt/status
echo "deb [trusted=yes] http://$2/ ./" > apt/sources.list
"#;

#[test]
#[ignore = "needs root"]
fn tun_apt_get_from_a_mirror() {
    let Some(space) = host().filter(|_| have(&["apt-get", "dpkg-deb", "nginx"])) else { return };
    let folder = text(space.folder());
    fs::write(space.folder().join("noise"), noise(4 * MIB)).unwrap();
    space.run(&["sh", "-ec", MIRROR, "sh", &folder, HOST]).unwrap_or_else(|error| panic!("{error}"));
    let _web = web(&space);
    let line = format!(
        "set -e; cd {folder}; mkdir got; apt() {{ apt-get -qq -o APT::Sandbox::User=root -o Acquire::http::Proxy=false -o Acquire::Retries=0 \
         -o Acquire::Languages=none -o Dir::State::lists={folder}/apt/lists -o Dir::State::status={folder}/apt/status \
         -o Dir::Cache={folder}/apt/cache -o Dir::Etc::sourcelist={folder}/apt/sources.list -o Dir::Etc::sourceparts=- \
         -o Dir::Etc::preferencesparts=- \"$@\"; }}; apt update; cd got; apt download bulkhead-noise; \
         dpkg-deb -x *.deb .; cmp opt/noise ../noise; echo it is here"
    );
    assert_eq!(said(&inside(&space, &[], &line)), "it is here");
}

/// An index with one wheel, which has one module.
const INDEX: &str = r#"
import sys, zipfile, pathlib
root, name = pathlib.Path(sys.argv[1]), "bulkhead_noise-1.0-py3-none-any.whl"
folder = root / "simple/bulkhead-noise"
folder.mkdir(parents=True)
info = "bulkhead_noise-1.0.dist-info/"
files = {
    "bulkhead_noise.py": "length = len(%r)\n" % (root / "noise").read_bytes(),
    info + "METADATA": "Metadata-Version: 2.1\nName: bulkhead-noise\nVersion: 1.0\n",
    info + "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
files[info + "RECORD"] = "".join(f"{file},,\n" for file in [*files, info + "RECORD"])
with zipfile.ZipFile(folder / name, "w") as wheel:
    for file, text in files.items():
        wheel.writestr(file, text)
(folder / "index.html").write_text(f'<!DOCTYPE html><html><body><a href="{name}">{name}</a></body></html>')
"#;

#[test]
#[ignore = "needs root"]
fn tun_pip_installs_from_an_index() {
    let Some(space) = host().filter(|_| have(&["pip3", "python3", "nginx"])) else { return };
    let folder = text(space.folder());
    fs::write(space.folder().join("noise"), noise(MIB)).unwrap();
    space.run(&["/usr/bin/python3", "-c", INDEX, &folder]).unwrap_or_else(|error| panic!("{error}"));
    let _web = web(&space);
    let line = format!(
        "set -e; export HOME={folder}; /usr/bin/python3 -m pip --isolated --disable-pip-version-check -q install --no-cache-dir --no-compile \
         --root-user-action=ignore --index-url http://{HOST}/simple --trusted-host {HOST} --target {folder}/site bulkhead-noise; \
         PYTHONPATH={folder}/site /usr/bin/python3 -c 'import bulkhead_noise; print(bulkhead_noise.length)'"
    );
    assert_eq!(said(&inside(&space, &[], &line)), MIB.to_string());
}

/// dropbear, for root with one key, whose home is the namespace's folder: in a mount namespace of its own, which `ip netns
/// exec` gives it.
const SHELL_SERVER: &str = r#"
cd "$1"; ssh-keygen -q -t ed25519 -N '' -f key; dropbearkey -t ed25519 -f hostkey > /dev/null 2>&1
mkdir .ssh; cp key.pub .ssh/authorized_keys
sed -n "s|^root:.*|root:x:0:0:root:$1:/bin/sh|p" /etc/passwd > passwd
"#;

#[test]
#[ignore = "needs root"]
fn tun_ssh_and_rsync_both_ways() {
    let Some(space) = host().filter(|_| have(&["ssh", "rsync", "dropbear"])) else { return };
    let folder = text(space.folder());
    fs::write(space.folder().join("noise"), noise(8 * MIB)).unwrap();
    space.run(&["sh", "-ec", SHELL_SERVER, "sh", &folder]).unwrap_or_else(|error| panic!("{error}"));
    let serve = format!(
        "mount --bind {folder}/passwd /etc/passwd && exec dropbear -F -E -s -r {folder}/hostkey -P {folder}/pid -p {HOST}:22"
    );
    let _dropbear = start(&space, &["sh", "-c", &serve], &format!("{HOST}:22"));
    fs::write(
        space.folder().join("rsyncd.conf"),
        format!("use chroot = no\nuid = 0\ngid = 0\n[all]\npath = {folder}/module\nread only = no\n"),
    )
    .unwrap();
    fs::create_dir(space.folder().join("module")).unwrap();
    let config = format!("--config={folder}/rsyncd.conf");
    let address = format!("--address={HOST}");
    let _rsync =
        start(&space, &["rsync", "--daemon", "--no-detach", &config, &address], &format!("{HOST}:873"));
    let ssh = format!(
        "ssh -q -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes -i {folder}/key"
    );
    // A command, a pipe each way, a whole file by each of rsync's ways, a changed one, and back.
    let line = format!(
        "set -e; cd {folder}; mkdir tree; cp noise tree/one; head -c 300000 noise > tree/two; \
         test \"$({ssh} root@{HOST} 'echo $((6*7))')\" = 42; {ssh} root@{HOST} 'cat > piped' < noise; cmp piped noise; \
         {ssh} root@{HOST} cat noise | cmp - noise; \
         rsync -a -e '{ssh}' tree/ root@{HOST}:by-ssh/; diff -r tree by-ssh; \
         rsync -a tree/ rsync://{HOST}/all/; diff -r tree module; \
         printf changed >> tree/one; rsync -ac tree/ rsync://{HOST}/all/; diff -r tree module; \
         rsync -a rsync://{HOST}/all/ back/; diff -r tree back; echo the same"
    );
    assert_eq!(said(&inside(&space, &[], &line)), "the same");
}

#[test]
#[ignore = "needs root"]
fn tun_wget_goes_on_where_it_was_cut_off() {
    let Some(space) = host().filter(|_| have(&["wget", "nginx", "sha256sum"])) else { return };
    let folder = text(space.folder());
    fs::write(space.folder().join("file"), noise(16 * MIB)).unwrap();
    let _web = web(&space);
    let line = format!(
        "set -e; mkdir {folder}/got; cd {folder}/got; head -c 5000001 ../file > file; wget -q --continue http://{HOST}/file; \
         cmp file ../file; sha256sum file ../file | cut -d' ' -f1 | uniq | wc -l"
    );
    let output = inside(&space, &[], &line);
    assert_eq!(said(&output), "1");
    let bytes = report(&output)["gateway"]["bytes_in"].as_u64().unwrap();
    assert!((11 * MIB as u64..12 * MIB as u64).contains(&bytes), "only what was missing: {bytes}");
}
