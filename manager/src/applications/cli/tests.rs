//! The commands against a manager that listens.

use clap::Parser;

use super::*;
use crate::testing::{Caller, World};

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    command: Command,
}

/// What a command printed, and how it ended.
async fn typed(url: &str, token: &str, words: &[&str]) -> (String, u8) {
    let fixed = ["applications", "--url", url, "--token", token];
    let typed = Typed::try_parse_from(fixed.iter().chain(words)).unwrap_or_else(|error| panic!("{error}"));
    let mut out = Vec::new();
    let ended = run(typed.command, &mut out).await.unwrap_or_else(|error| panic!("{error:#}"));
    let codes = [(0, ExitCode::SUCCESS), (1, ExitCode::FAILURE), (3, ExitCode::from(CHANGED))];
    let code = codes.into_iter().find(|(_, code)| *code == ended).expect("one that is documented").0;
    (String::from_utf8(out).expect("text"), code)
}

async fn made(admin: &Caller, path: &str, body: Value) -> Value {
    admin.post(path, body).await.expect(201)
}

/// Where an applicant and a reviewer of the only level have to do with forms for keys of one client.
struct Office {
    world: World,
    url: String,
    admin: Caller,
    anna: Caller,
    rita: Caller,
    form: Value,
}

impl Office {
    async fn both() -> Vec<Self> {
        let mut desks = Vec::new();
        for world in World::both().await {
            let admin = world.operator("ann", &["admin"]).await;
            let anna = world.operator("anna", &["applicant"]).await;
            let rita = world.operator("rita", &["reviewer_1"]).await;
            let flow = json!({ "levels": [["reviewer_1"]] });
            admin.put("/api/v1/approval-flows/KA", flow).await.expect(200);
            let client = json!({
                "id": "acme", "name": "acme", "display_name": "Acme", "note": "Ann", "emails": "a@example.com",
                "password": "secret-1", "password_confirmation": "secret-1",
            });
            made(&admin, "/api/v1/clients", client).await;
            let api =
                json!({ "module": "shop", "id": "orders", "path": { "exact": "/o" }, "accepts": ["dgrk"] });
            let api = made(&admin, "/api/v1/apis", api).await;
            let form = json!({
                "type": "KA", "client": "acme", "name": "k\u{e9}y", "effective_date": "2026-01-15",
                "expiry_date": "2026-12-31", "quota": 10, "description": "why", "apis": [api["uid"]],
            });
            let url = world.listening().await;
            desks.push(Self { world, url, admin, anna, rita, form });
        }
        desks
    }

    async fn draft(&self) -> String {
        let draft = made(&self.anna, "/api/v1/applications", self.form.clone()).await;
        draft["id"].as_str().expect("an id").to_owned()
    }

    async fn submitted(&self) -> String {
        let id = self.draft().await;
        self.typed(&self.anna, &["submit", &id]).await;
        id
    }

    async fn typed(&self, who: &Caller, words: &[&str]) -> (String, u8) {
        typed(&self.url, who.token(), words).await
    }

    /// Its state and what was said of it last, as the API tells it.
    async fn stands(&self, id: &str) -> (String, String) {
        let form = self.admin.get(&format!("/api/v1/applications/{id}")).await.expect(200);
        let step = form["history"].as_array().and_then(|steps| steps.last()).expect("a step");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (text(&form["state"]), text(&step["comment"]))
    }
}

#[tokio::test]
async fn a_form_is_submitted_and_signed_from_the_command_line_by_whom_the_token_says() {
    for desk in Office::both().await {
        let (id, anna, rita) = (desk.draft().await, &desk.anna, &desk.rita);
        let id = id.as_str();
        let (told, ended) = desk.typed(anna, &["submit", id]).await;
        assert!(ended == 0 && told.starts_with("KA-20260115-0001 is now: Pending order"), "{told}");
        let (told, _) = desk.typed(rita, &["list", "--view", "waiting-for-me"]).await;
        assert!(told.contains("KA-20260115-0001") && told.contains("approve, return, reject"), "{told}");
        let (told, _) = desk.typed(anna, &["list", "--state", "draft"]).await;
        assert_eq!(told, "no forms\n");
        let (told, _) = desk.typed(rita, &["show", "ka-20260115-0001"]).await;
        assert!(told.contains("version 2; you may: approve, return, reject"), "{told}");
        assert!(told.contains("pair to     a@example.com\n"), "{told}");
        // Four eyes hold: the applicant's token signs nothing.
        let (told, ended) = desk.typed(anna, &["approve", id, "--version", "2"]).await;
        assert!(ended == 1 && told.contains("(forbidden)"), "{told}");
        let (told, ended) =
            desk.typed(rita, &["approve", "KA-20260115-0001", "--version", "2", "--comment", "fine"]).await;
        assert!(ended == 0 && told.contains("is now: Approved"), "{told}");
        let (told, _) = desk.typed(anna, &["--json", "show", id]).await;
        let shown: Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(shown["history"][2]["comment"], "fine");
        let (told, _) = desk.typed(&desk.admin, &["history", "--client", "acme"]).await;
        assert!(told.contains("KA-20260115-0001 (rita)"), "{told}");
        let (_, ended) = typed(&desk.url, "kgo_wrong", &["list"]).await;
        assert_eq!(ended, 1);
    }
}

