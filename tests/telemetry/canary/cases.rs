//! The flows that canaries go through, by kind.

use std::{borrow::Borrow, io::Write, net::TcpListener, sync::OnceLock};

use super::{CANARY, Case, Input, NUMBER, Output};
use crate::support::{
    collector::Port,
    http::{Reply, Server, response},
};

/// A source of one event that is full of canaries. One comes from a variable.
fn source() -> String {
    format!(
        "- generate: {{name: source, count: 1, payload: {{text: '${{SECRET}}', number: {NUMBER}, {CANARY}: [x], \
         list: [{CANARY}], objects: [{{{CANARY}: 1}}], deep: {{{CANARY}: {{a: 1}}}}, empty: null}}}}\n"
    )
}

/// The source, and tasks that each take its event.
fn fed(tasks: &[impl Borrow<str>]) -> Case {
    Case::of(source() + tasks.join("\n").as_str())
}

/// Makes one task of each text, numbered, below the source.
fn each(kind: &str, keys: impl IntoIterator<Item = String>) -> Vec<String> {
    let task = |(n, keys)| format!("- {kind}: {{name: task-{n}, depends_on: source, {keys}}}");
    keys.into_iter().enumerate().map(task).collect()
}

/// Quotes a text for YAML.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn cache() -> Vec<Case> {
    let keys = [
        "operation: put, key: '{{ event.data.text }}'",
        "operation: put, key: k, value: ['{{ event.data.deep }}', '{{ event.data.text }}'], ttl: 1s",
        "operation: get, key: '{{ event.data.text }}'",
        "operation: get, key: '{{ event.data.missing }}'",
        "operation: get, key: k, to: text.deeper",
        "operation: delete, key: '{{ event.data.text }}'",
    ];
    let mut tasks = each("cache", keys.map(str::to_owned));
    tasks.push("- log: {name: seen}".to_owned());
    vec![fed(&tasks)]
}

pub(super) fn dedupe() -> Vec<Case> {
    let keys = ["text", "deep", "missing"].map(|key| format!("key: '{{{{ event.data.{key} }}}}', ttl: 1h"));
    let mut tasks = each("dedupe", keys);
    tasks.push("- log: {name: seen, depends_on: task-0}".to_owned());
    vec![fed(&tasks)]
}

pub(super) fn throttle() -> Vec<Case> {
    let keys =
        ["missing", "text", "deep"].map(|key| format!("rate: 1000, key: '{{{{ event.data.{key} }}}}'"));
    let mut tasks = each("throttle", keys);
    tasks.push("- log: {name: seen}".to_owned());
    vec![fed(&tasks)]
}

pub(super) fn validate() -> Vec<Case> {
    let schemas = [
        "type: array",
        "additionalProperties: false",
        "unevaluatedProperties: false",
        "additionalProperties: {type: boolean}",
        "propertyNames: {maxLength: 4}",
        "required: [id]",
        "properties: {text: {enum: [a, b]}}",
        "properties: {text: {const: a}}",
        "properties: {text: {pattern: '^x'}}",
        "properties: {text: {format: email}}",
        "properties: {text: {not: {type: string}}}",
        "properties: {text: {anyOf: [{type: number}, {maxLength: 1}]}}",
        "properties: {text: {oneOf: [{}, {}]}}",
        "properties: {number: {maximum: 1}}",
        "properties: {list: {items: {type: number}}}",
        "properties: {objects: {items: {additionalProperties: {type: string}}}}",
        "properties: {deep: {additionalProperties: {additionalProperties: false}}}",
        "type: object",
    ];
    let mut tasks = each("validate", schemas.map(|schema| format!("schema: {{{schema}}}")));
    tasks.push("- log: {name: seen}".to_owned());
    vec![fed(&tasks)]
}

pub(super) fn drop() -> Vec<Case> {
    vec![fed(&["- log: {name: seen}", "- drop: {name: nowhere}"])]
}

