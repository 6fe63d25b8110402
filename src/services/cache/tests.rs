use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use tokio::time::{self, advance};

use super::*;
use crate::telemetry::Meter;

const SECOND: Duration = Duration::from_secs(1);

fn cache(max_entries: usize, max_bytes: usize) -> MemoryCache {
    MemoryCache::new(CacheLimits { max_entries, max_bytes, is_kept: false })
}

fn roomy() -> MemoryCache {
    MemoryCache::new(CacheLimits::default())
}

fn keys(cache: &MemoryCache, prefix: &str) -> Vec<String> {
    cache.list_keys(prefix).iter().map(ToString::to_string).collect()
}

#[test]
fn the_last_value_of_a_key_is_found_until_it_is_deleted() {
    let cache = roomy();
    assert_eq!(cache.get("a"), None);
    cache.put("a", json!(1), None).unwrap();
    cache.put("a", json!({"b": [2]}), None).unwrap();
    assert_eq!(cache.get("a").as_deref(), Some(&json!({"b": [2]})));
    assert!(cache.delete("a") && !cache.delete("a"));
    assert_eq!(cache.get("a"), None);
    assert_eq!(cache.size(), (0, 0));
}

#[test]
fn keys_are_listed_by_what_they_begin_with_in_their_order() {
    let cache = roomy();
    for key in ["b", "a/2", "a", "a/1", "a/10", "ä", ""] {
        cache.put(key, json!(key), None).unwrap();
    }
    assert_eq!(keys(&cache, "a/"), ["a/1", "a/10", "a/2"]);
    assert_eq!(keys(&cache, "a/1"), ["a/1", "a/10"]);
    assert_eq!(keys(&cache, "ä"), ["ä"]);
    assert_eq!(keys(&cache, "").len(), 7);
    assert_eq!(keys(&cache, "c"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_value_is_gone_when_its_time_is_over_and_a_new_one_has_a_time_of_its_own() {
    let cache = roomy();
    cache.put("short", json!(1), Some(SECOND)).unwrap();
    cache.put("renewed", json!(1), Some(SECOND)).unwrap();
    cache.put("lasting", json!(1), Some(Duration::MAX)).unwrap();
    advance(SECOND / 2).await;
    cache.put("renewed", json!(2), None).unwrap();
    assert!(cache.get("short").is_some());
    advance(SECOND / 2).await;
    assert_eq!(cache.get("short"), None);
    assert!(!cache.delete("short"));
    assert_eq!(keys(&cache, ""), ["lasting", "renewed"]);
    advance(1_000_000 * SECOND).await;
    assert_eq!(keys(&cache, ""), ["lasting", "renewed"]);
}

#[test]
fn what_was_not_used_for_the_longest_time_makes_room() {
    let cache = cache(3, usize::MAX);
    for key in ["a", "b", "c"] {
        cache.put(key, json!(0), None).unwrap();
    }
    cache.get("a");
    cache.put("b", json!(1), None).unwrap();
    // Neither a listing nor a look at what is not there is a use.
    cache.list_keys("");
    cache.get("d");
    cache.put("d", json!(0), None).unwrap();
    assert_eq!(keys(&cache, ""), ["a", "b", "d"]);
    cache.put("e", json!(0), None).unwrap();
    assert_eq!(keys(&cache, ""), ["b", "d", "e"]);
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_makes_room_before_anything_that_has_not() {
    let cache = cache(2, usize::MAX);
    cache.put("lasting", json!(0), None).unwrap();
    cache.put("short", json!(0), Some(SECOND)).unwrap();
    advance(SECOND).await;
    cache.put("new", json!(0), None).unwrap();
    assert_eq!(keys(&cache, ""), ["lasting", "new"]);
}

#[test]
fn values_make_room_for_a_larger_one_until_it_fits_and_none_for_one_that_never_will() {
    let text = |length: usize| json!("x".repeat(length));
    let one = weight::of("a", &text(1000));
    let cache = cache(usize::MAX, 3 * one);
    for key in ["a", "b", "c"] {
        cache.put(key, text(1000), None).unwrap();
    }
    assert_eq!(cache.size(), (3, 3 * one));
    cache.put("d", text(1001), None).unwrap();
    assert_eq!(keys(&cache, ""), ["c", "d"]);
    let error = cache.put("c", text(3 * one), None).unwrap_err();
    assert_eq!(error.max_bytes, 3 * one);
    assert_eq!(keys(&cache, ""), ["c", "d"]);
    assert_eq!(cache.get("c").as_deref(), Some(&text(1000)));
}

#[test]
fn a_value_weighs_at_least_what_it_takes() {
    let text = "x".repeat(5000);
    for value in [json!(text), json!([text]), json!({ "a": { text.as_str(): 1 } })] {
        assert!((5000..6000).contains(&weight::of("k", &value)), "{value}");
    }
    assert!(weight::of(&text, &json!(null)) > 5000);
    assert!(weight::of("", &json!(vec![0; 1000])) >= 1000 * size_of::<Value>());
}

/// Scenario: values with a short time are put, and nobody asks for them again. Guarantee: they do not fill the cache.
#[tokio::test(start_paused = true)]
async fn what_has_expired_does_not_linger() {
    let cache = roomy();
    for n in 0..1000 {
        cache.put(&format!("short-{n}"), json!(n), Some(SECOND)).unwrap();
    }
    advance(SECOND).await;
    for n in 0..1000 / SWEEP {
        cache.put("one", json!(n), None).unwrap();
    }
    assert_eq!(cache.size().0, 1);
    for n in 0..100 {
        cache.put(&format!("short-{n}"), json!(n), Some(SECOND)).unwrap();
    }
    advance(SECOND).await;
    for _ in 0..100 {
        cache.get("none");
    }
    assert_eq!(cache.size().0, 1);
}

#[test]
fn a_flow_sees_the_same_cache_as_the_others() {
    let shared: Arc<dyn Cache> = Arc::new(roomy());
    let of = |flow: &str| CountedCache::new(Arc::clone(&shared), Meter::default(), flow.into());
    let (one, other) = (of("one"), of("other"));
    one.put("k", json!(1), None).unwrap();
    assert_eq!(other.get("k").as_deref(), Some(&json!(1)));
    assert_eq!(other.list_keys("").len(), 1);
    assert!(other.delete("k"));
    assert_eq!(one.get("k"), None);
}

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Put(u8, usize, Option<u64>),
    Delete(u8),
    List(u8),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..12_u8;
    let step = prop_oneof![
        key.clone().prop_map(Step::Get),
        (key.clone(), 0..2000_usize, prop::option::of(1..5_u64))
            .prop_map(|(key, size, ttl)| Step::Put(key, size, ttl)),
        key.clone().prop_map(Step::Delete),
        (0..3_u8).prop_map(Step::List),
        (0..3_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

/// What a cache is, in the plainest words: a list, that of the latest use last.
#[derive(Default)]
struct Model {
    entries: Vec<(String, Value, Option<Instant>)>,
}

impl Model {
    fn take(&mut self, key: &str) -> Option<(String, Value, Option<Instant>)> {
        let at = self.entries.iter().position(|(known, ..)| known == key)?;
        Some(self.entries.remove(at))
    }

    fn get(&mut self, key: &str) -> Option<Value> {
        let entry = self.take(key)?;
        let value = entry.1.clone();
        self.entries.push(entry);
        Some(value)
    }

    fn bytes(&self) -> usize {
        self.entries.iter().map(|(key, value, _)| weight::of(key, value)).sum()
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.entries.retain(|(.., expires)| expires.is_none_or(|expires| now < expires));
    }

    fn put(&mut self, key: &str, value: Value, ttl: Option<Duration>, limits: CacheLimits) -> bool {
        if weight::of(key, &value) > limits.max_bytes {
            return false;
        }
        drop(self.take(key));
        self.entries.push((key.to_owned(), value, ttl.map(|ttl| Instant::now() + ttl)));
        while self.entries.len() > limits.max_entries || self.bytes() > limits.max_bytes {
            self.entries.remove(0);
        }
        true
    }
}

/// Keys of which some begin with the same.
fn name(key: u8) -> String {
    format!("{}/{key}", key % 3)
}

async fn check(steps: Vec<Step>, limits: CacheLimits) -> Result<(), TestCaseError> {
    let (cache, mut model) = (MemoryCache::new(limits), Model::default());
    for step in steps {
        model.expire();
        match step {
            Step::Get(key) => {
                prop_assert_eq!(cache.get(&name(key)).as_deref().cloned(), model.get(&name(key)));
            }
            Step::Put(key, size, ttl) => {
                let (value, ttl) = (json!("x".repeat(size)), ttl.map(Duration::from_secs));
                let is_kept = cache.put(&name(key), value.clone(), ttl).is_ok();
                prop_assert_eq!(is_kept, model.put(&name(key), value, ttl, limits));
            }
            Step::Delete(key) => {
                prop_assert_eq!(cache.delete(&name(key)), model.take(&name(key)).is_some());
            }
            Step::List(group) => {
                let prefix = format!("{group}/");
                let known = model.entries.iter().filter(|(key, ..)| key.starts_with(&prefix));
                let known: BTreeMap<_, _> = known.map(|(key, ..)| (key.clone(), ())).collect();
                prop_assert_eq!(keys(&cache, &prefix), known.into_keys().collect::<Vec<_>>());
            }
            Step::Wait(seconds) => time::advance(Duration::from_secs(seconds)).await,
        }
        let (count, bytes) = cache.size();
        prop_assert!(count <= limits.max_entries && bytes <= limits.max_bytes, "{count} keys, {bytes} bytes");
        let entries = cache.entries();
        prop_assert_eq!(entries.by_use.len(), entries.by_key.len());
        prop_assert_eq!(entries.bytes, entries.by_key.values().map(|entry| entry.bytes).sum::<usize>());
        let timed = entries.by_key.values().filter(|entry| entry.expires.is_some()).count();
        prop_assert_eq!(entries.by_end.len(), timed);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Scenario: any operations while time passes, with little room. Guarantee: what is found, kept and forgotten is
    /// what a plain list says, and the limits hold all the time.
    #[test]
    fn any_operations_have_the_results_of_a_plain_list(
        steps in steps(),
        max_entries in 1..8_usize,
        max_bytes in 1000..8000_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(check(steps, CacheLimits { max_entries, max_bytes, is_kept: false }))?;
    }
}
