//! Figures for Prometheus, as text over HTTP.

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Bytes of a request.
const REQUEST: u64 = 16 << 10;
/// Requests at a time.
const ASKING: usize = 16;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Name, kind, meaning, and where in the statistics it stands.
const FIGURES: &[(&str, &str, &str, &str)] = &[
    ("turns_total", "counter", "Turns of the host", "/stack/turns"),
    ("steps_total", "counter", "Calls into modules", "/stack/steps"),
    ("module_seconds_total", "counter", "Time inside modules", "/stack/module_ns"),
    ("running_seconds", "gauge", "Time since the start", "/stack/running_ns"),
    ("longest_gap_seconds", "gauge", "Longest delay of a turn that was due", "/stack/longest_gap_ns"),
    ("connections_opened_total", "counter", "Connections opened", "/stack/connections"),
    ("connections_ended_total", "counter", "Connections ended", "/stack/ended"),
    ("connections_established", "gauge", "Connections in ESTABLISHED", "/census/established"),
    ("connections_closing", "gauge", "Connections on their way to the end", "/census/closing"),
    ("connections_time_wait", "gauge", "Connections in TIME-WAIT", "/census/time_wait"),
    ("connections_half_open", "gauge", "Connections in SYN-RECEIVED", "/census/syn_received"),
    ("received_bytes_total", "counter", "Bytes given to applications", "/stack/bytes_in"),
    ("sent_bytes_total", "counter", "Bytes acknowledged by peers", "/stack/bytes_out"),
    ("segments_received_total", "counter", "Segments that arrived", "/census/segments_in"),
    ("segments_sent_total", "counter", "Segments sent", "/census/segments_out"),
    ("retransmissions_total", "counter", "Segments sent again", "/census/retransmissions"),
    ("segments_dropped_total", "counter", "Segments that the module dropped", "/census/dropped"),
    ("resets_received_total", "counter", "Resets received", "/census/resets_in"),
    ("resets_sent_total", "counter", "Resets sent", "/census/resets_out"),
    ("cookies_sent_total", "counter", "SYN cookies sent", "/census/cookies_sent"),
    ("backlog_drops_total", "counter", "SYNs dropped for a full backlog", "/census/backlog_drops"),
    ("frames_dropped_total", "counter", "Frames that the host dropped", "/stack/drops"),
    ("device_errors_total", "counter", "Errors of the device", "/stack/device_errors"),
    ("checkpoints_total", "counter", "Checkpoints of modules' states", "/stack/checkpoints"),
    ("checkpoint_bytes", "gauge", "Size of the last checkpoint", "/stack/checkpoint_bytes"),
    ("checkpoint_seconds", "gauge", "Time that the last checkpoint took", "/stack/checkpoint_ns"),
    ("recording_memory_bytes", "gauge", "Memory of recordings", "/stack/recording_memory"),
    ("faults_total", "counter", "Failures of modules", "/stack/faults"),
    (
        "faults_recovered_total",
        "counter",
        "Failures after which every connection went on but those to blame",
        "/stack/faults_recovered",
    ),
    (
        "faults_connections_lost_total",
        "counter",
        "Connections lost to failures",
        "/stack/faults_connections_lost",
    ),
    ("recovery_seconds_max", "gauge", "Longest recovery", "/stack/recovery_max_ns"),
    ("stream_memory_bytes", "gauge", "Memory of streams and frames", "/stack/memory"),
    ("unread_bytes", "gauge", "Bytes that applications have not read", "/queues/unread"),
    ("unacknowledged_bytes", "gauge", "Bytes that peers have not acknowledged", "/queues/unacknowledged"),
];

/// The text of the exposition format, from what `stat` tells.
pub(super) fn text(mut said: Value) -> String {
    let sum = |key: &str| -> u64 {
        let all = said["connections"].as_array().into_iter().flatten();
        all.filter_map(|one| one[key].as_u64()).sum()
    };
    let queues = serde_json::json!({ "unread": sum("unread"), "unacknowledged": sum("unacknowledged") });
    said["queues"] = queues;
    let mut out = String::new();
    for (name, kind, about, place) in FIGURES {
        let Some(value) = said.pointer(place).and_then(Value::as_u64) else { continue };
        let value = if place.ends_with("_ns") { value as f64 / 1e9 } else { value as f64 };
        let _ = writeln!(
            out,
            "# HELP bulkhead_{name} {about}.\n# TYPE bulkhead_{name} {kind}\nbulkhead_{name} {value}"
        );
    }
    for (figure, key) in [("steps_total", "steps"), ("faults_total", "faults")] {
        let _ = writeln!(out, "# TYPE bulkhead_module_{figure} counter");
        for module in said["modules"].as_array().into_iter().flatten() {
            let name = module["name"].as_str().unwrap_or("?").replace(['"', '\\', '\n'], "_");
            let _ = writeln!(out, "bulkhead_module_{figure}{{module=\"{name}\"}} {}", module[key]);
        }
    }
    out
}

/// Listens on the host's own sockets.
///
/// # Errors
/// What the system says.
pub(super) fn listen(at: SocketAddr) -> io::Result<StdListener> {
    let listener = StdListener::bind(at)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves for ever.
pub(super) async fn serve(listener: TcpListener, figures: impl Fn() -> String + Send + Sync + 'static) {
    let figures = Arc::new(figures);
    let places = Arc::new(Semaphore::new(ASKING));
    loop {
        // A semaphore that is never closed gives a permit.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let figures = Arc::clone(&figures);
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PATIENCE, one(stream, &*figures)).await;
            drop(place);
        });
    }
}

async fn one(mut stream: TcpStream, figures: &(impl Fn() -> String + Sync)) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut lines = BufReader::new(reading.take(REQUEST));
    let mut first = String::new();
    lines.read_line(&mut first).await?;
    let mut line = String::new();
    while lines.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let is_metrics =
        ["GET / ", "GET /metrics ", "GET /metrics?"].iter().any(|start| first.starts_with(start));
    let (status, body) = if is_metrics {
        ("200 OK", figures())
    } else {
        ("404 Not Found", "the figures are at /metrics\n".to_owned())
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n"
    );
    writing.write_all(head.as_bytes()).await?;
    writing.write_all(body.as_bytes()).await?;
    writing.shutdown().await
}
