//! Who sees which forms.

use std::collections::BTreeSet;

use super::super::applicant::Applicant;
use super::super::worklist::{Filter, MAX_EXAMINED, Place, Scope, list_statement};
use super::*;
use crate::db::Dialect;
use crate::search::Words;

fn ids(page: &Value) -> Vec<&str> {
    page["items"].as_array().expect("a list").iter().map(|item| item["id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn bad_lists_and_comments_are_refused_by_name() {
    for stage in Stage::both().await {
        for (query, field) in [
            ("view=theirs", "view"),
            ("state=open", "state"),
            ("type=ka", "type"),
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("cursor=!", "cursor"),
            ("cursor=bm9uZQ", "cursor"),
            ("colour=red", "colour"),
        ] {
            stage.anna.get(&format!("{FORMS}?{query}")).await.refuses(field);
        }
        let id = stage.submitted(stage.form()).await;
        let long = "x".repeat(501);
        stage.act_on(&stage.rita, &id, "return", "\"2\"", &long).await.refuses("comment");
        stage.act_on(&stage.rita, &id, "approve", "2", "").await.refuses("If-Match");
        let unseen = stage.rita.post(&path(&id, "approve"), json!({})).await;
        unseen.problem(428, "version_required");
        assert_eq!(stage.read(&id).await["version"], json!(2));
    }
}

#[tokio::test]
async fn forms_are_seen_by_those_concerned() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        let stranger = stage.world.operator("arthur", &["applicant"]).await;
        stranger.get(&path(&id, "")).await.problem(404, "not_found");
        stage.act(&stranger, &id, "withdraw").await.problem(404, "not_found");
        stage.world.anon().get(&path(&id, "")).await.problem(401, "unauthenticated");
        let offered = async |who: &Caller| who.get(&path(&id, "")).await.expect(200)["actions"].clone();
        assert_eq!(offered(&stage.anna).await, json!(["withdraw"]));
        assert_eq!(offered(&stage.rita).await, json!(["approve", "return", "reject"]));
        assert_eq!(offered(&stage.ralph).await, json!([]));

        let listed = async |who: &Caller, query: &str| {
            let page = who.get(&format!("{FORMS}{query}")).await.expect(200);
            page["items"].as_array().expect("a list").len()
        };
        for (who, query, count) in [
            (&stranger, "", 0),
            (&stage.anna, "", 1),
            (&stage.anna, "?view=mine", 1),
            (&stage.anna, "?view=waiting-for-me", 0),
            (&stage.rita, "?view=waiting-for-me", 1),
            (&stage.rita, "?view=mine", 0),
            (&stage.rita, "?view=reviewed", 0),
            (&stage.ralph, "?view=waiting-for-me", 0),
            (&stage.admin, "?state=pending_order&type=KA", 1),
            (&stage.admin, "?state=draft", 0),
            (&stage.admin, "?type=KU", 0),
            (&stage.admin, "?client=nobody", 0),
            (&stage.admin, "?keyword=ka-20260115", 1),
            (&stage.admin, "?keyword=ORDERS%20KEY", 1),
            (&stage.admin, "?keyword=%25", 0),
        ] {
            assert_eq!(listed(who, query).await, count, "{query}");
        }
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        assert_eq!(listed(&stage.rita, "?view=reviewed").await, 1);
        assert_eq!(listed(&stage.ralph, "?view=waiting-for-me").await, 1);
    }
}

