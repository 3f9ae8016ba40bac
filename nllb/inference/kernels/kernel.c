/* The encoder and decoder of a dense NLLB model in int8, called by `compiled_engine.py`, which describes the layout.
 *
 * The calling thread runs the phases in order, and the loops within a phase are distributed to threads in small
 * items. The caller must validate ids, lengths and shapes. Each entry point checks that the rows and the depth of the
 * call do not exceed those of the workspace, and returns 0 or one of the negative values of `Outcome`.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(__x86_64__) && defined(__linux__)

#include <sys/mman.h>

#include "kernel_matrix.h"
#include "kernel_products.h"
#include "kernel_threads.h"
#include "kernel_vectors.h"

#define VERSION 3 /* version of the entry points and structs below; `library.py` declares them as well and checks it */
#define PANEL 512 /* number of rows that are quantised and multiplied while they are in the cache */

enum Outcome { DONE = 0, NO_MEMORY = -1, WRONG_SIZE = -2 };

typedef struct { const float *gain, *bias; } Norm;

typedef struct {
    Norm self_norm;
    Matrix self_qkv, self_out;
    Norm cross_norm;
    Matrix cross_query, cross_out;
    Norm feed_norm;
    Matrix inner, outer; /* weight is NULL if the layer has experts */
} Layer;

typedef struct {
    int64_t threads, level, dim, heads;
    int64_t rows, depth; /* maximum rows of a call and maximum inputs of a matrix for these buffers */
    int64_t owner;       /* whether the call has helper threads; set by the kernel */
    float *wide;         /* rows, 3 * dim; or panel, depth */
    float *mixed;        /* rows, dim */
    uint8_t *tiles;      /* panel, depth */
    float *scales;       /* panel */
} Work;

typedef struct {
    int64_t total;             /* positions of all sentences, each padded to a multiple of 16 */
    const int32_t *start;      /* first position of each sentence */
    const int32_t *length;     /* length of each sentence */
    uint16_t *keys_values;     /* layer, 2, total * dim; keys of a sentence: head, dim of head, position */
} Memory;

typedef struct {
    int64_t rows, new_positions, before, slots, capacity;
    const int32_t *sentence;   /* sentence of each row */
    const int32_t *ancestors;  /* rows, capacity: the slot of each previous position of the row */
    uint16_t *cache;           /* layer, 2, capacity, slots, dim */
    float *x;                  /* rows, new_positions, dim */
} Step;

static int64_t begin(Work *work) { return work->owner = own_pool(work->threads); }

/* Return whether the buffers are large enough for a call. A panel has min(rows, PANEL) rows, rounded up to a tile. */
static int fits(const Work *work, int64_t rows, int64_t inputs) {
    return rows <= work->rows && inputs <= MOST_DIM && round_up(inputs, DEPTH) <= work->depth;
}

static void end(const Work *work) {
    if (work->owner) disown_pool();
    if (tiles_ready) end_amx();
}

/* ---- phases ---- */

typedef struct {
    const Work *work;
    const Norm *norm;
    const float *x;
    int64_t stride, inputs;
} Quantization;

static void quantize_one(void *context, int64_t row) {
    const Quantization *q = context;
    Rows to = {q->work->tiles, q->work->scales};
    float normed[MOST_DIM];
    const float *from = q->x + row * q->stride;
    if (q->norm) {
        normalize_row(from, q->inputs, q->norm->gain, q->norm->bias, normed);
        from = normed;
    }
    to.scales[row] = quantize_row(q->work->level, from, q->inputs, row_in_tiles(&to, row, depth_blocks(q->inputs)));
}

/* Quantise rows of x, which are normalised first if a norm is given. */
static void quantize(const Work *work, const Norm *norm, const float *x, int64_t stride, int64_t rows, int64_t inputs) {
    Quantization context = {work, norm, x, stride, inputs};
    share(work->owner && rows * inputs > 8192, rows, quantize_one, &context);
}

typedef struct {
    const Work *work;
    const Matrix *matrix;
    int64_t rows;
    float *y;
    int64_t stride, spans; /* number of spans of an item */
    int mode;
} Projection;

/* Multiply the quantised rows with the `spans` spans of outputs of an item. */
static void project_item(void *context, int64_t item) {
    const Projection *p = context;
    Rows from = {p->work->tiles, p->work->scales};
    int64_t first = item * p->spans * SPAN, last = first + p->spans * SPAN;
    for (int64_t output = first; output < last && output < p->matrix->outputs; output += SPAN) {
        /* Other threads take the next items, so that this one will take a later one. */
        int64_t next = output + SPAN < last ? output + SPAN : first + p->work->threads * p->spans * SPAN;
        Span span = {p->matrix, output, ahead_of(p->matrix, next), p->y + output, p->stride, p->mode};
        project_span((int)p->work->level, &from, p->rows, &span);
    }
}

