// Photons -> sums over frames or over cells, and counts by camera. The cube is not read: see README.md.
#include "voxel.cuh"

// images[k * ny * nx + cell] += photons in the frames with kind[frame] == k, for k of 0 and 1
extern "C" __global__ void sum_images(
    const i32* __restrict__ tick, const i32* __restrict__ cell, const u16* __restrict__ pi,
    u64 n_photons, const View* __restrict__ view_words, const i8* __restrict__ kind, u32* images)
{
    const View view = *view_words;
    for (u64 i = first_photon(); i < n_photons; i += photon_stride()) {
        const Place place = place_of(view, tick[i], cell[i], pi[i]);
        if (!place.inside) continue;
        const i8 k = kind[place.frame];
        if (k == 0 || k == 1) atomicAdd(&images[k * view.ny * view.nx + place.cell], 1u);
    }
}

// rate[frame] += photons in the cells with cells[cell] != 0
extern "C" __global__ void sum_rate(
    const i32* __restrict__ tick, const i32* __restrict__ cell, const u16* __restrict__ pi,
    u64 n_photons, const View* __restrict__ view_words, const u8* __restrict__ cells, u32* rate)
{
    const View view = *view_words;
    for (u64 i = first_photon(); i < n_photons; i += photon_stride()) {
        const Place place = place_of(view, tick[i], cell[i], pi[i]);
        if (place.inside && cells[place.cell]) atomicAdd(&rate[place.frame], 1u);
    }
}

// by_camera[n_cameras * k + camera] += photons in voxel wanted[k]; wanted rises strictly.
extern "C" __global__ void sum_by_camera(
    const i32* __restrict__ tick, const i32* __restrict__ cell, const u16* __restrict__ pi,
    const u8* __restrict__ camera, u64 n_photons, const View* __restrict__ view_words,
    const u64* __restrict__ wanted, u64 n_wanted, i32 n_cameras, u32* by_camera)
{
    const View view = *view_words;
    for (u64 i = first_photon(); i < n_photons; i += photon_stride()) {
        const Place place = place_of(view, tick[i], cell[i], pi[i]);
        if (!place.inside) continue;
        const u64 voxel = voxel_of(place.cell, place.frame, view.nt);
        u64 from = 0, to = n_wanted;   // the first wanted voxel that is not before this one
        while (from < to) {
            const u64 middle = from + (to - from) / 2;
            if (wanted[middle] < voxel) from = middle + 1;
            else to = middle;
        }
        if (from < n_wanted && wanted[from] == voxel) atomicAdd(&by_camera[n_cameras * from + camera[i]], 1u);
    }
}
