// The convolutions of a pre-activated network, 3 × 3 and 1 × 1, with all that surrounds them in the same pass:
//
//     out = convolution(relu(scale · (x + y) + shift)) + bias + residual
//
// 3 × 3 by Winograd's F(4 × 4, 3 × 3): a tile of 4 × 4 outputs needs 6 × 6 inputs. Input and weights are turned into
// their values at 36 points, where the convolution is a product per point: 36 multiplications a channel pair instead of
// 144. Points are 0, ±1/√2, ±√2 and ∞ in each direction, whose rounding is the least for tiles of this size (Barabasz et
// al. 2020, ACM TOMS 46(4)). Tensors have channels last; channels are whole vectors. What one thread works on stays in
// its second-level cache.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <thread>

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

// rows × COLUMNS sums of products: values (rows, stride), the first depth of each · weights (depth, COLUMNS).
template <int rows>
inline void multiply_rows(const float* values, int64_t stride, const float* weights, float* sums, int depth) {
    Aligned left[rows] = {}, right[rows] = {};
    for (int k = 0; k < depth; ++k, weights += COLUMNS) {
        const Aligned w0 = load(weights), w1 = load(weights + LANES);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
            const float value = values[i * stride + k];
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

// The same for any number of rows.
inline void multiply(int n, const float* values, int64_t stride, const float* weights, float* sums, int depth) {
    int i = 0;
    for (; i + ROWS <= n; i += ROWS) multiply_rows<ROWS>(values + i * stride, stride, weights, sums + i * COLUMNS, depth);
    for (; i + 4 <= n; i += 4) multiply_rows<4>(values + i * stride, stride, weights, sums + i * COLUMNS, depth);
    for (; i < n; ++i) multiply_rows<1>(values + i * stride, stride, weights, sums + i * COLUMNS, depth);
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
    const float *x, *y;           // (n, height >> x_shift, width >> x_shift, n_in); (n, height, width, n_in) or null
    const float *scale, *shift;   // (n_in); (n, n_in); null where there is neither norm nor ReLU, for 1 × 1 only
    const float *weights, *bias;  // (n_out / COLUMNS, 36 or 1, depth, COLUMNS), padded with 0; (n_out)
    const float* residual;        // (n, height >> residual_shift, width >> residual_shift, n_out) or null
    float *out, *pooled;          // (n, height, width, n_out); the largest of each 2 × 2 of them, or null
    int64_t n, height, width, n_in, depth, n_out, x_shift, residual_shift, side;  // depth: channels with weights
};

struct Network {
    const Layer* layers;
    int64_t n_layers;
};

namespace {

constexpr int PIXELS = 16 * TILES;  // that a thread takes at a time, of a 1 × 1 convolution

// Where a pixel stands in a tensor (n, height >> shift, width >> shift, channels), in pixels.
inline int64_t at(const Layer& l, int64_t sample, int64_t row, int64_t column, int64_t shift) {
    return (sample * (l.height >> shift) + (row >> shift)) * (l.width >> shift) + (column >> shift);
}

inline Aligned activated(Aligned v, Aligned scale, Aligned shift) {
    const Aligned zero = {};
    v = v * scale + shift;
    return v > zero ? v : zero;
}

int64_t n_blocks(const Layer& l) {
    if (l.side == 1) return (l.n * l.height * l.width + PIXELS - 1) / PIXELS;
    return (l.n * ((l.height + 3) / 4) * ((l.width + 3) / 4) + TILES - 1) / TILES;
}

// Memory for one block, in floats: values, then sums.
int64_t n_scratch(const Layer& l) {
    return (l.side == 1 ? PIXELS : POINTS * TILES) * (l.n_in + COLUMNS);
}

// A block of pixels of a 1 × 1 convolution.
void convolve_pixels(const Layer& l, int64_t index, float* values) {
    float* const sums = values + PIXELS * l.n_in;
    const int64_t first = index * PIXELS, left = l.n * l.height * l.width - first;
    const int n_here = left < PIXELS ? left : PIXELS;
    const float* from = l.x + first * l.n_in;
    if (l.scale) {
        for (int64_t i = 0; i < n_here; ++i)
            for (int64_t c = 0; c < l.n_in; c += LANES) {
                const float* const shift = l.shift + (first + i) / (l.height * l.width) * l.n_in;
                store(values + i * l.n_in + c, activated(load(from + i * l.n_in + c), load(l.scale + c), load(shift + c)));
            }
        from = values;
    }
    for (int64_t block = 0; block < l.n_out; block += COLUMNS) {
        const int n_columns = l.n_out - block < COLUMNS ? l.n_out - block : COLUMNS;
        multiply(n_here, from, l.n_in, l.weights + block * l.depth, sums, l.depth);
        for (int i = 0; i < n_here; ++i) {
            float* const to = l.out + (first + i) * l.n_out + block;
            for (int c = 0; c < n_columns; ++c) to[c] = sums[i * COLUMNS + c] + l.bias[block + c];
        }
    }
}

// A block of tiles of a 3 × 3 convolution.
void convolve_tiles(const Layer& l, int64_t index, float* values) {  // (36, TILES, n_in), then (36, TILES, COLUMNS)
    const int64_t down = (l.height + 3) / 4, across = (l.width + 3) / 4, n_tiles = l.n * down * across;
    float* const sums = values + POINTS * TILES * l.n_in;
    const Aligned zero = {};
    const int64_t first = index * TILES;
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
                    pixels[j] = activated(v, scale_c, shift_c);
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
            const float* const weights = l.weights + (block / COLUMNS * POINTS + p) * l.depth * COLUMNS;
            multiply(n_here, values + p * TILES * l.n_in, l.n_in, weights, sums + p * TILES * COLUMNS, l.depth);
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
                Aligned largest[2];
                for (int i = 0; i < 4 && top + i < l.height; ++i) {
                    Aligned outputs[4];
                    from_points(columns[i], outputs);
                    for (int j = 0; j < 4 && left + j < l.width; ++j) {
                        const int64_t row = top + i, column = left + j;
                        Aligned v = outputs[j] + bias;
                        if (l.residual)
                            v += load(l.residual + at(l, sample, row, column, l.residual_shift) * l.n_out + block + c);
                        store(l.out + at(l, sample, row, column, 0) * l.n_out + block + c, v);
                        if (!l.pooled) continue;
                        Aligned& most = largest[j / 2];
                        most = (i % 2 || j % 2) && most > v ? most : v;
                        if (i % 2 && j % 2) store(l.pooled + at(l, sample, row, column, 1) * l.n_out + block + c, most);
                    }
                }
            }
        }
    }
}

}  // namespace

