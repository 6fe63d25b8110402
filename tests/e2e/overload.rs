//! Overload: four times as many requests as a worker can handle, for a while (`FLOWGEN_E2E_SECONDS`, 20).
//!
//! The load is open: every request is due at a time of its own, whatever has become of those before, as with clients that
//! know nothing of one another. How many a worker can handle is measured first, by the same flow.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::support::{collector::Collector, worker::Worker};

/// How much more there is than can be handled.
const FACTOR: u32 = 4;

/// What the load comes from. Each waits for an answer before it sends the next request, so there have to be very many.
const CONNECTIONS: u32 = 512;

/// How many requests the flow has room for, and what it is measured by: as many as can never be refused.
const ROOM: u32 = 64;
const MEASURING: u32 = ROOM / 2;

/// Far more than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What memory may grow by while the load goes on: pages that an allocator touches late.
const SLACK_KIB: u64 = 32 << 10;

/// What takes the time is the script; each event that completes is a row.
fn flow(endpoint: &str) -> String {
    format!(
        "
http_server: {{address: '127.0.0.1:0'}}
telemetry: {{enabled: true, otlp_endpoint: '{endpoint}', trace_sample_rate: 0}}
flow:
  name: orders
  tasks:
    - http_endpoint: {{name: in, endpoint: /orders, max_in_flight: {ROOM}}}
    - script: {{name: work, code: 'let sum = 0; for n in 0..10000 {{ sum += n; }} event.data.sum = sum; event'}}
    - file_write: {{name: rows, path: rows.jsonl}}
"
    )
}

#[expect(clippy::disallowed_methods, reason = "a setting of this test, not of flowgen")]
fn time() -> Duration {
    let seconds = std::env::var("FLOWGEN_E2E_SECONDS").map_or(20, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

/// What became of a request.
struct Answer {
    status: u16,
    /// From when it was due, and from when it was sent.
    late: Duration,
    took: Duration,
}

/// A client, with a connection as long as the server keeps it.
struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    answers: Vec<Answer>,
    connections: usize,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, answers: Vec::new(), connections: 0 }
    }

    /// Sends a request that was due at a time, and waits for its answer.
    async fn call(&mut self, due: Instant) -> u16 {
        let sent = Instant::now();
        let status = match timeout(PATIENCE, self.exchange()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => panic!("a request was not answered: {error}"),
            Err(_) => panic!("a request was not answered in time"),
        };
        self.answers.push(Answer { status, late: due.elapsed(), took: sent.elapsed() });
        status
    }

    async fn exchange(&mut self) -> io::Result<u16> {
        const BODY: &str = r#"{"order": 7, "items": [1, 2, 3]}"#;
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                self.connections += 1;
                none.insert(BufReader::new(stream))
            }
        };
        let length = BODY.len();
        let request = format!(
            "POST /orders HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{BODY}"
        );
        stream.write_all(request.as_bytes()).await?;
        let (mut status, mut length, mut is_last, mut may_retry) = (0, 0, false, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            match line.split_once(": ") {
                _ if line.is_empty() => break,
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(("connection", "close")) => is_last = true,
                Some(("retry-after", _)) => may_retry = true,
                Some(_) => {}
                None => status = line.split(' ').nth(1).unwrap().parse().unwrap(),
            }
        }
        assert!(status == 200 || may_retry, "{status}");
        stream.read_exact(&mut vec![0; length]).await?;
        if is_last {
            self.stream = None;
        }
        Ok(status)
    }
}

/// Sends one request after the other on some connections, and returns how many were answered 200 a second.
async fn measure(address: SocketAddr, time: Duration) -> (Vec<Client>, f64) {
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..MEASURING {
        clients.spawn(async move {
            let mut client = Client::new(address);
            while begin.elapsed() < time {
                assert_eq!(client.call(Instant::now()).await, 200);
            }
            client
        });
    }
    let clients = clients.join_all().await;
    let count = clients.iter().map(|client| client.answers.len()).sum::<usize>();
    (clients, count as f64 / begin.elapsed().as_secs_f64())
}

