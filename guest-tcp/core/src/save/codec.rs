//! How each kind of value is written: fixed width, little endian, lists with their length first.
//!
//! A state is saved and loaded while everything waits, so nearly all of it is of fixed width: a structure is one block,
//! whose bounds are checked once, with its fields at places that the compiler knows. What varies in length follows its block.

use crate::settings::Settings;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The rest of a block that is written.
pub(crate) struct Put<'a>(&'a mut [u8]);

impl Put<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some((first, rest)) = core::mem::take(&mut self.0).split_first_chunk_mut() {
            *first = bytes;
            self.0 = rest;
        }
    }
}

/// The rest of a block that is read.
pub(crate) struct Take<'a>(&'a [u8]);

impl Take<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }
}

/// A value of fixed width. Equal values give equal bytes, and bytes give at most one value.
pub(crate) trait Fixed: Sized {
    /// Bytes that it takes.
    const WIDTH: usize;
    fn put(&self, to: &mut Put<'_>);
    fn take(from: &mut Take<'_>) -> Option<Self>;
}

/// Appends a block of `width` bytes, the sum of what `fill` puts into it.
#[inline(always)]
pub(crate) fn append(width: usize, out: &mut Writer, fill: impl FnOnce(&mut Put<'_>)) {
    let end = out.length + width;
    if end > out.bytes.len() {
        out.grow(end);
    }
    if let Some(block) = out.bytes.get_mut(out.length..).and_then(|rest| rest.get_mut(..width)) {
        fill(&mut Put(block));
    }
    out.length = end;
}

/// Takes a block of `width` bytes off the front.
#[inline(always)]
pub(crate) fn block<'a>(width: usize, from: &mut &'a [u8]) -> Option<Take<'a>> {
    let (block, rest) = from.split_at_checked(width)?;
    *from = rest;
    Some(Take(block))
}

/// Appends a value.
#[inline(always)]
pub(crate) fn put<T: Fixed>(value: &T, out: &mut Writer) {
    append(T::WIDTH, out, |to| value.put(to));
}

/// Takes a value off the front.
#[inline(always)]
pub(crate) fn take<T: Fixed>(from: &mut &[u8]) -> Option<T> {
    T::take(&mut block(T::WIDTH, from)?)
}

/// The width of a structure's field.
pub(crate) const fn width<S, F: Fixed>(_: fn(&S) -> &F) -> usize {
    F::WIDTH
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Fixed for $number {
            const WIDTH: usize = size_of::<$number>();
            #[inline(always)]
            fn put(&self, to: &mut Put<'_>) {
                to.bytes(self.to_le_bytes());
            }
            #[inline(always)]
            fn take(from: &mut Take<'_>) -> Option<Self> {
                from.bytes().map(Self::from_le_bytes)
            }
        }
    )*};
}

numbers! { u8 u16 u32 u64 }

