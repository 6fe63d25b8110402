//! An endpoint as those who call it see it: what a kind tells of its configuration, for a description of it.

use super::Route;

/// What can be asked for at a route, how, and what may come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Where.
    pub route: Route,
    /// How a body is read.
    pub content: Content,
    /// How many bytes a body has at most.
    pub max_body_bytes: usize,
    /// The headers that are looked at.
    pub headers: Vec<String>,
    /// How callers say who they are, if they have to.
    pub credentials: Option<Credentials>,
    /// What is answered.
    pub reply: Reply,
    /// Whether only so many requests are let in.
    pub is_rate_limited: bool,
}

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// As its media type says.
    Any,
    /// As JSON.
    Json,
    /// As a form.
    Form,
    /// As text.
    Text,
    /// As bytes.
    Bytes,
}

/// How callers say who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// By a token that is known.
    Bearer,
    /// By a name and a password.
    Basic,
    /// By a JSON Web Token.
    Jwt {
        /// Whether a token that is good may still not allow enough.
        is_scoped: bool,
    },
    /// By a key.
    Key {
        /// The header that it is in.
        header: String,
    },
    /// By the signature of the body.
    Signature {
        /// The header that it is in.
        header: String,
        /// The header that its time is in, if that is another one.
        time_header: Option<String>,
    },
}

/// What is answered when all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// What the event has become, by the status and the headers that the flow says.
    Result,
    /// The same, output by output, as server-sent events.
    Stream,
    /// That the flow is done.
    Ack,
    /// That the flow has the event.
    Accepted,
}
