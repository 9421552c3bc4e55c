//! CoCa against open_clip.

use super::clip::tower;
use super::model::*;
use medft::model::backbone::{Backbone, BackboneOptions};
use medft::model::coca::{B32, Coca, Config, L14, WHOLE};
use medft::spec::protocol::CocaTokens;
use medft::study::Protocol;

fn config(j: &serde_json::Value) -> Config {
    Config {
        tower: tower(j),
        embed_dim: int(j, "/embed_dim"),
        queries: int(j, "/queries"),
        pooler_heads: int(j, "/pooler_heads"),
    }
}

#[test]
fn coca_outputs_and_gradients() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("coca/coca.json");
    let c = config(&j["config"]);
    let last = format!("out.block.{}", c.tower.depth - 1);
    let mut worst = Worst::default();
    for (case, d) in j["cases"].as_object().unwrap() {
        let io = tensors(&format!("coca/{}", d["file"].as_str().unwrap()));
        let b = builder("coca/coca.weights.safetensors", WHOLE);
        let m = Coca::new(c, BackboneOptions::new(&Protocol::faithful(), 3), &b).unwrap();
        b.finish_source().unwrap();
        backbone_case(case, &m, &b.params(), &io, &["conv1"], &mut worst);
        all_gradients(case, &m, &b.params(), &io["input"], &j["no_grad_params"]);

        // Q29 corrected: what the pooler reads, without the class token.
        let options = BackboneOptions {
            coca_tokens: CocaTokens::Patches,
            ..BackboneOptions::new(&Protocol::faithful(), 3)
        };
        let m = Coca::new(c, options, &builder("coca/coca.weights.safetensors", WHOLE)).unwrap();
        let f = m.forward(&io["input"]).unwrap();
        let want = io[&last].narrow(1, 1, io[&last].dim(1).unwrap() - 1).unwrap();
        close(&format!("{case} patches"), &f.tokens, &want, OUTPUT, &mut worst.output);
        assert_eq!(f.tokens.dim(2).unwrap(), m.token_dim());
    }
    worst.print("coca");
}

#[test]
fn coca_published_sizes() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("coca/coca.json");
    for (name, c) in [("coca_ViT-B-32", B32), ("coca_ViT-L-14", L14)] {
        let want = &j["config"]["real_models"][name];
        let got = (c.tower.width, c.tower.depth, c.tower.patch_size);
        assert_eq!(
            got,
            (int(want, "/width"), int(want, "/depth"), int(want, "/patch")),
            "{name}"
        );
        let got = (c.embed_dim, c.queries, c.pooler_heads);
        let pool = (
            int(want, "/embed_dim"),
            int(want, "/queries"),
            int(want, "/pooler_heads"),
        );
        assert_eq!(got, pool, "{name}");
    }
}
