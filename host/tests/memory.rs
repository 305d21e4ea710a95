//! What an idle connection costs in the host, counted by the allocator, and ten thousand of them open at once.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bulkhead::net::{Builder, Net, PairDevice, TcpStream, pair};
use bulkhead::placement::Instance;
use bulkhead_tcp::Tcp;
use bulkhead_wit::Module as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Connections at once.
const COUNT: usize = 10_000;
/// Connections before the counting: buffers that are shared exist by then.
const WARM: usize = 1000;
/// Bytes of the host that an idle connection may cost, the application's handle included.
const EACH_MAX: usize = 512;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; here it is only counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller has promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller has promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_add(size, Ordering::Relaxed);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller has promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The module's own memory is measured apart: in the sandbox it is no allocation of the host's.
#[cfg(feature = "wasm")]
fn instance() -> Box<dyn Instance> {
    Box::new(bulkhead::artifact::Artifact::bundled().unwrap().instance().unwrap())
}

#[cfg(not(feature = "wasm"))]
fn instance() -> Box<dyn Instance> {
    Box::new(bulkhead::placement::native::Native::new(Box::new(Tcp::new())))
}

fn stack(device: PairDevice, host: &str) -> Net {
    let builder = Builder::new(device).instance(instance()).address(host.parse().unwrap(), 24);
    // The recording has bounds of its own (`record::limits`), and a checkpoint of the module's state is part of it.
    let builder = builder.recording(false);
    builder.seed([1, 2, 3, host.len() as u64]).spawn().unwrap()
}

async fn open(server: &Net, client: &Net, count: usize, held: &mut Vec<TcpStream>) {
    let listener = server.listen("10.9.0.1:7000".parse().unwrap()).unwrap();
    for _ in 0..count {
        let at = listener.local_addr();
        let (accepted, connected) = tokio::join!(listener.accept(), client.connect(at));
        let (mut accepted, mut connected) = (accepted.unwrap().0, connected.unwrap());
        // It has been used: a byte there and back.
        connected.write_u8(7).await.unwrap();
        let byte = accepted.read_u8().await.unwrap();
        accepted.write_u8(byte).await.unwrap();
        connected.read_u8().await.unwrap();
        held.extend([accepted, connected]);
    }
}

#[tokio::test]
async fn idle_connections_cost_little() {
    let (first, second) = pair(1500).unwrap();
    let (server, client) = (stack(first, "10.9.0.1"), stack(second, "10.9.0.2"));
    let mut held = Vec::with_capacity(2 * (COUNT + WARM));
    // What exists once, whatever the number of connections.
    open(&server, &client, WARM, &mut held).await;
    let before = HELD.load(Ordering::Relaxed);
    open(&server, &client, COUNT, &mut held).await;
    let streams = COUNT * 2;
    let each = (HELD.load(Ordering::Relaxed) - before) / streams + size_of::<TcpStream>();
    let census = server.census().unwrap();
    assert_eq!(census.established as usize, COUNT + WARM);
    let module = census.state_bytes / census.established;
    println!(
        "an idle connection: {each} bytes in the host, {module} in the module ({streams} ends measured)"
    );
    assert_eq!(u64::from(Tcp::new().describe().bytes_per_connection), module);
    if cfg!(feature = "wasm") {
        assert!(each <= EACH_MAX, "{each} bytes, {EACH_MAX} allowed");
    }
    // All of them are alive.
    for pair in held.chunks_exact_mut(2) {
        let [accepted, connected] = pair else { unreachable!("pairs") };
        connected.write_u8(1).await.unwrap();
        accepted.read_u8().await.unwrap();
    }
}
