//! Random histories of files against what a source lets in that follows them: appends, also of parts of lines, renames,
//! truncation, copies that are followed by it, deletion and new files, with looks and restarts of the source in between.
//!
//! Every line names the content that it stands in and its number there, so that what was torn or mixed shows. A line may be
//! missing only if it was destroyed before a look could come upon it, or, after a restart of the process, before it was
//! handled.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{super::super::identity::Identity, *};

/// How many looks may pass before a writer has to have left a file that was renamed.
const LATE: usize = UNTIL_FINISHED / 2;

/// What happens to one of the files.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// So many lines are appended, and maybe a part of one.
    Append {
        lines: usize,
        is_torn: bool,
    },
    /// It is renamed; the next line makes a new one.
    Rename,
    /// A writer that has it open still appends to one that was renamed.
    AppendLate {
        lines: usize,
    },
    Truncate,
    /// It is copied and truncated, and so many lines are written at once.
    CopyAndTruncate {
        lines: usize,
    },
    Delete,
    /// The source looks so often.
    Look {
        looks: usize,
    },
    /// The source is built again behind an event: all before it entered, in this process, and nothing after it.
    Panic {
        at: prop::sample::Index,
    },
    /// The process starts again: all before an event was handled, and nothing after it.
    Crash {
        at: prop::sample::Index,
    },
}

fn deeds() -> impl Strategy<Value = Vec<(usize, Deed)>> {
    let deed = prop_oneof![
        6 => (0..5_usize, any::<bool>()).prop_map(|(lines, is_torn)| Deed::Append { lines, is_torn }),
        2 => Just(Deed::Rename),
        1 => (1..3_usize).prop_map(|lines| Deed::AppendLate { lines }),
        1 => Just(Deed::Truncate),
        1 => (0..20_usize).prop_map(|lines| Deed::CopyAndTruncate { lines }),
        1 => Just(Deed::Delete),
        6 => (1..3_usize).prop_map(|looks| Deed::Look { looks }),
        1 => any::<prop::sample::Index>().prop_map(|at| Deed::Panic { at }),
        1 => any::<prop::sample::Index>().prop_map(|at| Deed::Crash { at }),
    ];
    prop::collection::vec((0..3_usize, deed), 1..60)
}

/// What stands in one file, or stood in it until it was truncated.
#[derive(Debug)]
struct Content {
    tag: usize,
    path: std::path::PathBuf,
    /// Its whole lines.
    lines: usize,
    /// The part of a line at its end.
    torn: Option<String>,
    /// When it was renamed, in looks.
    left: Option<usize>,
    /// Whether a look found it at its first path.
    is_seen: bool,
}

impl Content {
    fn line(tag: usize, n: usize) -> String {
        format!("{tag}-{n}-{}", "x".repeat(tag * 7 % 30 + n * 11 % 50))
    }

    fn own(&self) -> impl Iterator<Item = String> + use<'_> {
        (0..self.lines).map(|n| Self::line(self.tag, n))
    }
}

/// What was written, and what may be missing of it.
#[derive(Debug, Default)]
struct History {
    format: &'static str,
    contents: BTreeMap<usize, Content>,
    /// The content of each file that a writer opens by its name.
    current: BTreeMap<usize, usize>,
    tags: usize,
    looks: usize,
    written: BTreeSet<String>,
    /// Ends of files that were left, which count as lines.
    ends: BTreeSet<String>,
    excused: BTreeSet<String>,
}

impl History {
    fn begin(&mut self, folder: &Path, file: usize) -> usize {
        let path = folder.join(format!("{file}.log"));
        self.tags += 1;
        let content = Content { tag: self.tags, path, lines: 0, torn: None, left: None, is_seen: false };
        self.contents.insert(self.tags, content);
        self.current.insert(file, self.tags);
        self.tags
    }

