//! nginx, with curl, wrk and a client of our own.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use bulkhead_namespace::Running;

use super::{STALL, client, connects, noise, port, same, server};
use crate::factor::Cell;
use crate::place::Ends;

/// Bytes of a small file.
const SMALL: usize = 1000;

/// nginx, serving the folder of its namespace.
fn nginx(cell: &Cell, ends: &Ends<'_>) -> anyhow::Result<Running> {
    let folder = ends.server.folder().display().to_string();
    let at = SocketAddr::new(ends.listen, port(cell.load));
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.map(|name| format!("{name}_temp_path {folder}/{name};\n")).concat();
    let config = format!(
        "daemon off; master_process off; user root; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; keepalive_requests 1000000; {temporary}\
         server {{ listen {at} backlog=4096; root {folder}; }} }}\n"
    );
    let path = ends.server.folder().join("nginx.conf");
    std::fs::write(&path, config)?;
    server(ends, &["nginx", "-c", &path.to_string_lossy()], at.port())
}

fn url(cell: &Cell, ends: &Ends<'_>, path: &str) -> String {
    format!("http://{}/{path}", SocketAddr::new(ends.target, port(cell.load)))
}

pub(super) fn download(cell: &Cell, ends: &Ends<'_>) -> anyhow::Result<String> {
    let original = noise(ends.server.folder(), "file", cell.bytes())?;
    let _nginx = nginx(cell, ends)?;
    let copy: PathBuf = ends.client.folder().join("copy");
    let stall = STALL.to_string();
    let url = url(cell, ends, "file");
    let rate = client(
        ends.client,
        &[
            "curl",
            "-sS",
            "--fail",
            "--speed-limit",
            "1",
            "--speed-time",
            &stall,
            "-w",
            "%{speed_download}",
            "-o",
            &copy.to_string_lossy(),
            &url,
        ],
    )?;
    same(ends.server, &original, &copy)?;
    let rate: f64 = String::from_utf8_lossy(&rate.stdout).parse().unwrap_or(0.0);
    Ok(format!("{} KiB, same sha256, {:.1} Mbit/s", cell.bytes() >> 10, rate * 8.0 / 1e6))
}

pub(super) fn wrk(cell: &Cell, ends: &Ends<'_>, is_closing: bool) -> anyhow::Result<String> {
    noise(ends.server.folder(), "small", SMALL)?;
    let _nginx = nginx(cell, ends)?;
    let (url, stall) = (url(cell, ends, "small"), format!("{STALL}s"));
    let mut words = vec!["wrk", "-t1", "-c20", "-d3s", "--timeout", &stall];
    if is_closing {
        words.extend(["-H", "Connection: close"]);
    }
    words.push(&url);
    let output = client(ends.client, &words)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = text.lines().find(|line| line.contains("Socket errors") || line.contains("Non-2xx"));
    ensure!(wrong.is_none(), "wrk:{}", wrong.unwrap_or_default());
    let rate =
        text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk says no rate")?;
    let rate: f64 = rate.trim().parse()?;
    ensure!(rate > 0.0, "wrk had no answer");
    Ok(format!("{rate:.0} requests/s"))
}

pub(super) fn connects(cell: &Cell, ends: &Ends<'_>) -> anyhow::Result<String> {
    let file = noise(ends.server.folder(), "small", SMALL)?;
    let _nginx = nginx(cell, ends)?;
    let target = SocketAddr::new(ends.target, port(cell.load));
    connects::many(ends.client, target, cell.count(), &std::fs::read(file)?)
}
