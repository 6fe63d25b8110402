//! What a configuration tells those who call the endpoint.

use super::{Config, ResponseMode, media::RequestType};
use crate::task::http::{Content, Operation, Reply};

/// Returns what can be asked for, unless the route is none.
pub(super) fn operation(config: &Config) -> Option<Operation> {
    Some(Operation {
        route: config.route().ok()?,
        content: match config.request_type {
            RequestType::Auto => Content::Any,
            RequestType::Json => Content::Json,
            RequestType::Form => Content::Form,
            RequestType::Text => Content::Text,
            RequestType::Bytes => Content::Bytes,
        },
        max_body_bytes: config.max_body_bytes.0,
        headers: config.headers.clone(),
        credentials: config.auth.as_ref().and_then(super::auth::Config::credentials),
        reply: match config.response {
            ResponseMode::Result if config.stream => Reply::Stream,
            ResponseMode::Result => Reply::Result,
            ResponseMode::Ack => Reply::Ack,
            ResponseMode::Accepted => Reply::Accepted,
        },
        is_rate_limited: config.rate_limit.is_some(),
    })
}
