// One step of the prefix language model on a CPU: new ids in, the next ids out, in one call.
//
// A step carries some tokens, each at a place of a slot (a row with a cache of its own), and draws, each a choice of
// the next id after one of them, guided by another where there are two. Norms, products, rotary positions, cache,
// attention and sampling all happen here, in one parallel region.
//
// Whatever else a step carries, a token's numbers come out the same to the last bit: every product of a row of weights
// with a token is one chain of fused multiply-adds over vectors of LANES, summed in one way, however rows and tokens
// are taken together. So one seed gives one result in any batch, and drawing several places at once gives what drawing
// them one by one does.
//
// Products are bound by memory while there are few tokens: each weight is read once for all of them, at 4, 2 (bfloat16)
// or 1 byte (int8, with a scale for each row; a processor that sums products of whole numbers is given tokens in 16 bits
// then). Keys and values are kept as weights are, in int8 with a scale for each place of a head. Keys lie in blocks of
// LANES places, dimension by dimension, so that scores of as many places are made at once and none has to be summed
// across a vector.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <type_traits>
#include <vector>

#include <omp.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#else
#define LANES 8
#endif

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint16_t hvec __attribute__((vector_size(2 * LANES), aligned(2)));
typedef int8_t bvec __attribute__((vector_size(LANES), aligned(1)));

enum Type : int32_t { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2 };

// The structures below are read by native/__init__.py: change both.

struct Matrix {  // (rows, cols), cols a multiple of LANES
    const void* data;
    const float* scale;  // of each row, of INT8 alone
    int64_t rows, cols;
    int64_t type;
};

struct Layer {
    const float *attention_norm, *q_norm, *k_norm, *mlp_norm;  // q_norm and k_norm may be null
    Matrix q, k, v, o, gate, up, down;
};

struct Kind {  // of ids: where they begin, and what scores them
    int64_t start, size;
    int64_t factors;  // 2: `head` scores the first half of a code, `second` the other
    Matrix head;
    const float *seen, *mix_norm;  // of two factors: embeddings of the first half; what mixes it in
    Matrix gate, up, down, second;
};

struct Model {
    int64_t width, heads, inner, layers, kinds;
    double eps;
    int64_t cache_type;
    const Layer* layer;
    const float* norm;
    const Kind* kind;
    const float *special, *visual_a, *visual_b, *audio;  // embeddings; audio may be null
    int64_t special_size, visual_size, split;            // a visual code is a * split + b
};

struct Cache {  // of all layers and slots
    void* keys;    // (layers, slots, heads, blocks, head_dim, LANES)
    void* values;  // (layers, slots, heads, blocks * LANES, head_dim)
    float *key_scale, *value_scale;  // (layers, slots, heads, blocks * LANES), of INT8 alone
    int64_t slots, blocks;
};

struct Group {  // consecutive tokens of one slot, at consecutive places from `place`
    int64_t slot, first, count, place;
    const float *cos, *sin;  // of the slot's places: (n, head_dim / 2)
};

struct Draw {
    int64_t token, other;  // the tokens after which the id stands; `other` is led away from, or -1
    int64_t kind;
    int64_t seed, place;  // what is drawn follows from
    double scale, temperature, top_p;
    int64_t top_k;
};

