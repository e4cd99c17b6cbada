//! Conversations with servers of every manner, over real sockets and real TLS.

use std::time::Duration;

use super::server::{At, Authority, Fault, Manner, Server};
use super::{Event, Limits};
use crate::config::{Config, MailSecurity, MailTransport, Sensitive};
use crate::mail::contexts::{MailContext as _, TestMail};
use crate::mail::model::{SendError, Via};
use crate::mail::templates::{Language, Template};
use crate::mail::templates::{Rendered, render};
use crate::mail::transport::{Letter, Message, Refusal, Transport};
use gate::time::UnixMillis;

const PASSWORD: &str = "hunter2 is secret";

/// For tests of silence: enough for a healthy server on a busy machine, in all but these tests.
const SHORT: Limits = Limits {
    address: Duration::from_millis(500),
    prelude: Duration::from_millis(500),
    envelope: Duration::from_millis(500),
    message: Duration::from_millis(500),
    farewell: Duration::from_millis(500),
};

/// STARTTLS with an account, as the handbook has it.
fn config(server: &Server, authority: &Authority) -> Config {
    Config {
        mail_transport: MailTransport::Smtp,
        mail_from: "Keygate <keygate@example.com>".into(),
        smtp_host: Some("127.0.0.1".into()),
        smtp_port: server.port,
        smtp_ca_file: Some(authority.file()),
        smtp_username: Some("keygate".into()),
        smtp_password: Some(Sensitive::from(PASSWORD.to_string())),
        smtp_hello_name: Some("manager.test".into()),
        ..Config::default()
    }
}

fn with_account(manner: Manner) -> Manner {
    Manner { account: Some(("keygate", PASSWORD)), offers: vec!["AUTH PLAIN LOGIN"], ..manner }
}

fn letter(transport: &Transport, recipient: &str, rendered: &Rendered) -> Message {
    let letter = Letter { id: "ml_1", recipient, rendered, written_at: UnixMillis(1_768_435_200_000) };
    transport.compose(&letter).expect("a letter")
}

async fn deliver(transport: &Transport, recipient: &str) -> (Vec<Event>, Result<String, Refusal>) {
    let rendered =
        render(&Config::default(), Template::TestMail, Language::En, &TestMail::sample()).expect("renders");
    let message = letter(transport, recipient, &rendered);
    let mut events = Vec::new();
    let result = transport.hand_over(Via::Primary, &message, &mut |event| events.push(event)).await;
    (events, result)
}

async fn conversation(config: &Config) -> (Vec<Event>, Result<String, Refusal>) {
    deliver(&Transport::open(config).expect("valid settings"), "anna@example.com").await
}

#[tokio::test]
async fn with_starttls_nothing_but_the_wish_for_it_is_said_in_clear() {
    let authority = Authority::new();
    let server = Server::start(with_account(Manner::starttls(&authority))).await;
    let (events, result) = conversation(&config(&server, &authority)).await;
    assert_eq!(result.expect("taken"), "250 2.0.0 taken");
    let clear: Vec<String> =
        server.lines().into_iter().filter(|(tls, _)| !tls).map(|(_, line)| line).collect();
    assert_eq!(clear, ["EHLO manager.test", "STARTTLS"]);
    let told: Vec<String> =
        events.iter().map(|event| format!("{}: {}", event.step.name(), event.told)).collect();
    let port = server.port;
    assert_eq!(
        told,
        [
            &format!("connecting: connected to 127.0.0.1:{port}"),
            "greeting: 220 mx.test ESMTP",
            "EHLO: offers 8BITMIME, AUTH PLAIN LOGIN, STARTTLS",
            "STARTTLS: 220 go ahead",
            "TLS: TLS 1.3, TLS13_AES_256_GCM_SHA384, certificate for an address, trusted",
            "EHLO: offers 8BITMIME, AUTH PLAIN LOGIN",
            "AUTH: signed in as keygate (PLAIN)",
            "MAIL FROM: keygate@example.com: 250 fine",
            "RCPT TO: anna@example.com: 250 fine",
            "message: 250 2.0.0 taken",
        ]
    );
}

