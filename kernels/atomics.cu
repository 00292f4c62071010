// Throughput of atomic additions in device memory: thread i adds 1, `rounds` times, to counters[i * stride].
//
// Operations per launch: threads of the grid * rounds. A stride of 0 sends all of them to one address; a
// stride of 8 gives each thread a 32-byte sector of its own. Which of the two it is only the launch knows,
// so that the compiler cannot add up a warp's operations before they are made.
//
// Dead code: an atomic operation is never left out, and the counters are what the host checks.

extern "C" __global__ void __launch_bounds__(256)
    atomics_add(unsigned int* __restrict__ counters, unsigned int stride, unsigned int rounds) {
  unsigned int* mine =
      counters + ((unsigned long long)blockIdx.x * blockDim.x + threadIdx.x) * stride;
  for (unsigned int round = 0; round < rounds; round++) atomicAdd(mine, 1u);
}
