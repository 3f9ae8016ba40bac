/* Computes the mean of the fastText input rows of a text, directly from Python strings.
 *
 * The result is the same as that of Dictionary::getLine and Model::computeHidden in fastText, for a
 * supervised model without word n-grams: the mean of the row of each word, the rows of its character
 * n-grams (hashed with FNV-1a over signed bytes, as in fastText) and the row of </s>. This code is
 * faster because n-grams with the same first character share the computation of their hash, and
 * because the sums of recent words are cached.
 *
 * A table with one byte per code point classifies characters: 0 separates words, 1 is kept but is in
 * no script, and n >= 2 is kept and counts as a letter of script n - 2.
 */
#define PY_SSIZE_T_CLEAN
#include "kernel_reader.h"

#define VERSION 1 /* of the classes below; must equal VERSION in `lid/kernel_module.py` */
#define CACHE_BITS 14
#define CACHE_BYTES ((size_t)64 << 20) /* maximum size of the cached sums; with long rows fewer words are cached */
#define LONGEST_CACHED 48
#define LABEL_PREFIX "__label__"
#define MAX_NGRAM 100 /* in characters: with unlimited n-grams the time for a word is quadratic in its length */
#define GRAM_LENGTH 5
#define GRAM_BLOCK 64
#define GRAM_PROBES 3
#define COUNTS_BITS 15
#define ROWS_AHEAD 256

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORISED __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define VECTORISED
#endif

#if defined(__GNUC__)
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define PREFETCH(address) ((void)0)
#endif

typedef struct {
    uint32_t hash;
    int32_t row; /* -1 marks an empty slot */
    uint32_t start, length;
} Word;

typedef struct {
    uint64_t key; /* 0 marks an empty slot */
    int32_t count;
} Cached;

typedef struct {
    PyObject_HEAD
    Reader reader;
    int is_begun, is_ready;
    Py_buffer rows, pruned;
    const unsigned char *row_data; /* floats, possibly unaligned because the file may be memory-mapped */
    const int32_t *pruned_data; /* bucket -> index among the n-gram rows, or -1; NULL if the model is not pruned */
    int has_pruned;
    Py_ssize_t num_rows, dim;
    int32_t num_words, bucket, shortest, longest;
    Word *words;
    uint32_t words_mask;
    char *word_bytes;
    int32_t end_row;
    Cached *cache;
    size_t cache_places; /* a power of two */
    float *cache_sums;
} Kernel;

VECTORISED static void add_floats(float *restrict sum, const unsigned char *restrict row, Py_ssize_t dim) {
    for (Py_ssize_t i = 0; i < dim; i++) {
        float value;
        memcpy(&value, row + i * (Py_ssize_t)sizeof(float), sizeof(float));
        sum[i] += value;
    }
}

static const unsigned char *row_of(const Kernel *self, Py_ssize_t row) {
    return self->row_data + row * self->dim * (Py_ssize_t)sizeof(float);
}

static uint32_t fnv(const unsigned char *bytes, Py_ssize_t length) {
    uint32_t hash = 2166136261u;
    for (Py_ssize_t i = 0; i < length; i++) hash = (hash ^ (uint32_t)(int8_t)bytes[i]) * 16777619u;
    return hash;
}

