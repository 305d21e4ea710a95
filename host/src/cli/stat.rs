//! `bulkhead stat`: the connections of a running instance, like `ss -ti`; and the same figures for programs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use bulkhead::net::{Census, ConnectionInfo, Summary};
use serde_json::{Value, json};

use super::arguments::Stat;
use super::control::ask;
use super::report::{bytes, print};
use super::stacks::Asked;

/// Connections that are told of at most.
const CONNECTIONS: usize = 10_000;

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Everything, as JSON; times in nanoseconds.
pub(super) fn json(stacks: &Asked, applications: Value) -> Value {
    let summary = stacks.stat();
    let connections: Vec<Value> = stacks.connection_infos(CONNECTIONS).iter().map(connection).collect();
    json!({
        "applications": applications,
        "stack": figures(&summary),
        "census": summary.census.map(|census| census_json(&census)),
        "modules": summary.modules.iter().map(|module| json!({
            "name": module.name, "steps": module.steps, "time_ns": ns(module.time), "faults": module.faults,
            "fault": module.fault.as_ref().map(ToString::to_string),
        })).collect::<Vec<_>>(),
        "listeners": stacks.listeners().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "connections": connections,
    })
}

fn figures(summary: &Summary) -> Value {
    json!({
        "running_ns": ns(summary.running), "connections": summary.connections, "ended": summary.ended,
        "bytes_in": summary.bytes_in, "bytes_out": summary.bytes_out, "turns": summary.turns,
        "steps": summary.steps, "module_ns": ns(summary.module_time),
        "longest_gap_ns": ns(summary.longest_gap), "drops": summary.drops,
        "device_errors": summary.device_errors, "faults": summary.faults, "memory": summary.memory,
        "faults_recovered": summary.recoveries.recovered, "faults_connections_lost": summary.recoveries.streams,
        "recovery_max_ns": summary.recoveries.recovery_ns_max,
        "checkpoints": summary.recording.checkpoints, "checkpoint_bytes": summary.recording.checkpoint_bytes,
        "checkpoint_ns": summary.recording.checkpoint_ns, "recording_memory": summary.recording.memory,
    })
}

fn census_json(census: &Census) -> Value {
    json!({
        "syn_sent": census.syn_sent, "syn_received": census.syn_received, "established": census.established,
        "closing": census.closing, "time_wait": census.time_wait, "listeners": census.listeners,
        "segments_in": census.segs_in, "segments_out": census.segs_out, "retransmissions": census.retrans,
        "dropped": census.dropped, "resets_in": census.resets_in, "resets_out": census.resets_out,
        "challenges": census.challenges, "cookies_sent": census.cookies_sent,
        "cookies_received": census.cookies_received, "backlog_drops": census.backlog_drops,
        "state_bytes": census.state_bytes, "echoes": census.echoes,
    })
}

fn connection(one: &ConnectionInfo) -> Value {
    let tcp = &one.tcp;
    json!({
        "state": tcp.state().to_string(), "local": one.local.to_string(), "remote": one.remote.to_string(),
        "unread": one.unread, "unacknowledged": one.unacknowledged, "mss": tcp.snd_mss, "pmtu": tcp.pmtu,
        "rto_ns": ns(tcp.rto), "rtt_ns": ns(tcp.rtt), "rttvar_ns": ns(tcp.rttvar), "min_rtt_ns": ns(tcp.min_rtt),
        "cwnd": tcp.cwnd, "ssthresh": tcp.ssthresh, "unacked": tcp.unacked, "lost": tcp.lost,
        "retrans": tcp.retrans, "total_retrans": tcp.total_retrans, "bytes_sent": tcp.bytes_sent,
        "bytes_acked": tcp.bytes_acked, "bytes_received": tcp.bytes_received, "segments_out": tcp.segs_out,
        "segments_in": tcp.segs_in, "pacing_rate": tcp.pacing_rate, "delivery_rate": tcp.delivery_rate,
        "send_window": tcp.snd_wnd, "receive_window": tcp.rcv_wnd, "wscales": tcp.wscales,
        "last_sent_ns": ns(tcp.last_data_sent), "last_received_ns": ns(tcp.last_data_recv),
        "rwnd_limited_ns": ns(tcp.rwnd_limited), "sndbuf_limited_ns": ns(tcp.sndbuf_limited),
        "out_of_order": tcp.ooo_packets,
    })
}

