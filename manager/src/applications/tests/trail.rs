//! All that happened to a form.

use super::*;

#[tokio::test]
async fn a_trail_tells_each_round_with_its_mails_and_audit_entries() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        let act = async |who: &Caller, action: &str, comment: &str| {
            stage.world.advance_ms(1_000);
            let seen = stage.admin.get(&path(&id, "")).await.header("etag").expect("a version").to_owned();
            stage.act_on(who, &id, action, &seen, comment).await.expect(200);
        };
        act(&stage.rita, "approve", "").await;
        act(&stage.ralph, "return", "which orders?").await;
        act(&stage.anna, "resubmit", "").await;
        act(&stage.rita, "approve", "").await;

        let path = path(&id, "trail");
        let trail = stage.admin.get(&path).await.expect(200);
        let rounds: Vec<_> = trail["rounds"]
            .as_array()
            .expect("rounds")
            .iter()
            .flat_map(|round| {
                let levels = round["levels"].as_array().expect("levels").iter();
                levels.map(|level| {
                    let of = |field: &str| level[field].as_str().map(str::to_owned);
                    let by = level["by"]["name"].as_str().map(str::to_owned);
                    let waited = level["waited_ms"].as_i64();
                    (
                        round["round"].as_i64(),
                        level["level"].as_i64(),
                        of("result"),
                        by,
                        waited,
                        of("comment"),
                    )
                })
            })
            .collect();
        let text = |text: &str| Some(text.to_owned());
        let second = Some(1_000);
        assert_eq!(
            rounds,
            [
                (Some(1), Some(1), text("approve"), text("rita"), second, None),
                (Some(1), Some(2), text("return"), text("ralph"), second, text("which orders?")),
                (Some(2), Some(1), text("approve"), text("rita"), second, None),
                (Some(2), Some(2), None, None, None, None),
            ]
        );
        let of = |field: &str, key: &str| -> Vec<String> {
            let list = trail[field].as_array().expect("a list").iter();
            list.map(|item| item[key].as_str().expect("a text").to_owned()).collect()
        };
        let actions = ["save", "submit", "approve", "return", "resubmit", "approve"];
        assert_eq!(of("steps", "action"), actions);
        assert_eq!(of("audit", "action"), actions.map(|action| format!("applications.{action}")));
        assert!(of("mails", "recipient").contains(&"rita@example.com".to_owned()));
        assert!(of("mails", "state").iter().all(|state| state == "waiting"));

        // Who may see the form, but neither mails nor the audit trail.
        let seen = stage.anna.get(&path).await.expect(200);
        assert_eq!((&seen["mails"], &seen["audit"]), (&Value::Null, &Value::Null));
        assert_eq!(seen["rounds"], trail["rounds"]);
        let stranger = stage.world.operator("arthur", &["applicant"]).await;
        stranger.get(&path).await.problem(404, "not_found");
    }
}
