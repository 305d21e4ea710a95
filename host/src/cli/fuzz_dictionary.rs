//! Dictionaries in the form that AFL and libFuzzer share: `name="text with \x00 bytes"`, a line each.

use std::path::Path;

use anyhow::Context as _;

use super::failure::usage;

/// Bytes of a file.
const SIZE: u64 = 1 << 20;

/// What a dictionary holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dictionary {
    /// Entries of 1, 2, 4 or 8 bytes as numbers, big endian as on the wire.
    pub(super) words: Vec<u64>,
    /// All entries as bytes.
    pub(super) tokens: Vec<Vec<u8>>,
}

/// Reads a file.
///
/// # Errors
/// The line that is wrong, and how.
pub(super) fn read(path: &Path) -> anyhow::Result<Dictionary> {
    let name = || path.display().to_string();
    if std::fs::metadata(path).with_context(name)?.len() > SIZE {
        return Err(usage(format!("{}: too long for a dictionary", name())));
    }
    let text = std::fs::read_to_string(path).with_context(name)?;
    parse(&text).map_err(|error| usage(format!("{}: {error}", name())))
}

fn parse(text: &str) -> Result<Dictionary, String> {
    let mut dictionary = Dictionary::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let quoted =
            line.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).map(|(inside, _)| inside);
        let token = quoted.and_then(unescape).ok_or_else(|| {
            format!("line {}: entries are name=\"bytes\", with \\xAB for any byte", number + 1)
        })?;
        if matches!(token.len(), 1 | 2 | 4 | 8) {
            dictionary.words.push(token.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
        dictionary.tokens.push(token);
    }
    Ok(dictionary)
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next()? {
            b'x' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                bytes.push((digit()? * 16 + digit()?) as u8);
            }
            other => bytes.push(other),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_bytes_and_short_ones_numbers_too() {
        let dictionary = parse("# options\nsackok=\"\\x04\\x02\"\n\"a\\\"b\"\n").unwrap();
        assert_eq!(dictionary.words, [0x402]);
        assert_eq!(dictionary.tokens, [vec![4, 2], b"a\"b".to_vec()]);
        assert!(parse("x=5").unwrap_err().starts_with("line 1"));
        assert!(parse("x=\"\\x5\"").is_err());
    }
}
