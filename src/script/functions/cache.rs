//! `ctx.cache`: what scripts remember of one event for another.

use std::{sync::Arc, time::Duration};

use rhai::{Array, Dynamic, Engine};

use super::{super::native, Thrown, json_value, thrown};
use crate::task::Cache;

/// What stands behind `ctx.cache`.
#[derive(Clone)]
pub(in super::super) struct CacheKeys(pub(in super::super) Arc<dyn Cache>);

/// Registers its functions.
pub(super) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<CacheKeys>("cache");
    engine.register_fn("get", |keys: &mut CacheKeys, key: &str| {
        keys.0.get(key).map_or(Dynamic::UNIT, |value| native::from_json(&value))
    });
    engine.register_fn("put", |keys: &mut CacheKeys, key: &str, value: Dynamic| put(keys, key, &value, None));
    engine.register_fn("put", |keys: &mut CacheKeys, key: &str, value: Dynamic, ttl: i64| {
        put(keys, key, &value, Some(u64::try_from(ttl).map_or(Duration::ZERO, Duration::from_secs)))
    });
    engine.register_fn("put", |keys: &mut CacheKeys, key: &str, value: Dynamic, ttl: f64| {
        // What is too long for a duration is too long for any clock.
        let longest = if ttl > 0.0 { Duration::MAX } else { Duration::ZERO };
        put(keys, key, &value, Some(Duration::try_from_secs_f64(ttl).unwrap_or(longest)))
    });
    engine.register_fn("put", |keys: &mut CacheKeys, key: &str, value: Dynamic, ttl: &str| {
        let ttl = humantime::parse_duration(ttl)
            .map_err(|_| thrown("the time to live is no duration such as `10m`"))?;
        put(keys, key, &value, Some(ttl))
    });
    engine.register_fn("delete", |keys: &mut CacheKeys, key: &str| keys.0.delete(key));
    engine.register_fn("list_keys", |keys: &mut CacheKeys, prefix: &str| -> Array {
        keys.0.list_keys(prefix).iter().map(|key| Dynamic::from(key.to_string())).collect()
    });
}

