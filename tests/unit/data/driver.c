// A CUDA driver that computes on the processor: what selfcheck/gpu/kernel.py calls, and no more.
// Signatures are cuda.h's, so that a wrong argument shows.
#include <stdlib.h>
#include <string.h>

static int ready, retained;

int cuInit(unsigned flags) { ready = flags == 0; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ready ? 0 : 3; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    *value = attribute == 75 ? 8 : attribute == 76 ? 6 : -1;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    retained++;
    *context = &retained;
    return device == 0 ? 0 : 101;
}
int cuDevicePrimaryCtxRelease_v2(int device) { retained--; return device == 0 ? 0 : 101; }
int cuCtxSetCurrent(void *context) { return context == &retained ? 0 : 201; }
int cuModuleLoadData(void **module, const void *image) {
    *module = strdup(image);
    return strncmp(image, "cubin for sm_86", 15) ? 209 : 0;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = module;
    return strcmp(name, "add") ? 500 : 0;
}
int cuModuleUnload(void *module) { free(module); return 0; }
int cuMemAlloc_v2(unsigned long long *place, size_t size) {
    *place = (unsigned long long)malloc(size);
    return 0;
}
int cuMemFree_v2(unsigned long long place) { free((void *)place); return 0; }
int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t size) {
    memcpy((void *)to, from, size);
    return 0;
}
int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t size) {
    memcpy(to, (void *)from, size);
    return 0;
}
int cuCtxSynchronize(void) { return 0; }
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **given, void **extra) {
    float a = *(float *)given[0], *x = *(float **)given[1], *y = *(float **)given[2];
    float *z = *(float **)given[3];
    int count = *(int *)given[4];
    if (!function || gy * gz * by * bz != 1 || shared || stream || extra) return 1;
    for (unsigned at = 0; at < gx * bx; at++)
        if ((int)at < count) z[at] = a * x[at] + y[at];
    return 0;
}
