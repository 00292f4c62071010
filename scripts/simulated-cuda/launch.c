/* A host function as nvcc would make it, of a kernel without arguments: registered when the program is
 * loaded, launched through the CUDA runtime, and whatever that answers is not looked at. */
#include <stddef.h>

typedef struct { unsigned x, y, z; } dim3;

void **__cudaRegisterFatBinary(const void *image);
void __cudaRegisterFatBinaryEnd(void **binary);
void __cudaUnregisterFatBinary(void **binary);
void __cudaRegisterFunction(void **binary, const void *host, char *device, const char *name, int limit,
                            void *thread, void *block, void *block_dim, void *grid_dim, int *warp);
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream);
unsigned __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void **stream);
unsigned cudaLaunchKernel_ptsz(const void *host, dim3 grid, dim3 block, void **arguments, size_t shared,
                               void *stream);

static void *register_kernel(const void *host, char *name) {
  void **binary = __cudaRegisterFatBinary("simulated");
  __cudaRegisterFunction(binary, host, name, name, -1, 0, 0, 0, 0, 0);
  __cudaRegisterFatBinaryEnd(binary);
  return binary;
}

static void launch(const void *host) {
  dim3 grid = {1, 1, 1}, block = {32, 1, 1};
  size_t shared = 0;
  void *stream = (void *)2; /* each thread's own, as candle's build asks for */
  if (__cudaPushCallConfiguration(grid, block, shared, stream)) return;
  if (__cudaPopCallConfiguration(&grid, &block, &shared, &stream)) return;
  cudaLaunchKernel_ptsz(host, grid, block, 0, shared, stream);
}

#define LAUNCHER(name)                                                                      \
  static void *binary_of_##name;                                                            \
  __attribute__((constructor)) static void begin_##name(void);                              \
  void name(void) { launch(&binary_of_##name); }                                            \
  static void begin_##name(void) { binary_of_##name = register_kernel(&binary_of_##name, #name); } \
  __attribute__((destructor)) static void end_##name(void) { __cudaUnregisterFatBinary(binary_of_##name); }

