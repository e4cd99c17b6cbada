//! The page behind the link of a credential mail, in a real browser: it shows the pair once, to who
//! presses the button, and gives the code of the link to nobody on the way.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::browser::Browser;
use e2e::forms::{Form, apply};
use e2e::world::{Plan, World};
use serde_json::json;

/// A mail has gone out within this, on a machine that compiles.
const LIMIT: Duration = Duration::from_secs(20);

/// What stands in the fields of the page that shows the pair.
const VALUES: &str = "[...document.querySelectorAll('code')].map(code => code.textContent)";

#[test]
fn a_link_shows_its_pair_once_and_tells_its_code_to_nobody() -> Result<()> {
    e2e::run(async {
        let settings = vec![
            ("credential_delivery", "\"link\"".to_owned()),
            ("credential_mail_delay_s", "0".to_owned()),
            ("log_filter", "\"debug\"".to_owned()),
        ];
        let world = World::start("credential_page", Plan { envoys: 0, settings, ..Plan::default() }).await?;
        let team = world.team().await?;
        let orders = world.api("orders", "/orders", json!({})).await?;
        let client = world.client("acme", json!({})).await?;
        let form = Form::save("/api/v1", &team.ann, apply(&client, 5, &[&orders])).await?;
        form.hand_in(&team.ann, "submit").await?;
        form.approve(&team).await?;
        // Its first password came behind a link too.
        let mail = world.mail.mail_to("acme@example.com", "API Key Authorization Result", LIMIT).await?;
        let link = mail.text.lines().map(str::trim).find(|line| line.contains("/credentials#"));
        let link = link.context("a link on a line of its own")?;
        let (page, code) = link.split_once('#').context("a code behind the #")?;
        let api_key = mail.value_of("API Key: ")?;

        // Opening the link shows a button, and the only request is for the page.
        let browser = Browser::start(&world.folder.join("browser"))?;
        let tab = browser.tab().await?;
        tab.open(link).await?;
        let text = tab.text().await?;
        assert!(text.contains("Show it now"), "{text}");
        let source = tab.source().await?;
        assert!(!source.contains(&api_key), "nothing is revealed yet: {source}");
        assert_eq!(tab.value("location.href").await?, page, "the code is out of the address bar");
        assert_eq!(tab.value("document.activeElement.tagName").await?, "BUTTON");
        let asked = tab.asked();
        let [get] = asked.as_slice() else { panic!("one request, not {asked:#?}") };
        assert_eq!((get.method.as_str(), get.url.as_str()), ("GET", page));
        // So may a scanner do as often as it likes.
        browser.tab().await?.open(link).await?;

        // The button reveals.
        tab.press_enter().await?;
        let values = tab.value(VALUES).await?;
        let [shown, secret] = values.as_array().map(Vec::as_slice).unwrap_or_default() else {
            panic!("a key and its secret, not {values}: {}", tab.text().await?)
        };
        assert_eq!(shown, api_key.as_str());
        let secret = secret.as_str().context("a text")?;
        assert_eq!(secret.len(), 88, "the documented length");
        assert!(!source.contains(secret), "nothing was revealed before: {source}");
        let asked = tab.asked();
        let [_, post] = asked.as_slice() else { panic!("one more request, not {asked:#?}") };
        assert_eq!((post.method.as_str(), post.url.as_str()), ("POST", page));
        assert!(post.body.contains(code), "the code goes where it belongs: {post:?}");
        for request in &asked {
            assert!(!request.headers.to_string().contains(code), "{request:?}");
            assert!(request.headers.get("referer").is_none(), "{request:?}");
        }
        assert_eq!(tab.complaints(), [""; 0], "its policy allows all that the page does");

        // Once: another visit is asked the same, and opens nothing.
        let again = browser.tab().await?;
        again.open(link).await?;
        assert!(again.text().await?.contains("Show it now"), "nobody learns of it without a press");
        again.press_enter().await?;
        let text = again.text().await?;
        assert!(text.contains("This link opens nothing") && text.contains("It was opened before"), "{text}");
        assert_eq!(again.value(VALUES).await?, json!([]));

        let log = world.manager.log();
        assert!(log.contains("DEBUG"), "all that is logged is looked at");
        for unspoken in [code, secret] {
            assert!(!log.contains(unspoken), "the log tells it");
        }
        Ok(())
    })
}
