//! Lanes: the ordered streams between two nodes.

/// One of the ordered streams between two nodes. Frames on one lane never overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Consensus and leases: small, urgent.
    Consensus,
    /// Everything else that is small.
    Control,
    /// Payloads above `BULK_ABOVE` bytes.
    Bulk,
    /// The join protocol, the only lane that a peer outside the roster may use.
    Join,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Lane; 4] = [Lane::Consensus, Lane::Control, Lane::Bulk, Lane::Join];

    /// Name in protocol ids and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Consensus => "consensus",
            Lane::Control => "control",
            Lane::Bulk => "bulk",
            Lane::Join => "join",
        }
    }
}
