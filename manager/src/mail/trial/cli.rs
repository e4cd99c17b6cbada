//! `keygate mail test`

use anyhow::bail;
use clap::{Args, ValueEnum};

use super::super::contexts::TestMail;
use super::super::model::{About, Via};
use super::super::{NewMail, enqueue};
use super::{Trial, try_out};
use crate::app::App;
use crate::validity::print_instant;

/// Send a test mail at once, past the outbox, and say step by step how the conversation with the
/// server goes. Works while the manager runs, and when the server takes the mail, what waits is sent
/// at once. Ends with 1 when it does not.
#[derive(Debug, Args)]
pub struct Test {
    /// To whom.
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// Which server; without it the first one.
    #[arg(long, value_enum)]
    server: Option<Server>,
    /// Write it into the outbox instead, for the running server to send.
    #[arg(long, conflicts_with = "server")]
    queue: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Server {
    Primary,
    Secondary,
}

pub async fn run(app: &App, command: Test) -> anyhow::Result<()> {
    if command.queue {
        return queue(app, command.to).await;
    }
    let via = command.server.map(|server| match server {
        Server::Primary => Via::Primary,
        Server::Secondary => Via::Secondary,
    });
    let mut told = |event: &super::Event| println!("{:<10}  {}", event.step.name(), event.told);
    let trial = try_out(app, &command.to, via, "cli", &mut told).await?;
    match &trial.outcome {
        Ok(answer) => {
            print!("{}", taken(&trial, answer, &command.to));
            Ok(())
        }
        Err(fault) => bail!("{}\n  {}", fault.told, fault.advice),
    }
}

/// What to do after a server, or the folder, has taken the mail.
pub(super) fn taken(trial: &Trial, answer: &str, to: &str) -> String {
    match trial.via {
        Via::File => format!(
            "{answer}\nThe mail for {to} is a file in {}, and so are all others: mail_transport is `file`, nothing \
             is sent to anybody\n",
            trial.server
        ),
        Via::Primary | Via::Secondary => format!(
            "{} took it: {answer}\nMessage-ID {}: look whether it arrived at {to}, among spam too\n",
            trial.server, trial.mail
        ),
    }
}

async fn queue(app: &App, to: String) -> anyhow::Result<()> {
    let (now, id) = (app.now(), app.random.id("ml"));
    let mail = NewMail {
        recipients: vec![to.into()],
        context: TestMail {
            product_name: app.config.product_name.clone(),
            asked_at: print_instant(now, &app.config.zone()),
            asked_by: None,
        },
        not_before: now,
        about: About::new("test", id),
    };
    let mut tx = app.db.write("mail.test").await?;
    let ids = enqueue(&mut tx, app, mail, now).await?;
    tx.commit().await?;
    println!("queued: {}; follow it with `keygate mail show {}`", ids.join(" "), ids.join(" "));
    Ok(())
}
