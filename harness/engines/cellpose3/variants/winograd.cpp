// 3 × 3 convolution by Winograd's F(4 × 4, 3 × 3), with all that surrounds it in a pre-activated network in one pass:
//
//     out = convolution(relu(scale · (x + y) + shift)) + bias + residual
//
// A tile of 4 × 4 outputs needs 6 × 6 inputs. Input and weights are turned into their values at 36 points, where the
// convolution is a product per point: 36 multiplications a channel pair instead of 144. Points are 0, ±1/√2, ±√2 and ∞
// in each direction, whose rounding is the least for tiles of this size (Barabasz et al. 2020, ACM TOMS 46(4)).
// Tensors have channels last; channels are whole vectors. What one thread works on stays in its second-level cache.

#include <atomic>
#include <cstdint>
#include <cstdlib>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 14;  // of the product's block: 2 × 14 sums, 2 columns and a factor in 32 registers
#elif defined(__AVX2__)
constexpr int LANES = 8, ROWS = 6;  // 2 × 6 sums in 16 registers
#elif defined(__aarch64__)
constexpr int LANES = 4, ROWS = 12;
#else
constexpr int LANES = 4, ROWS = 6;
#endif
constexpr int COLUMNS = 2 * LANES;  // output channels of a block
constexpr int POINTS = 36, TILES = 28;  // tiles that a thread takes at a time

typedef float V __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float Aligned __attribute__((vector_size(4 * LANES), may_alias));

constexpr float A2 = 0.5f, B2 = 2.0f, A = 0.70710678118654752f, B = 1.41421356237309505f;  // A² B² = 1

inline V load(const float* at) { return *reinterpret_cast<const V*>(at); }
inline void store(float* at, V value) { *reinterpret_cast<V*>(at) = value; }

// A polynomial's six coefficients → its values at the points, as the transform of the input wants them.
inline void to_points(const Aligned d[6], Aligned r[6]) {
    const Aligned even_a = d[4] - B2 * d[2], odd_a = A * (d[3] - B2 * d[1]);
    const Aligned even_b = d[4] - A2 * d[2], odd_b = B * (d[3] - A2 * d[1]);
    r[0] = d[0] - (A2 + B2) * d[2] + d[4];
    r[1] = even_a + odd_a;
    r[2] = even_a - odd_a;
    r[3] = even_b + odd_b;
    r[4] = even_b - odd_b;
    r[5] = d[1] - (A2 + B2) * d[3] + d[5];
}

// Values at the six points → four outputs.
inline void from_points(const Aligned m[6], Aligned r[4]) {
    const Aligned sum_a = m[1] + m[2], difference_a = A * (m[1] - m[2]);
    const Aligned sum_b = m[3] + m[4], difference_b = B * (m[3] - m[4]);
    r[0] = m[0] + sum_a + sum_b;
    r[1] = difference_a + difference_b;
    r[2] = A2 * sum_a + B2 * sum_b;
    r[3] = A2 * difference_a + B2 * difference_b + m[5];
}

// rows × COLUMNS sums of products: values (rows, depth) · weights (depth, COLUMNS).
template <int rows>
inline void multiply(const float* values, const float* weights, float* sums, int depth) {
    Aligned left[rows] = {}, right[rows] = {};
    for (int k = 0; k < depth; ++k, weights += COLUMNS) {
        const Aligned w0 = load(weights), w1 = load(weights + LANES);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
            const float value = values[i * depth + k];
            left[i] += value * w0;
            right[i] += value * w1;
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
        store(sums + i * COLUMNS, left[i]);
        store(sums + i * COLUMNS + LANES, right[i]);
    }
}

float* scratch(int64_t n) {
    static thread_local float* memory = nullptr;
    static thread_local int64_t size = 0;
    if (n > size) {
        std::free(memory);
        memory = static_cast<float*>(std::aligned_alloc(64, (n * 4 + 63) / 64 * 64));
        size = memory ? n : 0;
    }
    return memory;
}

}  // namespace

struct Layer {
    const float *x, *y;          // (n, height >> x_shift, width >> x_shift, n_in); (n, height, width, n_in) or null
    const float *scale, *shift;  // (n_in); (n, n_in)
    const float *weights, *bias; // (n_out / COLUMNS, 36, n_in, COLUMNS); (n_out)
    const float* residual;       // (n, height >> residual_shift, width >> residual_shift, n_out) or null
    float* out;                  // (n, height, width, n_out)
    int64_t n, height, width, n_in, n_out, x_shift, residual_shift;
};

namespace {

// Where a pixel stands in a tensor (n, height >> shift, width >> shift, channels), in pixels.
inline int64_t at(const Layer& l, int64_t sample, int64_t row, int64_t column, int64_t shift) {
    return (sample * (l.height >> shift) + (row >> shift)) * (l.width >> shift) + (column >> shift);
}

}  // namespace

extern "C" int columns() { return COLUMNS; }

