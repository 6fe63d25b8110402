use serde_json::{Value, json};

use super::*;
use crate::{
    event::{EventId, Payload},
    task::Emission,
};

fn buffer(config: Value) -> Buffer {
    let config: Config = serde_json::from_value(config).unwrap();
    let mut problems = Problems::default();
    Buffer::check(&config, &mut problems);
    let key = config.partition_key.as_deref().map(|key| Template::compile(key).unwrap());
    Buffer::new(&config, key)
}

fn event(data: Payload) -> Event {
    Event::new(EventId::Sequence(0), "s".into(), data)
}

/// What a buffer did: `hold` and the batch's number, or what it released.
#[derive(Debug, PartialEq)]
enum Done {
    Hold(u64),
    Release(u64, Value),
}

fn done(output: &mut Output) -> Vec<Done> {
    let done = output.drain().map(|(_, emission)| match emission {
        Emission::Hold(BatchId(number)) => Done::Hold(number),
        Emission::Release(BatchId(number), data) => Done::Release(number, data.into_json().unwrap()),
        other => panic!("nothing else is done: {other:?}"),
    });
    done.collect()
}

fn apply(buffer: &mut Buffer, data: Value) -> Vec<Done> {
    let mut output = Output::default();
    buffer.apply(&mut event(Payload::from(data)), &mut output).unwrap();
    done(&mut output)
}

fn flush(buffer: &mut Buffer, reason: FlushReason) -> Vec<Done> {
    let mut output = Output::default();
    buffer.flush(reason, Instant::now(), &mut output);
    done(&mut output)
}

fn batch(items: Value, reason: &str, key: Option<&str>) -> Value {
    let size = items.as_array().unwrap().len();
    json!({"batch": items, "batch_size": size, "flush_reason": reason, "partition_key": key})
}

#[tokio::test(start_paused = true)]
async fn a_batch_leaves_with_the_event_that_fills_it() {
    let mut buffer = buffer(json!({"size": 2}));
    assert_eq!(apply(&mut buffer, json!(1)), [Done::Hold(0)]);
    let full = Done::Release(0, batch(json!([1, 2]), "size", None));
    assert_eq!(apply(&mut buffer, json!(2)), [Done::Hold(0), full]);
    assert_eq!(apply(&mut buffer, json!(3)), [Done::Hold(1)]);
    let rest = Done::Release(1, batch(json!([3]), "shutdown", None));
    assert_eq!(flush(&mut buffer, FlushReason::Shutdown), [rest]);
    assert_eq!(buffer.deadline(), None);
}

/// Scenario: batches of two partitions are begun one after the other. Guarantee: each is due a timeout after its own first
/// event, whatever comes later.
#[tokio::test(start_paused = true)]
async fn a_batch_is_due_by_its_first_event() {
    let mut buffer = buffer(json!({"timeout": "10s", "partition_key": "{{ event.data.k }}"}));
    let start = Instant::now();
    apply(&mut buffer, json!({"k": "a"}));
    tokio::time::advance(Duration::from_secs(4)).await;
    apply(&mut buffer, json!({"k": "b"}));
    apply(&mut buffer, json!({"k": "a"}));
    assert_eq!(buffer.deadline(), Some(start + Duration::from_secs(10)));
    tokio::time::advance(Duration::from_secs(6)).await;
    let due = Done::Release(0, batch(json!([{"k": "a"}, {"k": "a"}]), "timeout", Some("a")));
    assert_eq!(flush(&mut buffer, FlushReason::Timeout), [due]);
    assert_eq!(buffer.deadline(), Some(start + Duration::from_secs(14)));
    assert_eq!(flush(&mut buffer, FlushReason::Timeout), []);
}