#[tokio::test]
async fn lists_page_from_the_newest_to_the_oldest() {
    for stage in Stage::both().await {
        let mut ids = Vec::new();
        for n in 0..5 {
            // Two at the same instant: the id decides.
            stage.world.advance_ms(n % 2);
            ids.push(stage.draft(stage.form()).await);
        }
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = stage.anna.get(&format!("{FORMS}?limit=2{cursor}")).await.expect(200);
            let items = page["items"].as_array().expect("a list");
            found.extend(items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(found.first(), ids.iter().max_by_key(|id| (ids[3..].contains(id), id.as_str())));
        found.sort();
        ids.sort();
        assert_eq!(found, ids, "each form once");
    }
}

/// Asks everybody for `all` forms: a list holds those that one may see with what they themselves offer,
/// worklist and badges count those that one may sign. Returns what each may do, by name of the action.
async fn agree(all: &[&str], everybody: &[&Caller]) -> Vec<BTreeSet<String>> {
    let mut offered = Vec::new();
    for who in everybody {
        let listed = who.get(FORMS).await.expect(200);
        let (mut seen, mut signable, mut may) = (Vec::new(), Vec::new(), BTreeSet::new());
        for id in all.iter().copied() {
            let answer = who.get(&path(id, "")).await;
            let item = listed["items"].as_array().expect("a list").iter().find(|item| item["id"] == id);
            assert_eq!(item.is_some(), answer.status == 200, "{id} for {}", who.id);
            let Some(item) = item else { continue };
            seen.push(id);
            let actions = &answer.body["actions"];
            assert_eq!(&item["actions"], actions, "{id} for {}", who.id);
            if actions.as_array().expect("actions").iter().any(|action| action == "reject") {
                signable.push(id);
            }
            let names = actions.as_array().expect("actions").iter().filter_map(Value::as_str);
            may.extend(names.map(|name| format!("{name} {}", item["waiting_level"])));
        }
        let waiting = who.get(&format!("{FORMS}?view=waiting-for-me")).await.expect(200);
        assert_eq!(ids(&waiting), signable, "{}", who.id);
        let summary = who.get(&format!("{FORMS}/summary")).await.expect(200);
        assert_eq!(summary["waiting_for_me"]["count"], signable.len(), "{}", who.id);
        assert_eq!(ids(&listed), seen, "{}", who.id);
        offered.push(may);
    }
    offered
}

/// One form in every state that the router leads to, and everybody who has to do with forms; then again
/// with a delegate, and once the levels that wait were escalated.
#[tokio::test]
async fn a_list_offers_what_the_form_itself_offers() {
    for stage in Stage::both_with(|config| config.review_escalation_h = 24).await {
        let boss = stage.world.operator("boss", &["reviewer_1", "reviewer_2", "applicant"]).await;
        let stranger = stage.world.operator("arthur", &["applicant"]).await;
        let auditor = stage.world.operator("audrey", &["auditor"]).await;
        stage.draft(stage.form()).await;
        stage.submitted(stage.form()).await;
        for actions in [
            &["approve"][..],
            &["approve", "approve"],
            &["approve", "return"],
            &["approve", "reject"],
            &["return"],
            &["reject"],
        ] {
            let id = stage.submitted(stage.form()).await;
            for (who, action) in [&stage.rita, &stage.ralph].into_iter().zip(actions) {
                stage.act(who, &id, action).await.expect(200);
            }
        }
        let withdrawn = stage.submitted(stage.form()).await;
        stage.act(&stage.anna, &withdrawn, "withdraw").await.expect(200);
        // One of the reviewer's own, and a revocation that waits for its day.
        let own = boss.post(FORMS, stage.form()).await.expect(201);
        stage.act(&boss, own["id"].as_str().expect("an id"), "submit").await.expect(200);
        let key = stage.key().await;
        let revoke =
            json!({ "type": "KR", "key": key, "effective_date": "2026-02-01", "description": "over" });
        let scheduled = stage.submitted(revoke).await;
        stage.act(&stage.rita, &scheduled, "approve").await.expect(200);
        stage.act(&stage.ralph, &scheduled, "approve").await.expect(200);

        let all = stage.admin.get(FORMS).await.expect(200);
        assert_eq!(ids(&all).len(), 12);
        let everybody = [&stage.admin, &stage.anna, &stage.rita, &stage.ralph, &boss, &stranger, &auditor];
        agree(&ids(&all), &everybody).await;
        let reviewed = stage.rita.get(&format!("{FORMS}?view=reviewed")).await.expect(200);
        assert_eq!(ids(&reviewed).len(), 8);

        // A client's own among them; delegates without any permission, one of them of the applicant.
        let client = stage.world.client("globex").await;
        let filed = client.post("/client/v1/applications", without(stage.form(), "client")).await.expect(201);
        let of_client = format!("/client/v1/applications/{}", filed["id"].as_str().expect("an id"));
        client.send(Method::POST, &format!("{of_client}/submit"), &[], None).await.expect(200);
        let (della, hugo) =
            (stage.world.operator("della", &[]).await, stage.world.operator("hugo", &[]).await);
        for (of, delegate) in [(&stage.rita, &della), (&boss, &hugo)] {
            let leave = json!({ "delegate": delegate.id, "until": World::START.0 + 30 * DAY_MS });
            of.post("/api/v1/delegations", leave).await.expect(201);
        }
        let all = stage.admin.get(FORMS).await.expect(200);
        let everybody = [&everybody[..], &[&della, &hugo]].concat();
        let may = agree(&ids(&all), &everybody).await;
        let (of_ralph, of_della, of_admin) = (&may[3], &may[7], &may[0]);
        assert!(of_della.contains("approve 1") && !of_della.contains("approve 2"), "{of_della:?}");
        assert!(of_ralph.contains("approve 2") && !of_ralph.contains("approve 1"), "{of_ralph:?}");
        assert!(!of_admin.contains("approve 2"), "{of_admin:?}");

        // The first level goes to the second one's reviewers too, the last one to administrators.
        stage.world.advance_ms(DAY_MS);
        stage.world.run_due().await;
        let all = stage.admin.get(FORMS).await.expect(200);
        let may = agree(&ids(&all), &everybody).await;
        assert!(may[3].contains("approve 1") && may[0].contains("approve 2"), "{may:#?}");
    }
}

#[tokio::test]
async fn counts_tell_the_zone_of_dates() {
    for stage in Stage::both_with(|config| config.time_zone = "Asia/Taipei".into()).await {
        let summary = stage.anna.get(&format!("{FORMS}/summary")).await.expect(200);
        assert_eq!(summary["time_zone"], "Asia/Taipei");
    }
}

#[tokio::test]
async fn a_form_tells_what_all_on_it_are_called_also_when_it_has_ended() {
    for stage in Stage::both().await {
        for (who, name) in [(&stage.rita, "Rita of Reviews"), (&stage.anna, "Anna Applicant")] {
            let path = format!("/api/v1/operators/{}", who.id);
            stage.admin.patch(&path, json!({ "display_name": name })).await.expect(200);
        }
        let id = stage.submitted(stage.form()).await;
        stage.act(&stage.rita, &id, "reject").await.expect(200);
        let form = stage.rita.get(&path(&id, "")).await.expect(200);
        assert_eq!(
            (&form["applicant_name"], &form["client_name"], &form["review"]),
            (&json!("Anna Applicant"), &json!("acme"), &Value::Null)
        );
        assert_eq!(form["api_names"], json!([{ "uid": stage.apis[0], "name": "orders" }]));
        let actors: Vec<_> =
            form["history"].as_array().expect("steps").iter().map(|step| &step["actor_name"]).collect();
        assert_eq!(actors, ["Anna Applicant", "Anna Applicant", "Rita of Reviews"]);
    }
}

#[tokio::test]
async fn lists_are_narrowed_by_day_type_state_client_applicant_and_words() {
    for stage in Stage::both_with(|config| config.time_zone = "Asia/Taipei".into()).await {
        // 08:00 in Taipei.
        let globex = client(&stage.admin, "globex").await;
        let first = stage.submitted(stage.form()).await;
        stage.world.advance_ms(16 * 3_600_000 - 1);
        // The last millisecond of the day.
        let mut second = stage.form();
        second["client"] = globex.into();
        second["name"] = "Büro".into();
        let second = stage.draft(second).await;
        stage.world.advance_ms(1);
        let mut third = stage.form();
        third["effective_date"] = "2026-01-16".into();
        let third = stage.admin.post(FORMS, third).await.expect(201);
        let third = third["id"].as_str().expect("an id");
        let (first, second, by_id) =
            (first.as_str(), second.as_str(), format!("applicant={}", stage.admin.id));
        for (query, found) in [
            ("", vec![third, second, first]),
            ("from=2026-01-15&until=2026-01-15", vec![second, first]),
            ("from=2026-01-16", vec![third]),
            ("until=2026-01-14", vec![]),
            ("state=draft", vec![third, second]),
            ("state=draft,pending_order", vec![third, second, first]),
            ("type=KA,KU", vec![third, second, first]),
            ("type=KU,KR", vec![]),
            ("client=globex", vec![second]),
            ("applicant=anna", vec![second, first]),
            (&by_id, vec![third]),
            ("applicant=client:acme", vec![]),
            ("applicant=nobody", vec![]),
            ("keyword=b%C3%9CRO", vec![second]),
            ("keyword=globex%20order", vec![second]),
            ("keyword=globex%20acme", vec![]),
            ("keyword=order%20acme&state=pending_order", vec![first]),
        ] {
            let page = stage.admin.get(&format!("{FORMS}?{query}")).await.expect(200);
            assert_eq!(ids(&page), found, "{query}");
        }
        for (query, field) in [
            ("from=yesterday", "from"),
            ("from=2026-01-02&until=2026-01-01", "until"),
            ("applicant=robot:1", "applicant"),
        ] {
            stage.admin.get(&format!("{FORMS}?{query}")).await.refuses(field);
        }
    }
}

#[tokio::test]
async fn an_item_names_who_and_says_where_it_waits_since_when() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        let draft = stage.draft(stage.form()).await;
        stage.world.advance_ms(1_000);
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        stage.world.advance_ms(1_000);
        let page = stage.admin.get(&format!("{FORMS}?state=pending_order")).await.expect(200);
        let item = &page["items"][0];
        for (field, value) in [
            ("id", json!(id)),
            ("applicant_name", json!("anna")),
            ("client_name", json!("acme")),
            ("waiting_level", json!(2)),
            ("waiting_since", json!(World::START.0 + 1_000)),
        ] {
            assert_eq!(item[field], value, "{field}");
        }
        let summary = stage.ralph.get(&format!("{FORMS}/summary")).await.expect(200);
        let waiting = json!({ "count": 1, "more": false, "oldest_since": World::START.0 + 1_000 });
        assert_eq!(summary["waiting_for_me"], waiting);
        let summary = stage.anna.get(&format!("{FORMS}/summary")).await.expect(200);
        let mine = json!({ "draft": 1, "pending_order": 1, "returned": 0, "scheduled": 0, "open": 2 });
        assert_eq!(summary["mine"], mine);
        let page = stage.anna.get(&format!("{FORMS}?state=draft")).await.expect(200);
        assert_eq!((ids(&page), &page["items"][0]["waiting_level"]), (vec![draft.as_str()], &Value::Null));
    }
}

