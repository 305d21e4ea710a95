//! The demo: a file of 1 GiB, served by the sandboxed stack, downloaded by the kernel's.
//!
//! All of it happens in a network namespace of its own with a folder of its own, which are gone afterwards, however
//! the demo ends.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bulkhead_namespace::Namespace;

use crate::guests;
use crate::leftovers::Before;
use crate::packages::{self, is_root};
use crate::shell::{capture, cargo, run, say, which};
use crate::toolchain::{target_directory, workspace};

/// Bytes of the file.
const FILE: u64 = 1 << 30;
/// Bytes of disk that are wanted: the file, its copy, and some air.
const DISK: u64 = 2 * FILE + (256 << 20);
/// The device, and our end and the kernel's end of it.
const TUN: &str = "bh0";
const ADDRESS: &str = "10.42.0.2";
/// How long the server may take to answer for the first time, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds everything, and shows it.
///
/// # Errors
/// Where something is missing that cannot be installed, where the download fails, or where the copy differs.
pub(crate) fn show() -> anyhow::Result<()> {
    packages::ensure_programs(&["ip", "curl"], "make a network namespace and download from it")?;
    if !Path::new("/dev/net/tun").exists() {
        bail!("there is no /dev/net/tun: run `modprobe tun` as root, or give this container the device");
    }
    guests::build_all(false)?;
    say("cargo build --release (the first time takes some minutes: the sandbox compiles)");
    run(cargo().args(["build", "--release", "--locked", "--package", "bulkhead"]))?;
    let program = target_directory(&workspace()?)?.join("release").join("bulkhead");
    if is_root() {
        return download(&program);
    }
    if which("sudo").is_none() {
        bail!("a network namespace needs root, and there is no sudo here: run `cargo xtask demo` as root");
    }
    say("a network namespace needs root: sudo");
    let own = std::env::current_exe().context("cannot tell which program this is")?;
    run(Command::new("sudo").arg("-E").arg(own).arg("demo-as-root").arg(program))
}

/// The part that needs root.
///
/// # Errors
/// Where the download fails, where the copy differs, or where something is left behind.
pub(crate) fn download(program: &Path) -> anyhow::Result<()> {
    let before = Before::look();
    {
        let space = Namespace::new().context("cannot make a network namespace")?;
        enough_disk(space.folder())?;
        let original = space.folder().join("served").join("file");
        make_file(&original)?;
        let mut server = Server::start(&space, program, original.parent().context("a file has a folder")?)?;
        server.answers(&space)?;
        let copy = space.folder().join("copy");
        let outcome = fetch(&space, &copy);
        let summary = server.end()?;
        let (seconds, bytes) = outcome?;
        compare(&original, &copy)?;
        report(seconds, bytes, &summary);
    }
    before.nothing_new()?;
    say("nothing is left behind");
    Ok(())
}

fn enough_disk(folder: &Path) -> anyhow::Result<()> {
    let text = capture(Command::new("df").args(["-B1", "--output=avail"]).arg(folder))?;
    let free: u64 = text.lines().last().unwrap_or_default().trim().parse().context("df says no number")?;
    if free < DISK {
        bail!(
            "{} has {} MiB free, and the demo wants {}: set TMPDIR",
            folder.display(),
            free >> 20,
            DISK >> 20
        );
    }
    Ok(())
}

/// Random bytes, so that nothing on the way could guess them.
fn make_file(path: &Path) -> anyhow::Result<()> {
    say(format!("making a file of {} MiB", FILE >> 20));
    std::fs::create_dir(path.parent().context("a file has a folder")?)?;
    let mut random = File::open("/dev/urandom")?.take(FILE);
    std::io::copy(&mut random, &mut File::create(path)?).context("cannot write the file")?;
    Ok(())
}

/// `bulkhead run http`, and what it prints.
struct Server {
    child: Child,
    lines: std::thread::JoinHandle<Vec<String>>,
}

impl Server {
    fn start(space: &Namespace, program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let mut command = space.command(program);
        command.args(["run", "http"]).arg(folder).args(["--tun", TUN, "--address", ADDRESS]);
        say(format!("in namespace {}: bulkhead run http DIR --tun {TUN} --address {ADDRESS}", space.name()));
        // Both outputs into one pipe, so that they are read in the order in which they were written.
        let (output, input) = std::io::pipe()?;
        command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
        let child = command.spawn().context("cannot start bulkhead")?;
        // The command keeps the writing ends; without it the pipe ends with the program.
        drop(command);
        let lines = std::thread::spawn(move || {
            let shown = BufReader::new(output).lines().map_while(Result::ok);
            shown.inspect(|line| eprintln!("  | {line}")).collect()
        });
        Ok(Self { child, lines })
    }

    /// Waits for the first answer.
    fn answers(&mut self, space: &Namespace) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("bulkhead ended at once ({status})");
            }
            if space.run(&["curl", "-s", "-I", "-m", "5", "-o", "/dev/null", &url("")]).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("bulkhead does not answer");
    }

    /// Ctrl-C; returns what it has printed in all.
    fn end(mut self) -> anyhow::Result<Vec<String>> {
        run(Command::new("kill").args(["-INT", &self.child.id().to_string()]))?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > PATIENCE {
                self.child.kill()?;
                self.child.wait()?;
                bail!("bulkhead did not end on Ctrl-C");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let status = self.child.wait()?;
        let lines = self.lines.join().unwrap_or_default();
        if !status.success() {
            bail!("bulkhead ended with {status}");
        }
        Ok(lines)
    }
}

fn url(path: &str) -> String {
    format!("http://{ADDRESS}/{path}")
}

/// Downloads with the kernel's TCP; returns seconds and bytes as curl counts them.
fn fetch(space: &Namespace, copy: &Path) -> anyhow::Result<(f64, u64)> {
    say(format!("curl {} (the kernel's TCP)", url("file")));
    let mut command = space.command("curl");
    command.args(["-sS", "--fail", "-w", "%{time_total} %{size_download}", "-o"]).arg(copy).arg(url("file"));
    let text = capture(&mut command)?;
    let (seconds, bytes) = text.split_once(' ').context("curl says no numbers")?;
    Ok((seconds.parse()?, bytes.parse()?))
}

/// Compares the checksums of the file and its copy.
fn compare(original: &Path, copy: &Path) -> anyhow::Result<()> {
    let sums = capture(Command::new("sha256sum").args([original, copy]))?;
    let sums: Vec<&str> = sums.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let [first, second] = sums[..] else { bail!("sha256sum did not say two sums") };
    if first != second {
        bail!("the copy differs: sha256 {second}, not {first}");
    }
    say(format!("sha256 {first}: the copy is the same"));
    Ok(())
}

fn report(seconds: f64, bytes: u64, _summary: &[String]) {
    let megabytes = bytes as f64 / 1e6;
    say(format!(
        "{} MiB in {seconds:.2} s: {:.2} Gbit/s ({:.0} MB/s)",
        bytes >> 20,
        megabytes * 8.0 / 1e3 / seconds,
        megabytes / seconds
    ));
}