pub(super) fn log() -> Vec<Case> {
    vec![fed(&["- log: {name: seen, include_meta: true, level: warn}"])]
}

/// Expressions that throw, mostly over what an event holds.
const THROWING: [&str; 27] = [
    "parse_int(event.data.text)",
    "parse_float(event.data.text)",
    "event.data.number * event.data.number * event.data.number",
    "event.data.number / 0",
    "event.data.list[event.data.number]",
    "event.data.text[event.data.number]",
    "event.data.text.nothing.more",
    "event.data[event.data.text].more",
    "event.data.text - 1",
    "Fn(event.data.text).call(1)",
    "event.data.list.map(event.data.text)",
    "parse_json(event.data.text)",
    "parse_json(`{\"${event.data.text}\": `)",
    "parse_yaml(`a: *${event.data.text}`)",
    "parse_yaml(`${event.data.text}: 1\n${event.data.text}: 2`)",
    "regex_find(``, `(${event.data.text}`)",
    "timestamp_format(0, `%é${event.data.text}`)",
    "timestamp_to_iso(event.data.number)",
    "timestamp_ms_to_iso(event.data.number * 10)",
    "parse_timestamp(event.data.text)",
    "parse_rfc2822_timestamp(event.data.text)",
    "render(`{{ ${event.data.text} }}`, #{})",
    "render(`{{ a | ${event.data.text} }}`, #{a: 1})",
    "render(`{{ a - 1 }}`, #{a: event.data.text})",
    "if true { throw event.data.text }",
    "if true { throw `an order of ${event.data.text}` }",
    "if true { throw #{why: event.data} }",
];

/// What a run may not use up, made of data.
const EXCESSIVE: &str = "let all = []; all.pad(200000, event.data.text); all.len() == 1";

fn code(key: &str, code: &str) -> String {
    format!("{key}: {}", quoted(&code.replace('\n', "\n\n")))
}

pub(super) fn filter() -> Vec<Case> {
    let conditions = THROWING.into_iter().chain(["event.data.text", EXCESSIVE]);
    let mut tasks = each("filter", conditions.map(|condition| code("condition", condition)));
    tasks.push(
        "- filter: {name: fine, depends_on: source, condition: 'print(event.data.text); true'}".to_owned(),
    );
    vec![fed(&tasks)]
}

pub(super) fn switch() -> Vec<Case> {
    let conditions = THROWING.into_iter().chain(["event.data.text", EXCESSIVE, "true"]);
    let case = |condition| format!("cases: [{{{}, to: shown}}]", code("when", condition));
    let mut tasks = each("switch", conditions.map(case));
    tasks.push("- log: {name: shown}".to_owned());
    vec![fed(&tasks)]
}

pub(super) fn script() -> Vec<Case> {
    let further = [
        "event.id = event.data.list; event",
        "event.subject = event.data; event",
        "event.meta = event.data.text; event",
        "event.data.text = Fn(\"x\"); event",
        "#{result: 0.0 / 0.0, text: event.data.text}",
        "fn check(x) { throw x } check(event.data.text)",
        "try { parse_int(event.data.text) } catch (e) { throw e }",
        "ctx.resource.get(event.data.text).text.more",
        EXCESSIVE,
    ];
    let mut tasks = each("script", THROWING.into_iter().chain(further).map(|script| code("code", script)));
    tasks.push(
        "- script: {name: fine, depends_on: source, code: 'event.meta.x = event.data.text; event'}"
            .to_owned(),
    );
    tasks.push("- log: {name: seen, include_meta: true}".to_owned());
    vec![fed(&tasks), Case { is_unsampled: true, ..fed(&tasks) }]
}

