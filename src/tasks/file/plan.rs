//! What a source reads, in which order, and from where: the files that are there, and what a source before it read of them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{beside::Beside, find::Input, identity::Identity, position::Saved};

/// A file that is to be read, from its first byte or from where one before left off.
#[derive(Debug)]
pub(super) struct Leg {
    /// As the flow names it, or named it when its reading began.
    pub(super) name: Arc<str>,
    pub(super) path: PathBuf,
    pub(super) saved: Option<Saved>,
    pub(super) sort: Sort,
}

/// What is read of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// All of it, for as long as it is there.
    Whole,
    /// What is left of it: it is not among the files of the flow any more.
    Rest,
    /// What its writers say, once: it is a pipe or a device.
    Once,
}

/// What is to be read, and what is not there any more.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) legs: Vec<Leg>,
    /// Files that were read before and are nowhere, each with whether there is another one in its place.
    pub(super) gone: Vec<(Saved, bool)>,
}

/// Where a file that was read before is now.
enum Whereabouts {
    /// It is this input.
    Input(usize),
    /// It is no input, but lies beside where it was.
    Beside(PathBuf),
}

impl Plan {
    /// Makes a plan. A file that was renamed is known by what the file system says of it, and comes right before the one in
    /// its place.
    pub(super) fn new(inputs: &[Input], base_dir: &Path, saved: Vec<Saved>) -> Self {
        let identities: Vec<_> = inputs.iter().map(|input| identity(&input.path)).collect();
        let mut of_input: Vec<Option<Saved>> = inputs.iter().map(|_| None).collect();
        let mut moved = Vec::new();
        for saved in saved {
            let is_it = |n: &usize| {
                inputs[*n].name == saved.name
                    && identities[*n].is_some_and(|now| now.is_still(&saved.identity))
            };
            match (0..inputs.len()).find(is_it) {
                Some(n) => of_input[n] = Some(saved),
                None => moved.push(saved),
            }
        }
        let mut before: Vec<Vec<Leg>> = inputs.iter().map(|_| Vec::new()).collect();
        let (mut first, mut gone, mut beside) = (Vec::new(), Vec::new(), Beside::default());
        let mut is_taken = vec![false; inputs.len()];
        for saved in moved {
            let is_it =
                |n: &usize| of_input[*n].is_none() && !is_taken[*n] && identities[*n] == Some(saved.identity);
            let found = (0..inputs.len()).find(is_it).map(Whereabouts::Input);
            let found = found.or_else(|| {
                let found = beside.find(&base_dir.join(&*saved.name), &saved.identity);
                found.map(|(path, _)| Whereabouts::Beside(path))
            });
            let successor = inputs.iter().position(|input| input.name == saved.name);
            let (path, sort) = match found {
                Some(Whereabouts::Input(n)) => {
                    is_taken[n] = true;
                    (inputs[n].path.clone(), Sort::Whole)
                }
                Some(Whereabouts::Beside(path)) => (path, Sort::Rest),
                None => {
                    gone.push((saved, successor.is_some()));
                    continue;
                }
            };
            let leg = Leg { name: Arc::clone(&saved.name), path, saved: Some(saved), sort };
            successor.map_or(&mut first, |n| &mut before[n]).push(leg);
        }
        let mut legs = first;
        for (n, (input, saved)) in inputs.iter().zip(of_input).enumerate() {
            legs.append(&mut before[n]);
            if !is_taken[n] {
                let Input { name, path, bytes } = input.clone();
                let sort = if bytes.is_some() { Sort::Whole } else { Sort::Once };
                legs.push(Leg { name, path, saved, sort });
            }
        }
        Self { legs, gone }
    }
}

/// Returns which file is at a path; `None` for what is no file, or not there.
fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| Identity::of(&metadata))
}
