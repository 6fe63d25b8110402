use std::fs;

use serde_json::json;

use super::*;
use crate::{state::Owner, task::Position};

const OWNER: Owner<'static> = Owner { flow: "orders", task: "read" };

fn position(part: &str, offset: u64) -> Position {
    Position { part: part.into(), at: json!({ "offset": offset }) }
}

async fn keep(state: &State, owner: Owner<'_>, reached: &[Position], gone: &[&str]) {
    state.keep_positions(owner, reached, gone.iter().copied()).await.unwrap();
}

fn sorted(mut positions: Vec<Position>) -> Vec<Position> {
    positions.sort_by(|one, other| one.part.cmp(&other.part));
    positions
}

fn chain(error: &StateError) -> String {
    crate::telemetry::error_chain(error)
}

#[tokio::test]
async fn what_was_kept_is_there_the_next_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    let state = State::open(&path).unwrap();
    assert!(state.positions(OWNER).unwrap().is_empty());
    keep(&state, OWNER, &[position("x", 1), position("y", 2)], &[]).await;
    keep(&state, OWNER, &[position("y", 3), position("z", 4)], &["x"]).await;
    // Names that are the beginning of others are others.
    keep(&state, Owner { flow: "order", task: "sread" }, &[position("x", 9)], &[]).await;
    keep(&state, Owner { task: "rea", ..OWNER }, &[position("dx", 9)], &[]).await;
    drop(state);
    let state = State::open(&path).unwrap();
    assert_eq!(state.positions(OWNER).unwrap(), [position("y", 3), position("z", 4)]);
}

#[tokio::test]
async fn one_worker_has_a_state_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(directory.path()).unwrap();
    let error = State::open(directory.path()).unwrap_err().to_string();
    let at = directory.path().display();
    let expected = format!(
        "the state in `{at}` is in use by process {}: stop that worker, or give this one a `state.path` of its own",
        std::process::id()
    );
    assert_eq!(error, expected);
    drop(state);
    State::open(directory.path()).unwrap();
}

/// Scenario: the file of the store is cut, emptied, changed anywhere, replaced, of another program, or gone. Guarantee: it
/// is refused with what to do, and left as it is.
#[tokio::test]
async fn what_is_broken_or_foreign_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    let state = State::open(directory.path()).unwrap();
    let many: Vec<_> = (0..2000).map(|n| position(&format!("part-{n}"), n)).collect();
    keep(&state, OWNER, &many, &[]).await;
    drop(state);
    let whole = fs::read(&file).unwrap();
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("a header alone", whole[..512].to_vec()),
        ("empty", Vec::new()),
        ("a text", b"hello, world".repeat(1000)),
        ("zeros", vec![0; whole.len()]),
    ];
    // Wherever it stands: some places are not in use.
    for n in 0..10 {
        let key = format!("part-{}", 1000 + 97 * n);
        let mut changed = whole.clone();
        let places = memchr::memmem::find_iter(&whole, &key).collect::<Vec<_>>();
        places.into_iter().for_each(|at| changed[at + 5] ^= 0x03);
        cases.push(("changed", changed));
    }
    for n in 0..20 {
        let mut changed = whole.clone();
        let at = whole.len() * n / 20;
        changed[at..(at + 64).min(whole.len())].iter_mut().for_each(|byte| *byte ^= 0x5a);
        cases.push(("changed somewhere", changed));
    }
    for (what, bytes) in &cases {
        fs::write(&file, bytes).unwrap();
        match State::open(directory.path()) {
            Err(error) => {
                let told = chain(&error);
                assert!(told.contains("state"), "{what}: {told}");
                assert_eq!(&fs::read(&file).unwrap(), bytes, "{what}: it was changed");
            }
            // What was changed is not in use, or is what a crash may leave: all that was kept is there.
            Ok(state) => {
                assert_eq!(*what, "changed somewhere");
                assert_eq!(sorted(state.positions(OWNER).unwrap()), sorted(many.clone()));
            }
        }
    }
    fs::remove_file(&file).unwrap();
    let error = State::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("`state.redb` is gone"), "{error}");
    fs::write(&file, &whole).unwrap();
    assert_eq!(State::open(directory.path()).unwrap().positions(OWNER).unwrap().len(), many.len());
}

#[test]
fn a_state_of_another_version_is_named_as_such() {
    let directory = tempfile::tempdir().unwrap();
    drop(State::open(directory.path()).unwrap());
    let file = directory.path().join(FILE);
    let newer = Change::new(ABOUT, FORMAT_KEY.to_vec(), Some(7_u64.to_le_bytes().to_vec()));
    write(&builder().open(&file).unwrap(), [&newer].into_iter()).unwrap();
    let error = State::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("is of format 7, and this version of flowgen knows format 1"), "{error}");
    fs::remove_file(&file).unwrap();
    let other = Change::new(TableDefinition::new("theirs"), vec![1], Some(vec![2]));
    write(&builder().create(&file).unwrap(), [&other].into_iter()).unwrap();
    let error = State::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("is a store of another program"), "{error}");
}

/// Scenario: the store cannot be written for a while. Guarantee: what could not be kept says so, what was kept stays, and
/// as soon as it can be written it is.
#[tokio::test]
async fn a_failed_write_is_told_and_a_later_one_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(directory.path()).unwrap();
    keep(&state, OWNER, &[position("x", 1)], &[]).await;
    let file = directory.path().join(FILE);
    let aside = directory.path().join("aside");
    fs::rename(&file, &aside).unwrap();
    // As after a failed write: the file is opened anew, and is not there.
    state.0.store.open_again();
    let error = state.keep_positions(OWNER, &[position("x", 2)], [].into_iter()).await.unwrap_err();
    assert!(chain(&error).starts_with("cannot write the state in"), "{}", chain(&error));
    fs::rename(&aside, &file).unwrap();
    // The first one finds it closed and opens it.
    drop(state.keep_positions(OWNER, &[position("x", 3)], [].into_iter()).await);
    keep(&state, OWNER, &[position("x", 4)], &[]).await;
    assert_eq!(state.positions(OWNER).unwrap(), [position("x", 4)]);
}