#[tokio::test(start_paused = true)]
async fn no_batch_is_longer_than_its_limit_but_that_of_one_event() {
    let mut buffer = buffer(json!({"max_bytes": 9}));
    assert_eq!(apply(&mut buffer, json!("ab")), [Done::Hold(0)]);
    // ["ab",12] has nine bytes.
    let exact = Done::Release(0, batch(json!(["ab", 12]), "bytes", None));
    assert_eq!(apply(&mut buffer, json!(12)), [Done::Hold(0), exact]);
    apply(&mut buffer, json!("ab"));
    let before = Done::Release(1, batch(json!(["ab"]), "bytes", None));
    assert_eq!(apply(&mut buffer, json!(123)), [before, Done::Hold(2)]);
    let before = Done::Release(2, batch(json!([123]), "bytes", None));
    let alone = Done::Release(3, batch(json!(["longer than nine"]), "bytes", None));
    assert_eq!(apply(&mut buffer, json!("longer than nine")), [before, Done::Hold(3), alone]);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_batch_makes_room_for_a_further_one() {
    let mut buffer = buffer(json!({"max_partitions": 2, "partition_key": "{{ event.data }}"}));
    apply(&mut buffer, json!("a"));
    apply(&mut buffer, json!("b"));
    assert_eq!(apply(&mut buffer, json!("a")), [Done::Hold(0)]);
    let oldest = Done::Release(0, batch(json!(["a", "a"]), "partitions", Some("a")));
    assert_eq!(apply(&mut buffer, json!("c")), [oldest, Done::Hold(2)]);
    assert_eq!((buffer.batches.len(), buffer.partitions.len()), (2, 2));
}

/// Scenario: events come as text that nobody has parsed, one of them as wide and as deep as can be. Guarantee: the batch is
/// the same as of parsed ones, and keeps the text where it can be read again.
#[tokio::test(start_paused = true)]
async fn what_came_as_text_leaves_as_that_text() {
    let text = |line: &str| event(Payload::from_json_line(line).unwrap());
    let deep = format!("{}{}", "[".repeat(126), "]".repeat(126));
    let cases: [(&[&str], bool); 3] =
        [(&["1.10", "{\"a\":  1}"], true), (&[&deep], false), (&["\"x\""], true)];
    for (lines, is_text) in cases {
        let mut buffer = buffer(json!({"partition_key": "a\"b"}));
        let mut output = Output::default();
        for line in lines {
            buffer.apply(&mut text(line), &mut output).unwrap();
        }
        buffer.flush(FlushReason::Shutdown, Instant::now(), &mut output);
        let Some((_, Emission::Release(_, data))) = output.drain().last() else { panic!("nothing left") };
        let joined = format!("[{}]", lines.join(","));
        assert_eq!(data.text().is_some_and(|text| text.contains(&joined)), is_text);
        let items: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(data.into_json().unwrap(), batch(json!(items), "shutdown", Some("a\"b")));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_collected_fails_as_it_came() {
    let mut buffer = buffer(json!({"partition_key": "{{ event.data.k }}"}));
    let mut output = Output::default();
    let mut keyless = event(Payload::from(json!({"a": 1})));
    assert_eq!(buffer.apply(&mut keyless, &mut output).unwrap_err().error_type(), "template");
    assert_eq!(keyless.data.json(), Some(&json!({"a": 1})));
    buffer.partition_key = None;
    let mut bytes = event(Payload::Bytes(b"no JSON".as_slice().into()));
    assert_eq!(buffer.apply(&mut bytes, &mut output).unwrap_err().error_type(), "type");
    assert!(matches!(&bytes.data, Payload::Bytes(bytes) if bytes == "no JSON"));
    assert!(output.is_empty() && buffer.batches.is_empty() && buffer.partitions.is_empty());
    buffer.apply(&mut event(Payload::Bytes(b"[1]".as_slice().into())), &mut output).unwrap();
    let rest = Done::Release(0, batch(json!([[1]]), "shutdown", None));
    assert_eq!(flush(&mut buffer, FlushReason::Shutdown), [rest]);
}

#[test]
fn limits_that_cannot_be_right_are_reported() {
    let config =
        json!({"size": 0, "max_partitions": 0, "timeout": "0s", "max_bytes": 0, "partition_key": "{{ x }}"});
    let config: Config = serde_json::from_value(config).unwrap();
    let mut problems = Problems::default();
    Buffer::check(&config, &mut problems);
    assert_eq!(problems.into_vec().len(), 5);
}