pub(super) fn generate() -> Vec<Case> {
    let script = |body: &str| {
        code(
            "code",
            &format!("let event = #{{data: #{{text: \"{CANARY}\", number: {NUMBER}, list: [1]}}}}; {body}"),
        )
    };
    let sources = THROWING.into_iter().chain([EXCESSIVE, "0.0 / 0.0"]).map(script);
    let task = |(n, keys)| {
        format!("- generate: {{name: source-{n}, count: 1, {keys}}}\n- drop: {{name: nowhere-{n}}}")
    };
    let failing: Vec<_> = sources.enumerate().map(task).collect();
    vec![Case::of(failing.join("\n")), fed(&["- log: {name: seen}"])]
}

pub(super) fn buffer() -> Vec<Case> {
    let keys = ["text", "number", "objects", "missing", "text.deeper", "text | round"];
    let mut tasks =
        each("buffer", keys.iter().map(|key| format!("partition_key: '{{{{ event.data.{key} }}}}'")));
    tasks.push("- buffer: {name: all, depends_on: source, size: 1}".to_owned());
    tasks.push("- log: {name: seen}".to_owned());
    vec![fed(&tasks)]
}

pub(super) fn iterate() -> Vec<Case> {
    let keys = ["text", "number", "objects.0", "deep", "empty", "missing", "text.deeper"];
    let mut tasks = each("iterate", keys.iter().map(|key| format!("iterate_key: {key}")));
    tasks.push("- iterate: {name: all, depends_on: source}".to_owned());
    tasks.push("- iterate: {name: fine, depends_on: source, iterate_key: list}".to_owned());
    tasks.push("- log: {name: seen}".to_owned());
    vec![fed(&tasks)]
}

/// What is fine, and what is no record of its format: one fault in each, since a task logs one failure a second.
fn inputs() -> Vec<(&'static str, Vec<u8>)> {
    let long = format!("\"{CANARY}{}\"", "x".repeat(2000));
    let texts = [
        ("jsonl", format!("{{\"{CANARY}\": {NUMBER}}}")),
        ("jsonl", format!("{{\"{CANARY}\"")),
        ("jsonl", format!("{{\"a\": \"{CANARY}\" {NUMBER}}}")),
        ("jsonl", CANARY.to_owned()),
        ("jsonl", format!("\"{CANARY}")),
        ("jsonl", format!("\"{CANARY}\t\"")),
        ("jsonl", format!("[{NUMBER}e999999]")),
        ("jsonl", long.clone()),
        ("text", long.clone()),
        ("csv", format!("a,b\n{CANARY},{NUMBER}")),
        ("csv", format!("a,b\n\"{CANARY}")),
        ("csv", format!("a,b\n\"{CANARY}\"{CANARY},1")),
        ("csv", format!("a,b\n{CANARY}")),
        ("csv", format!("{CANARY},{CANARY}\n1,2")),
        ("csv", format!("\"{CANARY}\"{CANARY}\n1,2")),
        ("csv", format!("{long}\n1")),
        ("json", format!("[\"{CANARY}\"]")),
        ("json", format!("[{CANARY}]")),
        ("json", format!("[\"{CANARY}\", , 1]")),
        ("json", format!("[{{\"{CANARY}\": }}]")),
        ("json", format!("[\"{CANARY}\"] {CANARY}")),
        ("json", format!("[{{\"{CANARY}\":")),
        ("json", format!("[{NUMBER}e999999]")),
        ("json", format!("[{long}]")),
    ];
    let binary = |format| (format, [format!("\"{CANARY}").as_bytes(), b"\xff\n1"].concat());
    let texts = texts.into_iter().map(|(format, text)| (format, text.into_bytes()));
    texts.chain(["jsonl", "text", "csv", "json"].map(binary)).collect()
}

pub(super) fn file() -> Vec<Case> {
    let (mut tasks, mut files) = (String::new(), Vec::new());
    for (n, (format, bytes)) in inputs().into_iter().enumerate() {
        tasks +=
            &format!("- file: {{name: in-{n}, path: input-{n}, format: {format}, max_line_bytes: 1KiB}}\n");
        tasks += &format!("- log: {{name: seen-{n}}}\n");
        files.push((format!("input-{n}"), bytes));
    }
    vec![Case { files, ..Case::of(tasks) }, from_outside()]
}

