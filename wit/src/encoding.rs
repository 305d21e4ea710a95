//! The one byte encoding of inputs and outputs.
