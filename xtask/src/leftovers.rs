//! What tests and the demo may have left behind. Everything that they make is called `bh-<pid>-<number>`, after the
//! process that makes it; devices are called `bh<something>`, and the program is `bulkhead`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::bail;

/// What there was when we began, which is none of ours.
pub(crate) struct Before(BTreeSet<String>);

impl Before {
    /// Looks around.
    pub(crate) fn look() -> Self {
        Self(traces())
    }

    /// Looks around again.
    ///
    /// # Errors
    /// What is there now and was not before, by name.
    pub(crate) fn nothing_new(&self) -> anyhow::Result<()> {
        let new: Vec<String> = traces().difference(&self.0).cloned().collect();
        if !new.is_empty() {
            bail!("left behind: {}", new.join(", "));
        }
        Ok(())
    }
}

/// Everything that nobody holds any more: namespaces and folders whose process is gone, devices in our own namespace,
/// programs without a parent.
fn traces() -> BTreeSet<String> {
    let abandoned = |name: &String| owner(name).is_some_and(|pid| !Path::new("/proc").join(pid).exists());
    let mut found = BTreeSet::new();
    found.extend(names_in("/run/netns").into_iter().filter(abandoned).map(|n| format!("namespace {n}")));
    let folders = names_in(std::env::temp_dir()).into_iter().filter(abandoned);
    found.extend(folders.map(|n| format!("{}", std::env::temp_dir().join(n).display())));
    let devices = names_in("/sys/class/net").into_iter().filter(|n| n.starts_with("bh"));
    found.extend(devices.map(|n| format!("device {n}")));
    for pid in names_in("/proc") {
        let stat = std::fs::read_to_string(Path::new("/proc").join(&pid).join("stat")).unwrap_or_default();
        // pid (command) state parent ...
        let Some((command, rest)) = stat.rsplit_once(')') else { continue };
        let name = command.split_once('(').map_or("", |(_, name)| name);
        if name.starts_with("bulkhead") && rest.split_whitespace().nth(1) == Some("1") {
            found.insert(format!("process {pid} ({name})"));
        }
    }
    found
}

/// The process in a name of ours.
fn owner(name: &str) -> Option<&str> {
    let (pid, number) = name.strip_prefix("bh-")?.split_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(pid) && is_number(number)).then_some(pid)
}

fn names_in(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn names_say_whose_they_are() {
        assert_eq!(owner("bh-12-0"), Some("12"));
        for other in ["bh-12", "bh-x-1", "bh--1", "bulkhead-1-2", "bh-1-", "docker0"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