static uint64_t cache_key(const unsigned char *bytes, Py_ssize_t length) {
    uint64_t hash = 14695981039346656037u ^ (uint64_t)length;
    for (Py_ssize_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
    hash ^= hash >> 29;
    return hash ? hash : 1;
}

static int32_t find_word(const Kernel *self, const unsigned char *bytes, Py_ssize_t length) {
    uint32_t hash = fnv(bytes, length);
    for (uint32_t place = hash & self->words_mask;; place = (place + 1) & self->words_mask) {
        const Word *word = &self->words[place];
        if (word->row < 0) return -1;
        if (word->hash == hash && word->length == (uint32_t)length &&
            memcmp(self->word_bytes + word->start, bytes, (size_t)length) == 0)
            return word->row;
    }
}

/* Adds the rows of n-grams in order. All rows are prefetched first to hide the memory latency. */
static int add_ngrams(const Kernel *self, const int32_t *ids, int num_ids, float *sum) {
    const unsigned char *rows[ROWS_AHEAD];
    int count = 0;
    for (int i = 0; i < num_ids; i++) {
        int32_t id = self->has_pruned ? self->pruned_data[ids[i]] : ids[i];
        Py_ssize_t row = (Py_ssize_t)self->num_words + id;
        if (id < 0 || row >= self->num_rows) continue;
        rows[count] = row_of(self, row);
        for (Py_ssize_t d = 0; d < self->dim; d += 16) PREFETCH(rows[count] + d * (Py_ssize_t)sizeof(float));
        count++;
    }
    for (int i = 0; i < count; i++) add_floats(sum, rows[i], self->dim);
    return count;
}

/* Adds the rows of a word. In memory, `word` is enclosed by '<' and '>', which belong to its n-grams. */
static int add_word(const Kernel *self, const unsigned char *word, Py_ssize_t length, float *sum) {
    int count = 0, num_ids = 0;
    int32_t ids[ROWS_AHEAD], row = find_word(self, word, length);
    if (row >= 0) {
        add_floats(sum, row_of(self, row), self->dim);
        count++;
    }
    if (self->longest <= 0 || self->bucket <= 0) return count;
    const unsigned char *begin = word - 1, *end = word + length + 1;
    for (const unsigned char *first = begin; first < end; first++) {
        if ((*first & 0xC0) == 0x80) continue;
        uint32_t hash = 2166136261u;
        const unsigned char *last = first;
        for (int32_t n = 1; n <= self->longest && last < end; n++) {
            do {
                hash = (hash ^ (uint32_t)(int8_t)*last++) * 16777619u;
            } while (last < end && (*last & 0xC0) == 0x80);
            if (n < self->shortest || (n == 1 && (first == begin || last == end))) continue;
            ids[num_ids] = (int32_t)(hash % (uint32_t)self->bucket);
            if (self->has_pruned) PREFETCH(self->pruned_data + ids[num_ids]);
            if (++num_ids == ROWS_AHEAD) {
                count += add_ngrams(self, ids, num_ids, sum);
                num_ids = 0;
            }
        }
    }
    return count + add_ngrams(self, ids, num_ids, sum);
}

static int add_word_cached(Kernel *self, unsigned char *word, Py_ssize_t length, float *sum) {
    if (length > LONGEST_CACHED) return add_word(self, word, length, sum);
    uint64_t key = cache_key(word, length);
    size_t place = (size_t)(key >> 7) & (self->cache_places - 1);
    Cached *cached = &self->cache[place];
    float *kept = self->cache_sums + place * (size_t)self->dim;
    if (cached->key != key) {
        memset(kept, 0, (size_t)self->dim * sizeof(float));
        cached->count = add_word(self, word, length, kept);
        cached->key = key;
    }
    add_floats(sum, (const unsigned char *)kept, self->dim);
    return cached->count;
}

static int put_utf8(unsigned char *out, Py_UCS4 c) {
    if (c < 0x80) { out[0] = (unsigned char)c; return 1; }
    if (c < 0x800) { out[0] = 0xC0 | (c >> 6); out[1] = 0x80 | (c & 63); return 2; }
    if (c < 0x10000) {
        out[0] = 0xE0 | (c >> 12); out[1] = 0x80 | ((c >> 6) & 63); out[2] = 0x80 | (c & 63);
        return 3;
    }
    out[0] = 0xF0 | (c >> 18); out[1] = 0x80 | ((c >> 12) & 63);
    out[2] = 0x80 | ((c >> 6) & 63); out[3] = 0x80 | (c & 63);
    return 4;
}

/* Adds a complete word. Returns 1 if the word is a literal </s>, which ends the text as in fastText. */
static int end_word(Kernel *self, Py_ssize_t length, float *sum, int *count) {
    unsigned char *word = self->reader.word + 1;
    const size_t prefix = sizeof(LABEL_PREFIX) - 1;
    if (length == 4 && memcmp(word, "</s>", 4) == 0) return 1;
    if ((size_t)length >= prefix && memcmp(word, LABEL_PREFIX, prefix) == 0) return 0;
    word[-1] = '<';
    word[length] = '>';
    *count += add_word_cached(self, word, length, sum);
    return 0;
}

static int embed_text(Kernel *self, PyObject *text, float *sum, int32_t *scripts, Py_ssize_t num_scripts) {
    Py_ssize_t length = read_text(&self->reader, text), size = 0, i;
    if (length < 0) return -1;
    const unsigned char *classes = self->reader.classes.buf;
    int count = 0;
    for (i = 0; i < length; i++) {
        Py_UCS4 c = self->reader.points[i];
        unsigned char class = classes[c];
        if (class == 0) {
            if (size && end_word(self, size, sum, &count)) break;
            size = 0;
            continue;
        }
        if (class >= 2 && class - 2 < num_scripts) scripts[class - 2]++;
        size += put_utf8(self->reader.word + 1 + size, c);
    }
    if (i == length && size) end_word(self, size, sum, &count);
    if (self->end_row >= 0) {
        add_floats(sum, row_of(self, self->end_row), self->dim);
        count++;
    }
    if (count)
        for (Py_ssize_t d = 0; d < self->dim; d++) sum[d] /= (float)count;
    return 0;
}

/* Returns a new reference to element `at` of a list, or NULL with an error set: other code may have shortened the list. */
static PyObject *text_at(PyObject *texts, Py_ssize_t at) {
    if (at < PyList_GET_SIZE(texts)) return Py_NewRef(PyList_GET_ITEM(texts, at));
    PyErr_SetString(PyExc_RuntimeError, "the list of texts became shorter while they were read");
    return NULL;
}

static PyObject *kernel_embed(Kernel *self, PyObject *arguments) {
    PyObject *texts, *result = NULL;
    Py_buffer vectors, scripts;
    if (!self->is_ready) {
        PyErr_SetString(PyExc_RuntimeError, "Kernel: not set up");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "O!w*w*", &PyList_Type, &texts, &vectors, &scripts)) return NULL;
    Py_ssize_t num_texts = PyList_GET_SIZE(texts);
    Py_ssize_t num_scripts = num_texts ? scripts.len / (Py_ssize_t)sizeof(int32_t) / num_texts : 0;
    if (vectors.len != num_texts * self->dim * (Py_ssize_t)sizeof(float) ||
        scripts.len != num_texts * num_scripts * (Py_ssize_t)sizeof(int32_t) ||
        !is_aligned(&vectors, sizeof(float)) || !is_aligned(&scripts, sizeof(int32_t))) {
        PyErr_SetString(PyExc_ValueError, "embed: the buffers do not match the number of texts, or are not aligned");
        goto done;
    }
    memset(vectors.buf, 0, (size_t)vectors.len);
    memset(scripts.buf, 0, (size_t)scripts.len);
    for (Py_ssize_t i = 0; i < num_texts; i++) {
        PyObject *text = text_at(texts, i);
        int failed = text == NULL || embed_text(self, text, (float *)vectors.buf + i * self->dim,
                                                (int32_t *)scripts.buf + i * num_scripts, num_scripts) < 0;
        Py_XDECREF(text);
        if (failed) goto done;
    }
    result = Py_NewRef(Py_None);
done:
    PyBuffer_Release(&vectors);
    PyBuffer_Release(&scripts);
    return result;
}

