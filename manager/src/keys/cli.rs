//! `keygate keys …`

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use gate::id::{ApiUid, ClientId, CredentialId};
use gate::time::UnixMillis;
use gate::wire::exchange::MeterKind;

use super::actions::{self, KeyError};
use super::history::{self, Event};
use super::http::ImportJson;
use super::model::{Key, UseQuota};
use super::{secrets, store};
use crate::app::App;
use crate::http::MAX_PAGE;
use crate::mail::{self, MailState, Template};
use crate::validity::{Validity, print_instant};
use crate::{catalog, clients, quotas, tokens};

/// Mails about a key that are looked through for those that wait, the newest.
const MAX_MAILS: i64 = 100;
/// Bytes of a file with a secret at most: beyond this it is another file.
const MAX_SECRET_FILE_BYTES: u64 = 4_096;

/// DGRK keys, from the command line of the machine that holds the database.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List keys, one a line.
    List {
        /// Of this client alone.
        #[arg(long)]
        client: Option<String>,
    },
    /// Show a key, what is left of its quota, and its secrets without their text.
    Show {
        /// `key_…`.
        id: String,
    },
    /// Show what happened to a key, newest first.
    History {
        /// `key_…`.
        id: String,
    },
    /// Give a key a second secret and mail it to its client: both sign until the old one ends. Without an id:
    /// make the next key that signs tokens.
    Rotate {
        /// `key_…`.
        id: Option<String>,
        /// Hours after which the old secret ends by itself; 0: when it is retired. Default: the
        /// setting key_secret_overlap_h.
        #[arg(long, requires = "id")]
        overlap_h: Option<u32>,
    },
    /// Take a key that signs tokens out at once, because others may know it: what it has signed serves no more.
    Withdraw {
        /// `kid_…`, as `GET /api/v1/token-keys` and the header of its tokens name it.
        kid: String,
        /// Do it without asking; needed where nobody sits at a terminal.
        #[arg(long)]
        yes: bool,
    },
    /// End one of a key's two secrets.
    Retire {
        /// `key_…`.
        id: String,
        /// `sec_…`, as `show` names it.
        secret: String,
    },
    /// Send the pair to its client once more.
    Resend {
        /// `key_…`.
        id: String,
    },
    /// Switch a key on again.
    Activate {
        /// `key_…`.
        id: String,
    },
    /// Switch a key off.
    Deactivate {
        /// `key_…`.
        id: String,
    },
    /// End a key for good.
    Revoke {
        /// `key_…`.
        id: String,
    },
    /// Bring in a pair that was made elsewhere, so that its holder need not change anything.
    Import {
        /// Whose key it becomes: a client id.
        #[arg(long)]
        client: String,
        /// The public API key.
        #[arg(long)]
        api_key: String,
        /// File that holds the secret key, `-` for standard input: command lines are seen by others.
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
        /// What people call it.
        #[arg(long)]
        name: String,
        /// First day, yyyy-MM-dd; default: today.
        #[arg(long, value_name = "DATE")]
        effective_date: Option<String>,
        /// Last day, yyyy-MM-dd.
        #[arg(long, value_name = "DATE")]
        expiry_date: String,
        /// How often it may be used in all; -1 = unlimited.
        #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
        quota: i64,
        /// What it may call: the uid of an API; repeat for several.
        #[arg(long = "api", required = true)]
        apis: Vec<String>,
    },
}

/// Runs one command.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    const BY: &str = "cli";
    let key = match command {
        Command::List { client } => return list(app, client.map(ClientId)).await,
        Command::History { id } => return show_history(app, &CredentialId(id)).await,
        Command::Show { id } => {
            let id = CredentialId(id);
            store::by_id(&mut *app.db.read().await?, &id).await?.ok_or(KeyError::NotFound { id })?
        }
        Command::Rotate { id: None, .. } => return tokens::keys::cli::rotate(app).await,
        Command::Withdraw { kid, yes } => return tokens::keys::cli::withdraw(app, &kid, yes).await,
        Command::Rotate { id: Some(id), overlap_h } => {
            let key = secrets::rotate(app, &CredentialId(id), overlap_h, None, BY).await?;
            return show_with_mails(app, &key).await;
        }
        Command::Retire { id, secret } => secrets::retire(app, &CredentialId(id), &secret, None, BY).await?,
        Command::Resend { id } => {
            let key = secrets::resend(app, &CredentialId(id), BY).await?;
            return show_with_mails(app, &key).await;
        }
        Command::Activate { id } => actions::set_active(app, &CredentialId(id), true, None, BY).await?,
        Command::Deactivate { id } => actions::set_active(app, &CredentialId(id), false, None, BY).await?,
        Command::Revoke { id } => actions::revoke_now(app, &CredentialId(id), None, BY).await?,
        Command::Import { client, api_key, secret_file, name, effective_date, expiry_date, quota, apis } => {
            let secret_key = read_secret(&secret_file)?;
            let asked =
                ImportJson { client, api_key, secret_key, name, effective_date, expiry_date, quota, apis };
            let (new, pair) = asked.parse(app).map_err(|problem| {
                anyhow::anyhow!("{}: {}", problem.field.unwrap_or_default(), problem.detail)
            })?;
            let key = actions::import(app, new, pair, BY).await?;
            println!("key: {}", key.id);
            return Ok(());
        }
    };
    show(app, &key).await
}

