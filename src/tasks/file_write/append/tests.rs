use proptest::prelude::*;

use super::*;

/// A disk of bytes with room for so many; it takes so many at once.
#[derive(Debug)]
struct Small {
    bytes: Vec<u8>,
    room: usize,
    step: usize,
}

impl Disk for Small {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.step).min(self.room - self.bytes.len());
        if count == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn length(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.bytes.len() as u64))
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.bytes.truncate(usize::try_from(length).unwrap());
        Ok(())
    }
}

proptest! {
    #[test]
    fn an_append_leaves_all_or_nothing(before in 0..10_usize, length in 0..20_usize, room in 10..30_usize, step in 1..6_usize) {
        let mut disk = Small { bytes: vec![b'.'; before], room, step };
        let added = vec![b'x'; length];
        match append(&mut disk, before as u64, &added) {
            Ok(done) => {
                prop_assert_eq!(disk.bytes.len(), before + length);
                prop_assert!(undo(&mut disk, done).unwrap());
            }
            Err(Failed { error, undone }) => {
                prop_assert_eq!(error.kind(), ErrorKind::StorageFull);
                prop_assert!(undone.unwrap());
                prop_assert!(before + length > room);
            }
        }
        prop_assert_eq!(disk.bytes, vec![b'.'; before]);
    }
}

#[test]
fn what_others_wrote_behind_it_is_not_cut_off() {
    let mut disk = Small { bytes: Vec::new(), room: 100, step: 100 };
    let done = append(&mut disk, 0, b"mine\n").unwrap();
    disk.bytes.extend_from_slice(b"yours\n");
    assert!(!undo(&mut disk, done).unwrap());
    assert_eq!(disk.bytes, b"mine\nyours\n");
}

/// A disk that is full after two bytes, while another task writes to it or it cannot be cut.
struct Contested {
    bytes: Vec<u8>,
    theirs: &'static [u8],
    cut: Result<(), ErrorKind>,
}

impl Disk for Contested {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(&bytes[..2]);
            return Ok(2);
        }
        self.bytes.extend_from_slice(self.theirs);
        Err(ErrorKind::StorageFull.into())
    }

    fn length(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.bytes.len() as u64))
    }

    fn cut(&mut self, _: u64) -> io::Result<()> {
        Ok(self.cut?)
    }
}

#[test]
fn a_failure_names_its_own_cause_and_says_whether_its_torn_line_stays() {
    let append = |theirs, cut| {
        let failed = append(&mut Contested { bytes: Vec::new(), theirs, cut }, 0, b"mine\n").unwrap_err();
        assert_eq!(failed.error.kind(), ErrorKind::StorageFull);
        failed.undone.map_err(|error| error.kind())
    };
    assert_eq!(append(b"", Ok(())), Ok(true));
    assert_eq!(append(b"yours\n", Ok(())), Ok(false));
    assert_eq!(append(b"", Err(ErrorKind::TimedOut)), Err(ErrorKind::TimedOut));
}

#[test]
fn whole_lines_end_at_the_last_line_end_however_far_back() {
    for (text, whole) in [
        (String::new(), 0),
        ("a\n".to_owned(), 2),
        ("a\nb".to_owned(), 2),
        ("ab".to_owned(), 0),
        (format!("a\n{}", "x".repeat(200_000)), 2),
        (format!("{}\nx", "a".repeat(200_000)), 200_001),
    ] {
        let mut file = tempfile::tempfile().unwrap();
        Write::write_all(&mut file, text.as_bytes()).unwrap();
        assert_eq!(whole_lines(&file, text.len() as u64).unwrap(), whole);
    }
}