extern "C" int columns() { return COLUMNS; }
extern "C" int lanes() { return LANES; }
extern "C" int pixels() { return PIXELS; }  // that a thread takes at a time

// Perform the layers one after another, together with the other threads that call this; a layer begins when all blocks
// of the one before are done. counters: (n_layers, 2), blocks begun and blocks done, at first 0. Returns 1 where this
// thread has no memory; the others then do its part.
extern "C" int run(const Network* network, std::atomic<int64_t>* counters) {
    int64_t n_floats = 0;
    for (int64_t i = 0; i < network->n_layers; ++i) {
        const int64_t n = n_scratch(network->layers[i]);
        n_floats = n > n_floats ? n : n_floats;
    }
    float* const memory = scratch(n_floats);
    if (!memory) return 1;
    for (int64_t i = 0; i < network->n_layers; ++i) {
        const Layer& layer = network->layers[i];
        std::atomic<int64_t>&begun = counters[2 * i], &done = counters[2 * i + 1];
        const int64_t n = n_blocks(layer);
        for (int64_t block; (block = begun.fetch_add(1)) < n; done.fetch_add(1))
            (layer.side == 1 ? convolve_pixels : convolve_tiles)(layer, block, memory);
        while (done.load() < n) std::this_thread::yield();
    }
    return 0;
}
