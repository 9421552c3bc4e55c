//! What a download or an unpacking tells while it runs.

/// What a download tells while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes there, of so many, where known. `before`: taken over from an earlier process, not from the network.
    At { bytes: u64, of: Option<u64>, before: bool },
    /// Something a user wants to know: a wait, a mirror, a restart.
    Note(String),
}

/// Hears of a download, from the thread that runs it.
pub type OnEvent<'a> = &'a (dyn Fn(Event) + Sync);
