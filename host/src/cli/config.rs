//! A configuration file: what a service would repeat, in TOML. Keys are the long options of `run`, and `applications`;
//! what the command line says comes before what the file says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use toml::{Table, Value};

use super::failure::usage;

/// Bytes of a file.
const SIZE: u64 = 1 << 20;

/// The words of the command line, with those that the file of `--config` adds.
///
/// # Errors
/// A line that says what is wrong with the file.
pub(super) fn with_file(words: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    let Some(path) = file(&words) else { return Ok(words) };
    let text = read(&path)?;
    let table: Table = text.parse().map_err(|error| usage(format!("{}: {error}", path.display())))?;
    let mut all = words.clone();
    let has_applications = words_after_run(&words).any(|word| !word.starts_with('-'));
    let mut applications = Vec::new();
    for (key, value) in &table {
        if key == "applications" {
            if !has_applications {
                applications = lines(&path, value)?;
            }
            continue;
        }
        let option = format!("--{}", key.replace('_', "-"));
        let is_said = words.iter().any(|word| {
            word.to_str().is_some_and(|word| word == option || word.starts_with(&format!("{option}=")))
        });
        if !is_said {
            add(&path, &mut all, &option, value)?;
        }
    }
    all.extend(applications);
    Ok(all)
}

/// The file that `run` is given.
fn file(words: &[OsString]) -> Option<PathBuf> {
    if words.get(1)?.to_str()? != "run" && !words.iter().any(|word| word == "run") {
        return None;
    }
    let at = words.iter().position(|word| word.to_str().is_some_and(|word| word.starts_with("--config")))?;
    match words.get(at)?.to_str()?.strip_prefix("--config=") {
        Some(path) => Some(path.into()),
        None => words.get(at + 1).map(PathBuf::from),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let size = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    if size > SIZE {
        return Err(usage(format!("{}: too long for a configuration", path.display())));
    }
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// What stands behind `run` and is neither an option nor the value of one, as far as can be told without clap: options
/// of `run` that take a value are given as `--name=value` or are looked over in pairs.
fn words_after_run(words: &[OsString]) -> impl Iterator<Item = &str> {
    let mut rest = words.iter().skip_while(|word| *word != "run").skip(1).filter_map(|word| word.to_str());
    std::iter::from_fn(move || {
        loop {
            let word = rest.next()?;
            if !word.starts_with("--") {
                return Some(word);
            }
            if !word.contains('=') && word != "--json" && word != "--verbose" {
                rest.next();
            }
        }
    })
}

/// `["http:8080 ./site", "echo"]`, or one line.
fn lines(path: &Path, value: &Value) -> anyhow::Result<Vec<OsString>> {
    let wrong = || usage(format!("{}: applications: a list of lines, such as [\"http .\"]", path.display()));
    let lines = match value {
        Value::Array(lines) => {
            lines.iter().map(Value::as_str).collect::<Option<Vec<_>>>().ok_or_else(wrong)?
        }
        Value::String(line) => vec![line.as_str()],
        _ => return Err(wrong()),
    };
    // The name, and what comes behind it as one word: a directory may have spaces.
    let words = lines.into_iter().flat_map(|line| line.trim().splitn(2, char::is_whitespace));
    Ok(words.map(|word| OsString::from(word.trim())).collect())
}

fn add(path: &Path, all: &mut Vec<OsString>, option: &str, value: &Value) -> anyhow::Result<()> {
    let mut push = |value: String| all.push(format!("{option}={value}").into());
    match value {
        Value::Boolean(true) => all.push(option.into()),
        Value::Boolean(false) => {}
        Value::String(text) => push(text.clone()),
        Value::Integer(number) => push(number.to_string()),
        Value::Float(number) => push(number.to_string()),
        Value::Array(values) => values.iter().try_for_each(|value| add(path, all, option, value))?,
        Value::Table(values) => {
            // Settings: nodelay = 1.
            for (name, value) in values {
                let value = match value {
                    Value::String(text) => text.clone(),
                    Value::Integer(number) => number.to_string(),
                    _ => {
                        return Err(usage(format!(
                            "{}: {option}: {name}: a number or a name",
                            path.display()
                        )));
                    }
                };
                push(format!("{name}={value}"));
            }
        }
        Value::Datetime(_) => return Err(usage(format!("{}: {option}: a date?", path.display()))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(line: &str, file: &str) -> Result<String, String> {
        let folder =
            std::env::temp_dir().join(format!("bulkhead-config-{}-{}", std::process::id(), line.len()));
        std::fs::write(&folder, file).unwrap();
        let words = line.replace("FILE", folder.to_str().unwrap());
        let all = with_file(words.split(' ').map(OsString::from).collect());
        std::fs::remove_file(&folder).unwrap();
        let all = all.map_err(|error| format!("{error:#}"))?;
        let all: Vec<String> = all.into_iter().map(|word| word.into_string().unwrap()).collect();
        Ok(all.join(" ").replace(folder.to_str().unwrap(), "FILE"))
    }

    #[test]
    fn the_file_adds_and_the_command_line_wins() {
        let file = "applications = ['http ./my site', 'echo']\ntun = 'tun7'\naddress = ['10.1.0.2/24', 'fd00::2/64']\n\
                    json = true\ndrain = 2.5\n[setting]\nnodelay = 1\ncongestion = 'reno'\n";
        assert_eq!(
            merged("bulkhead run --config FILE --tun=tun8", file).unwrap(),
            "bulkhead run --config FILE --tun=tun8 --address=10.1.0.2/24 --address=fd00::2/64 --drain=2.5 --json \
             --setting=congestion=reno --setting=nodelay=1 http ./my site echo"
        );
        assert!(!merged("bulkhead run discard --config=FILE", file).unwrap().contains("http"));
        assert!(
            merged("bulkhead run --config=FILE -v", "applications = 7")
                .unwrap_err()
                .contains("list of lines")
        );
        assert!(merged("bulkhead run --config=FILE", "tun = ").unwrap_err().contains("TOML"));
        assert_eq!(merged("bulkhead inspect FILE", "x").unwrap(), "bulkhead inspect FILE");
    }
}
