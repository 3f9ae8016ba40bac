/* Sum of a text's fastText input rows, read straight from Python strings.
 *
 * Does what fastText's Dictionary::getLine and Model::computeHidden do for a supervised model without
 * word n-grams: per word its own row and the rows of its character n-grams (hashed by FNV-1a over
 * signed bytes, as fastText does), the row of </s> at the end, then the mean. Differs in speed only:
 * n-grams that start at one character share their hash, and the sums of recent words are kept.
 *
 * A table of one byte per code point says what a character is: 0 separates words, 1 is kept and has
 * no script, n >= 2 is kept and counts as a letter of script n - 2.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define CODE_POINTS 0x110000
#define CACHE_BITS 13
#define LONGEST_CACHED 48
#define LABEL_PREFIX "__label__"
#define GRAM_LENGTH 5
#define GRAM_BLOCK 64
#define GRAM_PROBES 3

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORISED __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define VECTORISED
#endif

typedef struct {
    uint32_t hash;
    int32_t row; /* -1 marks an empty place */
    uint32_t start, length;
} Word;

typedef struct {
    uint64_t key; /* 0 marks an empty place */
    int32_t count;
} Cached;

typedef struct {
    PyObject_HEAD
    Py_buffer rows, classes, pruned;
    const float *row_data;
    const int32_t *pruned_data; /* bucket -> place, or -1; absent where nothing was pruned */
    int has_pruned;
    Py_ssize_t num_rows, dim;
    int32_t num_words, bucket, shortest, longest;
    Word *words;
    uint32_t words_mask;
    char *word_bytes;
    int32_t end_row;
    Cached *cache;
    float *cache_sums;
    unsigned char *scratch;
    Py_ssize_t scratch_size;
} Kernel;

VECTORISED static void add_row(float *restrict sum, const float *restrict row, Py_ssize_t dim) {
    for (Py_ssize_t i = 0; i < dim; i++) sum[i] += row[i];
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

static int add_ngram(const Kernel *self, uint32_t hash, float *sum) {
    int32_t id = (int32_t)(hash % (uint32_t)self->bucket);
    if (self->has_pruned && (id = self->pruned_data[id]) < 0) return 0;
    Py_ssize_t row = (Py_ssize_t)self->num_words + id;
    if (row >= self->num_rows) return 0;
    add_row(sum, self->row_data + row * self->dim, self->dim);
    return 1;
}

/* `word` lies between a '<' and a '>' that belong to the n-grams but not to the word. */
static int add_word(const Kernel *self, const unsigned char *word, Py_ssize_t length, float *sum) {
    int count = 0;
    int32_t row = find_word(self, word, length);
    if (row >= 0) {
        add_row(sum, self->row_data + (Py_ssize_t)row * self->dim, self->dim);
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
            if (n >= self->shortest && !(n == 1 && (first == begin || last == end)))
                count += add_ngram(self, hash, sum);
        }
    }
    return count;
}

