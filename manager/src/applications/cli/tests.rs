//! The commands against a manager that listens.

use clap::Parser;

use super::*;
use crate::testing::{Caller, World};

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    command: Command,
}

/// What a command printed, and whether it ended well.
async fn typed(url: &str, token: &str, words: &[&str]) -> (String, bool) {
    let fixed = ["applications", "--url", url, "--token", token];
    let typed = Typed::try_parse_from(fixed.iter().chain(words)).unwrap_or_else(|error| panic!("{error}"));
    let mut out = Vec::new();
    let ended = run(typed.command, &mut out).await.unwrap_or_else(|error| panic!("{error:#}"));
    (String::from_utf8(out).expect("text"), ended == ExitCode::SUCCESS)
}

async fn made(admin: &Caller, path: &str, body: Value) -> Value {
    admin.post(path, body).await.expect(201)
}

#[tokio::test]
async fn a_form_is_submitted_and_signed_from_the_command_line_by_whom_the_token_says() {
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
        let api = json!({ "module": "shop", "id": "orders", "path": { "exact": "/o" }, "accepts": ["dgrk"] });
        let api = made(&admin, "/api/v1/apis", api).await;
        let form = json!({
            "type": "KA", "client": "acme", "name": "k\u{e9}y", "effective_date": "2026-01-15",
            "expiry_date": "2026-12-31", "quota": 10, "description": "why", "apis": [api["uid"]],
        });
        let draft = made(&anna, "/api/v1/applications", form).await;
        let id = draft["id"].as_str().expect("an id");

        let url = world.listening().await;
        let (annas, ritas) = (anna.token(), rita.token());
        let (told, well) = typed(&url, annas, &["submit", id]).await;
        assert!(well && told.starts_with("KA-20260115-0001 is now: Pending order"), "{told}");
        let (told, _) = typed(&url, ritas, &["list", "--view", "waiting-for-me"]).await;
        assert!(told.contains("KA-20260115-0001") && told.contains("approve, return, reject"), "{told}");
        let (told, _) = typed(&url, annas, &["list", "--state", "draft"]).await;
        assert_eq!(told, "no forms\n");
        let (told, _) = typed(&url, ritas, &["show", "ka-20260115-0001"]).await;
        assert!(told.contains("version 2; you may: approve, return, reject"), "{told}");
        // Four eyes hold: the applicant's token signs nothing.
        let (told, well) = typed(&url, annas, &["approve", id, "--version", "2"]).await;
        assert!(!well && told.contains("(forbidden)"), "{told}");
        let (told, well) = typed(&url, ritas, &["approve", id, "--version", "1"]).await;
        assert!(!well && told.contains("(version_mismatch)"), "{told}");
        let (told, well) =
            typed(&url, ritas, &["approve", "KA-20260115-0001", "--version", "2", "--comment", "fine"]).await;
        assert!(well && told.contains("is now: Approved"), "{told}");
        let (told, _) = typed(&url, annas, &["--json", "show", id]).await;
        let shown: Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(shown["history"][2]["comment"], "fine");
        let admins = admin.token();
        let (told, _) = typed(&url, admins, &["history", "--client", "acme"]).await;
        assert!(told.contains("KA-20260115-0001 (rita)"), "{told}");
        let (_, well) = typed(&url, "kgo_wrong", &["list"]).await;
        assert!(!well);
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
