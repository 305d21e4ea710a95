//! The same core natively, in the sandbox and in a process of its own: every step of a real exchange gives the same
//! outputs, and the same state is saved in the end.

use bulkhead::artifact::Artifact;
use bulkhead::device::link::{Impairments, Link, LinkConfig};
use bulkhead::fault::Fault;
use bulkhead::placement::native::Native;
use bulkhead::placement::process::{Launch, Process};
use bulkhead::placement::{Instance, StepCost};
use bulkhead::{ConnectOptions, ListenOptions, Options, Stack};
use bulkhead_wit::{Address, Config, Description, Endpoint, Inputs, Outputs, Summary, Time, limits};

/// Three instances of one core, which must agree in everything.
struct All {
    wasm: Box<dyn Instance>,
    native: Box<dyn Instance>,
    process: Box<dyn Instance>,
    outputs: Outputs,
}

impl All {
    fn new() -> Self {
        let artifact = Artifact::bundled().expect("the bundled module");
        let launch = Launch::new(env!("CARGO_BIN_EXE_module-server"), ["tcp"]);
        Self {
            wasm: Box::new(artifact.instance().expect("an instance")),
            native: Box::new(Native::new(Box::new(bulkhead_tcp::Tcp::new()))),
            process: Box::new(Process::new(&launch).expect("a server")),
            outputs: Outputs::default(),
        }
    }
}

impl Instance for All {
    fn description(&self) -> &Description {
        assert_eq!(self.wasm.description(), self.native.description());
        assert_eq!(self.wasm.description(), self.process.description());
        self.wasm.description()
    }

    fn start(&mut self, config: &Config) -> Result<(), Fault> {
        self.native.start(config)?;
        self.process.start(config)?;
        self.wasm.start(config)
    }

    fn step(&mut self, inputs: &Inputs<'_>, outputs: &mut Outputs) -> Result<(), Fault> {
        self.process.step(inputs, outputs)?;
        self.native.step(inputs, &mut self.outputs)?;
        assert_eq!(*outputs, self.outputs, "step {} in a process", self.wasm.cost().steps);
        self.wasm.step(inputs, outputs)?;
        assert_eq!(*outputs, self.outputs, "step {} with {inputs:?}", self.wasm.cost().steps);
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        let state = self.wasm.save()?;
        assert_eq!(state, self.native.save()?);
        assert_eq!(state, self.process.save()?);
        Ok(state)
    }

    fn load(&mut self, config: &Config, now: Time, state: &[u8]) -> Result<Vec<Summary>, Fault> {
        let summaries = self.wasm.load(config, now, state)?;
        assert_eq!(summaries, self.native.load(config, now, state)?);
        assert_eq!(summaries, self.process.load(config, now, state)?);
        Ok(summaries)
    }

    fn cost(&self) -> StepCost {
        self.wasm.cost()
    }
}

/// Both ends exchange data over a bad link; all instances see the same.
#[test]
fn all_placements_agree_in_every_step() {
    let bad = Impairments {
        loss: 20_000,
        duplicate: 10_000,
        reorder: 30_000,
        reorder_delay: 5 * limits::MILLISECOND,
        delay: 3 * limits::MILLISECOND,
        ..Impairments::default()
    };
    let (link, mut one, mut other) =
        Link::new(LinkConfig { there: bad, back: bad, ..LinkConfig::default() }, 7);
    let stack = |last: u8| {
        let options = Options::new([10, 0, 0, last].into(), 24, 1500, [u64::from(last), 2, 3, 4]);
        Stack::new(Box::new(All::new()), options).expect("it starts")
    };
    let (mut server, mut client) = (stack(1), stack(2));
    let local = Endpoint::new(Address::from_v4([10, 0, 0, 1]), 80);
    let listener = server.listen(local, ListenOptions::default()).expect("it listens");
    let streams = [(); 3].map(|()| client.connect(local, ConnectOptions::default()).expect("a place"));
    let mut taken = Vec::new();
    let mut bytes = vec![0; 65_536];
    for tick in 1..1200 {
        let now = tick * limits::MILLISECOND;
        link.advance(now);
        client.turn(now, &mut other).expect("no fault");
        server.turn(now, &mut one).expect("no fault");
        while let Ok(accepted) = server.accept(listener) {
            taken.push(accepted.stream);
        }
        for (number, stream) in streams.into_iter().enumerate() {
            let _ = client.write(stream, &[number as u8; 3000]);
            let _ = client.read(stream, &mut bytes);
            if tick == 600 + number as u64 * 100 {
                client.ask_info(Some(stream)).expect("an open stream");
                client.ask_info(None).expect("the census");
                client.shutdown(stream).expect("an open stream");
            }
        }
        for stream in taken.clone() {
            match server.read(stream, &mut bytes) {
                Ok(0) => server.close(stream, limits::SECOND),
                Ok(count) => drop(server.write(stream, &bytes[..count])),
                Err(_) => {}
            }
        }
    }
    assert_eq!(taken.len(), 3);
    assert!(client.cost().steps > 600 && server.totals().bytes_in > 1 << 19, "{:?}", server.totals());
}

#[test]
fn all_save_the_same_and_load_what_another_saved() {
    let config = Options::new([10, 0, 0, 1].into(), 24, 1500, [1, 2, 3, 4]).config;
    let mut all = All::new();
    all.start(&config).expect("it starts");
    let state = all.save().expect("a state");
    assert_eq!(all.load(&config, 0, &state), Ok(Vec::new()));
}