static int index_words(Kernel *self, PyObject *words) {
    Py_ssize_t num_words = PyList_GET_SIZE(words), num_bytes = 0;
    uint32_t places = 16;
    for (Py_ssize_t i = 0; i < num_words; i++) {
        if (!PyBytes_Check(PyList_GET_ITEM(words, i))) {
            PyErr_SetString(PyExc_TypeError, "Kernel: words must be bytes");
            return -1;
        }
        num_bytes += PyBytes_GET_SIZE(PyList_GET_ITEM(words, i));
    }
    if (num_words > INT32_MAX / 4 || num_bytes > (Py_ssize_t)UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "Kernel: too many words");
        return -1;
    }
    while (places < 2 * (uint64_t)num_words) places *= 2;
    self->words = PyMem_Malloc(places * sizeof(Word));
    self->word_bytes = PyMem_Malloc((size_t)num_bytes + 1);
    if (self->words == NULL || self->word_bytes == NULL) { PyErr_NoMemory(); return -1; }
    for (uint32_t i = 0; i < places; i++) self->words[i].row = -1;
    self->words_mask = places - 1;
    uint32_t start = 0;
    for (Py_ssize_t i = 0; i < num_words; i++) {
        PyObject *word = PyList_GET_ITEM(words, i);
        Py_ssize_t length = PyBytes_GET_SIZE(word);
        memcpy(self->word_bytes + start, PyBytes_AS_STRING(word), (size_t)length);
        uint32_t hash = fnv((unsigned char *)PyBytes_AS_STRING(word), length);
        uint32_t place = hash & self->words_mask;
        while (self->words[place].row >= 0) place = (place + 1) & self->words_mask;
        self->words[place] = (Word){hash, (int32_t)i, start, (uint32_t)length};
        start += (uint32_t)length;
    }
    self->num_words = (int32_t)num_words;
    self->end_row = find_word(self, (const unsigned char *)"</s>", 4);
    return 0;
}

