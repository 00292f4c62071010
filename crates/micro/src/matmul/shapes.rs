//! Which shapes are multiplied: squares, the layers of real models, and a grid to find the fastest in.

use super::Problem;
use crate::RunOptions;
use crate::data::Dtype;

const QUICK: &[usize] = &[4096, 8192];
const FULL: &[usize] = &[1024, 2048, 4096, 8192, 16384];

/// f64 runs at a 64th of a consumer card's rate.
const QUICK_F64: &[usize] = &[4096];

/// Rows of activations: one token, a few, and a short prompt.
const ROWS: [usize; 4] = [1, 8, 32, 256];

/// A weight matrix of a model: `k` inputs, `n` outputs.
struct Layer {
    name: &'static str,
    n: usize,
    k: usize,
}

/// The matrices of one transformer block. GPT-2's widths are its own repository's; Llama 3 8B has 32
/// heads of 128 with 8 for keys and values, and a feed-forward width of 14336.
const LAYERS: [Layer; 12] = [
    Layer { name: "gpt2-124m qkv", n: 2304, k: 768 },
    Layer { name: "gpt2-124m o", n: 768, k: 768 },
    Layer { name: "gpt2-124m up", n: 3072, k: 768 },
    Layer { name: "gpt2-124m down", n: 768, k: 3072 },
    Layer { name: "gpt2-1.5b qkv", n: 4800, k: 1600 },
    Layer { name: "gpt2-1.5b o", n: 1600, k: 1600 },
    Layer { name: "gpt2-1.5b up", n: 6400, k: 1600 },
    Layer { name: "gpt2-1.5b down", n: 1600, k: 6400 },
    Layer { name: "llama-3-8b qkv", n: 6144, k: 4096 },
    Layer { name: "llama-3-8b o", n: 4096, k: 4096 },
    Layer { name: "llama-3-8b up", n: 14336, k: 4096 },
    Layer { name: "llama-3-8b down", n: 4096, k: 14336 },
];

/// The sides of the square products of an arithmetic.
pub(super) fn sides(dtype: Dtype, options: &RunOptions) -> &'static [usize] {
    match (options.full, dtype) {
        (true, _) => FULL,
        (false, Dtype::F64) => QUICK_F64,
        (false, _) => QUICK,
    }
}

/// Activations times each weight matrix, with the name of the layer.
pub(super) fn layers(dtype: Dtype, accumulate: Dtype) -> Vec<(Problem, &'static str)> {
    let each = |layer: &Layer| {
        let (name, n, k) = (layer.name, layer.n, layer.k);
        ROWS.map(|m| (Problem { dtype, accumulate, m, n, k }, name))
    };
    LAYERS.iter().flat_map(each).collect()
}

/// The tile of a result that a multiprocessor works at, in most of the library's kernels.
const TILE: usize = 128;

/// How often every multiprocessor gets a tile. At 8 the sides lie between 2048 and 7000, at 32 around 8192.
const WAVES: [usize; 3] = [8, 16, 32];

/// How much longer one side may be than the other.
const LONGEST: usize = 4;

/// Sides of results whose tiles come out even on so many multiprocessors: with one tile more, all but one
/// of them would wait for a last wave. mamf-finder's best shapes are of these: 6912 × 2048 on an A100
/// (54 × 16 tiles on 108), 6144 × 2816 on an H100 (48 × 22 on 132).
fn full_waves(multiprocessors: usize) -> Vec<(usize, usize)> {
    let of = |waves: usize| {
        let tiles = waves * multiprocessors;
        // From the squarest on.
        let shorter = (1..=tiles.isqrt()).rev().filter(move |short| tiles.is_multiple_of(*short));
        let pairs = shorter.map(move |short| (tiles / short, short));
        let pairs = pairs.take_while(|(long, short)| *long <= LONGEST * short);
        // Of the larger ones the squarest will do.
        pairs.take(if waves == WAVES[0] { usize::MAX } else { 1 })
    };
    WAVES.into_iter().flat_map(of).map(|(long, short)| (long * TILE, short * TILE)).collect()
}

/// The shapes among which the fastest is searched, the square of 8192 first: it is what the others are
/// read against, and where the time is up early it has been tried. Those that come out even on the card's
/// multiprocessors are next, where their number is known.
pub(super) fn grid(
    dtype: Dtype,
    accumulate: Dtype,
    options: &RunOptions,
    multiprocessors: Option<u32>,
) -> Vec<Problem> {
    let long: Vec<usize> = (1..=20).map(|i| i * 1024).collect();
    let (sides, depths): (&[usize], &[usize]) = if options.exhaustive {
        (&long, &[1024, 2048, 4096, 8192, 12288, 16384])
    } else {
        (&[6144, 8192, 10240], &[4096, 8192, 16384])
    };
    let even = multiprocessors.map_or(Vec::new(), |count| full_waves(count as usize));
    let all = sides.iter().flat_map(|&m| sides.iter().map(move |&n| (m, n)));
    let mut problems = vec![Problem::square(dtype, accumulate, 8192)];
    for (m, n) in even.into_iter().chain(all) {
        for &k in depths {
            let problem = Problem { dtype, accumulate, m, n, k };
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_begin_with_the_square_and_have_each_shape_once() {
        // Five pairs of sides for an H100, of three depths; of six in the long search.
        for (exhaustive, cards, count) in
            [(false, None, 27), (true, None, 2400), (false, Some(132), 42), (true, Some(132), 2430)]
        {
            let options = RunOptions { exhaustive, ..RunOptions::default() };
            let grid = grid(Dtype::F16, Dtype::F32, &options, cards);
            assert_eq!(grid[0], Problem::square(Dtype::F16, Dtype::F32, 8192));
            let sizes: std::collections::BTreeSet<_> = grid.iter().map(Problem::size).collect();
            assert_eq!((grid.len(), sizes.len()), (count, count));
        }
    }

    #[test]
    fn tiles_come_out_even_and_the_bests_of_mamf_finder_are_among_the_shapes() {
        // T4, L4, A10G, A100, H100 PCIe and SXM, B200.
        for multiprocessors in [40, 58, 80, 108, 114, 132, 148] {
            let sides = full_waves(multiprocessors);
            assert!(sides.len() >= 3, "{multiprocessors}: {sides:?}");
            for (m, n) in &sides {
                assert_eq!((m / TILE) * (n / TILE) % multiprocessors, 0, "{m} x {n}");
                assert!(m >= n && *m <= LONGEST * n, "{m} x {n}");
            }
        }
        assert!(full_waves(108).contains(&(6912, 2048)));
        assert!(full_waves(132).contains(&(6144, 2816)));
    }

    #[test]
    fn every_layer_meets_every_number_of_rows() {
        let layers = layers(Dtype::F16, Dtype::F32);
        assert_eq!(layers.len(), 48);
        // The blocks' parameters, as their models state them: 12 d² for GPT-2.
        let block = |model: &str| -> usize {
            let matrices = layers.iter().filter(|(p, name)| p.m == 1 && name.starts_with(model));
            matrices.map(|(p, _)| p.n * p.k).sum()
        };
        assert_eq!(block("gpt2-124m"), 12 * 768 * 768);
        assert_eq!(block("gpt2-1.5b"), 12 * 1600 * 1600);
    }
}
