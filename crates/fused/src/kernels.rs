//! `kernels/decode.cu`, compiled for the card, and how its products are cut into blocks.

use cudarc::driver::{CudaFunction, CudaModule};
use std::sync::Arc;
use warpmark_cuda::{Compiler, Geometry, function};
use warpmark_device::CudaDevice;
use warpmark_measure::WorkloadError;

use crate::Dtype;

/// `ROWS`, `WARPS` and `ATTEND` of `kernels/decode.cu`.
const ROWS: usize = 4;
const WARPS: usize = 8;
pub(crate) const ATTEND: u32 = 128;

/// Lanes of a warp, and numbers of a vector of 16 bytes.
const LANES: usize = 32;
pub(crate) const VECTOR: usize = 8;

/// Vectors of the inputs of all sequences that lie in shared memory at a time: 32 KiB.
const STAGED: usize = 1024;

/// Sequences for which there is a product.
const BATCHES: [usize; 3] = [1, 4, 8];
/// The most sequences that products of our own kernels take.
pub const MOST_BY_VECTORS: usize = BATCHES[2];

/// The most sequences side by side.
pub(crate) const MOST_SEQUENCES: usize = 128;

/// Query heads that a block of attention takes.
const HEADS: [usize; 2] = [1, 4];

/// The widest head: a warp's lanes share it, a vector each.
pub(crate) const WIDEST_HEAD: usize = LANES * VECTOR;

/// The kernels of a decode step.
pub(crate) struct Kernels {
    products: [CudaFunction; 3],
    attends: [CudaFunction; 2],
    pub(crate) embed: CudaFunction,
    pub(crate) join: CudaFunction,
    pub(crate) pick: CudaFunction,
    /// `sm_90 cubin` or `compute_90 ptx`.
    pub(crate) code: String,
}

/// The source for weights and a cache of these numbers.
fn source(dtype: Dtype) -> String {
    let define = match dtype {
        Dtype::F16 => "",
        Dtype::Bf16 => "#define BF16\n#line 1\n",
    };
    format!("{define}{}", include_str!("../../../kernels/decode.cu"))
}

impl Kernels {
    pub(crate) fn compile(device: &CudaDevice, dtype: Dtype) -> Result<Self, WorkloadError> {
        let made = Compiler::new(device)?.compile("decode.cu", &source(dtype))?;
        let numbered = |name: &str, number: usize, module: &Arc<CudaModule>| {
            function(module, &format!("decode_{name}_{number}_{}", dtype.name()))
        };
        let [one, few, many] = BATCHES.map(|batch| numbered("product", batch, &made.module));
        let [alone, shared] = HEADS.map(|heads| numbered("attend", heads, &made.module));
        Ok(Self {
            products: [one?, few?, many?],
            attends: [alone?, shared?],
            embed: function(&made.module, &format!("decode_embed_{}", dtype.name()))?,
            join: function(&made.module, &format!("decode_join_{}", dtype.name()))?,
            pick: function(&made.module, "decode_pick")?,
            code: made.code,
        })
    }

    /// The product for so many sequences.
    pub(crate) fn product(&self, batch: usize) -> &CudaFunction {
        &self.products[slot(&BATCHES, batch)]
    }

    /// Attention where so many query heads share keys.
    pub(crate) fn attend(&self, group: usize) -> &CudaFunction {
        &self.attends[slot(&HEADS, group)]
    }
}

/// Four f32 from one plane of vectors to the other, as `plane_of` of `kernels/decode.cu` has it.
fn plane(vectors: usize) -> usize {
    (vectors + 3) / 8 * 8 + 4
}

/// The first that is enough, or the largest.
fn slot(sizes: &[usize], wanted: usize) -> usize {
    sizes.iter().position(|size| *size >= wanted).unwrap_or(sizes.len() - 1)
}

/// How a product is cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Blocks, and threads of each.
    pub(crate) geometry: Geometry,
    /// Warps that share the rows of one.
    pub(crate) split: usize,
    /// Vectors of each sequence's input that lie in shared memory at a time.
    pub(crate) chunk: usize,
}

