//! Fitting: the loop, the optimiser, the schedule, checkpoints, selection. Knows nothing of tables or result files.

pub mod loss;
pub mod optim;
pub mod schedule;
