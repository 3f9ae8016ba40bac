/* The layers of a BERT-style encoder in int8, for `post_norm_encoder.py`; `kernel.c` includes this file.
 *
 * A layer normalises after each sublayer and has GELU between its feed-forward matrices. The ranges of the channels
 * of a normalised state differ by up to a factor of a hundred, so the channels are multiplied by smoothing factors
 * before a row is quantised, and the following matrices are divided by the same factors when they are packed.
 */
#ifndef NLLB_KERNEL_ENCODER_H
#define NLLB_KERNEL_ENCODER_H

typedef struct {
    Matrix qkv, out, inner, outer;
    Norm attention_norm, feed_norm;
    const float *qkv_factors, *inner_factors; /* smoothing factors of the input channels */
} PostNormLayer;

CLONES static void multiply_row(const float *x, const float *factors, int64_t dim, float *y) {
    for (int64_t i = 0; i < dim; i++) y[i] = x[i] * factors[i];
}

CLONES static void normalize_in_place(float *x, int64_t dim, const Norm *norm, float epsilon) {
    const float *gain = norm->gain, *bias = norm->bias;
    float sum = 0, squares = 0;
    for (int64_t i = 0; i < dim; i++) sum += x[i];
    float mean = sum / (float)dim;
    for (int64_t i = 0; i < dim; i++) squares += (x[i] - mean) * (x[i] - mean);
    float factor = 1.0f / sqrtf(squares / (float)dim + epsilon);
    for (int64_t i = 0; i < dim; i++) x[i] = (x[i] - mean) * factor * gain[i] + bias[i];
}

/* ---- rows ---- */

typedef struct {
    const Work *work;
    const Norm *norm; /* if given, rows of x are normalised in place first */
    const float *factors;
    float *x;
    float epsilon;
} RowTask;

static void prepare_row(void *context, int64_t row) {
    const RowTask *task = context;
    int64_t dim = task->work->dim;
    Rows to = {task->work->tiles, task->work->scales};
    float evened[MOST_DIM], *x = task->x + row * dim;
    if (task->norm) normalize_in_place(x, dim, task->norm, task->epsilon);
    if (!task->factors) return;
    multiply_row(x, task->factors, dim, evened);
    to.scales[row] = quantize_row(task->work->level, evened, dim, row_in_tiles(&to, row, depth_blocks(dim)));
}

/* Normalise rows of x in place, quantise them, or both. */
static void prepare_rows(const Work *work, const Norm *norm, float epsilon, const float *factors, float *x,
                         int64_t rows) {
    RowTask task = {work, norm, factors, x, epsilon};
    share(work->owner && rows * work->dim > 8192, rows, prepare_row, &task);
}

/* ---- attention ---- */

#define QUERIES 4 /* number of queries of a head that are processed together */

typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));

/* y[q] = sum over k of a[q][k] * row k of b, for QUERIES rows and a multiple of 16 columns. */
CLONES static void multiply_four(const float *const *a, int64_t depth, const float *b, int64_t stride,
                                 int64_t columns, float *const *y) {
    const float *a0 = a[0], *a1 = a[1], *a2 = a[2], *a3 = a[3];
    int64_t j = 0;
    for (; j + 32 <= columns; j += 32) {
        Lanes p0 = {0}, p1 = p0, p2 = p0, p3 = p0, q0 = p0, q1 = p0, q2 = p0, q3 = p0;
        for (int64_t k = 0; k < depth; k++) {
            Lanes p = *(const Lanes *)(b + k * stride + j), q = *(const Lanes *)(b + k * stride + j + 16);
            p0 += a0[k] * p, q0 += a0[k] * q;
            p1 += a1[k] * p, q1 += a1[k] * q;
            p2 += a2[k] * p, q2 += a2[k] * q;
            p3 += a3[k] * p, q3 += a3[k] * q;
        }
        *(Lanes *)(y[0] + j) = p0, *(Lanes *)(y[0] + j + 16) = q0;
        *(Lanes *)(y[1] + j) = p1, *(Lanes *)(y[1] + j + 16) = q1;
        *(Lanes *)(y[2] + j) = p2, *(Lanes *)(y[2] + j + 16) = q2;
        *(Lanes *)(y[3] + j) = p3, *(Lanes *)(y[3] + j + 16) = q3;
    }
    for (; j < columns; j += 16) {
        Lanes p0 = {0}, p1 = p0, p2 = p0, p3 = p0;
        for (int64_t k = 0; k < depth; k++) {
            Lanes p = *(const Lanes *)(b + k * stride + j);
            p0 += a0[k] * p, p1 += a1[k] * p, p2 += a2[k] * p, p3 += a3[k] * p;
        }
        *(Lanes *)(y[0] + j) = p0, *(Lanes *)(y[1] + j) = p1, *(Lanes *)(y[2] + j) = p2, *(Lanes *)(y[3] + j) = p3;
    }
}

