//! A real browser: Chromium without a window, led over its DevTools protocol. The protocol's messages
//! are JSON texts that end with a zero byte, on two pipes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::process::Process;
use crate::{provision, wait};

/// A page has loaded, an order is carried out, within this, on a machine that compiles.
const LIMIT: Duration = Duration::from_secs(30);
/// The browser reads its orders from 3 and writes to 4.
const PIPES: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >&2"#;

/// A running browser. Dropped: killed.
pub struct Browser {
    orders: Mutex<ChildStdin>,
    /// All that it has said.
    said: Arc<Mutex<Vec<Value>>>,
    last_order: AtomicU64,
    _process: Process,
}

impl Browser {
    /// Starts it with a profile of its own below `folder`. It reaches 127.0.0.1 and nobody else.
    pub fn start(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let mut command = Command::new("sh");
        command.args(["-c", PIPES, "browser"]).arg(provision::chromium()?);
        command.args([
            "--headless",
            "--remote-debugging-pipe",
            // It refuses to run as root otherwise; the only pages that it opens are ours.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--lang=en",
        ]);
        command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
        let (process, orders, answers) =
            Process::spawn_led("chromium", &mut command, &folder.join("chromium.log"))?;
        let said = Arc::<Mutex<Vec<Value>>>::default();
        let heard = said.clone();
        std::thread::Builder::new()
            .name("browser".into())
            .spawn(move || listen(answers, &heard))
            .context("listen to the browser")?;
        Ok(Self { orders: Mutex::new(orders), said, last_order: AtomicU64::new(0), _process: process })
    }

    /// An empty tab, watched from now on.
    pub async fn tab(&self) -> Result<Tab<'_>> {
        let target = self.order(None, "Target.createTarget", json!({ "url": "about:blank" })).await?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.order(None, "Target.attachToTarget", attach).await?;
        let session = attached["sessionId"].as_str().context("a session of the tab")?.to_owned();
        let tab = Tab { browser: self, session };
        for domain in ["Page", "Network", "Runtime", "Log"] {
            tab.order(&format!("{domain}.enable"), json!({})).await?;
        }
        Ok(tab)
    }

    async fn order(&self, session: Option<&str>, method: &str, params: Value) -> Result<Value> {
        let id = self.last_order.fetch_add(1, Ordering::Relaxed) + 1;
        let mut order = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            order["sessionId"] = session.into();
        }
        let mut text = order.to_string().into_bytes();
        text.push(0);
        lock(&self.orders).write_all(&text).with_context(|| format!("tell the browser: {method}"))?;
        let answer = wait::until(&format!("the browser's answer to {method}"), LIMIT, async || {
            lock(&self.said).iter().find(|said| said["id"] == id).cloned()
        })
        .await?;
        if !answer["error"].is_null() {
            bail!("the browser refuses {method}: {}", answer["error"]);
        }
        Ok(answer["result"].clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(answers: ChildStdout, said: &Mutex<Vec<Value>>) {
    // Its end ends the reading, and shows where somebody waits for it.
    for message in BufReader::new(answers).split(0).map_while(|message| message.ok()) {
        lock(said).extend(serde_json::from_slice::<Value>(&message));
    }
}

/// A tab of the browser.
pub struct Tab<'a> {
    browser: &'a Browser,
    session: String,
}

/// What a tab asked a server for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The address, without what stands behind its `#`.
    pub url: String,
    /// The headers as they were sent, names in lower case.
    pub headers: Value,
    /// The body.
    pub body: String,
}

