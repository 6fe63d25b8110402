//! What a source reads that follows files, look by look: a test says when it looks and knows when it has.

use std::{path::Path, sync::Arc};

use tokio::sync::{Semaphore, mpsc};

use super::{follow::QUIET_LOOKS, *};
use crate::{
    shutdown::Stop,
    task::{Emitter, Resumption, TaskError},
};

mod model;

/// More looks than it takes until a file is finished.
const UNTIL_FINISHED: usize = QUIET_LOOKS as usize + 5;

/// The looks of a source, which a test grants.
struct Looks {
    granted: Arc<Semaphore>,
    /// One for each look that has come to its end.
    ended: mpsc::UnboundedReceiver<()>,
}

impl Looks {
    /// Waits for the first look, which nobody has to grant, or for one that was granted.
    async fn ended(&mut self) {
        self.ended.recv().await.expect("the source has ended");
    }

    /// Grants so many looks, and waits for them.
    async fn grant(&mut self, looks: usize) {
        for _ in 0..looks {
            self.granted.add_permits(1);
            self.ended().await;
        }
    }
}

/// Makes a source that looks when it may.
fn follower(config: Value, context: &BuildContext, open_files: usize) -> (Box<Follower>, Looks) {
    let config: Config = serde_json::from_value(config).unwrap();
    let granted = Arc::new(Semaphore::new(0));
    let (end, ended) = mpsc::unbounded_channel();
    let looks = Looks { granted: Arc::clone(&granted), ended };
    let pause = move |_| {
        let granted = Arc::clone(&granted);
        end.send(()).unwrap();
        Box::pin(async move { granted.acquire().await.unwrap().forget() }) as _
    };
    let follower = Follower {
        names: Names::new(&config.path, context).unwrap(),
        decoding: Decoding {
            format: config.format,
            limit: config.max_line_bytes.0,
            trace_context: config.trace_context,
        },
        is_from_end: config.start_at == StartAt::End,
        open_files,
        pause: Box::new(pause),
    };
    (Box::new(follower), looks)
}

/// A source that follows the files of a folder, and what it let in.
struct Scene {
    folder: TempDir,
    context: BuildContext,
    config: Value,
    open_files: usize,
    resumptions: Vec<Resumption>,
}

impl Scene {
    fn new(path: &str) -> Self {
        let (folder, context) = folder(&[]);
        let config = json!({"path": path, "format": "text", "follow": true});
        Self { folder, context, config, open_files: 128, resumptions: Vec::new() }
    }

    /// Runs a source through a story, which begins behind its first look, and returns what it let in. The next one goes on
    /// behind all of that.
    async fn run(&mut self, story: impl AsyncFnOnce(&Path, &mut Looks)) -> Vec<String> {
        let (source, mut looks) = follower(self.config.clone(), &self.context, self.open_files);
        let collector = Collector::until(usize::MAX).resumed(std::mem::take(&mut self.resumptions));
        let told = async {
            looks.ended().await;
            story(self.folder.path(), &mut looks).await;
            collector.stop();
        };
        let ((result, admitted, _), ()) = tokio::join!(collector.clone().run(source), told);
        result.unwrap();
        self.resumptions = collector.resumptions_at(admitted.len());
        admitted.iter().map(brief).collect()
    }

    /// Returns how many files it has positions of.
    fn positions(&self) -> usize {
        self.resumptions.len()
    }
}

/// Shows an event as `<path>:<line> <text>`, or its error.
fn brief(admitted: &Admitted) -> String {
    let (path, line) = admitted.id.position().unwrap();
    match &admitted.result {
        Ok(record) => {
            let data = record.data.json().unwrap();
            format!("{path}:{line} {}", data.as_str().map_or_else(|| data.to_string(), str::to_owned))
        }
        Err(error) => format!("{path}:{line} {error}"),
    }
}

