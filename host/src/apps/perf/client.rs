//! Talks to `iperf3 -s`, or to our own server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::{
    COOKIE, CREATE_STREAMS, DISPLAY_RESULTS, EXCHANGE_RESULTS, Gauge, IPERF_DONE, PARAM_EXCHANGE, Plan,
    TEST_END, TEST_RUNNING, TEST_START, invalid, read_json, receive, results, send, write_json,
};
use crate::apps::connect::{Connector, Target};

/// What was measured.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Measured {
    /// Bytes that the receiving ends have got.
    pub(crate) received: u64,
    /// Time from the first to the last byte, in seconds.
    pub(crate) seconds: f64,
}

impl Measured {
    /// Bits per second.
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.received as f64 * 8.0 / self.seconds } else { 0.0 }
    }
}

/// A test against a server: `told` hears each second what was moved since the last.
///
/// # Errors
/// What the connection or the server says.
pub(crate) async fn measure<C: Connector>(
    by: &C,
    server: &Target,
    plan: Plan,
    cookie: [u8; COOKIE],
    told: impl Fn(Duration, u64),
) -> io::Result<Measured> {
    let mut control = server.connect(by).await?;
    control.write_all(&cookie).await?;
    let mut moving = JoinSet::new();
    let mut gauges: Vec<Arc<Gauge>> = Vec::new();
    let mut measured = Measured::default();
    loop {
        match control.read_u8().await? {
            PARAM_EXCHANGE => write_json(&mut control, &plan.to_json()).await?,
            CREATE_STREAMS => {
                let count = plan.parallel * if plan.both { 2 } else { 1 };
                for number in 0..count {
                    let mut stream = server.connect(by).await?;
                    stream.write_all(&cookie).await?;
                    let gauge = Arc::new(Gauge::default());
                    gauges.push(Arc::clone(&gauge));
                    let sends = if plan.both { number < plan.parallel } else { !plan.reverse };
                    if sends {
                        moving.spawn(send(Box::new(stream), gauge, plan));
                    } else {
                        moving.spawn(receive(Box::new(stream), gauge, plan));
                    }
                }
            }
            TEST_START => {}
            TEST_RUNNING => {
                measured.seconds = run(&gauges, plan, &told).await;
                control.write_u8(TEST_END).await?;
            }
            EXCHANGE_RESULTS => {
                let ours = results(&gauges, measured.seconds, !plan.reverse || plan.both);
                write_json(&mut control, &ours).await?;
                let theirs = read_json(&mut control).await?;
                measured.received = received(&gauges, &theirs, plan);
            }
            DISPLAY_RESULTS => {
                control.write_u8(IPERF_DONE).await?;
                moving.abort_all();
                return Ok(measured);
            }
            0xff => return Err(invalid("the server is busy with another test")),
            _ => return Err(invalid("the server has ended the test")),
        }
    }
}

/// Waits until the time or the bytes are used up, and says how long it took.
async fn run(gauges: &[Arc<Gauge>], plan: Plan, told: &impl Fn(Duration, u64)) -> f64 {
    let begun = Instant::now();
    let all = || gauges.iter().map(|gauge| gauge.bytes.load(Relaxed)).sum::<u64>();
    let (mut before, mut next) = (0, Duration::from_secs(1));
    loop {
        let is_over = if plan.bytes > 0 {
            gauges.iter().all(|gauge| gauge.bytes.load(Relaxed) >= plan.bytes)
        } else {
            begun.elapsed() >= plan.time
        };
        if begun.elapsed() >= next || is_over {
            let now = all();
            told(begun.elapsed(), now - before);
            (before, next) = (now, next + Duration::from_secs(1));
        }
        if is_over {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gauges.iter().for_each(|gauge| gauge.is_over.store(true, Relaxed));
    begun.elapsed().as_secs_f64()
}

/// What receivers have got: ours where the server sends, the server's where we do.
fn received(gauges: &[Arc<Gauge>], theirs: &Value, plan: Plan) -> u64 {
    let told: Vec<u64> = theirs["streams"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|stream| stream["bytes"].as_u64().unwrap_or(0))
        .collect();
    let each = gauges.iter().enumerate().map(|(number, gauge)| {
        let sends = if plan.both { number < plan.parallel } else { !plan.reverse };
        if sends { told.get(number).copied().unwrap_or(0) } else { gauge.bytes.load(Relaxed) }
    });
    each.sum()
}
