//! `keygate mail …`

use clap::Subcommand;

use super::contexts::TestMail;
use super::model::About;
use super::{MailContext as _, NewMail, Transport, enqueue, render, transport::Letter};
use crate::app::App;
use crate::validity::print_instant;

/// Mails, from the command line.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send a test mail at once, past the outbox, and say how it went.
    Test {
        /// To whom.
        #[arg(long)]
        to: String,
        /// Write it into the outbox instead, for the running server to send.
        #[arg(long)]
        queue: bool,
    },
}

/// Runs one command.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Test { to, queue } => {
            let now = app.now();
            let context = TestMail {
                product_name: app.config.product_name.clone(),
                asked_at: print_instant(now, &app.config.zone()),
                asked_by: "the command line".into(),
            };
            let id = app.random.id("ml");
            if queue {
                let mail = NewMail {
                    recipients: vec![to.into()],
                    context,
                    not_before: now,
                    about: About::new("test", &id),
                };
                let mut tx = app.db.write("mail.test").await?;
                let ids = enqueue(&mut tx, app, mail, now).await?;
                tx.commit().await?;
                println!("queued: {}", ids.join(" "));
                return Ok(());
            }
            let transport = Transport::open(&app.config)?;
            let rendered = render(&app.config, TestMail::TEMPLATE, app.config.mail_language, &context)?;
            let letter = Letter { id: &id, recipient: &to, rendered: &rendered, written_at: now };
            let via = transport.send(&letter).await?;
            println!("sent: {id} ({})", via.name());
            Ok(())
        }
    }
}
