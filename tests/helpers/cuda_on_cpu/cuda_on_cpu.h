// The part of CUDA that the kernels use, for a plain C++17 compiler: a machine without a GPU runs the
// same source. Blocks and their threads run one after the other; there are no barriers and no shared
// memory, and a kernel that asks for them does not compile here.
#pragma once

#define __global__
#define __device__ static
#define __launch_bounds__(...)
#define __restrict__ __restrict

struct dim3 { unsigned x, y, z; };
static thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) uint4 { unsigned x, y, z, w; };

template <class T> static inline T __ldcs(const T* p) { return *p; }

// Rounded on their own because the build forbids contraction (-ffp-contract=off) and x86-64 and
// 64-bit Arm have no wider intermediate.
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }

template <class T> static inline T atomicAdd(T* p, T v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
template <class T> static inline T atomicMax(T* p, T v)
{
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (old < v && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}

// Runs the blocks first, first + step ... of a grid.
template <class Kernel> static void launch(dim3 grid, dim3 block, Kernel&& kernel, unsigned first = 0, unsigned step = 1)
{
    gridDim = grid;
    blockDim = block;
    for (unsigned k = first; k < grid.x * grid.y; k += step) {
        blockIdx = {k % grid.x, k / grid.x, 0};
        for (unsigned t = 0; t < block.x; t++) {
            threadIdx = {t, 0, 0};
            kernel();
        }
    }
}
