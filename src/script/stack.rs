//! Ends calls that nest too deeply for the stack of their thread, where a crash would end the process.
//!
//! How much stack a call takes depends on the script and the build, so the number of calls alone does not
//! tell: 64 calls of a function with deep expressions may need more than 1000 of a plain one.

use std::{cell::Cell, hint::black_box, ptr};

/// How much stack a run may use. Threads have 2 MiB; what is above the run and what is called below the
/// last look at the stack has the rest.
const BYTES: usize = 1024 * 1024;

thread_local! {
    /// Where the stack of the run begins that this thread is at.
    static START: Cell<usize> = const { Cell::new(0) };
}

/// Does a run, whose stack begins here.
pub(super) fn measured<T>(run: impl FnOnce() -> T) -> T {
    let outer = START.replace(here());
    let result = run();
    START.set(outer);
    result
}

/// Returns whether the run has used up its stack.
pub(super) fn is_used_up() -> bool {
    START.get().abs_diff(here()) > BYTES
}

fn here() -> usize {
    let mark = 0_u8;
    ptr::from_ref(black_box(&mark)).addr()
}
