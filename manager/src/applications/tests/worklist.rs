//! Who sees which forms.

use super::*;

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
