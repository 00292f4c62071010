// A decode step of a language model, one token of each of up to eight sequences: a fused kernel for each
// product, and attention over a cache that is split among blocks. Not a micro benchmark: `crates/fused` launches
// these as one graph.
//
// Weights and the cache are halves (f16, or bf16 with BF16 defined), eight to a 16-byte vector; rows are padded
// with zeros to whole vectors. Sums, and what goes from kernel to kernel, are f32. Halves are converted by inline
// PTX or by shifts, so that no header is needed.
//
// Bytes per launch: the weights of a product once however many sequences there are, and the keys and values of the
// cache once for all query heads that share them. Activations are read by every block, out of the L2 cache.
// Nothing can be eliminated: all that is computed is stored.

typedef unsigned int u32;
typedef unsigned short u16;

#define ALL 0xFFFFFFFFu
// Rows of a product that a warp computes side by side.
#define ROWS 4
// The most warps of a block.
#define WARPS 8
// Threads of a block of `decode_attend`.
#define ATTEND 128
#ifdef BF16
#define TYPED(name) name##_bf16
#else
#define TYPED(name) name##_f16
#endif

// Below every score.
#define LOWEST -1e30f

// What becomes of a row of a product.
#define STORE 0
#define ADD 1
#define GELU_TANH 2
#define GELU_ERF 3
#define SWIGLU 4
#define LOGITS 5

// How a product's input is normalised.
#define PLAIN 0
#define RMS 1
#define LAYER 2

__device__ __forceinline__ float widened(u16 half) {
#ifdef BF16
  return __uint_as_float((u32)half << 16);
#else
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
  return value;
#endif
}

// To the nearest, ties to even; what is not a number stays none.
__device__ __forceinline__ u16 narrowed(float value) {
#ifdef BF16
  const u32 bits = __float_as_uint(value);
  if (value != value) return 0x7FFF;
  return (u16)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
#else
  u16 half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
  return half;
#endif
}

struct Eight {
  float at[8];
};

// The two halves of a word.
__device__ __forceinline__ void widen(u32 pair, float& low, float& high) {
#ifdef BF16
  low = __uint_as_float(pair << 16);
  high = __uint_as_float(pair & 0xFFFF0000u);
#else
  asm("{ .reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
      : "=f"(low), "=f"(high)
      : "r"(pair));
#endif
}

__device__ __forceinline__ Eight widened(uint4 vector) {
  Eight wide;
  widen(vector.x, wide.at[0], wide.at[1]);
  widen(vector.y, wide.at[2], wide.at[3]);
  widen(vector.z, wide.at[4], wide.at[5]);
  widen(vector.w, wide.at[6], wide.at[7]);
  return wide;
}

__device__ __forceinline__ float dot(const Eight& a, const Eight& b) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; i++) sum = fmaf(a.at[i], b.at[i], sum);
  return sum;
}

__device__ __forceinline__ Eight eight(float4 low, float4 high) {
  return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}

// Vectors of eight f32 lie in shared memory as two planes of four, at this distance of four f32 each: a warp that
// reads or writes both meets every bank equally often.
__device__ __forceinline__ u32 plane_of(u32 vectors) { return (vectors + 3) / 8 * 8 + 4; }

// Where number c of such vectors lies, in f32.
__device__ __forceinline__ u32 in_planes(u32 c, u32 plane) {
  return (c / 4 % 2 * plane + c / 8) * 4 + c % 4;
}

__device__ __forceinline__ float sum_of_warp(float value) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(ALL, value, apart);
  return value;
}

