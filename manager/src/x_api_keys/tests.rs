//! X-Api-Keys through the router, on both databases.

use serde_json::{Value, json};

use super::find_by_sha256;
use crate::testing::{Caller, World, by_link};

const PATH: &str = "/api/v1/x-api-keys";

/// A client `acme` with one of two groups; its id, then the other's.
async fn shop(admin: &Caller, emails: &str) -> [String; 2] {
    let mut groups = Vec::new();
    for name in ["retail", "partners"] {
        let body = json!({ "name": name, "alias": name });
        let group = admin.post("/api/v1/groups", body).await.expect(201);
        groups.push(group["id"].as_str().expect("an id").to_string());
    }
    let groups: [String; 2] = groups.try_into().expect("two");
    let client = json!({
        "id": "acme", "name": "acme", "display_name": "Acme", "note": "Ann", "emails": emails,
        "password": "secret-1", "password_confirmation": "secret-1", "groups": [groups[0]],
    });
    admin.post("/api/v1/clients", client).await.expect(201);
    groups
}

fn wanted(group: &str) -> Value {
    json!({ "client": "acme", "alias": "back office", "expiry_date": "2026-02-01", "groups": [group] })
}

#[tokio::test]
async fn a_key_is_shown_once_and_found_by_its_hash() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let [own, _] = shop(&admin, "it@acme.example").await;
        let made = admin.post(PATH, wanted(&own)).await.expect(201);
        let text = made["x_api_key"].as_str().expect("the text");
        assert_eq!(text.len(), 48);
        assert!(made["warning"].as_str().expect("a warning").contains("in clear"));
        // Today to the end of the last day.
        assert_eq!(
            (&made["effective_at"], &made["expires_at"]),
            (&json!(World::START.0), &json!(1_769_990_399_999_i64))
        );
        assert_eq!(
            (&made["effective_date"], &made["expiry_date"]),
            (&json!("2026-01-15"), &json!("2026-02-01"))
        );
        assert_eq!((&made["state"], &made["origin"]), (&json!("active"), &json!("issued")));

        let path = format!("{PATH}/{}", made["id"].as_str().expect("an id"));
        let read = admin.get(&path).await.expect(200);
        assert!(!read.to_string().contains(text) && read.get("x_api_key").is_none());
        assert_eq!(read["mask"], format!("{}***{}", &text[..3], &text[45..]));
        assert_eq!(admin.get(&format!("{PATH}?client=acme")).await.expect(200)["items"], json!([read]));
        assert_eq!(admin.get(&format!("{PATH}?client=other")).await.expect(200)["items"], json!([]));

        let sha256 = gate::credential::Fingerprint::of(text.as_bytes()).to_hex();
        let mut conn = world.app.db.read().await.expect("a connection");
        let found = find_by_sha256(&mut conn, &sha256).await.expect("an answer").expect("a key");
        assert_eq!(found.id.as_str(), made["id"]);
        drop(conn);
    }
}

#[tokio::test]
async fn the_text_is_mailed_to_each_address_of_the_client_and_stands_nowhere_else() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let [own, _] = shop(&admin, "it@acme.example, ops@acme.example").await;
        let [id, text] = key(&admin, &own, "back office").await;
        let told = async |admin: &Caller| {
            let mails = admin.get(&format!("/api/v1/mails?about=x_api_key:{id}")).await.expect(200);
            assert!(!mails.to_string().contains(&text));
            let recipients = mails["items"].as_array().expect("items").iter();
            let mut recipients: Vec<_> =
                recipients.map(|mail| mail["recipient"].as_str().expect("one").to_string()).collect();
            recipients.sort_unstable();
            recipients
        };
        assert_eq!(told(&admin).await, ["it@acme.example", "ops@acme.example"]);
        // Whatever is done with the key, it is mailed once.
        let lookup = json!({ "x_api_key": text });
        admin.post(&format!("{PATH}/lookup"), lookup).await.expect(200);
        admin.delete(&format!("{PATH}/{id}")).await.expect(204);
        assert_eq!(told(&admin).await.len(), 2);
        // … and not at all once it is gone.
        assert_eq!(world.sql("DELETE FROM mails WHERE template = 'x_api_key_issued' AND (state <> 'failed' OR context_sealed IS NOT NULL)").await, 0);
        let trail = admin.get(&format!("/api/v1/audit?subject=x_api_key:{id}")).await.expect(200);
        assert_eq!(trail["items"].as_array().map(Vec::len), Some(2));
        assert!(!trail.to_string().contains(&text), "{trail:#}");
    }
}

