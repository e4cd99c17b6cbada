//! That the harness itself can be believed.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use e2e::client::{self, Call, Connection, Protocol};
use e2e::faulty_proxy::{Faults, FaultyProxy};
use e2e::process::Process;
use e2e::smtp::Catcher;
use e2e::upstream::Upstream;
use e2e::{load, wait};

#[test]
fn upstream_echoes_over_both_protocols() -> Result<()> {
    e2e::run(async {
        let upstream = Upstream::start().await?;
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut connection = Connection::open(upstream.address, protocol).await?;
            let call = Call::post("/echo?q=1", r#"{"a":1}"#).header("x-one", "1").header("x-one", "2");
            for call in [call.clone(), call.in_pieces(3, Duration::ZERO, &[("x-end", "yes")])] {
                let echo = connection.send(&call).await?.echo()?;
                assert_eq!((echo.method.as_str(), echo.path.as_str()), ("POST", "/echo?q=1"));
                assert_eq!(echo.header("x-one"), ["1", "2"]);
                assert_eq!((echo.body.as_str(), echo.body_bytes), (r#"{"a":1}"#, 7));
            }
        }
        assert_eq!(upstream.count("/echo"), 4);
        Ok(())
    })
}

#[test]
fn raw_bytes_arrive_as_they_are() -> Result<()> {
    e2e::run(async {
        let upstream = Upstream::start().await?;
        let text = client::raw(
            upstream.address,
            b"GET /raw HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
        )
        .await?;
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        assert!(text.contains(r#""host":"a.example""#), "{text}");
        Ok(())
    })
}

#[test]
fn catcher_takes_part_in_a_real_conversation() -> Result<()> {
    e2e::run(async {
        let catcher = Catcher::start()?;
        let mut stream = TcpStream::connect(catcher.address)?;
        let message = "Subject: =?utf-8?Q?=E3=80=90Keygate=E3=80=91_Result?=\r\n\
                       Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
                       key =3D abc=\r\ndef\r\n..dot\r\n.\r\nQUIT\r\n";
        // The catcher reads lines as they come; this sender does not wait for answers.
        write!(stream, "EHLO me\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<ann@example.com>\r\nDATA\r\n{message}")?;
        let mail = catcher.mail_to("ann@example.com", "Keygate", Duration::from_secs(5)).await?;
        assert_eq!(mail.subject, "【Keygate】 Result");
        assert_eq!(mail.text.lines().collect::<Vec<_>>(), ["key = abcdef", ".dot"]);
        Ok(())
    })
}

#[test]
fn proxy_loses_answers_and_not_requests() -> Result<()> {
    e2e::run(async {
        let upstream = Upstream::start().await?;
        let proxy = FaultyProxy::start(upstream.address).await?;
        proxy.set(Faults { lose: 0.3, ..Faults::default() });
        let outcome = load::run(&[proxy.address], 16, 200, |_| Call::get("/lossy")).await?;
        assert_eq!(upstream.count("/lossy"), 200, "every request arrived");
        assert_eq!(outcome.unanswered, proxy.lost());
        assert!((40..80).contains(&proxy.lost()), "about 30 % are lost: {}", proxy.lost());
        assert_eq!(outcome.of("200"), 200 - proxy.lost());
        Ok(())
    })
}

#[test]
fn proxy_holds_an_answer_back_until_it_is_released() -> Result<()> {
    e2e::run(async {
        let upstream = Upstream::start().await?;
        let proxy = FaultyProxy::start(upstream.address).await?;
        proxy.hold("/held");
        let held = tokio::spawn(async move { client::http1(proxy.address, &Call::get("/held")).await });
        let proxy = FaultyProxy::start(upstream.address).await?;
        assert_eq!(client::http1(proxy.address, &Call::get("/free")).await?.status, 200);
        wait::until("the held request", Duration::from_secs(5), || async {
            (upstream.count("/held") == 1).then_some(())
        })
        .await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!held.is_finished());
        held.abort();
        Ok(())
    })
}

#[test]
fn processes_die_with_the_harness() -> Result<()> {
    // This test runs itself once more as the harness that is killed.
    if let Some(file) = std::env::var_os("E2E_HARNESS_TO_KILL") {
        let sleeper =
            Process::spawn("sleep", Command::new("sleep").arg("600"), std::path::Path::new("/dev/null"))?;
        std::fs::write(&file, sleeper.id().to_string())?;
        std::thread::sleep(Duration::from_secs(60));
        return Ok(());
    }
    e2e::run(async {
        let file = std::env::temp_dir().join(format!("keygate-harness-{}", std::process::id()));
        let mut harness = Command::new(std::env::current_exe()?)
            .args(["--exact", "processes_die_with_the_harness"])
            .env("E2E_HARNESS_TO_KILL", &file)
            .spawn()?;
        let read = || async { std::fs::read_to_string(&file).ok().filter(|text| !text.is_empty()) };
        let sleeper = wait::until("the process's number", Duration::from_secs(20), read).await?;
        std::fs::remove_file(&file)?;
        assert!(runs(&sleeper));
        harness.kill()?;
        harness.wait()?;
        wait::until("the end of the process", Duration::from_secs(5), || async {
            (!runs(&sleeper)).then_some(())
        })
        .await
    })
}

fn runs(process: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    // A zombie has ended; somebody has yet to ask for its status.
    !status.is_empty() && !status.contains("State:\tZ")
}
