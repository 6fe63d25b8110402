//! `flowgen run` as a process: records, exit codes, signals, pipes, memory.

mod pipes;
mod records;
mod reload;
mod signals;
mod terminal;
