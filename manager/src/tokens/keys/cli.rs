//! `keygate keys rotate` without an id.

use super::actions;
use crate::app::App;

/// Makes the next key that signs tokens.
pub async fn rotate(app: &App) -> anyhow::Result<()> {
    let (kid, signs_from) = actions::rotate(app, "cli").await?;
    let wait_s = signs_from.0.saturating_sub(app.now().0).max(0) / 1_000;
    println!("token key: {kid}");
    println!("it signs in {wait_s} s, when every gateway has it; tokens of the one before live on");
    Ok(())
}
