/* Products of quantised rows with a span of 32 outputs, converted to floats and completed in one pass.
 *
 * With AVX-512, sums stay in registers until the floats are stored. Weights that are read from memory are prefetched
 * while the previous span is multiplied: the passes over the rows of a span share the lines of the next one.
 */
#ifndef NLLB_KERNEL_PRODUCTS_H
#define NLLB_KERNEL_PRODUCTS_H

#include "kernel_matrix.h"

/* x * Phi(x). Phi is 0.5 + x * a polynomial of x^2 up to |x| = 4.1, and 0 or 1 beyond. The maximum error is 1e-4, which
 * is far below the quantisation step of a row. */
static const float GELU_TERMS[] = {-8.288599251393691e-10f, 7.471618346244213e-08f, -2.915792265412165e-06f,
                                   6.525277422042564e-05f, -0.0009386640158481896f, 0.009251662530004978f,
                                   -0.06544346362352371f, 0.3984145522117615f};

CLONES static void gelu(float *x, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float t = x[i] < -4.1f ? -4.1f : x[i];
        t = t > 4.1f ? 4.1f : t;
        float u = t * t, p = GELU_TERMS[0];
        for (int k = 1; k < 8; k++) p = p * u + GELU_TERMS[k];
        x[i] = x[i] * (t * p + 0.5f);
    }
}

/* Convert products to floats: y = (c - offset) * scale * row scale + bias, followed by the operation of `mode`. */
CLONES static void finish(const int32_t *c, int rows, int columns, const Matrix *matrix, int64_t output,
                          const float *scales, float *y, int64_t stride, int mode) {
    const float *scale = matrix->scale + output, *bias = matrix->bias + output;
    const int32_t *offset = matrix->offset + output;
    for (int row = 0; row < rows; row++, c += SPAN, y += stride) {
        float row_scale = scales[row];
        if (mode == STORE) {
            for (int i = 0; i < columns; i++) y[i] = (float)(c[i] - offset[i]) * (scale[i] * row_scale) + bias[i];
        } else if (mode == STORE_RELU) {
            for (int i = 0; i < columns; i++) {
                float value = (float)(c[i] - offset[i]) * (scale[i] * row_scale) + bias[i];
                y[i] = value < 0 ? 0 : value; /* NaN stays */
            }
        } else {
            for (int i = 0; i < columns; i++) y[i] += (float)(c[i] - offset[i]) * (scale[i] * row_scale) + bias[i];
        }
    }
}

typedef struct {
    const Matrix *matrix;
    int64_t output;      /* first output of the span, a multiple of 16 */
    const int8_t *ahead; /* weights that this thread will probably need next, or NULL */
    float *y;            /* result of the first row and output */
    int64_t stride;      /* between the results of rows */
    int mode;
} Span;

INLINE AVX512 __m512 gelu16(__m512 x) {
    const __m512 limit = _mm512_set1_ps(4.1f);
    __m512 t = _mm512_max_ps(_mm512_min_ps(x, limit), _mm512_sub_ps(_mm512_setzero_ps(), limit));
    __m512 u = _mm512_mul_ps(t, t), p = _mm512_set1_ps(GELU_TERMS[0]);
    for (int i = 1; i < 8; i++) p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(GELU_TERMS[i]));
    return _mm512_mul_ps(x, _mm512_fmadd_ps(t, p, _mm512_set1_ps(0.5f)));
}

typedef struct {
    __m512i offset;
    __m512 scale, bias;
} Outputs16;

INLINE AVX512 Outputs16 outputs16(const Matrix *matrix, int64_t output) {
    return (Outputs16){_mm512_loadu_si512(matrix->offset + output), _mm512_loadu_ps(matrix->scale + output),
                       _mm512_loadu_ps(matrix->bias + output)};
}