namespace {

inline vec load(const float* p) { return *(const vec*)p; }
#if defined(__AVX512F__)
inline vec load(const uint16_t* p) {
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16);
}
inline vec load(const int8_t* p) {
    return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
#else
inline vec load(const uint16_t* p) { return (vec)(__builtin_convertvector(*(const hvec*)p, uvec) << 16); }
inline vec load(const int8_t* p) {
    return __builtin_convertvector(__builtin_convertvector(*(const bvec*)p, ivec), vec);
}
#endif
inline void store(float* p, vec x) { *(vec*)p = x; }
inline uint16_t rounded(float x) {  // to bfloat16, to nearest even
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

// The sums of LANES vectors, each by halves: lane i + lane i + LANES / 2, and so on.
template <int N>
__attribute__((always_inline)) inline vec sums(const vec* x) {
    if constexpr (N == 1) {
        return x[0];
    } else {
        // vectors of which each holds N / 2 partial sums of LANES / (N / 2) lanes
        const vec a = sums<N / 2>(x), b = sums<N / 2>(x + N / 2);
        constexpr int H = LANES / N;  // lanes that stay of each
        ivec low, high;
        for (int i = 0; i < LANES; i++) {
            const int from = i / H % (N / 2), of = i / H / (N / 2), lane = from * 2 * H + i % H;
            low[i] = of * LANES + lane, high[i] = of * LANES + lane + H;
        }
        return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
    }
}

inline float sum(vec x) {
    vec all[LANES] = {x};
    return sums<LANES>(all)[0];
}

inline float largest(vec x) {
    float m = x[0];
    for (int i = 1; i < LANES; i++) m = std::max(m, x[i]);
    return m;
}

inline vec exponential(vec x) {  // for x <= 0, to about two units in the last place
    const vec least = vec{} - 87.0f;
    x = x < least ? least : x;
    const vec magic = vec{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to whole numbers
    vec n = x * 1.44269504f + magic;
    ivec power = (ivec)n << 23;
    n = n - magic;
    vec r = x - n * 0.693145752f - n * 1.42860677e-6f;
    vec y = r * 1.98756912e-4f + 1.39819994e-3f;
    y = y * r + 8.33345205e-3f;
    y = y * r + 4.16657962e-2f;
    y = y * r + 1.66666657e-1f;
    y = y * r + 0.5f;
    y = y * r * r + r + 1.0f;
    return (vec)((ivec)y + power);
}

inline vec silu(vec x) {
    const vec size = x < 0.0f ? -x : x, e = exponential(-size);
    return x * (x < 0.0f ? e : vec{} + 1.0f) / (1.0f + e);
}

struct Share {  // of a range, what thread `id` of `threads` does
    int id, threads;
    int64_t begin(int64_t n) const { return n * id / threads; }
    int64_t end(int64_t n) const { return n * (id + 1) / threads; }
};

enum Op { SET, ADD, SILU, TIMES };  // what is done with a product's value and what lies where it goes

struct Product {
    Matrix m;
    const float* const* x;  // of each token, (cols,)
    float* const* out;      // of each token, (rows,)
    Op op;
};

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define WORDS 1
#else
#define WORDS 0
#endif

#if WORDS
// Tokens in 16 bits, each with a scale, for products with weights in 8: their sums are exact whole numbers. Each thread
// has its own. The largest value is such that no sum of cols / LANES products is past 31 bits.
struct Words {
    std::vector<int16_t> values;
    std::vector<float> scale;
    int64_t cols = 0;  // with room to a multiple of 2 * LANES, of zeros

    const int16_t* operator[](int64_t token) const { return values.data() + token * cols; }

    void fill(const Product& p, int64_t tokens) {
        const int64_t n = p.m.cols;
        cols = (n + 2 * LANES - 1) / (2 * LANES) * (2 * LANES);
        if ((int64_t)values.size() < tokens * cols) values.resize(tokens * cols);
        scale.resize(tokens);
        const float most = std::min<int64_t>(32767, INT32_MAX / (127 * ((n + LANES - 1) / LANES)));
        for (int64_t t = 0; t < tokens; t++) {
            const float* x = p.x[t];
            vec peaks = vec{};
            for (int64_t i = 0; i < n; i += LANES) {
                const vec v = load(x + i), size = v < 0.0f ? -v : v;
                peaks = peaks < size ? size : peaks;
            }
            const float peak = std::max(largest(peaks), 1e-30f), factor = most / peak;
            int16_t* to = values.data() + t * cols;
            for (int64_t i = 0; i < n; i += LANES) {
                const __m512i whole = _mm512_cvtps_epi32((__m512)(load(x + i) * factor));
                _mm256_storeu_si256((__m256i*)(to + i), _mm512_cvtepi32_epi16(whole));
            }
            std::fill(to + n, to + cols, (int16_t)0);
            scale[t] = peak / most;
        }
    }
};

inline Words& words() {
    static thread_local Words own;
    return own;
}
#endif

// Sums of a tile of R rows and T tokens, over lanes that are still to be summed.
template <class W, int T, int R>
inline void dot(const Product& p, const W* const* rows, int64_t token, vec (&total)[T][R]) {
    for (int t = 0; t < T; t++)
        for (int r = 0; r < R; r++) total[t][r] = vec{};
    for (int64_t i = 0; i < p.m.cols; i += LANES) {
        vec x[T];
        for (int t = 0; t < T; t++) x[t] = load(p.x[token + t] + i);
        for (int r = 0; r < R; r++) {
            // a line of the next tile: these rows are short streams, which the processor does not foresee
            if (i % (64 / (int64_t)sizeof(W)) == 0) __builtin_prefetch(rows[r] + i + R * p.m.cols);
            const vec w = load(rows[r] + i);
            for (int t = 0; t < T; t++) total[t][r] += w * x[t];
        }
    }
}

#if WORDS
template <int T, int R>
inline void dot(const Product& p, const int8_t* const* rows, int64_t token, vec (&total)[T][R]) {
    const Words& from = words();
    __m512i all[T][R];
    for (int t = 0; t < T; t++)
        for (int r = 0; r < R; r++) all[t][r] = _mm512_setzero_si512();
    for (int64_t i = 0; i < p.m.cols; i += 2 * LANES) {
        __m512i x[T];
        for (int t = 0; t < T; t++) x[t] = _mm512_loadu_si512(from[token + t] + i);
        const bool half = i + LANES == p.m.cols;
        for (int r = 0; r < R; r++) {
            if (i % 64 == 0) __builtin_prefetch(rows[r] + i + R * p.m.cols);
            const __m256i bytes = half ? _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i*)(rows[r] + i)))
                                       : _mm256_loadu_si256((const __m256i*)(rows[r] + i));
            const __m512i w = _mm512_cvtepi8_epi16(bytes);
            for (int t = 0; t < T; t++) all[t][r] = _mm512_dpwssd_epi32(all[t][r], w, x[t]);
        }
    }
    for (int t = 0; t < T; t++)
        for (int r = 0; r < R; r++) total[t][r] = (vec)_mm512_cvtepi32_ps(all[t][r]);
}
#endif

