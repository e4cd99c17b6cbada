//! Flows through the router, on both databases.

use axum::http::Method;
use serde_json::{Value, json};

use crate::testing::World;

#[tokio::test]
async fn a_flow_is_set_read_and_set_anew() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let applicant = world.operator("arthur", &["applicant"]).await;
        world.operator("rita", &["reviewer_1"]).await;
        world.operator("ralph", &["reviewer_2"]).await;

        let none = applicant.get("/api/v1/approval-flows/KA").await.expect(200);
        assert_eq!((&none["levels"], &none["version"]), (&json!([]), &json!(0)));

        let two = json!({"levels": [["reviewer_1"], ["admin", "reviewer_2"]]});
        let set = admin.put("/api/v1/approval-flows/KA", two.clone()).await;
        assert_eq!(set.header("etag"), Some("\"1\""));
        let set = set.expect(200);
        assert_eq!(set["levels"], two["levels"]);
        assert_eq!(set["updated_by"], json!(admin.id));

        let one = json!({"levels": [["reviewer_2"]]});
        let stale =
            admin.send(Method::PUT, "/api/v1/approval-flows/KA", &[("if-match", "\"0\"")], Some(one.clone()));
        stale.await.problem(412, "version_mismatch");
        let fresh = admin.send(Method::PUT, "/api/v1/approval-flows/KA", &[("if-match", "\"1\"")], Some(one));
        assert_eq!(fresh.await.expect(200)["version"], json!(2));

        let all = applicant.get("/api/v1/approval-flows").await.expect(200);
        let levels: Vec<_> = all["items"].as_array().expect("a list").iter().map(|f| &f["levels"]).collect();
        assert_eq!(levels, [&json!([["reviewer_2"]]), &json!([]), &json!([]), &json!([])]);

        let trail = admin.get("/api/v1/audit?action=approvals.configure").await.expect(200);
        let changed: Vec<_> = trail["items"]
            .as_array()
            .expect("entries")
            .iter()
            .map(|entry| &entry["detail"]["changed"]["levels"])
            .collect();
        let (one, two) = (&json!([["reviewer_2"]]), &two["levels"]);
        let told = [json!({ "before": two, "after": one }), json!({ "before": [], "after": two })];
        assert_eq!(changed, told.each_ref());
        // The same once more is no change.
        let again = admin.put("/api/v1/approval-flows/KA", json!({ "levels": one })).await.expect(200);
        assert_eq!(again["version"], json!(2));
        let after = admin.get("/api/v1/audit?action=approvals.configure").await.expect(200);
        assert_eq!(after, trail);
    }
}

#[tokio::test]
async fn unusable_flows_are_refused_and_leave_the_old_one() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let path = "/api/v1/approval-flows/KR";
        world.operator("rita", &["reviewer_1"]).await;
        admin.put(path, json!({"levels": [["reviewer_1"]]})).await.expect(200);
        for (body, field) in [
            (json!({}), "levels"),
            (json!({"levels": []}), "levels"),
            (json!({"levels": [["reviewer_1"], []]}), "levels[1]"),
            (json!({"levels": [["king"]]}), "levels[0]"),
            (json!({"levels": [["reviewer_1", "reviewer_1"]]}), "levels[0]"),
            (json!({"levels": vec![["reviewer_1"]; 10]}), "levels"),
            (json!({"levels": [["reviewer_1"]], "level": 1}), "level"),
        ] {
            let refused = admin.put(path, body.clone()).await;
            assert_eq!(refused.status, 422, "{body}");
            refused.refuses(field);
        }
        let present = admin.get(path).await.expect(200);
        assert_eq!((&present["levels"], &present["version"]), (&json!([["reviewer_1"]]), &json!(1)));
    }
}

