/* Whole steps of a quantised model in one call: what charlstm/net/quantised.py defines in NumPy.

Weights and activations are int8, sums of products int32 and therefore exact; the rest is float32.
kernel.py compiles this file for the processor it runs on. Shape letters as in engine.py.

A matrix (rows, columns) is packed so that one instruction serves 16 rows: for each 16 rows and each
4 columns, the 4 numbers of the first row, of the second row, and so on. Rows are padded with zeros
to a multiple of 64, columns to a multiple of 4. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16, DEPTH = 4, GROUP = 4, BLOCK = GROUP * LANES };

/* LANES int32 sums. add_products adds, to each lane, the product of its row's 4 weights with 4
activations. TEXTS is how many texts fit into the registers, for a group of 4 x 16 rows. */
#if defined(__AVX512VNNI__)
#include <immintrin.h>
enum { TEXTS = 4, OFFSET = 128 }; /* the instruction takes weights from 0 to 255 */
typedef __m512i Sums;
static inline Sums zeros(void) { return _mm512_setzero_si512(); }
static inline Sums add_products(Sums sums, const int8_t *weights, int32_t four) {
    return _mm512_dpbusd_epi32(sums, _mm512_loadu_si512(weights), _mm512_set1_epi32(four));
}
static inline void store(int32_t *target, Sums sums) { _mm512_storeu_si512(target, sums); }
#elif defined(__AVX2__)
#include <immintrin.h>
enum { TEXTS = 1, OFFSET = 128 };
typedef struct { __m256i half[2]; } Sums;
static inline Sums zeros(void) { return (Sums){{_mm256_setzero_si256(), _mm256_setzero_si256()}}; }
static inline Sums add_products(Sums sums, const int8_t *weights, int32_t four) {
    /* Columns 0 and 2, then 1 and 3, as int16: sums of two products do not overflow there. */
    __m256i all = _mm256_set1_epi32(four), low = _mm256_set1_epi16(0xff);
    __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8), odd = _mm256_srai_epi16(all, 8);
    for (int h = 0; h < 2; h++) {
        __m256i w = _mm256_loadu_si256((const __m256i *)(weights + 32 * h));
        __m256i products = _mm256_madd_epi16(_mm256_and_si256(w, low), even);
        sums.half[h] = _mm256_add_epi32(sums.half[h], products);
        products = _mm256_madd_epi16(_mm256_srli_epi16(w, 8), odd);
        sums.half[h] = _mm256_add_epi32(sums.half[h], products);
    }
    return sums;
}
static inline void store(int32_t *target, Sums sums) { memcpy(target, &sums, sizeof sums); }
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
enum { TEXTS = 1, OFFSET = 0 };
typedef struct { int32x4_t quarter[4]; } Sums;
static inline Sums zeros(void) { Sums sums; memset(&sums, 0, sizeof sums); return sums; }
static inline Sums add_products(Sums sums, const int8_t *weights, int32_t four) {
    int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four));
    for (int q = 0; q < 4; q++)
        sums.quarter[q] = vdotq_s32(sums.quarter[q], vld1q_s8(weights + 16 * q), x);
    return sums;
}
static inline void store(int32_t *target, Sums sums) { memcpy(target, &sums, sizeof sums); }
#else
enum { TEXTS = 1, OFFSET = 0 };
typedef struct { int32_t lane[LANES]; } Sums;
static inline Sums zeros(void) { Sums sums; memset(&sums, 0, sizeof sums); return sums; }
static inline Sums add_products(Sums sums, const int8_t *weights, int32_t four) {
    int8_t x[DEPTH];
    memcpy(x, &four, DEPTH);
    for (int r = 0; r < LANES; r++)
        for (int k = 0; k < DEPTH; k++) sums.lane[r] += weights[DEPTH * r + k] * x[k];
    return sums;
}
static inline void store(int32_t *target, Sums sums) { memcpy(target, &sums, sizeof sums); }
#endif

typedef struct {
    int64_t rows, columns;
    const int8_t *packed;
    const float *scales; /* (rows,) */
    const float *bias;   /* (rows,), or for the first layer (V, rows): one row per character */
} Matrix;

typedef struct {
    int64_t layers, hidden_size, states;
    int64_t blocks[4]; /* where input, forget, candidate and output are among the rows, or -1;
                          for a gru reset, update, candidate and the candidate's part of h */
    int64_t is_gru;
    int64_t end; /* the character that is read from a zero state, or -1 */
    const Matrix *matrices;  /* one per layer, then the output layer */
    const float **peepholes; /* per layer (3H,) input, forget, output; or null */
} Model;

static int64_t padded(int64_t size, int64_t unit) { return (size + unit - 1) / unit * unit; }

/* Bytes of a packed matrix. */
int64_t packed_size(int64_t rows, int64_t columns) {
    return padded(rows, BLOCK) * padded(columns, DEPTH);
}

