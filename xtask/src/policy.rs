//! The dependency policy: licences, sources, and who may depend on what.
//!
//! Read from `cargo metadata`, with a table in this file, and not by cargo-deny: that takes minutes to build on a fresh
//! machine, and what it could do beyond this (advisories) needs a database from the network at every run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::shell::{capture, cargo, say};
use crate::toolchain::TARGET;

/// Licences that we may pass on under our own terms.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// The one place that code comes from, our own apart.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What there may be only one version of: two would mean twice the code, or types that do not fit together.
const ONE_VERSION: &[&str] =
    &["wasmtime", "wit-bindgen", "tokio", "hyper", "http", "bytes", "rustix", "tracing"];

/// Packages that depend on these alone, tests excepted: the contract stands for itself, and the core sees nothing else.
const CLOSED: &[(&str, &[&str])] = &[("bulkhead-wit", &[]), ("bulkhead-tcp", &["bulkhead-wit"])];

/// Checks everything that the host and the guests are made of.
///
/// # Errors
/// Every breach, a line each.
pub(crate) fn check() -> anyhow::Result<()> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--locked"]);
    command.args(["--filter-platform", &host, "--filter-platform", TARGET]);
    let metadata: Value =
        serde_json::from_str(&capture(&mut command)?).context("cargo metadata is no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;

    let mut breaches = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        versions.entry(name).or_default().insert(package["version"].as_str().unwrap_or_default());
        breaches.extend(breach_of(package).map(|breach| format!("{name}: {breach}")));
    }
    for name in ONE_VERSION {
        if let Some(found) = versions.get(name).filter(|found| found.len() > 1) {
            breaches.push(format!("{name}: {} versions, {found:?}", found.len()));
        }
    }
    if !breaches.is_empty() {
        bail!("the dependency policy is broken (see xtask/src/policy.rs):\n  {}", breaches.join("\n  "));
    }
    say(format!("dependencies: {} packages keep the policy", packages.len()));
    Ok(())
}

/// What is wrong with a package, if anything.
fn breach_of(package: &Value) -> Option<String> {
    let name = package["name"].as_str().unwrap_or_default();
    match package["source"].as_str() {
        None | Some(REGISTRY) => {}
        Some(source) => return Some(format!("comes from {source}")),
    }
    let licence = package["license"].as_str().unwrap_or_default();
    if !is_allowed(licence) {
        return Some(format!("licence `{licence}`"));
    }
    let (_, allowed) = CLOSED.iter().find(|(closed, _)| *closed == name)?;
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    let normal = dependencies.filter(|one| one["kind"] != "dev").filter_map(|one| one["name"].as_str());
    normal.filter(|one| !allowed.contains(one)).map(|one| format!("may not depend on {one}")).next()
}

/// Whether an SPDX expression leaves us a choice that we allow. `/` is the old way to write `OR`.
fn is_allowed(expression: &str) -> bool {
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = text.split_whitespace().peekable();
    any_of(&mut words) == Some(true) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// Nothing where this is no expression.
fn any_of(words: &mut Words<'_>) -> Option<bool> {
    let mut allowed = all_of(words)?;
    while words.next_if_eq(&"OR").is_some() {
        allowed |= all_of(words)?;
    }
    Some(allowed)
}

fn all_of(words: &mut Words<'_>) -> Option<bool> {
    let mut allowed = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words)?;
    }
    Some(allowed)
}

fn one(words: &mut Words<'_>) -> Option<bool> {
    let word = words.next()?;
    if word == "(" {
        let allowed = any_of(words)?;
        return (words.next() == Some(")")).then_some(allowed);
    }
    if words.next_if_eq(&"WITH").is_some() {
        let whole = format!("{word} WITH {}", words.next()?);
        return Some(LICENCES.contains(&whole.as_str()));
    }
    Some(LICENCES.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn licences_leave_a_choice_or_not() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0-only",
            "GPL-2.0 OR (MIT AND Unicode-3.0)",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "MIT/Apache-2.0",
            "Unlicense/MIT",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "MIT OR",
            "(MIT",
            "GPL-2.0 WITH LLVM-exception",
            "MIT MIT",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
}
