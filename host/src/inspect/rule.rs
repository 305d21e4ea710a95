//! How a check says no.

pub(super) use crate::fault::{Broken, Rule};

/// Passes if `holds`, else a fault of `rule` whose detail is only then put into words.
#[inline]
pub(crate) fn check(holds: bool, rule: Rule, detail: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(violation(rule, detail())) }
}

#[cold]
pub(crate) fn violation(rule: Rule, detail: String) -> Broken {
    Broken { rule, detail }
}
