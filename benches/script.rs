//! What a script costs, as a ratio to the bare engine on a native map.
//!
//! `cargo bench --bench script` prints medians over interleaved rounds, so that a busy machine disturbs
//! every row alike. The payload is an object of 12 keys that nobody else shares.

use std::{fmt::Write as _, hint::black_box, io::Write as _, time::Instant};

use flowgen::{
    event::{Event, EventId, Payload},
    script::{Condition, Limits, Script},
    task::Output,
};
use rhai::{AST, Dynamic, Engine, Map, Scope};
use serde_json::{Value, json};

/// As in the released binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds are many and short: most then run undisturbed.
const ROUNDS: usize = 301;
const RUNS: u32 = 500;

/// Reads two fields and writes one, to a new value each time. The bare engine is spared the result.
const BARE_WRITE: &str = "event.data.total = event.data.total + event.data.quantity;";
const WRITE: &str = "event.data.total = event.data.total + event.data.quantity; event.data";
const BARE_READ: &str = "if event.data.price > 10 && event.data.quantity > 1 { 1 } else { () }";
const READ: &str = "if event.data.price > 10 && event.data.quantity > 1 { event.data } else { () }";
const CONDITION: &str = "event.data.price > 10 && event.data.quantity > 1";

fn main() -> std::io::Result<()> {
    let mut rows = rows();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    for _ in 0..ROUNDS {
        for (row, times) in rows.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..RUNS {
                (row.run)();
            }
            times.push(start.elapsed().as_nanos() as f64 / f64::from(RUNS));
        }
    }
    let mut table = String::from("row                        ns/run  ratio  to\n");
    for (row, own) in rows.iter().zip(&times) {
        // The ratio within a round, because the machine's speed changes between rounds.
        let ratio = median(own.iter().zip(&times[row.base]).map(|(own, base)| own / base));
        let time = median(own.iter().copied());
        writeln!(table, "{:<24} {time:>8.0} {ratio:>6.2}  {}", row.name, rows[row.base].name).ok();
    }
    std::io::stdout().write_all(table.as_bytes())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Row {
    name: &'static str,
    /// The row to compare with.
    base: usize,
    run: Box<dyn FnMut()>,
}

fn rows() -> Vec<Row> {
    let row = |name, base, run| Row { name, base, run };
    vec![
        row("bare write", 0, bare(BARE_WRITE)),
        row("bare read-only", 1, bare(BARE_READ)),
        row("script write", 0, script(WRITE)),
        row("script read-only", 1, script(READ)),
        row("condition", 1, condition()),
        row("JSON text both ways", 0, round_trip()),
    ]
}

fn data() -> Value {
    json!({
        "id": "A-10023", "customer": "c-77", "price": 12.5, "quantity": 3, "currency": "EUR", "country": "NL",
        "express": true, "notes": "leave at the door", "weight": 1.25, "total": 0, "channel": "web",
        "created": "2026-02-02T12:00:00Z"
    })
}

fn event() -> Event {
    Event::new(EventId::Sequence(1), "orders".into(), Payload::from(data()))
}

/// The engine alone: the map is native already, and stays in a scope that is used again.
fn bare(code: &str) -> Box<dyn FnMut()> {
    let engine = Engine::new();
    let ast: AST = engine.compile(code).expect("the script compiles");
    let data: Map = engine.parse_json(data().to_string(), true).expect("the payload is JSON");
    let event = Map::from_iter([("data".into(), Dynamic::from_map(data))]);
    let mut scope = Scope::new();
    scope.push_dynamic("event", Dynamic::from_map(event));
    Box::new(move || {
        let result = engine.eval_ast_with_scope::<Dynamic>(&mut scope, &ast).expect("the script runs");
        drop(black_box(result));
    })
}

fn script(code: &str) -> Box<dyn FnMut()> {
    let script = Script::compile(code, &Limits::default()).expect("the script compiles");
    let (mut event, mut output) = (event(), Output::default());
    Box::new(move || {
        script.run(black_box(&mut event), &mut output).expect("the script runs");
        output.clear();
    })
}

fn condition() -> Box<dyn FnMut()> {
    let condition = Condition::compile(CONDITION).expect("the condition compiles");
    let event = event();
    Box::new(move || {
        let _ = black_box(condition.is_true(black_box(&event)).expect("the condition runs"));
    })
}

/// What a script would pay if the payload went through text both ways.
fn round_trip() -> Box<dyn FnMut()> {
    let engine = Engine::new();
    let ast = engine.compile(WRITE).expect("the script compiles");
    let event = json!({"data": data()});
    Box::new(move || {
        let map = engine.parse_json(event.to_string(), true).expect("the payload is JSON");
        let mut scope = Scope::new();
        scope.push_dynamic("event", Dynamic::from_map(map));
        let result = engine.eval_ast_with_scope::<Map>(&mut scope, &ast).expect("the script runs");
        let text = rhai::format_map_as_json(&result);
        black_box(serde_json::from_str::<Value>(&text).expect("the result is JSON"));
    })
}