#[tokio::test]
async fn by_link_the_text_is_shown_once_on_a_page_until_the_key_is_deleted() {
    for world in World::both_with(by_link).await {
        let admin = world.operator("ann", &["admin"]).await;
        let [group, _] = shop(&admin, "a@partner.example").await;
        world.mailed().await;
        let [kept, gone] = [key(&admin, &group, "kept").await, key(&admin, &group, "gone").await];
        world.advance_ms(600_000);
        let mails = world.mailed().await;
        let of = |name: &str| mails.iter().find(|mail| mail.text.contains(&format!("Key name: {name}")));
        let (mail, of_gone) = (of("kept").expect("a mail"), of("gone").expect("a mail"));
        assert!(!mail.text.contains(&kept[1]), "{}", mail.text);
        let (status, page) = world.page_behind(mail.link()).await;
        assert!(status == 200 && page.contains("Your X-Api-Key") && page.contains(&kept[1]), "{page}");
        assert_eq!(world.page_behind(mail.link()).await.0, 410, "once");
        admin.delete(&format!("/api/v1/x-api-keys/{}", gone[0])).await.expect(204);
        assert_eq!(world.page_behind(of_gone.link()).await.0, 410, "it is deleted");
    }
}

#[tokio::test]
async fn a_client_without_an_address_gets_its_key_shown_and_no_mail() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let [own, _] = shop(&admin, "").await;
    let [_, text] = key(&admin, &own, "back office").await;
    assert_eq!(text.len(), 48);
    let mails = admin.get("/api/v1/mails?template=x_api_key_issued").await.expect(200);
    assert_eq!(mails["items"], json!([]));
}

#[tokio::test]
async fn a_deleted_key_is_gone_and_gateways_are_told() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let [own, _] = shop(&admin, "").await;
        let made = admin.post(PATH, wanted(&own)).await.expect(201);
        let path = format!("{PATH}/{}", made["id"].as_str().expect("an id"));
        let mut conn = world.app.db.read().await.expect("a connection");
        let before = crate::changes::head(&mut conn).await.expect("a head").revision;
        drop(conn);
        admin.delete(&path).await.expect(204);
        admin.delete(&path).await.problem(404, "not_found");
        admin.get(&path).await.problem(404, "not_found");
        let mut conn = world.app.db.read().await.expect("a connection");
        let after = crate::changes::head(&mut conn).await.expect("a head").revision;
        assert_eq!(after.0, before.0 + 1, "one change, and none for a delete that found nothing");
    }
}

#[tokio::test]
async fn what_cannot_be_a_key_is_refused_by_field() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let [own, foreign] = shop(&admin, "").await;
    for (field, change) in [
        ("client", json!({ "client": "nobody" })),
        ("alias", json!({ "alias": " " })),
        ("alias", json!({ "alias": "x".repeat(101) })),
        ("groups", json!({ "groups": [] })),
        ("groups", json!({ "groups": [foreign] })),
        ("groups", json!({ "groups": ["none"] })),
        ("expiry_date", json!({ "expiry_date": "2026-01-14" })),
        ("expiry_date", json!({ "effective_date": "2026-02-02" })),
        ("expiry_date", json!({ "expiry_date": "tomorrow" })),
        ("effective_date", json!({ "effective_date": "2026/01/20" })),
    ] {
        let mut body = wanted(&own);
        for (name, value) in change.as_object().expect("an object") {
            body[name] = value.clone();
        }
        admin.post(PATH, body).await.refuses(field);
    }
    assert_eq!(admin.get(PATH).await.expect(200)["items"], json!([]));
    let reviewer = world.operator("rob", &["reviewer_1"]).await;
    reviewer.post(PATH, wanted(&own)).await.problem(403, "forbidden");
}

