//! What applicants pick from.

use super::*;

/// Names and marks of what is found.
async fn found(who: &Caller, path: &str) -> Vec<(String, Vec<String>)> {
    let page = who.get(path).await.expect(200);
    let texts = |list: &Value| {
        list.as_array().expect("a list").iter().filter_map(|mark| Some(mark.as_str()?.to_owned())).collect()
    };
    let items = page["items"].as_array().expect("a list").iter();
    items.map(|item| (item["id"].as_str().expect("an id").to_owned(), texts(&item["marks"]))).collect()
}

fn plain(id: &str) -> (String, Vec<String>) {
    (id.to_owned(), vec![])
}

#[tokio::test]
async fn an_applicant_without_clients_read_finds_clients_and_sees_little_of_them() {
    for stage in Stage::both().await {
        let role = json!({ "description": "", "permissions": ["applications.apply"] });
        stage.admin.put("/api/v1/roles/asks_only", role).await.expect(200);
        let asker = stage.world.operator("asker", &["asks_only"]).await;
        let group = json!({ "name": "billing", "alias": "Billing", "apis": [stage.apis[0]] });
        let group = stage.admin.post("/api/v1/groups", group).await.expect(201);
        client(&stage.admin, "globex").await;
        let change = json!({ "status": "disabled", "emails": null, "groups": [group["id"]] });
        stage.admin.patch("/api/v1/clients/globex", change).await.expect(200);

        let page = asker.get("/api/v1/pickers/clients?keyword=ACME").await.expect(200);
        let slim = json!({ "id": "acme", "name": "acme", "display_name": "acme", "marks": [] });
        assert_eq!(page, json!({ "items": [slim], "next": null }));
        let marked = ("globex".to_owned(), vec!["disabled".to_owned(), "no_address".to_owned()]);
        for (who, keyword, clients) in [
            (&asker, "", vec![plain("acme"), marked.clone()]),
            (&asker, "glob", vec![marked.clone()]),
            (&asker, "nobody", vec![]),
            // Names of groups are the catalogue's to tell.
            (&asker, "billing", vec![]),
            (&stage.anna, "billing", vec![marked.clone()]),
            (&stage.anna, "billing%20acme", vec![]),
        ] {
            let path = format!("/api/v1/pickers/clients?keyword={keyword}");
            assert_eq!(found(who, &path).await, clients, "{keyword}");
        }
        stage.rita.get("/api/v1/pickers/clients").await.problem(403, "forbidden");
        stage.rita.get("/api/v1/pickers/apis").await.problem(403, "forbidden");
        asker.get("/api/v1/clients").await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn apis_are_enabled_and_registered_unless_asked_for_and_then_marked() {
    for stage in Stage::both().await {
        let [orders, invoices] = &stage.apis;
        let change = json!({ "description": "Alles über Bestellungen", "audience": "internal" });
        stage.admin.patch(&format!("/api/v1/apis/{orders}"), change).await.expect(200);
        stage.admin.patch(&format!("/api/v1/apis/{invoices}"), json!({ "enabled": false })).await.expect(200);
        let imported = api(&stage.admin, "reports").await;
        stage.world.sql(&format!("UPDATE apis SET source = 'imported' WHERE uid = '{imported}'")).await;
        let above = json!({ "name": "secret", "alias": "Secret", "security_level": "A", "apis": [orders] });
        stage.admin.post("/api/v1/groups", above).await.expect(201);
        stage.admin.patch("/api/v1/clients/acme", json!({ "audience": "external" })).await.expect(200);

        let marked = |id: &str, marks: &[&str]| {
            (id.to_owned(), marks.iter().map(|mark| (*mark).to_owned()).collect::<Vec<_>>())
        };
        for (query, apis) in [
            ("", vec![plain("orders")]),
            ("keyword=SHOP%20%C3%9CBER", vec![plain("orders")]),
            ("keyword=invoices", vec![]),
            ("include=disabled", vec![marked("invoices", &["disabled"]), plain("orders")]),
            ("include=unregistered", vec![plain("orders"), marked("reports", &["not_registered"])]),
            ("include=disabled,unregistered&keyword=rep", vec![marked("reports", &["not_registered"])]),
            ("client=acme", vec![marked("orders", &["audience", "level"])]),
        ] {
            assert_eq!(found(&stage.anna, &format!("/api/v1/pickers/apis?{query}")).await, apis, "{query}");
        }
        for (accepts, marks) in [
            (json!({ "accepts": ["bearer", "basic"] }), &["without_dgrk"][..]),
            (json!({ "accepts": [], "no_auth": true }), &[]),
        ] {
            stage.admin.patch(&format!("/api/v1/apis/{orders}"), accepts).await.expect(200);
            let found = found(&stage.anna, "/api/v1/pickers/apis?keyword=orders").await;
            assert_eq!(found, vec![marked("orders", marks)]);
        }
        for (query, field) in [("include=all", "include"), ("client=nobody", "client"), ("limit=0", "limit")]
        {
            stage.anna.get(&format!("/api/v1/pickers/apis?{query}")).await.refuses(field);
        }
    }
}
