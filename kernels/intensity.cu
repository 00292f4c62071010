// Arithmetic intensity: one kernel under the roofline, from a quarter of a FLOP a byte to 512.
//
// Bytes per launch: gridDim.x * THREADS * UNROLL * 16 read. FLOPs: each vector of four f32 (16 bytes) goes
// through `steps` steps, and each two steps are a fused multiply-add on all four: steps * 4 FLOPs a vector, so
// that steps = 4 * FLOPs a byte. A step without a second one takes the first two.
//
// Sixteen chains of a thread are independent, which with the threads of a full multiprocessor is more than its
// pipes are deep. Timed launches pass scale = -1 and shift = 1: what is in [-1, 1) stays in [-1, 2], exactly,
// and every bit goes on changing. Both are known to the launch only.
//
// Dead code: as in `memory_read`, the results are folded and stored where the fold shares a bit with `mask`.

#define THREADS 256
#define UNROLL 4

extern "C" __global__ void __launch_bounds__(THREADS)
    intensity_sweep(const float4* __restrict__ a, unsigned int steps, float scale, float shift,
                    unsigned int* __restrict__ fold, unsigned int mask) {
  a += (unsigned long long)blockIdx.x * (THREADS * UNROLL) + threadIdx.x;
  float4 v[UNROLL];
#pragma unroll
  for (int u = 0; u < UNROLL; u++) v[u] = a[u * THREADS];
#pragma unroll 4
  for (unsigned int step = 0; step < steps / 2; step++) {
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      v[u].x = fmaf(v[u].x, scale, shift);
      v[u].y = fmaf(v[u].y, scale, shift);
      v[u].z = fmaf(v[u].z, scale, shift);
      v[u].w = fmaf(v[u].w, scale, shift);
    }
  }
  if (steps & 1) {
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      v[u].x = fmaf(v[u].x, scale, shift);
      v[u].y = fmaf(v[u].y, scale, shift);
    }
  }
  unsigned int mine = 0;
#pragma unroll
  for (int u = 0; u < UNROLL; u++)
    mine ^= __float_as_uint(v[u].x) ^ __float_as_uint(v[u].y) ^ __float_as_uint(v[u].z) ^
            __float_as_uint(v[u].w);
  if (mine & mask) atomicXor(fold, mine);
}