/// A key of `acme` with that alias; its id and its text.
async fn key(admin: &Caller, group: &str, alias: &str) -> [String; 2] {
    let mut body = wanted(group);
    body["alias"] = alias.into();
    let made = admin.post(PATH, body).await.expect(201);
    [&made["id"], &made["x_api_key"]].map(|text| text.as_str().expect("a text").into())
}

fn aliases(page: &Value) -> Vec<&str> {
    let mut aliases: Vec<_> = page["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|key| key["alias"].as_str().expect("one"))
        .collect();
    aliases.sort_unstable();
    aliases
}

#[tokio::test]
async fn several_are_deleted_together_or_none() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let [own, _] = shop(&admin, "").await;
        let [one, _] = key(&admin, &own, "one").await;
        let [two, _] = key(&admin, &own, "two").await;
        key(&admin, &own, "three").await;
        let delete = async |ids: Value| admin.post(&format!("{PATH}/delete"), json!({ "ids": ids })).await;
        let refused = delete(json!([one, "xak_none", two, "xak_nothing"])).await.problem(404, "not_found");
        let detail = refused["detail"].as_str().expect("a detail");
        assert!(detail.contains("xak_none") && detail.contains("xak_nothing"), "{detail}");
        assert!(!detail.contains(&one), "{detail}");
        assert_eq!(aliases(&admin.get(PATH).await.expect(200)), ["one", "three", "two"]);

        let head = async || {
            let mut conn = world.app.db.read().await.expect("a connection");
            crate::changes::head(&mut conn).await.expect("a head").revision.0
        };
        let before = head().await;
        delete(json!([one, two, one])).await.expect(204);
        assert_eq!(head().await, before + 2, "gateways hear of each");
        assert_eq!(aliases(&admin.get(PATH).await.expect(200)), ["three"]);
        for id in [one, two] {
            let trail = admin.get(&format!("/api/v1/audit?subject=x_api_key:{id}")).await.expect(200);
            assert_eq!(trail["items"][0]["action"], "x_api_keys.delete");
        }
        delete(json!([])).await.refuses("ids");
        let many: Vec<String> = (0..=200).map(|n| format!("xak_{n}")).collect();
        delete(json!(many)).await.refuses("ids");
        delete(json!(many[..200])).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn keys_are_found_by_client_alias_mask_and_the_clients_name() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let [own, _] = shop(&admin, "").await;
        let [_, text] = key(&admin, &own, "Back Office").await;
        key(&admin, &own, "100% web").await;
        let globex = json!({
            "id": "globex", "name": "globex", "display_name": "Globex Ltd.", "note": "Bob",
            "password": "secret-1", "password_confirmation": "secret-1", "groups": [own],
        });
        admin.post("/api/v1/clients", globex).await.expect(201);
        let mut body = wanted(&own);
        (body["client"], body["alias"]) = ("globex".into(), "tills".into());
        admin.post(PATH, body).await.expect(201);
        let all = vec!["100% web", "Back Office", "tills"];
        let mask = format!("{}***{}", &text[..3], &text[45..]);
        for (query, found) in [
            (String::new(), all.clone()),
            ("?client=acme".into(), vec!["100% web", "Back Office"]),
            ("?client=nobody".into(), vec![]),
            ("?keyword=back%20off".into(), vec!["Back Office"]),
            ("?keyword=100%25".into(), vec!["100% web"]),
            ("?keyword=_".into(), vec![]),
            (format!("?keyword={mask}"), vec!["Back Office"]),
            ("?keyword=GLOBEX%20ltd".into(), vec!["tills"]),
            ("?keyword=globex&client=acme".into(), vec![]),
        ] {
            let page = admin.get(&format!("{PATH}{query}")).await.expect(200);
            assert_eq!(aliases(&page), found, "{query}");
        }
        let first = admin.get(&format!("{PATH}?limit=2")).await.expect(200);
        let next = first["next"].as_str().expect("more");
        let rest = admin.get(&format!("{PATH}?limit=2&cursor={next}")).await.expect(200);
        let mut seen = [aliases(&first), aliases(&rest)].concat();
        seen.sort_unstable();
        assert_eq!((seen, &rest["next"]), (all, &Value::Null));
    }
}