#[tokio::test]
async fn tls_from_the_first_byte_and_every_way_to_sign_in() {
    let authority = Authority::new();
    for (offers, mechanism) in [
        ("AUTH PLAIN LOGIN", Ok("PLAIN")),
        ("AUTH LOGIN", Ok("LOGIN")),
        ("AUTH=LOGIN PLAIN", Ok("PLAIN")),
        ("AUTH CRAM-MD5 XOAUTH2", Err("the server offers only CRAM-MD5, XOAUTH2")),
        ("SIZE 1000", Err("the server offers no sign-in")),
    ] {
        let manner = Manner {
            begins_with_tls: true,
            certificate: Some(authority.certificate(&["localhost"])),
            account: Some(("keygate", PASSWORD)),
            offers: vec![offers],
            ..Manner::default()
        };
        let server = Server::start(manner).await;
        let settings = Config {
            smtp_security: MailSecurity::Tls,
            smtp_host: Some("localhost".into()),
            ..config(&server, &authority)
        };
        let (events, result) = conversation(&settings).await;
        match mechanism {
            Ok(mechanism) => {
                result.expect("taken");
                let signed_in = format!("signed in as keygate ({mechanism})");
                assert!(events.iter().any(|event| event.told == signed_in), "{events:?}");
                let tls = &events.iter().find(|event| event.step == super::Step::Tls).expect("TLS").told;
                assert!(tls.ends_with("certificate for localhost, trusted"), "{tls}");
                assert!(server.lines().iter().all(|(tls, _)| *tls), "{:?}", server.lines());
            }
            Err(told) => {
                let refusal = result.expect_err("no common mechanism");
                assert!(refusal.error.text().ends_with(told), "{:?}", refusal.error);
                assert!(refusal.advice.contains("PLAIN or LOGIN"), "{}", refusal.advice);
                assert!(
                    server.said().iter().all(|line| !line.starts_with("AUTH")),
                    "no password is given away"
                );
            }
        }
        assert!(!format!("{events:?}").contains(PASSWORD));
    }
}

#[tokio::test]
async fn what_is_wrong_with_tls_or_the_account_is_named_with_what_to_do() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let certified = |names: &[&str]| {
        with_account(Manner {
            starttls: true,
            certificate: Some(authority.certificate(names)),
            ..Manner::default()
        })
    };
    let expired = with_account(Manner {
        starttls: true,
        certificate: Some(authority.certificate_until(&["127.0.0.1"], 2020)),
        ..Manner::default()
    });
    let immediate = Manner { begins_with_tls: true, ..certified(&["127.0.0.1"]) };
    let injecting = Manner { fault: Some((At::Starttls, Fault::SaysMore)), ..certified(&["127.0.0.1"]) };
    let other_account = Manner { account: Some(("keygate", "another")), ..certified(&["127.0.0.1"]) };
    let wants_account = Manner { account: Some(("keygate", PASSWORD)), ..certified(&["127.0.0.1"]) };
    let plain = |config: Config| Config { smtp_username: None, smtp_password: None, ..config };
    let tls = |config: Config| Config { smtp_security: MailSecurity::Tls, ..config };
    let untrusted = |config: Config| Config { smtp_ca_file: Some(stranger.file()), ..config };
    type Adjust<'a> = &'a dyn Fn(Config) -> Config;
    let as_is: Adjust<'_> = &|config| config;
    for (manner, adjust, told, advice) in [
        (Manner::accepts(), as_is, "EHLO? STARTTLS: the server does not offer STARTTLS", "no TLS here"),
        (
            certified(&["mx.example", "mail.example"]),
            as_is,
            "TLS: the certificate is for",
            "set smtp_host to a name",
        ),
        (
            certified(&["127.0.0.1"]),
            &untrusted,
            "TLS: the certificate comes from an authority",
            "smtp_ca_file",
        ),
        (expired, as_is, "TLS: the certificate is not valid today", "renewed"),
        (certified(&["127.0.0.1"]), &tls, "TLS: what answers is not TLS", "smtp_security = \"starttls\""),
        (immediate, as_is, "greeting: ", "TLS is expected from the first byte"),
        (injecting, as_is, "STARTTLS: more came in clear", "tampering"),
        (other_account, as_is, "AUTH: 535 5.7.8 wrong", "smtp_username and smtp_password"),
        (wants_account, &plain, "MAIL FROM: 530 5.7.0 sign in first", "mail_from"),
    ] {
        let told = told.trim_start_matches("EHLO? ");
        let server = Server::start(manner).await;
        let settings = adjust(config(&server, &authority));
        let transport = Transport::open(&settings).expect("valid settings").within(SHORT);
        let (_, result) = deliver(&transport, "anna@example.com").await;
        let refusal = result.expect_err(told);
        let SendError::Unavailable(text) = &refusal.error else { panic!("{told}: {:?}", refusal.error) };
        assert!(
            text.starts_with(&format!("127.0.0.1:{}, {told}", server.port)),
            "{text}\n  instead of {told}"
        );
        assert!(refusal.of_the_server);
        assert!(refusal.advice.contains(advice), "{told}: {}", refusal.advice);
        assert!(!text.contains(PASSWORD), "{text}");
        assert!(server.taken().is_empty());
        let in_clear: Vec<_> =
            server.lines().into_iter().filter(|(tls, _)| !tls).map(|(_, line)| line).collect();
        assert!(
            in_clear.iter().all(|line| ["EHLO manager.test", "STARTTLS", "QUIT"].contains(&line.as_str())
                || !line.is_ascii()
                || line.contains('\u{16}')),
            "{told}: {in_clear:?}"
        );
    }
}

