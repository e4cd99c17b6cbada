//! Requests that are held, what they wait for, and how they are decided again.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;

use super::presented::CacheKey;
use super::{Gate, Identity, StreamId};
use crate::id::MeterId;
use crate::time::MonoMillis;
use crate::wire::directory::ApiEntry;

/// What is known of a request.
pub(super) enum Stream {
    /// Behind us, until its end.
    Admitted(Flight),
    /// Held.
    Held(Box<Hold>),
}

/// A request that was let in, for when it is answered.
pub(super) struct Flight {
    /// When its head arrived.
    pub(super) since: MonoMillis,
    pub(super) identity: Option<Rc<Identity>>,
    pub(super) api: Option<Rc<ApiEntry>>,
    /// First digit of the answer's status; 0 = none yet.
    pub(super) class: u8,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    /// When its head arrived.
    pub(super) since: Option<MonoMillis>,
    pub(super) body: Body,
    /// What it waits for now.
    pub(super) waits: Option<Wait>,
    /// What it waited for, while its body is read.
    pub(super) waited: Option<Wait>,
    /// On its way to be decided again.
    pub(super) resumed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Body {
    /// Nobody asked for it.
    #[default]
    Unasked,
    Arriving {
        size: usize,
    },
    Complete {
        size: usize,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    pub(super) what: WaitFor,
    /// When it began, however often it was renewed.
    pub(super) since: MonoMillis,
    pub(super) until: MonoMillis,
    pub(super) again_at: Option<MonoMillis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitFor {
    Directory,
    Lookup(CacheKey),
    Units(MeterId),
}

impl Gate {
    /// Has a held stream decided again.
    pub(super) fn resume(&mut self, stream: StreamId) {
        if let Some(Stream::Held(hold)) = self.streams.get_mut(&stream)
            && !hold.resumed
        {
            hold.resumed = true;
            self.resumed.push_back(stream);
            self.work = true;
        }
    }

    pub(super) fn resume_those(&mut self, waits_for: impl Fn(&Wait) -> bool) {
        let found: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(_, stream)| match stream {
                Stream::Held(hold) => hold.waits.as_ref().is_some_and(&waits_for),
                Stream::Admitted(_) => false,
            })
            .map(|(id, _)| *id)
            .collect();
        found.into_iter().for_each(|stream| self.resume(stream));
    }

    pub(super) fn resume_overdue(&mut self, now: MonoMillis) {
        if self.waiting_for_directory + self.waiting_for_lookups > 0 || !self.waiting_for_units.is_empty() {
            self.resume_those(|wait| wait.until <= now || wait.again_at.is_some_and(|at| at <= now));
        }
    }

    /// Takes a stream off the list of those that wait for `what`.
    pub(super) fn stop_waiting(&mut self, stream: StreamId, what: Option<WaitFor>) {
        match what {
            None => {}
            Some(WaitFor::Directory) => {
                self.waiting_for_directory = self.waiting_for_directory.saturating_sub(1);
            }
            Some(WaitFor::Lookup(key)) => {
                self.waiting_for_lookups = self.waiting_for_lookups.saturating_sub(1);
                if let Some(lookup) = self.lookups.get_mut(&key) {
                    lookup.waiting.retain(|waiting| *waiting != stream);
                    if lookup.waiting.is_empty() {
                        self.lookups.remove(&key);
                    }
                }
            }
            Some(WaitFor::Units(meter)) => {
                if let Some(waiting) = self.waiting_for_units.get_mut(&meter) {
                    waiting.retain(|waiting| *waiting != stream);
                    if waiting.is_empty() {
                        self.waiting_for_units.remove(&meter);
                    }
                }
            }
        }
    }
}
