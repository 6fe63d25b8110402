use std::{
    io::{self, Read},
    sync::Mutex,
};

use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    event::Payload,
    format::InputFormat,
    task::{
        ErrorClass, Position, Resumption, Source,
        testing::{Admitted, Collector},
    },
};

const LIMIT: usize = 20;

/// Feeds a text in pieces, and fails behind it if it is to.
struct Fed {
    format: InputFormat,
    text: Vec<u8>,
    piece: usize,
    fails: Option<i32>,
    last: LastRecord,
    /// Where it ended.
    end: Arc<Mutex<Place>>,
}

impl Fed {
    fn new(format: InputFormat, text: impl Into<Vec<u8>>) -> Self {
        let (text, last) = (text.into(), LastRecord::Complete);
        Self { format, text, piece: usize::MAX, fails: None, last, end: Arc::default() }
    }

    async fn run(self) -> (Result<(), TaskError>, Vec<Admitted>) {
        let (result, admitted, _) = Collector::until(usize::MAX).run(Box::new(self)).await;
        (result, admitted)
    }

    /// Runs it to the end where another one left off, and returns what it let in.
    async fn go_on(self, resumptions: Vec<Resumption>) -> Vec<Admitted> {
        let collector = Collector::until(usize::MAX).resumed(resumptions);
        let (result, admitted, _) = collector.run(Box::new(self)).await;
        result.unwrap();
        admitted
    }
}

struct Pieces {
    text: io::Cursor<Vec<u8>>,
    piece: usize,
    fails: Option<i32>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.piece);
        match (self.text.read(&mut buffer[..length])?, self.fails) {
            (0, Some(code)) => Err(io::Error::from_raw_os_error(code)),
            (length, _) => Ok(length),
        }
    }
}

fn position(place: &Place) -> Position {
    let &Place { offset, line, records, open, .. } = place;
    Position { part: "".into(), at: json!([offset, line, records, open]) }
}

fn place(resumption: Resumption) -> Place {
    let (offset, line, records, open) = serde_json::from_value(resumption.position.at).unwrap();
    Place { offset, line, records, open, left_out: resumption.events, ..Place::default() }
}

#[async_trait]
impl Source for Fed {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        let Self { format, text, piece, fails, last, end } = *self;
        let place = emitter.resumptions().pop().map_or(*end.lock().unwrap(), place);
        let (decoder, from) = Decoder::resume(format, LIMIT, &place, &text[..]).unwrap();
        let mut text = io::Cursor::new(text);
        text.set_position(from);
        let blocks = Blocks::read(move || Ok(Pieces { text, piece, fails })).unwrap();
        let origin = Origin::Stream(Arc::new(Input::new("in")));
        let reading =
            Reading { place, last, ..Reading::new(&origin, blocks, decoder, TraceContextMode::Ignore) };
        let place = feed(reading, emitter, &stop, |place, emitter| emitter.reach(position(place))).await?;
        *end.lock().unwrap() = place;
        Ok(())
    }
}