#define ITEMS_PER_THREAD 8 /* so that threads of different speeds finish at about the same time */
#define MOST_SPANS 8       /* of an item */

/* Multiply the quantised rows with a matrix. An item is several spans, whose weights are adjacent, so that most of the
 * weights that a thread prefetches are its own. */
static void project(const Work *work, const Matrix *matrix, int64_t rows, float *y, int64_t stride, int mode) {
    int64_t spans = (matrix->outputs + SPAN - 1) / SPAN, each = spans / (ITEMS_PER_THREAD * work->threads);
    each = each < 1 ? 1 : each > MOST_SPANS ? MOST_SPANS : each;
    Projection context = {work, matrix, rows, y, stride, each, mode};
    share(work->owner, (spans + each - 1) / each, project_item, &context);
}

static void project_panels(const Work *work, const Norm *norm, const float *x, int64_t rows, const Matrix *matrix,
                           float *y, int64_t stride, int mode) {
    for (int64_t row = 0; row < rows; row += PANEL) {
        int64_t count = rows - row < PANEL ? rows - row : PANEL;
        quantize(work, norm, x + row * work->dim, work->dim, count, work->dim);
        project(work, matrix, count, y + row * stride, stride, mode);
    }
}

static void feed_forward(const Work *work, const Norm *norm, const Matrix *inner, const Matrix *outer, const float *x,
                         int64_t rows, float *y, int mode) {
    for (int64_t row = 0; row < rows; row += PANEL) {
        int64_t count = rows - row < PANEL ? rows - row : PANEL;
        quantize(work, norm, x + row * work->dim, work->dim, count, work->dim);
        project(work, inner, count, work->wide, inner->outputs, STORE_RELU);
        quantize(work, NULL, work->wide, inner->outputs, count, outer->inputs);
        project(work, outer, count, y + row * work->dim, work->dim, mode);
    }
}

#include "kernel_attention.h"

/* ---- entry points ---- */

#define EXPORT __attribute__((visibility("default")))

/* Return the highest level up to `wanted` that the processor and the operating system support. */
EXPORT int64_t nllb_level(int64_t wanted) {
    __builtin_cpu_init();
    int level = LEVEL_NONE;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) level = LEVEL_AVX2;
    uint32_t a, b, c, d;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(1));
    int avx_vnni = a >> 4 & 1;
    if (level && avx_vnni) level = LEVEL_AVX_VNNI;
    if (level && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        level = LEVEL_AVX512_VNNI;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
    int amx = (d >> 24 & 1) && (d >> 25 & 1);
    /* ARCH_REQ_XCOMP_PERM for XTILEDATA: the operating system must permit the use of tile registers. */
    if (level == LEVEL_AVX512_VNNI && amx && wanted >= LEVEL_AMX && syscall(SYS_arch_prctl, 0x1023, 18) == 0)
        level = LEVEL_AMX;
    if (wanted == LEVEL_AVX_VNNI && !avx_vnni) wanted = LEVEL_AVX2;
    return level < wanted ? level : wanted;
}

#define PAGE 4096

/* Ask for huge pages; the system accepts only the address of a page, which that of an allocation is not. */
EXPORT void nllb_advise_huge(void *from, int64_t bytes) {
    uintptr_t start = (uintptr_t)round_up((int64_t)(uintptr_t)from, PAGE), stop = (uintptr_t)from + (uintptr_t)bytes;
    if (stop > start) madvise((void *)start, stop - start, MADV_HUGEPAGE);
}

/* Drop pages of a mapped file from this process's memory; they are read again on access. */
EXPORT void nllb_advise_done(const void *from, int64_t bytes) {
    uintptr_t start = (uintptr_t)round_up((int64_t)(uintptr_t)from, PAGE);
    uintptr_t stop = ((uintptr_t)from + (uintptr_t)bytes) / PAGE * PAGE;
    if (stop > start) madvise((void *)start, stop - start, MADV_DONTNEED);
}

typedef struct {
    const int8_t *source;
    int64_t first, count, inputs;
    int8_t *packed;
    int32_t *offset;
} Packing;

#define GROUP 64 /* number of rows that are packed or copied as one item */

static void pack_group(void *context, int64_t item) {
    const Packing *p = context;
    int64_t row = item * GROUP, count = p->count - row < GROUP ? p->count - row : GROUP;
    pack_rows(p->source + row * p->inputs, p->first + row, count, p->inputs, p->packed, p->offset);
}

EXPORT void nllb_pack(Work *work, const int8_t *source, int64_t first, int64_t count, int64_t inputs, int8_t *packed,
                      int32_t *offset) {
    Packing context = {source, first, count, inputs, packed, offset};
    begin(work);
    share(work->owner, (count + GROUP - 1) / GROUP, pack_group, &context);
    end(work);
}

