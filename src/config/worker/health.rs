//! The block `health`: typed, and its address read.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Blocks, top};
use crate::{plan::HEALTH_ADDRESS, problem::Problem};

/// The key of the block.
pub(in crate::config) const HEALTH: &str = "health";

/// Where a worker is asked how it is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct HealthKeys {
    /// Switches it on.
    enabled: bool,
    /// An IP address and a port.
    #[schemars(extend("examples" = ["0.0.0.0:8081", "[::]:8081"]))]
    address: String,
}

impl Default for HealthKeys {
    fn default() -> Self {
        Self { enabled: false, address: HEALTH_ADDRESS.to_string() }
    }
}

/// What the block says.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Health {
    pub(in crate::config) is_enabled: bool,
    pub(in crate::config) address: SocketAddr,
}

impl Blocks<'_> {
    /// Returns what the block says, if there is one and it is right.
    pub(super) fn health(&mut self) -> Option<Health> {
        let is_written = self.files.iter().any(|file| file.tree.get(HEALTH).is_some());
        let found = self.find(HEALTH);
        let says_whether = found.as_ref().is_some_and(|(value, _)| value.get("enabled").is_some());
        if (is_written || found.is_some()) && !says_whether {
            self.warn_of_no_switch(HEALTH);
        }
        let (value, owner) = found?;
        let HealthKeys { enabled, address } = self.typed(HEALTH, value, owner)?;
        match parse(&address) {
            Ok(address) => Some(Health { is_enabled: enabled, address }),
            Err((message, hint)) => {
                let mut problem = Problem::new(top(HEALTH).key("address"), message);
                problem.hint(hint);
                self.tell(owner, problem);
                None
            }
        }
    }
}

/// Reads an address, or says what is wrong with it and how it is written. The hint shows nothing of the text, which may
/// have come from a variable.
fn parse(text: &str) -> Result<SocketAddr, (String, &'static str)> {
    const FORM: &str = "such as `127.0.0.1:8081`, or `0.0.0.0:8081` for every interface";
    const NAME: &str = "names are not looked up: write the IP address, `127.0.0.1` for this machine alone";
    if text.is_empty() {
        return Err(("the address is empty".into(), FORM));
    }
    text.parse().map_err(|_| {
        let is_name = text.split_once(':').is_some_and(|(host, port)| {
            host.starts_with(|first: char| first.is_ascii_alphabetic()) && port.parse::<u16>().is_ok()
        });
        (format!("`{text}` is no IP address with a port"), if is_name { NAME } else { FORM })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_address_with_a_port() {
        for right in ["127.0.0.1:8081", "0.0.0.0:80", "[::]:8081", "[::1]:0"] {
            assert_eq!(parse(right).unwrap().to_string(), right);
        }
        for wrong in [
            "",
            "8081",
            ":8081",
            "127.0.0.1",
            "127.0.0.1:99999",
            "::1:8081",
            "http://127.0.0.1:8081",
            " 127.0.0.1:1",
        ] {
            assert!(parse(wrong).unwrap_err().1.starts_with("such as"), "{wrong}");
        }
        assert!(parse("localhost:8081").unwrap_err().1.starts_with("names are not"));
    }

    #[test]
    fn the_default_is_an_address() {
        assert_eq!(parse(&HealthKeys::default().address).unwrap(), HEALTH_ADDRESS);
    }
}