impl Cut {
    /// Of a matrix for so many sequences. Warps share rows, and blocks get fewer warps, until there are two blocks
    /// for each multiprocessor or nothing is left to cut.
    pub(crate) fn of(rows: usize, columns: usize, batch: usize, multiprocessors: usize) -> Self {
        let (groups, vectors) = (rows.div_ceil(ROWS), columns.div_ceil(VECTOR));
        let wanted = 2 * multiprocessors;
        let mut split = 1;
        while split < WARPS && groups.div_ceil(WARPS / split) < wanted && LANES * split < vectors {
            split *= 2;
        }
        let mut beside = WARPS / split;
        while beside > 1 && groups.div_ceil(beside) < wanted {
            beside /= 2;
        }
        let size = BATCHES[slot(&BATCHES, batch)];
        let chunk = vectors.min(STAGED / size);
        let geometry = Geometry {
            grid: [groups.div_ceil(beside) as u32, 1, 1],
            threads: (LANES * split * beside) as u32,
            shared: (plane(chunk) * size * VECTOR * size_of::<f32>()) as u32,
        };
        Self { geometry, split, chunk }
    }

    /// Its blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.geometry.grid[0] as usize
    }
}

/// Positions of the cache that a part of attention has at least, beside those of a cache that is not full.
const LEAST_POSITIONS: usize = 8;

/// How attention is cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttentionCut {
    /// Blocks, and threads of each.
    pub(crate) geometry: Geometry,
    /// Parts of the positions.
    pub(crate) parts: usize,
}

impl AttentionCut {
    /// Of `[heads, key-value heads]` of a width, for so many sequences of up to `capacity` positions.
    pub(crate) fn of(
        [heads, shared]: [usize; 2],
        width: usize,
        (batch, capacity): (usize, usize),
        multiprocessors: usize,
    ) -> Self {
        let group = heads / shared;
        let size = HEADS[slot(&HEADS, group)];
        let blocks = shared * group.div_ceil(size) * batch;
        let most = capacity.div_ceil(LEAST_POSITIONS).max(1);
        let parts = multiprocessors.div_ceil(blocks).clamp(1, most);
        let padded = width.next_multiple_of(VECTOR);
        let warps = ATTEND as usize / LANES;
        let head = VECTOR * plane(width.div_ceil(VECTOR));
        let floats = size * head * (1 + warps) + 2 * warps * size;
        let geometry = Geometry {
            grid: [parts as u32, (shared * group.div_ceil(size)) as u32, batch as u32],
            threads: ATTEND,
            shared: (floats * size_of::<f32>() + 2 * padded * size_of::<u16>()) as u32,
        };
        Self { geometry, parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_kernel_source_are_those_of_the_launch() {
        let source = source(Dtype::F16);
        for (name, number) in [("ROWS", ROWS), ("WARPS", WARPS), ("ATTEND", ATTEND as usize)] {
            assert!(source.contains(&format!("#define {name} {number}\n")), "{name}");
        }
        for (macro_name, sizes) in [("PRODUCT", &BATCHES[..]), ("ATTEND_HEADS", &HEADS[..])] {
            for size in sizes {
                assert!(source.contains(&format!("\n{macro_name}({size})\n")), "{size}");
            }
        }
    }

    #[test]
    fn every_product_of_the_published_nets_fills_a_card() {
        // GPT-2 124M and Llama-3-8B: rows and columns of each product.
        let shapes = [
            (2304, 768),
            (768, 768),
            (3072, 768),
            (768, 3072),
            (50257, 768),
            (6144, 4096),
            (4096, 4096),
            (28672, 4096),
            (4096, 14336),
            (128_256, 4096),
        ];
        for multiprocessors in [40, 58, 72, 108, 132] {
            for (rows, columns) in shapes {
                for batch in 1..=MOST_BY_VECTORS {
                    let cut = Cut::of(rows, columns, batch, multiprocessors);
                    assert!(cut.blocks() >= multiprocessors, "{rows} x {columns}: {cut:?}");
                    // What a block gets without asking for more, beside its own.
                    assert!(cut.geometry.shared <= 40 << 10, "{cut:?}");
                    assert_eq!(cut.geometry.threads as usize % (LANES * cut.split), 0, "{cut:?}");
                }
            }
        }
    }

    #[test]
    fn attention_is_cut_into_as_many_blocks_as_the_card_has_multiprocessors() {
        for multiprocessors in [40, 108, 132] {
            for (heads, width, capacity) in
                [([12, 12], 64, 144), ([32, 8], 128, 144), ([32, 8], 128, 4112)]
            {
                let cut = AttentionCut::of(heads, width, (1, capacity), multiprocessors);
                let blocks: u32 = cut.geometry.grid.iter().product();
                assert!(blocks as usize >= multiprocessors, "{cut:?}");
                assert!(cut.geometry.shared <= 48 << 10, "{cut:?}");
            }
        }
        assert_eq!(AttentionCut::of([7, 7], 9, (3, 5), 132).parts, 1);
    }
}
