// Photons -> cube of counts.
#include "voxel.cuh"

// One thread per photon, striding. cube[cell * pitch + frame - t_from] counts the frames
// t_from <= frame < t_to; totals[0] += photons counted, totals[1] = largest count of a voxel:
// the atomic that counts a photon returns what was there, so that the largest costs no pass of its own.
extern "C" __global__ void bin_events(
    const i32* __restrict__ tick, const i32* __restrict__ cell, const u16* __restrict__ pi,
    u64 n_photons, const View* __restrict__ view_words, i32 t_from, i32 t_to, u64 pitch, u32* cube, u64* totals)
{
    const View view = *view_words;
    u64 counted = 0, largest = 0;
    for (u64 i = first_photon(); i < n_photons; i += photon_stride()) {
        const Place place = place_of(view, tick[i], cell[i], pi[i]);
        if (!place.inside || place.frame < t_from || place.frame >= t_to) continue;
        const u64 voxel = (u64)place.cell * pitch + (place.frame - t_from);
        const u64 n = (u64)atomicAdd(&cube[voxel], 1u) + 1;
        counted += 1;
        largest = n > largest ? n : largest;
    }
    if (counted > 0) {
        atomicAdd(&totals[0], counted);
        atomicMax(&totals[1], largest);
    }
}
