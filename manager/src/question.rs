//! What a command asks before it does something that cannot be undone.

use std::io::{BufRead, Write};

/// Whether whoever sits at the terminal agrees.
pub fn agreed(answers: &mut impl BufRead, questions: &mut impl Write) -> anyhow::Result<bool> {
    write!(questions, "Do this? Only `yes` does it: ")?;
    questions.flush()?;
    let mut answer = String::new();
    answers.read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn only_yes_does_it() {
        for (answer, does) in [
            ("yes\n", true),
            (" yes \r\n", true),
            ("yes", true),
            ("no\nyes\n", false),
            ("y\n", false),
            ("YES\n", false),
            ("yes please\n", false),
            ("\n", false),
            ("", false),
        ] {
            let mut asked = Vec::new();
            assert_eq!(agreed(&mut answer.as_bytes(), &mut asked).expect("asked"), does, "{answer:?}");
            assert_eq!(asked, b"Do this? Only `yes` does it: ");
        }
    }
}
