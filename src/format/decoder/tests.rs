use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A record as a test sees it: where it is, and its data or why there is none.
type Seen = (u64, u64, Result<Value, String>);

/// Decodes an input that arrives in the given pieces.
fn decode_pieces(format: InputFormat, limit: usize, pieces: &[&[u8]]) -> Vec<Seen> {
    let mut decoder = Decoder::new(format, limit);
    let mut seen = Vec::new();
    for piece in pieces {
        let mut position = 0;
        while let Some(record) = decoder.next(piece, &mut position) {
            seen.push(look(&record));
        }
        assert_eq!(position, piece.len());
    }
    seen.extend(decoder.finish().map(|record| look(&record)));
    seen
}

fn look(record: &RawRecord<'_>) -> Seen {
    let data = match record.decode() {
        Ok(record) => Ok(record.data.json().unwrap().clone()),
        Err(error) => {
            assert_eq!(error.error_type(), PARSE);
            Err(error.to_string())
        }
    };
    (record.offset, record.line, data)
}

fn decode(format: InputFormat, text: &str) -> Vec<Seen> {
    decode_pieces(format, 1000, &[text.as_bytes()])
}

/// Only what was read, or the reason why not.
fn data(format: InputFormat, text: &str) -> Vec<Result<Value, String>> {
    decode(format, text).into_iter().map(|(.., data)| data).collect()
}

fn failed(why: &str) -> Result<Value, String> {
    Err(why.to_owned())
}

#[test]
fn a_bad_line_fails_at_its_place_and_the_next_is_read() {
    let seen = decode(InputFormat::Jsonl, "{\"a\":1}\n\n{\"a\": oops}\r\n  \n[2]");
    let why = "the record is not JSON: expected value at column 7";
    assert_eq!(seen, [(0, 1, Ok(json!({"a": 1}))), (9, 3, failed(why)), (25, 5, Ok(json!([2])))]);
}

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Returns what each record carries, as `<traceparent> <whether it is the parent> <baggage>`.
fn remotes(format: InputFormat, mode: TraceContextMode, text: &str) -> Vec<Option<String>> {
    let mut decoder = Decoder::new(format, 200);
    let mut found = Vec::new();
    let shown = |record: &RawRecord<'_>| {
        let remote = record.remote(mode)?;
        let context = remote.context.is_valid().then(|| remote.context.traceparent().to_string());
        let context = context.unwrap_or("-".into());
        Some(format!("{context} {} {}", remote.is_parent, remote.baggage().unwrap_or("-")))
    };
    let mut position = 0;
    while let Some(record) = decoder.next(text.as_bytes(), &mut position) {
        found.push(shown(&record));
    }
    found.extend(decoder.finish().map(|record| shown(&record)));
    found
}

