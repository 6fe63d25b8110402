//! The buckets of an exponential histogram: filling, adding and subtracting them, at whatever scales they are.
//!
//! Bucket `i` counts values in `(base^i, base^(i+1)]`, where `base` is 2 to the power of `2^-scale`. Two neighbours,
//! the first of them even, are one bucket of the next lower scale: so a scale can go down and never up again.

/// The highest scale, at which a histogram begins: buckets grow by less than a millionth.
pub(in crate::telemetry) const MAX_SCALE: i32 = 20;

/// More buckets than this lower the scale.
pub(in crate::telemetry) const MAX_BUCKETS: usize = 160;

/// Buckets that follow each other, from the first that was ever needed to the last.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::telemetry) struct Buckets {
    pub(in crate::telemetry) scale: i32,
    /// The index of the first.
    pub(in crate::telemetry) offset: i32,
    pub(in crate::telemetry) counts: Vec<u64>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { scale: MAX_SCALE, offset: 0, counts: Vec::new() }
    }
}

impl Buckets {
    /// Counts a value, whose bucket is `index` at the highest scale.
    pub(super) fn record(&mut self, index: i32) {
        if self.at(index).is_none() {
            let own = index >> (MAX_SCALE - self.scale);
            self.cover(own, own);
        }
        if let Some(count) = self.at(index) {
            *count += 1;
        }
    }

    /// Adds what other buckets count.
    pub(in crate::telemetry) fn add(&mut self, other: &Self) {
        let Some(last) = other.last() else { return };
        self.lower(self.scale - self.scale.min(other.scale));
        let by = other.scale - self.scale;
        self.cover(other.offset >> by, last >> by);
        let by = other.scale - self.scale;
        for (index, count) in (other.offset..).zip(&other.counts) {
            self.counts[((index >> by) - self.offset) as usize] += count;
        }
    }

    /// Returns what was counted since these buckets were `earlier`; nothing if they never were.
    pub(in crate::telemetry) fn since(&self, earlier: &Self) -> Option<Self> {
        let by = u32::try_from(earlier.scale - self.scale).ok()?;
        let mut since = self.clone();
        for (index, count) in (earlier.offset..).zip(&earlier.counts).filter(|(_, count)| **count > 0) {
            let place = usize::try_from((index >> by) - self.offset).ok()?;
            let own = since.counts.get_mut(place)?;
            *own = own.checked_sub(*count)?;
        }
        Some(since)
    }

    /// Returns the bucket of an index at the highest scale, if there is one.
    fn at(&mut self, index: i32) -> Option<&mut u64> {
        let place = (index >> (MAX_SCALE - self.scale)).wrapping_sub(self.offset);
        // A negative one becomes larger than any length.
        self.counts.get_mut(place as usize)
    }

    fn last(&self) -> Option<i32> {
        let after_first = self.counts.len().checked_sub(1)?;
        Some(self.offset + after_first as i32)
    }

    /// Makes room for the buckets from `low` to `high`, at a lower scale if there would be too many.
    fn cover(&mut self, low: i32, high: i32) {
        let (low, high) = match self.last() {
            Some(last) => (low.min(self.offset), high.max(last)),
            None => (low, high),
        };
        let mut by = 0;
        while (high >> by) - (low >> by) >= MAX_BUCKETS as i32 {
            by += 1;
        }
        self.lower(by);
        let (low, high) = (low >> by, high >> by);
        if !self.counts.is_empty() {
            self.counts.splice(0..0, (low..self.offset).map(|_| 0));
        }
        self.offset = low;
        self.counts.resize((high - low) as usize + 1, 0);
    }

    /// Lowers the scale: every bucket becomes one with its neighbours.
    fn lower(&mut self, by: i32) {
        if by == 0 {
            return;
        }
        let first = self.offset >> by;
        let mut wider = Vec::new();
        for (index, count) in (self.offset..).zip(&self.counts) {
            let place = ((index >> by) - first) as usize;
            wider.resize(place + 1, 0);
            wider[place] += count;
        }
        *self = Self { scale: self.scale - by, offset: first, counts: wider };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(indices: &[i32]) -> Buckets {
        let mut buckets = Buckets::default();
        indices.iter().for_each(|index| buckets.record(*index));
        buckets
    }

    /// The highest scale at which all indices fit, and how often each occurs there.
    fn model(indices: &[i32]) -> Buckets {
        let Some((low, high)) = indices.iter().min().zip(indices.iter().max()) else {
            return Buckets::default();
        };
        let by = (0..).find(|by| (high >> by) - (low >> by) < MAX_BUCKETS as i32).unwrap();
        let mut counts = vec![0; ((high >> by) - (low >> by) + 1) as usize];
        indices.iter().for_each(|index| counts[((index >> by) - (low >> by)) as usize] += 1);
        Buckets { scale: MAX_SCALE - by, offset: low >> by, counts }
    }

    /// Indices that are close to each other, or far from each other, on both sides of zero.
    fn indices() -> impl Strategy<Value = Vec<i32>> {
        let centre = -31_000_000..36_000_000;
        (centre, 0..26).prop_flat_map(|(centre, bits)| {
            prop::collection::vec((centre - (1 << bits))..(centre + (1 << bits)), 0..100)
        })
    }

    #[test]
    fn a_bucket_more_than_fits_lowers_the_scale_by_one() {
        let most = MAX_BUCKETS as i32;
        assert_eq!(of(&[-10, most - 11]).scale, MAX_SCALE);
        assert_eq!(of(&[-10, most - 10]).scale, MAX_SCALE - 1);
        assert_eq!(of(&[-3, -2, -1, 0, 1, most]).counts[..4], [1, 2, 2, 0]);
    }

    #[test]
    fn what_shrank_or_became_finer_is_not_the_same_histogram() {
        let (few, many) = (of(&[1, 2]), of(&[1, 2, 2]));
        assert_eq!(many.since(&few).map(|since| since.counts), Some(vec![0, 1]));
        assert_eq!(few.since(&many), None);
        assert_eq!(few.since(&of(&[0])), None);
        assert_eq!(few.since(&of(&[3])), None);
        assert_eq!(few.since(&of(&[1, 1_000_000])), None);
    }

    proptest! {
        #[test]
        fn buckets_are_those_of_the_highest_scale_at_which_everything_fits(indices in indices()) {
            prop_assert_eq!(of(&indices), model(&indices));
        }

        #[test]
        fn adding_is_recording_both(left in indices(), right in indices()) {
            let mut sum = of(&left);
            sum.add(&of(&right));
            prop_assert_eq!(sum, model(&[left, right].concat()));
        }

        #[test]
        fn what_was_counted_since_is_what_is_to_be_added(earlier in indices(), since in indices()) {
            let mut earlier = of(&earlier);
            let mut now = earlier.clone();
            since.iter().for_each(|index| now.record(*index));
            let growth = now.since(&earlier).unwrap();
            prop_assert_eq!(growth.counts.iter().sum::<u64>(), since.len() as u64);
            prop_assert_eq!(growth.scale, now.scale);
            earlier.add(&growth);
            prop_assert_eq!(earlier, now);
        }
    }
}
