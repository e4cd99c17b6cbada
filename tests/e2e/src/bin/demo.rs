//! The story, played with real programs and told as it goes over the wire: a client, an API, an
//! application, two approvals, the mail with the key; then calls through Envoy, let in and refused,
//! until the quota runs out. Every status and code is asserted: a step that goes another way ends it.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use e2e::api::{self, Operator};
use e2e::cast::Pair;
use e2e::client::{self, Answer, Body, Call};
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::{Value, json};

/// As `credential_mail_delay_s` is set: the documented ten minutes are no demo.
const MAIL_DELAY_S: u64 = 3;
/// When a mail is given up.
const MAIL_LIMIT: Duration = Duration::from_secs(30);
/// Uses of the key that is applied for.
const QUOTA: u64 = 5;
/// The client's own.
const PASSWORD: &str = "acme-2026-secret";
/// What asks for a token.
const ASKING: &str = "grant_type=client_credentials";
/// A revocation reaches every connected filter within this.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);

#[derive(Parser)]
struct Arguments {
    /// Exit when the story is told.
    #[arg(long)]
    once: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match e2e::run(play(arguments.once)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn play(once: bool) -> Result<()> {
    let mut story = Story::begin().await?;
    let team = story.team().await?;
    let shop = story.catalog_and_client(&team.admin).await?;
    let form = story.application(&team, &shop).await?;
    let pair = story.mailed_pair(&form).await?;
    story.calls(&pair).await?;
    let x_api_key = story.x_api_key(&team.admin, &shop).await?;
    story.quota_runs_out(&pair).await?;
    story.token(&team.admin, &shop).await?;
    story.revocation(&team.admin, &x_api_key).await?;
    story.audit()?;
    println!("\n{}", bold("The story is told: every answer was as it had to be."));
    if once {
        return Ok(());
    }
    story.stay(&team, &shop).await
}

struct Story {
    world: World,
    chapter: u32,
}

/// Who takes part.
struct Team {
    admin: Operator,
    ann: Operator,
    bob: Operator,
    eve: Operator,
}

/// What is called, and by whom.
struct Shop {
    orders: String,
    group: String,
    client: String,
}

/// An X-Api-Key as it was shown, once.
struct ShownKey {
    id: String,
    text: String,
}

impl Story {
    async fn begin() -> Result<Self> {
        println!("{}", bold("Starting the manager, Envoy, a mail catcher and a sample upstream"));
        let plan =
            Plan { settings: vec![("credential_mail_delay_s", MAIL_DELAY_S.to_string())], ..Plan::default() };
        let world = World::start("demo", plan).await?;
        println!("  manager   http://{}", world.manager.address);
        println!("  Envoy     http://{}", world.envoy().address);
        println!("  mail      smtp://{}", world.mail.address);
        println!("  upstream  http://{}", world.upstream.address);
        Ok(Self { world, chapter: 0 })
    }

    async fn team(&mut self) -> Result<Team> {
        self.chapter("An applicant and two reviewers get accounts");
        let admin = self.world.admin.clone();
        let mut operators = Vec::new();
        for (name, role) in [("ann", "applicant"), ("bob", "reviewer_1"), ("eve", "reviewer_2")] {
            let (given, own) = (format!("{name}-is-given-this"), format!("{name}-plays-a-part"));
            let body = json!({
                "name": name,
                "email": format!("{name}@example.com"),
                "password": given,
                "roles": [role],
            });
            self.manage(&admin, "POST", "/api/v1/operators", body, "201").await?;
            operators.push(Operator::sign_in_first(self.world.manager.address, name, &given, &own).await?);
        }
        let [ann, bob, eve] =
            <[Operator; 3]>::try_from(operators).map_err(|_| anyhow::anyhow!("three were created"))?;
        self.chapter("An application for a key needs two signatures: one of each reviewer's role");
        let levels = json!({ "levels": [["reviewer_1"], ["reviewer_2"]] });
        self.manage(&admin, "PUT", "/api/v1/approval-flows/KA", levels, "200").await?;
        Ok(Team { admin, ann, bob, eve })
    }

    async fn catalog_and_client(&mut self, admin: &Operator) -> Result<Shop> {
        self.chapter("Two APIs are registered, and one of them is put into a group");
        let api = |id: &str, path: &str| {
            json!({
                "module": "shop",
                "id": id,
                "path": { "prefix": path },
                "accepts": ["dgrk", "x_api_key", "bearer"],
            })
        };
        let orders = self.manage(admin, "POST", "/api/v1/apis", api("orders", "/orders"), "201").await?;
        let orders = api::text(&orders, "uid")?;
        self.manage(admin, "POST", "/api/v1/apis", api("reports", "/reports"), "201").await?;
        let group = json!({ "name": "partners", "apis": [orders] });
        let group = self.manage(admin, "POST", "/api/v1/groups", group, "201").await?;
        let group = api::text(&group, "id")?;

        self.chapter("A partner becomes a client");
        let client = json!({
            "name": "acme",
            "display_name": "Acme Ltd.",
            "password": PASSWORD,
            "password_confirmation": PASSWORD,
            "note": "Orders from the Acme shop",
            "emails": "it@acme.example",
            "groups": [group],
        });
        let client = self.manage(admin, "POST", "/api/v1/clients", client, "201").await?;
        Ok(Shop { orders, group, client: api::text(&client, "id")? })
    }

    async fn application(&mut self, team: &Team, shop: &Shop) -> Result<Value> {
        self.chapter(&format!(
            "Ann applies for a key: {QUOTA} calls of the orders API, from today for a year"
        ));
        let form = json!({
            "type": "KA",
            "client": shop.client,
            "name": "acme orders",
            "effective_date": wait::day(0),
            "expiry_date": wait::day(365),
            "quota": QUOTA,
            "description": "Orders from the Acme shop",
            "apis": [shop.orders],
        });
        let form = self.manage(&team.ann, "POST", "/api/v1/applications", form, "201").await?;
        let path = format!("/api/v1/applications/{}", api::text(&form, "id")?);
        let form = self.manage(&team.ann, "POST", &format!("{path}/submit"), Value::Null, "200").await?;
        ensure!(form["state"] == "pending_order" && form["level"] == 1, "submitted: {form}");

        self.chapter("Ann cannot sign her own form, and Eve not before Bob");
        self.manage(&team.ann, "POST", &format!("{path}/approve"), json!({}), "403").await?;
        self.manage(&team.eve, "POST", &format!("{path}/approve"), json!({}), "403").await?;

        self.chapter("Bob approves at level 1, Eve at level 2: the key is issued in that very transaction");
        let comment = |text: &str| json!({ "comment": text });
        let form = self
            .manage(&team.bob, "POST", &format!("{path}/approve"), comment("a good customer"), "200")
            .await?;
        ensure!(form["state"] == "pending_order" && form["level"] == 2, "after the first signature: {form}");
        let form =
            self.manage(&team.eve, "POST", &format!("{path}/approve"), comment("agreed"), "200").await?;
        ensure!(form["state"] == "approved", "after the second signature: {form}");
        Ok(form)
    }

    async fn mailed_pair(&mut self, form: &Value) -> Result<Pair> {
        let number = api::text(form, "number")?;
        self.chapter(&format!("The credentials of {number} are mailed to the client after {MAIL_DELAY_S} s"));
        let subject = "Notification API Key Authorization Result";
        let mail = self.world.mail.mail_to("it@acme.example", subject, MAIL_LIMIT).await?;
        println!("\n{} To: {}\n  Subject: {}", arrow('<'), mail.to.join(", "), mail.subject);
        for line in mail.text.lines() {
            println!("  {line}");
        }
        Pair::in_mail(&mail)
    }

    async fn calls(&mut self, pair: &Pair) -> Result<()> {
        let order = r#"{ "order": 1, "price": 9.90 }"#;
        let signed = |call: Call| pair.sign(call);

        self.chapter("A call signed with the key from that mail reaches the upstream");
        let answer = self.through(signed(Call::post("/orders", order)), "200").await?;
        let echo = answer.echo()?;
        ensure!(echo.body == order, "the upstream received the body as it was sent: {}", echo.body);
        ensure!(echo.header("x-keygate-client-id").len() == 1, "the upstream learns who calls: {echo:?}");

        self.chapter("What is not allowed is refused, each with its own code, and uses nothing up");
        self.through(Call::post("/orders", order), "401 credential_missing").await?;
        let mut tampered = signed(Call::post("/orders", order));
        tampered.body = Body::Whole(r#"{ "order": 1, "price": 0.01 }"#.into());
        self.through(tampered, "401 signature_incorrect").await?;
        let stranger = Call::post("/orders", order).signed(&"A".repeat(56), &pair.secret_key);
        self.through(stranger, "401 credential_unknown").await?;
        self.through(signed(Call::get("/reports")), "403 permission_denied").await?;
        self.through(signed(Call::get("/orders//7")), "400 path_ambiguous").await?;
        self.through(signed(Call::get("/nothing")), "404 api_not_found").await?;

        self.chapter("Nobody can claim to be somebody: the gate's headers are its own");
        let claim = signed(Call::get("/orders/7")).header("x-keygate-client-id", "the-boss");
        let echo = self.through(claim, "200").await?.echo()?;
        ensure!(!echo.header("x-keygate-client-id").contains(&"the-boss"), "the claim is gone: {echo:?}");
        Ok(())
    }

    async fn x_api_key(&mut self, admin: &Operator, shop: &Shop) -> Result<ShownKey> {
        self.chapter("The simple kind: an X-Api-Key for a group of APIs, shown once");
        let body = json!({
            "client": shop.client,
            "alias": "acme backoffice",
            "effective_date": wait::day(0),
            "expiry_date": wait::day(30),
            "groups": [shop.group],
        });
        let made = self.manage(admin, "POST", "/api/v1/x-api-keys", body, "201").await?;
        let key = ShownKey { id: api::text(&made, "id")?, text: api::text(&made, "x_api_key")? };
        self.through(Call::get("/orders/7").x_api_key(&key.text), "200").await?;
        self.through(Call::get("/reports").x_api_key(&key.text), "403 permission_denied").await?;
        self.through(Call::get("/orders/7").x_api_key("no-such-key"), "401 credential_unknown").await?;
        Ok(key)
    }

    async fn quota_runs_out(&mut self, pair: &Pair) -> Result<()> {
        // Two were let in above.
        self.chapter(&format!("{QUOTA} uses were granted: the last of them is let in, the next is not"));
        for use_ in 3..=QUOTA + 1 {
            let call = Call::post("/orders", format!(r#"{{"order":{use_}}}"#));
            let expected = if use_ <= QUOTA { "200" } else { "429 quota_exhausted" };
            self.through(pair.sign(call), expected).await?;
        }
        Ok(())
    }

    async fn token(&mut self, admin: &Operator, shop: &Shop) -> Result<()> {
        self.chapter("A token for the client's password, which serves three times within one day");
        let settings = json!({
            "grant_types": ["client_credentials"],
            "access_token": { "validity": 1, "unit": "days", "uses": 3 },
            "refresh_token": { "validity": 0, "unit": "days", "uses": 0 },
            "redirect_urls": [],
        });
        let path = format!("/api/v1/clients/{}/token-settings", shop.client);
        self.manage(admin, "PUT", &path, settings, "200").await?;
        let pair = STANDARD.encode(format!("{}:{PASSWORD}", shop.client));
        let ask = Call::new("POST", "/oauth/token")
            .body(ASKING)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", format!("Basic {pair}"));
        let token = api::text(&self.through(ask, "200").await?.json(), "access_token")?;
        for _ in 0..3 {
            self.through(Call::get("/orders/7").bearing(&token), "200").await?;
        }
        self.through(Call::get("/orders/7").bearing(&token), "401 token_used_up").await?;
        Ok(())
    }

    async fn revocation(&mut self, admin: &Operator, key: &ShownKey) -> Result<()> {
        self.chapter("A deleted key is refused within a second");
        self.manage(admin, "DELETE", &format!("/api/v1/x-api-keys/{}", key.id), Value::Null, "204").await?;
        let deleted = wait::now();
        let call = Call::get("/orders/7").x_api_key(&key.text);
        loop {
            let answer = self.world.call(&call).await?;
            if answer.verdict() == "401 credential_unknown" {
                break;
            }
            ensure!(answer.status == 200, "until then it is let in: {}", answer.text());
            ensure!(
                deleted.elapsed() < REVOCATION_LIMIT,
                "still let in after {} ms",
                deleted.elapsed().as_millis()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!("\n  refused {} ms after the answer to DELETE", deleted.elapsed().as_millis());
        self.through(call, "401 credential_unknown").await?;
        Ok(())
    }

    fn audit(&mut self) -> Result<()> {
        self.chapter("All of it is in the audit trail, whose chain of hashes is whole");
        print!("\n$ keygate audit verify\n{}", self.world.manager.run(&["audit", "verify"])?);
        Ok(())
    }

    async fn stay(&mut self, team: &Team, shop: &Shop) -> Result<()> {
        let manager = self.world.manager.address;
        let envoy = self.world.envoy().address;
        let body = json!({
            "client": shop.client,
            "alias": "for you",
            "effective_date": wait::day(0),
            "expiry_date": wait::day(30),
            "groups": [shop.group],
        });
        let key = api::text(&team.admin.post("/api/v1/x-api-keys", body).await?, "x_api_key")?;
        println!("\n{}", bold("It all stays up until Ctrl-C. To copy:"));
        println!("\n  # a call that is let in, and one that is not");
        println!("  curl -i http://{envoy}/orders/7 -H 'x-api-key: {key}'");
        println!("  curl -i http://{envoy}/reports -H 'x-api-key: {key}'");
        println!("\n  # a token for the client's password: it serves three times");
        println!("  curl -s http://{envoy}/oauth/token -u '{}:{PASSWORD}' -d {ASKING}", shop.client);
        println!("\n  # as administrator");
        println!("  TOKEN={}", team.admin.token());
        println!("  curl -s http://{manager}/api/v1/clients -H \"Authorization: Bearer $TOKEN\"");
        println!("  curl -s http://{manager}/api/v1/gateways -H \"Authorization: Bearer $TOKEN\"");
        println!("\n  # Envoy's own view");
        println!("  curl -s http://{}/stats?filter=keygate", self.world.envoy().admin);
        println!("\n  Configurations, database and logs: {}", self.world.folder.display());
        // Ctrl-C ends us, and the guard process all that we have started.
        tokio::signal::ctrl_c().await.context("wait for Ctrl-C")?;
        println!("\nStopping");
        Ok(())
    }

    fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        println!("\n{}", bold(&format!("{}. {title}", self.chapter)));
    }

    /// A call of the management API, told and asserted. Writes to something that exists carry the
    /// version seen.
    async fn manage(
        &self,
        operator: &Operator,
        method: &str,
        path: &str,
        body: Value,
        expected: &str,
    ) -> Result<Value> {
        let mut call = Call::new(method, path);
        if let Some(version) = self.version_seen(operator, method, path).await? {
            call = call.header("if-match", version);
        }
        if !body.is_null() {
            call = call.header("content-type", "application/json").body(body.to_string());
        }
        let call = operator.signed_in(call);
        tell_call(&format!("{} as {}", self.world.manager.address, operator.name), &call);
        let answer = client::http1(self.world.manager.address, &call).await?;
        tell_answer(&answer);
        if answer.status.to_string() != expected {
            bail!("{method} {path} was to be answered {expected}, and was {}", answer.verdict());
        }
        Ok(answer.json())
    }

    /// The ETag of what `path` is about, where there is such a thing already.
    async fn version_seen(&self, operator: &Operator, method: &str, path: &str) -> Result<Option<String>> {
        let resource = match (method, path.rsplit_once('/')) {
            ("POST", Some((resource, action))) if resource.matches('/').count() > 3 && !action.is_empty() => {
                resource
            }
            ("PUT" | "PATCH" | "DELETE", _) => path,
            _ => return Ok(None),
        };
        let present = operator.call(Call::get(resource)).await?;
        Ok(present.header("etag").map(str::to_owned))
    }

    /// A call through Envoy, told and asserted.
    async fn through(&self, call: Call, expected: &str) -> Result<Answer> {
        let envoy = self.world.envoy().address;
        tell_call(&envoy.to_string(), &call);
        let answer = self.world.call(&call).await?;
        tell_answer(&answer);
        if answer.verdict() != expected {
            bail!(
                "{} {} was to be answered {expected}, and was {}",
                call.method,
                call.path,
                answer.verdict()
            );
        }
        Ok(answer)
    }
}

fn tell_call(to: &str, call: &Call) {
    println!("\n{} {} {} HTTP/1.1    (to {to})", arrow('>'), call.method, call.path);
    for (name, value) in &call.headers {
        println!("  {name}: {}", String::from_utf8_lossy(value));
    }
    if let Body::Whole(body) = &call.body {
        println!("\n  {}", String::from_utf8_lossy(body));
    }
}

fn tell_answer(answer: &Answer) {
    println!("{} HTTP/1.1 {}", arrow('<'), answer.status);
    for (name, value) in &answer.headers {
        println!("  {name}: {value}");
    }
    if !answer.body.is_empty() {
        println!("\n  {}", answer.text().trim_end().replace('\n', "\n  "));
    }
}

fn arrow(direction: char) -> String {
    if std::io::stdout().is_terminal() {
        format!("\x1b[36m{direction}\x1b[0m")
    } else {
        direction.to_string()
    }
}

fn bold(text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}