/// What a failure means for the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Unavailable,
    Retry,
    Refused,
    AnswerLost,
}

#[tokio::test]
async fn every_step_may_fail_in_every_way_and_each_means_what_it_should() {
    use Means::{AnswerLost, Refused, Retry, Unavailable};
    let authority = Authority::new();
    let later = Fault::Says("451 4.3.0 later");
    let never = Fault::Says("550 5.1.1 never");
    let bye = Fault::Says("421 4.3.2 closing");
    let faults = [later, never, bye, Fault::Hangs, Fault::HangsUp, Fault::Babbles, Fault::RunsOn];
    let mut cases = Vec::new();
    for at in [At::Greeting, At::Hello, At::Starttls, At::Handshake, At::SignIn, At::Sender] {
        cases.extend(faults.map(|fault| (at, fault, Unavailable, true)));
    }
    for at in [At::Recipient, At::Data] {
        cases.extend([(at, later, Retry, false), (at, never, Refused, false), (at, bye, Retry, true)]);
        // Another way to refuse: the sender, whom other settings help.
        cases.push((at, Fault::Says("554 5.7.1 Relay access denied"), Retry, false));
        for fault in [Fault::Hangs, Fault::HangsUp, Fault::Babbles, Fault::RunsOn] {
            cases.push((at, fault, Retry, true));
        }
    }
    cases.extend([
        (At::Message, later, Retry, false),
        (At::Message, never, Refused, false),
        (At::Message, bye, Retry, true),
        (At::Body, Fault::Hangs, AnswerLost, true),
        (At::Message, Fault::Hangs, AnswerLost, true),
        (At::Message, Fault::HangsUp, AnswerLost, true),
        (At::Message, Fault::Babbles, AnswerLost, true),
        (At::Message, Fault::RunsOn, AnswerLost, true),
    ]);
    for (at, fault, means, of_the_server) in cases {
        let manner = Manner { fault: Some((at, fault)), ..with_account(Manner::starttls(&authority)) };
        let server = Server::start(manner).await;
        let mut transport = Transport::open(&config(&server, &authority)).expect("valid settings");
        if fault == Fault::Hangs {
            transport = transport.within(SHORT);
        }
        let (_, result) = deliver(&transport, "anna@example.com").await;
        let refusal = result.expect_err("a failure");
        let found = match &refusal.error {
            SendError::Unavailable(_) => Unavailable,
            SendError::Retry(_) => Retry,
            SendError::Refused(_) => Refused,
            SendError::AnswerLost(_) => AnswerLost,
        };
        assert_eq!(
            (found, refusal.of_the_server),
            (means, of_the_server),
            "{at:?} {fault:?}: {}",
            refusal.error
        );
        assert!(!refusal.advice.is_empty());
        assert!(!refusal.error.to_string().contains(PASSWORD));
        if found != AnswerLost {
            assert!(server.taken().is_empty(), "{at:?} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_cuts_the_mail_off_has_neither_taken_nor_refused_it() {
    let authority = Authority::new();
    let manner =
        Manner { fault: Some((At::Body, Fault::HangsUp)), ..with_account(Manner::starttls(&authority)) };
    let server = Server::start(manner).await;
    let (_, result) = conversation(&config(&server, &authority)).await;
    // Whether the break is felt before the mail's end is written is the network's affair.
    let error = result.expect_err("cut off").error;
    assert!(matches!(error, SendError::Retry(_) | SendError::AnswerLost(_)), "{error:?}");
    assert!(server.taken().is_empty());
}

#[tokio::test]
async fn a_slow_server_is_waited_for() {
    let authority = Authority::new();
    for at in [At::Greeting, At::Recipient, At::Message] {
        let fault = Some((at, Fault::Dawdles(Duration::from_millis(700))));
        let server = Server::start(Manner { fault, ..with_account(Manner::starttls(&authority)) }).await;
        let (_, result) = conversation(&config(&server, &authority)).await;
        result.expect("taken in the end");
    }
}

#[tokio::test]
async fn nobody_there_is_told_from_no_such_name() {
    let authority = Authority::new();
    let server = Server::start(Manner::accepts()).await;
    // Nothing listens on a port that was free a moment ago and is held without listening.
    let held = tokio::net::TcpSocket::new_v4().expect("a socket");
    held.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let port = held.local_addr().expect("bound").port();
    let nobody = Config { smtp_port: port, ..config(&server, &authority) };
    let refusal = conversation(&nobody).await.1.expect_err("refused");
    assert!(
        refusal.error.text().starts_with(&format!("127.0.0.1:{port}, connecting: ")),
        "{:?}",
        refusal.error
    );
    assert!(refusal.advice.contains("that the server runs"), "{}", refusal.advice);

    // Reserved never to exist (RFC 6761).
    let nowhere = Config { smtp_host: Some("mx.invalid".into()), ..config(&server, &authority) };
    let refusal = conversation(&nowhere).await.1.expect_err("no such name");
    assert!(refusal.error.text().contains(", resolving: "), "{:?}", refusal.error);
    assert!(refusal.advice.contains("smtp_host"), "{}", refusal.advice);
}

#[tokio::test]
async fn addresses_beyond_ascii_go_to_servers_that_take_them() {
    let authority = Authority::new();
    for (offers, taken) in [(vec!["AUTH PLAIN", "SMTPUTF8"], true), (vec!["AUTH PLAIN"], false)] {
        let server = Server::start(Manner { offers, ..with_account(Manner::starttls(&authority)) }).await;
        let transport = Transport::open(&config(&server, &authority)).expect("valid settings");
        let (_, result) = deliver(&transport, "測試@example.com").await;
        if taken {
            result.expect("taken");
            assert!(server.said().iter().any(|line| line == "MAIL FROM:<keygate@example.com> SMTPUTF8"));
        } else {
            let refusal = result.expect_err("not offered");
            assert!(matches!(refusal.error, SendError::Refused(_)) && !refusal.of_the_server, "{refusal:?}");
        }
    }
}

#[test]
fn a_file_of_authorities_must_hold_some() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    let settings = || Config {
        mail_transport: MailTransport::Smtp,
        smtp_host: Some("mx.example".into()),
        smtp_ca_file: Some(file.clone()),
        ..Config::default()
    };
    let refused = |what: &str| {
        let error = Transport::open(&settings()).expect_err(what).to_string();
        assert!(error.starts_with("setting smtp_ca_file: "), "{error}");
        assert!(error.contains(what), "{error}");
    };
    refused("cannot read");
    std::fs::write(&file, "no certificate").expect("written");
    refused("holds no certificate in PEM");
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("written");
    refused("ca.pem");
}
