//! Comparison of integers above `i64::MAX` with other numbers.
//!
//! They are `u64` in a script, so that ids of that size stay exact. Without these functions Rhai would
//! take numbers of two types for unequal; arithmetic across the types stays an error.

use rhai::Engine;

pub(super) fn register(engine: &mut Engine) {
    macro_rules! compare {
        ($($operator:tt),*) => {$(
            engine.register_fn(stringify!($operator), |a: u64, b: i64| i128::from(a) $operator i128::from(b));
            engine.register_fn(stringify!($operator), |a: i64, b: u64| i128::from(a) $operator i128::from(b));
            engine.register_fn(stringify!($operator), |a: u64, b: f64| (a as f64) $operator b);
            engine.register_fn(stringify!($operator), |a: f64, b: u64| a $operator (b as f64));
        )*};
    }
    compare!(==, !=, <, <=, >, >=);
}
