//! The program's own commands, read by somebody who has seen enough.

use std::io::Read as _;
use std::process::{Command, Stdio};

/// As `| head` does: it reads a little, or nothing, and goes.
#[test]
fn a_reader_that_goes_ends_a_command_quietly() {
    let folder = std::env::temp_dir().join(format!("keygate-stdout-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    for words in [&["openapi"][..], &["config", "check"], &["mail", "template", "list"]] {
        for read in [0, 10] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_keygate"));
            command.args(words).current_dir(&folder).env_clear();
            let mut running =
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
            let mut out = running.stdout.take().expect("a pipe");
            out.read_exact(&mut vec![0; read]).expect("what it prints");
            drop(out);
            let ended = running.wait_with_output().expect("an end");
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success() && said.is_empty(), "{words:?}: {}, {said}", ended.status);
        }
    }
    std::fs::remove_dir_all(&folder).expect("the folder");
}