fn write(path: &Path, text: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn what_is_appended_is_read_and_a_line_waits_for_its_end() {
    let mut scene = Scene::new("in");
    let came = scene
        .run(async |folder, looks| {
            let file = folder.join("in");
            looks.grant(2).await;
            for piece in ["one\ntw", "", "o", "\nthr", "ee\r\n\n", "rest"] {
                write(&file, piece);
                looks.grant(1).await;
            }
        })
        .await;
    assert_eq!(came, ["in:1 one", "in:2 two", "in:3 three", "in:4 "]);
    let came = scene
        .run(async |folder, looks| {
            write(&folder.join("in"), " of it\n");
            looks.grant(1).await;
        })
        .await;
    assert_eq!(came, ["in:5 rest of it"]);
    assert_eq!(scene.positions(), 1);
}

#[tokio::test]
async fn a_renamed_file_is_read_to_its_end_before_the_one_in_its_place() {
    for open_files in [1, 128] {
        let mut scene = Scene { open_files, ..Scene::new("in") };
        let came = scene
            .run(async |folder, looks| {
                let (file, old) = (folder.join("in"), folder.join("in.1"));
                write(&file, "1\n");
                looks.grant(1).await;
                write(&file, "2\n");
                fs::rename(&file, &old).unwrap();
                looks.grant(1).await;
                write(&old, "3\n");
                looks.grant(3).await;
                write(&old, "4\n");
                write(&file, "a\n");
                looks.grant(1).await;
                write(&old, "5\n");
                looks.grant(1).await;
                write(&file, "b\n");
                looks.grant(1).await;
                write(&old, "6 without an end");
                looks.grant(UNTIL_FINISHED).await;
                write(&file, "c\n");
                looks.grant(1).await;
            })
            .await;
        let old = ["in:1 1", "in:2 2", "in:3 3", "in:4 4", "in:5 5"];
        assert_eq!(came[..5], old);
        assert_eq!(came[5..], ["in:1 a", "in:2 b", "in:6 6 without an end", "in:3 c"]);
        assert_eq!(scene.positions(), 1, "the old file is forgotten");
    }
}

#[tokio::test]
async fn a_file_whose_writers_never_leave_it_holds_up_the_one_in_its_place_for_a_while_only() {
    let mut scene = Scene::new("in");
    let came = scene
        .run(async |folder, looks| {
            let (file, old) = (folder.join("in"), folder.join("in.1"));
            write(&file, "0\n");
            looks.grant(1).await;
            fs::rename(&file, &old).unwrap();
            write(&file, "new\n");
            for n in 1..2 * QUIET_LOOKS {
                write(&old, &format!("{n}\n"));
                looks.grant(1).await;
            }
        })
        .await;
    assert_eq!(came.len(), 2 * QUIET_LOOKS as usize + 1);
    assert_eq!(came.iter().position(|line| line == "in:1 new"), Some(QUIET_LOOKS as usize + 2));
}

#[tokio::test]
async fn a_truncated_file_is_read_from_its_start() {
    let mut scene = Scene::new("in");
    let came = scene
        .run(async |folder, looks| {
            let file = folder.join("in");
            write(&file, "one\ntwo\npart");
            looks.grant(1).await;
            fs::write(&file, "").unwrap();
            looks.grant(1).await;
            write(&file, "three\n");
            looks.grant(1).await;
            // Rewritten between two looks: shorter, as long, and longer than what was read.
            for text in ["4\n", "5\n", "six\nseven\neight\n"] {
                fs::write(&file, text).unwrap();
                looks.grant(1).await;
            }
        })
        .await;
    assert_eq!(
        came,
        ["in:1 one", "in:2 two", "in:1 three", "in:1 4", "in:1 5", "in:1 six", "in:2 seven", "in:3 eight"]
    );
    // The same between two runs.
    fs::write(scene.folder.path().join("in"), "nine\nten\neleven\ntwelve\n").unwrap();
    assert_eq!(scene.run(async |_, _| {}).await.len(), 4);
    assert_eq!(scene.positions(), 1);
}

#[tokio::test]
async fn a_deleted_file_is_read_to_its_end_and_another_one_may_take_its_place() {
    let mut scene = Scene::new("d/in");
    let came = scene
        .run(async |folder, looks| {
            looks.grant(1).await;
            fs::create_dir(folder.join("d")).unwrap();
            let file = folder.join("d/in");
            looks.grant(1).await;
            write(&file, "1\n");
            looks.grant(1).await;
            write(&file, "2\nrest");
            fs::remove_file(&file).unwrap();
            looks.grant(UNTIL_FINISHED).await;
            write(&file, "a\n");
            looks.grant(1).await;
            fs::remove_file(&file).unwrap();
            write(&file, "b\n");
            looks.grant(2).await;
            fs::remove_dir_all(folder.join("d")).unwrap();
            looks.grant(UNTIL_FINISHED).await;
        })
        .await;
    assert_eq!(came, ["d/in:1 1", "d/in:2 2", "d/in:3 rest", "d/in:1 a", "d/in:1 b"]);
    assert_eq!(scene.positions(), 0);
}

#[tokio::test]
async fn files_of_a_pattern_appear_and_keep_their_names() {
    let mut scene = Scene { open_files: 2, ..Scene::new("*.log*") };
    let came = scene
        .run(async |folder, looks| {
            looks.grant(1).await;
            for name in ["b.log", "a.log", "c.log", "d.other"] {
                write(&folder.join(name), &format!("{name} 1\n"));
            }
            looks.grant(1).await;
            // What is renamed is not read again.
            fs::rename(folder.join("a.log"), folder.join("a.log.1")).unwrap();
            write(&folder.join("a.log.1"), "a.log 2\n");
            write(&folder.join("a.log"), "another\n");
            looks.grant(2).await;
            write(&folder.join("b.log"), "b.log 2\n");
            looks.grant(UNTIL_FINISHED).await;
            write(&folder.join("a.log.1"), "a.log 3\n");
            looks.grant(1).await;
        })
        .await;
    let expected = [
        "a.log:1 a.log 1",
        "b.log:1 b.log 1",
        "c.log:1 c.log 1",
        "a.log:2 a.log 2",
        "a.log:1 another",
        "b.log:2 b.log 2",
        "a.log:3 a.log 3",
    ];
    assert_eq!(came, expected);
    assert_eq!(scene.positions(), 4);
}

#[tokio::test]
async fn it_begins_at_the_end_only_with_what_is_there_at_the_first_start() {
    let mut scene = Scene::new("*.log");
    scene.config["start_at"] = "end".into();
    write(&scene.folder.path().join("a.log"), "old\nold\nbeg");
    let came = scene
        .run(async |folder, looks| {
            write(&folder.join("a.log"), "un\n");
            write(&folder.join("b.log"), "new\n");
            looks.grant(1).await;
        })
        .await;
    // Lines count from where it began.
    assert_eq!(came, ["a.log:1 begun", "b.log:1 new"]);
    write(&scene.folder.path().join("a.log"), "meanwhile\n");
    write(&scene.folder.path().join("c.log"), "also meanwhile\n");
    assert_eq!(scene.run(async |_, _| {}).await, ["a.log:2 meanwhile", "c.log:1 also meanwhile"]);

    let mut scene = Scene::new("later.log");
    scene.config["start_at"] = "end".into();
    scene.run(async |_, looks| looks.grant(1).await).await;
    write(&scene.folder.path().join("later.log"), "first\n");
    assert_eq!(scene.run(async |_, _| {}).await, ["later.log:1 first"]);
}

/// Scenario: files come and go while one waits that it begins at the end. Guarantee: what appears in a later run is read from
/// its start, also then.
#[tokio::test]
async fn it_stays_begun_whatever_becomes_of_the_files() {
    let mut scene = Scene::new("*.log");
    scene.config["start_at"] = "end".into();
    scene
        .run(async |folder, looks| {
            let file = folder.join("a.log");
            for text in ["", "1\n"] {
                write(&file, text);
                looks.grant(1).await;
                fs::remove_file(&file).unwrap();
                looks.grant(UNTIL_FINISHED).await;
            }
        })
        .await;
    assert_eq!(scene.positions(), 1);
    write(&scene.folder.path().join("b.log"), "2\n");
    assert_eq!(scene.run(async |_, _| {}).await, ["b.log:1 2"]);
}

#[tokio::test]
async fn rows_keep_their_header_from_look_to_look() {
    let mut scene = Scene::new("in");
    scene.config["format"] = "csv".into();
    let came = scene
        .run(async |folder, looks| {
            for piece in ["a,", "b\n1,", "2\n", "\"x\n", "y\",3\n4\n", "5,6\n"] {
                write(&folder.join("in"), piece);
                looks.grant(1).await;
            }
        })
        .await;
    let expected = [
        r#"in:2 {"a":"1","b":"2"}"#,
        r#"in:3 {"a":"x\ny","b":"3"}"#,
        "in:5 the row has 1 fields, the header has 2",
        r#"in:6 {"a":"5","b":"6"}"#,
    ];
    assert_eq!(came, expected);
}

/// Scenario: a line far beyond the limit grows look by look. Guarantee: it is one failure, and what was passed over of it is
/// not read again.
#[tokio::test]
async fn a_line_that_is_too_long_is_passed_over_in_pieces() {
    let mut scene = Scene::new("in");
    scene.config["max_line_bytes"] = 10.into();
    let came = scene
        .run(async |folder, looks| {
            for _ in 0..5 {
                write(&folder.join("in"), "0123456789");
                looks.grant(1).await;
            }
            write(&folder.join("in"), "\nshort\n");
            looks.grant(1).await;
        })
        .await;
    assert_eq!(came, ["in:1 the record is longer than 10 bytes (`max_line_bytes`)", "in:2 short"]);
}

/// Scenario: one file has more to read than a turn may take. Guarantee: another one need not wait for all of it, and the rest
/// is read at the next looks, although nothing is written any more.
#[tokio::test]
async fn a_large_file_does_not_hold_up_the_others() {
    let mut scene = Scene::new("*.log");
    let line = "x".repeat(1 << 20) + "\n";
    write(&scene.folder.path().join("a.log"), &line.repeat(50));
    write(&scene.folder.path().join("b.log"), "small\n");
    let came = scene.run(async |_, looks| looks.grant(4).await).await;
    assert_eq!(came.len(), 51);
    assert!(came.iter().position(|line| line == "b.log:1 small") < Some(25));
}

#[tokio::test]
async fn a_file_with_two_names_is_read_once() {
    let mut scene = Scene::new("*.log");
    let came = scene
        .run(async |folder, looks| {
            write(&folder.join("a.log"), "1\n");
            fs::hard_link(folder.join("a.log"), folder.join("b.log")).unwrap();
            looks.grant(2).await;
            fs::remove_file(folder.join("a.log")).unwrap();
            write(&folder.join("b.log"), "2\n");
            looks.grant(2).await;
        })
        .await;
    assert_eq!(came, ["a.log:1 1", "a.log:2 2"]);
}

/// Scenario: more files than may be open, each written to in turn. Guarantee: all of it is read, and no more files are open
/// than there may be.
#[tokio::test]
async fn a_thousand_files_need_few_that_are_open() {
    let mut scene = Scene { open_files: 4, ..Scene::new("d/*") };
    let came = scene
        .run(async |folder, looks| {
            fs::create_dir(folder.join("d")).unwrap();
            for round in 0..2 {
                for n in 0..1000 {
                    write(&folder.join(format!("d/{n}")), &format!("{round}\n"));
                }
                looks.grant(1).await;
            }
            let below = folder.to_owned();
            let open =
                fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
            assert!(open.filter(|path| path.starts_with(&below)).count() <= 4);
        })
        .await;
    assert_eq!(came.len(), 2000);
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused() {
    let (folder, context) = folder(&[("d/x", "")]);
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for (path, why) in [
        ("pipe", "`pipe` is no file: a pipe or a device cannot be followed"),
        ("p*", "`pipe` is no file: a pipe or a device cannot be followed"),
        ("d", "`d` is a directory"),
        ("d/x[", "`d/x[` is neither a file nor a pattern"),
    ] {
        let error = build(json!({"path": path, "follow": true}), &context).await.err().unwrap();
        assert_eq!(error.to_string(), why);
    }
    for path in ["nothing", "nothing*", "d/*"] {
        let source = build(json!({"path": path, "follow": true}), &context).await.unwrap();
        assert_eq!((source.extent(), source.can_resume()), (None, true));
    }
}

#[tokio::test]
async fn it_looks_by_itself_and_stops_at_once() {
    let (folder, context) = folder(&[("in", "1\n")]);
    let source = build(json!({"path": "in", "format": "text", "follow": true}), &context).await.unwrap();
    let collector = Collector::until(2);
    let append = async {
        while collector.so_far(brief).is_empty() {
            tokio::task::yield_now().await;
        }
        write(&folder.path().join("in"), "2\n");
    };
    // The second record ends it.
    let ((result, admitted, _), ()) = tokio::join!(collector.clone().run(source), append);
    result.unwrap();
    assert_eq!(admitted.len(), 2);
}

/// Scenario: a file is truncated and rewritten all the time while it is read. Guarantee: what comes are lines that were
/// written, and of each content the first ones in order.
#[tokio::test]
async fn content_that_replaces_another_while_it_is_read_is_never_mixed_with_it() {
    let mut scene = Scene::new("in");
    let came = scene
        .run(async |folder, looks| {
            let file = folder.join("in");
            let (done, is_done) = std::sync::mpsc::channel::<()>();
            let writer = std::thread::spawn(move || {
                for tag in 0..400_usize {
                    let lines: String = (0..tag % 7 * 3000).map(|n| format!("{tag}-{n}-\n")).collect();
                    fs::write(&file, lines).unwrap();
                }
                drop(done);
            });
            while is_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                looks.grant(1).await;
            }
            writer.join().unwrap();
            looks.grant(2).await;
        })
        .await;
    let mut last = (0, None);
    for line in &came {
        let (_, line) = line.split_once(' ').unwrap();
        let numbers: Vec<usize> = line.split_terminator('-').map(|number| number.parse().unwrap()).collect();
        assert!(line.ends_with('-') && numbers.len() == 2 && numbers[1] < 20_000, "{line}");
        let next = if numbers[0] == last.0 { last.1.map_or(0, |n: usize| n + 1) } else { 0 };
        assert_eq!(numbers[1], next, "{line} behind {last:?}");
        last = (numbers[0], Some(numbers[1]));
    }
}

#[tokio::test]
async fn a_stop_before_the_start_reads_nothing() {
    let (_folder, context) = folder(&[("in", "1\n")]);
    let (source, _looks) = follower(json!({"path": "in", "follow": true}), &context, 4);
    let stop = Stop::default();
    stop.stop();
    let mut emitter = Emitter::new(Box::new(Collector::until(1)));
    let result: Result<(), TaskError> = source.run(&mut emitter, stop).await;
    result.unwrap();
}
