//! A user signs in at an independent OpenID provider, in a real browser, in the middle of a client's
//! request.

use anyhow::{Context as _, Result};
use e2e::browser::{Browser, Tab};
use e2e::client::{self, Call};
use e2e::openid::{CLIENT_ID, CLIENT_SECRET, Provider};
use e2e::world::{Plan, World};
use serde_json::json;

const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

/// The provider's own pages: a name, any word, and its own question.
async fn sign_in_there(tab: &Tab<'_>, name: &str) -> Result<()> {
    let press = "document.querySelector('button[value=elsewhere]').focus()";
    tab.value(press).await?;
    tab.press_enter().await?;
    tab.value("document.querySelector('[name=login]').focus()").await?;
    tab.write(name).await?;
    tab.value("document.querySelector('[name=password]').focus()").await?;
    tab.write("any word").await?;
    tab.press_enter().await?;
    tab.value("document.querySelector('button[type=submit]').focus()").await?;
    tab.press_enter().await
}

#[test]
fn a_user_signs_in_at_an_openid_provider() -> Result<()> {
    e2e::run(async {
        let folder = e2e::world::folder("openid_provider")?;
        let mut provider = Provider::start(&folder)?;
        let settings = vec![
            ("oidc_issuer", format!("{:?}", provider.issuer)),
            ("oidc_client_id", format!("{CLIENT_ID:?}")),
            ("oidc_client_secret", format!("{CLIENT_SECRET:?}")),
            ("oidc_scopes", "\"openid\"".to_owned()),
            ("oidc_name", "\"Example ID\"".to_owned()),
            ("log_filter", "\"debug\"".to_owned()),
        ];
        let world = World::start("openid_sign_in", Plan { envoys: 0, settings, ..Plan::default() }).await?;
        let here = format!("http://{}", world.manager.address);
        provider.serve(&format!("{here}/oauth/authorize/openid"))?;
        let client = world.client("acme", json!({})).await?;
        let callback = format!("http://{}/callback", world.upstream.address);
        let terms = json!({ "validity": 1, "unit": "hours", "uses": 0 });
        let settings = json!({
            "grant_types": ["authorization_code"], "access_token": terms, "refresh_token": terms,
            "redirect_urls": [callback],
        });
        world.admin.write("PUT", &format!("/api/v1/clients/{client}/token-settings"), "", settings).await?;
        world.admin.post("/api/v1/users", json!({ "name": "ann", "subject": "ann-there" })).await?;
        let request = format!(
            "{here}/oauth/authorize?client_id={client}&response_type=code&redirect_uri={callback}\
             &code_challenge={CHALLENGE}&code_challenge_method=S256"
        );

        let browser = Browser::start(&world.folder.join("browser"))?;
        let tab = browser.tab().await?;
        tab.open(&request).await?;
        assert!(tab.text().await?.contains("Sign in with Example ID"), "{}", tab.text().await?);
        sign_in_there(&tab, "ann-there").await?;
        let text = tab.text().await?;
        assert!(text.contains("Allow access?") && text.contains("(ann)"), "{text}: {}", world.manager.log());
        tab.press_tab().await?;
        tab.press_enter().await?;
        let location = tab.value("location.href").await?;
        let location = location.as_str().context("an address")?;
        let answer = location.strip_prefix(&format!("{callback}?code=")).context("the client's address")?;
        let code = answer.split('&').next().unwrap_or_default();
        let form = format!(
            "grant_type=authorization_code&code={code}&redirect_uri={callback}&code_verifier={VERIFIER}\
             &client_id={client}&client_secret=a-password-2026"
        );
        let redeem = Call::new("POST", "/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let tokens = client::http1(world.manager.address, &redeem).await?;
        assert_eq!(tokens.status, 200, "{}", tokens.text());

        // Whoever nobody has linked is told so, and stays here.
        let other = Browser::start(&world.folder.join("another browser"))?;
        let tab = other.tab().await?;
        tab.open(&request).await?;
        sign_in_there(&tab, "somebody").await?;
        let text = tab.text().await?;
        assert!(text.contains("are not known here"), "{text}");

        let log = world.manager.log();
        assert!(log.contains("DEBUG"), "all that is logged is looked at");
        for unspoken in [code, CLIENT_SECRET] {
            assert!(!log.contains(unspoken), "the log tells {unspoken}");
        }
        Ok(())
    })
}
