//! One run as a line of text: a weather, a seed, and what was left out to make it smaller.
//!
//! ```text
//! stormy 1013 nodes=1 workers=1 callers=1 without=0,3 calm=loss,repeats
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::faults::Fault;
use crate::scenario::{Scenario, Weather};
use crate::world::run;

/// How many runs shrinking one may take.
const SHRINKING: usize = 400;

/// Something that goes wrong all the time, and can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vice {
    /// See [`crate::scenario::Vices`].
    Loss,
    /// As above.
    Repeats,
    /// As above.
    Delays,
    /// As above.
    Traps,
    /// As above.
    Races,
    /// As above.
    Deaths,
}

impl Vice {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Loss, "loss"),
        (Self::Repeats, "repeats"),
        (Self::Delays, "delays"),
        (Self::Traps, "traps"),
        (Self::Races, "races"),
        (Self::Deaths, "deaths"),
    ];
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// How bad the world is.
    pub weather: Weather,
    /// Everything else.
    pub seed: u64,
    /// Nodes at most.
    pub nodes: usize,
    /// Workers of a node at most.
    pub workers: usize,
    /// Callers at most.
    pub callers: usize,
    /// Mishaps that do not happen, by their place in the scenario.
    pub without: BTreeSet<usize>,
    /// What does not go wrong.
    pub calm: BTreeSet<Vice>,
}

impl Case {
    /// All of a seed.
    pub fn whole(weather: Weather, seed: u64) -> Self {
        Self {
            weather,
            seed,
            nodes: usize::MAX,
            workers: usize::MAX,
            callers: usize::MAX,
            without: BTreeSet::new(),
            calm: BTreeSet::new(),
        }
    }

    /// The smallest case found that breaks the same promise: with fewer nodes, workers, callers,
    /// mishaps and vices. Plays `SHRINKING` runs at most.
    pub fn shrunk(&self, fault: Fault) -> Self {
        let breaks = |case: &Self| run(case, fault).violations.first().map(|first| first.check);
        let promise = breaks(self);
        let (mut best, mut left) = (self.clone(), SHRINKING);
        while let Some(smaller) = best.reductions().into_iter().take(left).find(|case| {
            left = left.saturating_sub(1);
            breaks(case) == promise
        }) {
            best = smaller;
        }
        best
    }

    /// Each way to leave something more out, the largest pieces first.
    fn reductions(&self) -> Vec<Self> {
        let scenario = Scenario::draw(self);
        let mut found = vec![];
        let mut fewer = |have: usize, put: fn(&mut Self, usize)| {
            for count in [1, have / 2, have.saturating_sub(1)] {
                if count > 0 && count < have {
                    let mut case = self.clone();
                    put(&mut case, count);
                    found.push(case);
                }
            }
        };
        fewer(scenario.nodes.len(), |case, count| case.nodes = count);
        fewer(scenario.callers.len(), |case, count| case.callers = count);
        fewer(scenario.workers, |case, count| case.workers = count);
        for (vice, _) in Vice::ALL.into_iter().filter(|(vice, _)| !self.calm.contains(vice)) {
            let mut case = self.clone();
            case.calm.insert(vice);
            found.push(case);
        }
        let mishaps = scenario.mishaps.len() + self.without.len();
        let left: Vec<usize> = (0..mishaps).filter(|at| !self.without.contains(at)).collect();
        for size in [left.len(), left.len() / 2, 1] {
            for chunk in left.chunks(size.max(1)) {
                let mut case = self.clone();
                case.without.extend(chunk);
                found.push(case);
            }
        }
        found
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.weather, self.seed)?;
        for (name, count) in [("nodes", self.nodes), ("workers", self.workers), ("callers", self.callers)] {
            if count != usize::MAX {
                write!(f, " {name}={count}")?;
            }
        }
        if !self.without.is_empty() {
            let list: Vec<_> = self.without.iter().map(ToString::to_string).collect();
            write!(f, " without={}", list.join(","))?;
        }
        if !self.calm.is_empty() {
            let named =
                |vice: &Vice| Vice::ALL.into_iter().find(|(known, _)| known == vice).map(|(_, name)| name);
            let list: Vec<_> = self.calm.iter().filter_map(named).collect();
            write!(f, " calm={}", list.join(","))?;
        }
        Ok(())
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("`{line}`: {what}");
        let mut words = line.split_whitespace();
        let weather = words.next().and_then(|word| Weather::ALL.into_iter().find(|w| w.to_string() == word));
        let seed = words.next().and_then(|word| word.parse().ok());
        let (Some(weather), Some(seed)) = (weather, seed) else { return Err(bad("no weather and seed")) };
        let mut case = Self::whole(weather, seed);
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| bad("name=value expected"))?;
            let number = |text: &str| text.parse::<usize>().map_err(|_| bad("a number expected"));
            match name {
                "nodes" => case.nodes = number(value)?,
                "workers" => case.workers = number(value)?,
                "callers" => case.callers = number(value)?,
                "without" => case.without = value.split(',').map(number).collect::<Result<_, _>>()?,
                "calm" => {
                    let vice =
                        |word| Vice::ALL.into_iter().find(|(_, name)| *name == word).map(|(vice, _)| vice);
                    let vices = value.split(',').map(|word| vice(word).ok_or_else(|| bad("unknown vice")));
                    case.calm = vices.collect::<Result<_, _>>()?;
                }
                _ => return Err(bad("unknown name")),
            }
        }
        Ok(case)
    }
}