static int kernel_init(Kernel *self, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"words", "rows", "pruned", "dim", "bucket", "shortest", "longest",
                            "classes", "folds", "fold", "longest_text", NULL};
    PyObject *words, *pruned, *classes, *folds, *fold;
    int dim, bucket, shortest, longest;
    Py_ssize_t longest_text;
    if (self->is_begun) {
        PyErr_SetString(PyExc_RuntimeError, "Kernel: already set up");
        return -1;
    }
    self->is_begun = 1;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!y*OiiiiOOOn", names, &PyList_Type, &words, &self->rows, &pruned,
                                     &dim, &bucket, &shortest, &longest, &classes, &folds, &fold, &longest_text) ||
        reader_init(&self->reader, classes, folds, fold, longest_text) < 0)
        return -1;
    if (dim <= 0 || self->rows.len % ((Py_ssize_t)sizeof(float) * dim)) {
        PyErr_SetString(PyExc_ValueError, "Kernel: rows have the wrong size");
        return -1;
    }
    if (bucket < 0 || longest > MAX_NGRAM) {
        PyErr_SetString(PyExc_ValueError, "Kernel: bucket is negative, or n-grams are too long");
        return -1;
    }
    if (pruned != Py_None) {
        if (PyObject_GetBuffer(pruned, &self->pruned, PyBUF_SIMPLE) < 0) return -1;
        self->has_pruned = 1;
        self->pruned_data = self->pruned.buf;
        if (self->pruned.len != (Py_ssize_t)sizeof(int32_t) * bucket || !is_aligned(&self->pruned, sizeof(int32_t))) {
            PyErr_SetString(PyExc_ValueError, "Kernel: pruned has the wrong size");
            return -1;
        }
    }
    self->dim = dim;
    self->bucket = bucket;
    self->shortest = shortest;
    self->longest = longest;
    self->row_data = self->rows.buf;
    self->num_rows = self->rows.len / (Py_ssize_t)sizeof(float) / dim;
    if (PyList_GET_SIZE(words) > self->num_rows) {
        PyErr_SetString(PyExc_ValueError, "Kernel: fewer rows than words");
        return -1;
    }
    self->cache_places = (size_t)1 << CACHE_BITS;
    while (self->cache_places > 1 && self->cache_places * (size_t)dim * sizeof(float) > CACHE_BYTES)
        self->cache_places /= 2;
    self->cache = PyMem_Calloc(self->cache_places, sizeof(Cached));
    self->cache_sums = PyMem_Malloc(self->cache_places * (size_t)dim * sizeof(float));
    if (self->cache == NULL || self->cache_sums == NULL) { PyErr_NoMemory(); return -1; }
    if (index_words(self, words) < 0) return -1;
    self->is_ready = 1;
    return 0;
}