#[tokio::test]
async fn a_pasted_key_tells_its_client_dates_groups_and_apis_and_an_unknown_one_nothing() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let [own, other] = shop(&admin, "").await;
        let mut uids = Vec::new();
        for id in ["one", "two", "three"] {
            let api = json!({
                "module": "shop", "id": id, "path": { "exact": format!("/{id}") }, "accepts": ["x_api_key"],
            });
            let made = admin.post("/api/v1/apis", api).await.expect(201);
            uids.push(made["uid"].as_str().expect("a uid").to_string());
        }
        // One of them stands in both groups, and counts once.
        for (group, apis) in [(&own, &uids[..2]), (&other, &uids[1..])] {
            admin.patch(&format!("/api/v1/groups/{group}"), json!({ "apis": apis })).await.expect(200);
        }
        let client = "/api/v1/clients/acme";
        admin.patch(client, json!({ "groups": [own, other] })).await.expect(200);
        let mut body = wanted(&own);
        body["groups"] = json!([own, other]);
        let made = admin.post(PATH, body).await.expect(201);
        let text = made["x_api_key"].as_str().expect("the text");
        let look_up =
            async |text: &str| admin.post(&format!("{PATH}/lookup"), json!({ "x_api_key": text })).await;
        let found = look_up(&format!(" {text}\n")).await.expect(200);
        assert!(!found.to_string().contains(text));
        for (field, value) in [
            ("id", &made["id"]),
            ("mask", &made["mask"]),
            ("effective_date", &json!("2026-01-15")),
            ("expiry_date", &json!("2026-02-01")),
            ("state", &json!("active")),
            ("client", &json!("acme")),
            ("client_display_name", &json!("Acme")),
            ("client_status", &json!("active")),
            ("api_count", &json!(3)),
        ] {
            assert_eq!(&found[field], value, "{field}");
        }
        admin.patch(client, json!({ "groups": [own] })).await.expect(200);
        let found = look_up(text).await.expect(200);
        assert_eq!(found["api_count"], 2, "what the client lost no longer counts");
        let opens = |name: &str| {
            let groups = found["authority_groups"].as_array().expect("groups");
            groups.iter().find(|group| group["name"] == name).expect("it is named")["opens"].clone()
        };
        assert_eq!((opens("retail"), opens("partners")), (json!(true), json!(false)));

        let unknown = look_up("YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm").await;
        let unknown = unknown.problem(404, "not_found").to_string();
        assert!(!unknown.contains("YjNm"), "{unknown}");
        for nothing in ["", "abc***xyz", &"x".repeat(10_000)] {
            look_up(nothing).await.problem(404, "not_found");
        }
    }
}

