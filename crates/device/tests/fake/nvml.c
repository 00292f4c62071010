// Enough of NVML for one fake T4, by nvml.h. What it lacks, nvml-wrapper reports call by call.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK 0
#define NOT_SUPPORTED 3
#define NO_PERMISSION 4
#define NOT_FOUND 6

typedef struct { unsigned int pid; unsigned long long memory; unsigned int gpu, compute; } process;
typedef struct {
    unsigned int id, scope;
    long long timestamp, latency;
    int type, answer;
    union { double d; unsigned int u; unsigned long long l; } value;
} field;

static unsigned long long energy_mj = 1000000;

int nvmlInit_v2(void) { return OK; }
int nvmlShutdown(void) { return OK; }
int nvmlSystemGetDriverVersion(char *text, unsigned n) { strncpy(text, "580.65.06", n); return OK; }
int nvmlSystemGetNVMLVersion(char *text, unsigned n) { strncpy(text, "13.580.65.06", n); return OK; }

int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **card) {
    // The card sits where the fake driver says; at any other place there is none.
    *card = (void *)0x7;
    return strcmp(id, "0000:3b:00.0") ? NOT_FOUND : OK;
}

int nvmlDeviceGetEnforcedPowerLimit(void *c, unsigned *mw) { *mw = 60000; return OK; }
int nvmlDeviceGetPowerManagementDefaultLimit(void *c, unsigned *mw) { *mw = 70000; return OK; }
int nvmlDeviceGetCurrPcieLinkGeneration(void *c, unsigned *v) { *v = 1; return OK; }
int nvmlDeviceGetCurrPcieLinkWidth(void *c, unsigned *v) { *v = 8; return OK; }
int nvmlDeviceGetMaxPcieLinkGeneration(void *c, unsigned *v) { *v = 3; return OK; }
int nvmlDeviceGetMaxPcieLinkWidth(void *c, unsigned *v) { *v = 16; return OK; }
int nvmlDeviceGetMigMode(void *c, unsigned *now, unsigned *next) { return NOT_SUPPORTED; }
int nvmlDeviceGetPersistenceMode(void *c, int *on) { *on = 0; return OK; }
int nvmlDeviceGetMaxClockInfo(void *c, int which, unsigned *mhz) { *mhz = 5001; return OK; }
int nvmlDeviceGetClockInfo(void *c, int which, unsigned *mhz) {
    *mhz = which == 1 ? 1590 : 5001;
    return OK;
}
int nvmlDeviceGetTemperature(void *c, int sensor, unsigned *t) { *t = 41; return OK; }
int nvmlDeviceGetUtilizationRates(void *c, unsigned *rates) { return NO_PERMISSION; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *c, unsigned long long *bits) {
    *bits = 0x4; // software power cap
    return OK;
}
int nvmlDeviceGetTotalEnergyConsumption(void *c, unsigned long long *mj) {
    *mj = energy_mj += 5000;
    return OK;
}
int nvmlDeviceGetPowerUsage(void *c, unsigned *mw) { *mw = 25000; return OK; }
int nvmlDeviceGetFieldValues(void *c, int n, field *fields) {
    for (int i = 0; i < n; i++) {
        fields[i].answer = getenv("FAKE_NO_INSTANT") ? NOT_SUPPORTED : OK;
        fields[i].type = 1; // unsigned int
        fields[i].value.u = 31000;
    }
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *c, unsigned *count, process *list) {
    // Two of them; one is this very process, which is no other.
    if (*count < 2 || !list) {
        *count = 2;
        return 7; // insufficient size
    }
    memset(list, 0, 2 * sizeof *list);
    list[0].pid = (unsigned)getpid();
    list[1].pid = 4000000000u;
    *count = 2;
    return OK;
}