/// Shows it.
///
/// # Errors
/// A line that says what to do.
pub(super) fn stat(stat: &Stat) -> anyhow::Result<ExitCode> {
    let path = stat.whom.path();
    loop {
        let said = ask(&path, &json!({ "command": "stat" }))?;
        let text = if stat.whom.json { format!("{said}\n") } else { table(&said) };
        let Some(pause) = stat.watch else {
            print(&text)?;
            return Ok(ExitCode::SUCCESS);
        };
        if io::stdout().is_terminal() && !stat.whom.json {
            // From the top left corner, over what was there.
            print("\x1b[H\x1b[2J")?;
        }
        let mut out = io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            return Ok(ExitCode::SUCCESS);
        }
        drop(out);
        std::thread::sleep(Duration::from_secs_f64(pause));
    }
}

/// For people.
fn table(said: &Value) -> String {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let ms = |value: &Value| number(value) as f64 / 1e6;
    let (stack, census) = (&said["stack"], &said["census"]);
    let mut out = format!(
        "{} in, {} out, {} steps in {} turns, {:.1} % of the time in modules, longest gap {:.1} ms, {} drops, {} faults\n",
        bytes(number(&stack["bytes_in"])),
        bytes(number(&stack["bytes_out"])),
        stack["steps"],
        stack["turns"],
        100.0 * number(&stack["module_ns"]) as f64 / number(&stack["running_ns"]).max(1) as f64,
        ms(&stack["longest_gap_ns"]),
        stack["drops"],
        stack["faults"],
    );
    let _ = writeln!(
        out,
        "{} established, {} opening, {} closing, {} in TIME-WAIT; segments {} in, {} out, {} retransmitted\n",
        census["established"],
        number(&census["syn_sent"]) + number(&census["syn_received"]),
        census["closing"],
        census["time_wait"],
        census["segments_in"],
        census["segments_out"],
        census["retransmissions"],
    );
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let _ = writeln!(out, "{:<13}{:>10}{:>10}  {:<24}Peer", "State", "Recv-Q", "Send-Q", "Local");
    for local in said["listeners"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "{:<13}{:>10}{:>10}  {:<24}*", "LISTEN", 0, 0, text(local));
    }
    for one in said["connections"].as_array().into_iter().flatten() {
        let _ = writeln!(
            out,
            "{:<13}{:>10}{:>10}  {:<24}{}",
            text(&one["state"]),
            number(&one["unread"]),
            number(&one["unacknowledged"]),
            text(&one["local"]),
            text(&one["remote"])
        );
        let scales = number(&one["wscales"]);
        let _ = writeln!(
            out,
            "\t wscale:{},{} rto:{:.0} rtt:{:.3}/{:.3} minrtt:{:.3} mss:{} pmtu:{} cwnd:{} bytes_sent:{} bytes_acked:{} \
             bytes_received:{} segs_out:{} segs_in:{} unacked:{} retrans:{}/{} lost:{} delivery_rate {:.1}Mbps",
            scales >> 4,
            scales & 15,
            ms(&one["rto_ns"]),
            ms(&one["rtt_ns"]),
            ms(&one["rttvar_ns"]),
            ms(&one["min_rtt_ns"]),
            one["mss"],
            one["pmtu"],
            one["cwnd"],
            one["bytes_sent"],
            one["bytes_acked"],
            one["bytes_received"],
            one["segments_out"],
            one["segments_in"],
            one["unacked"],
            one["retrans"],
            one["total_retrans"],
            one["lost"],
            number(&one["delivery_rate"]) as f64 * 8.0 / 1e6,
        );
    }
    out
}
