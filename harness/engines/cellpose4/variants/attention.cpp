// Attention of a vision transformer over 32 × 32 tokens with decomposed relative positions, block by block:
//
//     out = softmax(scale · q kᵀ + q · rows[query row] + q · columns[query column]) v
//
// The scores of a few queries against all keys stay in the second-level cache, where the position terms are added: one
// number for each row of keys, and the same vector of 32 for every row. Sums are float32. Where the processor
// multiplies pairs of bfloat16 (AVX512-BF16), these are the products' factors; else bfloat16 is widened first.

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 14;  // of a product's block: 2 × 14 sums, 2 columns and a factor in 32 registers
#elif defined(__AVX2__)
constexpr int LANES = 8, ROWS = 6;  // 2 × 6 sums in 16 registers
#elif defined(__aarch64__)
constexpr int LANES = 4, ROWS = 12;
#else
constexpr int LANES = 4, ROWS = 6;
#endif
constexpr int COLUMNS = 2 * LANES;                      // of a product's block
constexpr int SIDE = 32, TOKENS = SIDE * SIDE, DIM = 64;  // of a tile, and of a head

typedef float V __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float Aligned __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t Whole __attribute__((vector_size(4 * LANES), may_alias));
typedef uint16_t Half __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

inline V load(const float* at) { return *reinterpret_cast<const V*>(at); }
inline void store(float* at, V value) { *reinterpret_cast<V*>(at) = value; }

inline float widened(uint16_t value) {
    const uint32_t bits = uint32_t(value) << 16;
    float wide;
    std::memcpy(&wide, &bits, 4);
    return wide;
}
inline float widened(float value) { return value; }

inline uint16_t narrowed(float value) {  // to the nearest, ties to even; there are no NaN
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline void put(float* at, float value) { *at = value; }
inline void put(uint16_t* at, float value) { *at = narrowed(value); }

// exp(x) for x ≤ 0, within two roundings.
inline Aligned exponential(Aligned x) {
    const Aligned least = Aligned{} - 87.0f;
    x = x < least ? least : x;
    const Aligned magic = Aligned{} + 12582912.0f;  // 1.5 · 2²³: adding it rounds to a whole number
    const Aligned n = (x * 1.44269504f + magic) - magic;
    const Aligned r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Aligned p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const Whole power = (__builtin_convertvector(n, Whole) + 127) << 23;
    return p * reinterpret_cast<const Aligned&>(power);
}

// Factors as they are multiplied: float32 one by one, or bfloat16 in pairs along the depth.
struct Single {
    typedef float Factor;
    static constexpr int STEP = 1;
    static Factor of(float value) { return value; }
    template <int rows>
    static void multiply(const Factor* values, const Factor* weights, float* sums, int depth, int stride) {
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
            store(sums + i * stride, left[i]);
            store(sums + i * stride + LANES, right[i]);
        }
    }
};

#if defined(__AVX512BF16__)
struct Pair {
    typedef uint16_t Factor;
    static constexpr int STEP = 2;
    static Factor of(float value) { return narrowed(value); }
    template <int rows>
    static void multiply(const Factor* values, const Factor* weights, float* sums, int depth, int stride) {
        __m512 left[rows], right[rows];
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) left[i] = right[i] = _mm512_setzero_ps();
        for (int k = 0; k < depth; k += 2, weights += 2 * COLUMNS) {
            const __m512bh w0 = (__m512bh)_mm512_loadu_si512(weights);
            const __m512bh w1 = (__m512bh)_mm512_loadu_si512(weights + COLUMNS);
#pragma GCC unroll 16
            for (int i = 0; i < rows; ++i) {
                int32_t both;
                std::memcpy(&both, values + i * depth + k, 4);
                const __m512bh value = (__m512bh)_mm512_set1_epi32(both);
                left[i] = _mm512_dpbf16_ps(left[i], value, w0);
                right[i] = _mm512_dpbf16_ps(right[i], value, w1);
            }
        }
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
            _mm512_storeu_ps(sums + i * stride, left[i]);
            _mm512_storeu_ps(sums + i * stride + LANES, right[i]);
        }
    }
};
typedef Pair OfHalf;
#else
typedef Single OfHalf;
#endif

// rows × n_columns sums: values (rows, depth) · weights (n_columns / COLUMNS, depth / STEP, COLUMNS, STEP).
template <class Kind>
void multiply(int rows, const typename Kind::Factor* values, const typename Kind::Factor* weights, float* sums,
              int depth, int n_columns) {
    for (int c = 0; c < n_columns; c += COLUMNS) {
        const typename Kind::Factor* const block = weights + c * depth;
        if (rows == ROWS) {
            Kind::template multiply<ROWS>(values, block, sums + c, depth, n_columns);
            continue;
        }
        for (int i = 0; i < rows; ++i)
            Kind::template multiply<1>(values + i * depth, block, sums + i * n_columns + c, depth, n_columns);
    }
}

char* scratch(size_t n) {
    static thread_local char* memory = nullptr;
    static thread_local size_t size = 0;
    if (n > size) {
        std::free(memory);
        memory = static_cast<char*>(std::aligned_alloc(64, (n + 63) / 64 * 64));
        size = memory ? n : 0;
    }
    return memory;
}

}  // namespace

struct Attention {
    const void* qkv;               // (n, TOKENS, 3, n_heads, DIM), float32 or bfloat16
    const float *rows, *columns;   // (SIDE of the query, DIM, SIDE of the key)
    void* out;                     // (n, TOKENS, n_heads, DIM), as qkv
    int64_t n, n_heads;
    float scale;
};

