//! Log lines on stderr.

/// Who a log line comes from.
#[derive(Debug)]
pub struct Identity;
/// The current hop.
#[derive(Debug)]
pub struct Hop;
/// Starts logging.
pub fn init() {}
