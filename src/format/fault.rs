//! What a failed read or write amounts to.

use std::io::{self, ErrorKind};

use super::{IO, STORAGE_FULL};
use crate::task::TaskError;

/// Makes the error of `doing`, which says what could not be done.
///
/// A full disk is transient, and so is what may pass by itself; what a person has to mend is permanent. A
/// reader that went away closes the flow.
pub fn io_error(doing: impl Into<String>, error: io::Error) -> TaskError {
    let made = match error.kind() {
        ErrorKind::BrokenPipe => TaskError::closed(doing),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => TaskError::transient(STORAGE_FULL, doing),
        ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::InvalidInput
        | ErrorKind::InvalidData
        | ErrorKind::InvalidFilename
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::FileTooLarge
        | ErrorKind::Unsupported => TaskError::permanent(IO, doing),
        _ => TaskError::transient(IO, doing),
    };
    made.with_source(error)
}
