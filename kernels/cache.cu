// Read bandwidth of the memory hierarchy: every block reads the same working set round and round.
//
// The blocks begin evenly spaced on the ring and go at one pace. An L1 cache therefore helps only where
// it holds the whole set, the L2 only where that does, and beyond both every line comes from memory
// again before anyone meets it a second time.
//
// Bytes per launch: gridDim.x * steps * TILE_BYTES, as the threads receive them.
//
// Dead code: the words read are added up, and the sum is stored where it shares a bit with `mask`, as in
// memory.cu: 0 in timed launches, all ones in the checking one. Addition and not exclusive or, since
// words are read an even number of times too. The index runs on by the ring's length, which only the
// launch knows, so that no load can be left out as a repetition.

#define THREADS 256
#define UNROLL 4
// In vectors of 16 bytes.
#define TILE (THREADS * UNROLL)

extern "C" __global__ void __launch_bounds__(THREADS)
    cache_read(const uint4* __restrict__ a, unsigned int tiles, unsigned int steps,
               unsigned int* __restrict__ sum, unsigned int mask) {
  unsigned int tile = (unsigned int)((unsigned long long)blockIdx.x * tiles / gridDim.x);
  unsigned int mine = 0;
  for (unsigned int step = 0; step < steps; step++) {
    const uint4* from = a + (unsigned long long)tile * TILE + threadIdx.x;
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      const uint4 v = from[u * THREADS];
      mine += v.x + v.y + v.z + v.w;
    }
    tile = tile + 1 == tiles ? 0 : tile + 1;
  }
  if (mine & mask) atomicAdd(sum, mine);
}
