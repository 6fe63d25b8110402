use std::{
    fs,
    future::poll_fn,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{super::tests::wait, *};

fn sample() -> Value {
    serde_json::from_str::<Value>(include_str!("../jwt/tests/samples.json")).unwrap()["jwks"].take()
}

/// Makes a set of one key of each of these names.
fn set(kids: &[&str]) -> String {
    let key = &sample()["keys"][1];
    let keys = kids.iter().map(|kid| {
        let mut key = key.clone();
        key["kid"] = (*kid).into();
        key
    });
    json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
}

/// A server of keys, in a thread of its own until the test ends.
struct Provider {
    url: String,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    fn start(status: u16, body: impl Into<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/keys?secret=hunter2", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new((status, body.into())));
        let asked = Arc::new(AtomicUsize::new(0));
        let provider = Self { url, answer: Arc::clone(&answer), asked: Arc::clone(&asked) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                if !lines.map_while(Result::ok).any(|line| line.is_empty()) {
                    continue;
                }
                asked.fetch_add(1, Ordering::SeqCst);
                let (status, body) = answer.lock().unwrap().clone();
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nlocation: /elsewhere\r\nconnection: close\r\n\r\n"
                );
                drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())));
            }
        });
        provider
    }

    fn answer(&self, status: u16, body: impl Into<String>) {
        *self.answer.lock().unwrap() = (status, body.into());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn keys_are_fetched_when_they_are_needed_and_again_for_a_new_one() {
    wait(async {
        let provider = Provider::start(200, set(&["a"]));
        let cached = Cached::url(&provider.url).await.unwrap();
        let start = Instant::now();
        let knows = async |kid: &str, after: u64| {
            let keys = cached.get(Some(kid), start + seconds(after)).await.unwrap();
            keys.knows(Some(kid))
        };
        assert_eq!(provider.asked(), 0, "nothing before it is needed");
        assert!(knows("a", 0).await && knows("a", 1).await && knows("a", 599).await);
        assert_eq!(provider.asked(), 1);
        provider.answer(200, set(&["a", "b"]));
        assert!(knows("b", 599).await);
        assert_eq!(provider.asked(), 2);
        // Made-up keys are asked for once in a while, however many there are.
        for n in 0..50 {
            assert!(!knows(&format!("made-up-{n}"), 600).await);
        }
        assert_eq!(provider.asked(), 2);
        assert!(!knows("made-up", 605).await);
        assert_eq!(provider.asked(), 3);
        provider.answer(200, set(&["b"]));
        assert!(knows("b", 1300).await);
        assert!(!knows("a", 1301).await, "a key that was withdrawn is not used once the others are old");
        assert_eq!(provider.asked(), 4);
    });
}

#[test]
fn keys_stay_while_the_provider_fails_and_it_is_not_asked_all_the_time() {
    wait(async {
        let provider = Provider::start(503, "");
        let cached = Cached::url(&provider.url).await.unwrap();
        let start = Instant::now();
        let get = async |after: u64| cached.get(Some("a"), start + seconds(after)).await;
        assert!(get(0).await.is_none() && get(1).await.is_none() && get(4).await.is_none());
        assert_eq!(provider.asked(), 1);
        provider.answer(200, set(&["a"]));
        assert!(get(6).await.is_some());
        assert_eq!(provider.asked(), 2);
        for (n, (status, body)) in [
            (500, set(&["b"])),
            (404, String::new()),
            (302, String::new()),
            (200, "<html>".into()),
            (200, r#"{"keys":[]}"#.into()),
            (200, format!("{}{}", " ".repeat(300 << 10), set(&["b"]))),
        ]
        .into_iter()
        .enumerate()
        {
            provider.answer(status, body);
            let after = 700 + 40 * n as u64;
            assert!(get(after).await.unwrap().knows(Some("a")));
            assert!(get(after + 29).await.unwrap().knows(Some("a")));
            assert_eq!(provider.asked(), 3 + n, "{status}");
        }
        provider.answer(200, set(&["b"]));
        assert!(!get(2000).await.unwrap().knows(Some("a")));
    });
}

/// Scenario: many requests come while there are no keys. Guarantee: one of them fetches, and all have the keys.
#[test]
fn one_fetches_for_all() {
    wait(async {
        let provider = Provider::start(200, set(&["a"]));
        let cached = Cached::url(&provider.url).await.unwrap();
        let now = Instant::now();
        let all = futures_util::future::join_all((0..20).map(|_| cached.get(Some("a"), now))).await;
        assert!(all.iter().all(|keys| keys.as_ref().is_some_and(|keys| keys.knows(Some("a")))));
        assert_eq!(provider.asked(), 1);
    });
}

/// Scenario: the request that fetches is given up by its caller. Guarantee: the next one may fetch a second later, not
/// at once.
#[test]
fn a_fetch_that_was_given_up_is_not_made_up_for_at_once() {
    wait(async {
        let provider = Provider::start(200, set(&["a"]));
        let cached = Cached::url(&provider.url).await.unwrap();
        let now = Instant::now();
        {
            let mut given_up = std::pin::pin!(cached.get(Some("a"), now));
            assert!(poll_fn(|context| Poll::Ready(given_up.as_mut().poll(context).is_pending())).await);
        }
        assert!(cached.get(Some("a"), now).await.is_none());
        assert!(cached.get(Some("a"), now + seconds(1)).await.is_some());
    });
}

#[test]
fn a_file_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    fs::write(&path, set(&["a"])).unwrap();
    wait(async {
        let cached = Cached::file(path.clone()).await.unwrap();
        let start = Instant::now();
        let knows = async |kid: &str, after: u64| {
            cached.get(Some("a"), start + seconds(after)).await.unwrap().knows(Some(kid))
        };
        fs::write(&path, set(&["b"])).unwrap();
        assert!(knows("a", 1).await);
        assert!(!knows("a", 4).await);
        fs::write(&path, "{").unwrap();
        assert!(knows("b", 10).await);
        fs::remove_file(&path).unwrap();
        assert!(knows("b", 20).await);
    });
}

#[test]
fn what_an_error_says_holds_neither_a_path_nor_a_query() {
    wait(async {
        let provider = Provider::start(200, "hunter2");
        let told = async || {
            let origin = origin::Origin::url(&provider.url).await.unwrap();
            format!(
                "{} {}",
                origin.name(),
                crate::telemetry::error_chain(&origin.fetch().await.err().unwrap())
            )
        };
        let shown = told().await;
        assert!(
            shown.contains("it is no JSON Web Key Set")
                && !shown.contains("hunter2")
                && !shown.contains("keys?"),
            "{shown}"
        );
        provider.answer(500, "hunter2");
        assert!(told().await.ends_with("the server answers with status 500"));
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let origin = origin::Origin::url(&format!("http://{closed}/hunter2")).await.unwrap();
        let shown = crate::telemetry::error_chain(&origin.fetch().await.err().unwrap());
        assert!(shown.starts_with("cannot ask for it: ") && !shown.contains("hunter2"), "{shown}");
    });
}

#[test]
fn keys_that_cannot_be_used_are_passed_over() {
    let usable = |change: &dyn Fn(&mut Value)| {
        let mut set = sample();
        for key in set["keys"].as_array_mut().unwrap() {
            change(key);
        }
        KeySet::parse(set.to_string().as_bytes()).map_or(0, |keys| keys.0.len())
    };
    assert_eq!(usable(&|_| {}), 4);
    assert_eq!(usable(&|key| key["use"] = "enc".into()), 0);
    assert_eq!(usable(&|key| key["key_ops"] = json!(["encrypt"])), 0);
    assert_eq!(usable(&|key| key["key_ops"] = json!(["verify"])), 4);
    assert_eq!(usable(&|key| key["alg"] = "RS512".into()), 1);
    assert_eq!(usable(&|key| key["alg"] = "HS256".into()), 0);
    assert_eq!(usable(&|key| key["alg"] = "RSA-OAEP".into()), 0);
    assert_eq!(usable(&|key| key["x"] = "AAAA".into()), 1);
    assert_eq!(usable(&|key| key["n"] = "AAAA".into()), 3);
    assert_eq!(usable(&|key| key["kty"] = "oct".into()), 0);
    assert_eq!(usable(&|key| key["kid"] = 7.into()), 0);
    let named = |kid: Option<&str>, algorithm| {
        KeySet::parse(sample().to_string().as_bytes()).unwrap().candidates(kid, algorithm).count()
    };
    assert_eq!(named(None, Algorithm::Rs256), 1);
    assert_eq!(named(Some("rsa"), Algorithm::Ps512), 1);
    assert_eq!(named(Some("rsa"), Algorithm::Es256), 0);
    assert_eq!(named(Some("other"), Algorithm::Rs256), 0);
    assert_eq!(KeySet::parse(set(&["a"; 100]).as_bytes()).unwrap().0.len(), 32);
}

proptest! {
    /// Scenario: any bytes, and any values of a key. Guarantee: no panic.
    #[test]
    fn any_set_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "[A-Za-z0-9_-]{0,400}", at in 0_usize..4) {
        drop(KeySet::parse(&bytes));
        let mut set = sample();
        for field in ["n", "e", "x", "y", "crv", "alg", "kty"] {
            let mut changed = set.clone();
            changed["keys"][at][field] = text.as_str().into();
            drop(KeySet::parse(changed.to_string().as_bytes()));
        }
        set["keys"] = json!(text);
        prop_assert!(KeySet::parse(set.to_string().as_bytes()).is_err());
    }
}
