// Joseph projection of a 16-bit volume with its exact 6-DoF pose Jacobian, one pass.
//
// Compiled on first use by native_kernel.py with the machine's own compiler; plain C interface, no
// headers but the standard library. The same arithmetic in torch is joseph_torch.py, which the tests
// hold it against.
//
// Eight neighbouring pixels of an image row are one vector. Per slice k each ray reads 2 x 2 voxels;
// two neighbours along the fast axis come in one 32-bit load. The volume lies in memory as
// [across][along][fast] with the rays running "along": a ray then stays in few pages. It carries two
// voxels of zeros on either side of "across" and "fast", so a clamped coordinate reads zeros and the
// inner loop has no branches.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace {

constexpr int kLanes = 8;
constexpr int kRowsPerTask = 8;  // neighbouring rows share voxels that are still in the cache
// Blocks of voxels that are known to be empty or not; the same sizes stand in native_kernel.py.
constexpr int kBlockAlong = 8, kBlockAcross = 4, kBlockFast = 8;
typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t IVec __attribute__((vector_size(4 * kLanes)));

inline Vec to_float(IVec x) { return __builtin_convertvector(x, Vec); }
inline IVec to_int(Vec x) { return __builtin_convertvector(x, IVec); }
inline Vec vmin(Vec a, Vec b) { return a < b ? a : b; }
inline Vec vmax(Vec a, Vec b) { return a > b ? a : b; }

inline IVec load_pairs(const int16_t* base, IVec index) {
  // Scalar loads: on the processors measured faster than the gather instruction.
  IVec pair;
  for (int l = 0; l < kLanes; ++l) {
    int32_t word;
    std::memcpy(&word, base + index[l], sizeof word);
    pair[l] = word;
  }
  return pair;
}
inline Vec low_half(IVec pair) { return to_float((pair << 16) >> 16); }
inline Vec high_half(IVec pair) { return to_float(pair >> 16); }

}  // namespace

extern "C" {

// All in the order (along, across, fast); see ray_geometry.py. Laid out as 35 floats.
struct Geometry {
  float source[3];
  float index_from_ray[9];
  float camera_from_gradient[9];
  float isocentre_camera[3];
  float ray_from_pixel[9];
  float mu_per_count;
  float centre_slice;  // moments are taken about it: less cancellation in float32
};

struct Volume {
  const int16_t* counts;
  int32_t along, across, fast;  // sizes, padding included
  // [block along][block across][block fast], one more than there are blocks in the last two: how
  // many of the blocks before this one, in both directions, have a voxel that is not 0. May be null:
  // then no block is taken for empty.
  const int32_t* filled;
};

}  // extern "C"