/// Sends so many requests a second, evenly, to the end of this time.
async fn load(address: SocketAddr, rate: f64, time: Duration) -> Vec<Client> {
    let begin = Instant::now();
    let pause = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let mut clients = JoinSet::new();
    for n in 0..CONNECTIONS {
        clients.spawn(async move {
            let mut client = Client::new(address);
            let mut due = begin + pause * n / CONNECTIONS;
            while due < begin + time {
                sleep_until(due).await;
                client.call(due).await;
                due += pause;
            }
            client
        });
    }
    clients.join_all().await
}

fn count(clients: &[Client], status: u16) -> usize {
    clients.iter().flat_map(|client| &client.answers).filter(|answer| answer.status == status).count()
}

/// Returns the median, the 99th percentile, and the most.
fn spread(mut times: Vec<Duration>) -> [Duration; 3] {
    times.sort_unstable();
    [times.len() / 2, times.len() * 99 / 100, times.len() - 1].map(|at| times[at])
}

/// Scenario: a worker gets four times as many requests as it can handle. Guarantee: every one is answered, by a result or by
/// 503; those that got a result are the events that completed, the rows that were written and what telemetry counts;
/// memory stays flat; and afterwards it is as if nothing had been.
#[test]
fn four_times_the_capacity_loses_nothing_and_leaves_no_trace() {
    let collector = Collector::start();
    let worker = Worker::start(&flow(&collector.endpoint()), &[]);
    let line: Value = serde_json::from_str(&worker.next_logged("HTTP server listens")).unwrap();
    let address: SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
    let time = time();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (capacity, clients, memory, recovery) = runtime.block_on(async {
        let (mut clients, capacity) = measure(address, time / 5).await;
        let quarter = async {
            tokio::time::sleep(time / 4).await;
            worker.memory("VmRSS")
        };
        let rate = capacity * f64::from(FACTOR);
        let (loaded, early) = tokio::join!(load(address, rate, time), quarter);
        let memory = (early, worker.memory("VmRSS"));
        let over = Instant::now();
        let mut late = Client::new(address);
        while late.call(Instant::now()).await != 200 {
            assert!(over.elapsed() < PATIENCE, "it does not recover");
        }
        let recovery = over.elapsed();
        report(capacity, &loaded, memory, recovery);
        clients.extend(loaded);
        clients.push(late);
        (capacity, clients, memory, recovery)
    });
    assert!(capacity > 0.0 && recovery < PATIENCE);
    let (ok, refused) = (count(&clients, 200), count(&clients, 503));
    let all: usize = clients.iter().map(|client| client.answers.len()).sum();
    assert_eq!(ok + refused, all, "every answer is one of these");
    assert!(refused > 0, "that was no overload");
    assert!(memory.1 <= memory.0 + SLACK_KIB, "{memory:?} KiB");
    worker.signal(rustix::process::Signal::TERM);
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.drained()["completed"], ok);
    assert_eq!(ended.lines("rows.jsonl").len(), ok);
    let metrics = collector.metrics();
    let answered = |status| {
        metrics.histogram_count("http.server.request.duration", &[("http.response.status_code", status)])
    };
    assert_eq!((answered("200"), answered("503")), (ok as u64, refused as u64));
    assert_eq!(metrics.counter("flowgen.flow.events", &[("outcome", "completed")]), ok as u64);
}

/// Says what is worth knowing and depends on the machine.
fn report(capacity: f64, loaded: &[Client], memory: (u64, u64), recovery: Duration) {
    let answers = || loaded.iter().flat_map(|client| &client.answers);
    let all = answers().count();
    let connections: usize = loaded.iter().map(|client| client.connections).sum();
    let _ = writeln!(
        io::stderr(),
        "{capacity:.0} a second can be handled; {all} came, {} were answered 503, on {connections} connections; \
         {memory:?} KiB; recovered after {recovery:?}",
        count(loaded, 503),
    );
    for (status, name) in [(200, "accepted"), (503, "refused")] {
        let times = |time: fn(&Answer) -> Duration| {
            let times: Vec<_> = answers().filter(|answer| answer.status == status).map(time).collect();
            if times.is_empty() { [Duration::ZERO; 3] } else { spread(times) }
        };
        let (late, took) = (times(|answer| answer.late), times(|answer| answer.took));
        let _ = writeln!(
            io::stderr(),
            "{name}: median, 99th percentile and most {late:?} from when they were due, {took:?} from when they were sent"
        );
    }
}
