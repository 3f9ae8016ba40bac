/* Converts a Python string to folded code points; used by both classes of kernel.c. */
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define CODE_POINTS 0x110000
#define FOLDS 0x10000
#define FOLD_DROP (1u << 24)
#define FOLD_MARK (1u << 25)
#define FOLD_ASK (1u << 26)

/* Converts texts to folded code points; `lid/characters.py` documents the tables. */
typedef struct {
    Py_buffer classes, folds; /* without folds the text is not changed */
    PyObject *fold;
    Py_ssize_t longest;
    Py_UCS4 *points;
    unsigned char *word; /* large enough for all points as one word, enclosed by '<' and '>' */
    Py_ssize_t size;
} Reader;

/* Returns whether a buffer is aligned for numbers of `size` bytes. */
static int is_aligned(const Py_buffer *buffer, size_t size) { return (uintptr_t)buffer->buf % size == 0; }

/* Returns whether the table has the right size and contains only valid code points. */
static int folds_are_valid(const Py_buffer *folds) {
    if (folds->len != FOLDS * (Py_ssize_t)sizeof(uint32_t) || !is_aligned(folds, sizeof(uint32_t))) return 0;
    const uint32_t *table = folds->buf;
    for (Py_ssize_t i = 0; i < FOLDS; i++)
        if ((table[i] & (FOLD_DROP - 1)) >= CODE_POINTS) return 0;
    return 1;
}

static int reader_init(Reader *self, PyObject *classes, PyObject *folds, PyObject *fold, Py_ssize_t longest) {
    if (PyObject_GetBuffer(classes, &self->classes, PyBUF_SIMPLE) < 0) return -1;
    if (folds != Py_None && PyObject_GetBuffer(folds, &self->folds, PyBUF_SIMPLE) < 0) return -1;
    self->fold = Py_NewRef(fold);
    self->longest = longest;
    if (self->classes.len == CODE_POINTS && longest > 0 && longest <= PY_SSIZE_T_MAX / 8 &&
        (self->folds.obj == NULL || folds_are_valid(&self->folds)))
        return 0;
    PyErr_SetString(PyExc_ValueError, "classes, folds or longest_text have the wrong size or wrong values");
    return -1;
}

static void reader_free(Reader *self) {
    if (self->classes.obj != NULL) PyBuffer_Release(&self->classes);
    if (self->folds.obj != NULL) PyBuffer_Release(&self->folds);
    Py_XDECREF(self->fold);
    PyMem_Free(self->points);
    PyMem_Free(self->word);
}

static int reader_grow(Reader *self, Py_ssize_t length) {
    if (length <= self->size) return 0;
    Py_UCS4 *points = PyMem_Realloc(self->points, (size_t)length * sizeof(Py_UCS4));
    if (points != NULL) self->points = points;
    unsigned char *word = PyMem_Realloc(self->word, (size_t)(4 * length + 8));
    if (word != NULL) self->word = word;
    if (points == NULL || word == NULL) { PyErr_NoMemory(); return -1; }
    self->size = length;
    return 0;
}

/* Calls the Python function `fold` on the first `length` characters of a text. */
static Py_ssize_t ask_fold(Reader *self, PyObject *text, Py_ssize_t length) {
    Py_ssize_t folded_length = -1;
    PyObject *part = PyUnicode_Substring(text, 0, length);
    PyObject *folded = part == NULL ? NULL : PyObject_CallOneArg(self->fold, part);
    if (folded != NULL && !PyUnicode_Check(folded)) {
        PyErr_SetString(PyExc_TypeError, "fold must return a str");
    } else if (folded != NULL && reader_grow(self, PyUnicode_GET_LENGTH(folded) + 1) == 0 &&
               PyUnicode_AsUCS4(folded, self->points, self->size, 0) != NULL) {
        folded_length = PyUnicode_GET_LENGTH(folded);
    }
    Py_XDECREF(part);
    Py_XDECREF(folded);
    return folded_length;
}

/* Fills `points` and returns their number, or -1 with an error set. `fold` may run any Python code. Therefore no data
 * of the reader may be in use during this call, and the caller must hold a reference to the text. */
static Py_ssize_t read_text(Reader *self, PyObject *text) {
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "a text must be a str, not %s", Py_TYPE(text)->tp_name);
        return -1;
    }
    Py_ssize_t length = PyUnicode_GET_LENGTH(text), size = 0;
    if (length > self->longest) length = self->longest;
    if (reader_grow(self, length + 1) < 0) return -1;
    const void *data = PyUnicode_DATA(text);
    const uint32_t *folds = self->folds.buf;
    int kind = PyUnicode_KIND(text);
    uint32_t before = 0;
    if (folds == NULL) {
        for (; size < length; size++) self->points[size] = PyUnicode_READ(kind, data, size);
        return size;
    }
    for (Py_ssize_t i = 0; i < length; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        uint32_t folded = c < FOLDS ? folds[c] : FOLD_ASK;
        if (folded >= FOLD_DROP) {
            if (folded & FOLD_DROP) continue;
            if ((folded & FOLD_ASK) || (before & FOLD_MARK)) return ask_fold(self, text, length);
        }
        before = folded;
        self->points[size++] = folded & (FOLD_DROP - 1);
    }
    return size;
}
