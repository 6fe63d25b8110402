//! What a request may be answered with.

use serde_json::{Map, Value, json};

use crate::{
    plan::{Flow, OnError},
    task::http::{Credentials, Operation, Reply},
};

/// What the answers of the server itself are made of, by name.
pub(super) fn schemas() -> Value {
    let text = || json!({"type": "string"});
    json!({
        "Problem": {
            "description": "What is wrong, as RFC 9457 has it.",
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": text(),
                "title": text(),
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": text(),
                "event_id": text(),
                "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            },
        },
        "Receipt": {
            "description": "What the event is found by.",
            "type": "object",
            "required": ["event_id"],
            "properties": {"event_id": text()},
        },
    })
}

/// Describes all answers of an endpoint, by status.
pub(super) fn responses(flow: &Flow, operation: &Operation, is_head: bool) -> Value {
    let mut answers = Answers { is_head, is_free: operation.reply == Reply::Result, described: Map::new() };
    let has = |wanted: OnError| flow.tasks.iter().any(|task| task.policy.on_error == wanted);
    match operation.reply {
        Reply::Result => answers.any("200", "What the event has become."),
        Reply::Stream => {
            // What OpenAPI 3.1 can say of a stream as a whole says nothing of its messages.
            answers.add(
                "200",
                "What the event becomes, as it comes.",
                Some(("text/event-stream", json!({}))),
            );
        }
        Reply::Ack => answers.receipt("200", "The flow is done with the event."),
        Reply::Accepted => answers.receipt("202", "The event is on the disk, and the flow will handle it."),
    }
    if operation.reply != Reply::Accepted && has(OnError::DeadLetter) {
        answers.receipt("202", "The flow failed, and the event is kept to be looked at.");
    }
    match operation.reply {
        Reply::Result => answers.add("204", "Nothing has become of the event.", None),
        _ if has(OnError::Drop) => answers.add("204", "The flow has disposed of the event.", None),
        Reply::Stream | Reply::Ack | Reply::Accepted => {}
    }
    answers.problem("400", "The request is malformed: its path, its body, or what it says of itself.", None);
    if let Some(credentials) = &operation.credentials {
        let challenge = Some(("WWW-Authenticate", "How to say who one is."));
        answers.problem(
            "401",
            "The request does not say who it is from, or not in a way that counts.",
            challenge,
        );
        if matches!(credentials, Credentials::Jwt { is_scoped: true }) {
            answers.problem("403", "The token does not allow this.", challenge);
        }
    }
    answers.problem("404", "Nothing is served at this path, or not any more.", None);
    answers.problem(
        "405",
        "The path is served, but not by this method.",
        Some(("Allow", "The methods that are.")),
    );
    answers.problem("408", "The body did not come in time.", None);
    answers.problem("413", "The body is too long.", None);
    answers.bare("414", "The path and the query are too long.");
    answers.problem("415", "The body is compressed in a way that is not known.", None);
    let retry_after = Some(("Retry-After", "After how many seconds the same request may succeed."));
    if operation.is_rate_limited {
        answers.problem("429", "There were more requests than are let in.", retry_after);
    }
    answers.bare("431", "The headers are too long.");
    answers.problem("500", "The flow failed.", None);
    answers.problem("503", "The request cannot be handled for now.", retry_after);
    answers.problem("504", "The flow takes longer than a request waits for it; the event goes on.", None);
    if operation.reply == Reply::Result {
        answers.any("default", "What the flow answers by another status.");
    }
    answers.described.into()
}

/// The answers so far.
struct Answers {
    /// Whether none of them has a body.
    is_head: bool,
    /// Whether the flow may answer by any status, in any form.
    is_free: bool,
    described: Map<String, Value>,
}

impl Answers {
    fn insert(&mut self, status: &str, description: &str, content: Value) -> &mut Value {
        let mut answer = json!({"description": description});
        let has_content = content.as_object().is_some_and(|content| !content.is_empty());
        if has_content && !self.is_head {
            answer["content"] = content;
        }
        self.described.entry(status).or_insert(answer)
    }

    /// Adds one that the server makes.
    fn add(&mut self, status: &str, description: &str, content: Option<(&str, Value)>) {
        let mut media = Map::new();
        if let Some((media_type, schema)) = content {
            media.insert(media_type.to_owned(), json!({"schema": schema}));
            if self.is_free {
                media.insert("*/*".to_owned(), json!({}));
            }
        }
        self.insert(status, description, media.into());
    }

    /// Adds one that is up to the flow.
    fn any(&mut self, status: &str, description: &str) {
        self.insert(status, description, json!({"application/json": {"schema": {}}, "*/*": {}}));
    }

    /// Adds one that never gets as far as to say what is wrong.
    fn bare(&mut self, status: &str, description: &str) {
        let content = if self.is_free { json!({"*/*": {}}) } else { json!({}) };
        self.insert(status, description, content);
    }

    fn receipt(&mut self, status: &str, description: &str) {
        self.add(
            status,
            description,
            Some(("application/json", json!({"$ref": "#/components/schemas/Receipt"}))),
        );
    }

    fn problem(&mut self, status: &str, description: &str, header: Option<(&str, &str)>) {
        let schema = json!({"$ref": "#/components/schemas/Problem"});
        self.add(status, description, Some(("application/problem+json", schema)));
        if let (Some((name, meaning)), Some(answer)) = (header, self.described.get_mut(status)) {
            // A flow that answers by this status may leave it out.
            let header =
                json!({"description": meaning, "required": !self.is_free, "schema": {"type": "string"}});
            answer["headers"] = json!({name: header});
        }
    }
}
