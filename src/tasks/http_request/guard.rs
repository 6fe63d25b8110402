//! Whom requests may reach: `allow_hosts` and `deny_private`.
//!
//! A URL may come from event data, and a server's answer may lead anywhere. So every URL is looked at before a request is
//! made: the first one, where a redirect leads, and the next page. What a name leads to is known only when it is looked
//! up for a connection: [`resolver`] lets through the addresses that this allows, and to no other is connected, so that a
//! name which leads elsewhere the next time gains nothing.

mod address;
mod resolver;

use std::{error::Error, fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use reqwest::Url;
use url::Host;

pub(super) use resolver::Resolver;

use crate::problem::Problems;

/// What requests may reach.
#[derive(Debug)]
pub(super) struct Guard {
    /// What `allow_hosts` names; without it every host is allowed.
    allowed: Option<Allowed>,
    is_private_denied: bool,
    /// Whether a proxy looks up the names.
    is_proxied: bool,
}

#[derive(Debug, Default)]
struct Allowed {
    names: Vec<Name>,
    blocks: Vec<IpNet>,
}

/// A name that `allow_hosts` holds, in lowercase.
#[derive(Debug)]
enum Name {
    This(String),
    /// All below it.
    Below(String),
}

/// Why a host is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// `allow_hosts` does not hold it.
    NotAllowed,
    /// It is private.
    Private,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAllowed => "the host is none of `allow_hosts`",
            Self::Private => "the address is a private one, which `deny_private` refuses",
        })
    }
}

impl Error for Refused {}

/// Reports what is wrong with `allow_hosts`.
pub(super) fn check(allow_hosts: Option<&[String]>, problems: &mut Problems) {
    let Some(hosts) = allow_hosts else { return };
    if hosts.is_empty() {
        problems.report("allow_hosts", "no host is allowed").hint("leave it out to allow all");
    }
    for (n, host) in hosts.iter().enumerate() {
        if Allowed::default().add(host).is_none() {
            problems
                .report(&format!("allow_hosts.{n}"), "this is no host")
                .hint("a name, `*.` and a name, an address, or a block such as `10.0.0.0/8`; no scheme, port or path");
        }
    }
}

impl Guard {
    /// Makes one, if anything is to be guarded.
    pub(super) fn compile(
        allow_hosts: Option<&[String]>,
        is_private_denied: bool,
        is_proxied: bool,
    ) -> Option<Arc<Self>> {
        let allowed = allow_hosts.map(|hosts| {
            let mut allowed = Allowed::default();
            for host in hosts {
                // What cannot be read was reported, and allows nothing.
                let _ = allowed.add(host);
            }
            allowed
        });
        (allowed.is_some() || is_private_denied)
            .then(|| Arc::new(Self { allowed, is_private_denied, is_proxied }))
    }

    /// Returns whether it has to see the addresses that names lead to.
    pub(super) fn needs_addresses(&self) -> bool {
        !self.is_proxied
            && (self.is_private_denied
                || self.allowed.as_ref().is_some_and(|allowed| !allowed.blocks.is_empty()))
    }

    /// Lets a URL pass as far as it tells where it leads: an address for good, a name until it is looked up.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refused> {
        match url.host() {
            None => Err(Refused::NotAllowed),
            Some(Host::Domain(name)) => {
                let may_lead_to_a_block = || {
                    !self.is_proxied
                        && self.allowed.as_ref().is_some_and(|allowed| !allowed.blocks.is_empty())
                };
                if self.is_named(name) || may_lead_to_a_block() { Ok(()) } else { Err(Refused::NotAllowed) }
            }
            Some(Host::Ipv4(address)) => self.admit(address.into(), self.allowed.is_none()),
            Some(Host::Ipv6(address)) => self.admit(address.into(), self.allowed.is_none()),
        }
    }

    /// Keeps of the addresses of a name those that may be connected to: at least one.
    fn keep<A: Copy>(
        &self,
        name: &str,
        found: impl Iterator<Item = A>,
        address: impl Fn(A) -> IpAddr,
    ) -> Result<Vec<A>, Refused> {
        let is_named = self.is_named(name);
        let (mut kept, mut refused) = (Vec::new(), None);
        for one in found {
            match self.admit(address(one), is_named) {
                Ok(()) => kept.push(one),
                Err(why) => refused = Some(why),
            }
        }
        match refused {
            Some(why) if kept.is_empty() => Err(why),
            _ => Ok(kept),
        }
    }

    /// Lets an address pass. One within a block that is allowed may be private.
    fn admit(&self, address: IpAddr, is_named: bool) -> Result<(), Refused> {
        let address = address.to_canonical();
        if self
            .allowed
            .as_ref()
            .is_some_and(|allowed| allowed.blocks.iter().any(|block| block.contains(&address)))
        {
            return Ok(());
        }
        if !is_named {
            return Err(Refused::NotAllowed);
        }
        if self.is_private_denied && address::is_private(address) { Err(Refused::Private) } else { Ok(()) }
    }

    fn is_named(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        self.allowed.as_ref().is_none_or(|allowed| allowed.names.iter().any(|known| known.matches(name)))
    }
}

impl Allowed {
    /// Adds what a text names; `None` if it names nothing.
    fn add(&mut self, text: &str) -> Option<()> {
        if let Ok(block) = text.parse::<IpNet>() {
            self.blocks.push(block);
            return Some(());
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            self.blocks.push(address.to_canonical().into());
            return Some(());
        }
        let (is_below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        match Host::parse(name.trim_end_matches('.')).ok()? {
            Host::Domain(name) if !name.contains('*') => {
                self.names.push(if is_below { Name::Below(format!(".{name}")) } else { Name::This(name) });
                Some(())
            }
            _ => None,
        }
    }
}

impl Name {
    /// Compares with the name of a URL, which is in lowercase too.
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::This(known) => known == name,
            Self::Below(known) => name.len() > known.len() && name.ends_with(known),
        }
    }
}

#[cfg(test)]
mod tests;
