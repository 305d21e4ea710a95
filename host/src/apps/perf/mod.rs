//! iperf3's protocol, so that the real iperf3 is the peer: measurements through the stack, both ways.
//!
//! A control connection agrees on a test in JSON and in single bytes, the states below; data connections beside it begin
//! with the same cookie. [`server`] is what `iperf3 -c` talks to, [`client`] talks to `iperf3 -s`.

pub(crate) mod client;
pub(crate) mod server;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::limits;

/// Bytes of a cookie, its closing zero included.
const COOKIE: usize = 37;

// States of a test, as iperf3 numbers them.
const TEST_START: u8 = 1;
const TEST_RUNNING: u8 = 2;
const TEST_END: u8 = 4;
const PARAM_EXCHANGE: u8 = 9;
const CREATE_STREAMS: u8 = 10;
const EXCHANGE_RESULTS: u8 = 13;
const DISPLAY_RESULTS: u8 = 14;
const IPERF_DONE: u8 = 16;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// How long; zero where bytes decide.
    pub(crate) time: Duration,
    /// Bytes of each stream after which it ends; 0 where the time decides.
    pub(crate) bytes: u64,
    /// Streams at once, in each direction.
    pub(crate) parallel: usize,
    /// The server sends.
    pub(crate) reverse: bool,
    /// Both send.
    pub(crate) both: bool,
    /// Bytes of one write.
    pub(crate) block: usize,
}

impl Plan {
    fn to_json(self) -> Value {
        let mut value = json!({
            "tcp": true, "omit": 0, "time": self.time.as_secs(), "num": self.bytes, "blockcount": 0,
            "parallel": self.parallel, "len": self.block, "pacing_timer": 1000,
            "client_version": concat!("bulkhead ", env!("CARGO_PKG_VERSION")),
        });
        // iperf3 takes the mere presence of these for a yes.
        for (key, is_set) in [("reverse", self.reverse), ("bidirectional", self.both)] {
            if is_set {
                value[key] = true.into();
            }
        }
        value
    }

    fn from_json(value: &Value) -> io::Result<Self> {
        let number = |key: &str| value[key].as_u64().unwrap_or(0);
        if value["tcp"].as_bool() != Some(true) {
            return Err(invalid("only TCP is measured here"));
        }
        let plan = Self {
            time: Duration::from_secs(number("time")),
            bytes: number("num"),
            parallel: usize::try_from(number("parallel")).unwrap_or(usize::MAX).max(1),
            reverse: value["reverse"].as_bool() == Some(true) || number("reverse") == 1,
            both: value["bidirectional"].as_bool() == Some(true) || number("bidirectional") == 1,
            block: usize::try_from(number("len")).unwrap_or(0).clamp(1, limits::PERF_BLOCK),
        };
        if plan.parallel > limits::PERF_STREAMS {
            return Err(invalid("too many streams at once"));
        }
        Ok(plan)
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A data connection.
trait Data: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Data for S {}

type Stream = Box<dyn Data>;

/// What one stream has moved, and whether it is to stop.
#[derive(Debug, Default)]
struct Gauge {
    bytes: AtomicU64,
    is_over: AtomicBool,
}

/// Writes until it is over. A peer that has heard enough is no error.
async fn send(mut stream: Stream, gauge: Arc<Gauge>, plan: Plan) -> Stream {
    let block = vec![0x42; plan.block];
    while !gauge.is_over.load(Relaxed) && (plan.bytes == 0 || gauge.bytes.load(Relaxed) < plan.bytes) {
        match stream.write(&block).await {
            Ok(count) if count > 0 => gauge.bytes.fetch_add(count as u64, Relaxed),
            _ => break,
        };
    }
    stream
}

/// Reads to the end.
async fn receive(mut stream: Stream, gauge: Arc<Gauge>, plan: Plan) -> Stream {
    let mut block = vec![0; plan.block];
    while let Ok(count) = stream.read(&mut block).await
        && count > 0
    {
        gauge.bytes.fetch_add(count as u64, Relaxed);
    }
    stream
}

async fn write_json(stream: &mut (impl AsyncWrite + Unpin), value: &Value) -> io::Result<()> {
    let text = value.to_string();
    stream.write_u32(u32::try_from(text.len()).unwrap_or(u32::MAX)).await?;
    stream.write_all(text.as_bytes()).await
}

async fn read_json(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Value> {
    let length = stream.read_u32().await? as usize;
    if length > limits::PERF_JSON {
        return Err(invalid("a text of the test is too long"));
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text).await?;
    serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// What we have moved, as iperf3 wants it told. Streams are numbered 1, 3, 4, 5: iperf3 has it so.
fn results(gauges: &[Arc<Gauge>], seconds: f64, sends: bool) -> Value {
    let streams: Vec<Value> = (1_u64..)
        .zip(gauges)
        .map(|(number, gauge)| {
            json!({
                "id": if number == 1 { 1 } else { number + 1 }, "bytes": gauge.bytes.load(Relaxed),
                "retransmits": -1, "jitter": 0, "errors": 0, "omitted_errors": 0, "packets": 0,
                "omitted_packets": 0, "start_time": 0, "end_time": seconds,
            })
        })
        .collect();
    json!({
        "cpu_util_total": 0, "cpu_util_user": 0, "cpu_util_system": 0,
        "sender_has_retransmits": if sends { 0 } else { -1 },
        "congestion_used": "cubic", "streams": streams,
    })
}
