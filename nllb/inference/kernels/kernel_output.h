/* The output projection: the best tokens of each row and their log-probabilities. `kernel.c` includes this file. */
#ifndef NLLB_KERNEL_OUTPUT_H
#define NLLB_KERNEL_OUTPUT_H

typedef struct {
    float value;
    int64_t id;
} Token;

typedef struct {
    float largest, sum; /* of exp(value - largest) over one chunk of outputs */
} Share;

static void insert(Token *best, int64_t count, float value, int64_t id) {
    int64_t at = count - 1;
    if (value < best[at].value || (value == best[at].value && id > best[at].id)) return;
    for (; at > 0 && (value > best[at - 1].value || (value == best[at - 1].value && id < best[at - 1].id)); at--)
        best[at] = best[at - 1];
    best[at].value = value;
    best[at].id = id;
}

static Share scan(float *y, int64_t columns, const int64_t *ids, int64_t first, Token *best, int64_t count) {
    Share share = {maximum(y, columns), 0};
    if (share.largest >= best[count - 1].value)
        for (int64_t i = 0; i < columns; i++)
            if (y[i] >= best[count - 1].value) insert(best, count, y[i], ids ? ids[first + i] : first + i);
    share.sum = exponentials(y, columns, share.largest);
    return share;
}

#define CHUNK 512

typedef struct {
    const Work *work;
    const Matrix *matrix, *further;
    int64_t outputs;
    const int64_t *ids, *further_ids, *further_start, *further_stop;
    int64_t rows, count, chunks, threads;
    Share *shares; /* chunk, row */
    Token *lists;  /* thread, row, count */
} Choice;

static void choose_in_chunk(void *context, int64_t chunk) {
    const Choice *t = context;
    Rows from = {t->work->tiles, t->work->scales};
    Token *best = t->lists + thread_number * t->rows * t->count;
    float y[SPAN * CHUNK];
    int64_t first = chunk * CHUNK, columns = t->outputs - first < CHUNK ? t->outputs - first : CHUNK;
    for (int64_t row = 0; row < t->rows; row += SPAN, from.scales += SPAN) {
        int64_t part = t->rows - row < SPAN ? t->rows - row : SPAN;
        for (int64_t column = 0; column < columns; column += SPAN) {
            int64_t next = column + SPAN < columns ? column + SPAN : t->work->threads * CHUNK;
            Span span = {t->matrix, first + column, ahead_of(t->matrix, first + next), y + column, CHUNK, STORE};
            project_span((int)t->work->level, &from, part, &span);
        }
        from.tiles = row_in_tiles(&from, SPAN, depth_blocks(t->matrix->inputs));
        for (int i = 0; i < part; i++)
            t->shares[chunk * t->rows + row + i] =
                scan(y + i * CHUNK, columns, t->ids, first, best + (row + i) * t->count, t->count);
    }
}

/* Consider a row's range of the additional outputs. */
static void choose_further(void *context, int64_t row) {
    const Choice *t = context;
    int64_t blocks = depth_blocks(t->matrix->inputs), start = t->further_start[row], stop = t->further_stop[row];
    Rows from = {t->work->tiles, t->work->scales};
    Rows alone = {row_in_tiles(&from, row, blocks), from.scales + row};
    Token *best = t->lists + (thread_number * t->rows + row) * t->count;
    Share share = {-3e38f, 0};
    float y[SPAN];
    for (int64_t first = start / SIDE * SIDE; first < stop; first += SPAN) {
        Span span = {t->further, first, NULL, y, SPAN, STORE};
        project_span((int)t->work->level, &alone, 1, &span);
        for (int64_t i = start > first ? start : first; i < stop && i < first + SPAN; i++) {
            float value = y[i - first], largest = value > share.largest ? value : share.largest;
            if (value >= best[t->count - 1].value) insert(best, t->count, value, t->further_ids[i]);
            share.sum *= exponential(share.largest - largest);
            share.sum += exponential(value - largest) + value * 0.0f; /* NaN if the value is not finite */
            share.largest = largest;
        }
    }
    t->shares[t->chunks * t->rows + row] = share;
}

/* Merge the threads' candidates of a row, and normalise. Values are NaN if any product was NaN or infinite. */
static void conclude(const Choice *t, int64_t row, float *values, int64_t *chosen) {
    Share all = {-3e38f, 0};
    for (int64_t chunk = 0; chunk <= t->chunks; chunk++) {
        Share share = t->shares[chunk * t->rows + row];
        float largest = share.largest > all.largest ? share.largest : all.largest;
        all.sum = all.sum * exponential(all.largest - largest) + share.sum * exponential(share.largest - largest);
        all.largest = largest;
    }
    Token *best = t->lists + row * t->count;
    for (int64_t thread = 1; thread < t->threads; thread++)
        for (int64_t i = 0; i < t->count; i++) {
            Token token = t->lists[(thread * t->rows + row) * t->count + i];
            if (token.id != INT64_MAX) insert(best, t->count, token.value, token.id);
        }
    float normalizer = all.largest + logf(all.sum);
    for (int64_t i = 0; i < t->count; i++) {
        int filled = best[i].id != INT64_MAX; /* places stay empty only if products were not finite */
        values[i] = filled ? best[i].value - normalizer : NAN;
        chosen[i] = filled ? best[i].id : 0;
    }
}

/* Return the `count` best tokens and their log-probabilities for each row. The candidates are the first `outputs`
 * outputs, whose ids are `ids` if given, and each row's range of the outputs of `further`, which may be NULL if all
 * ranges are empty. The order of summation does not depend on the threads. */
EXPORT int64_t nllb_best(Work *work, const Norm *norm, const Matrix *matrix, int64_t outputs, const int64_t *ids,
                         const Matrix *further, const int64_t *further_ids, const int64_t *further_start,
                         const int64_t *further_stop, const float *x, int64_t rows, int64_t count, float *values,
                         int64_t *chosen) {
    if (!fits(work, rows, matrix->inputs)) return WRONG_SIZE;
    int64_t chunks = (outputs + CHUNK - 1) / CHUNK, most = rows < PANEL ? rows : PANEL, owner = begin(work);
    int64_t threads = owner ? pool.helpers + 1 : 1; /* helpers of earlier calls participate */
    Share *shares = malloc((size_t)((chunks + 1) * most) * sizeof(Share));
    Token *lists = malloc((size_t)(threads * most * count) * sizeof(Token));
    Choice context = {work, matrix, further, outputs, ids, further_ids, further_start, further_stop,
                      most, count, chunks, threads, shares, lists};
    for (int64_t panel = 0; shares && lists && panel < rows; panel += PANEL) {
        context.rows = rows - panel < PANEL ? rows - panel : PANEL;
        context.further_start = further_start + panel;
        context.further_stop = further_stop + panel;
        for (int64_t i = 0; i < threads * context.rows * count; i++) lists[i] = (Token){-3e38f, INT64_MAX};
        quantize(work, norm, x + panel * work->dim, work->dim, context.rows, matrix->inputs);
        share(owner, chunks, choose_in_chunk, &context);
        share(owner, context.rows, choose_further, &context);
        for (int64_t row = 0; row < context.rows; row++)
            conclude(&context, row, values + (panel + row) * count, chosen + (panel + row) * count);
    }
    int64_t outcome = shares && lists ? DONE : NO_MEMORY;
    free(shares);
    free(lists);
    end(work);
    return outcome;
}

#endif