// The sums over all threads of a block of N values each; `room` has N floats for each warp.
template <int N>
__device__ __forceinline__ void sum_of_block(float (&values)[N], float* room) {
  const u32 warp = threadIdx.x / 32, warps = blockDim.x / 32;
#pragma unroll
  for (int n = 0; n < N; n++) values[n] = sum_of_warp(values[n]);
  __syncthreads();
  if (threadIdx.x % 32 == 0)
#pragma unroll
    for (int n = 0; n < N; n++) room[warp * N + n] = values[n];
  __syncthreads();
#pragma unroll
  for (int n = 0; n < N; n++) {
    values[n] = 0.0f;
#pragma unroll 1
    for (u32 other = 0; other < warps; other++) values[n] += room[other * N + n];
  }
}

// What four inputs become: (x - mean) * scale * weight + bias.
__device__ __forceinline__ float4 normal(float4 x, float2 centre, const uint2* weight,
                                         const uint2* bias, u32 at) {
  float w[4], b[4] = {};
  widen(weight[at].x, w[0], w[1]);
  widen(weight[at].y, w[2], w[3]);
  if (bias) {
    widen(bias[at].x, b[0], b[1]);
    widen(bias[at].y, b[2], b[3]);
  }
  return make_float4((x.x - centre.x) * centre.y * w[0] + b[0],
                     (x.y - centre.x) * centre.y * w[1] + b[1],
                     (x.z - centre.x) * centre.y * w[2] + b[2],
                     (x.w - centre.x) * centre.y * w[3] + b[3]);
}

// The mean (0 for RMS) of each sequence's input, and what its distance from that is multiplied by.
template <int BATCH>
__device__ __forceinline__ void statistics(const float4* __restrict__ x, u32 columns, u32 vectors,
                                           u32 batch, u32 norm, float epsilon, float* room,
                                           float2 (&centre)[BATCH]) {
  float mean[BATCH], scale[BATCH];
#pragma unroll
  for (int b = 0; b < BATCH; b++) mean[b] = scale[b] = 0.0f;
  if (norm == LAYER) {
#pragma unroll 1
    for (u32 i = threadIdx.x; i < 2 * vectors; i += blockDim.x)
#pragma unroll
      for (int b = 0; b < BATCH; b++) {
        const float4 v = x[min((u32)b, batch - 1) * 2 * vectors + i];
        mean[b] += v.x + v.y + v.z + v.w;
      }
    sum_of_block<BATCH>(mean, room);
#pragma unroll
    for (int b = 0; b < BATCH; b++) mean[b] /= (float)columns;
  }
#pragma unroll 1
  for (u32 i = threadIdx.x; i < 2 * vectors; i += blockDim.x)
#pragma unroll
    for (int b = 0; b < BATCH; b++) {
      const float4 v = x[min((u32)b, batch - 1) * 2 * vectors + i];
      const float parts[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int part = 0; part < 4; part++) {
        const float off = 4 * i + part < columns ? parts[part] - mean[b] : 0.0f;
        scale[b] = fmaf(off, off, scale[b]);
      }
    }
  sum_of_block<BATCH>(scale, room);
#pragma unroll
  for (int b = 0; b < BATCH; b++) {
    scale[b] = 1.0f / sqrtf(scale[b] / (float)columns + epsilon);
    if (threadIdx.x == 0) centre[b] = make_float2(mean[b], scale[b]);
  }
  __syncthreads();
}

__device__ __forceinline__ float gelu_tanh(float x) {
  return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}

__device__ __forceinline__ float gelu_erf(float x) {
  return 0.5f * x * (1.0f + erff(0.7071067811865476f * x));
}

// Whether a is what argmax takes before b: the larger, and of equals the one with the lower index.
__device__ __forceinline__ bool better(float a, u32 a_at, float b, u32 b_at) {
  return a > b || (a == b && a_at < b_at);
}

