//! `keygate operator …`

use anyhow::Context as _;
use clap::Subcommand;

use super::{Email, NewOperator, OperatorName, RoleName, create, issue_api_token};
use crate::app::App;
use crate::password::{self, Password};

/// Operators, from the command line of the machine that holds the database.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create an operator; without a password in KEYGATE_PASSWORD one is generated and printed once.
    Create {
        /// What the operator signs in with.
        name: String,
        /// Roles, e.g. --role admin; repeat for several.
        #[arg(long = "role", required = true)]
        roles: Vec<String>,
        /// Where mails go.
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
}

/// Runs one command.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create { name, roles, email, display_name, token, password } => {
            let generated = password.is_none().then(|| password::generate(&app.random));
            let clear = match (&password, &generated) {
                (Some(given), _) => given.as_str(),
                (None, Some(generated)) => generated.as_str(),
                (None, None) => unreachable!("one of the two is there"),
            };
            let new = NewOperator {
                name: OperatorName::parse(&name).map_err(anyhow::Error::msg).context("name")?,
                display_name,
                email: email
                    .as_deref()
                    .map(Email::parse)
                    .transpose()
                    .map_err(anyhow::Error::msg)
                    .context("--email")?,
                password: Some(Password::parse(clear).context("KEYGATE_PASSWORD")?),
                roles: roles
                    .iter()
                    .map(|role| RoleName::parse(role))
                    .collect::<Result<_, _>>()
                    .map_err(anyhow::Error::msg)
                    .context("--role")?,
            };
            let operator = create(app, "cli", new).await?;
            println!("operator: {} ({})", operator.name, operator.id);
            if let Some(password) = generated {
                println!("password: {}", password.as_str());
            }
            if let Some(name) = token {
                let token = issue_api_token(app, "cli", &operator.id, &name).await?;
                println!("token: {}", token.text.as_str());
            }
            Ok(())
        }
    }
}