async fn list(app: &App, client: Option<ClientId>) -> anyhow::Result<()> {
    if let Some(client) = &client
        && clients::by_id(&mut *app.db.read().await?, client.as_str()).await?.is_none()
    {
        bail!("there is no client `{client}`: ids are those of the console and of GET /api/v1/clients");
    }
    let mut after = String::new();
    loop {
        let mut conn = app.db.read().await?;
        let keys = store::list(&mut conn, client.as_ref(), &after, i64::from(MAX_PAGE)).await?;
        for key in &keys {
            let days = Validity::of_instants(key.validity, &app.config.zone());
            println!(
                "{}  {}  {:<16}  {} to {}  {}",
                key.id,
                key.client,
                key.label(app.now()),
                days.effective_on(),
                days.expires_on(),
                key.name.as_str()
            );
        }
        match keys.last() {
            Some(last) if keys.len() == MAX_PAGE as usize => after = last.id.0.clone(),
            Some(_) | None => return Ok(()),
        }
    }
}

async fn show(app: &App, key: &Key) -> anyhow::Result<()> {
    let (zone, mut conn) = (app.config.zone(), app.db.read().await?);
    let days = Validity::of_instants(key.validity, &zone);
    let used = quotas::meter_of(&mut conn, MeterKind::KeyUses, key.id.as_str()).await?;
    let uids: Vec<ApiUid> = key.apis.iter().cloned().collect();
    println!("key: {}", key.id);
    println!("client: {}", key.client);
    println!("name: {}", key.name.as_str());
    println!("state: {}", key.label(app.now()));
    println!("days: {} to {}", days.effective_on(), days.expires_on());
    match key.uses {
        UseQuota::Unlimited => println!("quota: unlimited"),
        UseQuota::Uses(uses) => println!("quota: {uses}, used {}", used.map_or(0, |meter| meter.debited)),
    }
    let mut apis = catalog::known_apis(&mut conn, &uids).await?;
    apis.sort_by(|a, b| a.name.cmp(&b.name));
    for api in apis {
        println!("api: {} ({})", api.name, api.uid);
    }
    for secret in &key.secrets {
        let used = secret.last_used_at.map_or_else(|| "never".into(), |at| print_instant(at, &zone));
        let ends = secret.ends_at.map(|at| format!(", ends {}", print_instant(at, &zone)));
        let since = print_instant(secret.created_at, &zone);
        println!("secret: {}, since {since}, last used {used}{}", secret.id, ends.unwrap_or_default());
    }
    Ok(())
}

/// A key, and to whom its pair is about to go.
async fn show_with_mails(app: &App, key: &Key) -> anyhow::Result<()> {
    show(app, key).await?;
    let mut conn = app.db.read().await?;
    for mail in mail::about(&mut conn, "key", key.id.as_str(), MAX_MAILS).await? {
        if let (Template::KeyCredentials, MailState::Waiting { next_attempt_at: at }) =
            (mail.template, mail.state)
        {
            println!("mail: {} to {}, {}", mail.id, mail.recipient, print_instant(at, &app.config.zone()));
        }
    }
    for warning in mail::warnings(&mut conn, app).await? {
        eprintln!("keygate: warning: {}", warning.message);
    }
    Ok(())
}

async fn show_history(app: &App, id: &CredentialId) -> anyhow::Result<()> {
    for event in history::of(app, id).await? {
        let at = print_instant(UnixMillis(event.at()), &app.config.zone());
        match event {
            Event::Done { entry, actor_name } => {
                let actor = actor_name.unwrap_or(entry.actor);
                let form = entry.detail["application"].as_str().unwrap_or_default();
                println!("{at}  {}  {actor}  {form}", entry.action);
            }
            Event::Mailed(mail) => {
                println!("{at}  mail {}  {}  {}", mail.template.name(), mail.recipient, mail.state.name());
            }
        }
    }
    Ok(())
}

/// The secret in `file` (`-`: standard input), without the line's end.
pub(super) fn read_secret(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin()
            .take(MAX_SECRET_FILE_BYTES + 1)
            .read_to_string(&mut text)
            .context("standard input")?;
    } else {
        std::fs::File::open(file)
            .and_then(|open| open.take(MAX_SECRET_FILE_BYTES + 1).read_to_string(&mut text))
            .with_context(|| format!("cannot read the secret from {}", file.display()))?;
    }
    if text.len() as u64 > MAX_SECRET_FILE_BYTES {
        bail!("{} is too long to hold nothing but a secret key", file.display());
    }
    let secret = text.trim();
    if secret.is_empty() {
        bail!("{} is empty: it is to hold the secret key and nothing else", file.display());
    }
    Ok(secret.to_owned())
}
