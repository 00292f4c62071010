// What lies between the matrix products of a pass over many rows, a row for each token of each sequence: kernels
// for the engine `fused` where a library multiplies. Not a micro benchmark.
//
// The residual stream is f32, and the products add to it; what goes into a product is halves (f16, or bf16 with
// BF16 defined), eight to a 16-byte vector. Rows are padded with zeros to whole vectors. A bias that a product
// lacks is added by who reads its result. Halves are converted by inline PTX or by shifts, so that no header is
// needed.
//
// Bytes per launch: each row once in and once out, and once more in and out of the residual stream where a bias
// is added to it; biases, factors and angles for each row, out of the caches. Nothing can be eliminated: all that
// is computed is stored.

typedef unsigned int u32;
typedef unsigned short u16;

#define ALL 0xFFFFFFFFu
#ifdef BF16
#define TYPED(name) name##_bf16
#else
#define TYPED(name) name##_f16
#endif

// Below every score.
#define LOWEST -1e30f

// Fours of a row that a thread of `pass_norm` keeps in registers.
#define KEPT 8

// How a product's input is normalised.
#define LAYER 2

// What is between two products, by the numbers of `decode.cu`.
#define GELU_TANH 2
#define SWIGLU 4

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

__device__ __forceinline__ u32 narrowed(float low, float high) {
  return (u32)narrowed(low) | (u32)narrowed(high) << 16;
}

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

__device__ __forceinline__ float4 widened(uint2 halves) {
  float4 wide;
  widen(halves.x, wide.x, wide.y);
  widen(halves.y, wide.z, wide.w);
  return wide;
}