/// Among thousands of forms a page is read off an index, and what waits for others bounds it.
#[tokio::test]
async fn a_page_of_many_forms_is_bounded() {
    for stage in Stage::both().await {
        let mine = stage.submitted(stage.form()).await;
        let most = i64::try_from(MAX_EXAMINED).expect("small");
        // Newer ones, which wait at a level that rita does not sign, and many that are long done.
        stage.world.sql(&many("w", most, "pending_order", World::START.0 + 1_000)).await;
        stage.world.sql(&many("d", 20_000, "cancelled", World::START.0 - 100_000_000)).await;
        if stage.world.app.db.dialect() == Dialect::Postgres {
            stage.world.sql("ANALYZE applications").await;
        }
        let first = stage.rita.get(&format!("{FORMS}?view=waiting-for-me")).await.expect(200);
        assert_eq!(ids(&first), [""; 0]);
        let next = first["next"].as_str().expect("it goes on");
        let query = format!("{FORMS}?view=waiting-for-me&cursor={next}");
        let second = stage.rita.get(&query).await.expect(200);
        assert_eq!((ids(&second), &second["next"]), (vec![mine.as_str()], &Value::Null));
        let summary = stage.rita.get(&format!("{FORMS}/summary")).await.expect(200);
        let waiting = &summary["waiting_for_me"];
        assert_eq!((&waiting["count"], &waiting["more"]), (&json!(0), &json!(true)));

        let place = Place::parse(&format!("{} ap", World::START.0 - 50_000_000)).expect("a place");
        let who = Applicant::Operator("nobody".into());
        let bulk = gate::id::ClientId::from("bulk");
        let words = Words::parse(Some("bulk")).expect("a word");
        for (scope, filter, place) in [
            (Scope::All, Filter::default(), None),
            (Scope::All, Filter::default(), Some(&place)),
            (Scope::All, Filter { words, ..Filter::default() }, Some(&place)),
            (Scope::All, Filter { client: Some("bulk".into()), ..Filter::default() }, None),
            (Scope::Waiting, Filter::default(), None),
            (Scope::FiledBy(&who), Filter::default(), None),
            (Scope::About(&bulk), Filter::default(), Some(&place)),
        ] {
            let (sql, wanted) = list_statement(scope, &filter, place);
            let plan = stage.world.plan(&sql, wanted, 51).await;
            assert!(plan.contains("applications_by_"), "{scope:?} {filter:?}\n{plan}");
            assert!(!plan.contains("TEMP B-TREE") && !plan.contains("Sort"), "{scope:?} {filter:?}\n{plan}");
            assert!(!plan.contains("rows=20000"), "{scope:?} {filter:?}\n{plan}");
        }
    }
}

/// Forms `<letter>00001` … one second after each other.
fn many(letter: &str, count: i64, state: &str, from: i64) -> String {
    let (level, levels) = if state == "pending_order" { ("2", "2") } else { ("NULL", "NULL") };
    format!(
        "INSERT INTO applications (id, kind, applicant_kind, applicant, version, created_at, updated_at, client,
                                   name, effective_date, expiry_date, quota, description, search, state, level,
                                   levels, ended_at)
         WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
         SELECT '{letter}' || CAST(n AS TEXT), 'KA', 'operator', 'op_x', 1, {from} + n * 1000, {from}, 'bulk',
                'bulk', '2026-01-15', '2026-12-31', -1, 'bulk', 'bulk', '{state}', {level}, {levels}, {from}
           FROM numbers"
    )
}
