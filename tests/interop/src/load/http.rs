//! nginx, with curl, wrk and a client of our own.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::{client, connects, noise, same, server};
use crate::factor::Cell;
use crate::place::Ends;

/// Bytes of a small file.
const SMALL: usize = 1000;

/// nginx, serving the folder of its namespace.
fn nginx(ends: &Ends<'_>) -> anyhow::Result<()> {
    let folder = ends.server.folder().display().to_string();
    let at = ends.listen;
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.map(|name| format!("{name}_temp_path {folder}/{name};\n")).concat();
    let config = format!(
        "daemon off; master_process off; user root; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; keepalive_requests 1000000; keepalive_timeout 30s; {temporary}\
         server {{ listen {at} backlog=4096; root {folder}; }} }}\n"
    );
    let path = ends.server.folder().join("nginx.conf");
    std::fs::write(&path, config)?;
    server(ends, &["nginx", "-c", &path.to_string_lossy()])
}

fn url(ends: &Ends<'_>, path: &str) -> String {
    format!("http://{}/{path}", ends.target)
}

pub(super) fn download(cell: &Cell, ends: &Ends<'_>) -> anyhow::Result<String> {
    let original = noise(ends.server.folder(), "file", cell.bytes())?;
    nginx(ends)?;
    let copy: PathBuf = ends.client.folder().join("copy");
    let stall = cell.stall().as_secs().to_string();
    let url = url(ends, "file");
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

/// What wrk does with each answer: it has to be the file.
fn script(file: &Path) -> String {
    format!(
        "local file = assert(io.open('{}', 'rb'))\n\
         local body = file:read('*a')\n\
         file:close()\n\
         right, wrong = 0, 0\n\
         function response(status, headers, got)\n\
         \x20 if status == 200 and got == body then right = right + 1 else wrong = wrong + 1 end\n\
         end\n\
         local threads = {{}}\n\
         function setup(thread) table.insert(threads, thread) end\n\
         function done()\n\
         \x20 for _, thread in ipairs(threads) do print('answers', thread:get('right'), thread:get('wrong')) end\n\
         end\n",
        file.display()
    )
}

pub(super) fn wrk(cell: &Cell, ends: &Ends<'_>, is_closing: bool) -> anyhow::Result<String> {
    let file = noise(ends.server.folder(), "small", SMALL)?;
    nginx(ends)?;
    let checks = ends.client.folder().join("answers.lua");
    std::fs::write(&checks, script(&file))?;
    let (url, stall, checks) =
        (url(ends, "small"), format!("{}s", cell.stall().as_secs()), checks.to_string_lossy());
    let mut words = vec!["wrk", "-t1", "-c20", "-d3s", "--timeout", &stall, "-s", &checks];
    if is_closing {
        words.extend(["-H", "Connection: close"]);
    }
    words.push(&url);
    let output = client(ends.client, &words)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = text.lines().find(|line| line.contains("Socket errors") || line.contains("Non-2xx"));
    ensure!(wrong.is_none(), "wrk:{}", wrong.unwrap_or_default());
    let numbers =
        text.lines().find_map(|line| line.strip_prefix("answers")).context("wrk says no answers")?;
    let numbers: Vec<u64> = numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [right, wrong] = numbers[..] else { bail!("wrk says {numbers:?}") };
    ensure!(wrong == 0, "{wrong} of {} answers are not the file", right + wrong);
    ensure!(right > 0, "wrk had no answer");
    let rate =
        text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk says no rate")?;
    let rate: f64 = rate.trim().parse()?;
    Ok(format!("{right} answers, each the file, {rate:.0} a second"))
}

pub(super) fn connects(cell: &Cell, ends: &Ends<'_>) -> anyhow::Result<String> {
    let file = noise(ends.server.folder(), "small", SMALL)?;
    nginx(ends)?;
    connects::many(cell, ends, &std::fs::read(file)?)
}
