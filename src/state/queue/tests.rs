use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const MOST: u64 = 1 << 20;

fn open(directory: &Path) -> Opened {
    Queue::open(directory, MOST).unwrap()
}

fn refusal(directory: &Path) -> String {
    let before = snapshot(directory);
    let error = Queue::open(directory, MOST).unwrap_err().to_string();
    assert_eq!(snapshot(directory), before, "a queue that is refused is left as it was");
    error
}

fn snapshot(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> =
        files(directory).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

/// Returns the files with records, in order.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files
}

/// Returns what the record of this number is: of different lengths, and never the same.
fn record(number: u64) -> Vec<u8> {
    let length = usize::try_from(number % 7 * 40).unwrap();
    format!("{number:08}{}", "x".repeat(length)).into_bytes()
}

fn append(opened: &mut Opened, count: u64, sync: bool) {
    let mut frames = Frames::default();
    let first = opened.queue.end();
    frames.begin(first, opened.appender.synced());
    for number in first..first + count {
        frames
            .push(|bytes| {
                bytes.extend_from_slice(&record(number));
                Ok(())
            })
            .unwrap();
    }
    opened.appender.append(&frames, sync).unwrap();
}

/// Reads all that is there.
fn rest(opened: &mut Opened) -> Vec<u64> {
    let mut numbers = Vec::new();
    let end = opened.queue.end();
    while opened.reader.next() < end {
        opened
            .reader
            .read(end, 500, |number, bytes| {
                assert_eq!(bytes, record(number));
                numbers.push(number);
                Ok(())
            })
            .unwrap();
    }
    numbers
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("queues/flow/in");
    (folder, directory)
}

#[derive(Clone, Debug)]
enum Act {
    Append(u64, bool),
    Read,
    Release,
    Reopen,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is appended, read, released and opened again: every record that is not done is read, once and in order.
    #[test]
    fn every_record_is_read_in_order_until_it_is_done(
        acts in prop::collection::vec(
            prop_oneof![
                (1..800_u64, any::<bool>()).prop_map(|(count, sync)| Act::Append(count, sync)),
                Just(Act::Read),
                Just(Act::Release),
                Just(Act::Reopen),
            ],
            1..40,
        ),
    ) {
        let (_folder, directory) = folder();
        let mut opened = open(&directory);
        let (mut done, mut read) = (0, 0);
        for act in acts {
            match act {
                Act::Append(count, sync) => append(&mut opened, count, sync),
                Act::Read => {
                    let end = opened.queue.end();
                    prop_assert_eq!(rest(&mut opened), (read..end).collect::<Vec<_>>());
                    read = end;
                }
                Act::Release => {
                    opened.queue.keep(read).unwrap();
                    done = read;
                }
                Act::Reopen => {
                    let end = opened.queue.end();
                    drop(opened);
                    opened = open(&directory);
                    prop_assert_eq!((opened.queue.end(), opened.torn), (end, 0));
                    read = done;
                }
            }
            let on_disk: u64 = files(&directory).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
            prop_assert_eq!(opened.queue.bytes(), on_disk);
            let kept = opened.queue.files().iter().filter(|part| part.end <= done).count();
            prop_assert!(kept <= 1, "{} files are kept for nothing", kept);
        }
    }

    /// Wherever the last file ends after a crash, only what was not synced may be missing, and nothing else is there.
    #[test]
    fn a_torn_end_is_cut_off(synced in 0..40_u64, rest_of in 1..20_u64, cut in 0.0..1.0_f64) {
        let (_folder, directory) = folder();
        let mut opened = open(&directory);
        if synced > 0 {
            append(&mut opened, synced, true);
        }
        let safe = opened.queue.bytes();
        append(&mut opened, rest_of, false);
        let whole = opened.queue.bytes();
        drop(opened);
        let length = safe + ((whole - safe) as f64 * cut) as u64;
        let file = fs::OpenOptions::new().write(true).open(&files(&directory)[0]).unwrap();
        file.set_len(length).unwrap();
        // A machine that crashed may have made the file longer before it wrote what is in it.
        if length.is_multiple_of(2) {
            file.set_len(whole).unwrap();
        }
        let mut opened = open(&directory);
        let end = opened.queue.end();
        prop_assert!((synced..synced + rest_of).contains(&end));
        append(&mut opened, 3, true);
        prop_assert_eq!(rest(&mut opened), (0..end + 3).collect::<Vec<_>>());
    }

