//! An application whose TCP has a defect: it serves four connections over a link in memory until the defect fires, and
//! tells, line by line, what became of itself. `bulkhead compare faults` runs one for each defect and placement, since
//! without a wall there may be nobody left to tell.
//!
//! `faulty list` lists the defects; `faulty PLACEMENT DEFECT MODULE.wasm` is one case.

use bulkhead::Fault;
use bulkhead::artifact::Artifact;
use bulkhead::net::{Builder, Net, PairDevice, TcpListener, TcpStream, pair};
use bulkhead::placement::native::Native;
use bulkhead::placement::process::{Launch, Process, serve};
use bulkhead::placement::{Identity, Instance, StepCost};
use bulkhead::supervise::Factory;
use bulkhead_wit::{Config, Description, Inputs, Outputs, Summary, Time};
use hostile_core::{Defect, SETTING, TARGET};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What the application has in its memory and nobody should change or tell.
const SECRET: &[u8; 16] = b"a canary's songs";
/// Connections, and bytes of each message that they send.
const CONNECTIONS: u8 = 4;
const MESSAGE: usize = 512;
/// After this long without an answer the service is down.
const PATIENCE: Duration = Duration::from_secs(2);
/// Steps with payload before the defect fires.
const HONEST: u32 = 40;

/// The defects of the matrix, in the words of its rows.
const DEFECTS: [(&str, Defect); 10] = [
    ("read-out-of-bounds", Defect::OverRead),
    ("write-out-of-bounds", Defect::OverWrite),
    ("wild-pointer-write", Defect::WildWrite),
    ("stack-overflow", Defect::Stack),
    ("endless-loop", Defect::Loop),
    ("unbounded-allocation", Defect::Memory),
    ("panic", Defect::Panic),
    ("misplaced-bytes", Defect::WrongOffset),
    ("bytes-never-written", Defect::OutsideQueue),
    ("leak-to-another-connection", Defect::AnotherConnection),
];

