// Photons by time -> photons of a band by cell of a phase, and by time within a cell.
#include "voxel.cuh"

#define CELL 4   // side of a cell, fine pixels; as in xscan/windows.py

// A stable counting sort. Photons are cut into chunks of chunk_size in the order of time, and a table holds a count
// for each chunk and cell, table[chunk * n_cells + cell]: first the photons, then those of the chunks before.

// The cells of one phase and the narrow bands of one band; filled by the host as six int32 (windows.py).
struct Cells {
    i32 y0, x0;           // first fine pixel of the phase
    i32 ny, nx;           // cells
    i32 lo, hi;           // narrow bands, upper end excluded
};

// Cell of a photon, or -1. Fine pixels before the first are refused before the quotient, which C rounds towards zero.
__device__ inline i32 cell_of(const Cells& cells, i32 y, i32 x, i32 band)
{
    const i32 dy = y - cells.y0, dx = x - cells.x0, row = dy / CELL, column = dx / CELL;
    const bool inside = dy >= 0 && row < cells.ny && dx >= 0 && column < cells.nx && band >= cells.lo && band < cells.hi;
    return inside ? row * cells.nx + column : -1;
}

// table[chunk * n_cells + cell] += photons
extern "C" __global__ void count_photons(
    const i16* __restrict__ y, const i16* __restrict__ x, const u8* __restrict__ band, u64 n_photons,
    const Cells* __restrict__ cell_words, u64 chunk_size, u32* table)
{
    const Cells cells = *cell_words;
    const u64 n_cells = (u64)cells.ny * cells.nx;
    for (u64 i = first_photon(); i < n_photons; i += photon_stride()) {
        const i32 cell = cell_of(cells, y[i], x[i], band[i]);
        if (cell >= 0) atomicAdd(&table[i / chunk_size * n_cells + cell], 1u);
    }
}

// table[chunk, cell] = photons of the cell in the chunks before; n_cell[cell] = photons in all.
// One thread per cell, striding; rows of the table are loaded eight at a time, which do not wait for one another.
extern "C" __global__ void add_chunks(u32* table, u64 n_chunks, u64 n_cells, u32* __restrict__ n_cell)
{
    for (u64 cell = first_photon(); cell < n_cells; cell += photon_stride()) {
        u32 before = 0;
        for (u64 chunk = 0; chunk < n_chunks; chunk += 8) {
            u32 counts[8];
#pragma unroll
            for (i32 k = 0; k < 8; k++) counts[k] = chunk + k < n_chunks ? table[(chunk + k) * n_cells + cell] : 0;
#pragma unroll
            for (i32 k = 0; k < 8; k++) {
                if (chunk + k < n_chunks) table[(chunk + k) * n_cells + cell] = before;
                before += counts[k];
            }
        }
        n_cell[cell] = before;
    }
}

// One thread per chunk, striding, puts its photons in their places one after the other: so they stay in order of time.
// offsets[cell] is the place of the first photon of a cell.
extern "C" __global__ void sort_photons(
    const i16* __restrict__ y, const i16* __restrict__ x, const u8* __restrict__ band, const i32* __restrict__ bin,
    u64 n_photons, const Cells* __restrict__ cell_words, u64 chunk_size, u64 n_chunks, u32* table,
    const u32* __restrict__ offsets, i32* __restrict__ sorted_cell, i32* __restrict__ sorted_bin)
{
    const Cells cells = *cell_words;
    const u64 n_cells = (u64)cells.ny * cells.nx;
    for (u64 chunk = first_photon(); chunk < n_chunks; chunk += photon_stride()) {
        u32* const before = &table[chunk * n_cells];
        const u64 begin = chunk * chunk_size, end = begin + chunk_size < n_photons ? begin + chunk_size : n_photons;
        for (u64 i = begin; i < end; i++) {
            const i32 cell = cell_of(cells, y[i], x[i], band[i]);
            if (cell < 0) continue;
            const u32 place = offsets[cell] + before[cell]++;
            sorted_cell[place] = cell;
            sorted_bin[place] = bin[i];
        }
    }
}
