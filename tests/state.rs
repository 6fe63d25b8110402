//! What outlives the worker, with the real binary.

mod crash;
mod durable;
mod letters;
mod refused;
mod rotation;