    fn append(&mut self, tag: usize, lines: usize, is_torn: bool) {
        let is_table = self.format == "csv";
        let content = self.contents.get_mut(&tag).unwrap();
        let mut text = String::new();
        let length = fs::metadata(&content.path).map_or(0, |metadata| metadata.len());
        if is_table && length == 0 {
            text.push_str("k\n");
        }
        for _ in 0..lines {
            let line = Content::line(tag, content.lines);
            let begun = content.torn.take().unwrap_or_default();
            text.push_str(&line[begun.len()..]);
            text.push('\n');
            content.lines += 1;
            self.written.insert(line);
        }
        if is_torn {
            let line = Content::line(tag, content.lines);
            let begun = content.torn.clone().unwrap_or_default();
            let end = (begun.len() + 4).min(line.len());
            text.push_str(&line[begun.len()..end]);
            content.torn = Some(line[..end].to_owned());
        }
        write(&content.path, &text);
    }

    /// Notes that nobody finds the lines of a content any more that were not let in yet.
    fn destroy(&mut self, tag: usize, so_far: &BTreeSet<String>) {
        let content = self.contents.remove(&tag).unwrap();
        self.excused.extend(content.own().filter(|line| !so_far.contains(line)));
        self.ends.extend(content.torn);
        self.current.retain(|_, current| *current != tag);
    }

    /// Notes that a look has come to its end.
    fn looked(&mut self) {
        self.looks += 1;
        self.contents
            .values_mut()
            .filter(|content| content.left.is_none())
            .for_each(|content| content.is_seen = true);
    }

    /// Notes that the next source knows only of the files that it has positions of: it cannot find another one that was
    /// renamed.
    fn forget_unknown(&mut self, resumptions: &[Resumption]) {
        // Numbers come again.
        let is_known = |path: &Path| {
            let identity = fs::metadata(path)
                .ok()
                .map(|metadata| serde_json::to_value(Identity::of(&metadata)).unwrap());
            resumptions.iter().any(|resumption| resumption.position.at.get("file") == identity.as_ref())
        };
        for content in self.contents.values_mut() {
            content.is_seen = is_known(&content.path);
            if content.left.is_some() && !content.is_seen {
                self.excused.extend(content.own());
            }
        }
    }

    fn rename(&mut self, folder: &Path, file: usize) {
        let Some(tag) = self.current.remove(&file) else { return };
        let content = self.contents.get_mut(&tag).unwrap();
        let path = folder.join(format!("{file}.old.{tag}"));
        if content.path.exists() {
            fs::rename(&content.path, &path).unwrap();
        }
        content.path = path;
        content.left = Some(self.looks);
        self.ends.extend(content.torn.clone());
        if !content.is_seen {
            // Nobody could know that it was one of the files.
            let lines: Vec<_> = content.own().collect();
            self.excused.extend(lines);
        }
    }
}

/// Returns the line of an event.
fn line(admitted: &Admitted) -> String {
    let record = admitted.result.as_ref().unwrap();
    let data = record.data.json().unwrap();
    data.as_str().or_else(|| data["k"].as_str()).unwrap().to_owned()
}

