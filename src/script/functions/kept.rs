//! What was compiled from text at run time, kept for the next time.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

/// How many are kept. A script that makes up ever new ones makes the store start anew.
const COUNT: usize = 256;
/// The longest text that is kept, in bytes.
const LENGTH: usize = 16 * 1024;

/// What was compiled, by its text. Bounded, and shared by all scripts.
#[derive(Debug)]
pub(super) struct Kept<T>(RwLock<HashMap<Box<str>, Arc<T>>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T> Kept<T> {
    /// Returns what `make` makes of `text`, or made of it before. Nobody waits while it does; two that need
    /// the same at once make it twice.
    pub(super) fn get_or_make<E>(
        &self,
        text: &str,
        make: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        if let Some(made) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(text) {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(make(text)?);
        if text.len() <= LENGTH {
            let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= COUNT {
                kept.clear();
            }
            kept.insert(text.into(), Arc::clone(&made));
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(kept: &Kept<String>, text: &str) -> Arc<String> {
        kept.get_or_make(text, |text| Ok::<_, ()>(text.to_owned())).unwrap()
    }

    #[test]
    fn a_text_is_compiled_once_and_others_do_not_wait_for_it() {
        let kept = Kept::default();
        let made = kept.get_or_make("a", |text| {
            get(&kept, "b");
            Ok::<_, ()>(text.to_owned())
        });
        assert!(Arc::ptr_eq(&made.unwrap(), &get(&kept, "a")));
        assert_eq!(kept.get_or_make("bad", |_| Err("no")), Err("no"));
    }

    #[test]
    fn the_store_stays_bounded() {
        let kept = Kept::default();
        (0..3 * COUNT).for_each(|n| drop(get(&kept, &n.to_string())));
        get(&kept, &"x".repeat(LENGTH + 1));
        let kept = kept.0.read().unwrap();
        assert!(kept.len() <= COUNT && kept.keys().all(|text| text.len() <= LENGTH));
    }
}
