//! The manager as a process: `keygate serve` with a configuration and a database of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::client::{self, Call};
use crate::commits::sqlite::{self, Executioner};
use crate::disk::{self, Disk};
use crate::process::Process;
use crate::{preload, provision, wait};

/// How long it may take to be ready: migrations, keys, first operator.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A manager that can be stopped and started again on the same port and database.
pub struct Manager {
    /// Where it listens, for operators and gateways alike.
    pub address: SocketAddr,
    folder: PathBuf,
    /// Days by which its clock is wrong.
    clock_shift_days: i64,
    /// How many times as fast its time passes.
    haste: u32,
    /// Who may kill it at a commit.
    executioner: Option<Executioner>,
    /// The disk that can be full.
    disk: Option<Disk>,
    process: Option<Process>,
}

impl Manager {
    /// Writes `keygate.toml` into `folder`; `settings` are further lines of it.
    pub fn configure(folder: &Path, settings: &[(&str, String)]) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let address = crate::free_address()?;
        let mut file = format!("version = 1\nlisten = \"{address}\"\n");
        for (name, value) in settings {
            file.push_str(&format!("{name} = {value}\n"));
        }
        std::fs::write(folder.join("keygate.toml"), file).context("write keygate.toml")?;
        let folder = folder.to_owned();
        Ok(Self {
            address,
            folder,
            clock_shift_days: 0,
            haste: 1,
            executioner: None,
            disk: None,
            process: None,
        })
    }

    /// One more line of `keygate.toml`, which was not there: name and TOML value. It counts from the next start.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        use std::io::Write;
        let path = self.folder.join("keygate.toml");
        let mut file = std::fs::File::options().append(true).open(path).context("open keygate.toml")?;
        writeln!(file, "{name} = {value}").context("write keygate.toml")
    }

    /// A command of `keygate` in the manager's folder.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(provision::keygate()?);
        command.args(arguments).current_dir(&self.folder);
        // The settings of whoever runs the tests are not ours.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("KEYGATE_")) {
                command.env_remove(name);
            }
        }
        if self.clock_shift_days != 0 {
            command.env("LD_PRELOAD", preload::library("clock_shift")?);
            command.env("E2E_CLOCK_SHIFT_S", (self.clock_shift_days * 86_400).to_string());
        }
        Ok(command)
    }

    /// From its next start, and for every command, it is another day.
    pub fn set_day(&mut self, days_from_today: i64) {
        self.clock_shift_days = days_from_today;
    }

    /// From its next start its time passes so many times as fast: time-outs come soon.
    pub fn set_haste(&mut self, times: u32) {
        self.haste = times;
    }

    /// From its next start it can be killed at a commit; it has to be on SQLite.
    pub fn executioner(&mut self) -> Executioner {
        self.executioner.get_or_insert_with(|| Executioner::of(&self.folder)).clone()
    }

    /// From its next start its disk can be full; it has to be on SQLite.
    pub fn disk(&mut self) -> Disk {
        self.disk.get_or_insert_with(|| Disk::of(&self.folder)).clone()
    }

    /// Runs a command of `keygate` to its end and returns what it printed.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with(arguments, "")
    }

    /// As [`Manager::run`], with `input` on standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        use std::io::Write;
        use std::process::Stdio;
        let mut command = self.command(arguments)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start keygate")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).context("write to keygate")?;
        }
        let output = child.wait_with_output().context("wait for keygate")?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("`keygate {}` ended with {}:\n{printed}{said}", arguments.join(" "), output.status);
        }
        Ok(printed)
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&mut self) -> Result<()> {
        self.launch()?;
        let started = wait::now();
        loop {
            let process = self.process.as_mut().context("it was just started")?;
            process.check()?;
            if client::http1(self.address, &Call::get("/readyz"))
                .await
                .is_ok_and(|answer| answer.status == 200)
            {
                return Ok(());
            }
            if started.elapsed() > START_LIMIT {
                bail!("keygate is not ready after {} s:\n{}", START_LIMIT.as_secs(), process.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it without waiting for anything.
    pub fn launch(&mut self) -> Result<()> {
        let mut command = self.command(&["serve"])?;
        let mut libraries = Vec::new();
        if let Some(executioner) = &self.executioner {
            libraries.push(preload::library("kill_at_commit")?);
            command.env(sqlite::VARIABLE, executioner.order());
        }
        if let Some(disk) = &self.disk {
            libraries.push(preload::library("full_disk")?);
            command.env(disk::VARIABLE, disk.room());
        }
        if self.haste != 1 {
            libraries.push(preload::library("clock_haste")?);
            command.env("E2E_CLOCK_HASTE", self.haste.to_string());
        }
        if self.clock_shift_days != 0 {
            libraries.push(preload::library("clock_shift")?);
        }
        if !libraries.is_empty() {
            command.env("LD_PRELOAD", std::env::join_paths(libraries)?);
        }
        self.process = Some(Process::spawn("keygate", &mut command, &self.folder.join("keygate.log"))?);
        Ok(())
    }

    /// Stops it as an operator would.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Waits until it has died by itself.
    pub async fn until_dead(&mut self, limit: Duration) -> Result<()> {
        let started = wait::now();
        while self.process.as_mut().is_some_and(|process| process.check().is_ok()) {
            if started.elapsed() > limit {
                bail!("keygate lives on after {} ms", limit.as_millis());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.kill();
        Ok(())
    }

    /// The running process.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// The sum of a metric over its labels, as a Prometheus server reads it.
    pub async fn metric(&self, name: &str) -> Result<u64> {
        let told = client::http1(self.address, &Call::get("/metrics")).await?.text();
        let of_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values =
            told.lines().filter(of_it).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(values.sum())
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("keygate.log")).unwrap_or_default()
    }

    /// Its folder: configuration, database, log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
