//! The whole thing under chance: three Envoys of two workers, two managers on PostgreSQL, callers whose
//! meters come to their ends while processes are killed and frozen, connections cut, answers late and
//! lost. What reached the upstream is counted there.
//!
//! In each round, whatever happened:
//! - nothing is over-admitted, of any meter;
//! - nobody is answered what `docs/denials.md` does not name for it;
//! - when it is over, everything serves again by itself within [`RECOVERY`];
//! - then demand goes on until it is refused: exactly the limit was admitted. Where an Envoy was killed,
//!   at most what `docs/quotas.md` says is missing.
//!
//! A round follows from its seed as far as the machine's scheduling allows. `cargo xtask chaos --rounds
//! 100` plays more of them, `--rounds 1 --seed 7` one again.

mod callers;
mod meters;
mod mishaps;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::chance::Chance;
use e2e::client::Call;
use e2e::wait;
use e2e::world::{Database, Plan, World};
use serde_json::json;

use callers::Callers;
use meters::Stake;
use mishaps::{Schedule, Step};

/// In the short form.
const ROUNDS: u64 = 2;
/// How many, for `cargo xtask chaos`.
const ROUNDS_VARIABLE: &str = "KEYGATE_E2E_CHAOS_ROUNDS";
/// From which seed on, for `cargo xtask chaos`.
const SEED_VARIABLE: &str = "KEYGATE_E2E_CHAOS_SEED";
const ENVOYS: usize = 3;
const MANAGERS: usize = 2;
/// How long processes may take to be there again, and everybody to be served.
const RECOVERY: Duration = Duration::from_secs(15);
/// How long the last units may take to be found.
const QUIET_END: Duration = Duration::from_secs(30);
/// Nobody admitted for so long: nobody is any more. Longer than idle leases stay, and than an answer
/// may be under way.
const SETTLED: Duration = Duration::from_secs(4);

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text}: a number")),
        Err(_) => Ok(default),
    }
}

#[test]
fn whatever_fails_nothing_is_over_admitted_and_everything_serves_again() -> Result<()> {
    let (rounds, first) = (number(ROUNDS_VARIABLE, ROUNDS)?, number(SEED_VARIABLE, 1)?);
    e2e::run(async {
        let database = Database::LinedPostgres;
        let plan = Plan { envoys: ENVOYS, replicas: MANAGERS - 1, database, ..Plan::default() };
        let mut world = World::start("chaos", plan).await?;
        let orders = world.api("orders", "/orders", json!({})).await?;
        let group = world.group("partners", &[&orders]).await?;
        world.until_known(&Call::get("/orders")).await?;
        for seed in first..first + rounds {
            let played = round(&mut world, &orders, &group, seed).await;
            played.with_context(|| format!("to see it again: cargo xtask chaos --rounds 1 --seed {seed}"))?;
        }
        Ok(())
    })
}

async fn round(world: &mut World, orders: &str, group: &str, seed: u64) -> Result<()> {
    let schedule = Schedule::drawn(&mut Chance::of_seed(seed), seed.is_multiple_of(2), ENVOYS, MANAGERS);
    println!("Seed {seed}: {schedule}");
    let stake = Stake::place(world, orders, group, seed).await?;
    let callers = Callers::start(world, &stake);

    let began = wait::now();
    for Step { at, what } in &schedule.steps {
        tokio::time::sleep_until((began + *at).into()).await;
        mishaps::carry_out(world, *what)?;
    }
    let healed = wait::now();
    mishaps::heal(world)?;
    until_served(world, &stake.witness).await.context("everything serves again by itself")?;
    let recovered = healed.elapsed();

    let (crashes, crashed) = schedule.crashes(ENVOYS);
    until_used_up(world, &stake, &callers, crashes == 0).await?;
    let told = callers.stop().await?;
    println!(
        "Seed {seed}: served again after {:.1} s, used up after {:.1} s; {told}",
        recovered.as_secs_f64(),
        healed.elapsed().as_secs_f64()
    );
    for meter in &stake.meters {
        let admitted = meter.admitted(&world.upstream);
        println!("  {}: {admitted} of {}", meter.name, meter.limit);
        ensure!(admitted <= meter.limit, "{}: {admitted} admitted, of {}", meter.name, meter.limit);
        if let Some(least) = meter.least(crashes) {
            ensure!(admitted >= least, "{}: {admitted} admitted, not {least}", meter.name);
        }
    }
    told.check(&crashed)
}

/// Waits until each Envoy admits somebody who has no quota.
async fn until_served(world: &World, witness: &Call) -> Result<()> {
    for envoy in &world.envoys {
        let served = || async { (envoy.call(witness).await.ok()?.status == 200).then_some(()) };
        wait::until("an admitted call", RECOVERY, served).await?;
    }
    Ok(())
}

/// Waits until nobody is admitted any more, on the ledger's word.
async fn until_used_up(world: &World, stake: &Stake, callers: &Callers, whole: bool) -> Result<()> {
    let (began, mut last, mut since) = (wait::now(), 0, wait::now());
    loop {
        let admitted: u64 = stake.meters.iter().map(|meter| meter.admitted(&world.upstream)).sum();
        if admitted != last {
            (last, since) = (admitted, wait::now());
        }
        // Units of a process that died are told as "contended" until its leases have expired.
        let refused = callers.all_are_told(|verdict| {
            verdict == "429 quota_exhausted" || (!whole && verdict == "429 quota_contended")
        });
        if refused && since.elapsed() >= SETTLED {
            return Ok(());
        }
        ensure!(
            began.elapsed() < QUIET_END,
            "units are left, or nobody says that they are not: {}",
            callers.last_words()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
