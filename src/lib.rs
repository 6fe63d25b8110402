//! flowgen runs event flows that are written in YAML.
//!
//! The binary is a thin shell around this library. `docs/architecture.md` tells the layers and the
//! life of one event; a module imports from lower layers only:
//!
//! | layer | modules |
//! |---|---|
//! | 5 | `cli` (and `main`) |
//! | 4 | `commands` |
//! | 3 | `config`, `runtime`, `tasks` |
//! | 2 | `plan`, `registry`, `services` |
//! | 1 | `task`, `script`, `template`, `format` |
//! | 0 | `event`, `ack`, `retry`, `shutdown`, `problem`, `report`, `telemetry`, `tls` |

pub mod ack;
pub mod cli;
pub mod commands;
pub mod config;
pub mod event;
pub mod format;
pub mod plan;
pub mod problem;
pub mod registry;
pub mod report;
pub mod retry;
pub mod runtime;
pub mod script;
pub mod services;
pub mod shutdown;
pub mod state;
pub mod task;
pub mod tasks;
pub mod telemetry;
pub mod template;
pub mod tls;
pub mod trace;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use tasks::fuzzing;
