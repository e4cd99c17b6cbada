//! `keygate apply` and `keygate export`, as the program that people run.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The example that the documentation shows.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../envoy/definitions");

/// An installation of its own, in a folder that goes with it.
struct Installation {
    folder: tempfile::TempDir,
}

/// What a command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Installation {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    /// With an operator for each level of the example's flow: without them it is refused.
    fn with_reviewers() -> Self {
        let new = Self::new();
        for role in ["reviewer_1", "reviewer_2"] {
            new.ok(&["operator", "create", role, "--role", role]);
        }
        new
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, text).expect("written");
        path
    }

    fn run(&self, arguments: &[&str], input: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keygate"));
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KEYGATE_"))
        {
            command.env_remove(name);
        }
        let mut child = command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("KEYGATE_DATABASE_URL", format!("sqlite:{}", self.path("keygate.db").display()))
            .env("KEYGATE_KEK_FILE", self.path("keygate.kek"))
            .env("KEYGATE_LOG_FILTER", "error")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("keygate starts");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("taken");
        let output = child.wait_with_output().expect("keygate ends");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Said {
            code: output.status.code().expect("a code"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments, "");
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        said
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn the_example_is_applied_exported_and_applied_elsewhere() {
    let refused = Installation::new().run(&["apply", "-f", EXAMPLE, "--yes"], "");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("flows.yaml:2: the flow finds no signers: level 1"), "{refused:?}");

    let (here, elsewhere) = (Installation::with_reviewers(), Installation::with_reviewers());
    let planned = here.run(&["apply", "-f", EXAMPLE, "--dry-run", "--detailed-exitcode"], "");
    assert_eq!(planned.code, 2, "{planned:?}");
    assert!(planned.out.contains("+ api shop/orders\n"), "{planned:?}");
    assert!(planned.out.contains("    tps: 20\n"), "{planned:?}");
    assert!(planned.out.contains("without a password"), "{planned:?}");
    assert!(planned.out.ends_with("7 to create, 0 to update, 0 to delete, 0 unchanged.\n"), "{planned:?}");
    assert!(!planned.out.contains('\x1b'), "colours are for terminals");

    let done = here.ok(&["apply", "-f", EXAMPLE, "--yes"]);
    assert!(done.out.ends_with("7 created, 0 updated, 0 deleted, 0 unchanged.\n"), "{done:?}");
    let again = here.ok(&["apply", "-f", EXAMPLE, "--dry-run", "--detailed-exitcode"]);
    assert_eq!(again.out, "Nothing to do: 7 unchanged.\n");
    here.ok(&["audit", "verify"]);

    // Written down as files, as YAML and as JSON, it is the same, here and elsewhere.
    let printed = here.ok(&["export"]).out;
    here.ok(&["export", "-o", "all.json"]);
    here.ok(&["export", "-o", "written"]);
    for source in ["all.json", "written"] {
        let same = here.ok(&["apply", "-f", source, "--dry-run", "--detailed-exitcode", "--prune"]);
        assert_eq!(same.out, "Nothing to do: 7 unchanged.\n", "{source}");
    }
    let names = |folder: PathBuf| {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().expect("UTF-8")).collect();
        names.sort();
        names
    };
    assert_eq!(
        names(here.path("written")),
        ["apis.yaml", "clients.yaml", "flows.yaml", "groups.yaml", "scopes.yaml", "users.yaml"]
    );
    elsewhere.ok(&["apply", "-f", text(&here.path("written")), "--yes"]);
    assert_eq!(elsewhere.ok(&["export"]).out, printed);
    let piped = elsewhere.run(&["apply", "-f", "-", "--dry-run"], &printed);
    assert_eq!((piped.code, piped.out.as_str()), (0, "Nothing to do: 7 unchanged.\n"));
    let some = here.ok(&["export", "--kind", "groups", "--format", "json"]).out;
    assert!(some.contains("\"Group\"") && !some.contains("\"Client\""), "{some}");
}

