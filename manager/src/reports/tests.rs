//! The history through the router, after forms that operators filed and signed, on both databases.

use axum::http::Method;
use gate::time::UnixMillis;
use serde_json::{Value, json};

use super::model::{Filter, MAX_EXPORT_ROWS, Place};
use super::store;
use crate::db::Dialect;
use crate::search::Words;
use crate::testing::{Answer, Caller, World};

const HISTORY: &str = "/api/v1/reports/api-keys";
const FORMS: &str = "/api/v1/applications";
const DAY_MS: i64 = 86_400_000;

/// Those who file, sign and look back, a client, an API, and two levels of approval.
struct Desk {
    world: World,
    admin: Caller,
    anna: Caller,
    rita: Caller,
    ralph: Caller,
    auditor: Caller,
    api: String,
}

impl Desk {
    async fn both() -> Vec<Self> {
        let mut desks = Vec::new();
        for world in World::both().await {
            desks.push(Self::set(world).await);
        }
        desks
    }

    async fn set(world: World) -> Self {
        let admin = world.operator("ann", &["admin"]).await;
        let anna = world.operator("anna", &["applicant"]).await;
        let rita = world.operator("rita", &["reviewer_1"]).await;
        let ralph = world.operator("ralph", &["reviewer_2"]).await;
        let auditor = world.operator("audrey", &["auditor"]).await;
        for kind in ["KA", "KU", "KR"] {
            let flow = json!({ "levels": [["reviewer_1"], ["reviewer_2"]] });
            admin.put(&format!("/api/v1/approval-flows/{kind}"), flow).await.expect(200);
        }
        let api = json!({
            "module": "shop", "id": "orders", "path": { "exact": "/orders" }, "accepts": ["dgrk"],
        });
        let api = text(&admin.post("/api/v1/apis", api).await.expect(201), "uid");
        Self { world, admin, anna, rita, ralph, auditor, api }
    }

    async fn client(&self, id: &str, display_name: &str) {
        let body = json!({
            "id": id, "name": id, "display_name": display_name, "note": "Ann",
            "emails": format!("{id}@example.com"), "password": "secret-1", "password_confirmation": "secret-1",
        });
        self.admin.post("/api/v1/clients", body).await.expect(201);
    }

    fn apply(&self, client: &str, name: &str) -> Value {
        json!({
            "type": "KA", "client": client, "name": name, "effective_date": "2026-01-15",
            "expiry_date": "2026-12-31", "quota": 1000, "description": "to order", "apis": [self.api],
        })
    }

    /// Files a form and has both levels sign it: its number and the key that it is about.
    async fn approved(&self, form: Value) -> (String, String) {
        let id = text(&self.anna.post(FORMS, form).await.expect(201), "id");
        for (who, action) in [(&self.anna, "submit"), (&self.rita, "approve"), (&self.ralph, "approve")] {
            self.act(who, &id, action).await.expect(200);
        }
        let approved = self.admin.get(&format!("{FORMS}/{id}")).await.expect(200);
        (text(&approved, "number"), text(&approved, "key"))
    }

    async fn act(&self, who: &Caller, id: &str, action: &str) -> Answer {
        let path = format!("{FORMS}/{id}");
        let seen = self.admin.get(&path).await.header("etag").expect("a version").to_owned();
        let body = (!action.ends_with("submit")).then(|| json!({}));
        who.send(Method::POST, &format!("{path}/{action}"), &[("if-match", &seen)], body).await
    }

    /// Names of the keys that the auditor finds.
    async fn found(&self, query: &str) -> Vec<String> {
        let page = self.auditor.get(&format!("{HISTORY}?{query}")).await.expect(200);
        assert_eq!(page["next"], Value::Null, "one page");
        page["items"].as_array().expect("items").iter().map(|key| text(key, "name")).collect()
    }
}

fn text(of: &Value, field: &str) -> String {
    of[field].as_str().unwrap_or_else(|| panic!("{field} of {of:#}")).to_owned()
}