impl Fixed for bool {
    const WIDTH: usize = 1;
    #[inline(always)]
    fn put(&self, to: &mut Put<'_>) {
        u8::from(*self).put(to);
    }
    #[inline(always)]
    fn take(from: &mut Take<'_>) -> Option<Self> {
        match u8::take(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// Where there is none, its place is zero.
impl<T: Fixed> Fixed for Option<T> {
    const WIDTH: usize = 1 + T::WIDTH;
    #[inline(always)]
    fn put(&self, to: &mut Put<'_>) {
        self.is_some().put(to);
        if let Some((own, rest)) = core::mem::take(&mut to.0).split_at_mut_checked(T::WIDTH) {
            match self {
                Some(value) => value.put(&mut Put(own)),
                None => own.fill(0),
            }
            to.0 = rest;
        }
    }
    #[inline(always)]
    fn take(from: &mut Take<'_>) -> Option<Self> {
        let is_some = bool::take(from)?;
        let mut own = block(T::WIDTH, &mut from.0)?;
        if is_some {
            T::take(&mut own).map(Some)
        } else {
            own.0.iter().all(|&byte| byte == 0).then_some(None)
        }
    }
}

impl<A: Fixed, B: Fixed> Fixed for (A, B) {
    const WIDTH: usize = A::WIDTH + B::WIDTH;
    #[inline(always)]
    fn put(&self, to: &mut Put<'_>) {
        self.0.put(to);
        self.1.put(to);
    }
    #[inline(always)]
    fn take(from: &mut Take<'_>) -> Option<Self> {
        Some((A::take(from)?, B::take(from)?))
    }
}

impl<T: Fixed, const N: usize> Fixed for [T; N]
where
    Self: Default,
{
    const WIDTH: usize = N * T::WIDTH;
    #[inline(always)]
    fn put(&self, to: &mut Put<'_>) {
        self.iter().for_each(|value| value.put(to));
    }
    #[inline(always)]
    fn take(from: &mut Take<'_>) -> Option<Self> {
        let mut all = Self::default();
        for value in &mut all {
            *value = T::take(from)?;
        }
        Some(all)
    }
}

/// Structures of fixed width, field by field; the compiler sees to it that none is forgotten. Behind the fields, in brackets,
/// may stand what has to be true of a value that is taken.
macro_rules! fixed {
    ($($name:path { $($field:ident),* $(,)? } $(($sound:path))?)*) => {$(
        impl $crate::save::codec::Fixed for $name {
            const WIDTH: usize = 0 $(+ $crate::save::codec::width(|of: &Self| &of.$field))*;
            #[inline(always)]
            fn put(&self, to: &mut $crate::save::codec::Put<'_>) {
                let Self { $($field),* } = self;
                $($crate::save::codec::Fixed::put($field, to);)*
            }
            #[inline(always)]
            fn take(from: &mut $crate::save::codec::Take<'_>) -> Option<Self> {
                $(let $field = $crate::save::codec::Fixed::take(from)?;)*
                let value = Self { $($field),* };
                $(if !$sound(&value) {
                    return None;
                })?
                Some(value)
            }
        }
    )*};
}

/// Enums without fields, each case by its number.
macro_rules! numbered {
    ($($name:path { $($number:literal = $case:ident),* $(,)? })*) => {$(
        impl $crate::save::codec::Fixed for $name {
            const WIDTH: usize = 1;
            #[inline(always)]
            fn put(&self, to: &mut $crate::save::codec::Put<'_>) {
                let number: u8 = match self {
                    $(Self::$case => $number,)*
                };
                number.put(to);
            }
            #[inline(always)]
            fn take(from: &mut $crate::save::codec::Take<'_>) -> Option<Self> {
                match <u8 as $crate::save::codec::Fixed>::take(from)? {
                    $($number => Some(Self::$case),)*
                    _ => None,
                }
            }
        }
    )*};
}

pub(crate) use {fixed, numbered};

// ---- what varies in length

/// A state that is written, and the settings that were written last: most connections have those of the one before.
#[derive(Default)]
pub(crate) struct Writer {
    /// Made in advance: filling what is there is cheaper than appending.
    bytes: Vec<u8>,
    /// How much of it is written.
    length: usize,
    settings: Option<Arc<Settings>>,
}

impl Writer {
    /// With room for so many bytes; it grows beyond.
    pub(crate) fn with_room(bytes: usize) -> Self {
        Self { bytes: alloc::vec![0; bytes], ..Self::default() }
    }

    #[cold]
    fn grow(&mut self, least: usize) {
        self.bytes.resize(least.max(2 * self.bytes.len()), 0);
    }

    /// What was written.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(self.length);
        self.bytes
    }
}

/// What is still to be read of a state, and the settings that were read last.
pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a [u8],
    settings: Option<Arc<Settings>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, settings: None }
    }

    /// How many values there can be, if there are said to be `count`: the length is only a claim.
    pub(crate) fn at_most(&self, count: u32, width: usize) -> usize {
        (count as usize).min(self.bytes.len() / width.max(1))
    }
}

