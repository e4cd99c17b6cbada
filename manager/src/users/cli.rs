//! `keygate user …`

use anyhow::{Context as _, bail};
use clap::Subcommand;
use zeroize::Zeroizing;

use super::actions::{self, Changes};
use super::store::UserFilter;
use super::{NewUser, OrgId, User, UserName, UserStatus, create};
use crate::app::App;
use crate::operators::Email;
use crate::password::{self, ImportedHash};

/// Whoever holds the machine, as the audit trail names it.
const CLI: &str = "cli";
/// The hash of a password that is brought along.
const HASH_VARIABLE: &str = "KEYGATE_PASSWORD_HASH";
/// Users that are read at a time.
const PAGE: i64 = 200;

/// Users, on whose behalf clients obtain tokens, from the machine that holds the database.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a user. Without a password in KEYGATE_PASSWORD, or digiRunner's hash of one in
    /// KEYGATE_PASSWORD_HASH, one is generated and printed once.
    Create {
        /// What the user signs in with.
        name: String,
        /// Name for people.
        #[arg(long, default_value = "")]
        display_name: String,
        /// Where the user is written to.
        #[arg(long)]
        email: Option<String>,
        /// The organisation, as tokens tell it.
        #[arg(long)]
        org_id: Option<String>,
        /// The password; from the environment, since command lines are seen by others.
        #[arg(long, env = "KEYGATE_PASSWORD", hide_env_values = true, hide = true)]
        password: Option<String>,
        /// Instead of a password: the hash that digiRunner has of it (bcrypt of its Base64 text).
        #[arg(long, env = HASH_VARIABLE, hide_env_values = true, hide = true, conflicts_with = "password")]
        password_hash: Option<String>,
    },
    /// List users: name, state, organisation, display name.
    List,
    /// Give a user another password; it may try again. Without KEYGATE_PASSWORD one is generated and
    /// printed once.
    ResetPassword {
        /// What the user signs in with.
        name: String,
        /// The password; from the environment, since command lines are seen by others.
        #[arg(long, env = "KEYGATE_PASSWORD", hide_env_values = true, hide = true)]
        password: Option<String>,
    },
    /// Switch an account off.
    Disable {
        /// What the user signs in with.
        name: String,
    },
    /// Switch an account on again.
    Enable {
        /// What the user signs in with.
        name: String,
    },
    /// Let a user who is locked after wrong passwords try again.
    Unlock {
        /// What the user signs in with.
        name: String,
    },
}

/// Runs one command.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create { name, display_name, email, org_id, password, password_hash } => {
            let imported_hash = password_hash.as_deref().map(ImportedHash::parse).transpose();
            let imported_hash = imported_hash.map_err(anyhow::Error::msg).context(HASH_VARIABLE)?;
            let (password, generated) = match imported_hash {
                Some(_) => (None, None),
                None => password::given_or_new(&app.random, password)
                    .map(|(password, new)| (Some(password), new))?,
            };
            let new = NewUser {
                name: UserName::parse(&name).map_err(anyhow::Error::msg).context("name")?,
                display_name,
                email: email.as_deref().map(Email::parse).transpose().map_err(anyhow::Error::msg)?,
                org_id: org_id
                    .as_deref()
                    .map(OrgId::parse)
                    .transpose()
                    .map_err(anyhow::Error::msg)
                    .context("--org-id")?,
                password,
                imported_hash,
                identity: None,
            };
            let user = create(app, CLI, new).await?;
            println!("user: {} ({})", user.name, user.id);
            print_password(generated);
        }
        Command::List => {
            let mut after = String::new();
            loop {
                let mut users = actions::list(app, &UserFilter::default(), &after, PAGE).await?;
                let more = users.len() > usize::try_from(PAGE)?;
                users.truncate(usize::try_from(PAGE)?);
                for user in &users {
                    println!("{}", line(app, user));
                }
                match users.pop() {
                    Some(last) if more => after = last.name.to_string(),
                    Some(_) | None => break,
                }
            }
        }
        Command::ResetPassword { name, password } => {
            let (password, generated) = password::given_or_new(&app.random, password)?;
            change(app, &name, Changes { password: Some(Some(password)), ..Changes::default() }).await?;
            print_password(generated);
        }
        Command::Disable { name } => {
            change(app, &name, Changes { status: Some(UserStatus::Disabled), ..Changes::default() }).await?;
        }
        Command::Enable { name } => {
            change(app, &name, Changes { status: Some(UserStatus::Active), ..Changes::default() }).await?;
        }
        Command::Unlock { name } => {
            change(app, &name, Changes { unlock: true, ..Changes::default() }).await?;
        }
    }
    Ok(())
}

async fn change(app: &App, name: &str, changes: Changes) -> anyhow::Result<()> {
    let Some(id) = actions::id_of(&mut *app.db.read().await?, name).await? else {
        bail!("there is no user {name}: `keygate user list` shows them");
    };
    let user = actions::update(app, CLI, &id, None, changes).await?;
    println!("user: {} ({})", user.name, user.id);
    Ok(())
}

fn line(app: &App, user: &User) -> String {
    let state = match user.status {
        UserStatus::Active if user.password_locked(app.config.lockout_attempts) => "password locked",
        status => status.as_str(),
    };
    let org = user.org_id.as_ref().map(OrgId::as_str).unwrap_or_default();
    format!("{}\t{state}\t{org}\t{}", user.name, user.display_name)
}

fn print_password(generated: Option<Zeroizing<String>>) {
    if let Some(password) = generated {
        println!("password: {}", password.as_str());
    }
}
