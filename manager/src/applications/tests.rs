//! Forms through the router, as the people who file and sign them, on both databases.

use axum::http::Method;
use serde_json::{Value, json};
use sqlx::Row as _;

use super::apply_due;
use crate::config::{Config, CredentialRecipients};
use crate::testing::{Answer, Caller, World};

/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;
const FORMS: &str = "/api/v1/applications";

/// A world with those who take part in a form, a client, two APIs and two levels of approval.
struct Stage {
    world: World,
    admin: Caller,
    anna: Caller,
    rita: Caller,
    ralph: Caller,
    client: String,
    apis: [String; 2],
}

impl Stage {
    async fn both() -> Vec<Self> {
        Self::both_with(|_| {}).await
    }

    async fn both_with(adjust: impl Fn(&mut Config)) -> Vec<Self> {
        let mut stages = Vec::new();
        for world in World::both_with(adjust).await {
            let stage = Self::set(world).await;
            for kind in ["KA", "KU", "KR"] {
                stage.flow(kind, json!([["reviewer_1"], ["reviewer_2"]])).await;
            }
            stages.push(stage);
        }
        stages
    }

    /// Without any flow.
    async fn set(world: World) -> Self {
        let admin = world.operator("ann", &["admin"]).await;
        let anna = world.operator("anna", &["applicant"]).await;
        let rita = world.operator("rita", &["reviewer_1"]).await;
        let ralph = world.operator("ralph", &["reviewer_2"]).await;
        let client = client(&admin, "acme").await;
        let apis = [api(&admin, "orders").await, api(&admin, "invoices").await];
        Self { world, admin, anna, rita, ralph, client, apis }
    }

    async fn flow(&self, kind: &str, levels: Value) {
        let path = format!("/api/v1/approval-flows/{kind}");
        self.admin.put(&path, json!({ "levels": levels })).await.expect(200);
    }

    /// An application as it should be, from today to the end of the year.
    fn form(&self) -> Value {
        json!({
            "type": "KA",
            "client": self.client,
            "name": "orders key",
            "effective_date": "2026-01-15",
            "expiry_date": "2026-12-31",
            "quota": 1000,
            "description": "to order",
            "apis": [self.apis[0]],
        })
    }

    async fn draft(&self, form: Value) -> String {
        let saved = self.anna.post(FORMS, form).await.expect(201);
        saved["id"].as_str().expect("an id").to_owned()
    }

    async fn submitted(&self, form: Value) -> String {
        let id = self.draft(form).await;
        self.act(&self.anna, &id, "submit").await.expect(200);
        id
    }

    /// A key that went through both levels.
    async fn key(&self) -> String {
        let id = self.submitted(self.form()).await;
        self.act(&self.rita, &id, "approve").await.expect(200);
        let approved = self.act(&self.ralph, &id, "approve").await.expect(200);
        approved["key"].as_str().expect("a key").to_owned()
    }

    /// Takes an action on the version that is there.
    async fn act(&self, who: &Caller, id: &str, action: &str) -> Answer {
        let seen = self.admin.get(&path(id, "")).await.header("etag").expect("a version").to_owned();
        self.act_on(who, id, action, &seen, "").await
    }

    async fn act_on(&self, who: &Caller, id: &str, action: &str, seen: &str, comment: &str) -> Answer {
        let body = (!action.ends_with("submit")).then(|| json!({ "comment": comment }));
        who.send(Method::POST, &path(id, action), &[("if-match", seen)], body).await
    }

    async fn read(&self, id: &str) -> Value {
        self.admin.get(&path(id, "")).await.expect(200)
    }

    async fn count(&self, sql: &'static str) -> i64 {
        let mut read = self.world.app.db.read().await.expect("a connection");
        let row = sqlx::query(sql).fetch_one(&mut *read).await.expect("a count");
        row.try_get(0).expect("a number")
    }

    /// Recipient, template and earliest instant of every mail, oldest first.
    async fn mails(&self) -> Vec<(String, String, i64)> {
        let mut read = self.world.app.db.read().await.expect("a connection");
        // That the client was created it was told before the story begins.
        let sql = "SELECT recipient, template, next_attempt_at FROM mails WHERE template <> 'client_created'
                    ORDER BY created_at, template, recipient";
        let rows = sqlx::query(sql).fetch_all(&mut *read).await.expect("mails");
        let column = |row: &sqlx::any::AnyRow| {
            Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        };
        rows.iter().map(|row| column(row).expect("a mail")).collect()
    }
}

