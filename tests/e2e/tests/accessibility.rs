//! The pages of the authorization endpoint for people who do not see them, see them badly, or have no mouse
//! and no scripts: each page in both languages and both sets of colours, held against axe-core's rules.

use anyhow::{Context as _, Result};
use e2e::browser::{Browser, Tab};
use e2e::world::{Plan, World};
use serde_json::{Value, json};

const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// How a screen reader names what has the focus.
const FOCUS: &str = "(focus => focus.labels?.[0]?.textContent ?? focus.textContent)(document.activeElement)";

async fn check(tab: &Tab<'_>, page: &str, language: &str) -> Result<()> {
    tab.forbid_scripts(false).await?;
    assert_eq!(tab.barriers().await?, json!([]), "{page} in {language}");
    assert_eq!(tab.value("document.documentElement.lang").await?, language, "{page}");
    assert_eq!(tab.value("document.querySelectorAll('h1').length").await?, 1, "{page}");
    let scripts = "document.querySelectorAll('script, [onload], [onclick], [onsubmit]').length";
    assert_eq!(tab.value(scripts).await?, 0, "{page}");
    assert!(!tab.text().await?.is_empty());
    tab.forbid_scripts(true).await
}

/// What Tab leads to, from what has the focus, until it is at the beginning again.
async fn order(tab: &Tab<'_>, most: usize) -> Result<Vec<Value>> {
    let mut seen = vec![tab.value(FOCUS).await?];
    for _ in 1..most {
        tab.press_tab().await?;
        seen.push(tab.value(FOCUS).await?);
    }
    Ok(seen)
}

#[test]
fn pages_are_for_everybody() -> Result<()> {
    e2e::run(async {
        let world = World::start("accessibility", Plan { envoys: 0, ..Plan::default() }).await?;
        let client = world.client("acme", json!({})).await?;
        let callback = format!("http://{}/callback", world.upstream.address);
        let terms = json!({ "validity": 1, "unit": "hours", "uses": 0 });
        let settings = json!({
            "grant_types": ["authorization_code"], "access_token": terms, "refresh_token": terms,
            "redirect_urls": [callback],
        });
        let path = format!("/api/v1/clients/{client}/token-settings");
        world.admin.write("PUT", &path, "", settings).await?;
        let endpoint = format!("http://{}/oauth/authorize", world.manager.address);
        let request = format!(
            "{endpoint}?client_id={client}&response_type=code&redirect_uri={callback}\
             &code_challenge={CHALLENGE}&code_challenge_method=S256"
        );

        let browser = Browser::start(&world.folder.join("browser"))?;
        for (language, words) in [
            ("en", ["User name", "Password", "Sign in", "Cancel", "Allow access?", "Allow", "Do not allow"]),
            ("zh-Hant-TW", ["使用者名稱", "密碼", "登入", "取消", "是否允許存取？", "允許", "不允許"]),
        ] {
            let [name, password, sign_in, cancel, question, allow, deny] = words;
            for colours in ["light", "dark"] {
                // One who has allowed it is not asked again.
                let user = format!("ann-{language}-{colours}").to_lowercase();
                let account = json!({ "name": user, "display_name": "Ann Lee", "password": "secret-of-ann" });
                world.admin.post("/api/v1/users", account).await?;
                let tab = browser.tab().await?;
                tab.prefer(language, colours).await?;
                tab.forbid_scripts(true).await?;

                tab.open(&request).await?;
                tab.until_focused("username").await?;
                check(&tab, "to sign in", language).await?;
                assert_eq!(order(&tab, 4).await?, [name, password, sign_in, cancel]);

                tab.open(&request).await?;
                tab.until_focused("username").await?;
                tab.write(&user).await?;
                tab.press_tab().await?;
                tab.write("wrong-word").await?;
                tab.press_enter().await?;
                tab.until_focused("password").await?;
                check(&tab, "a wrong password", language).await?;
                let alert = tab.value("document.querySelector('[role=alert]').textContent").await?;
                let described =
                    "document.getElementById(document.activeElement.getAttribute('aria-describedby'))";
                assert_eq!(tab.value(&format!("{described}.textContent")).await?, alert);
                let title = tab.value("document.title").await?;
                assert!(title.as_str().context("a title")?.contains(": "), "{title}");
                assert_eq!(tab.value(FOCUS).await?, password, "what is to be mended has the focus");

                tab.write("secret-of-ann").await?;
                tab.press_enter().await?;
                check(&tab, "the question", language).await?;
                assert_eq!(
                    order(&tab, 3).await?,
                    [question, allow, deny],
                    "it is read before it is answered"
                );

                tab.open(&format!("{endpoint}?client_id={client}")).await?;
                check(&tab, "a wrong request", language).await?;
                tab.open(&format!("{endpoint}/openid?state=x")).await?;
                check(&tab, "one that has ended", language).await?;
                let complaints = tab.complaints();
                let by_status =
                    |complaint: &String| complaint.contains("the server responded with a status of 40");
                assert!(complaints.iter().all(by_status), "{complaints:#?}");
            }
        }
        Ok(())
    })
}