#[tokio::test]
async fn a_key_shows_the_forms_that_issued_changed_and_revoked_it_and_who_signed() {
    for desk in Desk::both().await {
        desk.client("acme", "ACME Örders").await;
        let (issued, key) = desk.approved(desk.apply("acme", "first")).await;
        desk.world.advance_ms(1_000);
        let mut change = desk.apply("acme", "second");
        change["type"] = "KU".into();
        change["key"] = key.clone().into();
        change.as_object_mut().expect("an object").remove("client");
        let (changed, _) = desk.approved(change).await;
        desk.world.advance_ms(1_000);
        let revoke =
            json!({ "type": "KR", "key": key, "effective_date": "2026-01-15", "description": "over" });
        let (revoked, _) = desk.approved(revoke).await;

        let page = desk.auditor.get(HISTORY).await.expect(200);
        let found = &page["items"][0];
        assert_eq!((page["items"].as_array().map(Vec::len), &page["next"]), (Some(1), &Value::Null));
        for (field, value) in [
            ("id", json!(key)),
            ("client", json!("acme")),
            ("client_name", json!("acme")),
            ("client_display_name", json!("ACME Örders")),
            ("name", json!("second")),
            ("created_at", json!(World::START.0)),
            ("revoked_at", json!(World::START.0 + 2_000)),
            ("status", json!("revoked")),
            ("overdue", json!(false)),
            ("label", json!("Revoked")),
            ("imported", json!(false)),
        ] {
            assert_eq!(found[field], value, "{field}");
        }
        let forms: Vec<_> = found["forms"]
            .as_array()
            .expect("forms")
            .iter()
            .map(|form| {
                let signed = form["signatures"].as_array().expect("signatures").iter();
                let signed: Vec<_> = signed.map(|by| (by["level"].as_i64(), text(by, "name"))).collect();
                (text(form, "type"), text(form, "number"), form["done_at"].as_i64(), signed)
            })
            .collect();
        let signed = vec![(Some(1), "rita".to_owned()), (Some(2), "ralph".to_owned())];
        let at = |seconds: i64| Some(World::START.0 + seconds * 1_000);
        assert_eq!(
            forms,
            [
                ("KA".to_owned(), issued, at(0), signed.clone()),
                ("KU".to_owned(), changed, at(1), signed.clone()),
                ("KR".to_owned(), revoked, at(2), signed),
            ]
        );
    }
}

#[tokio::test]
async fn a_signature_of_a_round_that_was_returned_is_no_signature() {
    for desk in Desk::both().await {
        desk.client("acme", "Acme").await;
        let boss = desk.world.operator("boss", &["reviewer_1"]).await;
        let id = text(&desk.anna.post(FORMS, desk.apply("acme", "k")).await.expect(201), "id");
        for (who, action) in [
            (&desk.anna, "submit"),
            (&boss, "approve"),
            (&desk.ralph, "return"),
            (&desk.anna, "resubmit"),
            (&desk.rita, "approve"),
            (&desk.ralph, "approve"),
        ] {
            desk.act(who, &id, action).await.expect(200);
        }
        let page = desk.auditor.get(HISTORY).await.expect(200);
        let signed = page["items"][0]["forms"][0]["signatures"].as_array().expect("signatures");
        let signed: Vec<_> = signed.iter().map(|by| text(by, "name")).collect();
        assert_eq!(signed, ["rita", "ralph"]);
        for (signer, found) in [("rita", &["k"][..]), ("ralph", &["k"]), ("boss", &[])] {
            assert_eq!(desk.found(&format!("signer={signer}")).await, found, "{signer}");
        }
    }
}

#[tokio::test]
async fn what_a_delegate_signed_is_shown_and_found_by_both() {
    for desk in Desk::both().await {
        desk.client("acme", "Acme").await;
        let ben = desk.world.operator("ben", &[]).await;
        let until = World::START.0 + DAY_MS;
        let delegation = json!({ "operator": desk.rita.id, "delegate": ben.id, "until": until });
        desk.admin.post("/api/v1/delegations", delegation).await.expect(201);
        let id = text(&desk.anna.post(FORMS, desk.apply("acme", "k")).await.expect(201), "id");
        for (who, action) in [(&desk.anna, "submit"), (&ben, "approve"), (&desk.ralph, "approve")] {
            desk.act(who, &id, action).await.expect(200);
        }
        let page = desk.auditor.get(HISTORY).await.expect(200);
        let form = &page["items"][0]["forms"][0];
        let signed = &form["signatures"];
        assert_eq!(
            (&signed[0]["name"], &signed[0]["on_behalf_of"], &signed[0]["on_behalf_of_name"]),
            (&json!("ben"), &json!(desk.rita.id), &json!("rita"))
        );
        assert_eq!(signed[1]["on_behalf_of"], Value::Null);
        for signer in ["ben", "rita", &desk.rita.id, "ralph"] {
            assert_eq!(desk.found(&format!("signer={signer}")).await, ["k"], "{signer}");
        }
        assert_eq!(desk.found("signer=ann").await, [""; 0]);
        let table = desk.auditor.get(&format!("{HISTORY}?format=csv")).await.expect(200);
        let table = table.as_str().expect("text");
        let number = text(form, "number");
        assert!(table.contains("revoked_by,signatures,on_behalf_of\r\n"), "{table}");
        assert!(table.ends_with(&format!("\",{number} level 1: rita\r\n")), "{table}");
    }
}

