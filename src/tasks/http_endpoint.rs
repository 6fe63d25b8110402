//! `http_endpoint`: the parts that decide who may call an endpoint, and from which pages.

#![cfg_attr(not(test), expect(dead_code, reason = "nothing calls them before the kind is registered"))]

mod auth;
mod cors;