impl Tab<'_> {
    /// Opens an address, as a click on a link in a mail does, and waits until it has loaded.
    pub async fn open(&self, url: &str) -> Result<()> {
        let loaded = self.loaded();
        let opened = self.order("Page.navigate", json!({ "url": url })).await?;
        if let Some(error) = opened["errorText"].as_str() {
            bail!("the browser does not open {url}: {error}");
        }
        self.until_loaded(loaded + 1).await
    }

    /// Presses Enter, which leads to another page, and waits until that has loaded.
    pub async fn press_enter(&self) -> Result<()> {
        let loaded = self.loaded();
        for kind in ["keyDown", "keyUp"] {
            let key = json!({
                "type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r",
            });
            self.order("Input.dispatchKeyEvent", key).await?;
        }
        self.until_loaded(loaded + 1).await
    }

    /// Types into the field that has the focus.
    pub async fn write(&self, text: &str) -> Result<()> {
        self.order("Input.insertText", json!({ "text": text })).await?;
        Ok(())
    }

    /// Presses Tab: the focus goes on.
    pub async fn press_tab(&self) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let key = json!({ "type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9 });
            self.order("Input.dispatchKeyEvent", key).await?;
        }
        Ok(())
    }

    /// Pages run no script of theirs from now on; what a test asks for by [`Tab::value`] is looked up still.
    pub async fn forbid_scripts(&self, forbidden: bool) -> Result<()> {
        self.order("Emulation.setScriptExecutionDisabled", json!({ "value": forbidden })).await?;
        Ok(())
    }

    /// Pages that are opened from now on are asked for in this language, and shown in `light` or `dark` colours.
    pub async fn prefer(&self, language: &str, colours: &str) -> Result<()> {
        let headers = json!({ "headers": { "accept-language": language } });
        self.order("Network.setExtraHTTPHeaders", headers).await?;
        let colours = json!({ "features": [{ "name": "prefers-color-scheme", "value": colours }] });
        self.order("Emulation.setEmulatedMedia", colours).await?;
        Ok(())
    }

    /// What axe-core finds wrong with the page, or cannot find to be right, for people with disabilities.
    pub async fn barriers(&self) -> Result<Value> {
        self.value(&std::fs::read_to_string(provision::axe()?).context("read axe-core")?).await?;
        let run = "axe.run().then(found => [...found.violations, ...found.incomplete].map(
                   rule => [rule.id, ...rule.nodes.map(node => `${node.html}: ${node.failureSummary}`)]))";
        self.value(run).await
    }

    /// The value of an expression of JavaScript in the page, or what it promises.
    pub async fn value(&self, expression: &str) -> Result<Value> {
        let evaluate = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let found = self.order("Runtime.evaluate", evaluate).await?;
        if !found["exceptionDetails"].is_null() {
            bail!("{expression}: {}", found["exceptionDetails"]);
        }
        Ok(found["result"]["value"].clone())
    }

    /// Waits until the field of this id has the focus: a page gives it away when it is first drawn, which is
    /// after it has loaded.
    pub async fn until_focused(&self, id: &str) -> Result<()> {
        let focused = async || (self.value("document.activeElement.id").await.ok()? == id).then_some(());
        wait::until(&format!("the focus on {id}"), LIMIT, focused).await
    }

    /// What a person reads on the page.
    pub async fn text(&self) -> Result<String> {
        let text = self.value("document.body.innerText").await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// All of the page as it stands, shown or not.
    pub async fn source(&self) -> Result<String> {
        let source = self.value("document.documentElement.outerHTML").await?;
        Ok(source.as_str().unwrap_or_default().to_owned())
    }

    /// All that was asked for, in order.
    pub fn asked(&self) -> Vec<Asked> {
        let sent = self.events("Network.requestWillBeSentExtraInfo");
        let asked = self.events("Network.requestWillBeSent").into_iter().map(|event| {
            let request = &event["request"];
            let text = |field: &str| request[field].as_str().unwrap_or_default().to_owned();
            let with_headers = sent.iter().find(|sent| sent["requestId"] == event["requestId"]);
            let headers = with_headers.map_or(&request["headers"], |sent| &sent["headers"]);
            let headers = headers.as_object().into_iter().flatten();
            Asked {
                method: text("method"),
                url: text("url"),
                headers: headers.map(|(name, value)| (name.to_lowercase(), value.clone())).collect(),
                body: text("postData"),
            }
        });
        asked.collect()
    }

    /// What it complains of on its console: failed requests, breaches of the page's policy, exceptions.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints: Vec<String> =
            self.events("Log.entryAdded").iter().map(|event| event["entry"]["text"].to_string()).collect();
        for method in ["Runtime.consoleAPICalled", "Runtime.exceptionThrown"] {
            complaints.extend(self.events(method).iter().map(Value::to_string));
        }
        complaints
    }

    fn loaded(&self) -> usize {
        self.events("Page.loadEventFired").len()
    }

    async fn until_loaded(&self, times: usize) -> Result<()> {
        wait::until("the page to load", LIMIT, async || (self.loaded() >= times).then_some(())).await
    }

    fn events(&self, method: &str) -> Vec<Value> {
        let ours = |said: &&Value| said["method"] == method && said["sessionId"] == self.session.as_str();
        lock(&self.browser.said).iter().filter(ours).map(|said| said["params"].clone()).collect()
    }

    async fn order(&self, method: &str, params: Value) -> Result<Value> {
        self.browser.order(Some(&self.session), method, params).await
    }
}
