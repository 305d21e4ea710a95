//! The TCP core natively, by the same cases, the same changes of them, the same host and the same eyes as `bulkhead fuzz`: what
//! differs is the engine, and that nothing holds the core in.
#![no_main]

use std::cell::RefCell;

use bulkhead::fuzz::{Executor, World};
use bulkhead::placement::native::Native;
use bulkhead_libfuzzer as shared;
use libfuzzer_sys::{Corpus, fuzz_crossover, fuzz_mutator, fuzz_target};

thread_local! {
    static EXECUTOR: RefCell<(Executor, World)> = RefCell::new((Executor::default(), World::new(1, &[])));
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some(case) = shared::case(bytes) else { return Corpus::Reject };
    EXECUTOR.with_borrow_mut(|(executor, world)| {
        let instance = Native::new(Box::new(bulkhead_tcp::Tcp::new()));
        let outcome = executor.run(Box::new(instance), world, &case, None);
        assert!(outcome.finding.is_none(), "{:?}\n{case}", outcome.finding);
    });
    Corpus::Keep
});

fuzz_mutator!(|bytes: &mut [u8], size: usize, _max: usize, seed: u32| { shared::change(bytes, size, seed) });
fuzz_crossover!(|one: &[u8], other: &[u8], into: &mut [u8], seed: u32| {
    shared::cross(one, other, into, seed)
});