#[test]
fn a_record_that_is_an_object_carries_its_context_if_that_is_wanted() {
    use TraceContextMode::{Ignore, Link, Trust};
    let full = format!(r#"{{"id": 7, "traceparent": "{TRACEPARENT}", "baggage": "user=7"}}"#);
    let lines = format!("{full}\n{{\"baggage\": \"user=8\"}}\r\n[1]\n{{\"traceparent\": 1}}\n{{oops\n");
    let trusted = Some(format!("{TRACEPARENT} true user=7"));
    let baggage = Some("- false user=8".to_owned());
    let expected = [trusted.clone(), baggage.clone(), None, None, None];
    assert_eq!(remotes(InputFormat::Jsonl, Trust, &lines), expected);
    let linked = Some(format!("{TRACEPARENT} false user=7"));
    assert_eq!(remotes(InputFormat::Jsonl, Link, &lines), [linked, baggage, None, None, None]);
    assert_eq!(remotes(InputFormat::Jsonl, Ignore, &lines), vec![None; 5]);
    let document = format!("[{},\n 7]", full.replace(", ", ",\n"));
    assert_eq!(remotes(InputFormat::Json, Trust, &document), [trusted, None]);
    let long = full.replace("user=7", &"x".repeat(300));
    assert_eq!(remotes(InputFormat::Jsonl, Trust, &long), [None], "a record that is too long is not kept");
    assert_eq!(remotes(InputFormat::Text, Trust, &full), [None]);
    let table = format!("traceparent,id\n{TRACEPARENT},7\n");
    assert_eq!(remotes(InputFormat::Csv, Trust, &table), [None]);
}

#[test]
fn bytes_that_are_no_text_fail_and_the_next_line_is_read() {
    for format in [InputFormat::Jsonl, InputFormat::Text] {
        let seen = decode_pieces(format, 100, &[b"\"a\"\n\"\xff\"\n\"b\"\n"]);
        assert_eq!(seen[1], (4, 2, failed("the record is not UTF-8 at its byte 2")));
        assert_eq!(seen.len(), 3);
        assert!(seen[2].2.is_ok());
    }
}

#[test]
fn a_line_of_text_is_a_string_even_if_it_is_blank() {
    let seen = decode(InputFormat::Text, "\u{feff}one\r\n\n {}");
    assert_eq!(seen, [(3, 1, Ok(json!("one"))), (8, 2, Ok(json!(""))), (9, 3, Ok(json!(" {}")))]);
}

#[test]
fn a_record_that_is_too_long_is_skipped_without_being_kept() {
    let long = format!("[1]\n\"{}\"\n[2]\n", "x".repeat(100));
    for size in [1, 7, 1000] {
        let pieces: Vec<&[u8]> = long.as_bytes().chunks(size).collect();
        let seen = decode_pieces(InputFormat::Jsonl, 10, &pieces);
        let why = "the record is longer than 10 bytes (`max_line_bytes`)";
        assert_eq!(seen, [(0, 1, Ok(json!([1]))), (4, 2, failed(why)), (107, 3, Ok(json!([2])))]);
    }
}

#[test]
fn a_record_may_be_exactly_as_long_as_the_limit() {
    let seen = decode_pieces(InputFormat::Text, 3, &[b"abc\nabcd\nabc"]);
    let is_read: Vec<bool> = seen.iter().map(|(.., data)| data.is_ok()).collect();
    assert_eq!(is_read, [true, false, true]);
}

#[test]
fn the_header_names_the_keys_and_quoted_fields_may_hold_anything() {
    let text = "\u{feff}\"id\",name\r\n1,\"a, \"\"b\"\"\nc\"\r\n\n2,5\" pipe\n";
    assert_eq!(
        decode(InputFormat::Csv, text),
        [
            (14, 2, Ok(json!({"id": "1", "name": "a, \"b\"\nc"}))),
            (31, 5, Ok(json!({"id": "2", "name": "5\" pipe"}))),
        ]
    );
}

#[test]
fn a_bad_row_fails_at_its_place_and_the_next_is_read() {
    let seen = decode(InputFormat::Csv, "a,b\n1,2\n1\n\"1\"x,2\n3,4\n");
    assert_eq!(
        seen,
        [
            (4, 2, Ok(json!({"a": "1", "b": "2"}))),
            (8, 3, failed("the row has 1 fields, the header has 2")),
            (10, 4, failed("there is text behind a quoted field at column 4")),
            (17, 5, Ok(json!({"a": "3", "b": "4"}))),
        ]
    );
}

#[test]
fn a_quote_that_is_never_closed_costs_no_more_than_the_limit() {
    let text = format!("a\n\"1\n{}", "2\n".repeat(20));
    let seen = decode_pieces(InputFormat::Csv, 9, &[text.as_bytes()]);
    assert_eq!(seen[0], (2, 2, failed("the record is longer than 9 bytes (`max_line_bytes`)")));
    assert_eq!(seen[1], (13, 7, Ok(json!({"a": "2"}))));
    assert_eq!(
        data(InputFormat::Csv, "a\n1\n\"2\n3"),
        [Ok(json!({"a": "1"})), failed("a quoted field is not closed")]
    );
}

#[test]
fn without_a_header_no_row_can_be_read() {
    let why = failed("the header row cannot be read: columns 1 and 2 have the same name");
    assert_eq!(data(InputFormat::Csv, "a,a\n1,2\n"), [why.clone(), why]);
    assert_eq!(data(InputFormat::Csv, "a,b\n"), []);
    assert_eq!(data(InputFormat::Csv, ""), []);
}

#[test]
fn the_elements_of_an_array_are_records_and_so_is_any_other_document() {
    let seen = decode(InputFormat::Json, " [1,\n {\"a\": [\"],\\\"\", 2]} , \"x\\\\\"\n]\n");
    assert_eq!(
        seen,
        [(2, 1, Ok(json!(1))), (6, 2, Ok(json!({"a": ["],\"", 2]}))), (27, 2, Ok(json!("x\\")))]
    );
    assert_eq!(decode(InputFormat::Json, "\u{feff} {\"a\":\n1}\n"), [(4, 1, Ok(json!({"a": 1})))]);
    assert_eq!(data(InputFormat::Json, "[]"), []);
    assert_eq!(data(InputFormat::Json, " \n"), []);
}

#[test]
fn a_bad_element_fails_at_its_place_and_the_next_is_read() {
    let seen = decode(InputFormat::Json, "[1,\n{\"a\":\n oops},,\n[2}, \"open\n, 3]");
    assert_eq!(
        seen,
        [
            (1, 1, Ok(json!(1))),
            (4, 2, failed("the record is not JSON: expected value at line 3, column 2")),
            (17, 3, failed("a value is missing in the array")),
            (19, 4, failed("the record is not JSON: expected `,` or `]` at column 3")),
            (24, 4, failed("the record is not JSON: EOF while parsing a string at column 5")),
            (32, 5, Ok(json!(3))),
        ]
    );
}

#[test]
fn a_document_that_ends_too_soon_or_too_late_fails_where_it_does() {
    let unclosed = "the array is not closed";
    assert_eq!(decode(InputFormat::Json, "[1, {\"a\": 2")[1], (4, 1, failed(unclosed)));
    assert_eq!(decode(InputFormat::Json, "[1,\n")[1], (4, 2, failed(unclosed)));
    assert_eq!(
        decode(InputFormat::Json, "[1]\n 2")[1],
        (5, 2, failed("there is text behind the end of the array"))
    );
    assert_eq!(data(InputFormat::Json, "[1,]"), [Ok(json!(1)), failed("a value is missing in the array")]);
    assert_eq!(
        data(InputFormat::Json, "1 2"),
        [failed("the record is not JSON: trailing characters at column 3")]
    );
}

#[test]
fn an_element_over_several_lines_keeps_no_text() {
    let mut decoder = Decoder::new(InputFormat::Json, 100);
    let record = decoder.next(b"[{\"a\":\n1} ,2]", &mut 0).unwrap().decode().unwrap();
    assert_eq!(record.data.text(), None);
}

fn formats() -> impl Strategy<Value = InputFormat> {
    prop_oneof![
        Just(InputFormat::Jsonl),
        Just(InputFormat::Text),
        Just(InputFormat::Csv),
        Just(InputFormat::Json)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn where_blocks_end_changes_nothing(
        format in formats(),
        text in r#"(\u{feff})?([\[\]{}",\\:a1 \r\n\u{e9}]|,\n|\[1,|"a"|\n"|\r\n){0,30}"#,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        limit in 1..40_usize,
    ) {
        let bytes = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut start = 0;
        let pieces: Vec<&[u8]> = cuts.iter().map(|&end| &bytes[std::mem::replace(&mut start, end)..end]).collect();
        prop_assert_eq!(decode_pieces(format, limit, &pieces), decode_pieces(format, limit, &[bytes]));
    }

    #[test]
    fn lines_and_line_ends_are_the_input(text in r"[ab\r\n]{0,40}") {
        let mut decoder = Decoder::new(InputFormat::Text, 100);
        let mut position = 0;
        let (mut rebuilt, mut line) = (String::new(), 0);
        while let Some(record) = decoder.next(text.as_bytes(), &mut position) {
            line += 1;
            prop_assert_eq!(record.line, line);
            prop_assert_eq!(record.offset, rebuilt.len() as u64);
            let bytes = record.bytes.unwrap();
            rebuilt.push_str(str::from_utf8(bytes).unwrap());
            rebuilt.push_str(&text[rebuilt.len()..position]);
        }
        if let Some(record) = decoder.finish() {
            prop_assert_eq!(record.offset, rebuilt.len() as u64);
            rebuilt.push_str(str::from_utf8(record.bytes.unwrap()).unwrap());
            if text.ends_with('\r') { rebuilt.push('\r'); }
        }
        prop_assert_eq!(rebuilt, text);
    }

    #[test]
    fn rows_are_what_the_csv_crate_reads(rows in prop::collection::vec(prop::collection::vec("[a\",\n\r ]{0,4}", 2), 1..5)) {
        let mut writer = ::csv::WriterBuilder::new().from_writer(Vec::new());
        writer.write_record(["k", "l"]).unwrap();
        for row in &rows {
            writer.write_record(row).unwrap();
        }
        let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        let expected: Vec<_> = rows.iter().map(|row| Ok(json!({"k": row[0], "l": row[1]}))).collect();
        prop_assert_eq!(data(InputFormat::Csv, &text), expected);
    }

    #[test]
    fn elements_are_what_the_parser_reads(values in prop::collection::vec(json_value(), 0..5), is_pretty: bool) {
        let document = Value::Array(values.clone());
        let text = if is_pretty { format!("{document:#}") } else { document.to_string() };
        let expected: Vec<_> = values.into_iter().map(Ok).collect();
        prop_assert_eq!(data(InputFormat::Json, &text), expected);
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        r#"[\[\]{},"\\ a\n]{0,6}"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-c\"\\]]{0,2}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
