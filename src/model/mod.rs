//! Backbones, heads and what they are made of. Knows no data set and no study beyond the protocol switches.

pub mod about;
pub mod activations;
pub mod aimv2;
pub mod backbone;
pub mod checkpoint;
pub mod classifier;
pub mod clip;
pub mod coca;
pub mod dinov2;
pub mod entry;
pub mod export;
pub mod facts;
pub mod head;
pub mod hiera;
pub mod kept;
pub mod mae;
pub mod params;
pub mod pickle;
pub mod plain_vit;
pub mod pretrained;
pub mod registry;
pub mod safetensors;
pub mod sam2;
#[cfg(test)]
mod tests;
pub mod timm_vit;
pub mod vit;
pub mod vmamba;

pub use backbone::{Backbone, BackboneOptions, Features};
pub use classifier::{Classifier, ModelSizes};
pub use entry::BackboneEntry;
pub use params::LayerPosition;
pub use pretrained::{Pretrained, WeightsFile};