/// Runs a history, and returns it with all that was let in.
async fn run(
    pattern: &str,
    format: &'static str,
    open_files: usize,
    deeds: &[(usize, Deed)],
) -> (History, Vec<String>, bool) {
    let scene = Scene::new(pattern);
    let folder = scene.folder.path();
    let mut config = scene.config.clone();
    config["format"] = format.into();
    let mut history = History { format, ..History::default() };
    let (mut came, mut resumptions, mut has_crashed) = (Vec::new(), Vec::new(), false);
    let mut deeds = deeds.iter();
    loop {
        let (source, mut looks) = follower(config.clone(), &scene.context, open_files);
        let collector = Collector::until(usize::MAX).resumed(resumptions);
        let told = async {
            looks.ended().await;
            history.looked();
            let mut end = None;
            for (file, deed) in deeds.by_ref() {
                let so_far =
                    || -> BTreeSet<String> { came.iter().cloned().chain(collector.so_far(line)).collect() };
                let current = history.current.get(file).copied();
                match *deed {
                    Deed::Append { lines, is_torn } => {
                        let tag = current.unwrap_or_else(|| history.begin(folder, *file));
                        history.append(tag, lines, is_torn);
                    }
                    Deed::Rename => history.rename(folder, *file),
                    Deed::AppendLate { lines } => {
                        let is_late = |content: &&Content| {
                            content.left.is_some_and(|left| history.looks < left + LATE) && content.is_seen
                        };
                        if let Some(tag) = history.contents.values().find(is_late).map(|content| content.tag)
                        {
                            history.append(tag, lines, false);
                        }
                    }
                    Deed::Truncate | Deed::CopyAndTruncate { .. } => {
                        let Some(tag) = current else { continue };
                        let path = history.contents[&tag].path.clone();
                        let lines = match *deed {
                            Deed::CopyAndTruncate { lines } if path.exists() => {
                                fs::copy(&path, folder.join(format!("copy.{tag}"))).unwrap();
                                lines
                            }
                            _ => 0,
                        };
                        history.destroy(tag, &so_far());
                        if path.exists() {
                            fs::write(&path, "").unwrap();
                        }
                        let tag = history.begin(folder, *file);
                        history.append(tag, lines, false);
                    }
                    Deed::Delete => {
                        let Some(tag) = current else { continue };
                        if history.contents[&tag].path.exists() {
                            fs::remove_file(&history.contents[&tag].path).unwrap();
                        }
                        history.destroy(tag, &so_far());
                    }
                    Deed::Look { looks: count } => {
                        for _ in 0..count {
                            looks.grant(1).await;
                            history.looked();
                        }
                    }
                    Deed::Panic { at } => end = Some((at, false)),
                    Deed::Crash { at } => end = Some((at, true)),
                }
                if end.is_some() {
                    break;
                }
            }
            if end.is_none() {
                looks.grant(2 * UNTIL_FINISHED).await;
            }
            collector.stop();
            end
        };
        let ((result, admitted, _), end) = tokio::join!(collector.clone().run(source), told);
        result.unwrap();
        let lines: Vec<_> = admitted.iter().map(line).collect();
        let Some((at, is_crash)) = end else {
            came.extend(lines);
            return (history, came, has_crashed);
        };
        let kept = at.index(lines.len() + 1);
        resumptions = collector.resumptions_at(kept);
        let (lines, lost) = lines.split_at(kept);
        came.extend_from_slice(lines);
        if is_crash {
            has_crashed = true;
            resumptions.iter_mut().for_each(|resumption| resumption.events = 0);
        }
        history.forget_unknown(&resumptions);
        // What was let in for nothing has to come again, unless it is not there any more.
        let there: BTreeSet<_> =
            history.contents.values().flat_map(|content| content.own().collect::<Vec<_>>()).collect();
        let is_nowhere = |line: &&String| !there.contains(*line) && !came.contains(line);
        history.excused.extend(lost.iter().filter(is_nowhere).cloned());
    }
}

fn check(history: &History, came: &[String], has_crashed: bool) {
    let seen: BTreeSet<_> = came.iter().cloned().collect();
    for line in &seen {
        assert!(history.written.contains(line) || history.ends.contains(line), "torn or mixed: {line}");
    }
    let missing: Vec<_> =
        history.written.difference(&seen).filter(|line| !history.excused.contains(*line)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    if !has_crashed {
        assert_eq!(seen.len(), came.len(), "twice");
    }
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    for line in came.iter().filter(|line| history.written.contains(*line)) {
        let mut parts = line.split('-').map(|part| part.parse::<usize>());
        let (tag, n) = (parts.next().unwrap().unwrap(), parts.next().unwrap().unwrap());
        let next = last.entry(tag).or_insert(n);
        // After a crash it goes back, never ahead.
        assert!(
            n <= *next || n == *next + 1 || history.excused.contains(&Content::line(tag, n - 1)),
            "out of order: {line}"
        );
        *next = if has_crashed { n.max(*next) } else { n };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn every_line_arrives_whole_and_in_order(
        pattern in prop_oneof![Just("0.log"), Just("*.log"), Just("?.*")],
        format in prop_oneof![Just("text"), Just("csv")],
        open_files in prop_oneof![Just(1_usize), Just(128)],
        deeds in deeds(),
    ) {
        // A path names one file only.
        let is_one = pattern == "0.log";
        let deeds: Vec<_> = deeds.into_iter().map(|(file, deed)| (if is_one { 0 } else { file }, deed)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (history, came, has_crashed) = runtime.block_on(run(pattern, format, open_files, &deeds));
        check(&history, &came, has_crashed);
    }
}
