//! A dashboard as Grafana reads it. The same dashboard is the same text, and what a panel is known by depends on its row and
//! title alone, not on what stands before it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    model::{Area, COLUMNS, Dashboard, Panel, Query, Row, Unit, Variable, View},
    promql::{Histograms, Scope},
};
use crate::telemetry::instruments::{FLOW_STATE, RELOADS, TASK_STOPS};

/// The version of Grafana's schema, that of Grafana 12. Later ones bring it up to theirs.
const SCHEMA_VERSION: u32 = 42;

/// The tag by which the dashboards find one another.
const TAG: &str = "flowgen";

/// How often workers may export, to choose from.
const INTERVALS: [&str; 4] = ["10s", "30s", "60s", "300s"];

/// Writes a dashboard.
pub(super) fn document(dashboard: &Dashboard) -> Value {
    json!({
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "links": [links()],
        "annotations": {"list": annotations()},
        "templating": {"list": variables(dashboard)},
        "panels": panels(&dashboard.rows),
    })
}

fn links() -> Value {
    json!({
        "type": "dashboards",
        "title": "flowgen",
        "tags": [TAG],
        "asDropdown": true,
        "includeVars": true,
        "keepTime": true,
        "targetBlank": false,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    })
}

fn data_source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// What is marked in every panel: what changes numbers from outside of what they tell about.
fn annotations() -> Vec<Value> {
    let scope = Scope::all(Histograms::Any);
    let reloads = scope.metric(&RELOADS).like("outcome", "applied|failed").rate(&["job", "outcome"]);
    let workers = scope.metric(&FLOW_STATE).series();
    let panics = scope.metric(&TASK_STOPS).is("reason", "panic").rate(&["job", "flow", "task"]);
    vec![
        annotation(
            "Reloads",
            "blue",
            &format!("{reloads} > 0"),
            "Reload of {{job}}: {{outcome}}",
            &["job", "outcome"],
        ),
        annotation(
            "Restarts of workers",
            "orange",
            &format!(
                "group by (job, instance) ({workers}) unless \
                 group by (job, instance) ({workers} offset $__rate_interval)"
            ),
            "A worker of {{job}} has started",
            &["job", "instance"],
        ),
        annotation(
            "Restarts of tasks",
            "red",
            &format!("{panics} > 0"),
            "{{flow}}/{{task}} has panicked",
            &["job", "flow", "task"],
        ),
    ]
}

fn annotation(name: &str, colour: &str, expression: &str, title: &str, tags: &[&str]) -> Value {
    json!({
        "name": name,
        "datasource": data_source(),
        "enable": true,
        "hide": false,
        "iconColor": colour,
        "target": {"refId": "Anno", "expr": expression, "interval": "$interval"},
        "titleFormat": title,
        "tagKeys": tags.join(","),
    })
}

fn variables(dashboard: &Dashboard) -> Vec<Value> {
    let mut list = vec![json!({
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "regex": "",
        "refresh": 1,
        "multi": false,
        "includeAll": false,
        "current": {},
        "options": [],
        "hide": 0,
    })];
    list.extend(dashboard.variables.iter().map(variable));
    let mut intervals = vec![&*dashboard.interval];
    intervals.extend(INTERVALS.iter().filter(|choice| **choice != dashboard.interval));
    list.push(custom("interval", "Export interval", &intervals));
    list
}

fn variable(variable: &Variable) -> Value {
    match variable {
        Variable::Label { name, selector } => {
            let query = format!("label_values({selector}, {name})");
            json!({
                "name": name,
                "label": titled(name),
                "type": "query",
                "datasource": data_source(),
                "definition": query,
                "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
                "regex": "",
                "refresh": 2,
                "sort": 1,
                "multi": true,
                "includeAll": true,
                "allValue": ".*",
                "current": {"text": ["All"], "value": ["$__all"]},
                "options": [],
                "hide": 0,
            })
        }
        Variable::Number { name, label, choices } => {
            let choices: Vec<_> = choices.iter().map(u32::to_string).collect();
            custom(name, label, &choices.iter().map(|choice| &**choice).collect::<Vec<_>>())
        }
    }
}

/// A variable with these values, the first of which is chosen.
fn custom(name: &str, label: &str, values: &[&str]) -> Value {
    let option = |(n, value): (usize, &&str)| json!({"text": **value, "value": **value, "selected": n == 0});
    json!({
        "name": name,
        "label": label,
        "type": "custom",
        "query": values.join(","),
        "multi": false,
        "includeAll": false,
        "current": {"text": values[0], "value": values[0]},
        "options": values.iter().enumerate().map(option).collect::<Vec<_>>(),
        "hide": 0,
    })
}

