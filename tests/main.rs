//! The integration tests: one binary, so that it links once.

mod bench;
mod cli;
mod config;
mod engine;
mod examples;
mod kinds;
mod layers;
mod run;
mod support;
