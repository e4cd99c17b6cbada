//! No request means two APIs, whatever is registered, in whatever order and at whatever moment.

use std::collections::BTreeSet;

use gate::directory::Directory;
use gate::id::{ApiUid, Epoch, Revision};
use gate::wire::WIRE_VERSION;
use gate::wire::directory::{ApiEntry, Audience, DirectoryAnswer, PathRule, Settings};
use proptest::prelude::*;
use serde_json::json;

use super::{orders, registered, with};
use crate::catalog::apis::place::Place;
use crate::testing::World;

#[tokio::test]
async fn paths_that_cross_are_refused_and_both_apis_named() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let first = registered(&admin, json!({ "id": "first", "path": { "template": "/a/{x}/b" } })).await;
        let refusal = admin
            .post(
                "/api/v1/apis",
                with(orders(), json!({ "id": "second", "path": { "template": "/a/b/{y}" } })),
            )
            .await
            .problem(409, "ambiguous_path");
        let detail = refusal["detail"].as_str().expect("a text");
        for part in ["shop/second", "shop/first", first.as_str(), "/a/b/b", "GET"] {
            assert!(detail.contains(part), "{part} is missing: {detail}");
        }
        assert_eq!(refusal["field"], "path");
        let prefix = json!({ "id": "p", "path": { "prefix": "/a/b" } });
        admin.post("/api/v1/apis", with(orders(), prefix)).await.problem(409, "ambiguous_path");
        // What is more specific in every segment stands beside it: the precedence says which is meant.
        for (id, path) in [
            ("e", json!({ "exact": "/a/b/b" })),
            ("q", json!({ "prefix": "/a" })),
            ("r", json!({ "prefix": "/" })),
        ] {
            registered(&admin, json!({ "id": id, "path": path })).await;
        }
        // Told apart by method or host.
        let crossing = json!({ "template": "/a/b/{y}" });
        registered(&admin, json!({ "id": "m", "path": crossing, "methods": ["PUT"] })).await;
        registered(&admin, json!({ "id": "h", "path": crossing, "hosts": ["h.example"] })).await;
        // An update is checked too, and one that moves nothing is not.
        let path = format!("/api/v1/apis/{first}");
        admin.patch(&path, json!({ "methods": ["PUT"] })).await.problem(409, "ambiguous_path");
        admin.patch(&path, json!({ "name": "First", "methods": ["GET", "POST"] })).await.expect(200);
        admin.delete(&path).await.expect(204);
        registered(&admin, json!({ "id": "second", "path": crossing })).await;
    }
}

#[tokio::test]
async fn of_many_that_cross_and_come_at_once_one_is_registered() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let calls = (0..8).map(|n| {
            let template = if n % 2 == 0 { "/a/{x}/b" } else { "/a/b/{y}" };
            let body = with(orders(), json!({ "id": format!("api-{n}"), "path": { "template": template } }));
            let admin = admin.clone();
            tokio::spawn(async move { admin.post("/api/v1/apis", body).await.status })
        });
        let mut statuses = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            statuses.push(call.await.expect("an answer"));
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
        assert_eq!(admin.get("/api/v1/apis").await.expect(200)["items"].as_array().map(Vec::len), Some(1));
    }
}

/// A rule over few words, so that many overlap.
fn rule() -> impl Strategy<Value = PathRule> {
    let segments = proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("{}")], 0..=3);
    (segments, any::<bool>(), 0..3_u8).prop_map(|(segments, slash, kind)| {
        let named = segments.iter().enumerate().map(|(n, segment)| match *segment {
            "{}" if kind == 2 => format!("/{{p{n}}}"),
            "{}" => "/a".to_string(),
            literal => format!("/{literal}"),
        });
        let mut path: String = named.collect();
        if slash || path.is_empty() {
            path.push('/');
        }
        match kind {
            0 => PathRule::Exact(path),
            1 => PathRule::Prefix(path),
            _ if path.contains('{') => PathRule::Template(path),
            _ => PathRule::Exact(path),
        }
    })
}

fn names(of: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    proptest::sample::subsequence(of, 0..=of.len())
        .prop_map(|names| names.into_iter().map(str::to_string).collect())
}

/// What the catalogue accepts of what is offered, in this order.
fn accepted(offered: &[(Vec<String>, Vec<String>, PathRule)]) -> Vec<ApiEntry> {
    let mut places: Vec<Place> = Vec::new();
    let mut apis = Vec::new();
    for (n, (hosts, methods, path)) in offered.iter().enumerate() {
        let place =
            Place::new(ApiUid(format!("{n}")), format!("m/{n}"), hosts.clone(), methods.clone(), path);
        let clash = |other: &Place| {
            assert_eq!(place.clash(other).is_some(), other.clash(&place).is_some(), "clashes are mutual");
            place.clash(other)
        };
        if places.iter().find_map(clash).is_none() {
            places.push(place);
            apis.push(ApiEntry {
                uid: ApiUid(String::new()),
                module: "m".into(),
                id: n.to_string(),
                hosts: hosts.clone(),
                methods: methods.clone(),
                path: path.clone(),
                accepts: vec![],
                no_auth: true,
                enabled: true,
                audience: Audience::Both,
                groups: vec![],
                unsigned_forms: false,
            });
        }
    }
    apis
}

