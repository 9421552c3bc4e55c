//! What is to be run: TOML spec → matrix of [`RunSpec`] → content-addressed run id. Imports no other room.

pub mod protocol;
pub mod spec;

pub use protocol::Protocol;
pub use spec::{Freeze, HeadKind, RunSpec, Scale};
