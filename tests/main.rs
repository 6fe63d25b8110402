//! The integration tests: one binary, so that it links once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod bench;
mod cli;
mod config;
mod dashboards;
mod delivery;
mod doctor;
mod engine;
mod examples;
mod health;
mod http_endpoint;
mod http_request;
mod kinds;
mod kubernetes;
mod layers;
mod model;
mod openapi;
mod operator;
mod readme;
mod rules;
mod run;
mod state;
mod support;
mod telemetry;
mod telemetry_settings;
