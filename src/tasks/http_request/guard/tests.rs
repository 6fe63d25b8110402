use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

fn guard(allow_hosts: Option<&[&str]>, is_private_denied: bool, is_proxied: bool) -> Arc<Guard> {
    let hosts: Option<Vec<String>> =
        allow_hosts.map(|hosts| hosts.iter().map(|host| (*host).to_owned()).collect());
    let mut problems = Problems::default();
    check(hosts.as_deref(), &mut problems);
    assert!(problems.is_empty());
    Guard::compile(hosts.as_deref(), is_private_denied, is_proxied).unwrap()
}

fn checked(guard: &Guard, url: &str) -> Result<(), Refused> {
    guard.check(&url.parse().unwrap())
}

#[test]
fn only_hosts_that_are_named_are_allowed() {
    let guard =
        guard(Some(&["api.example.com", "*.Example.org", "192.0.2.1", "2001:db8::/32"]), false, false);
    let fine = [
        "http://api.example.com/x",
        "https://API.example.com.:8443/",
        "http://a.example.org",
        "http://a.b.example.org",
        "http://192.0.2.1",
        "http://[::ffff:192.0.2.1]",
        "http://[2001:db8::5]",
    ];
    for url in fine {
        assert_eq!(checked(&guard, url), Ok(()), "{url}");
    }
    for url in ["http://192.0.2.2", "http://[2001:db9::1]", "http://0xc0000202/"] {
        assert_eq!(checked(&guard, url), Err(Refused::NotAllowed), "{url}");
    }
    // These may lead to a block: it is seen when they are looked up.
    let address = |address: &str| address.parse::<IpAddr>().unwrap();
    let keep = |name, found: &[&str]| guard.keep(name, found.iter().map(|one| address(one)), |one| one);
    assert_eq!(keep("evil.example", &["198.51.100.1"]), Err(Refused::NotAllowed));
    assert_eq!(keep("evil.example", &["198.51.100.1", "192.0.2.1"]), Ok(vec![address("192.0.2.1")]));
    assert_eq!(keep("api.example.com", &["198.51.100.1"]), Ok(vec![address("198.51.100.1")]));
}

#[test]
fn a_name_that_only_looks_like_one_is_refused() {
    for is_proxied in [false, true] {
        let guard = guard(Some(&["example.com", "*.example.org"]), false, is_proxied);
        for host in
            ["example.com.evil.net", "evil-example.com", "example.org", "notexample.org", "a.example.com"]
        {
            assert_eq!(checked(&guard, &format!("http://{host}/")), Err(Refused::NotAllowed), "{host}");
        }
        assert!(!guard.needs_addresses());
    }
    // Nobody here sees what a proxy makes of a name.
    let proxied = guard(Some(&["10.0.0.0/8"]), false, true);
    assert_eq!(checked(&proxied, "http://inside.example"), Err(Refused::NotAllowed));
    assert_eq!(checked(&proxied, "http://10.1.2.3"), Ok(()));
}

#[test]
fn however_a_private_address_is_written_it_is_refused() {
    let guard = guard(None, true, false);
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "0",
        "10.0.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a00:1]",
        "[2002:7f00:1::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
    ] {
        assert_eq!(checked(&guard, &format!("http://{host}/")), Err(Refused::Private), "{host}");
    }
    for host in ["example.com", "8.8.8.8", "[2606:4700::1111]"] {
        assert_eq!(checked(&guard, &format!("http://{host}/")), Ok(()), "{host}");
    }
}

/// Scenario: a name that leads to a public address and to a private one, as one does that is meant to deceive.
/// Guarantee: no connection is made to the private one.
#[test]
fn of_the_addresses_of_a_name_only_the_public_ones_are_kept() {
    let guard = guard(None, true, false);
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let found = ["127.0.0.1:0", "8.8.8.8:0", "[fe80::1]:0"].map(address);
    let kept = guard.keep("x", found.into_iter(), |one| one.ip());
    assert_eq!(kept, Ok(vec![address("8.8.8.8:0")]));
    let private = [address("192.168.0.1:0")];
    assert_eq!(guard.keep("x", private.into_iter(), |one| one.ip()), Err(Refused::Private));
    assert_eq!(guard.keep("x", [].into_iter(), |one: SocketAddr| one.ip()), Ok(vec![]), "that is no refusal");
}

#[test]
fn a_private_block_that_is_named_is_allowed_and_no_other() {
    let guard = guard(Some(&["10.1.0.0/16", "inside.example"]), true, false);
    assert_eq!(checked(&guard, "http://10.1.2.3"), Ok(()));
    assert_eq!(checked(&guard, "http://10.2.2.3"), Err(Refused::NotAllowed));
    let keep = |name, text: &str| guard.keep(name, [text.parse::<IpAddr>().unwrap()].into_iter(), |one| one);
    assert!(keep("inside.example", "10.1.0.1").is_ok());
    assert_eq!(keep("inside.example", "10.2.0.1"), Err(Refused::Private));
    assert_eq!(keep("other.example", "10.2.0.1"), Err(Refused::NotAllowed));
}

#[test]
fn what_is_no_host_is_found_at_load() {
    let count = |hosts: &[&str]| {
        let mut problems = Problems::default();
        check(Some(&hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()), &mut problems);
        problems.into_vec().len()
    };
    assert_eq!(count(&[]), 1);
    let wrong = ["http://a", "a:80", "a/b", "", "*", "a.*.b", "10.0.0.0/33", "a b", "*.1.2.3.4"];
    assert_eq!(count(&wrong), wrong.len());
    assert_eq!(count(&["a", "*.b", "10.0.0.0/8", "::1"]), 0);
}

proptest! {
    #[test]
    fn an_address_within_another_one_is_as_private_as_that(bits: u32) {
        let inner = std::net::Ipv4Addr::from(bits);
        let mapped = IpAddr::from(inner.to_ipv6_mapped());
        let translated = format!("64:ff9b::{:x}:{:x}", bits >> 16, bits & 0xffff).parse::<IpAddr>().unwrap();
        let tunnelled = format!("2002:{:x}:{:x}::1", bits >> 16, bits & 0xffff).parse::<IpAddr>().unwrap();
        for outer in [mapped, translated, tunnelled] {
            prop_assert_eq!(address::is_private(outer), address::is_private(inner.into()), "{}", outer);
        }
    }
}
