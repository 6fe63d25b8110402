//! How the work of a span relates to what is outside the worker.

/// The kind of a span, with the numbers that OTLP gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SpanKind {
    /// Work inside the worker.
    #[default]
    Internal = 1,
    /// Serves a request from outside.
    Server = 2,
    /// Sends a request and waits for the response.
    Client = 3,
    /// Hands a message to a broker.
    Producer = 4,
    /// Takes a message from a broker.
    Consumer = 5,
}
