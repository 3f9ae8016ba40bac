/* int8 matrices: packing, quantisation of rows, and the product at four levels of x86-64.
 *
 * A matrix with N outputs and K inputs has the layout [N / 16][K / 4][16][4]: 16 outputs by 4
 * inputs are 64 bytes, which is one register of AVX-512 VNNI, and 64 inputs are one tile of AMX.
 * The rows that it is multiplied with are also stored in tiles, [M / 16][K / 64][16][64], as
 * unsigned bytes (value + 128) with one scale per row, so that the result of a row depends on that
 * row only. The product is exact in int32, so that all levels compute identical results.
 */
#ifndef NLLB_KERNEL_MATRIX_H
#define NLLB_KERNEL_MATRIX_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define SIDE 16        /* rows of a tile, outputs of a block */
#define DEPTH 64       /* inputs of a tile */
#define TILE_BYTES 1024
#define MOST_DIM 8192  /* maximum number of inputs; the caller checks it */
#define SPAN 32        /* number of rows and outputs that are multiplied together: two tiles by two blocks */
#define INLINE static inline __attribute__((always_inline))
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

/* Whether the processor has the instructions of AVX512. Like CLONES, what uses them depends on the processor and not on
 * the level, so that all levels have the same results on one machine. */
INLINE int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

typedef struct {
    const int8_t *weight;  /* packed */
    const float *scale;    /* of each output */
    const int32_t *offset; /* 128 * sum of each output's weights, which compensates for value + 128 */
    const float *bias;     /* of each output */
    int64_t outputs;       /* a multiple of 16; the length of the arrays above */
    int64_t inputs;        /* number of inputs without padding; the packed depth is the next multiple of 64 */
} Matrix;

typedef struct {
    uint8_t *tiles;
    float *scales;
} Rows;

enum { LEVEL_NONE, LEVEL_AVX2, LEVEL_AVX_VNNI, LEVEL_AVX512_VNNI, LEVEL_AMX };
enum { STORE, STORE_RELU, ADD, STORE_GELU };

INLINE int64_t round_up(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

INLINE int64_t depth_blocks(int64_t inputs) { return (inputs + DEPTH - 1) / DEPTH; }

INLINE uint8_t *row_in_tiles(const Rows *rows, int64_t row, int64_t blocks) {
    return rows->tiles + (row / SIDE * blocks * SIDE + row % SIDE) * DEPTH;
}

/* Pack `count` int8 rows (outputs, inputs) as the outputs from `first` on. */
CLONES static void pack_rows(const int8_t *source, int64_t first, int64_t count, int64_t inputs,
                             int8_t *packed, int32_t *offset) {
    int64_t depth = depth_blocks(inputs) * DEPTH;
    for (int64_t row = 0; row < count; row++) {
        const int8_t *from = source + row * inputs;
        int64_t output = first + row;
        int8_t *to = packed + output / SIDE * SIDE * depth + output % SIDE * 4;
        int32_t sum = 0;
        for (int64_t i = 0; i < inputs; i++) sum += from[i];
        offset[output] = 128 * sum;
        for (int64_t group = 0; group < inputs / 4; group++) memcpy(to + group * 64, from + group * 4, 4);
        for (int64_t i = inputs / 4 * 4; i < inputs; i++) to[i / 4 * 64 + i % 4] = from[i];
    }
}

#define FLOAT_BITS 0x7FFFFFFFu /* all but the sign */
#define INFINITE 0x7F800000u   /* the bits of infinity; those of NaN are greater */
#define QUIET_NAN 0x7FC00000u
#define SMALLEST 1e-36f        /* a row with a smaller maximum is treated as zero, so that 127 / maximum is finite */

/* Return the factor that maps a row to -127 ... 127, given the bits of its largest magnitude. */
INLINE float factor_of(uint32_t bits) {
    float largest;
    memcpy(&largest, &bits, 4);
    return bits < INFINITE && largest > SMALLEST ? 127.0f / largest : 0.0f;
}

/* Return the scale of a row. It is NaN if the row contains NaN or infinity, so that its products are NaN. */
INLINE float scale_of(uint32_t bits) {
    float largest;
    if (bits >= INFINITE) bits = QUIET_NAN;
    memcpy(&largest, &bits, 4);
    return largest / 127.0f;
}

/* Quantise one row of floats to value + 128 in tiles; return its scale. The largest magnitude is found by comparing
 * bit patterns, which have the order of the values: NaN is always detected and never converted to an integer. */
CLONES static float quantize_row_anywhere(const float *x, int64_t inputs, uint8_t *tiles) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < inputs; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        bits &= FLOAT_BITS;
        largest = bits > largest ? bits : largest;
    }
    float factor = factor_of(largest);
    for (int64_t block = 0; block < depth_blocks(inputs); block++) {
        uint8_t *to = tiles + block * TILE_BYTES;
        int64_t count = inputs - block * DEPTH < DEPTH ? inputs - block * DEPTH : DEPTH;
        if (factor == 0) count = 0;
        for (int64_t i = 0; i < count; i++) to[i] = (uint8_t)(int32_t)(x[block * DEPTH + i] * factor + 128.5f);
        for (int64_t i = count; i < DEPTH; i++) to[i] = 128;
    }
    return scale_of(largest);
}