// A tile of R rows and T tokens: R * T = 16 sums at once. Rows past `end` are the last one again, and not written.
template <class W, int T>
inline void tile(const Product& p, int64_t row, int64_t end, int64_t token) {
    constexpr int R = 16 / T;
    const W* rows[R];
    for (int r = 0; r < R; r++) rows[r] = (const W*)p.m.data + std::min(row + r, end - 1) * p.m.cols;
    vec total[T][R];
    dot(p, rows, token, total);
    float found[16];
    for (int i = 0; i < 16; i += LANES) {
        vec y = sums<LANES>(&total[0][0] + i);
        if (p.m.scale) {
            vec scale;
            for (int j = 0; j < LANES; j++) scale[j] = p.m.scale[std::min(row + (i + j) % R, end - 1)];
#if WORDS
            for (int j = 0; j < LANES; j++) scale[j] *= words().scale[token + (i + j) / R];
#endif
            y = y * scale;
        }
        store(found + i, p.op == SILU ? silu(y) : y);
    }
    for (int t = 0; t < T; t++) {
        float* out = p.out[token + t] + row;
        const float* value = found + t * R;
        const int count = std::min<int64_t>(R, end - row);
        if (p.op == ADD)
            for (int r = 0; r < count; r++) out[r] += value[r];
        else if (p.op == TIMES)
            for (int r = 0; r < count; r++) out[r] *= value[r];
        else
            for (int r = 0; r < count; r++) out[r] = value[r];
    }
}

template <class W>
void tiles(const Product& p, int64_t tokens, Share share) {
    const int64_t end = share.end(p.m.rows);
    int64_t t = 0;
    if (tokens >= 4)
        for (int64_t row = share.begin(p.m.rows); row < end; row += 4)
            for (t = 0; t + 4 <= tokens; t += 4) tile<W, 4>(p, row, end, t);
    if (t + 2 <= tokens) {
        for (int64_t row = share.begin(p.m.rows); row < end; row += 8) tile<W, 2>(p, row, end, t);
        t += 2;
    }
    if (t < tokens)
        for (int64_t row = share.begin(p.m.rows); row < end; row += 16) tile<W, 1>(p, row, end, t);
}

// This thread's rows of a product, for all tokens.
void product(const Product& p, int64_t tokens, Share share) {
    if (p.m.type == FLOAT32) tiles<float>(p, tokens, share);
    else if (p.m.type == BFLOAT16) tiles<uint16_t>(p, tokens, share);
    else {
#if WORDS
        words().fill(p, tokens);
#endif
        tiles<int8_t>(p, tokens, share);
    }
}

