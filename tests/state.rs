//! What outlives the worker, with the real binary.

mod crash;
mod letters;
mod refused;
