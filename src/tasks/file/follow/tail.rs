//! Reads on in a file that others write to, and never mixes what was in it with what replaced that.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

use super::super::identity::Head;

/// How much is read of one file before others have their turn.
const TURN_BYTES: u64 = 16 * 1024 * 1024;

/// Reads a file from an offset to its end as it is now.
#[derive(Debug)]
pub(super) struct Tail {
    file: Arc<File>,
    offset: u64,
    /// How the file began when it was opened for this.
    head: Head,
    left: u64,
}

impl Tail {
    /// Makes a reader that reads at least one record of `limit` bytes, however much there is.
    pub(super) fn new(file: Arc<File>, offset: u64, head: Head, limit: usize) -> Self {
        Self { file, offset, head, left: TURN_BYTES.max(2 * limit as u64) }
    }

    /// Returns how the file begins, as far as that is known now.
    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Returns how many bytes it reads at most.
    pub(super) fn room(&self) -> u64 {
        self.left
    }
}

impl Read for &mut Tail {
    /// Ends also where the file turns out to be another: what was just read may be of either, and is left alone.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.file.read_at(&mut buffer[..room], self.offset)?;
        let end = self.offset + length as u64;
        let mut head = self.head.clone();
        head.extend(self.offset, &buffer[..length]);
        // A file that is shorter now was truncated after the read: there was something to read at that place.
        let is_of_one =
            length == 0 || self.file.metadata()?.len() < end || Head::read(&self.file)?.begins_with(&head);
        if !is_of_one {
            return Ok(0);
        }
        self.head = head;
        self.offset = end;
        self.left -= length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use tempfile::TempDir;

    use super::*;

    fn scene(text: &str) -> (TempDir, PathBuf, Arc<File>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in");
        fs::write(&path, text).unwrap();
        let file = Arc::new(File::open(&path).unwrap());
        (folder, path, file)
    }

    /// Reads so many bytes at most.
    fn read(mut tail: &mut Tail, bytes: usize) -> String {
        let mut buffer = vec![0; bytes];
        let length = tail.read(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn what_is_appended_is_read_on() {
        let (_folder, path, file) = scene("");
        let head = Head::read(&file).unwrap();
        let mut tail = Tail::new(file, 0, head, 10);
        for text in ["ab", "", "cd"] {
            let before = fs::read_to_string(&path).unwrap();
            fs::write(&path, before + text).unwrap();
            assert_eq!(read(&mut tail, 100), text);
        }
    }

    /// Scenario: between two reads a file is truncated and rewritten, to more than was read. Guarantee: nothing of the new
    /// content is taken for more of the old one, also if the file was empty when the reading began.
    #[test]
    fn what_replaced_the_content_is_not_read_on() {
        for known in ["", "ab", "abcdef"] {
            let (_folder, path, file) = scene(known);
            let head = Head::read(&file).unwrap();
            let mut tail = Tail::new(file, 0, head, 10);
            fs::write(&path, "abcdef").unwrap();
            assert_eq!(read(&mut tail, 3), "abc");
            fs::write(&path, "uvwxyz").unwrap();
            assert_eq!(read(&mut tail, 3), "");
        }
    }

    #[test]
    fn a_turn_has_an_end() {
        let (_folder, _, file) = scene(&"x".repeat(100));
        let mut tail = Tail { left: 10, ..Tail::new(file, 0, Head::default(), 1) };
        assert_eq!(read(&mut tail, 7).len() + read(&mut tail, 7).len() + read(&mut tail, 7).len(), 10);
    }
}
