//! The pages of the authorization endpoint in a real browser, by the keyboard alone: a user signs in,
//! allows, and is back at the client with a code.

use anyhow::{Context as _, Result};
use e2e::browser::Browser;
use e2e::client::{self, Call};
use e2e::upstream::{ONWARD, Upstream};
use e2e::world::{Plan, World};
use serde_json::json;

const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const FOCUS: &str = "document.activeElement.id || document.activeElement.textContent";

/// A client that may send browsers for codes, and a user.
async fn prepare(world: &World, callback: &str) -> Result<String> {
    let client = world.client("acme", json!({})).await?;
    let terms = json!({ "validity": 1, "unit": "hours", "uses": 0 });
    let settings = json!({
        "grant_types": ["authorization_code"], "access_token": terms, "refresh_token": terms,
        "redirect_urls": [callback],
    });
    let path = format!("/api/v1/clients/{client}/token-settings");
    world.admin.write("PUT", &path, "", settings).await?;
    let user = json!({ "name": "ann", "display_name": "Ann Lee", "password": "secret-of-ann" });
    world.admin.post("/api/v1/users", user).await?;
    Ok(client)
}

/// Browsers hold every redirect that answers a form against the page's policy, not the first alone.
#[test]
fn a_client_that_leads_people_on_elsewhere_gets_them_there() -> Result<()> {
    e2e::run(async {
        let world = World::start("authorization_onward", Plan { envoys: 0, ..Plan::default() }).await?;
        let elsewhere = Upstream::start().await?;
        let callback = format!("http://{}/callback?{ONWARD}{}", world.upstream.address, elsewhere.address);
        let client = prepare(&world, &callback).await?;
        let request = format!(
            "http://{}/oauth/authorize?client_id={client}&response_type=code&redirect_uri={callback}\
             &code_challenge={CHALLENGE}&code_challenge_method=S256",
            world.manager.address
        );
        let browser = Browser::start(&world.folder.join("browser"))?;
        let tab = browser.tab().await?;
        tab.open(&request).await?;
        tab.until_focused("username").await?;
        tab.write("ann").await?;
        tab.press_tab().await?;
        tab.write("secret-of-ann").await?;
        tab.press_enter().await?;
        assert!(tab.text().await?.contains("Allow access?"), "{}", tab.text().await?);
        tab.press_tab().await?;
        tab.press_enter().await?;
        let location = tab.value("location.href").await?;
        assert_eq!(location, format!("http://{}/arrived", elsewhere.address), "{:#?}", tab.complaints());
        assert_eq!((world.upstream.count("/callback"), elsewhere.count("/arrived")), (1, 1));

        // Allowed before, and so at once from the sign-in.
        let again = browser.tab().await?;
        again.open(&request).await?;
        again.until_focused("username").await?;
        again.write("ann").await?;
        again.press_tab().await?;
        again.write("secret-of-ann").await?;
        again.press_enter().await?;
        assert_eq!(again.value("location.href").await?, location, "{:#?}", again.complaints());
        Ok(())
    })
}

#[test]
fn a_user_signs_in_and_allows_without_a_mouse_or_a_script() -> Result<()> {
    e2e::run(async {
        let settings = vec![("log_filter", "\"debug\"".to_owned())];
        let world =
            World::start("authorization_page", Plan { envoys: 0, settings, ..Plan::default() }).await?;
        let callback = format!("http://{}/callback", world.upstream.address);
        let client = prepare(&world, &callback).await?;

        let endpoint = format!("http://{}/oauth/authorize", world.manager.address);
        let request = format!(
            "{endpoint}?client_id={client}&response_type=code&state=s-1&redirect_uri={callback}\
             &code_challenge={CHALLENGE}&code_challenge_method=S256"
        );
        let browser = Browser::start(&world.folder.join("browser"))?;
        let tab = browser.tab().await?;
        tab.open(&request).await?;
        tab.until_focused("username").await?;
        assert_eq!(tab.value(FOCUS).await?, "username", "{}", tab.text().await?);
        tab.write("ann").await?;
        tab.press_tab().await?;
        assert_eq!(tab.value(FOCUS).await?, "password");
        tab.write("wrong-word").await?;
        tab.press_enter().await?;

        // What went wrong is said, in the title too, and tied to both fields.
        let text = tab.text().await?;
        assert!(text.contains("User name or password is wrong"), "{text}");
        assert!(tab.value("document.title").await?.as_str().context("a title")?.starts_with("Problem: "));
        let tied = "[...document.querySelectorAll('[aria-invalid=true]')]
                    .map(field => document.getElementById(field.getAttribute('aria-describedby')).getAttribute('role'))";
        assert_eq!(tab.value(tied).await?, json!(["alert", "alert"]));
        assert_eq!(tab.value("document.getElementById('username').value").await?, "ann");
        assert_eq!(tab.value(FOCUS).await?, "password");
        tab.write("secret-of-ann").await?;
        tab.press_enter().await?;

        let text = tab.text().await?;
        assert!(
            text.contains("Allow access?") && text.contains("Ann Lee") && text.contains("acme"),
            "{text}"
        );
        assert_eq!(tab.value("document.cookie").await?, "", "no page reads the cookie");
        tab.press_tab().await?;
        assert_eq!(tab.value(FOCUS).await?, "Allow");
        tab.press_enter().await?;
        let location = tab.value("location.href").await?;
        let location = location.as_str().context("an address")?;
        let answer = location.strip_prefix(&format!("{callback}?")).context("the client's address")?;
        assert!(answer.contains("code=kgac_") && answer.contains("&state=s-1&iss=http"), "{answer}");
        let code = answer.split('&').next().and_then(|pair| pair.strip_prefix("code=")).context("a code")?;

        // The client turns it into tokens, once.
        let form = format!(
            "grant_type=authorization_code&code={code}&redirect_uri={callback}&code_verifier={VERIFIER}\
             &client_id={client}&client_secret=a-password-2026"
        );
        let redeem = Call::new("POST", "/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let tokens = client::http1(world.manager.address, &redeem).await?;
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        assert_eq!(tokens.json()["token_type"], "bearer");
        let again = client::http1(world.manager.address, &redeem).await?;
        assert_eq!((again.status, &again.json()["error"]), (400, &json!("invalid_grant")));

        // All pages but the refused sign-in answered well, nothing else was asked for, nobody told whence.
        let asked: Vec<_> =
            tab.asked().into_iter().filter(|asked| !asked.url.ends_with("/favicon.ico")).collect();
        let asked_of: Vec<_> = asked.iter().map(|asked| asked.method.as_str()).collect();
        assert_eq!(asked_of, ["GET", "POST", "POST", "POST", "GET"], "{asked:#?}");
        for request in &asked {
            assert!(request.headers.get("referer").is_none(), "{request:?}");
        }
        let complaints = tab.complaints();
        assert!(complaints.iter().all(|complaint| complaint.contains("403")), "{complaints:#?}");

        // The second time nothing is left to ask but who it is.
        let again = browser.tab().await?;
        again.open(&request).await?;
        again.until_focused("username").await?;
        again.write("ann").await?;
        again.press_tab().await?;
        again.write("secret-of-ann").await?;
        again.press_enter().await?;
        let location = again.value("location.href").await?;
        assert!(location.as_str().context("an address")?.starts_with(&callback), "{location}");

        let log = world.manager.log();
        assert!(log.contains("DEBUG"), "all that is logged is looked at");
        for unspoken in [code, "secret-of-ann", "wrong-word"] {
            assert!(!log.contains(unspoken), "the log tells {unspoken}");
        }
        Ok(())
    })
}
