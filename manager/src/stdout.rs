//! What commands print. A reader that has seen enough and closes the pipe (`| head`) ends no command in
//! the middle of its work, and is no error: what it does not want is not written.
//!
//! Declared before all other modules, so that `print!` and `println!` mean these everywhere.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// As the standard library's, but for a reader that is gone.
#[macro_export]
macro_rules! print {
    ($($words:tt)*) => { $crate::stdout::write(::std::format_args!($($words)*), "") };
}

/// As the standard library's, but for a reader that is gone.
#[macro_export]
macro_rules! println {
    () => { $crate::stdout::write(::std::format_args!(""), "\n") };
    ($($words:tt)*) => { $crate::stdout::write(::std::format_args!($($words)*), "\n") };
}

/// Prints `words` and `end`.
pub fn write(words: Arguments<'_>, end: &str) {
    let mut out = io::stdout().lock();
    let written = out.write_fmt(words).and_then(|()| out.write_all(end.as_bytes()));
    if let Err(error) = written.or_else(forgiven) {
        // As the standard library: there is nowhere to say it but here.
        panic!("cannot write to the standard output: {error}");
    }
}

/// Ok: it was the reader who went.
pub fn forgiven(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    }
}