fn titled(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

fn panels(rows: &[Row]) -> Vec<Value> {
    let (mut list, mut ids, mut y) = (Vec::new(), Ids::default(), 0);
    for row in rows {
        let mut header = json!({
            "id": ids.of(&row.title, ""),
            "type": "row",
            "title": row.title,
            "collapsed": false,
            "gridPos": grid(Area { x: 0, y, width: COLUMNS, height: 1 }),
            "panels": [],
        });
        if let Some(variable) = row.repeat {
            header["repeat"] = variable.into();
            header["repeatDirection"] = "h".into();
        }
        list.push(header);
        for (area, one) in &row.panels {
            list.push(panel(one, Area { y: y + 1 + area.y, ..*area }, ids.of(&row.title, &one.title)));
        }
        y += 1 + row.height();
    }
    list
}

/// The ids that were given.
#[derive(Default)]
struct Ids(BTreeSet<u32>);

impl Ids {
    /// Gives an id that depends on the titles, unless another panel has it already.
    fn of(&mut self, row: &str, panel: &str) -> u32 {
        // Grafana takes them for signed, and 0 for none.
        let mut id = (crc32fast::hash(format!("{row}\n{panel}").as_bytes()) >> 1).max(1);
        while !self.0.insert(id) {
            id = (id + 1) % (1 << 31);
        }
        id
    }
}

fn grid(area: Area) -> Value {
    json!({"x": area.x, "y": area.y, "w": area.width, "h": area.height})
}

fn panel(panel: &Panel, area: Area, id: u32) -> Value {
    let is_table = panel.view == View::Table;
    let mut written = json!({
        "id": id,
        "type": match panel.view {
            View::Lines | View::Stack => "timeseries",
            View::Number => "stat",
            View::Table => "table",
        },
        "title": panel.title,
        "description": panel.description,
        "datasource": data_source(),
        "gridPos": grid(area),
        "fieldConfig": {"defaults": defaults(panel), "overrides": overrides(panel)},
        "options": options(panel),
        "targets": panel.queries.iter().enumerate().map(|(n, one)| target(one, n, is_table)).collect::<Vec<_>>(),
    });
    if is_table {
        written["transformations"] = transformations(panel);
    }
    written
}

fn target(query: &Query, n: usize, is_table: bool) -> Value {
    json!({
        "refId": reference(n),
        "datasource": data_source(),
        "editorMode": "code",
        "expr": query.expression,
        "legendFormat": query.legend,
        "interval": "$interval",
        "range": !is_table,
        "instant": is_table,
        "exemplar": query.has_exemplars,
        "format": if is_table { "table" } else { "time_series" },
    })
}

/// Returns the letter of a query. No panel has more than there are.
fn reference(n: usize) -> String {
    char::from(b'A' + u8::try_from(n % 26).unwrap_or_default()).to_string()
}

fn defaults(panel: &Panel) -> Value {
    let mut defaults = json!({
        "unit": unit(panel.unit),
        "color": {"mode": if panel.view == View::Number { "thresholds" } else { "palette-classic" }},
        "thresholds": thresholds(panel.red_from),
        "mappings": [],
    });
    if !panel.is_signed {
        defaults["min"] = 0.into();
    }
    match panel.view {
        View::Lines => defaults["custom"] = lines("none", 0, panel.red_from.is_some()),
        View::Stack => defaults["custom"] = lines("normal", 30, false),
        View::Number => {}
        View::Table => defaults["custom"] = json!({"align": "auto", "cellOptions": {"type": "auto"}}),
    }
    defaults
}

fn lines(stacking: &str, fill: u32, has_threshold: bool) -> Value {
    json!({
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": fill,
        "showPoints": "auto",
        "spanNulls": false,
        "stacking": {"mode": stacking, "group": "A"},
        "thresholdsStyle": {"mode": if has_threshold { "dashed" } else { "off" }},
    })
}

fn thresholds(red_from: Option<f64>) -> Value {
    let mut steps = vec![json!({"color": "green", "value": null})];
    steps.extend(red_from.map(|value| json!({"color": "red", "value": value})));
    json!({"mode": "absolute", "steps": steps})
}

/// Gives each query that has a unit of its own that unit. A table is one answer, and has but the titles of its columns.
fn overrides(panel: &Panel) -> Vec<Value> {
    let of = |(n, query): (usize, &Query)| {
        let unit = unit(query.unit?);
        let matcher = match panel.view {
            View::Table => json!({"id": "byName", "options": query.legend}),
            _ => json!({"id": "byFrameRefID", "options": reference(n)}),
        };
        Some(json!({"matcher": matcher, "properties": [{"id": "unit", "value": unit}]}))
    };
    panel.queries.iter().enumerate().filter_map(of).collect()
}

fn options(panel: &Panel) -> Value {
    match panel.view {
        View::Lines | View::Stack => json!({
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }),
        View::Number => json!({
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "auto",
        }),
        View::Table => json!({"showHeader": true, "cellHeight": "sm", "footer": {"show": false}}),
    }
}

/// Makes one table of the answers to all queries, with their titles on its columns.
fn transformations(panel: &Panel) -> Value {
    let name = |n| if panel.queries.len() == 1 { "Value".into() } else { format!("Value #{}", reference(n)) };
    let titles = panel.queries.iter().enumerate().map(|(n, query)| (name(n), json!(query.legend)));
    json!([
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {
            "excludeByName": {"Time": true},
            "indexByName": {},
            "renameByName": titles.collect::<serde_json::Map<_, _>>(),
        }},
    ])
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "short",
        Unit::PerSecond => "cps",
        Unit::Seconds => "s",
        Unit::Share => "percentunit",
        Unit::Bytes => "bytes",
    }
}
