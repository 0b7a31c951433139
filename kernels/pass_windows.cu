// Photons by cell and time -> windows of cells with many counts, compacted.
#include "voxel.cuh"

// First of the photons `from` to `end` (excluded) whose bin is not before `bin`. Steps double until one is behind it:
// the work is the logarithm of the distance, which is short in most cells whatever `end` is.
__device__ inline u32 first_from(const i32* sorted_bin, u32 from, u32 end, i32 bin)
{
    u32 step = 1;
    while (end - from > step && sorted_bin[from + step - 1] < bin) {
        from += step;
        step *= 2;
    }
    u32 to = end - from > step ? from + step - 1 : end;   // the answer is `from` to `to`
    while (from < to) {
        const u32 middle = from + (to - from) / 2;
        if (sorted_bin[middle] < bin) from = middle + 1;
        else to = middle;
    }
    return from;
}

// A thread owns a photon, and strides. At each length 2 << level (half windows of 1 << level bins) the first photon of
// a half window looks at the window that begins with its half, and at the one that begins with the half before if no
// photon is in that; every other photon is done, for this length and all longer ones, whose halves are pairs of these.
//
// offsets[cell] .. offsets[cell + 1] are the photons of a cell; weights is (n_cells, n_components), curves is
// (nt + 1, n_components). hit_*[slot] takes the windows in any order; *n_hits counts all, only `capacity` are stored.
extern "C" __global__ void pass_windows(
    const i32* __restrict__ sorted_cell, const i32* __restrict__ sorted_bin, u64 n_photons,
    const u32* __restrict__ offsets, const double* __restrict__ weights, const double* __restrict__ curves,
    i32 n_components, const double* __restrict__ total, const double* __restrict__ a0,
    const double* __restrict__ mu_peak, u32 n_limits, i32 n_levels, i32 nt,
    i32* hit_cell, i32* hit_level, i32* hit_start, u32* hit_n, double* hit_mu, u64 capacity, u64* n_hits)
{
    for (u64 i = first_photon(); i < n_photons; i += photon_stride()) {
        const i32 cell = sorted_cell[i];
        const u32 begin = offsets[cell], end = offsets[cell + 1], mine = (u32)i;
        if (end - begin < 2) continue;
        const i32 bin = sorted_bin[mine];
        const bool is_first = mine == begin;
        const i32 bin_before = is_first ? 0 : sorted_bin[mine - 1];
        u32 next = 0;   // first photon behind this half window
        for (i32 level = 0; level < n_levels; level++) {
            const i32 half = bin >> level;
            const bool alone = is_first || (bin_before >> level) < half - 1;   // nobody in the half before
            if (!is_first && bin_before >> level == half) break;
            if (level == 0) next = first_from(sorted_bin, mine + 1, end, bin + 1);
            const u32 after_next = first_from(sorted_bin, next, end, (half + 2) << level);
            for (i32 back = alone && half > 0 ? 1 : 0; back >= 0; back--) {
                const i32 start = (half - back) << level, stop = start + (2 << level);
                const u32 n = (back ? next : after_next) - mine;
                if (n < 2 || stop > nt) continue;
                const bool limited = n < n_limits;
                const double limit = limited ? mu_peak[n] : 0.0;
                const double shape = __dadd_rn(a0[cell], (double)(end - begin - n));
                const double factor = __dadd_rn(shape, limit);
                const double most = __dmul_rn(limit, __dadd_rn(a0[cell], total[cell]));
                double mu = 0.0;
                bool passes = true;
                for (i32 q = 0; q < n_components && passes; q++) {   // mu only grows: see README.md
                    const double weight = weights[(u64)cell * n_components + q];
                    if (weight == 0.0) continue;   // adds 0, which changes nothing
                    const double in_window = __dsub_rn(
                        curves[(u64)stop * n_components + q], curves[(u64)start * n_components + q]);
                    mu = __dadd_rn(mu, __dmul_rn(weight, in_window));
                    passes = !limited || __dmul_rn(mu, factor) < most;
                }
                if (!passes || !(mu > 0.0)) continue;
                const u64 slot = atomicAdd(n_hits, 1ull);
                if (slot < capacity) {
                    hit_cell[slot] = cell;
                    hit_level[slot] = level;
                    hit_start[slot] = start;
                    hit_n[slot] = n;
                    hit_mu[slot] = mu;
                }
            }
            if (half % 2 == 0) next = after_next;   // the longer half ends with the next one of these
        }
    }
}