static void kernel_dealloc(Kernel *self) {
    if (self->rows.obj != NULL) PyBuffer_Release(&self->rows);
    reader_free(&self->reader);
    if (self->has_pruned) PyBuffer_Release(&self->pruned);
    PyMem_Free(self->words);
    PyMem_Free(self->word_bytes);
    PyMem_Free(self->cache);
    PyMem_Free(self->cache_sums);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef kernel_methods[] = {
    {"embed", (PyCFunction)kernel_embed, METH_VARARGS,
     "embed(texts, vectors, scripts): write the mean input row and the letters per script of each text."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot kernel_slots[] = {
    {Py_tp_doc, "Computes the input vectors of a fastText model."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, kernel_init},
    {Py_tp_dealloc, kernel_dealloc},
    {Py_tp_methods, kernel_methods},
    {0, NULL},
};

static PyType_Spec kernel_spec = {
    .name = "lid._kernel.Kernel",
    .basicsize = sizeof(Kernel),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = kernel_slots,
};

/* Grams: the n-gram look-up of `lid/ngrams.py`, with the same results; counts of recent words are cached. */
typedef struct {
    PyObject_HEAD
    Reader reader;
    int is_begun, is_ready;
    Py_buffer bits;
    uint32_t blocks;
    Cached *cache;
    uint64_t *hashes;
    Py_ssize_t num_hashes;
} Grams;

static int is_known(const Grams *self, uint64_t hash, int32_t label) {
    uint64_t mixed = hash + ((uint64_t)label + 1) * 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    mixed ^= mixed >> 31;
    const unsigned char *block = (const unsigned char *)self->bits.buf + (size_t)((uint32_t)(mixed >> 32) % self->blocks) * GRAM_BLOCK;
    for (int probe = 0; probe < GRAM_PROBES; probe++) {
        unsigned bit = (unsigned)(mixed >> (9 * probe)) & 511;
        if (!((block[bit >> 3] >> (bit & 7)) & 1)) return 0;
    }
    return 1;
}

/* Writes the hashes of the n-grams of a word; `length` includes the enclosing '<' and '>'. */
static void hash_grams(uint64_t *hashes, const unsigned char *word, Py_ssize_t length) {
    const unsigned char *end = word + length;
    for (const unsigned char *first = word;;) {
        uint64_t hash = 14695981039346656037u;
        const unsigned char *last = first;
        int characters = 0;
        while (last < end && characters < GRAM_LENGTH) {
            do {
                hash = (hash ^ *last++) * 1099511628211u;
            } while (last < end && (*last & 0xC0) == 0x80);
            characters++;
        }
        *hashes++ = hash;
        if (last >= end) return;
        do first++; while ((*first & 0xC0) == 0x80);
    }
}

/* Counts the known n-grams of one word, which starts after the '<' in the buffer. */
static void count_word(Grams *self, Py_ssize_t length, Py_ssize_t num_grams, const int32_t *labels, Py_ssize_t num_labels, int32_t *known) {
    unsigned char *word = self->reader.word + 1;
    uint64_t word_key = cache_key(word, length);
    int hashed = 0;
    for (Py_ssize_t i = 0; i < num_labels; i++) {
        if (labels[i] < 0) continue;
        uint64_t key = (word_key + (uint64_t)labels[i]) * 0x9E3779B97F4A7C15u;
        if (key == 0) key = 1;
        Cached *cached = &self->cache[key >> (64 - COUNTS_BITS)];
        if (cached->key != key) {
            if (!hashed) {
                word[-1] = '<';
                word[length] = '>';
                hash_grams(self->hashes, word - 1, length + 2);
                hashed = 1;
            }
            cached->key = key;
            cached->count = 0;
            for (Py_ssize_t gram = 0; gram < num_grams; gram++)
                cached->count += is_known(self, self->hashes[gram], labels[i]);
        }
        known[i] += cached->count;
    }
}

static int count_text(Grams *self, PyObject *text, const int32_t *labels, Py_ssize_t num_labels, int32_t *known, int32_t *total) {
    Py_ssize_t length = read_text(&self->reader, text), size = 0, characters = 0;
    if (length < 0) return -1;
    if (length > self->num_hashes) {
        uint64_t *larger = PyMem_Realloc(self->hashes, (size_t)length * sizeof(uint64_t));
        if (larger == NULL) { PyErr_NoMemory(); return -1; }
        self->hashes = larger;
        self->num_hashes = length;
    }
    const unsigned char *classes = self->reader.classes.buf;
    for (Py_ssize_t i = 0; i <= length; i++) {
        if (i < length && classes[self->reader.points[i]]) {
            size += put_utf8(self->reader.word + 1 + size, self->reader.points[i]);
            characters++;
        } else if (size) {
            Py_ssize_t num_grams = characters + 2 > GRAM_LENGTH ? characters + 3 - GRAM_LENGTH : 1;
            count_word(self, size, num_grams, labels, num_labels, known);
            *total += (int32_t)num_grams;
            size = characters = 0;
        }
    }
    return 0;
}

static PyObject *grams_count(Grams *self, PyObject *arguments) {
    PyObject *texts, *result = NULL;
    Py_buffer labels, known, total;
    if (!self->is_ready) {
        PyErr_SetString(PyExc_RuntimeError, "Grams: not set up");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "O!y*w*w*", &PyList_Type, &texts, &labels, &known, &total)) return NULL;
    Py_ssize_t num_texts = PyList_GET_SIZE(texts);
    Py_ssize_t num_labels = num_texts ? labels.len / (Py_ssize_t)sizeof(int32_t) / num_texts : 0;
    if (known.len != labels.len || labels.len != num_texts * num_labels * (Py_ssize_t)sizeof(int32_t) ||
        total.len != num_texts * (Py_ssize_t)sizeof(int32_t) || !is_aligned(&labels, sizeof(int32_t)) ||
        !is_aligned(&known, sizeof(int32_t)) || !is_aligned(&total, sizeof(int32_t))) {
        PyErr_SetString(PyExc_ValueError, "count: the buffers do not match the number of texts, or are not aligned");
        goto done;
    }
    memset(known.buf, 0, (size_t)known.len);
    memset(total.buf, 0, (size_t)total.len);
    for (Py_ssize_t i = 0; i < num_texts; i++) {
        PyObject *text = text_at(texts, i);
        int failed = text == NULL ||
                     count_text(self, text, (const int32_t *)labels.buf + i * num_labels, num_labels,
                                (int32_t *)known.buf + i * num_labels, (int32_t *)total.buf + i) < 0;
        Py_XDECREF(text);
        if (failed) goto done;
    }
    result = Py_NewRef(Py_None);
done:
    PyBuffer_Release(&labels);
    PyBuffer_Release(&known);
    PyBuffer_Release(&total);
    return result;
}

static int grams_init(Grams *self, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"bits", "classes", "folds", "fold", "longest_text", NULL};
    PyObject *classes, *folds, *fold;
    Py_ssize_t longest_text;
    if (self->is_begun) {
        PyErr_SetString(PyExc_RuntimeError, "Grams: already set up");
        return -1;
    }
    self->is_begun = 1;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "y*OOOn", names, &self->bits, &classes, &folds, &fold, &longest_text) ||
        reader_init(&self->reader, classes, folds, fold, longest_text) < 0)
        return -1;
    if (self->bits.len == 0 || self->bits.len % GRAM_BLOCK || self->bits.len / GRAM_BLOCK > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "Grams: bits have the wrong size");
        return -1;
    }
    self->blocks = (uint32_t)(self->bits.len / GRAM_BLOCK);
    self->cache = PyMem_Calloc((size_t)1 << COUNTS_BITS, sizeof(Cached));
    if (self->cache == NULL) { PyErr_NoMemory(); return -1; }
    self->is_ready = 1;
    return 0;
}

