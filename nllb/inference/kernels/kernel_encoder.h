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
        share(work->owner, sentences * work->heads, attend_source, &sources);
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
