//! What a source reads that goes on where one before it left off.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::task::Resumption;

/// Reads to the end, from where `resumptions` say.
async fn go_on(
    config: &Value,
    context: &BuildContext,
    resumptions: Vec<Resumption>,
) -> (Vec<String>, Collector) {
    let source = build(config.clone(), context).await.unwrap();
    assert!(source.can_resume());
    let collector = Collector::until(usize::MAX).resumed(resumptions);
    let (result, admitted, _) = collector.clone().run(source).await;
    result.unwrap();
    (admitted.iter().map(shown).collect(), collector)
}

/// Reads a folder, changes it, and reads it again behind the first so many events. Returns what came the second time.
async fn changed(
    config: Value,
    files: &[(&str, &str)],
    events: usize,
    change: impl FnOnce(&Path),
) -> (Vec<String>, Vec<String>) {
    let (folder, context) = folder(files);
    let (first, collector) = go_on(&config, &context, Vec::new()).await;
    change(folder.path());
    let (mut second, collector) = go_on(&config, &context, collector.resumptions_at(events)).await;
    let strip = |event: &mut String| *event = event.split_once(' ').unwrap().1.to_owned();
    second.iter_mut().for_each(strip);
    let parts = collector.resumptions_at(second.len());
    assert!(first.len() >= events);
    let mut parts: Vec<_> = parts.iter().map(|resumption| part_name(&resumption.position.part)).collect();
    parts.sort();
    (second, parts)
}

fn part_name(part: &str) -> String {
    part.split('#').next().unwrap().to_owned()
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn text_of(path: &str) -> Value {
    json!({"path": path, "format": "text"})
}

/// Makes the text of a file of one format, with some bad records.
fn document(format: &str, records: usize, end: &str) -> String {
    let lines: Vec<String> = (0..records)
        .map(|n| match (format, n % 50) {
            ("csv", 7) => format!("{n},\"a{end}b\""),
            ("csv", 9) => n.to_string(),
            ("csv", _) => format!("{n},x"),
            (_, 9) => "{".to_owned(),
            (_, _) => format!("{{\"n\":{n}}}"),
        })
        .collect();
    match format {
        "json" => format!(
            "[{}]",
            lines.join(&format!(",{end}")).replace('{', "[").replace('}', "]").replace(':', ",")
        ),
        "csv" => format!("\u{feff}k,l{end}{}", lines.join(end)),
        _ => format!("\u{feff}{}", lines.join(end)).replacen(
            '\u{feff}',
            if format == "text" { "\u{feff}" } else { "" },
            1,
        ),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Scenario: three files of any format and size, read in order and interrupted behind any event. Guarantee: another
    /// source that goes on there reads what is left, once, with the ids and the data of one that was not interrupted.
    #[test]
    fn what_is_left_is_read_behind_any_event(
        format in prop_oneof![Just("jsonl"), Just("csv"), Just("text"), Just("json")],
        sizes in prop::array::uniform3(0..700_usize),
        end in prop_oneof![Just("\n"), Just("\r\n")],
        is_ended: bool,
        places in prop::collection::vec(any::<prop::sample::Index>(), 4),
    ) {
        let text = |n: usize| document(format, sizes[n], end) + if is_ended { end } else { "" };
        let (a, b, c) = (text(0), text(1), text(2));
        let (_folder, context) = folder(&[("d/a.x", &a), ("d/b.x", &b), ("d/c.x", &c)]);
        let config = json!({"path": "d/*.x", "format": format});
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (all, collector) = go_on(&config, &context, Vec::new()).await;
            for place in places {
                let n = place.index(all.len() + 1);
                let (rest, again) = go_on(&config, &context, collector.resumptions_at(n)).await;
                assert_eq!(rest, all[n..], "behind {n}");
                // And once more, from where that one was interrupted.
                let m = place.index(rest.len() + 1);
                let (last, _) = go_on(&config, &context, again.resumptions_at(m)).await;
                assert_eq!(last, rest[m..], "behind {n} and {m}");
            }
        });
    }
}

#[tokio::test]
async fn what_was_appended_is_read_and_a_last_record_that_has_grown_comes_again_whole() {
    for (before, appended, expected) in [
        ("a\nb\n", "c\n", vec!["in:3 \"c\""]),
        ("a\nb", "", vec![]),
        ("a\nb", "\n", vec![]),
        ("a\nb", "\r\nc", vec!["in:3 \"c\""]),
        ("a\nb", "c\nd\n", vec!["in:2 \"bc\"", "in:3 \"d\""]),
        ("b", "c", vec!["in:1 \"bc\""]),
    ] {
        let events = before.lines().count();
        let append = |folder: &Path| append(&folder.join("in"), appended);
        let (came, parts) = changed(text_of("in"), &[("in", before)], events, append).await;
        assert_eq!(came, expected, "{before:?} {appended:?}");
        assert_eq!(parts, ["in"]);
    }
}

