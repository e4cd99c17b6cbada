//! Roles through the router, on both databases.

use serde_json::json;

use crate::db::Dialect;
use crate::operators::tests::clerk;
use crate::operators::with_role;
use crate::testing::World;

#[tokio::test]
async fn roles_are_free_names_with_known_permissions() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let role =
            json!({ "description": "Third level", "permissions": ["applications.review", "audit.read"] });
        admin.put("/api/v1/roles/reviewer_3", role).await.expect(200);
        let third = world.operator("third", &["reviewer_3"]).await;
        third.get("/api/v1/audit").await.expect(200);
        third.get("/api/v1/operators").await.problem(403, "forbidden");
        admin.put("/api/v1/roles/x", json!({ "permissions": ["fly"] })).await.refuses("permissions");
        admin.put("/api/v1/roles/a%20b", json!({ "permissions": [] })).await.refuses("name");
        let names = admin.get("/api/v1/roles").await.expect(200);
        let names: Vec<_> =
            names["items"].as_array().expect("roles").iter().map(|role| &role["name"]).collect();
        assert!(
            ["admin", "applicant", "reviewer_1", "reviewer_2", "reviewer_3"]
                .iter()
                .all(|name| names.contains(&&json!(name)))
        );
        let mut conn = world.app.db.read().await.expect("a connection");
        let signers = with_role(&mut conn, "reviewer_3").await.expect("operators");
        assert_eq!(signers.iter().map(|signer| signer.name.as_str()).collect::<Vec<_>>(), ["third"]);
    }
}

#[tokio::test]
async fn what_is_no_permission_is_refused_with_those_that_are() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let refused =
            admin.put("/api/v1/roles/x", json!({ "permissions": ["fly"] })).await.refuses("permissions");
        let detail = refused["detail"].as_str().expect("a text");
        assert!(detail.contains("\"fly\"") && detail.contains("catalog.read, catalog.write"), "{detail}");
        admin
            .put("/api/v1/roles/x", json!({ "permissions": ["*", "audit.read"] }))
            .await
            .refuses("permissions");
        admin.put("/api/v1/roles/x", json!({ "permissions": "*" })).await.refuses("permissions");
        let long = json!({ "permissions": [], "description": "x".repeat(101) });
        admin.put("/api/v1/roles/x", long).await.refuses("description");
        // Each once, in their order; a description that is absent stays.
        let role = json!({ "description": "d", "permissions": ["keys.read", "audit.read", "keys.read"] });
        let kept = admin.put("/api/v1/roles/x", role).await.expect(200);
        assert_eq!(kept["permissions"], json!(["keys.read", "audit.read"]));
        let kept = admin.put("/api/v1/roles/x", json!({ "permissions": ["*"] })).await.expect(200);
        assert_eq!(kept, json!({ "name": "x", "description": "d", "permissions": ["*"] }));
    }
}

#[tokio::test]
async fn nobody_makes_or_changes_a_role_that_is_worth_more_than_they_hold() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let clara = clerk(&world, &admin).await;
        for (role, permissions, lacking) in [
            ("mine", json!(["keys.write"]), "keys.write"),
            ("mine", json!(["*"]), "clients.write"),
            ("clerk", json!(["operators.manage", "audit.read", "mail.read"]), "mail.read"),
            ("admin", json!(["operators.manage"]), "clients.write"),
            ("applicant", json!([]), "applications.apply"),
        ] {
            let path = format!("/api/v1/roles/{role}");
            let refused =
                clara.put(&path, json!({ "permissions": permissions })).await.problem(403, "forbidden");
            assert!(refused["detail"].as_str().is_some_and(|text| text.contains(lacking)), "{refused}");
        }
        clara.put("/api/v1/roles/mine", json!({ "permissions": ["audit.read"] })).await.expect(200);
    }
}

#[tokio::test]
async fn a_role_that_another_change_has_just_made_worth_more_is_not_overwritten() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let clara = clerk(&world, &admin).await;
        for other in [
            "UPDATE roles SET permissions = 'clients.write' WHERE name = 'guest'",
            "INSERT INTO roles (name, description, permissions, created_at) \
             VALUES ('fresh', '', 'clients.write', 0)",
        ] {
            admin.put("/api/v1/roles/guest", json!({ "permissions": ["audit.read"] })).await.expect(200);
            let name = if other.starts_with("INSERT") { "fresh" } else { "guest" };
            // Another replica is about to commit.
            let mut first = world.app.db.write("test.other").await.expect("a transaction");
            sqlx::query(other).execute(&mut *first).await.expect("valid SQL");
            let second = tokio::spawn({
                let (clara, path) = (clara.clone(), format!("/api/v1/roles/{name}"));
                async move { clara.put(&path, json!({ "permissions": ["audit.read"] })).await }
            });
            // On SQLite it waits to begin; on PostgreSQL it has begun, and waits for the row.
            while world.app.db.dialect() == Dialect::Postgres {
                let waiting = sqlx::query(
                    "SELECT 1 FROM pg_stat_activity \
                      WHERE datname = current_database() AND wait_event_type = 'Lock'",
                );
                let mut conn = world.app.db.read().await.expect("a connection");
                if !waiting.fetch_all(&mut *conn).await.expect("the server's view").is_empty() {
                    break;
                }
                drop(conn);
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            first.commit().await.expect("committed");
            let refused = second.await.expect("no panic").problem(403, "forbidden");
            assert!(refused["detail"].as_str().is_some_and(|text| text.contains("clients.write")));
            let roles = admin.get("/api/v1/roles").await.expect(200);
            let kept = roles["items"].as_array().expect("roles").iter().find(|role| role["name"] == name);
            assert_eq!(kept.expect("the role")["permissions"], json!(["clients.write"]));
        }
    }
}

#[tokio::test]
async fn the_ready_made_roles_hold_what_their_names_say() {
    for world in World::both().await {
        let admin = world.operator("root", &["admin"]).await;
        let roles = admin.get("/api/v1/roles").await.expect(200);
        let of = |name: &str| {
            let roles = roles["items"].as_array().expect("roles").clone();
            let role = roles.into_iter().find(|role| role["name"] == name).expect(name);
            serde_json::from_value::<Vec<String>>(role["permissions"].clone()).expect("texts")
        };
        assert_eq!(of("admin"), ["*"]);
        assert!(of("auditor").iter().all(|permission| permission.ends_with(".read")));
        assert!(of("auditor").len() > 9);
        for role in ["applicant", "reviewer_1", "reviewer_2", "client_manager", "auditor"] {
            assert!(
                of(role).iter().all(|permission| permission != "operators.manage" && permission != "*"),
                "{role}"
            );
        }
        for role in ["applicant", "reviewer_1", "reviewer_2"] {
            // A form to change or revoke a key names it.
            assert!(of(role).iter().any(|permission| permission == "keys.read"), "{role}");
            assert!(of(role).iter().all(|permission| !permission.ends_with(".write")), "{role}");
        }
        assert!(of("client_manager").contains(&"clients.write".to_string()));
        // One without any role may do nothing but look at itself.
        let nobody = world.operator("nobody", &[]).await;
        nobody.get("/api/v1/session").await.expect(200);
        for path in ["/api/v1/operators", "/api/v1/clients", "/api/v1/apis", "/api/v1/audit"] {
            let refused = nobody.get(path).await.problem(403, "forbidden");
            assert!(refused["detail"].as_str().is_some_and(|text| text.contains(".read")), "{refused}");
        }
    }
}
