//! What outcomes set going, put off to the end of a batch.
//!
//! A task that is woken amid a batch is taken by another thread at once, which sleeps again before the next one is woken.
//! Those that are woken together cost one awakening.

use std::{cell::RefCell, mem};

type Action = Box<dyn FnOnce()>;

thread_local! {
    /// What was put off; `None` outside of a batch.
    static LATER: RefCell<Option<Vec<Action>>> = const { RefCell::new(None) };
}

/// Runs a batch, and then what was put off meanwhile, also if the batch panics.
pub fn batch<T>(run: impl FnOnce() -> T) -> T {
    let _end = End(LATER.replace(Some(Vec::new())));
    run()
}

/// Does something at the end of the batch that this thread runs, or at once if it runs none.
pub fn after_batch(action: impl FnOnce() + 'static) {
    let mut action: Option<Action> = Some(Box::new(action));
    LATER.with_borrow_mut(|later| {
        if let Some(later) = later {
            later.extend(action.take());
        }
    });
    if let Some(action) = action {
        action();
    }
}

/// Ends a batch, and goes on with the one that it was run in.
struct End(Option<Vec<Action>>);

impl Drop for End {
    fn drop(&mut self) {
        let later = LATER.replace(mem::take(&mut self.0));
        later.into_iter().flatten().for_each(|action| action());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        rc::Rc,
    };

    use super::*;

    #[test]
    fn what_is_put_off_is_done_when_its_batch_ends_however_it_does() {
        let done = Rc::new(RefCell::new(Vec::new()));
        let put_off = |n: u8| {
            let done = Rc::clone(&done);
            after_batch(move || done.borrow_mut().push(n));
        };
        put_off(1);
        assert_eq!(*done.borrow(), [1]);
        batch(|| {
            put_off(3);
            batch(|| put_off(2));
            assert_eq!(*done.borrow(), [1, 2]);
        });
        assert_eq!(*done.borrow(), [1, 2, 3]);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            batch(|| {
                put_off(4);
                panic!("amid a batch");
            })
        }));
        assert!(panicked.is_err());
        put_off(5);
        assert_eq!(*done.borrow(), [1, 2, 3, 4, 5]);
    }
}
