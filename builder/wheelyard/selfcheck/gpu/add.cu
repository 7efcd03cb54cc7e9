// z = a * x + y, a thread an element: what nvcc makes of it is loaded through the driver.
extern "C" __global__ void add(float a, const float *x, const float *y, float *z, int count) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at < count) z[at] = a * x[at] + y[at];
}