// The best row of each sequence in this block. `value` is that of row `row` of sequence lane % BATCH.
template <int BATCH>
__device__ __forceinline__ void best_of_block(float value, u32 row, bool counts, u32 batch,
                                              uint2* __restrict__ best) {
  __shared__ float values[WARPS][BATCH];
  __shared__ u32 places[WARPS][BATCH];
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  value = counts ? value : LOWEST;
  row = counts ? row : ALL;
#pragma unroll
  for (int apart = BATCH; apart < ROWS * BATCH; apart *= 2) {
    const float other = __shfl_xor_sync(ALL, value, apart);
    const u32 other_row = __shfl_xor_sync(ALL, row, apart);
    if (better(other, other_row, value, row)) {
      value = other;
      row = other_row;
    }
  }
  if (lane < BATCH) {
    values[warp][lane] = value;
    places[warp][lane] = row;
  }
  __syncthreads();
  if (threadIdx.x < batch) {
#pragma unroll 1
    for (u32 other = 1; other < blockDim.x / 32; other++)
      if (better(values[other][lane], places[other][lane], value, row)) {
        value = values[other][lane];
        row = places[other][lane];
      }
    best[threadIdx.x * gridDim.x + blockIdx.x] = make_uint2(__float_as_uint(value), row);
  }
}

// y = weights * norm(x), and what `action` makes of it: weights are [rows][vectors], x is [batch][vectors] of
// eight f32 each of which `columns` count, y is [batch][stride].
//
// A warp computes ROWS rows, `split` warps share them, each a part of the columns. The inputs lie in shared
// memory, `chunk` vectors of each sequence at a time. The next vectors of the weights are always under way, before the inputs are normalised too.
template <int BATCH>
__device__ __forceinline__ void product(const uint4* __restrict__ weights,
                                        const u16* __restrict__ bias, const float4* __restrict__ x,
                                        const uint2* __restrict__ norm_weight,
                                        const uint2* __restrict__ norm_bias, float* __restrict__ y,
                                        uint2* __restrict__ best, u32 rows, u32 columns,
                                        u32 stride, u32 batch, u32 norm, u32 action, u32 split,
                                        u32 chunk, float epsilon) {
  extern __shared__ float4 staged[];
  __shared__ float room[WARPS * ROWS * BATCH];
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const u32 part = warp % split;
  const u32 first_row = (blockIdx.x * (blockDim.x / 32 / split) + warp / split) * ROWS;
  const u32 vectors = (columns + 7) / 8, plane = plane_of(chunk);

  // Offsets of 32 bits: the host refuses a matrix of 2^32 vectors.
  u32 row[ROWS];
#pragma unroll
  for (int r = 0; r < ROWS; r++) row[r] = min(first_row + r, rows - 1) * vectors;
  u32 at = part * 32 + lane;
  uint4 now[ROWS];
#pragma unroll
  for (int r = 0; r < ROWS; r++) now[r] = at < vectors ? __ldcs(&weights[row[r] + at]) : make_uint4(0, 0, 0, 0);

  // In shared memory, since registers are full of sums.
  __shared__ float2 centre[BATCH];
  if (norm != PLAIN) statistics<BATCH>(x, columns, vectors, batch, norm, epsilon, room, centre);

  float sum[ROWS][BATCH] = {};
#pragma unroll 1
  for (u32 first = 0; first < vectors; first += chunk) {
    const u32 count = min(chunk, vectors - first);
    if (first > 0) __syncthreads();
#pragma unroll 4
    for (u32 j = threadIdx.x; j < BATCH * 2 * count; j += blockDim.x) {
      const u32 b = j / (2 * count), i = j % (2 * count);
      float4 input = x[(min(b, batch - 1) * vectors + first) * 2 + i];
      if (norm != PLAIN) input = normal(input, centre[b], norm_weight, norm_bias, 2 * first + i);
      staged[(2 * b + i % 2) * plane + i / 2] = input;
    }
    __syncthreads();
#pragma unroll 1
    while (at < first + count) {
      const u32 following = at + 32 * split;
      uint4 next[ROWS];
#pragma unroll
      for (int r = 0; r < ROWS; r++)
        next[r] = following < vectors ? __ldcs(&weights[row[r] + following]) : make_uint4(0, 0, 0, 0);
      Eight weight[ROWS];
#pragma unroll
      for (int r = 0; r < ROWS; r++) weight[r] = widened(now[r]);
#pragma unroll
      for (int b = 0; b < BATCH; b++) {
        const u32 place = 2 * b * plane + at - first;
        const Eight input = eight(staged[place], staged[place + plane]);
#pragma unroll
        for (int r = 0; r < ROWS; r++) sum[r][b] += dot(weight[r], input);
      }
#pragma unroll
      for (int r = 0; r < ROWS; r++) now[r] = next[r];
      at = following;
    }
  }

  // Lane r * BATCH + b keeps the sum of row r and sequence b.
  float value = 0.0f;
#pragma unroll
  for (int r = 0; r < ROWS; r++)
#pragma unroll
    for (int b = 0; b < BATCH; b++) {
      const float all = sum_of_warp(sum[r][b]);
      if (lane == r * BATCH + b) value = all;
    }
  if (split > 1) {
    // The statistics left their sums there.
    __syncthreads();
    if (lane < ROWS * BATCH) room[warp * ROWS * BATCH + lane] = value;
    __syncthreads();
    if (part == 0 && lane < ROWS * BATCH)
#pragma unroll 1
      for (u32 other = 1; other < split; other++)
        value += room[(warp + other) * ROWS * BATCH + lane];
  }

  const u32 mine = first_row + lane / BATCH, b = lane % BATCH;
  const bool counts = part == 0 && lane < ROWS * BATCH && mine < rows && b < batch;
  if (bias && counts) value += widened(bias[mine]);
  // A gate's row is followed by that of the values it opens for.
  const float opened = __shfl_down_sync(ALL, value, BATCH);
  if (action == SWIGLU) {
    if (counts && mine % 2 == 0)
      y[b * stride + mine / 2] = value / (1.0f + expf(-value)) * opened;
    return;
  }
  if (action == GELU_TANH) value = gelu_tanh(value);
  if (action == GELU_ERF) value = gelu_erf(value);
  if (counts) {
    float* const to = &y[b * stride + mine];
    *to = action == ADD ? *to + value : value;
  }
  if (action == LOGITS) best_of_block<BATCH>(value, mine, counts, batch, best);
}