AVX512 static float quantize_row_avx512(const float *x, int64_t inputs, uint8_t *tiles) { /* inputs % 16 == 0 */
    __m512i largest = _mm512_setzero_si512(), magnitude = _mm512_set1_epi32(FLOAT_BITS);
    for (int64_t i = 0; i < inputs; i += 16)
        largest = _mm512_max_epu32(largest, _mm512_and_si512(magnitude, _mm512_castps_si512(_mm512_loadu_ps(x + i))));
    uint32_t most = _mm512_reduce_max_epu32(largest);
    float one = factor_of(most);
    __m512 factor = _mm512_set1_ps(one), half = _mm512_set1_ps(128.5f);
    for (int64_t i = 0; i < round_up(inputs, DEPTH); i += 16) {
        __m128i bytes = _mm_set1_epi8((char)128);
        if (i < inputs && one != 0)
            bytes = _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(
                _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), factor), half)));
        _mm_storeu_si128((__m128i *)(tiles + i / DEPTH * TILE_BYTES + i % DEPTH), bytes);
    }
    return scale_of(most);
}

INLINE float quantize_row(int64_t level, const float *x, int64_t inputs, uint8_t *tiles) {
    if (level >= LEVEL_AVX512_VNNI && inputs % 16 == 0) return quantize_row_avx512(x, inputs, tiles);
    return quantize_row_anywhere(x, inputs, tiles);
}

CLONES static void normalize_row(const float *x, int64_t dim, const float *gain, const float *bias, float *y) {
    float sum = 0, squares = 0;
    for (int64_t i = 0; i < dim; i++) sum += x[i];
    float mean = sum / (float)dim;
    for (int64_t i = 0; i < dim; i++) squares += (x[i] - mean) * (x[i] - mean);
    float factor = 1.0f / sqrtf(squares / (float)dim + 1e-5f);
    for (int64_t i = 0; i < dim; i++) y[i] = (x[i] - mean) * factor * gain[i] + bias[i];
}

/* Products. `a` points to a row in its tiles, and `b0` and `b1` to blocks of outputs; c has SPAN columns. */

#define AVX512_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
/* The sums are separate variables so that they stay in registers; GCC 12 copies and spills arrays. */
#define ROWS_1(X) X(0)
#define ROWS_2(X) ROWS_1(X) X(1)
#define ROWS_3(X) ROWS_2(X) X(2)
#define ROWS_4(X) ROWS_3(X) X(3)
#define ROWS_5(X) ROWS_4(X) X(4)
#define ROWS_6(X) ROWS_5(X) X(5)
#define ROWS_7(X) ROWS_6(X) X(6)
#define ROWS_8(X) ROWS_7(X) X(7)

#define AVX2 __attribute__((target("avx2,fma")))
#define ROWS_AVX2 4 /* with 8 outputs, 8 sums: with more, weights or sums would leave the 16 registers */

/* Widen rows to int16, which AVX2 multiplies exactly; the sum of two products of int8 might not fit into int16. */
AVX2 static void widen_rows(const uint8_t *a, int rows, int64_t blocks, int16_t *x) {
    for (int row = 0; row < rows; row++, a += DEPTH)
        for (int64_t i = 0; i < blocks * DEPTH; i += 16, x += 16) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(a + i / DEPTH * TILE_BYTES + i % DEPTH));
            _mm256_storeu_si256((__m256i *)x, _mm256_cvtepu8_epi16(bytes));
        }
}