async fn client(admin: &Caller, name: &str) -> String {
    let body = json!({
        "id": name, "name": name, "display_name": name, "note": "Ann", "emails": format!("{name}@example.com"),
        "password": "secret-1", "password_confirmation": "secret-1",
    });
    let made = admin.post("/api/v1/clients", body).await.expect(201);
    made["id"].as_str().expect("an id").to_owned()
}

async fn api(admin: &Caller, name: &str) -> String {
    let body = json!({
        "module": "shop", "id": name, "name": name, "path": { "exact": format!("/{name}") }, "accepts": ["dgrk"],
    });
    let made = admin.post("/api/v1/apis", body).await.expect(201);
    made["uid"].as_str().expect("a uid").to_owned()
}

fn path(id: &str, action: &str) -> String {
    if action.is_empty() { format!("{FORMS}/{id}") } else { format!("{FORMS}/{id}/{action}") }
}

fn with(mut form: Value, field: &str, value: Value) -> Value {
    form[field] = value;
    form
}

fn without(mut form: Value, field: &str) -> Value {
    form.as_object_mut().expect("an object").remove(field);
    form
}

#[tokio::test]
async fn a_form_passes_two_levels_and_becomes_a_key() {
    for stage in Stage::both().await {
        let draft = stage.anna.post(FORMS, stage.form()).await.expect(201);
        assert_eq!((&draft["state"], &draft["number"]), (&json!("draft"), &Value::Null));
        assert!(stage.mails().await.is_empty(), "nobody is told of a draft");
        let id = draft["id"].as_str().expect("an id").to_owned();

        stage.world.advance_ms(1_000);
        let submitted = stage.act(&stage.anna, &id, "submit").await.expect(200);
        assert_eq!(submitted["number"], "KA-20260115-0001");
        assert_eq!(submitted["status"], "Pending order (level 1 of 2)");
        let told: Vec<_> = stage.mails().await.into_iter().map(|mail| mail.0).collect();
        assert_eq!(told, ["anna@example.com", "rita@example.com"]);

        stage.world.advance_ms(1_000);
        let seen = stage.anna.get(&path(&id, "")).await;
        let seen = seen.header("etag").expect("a version");
        let first = stage.act_on(&stage.rita, &id, "approve", seen, "fine with me").await.expect(200);
        assert_eq!((&first["state"], &first["level"]), (&json!("pending_order"), &json!(2)));
        let told: Vec<_> = stage.mails().await.into_iter().skip(2).map(|mail| mail.0).collect();
        assert_eq!(told, ["anna@example.com", "ralph@example.com"]);
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 0, "one signature is not enough");

        stage.world.advance_ms(1_000);
        let approved = stage.act(&stage.ralph, &id, "approve").await.expect(200);
        assert_eq!((&approved["state"], &approved["effect"]["state"]), (&json!("approved"), &json!("done")));
        let key = approved["key"].as_str().expect("the key's id");
        let key = stage.admin.get(&format!("/api/v1/keys/{key}")).await.expect(200);
        assert_eq!(key["client"], json!(stage.client));
        let now = stage.world.app.now().0;
        let mails = stage.mails().await;
        assert_eq!(
            mails[4..],
            [
                ("anna@example.com".into(), "application_result".into(), now),
                ("acme@example.com".into(), "key_credentials".into(), now + 600_000),
            ]
        );

        let detail = stage.anna.get(&path(&id, "")).await.expect(200);
        let steps: Vec<_> = detail["history"]
            .as_array()
            .expect("a history")
            .iter()
            .map(|step| (&step["action"], &step["actor"], &step["level"], &step["comment"], &step["state"]))
            .map(|step| serde_json::to_value(step).expect("JSON"))
            .collect();
        let (anna, rita, ralph) = (&stage.anna.id, &stage.rita.id, &stage.ralph.id);
        assert_eq!(
            steps,
            [
                json!(["save", anna, null, "", "draft"]),
                json!(["submit", anna, null, "", "pending_order"]),
                json!(["approve", rita, 1, "fine with me", "pending_order"]),
                json!(["approve", ralph, 2, "", "approved"]),
            ]
        );
        assert_eq!(detail["actions"], json!([]));
    }
}

