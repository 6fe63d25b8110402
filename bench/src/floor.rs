//! The floor: what the same work costs without an engine.

use std::{
    fs::File,
    hint::black_box,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// As the flow's `channel_capacity`.
const CAPACITY: usize = 1024;
/// As many events are taken and sent at once.
const BATCH: usize = 64;
/// What an event of flowgen takes; a test of the main package compares the two.
const EVENT_BYTES: usize = 168;
const PADDING: usize = EVENT_BYTES / size_of::<u64>() - 2;

/// As large as an event of flowgen, with a shared payload.
struct Event {
    data: Arc<Value>,
    sequence: u64,
    padding: [u64; PADDING],
}

const _: () = assert!(size_of::<Event>() == EVENT_BYTES);

/// Moves `count` events through three tasks: a source, one in the middle, a sink.
pub(crate) fn run(count: u64) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().build()?.block_on(async {
        let (to_middle, from_source) = channel(CAPACITY);
        let (to_sink, from_middle) = channel(CAPACITY);
        let source = tokio::spawn(source(count, to_middle));
        let middle = tokio::spawn(middle(from_source, to_sink));
        let sink = tokio::spawn(sink(from_middle));
        source.await?;
        middle.await?;
        anyhow::ensure!(sink.await? == count, "events were lost");
        Ok(())
    })
}

async fn source(count: u64, out: Sender<Event>) {
    let payload = Arc::new(json!({"n": 1}));
    let mut sequence = 0;
    while sequence < count {
        let batch = BATCH.min(usize::try_from(count - sequence).unwrap_or(BATCH));
        let Ok(permits) = out.reserve_many(batch).await else { return };
        for permit in permits {
            permit.send(Event { data: Arc::clone(&payload), sequence, padding: [sequence; PADDING] });
            sequence += 1;
        }
    }
}

async fn middle(mut input: Receiver<Event>, out: Sender<Event>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let received = input.recv_many(&mut batch, BATCH).await;
        if received == 0 {
            return;
        }
        let Ok(permits) = out.reserve_many(received).await else { return };
        for (permit, event) in permits.zip(batch.drain(..)) {
            permit.send(black_box(event));
        }
    }
}

async fn sink(mut input: Receiver<Event>) -> u64 {
    let (mut batch, mut seen) = (Vec::with_capacity(BATCH), 0);
    while input.recv_many(&mut batch, BATCH).await > 0 {
        for event in batch.drain(..) {
            let event = black_box(event);
            black_box((&event.data, event.sequence, event.padding));
            seen += 1;
        }
    }
    seen
}

/// The one field that the filter looks at.
#[derive(serde::Deserialize)]
struct Row {
    delay: Option<f64>,
}

/// Copies the lines of `input` with a delay over 15 to `output`, in one loop.
pub(crate) fn json_loop(input: &Path, output: &Path) -> Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(input)?);
    let mut writer = BufWriter::with_capacity(1 << 16, File::create(output)?);
    let (mut line, mut number) = (Vec::new(), 0_u64);
    while reader.read_until(b'\n', &mut line)? > 0 {
        number += 1;
        let row: Row = serde_json::from_slice(&line).with_context(|| format!("line {number}"))?;
        if row.delay.is_some_and(|delay| delay > 15.0) {
            writer.write_all(&line)?;
        }
        line.clear();
    }
    Ok(writer.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_arrives() {
        run(10_000).unwrap();
    }

    #[test]
    fn the_loop_keeps_the_late_ones_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        std::fs::write(&input, "{\"delay\":15}\n{\"delay\":16, \"x\":1}\n{\"delay\":null}\n").unwrap();
        json_loop(&input, &output).unwrap();
        assert_eq!(std::fs::read_to_string(output).unwrap(), "{\"delay\":16, \"x\":1}\n");
    }
}
