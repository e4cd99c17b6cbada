//! What it costs the gate to find an API among 100, 1,000 and 10,000: the filter's own code, run
//! natively. Rounds alternate between the sizes; quote the ratios.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use gate::directory::Directory;
use gate::id::{Epoch, Revision};
use gate::wire::WIRE_VERSION;
use gate::wire::directory::{ApiEntry, Audience, DirectoryAnswer, PathRule, Settings};

use crate::figures;

/// Numbers of APIs; the first is what the others are compared with.
const SIZES: [usize; 3] = [100, 1_000, 10_000];
/// Requests of one measurement, spread over the APIs.
const REQUESTS: usize = 2_048;
/// Measurements of each size and kind of request.
const ROUNDS: usize = 60;

/// How the paths of a catalogue are spread.
#[derive(Clone, Copy)]
enum Shape {
    /// Each hundred APIs below a folder of their own.
    Folders,
    /// All of them side by side.
    Flat,
}

/// A kind of request: what is asked, and whether an API answers.
struct Kind {
    name: &'static str,
    method: &'static str,
    path: fn(&str) -> String,
    rule: Option<Rule>,
}

/// Which of the APIs it asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    Exact,
    Template,
    Prefix,
}

const KINDS: [Kind; 6] = [
    Kind { name: "exact", method: "GET", path: |base| base.into(), rule: Some(Rule::Exact) },
    Kind {
        name: "template",
        method: "GET",
        path: |base| format!("{base}/4711/lines"),
        rule: Some(Rule::Template),
    },
    Kind {
        name: "prefix",
        method: "GET",
        path: |base| format!("{base}/2026/01/15/report.pdf"),
        rule: Some(Rule::Prefix),
    },
    Kind { name: "no such path", method: "GET", path: |base| format!("{base}-none"), rule: None },
    Kind { name: "no such folder", method: "GET", path: |_| "/nowhere/orders/4711".into(), rule: None },
    Kind { name: "other method", method: "PUT", path: |base| base.into(), rule: None },
];

/// Prints the table.
pub fn run() -> Result<()> {
    let mut rows = Vec::new();
    for (shape, name) in [(Shape::Folders, "in folders of 100"), (Shape::Flat, "side by side")] {
        let directories = SIZES.map(|size| directory(shape, size));
        for kind in &KINDS {
            let mut best = [f64::INFINITY; SIZES.len()];
            for _ in 0..ROUNDS {
                for ((size, directory), best) in SIZES.into_iter().zip(&directories).zip(&mut best) {
                    let directory = directory.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
                    *best = best.min(measure(directory, &requests(shape, size, kind), kind)?);
                }
            }
            let [first, second, third] = best;
            rows.push(vec![
                format!("{}, {name}", kind.name),
                format!("{first:.0}"),
                format!("{:.2}", second / first),
                format!("{:.2}", third / first),
            ]);
        }
    }
    println!("\nfinding an API, natively");
    figures::print(&["what is asked for", "of 100: ns", "of 1,000: ratio", "of 10,000: ratio"], &rows);
    Ok(())
}

/// Nanoseconds of one search.
fn measure(directory: &Directory, requests: &[String], kind: &Kind) -> Result<f64> {
    let mut found = 0;
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    let began = Instant::now();
    for path in requests {
        found +=
            usize::from(directory.find(black_box("api.example.com"), kind.method, black_box(path)).is_ok());
    }
    let ns = began.elapsed().as_nanos() as f64 / requests.len() as f64;
    let expected = if kind.rule.is_some() { requests.len() } else { 0 };
    ensure!(found == expected, "{}: {found} of {expected} were found", kind.name);
    Ok(ns)
}

fn requests(shape: Shape, size: usize, kind: &Kind) -> Vec<String> {
    let fits = |n: &usize| kind.rule.is_none_or(|rule| rule_of(*n) == rule);
    let numbers: Vec<usize> = (0..size).filter(fits).collect();
    // A stride that is prime to every size: neighbours are not asked for one after the other.
    let spread = (0..REQUESTS).filter_map(|n| numbers.get(n * 7_919 % numbers.len()));
    spread.map(|n| (kind.path)(&base(shape, *n))).collect()
}

fn directory(shape: Shape, size: usize) -> Result<Directory> {
    let api = |n: usize| {
        let base = base(shape, n);
        ApiEntry {
            uid: format!("api_{n:05}").as_str().into(),
            module: "bench".into(),
            id: n.to_string(),
            hosts: vec![],
            methods: vec!["GET".into(), "POST".into()],
            path: match rule_of(n) {
                Rule::Exact => PathRule::Exact(base),
                Rule::Template => PathRule::Template(format!("{base}/{{id}}/lines")),
                Rule::Prefix => PathRule::Prefix(base),
            },
            accepts: vec![],
            no_auth: true,
            enabled: true,
            audience: Audience::Both,
            groups: vec![],
            unsigned_forms: false,
        }
    };
    Directory::from_snapshot(DirectoryAnswer {
        version: WIRE_VERSION,
        epoch: Epoch(1),
        revision: Revision(1),
        since: None,
        settings: Settings::default(),
        apis: (0..size).map(api).collect(),
        token_keys: vec![],
        removed: vec![],
    })
    .ok()
    .context("the catalogue of the benchmark cannot be indexed")
}

fn rule_of(n: usize) -> Rule {
    match n % 3 {
        0 => Rule::Exact,
        1 => Rule::Template,
        _ => Rule::Prefix,
    }
}

fn base(shape: Shape, n: usize) -> String {
    match shape {
        Shape::Folders => format!("/module-{}/resource-{}", n / 100, n % 100),
        Shape::Flat => format!("/api/resource-{n}"),
    }
}