/// A record that continues a trace, with baggage that goes on with it.
fn from_outside() -> Case {
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let record = format!("{{\"traceparent\": \"{traceparent}\", \"baggage\": \"{CANARY}={CANARY}\"}}");
    let tasks = format!(
        "- file: {{name: in, path: input, trace_context: trust}}\n\
         - http_request: {{name: call, endpoint: 'http://{}/fine'}}\n\
         - log: {{name: seen}}",
        server()
    );
    Case { files: vec![("input".to_owned(), record.into_bytes())], ..Case::of(tasks) }
}

pub(super) fn stdin() -> Vec<Case> {
    let case = |(format, bytes)| {
        let stdin = format!("- stdin: {{name: in, format: {format}, max_line_bytes: 1KiB}}\n");
        Case { stdin: Input::Bytes(bytes), ..Case::of(stdin + "- log: {name: seen}") }
    };
    let folder = Case::of("- stdin: {name: in}\n- drop: {name: nowhere}");
    inputs().into_iter().map(case).chain([Case { stdin: Input::Folder, ..folder }]).collect()
}

/// Events of which some are no rows of one CSV file: a list, an object without keys, and one with other keys.
fn not_all_rows() -> [String; 3] {
    let further =
        ["[event.data.text]".to_owned(), "#{}".to_owned(), format!("#{{{CANARY}: event.data.text}}")];
    let code = |further| code("code", &format!("let all = [#{{a: 1}}, {further}]; all"));
    let task = |(n, code)| format!("- script: {{name: rows-{n}, depends_on: source, {code}}}\n");
    further.map(code).into_iter().enumerate().map(task).collect::<Vec<_>>().try_into().unwrap()
}

fn no_json() -> &'static str {
    "- script: {name: bytes, depends_on: source, code: 'event.data.text.to_blob()'}\n"
}

pub(super) fn stdout() -> Vec<Case> {
    let out = "- stdout: {name: out}\n- log: {name: seen}";
    let failing = "- stdout: {name: out, on_error: drop}\n- log: {name: seen}";
    let full = Case { stdout: Output::Full, ..fed(&[failing]) };
    let read_only = Case { stdout: Output::ReadOnly, ..fed(&[failing]) };
    let bytes = fed(&[no_json().to_owned() + "- stdout: {name: out}"]);
    let csv = not_all_rows().map(|rows| fed(&[rows + "- stdout: {name: out, format: csv}"]));
    [fed(&[out]), full, read_only, bytes].into_iter().chain(csv).collect()
}

pub(super) fn file_write() -> Vec<Case> {
    let fine = "- file_write: {name: fine, path: 'out/{{ event.subject }}.jsonl'}\n- log: {name: seen}";
    let templates = [
        "out/{{ event.data.missing }}",
        "out/{{ event.data.text.deeper }}",
        "out/{{ event.data.text - 1 }}",
        "out/{{ event.data.text | int }}",
        "out/{{ event.data.text | nothing }}",
        "out/{{ event.data[event.data.text] }}",
        "out/{% for x in event.data.number %}{{ x }}{% endfor %}",
    ];
    let mut tasks = each("file_write", templates.map(|template| format!("path: {}", quoted(template))));
    tasks.push(
        "- file_write: {name: up, depends_on: source, path: '{{ \"../\" ~ event.subject }}'}".to_owned(),
    );
    tasks.push("- file_write: {name: folder, depends_on: source, path: '{{ \"sub\" ~ \"/\" }}'}".to_owned());
    tasks.push("- file_write: {name: full, depends_on: source, path: /dev/full, on_error: drop}".to_owned());
    tasks.push(
        "- file_write: {name: twins, depends_on: source, path: '{{ \"twins\" }}.csv', format: csv}"
            .to_owned(),
    );
    tasks.push(no_json().to_owned() + "- file_write: {name: binary, path: binary}");
    for (n, rows) in not_all_rows().into_iter().enumerate() {
        tasks.push(format!("{rows}- file_write: {{name: csv-{n}, path: rows-{n}.csv, format: csv}}"));
    }
    let twins = ("twins.csv".to_owned(), format!("{CANARY},{CANARY}\n").into_bytes());
    vec![fed(&[fine]), Case { files: vec![twins], ..fed(&tasks) }]
}

