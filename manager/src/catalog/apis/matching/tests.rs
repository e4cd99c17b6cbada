//! Requests explained, as tables and through the router.

use gate::request::guard_path;
use gate::wire::directory::{ApiEntry, Audience, PathRule, Unregistered};
use serde_json::{Value, json};

use super::cli::in_words;
use super::model::{Explanation, MAX_NEAR, Target, explain};
use crate::testing::World;

fn api(id: &str, hosts: &[&str], methods: &[&str], path: PathRule) -> ApiEntry {
    ApiEntry {
        uid: format!("api_{id}").as_str().into(),
        module: "shop".into(),
        id: id.into(),
        hosts: hosts.iter().map(ToString::to_string).collect(),
        methods: methods.iter().map(ToString::to_string).collect(),
        path,
        accepts: vec![gate::request::CredentialKind::Dgrk],
        no_auth: false,
        enabled: id != "off",
        audience: Audience::Both,
        groups: vec![],
        unsigned_forms: false,
    }
}

fn explained(method: &str, url: &str) -> Explanation {
    let (exact, prefix, template) = (PathRule::Exact, PathRule::Prefix, PathRule::Template);
    let apis = vec![
        api("orders", &[], &["GET", "POST"], exact("/orders".into())),
        api("order", &[], &["GET"], template("/orders/{id}".into())),
        api("today", &["api.example.com"], &[], exact("/orders/today".into())),
        api("archive", &[], &["PUT"], prefix("/orders/archive".into())),
        api("off", &[], &[], exact("/reports/daily".into())),
        api("slash", &[], &[], exact("/catalogue/".into())),
    ];
    let target = Target { method: method.into(), ..Target::parse_url(url).expect("a URL") };
    explain(apis, Unregistered::Refuse, target).expect("usable")
}

#[test]
fn a_request_is_told_its_api_or_the_refusal_and_the_near_misses() {
    for (method, url, meant, refusal, near) in [
        ("GET", "/orders", Some("orders"), None, &[("order", "goes on with /{…}")][..]),
        (
            "GET",
            "/orders/today",
            Some("order"),
            None,
            &[("orders", "ends before /today"), ("today", "answers at api.example.com only")],
        ),
        (
            "GET",
            "https://API.example.com:8443/orders/today?x=1#y",
            Some("today"),
            None,
            &[("order", "fits too, but shop/today names the host"), ("orders", "ends before /today")],
        ),
        ("PUT", "/orders/archive", Some("archive"), None, &[("order", "answers to GET only")]),
        (
            "DELETE",
            "/orders",
            None,
            Some((405, "method_not_allowed")),
            &[("orders", "answers to GET, POST only")],
        ),
        ("GET", "/Orders", None, Some((404, "api_not_found")), &[("orders", "case counts")]),
        (
            "GET",
            "/order",
            None,
            Some((404, "api_not_found")),
            &[("orders", "has `orders` where the request has `order`")],
        ),
        (
            "GET",
            "/ordres",
            None,
            Some((404, "api_not_found")),
            &[("orders", "where the request has `ordres`")],
        ),
        (
            "GET",
            "/catalogue",
            None,
            Some((404, "api_not_found")),
            &[("slash", "ends with a slash, the request does not")],
        ),
        (
            "GET",
            "/orders/",
            None,
            Some((404, "api_not_found")),
            &[("orders", "the request ends with a slash")],
        ),
        ("GET", "/reports/daily", Some("off"), Some((503, "api_disabled")), &[]),
        ("GET", "/%6Frders", Some("orders"), None, &[]),
        ("GET", "/nothing/like/it", None, Some((404, "api_not_found")), &[]),
        ("GET", "/orders/../admin", None, Some((400, "path_ambiguous")), &[]),
    ] {
        let found = explained(method, url);
        let case = format!("{method} {url}: {}", in_words(&found));
        assert_eq!(found.meant.as_ref().map(|api| api.id.as_str()), meant, "{case}");
        assert_eq!(found.refusal.as_ref().map(|refusal| (refusal.status, refusal.code)), refusal, "{case}");
        for (id, reason) in near {
            let miss =
                found.near.iter().find(|miss| miss.api.id == *id).unwrap_or_else(|| panic!("{id}: {case}"));
            assert!(miss.reasons.iter().any(|text| text.contains(reason)), "{reason}: {case}");
        }
        if near.is_empty() && meant.is_none() {
            assert_eq!(found.near, [], "{case}");
        }
    }
    let many =
        (0..9).map(|n| api(&n.to_string(), &[], &["GET"], PathRule::Exact(format!("/orders/{n}")))).collect();
    let target = Target { method: "PUT".into(), ..Target::parse_url("/orders/1").expect("a URL") };
    let found = explain(many, Unregistered::Refuse, target).expect("usable");
    assert!(found.near.len() <= MAX_NEAR);
    assert_eq!(found.near.first().map(|miss| miss.api.id.as_str()), Some("1"), "the nearest first");
}

