//! How collectors refuse a call, where the code alone does not say it.

use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};

/// What a collector answers that wants to be left alone for a while: `google.rpc.RetryInfo` in the details.
pub(super) fn throttled(delay: Duration) -> Status {
    let delay = Delay {
        seconds: delay.as_secs().try_into().unwrap(),
        nanos: delay.subsec_nanos().try_into().unwrap(),
    };
    let info = RetryInfo { retry_delay: Some(delay) };
    let info =
        Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: info.encode_to_vec() };
    let details = RpcStatus { details: vec![info] };
    Status::with_details(Code::ResourceExhausted, "as the test wants it", details.encode_to_vec().into())
}

/// What a Collector answers to a call that is longer than its receiver takes, in the words of Go's library.
pub(super) fn too_large(size: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!("grpc: received message larger than max ({size} vs. {limit})"))
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}
