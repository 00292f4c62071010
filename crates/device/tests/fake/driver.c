// Enough of a CUDA driver for one fake T4, by cuda.h; compiled by the tests, which generate what is
// missing here as functions that answer CUDA_ERROR_NOT_SUPPORTED.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

int cuInit(unsigned flags) { return number("FAKE_INIT", 0); }
int cuDriverGetVersion(int *version) { *version = number("FAKE_VERSION", 12080); return 0; }
int cuDeviceGetCount(int *count) { *count = number("FAKE_COUNT", 1); return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Tesla T4", length); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 15655829504ull; return 0; }
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) { memset(uuid, 0x5a, 16); return 0; }
int cuGetErrorString(int code, const char **text) { abort(); } // nobody may ask
int cuGetErrorName(int code, const char **text) { abort(); }

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 10: *value = 32; return 0;             // warp size
    case 13: *value = 1590000; return 0;        // SM clock, kHz
    case 16: *value = 40; return 0;             // SMs
    case 18: *value = 0; return 0;              // integrated
    case 32: *value = 1; return 0;              // ECC
    case 33: *value = 0x3b; return 0;           // PCI bus
    case 34: *value = 0; return 0;              // PCI device
    case 36: *value = number("FAKE_MEMORY_CLOCK", 5001000); return 0; // kHz
    case 37: *value = 256; return 0;            // bus width
    case 38: *value = 4194304; return 0;        // L2
    case 50: *value = 0; return 0;              // PCI domain
    case 75: *value = 7; return 0;
    case 76: *value = 5; return 0;
    case 81: *value = 65536; return 0;          // shared memory of an SM
    case 82: *value = 65536; return 0;          // registers of an SM
    case 97: return 4242;                       // shared memory of a block: a code nobody knows
    case 115: *value = 1; return 0;             // memory pools
    }
    return 1;
}

static void *current;
int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = (void *)0x11;
    return number("FAKE_RETAIN", 0);
}
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuCtxGetCurrent(void **context) { *context = current; return 0; }
int cuCtxSetCurrent(void *context) { current = context; return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { *free = 1000; *total = 2000; return 0; }

static uint64_t marks[16] = {[5] = 700, [7] = 300, [8] = 900};
int cuDeviceGetDefaultMemPool(void **pool, int device) { *pool = marks; return 0; }
int cuMemPoolGetAttribute(void *pool, int mark, void *value) {
    memcpy(value, &marks[mark & 15], 8);
    return 0;
}
int cuMemPoolSetAttribute(void *pool, int mark, void *value) {
    memcpy(&marks[mark & 15], value, 8);
    if (mark == 8) marks[8] = marks[7]; // resetting a high-water mark leaves what is in use
    return 0;
}
int cuMemPoolTrimTo(void *pool, size_t keep) { marks[5] = marks[7]; return 0; }

int cuDeviceGetGraphMemAttribute(int device, int mark, void *value) { memset(value, 0, 8); return 0; }
int cuDeviceSetGraphMemAttribute(int device, int mark, void *value) { return 0; }

int cuEventCreate(void **event, unsigned flags) {
    static int made;
    *event = (void *)(intptr_t)(0x20 + made++);
    return 0;
}
int cuEventDestroy_v2(void *event) { return 0; }
int cuEventElapsedTime(float *ms, void *start, void *end) {
    *ms = 1.5f * (float)((intptr_t)end - (intptr_t)start);
    return 0;
}