#[tokio::test]
async fn keys_are_found_by_day_words_client_status_and_signer() {
    for desk in Desk::both().await {
        desk.client("acme", "ACME Örders").await;
        desk.client("globex", "Globex").await;
        let (_, first) = desk.approved(desk.apply("acme", "Einkauf")).await;
        desk.world.advance_ms(DAY_MS);
        let mut tomorrow = desk.apply("globex", "Verkauf Ä");
        tomorrow["effective_date"] = "2026-01-16".into();
        tomorrow["expiry_date"] = "2026-01-20".into();
        let (_, second) = desk.approved(tomorrow).await;
        desk.admin.post(&format!("/api/v1/keys/{first}/revoke"), json!({})).await.expect(200);
        let api_key = desk.admin.get(&format!("/api/v1/keys/{second}")).await.expect(200);
        let api_key = text(&api_key, "api_key");
        let api_key = api_key.get(..20).expect("long enough").to_lowercase();
        let rita = desk.rita.id.clone();
        for (query, names) in [
            ("".to_owned(), vec!["Verkauf Ä", "Einkauf"]),
            ("from=2026-01-15&until=2026-01-15".into(), vec!["Einkauf"]),
            ("from=2026-01-16".into(), vec!["Verkauf Ä"]),
            ("until=2026-01-14".into(), vec![]),
            ("keyword=acme".into(), vec!["Einkauf"]),
            ("keyword=%C3%B6rders".into(), vec!["Einkauf"]),
            ("keyword=KAUF".into(), vec!["Verkauf Ä", "Einkauf"]),
            ("keyword=kauf%20globex".into(), vec!["Verkauf Ä"]),
            ("keyword=acme%20globex".into(), vec![]),
            ("keyword=%C3%A4".into(), vec!["Verkauf Ä"]),
            (format!("keyword={api_key}"), vec!["Verkauf Ä"]),
            (format!("keyword={second}"), vec!["Verkauf Ä"]),
            ("keyword=%25".into(), vec![]),
            ("client=acme".into(), vec!["Einkauf"]),
            ("status=revoked".into(), vec!["Einkauf"]),
            ("status=active,dormant".into(), vec!["Verkauf Ä"]),
            ("overdue=true".into(), vec![]),
            ("signer=rita".into(), vec!["Verkauf Ä", "Einkauf"]),
            (format!("signer={rita}&keyword=einkauf"), vec!["Einkauf"]),
            ("signer=anna".into(), vec![]),
            ("signer=nobody".into(), vec![]),
        ] {
            assert_eq!(desk.found(&query).await, names, "{query}");
        }
        for (query, field) in [
            ("status=gone", "status"),
            ("from=1.1.2026", "from"),
            ("from=2026-01-02&until=2026-01-01", "until"),
            ("cursor=x", "cursor"),
            ("format=csv&limit=1", "limit"),
            ("format=xml", "format"),
        ] {
            desk.auditor.get(&format!("{HISTORY}?{query}")).await.refuses(field);
        }
        // Its last instant is that of the 20th.
        desk.world.advance_ms(5 * DAY_MS);
        assert_eq!(desk.found("overdue=true").await, ["Verkauf Ä"]);
        let page = desk.auditor.get(&format!("{HISTORY}?overdue=true")).await.expect(200);
        assert_eq!(page["items"][0]["label"], "Active (Overdue)");
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    for desk in Desk::both().await {
        desk.client("acme", "Acme").await;
        // All of one instant: the id decides.
        desk.world.sql(&many(7, World::START.0, 0)).await;
        let (mut names, mut query) = (Vec::new(), "limit=3".to_owned());
        loop {
            let page = desk.auditor.get(&format!("{HISTORY}?{query}")).await.expect(200);
            names.extend(page["items"].as_array().expect("items").iter().map(|key| text(key, "id")));
            match page["next"].as_str() {
                Some(next) => query = format!("limit=3&cursor={next}"),
                None => break,
            }
        }
        let expected: Vec<_> = (1..=7).rev().map(|n| format!("key_{n:06}")).collect();
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn a_deleted_clients_keys_keep_their_names() {
    for desk in Desk::both().await {
        desk.client("acme", "ACME Örders").await;
        desk.approved(desk.apply("acme", "k")).await;
        desk.admin.delete("/api/v1/clients/acme?confirm=acme").await.expect(204);
        let page = desk.auditor.get(&format!("{HISTORY}?keyword=%C3%B6rders")).await.expect(200);
        let found = &page["items"][0];
        assert_eq!((&found["client_name"], &found["status"]), (&json!("acme"), &json!("revoked")));
    }
}

#[tokio::test]
async fn forms_are_shown_to_those_who_may_see_forms() {
    for desk in Desk::both().await {
        desk.client("acme", "Acme").await;
        desk.approved(desk.apply("acme", "k")).await;
        let role = json!({ "description": "", "permissions": ["keys.read"] });
        desk.admin.put("/api/v1/roles/key_clerk", role).await.expect(200);
        let clerk = desk.world.operator("kim", &["key_clerk"]).await;
        let page = clerk.get(HISTORY).await.expect(200);
        assert_eq!((&page["items"][0]["name"], &page["items"][0]["forms"]), (&json!("k"), &Value::Null));
        clerk.get(&format!("{HISTORY}?signer=rita")).await.problem(403, "forbidden");
        let nobody = desk.world.operator("nick", &[]).await;
        nobody.get(HISTORY).await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn the_table_holds_what_the_list_does() {
    for desk in Desk::both().await {
        desk.client("acme", "=1+1, \"Acme\"").await;
        let (number, key) = desk.approved(desk.apply("acme", "k")).await;
        let accepted = desk.auditor.send(Method::GET, HISTORY, &[("accept", "text/csv")], None).await;
        let asked = desk.auditor.get(&format!("{HISTORY}?format=csv")).await;
        assert_eq!(accepted.header("content-type"), Some("text/csv; charset=utf-8"));
        let table = asked.expect(200);
        assert_eq!(accepted.body, table);
        let table = table.as_str().expect("text");
        let lines: Vec<_> = table.trim_start_matches('\u{feff}').split("\r\n").collect();
        let [head, row, ""] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(
            head.starts_with("client,client_name,client_display_name,key,api_key,name,created,"),
            "{head}"
        );
        assert!(row.starts_with(&format!("acme,acme,\"'=1+1, \"\"Acme\"\"\",{key},")), "{row}");
        let signed = "2026-01-15 00:00:00 UTC";
        let signed = format!("\"{number} level 1: rita, {signed}; {number} level 2: ralph, {signed}\"");
        assert!(row.ends_with(&format!("Active,issued,{number},,,{signed},")), "{row}");
    }
}

#[tokio::test]
async fn a_table_has_its_bound() {
    for desk in Desk::both().await {
        desk.client("acme", "Acme").await;
        let most = i64::try_from(MAX_EXPORT_ROWS).expect("small");
        desk.world.sql(&many(most, World::START.0, 1)).await;
        let table = desk.auditor.get(&format!("{HISTORY}?format=csv")).await.expect(200);
        assert_eq!(table.as_str().map(|text| text.lines().count()), Some(MAX_EXPORT_ROWS + 1));
        desk.world.sql(&many(1, World::START.0 - 5, 0).replace("key_", "keyb_")).await;
        desk.auditor.get(&format!("{HISTORY}?format=csv")).await.refuses("from");
    }
}

/// A page reads its rows off an index, from the place where it begins: no statement sorts or reads
/// the whole table, whatever is asked for together.
#[tokio::test]
async fn a_page_of_many_keys_is_read_off_an_index() {
    for desk in Desk::both().await {
        desk.client("acme", "Acme").await;
        desk.world.sql(&many(20_000, World::START.0, 1_000)).await;
        if desk.world.app.db.dialect() == Dialect::Postgres {
            desk.world.sql("ANALYZE keys").await;
        }
        let middle = Place { created_at: UnixMillis(World::START.0 + 10_000_000), id: "key_0".into() };
        let words = Words::parse(Some("bulk")).expect("a word");
        for (filter, place) in [
            (Filter::default(), None),
            (Filter::default(), Some(&middle)),
            (Filter { words, ..Filter::default() }, Some(&middle)),
            (Filter { client: Some("acme".into()), ..Filter::default() }, None),
        ] {
            let (sql, wanted) = store::keys_statement(&filter, place, World::START);
            let plan = desk.world.plan(&sql, wanted, 51).await;
            assert!(
                plan.contains("keys_by_age") || plan.contains("keys_by_client_age"),
                "{filter:?}\n{plan}"
            );
            assert!(!plan.contains("TEMP B-TREE") && !plan.contains("Sort"), "{filter:?}\n{plan}");
            assert!(!plan.contains("rows=20000"), "{filter:?}\n{plan}");
        }
    }
}

/// Keys `key_000001` … that came on record `step_ms` after each other.
fn many(count: i64, from: i64, step_ms: i64) -> String {
    format!(
        "INSERT INTO keys (id, client_id, api_key, alias, effective_at, expires_at, use_quota, state, origin,
                           search, version, created_at, updated_at)
         WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
         SELECT 'key_' || substr('00000' || CAST(n AS TEXT), length(CAST(n AS TEXT))), 'acme',
                'api' || CAST({from} + n AS TEXT), 'bulk', 0, 4000000000000, -1, 'active', 'imported', 'bulk', 1,
                {from} + n * {step_ms}, 0
           FROM numbers"
    )
}
