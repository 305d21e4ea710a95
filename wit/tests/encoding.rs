//! The byte encoding: what goes in comes out, in one way only, and nothing that comes in can do harm.

mod random;

use bulkhead_wit::encoding::{
    self, DecodeError, Form, INPUTS_MAX, NoRoom, OUTPUTS_MAX, Slice, VERSION, hash_bytes, hash_outputs,
};
use bulkhead_wit::{Batch, Config, Description, MarkAt, Outputs, Position, Summary, limits};
use random::Random;

const SEEDS: u64 = 400;

/// Decodes a value of the form that its second byte says, and encodes it again.
fn again(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    match bytes.get(1) {
        Some(1) => {
            let mut batch = Batch::default();
            encoding::decode_inputs(bytes, &mut batch)?;
            encoding::encode_inputs(&batch.inputs(), &mut out);
        }
        Some(2) => {
            let mut outputs = Outputs::default();
            encoding::decode_outputs(bytes, &mut outputs)?;
            encoding::encode_outputs(&outputs, &mut out);
        }
        Some(3) => encoding::encode_config(&encoding::decode_config(bytes)?, &mut out),
        Some(4) => encoding::encode_description(&encoding::decode_description(bytes)?, &mut out),
        Some(5) => encoding::encode_summaries(&encoding::decode_summaries(bytes)?, &mut out),
        _ => return Err(DecodeError::Truncated { at: 0 }),
    }
    Ok(out)
}

/// One value of each form, encoded.
fn one_of_each(random: &mut Random, longest: usize) -> [Vec<u8>; 5] {
    let mut all = <[Vec<u8>; 5]>::default();
    encoding::encode_inputs(&random.batch(longest).inputs(), &mut all[0]);
    encoding::encode_outputs(&random.outputs(longest), &mut all[1]);
    encoding::encode_config(&random.config(longest), &mut all[2]);
    encoding::encode_description(&random.description(longest), &mut all[3]);
    encoding::encode_summaries(&random.list(longest, Random::summary), &mut all[4]);
    all
}

#[test]
fn what_goes_in_comes_out() {
    // Dirty on purpose: what a decoder is given to fill was used before.
    let (mut batch, mut outputs) = (Random::new(7).batch(9), Random::new(8).outputs(9));
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut bytes = Vec::new();
        let before = random.batch(12);
        encoding::encode_inputs(&before.inputs(), &mut bytes);
        assert_eq!(encoding::decode_inputs(&bytes, &mut batch), Ok(()), "seed {seed}");
        assert_eq!(batch, before, "seed {seed}");

        let before = random.outputs(12);
        bytes.clear();
        encoding::encode_outputs(&before, &mut bytes);
        assert_eq!(encoding::decode_outputs(&bytes, &mut outputs), Ok(()), "seed {seed}");
        assert_eq!(outputs, before, "seed {seed}");
        assert_eq!(hash_outputs(&before, &mut vec![1]), hash_bytes(&bytes), "seed {seed}");

        let before: Config = random.config(12);
        bytes.clear();
        encoding::encode_config(&before, &mut bytes);
        assert_eq!(encoding::decode_config(&bytes), Ok(before), "seed {seed}");

        let before: Description = random.description(12);
        bytes.clear();
        encoding::encode_description(&before, &mut bytes);
        assert_eq!(encoding::decode_description(&bytes), Ok(before), "seed {seed}");

        let before: Vec<Summary> = random.list(12, Random::summary);
        bytes.clear();
        encoding::encode_summaries(&before, &mut bytes);
        assert_eq!(encoding::decode_summaries(&bytes), Ok(before), "seed {seed}");
    }
}

#[test]
fn every_prefix_is_an_error() {
    for seed in 0..8 {
        for whole in one_of_each(&mut Random::new(seed), 4) {
            assert_eq!(again(&whole).as_ref(), Ok(&whole));
            for length in 0..whole.len() {
                assert!(again(&whole[..length]).is_err(), "seed {seed}, {length} of {} bytes", whole.len());
            }
            let mut longer = whole.clone();
            longer.push(0);
            assert_eq!(again(&longer), Err(DecodeError::Trailing { bytes: 1 }));
        }
    }
}

#[test]
fn a_flipped_bit_is_another_value_or_an_error() {
    for seed in 0..4 {
        for whole in one_of_each(&mut Random::new(seed), 3) {
            for bit in 0..whole.len() * 8 {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                // What decodes says the same again: there is no second way to write a value.
                if let Ok(bytes) = again(&flipped) {
                    assert_eq!(bytes, flipped, "seed {seed}, bit {bit}");
                }
            }
        }
    }
}

#[test]
fn noise_never_panics() {
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let mut bytes = random.bytes(200);
        if bytes.len() >= 2 {
            bytes[0] = VERSION;
            bytes[1] = 1 + bytes[1] % 5;
        }
        if let Ok(out) = again(&bytes) {
            assert_eq!(out, bytes, "seed {seed}");
        }
    }
}