// Blocks of a multiprocessor: as many as have 1024 threads, or half of that where sums take more registers.
#define PRODUCT(BATCH)                                                                             \
  extern "C" __global__ void __launch_bounds__(32 * WARPS, BATCH == 1 ? 4 : 2)                     \
      TYPED(decode_product_##BATCH)(                                                                      \
      const uint4* __restrict__ weights, const u16* __restrict__ bias,                             \
      const float4* __restrict__ x, const uint2* __restrict__ norm_weight,                         \
      const uint2* __restrict__ norm_bias, float* __restrict__ y, uint2* __restrict__ best,        \
      u32 rows, u32 columns, u32 stride, u32 batch, u32 norm, u32 action, u32 split, u32 chunk,    \
      float epsilon) {                                                                             \
    product<BATCH>(weights, bias, x, norm_weight, norm_bias, y, best, rows, columns, stride,       \
                   batch, norm, action, split, chunk, epsilon);                                    \
  }

PRODUCT(1)
PRODUCT(4)
PRODUCT(8)

// x = table[token], and places[position] where there are such: rows of `fours` of four numbers, one block along y
// for each sequence.
extern "C" __global__ void __launch_bounds__(128) TYPED(decode_embed)(
    const u32* __restrict__ tokens, const u32* __restrict__ positions,
    const uint2* __restrict__ table, const uint2* __restrict__ places, float4* __restrict__ x,
    u32 fours) {
  const u32 i = blockIdx.x * blockDim.x + threadIdx.x, b = blockIdx.y;
  if (i >= fours) return;
  const uint2 from = table[(unsigned long long)tokens[b] * fours + i];
  float4 sum;
  widen(from.x, sum.x, sum.y);
  widen(from.y, sum.z, sum.w);
  if (places) {
    const uint2 place = places[(unsigned long long)positions[b] * fours + i];
    float4 more;
    widen(place.x, more.x, more.y);
    widen(place.y, more.z, more.w);
    sum = make_float4(sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w);
  }
  x[b * fours + i] = sum;
}

