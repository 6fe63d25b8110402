//! stub
use std::error::Error;
/// stub
pub fn failure(error: &(dyn Error + 'static)) {
    crate::telemetry::stderr::write(format!("error: {error}\n").as_bytes());
}
