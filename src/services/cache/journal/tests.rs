use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{plan::CacheLimits, services::cache::MemoryCache, task::Cache as _};

fn limits(max_entries: usize) -> CacheLimits {
    CacheLimits { max_entries, max_bytes: 1 << 20, is_kept: true }
}

fn open(directory: &TempDir, max_entries: usize) -> MemoryCache {
    MemoryCache::kept(limits(max_entries), State::open(directory.path()).unwrap()).unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u32),
    Delete(u8),
    Get(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0..12_u8, any::<u32>()).prop_map(|(key, value)| Op::Put(key, value)),
        2 => (0..12_u8).prop_map(Op::Delete),
        2 => (0..12_u8).prop_map(Op::Get),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Scenario: a small cache, from which keys are pushed out, is used and opened anew. Guarantee: it holds what it held.
    #[test]
    fn the_next_run_has_what_this_one_had(ops in prop::collection::vec(op(), 0..60)) {
        let directory = tempfile::tempdir().unwrap();
        let cache = open(&directory, 5);
        for op in ops {
            match op {
                Op::Put(key, value) => cache.put(&format!("k{key}"), json!(value), None).unwrap(),
                Op::Delete(key) => drop(cache.delete(&format!("k{key}"))),
                Op::Get(key) => drop(cache.get(&format!("k{key}"))),
            }
        }
        let held = |cache: &MemoryCache| -> Vec<_> {
            cache.list_keys("").into_iter().map(|key| (cache.get(&key).unwrap(), key)).collect()
        };
        let before = held(&cache);
        drop(cache);
        prop_assert_eq!(held(&open(&directory, 5)), before);
    }
}

#[test]
fn time_goes_on_while_nobody_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(&directory, 10);
    cache.put("over", json!(1), Some(Duration::from_nanos(1))).unwrap();
    cache.put("later", json!(2), Some(Duration::from_secs(3600))).unwrap();
    cache.put("never", json!(3), Some(Duration::MAX)).unwrap();
    drop(cache);
    let cache = open(&directory, 10);
    let keys: Vec<_> = cache.list_keys("").iter().map(ToString::to_string).collect();
    assert_eq!(keys, ["later", "never"]);
    drop(cache);
    let mut left = Vec::new();
    let journal = Journal::new(State::open(directory.path()).unwrap());
    journal.read(|key, _, ttl| left.push((key.to_owned(), ttl))).unwrap();
    let [(_, Some(later)), (_, None)] = &left[..] else { panic!("{left:?}") };
    assert!(*later > Duration::from_secs(3500) && *later <= Duration::from_secs(3600), "{later:?}");
}

#[test]
fn a_smaller_cache_keeps_what_it_has_room_for() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(&directory, 10);
    (0..10).for_each(|n| cache.put(&format!("k{n}"), json!(n), None).unwrap());
    drop(cache);
    drop(open(&directory, 3));
    assert_eq!(open(&directory, 10).list_keys("").len(), 3);
}
