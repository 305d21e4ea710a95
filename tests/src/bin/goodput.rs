//! Goodput against loss and round trip: the sandboxed stack as the sender beside the kernel's, to the same kernel as the
//! receiver, over the same relay (`bulkhead link`) with the same seeds. `cargo xtask goodput` builds and runs it.
//!
//! Two network namespaces a worker: the receiver's, and the sender's, joined by the relay. The kernel sends from its own
//! end of the relay; the sandboxed stack sits behind a TUN device in the sender's namespace, whose kernel forwards.

use bulkhead_namespace::{Namespace, Running, end_with_input, patiently};
use bulkhead_tests::simulation::Random;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long interfaces and listeners may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);

const HELP: &str = "\
goodput --program BULKHEAD [--quick] [--seeds N] [--seconds S] [--jobs N] [--loss LIST] [--rtt LIST]
        [--congestion LIST] [--placement wasm|native] [--rate MBIT] [--setting NAME=VALUE] [--json FILE]

Loss in percent, round-trip times in milliseconds, lists with commas. Without --quick: loss 0,0.1,1,3, RTT 1,20,100,
reno and cubic, 8 seeds, 4 seconds each (8 from 100 ms on).
";

/// What is to be measured.
#[derive(Clone)]
struct Wish {
    program: PathBuf,
    seeds: u64,
    seconds: f64,
    jobs: usize,
    losses: Vec<String>,
    rtts: Vec<u64>,
    congestions: Vec<String>,
    placement: String,
    settings: Vec<String>,
    rate: u64,
    json: Option<PathBuf>,
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn wish() -> Option<Wish> {
    let mut wish = Wish {
        program: PathBuf::new(),
        seeds: 8,
        seconds: 4.0,
        jobs: 4,
        losses: list("0,0.1,1,3"),
        rtts: vec![1, 20, 100],
        congestions: list("reno,cubic"),
        placement: "wasm".into(),
        settings: Vec::new(),
        rate: 20,
        json: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => {
                (wish.seeds, wish.seconds) = (3, 2.0);
                (wish.losses, wish.rtts, wish.congestions) = (list("0,1"), vec![20], list("cubic"));
            }
            "--program" => wish.program = words.next()?.into(),
            "--seeds" => wish.seeds = words.next()?.parse().ok()?,
            "--seconds" => wish.seconds = words.next()?.parse().ok()?,
            "--jobs" => wish.jobs = words.next()?.parse().ok()?,
            "--loss" => wish.losses = list(&words.next()?),
            "--rtt" => {
                wish.rtts = list(&words.next()?).iter().map(|rtt| rtt.parse().ok()).collect::<Option<_>>()?
            }
            "--congestion" => wish.congestions = list(&words.next()?),
            "--placement" => wish.placement = words.next()?,
            "--setting" => wish.settings.push(words.next()?),
            "--rate" => wish.rate = words.next()?.parse().ok()?,
            "--json" => wish.json = Some(words.next()?.into()),
            _ => return None,
        }
    }
    (!wish.program.as_os_str().is_empty() && wish.seeds > 0 && wish.jobs > 0).then_some(wish)
}

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Sender {
    Kernel,
    Bulkhead,
}

/// One transfer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Job {
    congestion: String,
    rtt: u64,
    loss: String,
    sender: Sender,
    seed: u64,
}

fn start(mut command: Command) -> io::Result<Running> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running::start(&mut command)
}

/// The relay between the two namespaces, with addresses on both ends.
fn relay(wish: &Wish, receiver: &Namespace, sender: &Namespace, job: &Job) -> io::Result<Running> {
    // In a namespace of ours, so that it ends with it whatever happens to us.
    let mut command = sender.command(&wish.program);
    command.args(["link", "--a", "wan0", "--b", &format!("wan0@{}", receiver.name())]);
    // Half of the round trip each way; losses hit data alone, as comparisons of senders have it.
    let delay = format!("{}us", job.rtt * 500);
    // A queue of half of the bandwidth-delay product of 100 ms.
    let queue = wish.rate * 1_000_000 / 8 / 20;
    command.args(["--delay", &delay, "--loss", &format!("{}%/0", job.loss)]);
    command.args(["--rate", &format!("{}Mbit", wish.rate), "--queue", &queue.to_string()]);
    command.args(["--seed", &job.seed.to_string()]);
    let link = start(command)?;
    for (space, address) in [(receiver, "10.1.0.1/24"), (sender, "10.1.0.2/24")] {
        patiently(PATIENCE, || space.run(&["ip", "address", "add", address, "dev", "wan0"]))?;
    }
    receiver.run(&["ip", "route", "add", "10.77.0.0/24", "via", "10.1.0.2"])?;
    Ok(link)
}

