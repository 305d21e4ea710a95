//! `bulkhead inspect`: what a module is and what it may do.

use std::process::ExitCode;

use bulkhead::artifact::{Artifact, Facts};
use bulkhead_wit::registry::{protocol, service, setting};
use bulkhead_wit::{CONTRACT, Description, STATELESS, Service, limits};
use serde_json::{Value, json};

use super::arguments::Inspect;
use super::module;
use super::report::{bytes, print};

/// Prints what is known of the module.
///
/// # Errors
/// A line that says what is wrong with it.
pub(super) fn inspect(arguments: &Inspect) -> anyhow::Result<ExitCode> {
    let artifact = module::artifact(arguments.module.as_deref())?;
    if arguments.json {
        print(&format!("{:#}\n", json(&artifact)))?;
    } else {
        print(&table(&artifact))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(artifact: &Artifact) -> String {
    let (facts, description) = (artifact.facts(), artifact.description());
    let (imports, payload) = if facts.payload_blind {
        ("nothing".to_owned(), "blind: it cannot reach a byte of application data".to_owned())
    } else {
        let text =
            "reads application data, and may put other bytes in their place; where they go is still enforced";
        (facts.imports.join(", "), text.to_owned())
    };
    let loading = artifact.loading();
    let code = if loading.cached { "from the cache" } else { "compiled" };
    let rows = [
        ("file", artifact.name().to_owned()),
        ("name", module::shown(&description.name)),
        ("version", module::shown(&description.version)),
        ("contract", CONTRACT.to_owned()),
        ("imports", imports),
        ("payload", payload),
        ("serves", services(&description.serves)),
        ("sends", services(&description.sends)),
        ("memory", memory(facts)),
        (
            "per connection",
            format!(
                "{} of module memory, by its own account",
                bytes(description.bytes_per_connection.into())
            ),
        ),
        ("step time", format!("{} ms of CPU at most", limits::STEP_CPU / limits::MILLISECOND)),
        ("state format", state(description)),
        ("recovery", recovery(facts, description).to_owned()),
        ("settings", settings(description).join(", ")),
        ("size", format!("{} bytes, {} of them code", facts.size, facts.code)),
        ("hash", format!("blake3:{}", facts.hash_text())),
        ("machine code", format!("{code} in {:.1} ms", loading.took.as_secs_f64() * 1e3)),
    ];
    rows.iter().map(|(name, value)| format!("{name:<16}{value}\n")).collect()
}

fn json(artifact: &Artifact) -> Value {
    let (facts, description) = (artifact.facts(), artifact.description());
    let list = |services: &[Service]| services.iter().map(|one| service_text(*one)).collect::<Vec<_>>();
    let memories: Vec<Value> =
        facts.memories.iter().map(|one| json!({ "least": one.least, "most": one.most })).collect();
    json!({
        "file": artifact.name(),
        "name": module::shown(&description.name),
        "version": module::shown(&description.version),
        "contract": CONTRACT,
        "imports": facts.imports,
        "exports": facts.exports,
        "payload_blind": facts.payload_blind,
        "serves": list(&description.serves),
        "sends": list(&description.sends),
        "memories": memories,
        "memory_limit": limits::MEMORY,
        "bytes_per_connection": description.bytes_per_connection,
        "step_cpu_ns": limits::STEP_CPU,
        "state_format": description.state_format,
        "recovery": recovery(facts, description),
        "settings": settings(description),
        "size": facts.size,
        "code": facts.code,
        "blake3": facts.hash_text(),
        "cached": artifact.loading().cached,
        "load_ns": u64::try_from(artifact.loading().took.as_nanos()).unwrap_or(u64::MAX),
    })
}

fn state(description: &Description) -> String {
    match description.state_format {
        STATELESS => "none: another module takes over by a cold swap".to_owned(),
        format => format.to_string(),
    }
}

fn services(list: &[Service]) -> String {
    if list.is_empty() {
        return "nothing".into();
    }
    list.iter().map(|one| service_text(*one)).collect::<Vec<_>>().join(", ")
}

fn service_text(one: Service) -> String {
    let named = |number: u16| match u8::try_from(number).ok()? {
        protocol::ICMP => Some("ICMP"),
        protocol::TCP => Some("TCP"),
        protocol::UDP => Some("UDP"),
        protocol::ICMPV6 => Some("ICMPv6"),
        _ => None,
    };
    match (one.kind, named(one.value)) {
        (service::IP_PROTOCOL, Some(name)) => name.to_owned(),
        (kind, _) => match service::name(kind) {
            Some(kind) => format!("{kind} {}", one.value),
            None => format!("service {kind}:{}", one.value),
        },
    }
}

fn memory(facts: &Facts) -> String {
    let one = |memory: &bulkhead::artifact::Memory| {
        let most = memory.most.map_or("as the host allows".to_owned(), bytes);
        format!("{} at first, then up to {most}", bytes(memory.least))
    };
    let own = match facts.memories.as_slice() {
        [] => "none".to_owned(),
        memories => memories.iter().map(one).collect::<Vec<_>>().join("; "),
    };
    format!("{own}; the host allows {}", bytes(limits::MEMORY as u64))
}

/// Recovery by memory asks for one memory that does not grow, and no mutable global but the stack pointer (contract, D5).
fn recovery(facts: &Facts, description: &Description) -> &'static str {
    if description.state_format == STATELESS {
        return "by everything that it was given, while that is not too much; it saves no state";
    }
    match facts.memories.as_slice() {
        [memory] if memory.most == Some(memory.least) && facts.mutable_globals <= 1 => {
            "by a copy of its memory"
        }
        _ => "by its saved state",
    }
}

fn settings(description: &Description) -> Vec<String> {
    let name = |number: &u16| setting::name(*number).map_or_else(|| number.to_string(), str::to_owned);
    description.settings.iter().map(name).collect()
}
