//! What must stay true of the repository itself. The rules are the tests in `tests/`; here is what
//! they look with: the tracked files, and Rust sources without comments and tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tracked text file.
#[derive(Clone, Debug)]
pub struct File {
    /// Relative to the repository's root, with `/`.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// The repository's root.
pub fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root.pop();
    root
}

/// All text files that are tracked or about to be.
pub fn files() -> Vec<File> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is installed where the repository was cloned");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let mut files: Vec<File> = String::from_utf8_lossy(&listed.stdout)
        .lines()
        // Listed and deleted in the work tree, or not text: nothing to read.
        .filter_map(|path| Some(File { path: path.to_owned(), text: read(path)? }))
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    assert!(files.len() > 20, "these are all files of the repository: {files:?}");
    files
}

/// One file's text; none if it is not there or no text.
pub fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(root().join(path)).ok()
}

/// The Rust sources below a folder, without comments and tests.
pub fn sources(below: &str) -> Vec<File> {
    let found: Vec<File> = files()
        .into_iter()
        .filter(|file| file.path.starts_with(below) && file.path.ends_with(".rs"))
        .filter(|file| !is_test(&file.path))
        .map(|file| File { text: code(&file.text), path: file.path })
        .collect();
    assert!(!found.is_empty(), "there are sources below {below}");
    found
}

fn is_test(path: &str) -> bool {
    let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == "tests.rs" || name == "testing.rs" || path.contains("/tests/")
}

/// Rust without comments, and without what follows the module of tests at its end. Good enough for
/// sources that rustfmt has laid out.
pub fn code(text: &str) -> String {
    let mut kept = String::new();
    for line in text.lines() {
        if line.starts_with("#[cfg(test)]") && text.contains("\nmod tests") {
            break;
        }
        let line = match line.trim_start().starts_with("//") {
            true => "",
            false => line.split_once(" // ").map_or(line, |(code, _)| code),
        };
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// Fails with all violations at once.
#[track_caller]
pub fn assert_none(rule: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{rule}:\n  {}\n", violations.join("\n  "));
}