/* Pack the int8 matrix (rows, columns). */
void pack(const int8_t *matrix, int64_t rows, int64_t columns, int8_t *packed) {
    int64_t depth = padded(columns, DEPTH);
    for (int64_t row = 0; row < padded(rows, BLOCK); row++)
        for (int64_t k = 0; k < depth; k++) {
            int value = row < rows && k < columns ? matrix[row * columns + k] : 0;
            int64_t tile = (row / LANES * depth + k / DEPTH * DEPTH) * LANES;
            packed[tile + row % LANES * DEPTH + k % DEPTH] = (int8_t)(value + OFFSET);
        }
}

/* The products of a group of rows with `texts` vectors, which lie `depth` apart. */
static inline __attribute__((always_inline)) void group_products(
    const int texts, const int8_t *weights, const int8_t *x, int64_t depth, int32_t *products) {
    Sums sums[TEXTS][GROUP];
#pragma GCC unroll 8
    for (int t = 0; t < texts; t++)
#pragma GCC unroll 8
        for (int g = 0; g < GROUP; g++) sums[t][g] = zeros();
    for (int64_t k = 0; k < depth; k += DEPTH)
#pragma GCC unroll 8
        for (int t = 0; t < texts; t++) {
            int32_t four;
            memcpy(&four, x + t * depth + k, DEPTH);
#pragma GCC unroll 8
            for (int g = 0; g < GROUP; g++)
                sums[t][g] = add_products(sums[t][g], weights + (g * depth + k) * LANES, four);
        }
#pragma GCC unroll 8
    for (int t = 0; t < texts; t++)
#pragma GCC unroll 8
        for (int g = 0; g < GROUP; g++) store(products + (t * GROUP + g) * LANES, sums[t][g]);
}

/* z (B, padded rows) = matrix x + bias, for x (B, depth) quantised by the scales (B,). */
static void multiply(const Matrix *m, int64_t texts, const int8_t *x, const float *scales,
                     const int32_t *offsets, const int64_t *ids, float *z) {
    int64_t depth = padded(m->columns, DEPTH), width = padded(m->rows, BLOCK);
    int32_t products[TEXTS * BLOCK];
    for (int64_t row = 0; row < m->rows; row += BLOCK) {
        const int8_t *weights = m->packed + row * depth;
        int64_t count = m->rows - row < BLOCK ? m->rows - row : BLOCK;
        for (int64_t first = 0, step; first < texts; first += step) {
            step = texts - first >= TEXTS ? TEXTS : 1;
            if (step == TEXTS) group_products(TEXTS, weights, x + first * depth, depth, products);
            else group_products(1, weights, x + first * depth, depth, products);
            for (int64_t t = 0; t < step; t++) {
                int64_t text = first + t;
                const float *bias = m->bias + row + (ids ? ids[text] * m->rows : 0);
                float *target = z + text * width + row;
                for (int64_t r = 0; r < count; r++)
                    target[r] = bias[r] + (float)(products[t * BLOCK + r] - offsets[text])
                                              * scales[text] * m->scales[row + r];
            }
        }
    }
}

/* Quantise x (size,): the largest magnitude becomes 127. */
static void quantise(const float *x, int64_t size, int64_t depth, int8_t *target, float *scale,
                     int32_t *offset) {
    int32_t bits, top = 0, sum = 0;
    for (int64_t k = 0; k < size; k++) { /* magnitudes compare like their bits */
        memcpy(&bits, x + k, 4);
        bits &= 0x7fffffff;
        top = bits > top ? bits : top;
    }
    float largest;
    memcpy(&largest, &top, 4);
    *scale = largest / 127;
    float inverse = largest > 1e-30f ? 127 / largest : 0;
    for (int64_t k = 0; k < size; k++) {
        float shifted = x[k] * inverse + 12582912.0f; /* 1.5 * 2^23: rounds to an integer */
        memcpy(&bits, &shifted, 4);
        target[k] = (int8_t)bits;
        sum += (int8_t)bits;
    }
    memset(target + size, 0, depth - size);
    *offset = OFFSET * sum;
}

/* exp(x): 2^n times a polynomial of Cephes (Moshier 1989), |x| limited to 87. */
static inline float exponential(float x) {
    x = x > 87 ? 87 : x < -87 ? -87 : x;
    float shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f, power;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;
    int32_t bits;
    memcpy(&bits, &shifted, 4);
    bits = (int32_t)((uint32_t)bits << 23) + 0x3f800000;
    memcpy(&power, &bits, 4);
    return p * power;
}
static inline float sigma(float x) { return 1 / (1 + exponential(-x)); }
static inline float tanh_(float x) { return 1 - 2 / (1 + exponential(2 * x)); }