fn put(keys: &CacheKeys, key: &str, value: &Dynamic, ttl: Option<Duration>) -> Thrown<bool> {
    if ttl.is_some_and(|ttl| ttl.is_zero()) {
        return Err(thrown("the time to live is not longer than zero"));
    }
    keys.0.put(key, json_value(value)?, ttl).map_err(|error| thrown(error.to_string()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Mutex};

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        event::{Event, EventId, Payload},
        script::{Condition, Limits, Script},
        task::{Emission, Output, TooLarge},
    };

    /// Remembers everything, and with which time to live.
    #[derive(Default)]
    struct Plain(Mutex<BTreeMap<String, Kept>>);

    type Kept = (Arc<Value>, Option<Duration>);

    impl Cache for Plain {
        fn get(&self, key: &str) -> Option<Arc<Value>> {
            self.0.lock().unwrap().get(key).map(|(value, _)| Arc::clone(value))
        }

        fn put(&self, key: &str, value: Value, ttl: Option<Duration>) -> Result<(), TooLarge> {
            if key == "large" {
                return Err(TooLarge { bytes: 2, max_bytes: 1 });
            }
            self.0.lock().unwrap().insert(key.to_owned(), (Arc::new(value), ttl));
            Ok(())
        }

        fn delete(&self, key: &str) -> bool {
            self.0.lock().unwrap().remove(key).is_some()
        }

        fn list_keys(&self, prefix: &str) -> Vec<Arc<str>> {
            let entries = self.0.lock().unwrap();
            entries.keys().filter(|key| key.starts_with(prefix)).map(|key| key.as_str().into()).collect()
        }
    }

    /// Runs a script on `{"n": 7}`, and returns the data that leaves or why it failed.
    fn run(cache: &Arc<Plain>, code: &str) -> Result<Value, String> {
        let script =
            Script::compile(code, &Limits::default()).unwrap_or_else(|error| panic!("{code}: {error}"));
        assert!(!script.uses_resources(), "it reads no files");
        let script = script.with_cache(Arc::<Plain>::clone(cache));
        let mut event = Event::new(EventId::Sequence(0), "s".into(), Payload::from(json!({"n": 7})));
        let mut output = Output::default();
        script.run(&mut event, &mut output).map_err(|error| crate::telemetry::error_chain(&error))?;
        let emission = output.drain().next();
        Ok(match emission {
            Some((_, Emission::Event(event))) => event.data.into_json().unwrap(),
            Some((_, Emission::Forward)) => event.data.into_json().unwrap(),
            _ => Value::Null,
        })
    }

    #[test]
    fn what_one_run_puts_another_gets_lists_and_deletes() {
        let cache = Arc::default();
        let put =
            r#"[ctx.cache.put("a/1", event.data), ctx.cache.put("a/2", [1.5, ()]), ctx.cache.put("b", "x")]"#;
        let code = format!("#{{all: {put}}}");
        assert_eq!(run(&cache, &code), Ok(json!({"all": [true, true, true]})));
        let code = r#"#{one: ctx.cache.get("a/1").n, two: ctx.cache.get("a/2"), none: ctx.cache.get("c")}"#;
        assert_eq!(run(&cache, code), Ok(json!({"one": 7, "two": [1.5, null], "none": null})));
        assert_eq!(run(&cache, r#"#{keys: ctx.cache.list_keys("a/")}"#), Ok(json!({"keys": ["a/1", "a/2"]})));
        let code = r#"#{once: ctx.cache.delete("b"), twice: ctx.cache.delete("b"), got: ctx.cache.get("b")}"#;
        assert_eq!(run(&cache, code), Ok(json!({"once": true, "twice": false, "got": null})));
    }

    #[test]
    fn what_a_script_does_with_a_copy_is_not_in_the_cache() {
        let cache = Arc::default();
        let code = r#"ctx.cache.put("k", event.data); event.data.n = 8; let got = ctx.cache.get("k"); got.n += 1; event"#;
        assert_eq!(run(&cache, code), Ok(json!({"n": 8})));
        assert_eq!(cache.get("k").as_deref(), Some(&json!({"n": 7})));
    }

    #[test]
    fn a_time_to_live_is_seconds_or_a_duration() {
        let cache = Arc::default();
        for (ttl, expected) in [
            ("", None),
            (", 90", Some(Duration::from_secs(90))),
            (", 0.5", Some(Duration::from_millis(500))),
            (", 1.0e30", Some(Duration::MAX)),
            (", \"1m 30s\"", Some(Duration::from_secs(90))),
        ] {
            run(&cache, &format!("ctx.cache.put(\"k\", 1{ttl})")).unwrap();
            assert_eq!(cache.0.lock().unwrap()["k"].1, expected, "{ttl}");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_thrown_and_not_shown() {
        let cache = Arc::default();
        for (arguments, cause) in [
            ("\"k\", 1, 0", "the time to live is not longer than zero"),
            ("\"k\", 1, -1", "the time to live is not longer than zero"),
            ("\"k\", 1, -0.5", "the time to live is not longer than zero"),
            ("\"k\", 1, \"secret\"", "the time to live is no duration such as `10m`"),
            ("\"k\", blob(1)", "cannot become JSON"),
            ("\"large\", 1", "the key and its value take 2 bytes, and the cache has room for 1"),
        ] {
            let error = run(&cache, &format!("ctx.cache.put({arguments})")).unwrap_err();
            assert!(error.contains(cause) && !error.contains("secret"), "{arguments}: {error}");
        }
        assert_eq!(cache.get("k"), None);
    }

    #[test]
    fn functions_and_closures_reach_it_through_ctx() {
        let cache = Arc::default();
        let code = r#"fn keep(c, key) { c.cache.put(key, 1) } keep(ctx.cache, "no")"#;
        assert!(run(&cache, code).is_err(), "a cache has no field `cache`");
        let code = r#"fn keep(cache, key) { cache.put(key, 1) } keep(ctx.cache, "yes"); event"#;
        assert_eq!(run(&cache, code), Ok(json!({"n": 7})));
        assert_eq!(cache.get("yes").as_deref(), Some(&json!(1)));
        let code = r#"["a", "b"].map(|key| ctx.cache.put(key, 2)); event"#;
        assert_eq!(run(&cache, code), Ok(json!({"n": 7})));
        assert_eq!(cache.get("b").as_deref(), Some(&json!(2)));
        for code in [
            "let c = ctx; c.resource.get(``)",
            "[1].map(|n| ctx[`resource`].get(``))",
            "fn f(c) { c.resource } f(ctx)",
        ] {
            assert!(Script::compile(code, &Limits::default()).unwrap().uses_resources(), "{code}");
        }
    }

    #[test]
    fn a_condition_has_no_cache() {
        let error = Condition::compile("event.data.n > 1 &&\n  ctx.cache.get(\"k\") == ()").unwrap_err();
        assert_eq!((error.line, error.column), (2, 7));
        assert_eq!(error.message, "`ctx.cache` is not available in conditions");
        assert!(error.hint.is_some());
    }
}
