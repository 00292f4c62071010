// Fills a matrix or an array with random numbers; not a benchmark, the ground the others stand on.
//
// Element i of the stream `key` is a hash of (key, i) turned into a number uniform on [-1, 1), so any
// element can be computed again on the host (crates/micro/src/data.rs) without a copy of the matrix.
// f16, bf16 and fp8 keep the leading bits of the f32 number, which needs no conversion header; int8 is the
// first byte of the hash.
//
// Bytes per launch: n * sizeof(element), written once. Nothing can be eliminated: all of it is stored.

typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;

// The splitmix64 generator, entered at any position.
__device__ __forceinline__ u64 mixed(u64 key, u64 index) {
  u64 z = key + (index + 1) * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// 24 random bits, centred: a multiple of 2^-23, exact in f32.
__device__ __forceinline__ float uniform(u64 key, u64 index) {
  return (float)((int)(mixed(key, index) >> 40) - (1 << 23)) * 0x1p-23f;
}

// 53 random bits, centred: a multiple of 2^-52, exact in f64.
__device__ __forceinline__ double uniform_f64(u64 key, u64 index) {
  return (double)((long long)(mixed(key, index) >> 11) - (1ll << 52)) * 0x1p-52;
}

__device__ __forceinline__ u16 leading_bf16(float value) { return (u16)(__float_as_uint(value) >> 16); }

__device__ __forceinline__ u16 leading_f16(float value) {
  const u32 bits = __float_as_uint(value);
  const u32 sign = (bits >> 16) & 0x8000u;
  const u32 exponent = (bits >> 23) & 0xFFu;
  // Below the smallest normal f16 (2^-14) the number becomes a signed zero.
  if (exponent < 127 - 14) return (u16)sign;
  return (u16)(sign | ((exponent + 15 - 127) << 10) | ((bits >> 13) & 0x3FFu));
}

__device__ __forceinline__ u8 leading_e4m3(float value) {
  const u32 bits = __float_as_uint(value);
  const u32 sign = (bits >> 24) & 0x80u;
  const u32 exponent = (bits >> 23) & 0xFFu;
  // Below the smallest normal e4m3 number (2^-6) the number becomes a signed zero.
  if (exponent < 127 - 6) return (u8)sign;
  return (u8)(sign | ((exponent + 7 - 127) << 3) | ((bits >> 20) & 7u));
}

#define FOR_EACH(index, n)                                                             \
  for (u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x; index < (n);            \
       index += (u64)gridDim.x * blockDim.x)

extern "C" __global__ void fill_f32(float* out, u64 n, u64 key) {
  FOR_EACH(i, n) out[i] = uniform(key, i);
}

extern "C" __global__ void fill_f16(u16* out, u64 n, u64 key) {
  FOR_EACH(i, n) out[i] = leading_f16(uniform(key, i));
}

extern "C" __global__ void fill_bf16(u16* out, u64 n, u64 key) {
  FOR_EACH(i, n) out[i] = leading_bf16(uniform(key, i));
}

extern "C" __global__ void fill_fp8(u8* out, u64 n, u64 key) {
  FOR_EACH(i, n) out[i] = leading_e4m3(uniform(key, i));
}

extern "C" __global__ void fill_int8(u8* out, u64 n, u64 key) {
  FOR_EACH(i, n) out[i] = (u8)(mixed(key, i) >> 56);
}

extern "C" __global__ void fill_f64(double* out, u64 n, u64 key) {
  FOR_EACH(i, n) out[i] = uniform_f64(key, i);
}
