//! `keygate operator …`

use anyhow::{Context as _, bail};
use clap::Subcommand;
use gate::time::UnixMillis;
use zeroize::Zeroizing;

use super::actions::{self, Changes};
use super::{By, Email, NewOperator, NewToken, Operator, OperatorName, OperatorStatus, RoleName};
use super::{create, id_of, issue_api_token};
use crate::app::App;
use crate::password;

/// Whoever holds the machine may do everything.
const CLI: By<'static> = By::Machine("cli");

/// Operators that are read at a time.
const PAGE: i64 = 200;

/// Operators, from the command line of the machine that holds the database.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create an operator; without a password in KEYGATE_PASSWORD one is generated and printed once.
    /// It serves only to set an own one.
    Create {
        /// What the operator signs in with.
        name: String,
        /// Roles, e.g. --role admin; repeat for several.
        #[arg(long = "role", required = true)]
        roles: Vec<String>,
        /// Where mails go: without it nobody is told that a form waits for this operator, nor, of an
        /// administrator, that a form cannot be signed.
        #[arg(long)]
        email: Option<String>,
        /// Name for people.
        #[arg(long, default_value = "")]
        display_name: String,
        /// Also issue an API token of this name, and print it once.
        #[arg(long)]
        token: Option<String>,
        /// The password; from the environment, since command lines are seen by others.
        #[arg(long, env = "KEYGATE_PASSWORD", hide_env_values = true, hide = true)]
        password: Option<String>,
    },
    /// List operators: name, state, roles, display name.
    List,
    /// Give an operator another password, which serves only to set an own one, and end its
    /// sessions and API tokens. Without KEYGATE_PASSWORD one is generated and printed once.
    ResetPassword {
        /// What the operator signs in with.
        name: String,
        /// The password; from the environment, since command lines are seen by others.
        #[arg(long, env = "KEYGATE_PASSWORD", hide_env_values = true, hide = true)]
        password: Option<String>,
        /// Leave the API tokens alive.
        #[arg(long)]
        keep_tokens: bool,
    },
    /// Let an operator who is locked try passwords again.
    Unlock {
        /// What the operator signs in with.
        name: String,
    },
    /// Issue an API token for an operator, and print it once.
    IssueToken {
        /// What the operator signs in with.
        name: String,
        /// What uses the token.
        #[arg(long)]
        token: String,
        /// Limit it to this permission, e.g. --permission usage.read; repeat for several.
        #[arg(long = "permission")]
        permissions: Vec<String>,
        /// Days until it ends; without: as far away as api_token_ttl_s allows.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        days: Option<u32>,
    },
}

/// Runs one command.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create { name, roles, email, display_name, token, password } => {
            let (password, generated) = password::given_or_new(&app.random, password)?;
            let new = NewOperator {
                name: OperatorName::parse(&name).map_err(anyhow::Error::msg).context("name")?,
                display_name,
                email: email
                    .as_deref()
                    .map(Email::parse)
                    .transpose()
                    .map_err(anyhow::Error::msg)
                    .context("--email")?,
                password: Some(password),
                roles: roles
                    .iter()
                    .map(|role| RoleName::parse(role))
                    .collect::<Result<_, _>>()
                    .map_err(anyhow::Error::msg)
                    .context("--role")?,
            };
            let operator = create(app, CLI, new).await?;
            println!("operator: {} ({})", operator.name, operator.id);
            print_password(generated);
            if let Some(name) = token {
                let new = NewToken { name, ..NewToken::default() };
                println!("token: {}", issue_api_token(app, CLI, &operator.id, new).await?.text.as_str());
            }
        }
        Command::List => {
            let mut after = String::new();
            loop {
                let mut operators = actions::list(app, &after, PAGE).await?;
                let more = operators.len() > usize::try_from(PAGE)?;
                operators.truncate(usize::try_from(PAGE)?);
                for operator in &operators {
                    println!("{}", line(app, operator));
                }
                match operators.pop() {
                    Some(last) if more => after = last.name.to_string(),
                    Some(_) | None => break,
                }
            }
        }
        Command::ResetPassword { name, password, keep_tokens } => {
            let id = known(app, &name).await?;
            let (password, generated) = password::given_or_new(&app.random, password)?;
            let changes = Changes { password: Some(password), keep_tokens, ..Changes::default() };
            let operator = actions::update(app, CLI, &id, None, changes).await?;
            println!("operator: {} ({})", operator.name, operator.id);
            print_password(generated);
        }
        Command::Unlock { name } => {
            let id = known(app, &name).await?;
            let changes = Changes { unlock: true, ..Changes::default() };
            let operator = actions::update(app, CLI, &id, None, changes).await?;
            println!("operator: {} ({})", operator.name, operator.id);
        }
        Command::IssueToken { name, token, permissions, days } => {
            let id = known(app, &name).await?;
            let expires_at = days.map(|days| UnixMillis(app.now().0 + i64::from(days) * 86_400_000));
            let scope = (!permissions.is_empty()).then_some(permissions);
            let issued = issue_api_token(app, CLI, &id, NewToken { name: token, scope, expires_at }).await?;
            println!("token: {}", issued.text.as_str());
        }
    }
    Ok(())
}

fn line(app: &App, operator: &Operator) -> String {
    let limit = i64::from(app.config.lockout_attempts);
    let state = match operator.status {
        OperatorStatus::Disabled => "disabled",
        OperatorStatus::Active if limit > 0 && operator.failed_attempts >= limit => "locked",
        OperatorStatus::Active => "active",
    };
    let roles: Vec<_> = operator.roles.iter().map(RoleName::as_str).collect();
    format!("{}\t{state}\t{}\t{}", operator.name, roles.join(","), operator.display_name)
}

async fn known(app: &App, name: &str) -> anyhow::Result<String> {
    match id_of(&mut *app.db.read().await?, name).await? {
        Some(id) => Ok(id),
        None => bail!("there is no operator {name}: `keygate operator list` shows them"),
    }
}

fn print_password(generated: Option<Zeroizing<String>>) {
    if let Some(password) = generated {
        println!("password: {}", password.as_str());
    }
}
