use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::format::{Decoder, InputFormat};

fn encode(format: OutputFormat, payloads: &[Payload]) -> Result<String, String> {
    let mut encoder = Encoder::new(format);
    let mut lines = Vec::new();
    for payload in payloads {
        encoder.encode(payload, &mut lines).map_err(|error| {
            assert_eq!(error.error_type(), ENCODE);
            error.to_string()
        })?;
    }
    Ok(String::from_utf8([encoder.header(), &lines].concat()).unwrap())
}

#[test]
fn jsonl_keeps_the_text_a_payload_came_in() {
    let payload = Payload::from_json_line(r#"{"a":  1}"#).unwrap();
    assert_eq!(encode(OutputFormat::Jsonl, &[payload]).unwrap(), "{\"a\":  1}\n");
    let payload = Payload::from(json!({"a": [1, "x\n"]}));
    assert_eq!(encode(OutputFormat::Jsonl, &[payload]).unwrap(), "{\"a\":[1,\"x\\n\"]}\n");
}

#[test]
fn jsonl_is_one_line_whatever_the_text_was() {
    let payload = Payload::from_json_line("{\"a\":\n1}").unwrap();
    assert_eq!(encode(OutputFormat::Jsonl, &[payload]).unwrap(), "{\"a\":1}\n");
}

#[test]
fn raw_bytes_are_json_if_they_say_so() {
    let payload = Payload::Bytes(Bytes::from_static(b"[1,\n2]"));
    assert_eq!(encode(OutputFormat::Jsonl, &[payload]).unwrap(), "[1,2]\n");
    let payload = Payload::Bytes(Bytes::from_static(b"hello"));
    let why = "the data is raw bytes that are not JSON";
    assert_eq!(encode(OutputFormat::Jsonl, std::slice::from_ref(&payload)), Err(why.to_owned()));
    assert_eq!(encode(OutputFormat::Text, &[payload]).unwrap(), "hello\n");
}

#[test]
fn text_is_written_as_it_is_and_all_else_as_json() {
    let payloads =
        [Payload::from(json!("a \"b\"")), Payload::from(json!({"a": 1})), Payload::from(json!(null))];
    assert_eq!(encode(OutputFormat::Text, &payloads).unwrap(), "a \"b\"\n{\"a\":1}\nnull\n");
}

#[test]
fn the_first_event_names_the_columns_of_a_csv_file() {
    let payloads = [
        Payload::from(json!({"id": 1, "note": "a, \"b\"\nc", "tags": ["x"]})),
        Payload::from(json!({"tags": null, "id": true})),
    ];
    let text = "id,note,tags\n1,\"a, \"\"b\"\"\nc\",\"[\"\"x\"\"]\"\ntrue,,\n";
    assert_eq!(encode(OutputFormat::Csv, &payloads).unwrap(), text);
}

#[test]
fn what_does_not_fit_a_csv_row_fails_and_leaves_nothing() {
    let mut encoder = Encoder::new(OutputFormat::Csv);
    let mut lines = Vec::new();
    encoder.encode(&Payload::from(json!({"a": 1})), &mut lines).unwrap();
    let before = lines.clone();
    for (data, why) in [
        (
            json!({"b": 1}),
            "key number 1 of the event has no column: the header or else the first event of a CSV file names them all",
        ),
        (json!([1]), "only an object can become a CSV row"),
    ] {
        let error = encoder.encode(&Payload::from(data), &mut lines).unwrap_err();
        assert_eq!(error.to_string(), why);
        assert_eq!(lines, before);
    }
}

#[test]
fn a_header_that_is_there_names_the_columns() {
    let mut lines = Vec::new();
    for row in ["id,\"a \"\"b\"\"\"\r\n", "\"id\",\"a \"\"b\"\"\"\n"] {
        let mut encoder = Encoder::with_header(row.as_bytes()).unwrap();
        assert_eq!(encoder.header(), b"id,\"a \"\"b\"\"\"\n");
        encoder.encode(&Payload::from(json!({"a \"b\"": 1, "id": 2})), &mut lines).unwrap();
        encoder.encode(&Payload::from(json!({"other": 1})), &mut lines).unwrap_err();
    }
    assert_eq!(lines, b"2,1\n2,1\n");
    for row in ["a,a\n", "\"a\n"] {
        assert_eq!(Encoder::with_header(row.as_bytes()).unwrap_err().error_type(), ENCODE);
    }
}

fn decoded(format: InputFormat, text: &str) -> Vec<Value> {
    let mut decoder = Decoder::new(format, 1000);
    let mut position = 0;
    let mut values = Vec::new();
    while let Some(record) = decoder.next(text.as_bytes(), &mut position) {
        values.push(record.decode().unwrap().data.into_json().unwrap());
    }
    assert!(decoder.finish().is_none());
    values
}

proptest! {
    #[test]
    fn what_is_written_as_csv_is_read_again(rows in prop::collection::vec(("[a\",\r\n ]{0,4}", "[a\",\r\n ]{0,4}"), 1..5)) {
        let rows: Vec<Value> = rows.into_iter().map(|(a, b)| json!({"a": a, "b b": b})).collect();
        let payloads: Vec<Payload> = rows.iter().cloned().map(Payload::from).collect();
        let text = encode(OutputFormat::Csv, &payloads).unwrap();
        prop_assert_eq!(decoded(InputFormat::Csv, &text), rows);
    }

    #[test]
    fn one_column_is_read_again(values in prop::collection::vec("[a\"\n]{0,2}", 1..5)) {
        let rows: Vec<Value> = values.into_iter().map(|value| json!({"a": value})).collect();
        let payloads: Vec<Payload> = rows.iter().cloned().map(Payload::from).collect();
        let text = encode(OutputFormat::Csv, &payloads).unwrap();
        prop_assert_eq!(decoded(InputFormat::Csv, &text), rows);
    }

    #[test]
    fn what_is_written_as_jsonl_is_read_again(texts in prop::collection::vec(any::<String>(), 1..5)) {
        let values: Vec<Value> = texts.into_iter().map(|text| json!({"t": text})).collect();
        let payloads: Vec<Payload> = values.iter().cloned().map(Payload::from).collect();
        let text = encode(OutputFormat::Jsonl, &payloads).unwrap();
        prop_assert_eq!(decoded(InputFormat::Jsonl, &text), values);
    }
}