#[tokio::test]
async fn a_header_row_that_was_not_whole_yet_is_no_record_later() {
    let config = json!({"path": "in", "format": "csv"});
    for (before, appended) in
        [("a,", "b\n1,2\n"), ("a,b", "\n1,2\n"), ("\n\n", "a,b\n1,2\n"), ("", "a,b\n1,2")]
    {
        let append = |folder: &Path| append(&folder.join("in"), appended);
        let (came, _) = changed(config.clone(), &[("in", before)], 0, append).await;
        assert_eq!(came.len(), 1, "{came:?}");
        assert!(came[0].ends_with(r#"{"a":"1","b":"2"}"#), "{came:?}");
    }
}

#[tokio::test]
async fn a_file_that_was_renamed_is_read_to_its_end_before_the_one_in_its_place() {
    let rotate = |folder: &Path| {
        fs::rename(folder.join("in.log"), folder.join("in.log.1")).unwrap();
        append(&folder.join("in.log.1"), "c\n");
        fs::write(folder.join("in.log"), "d\n").unwrap();
    };
    let expected = ["in.log:2 \"b\"", "in.log:3 \"c\"", "in.log:1 \"d\""];
    let files = [("in.log", "a\nb\n")];
    let (came, parts) = changed(text_of("in.log"), &files, 1, rotate).await;
    assert_eq!(came, expected);
    assert_eq!(parts, ["in.log"], "what is left of the old one is forgotten");
    // The old one is still a file of the flow, and not read again.
    let (came, parts) = changed(text_of("in.log*"), &files, 1, rotate).await;
    assert_eq!(came, expected);
    assert_eq!(parts, ["in.log", "in.log"]);
}

#[tokio::test]
async fn a_file_that_is_another_one_now_is_read_from_its_start() {
    let replace = |folder: &Path| {
        fs::write(folder.join("other"), "x\ny\nz\n").unwrap();
        fs::rename(folder.join("other"), folder.join("in")).unwrap();
    };
    let truncate = |folder: &Path| fs::write(folder.join("in"), "x\n").unwrap();
    let rewrite = |folder: &Path| fs::write(folder.join("in"), "x\nyy\nz\n").unwrap();
    let same_start = |folder: &Path| fs::write(folder.join("in"), "a\nbbb\nz\n").unwrap();
    let files = [("in", "a\nb\nc\n")];
    let first = "in:1 \"x\"";
    let (came, parts) = changed(text_of("in"), &files, 3, replace).await;
    assert_eq!((came.len(), came[0].as_str()), (3, first));
    assert_eq!(parts, ["in"], "the old one is forgotten");
    let (came, parts) = changed(text_of("in"), &files, 3, truncate).await;
    assert_eq!((came, parts), (vec![first.to_owned()], vec!["in".to_owned()]));
    let (came, _) = changed(text_of("in"), &files, 3, rewrite).await;
    assert_eq!((came.len(), came[0].as_str()), (3, first));
    let (came, _) = changed(text_of("in"), &files, 3, same_start).await;
    assert_eq!(came.len(), 3, "a line ended where none does now");
}

#[tokio::test]
async fn a_file_that_is_gone_is_forgotten() {
    let files = [("d/a", "1\n"), ("d/b", "2\n3\n")];
    let remove = |folder: &Path| fs::remove_file(folder.join("d/a")).unwrap();
    let (came, parts) = changed(text_of("d/*"), &files, 2, remove).await;
    assert_eq!(came, ["d/b:2 \"3\""]);
    assert_eq!(parts, ["d/b"]);
}

#[tokio::test]
async fn a_position_says_where_the_next_record_begins_and_of_which_file() {
    let (_folder, context) = folder(&[("in", "a\nbc\nd")]);
    let (events, collector) = go_on(&text_of("in"), &context, Vec::new()).await;
    let positions = collector.resumptions_at(events.len());
    let at = &positions[0].position.at;
    assert_eq!(
        (&at["path"], &at["offset"], &at["line"], &at["open"]),
        (&json!("in"), &json!(5), &json!(3), &json!(6))
    );
    assert_eq!(at["head"]["bytes"], 6);
    assert!(at["file"]["inode"].is_u64(), "{at}");
    assert!(!at.to_string().contains("bc"), "what the file holds stays out of it");
}

#[tokio::test]
async fn a_position_of_another_kind_means_nothing() {
    let (_folder, context) = folder(&[("in", "a\n")]);
    let position = crate::task::Position { part: "".into(), at: json!({"made": 3}) };
    let (events, _) = go_on(&text_of("in"), &context, vec![Resumption { position, events: 0 }]).await;
    assert_eq!(events.len(), 1);
}
