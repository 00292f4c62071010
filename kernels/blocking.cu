// Blocks a stream: the launches queued after this kernel run once the host sets the flag, one after the other,
// however slowly they were queued. Not a benchmark; it runs in front of the timed part.
//
// `words[0]` is the flag, in memory of the host: the kernel waits until the number of this launch, `ticket`,
// stands there. `words[1]` gets the ticket of a launch that gave up after `limit` nanoseconds: a host that
// waits for the very queue that is blocked here must not wait for ever.
//
// Dead code: the flag is read through a volatile pointer, so that every look goes to the host's memory.

extern "C" __global__ void block_stream(volatile unsigned int* words, unsigned int ticket,
                                        unsigned long long limit) {
  unsigned long long began, now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(began));
  while (words[0] != ticket) {
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    if (now - began > limit) {
      words[1] = ticket;
      __threadfence_system();
      return;
    }
  }
}
