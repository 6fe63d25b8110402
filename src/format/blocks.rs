//! Blocks of bytes, read by a thread of their own.
//!
//! Not `spawn_blocking`, for which the runtime waits at the end: a read of stdin may never return, and
//! that must not hold up the exit. Nobody joins the thread. It ends with its input, or with the first
//! block that nobody takes any more.

use std::{
    io::{self, ErrorKind, Read},
    sync::mpsc as blocking,
    thread,
    time::Duration,
};

use tokio::sync::mpsc;

/// How much is read at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// How many blocks wait to be taken. Another is being read and another one worked on.
const WAITING: usize = 1;

/// How long to wait before another look at an input that is empty and does not block.
const EMPTY_PAUSE: Duration = Duration::from_millis(5);

/// A block of bytes.
#[derive(Debug)]
pub struct Block {
    buffer: Vec<u8>,
    length: usize,
}

impl Block {
    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

/// The blocks of one input, in order.
#[derive(Debug)]
pub struct Blocks {
    filled: mpsc::Receiver<io::Result<Block>>,
    spare: blocking::SyncSender<Vec<u8>>,
}

impl Blocks {
    /// Starts to read what `open` opens.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn read<R: Read>(open: impl FnOnce() -> io::Result<R> + Send + 'static) -> io::Result<Self> {
        let (blocks, filler) = Self::channel();
        thread::Builder::new().name("flowgen-read".to_owned()).spawn(move || match open() {
            Ok(input) => filler.fill(input),
            Err(error) => filler.fail(error),
        })?;
        Ok(blocks)
    }

    /// Makes blocks that are read by a thread that is there already.
    pub fn channel() -> (Self, Filler) {
        let (sender, filled) = mpsc::channel(WAITING);
        let (spare, emptied) = blocking::sync_channel(WAITING + 1);
        (Self { filled, spare }, Filler { emptied, sender })
    }

    /// Returns the next block if it is there already.
    pub fn ready(&mut self) -> Option<io::Result<Block>> {
        self.filled.try_recv().ok()
    }

    /// Waits for the next block; `None` is the end. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<io::Result<Block>> {
        self.filled.recv().await
    }

    /// Gives a block back, for its memory.
    pub fn recycle(&self, block: Block) {
        // With no room for it, or no one to fill it, it is freed.
        drop(self.spare.try_send(block.buffer));
    }
}

/// Fills blocks.
#[derive(Debug)]
pub struct Filler {
    emptied: blocking::Receiver<Vec<u8>>,
    sender: mpsc::Sender<io::Result<Block>>,
}

impl Filler {
    /// Reads an input to its end, or until nobody takes its blocks any more.
    pub fn fill(self, input: impl Read) {
        fill(input, &self.emptied, &self.sender).unwrap_or_else(|error| self.fail(error));
    }

    fn fail(&self, error: io::Error) {
        // Nobody may be there to learn it.
        drop(self.sender.blocking_send(Err(error)));
    }
}

fn fill(
    mut input: impl Read,
    emptied: &blocking::Receiver<Vec<u8>>,
    sender: &mpsc::Sender<io::Result<Block>>,
) -> io::Result<()> {
    loop {
        let mut buffer = emptied.try_recv().unwrap_or_else(|_| vec![0; BLOCK_BYTES]);
        let length = loop {
            match input.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Standard input may be shared with a process that wants it so.
                Err(error) if error.kind() == ErrorKind::WouldBlock && !sender.is_closed() => {
                    thread::sleep(EMPTY_PAUSE);
                }
                result => break result?,
            }
        };
        if length == 0 || sender.blocking_send(Ok(Block { buffer, length })).is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has nothing to give every other time.
    struct Hesitant(Vec<&'static [u8]>, bool);

    impl Read for Hesitant {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let bytes = self.0.pop().unwrap_or_default();
            buffer[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        }
    }

    #[tokio::test]
    async fn an_input_that_does_not_block_is_waited_for() {
        let mut blocks = Blocks::read(|| Ok(Hesitant(vec![b"two", b"one"], false))).unwrap();
        let mut read = Vec::new();
        while let Some(block) = blocks.next().await {
            read.extend_from_slice(block.unwrap().bytes());
        }
        assert_eq!(read, b"onetwo");
    }
}
