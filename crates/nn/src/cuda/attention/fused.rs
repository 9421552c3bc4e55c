//! Attention of 16-bit operands on tensor cores (kernels/attention.cuh): scores exist in registers only, operands are read and
//! gradients written where they lie in their projections.

use super::sizes::Sizes;
use crate::autograd::Value;
use crate::cuda::launch::{Arg, Spread, launch, tag};
use candle_core::{DType, Result, Tensor, bail};

/// Widths of heads that there are kernels for, narrower ones are padded in shared memory. Each is a module of its own, because
/// the driver finishes a whole module at its first use and a model has one width or two.
const WIDTHS: [(usize, &str); 5] = [
    (16, "attention_16"),
    (64, "attention_64"),
    (80, "attention_80"),
    (96, "attention_96"),
    (128, "attention_128"),
];

/// Threads of a block and rows that it owns (`TEAM` and `OWN` in kernels/attention.cuh).
const TEAM: usize = 128;
const OWN: usize = 64;

/// Whether an operand's type is computed here.
pub(crate) fn takes(x: &Tensor) -> bool {
    matches!(x.dtype(), DType::BF16 | DType::F16)
}

/// The first arguments of every kernel: q, k, v, or a packed projection and two null pointers.
fn operands<'a>(x: &[&'a Tensor]) -> [Arg<'a>; 3] {
    match *x {
        [q, k, v] => [Arg::In(q), Arg::In(k), Arg::In(v)],
        _ => [Arg::In(x[0]), Arg::U64(0), Arg::U64(0)],
    }
}

impl Sizes {
    /// Launches `attention{pass}`, a block for every `OWN` of `rows` of every head.
    fn launch_fused<'a>(self, pass: &str, x: &[&'a Tensor], rows: usize, args: Vec<Arg<'a>>) -> Result<()> {
        let Some(&(width, module)) = WIDTHS.iter().find(|(w, _)| self.d <= *w) else {
            let (d, t) = (self.d, x[0].dtype());
            bail!("attention: there are no kernels for heads of width {d} in {t:?}, 128 is the widest")
        };
        let blocks = self.b * self.h * rows.div_ceil(OWN);
        if u32::try_from(blocks).is_err() {
            bail!("attention: {blocks} blocks are too many for a launch");
        }
        let sizes = [self.b, self.n, self.m, self.h, self.d].map(Arg::U32);
        let mut all: Vec<Arg<'_>> = operands(x).into_iter().chain(args).chain(sizes).collect();
        all.push(Arg::F32(self.scale() as f32));
        let kernel = format!("attention{pass}_{width}_{}", tag(x[0].dtype())?);
        // SAFETY: the arguments are those of kernels/attention.cuh, for operands of these sizes.
        unsafe {
            launch(
                x[0].device(),
                (module, &kernel),
                Spread::Teams(blocks, TEAM),
                &mut all,
                &[],
            )
        }
    }

    /// Output (B, N, H·d), and the binary logarithm of every softmax's sum (B, H, N), of q, k, v or of one packed projection.
    pub(crate) fn fused(self, x: &[&Tensor]) -> Result<(Value, Tensor)> {
        let device = x[0].device();
        let mut y = Value::new((self.b, self.n, self.h * self.d), x[0].dtype(), device)?;
        let mut lse = Value::new((self.b, self.h, self.n), DType::F32, device)?;
        self.launch_fused("", x, self.n, vec![Arg::Out(&mut y), Arg::Out(&mut lse)])?;
        Ok((y, lse.tensor()))
    }

    /// Writes the gradient of q, and returns every row's product of output and gradient, which those of k and v need.
    fn fused_dq(self, x: &[&Tensor], [y, dy, lse]: [&Tensor; 3], dq: &mut Value) -> Result<Tensor> {
        let mut dots = Value::new((self.b, self.h, self.n), DType::F32, dy.device())?;
        let args = vec![Arg::In(y), Arg::In(dy), Arg::In(lse), Arg::Out(dq), Arg::Out(&mut dots)];
        self.launch_fused("_dq", x, self.n, args)?;
        Ok(dots.tensor())
    }

    /// Gradients of q, k, v from output, its gradient and logarithms.
    pub(crate) fn fused_grads(self, x: [&Tensor; 3], [y, dy, lse]: [&Tensor; 3]) -> Result<[Value; 3]> {
        let like = |t: &Tensor| Value::new(t.shape(), t.dtype(), t.device());
        let (mut dq, mut dk, mut dv) = (like(x[0])?, like(x[1])?, like(x[2])?);
        let dots = self.fused_dq(&x, [y, dy, lse], &mut dq)?;
        let args = vec![
            Arg::In(dy),
            Arg::In(lse),
            Arg::In(&dots),
            Arg::Out(&mut dk),
            Arg::Out(&mut dv),
        ];
        self.launch_fused("_dkv", &x, self.m, args)?;
        Ok([dq, dk, dv])
    }

    /// The gradient of a packed projection: the one kernel writes its first part, the other the rest.
    pub(crate) fn fused_packed_grad(self, qkv: &Tensor, [y, dy, lse]: [&Tensor; 3]) -> Result<Value> {
        let mut grad = Value::new(qkv.shape(), qkv.dtype(), qkv.device())?;
        let dots = self.fused_dq(&[qkv], [y, dy, lse], &mut grad)?;
        let args = vec![
            Arg::In(dy),
            Arg::In(lse),
            Arg::In(&dots),
            Arg::Out(&mut grad),
            Arg::U64(0),
        ];
        self.launch_fused("_dkv", &[qkv], self.m, args)?;
        Ok(grad)
    }
}