// A number of a head, turned by its position: (c, c + width / 2) turn against each other by an angle of which
// `turns` has cosine and sine. Without turns it stays. The head begins at number `first` of a row and its bias.
__device__ __forceinline__ float turned(const float* __restrict__ row, const u16* __restrict__ bias,
                                        u32 first, u32 c, u32 width,
                                        const float2* __restrict__ turns) {
  const u32 at = first + c, half = width / 2;
  const float own = row[at] + (bias ? widened(bias[at]) : 0.0f);
  if (!turns) return own;
  const bool lower = c < half;
  const u32 pair = lower ? at + half : at - half;
  const float other = row[pair] + (bias ? widened(bias[pair]) : 0.0f);
  const float2 turn = turns[lower ? c : c - half];
  return own * turn.x + (lower ? -other : other) * turn.y;
}

// What attention over some keys comes to: the largest score, the sum of all powers of two relative to it, and the
// values weighted by those. Scores are logarithms to base 2.
struct Mixture {
  float most, powers, values[8];
};

__device__ __forceinline__ void join(Mixture& mine, const Mixture& other) {
  const float most = fmaxf(mine.most, other.most);
  const float own = exp2f(mine.most - most), its = exp2f(other.most - most);
  mine.most = most;
  mine.powers = mine.powers * own + other.powers * its;
#pragma unroll
  for (int i = 0; i < 8; i++) mine.values[i] = mine.values[i] * own + other.values[i] * its;
}

// Stores a number of a row as f32, or as a half.
__device__ __forceinline__ void put(void* __restrict__ out, u32 at, float value, u32 narrow) {
  if (narrow)
    ((u16*)out)[at] = narrowed(value);
  else
    ((float*)out)[at] = value;
}

