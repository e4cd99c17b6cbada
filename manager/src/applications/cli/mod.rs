//! `keygate applications …`: for those who have no console yet.
//!
//! Unlike other commands these call a running manager with the caller's own API token: a signature is
//! somebody's, and permissions and four eyes hold as they do everywhere.

mod print;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use axum::http::Method;
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use crate::remote::{Answer, Remote, Target};

/// The form has moved on since the version that was named.
const CHANGED: u8 = 3;

/// Forms, at a running manager, as the operator whose token is in KEYGATE_TOKEN.
#[derive(Args)]
pub struct Command {
    #[command(flatten)]
    target: Target,
    /// Print the answers as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List forms, newest first.
    List(List),
    /// Show a form with what its reviewers look at, its history, and its version.
    Show {
        /// Number (KA-20260714-0001) or id.
        form: String,
    },
    /// Hand a draft in for review, or a returned form in again.
    Submit {
        /// Number or id.
        form: String,
    },
    /// Sign the level that waits.
    Approve(Word),
    /// Send a form back to its applicant.
    Return(Word),
    /// Refuse a form for good.
    Reject(Word),
    /// Take a form of one's own back for good.
    Withdraw {
        /// Number or id.
        form: String,
        /// Why.
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Keys with the forms that issued, changed and revoked them, newest first.
    History(History),
}

#[derive(Args)]
struct List {
    /// all, mine, waiting-for-me or reviewed.
    #[arg(long)]
    view: Option<String>,
    /// States, with commas: draft, pending_order, returned, approved, rejected, cancelled.
    #[arg(long)]
    state: Option<String>,
    /// Types, with commas: KA, KU, KR.
    #[arg(long = "type")]
    kind: Option<String>,
    /// Client id.
    #[arg(long)]
    client: Option<String>,
    /// Who filed it.
    #[arg(long)]
    applicant: Option<String>,
    #[command(flatten)]
    range: Range,
}

#[derive(Args)]
struct History {
    /// active, dormant, revoked; several with commas.
    #[arg(long)]
    status: Option<String>,
    /// Client id.
    #[arg(long)]
    client: Option<String>,
    /// An operator who signed.
    #[arg(long)]
    signer: Option<String>,
    /// Everything at once as a table (CSV).
    #[arg(long, conflicts_with_all = ["json", "limit", "cursor"])]
    csv: bool,
    #[command(flatten)]
    range: Range,
}

#[derive(Args)]
struct Range {
    /// Words that must all occur.
    #[arg(long)]
    keyword: Option<String>,
    /// First day, yyyy-MM-dd.
    #[arg(long)]
    from: Option<String>,
    /// Last day.
    #[arg(long)]
    until: Option<String>,
    /// Rows at most, 1 to 200.
    #[arg(long)]
    limit: Option<u32>,
    /// Where the page before said that it goes on.
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Args)]
struct Word {
    /// Number or id.
    form: String,
    /// What the applicant and the next reviewers are told.
    #[arg(long, default_value = "")]
    comment: String,
    /// The version that `show` has shown: what is signed is what was seen.
    #[arg(long)]
    version: i64,
}

/// Does it, and prints what came of it to `out`. 1: it was refused; 3: the form has changed since.
pub async fn run(command: Command, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let remote = command.target.open()?;
    let desk = Desk { remote, json: command.json };
    match command.verb {
        Verb::List(list) => {
            let List { view, state, kind, client, applicant, range } = list;
            let fields = [
                ("view", view),
                ("state", state),
                ("type", kind),
                ("client", client),
                ("applicant", applicant),
            ];
            let path = format!("/api/v1/applications?{}", range.query(fields));
            desk.get(&path, print::list, out).await
        }
        Verb::History(History { status, client, signer, csv, range }) => {
            let format = csv.then(|| "csv".to_owned());
            let fields = [("status", status), ("client", client), ("signer", signer), ("format", format)];
            let path = format!("/api/v1/reports/api-keys?{}", range.query(fields));
            desk.get(&path, print::history, out).await
        }
        Verb::Show { form } => {
            let id = desk.id_of(&form).await?;
            desk.get(&format!("/api/v1/applications/{id}"), print::form, out).await
        }
        Verb::Submit { form } => {
            let id = desk.id_of(&form).await?;
            let seen =
                desk.remote.call(Method::GET, &format!("/api/v1/applications/{id}"), None, None).await?;
            if seen.status >= 300 {
                return desk.end(seen, print::moved, out).await;
            }
            let verb = if seen.body["state"] == "returned" { "resubmit" } else { "submit" };
            let version = seen.body["version"].as_i64();
            desk.act(&id, verb, version, None, out).await
        }
        Verb::Approve(word) => desk.say("approve", word, out).await,
        Verb::Return(word) => desk.say("return", word, out).await,
        Verb::Reject(word) => desk.say("reject", word, out).await,
        Verb::Withdraw { form, comment } => {
            let id = desk.id_of(&form).await?;
            desk.act(&id, "withdraw", None, Some(json!({ "comment": comment })), out).await
        }
    }
}

