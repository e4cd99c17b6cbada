//! `keygate`: the manager's commands.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use manager::app::App;
use manager::config::{self, Config};
use manager::{
    applications, audit, catalog, decisions, definitions, gateways, keys, mail, openapi, operators, schedule,
    serve, telemetry, usage, users, x_api_keys,
};

/// Keygate's manager: clients, APIs, keys, forms and quotas.
#[derive(Parser)]
#[command(name = "keygate", version, about)]
struct Arguments {
    /// Settings file; without it `keygate.toml` where that exists, else defaults. Every setting
    /// can also come from an environment variable KEYGATE_<SETTING>.
    #[arg(long, global = true, env = "KEYGATE_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring APIs in, and say which one a request means.
    #[command(subcommand)]
    Api(catalog::cli::Command),
    Applications(applications::cli::Command),
    Apply(definitions::cli::Apply),
    /// Verify the audit trail, and take anchors of it.
    #[command(subcommand)]
    Audit(audit::cli::Command),
    /// Look at the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    Explain(decisions::cli::Explain),
    Export(definitions::cli::Export),
    /// Bring DGRK keys in, look at them, rotate their secrets, switch them off, revoke them.
    #[command(subcommand)]
    Keys(keys::cli::Command),
    /// Try the mail settings, see what became of which mail, and look at the texts of mails.
    #[command(subcommand)]
    Mail(mail::cli::Command),
    /// Register gateways and rotate their tokens.
    #[command(subcommand)]
    Gateway(gateways::cli::Command),
    /// Print the description of the management API (OpenAPI 3.1).
    Openapi,
    /// Bring the database's schema up to date, and end.
    Migrate,
    /// Create operators.
    #[command(subcommand)]
    Operator(operators::cli::Command),
    /// Serve the management and the gateway API until SIGTERM or Ctrl-C.
    Serve,
    /// Print the Authorization header and a ready call for a DGRK pair and a body.
    Sign(keys::sign::Command),
    /// Look at scheduled work, try it again, cancel it.
    #[command(subcommand)]
    Tasks(schedule::cli::Command),
    Usage(usage::cli::Command),
    /// Create users, set their passwords, switch them off.
    #[command(subcommand)]
    User(users::cli::Command),
    /// Bring X-Api-Keys in.
    #[command(subcommand)]
    XApiKeys(x_api_keys::cli::Command),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check file and environment as `serve` would, and show what counts. Secrets are not shown.
    Check,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("keygate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // Needs no settings: partners run it where there are none.
    if let Command::Sign(command) = arguments.command {
        keys::sign::run(command)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Openapi = arguments.command {
        manager::println!("{:#}", openapi::document());
        return Ok(ExitCode::SUCCESS);
    }
    // Calls a manager that runs, perhaps on another machine.
    if let Command::Applications(command) = arguments.command {
        // Written at once: whether the reader is still there changes nothing of how the command ended.
        let mut told = Vec::new();
        let ended = applications::cli::run(command, &mut told).await;
        manager::print!("{}", String::from_utf8_lossy(&told));
        return ended;
    }
    let config = load_config(arguments.config)?;
    match arguments.command {
        Command::Api(command) => catalog::cli::run(&start(config).await?, command).await?,
        Command::Apply(command) => return definitions::cli::apply(&start(config).await?, command).await,
        Command::Audit(command) => audit::cli::run(&start(config).await?, command).await?,
        Command::Config(ConfigCommand::Check) => {
            mail::templates::check(&config).map_err(told)?;
            manager::println!("{config:#?}");
            if config.callers_may_look_alike() {
                manager::println!(
                    "note: client_address_header is not set: all who come through one proxy count as one caller"
                );
            }
            manager::println!("the settings are valid");
        }
        Command::Explain(command) => decisions::cli::run(&start(config).await?, command).await?,
        Command::Export(command) => return definitions::cli::export(&start(config).await?, command).await,
        Command::Keys(command) => keys::cli::run(&start(config).await?, command).await?,
        Command::Mail(mail::cli::Command::Preview(command)) => {
            mail::templates::cli::preview(&config, command)?
        }
        Command::Mail(mail::cli::Command::Template(command)) => mail::templates::cli::run(&config, command)?,
        Command::Mail(command) => mail::cli::run(&start(config).await?, command).await?,
        Command::Gateway(command) => gateways::cli::run(&start(config).await?, command).await?,
        Command::Usage(command) => usage::cli::run(&start(config).await?, command).await?,
        Command::User(command) => users::cli::run(&start(config).await?, command).await?,
        Command::Migrate => {
            start(config).await?;
            manager::println!("the schema is up to date");
        }
        Command::Operator(command) => operators::cli::run(&start(config).await?, command).await?,
        Command::Applications(_) | Command::Openapi | Command::Sign(_) => unreachable!("answered above"),
        Command::Tasks(command) => schedule::cli::run(&start(config).await?, command).await?,
        Command::XApiKeys(command) => x_api_keys::cli::run(&start(config).await?, command).await?,
        Command::Serve => {
            mail::templates::check(&config).map_err(told)?;
            serve::serve(start(config).await?).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that is wrong with the texts of mails, a line each.
fn told(faults: Vec<mail::templates::Fault>) -> anyhow::Error {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    anyhow::anyhow!(lines.join("\nkeygate: "))
}

fn load_config(file: Option<PathBuf>) -> anyhow::Result<Config> {
    let file = file.or_else(|| {
        let default = PathBuf::from(config::DEFAULT_FILE);
        default.exists().then_some(default)
    });
    let config = Config::load(file.as_deref(), |name| std::env::var(name).ok())?;
    for variable in
        config::unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
    {
        eprintln!("keygate: warning: environment variable {variable} names no setting and is ignored");
    }
    Ok(config)
}

async fn start(config: Config) -> anyhow::Result<App> {
    telemetry::init(&config.log_filter, config.log_format)?;
    Ok(App::start(config).await?)
}