// Attention of one new position of each sequence over the cache and itself, and the new key and value into the
// cache.
//
// qkv is [batch][stride]: queries of `heads`, keys and values of `key_value_heads`, each `width` wide, not turned
// yet, and without their bias where that is given. keys and values are [batch][key_value_heads][capacity][vectors of eight]. turns is [capacity][width / 2].
// A block takes up to HEADS query heads that share keys, and one of gridDim.x parts of the positions; part s of
// head h leaves its largest score and sum in sums[(b * heads + h) * parts + s], and its mixture, not divided by the
// sum, behind the same index in mixtures, [..][8 * vectors]. A part without positions leaves a sum of 0 and nothing
// else. Where there is one part alone, `out`, [batch][out_stride], gets the quotient, each head in whole vectors:
// as f32, or halves where it is `narrow`.
template <int HEADS>
__device__ __forceinline__ void attend(const float* __restrict__ qkv, const u16* __restrict__ bias,
                                       uint4* __restrict__ keys, uint4* __restrict__ values,
                                       const float2* __restrict__ turns,
                                       const u32* __restrict__ positions, float2* __restrict__ sums,
                                       float* __restrict__ mixtures, void* __restrict__ out,
                                       u32 heads, u32 key_value_heads, u32 width, u32 capacity,
                                       u32 stride, u32 out_stride, u32 narrow, float scale) {
  extern __shared__ float4 shared[];
  const u32 vectors = (width + 7) / 8, padded = 8 * vectors;
  const u32 plane = plane_of(vectors), head_size = 8 * plane;
  float* const queries = (float*)shared;                           // [HEADS][head_size]
  u16* const new_key = (u16*)(queries + HEADS * head_size);        // [padded]
  u16* const new_value = new_key + padded;                         // [padded]
  float* const mixed = (float*)(new_value + padded);               // [warps][HEADS][head_size]
  float* const most_of = mixed + ATTEND / 32 * HEADS * head_size;  // [warps][HEADS]
  float* const powers_of = most_of + ATTEND / 32 * HEADS;        // [warps][HEADS]

  const u32 part = blockIdx.x, parts = gridDim.x, b = blockIdx.z;
  const u32 group = heads / key_value_heads, tiles = (group + HEADS - 1) / HEADS;
  const u32 shared_head = blockIdx.y / tiles, tile = blockIdx.y % tiles;
  const u32 first_head = shared_head * group + tile * HEADS;
  const u32 own_heads = min((u32)HEADS, group - tile * HEADS);
  const u32 position = positions[b], length = position + 1;
  const u32 each = (length + parts - 1) / parts;
  const u32 begin = part * each, end = min(length, begin + each);
  if (begin >= end) {
    if (threadIdx.x < own_heads)
      sums[(b * heads + first_head + threadIdx.x) * parts + part] = make_float2(LOWEST, 0.0f);
    return;
  }

  qkv += b * stride;
  if (turns) turns += position * (width / 2);
  const unsigned long long cache =
      (unsigned long long)(b * key_value_heads + shared_head) * capacity * vectors;
#pragma unroll 1
  for (u32 i = threadIdx.x; i < HEADS * padded; i += ATTEND) {
    const u32 h = i / padded, c = i % padded;
    const bool there = h < own_heads && c < width;
    queries[h * head_size + in_planes(c, plane)] =
        there ? turned(qkv, bias, (first_head + h) * width, c, width, turns) * scale : 0.0f;
  }
  if (end == length) {
    const u32 key = (heads + shared_head) * width, value = key + key_value_heads * width;
#pragma unroll 1
    for (u32 c = threadIdx.x; c < padded; c += ATTEND) {
      new_key[c] = c < width ? narrowed(turned(qkv, bias, key, c, width, turns)) : (u16)0;
      new_value[c] = c < width ? narrowed(turned(qkv, bias, value, c, width, nullptr)) : (u16)0;
      if (tile == 0) {
        const unsigned long long to = (cache + (unsigned long long)position * vectors) * 8 + c;
        ((u16*)keys)[to] = new_key[c];
        ((u16*)values)[to] = new_value[c];
      }
    }
  }
  __syncthreads();

  // `lanes` neighbours share a key, each eight numbers of it; a power of two.
  u32 lanes = 1;
  while (lanes < vectors) lanes *= 2;
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const u32 c = lane % lanes, step = ATTEND / lanes;
  Eight query[HEADS];
  Mixture mine[HEADS];
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    const float4* const from = (const float4*)(queries + h * head_size) + min(c, vectors - 1);
    query[h] = eight(from[0], from[plane]);
#pragma unroll
    for (int i = 0; i < 8; i++) mine[h].values[i] = 0.0f;
    mine[h].most = LOWEST;
    mine[h].powers = 0.0f;
  }
  const uint4* const old_keys = keys + cache;
  const uint4* const old_values = values + cache;
  // Some keys of a thread are under way at once: more where registers for several heads leave room for fewer
  // threads. Warps stay together: their lanes add up what they have.
  constexpr int AT_ONCE = HEADS == 1 ? 2 : 4;