namespace {

// First and last slice in which any of the eight rays meets a voxel; first > last if none does.
inline void slice_range(const Volume& vol, Vec across0, Vec slope_across, Vec fast0, Vec slope_fast,
                        int& first, int& last) {
  float low = 1e30f, high = -1e30f;
  for (int l = 0; l < kLanes; ++l) {
    float a = 0.f, z = static_cast<float>(vol.along - 1);
    const auto clip = [&](float origin, float slope, int size) {
      const float inner_low = 1.f, inner_high = static_cast<float>(size - 2);
      if (std::fabs(slope) < 1e-9f) {
        if (origin < inner_low || origin > inner_high) z = -1.f;
        return;
      }
      float p = (inner_low - origin) / slope, q = (inner_high - origin) / slope;
      if (p > q) std::swap(p, q);
      a = std::max(a, p);
      z = std::min(z, q);
    };
    clip(across0[l], slope_across[l], vol.across);
    clip(fast0[l], slope_fast[l], vol.fast);
    if (a <= z) {
      low = std::min(low, a);
      high = std::max(high, z);
    }
  }
  first = low <= high ? static_cast<int>(std::ceil(low)) : 0;
  last = low <= high ? static_cast<int>(std::floor(high)) : -1;
}

// Of those that are numbers.
inline float smallest(Vec x) {
  float found = 1e30f;
  for (int l = 0; l < kLanes; ++l) found = std::min(found, x[l]);
  return found;
}

// First and last block that samples between two coordinates read from.
inline void block_range(Vec p, Vec q, int size, int block, int& first, int& last) {
  // the margin: a coordinate in the loop may round another way
  const float low = smallest(vmin(p, q)) - 0.01f, high = -smallest(-vmax(p, q)) + 1.01f;
  const float top = static_cast<float>(size - 1);
  first = static_cast<int>(std::min(std::max(low, 0.f), top)) / block;
  last = static_cast<int>(std::min(std::max(high, 0.f), top)) / block;
}

// Whether any of the eight rays may read a voxel that is not 0 in the slices begin to end, which are
// of one block.
inline bool may_meet(const Volume& vol, Vec across0, Vec slope_across, Vec fast0, Vec slope_fast,
                     int begin, int end) {
  const float b = static_cast<float>(begin), e = static_cast<float>(end);
  int a0, a1, f0, f1;
  block_range(across0 + b * slope_across, across0 + e * slope_across, vol.across, kBlockAcross, a0,
              a1);
  block_range(fast0 + b * slope_fast, fast0 + e * slope_fast, vol.fast, kBlockFast, f0, f1);
  const int columns = (vol.fast + kBlockFast - 1) / kBlockFast + 1;
  const int rows = (vol.across + kBlockAcross - 1) / kBlockAcross + 1;
  const int32_t* sums = vol.filled + static_cast<size_t>(begin / kBlockAlong) * rows * columns;
  const int32_t *above = sums + a0 * columns, *below = sums + (a1 + 1) * columns;
  return below[f1 + 1] - below[f0] - above[f1 + 1] + above[f0] > 0;
}

template <bool kJacobian>
void project_rows(const Volume& vol, const Geometry& g, int v_begin, int v_end, int width,
                  int height, float* image, float* jacobian) {
  const Vec zero = {};
  const Vec max_across = zero + (vol.across - 1.001f), max_fast = zero + (vol.fast - 1.001f);
  const IVec across_stride = IVec{} + vol.along * vol.fast;
  const size_t next_across = static_cast<size_t>(vol.along) * vol.fast;
  const float *D = g.index_from_ray, *R = g.camera_from_gradient, *c = g.isocentre_camera;
  const float* Ki = g.ray_from_pixel;

  for (int u_begin = 0; u_begin < width; u_begin += kLanes)
    for (int v = v_begin; v < v_end; ++v) {
      Vec u;
      for (int l = 0; l < kLanes; ++l) u[l] = static_cast<float>(u_begin + l);
      const Vec x = Ki[0] * u + (Ki[1] * v + Ki[2]), y = Ki[3] * u + (Ki[4] * v + Ki[5]);
      const Vec d_along = D[0] * x + D[1] * y + D[2];
      const Vec d_across = D[3] * x + D[4] * y + D[5];
      const Vec d_fast = D[6] * x + D[7] * y + D[8];
      const Vec inv = 1.f / d_along, slope_across = d_across * inv, slope_fast = d_fast * inv;
      const Vec across0 = g.source[1] - g.source[0] * slope_across;
      const Vec fast0 = g.source[2] - g.source[0] * slope_fast;

      int first, last;
      slice_range(vol, across0, slope_across, fast0, slope_fast, first, last);

      // sums over the slices: value, gradient across and fast, and their first moments
      Vec sum = zero, g_across = zero, g_fast = zero, m_across = zero, m_fast = zero;
      for (int begin = first, end; begin <= last; begin = end + 1) {
        end = last;
        if (vol.filled) {
          end = std::min(last, begin / kBlockAlong * kBlockAlong + kBlockAlong - 1);
          if (!may_meet(vol, across0, slope_across, fast0, slope_fast, begin, end)) continue;
        }
        for (int k = begin; k <= end; ++k) {
          const float kf = static_cast<float>(k);
          const Vec a = vmin(vmax(across0 + kf * slope_across, zero), max_across);
          const Vec f = vmin(vmax(fast0 + kf * slope_fast, zero), max_fast);
          const IVec ia = to_int(a), i_f = to_int(f);
          const Vec wa = a - to_float(ia), wf = f - to_float(i_f);
          const int16_t* slice = vol.counts + static_cast<size_t>(k) * vol.fast;
          const IVec index = ia * across_stride + i_f;
          const IVec pair0 = load_pairs(slice, index), pair1 = load_pairs(slice + next_across, index);
          const Vec v00 = low_half(pair0), v10 = low_half(pair1);
          const Vec d0 = high_half(pair0) - v00, d1 = high_half(pair1) - v10;
          const Vec row0 = v00 + wf * d0, row1 = v10 + wf * d1, da = row1 - row0;
          sum += row0 + wa * da;
          if (kJacobian) {
            const Vec df = d0 + wa * (d1 - d0);
            const float moment = kf - g.centre_slice;
            g_across += da;
            g_fast += df;
            m_across += moment * da;
            m_fast += moment * df;
          }
        }
      }

      Vec length;
      for (int l = 0; l < kLanes; ++l) length[l] = std::sqrt(x[l] * x[l] + y[l] * y[l] + 1.f);
      const Vec step = length * (inv < 0.f ? -inv : inv) * g.mu_per_count;
      sum *= step;
      const int lanes = std::min(kLanes, width - u_begin);
      const size_t pixel = static_cast<size_t>(v) * width + u_begin;
      std::memcpy(image + pixel, &sum, sizeof(float) * lanes);
      if (!kJacobian) continue;

      g_across *= step;
      g_fast *= step;
      // moments in depth z about the isocentre's: z(k) - c_z = (k - centre) / d + offset
      const Vec offset = (g.centre_slice - g.source[0]) * inv - c[2];
      m_across = m_across * step * inv + offset * g_across;
      m_fast = m_fast * step * inv + offset * g_fast;
      // The samples stay in their slices, so a shift along the rays acts through the slopes; the
      // last term is the derivative of the step length 1 / |d_along|.
      const Vec g_along = -(slope_across * g_across + slope_fast * g_fast);
      const Vec m_along = -(slope_across * m_across + slope_fast * m_fast) - sum * inv;
      const Vec gx = R[0] * g_along + R[1] * g_across + R[2] * g_fast;
      const Vec gy = R[3] * g_along + R[4] * g_across + R[5] * g_fast;
      const Vec gz = R[6] * g_along + R[7] * g_across + R[8] * g_fast;
      const Vec mx = R[0] * m_along + R[1] * m_across + R[2] * m_fast;
      const Vec my = R[3] * m_along + R[4] * m_across + R[5] * m_fast;
      const Vec mz = R[6] * m_along + R[7] * m_across + R[8] * m_fast;
      // p - isocentre = (z - c_z) (x, y, 1) + q with q = c_z (x, y, 1) - c;  dI/dw = -sum p' x grad
      const Vec qx = x * c[2] - c[0], qy = y * c[2] - c[1];
      const Vec columns[6] = {-gx,
                              -gy,
                              -gz,
                              -(qy * gz + y * mz - my),
                              qx * gz + x * mz - mx,
                              -(qx * gy - qy * gx + x * my - y * mx)};
      const size_t plane = static_cast<size_t>(height) * width;
      for (int q = 0; q < 6; ++q)
        std::memcpy(jacobian + q * plane + pixel, &columns[q], sizeof(float) * lanes);
    }
}

template <typename Work>
void call(void* work) {
  (*static_cast<Work*>(work))();
}

}  // namespace