#[tokio::test]
async fn an_empty_effective_date_is_today_and_a_later_one_is_waited_for() {
    for world in World::both_with(|config| config.time_zone = "Asia/Taipei".into()).await {
        let admin = world.operator("ann", &["admin"]).await;
        let [own, _] = shop(&admin, "").await;
        let from = async |date: Value| {
            let mut body = wanted(&own);
            body["effective_date"] = date;
            admin.post(PATH, body).await.expect(201)
        };
        // 2026-01-15T00:00Z is 08:00 of that day in Taipei.
        for today in [json!(""), Value::Null, json!("2026-01-15")] {
            let made = from(today).await;
            assert_eq!(
                (&made["effective_date"], &made["effective_at"], &made["state"]),
                (&json!("2026-01-15"), &json!(World::START.0 - 8 * 3_600_000), &json!("active"))
            );
        }
        let made = from(json!("2026-01-16")).await;
        assert_eq!(made["state"], "not_effective");
        let path = format!("{PATH}/{}", made["id"].as_str().expect("an id"));
        let state = async || admin.get(&path).await.expect(200)["state"].clone();
        world.advance_ms(16 * 3_600_000 - 1);
        assert_eq!(state().await, "not_effective");
        world.advance_ms(1);
        assert_eq!(state().await, "active");
        // 2026-02-01 is its last day.
        world.advance_ms(17 * 86_400_000 - 1);
        assert_eq!(state().await, "active");
        world.advance_ms(1);
        assert_eq!(state().await, "expired");
    }
}

#[tokio::test]
async fn all_keys_of_a_client_are_deleted_together_with_what_the_caller_does() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let [own, _] = shop(&admin, "").await;
        key(&admin, &own, "one").await;
        key(&admin, &own, "two").await;
        let delete = async |commits: bool| {
            let mut tx = world.app.db.write("test.delete").await.expect("a transaction");
            let acme = gate::id::ClientId::from("acme");
            let gone = super::delete_all_of(&mut tx, "test", &acme, world.app.now()).await;
            if commits {
                tx.commit().await.expect("committed");
            }
            gone.expect("deleted").len()
        };
        assert_eq!(delete(false).await, 2);
        assert_eq!(aliases(&admin.get(PATH).await.expect(200)), ["one", "two"]);
        assert_eq!(delete(true).await, 2);
        assert_eq!(aliases(&admin.get(PATH).await.expect(200)), [""; 0]);
        assert_eq!(delete(true).await, 0);
    }
}

/// What digiRunner keeps of the key `YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm`.
fn from_digirunner(group: &str) -> Value {
    json!({
        "client": "acme", "alias": "from before", "effective_date": "2025-03-01",
        "expiry_date": "2026-12-31", "groups": [group], "mask": "YjN***GJm",
        "sha256": "DDDDFCD2AF735B009C9F689402E990EB5DEBA4A3F7A5D343B04ED48F7063C1F3",
    })
}

#[tokio::test]
async fn a_key_from_elsewhere_comes_in_by_its_hash_and_works_with_its_old_text() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let [own, foreign] = shop(&admin, "it@acme.example").await;
        let path = format!("{PATH}/import");
        for (field, change) in [
            ("client", json!({ "client": "nobody" })),
            ("alias", json!({ "alias": "" })),
            ("sha256", json!({ "sha256": "abc" })),
            ("mask", json!({ "mask": "YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm" })),
            ("groups", json!({ "groups": [foreign] })),
            ("groups", json!({ "groups": [] })),
            ("expiry_date", json!({ "expiry_date": "2026-01-14" })),
            ("effective_date", json!({ "effective_date": "1.3.2025" })),
        ] {
            let mut body = from_digirunner(&own);
            for (name, value) in change.as_object().expect("an object") {
                body[name] = value.clone();
            }
            admin.post(&path, body).await.refuses(field);
        }
        let made = admin.post(&path, from_digirunner(&own)).await.expect(201);
        assert_eq!((&made["origin"], &made["mask"]), (&json!("imported"), &json!("YjN***GJm")));
        assert!(made.get("x_api_key").is_none());
        let again = admin.post(&path, from_digirunner(&own)).await.problem(409, "x_api_key_taken");
        assert_eq!(again["field"], "sha256");
        let text = json!({ "x_api_key": "YjNmNzYzNzEtMTQwNC00OTM5LTliODEtZWY3MjM4NmRkNGJm" });
        let found = admin.post(&format!("{PATH}/lookup"), text).await.expect(200);
        assert_eq!(found["id"], made["id"]);
        // Its holder has it already.
        let mails = admin.get("/api/v1/mails?template=x_api_key_issued").await.expect(200);
        assert_eq!(mails["items"], json!([]));
    }
}