/// Statuses that are errors.
fn statuses() -> impl Iterator<Item = u16> {
    (300..=308).filter(|code| *code != 306).chain(400..=451).chain(500..=511).chain([599])
}

/// Returns the address of a server whose every answer is full of canaries; the path says which one.
fn server() -> String {
    static SERVER: OnceLock<String> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(|_, request| answer(&request.line)).address.to_string()).clone()
}

fn answer(line: &str) -> Reply {
    let path = line.split(' ').nth(1).unwrap().split('?').next().unwrap();
    let headers = format!("x-secret: {CANARY}\r\nset-cookie: {CANARY}={CANARY}\r\nretry-after: {CANARY}");
    let json = format!("200 OK\r\n{headers}\r\ncontent-type: application/json");
    let body = format!("{{\"{CANARY}\": \"{CANARY}\"}}");
    match path.trim_start_matches('/') {
        "fine" => response(&json, body),
        "malformed" => response(&json, format!("{{\"{CANARY}\": {CANARY}")),
        "binary" => response(&json, [CANARY.as_bytes(), b"\xff"].concat()),
        "uncompressed" => response(&format!("{json}\r\ncontent-encoding: gzip"), body),
        "long" => response(&json, format!("\"{}\"", CANARY.repeat(200))),
        "hang" => Reply::Hang(Vec::new()),
        "broken" => {
            Reply::Close(format!("HTTP/1.1 {json}\r\ncontent-length: 999\r\n\r\n{body}").into_bytes())
        }
        "nonsense" => Reply::Close(format!("HTTP/1.1 200 OK\r\n{CANARY} {CANARY}\r\n\r\n").into_bytes()),
        "token" => response(&json, format!("{{\"access_token\": \"{CANARY}\", \"expires_in\": 0}}")),
        "pages" => response(&format!("{json}\r\nlink: <{path}?{CANARY}>; rel=next; {CANARY}={CANARY}"), body),
        "circle" => response(&format!("302 Found\r\n{headers}\r\nlocation: /circle?{CANARY}"), body),
        status => {
            response(&format!("{status} {CANARY}\r\n{headers}\r\nlocation: http://{CANARY}/{CANARY}"), body)
        }
    }
}

/// Returns the address of a server that speaks no TLS, which it says at once.
fn plain() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // Whoever connects may be gone already.
            let _ = stream.write_all(format!("HTTP/1.1 400 {CANARY}\r\n\r\n").as_bytes());
        }
    });
    address.to_string()
}

/// A request to the server with canaries wherever it can have them.
fn request(path: &str) -> String {
    format!(
        "endpoint: 'http://{CANARY}:${{SECRET}}@{}/{path}?{CANARY}={{{{ event.data.text }}}}', timeout: {}, \
         max_response_bytes: 1KiB, headers: {{x-secret: '${{SECRET}}', authorization: 'Bearer {{{{ event.data.text }}}}'}}",
        server(),
        if path == "hang" { "100ms" } else { "30s" }
    )
}

/// Makes a call that may succeed later one that is not made again and again.
fn given_up(call: &str) -> String {
    format!("{call}, on_error: drop")
}