#[test]
fn every_fault_of_every_file_is_told_with_its_line_and_nothing_is_done() {
    let here = Installation::new();
    here.write("d/a.yaml", "apiVersion: keygate/v1\nkind: Group\nspec:\n  name: a\n  alais: A\n");
    here.write(
        "d/sub/b.yml",
        "apiVersion: keygate/v1\nkind: Group\nspec:\n  name: b\n  apis:\n    - shop/none\n",
    );
    here.write(
        "d/c.json",
        "[\n  {\"apiVersion\": \"keygate/v1\", \"kind\": \"Group\",\n   \"spec\": {\"name\": \"a b\"}}\n]\n",
    );
    here.write("d/broken.yaml", "spec: [1\nkind: x\n");
    here.write("d/fine.yaml", "apiVersion: keygate/v1\nkind: Group\nspec: {name: fine}\n");
    // Neither of these is looked at.
    here.write("d/.hidden.yaml", "no");
    here.write("d/notes.txt", "no");
    #[cfg(unix)]
    std::os::unix::fs::symlink(here.write("outside.yaml", "no"), here.path("d/link.yaml")).expect("linked");

    let refused = here.run(&["apply", "-f", "d", "--yes"], "");
    assert_eq!(refused.code, 1, "{refused:?}");
    let lines: Vec<&str> = refused.err.lines().collect();
    assert_eq!(
        lines[0],
        "d/a.yaml:5: spec.alais is no field here: the fields are name, alias, description, security_level, apis"
    );
    assert!(lines[1].starts_with("d/broken.yaml:2: cannot be read as YAML or JSON"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("d/c.json:3: spec.name must be 1 to 50")), "{lines:?}");
    assert_eq!(lines.last(), Some(&"keygate: nothing was done: 3 to be put right"));
    assert_eq!(here.ok(&["export"]).out, "");

    // With the file that cannot be read out of the way, what it might have defined is missing.
    fs::remove_file(here.path("d/broken.yaml")).expect("removed");
    let refused = here.run(&["apply", "-f", "d", "--yes"], "");
    assert!(
        refused.err.contains("d/sub/b.yml:6: spec.apis names the api \"shop/none\"")
            || refused.err.contains("d/sub/b.yml:5: spec.apis names the api \"shop/none\""),
        "{refused:?}"
    );
}

#[test]
fn where_nobody_can_be_asked_yes_is_needed() {
    let here = Installation::new();
    let file = here.write("g.yaml", "apiVersion: keygate/v1\nkind: Group\nspec: {name: g}\n");
    let refused = here.run(&["apply", "-f", text(&file)], "yes\n");
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("--yes"), "{refused:?}");
    assert_eq!(here.ok(&["export"]).out, "");
    for (arguments, part) in [
        (["apply", "-f", "none.yaml", "--yes"].as_slice(), "none.yaml"),
        (&["apply", "--yes"], "--file"),
        (&["apply", "-f", "g.yaml", "--detailed-exitcode"], "--dry-run"),
        (&["export", "--kind", "keys"], "the kinds are apis"),
        (&["export", "-o", "x.json", "--format", "yaml"], "--format"),
    ] {
        let refused = here.run(arguments, "");
        assert!(refused.code != 0 && refused.err.contains(part), "{arguments:?}: {refused:?}");
    }
    let empty = here.path("empty");
    fs::create_dir(&empty).expect("made");
    assert!(here.run(&["apply", "-f", "empty", "--yes"], "").err.contains("holds no file"));
}

#[test]
fn an_update_shows_both_values_and_a_new_name_is_said_to_be_a_new_thing() {
    let here = Installation::new();
    let group = |name: &str, description: &str| {
        format!("apiVersion: keygate/v1\nkind: Group\nspec: {{name: {name}, description: {description}}}\n")
    };
    let file = here.write("g.yaml", &group("g", "old"));
    here.ok(&["apply", "-f", text(&file), "--yes"]);
    here.write("g.yaml", &group("g", "'new words'"));
    let shown = here.ok(&["apply", "-f", "g.yaml", "--dry-run"]);
    assert_eq!(
        shown.out,
        "~ group g\n    description: old → \"new words\"\n0 to create, 1 to update, 0 to delete, 0 unchanged.\n"
    );
    here.write("g.yaml", &group("h", "old"));
    let shown = here.ok(&["apply", "-f", "g.yaml", "--dry-run", "--prune"]);
    assert!(shown.out.contains("- group g\n") && shown.out.contains("! the name is what"), "{shown:?}");
}