fn tell(what: &str, text: &str) {
    // Whoever asked may be gone.
    let _ = writeln!(io::stdout(), "{what} {}", text.replace('\n', " "));
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let case = match words.as_slice() {
        ["list"] => {
            DEFECTS.iter().for_each(|(name, _)| tell("defect", name));
            return ExitCode::SUCCESS;
        }
        ["serve"] => return serve(Box::new(hostile_core::Tcp::new())),
        [placement, defect, module] => DEFECTS
            .iter()
            .find(|(name, _)| name == defect)
            .ok_or_else(|| io::Error::other("no such defect"))
            .and_then(|(_, defect)| run(placement, *defect, Path::new(module))),
        _ => Err(io::Error::other("faulty list | PLACEMENT DEFECT MODULE.wasm")),
    };
    match case {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell("error", &error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Makes instances in a placement.
fn factory(placement: &str, module: &Path) -> io::Result<Factory> {
    Ok(match placement {
        "native" => {
            Box::new(|| Ok(Watched::boxed(Box::new(Native::new(Box::new(hostile_core::Tcp::new()))))))
        }
        "wasm" => {
            let artifact = Artifact::from_file(module).map_err(io::Error::other)?;
            Box::new(move || Ok(Watched::boxed(Box::new(artifact.fresh()?))))
        }
        "process" => {
            let launch = Launch::this_program(["serve"]);
            Box::new(move || Ok(Watched::boxed(Box::new(Process::new(&launch)?))))
        }
        _ => return Err(io::Error::other("no such placement")),
    })
}

fn run(placement: &str, defect: Defect, module: &Path) -> io::Result<()> {
    let canary = Box::new(*SECRET);
    let (left, right) = pair(1500)?;
    let mut factory = factory(placement, module)?;
    let address = |device: PairDevice, last: u8| Builder::new(device).address([10, 9, 0, last].into(), 24);
    let server = address(left, 1)
        .instance(factory().map_err(io::Error::other)?)
        .restarted_by(factory)
        .setting(SETTING, defect.after(HONEST))
        .setting(TARGET, canary.as_ptr() as u64)
        .spawn()?;
    let honest = Native::new(Box::new(bulkhead_tcp::Tcp::new()));
    let client = address(right, 2).instance(Box::new(honest)).spawn()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(traffic(&server, &client))?;
    let canary = std::hint::black_box(canary);
    tell("memory", if canary == Box::new(*SECRET) { "intact" } else { "CORRUPTED" });
    tell("end", "");
    // Without goodbyes: a stack that hangs would never let go.
    std::process::exit(0);
}

/// What became of one connection.
enum Seen {
    Told,
    Wrong,
    Silent,
    WentOn,
}

/// When the last answer came that was right, on any connection.
type LastGood = Arc<Mutex<Instant>>;

async fn traffic(server: &Net, client: &Net) -> io::Result<()> {
    let local = ([10, 9, 0, 1], 7).into();
    let listener = server.listen(local)?;
    tokio::spawn(echo(listener));
    let last_good: LastGood = Arc::new(Mutex::new(Instant::now()));
    let mut talking = JoinSet::new();
    for number in 0..CONNECTIONS {
        let stream = client.connect(local).await?;
        talking.spawn(talk(stream, number, Arc::clone(&last_good)));
    }
    tell("ready", "");
    let probing = tokio::spawn(again(server.clone(), client.clone(), local, last_good));
    let (mut told, mut wrong, mut silent, mut went_on) = (0, 0, 0, 0);
    while let Some(seen) = talking.join_next().await {
        match seen? {
            Seen::Told => told += 1,
            Seen::Wrong => wrong += 1,
            Seen::Silent => silent += 1,
            Seen::WentOn => went_on += 1,
        }
    }
    tell(
        "connections",
        &format!("{told} told, {silent} silent, {wrong} with wrong bytes, {went_on} went on"),
    );
    if silent == 0 {
        let stat = server.stat();
        match stat.incidents.first() {
            Some(incident) => {
                tell("fault", &incident.fault.report());
                tell("back", &probing.await?);
            }
            None => tell("back", "never away"),
        }
    }
    Ok(())
}

/// Waits for the fault and connects until a connection works again: how long that is after the last good answer.
async fn again(server: Net, client: Net, local: SocketAddr, last_good: LastGood) -> String {
    while server.stat().faults == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let last_good = *last_good.lock().unwrap_or_else(PoisonError::into_inner);
    while last_good.elapsed() < PATIENCE * 2 {
        let attempt = async {
            let mut stream = client.connect(local).await?;
            stream.write_all(b"again").await?;
            stream.read_exact(&mut [0; 5]).await
        };
        if matches!(timeout(PATIENCE, attempt).await, Ok(Ok(_))) {
            return format!("{:.1} ms", last_good.elapsed().as_secs_f64() * 1e3);
        }
        sleep(Duration::from_millis(1)).await;
    }
    "never".to_owned()
}

async fn echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(buffer.get(..count).unwrap_or_default()).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// Messages that only this connection has, there and back, until something happens.
async fn talk(mut stream: TcpStream, number: u8, last_good: LastGood) -> Seen {
    for round in 0..400_u32 {
        let message = vec![number.wrapping_mul(61).wrapping_add(round as u8); MESSAGE];
        let mut back = vec![0; MESSAGE];
        let exchange = async {
            stream.write_all(&message).await?;
            stream.read_exact(&mut back).await
        };
        match timeout(PATIENCE, exchange).await {
            Err(_) => return Seen::Silent,
            Ok(Err(_)) => return Seen::Told,
            Ok(Ok(_)) if back != message => return Seen::Wrong,
            Ok(Ok(_)) => *last_good.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now(),
        }
    }
    Seen::WentOn
}

/// An instance whose notes are looked at for what it should not know.
struct Watched(Box<dyn Instance>);

impl Watched {
    fn boxed(instance: Box<dyn Instance>) -> Box<dyn Instance> {
        Box::new(Self(instance))
    }
}

impl Instance for Watched {
    fn description(&self) -> &Description {
        self.0.description()
    }

    fn start(&mut self, config: &Config) -> Result<(), Fault> {
        self.0.start(config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
        let result = self.0.step(inputs, outputs);
        if outputs.notes.iter().any(|note| note.text.as_bytes() == SECRET) {
            tell("leak", "");
        }
        result
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.0.save()
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, Fault> {
        self.0.load(config, now, state)
    }

    fn cost(&self) -> StepCost {
        self.0.cost()
    }

    fn identity(&self) -> Identity {
        self.0.identity()
    }
}
