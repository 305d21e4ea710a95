//! A case as LibAFL knows it: an input that is serialised as its text, so that whatever a message brings goes through the one
//! reader of cases, with its bounds.

use std::fmt;
use std::sync::Arc;

use libafl::inputs::Input;
use libafl_bolts::HasLen;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

use super::limits;
use crate::fuzz::case::Case;

/// A case. Cloning is cheap, since LibAFL clones an input for each change of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Scenario(pub(super) Arc<Case>);

impl From<Case> for Scenario {
    fn from(case: Case) -> Self {
        Self(Arc::new(case))
    }
}

impl Input for Scenario {}

impl HasLen for Scenario {
    fn len(&self) -> usize {
        self.0.events.len()
    }
}

impl Serialize for Scenario {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string())
    }
}

impl<'de> Deserialize<'de> for Scenario {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Reader)
    }
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = Scenario;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the text of a case")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scenario, E> {
        read(text).map_err(E::custom)
    }
}

/// A case of somebody else's.
pub(super) fn read(text: &str) -> Result<Scenario, String> {
    if text.len() > limits::CASE_BYTES {
        return Err(format!("a case has at most {} bytes", limits::CASE_BYTES));
    }
    text.parse::<Case>().map(Scenario::from).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_goes_through_a_message_and_nonsense_does_not() {
        let case: Case = "seg 0 S opts=mss:1460\nwrite 0 10\nraw 4500\n".parse().expect("a case");
        let bytes = postcard::to_allocvec(&Scenario::from(case.clone())).expect("bytes");
        assert_eq!(postcard::from_bytes::<Scenario>(&bytes).expect("the case again").0.as_ref(), &case);
        for text in ["fly 0".to_owned(), "# ".repeat(limits::CASE_BYTES)] {
            let bytes = postcard::to_allocvec(&text).expect("bytes");
            assert!(postcard::from_bytes::<Scenario>(&bytes).is_err());
        }
    }
}