inline void normalise(const float* x, const float* gain, int64_t n, double eps, float* y) {
    vec total = vec{};
    for (int64_t i = 0; i < n; i += LANES) total += load(x + i) * load(x + i);
    const float factor = 1 / std::sqrt(sum(total) / n + (float)eps);
    for (int64_t i = 0; i < n; i += LANES) store(y + i, load(x + i) * factor * load(gain + i));
}

inline void turn(float* x, const float* cos, const float* sin, int64_t half) {
    for (int64_t i = 0; i < half; i++) {
        const float one = x[i], two = x[half + i];
        x[i] = one * cos[i] - two * sin[i];
        x[half + i] = two * cos[i] + one * sin[i];
    }
}

// What a head keeps of the places of a slot.
template <class C>
struct Kept {
    C *keys, *values;
    float *key_scale, *value_scale;

    Kept(const Cache& cache, int64_t index, int64_t dim) {
        const int64_t places = cache.blocks * LANES, first = index * places;
        keys = (C*)cache.keys + first * dim, values = (C*)cache.values + first * dim;
        if (whole) key_scale = cache.key_scale + first, value_scale = cache.value_scale + first;
    }

    static constexpr bool whole = std::is_same_v<C, int8_t>;

    void put(int64_t place, int64_t dim, const float* key, const float* value) {
        put(key, dim, keys + place / LANES * dim * LANES + place % LANES, LANES, key_scale + place);
        put(value, dim, values + place * dim, 1, value_scale + place);
    }

   private:
    static void put(const float* from, int64_t dim, C* to, int64_t stride, float* scale) {
        float peak = 1e-12f, one = 1;
        if constexpr (whole) {
            for (int64_t d = 0; d < dim; d++) peak = std::max(peak, std::fabs(from[d]));
            *scale = peak / 127, one = 127 / peak;
        }
        for (int64_t d = 0; d < dim; d++) {
            if constexpr (whole) to[d * stride] = (int8_t)std::nearbyint(from[d] * one);
            else if constexpr (std::is_same_v<C, float>) to[d * stride] = from[d];
            else to[d * stride] = rounded(from[d]);
        }
    }
};

// Scores of T queries with B blocks of keys from `block` on.
template <class C, int T, int B>
inline void scores(const Kept<C>& kept, int64_t block, int64_t dim, const float* const* q, float* const* out) {
    vec total[T][B];
    for (int t = 0; t < T; t++)
        for (int b = 0; b < B; b++) total[t][b] = vec{};
    const C* at = kept.keys + block * dim * LANES;
    for (int64_t d = 0; d < dim; d++)
        for (int b = 0; b < B; b++) {
            const vec k = load(at + (b * dim + d) * LANES);
            for (int t = 0; t < T; t++) total[t][b] += k * q[t][d];
        }
    for (int b = 0; b < B; b++) {
        const int64_t place = (block + b) * LANES;
        const vec scale = kept.whole ? load(kept.key_scale + place) : vec{} + 1.0f;
        for (int t = 0; t < T; t++) store(out[t] + place, total[t][b] * scale);
    }
}

// Sums of values weighted by p over `count` places, for T queries and D vectors of the head from `first` on: even
// places and odd ones apart.
template <class C, int T, int D>
inline void weighted(
    const C* values, int64_t count, int64_t dim, int64_t first, float* const* p, const float* factor, float* const* out
) {
    vec total[2][T][D];
    for (int s = 0; s < 2; s++)
        for (int t = 0; t < T; t++)
            for (int d = 0; d < D; d++) total[s][t][d] = vec{};
    const C* at = values + first;
    for (int64_t j = 0; j < count; j += 2)
        for (int s = 0; s < 2; s++)
            for (int d = 0; d < D; d++) {
                const vec v = load(at + (j + s) * dim + d * LANES);
                for (int t = 0; t < T; t++) total[s][t][d] += v * p[t][j + s];
            }
    for (int t = 0; t < T; t++)
        for (int d = 0; d < D; d++) store(out[t] + first + d * LANES, (total[0][t][d] + total[1][t][d]) * factor[t]);
}

