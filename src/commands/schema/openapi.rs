//! The endpoints of flows as a document of OpenAPI 3.1.
//!
//! It says what the server makes sure of. What a flow makes of a request is known as far as a `validate` right after the
//! endpoint says what the body has to be like; what a script answers is not.

mod request;
mod responses;

use serde_json::{Map, Value, json};

use crate::{
    commands::health::reachable,
    plan::{Flow, HttpServer, Node, Plan},
    task::http::{Operation, Route},
};

/// An endpoint, and the flow that it begins.
struct Endpoint<'a> {
    flow: &'a Flow,
    node: &'a Node,
    operation: Operation,
}

/// Describes all endpoints of a worker; `None` if it has none.
pub(super) fn document(plan: &Plan) -> Option<Value> {
    let endpoints: Vec<_> = plan.flows.iter().flat_map(endpoints).collect();
    if endpoints.is_empty() {
        return None;
    }
    let mut flows: Vec<_> = endpoints.iter().map(|endpoint| &*endpoint.flow.name).collect();
    flows.dedup();
    let mut schemes = request::Schemes::default();
    let mut paths = Paths::default();
    for endpoint in &endpoints {
        paths.add(endpoint, &mut schemes);
    }
    let mut components = json!({"schemas": responses::schemas()});
    if let Some(schemes) = schemes.into_value() {
        components["securitySchemes"] = schemes;
    }
    Some(json!({
        "openapi": "3.1.0",
        "info": {"title": flows.join(", "), "version": env!("CARGO_PKG_VERSION")},
        "servers": [{"url": url(&plan.worker.http_server)}],
        "tags": flows.iter().map(|flow| json!({"name": flow})).collect::<Vec<_>>(),
        "paths": paths.paths,
        "components": components,
    }))
}

fn endpoints(flow: &Flow) -> impl Iterator<Item = Endpoint<'_>> {
    flow.tasks.iter().filter_map(move |node| {
        let operation = node.prepared.operation()?;
        Some(Endpoint { flow, node, operation })
    })
}

/// Returns where the server is reached from its own machine.
fn url(server: &HttpServer) -> String {
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", reachable(server.address))
}

/// The items of all paths. Paths that differ by the names of their parameters only are one.
#[derive(Default)]
struct Paths {
    /// What tells paths apart, in the order of `paths`.
    places: Vec<Vec<Segment>>,
    paths: Map<String, Value>,
}

/// A part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Fixed(String),
    Parameter,
}

impl Paths {
    fn add(&mut self, endpoint: &Endpoint<'_>, schemes: &mut request::Schemes) {
        let route = &endpoint.operation.route;
        let place = segments(route);
        let known = self.places.iter().position(|known| *known == place);
        let path = match known.and_then(|n| self.paths.keys().nth(n)) {
            Some(path) => path.clone(),
            None => {
                self.places.push(place);
                route.template.replace("{*", "{")
            }
        };
        let names = parameters(&path);
        let item = self.paths.entry(path).or_insert_with(|| json!({}));
        let method = route.method.as_str().to_ascii_lowercase();
        if method == "get" {
            // What answers GET answers HEAD.
            item["get"] = operation(endpoint, &names, schemes, false);
            item["head"] = operation(endpoint, &names, schemes, true);
        } else {
            item[method] = operation(endpoint, &names, schemes, false);
        }
    }
}

fn segments(route: &Route) -> Vec<Segment> {
    let of = |segment: &str| match segment.starts_with('{') {
        true => Segment::Parameter,
        false => Segment::Fixed(segment.to_owned()),
    };
    route.template.split('/').map(of).collect()
}

/// Returns the names of the parameters of a path.
fn parameters(path: &str) -> Vec<String> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    names.map(str::to_owned).collect()
}

fn operation(
    endpoint: &Endpoint<'_>,
    names: &[String],
    schemes: &mut request::Schemes,
    is_head: bool,
) -> Value {
    let Endpoint { flow, node, operation } = endpoint;
    let id = format!("{}.{}{}", flow.name, node.name, if is_head { ".head" } else { "" });
    let mut described = json!({"operationId": id, "tags": [&*flow.name]});
    let parameters = request::parameters(operation, names);
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(body) = request::body(flow, node, operation) {
        described["requestBody"] = body;
    }
    if let Some(credentials) = &operation.credentials {
        described["security"] = json!([{schemes.name(credentials): []}]);
    }
    described["responses"] = responses::responses(flow, operation, is_head);
    described
}
