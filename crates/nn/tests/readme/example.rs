use candle_core::{DType, Device, Result, Tensor, Var};
use medft_nn::{LayerNorm, Linear, attention_packed, backward};

fn main() -> Result<()> {
    let x = Var::randn(0f32, 1.0, (2, 5, 12), &Device::Cpu)?;
    let weight = Var::randn(0f32, 0.3, (3 * 12, 12), &Device::Cpu)?;
    let ones = Tensor::ones(12, DType::F32, &Device::Cpu)?;
    let norm = LayerNorm::new(ones.clone(), ones.zeros_like()?, 1e-6);
    let qkv = Linear::new(weight.as_tensor().clone(), None);
    let y = attention_packed(&qkv.forward(&norm.forward(&x)?)?, 3)?;
    let gradients = backward(&y.sqr()?.mean_all()?)?;
    assert_eq!(gradients.get(&weight)?.map(|g| g.dims2()).transpose()?, Some((36, 12)));
    Ok(())
}