fn directory(apis: &[ApiEntry], uid: impl Fn(usize) -> usize) -> Directory {
    let numbered = apis.iter().enumerate();
    let apis = numbered.map(|(n, api)| ApiEntry { uid: ApiUid(format!("{:04}", uid(n))), ..api.clone() });
    Directory::from_snapshot(DirectoryAnswer {
        version: WIRE_VERSION,
        epoch: Epoch(1),
        revision: Revision(1),
        since: None,
        settings: Settings::default(),
        apis: apis.collect(),
        token_keys: vec![],
        removed: vec![],
    })
    .expect("every gate can index it")
}

/// Every path of up to four segments, with and without a trailing slash; `c` is in no rule.
fn paths() -> Vec<String> {
    let mut paths = vec![String::new()];
    let mut longest = paths.clone();
    for _ in 0..4 {
        let longer = longest.iter().flat_map(|path| ["a", "b", "c"].map(|word| format!("{path}/{word}")));
        longest = longer.collect();
        paths.extend(longest.iter().cloned());
    }
    let slashed = paths.iter().map(|path| format!("{path}/")).collect::<Vec<_>>();
    paths.into_iter().filter(|path| !path.is_empty()).chain(slashed).collect()
}

/// How specific an API is for a request that it fits, in the words of `docs/api.md`: host, each
/// segment, whether the path ends, method. None: it does not fit.
fn specificity(api: &ApiEntry, host: &str, method: &str, path: &str) -> Option<(bool, Vec<u8>, bool, bool)> {
    let fits = |names: &[String], name: &str| names.is_empty() || names.iter().any(|other| other == name);
    if !fits(&api.hosts, host) || !fits(&api.methods, method) {
        return None;
    }
    let (rule, ends) = match &api.path {
        PathRule::Exact(rule) | PathRule::Template(rule) => (rule.as_str(), true),
        PathRule::Prefix(rule) => (rule.trim_end_matches('/'), false),
    };
    let requested: Vec<&str> = path.split('/').skip(1).collect();
    let rule: Vec<&str> = rule.split('/').skip(1).collect();
    if rule.len() > requested.len() || (ends && rule.len() < requested.len()) {
        return None;
    }
    let mut ranks = vec![0; requested.len()];
    for ((rank, ours), theirs) in ranks.iter_mut().zip(&rule).zip(&requested) {
        *rank = match ours {
            literal if literal == theirs => 2,
            parameter if parameter.starts_with('{') && !theirs.is_empty() => 1,
            _ => return None,
        };
    }
    Some((!api.hosts.is_empty(), ranks, ends, !api.methods.is_empty()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_request_means_one_api_at_most_and_every_api_is_meant_by_some(
        offered in proptest::collection::vec((names(&["h", "i"]), names(&["GET", "PUT"]), rule()), 1..12),
    ) {
        let apis = accepted(&offered);
        let (forth, back) = (directory(&apis, |n| n), directory(&apis, |n| apis.len() - n));
        let mut reached = BTreeSet::new();
        for host in ["h", "i", "z"] {
            for method in ["GET", "PUT", "X"] {
                for path in paths() {
                    let found = forth.find(host, method, &path).ok().map(|api| api.id.clone());
                    let again = back.find(host, method, &path).ok().map(|api| api.id.clone());
                    prop_assert_eq!(&found, &again, "the order of registration decides {} {} {}", host, method, path);
                    let mut fitting: Vec<_> = apis
                        .iter()
                        .filter_map(|api| Some((specificity(api, host, method, &path)?, api.id.clone())))
                        .collect();
                    fitting.sort();
                    let ranks = fitting.iter().map(|(rank, _)| rank).collect::<BTreeSet<_>>();
                    prop_assert_eq!(ranks.len(), fitting.len(), "two are equally specific: {:?}", &fitting);
                    let most = fitting.pop();
                    prop_assert_eq!(&found, &most.clone().map(|(_, id)| id), "{} {} {}", host, method, path);
                    // Of the same hosts it is at least as specific as each of the others in every segment.
                    if let Some(((named, ranks, _, _), id)) = most {
                        for ((other_named, others, _, _), other) in &fitting {
                            let crossing = named == *other_named && others.iter().zip(&ranks).any(|(o, r)| o > r);
                            prop_assert!(!crossing, "{} and {} cross at {}", id, other, path);
                        }
                        reached.insert(id);
                    }
                }
            }
        }
        prop_assert_eq!(reached.len(), apis.len(), "an API is hidden by others: {:?}", &apis);
    }
}