fn offset(admitted: &Admitted) -> u64 {
    match admitted.id {
        EventId::Stream { offset, .. } => offset,
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_record_of_no_file_is_described_by_its_size_alone() {
    let (result, admitted) = Fed::new(InputFormat::Text, "one\n").run().await;
    result.unwrap();
    let attributes = &admitted[0].attributes;
    assert_eq!(attributes.get(RECORD_SIZE), Some(&3_i64.into()));
    assert_eq!(attributes.iter().len(), 1);
}

type Seen = (u64, u64, Result<Value, String>);

fn seen(admitted: &Admitted) -> Seen {
    let data = admitted.result.as_ref().map(|record| record.data.json().unwrap().clone());
    let (_, line) = admitted.id.position().unwrap();
    (offset(admitted), line.into(), data.map_err(ToString::to_string))
}

fn all_seen(admitted: &[Admitted]) -> Vec<Seen> {
    admitted.iter().map(seen).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn formats() -> impl Strategy<Value = InputFormat> {
    prop_oneof![
        Just(InputFormat::Jsonl),
        Just(InputFormat::Text),
        Just(InputFormat::Csv),
        Just(InputFormat::Json)
    ]
}

const TEXT: &str = r#"(\u{feff})?([\[\]{}",\\:a1 \r\n\u{e9}]|,\n|\[1,|"a"|\n"|\r\n|aaaaaaaaaaa){0,30}"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Scenario: an input in blocks of any size, interrupted behind any of its records. Guarantee: another reading that
    /// goes on from there lets in what is left of it, once and the same as without the interruption.
    #[test]
    fn reading_goes_on_behind_any_record(format in formats(), text in TEXT, pieces: (u8, u8)) {
        let fed = |piece: u8| Fed { piece: usize::from(piece % 40) + 1, ..Fed::new(format, text.as_str()) };
        runtime().block_on(async {
            let whole = Collector::until(usize::MAX);
            let (result, all, _) = whole.clone().run(Box::new(fed(pieces.0))).await;
            result.unwrap();
            for n in 0..=all.len() {
                let rest = fed(pieces.1).go_on(whole.resumptions_at(n)).await;
                assert_eq!(all_seen(&rest), all_seen(&all[n..]), "{text:?} behind {n}");
            }
        });
    }

    /// Scenario: an input is read to its end, and again when it has grown. Guarantee: every record of the whole comes, none
    /// comes twice, and only the last one of what was there first may have come in part before.
    #[test]
    fn an_input_that_has_grown_is_read_on(format in formats(), text in TEXT, cut: prop::sample::Index, piece: u8) {
        let cut = cut.index(text.len() + 1);
        let fed = |text: &str| Fed { piece: usize::from(piece % 40) + 1, ..Fed::new(format, text) };
        let fed_bytes = |bytes: &[u8]| Fed { text: bytes.to_vec(), ..fed("") };
        runtime().block_on(async {
            let before = Collector::until(usize::MAX);
            let (result, first, _) = before.clone().run(Box::new(fed_bytes(&text.as_bytes()[..cut]))).await;
            result.unwrap();
            let rest = all_seen(&fed(&text).go_on(before.resumptions_at(first.len())).await);
            let (_, all) = fed(&text).run().await;
            let all = all_seen(&all);
            let (first, mut came) = (all_seen(&first), rest.clone());
            let kept = first.split_last().map_or(&[][..], |(last, before)| {
                if rest.first() != Some(last) && all.contains(last) { &first[..] } else { before }
            });
            came.splice(0..0, kept.iter().cloned());
            if format == InputFormat::Json {
                // Where a document that is not closed fails moves with its end.
                let good = |seen: &[Seen]| seen.iter().filter(|seen| seen.2.is_ok()).cloned().collect::<Vec<_>>();
                assert_eq!(good(&came), good(&all), "{text:?} cut at {cut}");
            } else {
                assert_eq!(came, all, "{text:?} cut at {cut}");
            }
        });
    }

    /// Scenario: an input is looked at while it grows, and a last record without its end is left for later. Guarantee: the
    /// records are those of an input that was there all at once.
    #[test]
    fn an_input_that_grows_has_the_same_records(
        format in prop_oneof![Just(InputFormat::Jsonl), Just(InputFormat::Text), Just(InputFormat::Csv)],
        text in TEXT,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        piece: u8,
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        runtime().block_on(async {
            let end = Arc::new(Mutex::new(Place::default()));
            let mut came = Vec::new();
            let fed = |bytes: &[u8], last| Fed {
                piece: usize::from(piece % 40) + 1,
                last,
                end: Arc::clone(&end),
                ..Fed::new(format, bytes)
            };
            for cut in cuts {
                let (_, some) = fed(&text.as_bytes()[..cut], LastRecord::Awaited).run().await;
                came.extend(all_seen(&some));
            }
            let (_, some) = fed(text.as_bytes(), LastRecord::Complete).run().await;
            came.extend(all_seen(&some));
            let (_, all) = Fed::new(format, text.as_str()).run().await;
            assert_eq!(came, all_seen(&all), "{text:?}");
        });
    }
}

#[tokio::test]
async fn a_position_is_told_before_the_first_record_and_every_so_many() {
    let text = "1\n".repeat(1000);
    let collector = Collector::until(usize::MAX);
    let (_, admitted, _) = collector.clone().run(Box::new(Fed::new(InputFormat::Jsonl, text))).await;
    assert_eq!(admitted.len(), 1000);
    let events: Vec<_> = [0, 255, 256, 300, 1000]
        .map(|n| {
            collector
                .resumptions_at(n)
                .pop()
                .map(|resumption| (place(resumption.clone()).offset, resumption.events))
        })
        .to_vec();
    assert_eq!(events, [Some((0, 0)), Some((0, 255)), Some((512, 0)), Some((512, 44)), Some((2000, 0))]);
}

#[tokio::test]
async fn an_input_that_is_shorter_than_what_was_read_is_an_error() {
    let resumption = Resumption { position: position(&Place::default()), events: 3 };
    let collector = Collector::until(usize::MAX).resumed(vec![resumption]);
    let (result, admitted, _) = collector.run(Box::new(Fed::new(InputFormat::Text, "one\ntwo\n"))).await;
    let error = result.unwrap_err();
    let why = "`in` is shorter than before: 1 of the records that were read are not there any more";
    assert_eq!((error.class(), error.to_string().as_str()), (ErrorClass::Permanent, why));
    assert!(admitted.is_empty());
}

#[tokio::test]
async fn what_may_pass_by_itself_is_transient_and_costs_no_record() {
    // EIO, ESTALE, EMFILE, ETIMEDOUT; EACCES and ENOENT for comparison.
    for (code, class) in [
        (5, ErrorClass::Transient),
        (116, ErrorClass::Transient),
        (24, ErrorClass::Transient),
        (110, ErrorClass::Transient),
        (13, ErrorClass::Permanent),
        (2, ErrorClass::Permanent),
    ] {
        let text = "1\n2\n3\n4";
        let before = Collector::until(usize::MAX);
        let failing = Fed { fails: Some(code), ..Fed::new(InputFormat::Jsonl, text) };
        let (result, first, _) = before.clone().run(Box::new(failing)).await;
        let error = result.unwrap_err();
        assert_eq!((error.class(), error.error_type()), (class, IO), "{code}");
        assert_eq!(error.to_string(), "cannot read `in`");
        let rest = Fed::new(InputFormat::Jsonl, text).go_on(before.resumptions_at(first.len())).await;
        let offsets: Vec<_> = first.iter().chain(&rest).map(offset).collect();
        assert_eq!(offsets, [0, 2, 4, 6]);
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_decoded_goes_along_as_it_is() {
    let of = |format, text: &[u8]| Fed::new(format, text).run();
    let raw = |admitted: &Admitted| admitted.result.as_ref().unwrap_err().record().cloned();
    let text = |admitted: &Admitted| raw(admitted).unwrap().json().cloned().unwrap();
    let (_, admitted) = of(InputFormat::Jsonl, b"1\n{secret\r\n\xffx\n{\"a long one\": 12345678}\n").await;
    assert!(admitted[0].result.is_ok());
    assert_eq!(text(&admitted[1]), "{secret");
    assert!(matches!(raw(&admitted[2]), Some(Payload::Bytes(bytes)) if bytes[..] == b"\xffx"[..]));
    assert!(raw(&admitted[3]).is_none(), "one that is too long is not kept");
    for admitted in &admitted[1..] {
        let error = admitted.result.as_ref().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        assert!(!format!("{:?}", admitted.attributes).contains("secret"));
        assert!(error.clone().without_record().record().is_none());
    }
    let (_, admitted) = of(InputFormat::Csv, b"a,b\n1\n").await;
    assert_eq!(text(&admitted[0]), "1");
    let (_, admitted) = of(InputFormat::Json, b"[1, {x}]").await;
    assert_eq!(text(&admitted[1]), "{x}");
}
