//! What of a file a request asks for, and whether it has it already (RFC 9110 13 and 14).

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::header::{self, HeaderMap, HeaderValue};

/// What names one state of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Validators {
    tag: String,
    modified: Option<SystemTime>,
}

impl Validators {
    /// By size, inode and time of change in nanoseconds.
    pub(super) fn of(about: &Metadata) -> Self {
        let tag =
            format!("\"{:x}-{:x}-{:x}.{:x}\"", about.ino(), about.len(), about.mtime(), about.mtime_nsec());
        // HTTP has no times before 1970, and none of fractions of a second.
        let modified = about.modified().ok().filter(|time| *time >= UNIX_EPOCH);
        Self { tag, modified }
    }

    /// Whether the client has this very state (RFC 9110 13.1.2 and 13.1.3): a tag counts, a time only without one.
    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        if let Some(tags) = headers.get(header::IF_NONE_MATCH) {
            let Ok(tags) = tags.to_str() else { return false };
            return tags.split(',').map(str::trim).any(|tag| tag == "*" || weak(tag) == self.tag);
        }
        let since = headers.get(header::IF_MODIFIED_SINCE).and_then(time);
        match (since, self.seconds()) {
            (Some(since), Some(modified)) => modified <= seconds(since),
            _ => false,
        }
    }

    /// Whether a range may be served: what the client has of the file is of this state, or it does not say
    /// (RFC 9110 13.1.5).
    pub(super) fn allow_range(&self, headers: &HeaderMap) -> bool {
        let Some(condition) = headers.get(header::IF_RANGE) else { return true };
        match time(condition) {
            Some(time) => self.seconds() == Some(seconds(time)),
            None => condition.as_bytes() == self.tag.as_bytes(),
        }
    }

    /// Puts them into a response's header.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        if let Ok(tag) = HeaderValue::try_from(&self.tag) {
            headers.insert(header::ETAG, tag);
        }
        if let Some(modified) = self.modified.and_then(|time| HeaderValue::try_from(super::date(time)).ok()) {
            headers.insert(header::LAST_MODIFIED, modified);
        }
    }

    fn seconds(&self) -> Option<u64> {
        self.modified.map(seconds)
    }
}

fn weak(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

fn time(value: &HeaderValue) -> Option<SystemTime> {
    value.to_str().ok().and_then(|text| httpdate::parse_http_date(text).ok())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The part of a file that is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Selection {
    /// All of it.
    Whole,
    /// So many bytes from this one on; at least one.
    Part {
        /// The first byte.
        first: u64,
        /// Bytes.
        length: u64,
    },
    /// None of what was asked for exists.
    None,
}

impl Selection {
    /// Reads a `Range` header. What is not understood, and more than one range, is ignored, as RFC 9110 14.2 allows.
    pub(super) fn of(range: Option<&HeaderValue>, size: u64) -> Self {
        let range = range.and_then(|value| value.to_str().ok()).and_then(|text| text.strip_prefix("bytes="));
        let Some((first, last)) = range.and_then(|range| range.trim().split_once('-')) else {
            return Self::Whole;
        };
        // All digits: `parse` would take a sign.
        let number = |text: &str| -> Option<Option<u64>> {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            if text.is_empty() { Some(None) } else { is_number.then(|| text.parse().ok())?.map(Some) }
        };
        match (number(first), number(last)) {
            (Some(None), Some(Some(count))) if count == 0 || size == 0 => Self::None,
            (Some(None), Some(Some(count))) => Self::from(size.saturating_sub(count), size - 1),
            (Some(Some(first)), Some(None)) if first < size => Self::from(first, size - 1),
            (Some(Some(first)), Some(Some(last))) if first > last => Self::Whole,
            (Some(Some(first)), Some(Some(last))) if first < size => Self::from(first, last.min(size - 1)),
            (Some(Some(_)), Some(_)) => Self::None,
            _ => Self::Whole,
        }
    }

    const fn from(first: u64, last: u64) -> Self {
        Self::Part { first, length: last - first + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file() {
        let of = |text: &'static str, size| Selection::of(Some(&HeaderValue::from_static(text)), size);
        let part = |first, length| Selection::Part { first, length };
        assert_eq!(of("bytes=0-0", 10), part(0, 1));
        assert_eq!(of("bytes=2-", 10), part(2, 8));
        assert_eq!(of("bytes=-3", 10), part(7, 3));
        assert_eq!(of("bytes=-30", 10), part(0, 10));
        assert_eq!(of("bytes=5-99", 10), part(5, 5));
        assert_eq!(of("bytes=9-18446744073709551615", 10), part(9, 1));
        for none in ["bytes=10-", "bytes=-0", "bytes=11-12"] {
            assert_eq!(of(none, 10), Selection::None, "{none}");
        }
        assert_eq!(of("bytes=-5", 0), Selection::None);
        for whole in [
            "bytes=5-4",
            "bytes=1-2,4-5",
            "lines=1-2",
            "bytes=-",
            "bytes=+1-2",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(of(whole, 10), Selection::Whole, "{whole}");
        }
        assert_eq!(Selection::of(None, 10), Selection::Whole);
    }
}