/// Each row: who types what with a form that waits as version 2, how it ends, what is told, and where the
/// form stands then with which comment.
#[tokio::test]
async fn forms_are_returned_rejected_and_withdrawn_from_the_command_line() {
    for desk in Office::both().await {
        let (anna, rita) = (&desk.anna, &desk.rita);
        let comment = ["--comment", "not so"];
        for (who, verb, version, ended, told, state, said) in [
            (rita, "return", Some("2"), 0, "is now: Returned", "returned", "not so"),
            (rita, "reject", Some("2"), 0, "is now: Rejected", "rejected", "not so"),
            (anna, "withdraw", None, 0, "is now: Cancelled", "cancelled", "not so"),
            (rita, "approve", Some("1"), 3, "(version_mismatch)", "pending_order", ""),
            (rita, "return", Some("1"), 3, "(version_mismatch)", "pending_order", ""),
            (rita, "reject", Some("1"), 3, "(version_mismatch)", "pending_order", ""),
            (anna, "return", Some("2"), 1, "(forbidden)", "pending_order", ""),
            (anna, "reject", Some("2"), 1, "(forbidden)", "pending_order", ""),
            (rita, "withdraw", None, 1, "(forbidden)", "pending_order", ""),
        ] {
            let id = desk.submitted().await;
            let version = version.into_iter().flat_map(|version| ["--version", version]);
            let words: Vec<_> = [verb, id.as_str()].into_iter().chain(version).chain(comment).collect();
            let answer = desk.typed(who, &words).await;
            assert!(answer.1 == ended && answer.0.contains(told), "{words:?}: {answer:?}");
            assert_eq!(desk.stands(&id).await, (state.to_owned(), said.to_owned()), "{words:?}");
        }
        // A returned form is handed in again with the same word, and a signed one is not withdrawn.
        let id = desk.submitted().await;
        desk.typed(rita, &["return", &id, "--version", "2"]).await;
        let (told, ended) = desk.typed(anna, &["submit", &id]).await;
        assert!(ended == 0 && told.contains("is now: Pending order"), "{told}");
        desk.typed(rita, &["approve", &id, "--version", "4"]).await;
        let (told, ended) = desk.typed(anna, &["withdraw", &id]).await;
        assert!(ended == 1 && told.contains("(wrong_state)"), "{told}");
        let (told, ended) = desk.typed(anna, &["--json", "withdraw", &id]).await;
        let told: Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!((ended, &told["code"]), (1, &json!("wrong_state")));
    }
}

#[tokio::test]
async fn a_form_is_shown_with_names_client_and_what_it_asks_for() {
    for desk in Office::both().await {
        let named = json!({ "display_name": "Anna Applicant" });
        desk.admin.patch(&format!("/api/v1/operators/{}", desk.anna.id), named).await.expect(200);
        let id = desk.submitted().await;
        let (told, _) = desk.typed(&desk.rita, &["show", &id]).await;
        for line in [
            "  filed by    Anna Applicant (op_",
            "  client is   active, may call from everywhere, security level ",
            "  addresses   a@example.com\n",
            "  submit by Anna Applicant (op_",
        ] {
            assert!(told.contains(line), "{line}: {told}");
        }
        assert!(!told.contains("quota        ->") && !told.contains(" -> "), "nothing was before: {told}");
        desk.typed(&desk.rita, &["reject", &id, "--version", "2"]).await;
        let (told, _) = desk.typed(&desk.rita, &["show", &id]).await;
        assert!(told.contains("  APIs        ") && told.contains("reject (level 1) by rita"), "{told}");

        let flow = json!({ "levels": [["reviewer_1"]] });
        desk.admin.put("/api/v1/approval-flows/CR", flow).await.expect(200);
        let form = json!({
            "type": "CR", "name": "globex", "display_name": "Globex Corporation", "emails": "ops@globex.example",
            "bindings": [{ "name": "office", "address": "203.0.113.0/24" }], "description": "to order",
        });
        let asked = made(&desk.anna, "/api/v1/applications", form).await;
        let id = asked["id"].as_str().expect("an id");
        desk.typed(&desk.anna, &["submit", id]).await;
        // Words of the command stand behind its verb, too.
        let (told, ended) = desk.typed(&desk.rita, &["show", id, "--url", &desk.url]).await;
        for line in [
            "  client      Globex Corporation\n",
            "  shown as    Globex Corporation\n",
            "  e-mails     ops@globex.example\n",
            "  bindings    office (203.0.113.0/24)\n",
        ] {
            assert!(ended == 0 && told.contains(line), "{line}: {told}");
        }
        let (told, _) = desk.typed(&desk.rita, &["show", id, "--json"]).await;
        assert!(serde_json::from_str::<Value>(&told).is_ok(), "{told}");
    }
}