#[test]
fn errors_name_what_is_wrong() {
    let mut batch = Batch::default();
    let mut good = Vec::new();
    encoding::encode_inputs(&batch.inputs(), &mut good);

    let mut other = good.clone();
    other[0] = VERSION + 1;
    assert_eq!(encoding::decode_inputs(&other, &mut batch), Err(DecodeError::Version { found: VERSION + 1 }));
    assert_eq!(
        encoding::decode_config(&good),
        Err(DecodeError::Form { expected: Form::Config, found: Form::Inputs as u8 })
    );

    // now, room, then the count of header bytes: said to be more than a step may have, then more than there are.
    let at = 2 + 8 + 8;
    let mut count = good.clone();
    count[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let limit = limits::HEADER_BYTES;
    assert_eq!(
        encoding::decode_inputs(&count, &mut batch),
        Err(DecodeError::Count { of: "header bytes", count: u32::MAX, limit })
    );
    count[at..at + 4].copy_from_slice(&100_u32.to_le_bytes());
    assert_eq!(encoding::decode_inputs(&count, &mut batch), Err(DecodeError::Truncated { at: at + 4 }));

    let position = Position { marks: MarkAt::WAITING, ..Position::default() };
    let mut marks = Vec::new();
    encoding::encode_inputs(&Batch { positions: vec![position], ..Batch::default() }.inputs(), &mut marks);
    let at = marks.len() - 2 * 4 - 1;
    assert_eq!(marks[at], MarkAt::WAITING.0);
    marks[at] = 0x20;
    assert_eq!(
        encoding::decode_inputs(&marks, &mut batch),
        Err(DecodeError::Tag { of: "set of marks", found: 0x20, at })
    );
    assert!(batch.is_empty());
}

#[test]
fn a_list_beyond_its_limit_is_refused() {
    let outputs = Outputs { sends: vec![Default::default(); limits::SENDS + 1], ..Outputs::default() };
    let mut bytes = Vec::new();
    encoding::encode_outputs(&outputs, &mut bytes);
    let error = encoding::decode_outputs(&bytes, &mut Outputs::default());
    let count = limits::SENDS as u32 + 1;
    assert_eq!(error, Err(DecodeError::Count { of: "sends", count, limit: limits::SENDS }));
}

#[test]
fn a_full_step_fits_its_maximum() {
    let mut random = Random::new(1);
    let mut bytes = Vec::new();
    let batch = random.full_batch();
    encoding::encode_inputs(&batch.inputs(), &mut bytes);
    assert_eq!(bytes.len(), INPUTS_MAX);
    assert_eq!(again(&bytes).as_ref(), Ok(&bytes));

    bytes.clear();
    encoding::encode_outputs(&random.full_outputs(), &mut bytes);
    assert_eq!(bytes.len(), OUTPUTS_MAX);
    assert_eq!(again(&bytes).as_ref(), Ok(&bytes));
}

#[test]
fn a_slice_takes_what_fits() {
    let outputs = Random::new(3).outputs(5);
    let mut bytes = Vec::new();
    encoding::encode_outputs(&outputs, &mut bytes);
    for room in [0, 1, bytes.len() - 1, bytes.len(), bytes.len() + 9] {
        let mut memory = vec![0xaa; room];
        let mut slice = Slice::new(&mut memory);
        encoding::encode_outputs(&outputs, &mut slice);
        if room < bytes.len() {
            assert_eq!(slice.finish(), Err(NoRoom { needed: bytes.len(), room }));
        } else {
            assert_eq!(slice.finish(), Ok(bytes.len()));
            assert_eq!(&memory[..bytes.len()], &bytes);
            assert!(memory[bytes.len()..].iter().all(|byte| *byte == 0xaa));
        }
    }
}

#[test]
fn each_bit_and_the_length_make_another_hash() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let bytes = random.bytes(100);
        let whole = hash_bytes(&bytes);
        let mut longer = bytes.clone();
        longer.push(0);
        assert_ne!(hash_bytes(&longer), whole, "seed {seed}");
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(hash_bytes(&other), whole, "seed {seed}, bit {bit}");
        }
    }
}

/// Recordings hold hashes: these values are forever.
#[test]
fn the_hash_stays_what_it_is() {
    assert_eq!(hash_bytes(b""), HASH_OF_NOTHING);
    assert_eq!(hash_bytes(b"bulkhead"), HASH_OF_EIGHT);
    assert_eq!(hash_bytes(b"a pure function"), HASH_OF_FIFTEEN);
    assert_eq!(hash_outputs(&Outputs::default(), &mut Vec::new()), HASH_OF_EMPTY_OUTPUTS);
}

const HASH_OF_NOTHING: u64 = 0x64e2_dc33_7c9b_c608;
const HASH_OF_EIGHT: u64 = 0x8ec0_f0a8_e7fb_ed46;
const HASH_OF_FIFTEEN: u64 = 0x18dd_652c_35a0_5b20;
const HASH_OF_EMPTY_OUTPUTS: u64 = 0x17ae_8190_9040_3b64;