/// Reads for so long from when the connection stands; bytes a second.
fn receive(space: &Namespace, from: SocketAddr, time: Duration) -> io::Result<f64> {
    space.inside(|| -> io::Result<f64> {
        let mut stream = patiently(PATIENCE, || TcpStream::connect_timeout(&from, Duration::from_secs(10)))?;
        let (begun, mut total) = (Instant::now(), 0);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(total as f64 / time.as_secs_f64());
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => total += count,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(error),
            }
        }
    })?
}

/// The kernel as the sender: writes without end to whoever comes.
fn kernel_sends(space: &Namespace, done: &AtomicBool) -> io::Result<()> {
    space.inside(|| -> io::Result<()> {
        let listener = patiently(PATIENCE, || TcpListener::bind("10.1.0.2:19"))?;
        listener.set_nonblocking(true)?;
        let bytes = vec![b'x'; 1 << 16];
        while !done.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nonblocking(false)?;
                    stream.set_write_timeout(Some(Duration::from_millis(100)))?;
                    // Until the receiver goes away.
                    while !done.load(Ordering::Relaxed) {
                        match stream.write(&bytes) {
                            Ok(_) => {}
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                            Err(_) => break,
                        }
                    }
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        Ok(())
    })?
}

fn measure(wish: &Wish, receiver: &Namespace, sender: &Namespace, job: &Job) -> io::Result<f64> {
    let link = relay(wish, receiver, sender, job)?;
    let seconds = if job.rtt >= 100 { wish.seconds * 2.0 } else { wish.seconds };
    let time = Duration::from_secs_f64(seconds);
    let rate = match job.sender {
        Sender::Kernel => {
            sender.set_congestion(&job.congestion)?;
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let sending = scope.spawn(|| kernel_sends(sender, &done));
                let rate = receive(receiver, SocketAddr::from(([10, 1, 0, 2], 19)), time);
                done.store(true, Ordering::Relaxed);
                let _ = sending.join();
                rate
            })
        }
        Sender::Bulkhead => {
            let mut command = sender.command(&wish.program);
            command.args(["run", "source", "--placement", &wish.placement, "--drain", "0"]);
            command.args(["--setting", &format!("congestion={}", job.congestion)]);
            wish.settings.iter().for_each(|setting| {
                command.args(["--setting", setting]);
            });
            command.args(["--seed", &job.seed.to_string()]);
            let stack = start(command)?;
            let rate = receive(receiver, SocketAddr::from(([10, 77, 0, 2], 19)), time);
            stack.end()?;
            rate
        }
    };
    link.end()?;
    rate
}

fn spaces() -> io::Result<[Namespace; 2]> {
    let pair = [Namespace::new()?, Namespace::new()?];
    for space in &pair {
        for setting in
            ["net.ipv4.ip_forward=1", "net.ipv4.tcp_no_metrics_save=1", "net.ipv4.conf.all.rp_filter=0"]
        {
            space.run(&["sysctl", "-qw", setting])?;
        }
    }
    Ok(pair)
}