/* In assembler, because GCC 12 would copy the sums. */
#define ADD_TO(sums, products) __asm__("vpaddd %1, %0, %0" : "+x"(sums) : "x"(products));
#define BEGIN_ROW_AVX2(n) __m256i p##n = _mm256_setzero_si256(), q##n = p##n; /* four outputs with two sums each */
#define MULTIPLY_ROW_AVX2(n)                      \
    memcpy(&four, x + n * depth + i, 8);          \
    repeated = _mm256_set1_epi64x(four);          \
    ADD_TO(p##n, _mm256_madd_epi16(repeated, w0)) \
    ADD_TO(q##n, _mm256_madd_epi16(repeated, w1))
#define STORE_ROW_AVX2(n)                                                       \
    p##n = _mm256_hadd_epi32(p##n, q##n); /* outputs 0, 1, 4, 5, 2, 3, 6, 7 */  \
    _mm256_storeu_si256((__m256i *)(c + n * SPAN), _mm256_permute4x64_epi64(p##n, 0xD8));

/* Multiply some widened rows with half a block of outputs. */
#define DEFINE_MULTIPLY_AVX2(name, EACH_ROW)                                                                          \
    AVX2 static void name(const int16_t *x, int64_t depth, const int8_t *b, int32_t *c) {                             \
        EACH_ROW(BEGIN_ROW_AVX2)                                                                                      \
        for (int64_t i = 0; i < depth; i += 4) {                                                                      \
            const __m128i *w = (const __m128i *)(b + i * SIDE);                                                       \
            __m256i w0 = _mm256_cvtepi8_epi16(_mm_load_si128(w)), w1 = _mm256_cvtepi8_epi16(_mm_load_si128(w + 1));   \
            __m256i repeated;                                                                                         \
            int64_t four;                                                                                             \
            EACH_ROW(MULTIPLY_ROW_AVX2)                                                                               \
        }                                                                                                             \
        EACH_ROW(STORE_ROW_AVX2)                                                                                      \
    }
DEFINE_MULTIPLY_AVX2(multiply_avx2_1, ROWS_1)
DEFINE_MULTIPLY_AVX2(multiply_avx2_2, ROWS_2)
DEFINE_MULTIPLY_AVX2(multiply_avx2_3, ROWS_3)
DEFINE_MULTIPLY_AVX2(multiply_avx2_4, ROWS_4)

static void multiply_avx2(const uint8_t *a, int rows, const int8_t *b0, const int8_t *b1, int64_t blocks, int32_t *c) {
    static void (*const multiply_some[])(const int16_t *, int64_t, const int8_t *, int32_t *) = {
        multiply_avx2_1, multiply_avx2_2, multiply_avx2_3, multiply_avx2_4};
    int16_t x[ROWS_AVX2 * MOST_DIM];
    int64_t depth = blocks * DEPTH;
    for (int row = 0, count; row < rows; row += count, a += count * DEPTH, c += count * SPAN) {
        count = rows - row < ROWS_AVX2 ? rows - row : ROWS_AVX2;
        widen_rows(a, count, blocks, x);
        for (int part = 0; part < SPAN; part += 8) { /* half a block at a time */
            const int8_t *b = part < SIDE ? b0 : b1;
            multiply_some[count - 1](x, depth, b + part % SIDE * 4, c + part);
        }
    }
}

#define AVX_VNNI __attribute__((target("avx2,avxvnni")))
#define ROWS_AVX_VNNI 6 /* with 16 outputs, 12 sums of the 16 registers */
#define BEGIN_ROW_AVX_VNNI(n) __m256i p##n = _mm256_setzero_si256(), q##n = p##n;
#define MULTIPLY_ROW_AVX_VNNI(n)                    \
    memcpy(&four, from + n * DEPTH + i % DEPTH, 4); \
    x = _mm256_set1_epi32(four);                    \
    p##n = _mm256_dpbusd_avx_epi32(p##n, x, w0);    \
    q##n = _mm256_dpbusd_avx_epi32(q##n, x, w1);
#define STORE_ROW_AVX_VNNI(n)                                    \
    _mm256_storeu_si256((__m256i *)(c + n * SPAN), p##n);        \
    _mm256_storeu_si256((__m256i *)(c + n * SPAN + 8), q##n);

/* Multiply some rows of a tile with a block of outputs. */
#define DEFINE_MULTIPLY_AVX_VNNI(name, EACH_ROW)                                                        \
    AVX_VNNI static void name(const uint8_t *a, const int8_t *b, int64_t blocks, int32_t *c) {          \
        EACH_ROW(BEGIN_ROW_AVX_VNNI)                                                                    \
        for (int64_t i = 0; i < blocks * DEPTH; i += 4) {                                               \
            const uint8_t *from = a + i / DEPTH * TILE_BYTES;                                           \
            const __m256i *w = (const __m256i *)(b + i * SIDE);                                         \
            __m256i w0 = _mm256_load_si256(w), w1 = _mm256_load_si256(w + 1), x;                        \
            int32_t four;                                                                               \
            EACH_ROW(MULTIPLY_ROW_AVX_VNNI)                                                             \
        }                                                                                               \
        EACH_ROW(STORE_ROW_AVX_VNNI)                                                                    \
    }
DEFINE_MULTIPLY_AVX_VNNI(multiply_avx_vnni_1, ROWS_1)
DEFINE_MULTIPLY_AVX_VNNI(multiply_avx_vnni_2, ROWS_2)
DEFINE_MULTIPLY_AVX_VNNI(multiply_avx_vnni_3, ROWS_3)
DEFINE_MULTIPLY_AVX_VNNI(multiply_avx_vnni_4, ROWS_4)
DEFINE_MULTIPLY_AVX_VNNI(multiply_avx_vnni_5, ROWS_5)
DEFINE_MULTIPLY_AVX_VNNI(multiply_avx_vnni_6, ROWS_6)

static void multiply_avx_vnni(const uint8_t *a, int rows, const int8_t *b0, const int8_t *b1, int64_t blocks,
                              int32_t *c) {
    static void (*const multiply_some[])(const uint8_t *, const int8_t *, int64_t, int32_t *) = {
        multiply_avx_vnni_1, multiply_avx_vnni_2, multiply_avx_vnni_3,
        multiply_avx_vnni_4, multiply_avx_vnni_5, multiply_avx_vnni_6};
    for (int row = 0, count; row < rows; row += count, a += count * DEPTH, c += count * SPAN) {
        count = rows - row < ROWS_AVX_VNNI ? rows - row : ROWS_AVX_VNNI;
        multiply_some[count - 1](a, b0, blocks, c);
        multiply_some[count - 1](a, b1, blocks, c + SIDE);
    }
}

#define AMX __attribute__((target("amx-tile,amx-int8")))
static __thread int tiles_ready; /* in this thread */

AMX static void begin_amx(void) {
    /* Eight tiles of 16 rows by 64 bytes. It is static because GCC assumes that only the first bytes are read. */
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } tiles = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&tiles);
    tiles_ready = 1;
}

AMX static void end_amx(void) {
    _tile_release();
    tiles_ready = 0;
}

AMX static void multiply_amx(const uint8_t *a0, const uint8_t *a1, const int8_t *b0, const int8_t *b1,
                             int64_t blocks, int32_t *c) {
    _tile_zero(0);
    _tile_zero(1);
    if (a1) {
        _tile_zero(2);
        _tile_zero(3);
        for (int64_t at = 0; at < blocks * TILE_BYTES; at += TILE_BYTES) {
            _tile_loadd(4, a0 + at, DEPTH);
            _tile_loadd(6, b0 + at, DEPTH);
            _tile_loadd(7, b1 + at, DEPTH);
            _tile_loadd(5, a1 + at, DEPTH);
            _tile_dpbusd(0, 4, 6);
            _tile_dpbusd(1, 4, 7);
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
        }
        _tile_stored(2, c + SIDE * SPAN, SPAN * 4);
        _tile_stored(3, c + SIDE * SPAN + SIDE, SPAN * 4);
    } else {
        for (int64_t at = 0; at < blocks * TILE_BYTES; at += TILE_BYTES) {
            _tile_loadd(4, a0 + at, DEPTH);
            _tile_loadd(6, b0 + at, DEPTH);
            _tile_loadd(7, b1 + at, DEPTH);
            _tile_dpbusd(0, 4, 6);
            _tile_dpbusd(1, 4, 7);
        }
    }
    _tile_stored(0, c, SPAN * 4);
    _tile_stored(1, c + SIDE, SPAN * 4);
}

/* Multiply up to SPAN rows from row `first` (a multiple of 16) with the outputs from `output` on. */
INLINE void multiply(int level, const Rows *rows, int64_t first, int count, const Matrix *matrix, int64_t output,
                     int32_t *c) {
    int64_t blocks = depth_blocks(matrix->inputs);
    const int8_t *b0 = matrix->weight + output * blocks * DEPTH;
    /* If the number of blocks is odd, the last block is multiplied twice instead of reading beyond it. */
    const int8_t *b1 = output + SIDE < matrix->outputs ? b0 + blocks * TILE_BYTES : b0;
    const uint8_t *a0 = row_in_tiles(rows, first, blocks), *a1 = a0 + blocks * TILE_BYTES;
    if (level == LEVEL_AMX) {
        if (!tiles_ready) begin_amx();
        multiply_amx(a0, count > SIDE ? a1 : NULL, b0, b1, blocks, c);
        return;
    }
    for (int done = 0; done < count; done += SIDE, a0 = a1, c += SIDE * SPAN) {
        int part = count - done < SIDE ? count - done : SIDE;
        (level == LEVEL_AVX_VNNI ? multiply_avx_vnni : multiply_avx2)(a0, part, b0, b1, blocks, c);
    }
}

#endif
