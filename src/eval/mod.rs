//! Metrics, intervals, tests: pure functions. Imports no other room.
