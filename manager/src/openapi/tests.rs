//! What must hold of every operation, asked of the document: a new one is asked too.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::Method;
use serde_json::json;

use super::*;
use crate::operators::Permission;
use crate::testing::{Answer, Caller, World};

/// Operations whose right depends on the object, and where that is tested.
const DECIDED: [(&str, &str); 18] = [
    ("applications_approve", "a_delegate_signs_on_behalf_and_it_counts_for_both"),
    ("applications_reject", "whoever_has_no_word_is_refused_every_one"),
    ("applications_send_back", "whoever_has_no_word_is_refused_every_one"),
    ("applications_show", "forms_are_seen_by_those_concerned"),
    ("applications_show_trail", "a_trail_tells_each_round_with_its_mails_and_audit_entries"),
    ("applications_stop", "a_revocation_of_tomorrow_waits_is_made_once_and_can_be_stopped"),
    ("definitions_apply", "each_kind_asks_for_its_permission"),
    ("definitions_export", "each_kind_asks_for_its_permission"),
    ("delegations_create", "administrators_delegate_for_others_as_far_as_they_review_themselves"),
    ("delegations_revoke", "a_reviewer_delegates_for_a_while_and_revokes_it"),
    ("delegations_show", "a_reviewer_delegates_for_a_while_and_revokes_it"),
    ("operators_end_session", "oneself_is_not_refused_what_of_others_is"),
    ("operators_end_sessions", "oneself_is_not_refused_what_of_others_is"),
    ("operators_issue_token", "oneself_is_not_refused_what_of_others_is"),
    ("operators_list_sessions", "oneself_is_not_refused_what_of_others_is"),
    ("operators_list_tokens", "oneself_is_not_refused_what_of_others_is"),
    ("operators_revoke_token", "oneself_is_not_refused_what_of_others_is"),
    ("operators_show", "oneself_is_not_refused_what_of_others_is"),
];

/// The roles that the migrations make.
const READY_MADE: [&str; 6] = ["admin", "applicant", "auditor", "client_manager", "reviewer_1", "reviewer_2"];

/// An operation of the document.
struct Operation {
    id: String,
    method: Method,
    /// With a name that nothing has in place of each variable.
    path: String,
    described: &'static Value,
}

impl Operation {
    fn takes(&self, place: &str) -> bool {
        let parameters = self.described["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        parameters.iter().any(|parameter| parameter["in"] == place)
    }

    fn takes_header(&self, name: &str) -> bool {
        let parameters = self.described["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        parameters.iter().any(|parameter| parameter["in"] == "header" && parameter["name"] == name)
    }

    fn takes_body(&self) -> bool {
        self.described["requestBody"]["content"].get("application/json").is_some()
    }

    fn is_decided(&self) -> bool {
        self.described.get("x-access").is_some()
    }

    fn ways(&self) -> &'static [Value] {
        self.described["security"].as_array().expect("security")
    }

    /// Whether it asks who calls.
    fn is_closed(&self) -> bool {
        !self.ways().is_empty()
    }

    /// Whether it is one of the operators', of whom some may call it.
    fn is_for_operators(&self) -> bool {
        self.ways().iter().any(|way| way.get("bearer").is_some())
    }

    /// Whether a client calls it with its session.
    fn is_for_clients(&self) -> bool {
        self.ways().iter().any(|way| way.get("client").is_some())
    }

    /// Whether a visitor calls it with the token that follows a form.
    fn is_for_visitors(&self) -> bool {
        self.ways().iter().any(|way| way.get("visitor").is_some())
    }

    /// Of which the operator needs one. Empty: every operator, or it depends on the object.
    fn permissions(&self) -> BTreeSet<&'static str> {
        let named = |way: &'static Value| way["bearer"].as_array().into_iter().flatten();
        self.ways().iter().flat_map(named).filter_map(Value::as_str).collect()
    }

    async fn call(&self, caller: &Caller) -> Answer {
        let body = self.takes_body().then(|| json!({}));
        caller.send(self.method.clone(), &self.path, &[], body).await
    }
}

fn operations() -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in document()["paths"].as_object().expect("paths") {
        let segments = path.split('/').map(|part| if part.starts_with('{') { "nobody" } else { part });
        let concrete = segments.collect::<Vec<_>>().join("/");
        for (method, described) in item.as_object().expect("operations") {
            operations.push(Operation {
                id: described["operationId"].as_str().expect("an id").into(),
                method: method.to_uppercase().parse().expect("a method"),
                path: concrete.clone(),
                described,
            });
        }
    }
    operations
}

