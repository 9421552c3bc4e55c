//! The files of `data-manifests/`, compiled in so that medft runs outside of its checkout.
//!
//! Written by hand and not by a build script: a new manifest is one line here, and a test holds the list against the
//! folder.

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../data-manifests/", $name)))),+]
    };
}

/// Path below `data-manifests/` and content.
pub(super) static FILES: &[(&str, &str)] = files![
    "aptos2019.toml",
    "bloodmnist.toml",
    "breastmnist.sha256",
    "breastmnist.toml",
    "chestmnist.toml",
    "chexpert.toml",
    "ddsm.toml",
    "dermamnist.toml",
    "isic2019.toml",
    "octmnist.toml",
    "organamnist.toml",
    "organcmnist.toml",
    "organsmnist.toml",
    "pathmnist.toml",
    "phantom/aptos2019.sha256",
    "phantom/chexpert.sha256",
    "phantom/ddsm.sha256",
    "phantom/isic2019.sha256",
    "pneumoniamnist.toml",
    "retinamnist.sha256",
    "retinamnist.toml",
    "tissuemnist.toml",
    "weights/aimv2-h-apple.toml",
    "weights/aimv2-h-hf.toml",
    "weights/aimv2-l-apple.toml",
    "weights/aimv2-l-hf.toml",
    "weights/clip-b-hf-safetensors.toml",
    "weights/clip-b-hf.toml",
    "weights/clip-b-open_clip.toml",
    "weights/coca-b-open_clip.toml",
    "weights/coca-l-open_clip.toml",
    "weights/deit-b-fb.toml",
    "weights/deit-b-timm.toml",
    "weights/dino-b-timm.toml",
    "weights/dinov2-b-hf.toml",
    "weights/dinov2-b-hub.toml",
    "weights/dinov2-l-hf.toml",
    "weights/dinov2-l-hub.toml",
    "weights/dinov2-s-hf.toml",
    "weights/dinov2-s-hub.toml",
    "weights/dinov2-s-imgfocus.toml",
    "weights/mae-b-fb.toml",
    "weights/mae-b-hf.toml",
    "weights/mae-b-timm.toml",
    "weights/mae-h-fb.toml",
    "weights/mae-h-hf.toml",
    "weights/mae-h-timm.toml",
    "weights/mae-l-fb.toml",
    "weights/mae-l-hf.toml",
    "weights/mae-l-timm.toml",
    "weights/sam2-b-pt.toml",
    "weights/sam2-l-pt.toml",
    "weights/vit-b-timm.toml",
    "weights/vit-clip-b-timm.toml",
    "weights/vmamba-b.toml",
    "weights/vmamba-s.toml",
];