#[test]
fn what_is_not_registered_passes_where_that_is_set() {
    let target = Target { method: "GET".into(), ..Target::parse_url("/x").expect("a URL") };
    let passed = explain(vec![], Unregistered::Pass, target).expect("usable");
    assert_eq!((&passed.meant, &passed.refusal), (&None, &None));
    assert!(in_words(&passed).contains("goes upstream unchecked"));
}

#[test]
fn a_refused_path_is_told_why() {
    for (path, reason) in [
        ("/a//b", "empty segment"),
        ("/a/./b", "the segment `.`"),
        ("/..", "the segment `..`"),
        ("/a\\b", "'\\\\'"),
        ("/a;b", "';'"),
        ("/a b", "' '"),
        ("/ä", "'ä'"),
        ("/a%2", "broken escape `%2`"),
        ("/a%", "broken escape `%`"),
        ("/a%zz", "broken escape `%zz`"),
        ("/a%ä", "'ä'"),
        ("/a%2Fb", "`%2F`, an encoded"),
        ("/%2e%2e/b", "`%2e`, an encoded"),
        ("/a%00", "`%00`, an encoded"),
        (&format!("/{}", "a".repeat(8_192)), "8193 bytes"),
    ] {
        assert!(guard_path(path.as_bytes()).is_err(), "{path}");
        let found = explained("GET", &format!("http://h{path}"));
        let refusal = found.refusal.expect("refused");
        assert_eq!((refusal.status, refusal.code), (400, "path_ambiguous"));
        assert!(refusal.reason.contains(reason), "{path}: {}", refusal.reason);
    }
}

#[test]
fn urls_are_whole_or_paths() {
    for (url, host, path) in [
        ("https://User:pw@Api.Example.com.:443/a?b#c", "api.example.com", "/a"),
        ("HTTP://h", "h", "/"),
        ("http://h?x=/y", "h", "/"),
        ("http://[2001:DB8::1]:80/a", "2001:db8::1", "/a"),
        ("/a?b", "", "/a"),
    ] {
        let target = Target::parse_url(url).expect("a URL");
        assert_eq!((target.host.as_str(), target.path.as_str()), (host, path), "{url}");
    }
    for url in ["", "orders", "ftp://h/a", "h/a"] {
        assert!(Target::parse_url(url).is_err(), "{url}");
    }
}

#[tokio::test]
async fn operators_ask_what_a_request_means() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        for (id, path) in
            [("order", json!({ "template": "/orders/{id}" })), ("orders", json!({ "exact": "/orders" }))]
        {
            let body =
                json!({ "module": "shop", "id": id, "methods": ["GET"], "path": path, "accepts": ["dgrk"] });
            admin.post("/api/v1/apis", body).await.expect(201);
        }
        let ask = async |query: &str| admin.get(&format!("/api/v1/apis/match?{query}")).await;
        let found = ask("method=get&url=https://api.example.com/orders/7").await.expect(200);
        assert_eq!(
            (&found["api"]["id"], &found["api"]["path"], &found["path"], &found["host"], &found["refusal"]),
            (
                &json!("order"),
                &json!({ "template": "/orders/{id}" }),
                &json!("/orders/7"),
                &json!("api.example.com"),
                &Value::Null
            )
        );
        assert_eq!(found["near_misses"][0]["api"]["id"], "orders");
        let missed = ask("method=PUT&url=/orders").await.expect(200);
        assert_eq!(
            (&missed["api"], &missed["refusal"]["code"]),
            (&Value::Null, &json!("method_not_allowed"))
        );
        ask("method=G%20T&url=/orders").await.refuses("method");
        ask("method=GET&url=orders").await.refuses("url");
        ask("method=GET").await.refuses("url");
        world.anon().get("/api/v1/apis/match?method=GET&url=/a").await.problem(401, "unauthenticated");
    }
}
