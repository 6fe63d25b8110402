//! What Grafana takes, as far as our dashboards go: a schema that knows no key but those that are written, so that a misspelt one
//! is not just ignored.

use serde_json::{Value, json};

/// Panics unless it is a dashboard.
pub(super) fn assert_valid(document: &Value) {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let wrong: Vec<_> =
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// An object with these keys, all of them and no others.
fn object(properties: Value) -> Value {
    let keys: Vec<_> = properties.as_object().unwrap().keys().cloned().collect();
    json!({"type": "object", "properties": properties, "required": keys, "additionalProperties": false})
}

/// The same, with keys that may be left out.
fn object_with(properties: Value, more: Value) -> Value {
    let mut schema = object(properties);
    for (key, value) in more.as_object().unwrap() {
        schema["properties"][key] = value.clone();
    }
    schema
}

fn schema() -> Value {
    let text = json!({"type": "string", "minLength": 1});
    let empty = json!({"type": "array", "maxItems": 0});
    let mut schema = object(json!({
        "uid": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"},
        "title": text,
        "description": text,
        "tags": {"const": ["flowgen"]},
        "schemaVersion": {"const": 42},
        "editable": {"type": "boolean"},
        "graphTooltip": {"enum": [0, 1, 2]},
        "refresh": {"type": "string", "pattern": "^[0-9]+[smh]$"},
        "time": object(json!({"from": {"const": "now-3h"}, "to": {"const": "now"}})),
        "timezone": {"enum": ["", "utc", "browser"]},
        "links": {"type": "array", "items": object(json!({
            "type": {"enum": ["dashboards", "link"]},
            "title": text,
            "tags": {"type": "array", "items": text},
            "asDropdown": {"type": "boolean"},
            "includeVars": {"type": "boolean"},
            "keepTime": {"type": "boolean"},
            "targetBlank": {"type": "boolean"},
            "icon": text,
            "tooltip": {"type": "string"},
            "url": {"type": "string"},
        }))},
        "annotations": object(json!({"list": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/annotation"}}})),
        "templating": object(json!({"list": {"type": "array", "minItems": 1, "items": {"oneOf": [
            {"$ref": "#/$defs/data_sources"}, {"$ref": "#/$defs/labels"}, {"$ref": "#/$defs/choice"},
        ]}}})),
        "panels": {"type": "array", "minItems": 2, "items": {"oneOf": [
            {"$ref": "#/$defs/row"}, {"$ref": "#/$defs/lines"}, {"$ref": "#/$defs/stat"}, {"$ref": "#/$defs/table"},
        ]}},
    }));
    schema["$defs"] = json!({
        "data_source": object(json!({"type": {"const": "prometheus"}, "uid": {"const": "${datasource}"}})),
        "grid": object(json!({
            "x": {"type": "integer", "minimum": 0, "maximum": 23},
            "y": {"type": "integer", "minimum": 0},
            "w": {"type": "integer", "minimum": 1, "maximum": 24},
            "h": {"type": "integer", "minimum": 1},
        })),
        "id": {"type": "integer", "minimum": 1, "maximum": 2_147_483_647_u32},
        "colour": {"enum": ["blue", "green", "orange", "red"]},
        "annotation": object(json!({
            "name": text,
            "datasource": {"$ref": "#/$defs/data_source"},
            "enable": {"type": "boolean"},
            "hide": {"type": "boolean"},
            "iconColor": {"$ref": "#/$defs/colour"},
            "target": object(json!({"refId": text, "expr": text, "interval": {"const": "$interval"}})),
            "titleFormat": text,
            "tagKeys": text,
        })),
        "data_sources": object(json!({
            "name": {"const": "datasource"},
            "label": text,
            "type": {"const": "datasource"},
            "query": {"const": "prometheus"},
            "regex": {"type": "string"},
            "refresh": {"enum": [1, 2]},
            "multi": {"const": false},
            "includeAll": {"const": false},
            "current": object(json!({})),
            "options": empty,
            "hide": {"const": 0},
        })),
        "labels": object(json!({
            "name": {"enum": ["job", "flow", "task"]},
            "label": text,
            "type": {"const": "query"},
            "datasource": {"$ref": "#/$defs/data_source"},
            "definition": text,
            "query": object(json!({"qryType": {"const": 1}, "query": text, "refId": text})),
            "regex": {"type": "string"},
            "refresh": {"enum": [1, 2]},
            "sort": {"type": "integer", "minimum": 0, "maximum": 8},
            "multi": {"const": true},
            "includeAll": {"const": true},
            "allValue": {"const": ".*"},
            "current": object(json!({"text": {"const": ["All"]}, "value": {"const": ["$__all"]}})),
            "options": empty,
            "hide": {"const": 0},
        })),
        "choice": object(json!({
            "name": {"enum": ["interval", "top"]},
            "label": text,
            "type": {"const": "custom"},
            "query": text,
            "multi": {"const": false},
            "includeAll": {"const": false},
            "current": object(json!({"text": text, "value": text})),
            "options": {"type": "array", "minItems": 1, "items": object(json!({
                "text": text, "value": text, "selected": {"type": "boolean"},
            }))},
            "hide": {"const": 0},
        })),
        "row": object_with(
            json!({
                "id": {"$ref": "#/$defs/id"},
                "type": {"const": "row"},
                "title": text,
                "collapsed": {"const": false},
                "gridPos": {"$ref": "#/$defs/grid"},
                "panels": empty,
            }),
            json!({"repeat": {"const": "task"}, "repeatDirection": {"enum": ["h", "v"]}}),
        ),
        "lines": panel("timeseries", lines_style(), lines_options(), false),
        "stat": panel("stat", Value::Null, stat_options(), false),
        "table": panel("table", table_style(), table_options(), true),
    });
    schema
}

fn lines_style() -> Value {
    object(json!({
        "drawStyle": {"enum": ["line", "bars", "points"]},
        "lineWidth": {"type": "integer", "minimum": 0, "maximum": 10},
        "fillOpacity": {"type": "integer", "minimum": 0, "maximum": 100},
        "showPoints": {"enum": ["auto", "always", "never"]},
        "spanNulls": {"type": "boolean"},
        "stacking": object(json!({"mode": {"enum": ["none", "normal", "percent"]}, "group": {"type": "string"}})),
        "thresholdsStyle": object(json!({"mode": {"enum": ["off", "line", "dashed", "area"]}})),
    }))
}

fn lines_options() -> Value {
    object(json!({
        "legend": object(json!({
            "displayMode": {"enum": ["list", "table", "hidden"]},
            "placement": {"enum": ["bottom", "right"]},
            "showLegend": {"type": "boolean"},
            "calcs": {"type": "array"},
        })),
        "tooltip": object(json!({"mode": {"enum": ["single", "multi", "none"]}, "sort": {"enum": ["none", "asc", "desc"]}})),
    }))
}

fn stat_options() -> Value {
    object(json!({
        "reduceOptions": object(json!({
            "calcs": {"const": ["lastNotNull"]}, "fields": {"type": "string"}, "values": {"const": false},
        })),
        "colorMode": {"enum": ["none", "value", "background"]},
        "graphMode": {"enum": ["none", "area", "line"]},
        "justifyMode": {"enum": ["auto", "center"]},
        "orientation": {"enum": ["auto", "vertical", "horizontal"]},
        "textMode": {"enum": ["auto", "value", "name", "value_and_name", "none"]},
    }))
}

fn table_style() -> Value {
    object(
        json!({"align": {"enum": ["auto", "left", "right", "center"]}, "cellOptions": object(json!({"type": {"const": "auto"}}))}),
    )
}

fn table_options() -> Value {
    object(json!({
        "showHeader": {"type": "boolean"},
        "cellHeight": {"enum": ["sm", "md", "lg"]},
        "footer": object(json!({"show": {"type": "boolean"}})),
    }))
}

/// A panel of this type.
fn panel(kind: &str, style: Value, options: Value, is_table: bool) -> Value {
    let text = json!({"type": "string", "minLength": 1});
    let unit = json!({"enum": ["short", "cps", "s", "percentunit", "bytes"]});
    let mut defaults = json!({
        "unit": unit,
        "color": object(json!({"mode": {"enum": ["palette-classic", "thresholds"]}})),
        "thresholds": object(json!({"mode": {"const": "absolute"}, "steps": {"type": "array", "minItems": 1, "items": object(json!({
            "color": {"$ref": "#/$defs/colour"}, "value": {"type": ["number", "null"]},
        }))}})),
        "mappings": {"type": "array", "maxItems": 0},
    });
    if !style.is_null() {
        defaults["custom"] = style;
    }
    let target = object(json!({
        "refId": {"type": "string", "pattern": "^[A-Z]$"},
        "datasource": {"$ref": "#/$defs/data_source"},
        "editorMode": {"const": "code"},
        "expr": text,
        "legendFormat": text,
        "interval": {"const": "$interval"},
        "range": {"const": !is_table},
        "instant": {"const": is_table},
        "exemplar": {"type": "boolean"},
        "format": {"const": if is_table { "table" } else { "time_series" }},
    }));
    let matcher = object(json!({"id": {"enum": ["byName", "byFrameRefID"]}, "options": text}));
    let property = object(json!({"id": {"const": "unit"}, "value": unit}));
    let mut properties = json!({
        "id": {"$ref": "#/$defs/id"},
        "type": {"const": kind},
        "title": text,
        "description": {"type": "string", "minLength": 20},
        "datasource": {"$ref": "#/$defs/data_source"},
        "gridPos": {"$ref": "#/$defs/grid"},
        "fieldConfig": object(json!({
            "defaults": object_with(defaults, json!({"min": {"const": 0}})),
            "overrides": {"type": "array", "items": object(json!({
                "matcher": matcher, "properties": {"type": "array", "minItems": 1, "items": property},
            }))},
        })),
        "options": options,
        "targets": {"type": "array", "minItems": 1, "maxItems": 26, "items": target},
    });
    if is_table {
        properties["transformations"] = json!({"type": "array", "prefixItems": [
            object(json!({"id": {"const": "merge"}, "options": object(json!({}))})),
            object(json!({"id": {"const": "organize"}, "options": object(json!({
                "excludeByName": {"type": "object", "additionalProperties": {"type": "boolean"}},
                "indexByName": {"type": "object", "additionalProperties": {"type": "integer"}},
                "renameByName": {"type": "object", "additionalProperties": {"type": "string"}},
            }))})),
        ], "minItems": 2, "maxItems": 2});
    }
    object(properties)
}
