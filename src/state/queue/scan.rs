//! Looks through the files of a queue: what is there, and what a crash has torn.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufReader, Read as _},
    path::Path,
};

use super::{
    Part, first_of,
    frame::{FRAME, Frame, HEAD, Head, read_head},
    path,
};
use crate::state::StateError;

/// What the files of a queue hold.
pub(super) struct Found {
    pub(super) files: VecDeque<Part>,
    /// Bytes behind the last record that were never accepted.
    pub(super) torn: u64,
}

/// Looks through all files of which anything is not done, and changes nothing. Without a position there are to be none.
pub(super) fn scan(directory: &Path, done: Option<u64>) -> Result<Found, StateError> {
    let at = directory.display();
    let cannot = |error: io::Error| StateError::because(format!("cannot read the queue in `{at}`"), error);
    let mut firsts = Vec::new();
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        firsts.extend(name.to_str().and_then(first_of));
    }
    firsts.sort_unstable();
    let Some(done) = done else {
        if firsts.is_empty() {
            return Ok(Found { files: VecDeque::new(), torn: 0 });
        }
        return Err(refused(directory, "it is not known how far it is done"));
    };
    let mut files = VecDeque::new();
    let mut torn = 0;
    for (n, first) in firsts.iter().copied().enumerate() {
        let next = firsts.get(n + 1).copied();
        let bytes = fs::metadata(path(directory, first)).map_err(cannot)?.len();
        if next.is_some_and(|next| next <= done) {
            files.push_back(Part { first, end: next.unwrap_or(first), bytes });
            continue;
        }
        if let Some(missing) = files.back().map(|before: &Part| before.end).filter(|end| *end != first) {
            return Err(missing_between(directory, missing, first));
        }
        let (part, rest) = look_through(directory, first, bytes, next.is_none())?;
        if let Some(next) = next.filter(|next| *next != part.end) {
            return Err(missing_between(directory, part.end, next));
        }
        torn = rest;
        files.push_back(part);
    }
    match files.front() {
        Some(oldest) if oldest.first > done => Err(missing_between(directory, done, oldest.first)),
        _ => Ok(Found { files, torn }),
    }
}

fn missing_between(directory: &Path, from: u64, to: u64) -> StateError {
    refused(directory, &format!("events {from} to {to} are gone from it"))
}

/// Says that a queue cannot be used, and what to do.
fn refused(directory: &Path, why: &str) -> StateError {
    StateError::new(format!(
        "the queue in `{}` is broken, {why}: restore it from a copy, or keep it for examination under another name, to \
         begin with an empty one",
        directory.display()
    ))
}

/// Looks through one file. Returns what is in it, and how many bytes follow that were never accepted.
fn look_through(directory: &Path, first: u64, bytes: u64, is_last: bool) -> Result<(Part, u64), StateError> {
    let name = path(directory, first);
    let cannot = |error: io::Error| StateError::because(format!("cannot read `{}`", name.display()), error);
    let mut file = BufReader::with_capacity(256 << 10, File::open(&name).map_err(cannot)?);
    if is_last && bytes < HEAD as u64 {
        // It was being made.
        return Ok((Part { first, end: first, bytes: 0 }, bytes));
    }
    let mut head = [0; HEAD];
    if bytes >= HEAD as u64 {
        file.read_exact(&mut head).map_err(cannot)?;
    }
    match read_head(&head) {
        Head::Known(known) if known == first => {}
        Head::Version(version) => {
            return Err(StateError::new(format!(
                "the queue in `{}` is of version {version}, and this version of flowgen knows 1: use the version that \
                 wrote it",
                directory.display()
            )));
        }
        Head::Known(_) | Head::Foreign => {
            return Err(refused(directory, &format!("`{}` does not begin as it should", name.display())));
        }
    }
    let mut whole = HEAD as u64;
    let mut number = first;
    let mut record = Vec::new();
    while let Some(length) = next_record(&mut file, &mut record, number).map_err(cannot)? {
        whole += (FRAME + length) as u64;
        number += 1;
    }
    let rest = bytes - whole;
    if rest > 0 && (!is_last || was_synced(&name, whole, number).map_err(cannot)?) {
        let why = format!("event {number} at byte {whole} of `{}` is not as it was written", name.display());
        return Err(refused(directory, &why));
    }
    Ok((Part { first, end: number, bytes: whole }, rest))
}

/// Reads the record of this number, if it is there and whole. Returns its length.
fn next_record(file: &mut impl io::Read, record: &mut Vec<u8>, number: u64) -> io::Result<Option<usize>> {
    record.clear();
    if file.take(FRAME as u64).read_to_end(record)? < FRAME {
        return Ok(None);
    }
    let Some(frame) = Frame::read(record).filter(|frame| frame.number == number) else { return Ok(None) };
    record.clear();
    // No more is taken than there is, whatever a damaged length says.
    file.take(frame.length as u64).read_to_end(record)?;
    Ok(frame.matches(record).then_some(frame.length))
}

/// Returns whether the record of this number had been synced, which has its place here and is not whole: a later one
/// says so. Without one it was being written.
fn was_synced(name: &Path, from: u64, number: u64) -> io::Result<bool> {
    let bytes = fs::read(name)?;
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    // No file holds more records than that.
    let most = number + (bytes.len() / FRAME) as u64;
    let is_later = |at: usize| {
        let Some(frame) = Frame::read(&bytes[at..]) else { return false };
        let start = at + FRAME;
        (number + 1..=most).contains(&frame.number)
            && frame.synced > number
            && bytes.get(start..start + frame.length).is_some_and(|record| frame.matches(record))
    };
    Ok((from + 1..bytes.len().saturating_sub(FRAME)).any(is_later))
}
