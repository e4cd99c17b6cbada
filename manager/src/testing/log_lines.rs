//! What a test's own thread logs.

use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::sync::Once;

use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;

thread_local! {
    static WRITTEN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Log lines of all levels that this thread writes from now on until this is dropped. A test and
/// what it spawns run on one thread.
pub struct LogLines(PhantomData<*const ()>);

impl LogLines {
    /// Begins.
    pub fn capture() -> Self {
        install();
        // Whoever wrote a line at the very moment of the installation may have noted that nobody
        // wants it.
        tracing::callsite::rebuild_interest_cache();
        let before = WRITTEN.replace(Some(Vec::new()));
        assert!(before.is_none(), "this thread is captured already");
        Self(PhantomData)
    }

    /// All so far.
    pub fn text(&self) -> String {
        WRITTEN
            .with_borrow(|written| String::from_utf8_lossy(written.as_ref().expect("capturing")).into_owned())
    }
}

impl Drop for LogLines {
    fn drop(&mut self) {
        WRITTEN.set(None);
    }
}

/// Has all threads share one subscriber. With one of its own for each test, whether a line is wanted
/// is asked of the thread that comes to it first, and remembered for all: a test that captures
/// nothing would silence the line for one that does.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(|| Written)
            .finish()
            .with(dynamic_filter_fn(|_, _| WRITTEN.with_borrow(Option::is_some)));
        tracing::subscriber::set_global_default(subscriber).expect("the only one of the tests");
    });
}

struct Written;

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITTEN.with_borrow_mut(|written| {
            if let Some(written) = written {
                written.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_that_another_thread_wrote_first_is_captured() {
    fn say(what: &str) {
        tracing::trace!("A line that says {what}");
    }
    let lines = LogLines::capture();
    std::thread::spawn(|| say("that somebody else was first")).join().expect("said");
    say("who wrote it");
    assert!(lines.text().contains("A line that says who wrote it"), "{}", lines.text());
    assert!(!lines.text().contains("somebody else"));
    drop(lines);
    say("that nobody listens");
    assert_eq!(LogLines::capture().text(), "");
}
