//! Backbones, heads and what they are made of. Knows no data set and no study beyond the protocol switches.

pub mod layers;