/// A value with a canonical form: equal values give equal bytes, and every byte string gives at most one value.
pub(crate) trait Save: Sized {
    fn save(&self, out: &mut Writer);
    fn load(from: &mut Reader<'_>) -> Option<Self>;
}

impl<T: Fixed> Save for T {
    #[inline(always)]
    fn save(&self, out: &mut Writer) {
        put(self, out);
    }
    #[inline(always)]
    fn load(from: &mut Reader<'_>) -> Option<Self> {
        take(&mut from.bytes)
    }
}

impl<T: Save> Save for Vec<T> {
    fn save(&self, out: &mut Writer) {
        (self.len() as u32).save(out);
        for value in self {
            value.save(out);
        }
    }
    fn load(from: &mut Reader<'_>) -> Option<Self> {
        let count = u32::load(from)?;
        // Each takes a byte at least.
        let mut all = Self::with_capacity(from.at_most(count, size_of::<T>()));
        for _ in 0..count {
            all.push(T::load(from)?);
        }
        Some(all)
    }
}

/// A list that is absent where it would be empty.
impl<T: Save> Save for Option<Box<Vec<T>>> {
    fn save(&self, out: &mut Writer) {
        match self {
            Some(list) => list.save(out),
            None => 0_u32.save(out),
        }
    }
    fn load(from: &mut Reader<'_>) -> Option<Self> {
        let list = Vec::load(from)?;
        Some((!list.is_empty()).then(|| Box::new(list)))
    }
}

impl Save for Arc<Settings> {
    fn save(&self, out: &mut Writer) {
        let is_same = out.settings.as_ref().is_some_and(|last| Self::ptr_eq(last, self) || last == self);
        is_same.save(out);
        if !is_same {
            Settings::save(self, out);
            out.settings = Some(Self::clone(self));
        }
    }
    fn load(from: &mut Reader<'_>) -> Option<Self> {
        if bool::load(from)? {
            return from.settings.clone();
        }
        let settings = Self::new(Settings::load(from)?);
        // Where the same could have been said in one byte, nobody has written it.
        if from.settings.as_ref() == Some(&settings) {
            return None;
        }
        from.settings = Some(Self::clone(&settings));
        Some(settings)
    }
}

/// Structures with fields that vary in length: those behind the semicolon, which follow the block of the others.
macro_rules! varying {
    ($($name:path { $($field:ident),* $(,)?; $($long:ident),* $(,)? })*) => {$(
        impl $crate::save::codec::Save for $name {
            fn save(&self, out: &mut $crate::save::codec::Writer) {
                const WIDTH: usize = 0 $(+ $crate::save::codec::width(|of: &$name| &of.$field))*;
                let Self { $($field,)* $($long),* } = self;
                $crate::save::codec::append(WIDTH, out, |to| {
                    $($crate::save::codec::Fixed::put($field, to);)*
                });
                $($crate::save::codec::Save::save($long, out);)*
            }
            fn load(from: &mut $crate::save::codec::Reader<'_>) -> Option<Self> {
                const WIDTH: usize = 0 $(+ $crate::save::codec::width(|of: &$name| &of.$field))*;
                let mut block = $crate::save::codec::block(WIDTH, &mut from.bytes)?;
                $(let $field = $crate::save::codec::Fixed::take(&mut block)?;)*
                $(let $long = $crate::save::codec::Save::load(from)?;)*
                Some(Self { $($field,)* $($long),* })
            }
        }
    )*};
}

/// Values that are loaded over one that is there, so that nothing is moved and memory is used again. After a failure the value
/// is no one's.
pub(crate) trait Refill {
    fn save(&self, out: &mut Writer);
    fn refill(&mut self, from: &mut Reader<'_>) -> Option<()>;
}

/// The same as `varying`, loaded in place: behind the second semicolon stands what is refilled itself.
macro_rules! refilled {
    ($($name:path { $($field:ident),* $(,)?; $($long:ident),* $(,)?; $($own:ident),* $(,)? })*) => {$(
        impl $crate::save::codec::Refill for $name {
            fn save(&self, out: &mut $crate::save::codec::Writer) {
                const WIDTH: usize = 0 $(+ $crate::save::codec::width(|of: &$name| &of.$field))*;
                let Self { $($field,)* $($long,)* $($own),* } = self;
                $crate::save::codec::append(WIDTH, out, |to| {
                    $($crate::save::codec::Fixed::put($field, to);)*
                });
                $($crate::save::codec::Save::save($long, out);)*
                $($crate::save::codec::Refill::save($own, out);)*
            }
            fn refill(&mut self, from: &mut $crate::save::codec::Reader<'_>) -> Option<()> {
                const WIDTH: usize = 0 $(+ $crate::save::codec::width(|of: &$name| &of.$field))*;
                let mut block = $crate::save::codec::block(WIDTH, &mut from.bytes)?;
                let Self { $($field,)* $($long,)* $($own),* } = self;
                $(*$field = $crate::save::codec::Fixed::take(&mut block)?;)*
                $(*$long = $crate::save::codec::Save::load(from)?;)*
                $($crate::save::codec::Refill::refill($own, from)?;)*
                Some(())
            }
        }
    )*};
}

pub(crate) use {refilled, varying};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_only_from_their_own_bytes() {
        let mut out = Writer::default();
        put(&(Some(7_u32), [1_u64, u64::MAX]), &mut out);
        put(&(None::<u16>, true), &mut out);
        let out = out.finish();
        let mut from = out.as_slice();
        assert_eq!(take(&mut from), Some((Some(7_u32), [1_u64, u64::MAX])));
        assert_eq!(take(&mut from), Some((None::<u16>, true)));
        assert!(from.is_empty());
        assert_eq!(take::<Option<u16>>(&mut [0, 0, 1].as_slice()), None, "none is all zero");
        assert_eq!(take::<bool>(&mut [2].as_slice()), None);
        assert_eq!(take::<u32>(&mut [1, 2, 3].as_slice()), None);
    }

    #[test]
    fn settings_are_written_where_they_change() {
        let one = Arc::new(Settings::default());
        let other = Arc::new(Settings { nodelay: true, ..Settings::default() });
        let mut out = Writer::default();
        // The same by value is the same, whoever holds it.
        let all = Vec::from([Arc::clone(&one), Arc::new(Settings::default()), other, one]);
        all.save(&mut out);
        let out = out.finish();
        let mut from = Reader::new(&out);
        let loaded = Vec::<Arc<Settings>>::load(&mut from).unwrap();
        assert_eq!(loaded, all);
        assert!(Arc::ptr_eq(&loaded[0], &loaded[1]) && from.bytes.is_empty());
        assert_eq!(out.len(), 4 + 4 + 3 * Settings::WIDTH);
    }
}
