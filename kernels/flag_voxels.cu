// Cube of counts -> flagged voxels, compacted.
#include "voxel.cuh"

#define CELLS 4   // cells a thread has in flight: four loads of 16 bytes; `reachable` packs as many in a word

// A thread owns four consecutive frames (a quad) and strides over groups of CELLS cells; blockIdx.x
// counts quads and blockIdx.y groups. Most voxels cost a load and a compare: a peak needs n_least
// counts, and an eclipse a cell whose largest expectation is beyond some limit (byte of `reachable`).
//
// cube[cell * quads_pitch + quad] holds the frames t_from + 4 * quad + 0..3; rate, live and kind begin
// at t_from and are 0 past the last frame, so that mu is 0 there and nothing is flagged.
// background and source are (2, n_cells): the templates of good and of bad frames.
// hit_*[slot] takes the flagged voxels in any order; *n_hits counts all, only `capacity` are stored.
extern "C" __global__ void __launch_bounds__(128, 8) flag_voxels(
    const uint4* __restrict__ cube, u64 quads_pitch, i32 n_quads, i32 n_cells, const u32* __restrict__ reachable,
    const double* __restrict__ background, const double* __restrict__ source,
    const double* __restrict__ rate, const double* __restrict__ live, const u8* __restrict__ kind,
    const double* __restrict__ mu_peak, const double* __restrict__ mu_eclipse, double mu_min, u32 n_least,
    i32 t_from, i32 nt, u64* hit_voxel, double* hit_mu, u32* hit_n, u8* hit_eclipse, u64 capacity, u64* n_hits)
{
    const i32 quad = (i32)(blockIdx.x * blockDim.x + threadIdx.x);
    if (quad >= n_quads) return;
    double my_rate[4], my_live[4];
    u32 bad = 0;   // bit k: frame k has a high background
#pragma unroll
    for (i32 k = 0; k < 4; k++) {
        my_rate[k] = rate[4 * quad + k];
        my_live[k] = live[4 * quad + k];
        bad |= (u32)(kind[4 * quad + k] != 0) << k;
    }
    const i32 stride = (i32)gridDim.y * CELLS;
    for (i32 group = (i32)blockIdx.y * CELLS; group < n_cells; group += stride) {
        const i32 n_group = n_cells - group < CELLS ? n_cells - group : CELLS;
        uint4 counts[CELLS];
#pragma unroll
        for (i32 c = 0; c < CELLS; c++) {
            const i32 cell = group + (c < n_group ? c : 0);   // past the end: load the first again, test nothing
            counts[c] = __ldcs(&cube[(u64)cell * quads_pitch + quad]);
        }
        const u32 reach = reachable[group / CELLS];
#pragma unroll
        for (i32 c = 0; c < CELLS; c++) {
            const u32 n[4] = {counts[c].x, counts[c].y, counts[c].z, counts[c].w};
            const bool eclipses = (reach >> (8 * c)) & 1u;
            const bool peaks = n[0] >= n_least || n[1] >= n_least || n[2] >= n_least || n[3] >= n_least;
            if (c >= n_group || !(peaks || eclipses)) continue;
            const i32 cell = group + c;
#pragma unroll
            for (i32 k = 0; k < 4; k++) {
                if (n[k] < n_least && !eclipses) continue;
                const i32 table = cell + ((bad >> k) & 1u ? n_cells : 0);
                const double mu = expected(background[table], my_rate[k], source[table], my_live[k]);
                const Verdict verdict = verdict_on(n[k], mu, mu_min, mu_peak, mu_eclipse);
                if (verdict == ORDINARY) continue;
                const u64 slot = atomicAdd(n_hits, 1ull);
                if (slot < capacity) {
                    hit_voxel[slot] = voxel_of(cell, t_from + 4 * quad + k, nt);
                    hit_mu[slot] = mu;
                    hit_n[slot] = n[k];
                    hit_eclipse[slot] = verdict == ECLIPSE;
                }
            }
        }
    }
}