// Attention of T queries, the last of which sees `count` places and each one before it one less.
template <class C, int T>
void attend(
    const Kept<C>& kept, int64_t count, int64_t dim, const float* const* q, float* const* p, float* const* out
) {
    const int64_t blocks = (count + LANES - 1) / LANES;
    constexpr int B = 4 / T;
    int64_t block = 0;
    for (; block + B <= blocks; block += B) scores<C, T, B>(kept, block, dim, q, p);
    for (; block < blocks; block++) scores<C, T, 1>(kept, block, dim, q, p);
    float factor[T];
    for (int t = 0; t < T; t++) {
        const int64_t seen = count - (T - 1 - t), own = (seen + LANES - 1) / LANES;
        std::fill(p[t] + seen, p[t] + blocks * LANES, -std::numeric_limits<float>::infinity());
        vec most = load(p[t]);
        for (int64_t b = 1; b < own; b++) {
            const vec x = load(p[t] + b * LANES);
            most = x > most ? x : most;
        }
        const float top = largest(most), scale = 1 / std::sqrt((float)dim);
        vec total = vec{};
        for (int64_t b = 0; b < blocks; b++) {
            const vec x = load(p[t] + b * LANES), e = exponential((x - top) * scale);
            const vec y = x == -std::numeric_limits<float>::infinity() ? vec{} : e;
            total += y;
            store(p[t] + b * LANES, kept.whole ? y * load(kept.value_scale + b * LANES) : y);
        }
        factor[t] = 1 / sum(total);
    }
    int64_t d = 0;
    constexpr int D = T == 1 ? 4 : T == 2 ? 4 : 2;
    for (; d + D * LANES <= dim; d += D * LANES) weighted<C, T, D>(kept.values, count, dim, d, p, factor, out);
    for (; d < dim; d += LANES) weighted<C, T, 1>(kept.values, count, dim, d, p, factor, out);
}

inline uint64_t mixed(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
}

// Number i of the Gumbel noise of a place: see generate/noise.py.
inline float gumbel(int64_t seed, int64_t place, int64_t i) {
    const uint64_t golden = 0x9E3779B97F4A7C15, start = mixed((uint64_t)seed + golden * (place + 1));
    return -std::log(-std::log(((mixed(start + golden * (i + 1)) >> 11) + 0.5) * 0x1p-53));
}

// The index that a draw takes among `n` logits, which are changed; its noise is that from `number` on.
int64_t choose(
    float* logits, const float* other, int64_t n, const Draw& draw, int64_t number, std::vector<int32_t>& kept
) {
    const float none = -std::numeric_limits<float>::infinity();
    if (other)
        for (int64_t i = 0; i < n; i++)
            logits[i] = logits[i] == none ? none : other[i] + (float)draw.scale * (logits[i] - other[i]);
    if (draw.temperature == 0) return std::max_element(logits, logits + n) - logits;
    for (int64_t i = 0; i < n; i++) logits[i] /= (float)draw.temperature;
    kept.resize(n);
    std::iota(kept.begin(), kept.end(), 0);
    const auto likelier = [&](int32_t a, int32_t b) { return logits[a] > logits[b]; };
    if (draw.top_k > 0 && draw.top_k < n) {
        std::nth_element(kept.begin(), kept.begin() + draw.top_k - 1, kept.end(), likelier);
        kept.resize(draw.top_k);
    }
    if (draw.top_p < 1) {
        float top = none;
        for (int32_t i : kept) top = std::max(top, logits[i]);
        double total = 0;
        for (int32_t i : kept) total += std::exp(logits[i] - top);
        // those below this hold less than 1 - top_p together
        const double least = (1 - draw.top_p) * total / kept.size();
        kept.erase(
            std::remove_if(kept.begin(), kept.end(), [&](int32_t i) { return std::exp(logits[i] - top) < least; }),
            kept.end()
        );
        std::sort(kept.begin(), kept.end(), likelier);
        double before = 0;
        size_t count = 0;
        while (count < kept.size() && before < draw.top_p * total) before += std::exp(logits[kept[count++]] - top);
        kept.resize(std::max<size_t>(count, 1));
    }
    int64_t best = kept[0];
    float most = none;
    for (int32_t i : kept) {
        const float mine = logits[i] + gumbel(draw.seed, draw.place, number + i);
        if (mine > most || (mine == most && i < best)) most = mine, best = i;
    }
    return best;
}

