use std::{error::Error, io, path::PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::{
    event::{EventId, Payload},
    problem::{Focus, KeyPath},
    task::Resources,
};

struct Files;

impl Resources for Files {
    fn read(&self, path: &str) -> io::Result<String> {
        match path {
            "double.rhai" => Ok("event.data.n *= 2; event".to_owned()),
            "broken.rhai" => Ok("event.data.n *".to_owned()),
            "text.txt" => Ok("text".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn config(value: Value) -> Config {
    serde_json::from_value(value).unwrap()
}

async fn build(code: Value, resources: Option<Arc<dyn Resources>>) -> Result<Task, BuildError> {
    let context = BuildContext { resources, ..BuildContext::new("f", "t", PathBuf::new()) };
    ScriptTask::build(&config(json!({"code": code})), &context).await
}

fn event() -> Event {
    Event::new(EventId::Sequence(7), "s".into(), Payload::from(json!({"n": 2})))
}

#[test]
fn a_mistake_is_reported_inside_the_code() {
    let mut problems = Problems::below(KeyPath::default());
    ScriptTask::check(&config(json!({"code": "let x = 1;\nevent.data.default"})), &mut problems);
    let problem = problems.into_vec().remove(0);
    assert_eq!(
        (problem.path.to_string().as_str(), problem.focus),
        ("code", Focus::Inside { line: 2, column: 12 })
    );
    assert_eq!(problem.hint.as_deref(), Some("write `event.data[\"default\"]`"));
}

#[test]
fn a_limit_of_zero_would_be_none_at_all_and_is_refused() {
    let names = ["max_operations", "max_call_depth", "max_string_size", "max_array_size", "max_map_size"];
    let limits = |n: u64| json!({"code": "1", "limits": names.map(|name| (name, n)).into_iter().collect::<std::collections::BTreeMap<_, _>>()});
    let found = |n| {
        let mut problems = Problems::below(KeyPath::default());
        ScriptTask::check(&config(limits(n)), &mut problems);
        problems.into_vec().into_iter().map(|problem| problem.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found(0), names.map(|name| format!("limits.{name}")));
    assert!(found(1).is_empty());
    let schema = serde_json::to_value(schemars::schema_for!(Limits)).unwrap();
    for name in names {
        assert_eq!(schema["properties"][name]["minimum"], 1, "{name}");
    }
}

#[test]
fn keys_are_as_documented() {
    config(json!({"engine": "rhai", "code": {"resource": "a"}, "limits": {"max_operations": 5}}));
    for bad in
        [json!({}), json!({"code": 1}), json!({"code": "1", "engine": "lua"}), json!({"code": {"file": "a"}})]
    {
        assert!(serde_json::from_value::<Config>(bad.clone()).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_script_can_be_a_resource() {
    let files: Option<Arc<dyn Resources>> = Some(Arc::new(Files));
    let Ok(Task::Transform(mut script)) = build(json!({"resource": "double.rhai"}), files.clone()).await
    else {
        panic!("a script without I/O is a transform")
    };
    let mut event = event();
    script.apply(&mut event, &mut Output::default()).unwrap();
    assert_eq!(event.data.json(), Some(&json!({"n": 4})));

    let error = build(json!({"resource": "broken.rhai"}), files.clone()).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot compile script `broken.rhai`");
    assert!(error.source().unwrap().to_string().contains("line 1"), "{:?}", error.source());
    let error = build(json!({"resource": "missing.rhai"}), files).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read script `missing.rhai`");
    for code in [json!({"resource": "double.rhai"}), json!("ctx.resource.get(\"a\")")] {
        let error = build(code, None).await.unwrap_err();
        assert!(error.to_string().contains("`resources.path`"), "{error}");
    }
}

#[tokio::test]
async fn a_script_that_reads_resources_is_a_processor_and_leaves_the_event_alone() {
    let code = json!("event.data.text = ctx.resource.get(\"text.txt\"); event");
    let Ok(Task::Processor(script)) = build(code, Some(Arc::new(Files))).await else {
        panic!("a script with I/O is a processor")
    };
    let (event, mut output) = (event(), Output::default());
    script.handle(&event, &mut output).await.unwrap();
    let emissions: Vec<_> = output.drain().collect();
    let [(Route::All, Emission::Event(emitted))] = &emissions[..] else { panic!("{emissions:?}") };
    assert_eq!(emitted.data.json(), Some(&json!({"n": 2, "text": "text"})));
    assert_eq!(emitted.id, event.id);
    assert_eq!(event.data.json(), Some(&json!({"n": 2})));
}