#[tokio::test]
async fn a_flow_that_finds_no_signers_is_refused_naming_the_levels() {
    for allowed in [false, true] {
        for world in World::both_with(|config| config.allow_signing_two_levels = allowed).await {
            let admin = world.operator("ann", &["admin"]).await;
            let rita = world.operator("rita", &["reviewer_1", "reviewer_2"]).await;
            let path = "/api/v1/approval-flows/KA";
            admin.put("/api/v1/roles/idle", json!({ "permissions": ["catalog.read"] })).await.expect(200);
            world.operator("ida", &["idle"]).await;
            let refused = async |levels: Value, named: &str| {
                let problem = admin.put(path, json!({ "levels": levels })).await.problem(409, "no_signer");
                assert!(problem["detail"].as_str().is_some_and(|text| text.contains(named)), "{problem}");
            };
            let shared = json!([["admin"], ["reviewer_1"], ["reviewer_2"]]);
            if allowed {
                admin.put(path, json!({ "levels": shared })).await.expect(200);
            } else {
                refused(shared, "levels 2, 3 have only rita to sign them").await;
            }
            // A role that does not review signs nothing, and whoever is disabled neither.
            refused(json!([["admin"], ["idle"]]), "level 2 has nobody").await;
            let rita = format!("/api/v1/operators/{}", rita.id);
            admin.patch(&rita, json!({ "status": "disabled" })).await.expect(200);
            refused(json!([["reviewer_1"]]), "level 1 has nobody").await;
            admin.patch(&rita, json!({ "status": "active" })).await.expect(200);
            admin.put(path, json!({ "levels": [["reviewer_1"]] })).await.expect(200);
        }
    }
}

#[tokio::test]
async fn flows_are_configured_by_permission_alone() {
    for world in World::both().await {
        let flow = json!({"levels": [["reviewer_1"]]});
        for (who, role, reads) in [("rita", "reviewer_1", 200), ("arthur", "applicant", 200)] {
            let caller = world.operator(who, &[role]).await;
            caller.get("/api/v1/approval-flows/KA").await.expect(reads);
            caller.put("/api/v1/approval-flows/KA", flow.clone()).await.problem(403, "forbidden");
        }
        world.anon().put("/api/v1/approval-flows/KA", flow.clone()).await.problem(401, "unauthenticated");
        let admin = world.operator("ann", &["admin"]).await;
        admin.put("/api/v1/approval-flows/ka", flow).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_role_that_somebody_has_or_a_flow_names_is_not_deleted() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let holder = world.operator("bob", &["reviewer_1"]).await;
        let refused = async |role: &str, by: &str| {
            let problem = admin.delete(&format!("/api/v1/roles/{role}")).await.problem(409, "role_in_use");
            assert!(problem["detail"].as_str().is_some_and(|text| text.contains(by)), "{problem}");
        };
        for kind in ["KA", "KR"] {
            let path = format!("/api/v1/approval-flows/{kind}");
            admin.put(&path, json!({"levels": [["reviewer_1"], ["admin", "reviewer_2"]]})).await.expect(200);
        }
        refused("reviewer_1", "is held by bob").await;
        refused("reviewer_2", "flow for KA, KR forms").await;
        let bob = format!("/api/v1/operators/{}", holder.id);
        admin.patch(&bob, json!({"roles": [], "status": "disabled"})).await.expect(200);
        refused("reviewer_1", "flow for KA, KR forms").await;
        for kind in ["KA", "KR"] {
            let path = format!("/api/v1/approval-flows/{kind}");
            admin.put(&path, json!({"levels": [["admin"]]})).await.expect(200);
        }
        admin.delete("/api/v1/roles/reviewer_1").await.expect(204);
        admin.delete("/api/v1/roles/reviewer_1").await.problem(404, "not_found");
        admin.delete("/api/v1/roles/no%20role").await.problem(404, "not_found");
        // Nobody is given it any more, and no flow takes it.
        admin.patch(&bob, json!({"roles": ["reviewer_1"]})).await.refuses("roles");
        let gone = json!({"levels": [["reviewer_1"]]});
        admin.put("/api/v1/approval-flows/KU", gone).await.refuses("levels[0]");
        let trail = admin.get("/api/v1/audit?action=roles.").await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(1), "what was refused left nothing");
        assert_eq!(trail["items"][0]["detail"]["permissions"][0], "catalog.read");
        // What is worth more than one holds, one does not delete.
        let clerk = json!({"permissions": ["operators.manage"]});
        admin.put("/api/v1/roles/clerk", clerk).await.expect(200);
        let clara = world.operator("clara", &["clerk"]).await;
        clara.delete("/api/v1/roles/reviewer_2").await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn a_role_is_not_deleted_and_named_at_the_same_moment() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        for n in 0..5 {
            let role = format!("level_{n}");
            let path = format!("/api/v1/roles/{role}");
            admin.put(&path, json!({"permissions": []})).await.expect(200);
            let (named, deleted) = tokio::join!(
                admin.put("/api/v1/approval-flows/KA", json!({"levels": [["admin", role]]})),
                admin.delete(&path),
            );
            match (named.status, deleted.status) {
                (200, 409) => {
                    admin.put("/api/v1/approval-flows/KA", json!({"levels": [["admin"]]})).await.expect(200);
                }
                (422, 204) => {}
                neither => panic!("{neither:?}"),
            }
        }
    }
}

