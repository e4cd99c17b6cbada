//! `mail test` over HTTP, and what it does for mails that wait.

use serde_json::json;

use super::super::contexts::{MailContext as _, TestMail};
use super::super::model::Via;
use super::super::smtp::server::{At, Fault, Manner, Server};
use super::super::tests::{run, smtp, transport, with_secondary, write};
use crate::config::{Config, MailTransport};
use crate::testing::World;

const PATH: &str = "/api/v1/mail/test";

#[tokio::test]
async fn a_test_tells_every_step_and_ends_a_servers_rest() {
    let server = Server::start(Manner::fails(At::Greeting, Fault::HangsUp)).await;
    let config = smtp(&server);
    for world in World::both_with(|settings| *settings = config.clone()).await {
        server.turns(Manner::fails(At::Greeting, Fault::HangsUp));
        let transport = transport(&config);
        let admin = world.operator("ann", &["admin"]).await;
        write(&world.app, TestMail::sample(), 0).await;
        assert!(run(&world.app, &transport).await.put_back > 0);

        let to = json!({ "to": "bob@example.com" });
        let failed = admin.post(PATH, to.clone()).await.expect(200);
        let address = format!("127.0.0.1:{}", server.port);
        assert_eq!((&failed["accepted"], &failed["server"]), (&json!(false), &json!(address)));
        assert_eq!(
            failed["steps"],
            json!([{ "step": "connecting", "told": format!("connected to {address}") }])
        );
        assert_eq!(failed["error"], format!("{address}, greeting: the server hung up"));
        assert!(failed["advice"].as_str().expect("advice").contains("smtp_port"), "{failed}");

        server.turns(Manner::accepts());
        assert_eq!(run(&world.app, &transport).await.sent, 0, "the server rests");
        let done = admin.post(PATH, to).await.expect(200);
        assert_eq!(
            (&done["accepted"], &done["answer"], &done["error"]),
            (&json!(true), &json!("250 2.0.0 taken"), &json!(null))
        );
        let steps: Vec<_> =
            done["steps"].as_array().expect("steps").iter().map(|step| &step["step"]).collect();
        assert_eq!(steps, ["connecting", "greeting", "EHLO", "MAIL FROM", "RCPT TO", "message"]);
        assert_eq!(run(&world.app, &transport).await.sent, 1, "what waited goes at once");

        let trail = admin.get("/api/v1/audit?action=mail.test").await.expect(200);
        let outcomes: Vec<_> =
            trail["items"].as_array().expect("entries").iter().map(|one| &one["detail"]["outcome"]).collect();
        assert_eq!(outcomes, ["accepted", "unavailable"]);
        assert!(!trail.to_string().contains("bob@example.com"));
    }
}

#[tokio::test]
async fn a_refused_recipient_says_nothing_about_the_server() {
    let server = Server::start(Manner::fails(At::Recipient, Fault::Says("550 5.1.1 unknown"))).await;
    let config = smtp(&server);
    for world in World::both_with(|settings| *settings = config.clone()).await {
        let admin = world.operator("ann", &["admin"]).await;
        let failed = admin.post(PATH, json!({ "to": "bob@example.com" })).await.expect(200);
        assert_eq!(failed["accepted"], false);
        assert_eq!(failed["advice"], "check the recipient's address");
        assert_eq!(world.anon().get("/readyz").await.expect(200)["mail"]["status"], "ok");
    }
}

#[tokio::test]
async fn either_server_can_be_tried_and_only_one_that_there_is() {
    let (first, second) = (Server::start(Manner::accepts()).await, Server::start(Manner::accepts()).await);
    let config = with_secondary(smtp(&first), &second);
    for world in World::both_with(|settings| *settings = config.clone()).await {
        let admin = world.operator("ann", &["admin"]).await;
        let body = json!({ "to": "bob@example.com", "server": "secondary" });
        let before = (first.taken().len(), second.taken().len());
        assert_eq!(admin.post(PATH, body.clone()).await.expect(200)["accepted"], true);
        assert_eq!((first.taken().len(), second.taken().len()), (before.0, before.1 + 1));
        admin.post(PATH, json!({ "to": "nobody" })).await.refuses("to");
        admin.post(PATH, json!({ "to": "a@example.com", "server": "third" })).await.refuses("server");
        world.operator("bob", &["applicant"]).await.post(PATH, body).await.problem(403, "forbidden");
    }
    let config = smtp(&first);
    for world in World::both_with(|settings| *settings = config.clone()).await {
        let admin = world.operator("ann", &["admin"]).await;
        let secondary = json!({ "to": "bob@example.com", "server": "secondary" });
        admin.post(PATH, secondary).await.problem(409, "mail_not_configured");
    }
    for world in World::both().await {
        let admin = world.operator("ann", &["admin"]).await;
        let told =
            admin.post(PATH, json!({ "to": "bob@example.com" })).await.problem(409, "mail_not_configured");
        assert!(told["detail"].as_str().expect("a sentence").contains("smtp_host"), "{told}");
    }
}

#[tokio::test]
async fn a_folder_says_where_the_mail_lies() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config {
        mail_transport: MailTransport::File,
        mail_file_dir: folder.path().join("mails"),
        ..Config::default()
    };
    for world in World::both_with(|settings| *settings = config.clone()).await {
        let admin = world.operator("ann", &["admin"]).await;
        let done = admin.post(PATH, json!({ "to": "bob@example.com" })).await.expect(200);
        let answer = done["answer"].as_str().expect("an answer");
        let file = answer.strip_prefix("written to ").expect("where");
        assert!(std::path::Path::new(file).starts_with(folder.path()), "{answer}");
        assert!(std::fs::read_to_string(file).expect("there").contains("To: bob@example.com"));
    }
}

#[test]
fn the_command_line_says_where_the_mail_is() {
    let trial = |via, server: &str| super::Trial {
        mail: "ml_1".into(),
        via,
        server: server.into(),
        steps: Vec::new(),
        outcome: Ok(String::new()),
    };
    let folder =
        super::cli::taken(&trial(Via::File, "/var/mails"), "written to /var/mails/ml_1.eml", "a@b.example");
    assert!(folder.contains("ml_1.eml") && folder.contains("nothing is sent"), "{folder}");
    assert!(!folder.contains("spam"), "{folder}");
    let server = super::cli::taken(&trial(Via::Primary, "mx:25"), "250 ok", "a@b.example");
    assert!(server.contains("mx:25 took it: 250 ok") && server.contains("spam"), "{server}");
}
