//! Who calls, as far as it is known. Never holds a secret.

use std::{fmt, sync::Arc};

use serde_json::{Map, Value};

/// Who calls.
#[derive(Clone, PartialEq)]
pub(in crate::tasks::http_endpoint) struct Principal {
    /// The way it was told: the key in YAML.
    pub(in crate::tasks::http_endpoint) scheme: &'static str,
    /// The name of a user, or the subject of a token.
    pub(in crate::tasks::http_endpoint) name: Option<Arc<str>>,
    /// What the token says of the caller.
    pub(in crate::tasks::http_endpoint) claims: Option<Map<String, Value>>,
}

/// Shows nothing that a caller sent.
impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({})", self.scheme)
    }
}

impl Principal {
    /// Somebody who knows a secret.
    pub(super) fn anonymous(scheme: &'static str) -> Self {
        Self { scheme, name: None, claims: None }
    }

    /// Returns what an event's metadata tells of it.
    pub(in crate::tasks::http_endpoint) fn into_meta(self) -> Value {
        let mut meta = Map::new();
        meta.insert("scheme".into(), self.scheme.into());
        meta.extend(self.name.map(|name| ("name".into(), Value::from(&*name))));
        meta.extend(self.claims.map(|claims| ("claims".into(), Value::Object(claims))));
        Value::Object(meta)
    }
}
