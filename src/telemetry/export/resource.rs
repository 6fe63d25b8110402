//! Who sends telemetry: the resource of every span and metric.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
};
use uuid::Uuid;

use crate::telemetry::{SCOPE, VERSION};

/// What nobody can configure: which library made the telemetry. The name `opentelemetry` is that of the
/// official ones.
const SDK: [(&str, &str); 3] =
    [("telemetry.sdk.name", SCOPE), ("telemetry.sdk.language", "rust"), ("telemetry.sdk.version", VERSION)];

/// Makes the resource of this process. `attributes` win over what is found out here. Each call names
/// another instance: call it once.
pub fn resource(service_name: &str, attributes: &BTreeMap<String, String>) -> Resource {
    let mut all = BTreeMap::from([
        ("service.name".to_owned(), service_name.to_owned()),
        ("service.version".to_owned(), VERSION.to_owned()),
        ("service.instance.id".to_owned(), Uuid::now_v7().to_string()),
    ]);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if !host.is_empty() {
        all.insert("host.name".to_owned(), host);
    }
    all.extend(attributes.clone());
    all.extend(SDK.map(|(key, value)| (key.to_owned(), value.to_owned())));
    Resource { attributes: all.into_iter().map(key_value).collect(), ..Resource::default() }
}

fn key_value((key, value): (String, String)) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value)) });
    KeyValue { key, value, ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(configured: &[(&str, &str)]) -> BTreeMap<String, String> {
        let configured = configured.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let pair = |attribute: KeyValue| match attribute.value.and_then(|value| value.value) {
            Some(Value::StringValue(value)) => (attribute.key, value),
            other => panic!("{other:?}"),
        };
        resource("orders", &configured.collect()).attributes.into_iter().map(pair).collect()
    }

    #[test]
    fn says_which_service_instance_host_and_library_it_is() {
        let (first, second) = (attributes(&[]), attributes(&[]));
        assert_eq!(first["service.name"], "orders");
        assert_eq!(first["service.version"], VERSION);
        assert_eq!(first["telemetry.sdk.name"], "flowgen");
        assert_eq!(first["telemetry.sdk.language"], "rust");
        assert_eq!(first["telemetry.sdk.version"], VERSION);
        assert!(!first["host.name"].is_empty());
        assert!(Uuid::parse_str(&first["service.instance.id"]).is_ok());
        assert_ne!(first["service.instance.id"], second["service.instance.id"]);
    }

    #[test]
    fn configured_attributes_win_but_not_over_the_library() {
        let all = attributes(&[
            ("service.instance.id", "pod-1"),
            ("deployment.environment.name", "prod"),
            ("telemetry.sdk.name", "opentelemetry"),
        ]);
        assert_eq!(all["service.instance.id"], "pod-1");
        assert_eq!(all["deployment.environment.name"], "prod");
        assert_eq!(all["telemetry.sdk.name"], "flowgen");
    }
}
