//! Delegations through the router, on both databases. How a delegate signs is shown with the forms.

use serde_json::{Value, json};

use crate::testing::World;

const PATH: &str = "/api/v1/delegations";
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().expect("a list").iter().map(|one| one["id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn a_reviewer_delegates_for_a_while_and_revokes_it() {
    for world in World::both().await {
        let rita = world.operator("rita", &["reviewer_1"]).await;
        let ben = world.operator("ben", &[]).await;
        let admin = world.operator("ann", &["admin"]).await;
        let now = world.app.now().0;
        let body = json!({ "delegate": ben.id, "until": now + DAY_MS, "reason": "holidays" });
        let made = rita.post(PATH, body).await;
        let location = made.header("location").expect("where it is").to_owned();
        let made = made.expect(201);
        assert_eq!(
            (&made["operator"], &made["operator_name"], &made["delegate_name"], &made["state"]),
            (&json!(rita.id), &json!("rita"), &json!("ben"), &json!("in_effect"))
        );
        assert_eq!((&made["from"], &made["until"]), (&json!(now), &json!(now + DAY_MS)));
        for concerned in [&rita, &ben, &admin] {
            assert_eq!(concerned.get(&location).await.expect(200), made);
            assert_eq!(ids(&concerned.get(PATH).await.expect(200)), [made["id"].as_str().expect("an id")]);
        }
        // Others see nothing of it.
        let carl = world.operator("carl", &["reviewer_1"]).await;
        carl.get(&location).await.problem(404, "not_found");
        carl.delete(&location).await.problem(404, "not_found");
        for path in [PATH.to_owned(), format!("{PATH}?operator={}", rita.id)] {
            assert_eq!(ids(&carl.get(&path).await.expect(200)), [""; 0], "{path}");
        }

        // A token that is limited to something else than signing is worth none of it.
        let limited = json!({ "name": "meters", "permissions": ["usage.read"] });
        let tokens = format!("/api/v1/operators/{}/tokens", admin.id);
        let token = admin.post(&tokens, limited).await.expect(201)["token"].clone();
        let own = json!({ "operator": admin.id, "delegate": ben.id, "until": now + DAY_MS });
        let of_admin = admin.post(PATH, own).await.expect(201)["id"].as_str().expect("an id").to_owned();
        let (of_admin, meters) =
            (format!("{PATH}/{of_admin}"), world.bearer(token.as_str().expect("a token")));
        meters.get(&of_admin).await.problem(404, "not_found");
        meters.delete(&of_admin).await.problem(404, "not_found");
        assert_eq!(ids(&meters.get(PATH).await.expect(200)), [""; 0]);
        assert_eq!(admin.get(&of_admin).await.expect(200)["state"], "in_effect");
        world.sql("DELETE FROM delegations WHERE reason = ''").await;

        world.advance_ms(HOUR_MS);
        rita.delete(&location).await.expect(204);
        let revoked = ben.get(&location).await.expect(200);
        assert_eq!((&revoked["state"], &revoked["revoked_by"]), (&json!("revoked"), &json!(rita.id)));
        // Once more leaves no trace.
        ben.delete(&location).await.expect(204);
        assert_eq!(ben.get(&location).await.expect(200), revoked);
        let trail = admin.get("/api/v1/audit?action=delegations.").await.expect(200);
        let trail: Vec<_> = trail["items"]
            .as_array()
            .expect("entries")
            .iter()
            .filter(|entry| entry["actor_name"] == "rita")
            .map(|entry| (&entry["action"], &entry["actor_name"], &entry["detail"]["delegate"]))
            .collect();
        let by_rita = |action: &str| (json!(action), json!("rita"), json!(ben.id));
        let expected = [by_rita("delegations.revoke"), by_rita("delegations.create")];
        assert_eq!(trail, expected.each_ref().map(|(action, actor, delegate)| (action, actor, delegate)));
    }
}

#[tokio::test]
async fn a_delegate_gives_it_back_and_time_ends_it() {
    for world in World::both().await {
        let rita = world.operator("rita", &["reviewer_1"]).await;
        let ben = world.operator("ben", &[]).await;
        let now = world.app.now().0;
        let planned = json!({ "delegate": ben.id, "from": now + DAY_MS, "until": now + 2 * DAY_MS });
        let id = rita.post(PATH, planned).await.expect(201)["id"].as_str().expect("an id").to_owned();
        let path = format!("{PATH}/{id}");
        let state = async || ben.get(&path).await.expect(200)["state"].clone();
        assert_eq!(state().await, "planned");
        world.advance_ms(DAY_MS);
        assert_eq!(state().await, "in_effect");
        world.advance_ms(DAY_MS);
        assert_eq!(state().await, "ended");
        ben.delete(&path).await.expect(204);
        assert_eq!(state().await, "ended", "what has ended is not revoked");

        let next = json!({ "delegate": ben.id, "until": now + 3 * DAY_MS });
        let id = rita.post(PATH, next).await.expect(201)["id"].as_str().expect("an id").to_owned();
        ben.delete(&format!("{PATH}/{id}")).await.expect(204);
        let given_back = rita.get(&format!("{PATH}/{id}")).await.expect(200);
        assert_eq!((&given_back["state"], &given_back["revoked_by"]), (&json!("revoked"), &json!(ben.id)));
    }
}

#[tokio::test]
async fn a_delegation_that_cannot_be_is_refused_by_field() {
    for world in World::both().await {
        let rita = world.operator("rita", &["reviewer_1"]).await;
        let ben = world.operator("ben", &[]).await;
        let off = world.operator("off", &["reviewer_1"]).await;
        let admin = world.operator("ann", &["admin"]).await;
        admin
            .patch(&format!("/api/v1/operators/{}", off.id), json!({ "status": "disabled" }))
            .await
            .expect(200);
        let now = world.app.now().0;
        let body = |field: &str, value: Value| {
            let mut body = json!({ "delegate": ben.id, "until": now + DAY_MS });
            body[field] = value;
            body
        };
        for (field, value) in [
            ("delegate", json!("op_nobody")),
            ("delegate", json!(off.id)),
            ("delegate", json!(rita.id)),
            ("delegate", Value::Null),
            ("from", json!(now - 1)),
            ("from", json!(now + 367 * DAY_MS)),
            ("until", json!(now)),
            ("until", json!(now + 92 * DAY_MS + 1)),
            ("until", json!("tomorrow")),
            ("reason", json!("x".repeat(501))),
            ("chain", json!(true)),
        ] {
            rita.post(PATH, body(field, value)).await.refuses(field);
        }
        for (operator, field) in [(&off.id, "operator"), (&ben.id, "operator")] {
            let asked = body("operator", json!(operator));
            admin
                .post(PATH, json!({ "delegate": rita.id, "until": asked["until"], "operator": operator }))
                .await
                .refuses(field);
        }
        assert_eq!(ids(&admin.get(PATH).await.expect(200)), [""; 0], "nothing was kept");
        rita.post(PATH, body("reason", json!("x".repeat(500)))).await.expect(201);
        let missing = rita.post(PATH, json!({ "delegate": ben.id })).await;
        missing.refuses("until");
    }
}

#[tokio::test]
async fn administrators_delegate_for_others_as_far_as_they_review_themselves() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        admin
            .put("/api/v1/roles/clerk", json!({ "permissions": ["operators.read", "operators.manage"] }))
            .await
            .expect(200);
        let rita = world.operator("rita", &["reviewer_1"]).await;
        let ralph = world.operator("ralph", &["reviewer_2"]).await;
        let clerk = world.operator("clerk", &["clerk"]).await;
        let ben = world.operator("ben", &[]).await;
        let until = world.app.now().0 + DAY_MS;
        let of = |operator: &str, delegate: &str| json!({ "operator": operator, "delegate": delegate, "until": until });
        // Somebody who manages operators without reviewing would get at a signature by it.
        for (who, operator) in [(&clerk, &rita), (&ralph, &rita), (&ben, &rita), (&ben, &ben)] {
            let refused = who.post(PATH, of(&operator.id, &clerk.id)).await.problem(403, "forbidden");
            assert!(refused["detail"].as_str().is_some_and(|text| text.contains("applications.review")));
        }
        let made = admin.post(PATH, of(&rita.id, &ben.id)).await.expect(201);
        assert_eq!((&made["operator"], &made["created_by"]), (&json!(rita.id), &json!(admin.id)));
        let own = ralph.post(PATH, of(&ralph.id, &ben.id)).await.expect(201);
        assert_eq!(own["operator"], json!(ralph.id));
        let path = format!("{PATH}/{}", made["id"].as_str().expect("an id"));
        ralph.delete(&path).await.problem(404, "not_found");
        // The one whose signing it is, may end what was set for her.
        rita.delete(&path).await.expect(204);
        // Lists are for everybody's own, of others for administrators.
        assert_eq!(ids(&admin.get(&format!("{PATH}?operator={}", ben.id)).await.expect(200)).len(), 2);
        assert_eq!(ids(&admin.get(PATH).await.expect(200)).len(), 2);
        assert_eq!(ids(&ralph.get(PATH).await.expect(200)).len(), 1);
        let first = admin.get(&format!("{PATH}?limit=1")).await.expect(200);
        let next = first["next"].as_str().expect("a second page");
        let second = admin.get(&format!("{PATH}?limit=1&cursor={next}")).await.expect(200);
        assert_ne!(ids(&first), ids(&second));
        assert_eq!(second["next"], Value::Null);
        admin.get(&format!("{PATH}?cursor=x")).await.problem(400, "invalid_query");
    }
}

