use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, LINK},
};
use serde_json::json;

use super::*;

fn pagination(config: Value) -> Pagination {
    let config: Config = serde_json::from_value(config).unwrap();
    let mut problems = Problems::default();
    config.check(&mut problems);
    assert!(problems.is_empty());
    config.compile()
}

fn page(url: &str, link: &str, body: Value) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(LINK, link.parse().unwrap());
    Answer { status: StatusCode::OK, headers, url: url.parse().unwrap(), body: body.into(), is_whole: false }
}

/// Takes one page after the other; returns where each leads, and what comes of all.
fn all(
    pagination: &Pagination,
    url: &str,
    pages: &[(&str, Value)],
) -> Result<(Vec<String>, Vec<Value>), String> {
    let mut request = Request::new(Method::GET, url.parse().unwrap());
    let mut taken = pagination.begin(&mut request);
    let mut urls = vec![request.url().to_string()];
    for (link, body) in pages {
        let answer = page(urls.last().unwrap(), link, body.clone());
        let Some(next) = taken.take(answer).map_err(|error| error.to_string())? else { break };
        urls.push(next.into());
    }
    let data = taken.into_data().into_iter().map(|data| data.into_json().unwrap());
    Ok((urls, data.collect()))
}

#[test]
fn each_way_leads_from_page_to_page() {
    let by_header = pagination(json!({"type": "link_header"}));
    let pages = [("</x?p=2>; rel=next", json!([1])), ("", json!([2]))];
    let (urls, data) = all(&by_header, "http://a/x", &pages).unwrap();
    assert_eq!(urls, ["http://a/x", "http://a/x?p=2"]);
    assert_eq!(data, [json!([1]), json!([2])]);

    let by_body = pagination(json!({"type": "link_body", "link_path": "links.next", "items_path": "data"}));
    let pages = [
        ("", json!({"data": [1, 2], "links": {"next": "y"}})),
        ("", json!({"data": [], "links": {"next": null}})),
    ];
    let (urls, data) = all(&by_body, "http://a/b/x", &pages).unwrap();
    assert_eq!(urls, ["http://a/b/x", "http://a/b/y"]);
    assert_eq!(data, [1, 2]);

    let by_cursor =
        pagination(json!({"type": "cursor", "cursor_path": "next", "parameter": "c", "items_path": "i"}));
    let pages = [
        ("", json!({"i": [], "next": "b&d"})),
        ("", json!({"i": [3], "next": 7})),
        ("", json!({"i": [4], "next": ""})),
    ];
    let (urls, data) = all(&by_cursor, "http://a/x?q=1&c=start", &pages).unwrap();
    assert_eq!(urls, ["http://a/x?q=1&c=start", "http://a/x?q=1&c=b%26d", "http://a/x?q=1&c=7"]);
    assert_eq!(data, [3, 4], "an empty page is not the last one");

    let by_number = pagination(json!({"type": "page", "first": 0, "items_path": "."}));
    let pages = [("", json!([5])), ("", json!([6])), ("", json!([]))];
    let (urls, data) = all(&by_number, "http://a/x", &pages).unwrap();
    assert_eq!(urls, ["http://a/x?page=0", "http://a/x?page=1", "http://a/x?page=2"]);
    assert_eq!(data, [5, 6]);
}

#[test]
fn what_leads_in_circles_elsewhere_or_on_for_ever_fails() {
    let by_header = pagination(json!({"type": "link_header", "max_pages": 3}));
    let fails = |links: &[&str]| {
        let pages: Vec<_> = links.iter().map(|link| (*link, json!(1))).collect();
        all(&by_header, "http://a/x", &pages).unwrap_err()
    };
    assert_eq!(fails(&["</y>; rel=next", "</x>; rel=next"]), "a page leads to one that was there already");
    assert_eq!(fails(&["<http://b/x>; rel=next"]), "the next page is on another host");
    assert_eq!(fails(&["<http://a:81/x>; rel=next"]), "the next page is on another host");
    assert_eq!(fails(&["<ftp://a/x>; rel=next"]), "what should lead to the next page is no URL");
    let on = ["<1>; rel=next", "<2>; rel=next", "<3>; rel=next"];
    assert_eq!(fails(&on), "there are more pages than `max_pages`, 3");

    let by_cursor = pagination(json!({"type": "cursor", "cursor_path": "next", "parameter": "c"}));
    let pages = [("", json!({"next": "b"})), ("", json!({"next": "b"}))];
    assert_eq!(
        all(&by_cursor, "http://a", &pages).unwrap_err(),
        "a page leads to one that was there already"
    );
}

#[test]
fn a_body_without_the_list_fails() {
    let by_item = pagination(json!({"type": "link_header", "items_path": "data.items"}));
    for body in [json!({}), json!({"data": {"items": {}}}), json!({"data": {"items": null}}), json!("x")] {
        let error = all(&by_item, "http://a", &[("", body.clone())]).unwrap_err();
        assert_eq!(error, "the body has no list at `items_path`", "{body}");
    }
}

#[test]
fn a_type_needs_its_keys_and_has_no_others() {
    let count = |config: Value| {
        let mut problems = Problems::default();
        serde_json::from_value::<Config>(config).unwrap().check(&mut problems);
        problems.into_vec().len()
    };
    assert_eq!(count(json!({"type": "cursor"})), 2);
    assert_eq!(count(json!({"type": "link_body"})), 1);
    assert_eq!(count(json!({"type": "page"})), 1);
    assert_eq!(count(json!({"type": "link_header", "parameter": "p", "first": 1, "cursor_path": "a"})), 3);
    assert_eq!(count(json!({"type": "link_header", "items_path": "a..b", "max_pages": 0})), 2);
}
