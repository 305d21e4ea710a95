//! `bulkhead fuzz --broker` and `--join`: where machines meet, and how it is told what they have come to together.

use std::net::TcpListener;

use anyhow::Context as _;
use bulkhead::fuzz::{Meeting, Reach};
use serde_json::json;

use super::fuzz_arguments::Fuzz;

/// Where this campaign meets others, if it does.
pub(super) fn meeting(arguments: &Fuzz) -> anyhow::Result<Option<Meeting>> {
    let listener = arguments
        .broker
        .map(|address| TcpListener::bind(address).with_context(|| format!("--broker {address}")))
        .transpose()?;
    if listener.is_none() && arguments.join.is_empty() {
        return Ok(None);
    }
    if let (Some(listener), false) = (&listener, arguments.ci) {
        let address = listener.local_addr()?;
        eprintln!("broker    {address}: others join with --join HOST:{}", address.port());
    }
    Ok(Some(Meeting { listener, peers: arguments.join.clone() }))
}

/// The status line's part on all machines.
pub(super) fn line(reach: &Reach, rate: f64) -> String {
    format!(
        "  | {} machines, {} workers, {} brokers joined, {rate:.0} runs/s, findings {}",
        reach.machines, reach.workers, reach.brokers, reach.findings
    )
}

/// The summary's.
pub(super) fn summary(reach: &Reach) -> String {
    let mut text = format!(
        "machines  {} with {} workers: {} runs, up to {} edges, findings {}; {} cases came from others\n",
        reach.machines, reach.workers, reach.runs, reach.edges, reach.findings, reach.arrived
    );
    if reach.dropped + reach.refused > 0 {
        text += &format!(
            "          {} messages were dropped, {} connections refused\n",
            reach.dropped, reach.refused
        );
    }
    text
}

/// The same for programs.
pub(super) fn summary_json(reach: &Reach) -> serde_json::Value {
    json!({
        "machines": reach.machines,
        "workers": reach.workers,
        "runs": reach.runs,
        "edges": reach.edges,
        "findings": reach.findings,
        "cases_from_others": reach.arrived,
        "messages_dropped": reach.dropped,
        "connections_refused": reach.refused,
    })
}