/* Copy outputs of a packed matrix in any order to another matrix. */
EXPORT void nllb_select(const Matrix *from, const int64_t *ids, int64_t count, int8_t *packed, float *scale,
                        int32_t *offset) {
    int64_t depth = depth_blocks(from->inputs) * DEPTH;
    for (int64_t at = 0; at < count; at++) {
        const int8_t *source = from->weight + ids[at] / SIDE * SIDE * depth + ids[at] % SIDE * 4;
        int8_t *target = packed + at / SIDE * SIDE * depth + at % SIDE * 4;
        for (int64_t group = 0; group < depth / 4; group++) memcpy(target + group * 64, source + group * 64, 4);
        scale[at] = from->scale[ids[at]];
        offset[at] = from->offset[ids[at]];
    }
}

/* x[i] = row ids[i] of the embedding * factor + position vector positions[i]. */
EXPORT void nllb_embed(const Matrix *embedding, const int64_t *ids, const int64_t *positions, int64_t count,
                       float factor, const float *table, float *x) {
    int64_t dim = embedding->inputs, depth = depth_blocks(dim) * DEPTH;
    for (int64_t at = 0; at < count; at++, x += dim) {
        const int8_t *row = embedding->weight + ids[at] / SIDE * SIDE * depth + ids[at] % SIDE * 4;
        const float *position = table + positions[at] * dim;
        float scale = embedding->scale[ids[at]] * factor;
        for (int64_t i = 0; i < dim; i++) x[i] = (float)row[i / 4 * 64 + i % 4] * scale + position[i];
    }
}

/* y = matrix * rows of x, for a separate call of one sublayer. */
EXPORT int64_t nllb_linear(Work *work, const Norm *norm, const Matrix *matrix, const float *x, int64_t rows, float *y,
                           int64_t stride) {
    if (!fits(work, rows, matrix->inputs)) return WRONG_SIZE;
    begin(work);
    project_panels(work, norm, x, rows, matrix, y, stride, STORE);
    end(work);
    return DONE;
}

static int feed_forward_fits(const Work *work, const Matrix *inner, const Matrix *outer, int64_t rows) {
    return fits(work, rows, inner->inputs) && fits(work, rows, inner->outputs) && fits(work, rows, outer->inputs);
}

EXPORT int64_t nllb_feed_forward(Work *work, const Matrix *inner, const Matrix *outer, const float *x, int64_t rows,
                                 float *y) {
    if (!feed_forward_fits(work, inner, outer, rows)) return WRONG_SIZE;
    begin(work);
    feed_forward(work, NULL, inner, outer, x, rows, y, STORE);
    end(work);
    return DONE;
}

static int layers_fit(const Work *work, const Layer *layers, int64_t first, int64_t last, int64_t rows) {
    if (!fits(work, rows, work->dim)) return 0;
    for (int64_t at = first; at < last; at++)
        if (layers[at].inner.weight && !feed_forward_fits(work, &layers[at].inner, &layers[at].outer, rows)) return 0;
    return 1;
}

/* Run the encoder layers `first` to `last` - 1 over the concatenated tokens of all sentences. */
EXPORT int64_t nllb_encode(Work *work, const Layer *layers, int64_t first, int64_t last, int64_t sentences,
                           const int32_t *token_start, const int32_t *length, int64_t tokens, float *x) {
    Sources sources = {work, token_start, length, 0};
    if (!layers_fit(work, layers, first, last, tokens)) return WRONG_SIZE;
    begin(work);
    for (const Layer *layer = layers + first; layer < layers + last && !sources.failed; layer++) {
        project_panels(work, &layer->self_norm, x, tokens, &layer->self_qkv, work->wide, 3 * work->dim, STORE);
        share(work->owner, sentences * work->heads, attend_source, &sources);
        project_panels(work, NULL, work->mixed, tokens, &layer->self_out, x, work->dim, ADD);
        if (layer->inner.weight)
            feed_forward(work, &layer->feed_norm, &layer->inner, &layer->outer, x, tokens, x, ADD);
    }
    end(work);
    return sources.failed ? NO_MEMORY : DONE;
}

typedef struct {
    const Work *work;
    const Matrix *matrix;
    int64_t first, rows; /* range of tokens */
    const int32_t *sentence, *position;
    const Memory *memory;
} Remembering;

/* Store the products of the rows with 16 outputs, which are dims of one layer's keys or values. */
static void remember_block(const Remembering *r, int64_t output, const float *y) {
    const Memory *memory = r->memory;
    int64_t dim = r->work->dim, part = output / dim, column = output % dim;
    uint16_t *base = memory->keys_values + part * memory->total * dim;
    for (int64_t row = 0; row < r->rows; row++, y += SPAN) {
        int64_t token = r->first + row, sentence = r->sentence[token], position = r->position[token];
        uint16_t *to = base + memory->start[sentence] * dim;
        int64_t padded = round_up(memory->length[sentence], 16);
        uint16_t rounded[SIDE];
        round_to_bf16(y, SIDE, part % 2 ? to + position * dim + column : rounded);
        for (int j = 0; part % 2 == 0 && j < SIDE; j++) to[(column + j) * padded + position] = rounded[j];
    }
}