#[tokio::test]
async fn numbers_count_by_day_of_the_zone_and_deleted_drafts_leave_no_gap() {
    for stage in Stage::both_with(|config| config.time_zone = "Asia/Taipei".into()).await {
        let numbered = async |form: Value| {
            let id = stage.submitted(form).await;
            stage.read(&id).await["number"].as_str().expect("a number").to_owned()
        };
        assert_eq!(numbered(stage.form()).await, "KA-20260115-0001");
        let gone = stage.draft(stage.form()).await;
        assert_eq!(stage.anna.delete(&path(&gone, "")).await.status, 204);
        stage.anna.get(&path(&gone, "")).await.problem(404, "not_found");
        assert_eq!(numbered(stage.form()).await, "KA-20260115-0002");
        // 23:59:59.999 in Taipei, then midnight.
        stage.world.advance_ms(16 * 3_600_000 - 1);
        assert_eq!(numbered(stage.form()).await, "KA-20260115-0003");
        stage.world.advance_ms(1);
        let tomorrow = with(stage.form(), "effective_date", json!("2026-01-16"));
        assert_eq!(numbered(tomorrow).await, "KA-20260116-0001");
    }
}

#[tokio::test]
async fn forms_submitted_at_the_same_moment_get_numbers_of_their_own() {
    for stage in Stage::both().await {
        let mut ids = Vec::new();
        for _ in 0..6 {
            ids.push(stage.draft(stage.form()).await);
        }
        let submit = |id: &String| {
            let (anna, path) = (stage.anna.clone(), path(id, "submit"));
            tokio::spawn(async move { anna.send(Method::POST, &path, &[], None).await.expect(200) })
        };
        let racing: Vec<_> = ids.iter().map(submit).collect();
        let mut numbers = Vec::new();
        for race in racing {
            let form = race.await.expect("no panic");
            numbers.push(form["number"].as_str().expect("a number").to_owned());
        }
        numbers.sort();
        let expected: Vec<_> = (1..=6).map(|n| format!("KA-20260115-{n:04}")).collect();
        assert_eq!(numbers, expected);
    }
}

#[tokio::test]
async fn a_returned_form_is_edited_and_starts_again_at_level_one() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        let returned = stage.act(&stage.ralph, &id, "return").await.expect(200);
        assert_eq!((&returned["state"], &returned["level"]), (&json!("returned"), &json!(2)));
        stage.act(&stage.anna, &id, "submit").await.problem(409, "wrong_state");

        let edited = with(without(stage.form(), "type"), "quota", json!(5));
        let edited = stage.anna.put(&path(&id, ""), edited).await.expect(200);
        assert_eq!((&edited["state"], &edited["quota"]), (&json!("returned"), &json!(5)));

        let again = stage.act(&stage.anna, &id, "resubmit").await.expect(200);
        assert_eq!(again["number"], "KA-20260115-0001", "the number is kept");
        assert_eq!((&again["state"], &again["level"]), (&json!("pending_order"), &json!(1)));
        let rejected = stage.act(&stage.rita, &id, "reject").await.expect(200);
        assert_eq!(rejected["state"], "rejected");
        for action in ["edit", "resubmit", "withdraw", "approve"] {
            let (who, answer) = match action {
                "edit" => ("anna", stage.anna.put(&path(&id, ""), without(stage.form(), "type")).await),
                "approve" => ("rita", stage.act(&stage.rita, &id, action).await),
                _ => ("anna", stage.act(&stage.anna, &id, action).await),
            };
            let problem = answer.problem(409, "wrong_state");
            let detail = problem["detail"].as_str().expect("a detail");
            assert!(detail.contains("rita: reject at level 1"), "{who} {action}: {detail}");
        }
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 0);
    }
}

