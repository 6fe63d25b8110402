//! How much memory requests may take at a time, however many there are.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that may be taken at a time. Cheap to clone: clones are one budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    taken: AtomicUsize,
}

/// Why there are no more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// Others have taken them, and will give them back.
    ForNow,
    /// There never are as many.
    ForGood,
}

impl Budget {
    /// Makes one of so many bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, taken: AtomicUsize::new(0) }))
    }

    /// Returns how many bytes there are in all.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Returns a share of nothing yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

/// What one request has taken; it is given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    bytes: usize,
}

impl Share {
    /// Returns how many bytes these are.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes or gives back, so that these are the bytes of the share.
    ///
    /// # Errors
    /// There are not enough left; then the share is what it was.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let Inner { limit, taken } = &*self.budget.0;
        if let Some(more) = bytes.checked_sub(self.bytes) {
            let add = |taken: usize| taken.checked_add(more).filter(|taken| taken <= limit);
            taken
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
                .map_err(|_| if bytes > *limit { Exhausted::ForGood } else { Exhausted::ForNow })?;
        } else {
            taken.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_never_take_more_than_there_is_and_give_all_of_it_back(
            steps in proptest::collection::vec((0..4_usize, 0..150_usize), 0..40),
        ) {
            let budget = Budget::new(100);
            let mut shares: [Share; 4] = std::array::from_fn(|_| budget.share());
            let mut sizes = [0; 4];
            for (n, bytes) in steps {
                let others: usize = sizes.iter().sum::<usize>() - sizes[n];
                let expected = if bytes <= sizes[n] || others + bytes <= 100 {
                    sizes[n] = bytes;
                    Ok(())
                } else if bytes > 100 {
                    Err(Exhausted::ForGood)
                } else {
                    Err(Exhausted::ForNow)
                };
                prop_assert_eq!(shares[n].resize(bytes), expected);
            }
            drop(shares);
            prop_assert_eq!(budget.share().resize(100), Ok(()));
        }
    }
}