pub(super) fn http_request() -> Vec<Case> {
    let fine = format!(
        "- http_request: {{name: call, method: POST, payload: {{from_event: true}}, {}}}\n- log: {{name: seen}}",
        request("fine")
    );
    let paths = ["malformed", "binary", "uncompressed", "long", "hang", "broken", "nonsense", "circle"];
    let answers = paths.map(str::to_owned).into_iter().chain(statuses().map(|status| status.to_string()));
    let mut calls: Vec<String> = answers.map(|path| given_up(&request(&path))).collect();
    let payloads = [
        "{input: '{{ event.data.text }}'}",
        "{input: '{{ event.data.text - 1 }}'}",
        "{input: '{{ event.data.missing }}'}",
        "{object: {a: '{{ event.data.deep }}'}, send_as: urlencoded}",
        "{from_event: true, send_as: queryparams}",
        "{input: '{{ event.data.list }}', send_as: urlencoded}",
    ];
    calls.extend(payloads.map(|payload| format!("{}, method: POST, payload: {payload}", request("fine"))));
    let secret = format!("{CANARY}:{CANARY}");
    calls.extend([
        "endpoint: '{{ event.data.text }}'".to_owned(),
        format!("endpoint: 'http://127.0.0.1:{{{{ event.data.text }}}}/{CANARY}'"),
        format!("endpoint: 'http://{}', headers: {{x: \"{{{{ event.data.text }}}}\\n\"}}", server()),
        given_up(&format!("endpoint: 'http://{secret}@{}/{CANARY}?{CANARY}'", closed())),
        given_up(&format!("endpoint: 'https://{secret}@{}/{CANARY}?{CANARY}'", plain())),
    ]);
    calls.extend(credentials());
    calls.extend([
        format!("endpoint: 'http://{{{{ \"127.0.0.1\" }}}}:1/{CANARY}?{CANARY}', deny_private: true"),
        format!("endpoint: 'http://{}/pages?{CANARY}', pagination: {{type: link_header}}", server()),
        given_up(&format!(
            "endpoint: 'http://{}/503?{CANARY}', circuit_breaker: {{failure_threshold: 1}}",
            server()
        )),
        given_up(&format!(
            "endpoint: 'http://nowhere.invalid/{CANARY}', proxy: 'http://${{SECRET}}:{CANARY}@{}'",
            closed()
        )),
        format!(
            "endpoint: 'http://{}/fine?{CANARY}', response: whole, method: POST, \
             payload: {{from_event: true, send_as: multipart, file: {{name: '{{{{ event.data.text }}}}'}}}}",
            server()
        ),
    ]);
    let content = format!("{{\"basic_auth\": {{\"username\": \"{CANARY}\", \"password\": \"{CANARY}\"}}}}");
    let files = vec![("credentials.json".to_owned(), content.into_bytes())];
    vec![fed(&[fine]), Case { files, ..fed(&each("http_request", calls)) }]
}

/// Requests with every kind of credentials, that are good for something or not.
fn credentials() -> Vec<String> {
    let oauth2 = |path: &str, more: &str| {
        format!(
            "auth: {{oauth2: {{token_url: 'http://{}/{path}?{CANARY}', client_id: {CANARY}, client_secret: '${{SECRET}}', \
             scopes: [{CANARY}], parameters: {{{CANARY}: '${{SECRET}}'}}{more}}}}}",
            server()
        )
    };
    let auth = [
        "auth: {bearer: {token: '${SECRET}'}}".to_owned(),
        format!("auth: {{basic: {{user: {CANARY}, password: '${{SECRET}}'}}}}"),
        "credentials_path: credentials.json".to_owned(),
        oauth2("token", ""),
        oauth2("400", ", auth_method: client_secret_post"),
        oauth2("malformed", ""),
        oauth2("503", ""),
        oauth2("broken", ""),
    ];
    let call = |auth: &String, path: &str| {
        given_up(&format!("endpoint: 'http://{}/{path}?{CANARY}', {auth}", server()))
    };
    auth.iter().flat_map(|auth| [call(auth, "fine"), call(auth, "401")]).collect()
}

/// Returns an address that nothing listens on.
fn closed() -> String {
    static PORT: OnceLock<Port> = OnceLock::new();
    PORT.get_or_init(Port::reserve).address.to_string()
}
