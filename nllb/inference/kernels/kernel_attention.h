/* Attention of the decoder to its past and to a source, and of the encoder to itself; `kernel.c` includes this file. */
#ifndef NLLB_KERNEL_ATTENTION_H
#define NLLB_KERNEL_ATTENTION_H

/* ---- decoder ---- */

/* Compute attention of a new position of a row to itself and to the previous positions, for some heads. */
static void attend_past(const Work *work, const Step *step, int64_t layer, int64_t row, int64_t head, int64_t heads) {
    int64_t dim = work->dim, size = dim / work->heads, part = step->capacity * step->slots * dim;
    uint16_t *keys = step->cache + layer * 2 * part, *values = keys + part;
    float factor = 1.0f / sqrtf((float)size), scores[MOST_POSITIONS];
    const uint16_t *past[MOST_POSITIONS]; /* values; the keys precede them by `part` */
    for (int64_t new = 0; new < step->new_positions; new++) {
        int64_t place = row * step->new_positions + new, position = step->before + new;
        const float *q = work->wide + place * 3 * dim;
        int64_t own = (position * step->slots + row) * dim + head * size;
        round_to_bf16(q + dim + head * size, heads * size, keys + own);
        round_to_bf16(q + 2 * dim + head * size, heads * size, values + own);
        const int32_t *ancestors = step->ancestors + row * step->capacity;
        for (int64_t t = 0; t <= position; t++) past[t] = values + (t * step->slots + ancestors[t]) * dim;
        for (int64_t h = head; h < head + heads; h++) {
            for (int64_t t = 0; t <= position; t++)
                scores[t] = factor * dot_bf16(q + h * size, past[t] - part + h * size, size);
            fast_softmax(scores, position + 1);
            weigh_bf16(scores, past, h * size, position + 1, size, work->mixed + place * dim + h * size);
        }
    }
}

static void attend_memory(const Work *work, const Step *step, const Memory *memory, int64_t layer, int64_t row,
                          int64_t head, int64_t heads) {
    int64_t dim = work->dim, size = dim / work->heads, sentence = step->sentence[row];
    int64_t length = memory->length[sentence], padded = round_up(length, 16);
    const uint16_t *keys = memory->keys_values + (layer * 2 * memory->total + memory->start[sentence]) * dim;
    const uint16_t *values = keys + memory->total * dim;
    float scores[MOST_POSITIONS];
    const uint16_t *source[MOST_POSITIONS];
    for (int64_t t = 0; t < length; t++) source[t] = values + t * dim;
    for (int64_t place = row * step->new_positions; place < (row + 1) * step->new_positions; place++) {
        for (int64_t h = head; h < head + heads; h++) {
            const float *q = work->wide + place * dim + h * size;
            score_transposed_bf16(q, size, 1.0f / sqrtf((float)size), keys + h * size * padded, padded, scores);
            fast_softmax(scores, length);
            weigh_bf16(scores, source, h * size, length, size, work->mixed + place * dim + h * size);
        }
    }
}

/* ---- encoder ---- */

#define QUERIES 4 /* number of queries of a head that are processed together */

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

/* Compute self-attention of one head of a sentence; q, k, v are in rows of 3 * dim. The size of a head must be a
 * multiple of 16. Return 0 if memory is exhausted. */
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
            fast_softmax(weights[q], length);
        multiply_four((const float *const *)weights, length, qkv + 2 * dim, 3 * dim, size, to);
    }
    free(keys);
    return 1;
}

/* `attend_head` for heads of any size. */
static int attend_any_head(const Work *work, const float *qkv, int64_t length, int64_t head, float *mixed) {
    int64_t dim = work->dim, size = dim / work->heads, padded = round_up(length, 16);
    float scores[MOST_POSITIONS], factor = 1.0f / sqrtf((float)size);
    float *keys = aligned_alloc(64, (size_t)round_up(padded * size * 4, 64));
    if (!keys) return 0;
    qkv += head * size;
    for (int64_t t = 0; t < length; t++)
        for (int64_t i = 0; i < size; i++) keys[i * padded + t] = qkv[t * 3 * dim + dim + i];
    for (int64_t i = 0; i < size; i++)
        for (int64_t t = length; t < padded; t++) keys[i * padded + t] = 0;
    for (int64_t t = 0; t < length; t++) {
        score_transposed(qkv + t * 3 * dim, size, factor, keys, padded, scores);
        softmax(scores, length);
        add_values(mixed + t * dim + head * size, scores, length, qkv + 2 * dim, 3 * dim, size);
    }
    free(keys);
    return 1;
}

typedef struct {
    const Work *work;
    const int32_t *token_start, *length;
    _Atomic int failed; /* whether a thread ran out of memory */
} Sources;

static void attend_source(void *context, int64_t item) {
    Sources *s = context;
    const Work *work = s->work;
    int64_t sentence = item / work->heads, start = s->token_start[sentence];
    const float *qkv = work->wide + start * 3 * work->dim;
    float *mixed = work->mixed + start * work->dim;
    int in_lanes = work->dim / work->heads % SIDE == 0;
    if (!(in_lanes ? attend_head : attend_any_head)(work, qkv, s->length[sentence], item % work->heads, mixed))
        s->failed = 1;
}

#endif