/* Compute `softmax` for 16 scores at a time. The order of the operands of max keeps NaN. */
AVX512_VNNI static void softmax_avx512(float *scores, int64_t count) {
    static const float terms[] = {1.5403530e-4f, 1.3333558e-3f, 9.6181291e-3f, 5.5504109e-2f,
                                  2.4022651e-1f, 6.9314718e-1f, 1.0f}; /* as in `exponential` */
    const __m512 lowest = _mm512_set1_ps(-3e38f);
    __m512 largest = lowest, sums = _mm512_setzero_ps();
    for (int64_t t = 0; t < count; t += 16) {
        __mmask16 mask = count - t < 16 ? (__mmask16)((1 << (count - t)) - 1) : (__mmask16)0xFFFF;
        largest = _mm512_max_ps(largest, _mm512_mask_loadu_ps(lowest, mask, scores + t));
    }
    largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    for (int64_t t = 0; t < count; t += 16) {
        __mmask16 mask = count - t < 16 ? (__mmask16)((1 << (count - t)) - 1) : (__mmask16)0xFFFF;
        __m512 x = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, scores + t), largest);
        x = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
        __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm512_sub_ps(x, n);
        __m512 p = _mm512_set1_ps(terms[0]);
        for (int i = 1; i < 7; i++) p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(terms[i]));
        p = _mm512_scalef_ps(p, n);
        _mm512_mask_storeu_ps(scores + t, mask, p);
        sums = _mm512_mask_add_ps(sums, mask, sums, p);
    }
    __m512 factor = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sums));
    for (int64_t t = 0; t < count; t += 16) {
        __mmask16 mask = count - t < 16 ? (__mmask16)((1 << (count - t)) - 1) : (__mmask16)0xFFFF;
        _mm512_mask_storeu_ps(scores + t, mask, _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, scores + t), factor));
    }
}

/* Compute self-attention of one head of a sentence; q, k, v are in rows of 3 * dim. Return 0 if memory is exhausted. */
static int attend_head(const Work *work, const float *qkv, int64_t length, int64_t head, float *mixed) {
    int64_t dim = work->dim, size = dim / work->heads, width = round_up(length, 16);
    float factor = 1.0f / sqrtf((float)size);
    float *keys = aligned_alloc(64, (size_t)(width * (size + QUERIES)) * sizeof(float));
    if (!keys) return 0;
    float *scores = keys + width * size;
    qkv += head * size;
    for (int64_t t = 0; t < length; t++)
        for (int64_t i = 0; i < size; i++) keys[i * width + t] = qkv[t * 3 * dim + dim + i] * factor;
    for (int64_t i = 0; i < size; i++)
        for (int64_t t = length; t < width; t++) keys[i * width + t] = 0;
    for (int64_t first = 0; first < length; first += QUERIES) {
        const float *queries[QUERIES];
        float *to[QUERIES], *weights[QUERIES];
        for (int64_t q = 0; q < QUERIES; q++) { /* the last query is repeated */
            int64_t t = first + q < length ? first + q : length - 1;
            queries[q] = qkv + t * 3 * dim;
            to[q] = mixed + t * dim + head * size;
            weights[q] = scores + q * width;
        }
        multiply_four(queries, size, keys, width, width, weights);
        for (int64_t q = 0; q < QUERIES; q++)
            work->level >= LEVEL_AVX512_VNNI ? softmax_avx512(weights[q], length) : softmax(weights[q], length);
        multiply_four((const float *const *)weights, length, qkv + 2 * dim, 3 * dim, size, to);
    }
    free(keys);
    return 1;
}