#pragma unroll 1
  for (u32 base = begin + warp * (32 / lanes); base < end; base += AT_ONCE * step) {
    uint4 key[AT_ONCE], value[AT_ONCE];
    bool valid[AT_ONCE];
#pragma unroll
    for (int u = 0; u < AT_ONCE; u++) {
      const u32 j = base + u * step + lane / lanes;
      valid[u] = j < end;
      key[u] = value[u] = make_uint4(0, 0, 0, 0);
      if (valid[u] && c < vectors) {
        if (j < position) {
          key[u] = __ldcs(&old_keys[j * vectors + c]);
          value[u] = __ldcs(&old_values[j * vectors + c]);
        } else {
          key[u] = ((const uint4*)new_key)[c];
          value[u] = ((const uint4*)new_value)[c];
        }
      }
    }
    // Scores, and then the powers of two that they are.
    float power[AT_ONCE][HEADS];
#pragma unroll
    for (int u = 0; u < AT_ONCE; u++) {
      const Eight wide = widened(key[u]);
#pragma unroll
      for (int h = 0; h < HEADS; h++) power[u][h] = dot(query[h], wide);
    }
#pragma unroll 1
    for (u32 apart = 1; apart < lanes; apart *= 2)
#pragma unroll
      for (int u = 0; u < AT_ONCE; u++)
#pragma unroll
        for (int h = 0; h < HEADS; h++) power[u][h] += __shfl_xor_sync(ALL, power[u][h], apart);
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      float most = mine[h].most;
#pragma unroll
      for (int u = 0; u < AT_ONCE; u++) most = fmaxf(most, valid[u] ? power[u][h] : LOWEST);
      const float kept = exp2f(mine[h].most - most);
      mine[h].most = most;
      mine[h].powers *= kept;
#pragma unroll
      for (int u = 0; u < AT_ONCE; u++) {
        power[u][h] = valid[u] ? exp2f(power[u][h] - most) : 0.0f;
        mine[h].powers += power[u][h];
      }
#pragma unroll
      for (int i = 0; i < 8; i++) mine[h].values[i] *= kept;
    }
#pragma unroll
    for (int u = 0; u < AT_ONCE; u++) {
      const Eight wide = widened(value[u]);
#pragma unroll
      for (int h = 0; h < HEADS; h++)
#pragma unroll
        for (int i = 0; i < 8; i++)
          mine[h].values[i] = fmaf(power[u][h], wide.at[i], mine[h].values[i]);
    }
  }

#pragma unroll 1
  for (u32 apart = lanes; apart < 32; apart *= 2)
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      Mixture other;
      other.most = __shfl_xor_sync(ALL, mine[h].most, apart);
      other.powers = __shfl_xor_sync(ALL, mine[h].powers, apart);
#pragma unroll
      for (int i = 0; i < 8; i++)
        other.values[i] = __shfl_xor_sync(ALL, mine[h].values[i], apart);
      join(mine[h], other);
    }
  if (lane < vectors)
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      float4* const to = (float4*)(mixed + (warp * HEADS + h) * head_size) + lane;
      const float* const from = mine[h].values;
      to[0] = make_float4(from[0], from[1], from[2], from[3]);
      to[plane] = make_float4(from[4], from[5], from[6], from[7]);
      if (lane == 0) {
        most_of[warp * HEADS + h] = mine[h].most;
        powers_of[warp * HEADS + h] = mine[h].powers;
      }
    }
  __syncthreads();

#pragma unroll 1
  for (u32 i = threadIdx.x; i < own_heads * padded; i += ATTEND) {
    const u32 h = i / padded, at = i % padded;
    float most = LOWEST, powers = 0.0f, mixture = 0.0f;
    for (u32 w = 0; w < ATTEND / 32; w++) most = fmaxf(most, most_of[w * HEADS + h]);
    for (u32 w = 0; w < ATTEND / 32; w++) {
      const float factor = exp2f(most_of[w * HEADS + h] - most);
      powers += powers_of[w * HEADS + h] * factor;
      mixture += mixed[(w * HEADS + h) * head_size + in_planes(at, plane)] * factor;
    }
    if (parts == 1) {
      put(out, b * out_stride + (first_head + h) * padded + at, mixture / powers, narrow);
      continue;
    }
    const u32 place = (b * heads + first_head + h) * parts + part;
    if (at == 0) sums[place] = make_float2(most, powers);
    mixtures[place * padded + at] = mixture;
  }
}