/* The new state of a layer of one text from z; the equations are those of engine.py. */
static void lstm(const Model *m, const float *z, const float *peephole, float *restrict h,
                 float *restrict c) {
    int64_t size = m->hidden_size, has_input = m->blocks[0] >= 0, has_forget = m->blocks[1] >= 0;
    const float *input = z + m->blocks[has_input ? 0 : 1] * size;
    const float *forget = z + m->blocks[has_forget ? 1 : 0] * size;
    const float *candidate = z + m->blocks[2] * size, *output = z + m->blocks[3] * size;
    if (peephole) {
        for (int64_t j = 0; j < size; j++) {
            float i = sigma(input[j] + peephole[j] * c[j]);
            float f = sigma(forget[j] + peephole[size + j] * c[j]);
            c[j] = f * c[j] + i * tanh_(candidate[j]);
            h[j] = sigma(output[j] + peephole[2 * size + j] * c[j]) * tanh_(c[j]);
        }
        return;
    }
    for (int64_t j = 0; j < size; j++) {
        float f = has_forget ? sigma(forget[j]) : 1, i = has_input ? sigma(input[j]) : 1 - f;
        c[j] = f * c[j] + i * tanh_(candidate[j]);
        h[j] = sigma(output[j]) * tanh_(c[j]);
    }
}

static void gru(const Model *m, const float *z, float *h) {
    int64_t size = m->hidden_size;
    const float *reset = z + m->blocks[0] * size, *update = z + m->blocks[1] * size;
    const float *candidate = z + m->blocks[2] * size, *hidden = z + m->blocks[3] * size;
    for (int64_t j = 0; j < size; j++) {
        float u = sigma(update[j]), n = tanh_(candidate[j] + sigma(reset[j]) * hidden[j]);
        h[j] = u * h[j] + (1 - u) * n;
    }
}

static void rnn(const Model *m, const float *z, float *h) {
    for (int64_t j = 0; j < m->hidden_size; j++) h[j] = tanh_(z[j]);
}

/* Read `steps` characters of the texts `first` to `last` (exclusive) of `batch`.

ids (steps, batch); state (L, S, batch, H) is changed in place; logits (steps, batch, V), or null
if nobody needs them. With steps = 0, logits (batch, V) after the given state.
Returns 0, or 1 if there is no memory. */
int run(const Model *m, const int64_t *ids, int64_t steps, int64_t batch, int64_t first,
        int64_t last, float *state, float *logits) {
    int64_t size = m->hidden_size, texts = last - first, widest = 0, deepest = 0;
    for (int64_t l = 0; l <= m->layers; l++) {
        int64_t width = padded(m->matrices[l].rows, BLOCK);
        int64_t depth = padded(m->matrices[l].columns, DEPTH);
        widest = width > widest ? width : widest;
        deepest = depth > deepest ? depth : deepest;
    }
    float *z = malloc(texts * widest * 4), *x = malloc(deepest * 4), *scales = malloc(texts * 4);
    int8_t *quantised = malloc(texts * deepest);
    int32_t *offsets = malloc(texts * 4);
    int failed = !(z && x && scales && quantised && offsets);
    for (int64_t t = 0; t < (steps ? steps : 1) && !failed; t++) {
        for (int64_t b = first; steps && b < last; b++)
            if (ids[t * batch + b] == m->end) /* no item of a list sees another */
                for (int64_t k = 0; k < m->layers * m->states; k++)
                    memset(state + (k * batch + b) * size, 0, size * 4);
        for (int64_t l = steps ? 0 : m->layers; l <= m->layers; l++) {
            const Matrix *matrix = m->matrices + l;
            int64_t is_output = l == m->layers, depth = padded(matrix->columns, DEPTH);
            int64_t width = padded(matrix->rows, BLOCK);
            if (is_output && !logits) continue;
            for (int64_t b = 0; b < texts; b++) {
                /* What the matrix reads: h; above the first layer h of the layer below, and h;
                for the output layer the sum of all h. */
                float *h = state + (first + b) * size;
                int64_t layer = m->states * batch * size;
                if (is_output)
                    for (int64_t j = 0; j < size; j++) {
                        x[j] = h[j];
                        for (int64_t k = 1; k < m->layers; k++) x[j] += h[k * layer + j];
                    }
                else if (l)
                    memcpy(x, h + (l - 1) * layer, size * 4), memcpy(x + size, h + l * layer, size * 4);
                else
                    memcpy(x, h, size * 4);
                quantise(x, matrix->columns, depth, quantised + b * depth, scales + b, offsets + b);
            }
            multiply(matrix, texts, quantised, scales, offsets,
                     l || is_output ? NULL : ids + t * batch + first, z);
            for (int64_t b = 0; b < texts; b++) {
                const float *values = z + b * width;
                if (is_output) {
                    float *target = logits + (t * batch + first + b) * matrix->rows;
                    memcpy(target, values, matrix->rows * 4);
                    continue;
                }
                float *h = state + (l * m->states * batch + first + b) * size;
                if (m->is_gru) gru(m, values, h);
                else if (m->states == 1) rnn(m, values, h);
                else lstm(m, values, m->peepholes[l], h, h + batch * size);
            }
        }
    }
    free(z), free(x), free(scales), free(quantised), free(offsets);
    return failed;
}
