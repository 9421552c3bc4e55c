//! The parity fixtures of every family that trains, computed by kernels; the same files as `tests/parity`.

#[path = "../parity/aimv2.rs"]
mod aimv2;
#[path = "../parity/clip.rs"]
mod clip;
#[path = "../parity/coca.rs"]
mod coca;
#[path = "../shared/fixtures.rs"]
mod common;
#[path = "../parity/dinov2.rs"]
mod dinov2;
#[path = "../parity/mae.rs"]
mod mae;
#[path = "../parity/mha.rs"]
mod mha;
#[path = "../parity/model.rs"]
mod model;
#[path = "../parity/sam2.rs"]
mod sam2;
#[path = "../parity/train.rs"]
mod train;
#[path = "../parity/vmamba.rs"]
mod vmamba;
