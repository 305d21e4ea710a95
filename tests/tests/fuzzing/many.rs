//! Many cores and many machines: brokers on the loopback interface, as threads of this process. What ends a campaign is
//! what it has seen or a number of runs, and never the clock.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use bulkhead::fuzz::{Campaign, Case, ManyError, Meeting, Options, Progress, Reach, Target};
use bulkhead_wit::Setting;
use planted_core::{Bug, SETTING};

/// Runs after which a campaign has failed that should have ended before.
const RUNS: u64 = 20_000;

/// What nobody comes upon by chance, and what reaches much that a short campaign does not.
const SEED: &str = "seg 3 S opts=mss:1463,scale:7,sackok,ts:0:0\nseg 3 A opts=nop,nop,ts:0:0\nwrite 3 54321\n\
    seg 3 A ack=-1460 win=0\nwait 5000000\nseg 3 A seq=+100 len=57 repeat=70 stride=61\nseg 3 PA len=333 urg=9\n\
    wait 200123\nseg 3 A\nseg 3 A\nseg 3 A\nseg 3 A win=17\nwait 3000017\nudp 3 port=4321 len=77\necho 3 len=1234\n\
    icmp 3 type=3 code=4 value=1281 seq=0 quoted=8\nseg 3 FA\nshutdown 3\nfair 9\n";

/// A place for a broker, and where others find it.
fn place() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

fn planted(bug: Option<Bug>) -> (Target, Options) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/planted-guest.wasm");
    let target = Target::from_file(&path).expect("`cargo xtask guests` builds it");
    let settings = bug.map(|bug| Setting { key: SETTING, value: bug as u64 + 1 }).into_iter().collect();
    (target, Options { seed: 1, runs: Some(RUNS), settings, ..Options::default() })
}

fn reach(progress: &Progress) -> &Reach {
    progress.reach.as_ref().expect("there may be others")
}

/// Tells another thread to go on, also when this one has failed.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A machine that others join: runs beside `others` until they are done. They begin when it has its first case.
fn beside<T>(target: Target, options: Options, others: impl FnOnce(SocketAddr) -> T) -> (Progress, T) {
    let (listener, address) = place();
    let (ready, is_ready) = mpsc::channel();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let mut campaign = Campaign::new(target, options);
            let meeting = Meeting { listener: Some(listener), peers: Vec::new() };
            let progress = campaign.run_many(&meeting, |progress| {
                if progress.corpus > 0 {
                    let _ = ready.send(());
                }
                !done.load(Ordering::Relaxed)
            });
            drop(ready);
            progress.expect("a broker")
        });
        is_ready.recv().expect("a first case");
        let result = {
            let _done = Done(&done);
            others(address)
        };
        (first.join().expect("a campaign"), result)
    })
}

#[test]
fn a_case_that_one_machine_knows_reaches_another() {
    let target = Target::bundled().expect("the bundled module");
    let seed: Case = SEED.parse().expect("a case");
    let options = Options { seeds: vec![seed.clone()], ..Options::default() };
    let (first, second) = beside(target.clone(), options, |address| {
        let (listener, _) = place();
        let mut campaign = Campaign::new(target, Options { seed: 2, runs: Some(200), ..Options::default() });
        let meeting = Meeting { listener: Some(listener), peers: vec![address.to_string()] };
        let progress = campaign.run_many(&meeting, |_| true).expect("a broker");
        (progress, campaign.corpus())
    });
    let (progress, corpus) = second;
    println!("{first:?}\n{progress:?}");
    assert!(corpus.contains(&seed), "{} cases, and not that one", corpus.len());
    assert!(reach(&progress).arrived > 0 && reach(&progress).machines == 2, "{progress:?}");
    assert_eq!((reach(&progress).dropped, reach(&first).dropped), (0, 0));
}

#[test]
fn a_planted_bug_is_found_confirmed_and_known_to_the_other_machine() {
    let (target, options) = planted(None);
    let options = Options { runs: None, ..options };
    let (honest, careless) = beside(target, options, |address| {
        let (target, options) = planted(Some(Bug::MssZero));
        let mut campaign = Campaign::new(target, Options { until_found: true, jobs: 2, ..options });
        let meeting = Meeting { listener: None, peers: vec![address.to_string()] };
        let progress = campaign.run_many(&meeting, |_| true).expect("a broker");
        (progress, campaign.found())
    });
    let (progress, theirs) = careless;
    println!("{honest:?}\n{progress:?}");
    let [bug] = theirs.as_slice() else { panic!("{theirs:?}") };
    assert!(bug.key.starts_with("panic-"), "{}", bug.key);
    // It was made small, in fresh instances of the module as it was built.
    assert!(bug.case.events.len() <= 4, "{}", bug.case);
    // Counted where it was not found, and kept where it was.
    assert_eq!(reach(&honest).findings, honest.findings.len() as u64 + 1, "{honest:?}");
    assert!(honest.findings.iter().all(|(key, _)| *key != bug.key), "{honest:?}");
}

#[test]
fn another_module_and_strangers_are_refused_and_nonsense_is_dropped() {
    let target = Target::bundled().expect("the bundled module");
    let module = target.facts().hash;
    let (progress, error) = beside(target, Options::default(), |address| {
        let connect = || TcpStream::connect(address).expect("a connection");
        connect().write_all(&[7; 64]).expect("a broker that listens");
        let target = Target::bundled_udp().expect("the bundled module");
        let meeting = Meeting { listener: None, peers: vec![address.to_string()] };
        let error =
            Campaign::new(target, Options::default()).run_many(&meeting, |_| true).expect_err("refused");
        // A peer as it should be, with a case that is none and then a frame that is none: that ends it.
        let mut peer = connect();
        let greeting = [b"bulkhead fuzz 1\n".as_slice(), &module, &[7; 8]].concat();
        let frames = [[1, 0, 0, 0, 4].as_slice(), b"fly\n", &[9, 0, 0, 0, 0]].concat();
        peer.write_all(&[greeting, frames].concat()).expect("a broker that listens");
        peer.read_to_end(&mut Vec::new()).expect("an end");
        error
    });
    let ManyError::Peer { why, .. } = &error else { panic!("{error}") };
    assert!(why.contains("another module"), "{why}");
    assert_eq!((reach(&progress).refused, reach(&progress).dropped), (2, 2), "{progress:?}");
}

#[test]
fn a_campaign_ends_when_told_to_also_while_it_waits_for_a_broker() {
    let target = Target::bundled().expect("the bundled module");
    // It lets everybody in and says nothing: without a word it would be an error, after ten seconds.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("its address");
    let meeting = Meeting { listener: None, peers: vec![address.to_string()] };
    let mut told = 0;
    let tell = |_: &Progress| {
        told += 1;
        told < 5
    };
    let progress = Campaign::new(target, Options::default()).run_many(&meeting, tell).expect("no error");
    assert_eq!((progress.runs, told), (0, 5), "{progress:?}");
}