__device__ __forceinline__ float4 sum_of(float4 a, float4 b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

struct Eight {
  float at[8];
};

__device__ __forceinline__ Eight widened(uint4 vector) {
  Eight wide;
  widen(vector.x, wide.at[0], wide.at[1]);
  widen(vector.y, wide.at[2], wide.at[3]);
  widen(vector.z, wide.at[4], wide.at[5]);
  widen(vector.w, wide.at[6], wide.at[7]);
  return wide;
}

__device__ __forceinline__ uint4 narrowed(const Eight& wide) {
  return make_uint4(narrowed(wide.at[0], wide.at[1]), narrowed(wide.at[2], wide.at[3]),
                    narrowed(wide.at[4], wide.at[5]), narrowed(wide.at[6], wide.at[7]));
}

// The sum over all threads of a block.
__device__ __forceinline__ float sum_of_block(float value) {
  __shared__ float room[32];
  const u32 lane = threadIdx.x % 32, warps = blockDim.x / 32;
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(ALL, value, apart);
  __syncthreads();
  if (lane == 0) room[threadIdx.x / 32] = value;
  __syncthreads();
  value = lane < warps ? room[lane] : 0.0f;
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(ALL, value, apart);
  return value;
}

// x = table[token], and places[position] where there are such: a block for each of `length` tokens of each
// sequence, whose tokens lie at the beginning of its row of prompts, [sequences][capacity]. Rows are `fours` of four
// numbers. Each sequence's position becomes that behind its prompt.
extern "C" __global__ void __launch_bounds__(256) TYPED(pass_embed)(
    const u32* __restrict__ prompts, const uint2* __restrict__ table,
    const uint2* __restrict__ places, float4* __restrict__ x, u32* __restrict__ positions,
    u32 length, u32 capacity, u32 fours) {
  const u32 position = blockIdx.x % length, sequence = blockIdx.x / length;
  const u32 token = prompts[(unsigned long long)sequence * capacity + position];
  if (position == 0 && threadIdx.x == 0) positions[sequence] = length;
#pragma unroll 1
  for (u32 i = threadIdx.x; i < fours; i += blockDim.x) {
    float4 sum = widened(table[(unsigned long long)token * fours + i]);
    if (places) sum = sum_of(sum, widened(places[(unsigned long long)position * fours + i]));
    x[(unsigned long long)blockIdx.x * fours + i] = sum;
  }
}

// out = norm(x + bias), and x the sum, where there is a bias: a block for each row out, whose input is row
// first + step * blockIdx.x. Rows are `fours` of four numbers, of which `columns` count.
extern "C" __global__ void __launch_bounds__(1024) TYPED(pass_norm)(
    float4* __restrict__ x, const uint2* __restrict__ bias, const uint2* __restrict__ weight,
    const uint2* __restrict__ norm_bias, uint2* __restrict__ out, u32 first, u32 step, u32 fours,
    u32 columns, u32 norm, float epsilon) {
  float4* const row = x + (unsigned long long)(first + step * blockIdx.x) * fours;
  float4 kept[KEPT];
  float mean = 0.0f;
#pragma unroll
  for (int k = 0; k < KEPT; k++) {
    const u32 i = threadIdx.x + k * blockDim.x;
    kept[k] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (i >= fours) continue;
    kept[k] = row[i];
    if (bias) {
      kept[k] = sum_of(kept[k], widened(bias[i]));
      row[i] = kept[k];
    }
    mean += kept[k].x + kept[k].y + kept[k].z + kept[k].w;
  }
  mean = norm == LAYER ? sum_of_block(mean) / (float)columns : 0.0f;
  float square = 0.0f;
#pragma unroll
  for (int k = 0; k < KEPT; k++) {
    const u32 i = threadIdx.x + k * blockDim.x;
    const float parts[4] = {kept[k].x, kept[k].y, kept[k].z, kept[k].w};
#pragma unroll
    for (int part = 0; part < 4; part++) {
      const float off = 4 * i + part < columns ? parts[part] - mean : 0.0f;
      square = fmaf(off, off, square);
    }
  }
  const float scale = 1.0f / sqrtf(sum_of_block(square) / (float)columns + epsilon);
#pragma unroll
  for (int k = 0; k < KEPT; k++) {
    const u32 i = threadIdx.x + k * blockDim.x;
    if (i >= fours) continue;
    const float4 v = kept[k], w = widened(weight[i]);
    float4 b = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (norm_bias) b = widened(norm_bias[i]);
    out[(unsigned long long)blockIdx.x * fours + i] =
        make_uint2(narrowed((v.x - mean) * scale * w.x + b.x, (v.y - mean) * scale * w.y + b.y),
                   narrowed((v.z - mean) * scale * w.z + b.z, (v.w - mean) * scale * w.w + b.w));
  }
}

// Eight halves from `at` on, of which `count` are there; where all heads are whole vectors they come at once.
__device__ __forceinline__ Eight eight_from(const u16* __restrict__ at, u32 count, bool whole) {
  if (whole) return widened(*(const uint4*)at);
  Eight wide;
#pragma unroll
  for (u32 i = 0; i < 8; i++) {
    float rest;
    wide.at[i] = 0.0f;
    if (i < count) widen(at[i], wide.at[i], rest);
  }
  return wide;
}

// Queries, keys and values of a product, with its bias, turned, to where attention reads them: queries to
// [rows][heads][vectors of eight], keys and values into the cache, [sequences][key_value_heads][capacity][vectors of
// eight], zeros behind `width`. A block for each row of qkv, [rows][stride], of which a sequence has `length`. turns
// is [capacity][width / 2], or null.
extern "C" __global__ void __launch_bounds__(256) TYPED(pass_turn)(
    const u16* __restrict__ qkv, const u16* __restrict__ bias, const float2* __restrict__ turns,
    uint4* __restrict__ queries, uint4* __restrict__ keys, uint4* __restrict__ values, u32 heads,
    u32 key_value_heads, u32 width, u32 capacity, u32 stride, u32 length) {
  const u32 vectors = (width + 7) / 8, half = width / 2;
  const u32 sequence = blockIdx.x / length, position = blockIdx.x % length;
  const bool whole = width % 8 == 0, pairs_whole = width % 16 == 0;
  qkv += (unsigned long long)blockIdx.x * stride;
  if (turns) turns += (unsigned long long)position * half;
#pragma unroll 1
  for (u32 item = threadIdx.x; item < (heads + 2 * key_value_heads) * vectors; item += blockDim.x) {
    const u32 head = item / vectors, v = item % vectors, c = 8 * v;
    const u32 at = head * width + c;
    Eight own = eight_from(qkv + at, width - c, whole);
    if (bias) {
      const Eight more = eight_from(bias + at, width - c, whole);
#pragma unroll
      for (int i = 0; i < 8; i++) own.at[i] += more.at[i];
    }
    if (turns && head < heads + key_value_heads) {
      const bool lower = c < half;
      Eight other = {};
      if (pairs_whole) {
        const u32 pair = lower ? at + half : at - half;
        other = eight_from(qkv + pair, 8, true);
        if (bias) {
          const Eight more = eight_from(bias + pair, 8, true);
#pragma unroll
          for (int i = 0; i < 8; i++) other.at[i] += more.at[i];
        }
        // Two angles at once: rows of them are whole vectors too.
        const float4* const angles = (const float4*)(turns + (lower ? c : c - half));
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float4 two = angles[i];
          const float even = other.at[2 * i], odd = other.at[2 * i + 1];
          own.at[2 * i] = own.at[2 * i] * two.x + (lower ? -even : even) * two.y;
          own.at[2 * i + 1] = own.at[2 * i + 1] * two.z + (lower ? -odd : odd) * two.w;
        }
      } else {
#pragma unroll 1
        for (u32 i = 0; i < 8 && c + i < width; i++) {
          const bool low = c + i < half;
          const u32 pair = low ? at + i + half : at + i - half;
          float one, rest;
          widen(qkv[pair], one, rest);
          if (bias) {
            float more;
            widen(bias[pair], more, rest);
            one += more;
          }
          const float2 turn = turns[low ? c + i : c + i - half];
          own.at[i] = own.at[i] * turn.x + (low ? -one : one) * turn.y;
        }
      }
    }
    const unsigned long long place =
        ((unsigned long long)sequence * key_value_heads * capacity + position) * vectors + v;
    const unsigned long long step = (unsigned long long)capacity * vectors;
    if (head < heads)
      queries[((unsigned long long)blockIdx.x * heads + head) * vectors + v] = narrowed(own);
    else if (head < heads + key_value_heads)
      keys[place + (head - heads) * step] = narrowed(own);
    else
      values[place + (head - heads - key_value_heads) * step] = narrowed(own);
  }
}