#[tokio::test]
async fn applicants_withdraw_until_a_reviewer_has_signed() {
    for stage in Stage::both().await {
        let draft = stage.draft(stage.form()).await;
        let cancelled = stage.act(&stage.anna, &draft, "withdraw").await.expect(200);
        assert_eq!(cancelled["state"], "cancelled");

        let waiting = stage.submitted(stage.form()).await;
        stage.act(&stage.rita, &waiting, "withdraw").await.problem(403, "forbidden");
        stage.act(&stage.anna, &waiting, "withdraw").await.expect(200);
        stage.act(&stage.rita, &waiting, "approve").await.problem(409, "wrong_state");

        let signed = stage.submitted(stage.form()).await;
        stage.act(&stage.rita, &signed, "approve").await.expect(200);
        stage.act(&stage.anna, &signed, "withdraw").await.problem(409, "already_reviewed");
        stage.act(&stage.ralph, &signed, "return").await.expect(200);
        stage.act(&stage.anna, &signed, "withdraw").await.expect(200);
    }
}

#[tokio::test]
async fn a_form_with_a_wrong_field_is_refused_by_name_and_not_kept() {
    for stage in Stage::both().await {
        let form = stage.form();
        let table = [
            (without(form.clone(), "type"), 422, "type"),
            (with(form.clone(), "type", json!("KX")), 422, "type"),
            (without(form.clone(), "client"), 422, "client"),
            (with(form.clone(), "client", json!("nobody")), 422, "client"),
            (with(form.clone(), "key", json!("key_1")), 422, "key"),
            (without(form.clone(), "name"), 422, "name"),
            (with(form.clone(), "name", json!("x".repeat(256))), 422, "name"),
            (with(form.clone(), "name", json!(7)), 422, "name"),
            (with(form.clone(), "effective_date", json!("2026-01-14")), 422, "effective_date"),
            (with(form.clone(), "effective_date", json!("15.01.2026")), 422, "effective_date"),
            (with(form.clone(), "expiry_date", json!("2026-01-14")), 422, "expiry_date"),
            (with(form.clone(), "quota", json!(0)), 422, "quota"),
            (with(form.clone(), "quota", json!(-2)), 422, "quota"),
            (with(form.clone(), "quota", json!(2_147_483_648_i64)), 422, "quota"),
            (with(form.clone(), "quota", json!("many")), 422, "quota"),
            (with(form.clone(), "description", json!("")), 422, "description"),
            (with(form.clone(), "description", json!("x".repeat(501))), 422, "description"),
            (with(form.clone(), "apis", json!([])), 422, "apis"),
            (with(form.clone(), "apis", json!(["nothing"])), 422, "apis"),
            (with(form.clone(), "apis", json!([stage.apis[0], stage.apis[0]])), 422, "apis"),
            (with(form.clone(), "colour", json!("red")), 422, "colour"),
        ];
        for (body, status, field) in table {
            let answer = stage.anna.post(FORMS, body.clone()).await;
            assert_eq!(answer.status, status, "{body}: {:#}", answer.body);
            answer.refuses(field);
        }
        assert_eq!(stage.count("SELECT COUNT(*) FROM applications").await, 0);
        assert_eq!(stage.count("SELECT COUNT(*) FROM application_apis").await, 0);
        for kind in ["KU", "KR"] {
            let body =
                json!({"type": kind, "key": "key_1", "effective_date": "2026-01-15", "description": "x"});
            stage.anna.post(FORMS, body).await.refuses("key");
        }
        let far = with(form, "expiry_date", json!("9999-12-31"));
        stage.anna.post(FORMS, far).await.expect(201);
    }
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
async fn without_a_flow_a_form_cannot_be_submitted_and_stays_a_draft() {
    for world in World::both().await {
        let stage = Stage::set(world).await;
        let id = stage.draft(stage.form()).await;
        let problem = stage.act(&stage.anna, &id, "submit").await.problem(409, "no_approval_flow");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("PUT /api/v1/approval-flows/KA"), "{detail}");
        let draft = stage.read(&id).await;
        assert_eq!((&draft["state"], &draft["number"]), (&json!("draft"), &Value::Null));
        stage.flow("KA", json!([["reviewer_1"]])).await;
        let submitted = stage.act(&stage.anna, &id, "submit").await.expect(200);
        assert_eq!(submitted["number"], "KA-20260115-0001", "the refusal drew no number");
    }
}

#[tokio::test]
async fn the_number_of_levels_is_that_of_submission_and_roles_are_those_of_signing() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        stage.flow("KA", json!([["reviewer_2"]])).await;
        stage.act(&stage.rita, &id, "approve").await.problem(403, "forbidden");
        let first = stage.act(&stage.ralph, &id, "approve").await.expect(200);
        assert_eq!((&first["level"], &first["levels"]), (&json!(2), &json!(2)));
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        assert_eq!(stage.read(&id).await["state"], "approved");
    }
}

