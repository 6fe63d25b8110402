//! Runs one process and tells what it cost.

use std::{
    fs,
    io::Read,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use wait4::Wait4;

use crate::log::Flushed;

/// What one run cost. What a case does not measure is `None`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Process CPU, user and system.
    pub(crate) cpu: Option<Duration>,
    pub(crate) wall: Option<Duration>,
    /// Bytes of resident memory: the peak, or what an idle process holds.
    pub(crate) memory: Option<u64>,
    /// Lines of the output.
    pub(crate) rows: Option<u64>,
    /// How late events were: the median, 99 and 99.9 of 100, and the worst.
    pub(crate) lateness: Option<[Duration; 4]>,
    /// What became of its spans.
    pub(crate) spans: Option<Flushed>,
}

/// Runs a command to its end, which must be a success.
pub(crate) fn to_end(command: &mut Command) -> Result<Sample> {
    let begin = Instant::now();
    wait(spawn(command)?, begin)
}

/// Runs a command to its end, which must be a success. Returns its stderr as well.
pub(crate) fn with_stderr(command: &mut Command) -> Result<(Sample, String)> {
    let begin = Instant::now();
    let mut child = spawn(command.stderr(Stdio::piped()))?;
    let mut stderr = String::new();
    child.stderr.take().context("no stderr")?.read_to_string(&mut stderr)?;
    let sample = wait(child, begin).with_context(|| format!("it said:\n{stderr}"))?;
    Ok((sample, stderr))
}

/// Runs a command whose stdout is taken slowly: 64 KiB, then a pause.
pub(crate) fn with_slow_reader(command: &mut Command, pause: Duration) -> Result<Sample> {
    let begin = Instant::now();
    let mut child = spawn(command.stdout(Stdio::piped()))?;
    let mut stdout = child.stdout.take().context("no stdout")?;
    let (mut buffer, mut rows) = (vec![0; 1 << 16], 0);
    loop {
        let read = stdout.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        rows += lines(&buffer[..read]);
        thread::sleep(pause);
    }
    Ok(Sample { rows: Some(rows), ..wait(child, begin)? })
}

/// Returns the time from the start of a command to the first byte of its stdout.
pub(crate) fn to_first_byte(command: &mut Command) -> Result<Sample> {
    let begin = Instant::now();
    let mut child = spawn(command.stdout(Stdio::piped()))?;
    let mut stdout = child.stdout.take().context("no stdout")?;
    stdout.read_exact(&mut [0])?;
    let wall = begin.elapsed();
    std::io::copy(&mut stdout, &mut std::io::sink())?;
    Ok(Sample { wall: Some(wall), cpu: None, ..wait(child, begin)? })
}

/// Returns the memory that a command holds once it has been left alone for a while, and ends it.
pub(crate) fn idle(command: &mut Command, settle: Duration) -> Result<Sample> {
    let mut child = spawn(command)?;
    thread::sleep(settle);
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
    let is_running = child.try_wait()?.is_none();
    child.kill()?;
    child.wait()?;
    ensure!(is_running, "it ended instead of idling");
    let status = status?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .context("no VmRSS in /proc")?;
    Ok(Sample { memory: Some(kilobytes * 1024), ..Sample::default() })
}

/// Counts the line ends in `bytes`.
pub(crate) fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().with_context(|| format!("could not start {}", command.get_program().display()))
}

fn wait(child: Child, begin: Instant) -> Result<Sample> {
    let ended = child.wait4()?;
    ensure!(ended.status.success(), "it ended with {}", ended.status);
    Ok(Sample {
        cpu: Some(ended.rusage.utime + ended.rusage.stime),
        wall: Some(begin.elapsed()),
        memory: Some(ended.rusage.maxrss),
        ..Sample::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_wall_and_memory_are_those_of_the_child() {
        let busy =
            to_end(Command::new("sh").args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]));
        let busy = busy.unwrap();
        assert!(busy.cpu.unwrap() > Duration::from_millis(10) && busy.cpu <= busy.wall, "{busy:?}");
        assert!((1 << 18..1 << 28).contains(&busy.memory.unwrap()), "{busy:?}");
        assert!(to_end(&mut Command::new("false")).is_err());
    }

    #[test]
    fn a_slow_reader_gets_every_line() {
        let sample = with_slow_reader(Command::new("seq").arg("50000"), Duration::from_millis(1)).unwrap();
        assert_eq!(sample.rows, Some(50_000));
    }
}