impl Range {
    fn query<const N: usize>(self, fields: [(&str, Option<String>); N]) -> String {
        let Self { keyword, from, until, limit, cursor } = self;
        let limit = limit.map(|n| n.to_string());
        let own =
            [("keyword", keyword), ("from", from), ("until", until), ("limit", limit), ("cursor", cursor)];
        let mut query = Serializer::new(String::new());
        for (name, value) in fields.into_iter().chain(own) {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        }
        query.finish()
    }
}

/// An answer as people read it, with instants in that zone.
type Readable = fn(&Value, &TimeZone) -> String;

struct Desk {
    remote: Remote,
    json: bool,
}

impl Desk {
    /// The installation's zone, which dates on forms are meant in, too; of a manager that does not tell it
    /// (an older version), this machine's.
    async fn zone(&self) -> anyhow::Result<TimeZone> {
        let told = self.remote.call(Method::GET, "/api/v1/applications/summary", None, None).await?;
        let named = told.body["time_zone"].as_str().and_then(|name| TimeZone::get(name).ok());
        Ok(named.unwrap_or_else(TimeZone::system))
    }

    /// The id of a form that is named by its number or id.
    async fn id_of(&self, form: &str) -> anyhow::Result<String> {
        if form.starts_with("ap_") && form.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Ok(form.to_owned());
        }
        let query = Serializer::new(String::new()).append_pair("keyword", form).finish();
        let found =
            self.remote.call(Method::GET, &format!("/api/v1/applications?{query}"), None, None).await?;
        if found.status >= 300 {
            bail!("{}", print::problem(&found.body));
        }
        let items = found.body["items"].as_array().context("the answer is no list of forms")?;
        let form_of =
            |item: &&Value| item["number"].as_str().is_some_and(|number| number.eq_ignore_ascii_case(form));
        let item = items.iter().find(form_of);
        let id = item.and_then(|item| item["id"].as_str());
        id.map(str::to_owned).with_context(|| format!("there is no form {form} that you may see"))
    }

    async fn get(&self, path: &str, readable: Readable, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let answer = self.remote.call(Method::GET, path, None, None).await?;
        self.end(answer, readable, out).await
    }

    async fn say(&self, verb: &str, word: Word, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let id = self.id_of(&word.form).await?;
        let comment = json!({ "comment": word.comment });
        self.act(&id, verb, Some(word.version), Some(comment), out).await
    }

    async fn act(
        &self,
        id: &str,
        verb: &str,
        version: Option<i64>,
        body: Option<Value>,
        out: &mut impl Write,
    ) -> anyhow::Result<ExitCode> {
        let path = format!("/api/v1/applications/{id}/{verb}");
        let answer = self.remote.call(Method::POST, &path, version, body.as_ref()).await?;
        self.end(answer, print::moved, out).await
    }

    async fn end(
        &self,
        answer: Answer,
        readable: Readable,
        out: &mut impl Write,
    ) -> anyhow::Result<ExitCode> {
        if let Value::String(table) = &answer.body {
            write!(out, "{table}")?;
        } else if self.json {
            writeln!(out, "{:#}", answer.body)?;
        } else if answer.status < 300 {
            write!(out, "{}", readable(&answer.body, &self.zone().await?))?;
        } else {
            writeln!(out, "{}", print::problem(&answer.body))?;
        }
        Ok(match answer.status {
            200..300 => ExitCode::SUCCESS,
            412 => ExitCode::from(CHANGED),
            _ => ExitCode::FAILURE,
        })
    }
}