/* `finish` for 16 outputs of one row. */
INLINE AVX512 void finish16(__m512i sums, Outputs16 outputs, float row_scale, float *y, int mode) {
    __m512 scale = _mm512_mul_ps(outputs.scale, _mm512_set1_ps(row_scale));
    __m512 value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sums, outputs.offset)), scale, outputs.bias);
    if (mode == STORE_RELU) value = _mm512_max_ps(_mm512_setzero_ps(), value); /* NaN, the second operand, stays */
    if (mode == STORE_GELU) value = gelu16(value);
    if (mode == ADD) value = _mm512_add_ps(value, _mm512_loadu_ps(y));
    _mm512_storeu_ps(y, value);
}

#define MOST_ROWS 8 /* with two blocks of outputs, 16 sums: enough to hide the latency of a product */

#define BEGIN_ROW(n) __m512i p##n = _mm512_setzero_si512(), q##n = p##n;
#define MULTIPLY_ROW(n)                           \
    memcpy(&four, a + n * DEPTH + group * 4, 4);  \
    x = _mm512_set1_epi32(four);                  \
    p##n = _mm512_dpbusd_epi32(p##n, x, w0);      \
    q##n = _mm512_dpbusd_epi32(q##n, x, w1);
#define FINISH_FIRST(n) finish16(p##n, outputs, scales[n], y + n * span->stride, span->mode);
#define FINISH_SECOND(n) finish16(q##n, outputs, scales[n], y + n * span->stride + SIDE, span->mode);

/* Multiply some rows of a tile, and prefetch `lines` lines of 64 bytes of two blocks of outputs for each 64 inputs. */
#define DEFINE_PROJECT(name, EACH_ROW)                                                                         \
    AVX512_VNNI static void name(const uint8_t *a, const float *scales, const Span *span, float *y,            \
                                 const int8_t *ahead, int lines) {                                             \
        int64_t blocks = depth_blocks(span->matrix->inputs);                                                   \
        int wide = span->output + SIDE < span->matrix->outputs;                                                \
        const int8_t *b0 = span->matrix->weight + span->output * blocks * DEPTH;                               \
        const int8_t *last = b0 + blocks * TILE_BYTES, *b1 = wide ? last : b0; /* the last may be alone */     \
        EACH_ROW(BEGIN_ROW)                                                                                    \
        for (; b0 < last; a += TILE_BYTES, b0 += TILE_BYTES, b1 += TILE_BYTES) {                               \
            for (int line = 0; line < lines; line++, ahead += 64) {                                            \
                _mm_prefetch(ahead, _MM_HINT_T0);                                                              \
                _mm_prefetch(ahead + blocks * TILE_BYTES, _MM_HINT_T0);                                        \
            }                                                                                                  \
            for (int group = 0; group < 16; group++) {                                                         \
                __m512i w0 = _mm512_load_si512(b0 + group * 64), w1 = _mm512_load_si512(b1 + group * 64), x;   \
                int32_t four;                                                                                  \
                EACH_ROW(MULTIPLY_ROW)                                                                         \
            }                                                                                                  \
        }                                                                                                      \
        Outputs16 outputs = outputs16(span->matrix, span->output);                                             \
        EACH_ROW(FINISH_FIRST)                                                                                 \
        if (!wide) return;                                                                                     \
        outputs = outputs16(span->matrix, span->output + SIDE);                                                \
        EACH_ROW(FINISH_SECOND)                                                                                \
    }
DEFINE_PROJECT(project_1, ROWS_1)
DEFINE_PROJECT(project_2, ROWS_2)
DEFINE_PROJECT(project_3, ROWS_3)
DEFINE_PROJECT(project_4, ROWS_4)
DEFINE_PROJECT(project_5, ROWS_5)
DEFINE_PROJECT(project_6, ROWS_6)
DEFINE_PROJECT(project_7, ROWS_7)
DEFINE_PROJECT(project_8, ROWS_8)

#define TILE_LINES 16   /* lines of a tile: of one block of outputs for 64 inputs */
#define NEAR_BYTES 4096 /* distance at which memory is read fastest in one pass (measured on Zen 5) */

