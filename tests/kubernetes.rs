//! What `deploy/kubernetes` says, held against what a worker does and what the image is. That the manifests are valid is checked
//! by `tests/e2e/manifests`, against the schemas of Kubernetes.

use std::{collections::BTreeSet, fs, net::SocketAddr, path::PathBuf, time::Duration};

use flowgen::{
    plan::{HEALTH_ADDRESS, Worker as Settings},
    services::health::{LIVE, READY},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{flowgen, worker::Worker};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes")
}

fn manifest(name: &str) -> Value {
    serde_yaml::from_str(&fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn deployment() -> Value {
    manifest("deployment.yaml")
}

fn pod() -> Value {
    deployment()["spec"]["template"]["spec"].take()
}

fn container() -> Value {
    pod()["containers"][0].take()
}

/// Returns the files of the ConfigMap.
fn files() -> Vec<(String, String)> {
    let map = manifest("configmap.yaml");
    let files = map["data"].as_object().unwrap().iter();
    files.map(|(name, text)| (name.clone(), text.as_str().unwrap().to_owned())).collect()
}

/// Lays the files of the ConfigMap out as the volume that it becomes: links to a folder that is swapped as a whole.
fn volume() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("..version")).unwrap();
    std::os::unix::fs::symlink("..version", folder.path().join("..data")).unwrap();
    for (name, text) in files() {
        fs::write(folder.path().join("..version").join(&name), text).unwrap();
        std::os::unix::fs::symlink(format!("..data/{name}"), folder.path().join(&name)).unwrap();
    }
    folder
}

/// Returns a setting of the worker that a file of the ConfigMap has.
fn setting(key: &str) -> Value {
    let trees = files().into_iter().map(|(_, text)| serde_yaml::from_str::<Value>(&text).unwrap());
    let mut found: Vec<_> = trees.filter_map(|tree| tree.get(key).cloned()).collect();
    assert_eq!(found.len(), 1, "{key}");
    found.remove(0)
}

/// Returns the instruction of the image's last stage.
fn of_image(instruction: &str) -> String {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Dockerfile")).unwrap();
    let (_, stage) = text.rsplit_once("\nFROM ").unwrap();
    let line = stage.lines().find_map(|line| line.strip_prefix(instruction)).unwrap();
    line.trim().to_owned()
}

#[test]
fn the_flows_are_valid_and_run_and_are_ready() {
    let folder = volume();
    let checked = flowgen(folder.path()).args(["validate", "."]).output().unwrap();
    let stderr = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!((checked.status.code(), stderr.as_str()), (Some(0), ""));
    // The same arguments as in the pod, and another port: that one may be taken here.
    let arguments = container()["args"].take();
    let arguments: Vec<&str> =
        arguments.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let arguments: Vec<&str> =
        arguments.into_iter().map(|word| if word == "/flows" { "." } else { word }).collect();
    let worker = Worker::start_in(folder, &arguments, |command| {
        command.env("FLOWGEN_HEALTH__ADDRESS", "127.0.0.1:0");
        command.env("FLOWGEN_HTTP_SERVER__ADDRESS", "127.0.0.1:0");
    });
    let health = crate::health::address(&worker);
    let server: Value = serde_json::from_str(&worker.next_logged("HTTP server listens")).unwrap();
    crate::health::until_ready(health);
    let address = server["address"].as_str().unwrap().parse().unwrap();
    let greeting = crate::support::client::call(address, "GET /greetings/Ada", "", b"");
    assert_eq!(greeting.json(), json!({"greeting": "Hello, Ada!"}));
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends_in_time().code, Some(0));
}

#[test]
fn probes_ask_what_there_is_where_the_worker_listens() {
    let address: SocketAddr = setting("health")["address"].as_str().unwrap().parse().unwrap();
    assert!(address.ip().is_unspecified(), "the kubelet asks from outside");
    assert_eq!(address.port(), HEALTH_ADDRESS.port());
    assert_eq!(setting("health")["enabled"], true);
    let container = container();
    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap();
        ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].clone()
    };
    assert_eq!(port("health"), address.port());
    for (probe, path) in [("startupProbe", LIVE), ("livenessProbe", LIVE), ("readinessProbe", READY)] {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "health"}), "{probe}");
    }
    assert_eq!(manifest("service.yaml")["spec"]["ports"][0]["targetPort"], "http");
    let served: SocketAddr = setting("http_server")["address"].as_str().unwrap().parse().unwrap();
    assert!(served.ip().is_unspecified() && port("http") == served.port(), "{served}");
}

#[test]
fn there_is_time_for_the_drain_before_the_kill() {
    let timeout = humantime::parse_duration(setting("shutdown_timeout").as_str().unwrap()).unwrap();
    assert_eq!(timeout, Settings::default().shutdown_timeout);
    let seconds = |value: &Value| Duration::from_secs(value.as_u64().unwrap());
    let sleep = seconds(&container()["lifecycle"]["preStop"]["sleep"]["seconds"]);
    assert!(sleep > Duration::ZERO);
    let grace = seconds(&pod()["terminationGracePeriodSeconds"]);
    assert!(grace >= sleep + timeout + Duration::from_secs(5), "{grace:?} {sleep:?} {timeout:?}");
}

#[test]
fn a_pod_has_no_more_rights_than_the_image_needs() {
    let (pod, container) = (pod(), container());
    let (user, group) =
        (pod["securityContext"]["runAsUser"].clone(), pod["securityContext"]["runAsGroup"].clone());
    assert_eq!(format!("{user}:{group}"), of_image("USER"));
    assert_eq!(pod["securityContext"]["fsGroup"], group);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(
        (&pod["automountServiceAccountToken"], &pod["enableServiceLinks"]),
        (&false.into(), &false.into())
    );
    let rights = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(container["securityContext"], rights);
    assert_eq!(container["image"], format!("flowgen:{}", env!("CARGO_PKG_VERSION")));
    let mounts: BTreeSet<_> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["mountPath"].clone().to_string())
        .collect();
    let volume: Value = serde_json::from_str(&of_image("VOLUME")).unwrap();
    let flows = container["args"].as_array().unwrap().last().unwrap();
    assert_eq!(mounts, BTreeSet::from([flows.to_string(), volume[0].to_string()]));
}

#[test]
fn the_manifests_are_about_the_same_pods_and_are_all_applied() {
    let deployment = deployment();
    let (name, labels) =
        (&deployment["metadata"]["name"], &deployment["spec"]["template"]["metadata"]["labels"]);
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&manifest("service.yaml")["spec"]["selector"], labels);
    assert_eq!(&manifest("pdb.yaml")["spec"]["selector"]["matchLabels"], labels);
    let scaled = json!({"apiVersion": deployment["apiVersion"], "kind": deployment["kind"], "name": name});
    assert_eq!(manifest("hpa.yaml")["spec"]["scaleTargetRef"], scaled);
    assert!(deployment["spec"].get("replicas").is_none(), "the autoscaler says how many");
    let map = &pod()["volumes"][0]["configMap"]["name"];
    assert_eq!(map, &manifest("configmap.yaml")["metadata"]["name"]);
    let kustomization = manifest("kustomization.yaml");
    let applied: BTreeSet<_> = kustomization["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    let entries =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(applied, entries.filter(|name| name != "kustomization.yaml").collect());
    assert_eq!(kustomization["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
}