__device__ __forceinline__ float gelu_tanh(float x) {
  return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}

__device__ __forceinline__ float gelu_erf(float x) {
  return 0.5f * x * (1.0f + erff(0.7071067811865476f * x));
}

// What is between the two products of a feed-forward layer, with the bias of the first: a thread for each eight
// numbers of `up` and what becomes of them, rows of `vectors` of eight out. Of a gated layer, `up` has gates and
// values in turn, so that eight become four; its rows are up_vectors long, behind which there is nothing.
extern "C" __global__ void __launch_bounds__(256) TYPED(pass_activate)(
    const uint4* __restrict__ up, const uint4* __restrict__ bias, uint4* __restrict__ hidden,
    u32 rows, u32 vectors, u32 up_vectors, u32 action) {
  const u32 each = action == SWIGLU ? 2 * vectors : vectors;
  const unsigned long long item = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned long long row = item / each;
  const u32 v = (u32)(item % each);
  if (row >= rows) return;
  Eight made = {};
  if (v < up_vectors) {
    made = widened(up[row * up_vectors + v]);
    if (bias) {
      const Eight more = widened(bias[v]);
#pragma unroll
      for (int i = 0; i < 8; i++) made.at[i] += more.at[i];
    }
  }
  if (action == SWIGLU) {
    float opened[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float gate = made.at[2 * i];
      opened[i] = gate / (1.0f + expf(-gate)) * made.at[2 * i + 1];
    }
    ((uint2*)hidden)[item] =
        make_uint2(narrowed(opened[0], opened[1]), narrowed(opened[2], opened[3]));
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; i++)
    made.at[i] = action == GELU_TANH ? gelu_tanh(made.at[i]) : gelu_erf(made.at[i]);
  hidden[item] = narrowed(made);
}

// Whether a is what argmax takes before b: the larger, and of equals the one with the lower index.
__device__ __forceinline__ bool better(float a, u32 a_at, float b, u32 b_at) {
  return a > b || (a == b && a_at < b_at);
}

// The best of `each` logits of a sequence (y), a block for each part (x), as `decode_pick` takes them: its value and
// index. Rows of logits are `stride` apart.
extern "C" __global__ void __launch_bounds__(256)
    pass_best(const float* __restrict__ logits, uint2* __restrict__ best, u32 vocabulary,
              u32 stride, u32 each) {
  __shared__ float values[8];
  __shared__ u32 places[8];
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const u32 begin = blockIdx.x * each, end = min(vocabulary, begin + each);
  logits += (unsigned long long)blockIdx.y * stride;
  float value = LOWEST;
  u32 place = ALL;
#pragma unroll 1
  for (u32 i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const float one = logits[i];
    if (better(one, i, value, place)) {
      value = one;
      place = i;
    }
  }
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    const float other = __shfl_xor_sync(ALL, value, apart);
    const u32 other_place = __shfl_xor_sync(ALL, place, apart);
    if (better(other, other_place, value, place)) {
      value = other;
      place = other_place;
    }
  }
  if (lane == 0) {
    values[warp] = value;
    places[warp] = place;
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
#pragma unroll 1
  for (u32 other = 1; other < blockDim.x / 32; other++)
    if (better(values[other], places[other], value, place)) {
      value = values[other];
      place = places[other];
    }
  best[blockIdx.y * gridDim.x + blockIdx.x] = make_uint2(__float_as_uint(value), place);
}