fn run(wish: &Wish) -> io::Result<BTreeMap<Job, f64>> {
    let mut jobs = Vec::new();
    for seed in 1..=wish.seeds {
        for congestion in &wish.congestions {
            for &rtt in &wish.rtts {
                for loss in &wish.losses {
                    // One after the other, so that both meet the same load of the machine.
                    for sender in [Sender::Kernel, Sender::Bulkhead] {
                        jobs.push(Job {
                            congestion: congestion.clone(),
                            rtt,
                            loss: loss.clone(),
                            sender,
                            seed,
                        });
                    }
                }
            }
        }
    }
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| -> io::Result<()> {
        let workers: Vec<_> = (0..wish.jobs)
            .map(|_| {
                scope.spawn(|| -> io::Result<()> {
                    let [receiver, sender] = spaces()?;
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let rate = measure(wish, &receiver, &sender, job).or_else(|_| {
                            // Once more: a listener that was not there yet.
                            measure(wish, &receiver, &sender, job)
                        })?;
                        eprint!(".");
                        results.lock().map_err(|_| io::ErrorKind::Other)?.insert(job.clone(), rate);
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Err(io::ErrorKind::Other.into())))
    })?;
    eprintln!();
    results.into_inner().map_err(|_| io::ErrorKind::Other.into())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The ratio of the means and its interval of 95 % by resampling seeds: both had the same losses, one after the other.
fn ratio(ours: &[f64], theirs: &[f64]) -> (f64, f64, f64) {
    let mut random = Random::new(1);
    let pairs: Vec<(f64, f64)> = ours.iter().copied().zip(theirs.iter().copied()).collect();
    let mut ratios: Vec<f64> = (0..4000)
        .map(|_| {
            let last = pairs.len() as u64 - 1;
            let drawn = (0..pairs.len()).map(|_| pairs[random.between(0, last) as usize]);
            let sums = drawn.fold((0.0, 0.0), |sums, pair| (sums.0 + pair.0, sums.1 + pair.1));
            sums.0 / f64::max(sums.1, 1e-9)
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    (mean(ours) / mean(theirs).max(1e-9), ratios[100], ratios[3899])
}

/// What is aimed at.
fn target(rtt: u64, loss: &str) -> f64 {
    if rtt >= 100 && loss == "3" { 0.8 } else { 0.9 }
}

fn table(wish: &Wish, results: &BTreeMap<Job, f64>) -> Value {
    println!("congestion   RTT   loss   kernel      bulkhead    ratio  95 %          target");
    let mut rows = Vec::new();
    for congestion in &wish.congestions {
        for &rtt in &wish.rtts {
            for loss in &wish.losses {
                let of = |sender| -> Vec<f64> {
                    let is_of = |job: &&Job| {
                        job.congestion == *congestion
                            && job.rtt == rtt
                            && job.loss == *loss
                            && job.sender == sender
                    };
                    results.keys().filter(is_of).map(|job| results[job] * 8.0 / 1e6).collect()
                };
                let (theirs, ours) = (of(Sender::Kernel), of(Sender::Bulkhead));
                let (ratio, low, high) = ratio(&ours, &theirs);
                let target = target(rtt, loss);
                let verdict = if ratio >= target { "met" } else { "MISSED" };
                println!(
                    "{congestion:<10} {rtt:>3} ms {loss:>5} % {:>6.2} Mbit/s {:>6.2} Mbit/s {ratio:>5.2}  {low:.2}..{high:.2}   {target} {verdict}",
                    mean(&theirs),
                    mean(&ours),
                );
                rows.push(json!({
                    "congestion": congestion, "rtt_ms": rtt, "loss_percent": loss,
                    "kernel_mbit": theirs, "bulkhead_mbit": ours,
                    "ratio": ratio, "low": low, "high": high, "target": target, "met": ratio >= target,
                }));
            }
        }
    }
    json!({ "seeds": wish.seeds, "seconds": wish.seconds, "rate_mbit": wish.rate, "placement": wish.placement, "rows": rows })
}

fn main() -> ExitCode {
    let Some(wish) = wish() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    let results = match end_with_input().and_then(|()| run(&wish)) {
        Ok(results) => results,
        Err(error) => {
            eprintln!("goodput: {error}");
            return ExitCode::FAILURE;
        }
    };
    let json = table(&wish, &results);
    if let Some(path) = &wish.json
        && let Err(error) = std::fs::write(path, format!("{json:#}\n"))
    {
        eprintln!("goodput: {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