#[tokio::test]
async fn applicants_do_not_sign_their_own_forms_unless_the_installation_lets_them() {
    for allowed in [false, true] {
        for mut stage in Stage::both_with(|config| config.allow_self_approval = allowed).await {
            stage.anna = stage.world.operator("both", &["applicant", "reviewer_1"]).await;
            let id = stage.submitted(stage.form()).await;
            let own = stage.anna.get(&path(&id, "")).await.expect(200);
            let offered = own["actions"].as_array().expect("a list").contains(&json!("approve"));
            assert_eq!(offered, allowed);
            let answer = stage.act(&stage.anna, &id, "approve").await;
            if allowed {
                answer.expect(200);
            } else {
                answer.problem(403, "self_approval");
                stage.act(&stage.rita, &id, "approve").await.expect(200);
            }
        }
    }
}

#[tokio::test]
async fn two_reviewers_at_the_same_moment_issue_one_key() {
    for stage in Stage::both().await {
        let other = stage.world.operator("roger", &["reviewer_2"]).await;
        for round in 1..=5 {
            let id = stage.submitted(stage.form()).await;
            stage.act(&stage.rita, &id, "approve").await.expect(200);
            let (one, two) = tokio::join!(
                stage.act_on(&stage.ralph, &id, "approve", "\"3\"", "one"),
                stage.act_on(&other, &id, "approve", "\"3\"", "two"),
            );
            let (won, lost) = if one.status == 200 { (one, two) } else { (two, one) };
            won.expect(200);
            let problem = lost.problem(409, "wrong_state");
            let detail = problem["detail"].as_str().expect("a detail");
            assert!(detail.contains("approve at level 2"), "{detail}");
            let keys = stage.count("SELECT COUNT(*) FROM keys").await;
            assert_eq!(keys, round, "one key per form");
            let mails = stage.count("SELECT COUNT(*) FROM mails WHERE template = 'key_credentials'").await;
            assert_eq!(mails, round, "one mail per key");
        }
    }
}

#[tokio::test]
async fn a_repeated_or_late_signature_says_what_happened() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        stage.act_on(&stage.rita, &id, "approve", "\"2\"", "").await.expect(200);
        let late = stage.act_on(&stage.rita, &id, "approve", "\"2\"", "").await;
        let problem = late.problem(412, "version_mismatch");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("rita: approve at level 1"), "{detail}");
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        let repeated = stage.act_on(&stage.ralph, &id, "approve", "\"3\"", "").await;
        let problem = repeated.problem(409, "wrong_state");
        assert!(problem["detail"].as_str().expect("a detail").contains("ralph: approve at level 2"));
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 1);
    }
}

#[tokio::test]
async fn a_crash_before_the_commit_leaves_nothing() {
    for stage in Stage::both().await {
        let id = stage.submitted(stage.form()).await;
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        let before = (stage.read(&id).await, stage.mails().await);
        let trail = stage.count("SELECT COUNT(*) FROM audit_entries").await;
        // By the time the history is written, the key, its mail and the form's state are.
        stage.world.sql("ALTER TABLE application_history RENAME TO away").await;
        stage.act_on(&stage.ralph, &id, "approve", "\"3\"", "").await.problem(500, "internal");
        stage.world.sql("ALTER TABLE away RENAME TO application_history").await;
        assert_eq!(stage.count("SELECT COUNT(*) FROM audit_entries").await, trail);
        assert_eq!(stage.count("SELECT COUNT(*) FROM key_secrets").await, 0);
        assert_eq!((stage.read(&id).await, stage.mails().await), before);
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 0);
        stage.act_on(&stage.ralph, &id, "approve", "\"3\"", "").await.expect(200);
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 1);
    }
}

