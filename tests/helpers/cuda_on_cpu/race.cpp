// Every kernel with its blocks shared between two host threads, for ThreadSanitizer; the kernels' text
// and cuda_on_cpu.h stand before this one.
#include <thread>
#include <vector>

template <class Kernel> static void race(dim3 grid, Kernel kernel)
{
    auto half = [&](unsigned first) { launch(grid, {1, 1, 1}, kernel, first, 2); };
    std::thread even(half, 0), odd(half, 1);
    even.join();
    odd.join();
}

int main()
{
    const i32 nx = 3, ny = 2, nt = 8, n_cells = nx * ny;
    const u64 n = 2000, pitch = nt;
    const View view = {nx, 0, 0, nx, ny, 1000, nt, 0, 100};
    std::vector<i32> tick(n), cell(n);
    std::vector<u16> pi(n, 50);
    std::vector<u8> camera(n), chosen(64, 1), kind(pitch, 0);
    std::vector<i8> good(pitch, 0);
    u32 state = 1;
    auto below = [&](u32 end) { return (state = state * 1664525u + 1013904223u, state >> 16) % end; };
    for (u64 i = 0; i < n; i++) {   // at random, so that both threads meet in every voxel
        tick[i] = (i32)below(nt * 1000);
        cell[i] = (i32)below(n_cells);
        camera[i] = (u8)below(3);
    }
    alignas(16) static u32 cube[64];
    std::vector<u64> totals(2), wanted(n_cells * nt);
    std::vector<u32> sums(256);
    for (u64 k = 0; k < wanted.size(); k++) wanted[k] = k;
    race({64, 1, 1}, [&] {
        bin_events(tick.data(), cell.data(), pi.data(), n, &view, 0, nt, pitch, cube, totals.data());
    });
    race({64, 1, 1}, [&] { sum_images(tick.data(), cell.data(), pi.data(), n, &view, good.data(), sums.data()); });
    race({64, 1, 1}, [&] { sum_rate(tick.data(), cell.data(), pi.data(), n, &view, chosen.data(), sums.data()); });
    race({64, 1, 1}, [&] {
        sum_by_camera(tick.data(), cell.data(), pi.data(), camera.data(), n, &view, wanted.data(),
                      wanted.size(), 3, sums.data());
    });
    // everything is an eclipse: every voxel is appended
    std::vector<double> ones(64, 1.0), peak(n, 0.0), eclipse(n, 0.5), hit_mu(64);
    std::vector<u32> reachable(2, 0x01010101), hit_n(64);
    std::vector<u64> hit_voxel(64);
    std::vector<u8> hit_eclipse(64);
    u64 n_hits = 0;
    race({2, 2, 1}, [&] {
        flag_voxels((const uint4*)cube, pitch / 4, nt / 4, n_cells, reachable.data(), ones.data(), ones.data(),
                    ones.data(), ones.data(), kind.data(), peak.data(), eclipse.data(), 1e-7, 2, 0, nt,
                    hit_voxel.data(), hit_mu.data(), hit_n.data(), hit_eclipse.data(), 64, &n_hits);
    });
    // windows: two chunks of photons on 3 x 2 cells; whatever has two counts passes
    const Cells cells = {0, 0, ny, nx, 0, 3};
    std::vector<i16> y(n), x(n);
    std::vector<u32> table(2 * n_cells), n_cell(n_cells), offsets(n_cells + 1), window_n(64);
    std::vector<i32> sorted_cell(n), sorted_bin(n), window(3 * 64);
    for (u64 i = 0; i < n; i++) {
        y[i] = (i16)below(CELL * ny);
        x[i] = (i16)below(CELL * nx);
        tick[i] = (i32)(i * nt / n);
    }
    race({64, 1, 1}, [&] { count_photons(y.data(), x.data(), camera.data(), n, &cells, n / 2, table.data()); });
    race({64, 1, 1}, [&] { add_chunks(table.data(), 2, n_cells, n_cell.data()); });
    for (i32 c = 0; c < n_cells; c++) offsets[c + 1] = offsets[c] + n_cell[c];
    race({64, 1, 1}, [&] {
        sort_photons(y.data(), x.data(), camera.data(), tick.data(), n, &cells, n / 2, 2, table.data(), offsets.data(),
                     sorted_cell.data(), sorted_bin.data());
    });
    std::vector<double> curve(nt + 1);
    for (i32 t = 0; t <= nt; t++) curve[t] = t;
    u64 n_windows = 0;
    race({64, 1, 1}, [&] {
        pass_windows(sorted_cell.data(), sorted_bin.data(), n, offsets.data(), ones.data(), curve.data(), 1,
                     ones.data(), ones.data(), peak.data(), 1, 3, nt, &window[0], &window[64], &window[128],
                     window_n.data(), hit_mu.data(), 64, &n_windows);
    });
    const u64 expected_windows = n_cells * (7 + 3 + 1);
    return n_hits == n_cells * nt && totals[0] == n && offsets[n_cells] == n && n_windows == expected_windows ? 0 : 1;
}
