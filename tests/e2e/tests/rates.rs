//! Rates over many workers, and who gives way when a worker is full, through the real Envoy. Nothing
//! here is measured in time: calls are counted, and the upstream answers when it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::client::{self, Answer, Call, Connection, Protocol};
use e2e::upstream::HOLD_HEADER;
use e2e::wait;
use e2e::world::{Plan, World};
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};

/// Requests per second of the client.
const TPS: u64 = 50;
/// Connections, spread over eight workers.
const CONNECTIONS: usize = 64;
/// Seconds that are spent at least.
const SECONDS: u64 = 4;

/// Every admitted answer says how many are left of its second. Whatever the workers do at once, each
/// of `TPS - 1, …, 0` is told once in each second: were one unit counted by two workers, a number
/// would come twice, and were one lost, a number would be missing.
#[test]
fn eight_workers_together_admit_exactly_the_rate_in_each_second() -> Result<()> {
    e2e::run(async {
        let settings = vec![("ratelimit_on_success", "true".to_owned())];
        let world = World::start("rate-of-eight", Plan { workers: 8, settings, ..Plan::default() }).await?;
        let orders = world.api("orders", "/orders", json!({})).await?;
        let group = world.group("orders", &[&orders]).await?;
        world.until_known(&Call::get("/orders")).await?;
        let client = world.client("fast", json!({ "groups": [group], "tps": TPS })).await?;
        let key = world.x_api_key(&client, &[&group], json!({})).await?;
        let call = Call::get("/orders/fast").x_api_key(&key.text);

        let started = wait::now();
        let enough = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (call, enough, address) = (call.clone(), enough.clone(), world.envoy().address);
            callers.spawn(async move {
                let mut connection = Connection::open(address, Protocol::Http1).await?;
                let mut told: BTreeMap<u64, u64> = BTreeMap::new();
                loop {
                    let answer = connection.send(&call).await?;
                    match answer.status {
                        200 => *told.entry(left(&answer)?).or_default() += 1,
                        // Whoever stops has been refused: the last second is full too.
                        429 if enough.load(Ordering::Relaxed) => return anyhow::Ok(told),
                        429 => ensure!(left(&answer)? == 0, "{answer:?}"),
                        _ => anyhow::bail!("{answer:?}"),
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(SECONDS)).await;
        enough.store(true, Ordering::Relaxed);
        let mut told: BTreeMap<u64, u64> = (0..TPS).map(|left| (left, 0)).collect();
        while let Some(caller) = callers.join_next().await {
            for (left, count) in caller.context("a caller")?? {
                *told.entry(left).or_default() += count;
            }
        }
        let elapsed = started.elapsed().as_secs();
        let (least, most) = (told.values().min(), told.values().max());
        let (least, most) = (*least.context("numbers")?, *most.context("numbers")?);
        // The first second may have ended before its rate was used.
        ensure!(told.len() as u64 == TPS && most - least <= 1, "{told:?}");
        ensure!(least + 1 >= SECONDS && most <= elapsed + 2, "{least} to {most} in {elapsed} s");
        assert_eq!(told.values().sum::<u64>(), world.upstream.count("/orders/fast"));
        Ok(())
    })
}

/// What an answer says is left of the second.
fn left(answer: &Answer) -> Result<u64> {
    let state = answer.header("ratelimit").context("every answer tells its rate")?;
    let rest = state.strip_prefix("\"tps\";r=").with_context(|| state.to_owned())?;
    rest.split(';').next().unwrap_or_default().parse().with_context(|| state.to_owned())
}

/// One worker, ten clients of the priorities 0 to 9, and an upstream that answers when it is told to.
struct Stage {
    world: World,
    calls: Vec<Call>,
    /// Admitted and not answered, in the order in which the upstream holds them.
    served: VecDeque<JoinHandle<Result<Answer>>>,
}

impl Stage {
    async fn open(name: &str, capacity: u64) -> Result<Self> {
        let settings = vec![("worker_capacity", capacity.to_string())];
        let world = World::start(name, Plan { workers: 1, settings, ..Plan::default() }).await?;
        let orders = world.api("orders", "/orders", json!({})).await?;
        let group = world.group("orders", &[&orders]).await?;
        world.until_known(&Call::get("/orders")).await?;
        let mut calls = Vec::new();
        for priority in 0..=9 {
            let fields = json!({ "groups": [group], "priority": priority });
            let client = world.client(&format!("class-{priority}"), fields).await?;
            let key = world.x_api_key(&client, &[&group], json!({})).await?;
            let call = Call::get("/orders/held").x_api_key(&key.text).header(HOLD_HEADER, "1");
            let known = Call::get("/orders/known").x_api_key(&key.text);
            ensure!(world.call(&known).await?.status == 200, "class {priority} is known");
            calls.push(call);
        }
        Ok(Self { world, calls, served: VecDeque::new() })
    }

    /// Whether a call of that class is admitted: until it is refused, or held upstream.
    async fn offer(&mut self, class: usize) -> Result<bool> {
        let held = self.world.upstream.held();
        let (address, call) = (self.world.envoy().address, self.calls[class].clone());
        let sent = tokio::spawn(async move { client::http1(address, &call).await });
        loop {
            if self.world.upstream.held() > held {
                self.served.push_back(sent);
                return Ok(true);
            }
            if sent.is_finished() {
                let answer = sent.await.context("a caller")??;
                ensure!(answer.verdict() == "503 overloaded", "{answer:?}");
                ensure!(answer.header("retry-after") == Some("1"), "{answer:?}");
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    /// The upstream answers the oldest call; its caller has the answer when this returns.
    async fn serve_one(&mut self) -> Result<()> {
        if let Some(sent) = self.served.pop_front() {
            self.world.upstream.release();
            let answer = sent.await.context("a caller")??;
            ensure!(answer.status == 200, "{answer:?}");
        }
        Ok(())
    }

    /// Rounds in which each of `classes` offers one call, and half of so many are answered: twice
    /// what the upstream can do, in equal parts. How many of each class are admitted.
    async fn rounds(&mut self, classes: &[usize], rounds: u64) -> Result<Vec<u64>> {
        let mut admitted = vec![0; classes.len()];
        let mut order: Vec<usize> = (0..classes.len()).collect();
        let mut dice = 1_u64;
        for _ in 0..rounds {
            for last in (1..order.len()).rev() {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                order.swap(last, (dice >> 33) as usize % (last + 1));
            }
            for at in &order {
                admitted[*at] += u64::from(self.offer(classes[*at]).await?);
            }
            for _ in 0..classes.len() / 2 {
                self.serve_one().await?;
            }
        }
        Ok(admitted)
    }
}

#[test]
fn each_class_is_admitted_up_to_its_part_of_the_capacity() -> Result<()> {
    e2e::run(async {
        const CAPACITY: u64 = 20;
        let mut stage = Stage::open("classes-in-turn", CAPACITY).await?;
        for in_flight in 0..=CAPACITY {
            for class in 0..=9_usize {
                let admitted = stage.offer(class).await?;
                let expected = in_flight * 20 < CAPACITY * (20 - class as u64);
                assert_eq!(admitted, expected, "class {class} with {in_flight} in flight");
                if admitted {
                    // Out again: the next class finds the worker as it was.
                    while stage.served.len() as u64 > in_flight {
                        stage.serve_one().await?;
                    }
                }
            }
            if in_flight < CAPACITY {
                assert!(stage.offer(0).await?, "one more");
            }
        }
        Ok(())
    })
}

#[test]
fn at_twice_the_capacity_class_0_goes_on_and_class_9_gives_way() -> Result<()> {
    e2e::run(async {
        const ROUNDS: u64 = 2_000;
        let mut stage = Stage::open("twice-the-capacity", 40).await?;
        let admitted = stage.rounds(&[0, 9], ROUNDS).await?;
        println!("of {ROUNDS} calls each, admitted: class 0 {}, class 9 {}", admitted[0], admitted[1]);
        assert!(admitted[0] * 1_000 >= ROUNDS * 999, "class 0: {} of {ROUNDS}", admitted[0]);
        assert!(admitted[1] * 20 <= ROUNDS, "class 9 is shed first: {} of {ROUNDS}", admitted[1]);
        Ok(())
    })
}

#[test]
fn a_better_class_is_never_served_worse() -> Result<()> {
    e2e::run(async {
        const ROUNDS: u64 = 150;
        let mut stage = Stage::open("ten-classes", 100).await?;
        let classes: Vec<usize> = (0..=9).collect();
        let admitted = stage.rounds(&classes, ROUNDS).await?;
        println!("of {ROUNDS} calls each, admitted by class: {admitted:?}");
        assert_eq!(admitted[0], ROUNDS, "class 0 is served whole");
        // Offered in another order in each round, two classes that are refused alike may differ by a few.
        let monotone = admitted.windows(2).all(|pair| pair[1] <= pair[0] + ROUNDS / 50);
        assert!(monotone && admitted[9] * 5 < admitted[0], "{admitted:?}");
        Ok(())
    })
}