// Vectors of a width, one for each token, each from a whole cache line on.
struct Rows {
    std::unique_ptr<float, decltype(&std::free)> values;
    std::vector<float*> at;
    Rows(int64_t count, int64_t width) : values(nullptr, &std::free), at(count) {
        const int64_t stride = (width + 15) / 16 * 16;
        values.reset((float*)std::aligned_alloc(64, std::max<int64_t>(64, count * stride * sizeof(float))));
        for (int64_t i = 0; i < count; i++) at[i] = values.get() + i * stride;
    }
};

template <class C>
void run(
    const Model& model, const Cache& cache, int64_t tokens, const int64_t* ids, int64_t groups, const Group* group,
    int64_t draws, const Draw* draw, int64_t* drawn, int threads
) {
    const int64_t width = model.width, dim = width / model.heads, half = dim / 2, longest = cache.blocks * LANES;
    const int64_t most = std::max(tokens, 2 * draws);
    int64_t widest = 0;
    for (int64_t k = 0; k < model.kinds; k++) {
        const Kind& kind = model.kind[k];
        widest = std::max({widest, kind.head.rows, kind.factors == 2 ? kind.second.rows : 0});
    }
    Rows x(tokens, width), q(tokens, width), k(tokens, width), v(tokens, width), y(tokens, width);
    Rows inner(most, std::max(model.inner, width)), states(2 * draws, width), logits(2 * draws, widest);
    std::vector<int64_t> first(draws);

#pragma omp parallel num_threads(threads)
    {
        const Share share{omp_get_thread_num(), omp_get_num_threads()};
        Rows own(most, width), weights(4, longest);
        const auto multiply = [&](const Matrix& m, const Rows& from, const Rows& to, Op op) {
            product({m, from.at.data(), to.at.data(), op}, tokens, share);
        };

        for (int64_t t = share.begin(tokens); t < share.end(tokens); t++) {
            const int64_t code = ids[t] - model.special_size;
            if (code < 0) {
                std::memcpy(x.at[t], model.special + ids[t] * width, width * sizeof(float));
            } else if (code < model.visual_size) {
                const float* a = model.visual_a + code / model.split * width;
                const float* b = model.visual_b + code % model.split * width;
                for (int64_t i = 0; i < width; i++) x.at[t][i] = a[i] + b[i];
            } else {
                std::memcpy(x.at[t], model.audio + (code - model.visual_size) * width, width * sizeof(float));
            }
        }
#pragma omp barrier
        for (int64_t l = 0; l < model.layers; l++) {
            const Layer& layer = model.layer[l];
            for (int64_t t = 0; t < tokens; t++) normalise(x.at[t], layer.attention_norm, width, model.eps, own.at[t]);
            multiply(layer.q, own, q, SET);
            multiply(layer.k, own, k, SET);
            multiply(layer.v, own, v, SET);
#pragma omp barrier
            const int64_t items = groups * model.heads;
            for (int64_t item = share.begin(items); item < share.end(items); item++) {
                const Group& g = group[item / model.heads];
                const int64_t head = item % model.heads, place = (l * cache.slots + g.slot) * model.heads + head;
                Kept<C> kept(cache, place, dim);
                for (int64_t i = 0; i < g.count; i++) {
                    float *mine = q.at[g.first + i] + head * dim, *key = k.at[g.first + i] + head * dim;
                    const float* value = v.at[g.first + i] + head * dim;
                    const int64_t where = g.place + i;
                    if (layer.q_norm) {
                        normalise(mine, layer.q_norm, dim, model.eps, mine);
                        normalise(key, layer.k_norm, dim, model.eps, key);
                    }
                    turn(mine, g.cos + where * half, g.sin + where * half, half);
                    turn(key, g.cos + where * half, g.sin + where * half, half);
                    kept.put(where, dim, key, value);
                }
                for (int64_t i = 0; i < g.count;) {
                    const int64_t take = g.count - i >= 4 ? 4 : g.count - i >= 2 ? 2 : 1, seen = g.place + i + take;
                    const float* queries[4];
                    float* outs[4];
                    for (int64_t t = 0; t < take; t++) {
                        queries[t] = q.at[g.first + i + t] + head * dim;
                        outs[t] = y.at[g.first + i + t] + head * dim;
                    }
                    if (take == 4) attend<C, 4>(kept, seen, dim, queries, weights.at.data(), outs);
                    else if (take == 2) attend<C, 2>(kept, seen, dim, queries, weights.at.data(), outs);
                    else attend<C, 1>(kept, seen, dim, queries, weights.at.data(), outs);
                    i += take;
                }
            }
#pragma omp barrier
            multiply(layer.o, y, x, ADD);
#pragma omp barrier
            for (int64_t t = 0; t < tokens; t++) normalise(x.at[t], layer.mlp_norm, width, model.eps, own.at[t]);
            multiply(layer.gate, own, inner, SILU);
            multiply(layer.up, own, inner, TIMES);
#pragma omp barrier
            multiply(layer.down, inner, x, ADD);
#pragma omp barrier
        }

        // the states that ids are drawn after: of draw i at 2 i, of what it is led away from at 2 i + 1
        for (int64_t i = share.begin(draws); i < share.end(draws); i++) {
            normalise(x.at[draw[i].token], model.norm, width, model.eps, states.at[2 * i]);
            if (draw[i].other >= 0) normalise(x.at[draw[i].other], model.norm, width, model.eps, states.at[2 * i + 1]);
        }
#pragma omp barrier
        for (int64_t k = 0; k < model.kinds; k++) {
            const Kind& kind = model.kind[k];
            std::vector<float*> from, to;  // states and logits of this kind's draws
            std::vector<int64_t> of;       // whose they are
            for (int64_t i = 0; i < draws; i++)
                for (int64_t j = 2 * i; draw[i].kind == k && j < 2 * i + (draw[i].other < 0 ? 1 : 2); j++)
                    from.push_back(states.at[j]), to.push_back(logits.at[j]), of.push_back(i);
            if (of.empty()) continue;
            const int64_t count = of.size(), a = kind.head.rows, b = kind.factors == 2 ? kind.second.rows : 1;
            const float none = -std::numeric_limits<float>::infinity();
            std::vector<int32_t> kept;
            const auto drawing = [&](const auto& chosen) {  // this thread's share of them
                for (int64_t i = share.begin(draws); i < share.end(draws); i++)
                    if (draw[i].kind == k)
                        chosen(i, logits.at[2 * i], draw[i].other < 0 ? nullptr : logits.at[2 * i + 1]);
            };
            product({kind.head, from.data(), to.data(), SET}, count, share);
#pragma omp barrier
            drawing([&](int64_t i, float* mine, const float* other) {
                for (int64_t j = (kind.size + b - 1) / b; j < a; j++) mine[j] = none;  // past the codebook's end
                first[i] = choose(mine, other, a, draw[i], 0, kept);
                drawn[i] = kind.start + first[i] * b;
            });
            if (kind.factors == 1) continue;
#pragma omp barrier
            for (int64_t t = share.begin(count); t < share.end(count); t++)
                for (int64_t i = 0; i < width; i++) from[t][i] += kind.seen[first[of[t]] * width + i];
#pragma omp barrier
            for (int64_t t = 0; t < count; t++) normalise(from[t], kind.mix_norm, width, model.eps, own.at[t]);
            product({kind.gate, own.at.data(), inner.at.data(), SILU}, count, share);
            product({kind.up, own.at.data(), inner.at.data(), TIMES}, count, share);
#pragma omp barrier
            product({kind.down, inner.at.data(), from.data(), ADD}, count, share);
#pragma omp barrier
            product({kind.second, from.data(), to.data(), SET}, count, share);
#pragma omp barrier
            drawing([&](int64_t i, float* mine, const float* other) {
                for (int64_t j = std::max<int64_t>(0, kind.size - first[i] * b); j < b; j++) mine[j] = none;
                drawn[i] += choose(mine, other, b, draw[i], a, kept);
            });
        }
    }
}

}  // namespace

extern "C" {

int64_t lanes() { return LANES; }

void step(
    const Model* model, const Cache* cache, int64_t tokens, const int64_t* ids, int64_t groups, const Group* group,
    int64_t draws, const Draw* draw, int64_t* drawn, int64_t threads
) {
    const auto& of = model->cache_type == FLOAT32 ? run<float> : model->cache_type == INT8 ? run<int8_t> : run<uint16_t>;
    of(*model, *cache, tokens, ids, groups, group, draws, draw, drawn, threads);
}
}
