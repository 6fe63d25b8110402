//! `compose.yaml`: both of its profiles hold together, and what is shipped is what is tested. No engine is asked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{document, list, read, repository, text};

const PROFILES: [&str; 2] = ["minimal", "observability"];

/// Returns the services that a profile starts, by their names.
fn services(profile: &str) -> BTreeMap<String, Value> {
    let compose = document("compose.yaml");
    let all = compose["services"].as_object().unwrap().clone().into_iter();
    let is_of = |service: &Value| {
        let profiles = list(&service["profiles"]);
        profiles.is_empty() || profiles.iter().any(|one| one == profile)
    };
    all.filter(|(_, service)| is_of(service)).collect()
}

/// Returns the names under which the services of a profile find each other.
fn hosts(profile: &str) -> BTreeSet<String> {
    let names = services(profile).into_iter().flat_map(|(name, service)| {
        let aliases = list(&service["networks"]["default"]["aliases"]).to_vec();
        aliases.into_iter().map(|alias| alias.as_str().unwrap().to_owned()).chain([name])
    });
    let names: Vec<_> = names.collect();
    let hosts: BTreeSet<_> = names.iter().cloned().collect();
    assert_eq!(hosts.len(), names.len(), "two services of {profile} have one name: {names:?}");
    hosts
}

fn version(image: &Value) -> String {
    image.as_str().unwrap().rsplit_once(':').unwrap().1.to_owned()
}

#[test]
fn each_profile_has_a_collector_where_flowgen_looks_for_it() {
    let by_default = format!("\nCOMPOSE_PROFILES={}\n", PROFILES[0]);
    assert!(read(".env").contains(&by_default), "a profile that is not named replaces nothing");
    for profile in PROFILES {
        let services = services(profile);
        let endpoint = &services["flowgen"]["environment"]["FLOWGEN_TELEMETRY__OTLP_ENDPOINT"];
        let host = endpoint.as_str().unwrap().strip_prefix("http://").unwrap().strip_suffix(":4317").unwrap();
        assert!(hosts(profile).contains(host), "{profile} has no {host}");
        let waits: BTreeSet<_> = services["flowgen"]["depends_on"].as_object().unwrap().keys().collect();
        assert_eq!(waits.iter().filter(|name| services.contains_key(**name)).count(), 1, "{profile}");
    }
}

#[test]
fn what_is_published_is_for_this_machine_alone_and_nothing_of_flowgens() {
    for (profile, expected) in [
        (PROFILES[0], ["127.0.0.1:4317:4317"].as_slice()),
        (
            PROFILES[1],
            &["127.0.0.1:16686:16686", "127.0.0.1:3000:3000", "127.0.0.1:4317:4317", "127.0.0.1:9090:9090"],
        ),
    ] {
        let services = services(profile);
        let ports = services.values().flat_map(|service| list(&service["ports"]));
        let mut ports: Vec<_> = ports.map(|port| port.as_str().unwrap()).collect();
        ports.sort_unstable();
        assert_eq!(ports, expected, "{profile}");
        assert!(services["flowgen"].get("ports").is_none());
    }
}

#[test]
fn what_is_mounted_is_there_and_named_hosts_are_services() {
    for profile in PROFILES {
        for (name, service) in services(profile) {
            for volume in list(&service["volumes"]) {
                let source = volume.as_str().unwrap().split(':').next().unwrap();
                let is_there = !source.starts_with("./") || repository().join(source).exists();
                assert!(is_there, "{name} mounts {source}");
            }
            for other in list(&service["depends_on"]) {
                assert!(services(profile).contains_key(other.as_str().unwrap()), "{name} waits for {other}");
            }
        }
    }
    let hosts = hosts("observability");
    let exporters = document("deploy/observability/collector.yaml")["exporters"].clone();
    let sources = document("deploy/observability/grafana/datasources/flowgen.yaml")["datasources"].clone();
    let endpoints = exporters.as_object().unwrap().values().map(|one| text(one, "endpoint"));
    for endpoint in endpoints.chain(list(&sources).iter().map(|one| text(one, "url"))) {
        let host = endpoint.trim_start_matches("http://").split(':').next().unwrap();
        assert!(hosts.contains(host), "nobody is called {host}");
    }
}

#[test]
fn what_is_shipped_is_what_is_tested() {
    let services = services("observability");
    let collector = &document("tests/e2e/collector.yaml")["dist"]["version"];
    assert_eq!(version(&services["telemetry"]["image"]), collector.as_str().unwrap());
    let image = format!("opentelemetry-collector-contrib:{}", collector.as_str().unwrap());
    assert!(read("otel-config.production.yaml").contains(&image), "{image}");
    // Prometheus 3.13.5 is the module v0.313.5.
    let module = version(&services["prometheus"]["image"]).replacen("v3.", "v0.3", 1);
    assert!(read("tests/e2e/rules").contains(&format!("version={module} ")), "{module}");
}