#[tokio::test]
async fn one_delegate_at_a_time_also_when_two_are_named_at_the_same_moment() {
    for world in World::both().await {
        let rita = world.operator("rita", &["reviewer_1"]).await;
        let ben = world.operator("ben", &[]).await;
        let cleo = world.operator("cleo", &[]).await;
        let now = world.app.now().0;
        let to = |delegate: &str, from: i64, until: i64| json!({ "delegate": delegate, "from": now + from, "until": now + until });
        let (one, other) =
            tokio::join!(rita.post(PATH, to(&ben.id, 0, 100)), rita.post(PATH, to(&cleo.id, 99, 200)));
        let (made, refused) = if one.status == 201 { (one, other) } else { (other, one) };
        let made = made.expect(201);
        let problem = refused.problem(409, "delegation_overlaps");
        let id = made["id"].as_str().expect("an id");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains(id)), "{problem}");
        // What touches does not overlap, and what was revoked is not in the way.
        rita.post(PATH, to(&cleo.id, 200, 300)).await.expect(201);
        rita.delete(&format!("{PATH}/{id}")).await.expect(204);
        rita.post(PATH, to(&cleo.id, 0, 200)).await.expect(201);
        // Others' are no matter, and a delegate may be that of two.
        let ralph = world.operator("ralph", &["reviewer_2"]).await;
        ralph.post(PATH, to(&cleo.id, 0, 200)).await.expect(201);
        // The bound.
        for n in 3..=20 {
            rita.post(PATH, to(&ben.id, n * 100, n * 100 + 100)).await.expect(201);
        }
        rita.post(PATH, to(&ben.id, 9_000, 9_001)).await.problem(409, "too_many_delegations");
    }
}

