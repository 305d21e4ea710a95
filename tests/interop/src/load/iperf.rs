//! iperf3.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{client, server};
use crate::place::Ends;

pub(super) fn measure(ends: &Ends<'_>, more: &[&str]) -> anyhow::Result<String> {
    let (port, listen) = (ends.listen.port().to_string(), ends.listen.ip().to_string());
    server(ends, &["iperf3", "-s", "-B", &listen, "-p", &port])?;
    let (to, port) = (ends.target.ip().to_string(), ends.target.port().to_string());
    let words = ["iperf3", "-c", &to, "-p", &port, "-t", "3", "-J"];
    let output = client(ends.client, &[&words, more].concat())?;
    let result: Value = serde_json::from_slice(&output.stdout).context("iperf3 says no JSON")?;
    ensure!(result["error"].is_null(), "iperf3: {}", result["error"]);
    let rate = |which: &str| result["end"][which]["bits_per_second"].as_f64().map(|rate| rate / 1e6);
    let there = rate("sum_received").context("iperf3 says no rate")?;
    ensure!(there > 0.0, "nothing arrived: {}", result["end"]);
    let Some(back) = rate("sum_received_bidir_reverse") else { return Ok(format!("{there:.1} Mbit/s")) };
    ensure!(back > 0.0, "nothing arrived the other way");
    Ok(format!("{there:.1} and {back:.1} Mbit/s"))
}