namespace {

// A query (DIM) · a table (DIM, SIDE): what each row, or column, of keys adds to its scores.
inline void position_terms(const float* query, const float* table, float* terms) {
    Aligned sums[SIDE / LANES] = {};
    for (int c = 0; c < DIM; ++c)
        for (int j = 0; j < SIDE / LANES; ++j) sums[j] += query[c] * load(table + c * SIDE + j * LANES);
    for (int j = 0; j < SIDE / LANES; ++j) store(terms + j * LANES, sums[j]);
}

template <class Number, class Kind>
int attend(const Attention& a, std::atomic<int64_t>* next) {
    typedef typename Kind::Factor Factor;
    constexpr int STEP = Kind::STEP;
    char* memory = scratch((2 * TOKENS * DIM + ROWS * (TOKENS + DIM)) * sizeof(Factor) +
                           ROWS * (TOKENS + 2 * SIDE + 2 * DIM) * sizeof(float));
    if (!memory) return 1;
    Factor* const keys = reinterpret_cast<Factor*>(memory);
    Factor* const values = keys + TOKENS * DIM;
    Factor* const queries = values + TOKENS * DIM;
    Factor* const weights = queries + ROWS * DIM;
    float* const scores = reinterpret_cast<float*>(weights + ROWS * TOKENS);
    float* const of_rows = scores + ROWS * TOKENS;
    float* const of_columns = of_rows + ROWS * SIDE;
    float* const wide = of_columns + ROWS * SIDE;
    float* const sums = wide + ROWS * DIM;
    const int64_t width = a.n_heads * DIM;
    for (int64_t unit; (unit = next->fetch_add(1)) < a.n * a.n_heads;) {
        const int64_t tile = unit / a.n_heads, head = unit % a.n_heads;
        const Number* const q = static_cast<const Number*>(a.qkv) + tile * TOKENS * 3 * width + head * DIM;
        for (int t = 0; t < TOKENS; ++t) {
            const Number* const k = q + t * 3 * width + width;
            const Number* const v = k + width;
            Factor* const to_key = keys + t / COLUMNS * COLUMNS * DIM + t % COLUMNS * STEP;
            for (int c = 0; c < DIM; ++c) to_key[c / STEP * STEP * COLUMNS + c % STEP] = Kind::of(widened(k[c]));
            Factor* const to_value = values + t / STEP * STEP * COLUMNS + t % STEP;
            for (int c = 0; c < DIM; ++c)
                to_value[c / COLUMNS * COLUMNS * TOKENS + c % COLUMNS * STEP] = Kind::of(widened(v[c]));
        }
        for (int first = 0; first < TOKENS; first += ROWS) {
            const int rows = TOKENS - first < ROWS ? TOKENS - first : ROWS;
            for (int i = 0; i < rows; ++i) {
                const int row = (first + i) / SIDE, column = (first + i) % SIDE;
                const Number* const query = q + (first + i) * 3 * width;
                for (int c = 0; c < DIM; ++c) {
                    wide[i * DIM + c] = widened(query[c]);
                    queries[i * DIM + c] = Kind::of(wide[i * DIM + c]);
                }
                position_terms(wide + i * DIM, a.rows + row * DIM * SIDE, of_rows + i * SIDE);
                position_terms(wide + i * DIM, a.columns + column * DIM * SIDE, of_columns + i * SIDE);
            }
            multiply<Kind>(rows, queries, keys, scores, DIM, TOKENS);
            float inverse[ROWS];
            for (int i = 0; i < rows; ++i) {
                float* const s = scores + i * TOKENS;
                const float *const on_row = of_rows + i * SIDE, *const on_column = of_columns + i * SIDE;
                Aligned most = Aligned{} - INFINITY;
                for (int y = 0; y < SIDE; ++y)
                    for (int x = 0; x < SIDE; x += LANES) {
                        const Aligned value = a.scale * load(s + y * SIDE + x) + on_row[y] + load(on_column + x);
                        most = value > most ? value : most;
                        store(s + y * SIDE + x, value);
                    }
                float largest = most[0];
                for (int l = 1; l < LANES; ++l) largest = most[l] > largest ? most[l] : largest;
                Aligned total = {};
                Factor* const w = weights + i * TOKENS;
                for (int t = 0; t < TOKENS; t += LANES) {
                    const Aligned e = exponential(load(s + t) - largest);
                    total += e;
                    if constexpr (STEP == 1) {
                        store(reinterpret_cast<float*>(w + t), e);
                    } else {
#if defined(__AVX512BF16__)
                        _mm256_storeu_si256(reinterpret_cast<__m256i*>(w + t), (__m256i)_mm512_cvtneps_pbh((__m512)e));
#endif
                    }
                }
                float sum = 0;
                for (int l = 0; l < LANES; ++l) sum += total[l];
                inverse[i] = 1 / sum;
            }
            multiply<Kind>(rows, weights, values, sums, TOKENS, DIM);
            for (int i = 0; i < rows; ++i) {
                Number* const to = static_cast<Number*>(a.out) + (tile * TOKENS + first + i) * width + head * DIM;
                for (int c = 0; c < DIM; ++c) put(to + c, sums[i * DIM + c] * inverse[i]);
            }
        }
    }
    return 0;
}

}  // namespace

// Take heads until none is left; next counts them for all threads. Returns 1 where there is no memory.
extern "C" int attend_float32(const Attention* given, std::atomic<int64_t>* next) {
    return attend<float, Single>(*given, next);
}
extern "C" int attend_bfloat16(const Attention* given, std::atomic<int64_t>* next) {
    return attend<uint16_t, OfHalf>(*given, next);
}
