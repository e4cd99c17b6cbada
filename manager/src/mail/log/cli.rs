//! `keygate mail log`, `show`, `resend`, `cancel`

use anyhow::{Context as _, bail};
use clap::Args;
use gate::time::UnixMillis;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::super::health;
use super::super::model::{About, Mail, MailState};
use super::super::store as mails;
use super::super::templates::Template;
use super::actions;
use super::model::{Search, reissue};
use super::store;
use crate::app::App;
use crate::validity::{parse_date, print_instant};

/// Who did it, in the audit trail.
const BY: &str = "cli";
/// Mails that one call prints at most.
const MAX_LISTED: u32 = 1_000;

/// List mails, newest first, and say what keeps them from going out.
#[derive(Debug, Args)]
pub struct List {
    /// waiting, sending, sent or failed.
    #[arg(long)]
    state: Option<String>,
    /// Name of the template, such as key_credentials.
    #[arg(long)]
    template: Option<String>,
    /// The whole address.
    #[arg(long)]
    recipient: Option<String>,
    /// What it is about, such as key:key_…
    #[arg(long, value_name = "KIND:ID")]
    about: Option<String>,
    /// First day (yyyy-MM-dd, in the installation's zone).
    #[arg(long)]
    from: Option<String>,
    /// Last day.
    #[arg(long)]
    to: Option<String>,
    /// In the subject.
    #[arg(long)]
    keyword: Option<String>,
    /// How many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LISTED)))]
    limit: u32,
}

/// A mail.
#[derive(Debug, Args)]
pub struct One {
    /// Its id, as `keygate mail log` prints it.
    pub(super) id: String,
}

pub async fn list(app: &App, command: List) -> anyhow::Result<()> {
    let zone = app.config.zone();
    let one_of = |what: &str, value: &Option<String>, known: &[&str]| match value {
        Some(value) if !known.contains(&value.as_str()) => bail!("--{what} is one of {}", known.join(", ")),
        _ => Ok(()),
    };
    one_of("state", &command.state, &MailState::NAMES)?;
    one_of("template", &command.template, &Template::ALL.map(Template::name))?;
    let about = match command.about.as_deref().map(|about| about.split_once(':')) {
        Some(Some((kind, id))) => Some(About::new(kind, id)),
        Some(None) => bail!("--about is KIND:ID, such as key:key_…"),
        None => None,
    };
    let day = |what: &str, value: Option<&str>| {
        value
            .map(|text| {
                parse_date(text).with_context(|| format!("--{what}: {text:?} is no day such as 2026-07-14"))
            })
            .transpose()
    };
    let (from, to) = (day("from", command.from.as_deref())?, day("to", command.to.as_deref())?);
    let search = Search {
        state: command.state,
        template: command.template,
        recipient: command.recipient,
        about,
        from: from.map(|day| begin_of(day, &zone)).transpose()?,
        to: to.map(|day| begin_of(day.tomorrow()?, &zone).map(|next| UnixMillis(next.0 - 1))).transpose()?,
        keyword: command.keyword,
        before: None,
    };
    let mut conn = app.db.snapshot().await?;
    let found = store::list(&mut conn, &search, i64::from(command.limit) + 1).await?;
    for mail in found.iter().take(command.limit as usize) {
        println!(
            "{}  {}  {:<8}{} {:<25}  {}  {}",
            mail.id,
            print_instant(mail.created_at, &zone),
            mail.state.name(),
            if mail.maybe_repeated { '*' } else { ' ' },
            mail.template.name(),
            mail.recipient,
            mail.subject
        );
    }
    if found.iter().any(|mail| mail.maybe_repeated) {
        println!("* may have arrived more than once");
    }
    if found.len() > command.limit as usize {
        println!("there are more: narrow the search, or raise --limit");
    }
    for warning in health::warnings(&mut conn, app).await? {
        eprintln!("keygate: warning: {}", warning.message);
    }
    Ok(())
}

fn begin_of(day: Date, zone: &TimeZone) -> anyhow::Result<UnixMillis> {
    Ok(UnixMillis(day.to_zoned(zone.clone())?.timestamp().as_millisecond()))
}

/// Writes a mail that was sent or given up once more, as a new one, and shows that.
pub async fn resend(app: &App, command: One) -> anyhow::Result<()> {
    let new = actions::resend(app, &command.id, BY, app.now()).await?;
    show(app, One { id: new.id }).await?;
    for warning in health::warnings(&mut *app.db.read().await?, app).await? {
        eprintln!("keygate: warning: {}", warning.message);
    }
    Ok(())
}

/// Ends a mail that waits, and shows what is left of it.
pub async fn cancel(app: &App, command: One) -> anyhow::Result<()> {
    let ended = actions::cancel(app, &command.id, BY, app.now()).await?;
    show(app, One { id: ended.id }).await
}

/// Shows a mail with its text, secrets masked, and what came of each attempt.
pub async fn show(app: &App, command: One) -> anyhow::Result<()> {
    let zone = app.config.zone();
    let mut conn = app.db.snapshot().await?;
    let id = command.id;
    println!("Mail:     {id}");
    let mail = mails::by_id(&mut conn, &id).await?.with_context(|| format!("there is no mail {id}"))?;
    println!("To:       {}", mail.recipient);
    println!("Subject:  {}", mail.subject);
    println!("About:    {} {} ({})", mail.about.kind, mail.about.id, mail.template.name());
    println!("Written:  {}", print_instant(mail.created_at, &zone));
    println!("State:    {}", state(&mail, &zone));
    if mail.maybe_repeated {
        println!(
            "          some attempt ended without the server's answer: it may have arrived more than once"
        );
    }
    if let Some(error) = &mail.last_error {
        println!("Error:    {error}");
    }
    if !mail.state.is_pending() {
        match reissue(&mail) {
            Some(instead) => println!("Again:    it held a secret: {instead}"),
            None if mail.template.carries_secret() => {
                println!("Again:    not at all: what it held is no longer in force");
            }
            None => println!("Again:    keygate mail resend {id}, or POST /api/v1/mails/{id}/resend"),
        }
    }
    for past in store::attempts(&mut conn, &id).await? {
        println!(
            "Attempt:  {} at {}, {} {}: {}",
            past.attempt,
            print_instant(past.started_at, &zone),
            past.server,
            past.outcome,
            past.answer
        );
    }
    println!("\n{}", mail.body_masked);
    Ok(())
}

fn state(mail: &Mail, zone: &TimeZone) -> String {
    let name = mail.state.name();
    match mail.state {
        MailState::Waiting { next_attempt_at: at } => {
            format!("{name}, next attempt {}", print_instant(at, zone))
        }
        MailState::Sending { claimed_until: _ } => name.into(),
        MailState::Sent { sent_at: at, via } => {
            format!("{name} {} by {}", print_instant(at, zone), via.name())
        }
        MailState::Failed { failed_at: at } => format!("{name} {}", print_instant(at, zone)),
    }
}