#[tokio::test]
async fn the_command_line_brings_a_key_in_as_the_route_does() {
    let world = World::sqlite().await;
    let admin = world.operator("ann", &["admin"]).await;
    let [own, foreign] = shop(&admin, "").await;
    let command = |group: &str| {
        let field = |name: &str| from_digirunner(group)[name].as_str().expect("a text").to_string();
        super::cli::Command::Import {
            client: field("client"),
            alias: field("alias"),
            sha256: field("sha256"),
            mask: field("mask"),
            effective_date: Some(field("effective_date")),
            expiry_date: field("expiry_date"),
            groups: vec![group.into()],
        }
    };
    let refused = super::cli::run(&world.app, command(&foreign)).await.expect_err("not the client's");
    assert!(refused.to_string().contains(&foreign), "{refused}");
    super::cli::run(&world.app, command(&own)).await.expect("it comes in");
    let listed = admin.get(PATH).await.expect(200);
    assert_eq!((aliases(&listed), &listed["items"][0]["created_by"]), (vec!["from before"], &json!("cli")));
}

#[tokio::test]
async fn only_the_clients_own_groups_are_offered_for_its_keys() {
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let [own, other] = shop(&admin, "").await;
        let path = "/api/v1/clients/acme/offered-x-api-key-groups";
        let offered = async |query: &str| {
            let page = admin.get(&format!("{path}{query}")).await.expect(200);
            let names = page["items"].as_array().expect("items").iter();
            names.map(|group| group["name"].as_str().expect("a name").to_string()).collect::<Vec<_>>()
        };
        assert_eq!(offered("").await, ["retail"]);
        admin.patch("/api/v1/clients/acme", json!({ "groups": [own, other] })).await.expect(200);
        assert_eq!(offered("").await, ["partners", "retail"]);
        assert_eq!(offered("?keyword=RET").await, ["retail"]);
        admin.get("/api/v1/clients/nobody/offered-x-api-key-groups").await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_client_is_reminded_that_its_key_ends_and_not_of_one_that_is_gone() {
    const DAY_MS: i64 = 86_400_000;
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let [own, _] = shop(&admin, "it@acme.example").await;
        // From 2026-01-15 to 2026-02-01: 17 days, so that the reminder of 30 is left out.
        let kept = admin.post(PATH, wanted(&own)).await.expect(201);
        let gone = admin.post(PATH, wanted(&own)).await.expect(201);
        let told = async || {
            let mails = admin.get("/api/v1/mails?template=x_api_key_expiring").await.expect(200);
            let mails = mails["items"].as_array().expect("mails").clone();
            mails
                .iter()
                .rev()
                .map(|mail| mail["subject"].as_str().expect("one").to_owned())
                .collect::<Vec<_>>()
        };
        world.advance_ms(9 * 3_600_000);
        world.run_due().await;
        assert_eq!(told().await, Vec::<String>::new());
        let id = gone["id"].as_str().expect("an id");
        admin.delete(&format!("{PATH}/{id}")).await.expect(204);
        let mut expected = Vec::new();
        for (days, says) in
            [(3, Some("in 14 days")), (4, None), (10, Some("in 7 days")), (16, Some("tomorrow"))]
        {
            world.app.clock.set(gate::time::UnixMillis(World::START.0 + days * DAY_MS + 9 * 3_600_000));
            world.run_due().await;
            expected.extend(
                says.map(|says| format!("【Keygate】X-Api-Key Expiry Notice: “back office” expires {says}")),
            );
            assert_eq!(told().await, expected, "{days}");
        }
        let mails = admin.get("/api/v1/mails?template=x_api_key_expiring").await.expect(200);
        let text =
            admin.get(&format!("/api/v1/mails/{}", mails["items"][0]["id"].as_str().expect("an id"))).await;
        let text = text.expect(200);
        assert!(
            text["body"].as_str().is_some_and(|body| body.contains(kept["mask"].as_str().expect("a mask")))
        );
    }
}
