//! `keygate keys rotate` without an id, and `keygate keys withdraw`.

use std::io::IsTerminal as _;

use anyhow::bail;

use super::actions;
use crate::app::App;
use crate::question::agreed;

/// Makes the next key that signs tokens.
pub async fn rotate(app: &App) -> anyhow::Result<()> {
    let (kid, signs_from) = actions::rotate(app, "cli").await?;
    let wait_s = signs_from.0.saturating_sub(app.now().0).max(0) / 1_000;
    println!("token key: {kid}");
    println!("it signs in {wait_s} s, when every gateway has it; tokens of the one before live on");
    Ok(())
}

/// Takes a key out at once that others may know.
pub async fn withdraw(app: &App, kid: &str, yes: bool) -> anyhow::Result<()> {
    if !yes {
        if !std::io::stdin().is_terminal() {
            bail!("nobody can be asked here: --yes does it without asking");
        }
        println!(
            "Every token that {kid} has signed ends at once: clients obtain others, users sign in again."
        );
        println!("It does not come back. To replace a key that nobody else knows: keygate keys rotate");
        if !agreed(&mut std::io::stdin().lock(), &mut std::io::stdout())? {
            bail!("nothing was done");
        }
    }
    let successor = actions::withdraw(app, kid, "cli").await?;
    println!("withdrawn: {kid}");
    println!(
        "gateways refuse within a second what it has signed; who keeps the JWKS has it for a minute at most"
    );
    if let Some(successor) = successor {
        println!("token key: {successor}");
        println!(
            "it signs from now on; a server that runs knows it within a second, and what it signs until then is refused"
        );
    }
    Ok(())
}