#[tokio::test]
async fn the_world_is_asked_again_at_submission_and_at_each_signature() {
    for stage in Stage::both().await {
        let soon = with(stage.form(), "expiry_date", json!("2026-01-16"));
        let draft = stage.draft(soon.clone()).await;
        let waiting = stage.submitted(soon.clone()).await;
        let signed = stage.submitted(soon).await;
        stage.act(&stage.rita, &signed, "approve").await.expect(200);

        stage.world.advance_ms(DAY_MS);
        stage.act(&stage.anna, &draft, "submit").await.refuses("effective_date");
        // Passed during the review: no error.
        stage.act(&stage.rita, &waiting, "approve").await.expect(200);

        stage.world.advance_ms(DAY_MS);
        stage.act(&stage.ralph, &waiting, "approve").await.refuses("expiry_date");
        stage.act(&stage.ralph, &signed, "approve").await.refuses("expiry_date");
        assert_eq!(stage.read(&signed).await["state"], "pending_order");
        stage.act(&stage.ralph, &signed, "reject").await.expect(200);
    }
}

#[tokio::test]
async fn a_client_switched_off_and_an_api_taken_away_stop_a_form() {
    for stage in Stage::both().await {
        let switch = async |status: &str| {
            let path = format!("/api/v1/clients/{}", stage.client);
            stage.admin.patch(&path, json!({ "status": status })).await.expect(200);
        };
        let draft = stage.draft(stage.form()).await;
        let waiting = stage.submitted(with(stage.form(), "apis", json!([stage.apis[1]]))).await;
        switch("disabled").await;
        stage.act(&stage.anna, &draft, "submit").await.refuses("client");
        stage.act(&stage.rita, &waiting, "approve").await.refuses("client");
        stage.anna.post(FORMS, stage.form()).await.refuses("client");
        switch("active").await;
        stage.act(&stage.rita, &waiting, "approve").await.expect(200);
        stage.admin.delete(&format!("/api/v1/apis/{}", stage.apis[1])).await;
        stage.act(&stage.ralph, &waiting, "approve").await.refuses("apis");
        // Sent back, it can be put right.
        stage.act(&stage.ralph, &waiting, "return").await.expect(200);
        stage.anna.put(&path(&waiting, ""), without(stage.form(), "type")).await.expect(200);
        stage.act(&stage.anna, &waiting, "resubmit").await.expect(200);
    }
}

