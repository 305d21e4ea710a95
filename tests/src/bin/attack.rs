//! Attacks on `bulkhead run source` over TUN, in a network namespace: what each costs, and what an honest client gets
//! meanwhile.

use bulkhead::device::Offload;
use bulkhead::device::{Device, OffloadTun, Tun, TunOptions};
use bulkhead::frame::FramePool;
use bulkhead_tests::Namespace;
use bulkhead_tests::attack::{Attack, Attacker};
use std::io::{self, IoSlice, Read as _};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::process::{Child, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const HELP: &str = "\
attack --program BULKHEAD [--seconds S] [--rate FRAMES] [--placement wasm|native]

The column of all frames counts those that come to the stack, the honest client's among them. For each attack: a fresh `bulkhead run source`, an honest client that downloads, and the attacker's frames at that rate.
";

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Resident memory in bytes, and CPU time in seconds.
    fn costs(&self) -> io::Result<(u64, f64)> {
        let id = self.0.id();
        let memory = std::fs::read_to_string(format!("/proc/{id}/statm"))?;
        let pages: u64 = memory.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        // After the name, which ends with the last bracket: user and system time are the twelfth and thirteenth.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
        Ok((pages * 4096, ticks as f64 / 100.0))
    }
}

struct Wish {
    program: String,
    seconds: f64,
    rate: u64,
    placement: String,
}

fn wish() -> Option<Wish> {
    let mut wish = Wish { program: String::new(), seconds: 3.0, rate: 50_000, placement: "wasm".to_owned() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--program" => wish.program = words.next()?,
            "--seconds" => wish.seconds = words.next()?.parse().ok()?,
            "--rate" => wish.rate = words.next()?.parse().ok()?,
            "--placement" => wish.placement = words.next()?,
            _ => return None,
        }
    }
    (!wish.program.is_empty()).then_some(wish)
}

/// Connects until it works, and reads for as long as it is told; counts bytes.
fn download(done: &AtomicBool, bytes: &AtomicU64, port: &AtomicU64) -> io::Result<()> {
    let begun = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(("10.77.0.2", 19)) {
            Ok(stream) => break stream,
            Err(_) if begun.elapsed() < Duration::from_secs(20) => {
                std::thread::sleep(Duration::from_millis(20))
            }
            Err(error) => return Err(error),
        }
    };
    port.store(u64::from(stream.local_addr()?.port()), Ordering::Relaxed);
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut buffer = vec![0; 1 << 16];
    while !done.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => drop(bytes.fetch_add(count as u64, Ordering::Relaxed)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends the attacker's frames for so long, and hears the answers; how many were sent.
fn attack(evil: &mut dyn Device, attacker: &mut Attacker, rate: u64, time: Duration) -> io::Result<u64> {
    let (begun, mut sent, mut pool) = (Instant::now(), 0, FramePool::new(64));
    while begun.elapsed() < time {
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
        for _ in 0..(due - sent).min(256) {
            let frame = attacker.frame();
            // What the kernel does not forward is lost on the way.
            let _ = evil.transmit(&[IoSlice::new(&frame)], Offload::default());
            sent += 1;
        }
        while let Some(frame) = evil.receive(&mut pool)? {
            attacker.hear(&frame.bytes);
        }
        if due <= sent {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    Ok(sent)
}

fn one(wish: &Wish, kind: Option<Attack>) -> io::Result<()> {
    let space = Namespace::new()?;
    for setting in
        ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"]
    {
        space.run(&["sysctl", "-qw", setting])?;
    }
    let mut command = space.command(&wish.program);
    command.args(["run", "source", "--placement", &wish.placement, "--drain", "0"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let server = Server(child);
    let (done, bytes, port) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let time = Duration::from_secs_f64(wish.seconds);
    std::thread::scope(|scope| -> io::Result<()> {
        let client = scope.spawn(|| space.inside(|| download(&done, &bytes, &port)));
        let result = measure(wish, kind, (&space, &server), (&bytes, &port), time);
        done.store(true, Ordering::Relaxed);
        let honest = client.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        result?;
        if let Err(error) = honest.and_then(|inner| inner) {
            println!("  the honest client was cut off: {error}");
        }
        Ok(())
    })
}

/// Frames that the kernel has handed to the stack's interface.
fn handed(space: &Namespace) -> io::Result<u64> {
    let text = space.run(&["cat", "/sys/class/net/bulkhead0/statistics/tx_packets"])?.stdout;
    String::from_utf8_lossy(&text).trim().parse().map_err(io::Error::other)
}

fn measure(
    wish: &Wish,
    kind: Option<Attack>,
    (space, server): (&Namespace, &Server),
    (bytes, port): (&AtomicU64, &AtomicU64),
    time: Duration,
) -> io::Result<()> {
    let begun = Instant::now();
    while port.load(Ordering::Relaxed) == 0 && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500));
    let honest = SocketAddrV4::new([10, 77, 0, 1].into(), port.load(Ordering::Relaxed) as u16);
    let SocketAddr::V4(target) = SocketAddr::from(([10, 77, 0, 2], 19)) else { return Ok(()) };
    let mut evil: Box<dyn Device> = space.inside(|| -> io::Result<Box<dyn Device>> {
        let options = TunOptions {
            name: "evil0".into(),
            addresses: vec![([10, 66, 0, 1].into(), 16)],
            up: true,
            ..TunOptions::default()
        };
        Ok(match OffloadTun::open(&options) {
            Ok(device) => Box::new(device),
            Err(_) => Box::new(Tun::open(&options).map_err(io::Error::other)?),
        })
    })??;
    // Frames as if from the honest client come in from elsewhere: the kernel must not take them for its own.
    space.run(&["sysctl", "-qw", "net.ipv4.conf.evil0.accept_local=1"])?;
    let before = handed(space)?;
    let ((memory, cpu), read) = (server.costs()?, bytes.load(Ordering::Relaxed));
    let (sent, heard) = match kind {
        None => {
            std::thread::sleep(time);
            (0, 0)
        }
        Some(kind) => {
            let mut attacker = Attacker::new(kind, 7, target, honest);
            (attack(&mut *evil, &mut attacker, wish.rate, time)?, attacker.heard)
        }
    };
    let ((memory_after, cpu_after), read_after) = (server.costs()?, bytes.load(Ordering::Relaxed));
    let arrived = handed(space)? - before;
    println!(
        "{:<15} {:>8.0} {:>9.0} {:>9} {:>8.1} {:>8.1} {:>6.0} % {:>8.2}",
        kind.map_or("peace", Attack::name),
        sent as f64 / time.as_secs_f64(),
        arrived as f64 / time.as_secs_f64(),
        heard,
        memory as f64 / 1e6,
        memory_after as f64 / 1e6,
        (cpu_after - cpu) / time.as_secs_f64() * 100.0,
        (read_after - read) as f64 * 8.0 / 1e9 / time.as_secs_f64(),
    );
    Ok(())
}

fn main() -> ExitCode {
    let Some(wish) = wish() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    println!("attack          frames/s  in all/s   answers   MB before    after    CPU   honest Gbit/s");
    for kind in std::iter::once(None).chain(Attack::ALL.map(Some)) {
        if let Err(error) = one(&wish, kind) {
            eprintln!("attack: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