static void grams_dealloc(Grams *self) {
    reader_free(&self->reader);
    if (self->bits.obj != NULL) PyBuffer_Release(&self->bits);
    PyMem_Free(self->cache);
    PyMem_Free(self->hashes);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef grams_methods[] = {
    {"count", (PyCFunction)grams_count, METH_VARARGS,
     "count(texts, labels, known, total): count the n-grams of texts and those that are frequent in labels."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot grams_slots[] = {
    {Py_tp_doc, "The frequent n-grams of all labels."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, grams_init},
    {Py_tp_dealloc, grams_dealloc},
    {Py_tp_methods, grams_methods},
    {0, NULL},
};

static PyType_Spec grams_spec = {
    .name = "lid._kernel.Grams",
    .basicsize = sizeof(Grams),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = grams_slots,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "lid._kernel", .m_doc = "Input vectors of a fastText model, and look-up of frequent n-grams.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__kernel(void) {
    PyObject *self = PyModule_Create(&module);
    PyType_Spec *specs[] = {&kernel_spec, &grams_spec};
    const char *names[] = {"Kernel", "Grams"};
    for (int i = 0; self != NULL && i < 2; i++) {
        PyObject *type = PyType_FromSpec(specs[i]);
        if (type == NULL || PyModule_AddObjectRef(self, names[i], type) < 0) Py_CLEAR(self);
        Py_XDECREF(type);
    }
    if (self != NULL && PyModule_AddIntMacro(self, VERSION) < 0) Py_CLEAR(self);
    return self;
}
