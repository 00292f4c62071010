// Holds a stream back: the launches queued behind this kernel run once the host opens the gate, one behind
// the other, however slowly they were queued. Not a benchmark; it runs in front of the timed part.
//
// `words[0]` is the gate, in memory of the host: the kernel waits until the number of the hold, `ticket`,
// stands there. `words[1]` gets the ticket of a hold that was given up after `limit` nanoseconds: a host that
// is held up by the very queue that waits here must not wait for ever.
//
// Dead code: the gate is read through a volatile pointer, so that every look goes to the host's memory.

extern "C" __global__ void hold_stream(volatile unsigned int* words, unsigned int ticket,
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
