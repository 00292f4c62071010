// Latency of the memory hierarchy: one thread follows a random cycle, each load giving the next address.
//
// Loads per launch: steps, of 8 bytes each, every one on a cache line of its own. What is loaded is the
// address itself: an index would cost a multiplication and an addition between two loads, a third of the
// latency of an L1. `state[0]` is where the walk stands, so that a launch goes on where the last one stopped
// and does not find the lines of its own beginning in the cache. `state[1]` gets the cycles of the SM's clock
// that the walk took and `state[2]` its nanoseconds: cycles alone say nothing of memory beyond the SM, whose
// latency in cycles rises with the clock, so that the clock of the very walk stands beside them.
//
// Dead code: the last place is stored, and it depends on every load before it.

typedef unsigned long long word;

__device__ word nanoseconds() {
  word now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

extern "C" __global__ void chase_walk(unsigned int steps, word* __restrict__ state) {
  word at = state[0];
  const word began = nanoseconds();
  const long long begin = clock64();
#pragma unroll 16
  for (unsigned int step = 0; step < steps; step++) at = __ldg((const word*)at);
  // Never so in a cycle; but the clock may not be read before the last load has told.
  if (at == 0) return;
  const long long end = clock64();
  state[2] = nanoseconds() - began;
  state[0] = at;
  state[1] = (word)(end - begin);
}