// Take blocks of tiles until none is left; next counts them for all threads. Returns 1 where there is no memory.
extern "C" int convolve(const Layer* given, std::atomic<int64_t>* next) {
    const Layer l = *given;
    const int64_t down = (l.height + 3) / 4, across = (l.width + 3) / 4, n_tiles = l.n * down * across;
    float* const values = scratch(POINTS * TILES * (l.n_in + COLUMNS));  // (36, TILES, n_in), then (36, TILES, COLUMNS)
    if (!values) return 1;
    float* const sums = values + POINTS * TILES * l.n_in;
    const Aligned zero = {};
    for (int64_t first; (first = TILES * next->fetch_add(1)) < n_tiles;) {
        const int n_here = n_tiles - first < TILES ? n_tiles - first : TILES;
        for (int t = 0; t < n_here; ++t) {
            const int64_t sample = (first + t) / (down * across), within = (first + t) % (down * across);
            const int64_t top = 4 * (within / across) - 1, left = 4 * (within % across) - 1;
            const float *x_at[POINTS], *y_at[POINTS];
            for (int64_t i = 0; i < 6; ++i)
                for (int64_t j = 0; j < 6; ++j) {
                    const int64_t row = top + i, column = left + j;
                    const bool is_inside = row >= 0 && row < l.height && column >= 0 && column < l.width;
                    x_at[6 * i + j] = is_inside ? l.x + at(l, sample, row, column, l.x_shift) * l.n_in : nullptr;
                    y_at[6 * i + j] = is_inside && l.y ? l.y + at(l, sample, row, column, 0) * l.n_in : nullptr;
                }
            const float* const shift = l.shift + sample * l.n_in;
            for (int64_t c = 0; c < l.n_in; c += LANES) {
                const Aligned scale_c = load(l.scale + c), shift_c = load(shift + c);
                Aligned rows[6][6];
                for (int i = 0; i < 6; ++i) {
                    Aligned pixels[6];
                    for (int j = 0; j < 6; ++j) {
                        pixels[j] = zero;
                        if (!x_at[6 * i + j]) continue;
                        Aligned v = load(x_at[6 * i + j] + c);
                        if (l.y) v += load(y_at[6 * i + j] + c);
                        v = v * scale_c + shift_c;
                        pixels[j] = v > zero ? v : zero;
                    }
                    to_points(pixels, rows[i]);
                }
                for (int j = 0; j < 6; ++j) {
                    Aligned column[6], points[6];
                    for (int i = 0; i < 6; ++i) column[i] = rows[i][j];
                    to_points(column, points);
                    for (int i = 0; i < 6; ++i) store(values + ((i * 6 + j) * TILES + t) * l.n_in + c, points[i]);
                }
            }
        }
        for (int64_t block = 0; block < l.n_out; block += COLUMNS) {
            for (int p = 0; p < POINTS; ++p) {
                const float* const weights = l.weights + (block / COLUMNS * POINTS + p) * l.n_in * COLUMNS;
                const float* const from = values + p * TILES * l.n_in;
                float* const to = sums + p * TILES * COLUMNS;
                int t = 0;
                for (; t + ROWS <= n_here; t += ROWS)
                    multiply<ROWS>(from + t * l.n_in, weights, to + t * COLUMNS, l.n_in);
                for (; t + 4 <= n_here; t += 4) multiply<4>(from + t * l.n_in, weights, to + t * COLUMNS, l.n_in);
                for (; t < n_here; ++t) multiply<1>(from + t * l.n_in, weights, to + t * COLUMNS, l.n_in);
            }
            for (int t = 0; t < n_here; ++t) {
                const int64_t sample = (first + t) / (down * across), within = (first + t) % (down * across);
                const int64_t top = 4 * (within / across), left = 4 * (within % across);
                for (int64_t c = 0; c < COLUMNS; c += LANES) {
                    Aligned columns[4][6];
                    for (int j = 0; j < 6; ++j) {
                        Aligned points[6], outputs[4];
                        for (int i = 0; i < 6; ++i) points[i] = load(sums + ((i * 6 + j) * TILES + t) * COLUMNS + c);
                        from_points(points, outputs);
                        for (int i = 0; i < 4; ++i) columns[i][j] = outputs[i];
                    }
                    const Aligned bias = load(l.bias + block + c);
                    for (int i = 0; i < 4 && top + i < l.height; ++i) {
                        Aligned outputs[4];
                        from_points(columns[i], outputs);
                        for (int j = 0; j < 4 && left + j < l.width; ++j) {
                            const int64_t row = top + i, column = left + j;
                            Aligned v = outputs[j] + bias;
                            if (l.residual)
                                v += load(l.residual + at(l, sample, row, column, l.residual_shift) * l.n_out + block + c);
                            store(l.out + at(l, sample, row, column, 0) * l.n_out + block + c, v);
                        }
                    }
                }
            }
        }
    }
    return 0;
}
