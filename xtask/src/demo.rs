//! The demo: a file of 1 GiB, served by the sandboxed stack, downloaded by the kernel's.
//!
//! All of it happens in a network namespace of its own with a folder of its own, which are gone afterwards, however
//! the demo ends.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bulkhead_namespace::Namespace;
use serde_json::Value;

use crate::leftovers::Before;
use crate::packages;
use crate::privileged::{build, run_as_root};
use crate::shell::{capture, run, say};

/// Bytes of the file.
const FILE: u64 = 1 << 30;
/// Bytes of disk that are wanted: the file, its copy, and some air.
const DISK: u64 = 2 * FILE + (256 << 20);
/// The device, and our end and the kernel's end of it.
const TUN: &str = "bh0";
const ADDRESS: &str = "10.42.0.2";
const NETWORK: &str = "10.42.0.2/24";
/// What the device does for the stack, and how that is asked for.
const DEVICES: [(&str, &[&str]); 2] = [
    ("plain TUN, where every frame has at most 1500 bytes", &["--offload", "off"]),
    ("TUN with checksum and segmentation offload, where the kernel has it", &[]),
];
/// How long the server may take to answer for the first time, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds everything, and shows it.
///
/// # Errors
/// Where something is missing that cannot be installed, where the download fails, or where the copy differs.
pub(crate) fn show() -> anyhow::Result<()> {
    packages::ensure_programs(&["curl"], "download from a network namespace")?;
    let program = build(&["bulkhead"])?.join("bulkhead");
    let own = std::env::current_exe().context("cannot tell which program this is")?;
    run_as_root(&own, [OsStr::new("demo-as-root"), program.as_os_str()])
}

/// The part that needs root.
///
/// # Errors
/// Where the download fails, where the copy differs, or where something is left behind.
pub(crate) fn download(program: &Path) -> anyhow::Result<()> {
    bulkhead_namespace::end_with_input()?;
    let before = Before::look();
    {
        let space = Namespace::new().context("cannot make a network namespace")?;
        enough_disk(space.folder())?;
        let original = space.folder().join("served").join("file");
        make_file(&original)?;
        for (device, flags) in DEVICES {
            once(&space, program, &original, flags).with_context(|| device.to_owned())?.show(device);
        }
    }
    before.nothing_new()?;
    say("nothing is left behind");
    Ok(())
}

/// One download, from a server that begins and ends with it.
fn once(space: &Namespace, program: &Path, original: &Path, flags: &[&str]) -> anyhow::Result<Download> {
    let mut server = Server::start(space, program, original.parent().context("a file has a folder")?, flags)?;
    server.answers(space)?;
    let copy = space.folder().join("copy");
    // Once to compare, and once more without a file on the way, since writing it takes the kernel's end some time too.
    let kept = fetch(space, &copy);
    let dropped = fetch(space, Path::new("/dev/null"));
    let summary = server.end()?;
    let (kept, dropped) = (kept?, dropped?);
    compare(original, &copy)?;
    Ok(Download { kept, dropped, summary })
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

/// `bulkhead run http`. What it says to people is shown; its summary is kept.
struct Server {
    child: Child,
    summary: std::thread::JoinHandle<String>,
}

impl Server {
    fn start(space: &Namespace, program: &Path, folder: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let mut command = space.command(program);
        command.args(["run", "http"]).arg(folder).args(["--tun", TUN, "--address", NETWORK]).args(flags);
        let flags = flags.join(" ");
        say(format!("in {}: bulkhead run http DIR --tun {TUN} --address {NETWORK} {flags}", space.name()));
        command.arg("--json").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start bulkhead")?;
        let (mut output, error) =
            child.stdout.take().zip(child.stderr.take()).context("its outputs are ours")?;
        std::thread::spawn(move || {
            BufReader::new(error).lines().map_while(Result::ok).for_each(|line| eprintln!("  | {line}"));
        });
        let summary = std::thread::spawn(move || {
            let mut text = String::new();
            // What cannot be read is no summary, which is noticed where it is parsed.
            let _ = output.read_to_string(&mut text);
            text
        });
        Ok(Self { child, summary })
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

    /// Ctrl-C; returns its summary.
    fn end(mut self) -> anyhow::Result<Value> {
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
        if !status.success() {
            bail!("bulkhead ended with {status}");
        }
        let text = self.summary.join().unwrap_or_default();
        serde_json::from_str(&text).context("bulkhead printed no summary")
    }
}

fn url(path: &str) -> String {
    format!("http://{ADDRESS}/{path}")
}

/// Downloads with the kernel's TCP; returns the seconds that curl took.
fn fetch(space: &Namespace, copy: &Path) -> anyhow::Result<f64> {
    say(format!("curl -o {} {} (the kernel's TCP)", copy.display(), url("file")));
    let mut command = space.command("curl");
    command.args(["-sS", "--fail", "-w", "%{time_total} %{size_download}", "-o"]).arg(copy).arg(url("file"));
    let text = capture(&mut command)?;
    let (seconds, bytes) = text.split_once(' ').context("curl says no numbers")?;
    if bytes.parse() != Ok(FILE) {
        bail!("curl got {bytes} bytes of {FILE}");
    }
    Ok(seconds.parse()?)
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

/// How two downloads of the file went.
struct Download {
    /// Seconds, into a file.
    kept: f64,
    /// Seconds, into nothing.
    dropped: f64,
    /// What `bulkhead run --json` prints; times are nanoseconds.
    summary: Value,
}

impl Download {
    fn show(&self, device: &str) {
        let seconds = |name: &str| self.summary[name].as_f64().unwrap_or(0.0) / 1e9;
        let (module, host, all) = (seconds("module_ns"), seconds("host_cpu_ns"), seconds("cpu_ns"));
        let steps = self.summary["steps"].as_f64().unwrap_or(0.0);
        let share = |part: f64| if all > 0.0 { 100.0 * part / all } else { 0.0 };
        say(format!("== {device}"));
        let rate = |seconds: f64| FILE as f64 * 8.0 / 1e9 / seconds;
        say(format!(
            "== {} MiB into a file in {:.2} s: {:.2} Gbit/s; into nothing in {:.2} s: {:.2} Gbit/s",
            FILE >> 20,
            self.kept,
            rate(self.kept),
            self.dropped,
            rate(self.dropped),
        ));
        say(format!(
            "== {} retransmissions, {} faults",
            self.summary["retransmissions"], self.summary["faults"]
        ));
        say(format!(
            "== of {all:.2} s CPU, {module:.2} s ({:.0} %) in the module ({steps} steps of {:.1} us), \
             {host:.2} s ({:.0} %) in the host, files and HTTP included",
            share(module),
            if steps > 0.0 { module * 1e6 / steps } else { 0.0 },
            share(host)
        ));
    }
}
