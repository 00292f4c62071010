// Latency of the memory hierarchy: one thread follows a random cycle, each load giving the next address.
//
// Loads per launch: steps, of 4 bytes each, every one on a cache line of its own. `state[0]` is where the
// walk stands, so that a launch goes on where the last one stopped and does not find the lines of its own
// beginning in the cache; `state[1]` gets the SM's clock cycles of the walk, which do not depend on the
// clock's frequency.
//
// Dead code: the last place is stored, and it depends on every load before it.

extern "C" __global__ void chase_walk(const unsigned int* __restrict__ next, unsigned int steps,
                                      unsigned long long* __restrict__ state) {
  unsigned int at = (unsigned int)state[0];
  const long long begin = clock64();
#pragma unroll 16
  for (unsigned int step = 0; step < steps; step++) at = next[at];
  // Never so in a cycle; but the clock may not be read before the last load has told.
  if (at == 0xFFFFFFFFu) return;
  const long long end = clock64();
  state[0] = at;
  state[1] = (unsigned long long)(end - begin);
}