#[tokio::test]
async fn credentials_go_where_the_setting_says_and_nowhere_else() {
    use CredentialRecipients::{Applicant, Both, Client};
    let acme = "acme@example.com";
    let anna = "anna@example.com";
    for (setting, expected) in [(Client, vec![acme]), (Applicant, vec![anna]), (Both, vec![acme, anna])] {
        for stage in Stage::both_with(|config| config.credential_recipients = setting).await {
            stage.key().await;
            let mails = stage.mails().await;
            let credentials = mails.iter().filter(|mail| mail.1 == "key_credentials");
            assert_eq!(credentials.map(|mail| mail.0.as_str()).collect::<Vec<_>>(), expected);
            let mute = json!({ "emails": null });
            stage.admin.patch(&format!("/api/v1/clients/{}", stage.client), mute).await.expect(200);
            let answer = stage.anna.post(FORMS, stage.form()).await;
            match setting {
                Client | Both => drop(answer.refuses("client")),
                Applicant => drop(answer.expect(201)),
            }
        }
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

#[tokio::test]
async fn a_change_of_today_changes_the_key_at_once() {
    for stage in Stage::both().await {
        let key = stage.key().await;
        let form = json!({
            "type": "KU", "key": key, "name": "new name", "effective_date": "2026-01-15",
            "expiry_date": "2027-01-31", "quota": -1, "description": "more", "apis": [stage.apis[1]],
        });
        let id = stage.submitted(form).await;
        assert_eq!(stage.read(&id).await["number"], "KU-20260115-0001");
        assert_eq!(stage.read(&id).await["client"], json!(stage.client));
        let unchanged = stage.admin.get(&format!("/api/v1/keys/{key}")).await.expect(200);
        assert_eq!(unchanged["name"], "orders key", "nothing changes before the last signature");
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        let approved = stage.act(&stage.ralph, &id, "approve").await.expect(200);
        assert_eq!(approved["effect"]["state"], "done");
        let changed = stage.admin.get(&format!("/api/v1/keys/{key}")).await.expect(200);
        assert_eq!(changed["name"], "new name");
        assert_eq!(changed["apis"], json!([stage.apis[1]]));
        assert_eq!(stage.count("SELECT COUNT(*) FROM keys").await, 1);
    }
}

#[tokio::test]
async fn a_revocation_of_tomorrow_waits_is_made_once_and_can_be_stopped() {
    for stage in Stage::both().await {
        let form = |key: &str| json!({"type": "KR", "key": key, "effective_date": "2026-01-16", "description": "no longer used"});
        let state = async |key: &str| {
            stage.admin.get(&format!("/api/v1/keys/{key}")).await.expect(200)["state"].clone()
        };
        let approved = async |key: &str| {
            let id = stage.submitted(form(key)).await;
            stage.act(&stage.rita, &id, "approve").await.expect(200);
            let approved = stage.act(&stage.ralph, &id, "approve").await.expect(200);
            assert_eq!(
                approved["effect"],
                json!({
                    "state": "scheduled", "at": World::START.0 + DAY_MS, "reason": null,
                })
            );
            id
        };
        let (ends, stays) = (stage.key().await, stage.key().await);
        let (made, stopped) = (approved(&ends).await, approved(&stays).await);

        // It still holds its key.
        let second = stage.anna.post(FORMS, form(&ends)).await.refuses("key");
        assert!(second["detail"].as_str().expect("a detail").contains("KR-20260115-0001"));

        let stranger = stage.world.operator("arthur", &["applicant"]).await;
        stage.act(&stranger, &stopped, "stop").await.problem(404, "not_found");
        stage.act(&stage.rita, &stopped, "stop").await.problem(403, "forbidden");
        let after = stage.act(&stage.anna, &stopped, "stop").await.expect(200);
        assert_eq!(after["effect"]["state"], "stopped");

        stage.world.advance_ms(DAY_MS - 1);
        assert_eq!(apply_due(&stage.world.app).await.expect("a run"), 0);
        assert_eq!(state(&ends).await, "active");
        stage.world.advance_ms(1);
        let (one, two) = tokio::join!(apply_due(&stage.world.app), apply_due(&stage.world.app));
        assert_eq!(one.expect("a run") + two.expect("a run"), 1, "exactly once");
        assert_eq!(state(&ends).await, "revoked");
        assert_eq!(state(&stays).await, "active");
        assert_eq!(stage.read(&made).await["effect"]["state"], "done");
        stage.act(&stage.anna, &made, "stop").await.problem(409, "wrong_state");
        stage.anna.post(FORMS, form(&ends)).await.refuses("key");
    }
}

#[tokio::test]
async fn a_scheduled_change_of_a_key_that_was_revoked_meanwhile_says_so() {
    for stage in Stage::both().await {
        let key = stage.key().await;
        let form = json!({
            "type": "KU", "key": key, "name": "new name", "effective_date": "2026-01-16",
            "expiry_date": "2027-01-31", "quota": -1, "description": "more", "apis": [stage.apis[1]],
        });
        let id = stage.submitted(form).await;
        stage.act(&stage.rita, &id, "approve").await.expect(200);
        stage.act(&stage.ralph, &id, "approve").await.expect(200);
        stage.admin.post(&format!("/api/v1/keys/{key}/revoke"), json!({})).await.expect(200);
        stage.world.advance_ms(DAY_MS);
        assert_eq!(apply_due(&stage.world.app).await.expect("a run"), 1);
        let form = stage.read(&id).await;
        assert_eq!(form["effect"]["state"], "failed");
        assert!(form["effect"]["reason"].as_str().expect("a reason").contains("has been revoked"));
        let changed = stage.admin.get(&format!("/api/v1/keys/{key}")).await.expect(200);
        assert_eq!(changed["name"], "orders key");
    }
}

#[tokio::test]
async fn one_change_or_revoke_form_at_a_time_holds_a_key() {
    for stage in Stage::both().await {
        let key = stage.key().await;
        let form = json!({"type": "KR", "key": key, "effective_date": "2026-01-15", "description": "x"});
        let (first, second) = (stage.draft(form.clone()).await, stage.draft(form.clone()).await);
        let (one, two) =
            tokio::join!(stage.act(&stage.anna, &first, "submit"), stage.act(&stage.anna, &second, "submit"));
        let (won, lost) = if one.status == 200 { (first, two) } else { (second, one) };
        lost.refuses("key");
        stage.act(&stage.anna, &won, "withdraw").await.expect(200);
        stage.submitted(form).await;
    }
}
