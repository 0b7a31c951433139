// What a photon and a voxel are: the place of a photon, the expectation of a voxel, the verdict on it.
//
// No header of CUDA or of the C library is included, so that NVRTC needs no include path and a
// plain C++ compiler can take the same text.
#pragma once

typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;

// The view that is binned; filled by the host as nine int32 (CudaCounts._photons_of_view).
struct View {
    i32 width;            // cells in a row of the photons' own box
    i32 x0, y0;           // first column and row of the view's box, counted from the corner of the photons'
    i32 nx, ny;           // cells of the view's box
    i32 dt_ms, nt;        // length and number of frames
    i32 pi_from, pi_to;   // eV, upper end excluded
};

struct Place {
    bool inside;
    i32 cell;             // y * nx + x
    i32 frame;
};

// Where a photon of a cell of the photons' box falls in the view. A tick before the first frame is refused
// before the quotient is used: C rounds it towards zero, which would put ticks -1, -2 ... into frame 0.
__device__ inline Place place_of(const View& view, i32 tick, i32 cell, i32 pi)
{
    const i32 photons_row = cell / view.width, row = photons_row - view.y0;
    const i32 column = cell - photons_row * view.width - view.x0;
    const i32 frame = tick / view.dt_ms;
    const bool inside = tick >= 0 && frame < view.nt && pi >= view.pi_from && pi < view.pi_to
                        && column >= 0 && column < view.nx && row >= 0 && row < view.ny;
    return {inside, row * view.nx + column, frame};
}

// Number of a voxel in the order (y, x, t); 64 bits: a view may have more than 2^31 voxels.
__device__ inline u64 voxel_of(i32 cell, i32 frame, i32 nt) { return (u64)cell * nt + frame; }

// Expected counts. NumPy: background * rate + source * live; two products and a sum, each rounded.
__device__ inline double expected(double background, double rate, double source, double live)
{
    return __dadd_rn(__dmul_rn(background, rate), __dmul_rn(source, live));
}

// NumPy's rule for a voxel of n counts; both limits are strict, and an eclipse goes before a peak.
enum Verdict { ORDINARY, PEAK, ECLIPSE };
__device__ inline Verdict verdict_on(u32 n, double mu, double mu_min, const double* mu_peak, const double* mu_eclipse)
{
    if (!(mu > mu_min)) return ORDINARY;
    if (mu > mu_eclipse[n]) return ECLIPSE;
    return mu < mu_peak[n] ? PEAK : ORDINARY;
}

// First photon of a thread, and how far it is to its next one: any grid serves any number of photons.
__device__ inline u64 first_photon() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline u64 photon_stride() { return (u64)gridDim.x * blockDim.x; }
