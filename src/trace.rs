//! Where an event stands in its trace, and the clock that it is timed with.
//!
//! Owns what is known of a trace without a span. Must not know events, nor what is exported.

mod clock;
mod context;
mod remote;

pub use clock::Ticks;
pub(crate) use clock::follow_wall_clock;
pub use context::TraceContext;
pub use remote::Remote;

/// When something happened, and where in its trace. The default is not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// When; not set if it was not timed.
    pub at: Ticks,
    /// Below which span.
    pub context: TraceContext,
}
