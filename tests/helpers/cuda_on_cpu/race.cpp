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
    return n_hits == n_cells * nt && totals[0] == n ? 0 : 1;
}