#[tokio::test]
async fn long_names_are_cut_and_histories_come_as_a_table() {
    for desk in Office::both().await {
        let mut form = desk.form.clone();
        form["name"] = "n".repeat(255).into();
        let draft = made(&desk.anna, "/api/v1/applications", form).await;
        let id = draft["id"].as_str().expect("an id");
        let (told, _) = desk.typed(&desk.anna, &["list"]).await;
        let widest = told.lines().map(|line| line.chars().count()).max().expect("lines");
        assert!(widest < 220 && told.contains(&format!("{}\u{2026}", "n".repeat(39))), "{told}");
        desk.typed(&desk.anna, &["submit", id]).await;
        desk.typed(&desk.rita, &["approve", id, "--version", "2"]).await;
        let (told, ended) = desk.typed(&desk.admin, &["history", "--csv"]).await;
        assert!(ended == 0 && told.contains(&"n".repeat(255)) && told.lines().count() == 2, "{told}");
        let (told, ended) = desk.typed(&desk.anna, &["history", "--csv", "--status", "gone"]).await;
        assert!(ended == 1 && told.starts_with("refused: "), "{told}");
    }
}

#[test]
fn instants_are_printed_in_the_zone_of_the_installation() {
    let page = json!({ "items": [{ "id": "ap_1", "waiting_since": 1_768_435_200_000_i64 }], "next": null });
    for (zone, told) in
        [("Asia/Taipei", "2026-01-15 08:00:00 Asia/Taipei"), ("UTC", "2026-01-15 00:00:00 UTC")]
    {
        let list = print::list(&page, &TimeZone::get(zone).expect("a zone"));
        assert!(list.contains(told), "{list}");
    }
}

#[tokio::test]
async fn lists_are_paged_from_the_command_line() {
    for desk in Office::both().await {
        let mut drafts = Vec::new();
        for _ in 0..5 {
            drafts.push(desk.draft().await);
            desk.world.advance_ms(1);
        }
        drafts.reverse();
        let (mut found, mut sizes, mut cursor) = (Vec::new(), Vec::new(), None::<String>);
        loop {
            let mut words = vec!["list", "--view", "mine", "--limit", "2"];
            words.extend(cursor.iter().flat_map(|cursor| ["--cursor", cursor.as_str()]));
            let (told, ended) = desk.typed(&desk.anna, &words).await;
            assert_eq!(ended, 0, "{told}");
            let page: Vec<_> = told.split_whitespace().filter(|word| word.starts_with("ap_")).collect();
            sizes.push(page.len());
            found.extend(page.into_iter().map(str::to_owned));
            let last = told.lines().last().expect("a line");
            match last.strip_prefix("\u{2026} and more: --cursor ") {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        assert_eq!((found, sizes), (drafts, vec![2, 2, 1]));
        let (told, ended) = desk.typed(&desk.anna, &["list", "--limit", "201"]).await;
        assert!(ended == 1 && told.contains("limit"), "{told}");
        let (told, ended) = desk.typed(&desk.admin, &["history", "--limit", "1", "--cursor", "eA"]).await;
        assert!(ended == 1 && told.contains("cursor"), "{told}");
    }
}

#[test]
fn a_token_is_needed_and_not_sent_in_the_open() {
    for (words, said) in [
        (&["--url", "http://127.0.0.1:1", "list"][..], "KEYGATE_TOKEN is not set"),
        (&["--url", "http://keygate.example.com", "--token", "t", "list"], "is not TLS"),
        (&["--url", "ftp://127.0.0.1", "--token", "t", "list"], "neither https nor http"),
    ] {
        let typed = Typed::try_parse_from(std::iter::once(&"applications").chain(words)).expect("a command");
        let refused = typed.command.target.open().err().expect("refused").to_string();
        assert!(refused.contains(said), "{refused}");
    }
    assert!(Typed::try_parse_from(["applications", "approve", "KA-1"]).is_err(), "the version is said");
}
