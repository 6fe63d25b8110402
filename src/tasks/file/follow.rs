//! The source that never ends: it reads what is written to files, while it is written.
//!
//! It looks at them again and again, which works on every file system. The looking and the reading block, and have a thread
//! of their own ([`Lane`]); what is made of the bytes happens here. Files have their turns one after the other, and between
//! two of them nothing is kept of a file but where its reading stands: a line without its end is read again once it has grown.

mod handles;
mod lane;
mod tail;
mod tracked;
mod turn;
mod watch;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde_json::json;

use self::{
    lane::Lane,
    turn::Turn,
    watch::{Notice, Watch},
};
use super::{
    find::Names,
    position::Saved,
    reader::{Decoding, tell_gone},
};
use crate::{
    format::{self, Blocks, Origin, Place, Reading},
    shutdown::Stop,
    task::{Emitter, Position, Source, TaskError},
};

/// The pause between two looks, while there is something new and while there is not.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
const IDLE_PAUSE: Duration = Duration::from_millis(250);

/// How many files are open at a time. A file that was renamed or deleted can be read to its end while it is one of them; what
/// was renamed is found again otherwise.
pub(super) const OPEN_FILES: usize = 128;

/// How many looks at a file that left the files of the flow show nothing new before it counts as finished. The one in its
/// place waits no longer than that for it to be quiet.
pub(super) const QUIET_LOOKS: u32 = 50;

/// The part of a source that has begun to follow, whatever it has read: what appears later is read from its start.
const BEGUN: &str = "";

/// Waits until the next look; told whether something is going on. Tests replace it.
pub(super) type Pause = Box<dyn FnMut(bool) -> BoxFuture<'static, ()> + Send>;

/// Follows files.
pub(super) struct Follower {
    pub(super) names: Names,
    pub(super) decoding: Decoding,
    /// Whether what is there at the first start of all is left out.
    pub(super) is_from_end: bool,
    /// How many files are open at a time.
    pub(super) open_files: usize,
    pub(super) pause: Pause,
}

/// Returns the pause of everyone but tests.
pub(super) fn pause() -> Pause {
    Box::new(|is_busy| Box::pin(tokio::time::sleep(if is_busy { BUSY_PAUSE } else { IDLE_PAUSE })))
}

#[async_trait]
impl Source for Follower {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        self.follow(emitter, &stop).await
    }

    fn can_resume(&self) -> bool {
        true
    }
}

impl Follower {
    async fn follow(self: Box<Self>, emitter: &mut Emitter, stop: &Stop) -> Result<(), TaskError> {
        let Self { names, decoding, is_from_end, open_files, mut pause } = *self;
        let shown = names.to_string();
        let cannot_look = |error| format::io_error(format!("cannot look for `{shown}`"), error);
        let resumptions = emitter.resumptions();
        let is_first = resumptions.is_empty();
        if is_from_end {
            emitter.reach(Position { part: BEGUN.into(), at: json!({"begun": true}) });
        }
        let saved = resumptions.into_iter().filter_map(Saved::read).collect();
        let watch = Watch::new(names, decoding, open_files, saved, is_from_end && is_first);
        let lane = Lane::start(watch).map_err(|error| format::io_error("cannot start a thread", error))?;
        while let Some(looked) = unless(stop, lane.ask(Watch::look)).await? {
            looked.map_err(&cannot_look)?;
            let mut is_busy = false;
            loop {
                let step = |watch: &mut Watch| (watch.take_notices(), watch.turn(), watch.is_restless());
                let Some((notices, turn, is_restless)) = unless(stop, lane.ask(step)).await? else {
                    return Ok(());
                };
                notices.iter().for_each(|notice| tell(notice, emitter));
                is_busy |= is_restless;
                let Some(turn) = turn.map_err(&cannot_look)? else { break };
                is_busy = true;
                read(turn, decoding, &lane, emitter, stop).await?;
            }
            emitter.flush().await?;
            let paused = async {
                pause(is_busy).await;
                Ok(())
            };
            if unless(stop, paused).await?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// Waits for something, unless `stop` comes first: nobody waits then for a share that does not answer.
async fn unless<R>(
    stop: &Stop,
    wait: impl Future<Output = Result<R, TaskError>>,
) -> Result<Option<R>, TaskError> {
    tokio::select! {
        biased;
        () = stop.stopped() => Ok(None),
        result = wait => result.map(Some),
    }
}

/// Reads a file as far as it goes now.
async fn read(
    turn: Turn,
    decoding: Decoding,
    lane: &Lane<Watch>,
    emitter: &mut Emitter,
    stop: &Stop,
) -> Result<(), TaskError> {
    let Turn { key, name, decoder, place, last, marker, change } = turn;
    let origin = Origin::File(name);
    if let Some(change) = change {
        change.tell(origin.name());
    }
    let (blocks, filler) = Blocks::channel();
    lane.begin(|watch| watch.fill(filler))?;
    let reading = Reading { place, last, ..Reading::new(&origin, blocks, decoder, decoding.trace_context) };
    let mark = |place: &Place, emitter: &mut Emitter| emitter.reach(marker.position(place));
    let place = format::feed(reading, emitter, stop, mark).await?;
    let saved = marker.saved(place);
    unless(stop, lane.ask(move |watch| watch.read(&key, saved, last))).await.map(Option::unwrap_or_default)
}

/// Tells of what a look came upon.
fn tell(notice: &Notice, emitter: &mut Emitter) {
    match notice {
        Notice::Appeared { at } => emitter.reach(at.clone()),
        Notice::Finished { part } => emitter.forget(part),
        Notice::Gone { part, name, is_replaced } => {
            tell_gone(name, *is_replaced);
            emitter.forget(part);
        }
        Notice::Lost { name } => {
            tracing::warn!(file.path = &**name, "the file is gone: what was not read of it is lost")
        }
        Notice::Refused { name } => {
            tracing::warn!(file.path = &**name, "the file may not be opened: it is tried again")
        }
    }
}
