//! Random ids of traces and spans (W3C Trace Context, level 2).

use std::cell::RefCell;

use rand::{Rng, rngs::Xoshiro256PlusPlus};

thread_local! {
    /// Seeded by the operating system: 256 bits of state, so that no two threads of any two workers
    /// run through the same ids.
    static RANDOM: RefCell<Xoshiro256PlusPlus> = RefCell::new(rand::make_rng());
}

/// Returns a new trace id. All of its bits are random, and it is not zero.
pub(super) fn trace_id() -> u128 {
    loop {
        let id = u128::from(random()) << 64 | u128::from(random());
        if id != 0 {
            return id;
        }
    }
}

/// Returns a new span id, which is not zero.
pub(super) fn span_id() -> u64 {
    loop {
        let id = random();
        if id != 0 {
            return id;
        }
    }
}

fn random() -> u64 {
    RANDOM.with_borrow_mut(Rng::next_u64)
}
