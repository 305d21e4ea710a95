//! redis-benchmark with pipelining, and a large value.

use anyhow::ensure;

use super::{client, noise, server};
use crate::factor::Cell;
use crate::place::Ends;

/// Bytes of a value that has to come back as it was.
const VALUE: usize = 200_000;

pub(super) fn measure(cell: &Cell, ends: &Ends<'_>) -> anyhow::Result<String> {
    let (port, listen) = (ends.listen.port().to_string(), ends.listen.ip().to_string());
    let folder = ends.server.folder().to_string_lossy().into_owned();
    let words = ["redis-server", "--port", &port, "--bind", &listen, "--protected-mode", "no"];
    server(ends, &[&words[..], &["--save", "", "--dir", &folder]].concat())?;
    let count = (cell.count() * 5).to_string();
    let (target, port) = (ends.target.ip().to_string(), ends.target.port().to_string());
    let to = ["-h", &target, "-p", &port];
    let benchmark = ["redis-benchmark", "-t", "set,get", "-c", "20", "-P", "16", "-d", "500", "--csv", "-n"];
    let output = client(ends.client, &[&benchmark[..], &[&count], &to].concat())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(text.contains("\"SET\"") && text.contains("\"GET\""), "redis-benchmark: {text}");
    let value = noise(ends.client.folder(), "value", VALUE)?;
    let cli = format!("redis-cli {}", to.join(" "));
    let command = format!("{cli} -x SET value < {0} && {cli} --raw GET value > {0}.back", value.display());
    client(ends.client, &["sh", "-c", &command])?;
    let mut back = std::fs::read(value.with_extension("back"))?;
    // redis-cli ends its output with a newline.
    back.truncate(VALUE);
    ensure!(back == std::fs::read(&value)?, "the value came back as another");
    let rate = text.lines().find_map(|line| line.strip_prefix("\"SET\",\"")?.split('"').next());
    Ok(format!("{} SET/s, a value of {VALUE} bytes as it was", rate.unwrap_or("?")))
}