/* Multiply the rows `first` to `last` - 1. A single pass prefetches weights of its own span, unless there is only one
 * row, for which the hardware prefetches well. Several passes share the lines of the next span. */
static void project_span_avx512(const Rows *from, int64_t first, int64_t last, const Span *span) {
    static void (*const project_some[])(const uint8_t *, const float *, const Span *, float *, const int8_t *, int) = {
        project_1, project_2, project_3, project_4, project_5, project_6, project_7, project_8};
    int64_t blocks = depth_blocks(span->matrix->inputs), passes = (last - first + MOST_ROWS - 1) / MOST_ROWS;
    const int8_t *ahead = span->ahead, *own = span->matrix->weight + span->output * blocks * DEPTH;
    if (passes == 1) ahead = last - first > 1 ? own + NEAR_BYTES : NULL;
    int left = ahead ? TILE_LINES : 0, share = (int)((TILE_LINES + passes - 1) / passes);
    for (int64_t row = first; row < last; row += MOST_ROWS) {
        int lines = left < share ? left : share, count = last - row < MOST_ROWS ? (int)(last - row) : MOST_ROWS;
        const uint8_t *a = row_in_tiles(from, row, blocks);
        project_some[count - 1](a, from->scales + row, span, span->y + row * span->stride, ahead, lines);
        left -= lines;
        if (ahead) ahead += lines * blocks * 64;
    }
}

/* Complete the products `c` of up to SPAN rows as in `project_1` to `project_8`, so that the result of a row depends
 * neither on the other rows nor, on processors with AVX-512, on the level. */
AVX512 static void finish_avx512(const int32_t *c, int rows, int columns, const Span *span, const float *scales,
                                      float *y) {
    for (int column = 0; column < columns; column += SIDE) {
        Outputs16 outputs = outputs16(span->matrix, span->output + column);
        for (int row = 0; row < rows; row++)
            finish16(_mm512_loadu_si512(c + row * SPAN + column), outputs, scales[row], y + row * span->stride + column,
                     span->mode);
    }
}

static void finish_anywhere(const int32_t *c, int rows, int columns, const Span *span, const float *scales, float *y) {
    int with_gelu = span->mode == STORE_GELU, mode = with_gelu ? STORE : span->mode;
    finish(c, rows, columns, span->matrix, span->output, scales, y, span->stride, mode);
    for (int row = 0; with_gelu && row < rows; row++) gelu(y + row * span->stride, columns);
}

static void project_span_anywhere(int level, const Rows *from, int64_t rows, const Span *span) {
    int32_t c[SPAN * SPAN] __attribute__((aligned(64)));
    int64_t left = span->matrix->outputs - span->output;
    int columns = left < SPAN ? (int)left : SPAN;
    for (int64_t row = 0; row < rows; row += SPAN) {
        int count = rows - row < SPAN ? (int)(rows - row) : SPAN;
        multiply(level, from, row, count, span->matrix, span->output, c);
        (has_avx512() ? finish_avx512 : finish_anywhere)(c, count, columns, span, from->scales + row,
                                                         span->y + row * span->stride);
    }
}

/* Return the weights of an output that the caller's thread will need later, or NULL beyond the last output. */
INLINE const int8_t *ahead_of(const Matrix *matrix, int64_t output) {
    int64_t depth = depth_blocks(matrix->inputs) * DEPTH;
    return output + SPAN <= matrix->outputs ? matrix->weight + output * depth : NULL;
}

#define FEW_ROWS 4 /* up to this number of rows, AVX-512 is faster than AMX */

/* Multiply rows with up to SPAN outputs. */
static void project_span(int level, const Rows *from, int64_t rows, const Span *span) {
    int64_t few = level == LEVEL_AVX512_VNNI ? rows : 0; /* rows at the end for AVX-512 */
    if (level == LEVEL_AMX && rows % SPAN <= FEW_ROWS) few = rows % SPAN;
    if (rows > few) project_span_anywhere(level, from, rows - few, span);
    if (few) project_span_avx512(from, rows - few, rows, span);
}

#endif