    /// Whatever byte of what was synced and is not done is another one: it is refused, or at least not read as if it was right.
    #[test]
    fn damage_is_never_read_over(at in 0.0..1.0_f64, bit in 0..8_u32) {
        let (_folder, directory) = folder();
        let mut opened = open(&directory);
        for _ in 0..5 {
            append(&mut opened, 4, true);
        }
        drop(opened);
        let path = &files(&directory)[0];
        let mut bytes = fs::read(path).unwrap();
        // What the last append holds has nothing behind it that says that it was synced.
        let last: usize = (16..20).map(|n| record(n).len() + frame::FRAME).sum();
        let at = ((bytes.len() - last) as f64 * at) as usize;
        bytes[at] ^= 1 << bit;
        fs::write(path, bytes).unwrap();
        let error = refusal(&directory);
        prop_assert!(error.contains("broken") || error.contains("version"), "{}", error);
    }
}

#[test]
fn a_queue_begins_another_file_and_removes_those_that_are_done() {
    let (_folder, directory) = folder();
    let mut opened = open(&directory);
    for _ in 0..20 {
        append(&mut opened, 100, true);
    }
    assert!(files(&directory).len() > 3);
    assert!(!opened.queue.has_room(MOST) && opened.queue.has_room(1));
    rest(&mut opened);
    opened.queue.keep(2_000).unwrap();
    assert_eq!(files(&directory).len(), 1);
    assert!(opened.queue.has_room(10 * MOST), "one that is empty has room for anything");
}

#[test]
fn a_file_that_is_gone_or_of_another_program_is_refused() {
    let (_folder, directory) = folder();
    let mut opened = open(&directory);
    for _ in 0..20 {
        append(&mut opened, 100, true);
    }
    drop(opened);
    let files = files(&directory);
    let kept = fs::read(&files[1]).unwrap();
    fs::remove_file(&files[1]).unwrap();
    assert!(refusal(&directory).contains("are gone from it"));
    fs::write(&files[1], &kept[..kept.len() - 10]).unwrap();
    assert!(refusal(&directory).contains("is not as it was written"));
    fs::write(&files[1], b"something else entirely, and long enough").unwrap();
    assert!(refusal(&directory).contains("does not begin as it should"));
    fs::write(&files[1], &kept).unwrap();
    fs::remove_file(&files[0]).unwrap();
    assert!(refusal(&directory).contains("events 0 to "));
    fs::remove_file(directory.join("position")).unwrap();
    assert!(refusal(&directory).contains("it is not known how far it is done"));
}

#[test]
fn of_a_position_that_was_being_written_the_one_before_holds() {
    let (_folder, directory) = folder();
    let mut opened = open(&directory);
    append(&mut opened, 30, true);
    opened.queue.keep(10).unwrap();
    opened.queue.keep(20).unwrap();
    drop(opened);
    let file = directory.join("position");
    let whole = fs::read(&file).unwrap();
    assert_eq!(rest(&mut open(&directory)), (20..30).collect::<Vec<_>>());
    let mut found = Vec::new();
    for place in whole.chunks(whole.len() / 2).enumerate().map(|(n, _)| n * whole.len() / 2) {
        for torn in [0, 3, 12, 19] {
            let mut bytes = whole.clone();
            bytes[place + torn] ^= 1;
            fs::write(&file, bytes).unwrap();
            found.push(rest(&mut open(&directory))[0]);
        }
    }
    found.dedup();
    found.sort_unstable();
    assert_eq!(found, [10, 20]);
    fs::write(&file, vec![7; whole.len()]).unwrap();
    assert!(refusal(&directory).contains("it is not known how far it is done"));
}

#[test]
fn another_version_is_named() {
    let (_folder, directory) = folder();
    drop(open(&directory));
    let path = &files(&directory)[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[8] = 2;
    let checksum = crc32fast::hash(&bytes[..20]);
    bytes[20..24].copy_from_slice(&checksum.to_le_bytes());
    fs::write(path, bytes).unwrap();
    assert!(refusal(&directory).contains("version 2"));
}

#[test]
fn a_file_that_was_being_made_is_made_again() {
    let (_folder, directory) = folder();
    let mut opened = open(&directory);
    append(&mut opened, 10, true);
    drop(opened);
    for length in [0, 5, frame::HEAD - 1] {
        fs::write(path(&directory, 10), &frame::head(10)[..length]).unwrap();
        let mut opened = open(&directory);
        assert_eq!(opened.queue.end(), 10);
        assert_eq!(rest(&mut opened).len(), 10);
    }
}

#[test]
fn what_was_done_and_not_synced_is_not_missed() {
    let (_folder, directory) = folder();
    let mut opened = open(&directory);
    append(&mut opened, 10, true);
    let synced = opened.queue.bytes();
    append(&mut opened, 15, false);
    opened.queue.keep(25).unwrap();
    drop(opened);
    // All of 25 events were done, of which the disk has 10.
    fs::OpenOptions::new().write(true).open(&files(&directory)[0]).unwrap().set_len(synced).unwrap();
    let mut opened = open(&directory);
    append(&mut opened, 5, true);
    drop(opened);
    assert_eq!(rest(&mut open(&directory)), (25..30).collect::<Vec<_>>());
}
