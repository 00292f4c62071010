// Attention of queries over keys and values, `softmax(scale · q · kᵀ) · v`, whose scores never reach
// memory: what it needs there grows with the length and not with its square.
//
// Built for one head size (HEAD, a multiple of 8 up to 256) and one type (f16, or bf16 with BF16). A
// block has ROWS queries of one head, TILES times 16 a warp, in registers or in shared memory. It goes over the
// keys and values it may see, KEYS at a time: products on tensor cores, the softmax online (each block
// of keys rescales what was summed before it), sums in f32. While one of keys and values is worked on,
// the other is on its way.
//
// Bytes per launch, at the least: queries, keys, values and results once each, where a cache holds the
// keys and values of a head for its other blocks of queries. FLOPs: 4 · HEAD for each pair of a query and
// a key it may see.
//
// Lines of a tile lie WIDTH + 8 halves apart in shared memory: an odd number of 16-byte chunks, so that
// eight lines at the same chunk, which is what ldmatrix reads and every copy writes, have all 32 banks.
//
// Halves are converted by inline PTX, so that NVRTC needs no headers.

#ifndef HEAD
#define HEAD 64
#endif
#ifndef TILES
#define TILES 1
#endif

// `attention_f16_64x1`: what it is built for stands in its name.
#define JOIN(type, head, tiles) attention_##type##_##head##x##tiles
#define NAMED(type, head, tiles) JOIN(type, head, tiles)
#ifdef BF16
#define TYPE "bf16"
#define NAME NAMED(bf16, HEAD, TILES)
#else
#define TYPE "f16"
#define NAME NAMED(f16, HEAD, TILES)
#endif

#if __CUDA_ARCH__ >= 800
#define ASYNC 1
#else
#define ASYNC 0
#endif
// 7.5 multiplies no bf16, and its registers hold no more queries: what is compiled for it then has no kernel.
#if ASYNC || (TILES == 1 && !defined(BF16))

// A product on tensor cores is 16 deep; the columns behind HEAD are zero.
#define WIDTH ((HEAD + 15) / 16 * 16)
#define CHUNKS (WIDTH / 8)
#define STRIDE (WIDTH + 8)
#define THREADS 128
#define WARP_ROWS (16 * TILES)
#define ROWS (THREADS / 32 * WARP_ROWS)
// As many as leave room in registers and, on 7.5, for a second block in shared memory.
#if ASYNC
#define KEYS (WIDTH > (TILES > 1 ? 96 : 128) ? 32 : 64)
#else
#define KEYS (WIDTH > 128 ? 16 : WIDTH > 64 ? 32 : 64)
#endif
// Blocks that a multiprocessor has registers for.
#if ASYNC
#define BLOCKS (WIDTH > 128 || TILES > 1 ? 2 : WIDTH > 48 ? 3 : 4)
#else
#define BLOCKS (WIDTH > 96 || TILES > 1 ? 2 : WIDTH > 32 ? 3 : 4)
#endif
// Whether a warp keeps its queries in registers; else they stay in shared memory, in front of keys and values.
#define KEPT (TILES == 1 || WIDTH <= 64)
// Lines of shared memory: queries that are kept come in through the room of the keys and values.
#define LINES (KEPT ? (ROWS > 2 * KEYS ? ROWS : 2 * KEYS) : ROWS + 2 * KEYS)

static_assert(HEAD % 8 == 0 && HEAD >= 8 && HEAD <= 256, "no such head size");

#define MINUS_INFINITY __int_as_float(0xFF800000)

typedef unsigned short half_bits;
typedef unsigned int u32;

// How far apart sequences, heads and positions are, in elements.
struct Strides {
  long long sequence, head;
  u32 position;
};

struct Shape {
  Strides q, k, v, out;
  // Heads of queries, and how many of them share one of keys and values.
  u32 heads, sharing;
  // Queries of each sequence, and blocks of them.
  u32 queries, blocks;
  // The position of the first query, and how many keys there are, unless `positions` tells for each sequence.
  u32 first, keys;
  u32 causal;
  // The scale, times the binary logarithm of e.
  float scale;
};

__device__ __forceinline__ void load_matrices(u32 (&to)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}

__device__ __forceinline__ void load_transposed(u32 (&to)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}