static void remember_outputs(void *context, int64_t item) {
    const Remembering *r = context;
    float y[PANEL * SPAN];
    Rows from = {r->work->tiles, r->work->scales};
    int64_t output = item * SPAN, next = output + r->work->threads * SPAN;
    Span span = {r->matrix, output, ahead_of(r->matrix, next), y, SPAN, STORE};
    project_span((int)r->work->level, &from, r->rows, &span);
    remember_block(r, output, y);
    if (output + SIDE < r->matrix->outputs) remember_block(r, output + SIDE, y + SIDE);
}

/* Compute the keys and values of all decoder layers from the encoder's output. Each token has a sentence and a
 * position. */
EXPORT int64_t nllb_remember(Work *work, const Norm *norm, const Matrix *matrix, const float *x, int64_t tokens,
                             const int32_t *sentence, const int32_t *position, const Memory *memory) {
    if (!fits(work, tokens, work->dim)) return WRONG_SIZE;
    begin(work);
    for (int64_t panel = 0; panel < tokens; panel += PANEL) {
        int64_t rows = tokens - panel < PANEL ? tokens - panel : PANEL;
        Remembering context = {work, matrix, panel, rows, sentence, position, memory};
        quantize(work, norm, x + panel * work->dim, work->dim, rows, work->dim);
        share(work->owner, (matrix->outputs + SPAN - 1) / SPAN, remember_outputs, &context);
    }
    end(work);
    return DONE;
}

typedef struct {
    const Work *work;
    const Step *step;
    const Memory *memory;
    int64_t layer, pieces; /* groups of heads */
} Attention;

static void attend_past_piece(void *context, int64_t item) {
    const Attention *a = context;
    int64_t heads = a->work->heads / a->pieces;
    attend_past(a->work, a->step, a->layer, item / a->pieces, item % a->pieces * heads, heads);
}

static void attend_memory_piece(void *context, int64_t item) {
    const Attention *a = context;
    int64_t heads = a->work->heads / a->pieces;
    attend_memory(a->work, a->step, a->memory, a->layer, item / a->pieces, item % a->pieces * heads, heads);
}

/* Run the decoder layers `first` to `last` - 1 over the new positions of all rows. */
EXPORT int64_t nllb_decode(Work *work, const Layer *layers, int64_t first, int64_t last, const Memory *memory,
                           const Step *step) {
    int64_t dim = work->dim, rows = step->rows * step->new_positions;
    Attention context = {work, step, memory, 0, 1};
    if (!layers_fit(work, layers, first, last, rows)) return WRONG_SIZE;
    while (context.pieces * step->rows < 4 * work->threads && work->heads % (2 * context.pieces) == 0)
        context.pieces *= 2;
    begin(work);
    for (int64_t at = first; at < last; at++) {
        const Layer *layer = layers + at;
        context.layer = at;
        project_panels(work, &layer->self_norm, step->x, rows, &layer->self_qkv, work->wide, 3 * dim, STORE);
        share(work->owner, step->rows * context.pieces, attend_past_piece, &context);
        project_panels(work, NULL, work->mixed, rows, &layer->self_out, step->x, dim, ADD);
        project_panels(work, &layer->cross_norm, step->x, rows, &layer->cross_query, work->wide, dim, STORE);
        share(work->owner, step->rows * context.pieces, attend_memory_piece, &context);
        project_panels(work, NULL, work->mixed, rows, &layer->cross_out, step->x, dim, ADD);
        if (layer->inner.weight)
            feed_forward(work, &layer->feed_norm, &layer->inner, &layer->outer, step->x, rows, step->x, ADD);
    }
    end(work);
    return DONE;
}

#include "kernel_output.h"
#include "kernel_encoder.h"

EXPORT int64_t nllb_version(void) { return VERSION; }

/* The size of one of the structs that the caller fills, by its number; 0 beyond the last one. */
EXPORT int64_t nllb_struct_size(int64_t number) {
    static const size_t sizes[] = {sizeof(Matrix), sizeof(Norm), sizeof(Layer), sizeof(Work),
                                   sizeof(Memory), sizeof(Step), sizeof(PostNormLayer)};
    return number >= 0 && number < (int64_t)(sizeof(sizes) / sizeof(*sizes)) ? (int64_t)sizes[number] : 0;
}

#endif

/* The functions above are called through ctypes; the module itself is empty. */
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernel", NULL, -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModule_Create(&definition); }