// PyTorch's own pool of threads, where the process has loaded it (libgomp, found by name). Its idle
// threads wait at full speed for the next task: threads of our own would find no free core.
extern "C" __attribute__((weak)) void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned);

// `slots[b]` is the place of view b in the output images (.., H, W) and Jacobians (.., 6, H, W).
// `jacobian` may be null. Every pixel is computed by exactly one thread: the result does not depend
// on their number.
extern "C" void joseph_project(const Volume* volume, const Geometry* geometries,
                               const int32_t* slots, int32_t views, int32_t height, int32_t width,
                               float* image, float* jacobian, int32_t threads) {
  const int tasks_per_view = (height + kRowsPerTask - 1) / kRowsPerTask;
  const size_t plane = static_cast<size_t>(height) * width;
  std::atomic<int> next{0};
  auto work = [&] {
    for (int task; (task = next++) < views * tasks_per_view;) {
      const int view = task / tasks_per_view;
      const int begin = task % tasks_per_view * kRowsPerTask;
      const int end = std::min(begin + kRowsPerTask, height);
      float* out = image + slots[view] * plane;
      if (jacobian)
        project_rows<true>(*volume, geometries[view], begin, end, width, height, out,
                           jacobian + slots[view] * 6 * plane);
      else
        project_rows<false>(*volume, geometries[view], begin, end, width, height, out, nullptr);
    }
  };
  if (threads > 1 && GOMP_parallel) {
    GOMP_parallel(call<decltype(work)>, &work, threads, 0);
    return;
  }
  std::vector<std::thread> pool;
  for (int t = 1; t < threads; ++t) pool.emplace_back(work);
  work();
  for (auto& thread : pool) thread.join();
}