// Adds a product of 16 · 16 and 16 · 8 elements.
__device__ __forceinline__ void multiply(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if ASYNC
  asm("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE
      ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

// Two numbers as halves, the first in the lower bits.
__device__ __forceinline__ u32 pack(float low, float high) {
  u32 packed;
#if ASYNC
  asm("cvt.rn." TYPE "x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
#else
  asm("{.reg .b16 low, high; cvt.rn.f16.f32 low, %1; cvt.rn.f16.f32 high, %2; mov.b32 %0, {low, high};}"
      : "=r"(packed)
      : "f"(low), "f"(high));
#endif
  return packed;
}

// 2 to the power of x; 0 for minus infinity.
__device__ __forceinline__ float exp2_of(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// The largest and the sum over the four lanes that share a row.
__device__ __forceinline__ float largest_of_row(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

__device__ __forceinline__ float sum_of_row(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

// COUNT lines on their way from device to shared memory, 16 bytes a thread: eight lines side by side, for
// the banks; four chunks of each in a warp, for whole sectors. Lines that are not there, and columns
// behind HEAD, become zero: what was in memory could be no number, and zero times that is none either.
template <u32 COUNT>
struct Copy {
  static constexpr u32 ACROSS = CHUNKS > 8 ? 16 : CHUNKS > 4 ? 8 : 4;
  static constexpr u32 DOWN = THREADS / ACROSS;
  static constexpr u32 STEPS = COUNT / DOWN;
  static constexpr u32 PARTS = (CHUNKS + ACROSS - 1) / ACROSS;
  static_assert(COUNT % DOWN == 0, "lines that no thread copies");

#if !ASYNC
  uint4 held[STEPS][PARTS];
#endif

  // Calls `act` for each line and chunk that this thread copies, by constants and the thread's first ones.
  template <typename Act>
  static __device__ __forceinline__ void each(Act act) {
    const u32 line = threadIdx.x / (8 * ACROSS) * 8 + threadIdx.x % 8;
    const u32 chunk = threadIdx.x / 8 % ACROSS;
#pragma unroll
    for (u32 step = 0; step < STEPS; step++)
#pragma unroll
      for (u32 part = 0; part < PARTS; part++) {
        if (CHUNKS % ACROSS != 0 && part * ACROSS + chunk >= CHUNKS) continue;
        act(step, part, line, chunk);
      }
  }

  static __device__ __forceinline__ void store(u32 to, uint4 x) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x.x), "r"(x.y), "r"(x.z),
                 "r"(x.w)
                 : "memory");
  }

  // Where shared memory has room for them; on their way in registers they do not yet take it.
  __device__ __forceinline__ void begin(u32 to, const half_bits* from, u32 stride, u32 lines) {
    each([&](u32 step, u32 part, u32 line, u32 chunk) {
      const bool there =
          step * DOWN + line < lines && (HEAD == WIDTH || part * ACROSS + chunk < HEAD / 8);
      const half_bits* const at =
          from + (line * stride + chunk * 8) + (step * DOWN * stride + part * ACROSS * 8);
      const uint4 zero = {};
#if ASYNC
      const u32 target =
          to + (line * STRIDE + chunk * 8) * 2 + (step * DOWN * STRIDE + part * ACROSS * 8) * 2;
      if (there)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target),
                     "l"(__cvta_generic_to_global(at))
                     : "memory");
      else
        store(target, zero);
#else
      held[step][part] = there ? *(const uint4*)at : zero;
#endif
    });
  }

  // Before the barrier behind which the lines are read.
  __device__ __forceinline__ void end(u32 to) {
#if ASYNC
    asm volatile("cp.async.wait_all;" ::: "memory");
#else
    each([&](u32 step, u32 part, u32 line, u32 chunk) {
      const u32 target =
          to + (line * STRIDE + chunk * 8) * 2 + (step * DOWN * STRIDE + part * ACROSS * 8) * 2;
      store(target, held[step][part]);
    });
#endif
  }
};

// The running softmax of 16 queries: lane l has rows l / 4 and l / 4 + 8.
struct Rows {
  float largest[2], sum[2];
};

// Makes scores of a block of keys their exponentials, and rescales what was mixed before.
__device__ __forceinline__ void soften(float (&scores)[KEYS / 8][4], float (&mixed)[WIDTH / 8][4],
                                       Rows& rows, float scale) {
#pragma unroll
  for (int row = 0; row < 2; row++) {
    float largest = rows.largest[row];
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
      largest = fmaxf(largest, fmaxf(scores[n][2 * row], scores[n][2 * row + 1]));
    largest = largest_of_row(largest);
    const float shrink = exp2_of((rows.largest[row] - largest) * scale);
    const float shift = -largest * scale;
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
      for (int i = 2 * row; i < 2 * row + 2; i++) {
        scores[n][i] = exp2_of(fmaf(scores[n][i], scale, shift));
        sum += scores[n][i];
      }
    rows.largest[row] = largest;
    rows.sum[row] = fmaf(rows.sum[row], shrink, sum);
#pragma unroll
    for (int n = 0; n < WIDTH / 8; n++) {
      mixed[n][2 * row] *= shrink;
      mixed[n][2 * row + 1] *= shrink;
    }
  }
}

// One block for each ROWS queries of a head of a sequence; the blocks of a head follow each other, since they
// read the same keys. `positions` has for each sequence the position of its first query and the count of
// its keys, or is null. A query with no key that it may see is answered by zeros.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    NAME(const half_bits* __restrict__ q, const half_bits* __restrict__ k,
         const half_bits* __restrict__ v, half_bits* __restrict__ out,
         const uint2* __restrict__ positions, Shape shape) {
#if KEPT
  __shared__ __align__(16) half_bits room[LINES * STRIDE];
#else
  extern __shared__ __align__(16) half_bits room[];
#endif
  const u32 queries_at = (u32)__cvta_generic_to_shared(room);
  const u32 keys_at = queries_at + (KEPT ? 0 : ROWS * STRIDE * 2);
  const u32 values_at = keys_at + KEYS * STRIDE * 2;

  // The last queries of a head see the most keys: they begin first.
  const u32 block = shape.blocks - 1 - blockIdx.x % shape.blocks;
  const u32 head = blockIdx.x / shape.blocks % shape.heads;
  const u32 sequence = blockIdx.x / shape.blocks / shape.heads;
  const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const u32 begin = block * ROWS;
  const u32 queries = min(ROWS, shape.queries - begin);
  const uint2 position =
      positions ? positions[sequence] : make_uint2(shape.first, shape.keys);
  // Keys that the last query of the block may see; one behind the last key that query `i` may see.
  const u32 seen = shape.causal ? min(position.y, position.x + begin + queries) : position.y;
  const u32 first = shape.causal ? position.x : seen;
  const auto end_for = [&](u32 i) { return min(seen, first + i + 1); };

  q += sequence * shape.q.sequence + head * shape.q.head + (long long)begin * shape.q.position;
  k += sequence * shape.k.sequence + head / shape.sharing * shape.k.head;
  v += sequence * shape.v.sequence + head / shape.sharing * shape.v.head;

  // The queries of a warp.
  Copy<ROWS> asked;
  asked.begin(queries_at, q, shape.q.position, queries);
  asked.end(queries_at);
  __syncthreads();
  const u32 left = queries_at + ((warp * WARP_ROWS + lane % 16) * STRIDE + lane / 16 * 8) * 2;
#if KEPT
  u32 mine[TILES][WIDTH / 16][4];
#pragma unroll
  for (int t = 0; t < TILES; t++)
#pragma unroll
    for (int d = 0; d < WIDTH / 16; d++)
      load_matrices(mine[t][d], left + (t * 16 * STRIDE + d * 16) * 2);
  __syncthreads();
#endif

  float mixed[TILES][WIDTH / 8][4] = {};
  Rows rows[TILES];
#pragma unroll
  for (int t = 0; t < TILES; t++) rows[t] = {{MINUS_INFINITY, MINUS_INFINITY}, {0.0f, 0.0f}};

  // Where a lane's part of keys and values lies: of 16 keys each.
  const u32 key = keys_at + ((lane / 16 * 8 + lane % 8) * STRIDE + lane / 8 % 2 * 8) * 2;
  const u32 value = values_at + (lane % 16 * STRIDE + lane / 16 * 8) * 2;
  const u32 own = begin + warp * WARP_ROWS;

  Copy<KEYS> coming;
  coming.begin(keys_at, k, shape.k.position, seen);
  for (u32 start = 0; start < seen; start += KEYS) {
    const u32 there = seen - start;
    coming.end(keys_at);
    __syncthreads();
    coming.begin(values_at, v + (long long)start * shape.v.position, shape.v.position, there);

    // A warp without queries, or whose queries all lie in front of these keys, only helps to fetch them.
    const bool sees = warp * WARP_ROWS < queries && start < end_for(own + WARP_ROWS - 1);
    u32 weights[TILES][KEYS / 16][4] = {};
    if (sees) {
      float scores[TILES][KEYS / 8][4] = {};
#pragma unroll
      for (int d = 0; d < WIDTH / 16; d++) {
        u32 here[TILES][4];
#pragma unroll
        for (int t = 0; t < TILES; t++) {
#if KEPT
          for (int i = 0; i < 4; i++) here[t][i] = mine[t][d][i];
#else
          load_matrices(here[t], left + (t * 16 * STRIDE + d * 16) * 2);
#endif
        }
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++) {
          u32 right[4];
          load_matrices(right, key + (n * 16 * STRIDE + d * 16) * 2);
#pragma unroll
          for (int t = 0; t < TILES; t++) {
            multiply(scores[t][2 * n], here[t], right[0], right[1]);
            multiply(scores[t][2 * n + 1], here[t], right[2], right[3]);
          }
        }
      }
#pragma unroll
      for (int t = 0; t < TILES; t++) {
        const u32 row = own + t * 16 + lane / 4;
        if (start + KEYS > end_for(own + t * 16)) {
          const u32 end[2] = {end_for(row), end_for(row + 8)};
#pragma unroll
          for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
              if (start + n * 8 + lane % 4 * 2 + i % 2 >= end[i / 2]) scores[t][n][i] = MINUS_INFINITY;
        }
        soften(scores[t], mixed[t], rows[t], shape.scale);
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++)
#pragma unroll
          for (int i = 0; i < 4; i++) {
            const float(&pair)[4] = scores[t][2 * n + i / 2];
            weights[t][n][i] = pack(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
          }
      }
    }

    coming.end(values_at);
    __syncthreads();
    if (there > KEYS)
      coming.begin(keys_at, k + (long long)(start + KEYS) * shape.k.position, shape.k.position,
                   there - KEYS);
    if (sees) {
#pragma unroll
      for (int n = 0; n < KEYS / 16; n++) {
#pragma unroll
        for (int d = 0; d < WIDTH / 16; d++) {
          u32 right[4];
          load_transposed(right, value + (n * 16 * STRIDE + d * 16) * 2);
#pragma unroll
          for (int t = 0; t < TILES; t++) {
            multiply(mixed[t][2 * d], weights[t][n], right[0], right[1]);
            multiply(mixed[t][2 * d + 1], weights[t][n], right[2], right[3]);
          }
        }
      }
    }
  }

  // Each warp's results through its own part of the room, so that they leave 16 bytes at a time.
  __syncthreads();
  u32* const lines = (u32*)(room + warp * WARP_ROWS * STRIDE);
#pragma unroll
  for (int t = 0; t < TILES; t++)
#pragma unroll
    for (int row = 0; row < 2; row++) {
      const float sum = sum_of_row(rows[t].sum[row]);
      const float scale = sum > 0.0f ? 1.0f / sum : 0.0f;
#pragma unroll
      for (int n = 0; n < WIDTH / 8; n++)
        lines[((t * 16 + row * 8 + lane / 4) * STRIDE + n * 8) / 2 + lane % 4] =
            pack(mixed[t][n][2 * row] * scale, mixed[t][n][2 * row + 1] * scale);
    }
  __syncwarp();
  out += sequence * shape.out.sequence + head * shape.out.head + (long long)begin * shape.out.position;
  for (u32 item = lane; item < WARP_ROWS * (HEAD / 8); item += 32) {
    const u32 line = item / HEAD * 8 + item % 8, chunk = item / 8 % (HEAD / 8);
    if (warp * WARP_ROWS + line < queries)
      *(uint4*)(out + (warp * WARP_ROWS + line) * shape.out.position + chunk * 8) =
          *(const uint4*)(lines + (line * STRIDE + chunk * 8) / 2);
  }
}

#endif
