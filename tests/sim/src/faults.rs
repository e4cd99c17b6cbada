//! Mistakes one could make around the protocol, each switched on by a test that shows the
//! reference noticing it.

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Shared writes do not compare: the last writer wins.
    BlindWrites,
    /// A lease whose rest is being given back stays in the record.
    ClosedLeaseStays,
    /// A lease counts from the arrival of its answer instead of the sending of its question.
    ExpiryFromArrival,
    /// The ledger forgets what it answered, so that a repeat is a new first step.
    ForgottenAnswers,
    /// The ledger credits a return again when it is repeated.
    CreditPerRepeat,
    /// The ledger credits what an expired lease has not reported.
    CreditOnExpiry,
    /// The ledger credits returns of past generations to the present one.
    CreditAcrossGenerations,
    /// The ledger debits without the condition `debited + n <= limit`, on a row it read before
    /// another transaction committed.
    StaleDebits,
    /// A node forgets a renewal that was not answered in time, with the lease that it closed.
    ImpatientNode,
    /// Recalls and changes of the limit do not reach the nodes.
    SilentFeed,
}