#[test]
fn every_operation_is_named_summed_up_and_says_who_may() {
    let mut ids = BTreeSet::new();
    for operation in operations() {
        let Operation { id, method, path, described } = &operation;
        assert!(ids.insert(id.clone()), "{method} {path}: a second {id}");
        assert!(described["summary"].as_str().is_some_and(|text| text.ends_with(['.', '?'])), "{id}");
        for name in operation.permissions() {
            assert!(Permission::parse(name).is_some(), "{id}");
        }
        // Operators and clients have paths of their own: none is for both.
        let for_clients = operation.is_for_clients() || operation.is_for_visitors();
        assert!(!(for_clients && operation.is_for_operators()), "{id}");
        assert!(!(operation.is_for_clients() && operation.is_for_visitors()), "{id}");
        assert!(!operation.is_closed() || for_clients == path.starts_with("/client/"), "{id}");
    }
    assert!(ids.contains("operators_sign_in") && ids.contains("openapi_show"), "{ids:?}");
}

#[test]
fn every_schema_that_is_referred_to_is_there() {
    fn references<'d>(part: &'d Value, found: &mut BTreeSet<&'d str>) {
        match part {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|part| references(part, found));
            }
            Value::Array(parts) => parts.iter().for_each(|part| references(part, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    references(document(), &mut found);
    assert!(found.contains("#/components/schemas/Problem"));
    for reference in found {
        let place = reference.strip_prefix('#').expect("within the document");
        assert!(document().pointer(place).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn operations_that_depend_on_the_object_are_these() {
    let decided: BTreeSet<_> =
        operations().iter().filter(|operation| operation.is_decided()).map(|own| own.id.clone()).collect();
    let listed: BTreeSet<_> = DECIDED.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(decided, listed);
}

#[tokio::test]
async fn oneself_is_not_refused_what_of_others_is() {
    for world in World::both().await {
        let (own, other) = (world.operator("own", &[]).await, world.operator("other", &[]).await);
        let admin = world.operator("root", &["admin"]).await;
        let of_operators =
            |operation: &Operation| operation.is_decided() && operation.id.starts_with("operators_");
        let mut asked = 0;
        for operation in operations().into_iter().filter(of_operators) {
            let on = |id: &str| operation.path.replacen("/nobody", &format!("/{id}"), 1);
            let call = async |caller: &Caller, path: String| {
                let body = operation.takes_body().then(|| json!({ "name": "mine" }));
                caller.send(operation.method.clone(), &path, &[], body).await
            };
            let refused = call(&own, on(&other.id)).await.problem(403, "forbidden");
            assert!(refused["detail"].as_str().is_some_and(|text| text.contains("operators.")), "{refused}");
            for (caller, path) in [(&own, on(&own.id)), (&admin, on(&other.id))] {
                assert_ne!(call(caller, path).await.status, 403, "{}", operation.id);
            }
            asked += 1;
        }
        assert_eq!(asked, DECIDED.iter().filter(|(id, _)| id.starts_with("operators_")).count());
    }
}

#[tokio::test]
async fn each_role_may_call_what_its_permissions_say_and_nothing_else() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let roles = admin.get("/api/v1/roles").await.expect(200);
        let roles: BTreeSet<_> = roles["items"]
            .as_array()
            .expect("roles")
            .iter()
            .filter_map(|role| role["name"].as_str())
            .collect();
        assert_eq!(roles, BTreeSet::from(READY_MADE));
        for role in READY_MADE {
            let caller = world.operator(role, &[role]).await;
            let who = caller.get("/api/v1/session").await.expect(200);
            let has: BTreeSet<_> = who["permissions"]
                .as_array()
                .expect("permissions")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            calls_what_it_may(&world, role, &caller, &has).await;
        }
        let nobody = world.operator("nobody_special", &[]).await;
        calls_what_it_may(&world, "no role", &nobody, &BTreeSet::new()).await;
    }
}

async fn calls_what_it_may(world: &World, role: &str, caller: &Caller, has: &BTreeSet<&str>) {
    for (number, operation) in operations().iter().enumerate() {
        let id = &operation.id;
        if operation.is_closed() && !operation.is_for_operators() {
            operation.call(caller).await.problem(401, "unauthenticated");
        }
        if !operation.is_for_operators() || operation.is_decided() {
            continue;
        }
        let permissions = operation.permissions();
        if permissions.is_empty() {
            // One of these ends the caller's own token.
            let leaver = world.operator(&format!("leaver_{}_{number}", role.replace(' ', "_")), &[]).await;
            assert_ne!(operation.call(&leaver).await.status, 403, "{id}: every operator may");
            continue;
        }
        let answer = operation.call(caller).await;
        if permissions.iter().any(|permission| has.contains(permission)) {
            assert_ne!(answer.status, 403, "{id} as {role}: {:#}", answer.body);
            assert!(answer.status < 500, "{id} as {role}: {:#}", answer.body);
        } else {
            let problem = answer.problem(403, "forbidden");
            let detail = problem["detail"].as_str().expect("a detail");
            for permission in permissions {
                assert!(detail.contains(permission), "{id} as {role}: {detail}");
            }
        }
    }
}

#[tokio::test]
async fn without_a_token_nothing_but_the_open_operations_answers() {
    let mut open = BTreeSet::new();
    for world in World::both().await {
        for operation in operations() {
            let answer = operation.call(&world.anon()).await;
            if operation.is_closed() {
                answer.problem(401, "unauthenticated");
            } else {
                open.insert(operation.id);
            }
        }
    }
    let names = [
        "client_portal_ask_for_client",
        "client_portal_confirm_registration",
        "client_portal_sign_in",
        "clients_replace_password",
        "openapi_show",
        "operators_sign_in",
        "tokens_introspect_as_digirunner",
        "tokens_introspect_by_standard",
        "tokens_issue_token",
        "tokens_issue_token_of_second_form",
        "tokens_jwks",
        "tokens_jwks_as_digirunner",
        "tokens_metadata",
        "tokens_metadata_as_digirunner",
        "tokens_metadata_of_second_form",
        "tokens_revoke_as_digirunner",
        "tokens_revoke_by_standard",
        "users_replace_password",
    ];
    assert_eq!(open, BTreeSet::from(names.map(String::from)));
}

/// What a handler reads and does not say would be refused here without being described, or the
/// other way round.
#[tokio::test]
async fn queries_versions_and_bodies_are_read_where_the_document_says_so_and_nowhere_else() {
    let world = World::sqlite().await;
    for (number, operation) in operations().iter().enumerate() {
        let Operation { id, method, path, .. } = operation;
        let caller = if operation.is_for_visitors() {
            world.visitor(&format!("visitor_{number}@example.com"), "ap_none").await
        } else if operation.is_for_clients() {
            world.client(&format!("client_{number}")).await
        } else {
            world.operator(&format!("root_{number}"), &["admin"]).await
        };
        let refused = |answer: Answer| {
            let code = answer.body["code"].as_str().unwrap_or_default().to_string();
            (answer.status, code)
        };
        // First: one of these ends the caller's own token.
        let keyed = [("idempotency-key", "no key"), ("content-type", "application/json")];
        let keyed = refused(caller.raw(method.clone(), path, &keyed, Body::from("{}")).await);
        let expected = (400, "invalid_header".to_string());
        assert_eq!(keyed == expected, *method != Method::GET, "{id}: every write takes a key");
        assert_eq!(operation.takes_header("Idempotency-Key"), *method != Method::GET, "{id}");
        let json = [("content-type", "application/json")];
        let burdened = caller.raw(method.clone(), path, &json, Body::from(r#"{"units":5}"#)).await;
        let expected = (400, "unexpected_body".to_string());
        let takes_none = *method != Method::GET && operation.described.get("requestBody").is_none();
        assert_eq!(refused(burdened) == expected, takes_none, "{id}: what it does not read it refuses");
        let queried = caller.raw(method.clone(), &format!("{path}?nonsense=1"), &[], Body::empty()).await;
        let expected = (400, "invalid_query".to_string());
        assert_eq!(refused(queried) == expected, operation.takes("query"), "{id}: params(ListQuery)?");
        let versioned = [("if-match", "nonsense"), ("content-type", "application/json")];
        let versioned = caller.raw(method.clone(), path, &versioned, Body::from("{}")).await;
        let expected = (400, "invalid_header".to_string());
        assert_eq!(
            refused(versioned) == expected,
            operation.takes_header("If-Match"),
            "{id}: params(IfMatch)?"
        );
        let untyped = caller.raw(method.clone(), path, &[], Body::empty()).await;
        let expected = (415, "unsupported_media_type".to_string());
        assert_eq!(refused(untyped) == expected, operation.takes_body(), "{id}: request_body?");
    }
}

#[tokio::test]
async fn a_path_answers_the_methods_of_the_document_and_no_other() {
    let world = World::sqlite().await;
    let mut described: BTreeMap<String, BTreeSet<Method>> = BTreeMap::new();
    for Operation { path, method, .. } in operations() {
        described.entry(path).or_default().insert(method);
    }
    // Some paths are instances of others here: `/keys/import` of `/keys/{id}`.
    for (path, methods) in described {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let answer = world.anon().send(method.clone(), &path, &[], None).await;
            assert_eq!(
                answer.status == 405,
                !methods.contains(&method),
                "{method} {path}: {}",
                answer.status
            );
        }
    }
}

#[tokio::test]
async fn the_document_is_served_to_everybody_and_for_programs_too() {
    let world = World::sqlite().await;
    let served = world.anon().get("/api/v1/openapi.json").await.expect(200);
    assert_eq!(&served, document());
    assert_eq!(served["openapi"], "3.1.0");
}