/// As `docs/operations.md` says: permissions are weighed, not the names of roles.
#[tokio::test]
async fn whoever_manages_operators_and_reviews_stands_above_four_eyes() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        world.operator("rita", &["reviewer_1"]).await;
        world.operator("ralph", &["reviewer_2"]).await;
        let flow = json!({"levels": [["reviewer_1"], ["reviewer_2"]]});
        admin.put("/api/v1/approval-flows/KA", flow).await.expect(200);
        let roles = admin.get("/api/v1/roles").await.expect(200);
        let reviewer =
            roles["items"].as_array().expect("roles").iter().find(|role| role["name"] == "reviewer_2");
        let reviewing =
            reviewer.expect("a ready-made role")["permissions"].as_array().expect("a list").clone();
        let managing = [json!("operators.read"), json!("operators.manage")];
        let both: Vec<_> = managing.iter().chain(&reviewing).collect();
        admin.put("/api/v1/roles/chief", json!({ "permissions": both })).await.expect(200);
        admin.put("/api/v1/roles/clerk", json!({ "permissions": managing })).await.expect(200);

        // With both she gives herself every level, and the trail tells.
        let chief = world.operator("chief", &["chief"]).await;
        let own = format!("/api/v1/operators/{}", chief.id);
        let given = json!({ "roles": ["chief", "reviewer_1", "reviewer_2"] });
        chief.patch(&own, given).await.expect(200);
        let trail = admin.get("/api/v1/audit?actor=chief&action=operators.update").await.expect(200);
        let changed = &trail["items"][0]["detail"]["changed"]["roles"];
        assert_eq!(changed["after"], json!(["chief", "reviewer_1", "reviewer_2"]));

        // With the management alone, nobody gets at a signature: not by a role, an account or a token.
        let clerk = world.operator("clerk", &["clerk"]).await;
        let signer = world.operator("signer", &["reviewer_2"]).await;
        let (own, signer) =
            (format!("/api/v1/operators/{}", clerk.id), format!("/api/v1/operators/{}", signer.id));
        for refused in [
            clerk.patch(&own, json!({ "roles": ["clerk", "reviewer_2"] })).await,
            clerk.post("/api/v1/operators", json!({ "name": "x", "roles": ["reviewer_2"] })).await,
            clerk.patch(&signer, json!({ "password": "given-1" })).await,
            clerk.post(&format!("{signer}/tokens"), json!({ "name": "x" })).await,
            clerk.put("/api/v1/roles/clerk", json!({ "permissions": both })).await,
        ] {
            let refused = refused.problem(403, "forbidden");
            assert!(refused["detail"].as_str().is_some_and(|text| text.contains("applications.review")));
        }
    }
}