#define ATTEND_HEADS(HEADS)                                                                        \
  extern "C" __global__ void __launch_bounds__(ATTEND) TYPED(decode_attend_##HEADS)(               \
      const float* __restrict__ qkv, const u16* __restrict__ bias, uint4* __restrict__ keys,       \
      uint4* __restrict__ values, const float2* __restrict__ turns,                                \
      const u32* __restrict__ positions, float2* __restrict__ sums, float* __restrict__ mixtures,  \
      void* __restrict__ out, u32 heads, u32 key_value_heads, u32 width, u32 capacity, u32 stride, \
      u32 out_stride, u32 narrow, float scale) {                                                   \
    attend<HEADS>(qkv, bias, keys, values, turns, positions, sums, mixtures, out, heads,           \
                  key_value_heads, width, capacity, stride, out_stride, narrow, scale);            \
  }

ATTEND_HEADS(1)
ATTEND_HEADS(4)

// Joins the parts that `decode_attend` left: a block for each head (x) and sequence (y), a thread for each
// number of the head in whole vectors.
extern "C" __global__ void __launch_bounds__(256) TYPED(decode_join)(
    const float2* __restrict__ sums, const float* __restrict__ mixtures, void* __restrict__ out,
    u32 parts, u32 padded, u32 out_stride, u32 narrow) {
  const u32 head = blockIdx.x, heads = gridDim.x, b = blockIdx.y, c = threadIdx.x;
  if (c >= padded) return;
  const u32 first = (b * heads + head) * parts;
  float most = LOWEST, powers = 0.0f, mixture = 0.0f;
#pragma unroll 1
  for (u32 part = 0; part < parts; part++) most = fmaxf(most, sums[first + part].x);
#pragma unroll 1
  for (u32 part = 0; part < parts; part++) {
    const float2 sum = sums[first + part];
    if (sum.y == 0.0f) continue;
    const float factor = exp2f(sum.x - most);
    powers += sum.y * factor;
    mixture += mixtures[(first + part) * padded + c] * factor;
  }
  put(out, b * out_stride + head * padded + c, mixture / powers, narrow);
}

// The next token of each sequence, a block each: the best of `count` that the product with LOGITS left, or what
// `prompts`, [batch][capacity], has for the next position, where that is not negative. Behind `end` comes `begin`.
extern "C" __global__ void __launch_bounds__(256)
    decode_pick(const uint2* __restrict__ best, const int* __restrict__ prompts,
                u32* __restrict__ tokens, u32* __restrict__ positions, u32 count, u32 capacity,
                u32 begin, u32 end) {
  __shared__ float values[8];
  __shared__ u32 rows[8];
  const u32 b = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float value = LOWEST;
  u32 row = ALL;
#pragma unroll 1
  for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
    const uint2 one = best[b * count + i];
    if (better(__uint_as_float(one.x), one.y, value, row)) {
      value = __uint_as_float(one.x);
      row = one.y;
    }
  }
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    const float other = __shfl_xor_sync(ALL, value, apart);
    const u32 other_row = __shfl_xor_sync(ALL, row, apart);
    if (better(other, other_row, value, row)) {
      value = other;
      row = other_row;
    }
  }
  if (lane == 0) {
    values[warp] = value;
    rows[warp] = row;
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
#pragma unroll 1
  for (u32 other = 1; other < blockDim.x / 32; other++)
    if (better(values[other], rows[other], value, row)) {
      value = values[other];
      row = rows[other];
    }
  u32 next = positions[b] + 1;
  if (next == end) next = begin;
  // Where reading the prompts was all, there is no next position.
  const int given = next < capacity ? prompts[b * capacity + next] : -1;
  // Without a number there is no best one: 0 is a token, and the check sees the logits.
  tokens[b] = given >= 0 ? (u32)given : row == ALL ? 0 : row;
  positions[b] = next;
}
