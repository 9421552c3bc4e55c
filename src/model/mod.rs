//! Backbones, heads and what they are made of. Knows no data set and no study beyond the protocol switches.

pub mod backbone;
pub mod checkpoint;
pub mod classifier;
pub mod dinov2;
pub mod head;
pub mod layers;
pub mod mae;
pub mod params;
pub mod pickle;
pub mod registry;
pub mod vit;

pub use backbone::{Backbone, Features, Options};
pub use classifier::{Classifier, Pretrained, WeightsFile};
