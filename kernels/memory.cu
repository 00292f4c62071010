// Memory bandwidth: read, write, copy, scale, add, triad over f32 arrays of n elements.
//
// Bytes per launch: read and write 4n, copy and scale 8n, add and triad 12n, counted as reads plus
// writes. A block handles one chunk of CHUNK elements, as 128-bit accesses of which each thread has
// UNROLL in flight; the host makes n a multiple of CHUNK and launches n / CHUNK blocks.
//
// Which way is the fastest differs from card to card, so that the host builds all of them and tries: a chunk
// is read by few threads or by many (THREADS), through the caches as usual or as what is not wanted
// again (STREAMING).
//
// Dead code: five kernels store all they compute. `memory_read` folds what it read and stores the
// fold where it shares a bit with `mask`. Timed launches pass a mask of 0, so the store never happens,
// but only the loaded data can tell, so no load can be left out or moved behind the branch. The
// checking launch passes a mask of all ones and gets the fold of the whole array.

#ifndef THREADS
#define THREADS 256
#endif
#define CHUNK 4096
#define UNROLL (CHUNK / 4 / THREADS)

#ifdef STREAMING
#define LOAD(from) __ldcs(&(from))
#define STORE(to, value) __stcs(&(to), value)
#else
#define LOAD(from) (from)
#define STORE(to, value) ((to) = (value))
#endif

// Where this thread's first vector lies; its others follow at a distance of THREADS.
__device__ __forceinline__ unsigned long long first_vector() {
  return (unsigned long long)blockIdx.x * (THREADS * UNROLL) + threadIdx.x;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    memory_read(const uint4* __restrict__ a, unsigned int* __restrict__ fold, unsigned int mask) {
  a += first_vector();
  unsigned int mine = 0;
#pragma unroll
  for (int u = 0; u < UNROLL; u++) {
    const uint4 v = LOAD(a[u * THREADS]);
    mine ^= v.x ^ v.y ^ v.z ^ v.w;
  }
  if (mine & mask) atomicXor(fold, mine);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    memory_write(float4* __restrict__ c, float4 pattern) {
  c += first_vector();
#pragma unroll
  for (int u = 0; u < UNROLL; u++) STORE(c[u * THREADS], pattern);
}

// All loads before the first store, so that UNROLL of them are under way at once.
template <typename Map>
__device__ __forceinline__ void map_one(const float4* __restrict__ a, float4* __restrict__ c,
                                        Map map) {
  a += first_vector();
  c += first_vector();
  float4 v[UNROLL];
#pragma unroll
  for (int u = 0; u < UNROLL; u++) v[u] = LOAD(a[u * THREADS]);
#pragma unroll
  for (int u = 0; u < UNROLL; u++)
    STORE(c[u * THREADS], make_float4(map(v[u].x), map(v[u].y), map(v[u].z), map(v[u].w)));
}

template <typename Map>
__device__ __forceinline__ void map_two(const float4* __restrict__ a, const float4* __restrict__ b,
                                        float4* __restrict__ c, Map map) {
  a += first_vector();
  b += first_vector();
  c += first_vector();
  float4 v[UNROLL], w[UNROLL];
#pragma unroll
  for (int u = 0; u < UNROLL; u++) {
    v[u] = LOAD(a[u * THREADS]);
    w[u] = LOAD(b[u * THREADS]);
  }
#pragma unroll
  for (int u = 0; u < UNROLL; u++)
    STORE(c[u * THREADS], make_float4(map(v[u].x, w[u].x), map(v[u].y, w[u].y),
                                      map(v[u].z, w[u].z), map(v[u].w, w[u].w)));
}

extern "C" __global__ void __launch_bounds__(THREADS)
    memory_copy(const float4* __restrict__ a, float4* __restrict__ c) {
  map_one(a, c, [](float x) { return x; });
}

extern "C" __global__ void __launch_bounds__(THREADS)
    memory_scale(const float4* __restrict__ a, float4* __restrict__ c, float s) {
  map_one(a, c, [s](float x) { return s * x; });
}

extern "C" __global__ void __launch_bounds__(THREADS)
    memory_add(const float4* __restrict__ a, const float4* __restrict__ b, float4* __restrict__ c) {
  map_two(a, b, c, [](float x, float y) { return x + y; });
}

// Multiply and add are rounded apart, as on the host, so that the two agree to the bit.
extern "C" __global__ void __launch_bounds__(THREADS)
    memory_triad(const float4* __restrict__ a, const float4* __restrict__ b,
                 float4* __restrict__ c, float s) {
  map_two(a, b, c, [s](float x, float y) { return __fadd_rn(x, __fmul_rn(s, y)); });
}
