//! Mistakes one could make in or around the protocol, each switched on by a test that shows the
//! reference noticing it.
//!
//! A fault is done **around** the product's code: to what a half is told, to what it answers, or
//! to the bytes it has written. So there is no switch in `gate` that a shipped build could carry,
//! and the code that is tested with a fault is the code that is tested without.

use crate::scenario::Weather;

macro_rules! faults {
    ($($(#[$doc:meta])+ $name:ident: $weather:ident, $promise:literal;)+) => {
        /// What is broken on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            /// Nothing.
            None,
            $($(#[$doc])+ $name,)+
        }

        /// Every fault, the weather that shows it, and the promise that it breaks first.
        pub const CATALOGUE: &[(Fault, Weather, &str)] =
            &[$((Fault::$name, Weather::$weather, $promise),)+];
    };
}

faults! {
    /// Shared writes do not compare: the last writer wins.
    BlindWrites: Rough, "admitted takes one of each, refused takes nothing";
    /// Create-if-absent by a plain write: of two workers that begin a record, one loses its own.
    CreateByPlainSet: Rough, "only an empty record is forgotten";
    /// A lease whose rest is being given back stays in the record.
    ClosedLeaseStays: Rough, "a stream in order is not refused";
    /// A lease counts from the arrival of its answer instead of the sending of its question.
    ExpiryFromArrival: Rough, "no spend in another window";
    /// A node takes the life of a lease three times as long as it was told.
    ExpireNever: Rough, "no spend after expiry";
    /// A node lets a lease live two seconds longer than its window.
    ExpireLate: Rough, "no spend in another window";
    /// A node spends a lease of the next window as soon as it has it.
    OpensEarly: Rough, "no spend in another window";
    /// A node asks for no lease of the next window.
    NeverAhead: Fair, "units are there when the window turns";
    /// The ledger begins a window as if nothing had been handed out of it.
    ForgottenAhead: Rough, "debited is what was handed out and not returned";
    /// A reset in the last seconds of a window takes the number that leases of the next one have.
    ResetForgetsAhead: Rough, "debited is what was handed out and not returned";
    /// A node forgets a renewal that was not answered in time, with the lease that it closed.
    ImpatientNode: Rough, "a step that is sent again is the same";
    /// A node installs any answer of a stream, whichever step it belongs to.
    AnyAnswerInstalled: Rough, "a lease arrives once, where it was granted";
    /// A node counts what it gives back once more, when it sends a renewal again.
    FreshCountOnResend: Rough, "a step that is sent again is the same";
    /// A node gives back one unit less than is left.
    CountsOneTooFew: Rough, "a lease comes back whole";
    /// A process that is drained does not give back what it holds.
    DrainedKeeps: Rough, "demand uses the limit up";
    /// A node drops the records that are in the way, with what they hold.
    EvictionDropsLeases: Crowded, "only an empty record is forgotten";
    /// The records of a node are named by the same number whenever they are made: closed and
    /// reused, a record begins the stream of the one before.
    ReusedRec: Rough, "a stream in order is not refused";
    /// Two generations of a listener share one holder id and the numbers of their streams.
    SharedHolder: Rough, "a stream in order is not refused";
    /// A process that was killed comes back under its old name, with the numbers of its streams.
    HolderSurvivesCrash: Stormy, "a step that is sent again is the same";
    /// The ledger forgets what it answered, so that a repeat is a new first step.
    ForgottenAnswers: Rough, "a repeat gets the same answer";
    /// The answer leaves before the commit, which a crash then prevents.
    AnswerBeforeCommit: Rough, "a lease is credited once";
    /// The ledger credits a return again when it is repeated.
    CreditPerRepeat: Rough, "debited is what was handed out and not returned";
    /// The ledger credits what an expired lease has not reported.
    CreditOnExpiry: Stormy, "admitted <= debited <= limit";
    /// The ledger credits returns of past generations to the present one.
    CreditAcrossGenerations: Rough, "debited is what was handed out and not returned";
    /// The ledger credits the whole lease that is returned, spent units too.
    CreditWholeLease: Rough, "debited is what was handed out and not returned";
    /// The ledger credits the return of a lease whose units an operator has given to others.
    CreditAfterReclaim: Stormy, "what others were given does not come back";
    /// An operator gives withheld units back without raising the limit, as if they were unspent.
    ReclaimWithoutRaise: Stormy, "admitted <= debited <= limit";
    /// The ledger debits without the condition `debited + n <= limit`, on a row it read before
    /// another transaction committed.
    StaleDebits: Rough, "admitted <= debited <= limit";
    /// A manager goes on with the limit that it read first.
    CachedLimit: Rough, "admitted <= debited <= limit";
    /// Each manager turns the window by its own clock, also back.
    WindowTurnsTwice: Rough, "a generation begins once";
    /// The ledger forgets the window while it lasts.
    ForgottenWindow: Rough, "no refusal after the window has turned";
    /// A node that gets no answer in time, for want of the manager, tells that nothing is left.
    WantIsTheWord: Rough, "exhausted is the ledger's word";
    /// "Exhausted" is told without the window's end.
    ExhaustedForever: Rough, "no refusal after the window has turned";
    /// The ledger says "exhausted" while others have unexpired leases.
    NothingIsPending: Rough, "no refusal while units are free";
    /// Recalls and changes of the limit do not reach the nodes.
    SilentFeed: Rough, "no refusal while units are free";
    /// Neither half looks at the epoch after a database was restored.
    EpochIgnored: Stormy, "a stream of another epoch is refused";
    /// Two workers each draw the name of their process, and the last plain write stays.
    HolderByPlainSet: ClearGates, "a process has one name";
    /// A configuration that ends takes along what its workers hold.
    LeavesWithLeases: ClearGates, "who leaves keeps nothing";
    /// A manager reads the newest revision after the rows instead of before.
    RevisionReadAfterRows: Gates, "a revoked key is refused within a second of contact";
    /// A revision becomes visible after a later one, as with a plain sequence.
    RevisionsOutOfOrder: ClearGates, "a revoked key is refused within a second of contact";
    /// A worker's timer is not armed again after half a minute.
    TimerStops: Gates, "who waits is answered in time";
}