static int add_word_cached(Kernel *self, unsigned char *word, Py_ssize_t length, float *sum) {
    if (length > LONGEST_CACHED) return add_word(self, word, length, sum);
    uint64_t key = cache_key(word, length);
    size_t place = (size_t)(key >> 7) & ((1u << CACHE_BITS) - 1);
    Cached *cached = &self->cache[place];
    float *kept = self->cache_sums + place * (size_t)self->dim;
    if (cached->key != key) {
        memset(kept, 0, (size_t)self->dim * sizeof(float));
        cached->count = add_word(self, word, length, kept);
        cached->key = key;
    }
    add_row(sum, kept, self->dim);
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

/* Adds one finished word; returns 1 where the word ends the text, as a literal </s> does in fastText. */
static int end_word(Kernel *self, Py_ssize_t length, float *sum, int *count) {
    unsigned char *word = self->scratch + 1;
    const size_t prefix = sizeof(LABEL_PREFIX) - 1;
    if (length == 4 && memcmp(word, "</s>", 4) == 0) return 1;
    if ((size_t)length >= prefix && memcmp(word, LABEL_PREFIX, prefix) == 0) return 0;
    self->scratch[0] = '<';
    word[length] = '>';
    *count += add_word_cached(self, word, length, sum);
    return 0;
}

static int embed_text(Kernel *self, PyObject *text, float *sum, int32_t *scripts, Py_ssize_t num_scripts) {
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    if (4 * length + 8 > self->scratch_size) {
        unsigned char *larger = PyMem_Realloc(self->scratch, (size_t)(4 * length + 8));
        if (larger == NULL) { PyErr_NoMemory(); return -1; }
        self->scratch = larger;
        self->scratch_size = 4 * length + 8;
    }
    const unsigned char *classes = self->classes.buf;
    const void *data = PyUnicode_DATA(text);
    int kind = PyUnicode_KIND(text), count = 0;
    Py_ssize_t size = 0, i;
    for (i = 0; i < length; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        unsigned char class = classes[c];
        if (class == 0) {
            if (size && end_word(self, size, sum, &count)) break;
            size = 0;
            continue;
        }
        if (class >= 2 && class - 2 < num_scripts) scripts[class - 2]++;
        size += put_utf8(self->scratch + 1 + size, c);
    }
    if (i == length && size) end_word(self, size, sum, &count);
    if (self->end_row >= 0) {
        add_row(sum, self->row_data + (Py_ssize_t)self->end_row * self->dim, self->dim);
        count++;
    }
    if (count)
        for (Py_ssize_t d = 0; d < self->dim; d++) sum[d] /= (float)count;
    return 0;
}

static PyObject *kernel_embed(Kernel *self, PyObject *arguments) {
    PyObject *texts, *result = NULL;
    Py_buffer vectors, scripts;
    if (!PyArg_ParseTuple(arguments, "O!w*w*", &PyList_Type, &texts, &vectors, &scripts)) return NULL;
    Py_ssize_t num_texts = PyList_GET_SIZE(texts);
    Py_ssize_t num_scripts = num_texts ? scripts.len / (Py_ssize_t)sizeof(int32_t) / num_texts : 0;
    if (vectors.len != num_texts * self->dim * (Py_ssize_t)sizeof(float) ||
        scripts.len != num_texts * num_scripts * (Py_ssize_t)sizeof(int32_t)) {
        PyErr_SetString(PyExc_ValueError, "embed: the buffers do not fit the number of texts");
        goto done;
    }
    memset(vectors.buf, 0, (size_t)vectors.len);
    memset(scripts.buf, 0, (size_t)scripts.len);
    for (Py_ssize_t i = 0; i < num_texts; i++) {
        PyObject *text = PyList_GET_ITEM(texts, i);
        if (!PyUnicode_Check(text)) {
            PyErr_Format(PyExc_TypeError, "embed: text %zd is no str", i);
            goto done;
        }
        if (embed_text(self, text, (float *)vectors.buf + i * self->dim,
                       (int32_t *)scripts.buf + i * num_scripts, num_scripts) < 0)
            goto done;
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
    static char *names[] = {"words", "rows", "classes", "pruned", "dim", "bucket", "shortest", "longest", NULL};
    PyObject *words, *pruned;
    int dim, bucket, shortest, longest;
    if (self->words != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Kernel: already set up");
        return -1;
    }
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!y*y*Oiiii", names, &PyList_Type, &words, &self->rows,
                                     &self->classes, &pruned, &dim, &bucket, &shortest, &longest))
        return -1;
    if (dim <= 0 || self->classes.len != CODE_POINTS || self->rows.len % ((Py_ssize_t)sizeof(float) * dim)) {
        PyErr_SetString(PyExc_ValueError, "Kernel: rows or classes have the wrong size");
        return -1;
    }
    if (pruned != Py_None) {
        if (PyObject_GetBuffer(pruned, &self->pruned, PyBUF_SIMPLE) < 0) return -1;
        self->has_pruned = 1;
        self->pruned_data = self->pruned.buf;
        if (self->pruned.len != (Py_ssize_t)sizeof(int32_t) * bucket) {
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
    self->cache = PyMem_Calloc((size_t)1 << CACHE_BITS, sizeof(Cached));
    self->cache_sums = PyMem_Malloc(((size_t)dim << CACHE_BITS) * sizeof(float));
    if (self->cache == NULL || self->cache_sums == NULL) { PyErr_NoMemory(); return -1; }
    return index_words(self, words);
}

static void kernel_dealloc(Kernel *self) {
    if (self->rows.obj != NULL) PyBuffer_Release(&self->rows);
    if (self->classes.obj != NULL) PyBuffer_Release(&self->classes);
    if (self->has_pruned) PyBuffer_Release(&self->pruned);
    PyMem_Free(self->words);
    PyMem_Free(self->word_bytes);
    PyMem_Free(self->cache);
    PyMem_Free(self->cache_sums);
    PyMem_Free(self->scratch);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef kernel_methods[] = {
    {"embed", (PyCFunction)kernel_embed, METH_VARARGS,
     "embed(texts, vectors, scripts): write each text's mean row and its letters per script."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot kernel_slots[] = {
    {Py_tp_doc, "The input side of one fastText model."},
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

/* Grams: what `lid/grams.py` says, the same numbers as its own lookup. */
static int is_known(const unsigned char *bits, uint64_t blocks, uint64_t hash, int32_t label) {
    uint64_t mixed = hash + ((uint64_t)label + 1) * 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    mixed ^= mixed >> 31;
    const unsigned char *block = bits + (mixed >> 32) % blocks * GRAM_BLOCK;
    for (int probe = 0; probe < GRAM_PROBES; probe++) {
        unsigned bit = (unsigned)(mixed >> (9 * probe)) & 511;
        if (!((block[bit >> 3] >> (bit & 7)) & 1)) return 0;
    }
    return 1;
}

typedef struct {
    const unsigned char *bits;
    uint64_t blocks;
    const int32_t *labels;
    int32_t *known, *total;
    Py_ssize_t num_labels;
} Lookup;

/* `word` is `<word>`; `length` counts both marks. */
static void count_word(const unsigned char *word, Py_ssize_t length, const Lookup *lookup) {
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
        ++*lookup->total;
        for (Py_ssize_t i = 0; i < lookup->num_labels; i++)
            if (lookup->labels[i] >= 0) lookup->known[i] += is_known(lookup->bits, lookup->blocks, hash, lookup->labels[i]);
        if (last >= end) return;
        do first++; while ((*first & 0xC0) == 0x80);
    }
}

static void count_text(PyObject *text, const unsigned char *classes, unsigned char *scratch, const Lookup *lookup) {
    Py_ssize_t length = PyUnicode_GET_LENGTH(text), size = 1;
    const void *data = PyUnicode_DATA(text);
    int kind = PyUnicode_KIND(text);
    scratch[0] = '<';
    for (Py_ssize_t i = 0; i <= length; i++) {
        Py_UCS4 c = i < length ? PyUnicode_READ(kind, data, i) : 0;
        if (i < length && classes[c]) {
            size += put_utf8(scratch + size, c);
        } else if (size > 1) {
            scratch[size] = '>';
            count_word(scratch, size + 1, lookup);
            size = 1;
        }
    }
}

static PyObject *count_grams(PyObject *module, PyObject *arguments) {
    PyObject *texts, *result = NULL;
    Py_buffer classes, bits, labels, known, total;
    unsigned char *scratch = NULL;
    if (!PyArg_ParseTuple(arguments, "O!y*y*y*w*w*", &PyList_Type, &texts, &classes, &bits, &labels, &known, &total))
        return NULL;
    Py_ssize_t num_texts = PyList_GET_SIZE(texts), longest = 0;
    Py_ssize_t num_labels = num_texts ? labels.len / (Py_ssize_t)sizeof(int32_t) / num_texts : 0;
    if (classes.len != CODE_POINTS || bits.len == 0 || bits.len % GRAM_BLOCK || known.len != labels.len ||
        labels.len != num_texts * num_labels * (Py_ssize_t)sizeof(int32_t) ||
        total.len != num_texts * (Py_ssize_t)sizeof(int32_t)) {
        PyErr_SetString(PyExc_ValueError, "count_grams: the buffers do not fit the number of texts");
        goto done;
    }
    for (Py_ssize_t i = 0; i < num_texts; i++) {
        PyObject *text = PyList_GET_ITEM(texts, i);
        if (!PyUnicode_Check(text)) {
            PyErr_Format(PyExc_TypeError, "count_grams: text %zd is no str", i);
            goto done;
        }
        if (PyUnicode_GET_LENGTH(text) > longest) longest = PyUnicode_GET_LENGTH(text);
    }
    scratch = PyMem_Malloc((size_t)(4 * longest + 8));
    if (scratch == NULL) { PyErr_NoMemory(); goto done; }
    for (Py_ssize_t i = 0; i < num_texts; i++) {
        Lookup lookup = {bits.buf, (uint64_t)bits.len / GRAM_BLOCK, (const int32_t *)labels.buf + i * num_labels,
                         (int32_t *)known.buf + i * num_labels, (int32_t *)total.buf + i, num_labels};
        count_text(PyList_GET_ITEM(texts, i), classes.buf, scratch, &lookup);
    }
    result = Py_NewRef(Py_None);
done:
    PyMem_Free(scratch);
    PyBuffer_Release(&classes);
    PyBuffer_Release(&bits);
    PyBuffer_Release(&labels);
    PyBuffer_Release(&known);
    PyBuffer_Release(&total);
    return result;
}

static PyMethodDef module_methods[] = {
    {"count_grams", count_grams, METH_VARARGS,
     "count_grams(texts, classes, bits, labels, known, total): count the grams of texts that labels know."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "lid._kernel", .m_doc = "Input rows of a fastText model, summed in C; frequent grams.",
    .m_size = -1, .m_methods = module_methods,
};

PyMODINIT_FUNC PyInit__kernel(void) {
    PyObject *self = PyModule_Create(&module);
    if (self == NULL) return NULL;
    PyObject *type = PyType_FromSpec(&kernel_spec);
    if (type == NULL || PyModule_AddObjectRef(self, "Kernel", type) < 0) {
        Py_XDECREF(type);
        Py_DECREF(self);
        return NULL;
    }
    Py_DECREF(type);
    return self;
}
