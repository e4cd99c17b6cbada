//! What goes wrong in a round, and when: drawn from its seed.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use e2e::chance::Chance;
use e2e::faulty_proxy::{Faults, FaultyProxy};
use e2e::world::World;

/// Within which mishaps begin.
const BEGIN_MS: u64 = 5_000;
/// How long one lasts.
const LAST_MS: std::ops::Range<u64> = 100..1_600;
/// In each round.
const MISHAPS: usize = 9;

/// One mishap; numbers name an Envoy, or a manager and what lies before and behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// SIGKILL; started again when it ends.
    KillEnvoy(usize),
    /// SIGKILL; started again when it ends.
    KillManager(usize),
    /// SIGSTOP; SIGCONT when it ends.
    FreezeEnvoy(usize),
    /// SIGSTOP; SIGCONT when it ends.
    FreezeManager(usize),
    /// All connections to the manager break off.
    CutManager(usize),
    /// So many per cent of its answers are lost.
    LoseAnswers(usize, u64),
    /// Its answers come so many milliseconds late.
    DelayAnswers(usize, u64),
    /// Calls to it are refused on the way.
    RefuseCalls(usize),
    /// All of its connections to the database break off.
    CutDatabase(usize),
    /// Nothing passes between it and the database.
    SilenceDatabase(usize),
}

/// What is done at a moment of the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Begin(Mishap),
    End(Mishap),
}

#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// After the round's beginning.
    pub at: Duration,
    pub what: What,
}

pub struct Schedule {
    pub steps: Vec<Step>,
}

impl Schedule {
    /// Envoys die only in rounds `with_crashes`: in the others exactly the limit is admitted.
    pub fn drawn(chance: &mut Chance, with_crashes: bool, envoys: usize, managers: usize) -> Self {
        let mut steps = Vec::new();
        for _ in 0..MISHAPS {
            let mishap = Mishap::drawn(chance, with_crashes, envoys, managers);
            let begin = chance.below(BEGIN_MS);
            let end = begin + LAST_MS.start + chance.below(LAST_MS.end - LAST_MS.start);
            steps.push(Step { at: Duration::from_millis(begin), what: What::Begin(mishap) });
            steps.push(Step { at: Duration::from_millis(end), what: What::End(mishap) });
        }
        steps.sort_by_key(|step| step.at);
        Self { steps }
    }

    /// How many Envoys die, and which.
    pub fn crashes(&self, envoys: usize) -> (u64, Vec<bool>) {
        let (mut count, mut which) = (0, vec![false; envoys]);
        for step in &self.steps {
            if let What::Begin(Mishap::KillEnvoy(number)) = step.what {
                count += 1;
                which.iter_mut().skip(number).take(1).for_each(|crashed| *crashed = true);
            }
        }
        (count, which)
    }
}

impl Mishap {
    fn drawn(chance: &mut Chance, with_crashes: bool, envoys: usize, managers: usize) -> Self {
        let mut one_of = |count: usize| usize::try_from(chance.below(count as u64)).unwrap_or(0);
        let (envoy, manager, kind) = (one_of(envoys), one_of(managers), one_of(10));
        match kind {
            0 if with_crashes => Self::KillEnvoy(envoy),
            0 | 1 => Self::FreezeEnvoy(envoy),
            2 => Self::KillManager(manager),
            3 => Self::FreezeManager(manager),
            4 => Self::CutManager(manager),
            5 => Self::LoseAnswers(manager, 10 + chance.below(80)),
            6 => Self::DelayAnswers(manager, 50 + chance.below(1_200)),
            7 => Self::RefuseCalls(manager),
            8 => Self::CutDatabase(manager),
            _ => Self::SilenceDatabase(manager),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.iter().map(|step| match step.what {
            What::Begin(mishap) => format!("{} ms {mishap:?}", step.at.as_millis()),
            What::End(mishap) => format!("{} ms end of {mishap:?}", step.at.as_millis()),
        });
        f.write_str(&steps.collect::<Vec<_>>().join(", "))
    }
}

/// The manager of that number, and the proxy before it.
fn manager(world: &mut World, number: usize) -> (&mut e2e::manager::Manager, &FaultyProxy) {
    match number.checked_sub(1) {
        None => (&mut world.manager, &world.proxy),
        Some(at) => {
            let replica = world.replicas.get_mut(at).expect("a mishap names a manager of the plan");
            (&mut replica.manager, &replica.proxy)
        }
    }
}

/// Begins or ends a mishap. What has died meanwhile is neither frozen nor killed once more.
pub fn carry_out(world: &mut World, what: What) -> Result<()> {
    let begins = matches!(what, What::Begin(_));
    let (What::Begin(mishap) | What::End(mishap)) = what;
    let faults = |faults: Faults| if begins { faults } else { Faults::default() };
    match mishap {
        Mishap::KillEnvoy(number) | Mishap::FreezeEnvoy(number) => {
            let envoy = world.envoys.get_mut(number).expect("a mishap names an Envoy of the plan");
            match (mishap, begins, envoy.process()) {
                (Mishap::KillEnvoy(_), true, Some(_)) => envoy.kill(),
                (Mishap::KillEnvoy(_), false, None) => envoy.launch()?,
                (Mishap::FreezeEnvoy(_), true, Some(process)) => process.freeze(),
                (Mishap::FreezeEnvoy(_), false, Some(process)) => process.thaw(),
                _ => {}
            }
        }
        Mishap::KillManager(number) | Mishap::FreezeManager(number) => {
            let (manager, _) = manager(world, number);
            match (mishap, begins, manager.process()) {
                (Mishap::KillManager(_), true, Some(_)) => manager.kill(),
                (Mishap::KillManager(_), false, None) => manager.launch()?,
                (Mishap::FreezeManager(_), true, Some(process)) => process.freeze(),
                (Mishap::FreezeManager(_), false, Some(process)) => process.thaw(),
                _ => {}
            }
        }
        Mishap::LoseAnswers(number, percent) => {
            let lose = percent as f64 / 100.0;
            manager(world, number).1.set(faults(Faults { lose, ..Faults::default() }));
        }
        Mishap::DelayAnswers(number, ms) => {
            let delay = Duration::from_millis(ms);
            manager(world, number).1.set(faults(Faults { delay, ..Faults::default() }));
        }
        Mishap::RefuseCalls(number) => {
            manager(world, number).1.set(faults(Faults { refuse: true, ..Faults::default() }));
        }
        Mishap::CutManager(number) if begins => manager(world, number).1.cut(),
        Mishap::CutManager(_) => {}
        Mishap::CutDatabase(number) | Mishap::SilenceDatabase(number) => {
            let line = world.lines.get(number).expect("a line for each manager");
            match (mishap, begins) {
                (Mishap::CutDatabase(_), true) => line.cut(),
                (Mishap::SilenceDatabase(_), true) => line.fall_silent(),
                (Mishap::SilenceDatabase(_), false) => line.speak(),
                _ => {}
            }
        }
    }
    Ok(())
}

/// What is dead is started, as whoever watches over processes would; everything else is as it was.
pub fn heal(world: &mut World) -> Result<()> {
    for line in &world.lines {
        line.speak();
    }
    for number in 0..=world.replicas.len() {
        let (manager, proxy) = manager(world, number);
        proxy.set(Faults::default());
        match manager.process() {
            Some(process) => process.thaw(),
            None => manager.launch()?,
        }
    }
    for envoy in &mut world.envoys {
        match envoy.process() {
            Some(process) => process.thaw(),
            None => envoy.launch()?,
        }
    }
    Ok(())
}
