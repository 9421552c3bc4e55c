//! Products against sums written out, for sizes around the tiles' and blocks' borders.

use super::*;
use crate::act::Act;

fn random(n: usize, key: u32) -> Vec<f64> {
    let mut s = crate::testing::Normal::new(5, key);
    (0..n).map(|_| s.draw()).collect()
}

/// Σ over the depth in f64.
fn expected(
    m: usize,
    n: usize,
    k: usize,
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    (0..m * n)
        .map(|i| (0..k).map(|l| a(i / n, l) * b(l, i % n)).sum())
        .collect()
}

fn close(what: &str, got: &[f32], want: &[f64]) {
    let m = want.iter().fold(0f64, |m, v| m.max(v.abs()));
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*g) - w).abs() < 2e-6 * m, "{what}: [{i}] {g} against {w}");
    }
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&v| v as f32).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

#[test]
fn products_of_all_orientations_and_border_sizes() {
    for (m, n, k) in [
        (1, 1, 1),
        (5, 3, 2),
        (6, 16, 7),
        (13, 33, 40),
        (49, 17, 512),
        (97, 31, 513),
        (50, 40, 1100),
        (1025, 20, 30),
    ] {
        let (a, b) = (narrow(&random(m * k, 1)), narrow(&random(k * n, 2)));
        let (wa, wb) = (wide(&a), wide(&b));
        let mut out = vec![0f32; m * n];
        // A (m×k) · B (k×n), both as stored.
        product(
            (m, n, k),
            &of(Plain::new(&a, k)),
            &of(Plain::new(&b, n)),
            &Affine::plain(Shared::new(&mut out), n),
        );
        close(
            "nn",
            &out,
            &expected(m, n, k, |i, l| wa[i * k + l], |l, j| wb[l * n + j]),
        );
        // B stored (n×k).
        product(
            (m, n, k),
            &of(Plain::new(&a, k)),
            &transposed(Plain::new(&b, k)),
            &Affine::plain(Shared::new(&mut out), n),
        );
        close(
            "nt",
            &out,
            &expected(m, n, k, |i, l| wa[i * k + l], |l, j| wb[j * k + l]),
        );
        // A stored (k×m), result transposed.
        product(
            (m, n, k),
            &transposed(Plain::new(&a, m)),
            &of(Plain::new(&b, n)),
            &Transposed {
                out: Shared::new(&mut out),
                ld: m,
            },
        );
        let want = expected(m, n, k, |i, l| wa[l * m + i], |l, j| wb[l * n + j]);
        let turned: Vec<f64> = (0..m * n).map(|i| want[i % m * n + i / m]).collect();
        close("tn, transposed", &out, &turned);
    }
}

/// One thread and several give the same bytes, and so do rows one at a time.
#[test]
fn threads_do_not_change_a_bit() {
    let (m, n, k) = (1100, 50, 1500);
    let (a, b) = (narrow(&random(m * k, 1)), narrow(&random(k * n, 2)));
    let run = |threads: usize| {
        let mut out = vec![0f32; m * n];
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(|| {
                product(
                    (m, n, k),
                    &of(Plain::new(&a, k)),
                    &of(Plain::new(&b, n)),
                    &Affine::plain(Shared::new(&mut out), n),
                );
            });
        out
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
    let mut out = vec![0f32; m * n];
    let mut packed = vec![0f32; packed_len(n, k)];
    let right = pack_right(&of(Plain::new(&b, n)), n, k, &mut packed);
    for r in 0..m {
        let epilogue = Affine::plain(Shared::new(&mut out), n);
        // SAFETY: nobody else has this epilogue.
        unsafe { product_rows(r..r + 1, &of(Plain::new(&a, k)), &right, &epilogue, &mut []) };
    }
    assert_eq!(one, out);
}

/// The register tile against additions in the same order with fused multiply-adds: the same bits on every vector width.
#[test]
fn the_sum_is_one_chain_of_fused_multiply_adds() {
    let (m, n, k) = (14, 35, 600);
    let (a, b) = (narrow(&random(m * k, 1)), narrow(&random(k * n, 2)));
    let mut out = vec![0f32; m * n];
    product(
        (m, n, k),
        &of(Plain::new(&a, k)),
        &of(Plain::new(&b, n)),
        &Affine::plain(Shared::new(&mut out), n),
    );
    for (i, &o) in out.iter().enumerate() {
        // Depth 600 is two blocks of 300.
        let chain = |r: Range<usize>| r.fold(0f32, |s, l| a[i / n * k + l].mul_add(b[l * n + i % n], s));
        assert_eq!(o, chain(300..600) + chain(0..300), "element {i}");
    }
}

#[test]
fn operands_and_epilogues_compute_on_the_way() {
    let (m, n, k) = (20, 18, 9);
    let (x, w) = (random(m * k, 1), random(n * k, 2));
    let (gamma, beta, bias) = (random(k, 3), random(k, 4), random(n, 5));
    let (skip, scale) = (random(m * n, 6), random(n, 7));
    let stats: Vec<(f64, f64)> = (0..m).map(|r| (0.1 * r as f64, 1.0 + 0.05 * r as f64)).collect();
    let mut out = vec![0f64; m * n];
    let normed = Normed {
        x: &x,
        stats: &stats,
        weight: &gamma,
        bias: &beta,
    };
    let epilogue = Residual {
        out: Shared::new(&mut out),
        ld: n,
        x: &skip,
        bias: &bias,
        gamma: Some(&scale),
    };
    product((m, n, k), &of(normed), &transposed(Plain::new(&w, k)), &epilogue);
    let a = |i: usize, l: usize| (x[i * k + l] - stats[i].0) * stats[i].1 * gamma[l] + beta[l];
    for (i, v) in expected(m, n, k, a, |l, j| w[j * k + l]).iter().enumerate() {
        let want = skip[i] + scale[i % n] * (v + bias[i % n]);
        assert!((out[i] - want).abs() < 1e-12 * want.abs().max(1.0));
    }
    // The gradient of GELU at 0 is 1/2; column sums of the result.
    let mut h = vec![0f64; m * n];
    let epilogue = ActGrad {
        h: Shared::new(&mut h),
        ld: n,
        act: Act::GeluErf,
    };
    let sums = product(
        (m, n, k),
        &of(Plain::new(&x, k)),
        &transposed(Plain::new(&w, k)),
        &epilogue,
    );
    let want = expected(m, n, k, |i, l| x[i * k + l], |l, j| w[j * k + l]);
    for (got, v) in h.iter().zip(&want) {
        assert!((got - 0.5 * v).abs() < 1e-12);
    }
    for j in 0..n {
        let s: f64 = (0..m).map(|i| 0.5 * want[i * n + j]).sum();
        assert!((sums[j] - s).abs() < 1e-12);
    }
}

/// Sums of nothing are zeros, and are written.
#[test]
fn a_product_without_depth_is_zero() {
    let mut out = vec![f32::NAN; 35];
    let none: [f32; 0] = [];
    product(
        (7, 5, 0),
        &of(Plain::new(&none, 0)),
        &of(Plain::new(&none, 5)),
        &Affine::plain(Shared::new(&mut out), 5),
    );
    assert_eq!(out, [0.0; 35]);
    let bias = [1f32, 2.0, 3.0, 4.0, 5.0];
    let epilogue = Affine {
        bias: Some(&bias),
        ..Affine::plain(Shared::new(&mut out), 5)
    };
    product(
        (7, 5, 0),
        &transposed(Plain::new(&none, 7)),
        &transposed(Plain::new(&none, 0)),
        &epilogue,
    );
    assert!(out.chunks_exact(5).all(|row| row == bias));
}
