//! `keygate gateway …`

use clap::Subcommand;

use super::{Issued, add, after_restore, revoke, rotate};
use crate::app::App;

/// The variable in which Envoy's process holds the token.
pub const TOKEN_VARIABLE: &str = "KEYGATE_GATEWAY_TOKEN";

/// Gateways and their tokens.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register a gateway and print its token, once.
    Add {
        /// Letters, digits, `-`, `_` and `.`.
        name: String,
        /// Print the token alone, for scripts.
        #[arg(long)]
        quiet: bool,
    },
    /// Print a second token, once; revoke the first when every Envoy has the second.
    Rotate {
        /// The gateway's name or id.
        name: String,
        /// Print the token alone, for scripts.
        #[arg(long)]
        quiet: bool,
    },
    /// End a token.
    Revoke {
        /// The gateway's name or id.
        name: String,
        /// The token's id, gwt_…
        token: String,
    },
    /// After the database was restored from a backup: every gateway asks anew for what it holds,
    /// and leases of the time before are refused.
    AfterRestore,
}

/// Runs one command.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Add { name, quiet } => print(&add(app, &name, "cli").await?, quiet),
        Command::Rotate { name, quiet } => print(&rotate(app, &name, "cli").await?, quiet),
        Command::Revoke { name, token } => {
            revoke(app, &name, &token, "cli").await?;
            println!("token {token} of {name} is revoked");
        }
        Command::AfterRestore => {
            let epoch = after_restore(app, "cli").await?;
            println!("the database has a new epoch, {epoch}: gateways begin anew with their next poll");
        }
    }
    Ok(())
}

fn print(issued: &Issued, quiet: bool) {
    let token = issued.token.reveal();
    if quiet {
        println!("{token}");
        return;
    }
    println!("gateway: {} ({})", issued.gateway.name, issued.gateway.id);
    println!("token id: {}", issued.token_id);
    println!("token: {token}");
    println!(
        "\nIt is not shown again. Start Envoy with it in its environment:\n\n\
         \x20   {TOKEN_VARIABLE}={token} envoy -c envoy.yaml\n\n\
         and name the variable in envoy.yaml, in the filter's vm_config:\n\n\
         \x20   environment_variables:\n\
         \x20     host_env_keys: [{TOKEN_VARIABLE}]"
    );
}
