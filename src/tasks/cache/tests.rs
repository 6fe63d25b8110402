use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::{
    event::EventId,
    plan::CacheLimits,
    problem::KeyPath,
    services::cache::MemoryCache,
    task::{Cache as _, Emission},
};

fn config(value: Value) -> Config {
    serde_json::from_value(value).unwrap()
}

fn problems(value: Value) -> Vec<(String, String)> {
    let mut problems = Problems::below(KeyPath::default());
    Cache::check(&config(value), &mut problems);
    problems.into_vec().into_iter().map(|problem| (problem.path.to_string(), problem.message)).collect()
}

fn event(data: impl Into<Payload>) -> Event {
    Event::new(EventId::Sequence(7), "s".into(), data.into())
}

fn cache() -> Arc<MemoryCache> {
    Arc::new(MemoryCache::new(CacheLimits { max_entries: 10, max_bytes: 4096, is_kept: false }))
}

/// Handles one event with a task of `value`, and returns the data that leaves.
async fn handle(cache: &Arc<MemoryCache>, value: Value, event: &Event) -> Result<Value, TaskError> {
    let context = BuildContext {
        cache: Arc::<MemoryCache>::clone(cache),
        ..BuildContext::new("f", "t", PathBuf::new())
    };
    let Task::Processor(task) = Cache::build(&config(value), &context).await.unwrap() else { unreachable!() };
    let mut output = Output::default();
    task.handle(event, &mut output).await?;
    let emissions: Vec<_> = output.drain().map(|(_, emission)| emission).collect();
    let [emission] = <[Emission; 1]>::try_from(emissions).unwrap();
    Ok(match emission {
        Emission::Event(event) => event.data.into_json().unwrap(),
        _ => event.data.json().cloned().unwrap_or_default(),
    })
}

#[tokio::test]
async fn what_is_put_for_one_event_is_got_for_another_until_it_is_deleted() {
    let cache = cache();
    let order = event(json!({"id": "a", "lines": [1, 2]}));
    let put = json!({"operation": "put", "key": "order/{{ event.data.id }}"});
    assert_eq!(handle(&cache, put, &order).await.unwrap(), json!({"id": "a", "lines": [1, 2]}));
    let get = json!({"operation": "get", "key": "order/{{ event.data.order }}"});
    let other = event(json!({"order": "a"}));
    let found = json!({"order": "a", "cached": {"id": "a", "lines": [1, 2]}});
    assert_eq!(handle(&cache, get.clone(), &other).await.unwrap(), found);
    assert_eq!(other.data.json(), Some(&json!({"order": "a"})), "the event stays as it came");
    let delete = json!({"operation": "delete", "key": "order/a"});
    handle(&cache, delete.clone(), &other).await.unwrap();
    handle(&cache, delete, &other).await.unwrap();
    assert_eq!(handle(&cache, get, &other).await.unwrap(), json!({"order": "a", "cached": null}));
}

#[tokio::test(start_paused = true)]
async fn a_value_is_a_template_that_keeps_types_and_lasts_as_long_as_it_says() {
    let cache = cache();
    let put = json!({
        "operation": "put", "key": "k", "ttl": "10s",
        "value": {"n": "{{ event.data.n }}", "text": "n is {{ event.data.n }}", "same": [true]},
    });
    handle(&cache, put, &event(json!({"n": 3}))).await.unwrap();
    assert_eq!(cache.get("k").as_deref(), Some(&json!({"n": 3, "text": "n is 3", "same": [true]})));
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(cache.get("k"), None);
}

#[tokio::test]
async fn what_is_found_goes_where_to_leads() {
    let cache = cache();
    cache.put("k", json!(1), None).unwrap();
    let get = |to: &str| json!({"operation": "get", "key": "k", "to": to});
    for (to, data, expected) in [
        ("x", json!({"x": 0, "y": 2}), json!({"x": 1, "y": 2})),
        ("a.b", json!({}), json!({"a": {"b": 1}})),
        ("a.b", json!({"a": null}), json!({"a": {"b": 1}})),
        ("a.b", json!({"a": {"c": 2}}), json!({"a": {"c": 2, "b": 1}})),
    ] {
        assert_eq!(handle(&cache, get(to), &event(data)).await.unwrap(), expected, "{to}");
    }
    for (to, data, path) in [
        ("x", Payload::from(json!([1])), "`event.data`"),
        ("x", Payload::from(json!(null)), "`event.data`"),
        ("x", Payload::Bytes(b"{}".as_slice().into()), "`event.data`"),
        ("a.b.c", Payload::from(json!({"a": {"b": 1}})), "`event.data.a.b`"),
    ] {
        let error = handle(&cache, get(to), &event(data)).await.unwrap_err();
        assert_eq!(error.error_type(), "type");
        assert_eq!(error.to_string(), format!("{path} is no mapping that could hold what was found"));
    }
}

#[tokio::test]
async fn what_cannot_be_kept_fails_the_event() {
    let cache = cache();
    let put = || json!({"operation": "put", "key": "k"});
    let error = handle(&cache, put(), &event(json!("x".repeat(5000)))).await.unwrap_err();
    assert_eq!(error.error_type(), "too_large");
    let error = handle(&cache, put(), &event(Payload::Bytes(b"x".as_slice().into()))).await.unwrap_err();
    assert_eq!(error.error_type(), "type");
    let named = json!({"operation": "put", "key": "{{ event.data.none }}"});
    assert_eq!(handle(&cache, named, &event(json!({}))).await.unwrap_err().error_type(), "template");
    assert!(cache.list_keys("").is_empty());
}

#[test]
fn keys_that_mean_nothing_to_the_operation_are_refused() {
    let found = |value| problems(value).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    let all =
        |operation: &str| json!({"operation": operation, "key": "k", "value": 1, "ttl": "1s", "to": "x"});
    assert_eq!(found(all("get")), ["value", "ttl"]);
    assert_eq!(found(all("put")), ["to"]);
    assert_eq!(found(all("delete")), ["value", "ttl", "to"]);
    assert!(found(json!({"operation": "put", "key": "k", "value": 1, "ttl": "1s"})).is_empty());
    assert!(found(json!({"operation": "get", "key": "k", "to": "a.b"})).is_empty());
}

#[test]
fn values_that_make_no_sense_are_refused_where_they_stand() {
    let put = |key: &str, value: Value, ttl: &str| json!({"operation": "put", "key": key, "value": value, "ttl": ttl});
    let of = |value| problems(value).remove(0);
    assert_eq!(of(put("", json!(1), "1s")).0, "key");
    assert_eq!(of(put("{{ order }}", json!(1), "1s")).0, "key");
    assert_eq!(of(put("k", json!(null), "1s")).1, "`null` is what a key without a value gives");
    assert_eq!(of(put("k", json!("{{ x"), "1s")).0, "value");
    assert_eq!(of(put("k", json!({"a": ["{{ order }}"]}), "1s")).0, "value.a[0]");
    assert_eq!(of(put("k", json!(1), "0s")), ("ttl".to_owned(), "must be longer than zero".to_owned()));
    assert_eq!(of(json!({"operation": "get", "key": "k", "to": "a..b"})).0, "to");
}