static void attend_sentence_head(void *context, int64_t item) {
    Sources *s = context;
    const Work *work = s->work;
    int64_t sentence = item / work->heads, start = s->token_start[sentence];
    if (!attend_head(work, work->wide + start * 3 * work->dim, s->length[sentence], item % work->heads,
                     work->mixed + start * work->dim))
        s->failed = 1;
}

/* ---- entry point ---- */

static void feed_forward_gelu(const Work *work, const PostNormLayer *layer, float epsilon, float *x, int64_t rows) {
    int64_t dim = work->dim, width = layer->inner.outputs;
    int64_t stride = width + 16; /* not a power of two, because rows would share few cache sets */
    prepare_rows(work, &layer->attention_norm, epsilon, layer->inner_factors, x, rows);
    project(work, &layer->inner, rows, work->wide, stride, STORE_GELU);
    quantize(work, NULL, work->wide, stride, rows, layer->outer.inputs);
    project(work, &layer->outer, rows, x, dim, ADD);
    prepare_rows(work, &layer->feed_norm, epsilon, NULL, x, rows);
}

#define ENCODER_PANEL 128 /* number of rows whose feed-forward states fit into the L2 cache */

/* Return whether the buffers are large enough for a call. The head size must be a multiple of 16. */
static int post_norm_layers_fit(const Work *work, const PostNormLayer *layers, int64_t first, int64_t last,
                                int64_t rows) {
    if (work->dim % (SIDE * work->heads) || !fits(work, rows, work->dim)) return 0;
    for (int64_t at = first; at < last; at++)
        if (!fits(work, rows, layers[at].inner.outputs + 16) || !fits(work, rows, layers[at].outer.inputs)) return 0;
    return 1;
}

/* Run the layers `first` to `last` - 1 over the concatenated tokens of all sentences; x is their input and output. */
EXPORT int64_t nllb_encode_post_norm(Work *work, const PostNormLayer *layers, int64_t first, int64_t last,
                                     float epsilon, int64_t sentences, const int32_t *token_start,
                                     const int32_t *length, int64_t tokens, float *x) {
    Sources sources = {work, token_start, length, 0};
    int64_t dim = work->dim;
    if (!post_norm_layers_fit(work, layers, first, last, tokens)) return WRONG_SIZE;
    begin(work);
    for (const PostNormLayer *layer = layers + first; layer < layers + last && !sources.failed; layer++) {
        for (int64_t row = 0; row < tokens; row += ENCODER_PANEL) {
            int64_t rows = tokens - row < ENCODER_PANEL ? tokens - row : ENCODER_PANEL;
            prepare_rows(work, NULL, epsilon, layer->qkv_factors, x + row * dim, rows);
            project(work, &layer->qkv, rows, work->wide + row * 3 * dim, 3 * dim, STORE);
        }
        share(work->owner, sentences * work->heads, attend_sentence_head, &sources);
        for (int64_t row = 0; row < tokens; row += ENCODER_PANEL) {
            int64_t rows = tokens - row < ENCODER_PANEL ? tokens - row : ENCODER_PANEL;
            quantize(work, NULL, work->mixed + row * dim, dim, rows, dim);
            project(work, &layer->out, rows, x + row * dim, dim, ADD);
            feed_forward_gelu(work, layer, epsilon, x + row * dim, rows);
        }
    }
    end(work);
    return sources.failed ? NO_MEMORY : DONE;
}

#endif