#[tokio::test]
async fn a_disabled_account_ends_its_delegations_for_good() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let rita = world.operator("rita", &["reviewer_1"]).await;
        let ralph = world.operator("ralph", &["reviewer_2"]).await;
        let ben = world.operator("ben", &[]).await;
        let until = world.app.now().0 + DAY_MS;
        let mut made = Vec::new();
        for who in [&rita, &ralph] {
            let one = who.post(PATH, json!({ "delegate": ben.id, "until": until })).await.expect(201);
            made.push(format!("{PATH}/{}", one["id"].as_str().expect("an id")));
        }
        let states = async || {
            let mut states = Vec::new();
            for path in &made {
                states.push(admin.get(path).await.expect(200)["state"].clone());
            }
            states
        };
        let set = async |who: &str, body: Value| {
            world.advance_ms(1_000);
            admin.patch(&format!("/api/v1/operators/{who}"), body).await.expect(200);
        };
        // What does not concern the state of the account changes nothing.
        set(&rita.id, json!({ "display_name": "Rita" })).await;
        set(&rita.id, json!({ "status": "active" })).await;
        assert_eq!(states().await, ["in_effect", "in_effect"]);
        set(&rita.id, json!({ "status": "disabled" })).await;
        assert_eq!(states().await, ["disabled", "in_effect"]);
        set(&rita.id, json!({ "status": "active" })).await;
        assert_eq!(states().await, ["disabled", "in_effect"], "it does not come back");
        set(&ben.id, json!({ "status": "disabled" })).await;
        assert_eq!(states().await, ["disabled", "disabled"]);
        set(&ben.id, json!({ "status": "active" })).await;
        assert_eq!(states().await, ["disabled", "disabled"]);
        // Another one is set in their place.
        rita.post(PATH, json!({ "delegate": ben.id, "until": until })).await.expect(201);
    }
}
