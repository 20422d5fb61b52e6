/* connector_psi.oprf._kernel: the operations of kernel.h for Python, in the stable ABI of CPython 3.11.
 *
 * Arguments are packed buffers; `out` is a writable one, so that threads fill parts of one. Inputs of the PRF are a tuple of
 * bytes objects and the range of it to work on. Sizes are checked here, whoever calls; ValueError says which does not fit.
 * Functions give True, or False where an element is refused. The interpreter's lock is released while they work.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "scalar.h"

#define MAX_BACKENDS 3
static const kernel *backends[MAX_BACKENDS];
static int backend_count;

void kernel_wipe(void *p, size_t size)
{
    memset(p, 0, size);
    __asm__ volatile("" : : "r"(p) : "memory");
}

/* ---- Arguments -------------------------------------------------------------------------------------------------------- */

static const kernel *backend_at(int index)
{
    if (index >= 0 && index < backend_count) return backends[index];
    PyErr_SetString(PyExc_ValueError, "no such backend");
    return NULL;
}

static int fits(const Py_buffer *buffer, Py_ssize_t count, Py_ssize_t size, const char *complaint)
{
    if (buffer->len == count * size) return 1;
    PyErr_SetString(PyExc_ValueError, complaint);
    return 0;
}

/* DST_prime: a tag of up to 255 bytes and its length. */
static int is_tag(const Py_buffer *buffer)
{
    if (buffer->len >= 2 && buffer->len <= 256) return 1;
    PyErr_SetString(PyExc_ValueError, "dst_prime");
    return 0;
}

/* Pointers to the inputs from start to stop; to be freed. The tuple keeps them alive. */
static kernel_message *messages_of(PyObject *inputs, Py_ssize_t start, Py_ssize_t stop)
{
    if (!PyTuple_Check(inputs) || start < 0 || stop < start || stop > PyTuple_Size(inputs)) {
        PyErr_SetString(PyExc_ValueError, "inputs are a tuple and a range of it");
        return NULL;
    }
    kernel_message *messages = malloc((size_t)(stop - start + 1) * sizeof *messages);
    if (!messages) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = start; i < stop; i++) {
        char *bytes;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(inputs, i), &bytes, &size) < 0) {
            free(messages);
            return NULL;
        }
        if (size > 0xffff) {
            PyErr_SetString(PyExc_ValueError, "an input is longer than 65,535 bytes");
            free(messages);
            return NULL;
        }
        messages[i - start] = (kernel_message){(const uint8_t *)bytes, (size_t)size};
    }
    return messages;
}

static kernel_message message_of(const Py_buffer *buffer) { return (kernel_message){buffer->buf, (size_t)buffer->len}; }

static PyObject *answer(int status)
{
    if (status == KERNEL_NO_MEMORY) return PyErr_NoMemory();
    return PyBool_FromLong(status == KERNEL_OK);
}

static void release(Py_buffer *buffers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (buffers[i].obj) PyBuffer_Release(&buffers[i]);
}

/* ---- Elements --------------------------------------------------------------------------------------------------------- */

static PyObject *py_hash_to_group(PyObject *self, PyObject *args)
{
    (void)self;
    int index, status;
    Py_buffer b[2] = {{0}};
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "iw*y*", &index, &b[0], &b[1])) goto end;
    const kernel *k = backend_at(index);
    const Py_ssize_t n = b[0].len / 32;
    if (!k || !fits(&b[0], n, 32, "out") || !fits(&b[1], n, 64, "uniform")) goto end;
    Py_BEGIN_ALLOW_THREADS
    status = k->hash_to_group(b[0].buf, b[1].buf, (size_t)n);
    Py_END_ALLOW_THREADS
    result = answer(status);
end:
    release(b, 2);
    return result;
}

static PyObject *py_multiply(PyObject *self, PyObject *args)
{
    (void)self;
    int index, status;
    Py_buffer b[3] = {{0}};
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "iw*y*y*", &index, &b[0], &b[1], &b[2])) goto end;
    const kernel *k = backend_at(index);
    const Py_ssize_t n = b[0].len / 32;
    const size_t step = b[1].len == 32 ? 0 : 32;
    if (!k || !fits(&b[0], n, 32, "out") || !fits(&b[1], step ? n : 1, 32, "scalars") || !fits(&b[2], n, 32, "elements")) goto end;
    Py_BEGIN_ALLOW_THREADS
    status = k->multiply(b[0].buf, b[1].buf, step, b[2].buf, (size_t)n);
    Py_END_ALLOW_THREADS
    result = answer(status);
end:
    release(b, 3);
    return result;
}

static PyObject *py_multiply_base(PyObject *self, PyObject *args)
{
    (void)self;
    int index, status;
    Py_buffer b[2] = {{0}};
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "iw*y*", &index, &b[0], &b[1])) goto end;
    const kernel *k = backend_at(index);
    const Py_ssize_t n = b[0].len / 32;
    if (!k || !fits(&b[0], n, 32, "out") || !fits(&b[1], n, 32, "scalars")) goto end;
    Py_BEGIN_ALLOW_THREADS
    status = k->multiply_base(b[0].buf, b[1].buf, (size_t)n);
    Py_END_ALLOW_THREADS
    result = answer(status);
end:
    release(b, 2);
    return result;
}

static PyObject *py_add(PyObject *self, PyObject *args)
{
    (void)self;
    int index, subtract, status;
    Py_buffer b[3] = {{0}};
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "iw*y*y*p", &index, &b[0], &b[1], &b[2], &subtract)) goto end;
    const kernel *k = backend_at(index);
    const Py_ssize_t n = b[0].len / 32;
    if (!k || !fits(&b[0], n, 32, "out") || !fits(&b[1], n, 32, "a") || !fits(&b[2], n, 32, "b")) goto end;
    Py_BEGIN_ALLOW_THREADS
    status = k->add(b[0].buf, b[1].buf, b[2].buf, subtract, (size_t)n);
    Py_END_ALLOW_THREADS
    result = answer(status);
end:
    release(b, 3);
    return result;
}

static PyObject *py_check(PyObject *self, PyObject *args)
{
    (void)self;
    int index, status;
    Py_buffer b[1] = {{0}};
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "iy*", &index, &b[0])) goto end;
    const kernel *k = backend_at(index);
    const Py_ssize_t n = b[0].len / 32;
    if (!k || !fits(&b[0], n, 32, "elements")) goto end;
    Py_BEGIN_ALLOW_THREADS
    status = k->check(b[0].buf, (size_t)n);
    Py_END_ALLOW_THREADS
    result = answer(status);
end:
    release(b, 1);
    return result;
}

static PyObject *py_weighted_sum(PyObject *self, PyObject *args)
{
    (void)self;
    int index, status;
    Py_buffer b[3] = {{0}};
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "iw*y*y*", &index, &b[0], &b[1], &b[2])) goto end;
    const kernel *k = backend_at(index);
    const Py_ssize_t n = b[1].len / 32;
    if (!k || !fits(&b[0], 1, 32, "out") || !fits(&b[1], n, 32, "scalars") || !fits(&b[2], n, 32, "elements")) goto end;
    if (n == 0) {
        PyErr_SetString(PyExc_ValueError, "a sum of nothing");
        goto end;
    }
    Py_BEGIN_ALLOW_THREADS
    status = k->weighted_sum(b[0].buf, b[1].buf, b[2].buf, (size_t)n);
    Py_END_ALLOW_THREADS
    result = answer(status);
end:
    release(b, 3);
    return result;
}

/* ---- Hashes and RFC 9497 ---------------------------------------------------------------------------------------------- */

static PyObject *py_sha512(PyObject *self, PyObject *args)
{
    (void)self;
    int index, status;
    Py_ssize_t row_size;
    Py_buffer b[4] = {{0}};
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "iw*y*y*ny*", &index, &b[0], &b[1], &b[2], &row_size, &b[3])) goto end;
    const kernel *k = backend_at(index);
    const Py_ssize_t n = b[0].len / 64;
    if (!k || !fits(&b[0], n, 64, "out")) goto end;
    if (row_size < 0 || (row_size && b[2].len / row_size != n) || !fits(&b[2], n, row_size, "rows")) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "rows");
        goto end;
    }
    Py_BEGIN_ALLOW_THREADS
    status = k->sha512(b[0].buf, message_of(&b[1]), b[2].buf, (size_t)row_size, message_of(&b[3]), (size_t)n);
    Py_END_ALLOW_THREADS
    result = answer(status);
end:
    release(b, 4);
    return result;
}

static PyObject *py_blind(PyObject *self, PyObject *args)
{
    (void)self;
    int index, status;
    Py_ssize_t start, stop;
    PyObject *inputs, *result = NULL;
    kernel_message *messages = NULL;
    Py_buffer b[3] = {{0}};
    if (!PyArg_ParseTuple(args, "iw*y*Onny*", &index, &b[0], &b[1], &inputs, &start, &stop, &b[2])) goto end;
    const kernel *k = backend_at(index);
    if (!k || !(messages = messages_of(inputs, start, stop))) goto end;
    const Py_ssize_t n = stop - start;
    if (!fits(&b[0], n, 32, "out") || !fits(&b[1], n, 32, "scalars") || !is_tag(&b[2])) goto end;
    Py_BEGIN_ALLOW_THREADS
    status = k->blind(b[0].buf, b[1].buf, messages, (size_t)n, message_of(&b[2]));
    Py_END_ALLOW_THREADS
    result = answer(status);
end:
    free(messages);
    release(b, 3);
    return result;
}

static PyObject *py_finalize(PyObject *self, PyObject *args)
{
    (void)self;
    int index, status;
    Py_ssize_t start, stop;
    PyObject *inputs, *result = NULL;
    kernel_message *messages = NULL;
    Py_buffer b[3] = {{0}};
    if (!PyArg_ParseTuple(args, "iw*y*y*Onn", &index, &b[0], &b[1], &b[2], &inputs, &start, &stop)) goto end;
    const kernel *k = backend_at(index);
    if (!k || !(messages = messages_of(inputs, start, stop))) goto end;
    const Py_ssize_t n = stop - start;
    if (!fits(&b[0], n, 64, "out") || !fits(&b[1], n, 32, "scalars") || !fits(&b[2], n, 32, "elements")) goto end;
    Py_BEGIN_ALLOW_THREADS
    status = k->finalize(b[0].buf, b[1].buf, b[2].buf, messages, (size_t)n);
    Py_END_ALLOW_THREADS
    result = answer(status);
end:
    free(messages);
    release(b, 3);
    return result;
}

static PyObject *py_evaluate_tokens(PyObject *self, PyObject *args)
{
    (void)self;
    int index, status;
    Py_ssize_t start, stop;
    PyObject *inputs, *result = NULL;
    kernel_message *messages = NULL;
    Py_buffer b[5] = {{0}}; /* out, derived, scalar, dst, label; an empty derived asks for no derivation */
    if (!PyArg_ParseTuple(args, "iw*w*y*Onny*y*", &index, &b[0], &b[1], &b[2], &inputs, &start, &stop, &b[3], &b[4])) goto end;
    const kernel *k = backend_at(index);
    if (!k || !(messages = messages_of(inputs, start, stop))) goto end;
    const Py_ssize_t n = stop - start;
    if (!fits(&b[0], n, 64, "out") || (b[1].len && !fits(&b[1], n, 64, "derived")) || !fits(&b[2], 1, 32, "scalar") || !is_tag(&b[3])) goto end;
    Py_BEGIN_ALLOW_THREADS
    status = k->evaluate(b[0].buf, b[1].len ? b[1].buf : NULL, b[2].buf, messages, (size_t)n, message_of(&b[3]), message_of(&b[4]));
    Py_END_ALLOW_THREADS
    result = answer(status);
end:
    free(messages);
    release(b, 5);
    return result;
}

/* ---- Scalars ---------------------------------------------------------------------------------------------------------- */

static PyObject *py_scalars_valid(PyObject *self, PyObject *args)
{
    (void)self;
    int zero_allowed;
    Py_buffer b[1] = {{0}};
    PyObject *result = NULL;
    uint64_t valid = 1;
    if (!PyArg_ParseTuple(args, "y*p", &b[0], &zero_allowed)) goto end;
    const Py_ssize_t n = b[0].len / 32;
    if (!fits(&b[0], n, 32, "scalars")) goto end;
    for (Py_ssize_t i = 0; i < n; i++)
        valid &= scalar_valid(scalar_load((const uint8_t *)b[0].buf + 32 * i), (uint64_t)zero_allowed);
    result = PyBool_FromLong((long)valid);
end:
    release(b, 1);
    return result;
}

static PyObject *py_scalars_reduce(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer b[2] = {{0}};
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "w*y*", &b[0], &b[1])) goto end;
    const Py_ssize_t n = b[0].len / 32;
    if (!fits(&b[0], n, 32, "out") || !fits(&b[1], n, 64, "wide")) goto end;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < n; i++)
        scalar_store((uint8_t *)b[0].buf + 32 * i, scalar_reduce((const uint8_t *)b[1].buf + 64 * i));
    Py_END_ALLOW_THREADS
    result = PyBool_FromLong(1);
end:
    release(b, 2);
    return result;
}

static PyObject *py_scalars_invert(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer b[2] = {{0}};
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "w*y*", &b[0], &b[1])) goto end;
    const Py_ssize_t n = b[0].len / 32;
    if (!fits(&b[0], n, 32, "out") || !fits(&b[1], n, 32, "scalars")) goto end;
    const size_t size = 2 * (size_t)(n + 1) * sizeof(scalar);
    scalar *scratch = malloc(size);
    if (!scratch) {
        PyErr_NoMemory();
        goto end;
    }
    Py_BEGIN_ALLOW_THREADS
    scalars_invert(scratch, b[1].buf, (size_t)n, scratch + n);
    for (Py_ssize_t i = 0; i < n; i++) scalar_store((uint8_t *)b[0].buf + 32 * i, scratch[i]);
    kernel_wipe(scratch, size);
    Py_END_ALLOW_THREADS
    free(scratch);
    result = PyBool_FromLong(1);
end:
    release(b, 2);
    return result;
}

static PyObject *scalar_pairs(PyObject *args, scalar (*operation)(scalar, scalar))
{
    Py_buffer b[3] = {{0}};
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "w*y*y*", &b[0], &b[1], &b[2])) goto end;
    const Py_ssize_t n = b[0].len / 32;
    if (!fits(&b[0], n, 32, "out") || !fits(&b[1], n, 32, "a") || !fits(&b[2], n, 32, "b")) goto end;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < n; i++) {
        const scalar x = scalar_load((const uint8_t *)b[1].buf + 32 * i), y = scalar_load((const uint8_t *)b[2].buf + 32 * i);
        scalar_store((uint8_t *)b[0].buf + 32 * i, operation(x, y));
    }
    Py_END_ALLOW_THREADS
    result = PyBool_FromLong(1);
end:
    release(b, 3);
    return result;
}

static PyObject *py_scalars_product(PyObject *self, PyObject *args) { (void)self; return scalar_pairs(args, scalar_product); }
static PyObject *py_scalars_difference(PyObject *self, PyObject *args) { (void)self; return scalar_pairs(args, scalar_difference); }

/* ---- The module ------------------------------------------------------------------------------------------------------- */

static PyObject *py_backends(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    PyObject *names = PyTuple_New(backend_count);
    for (int i = 0; names && i < backend_count; i++) {
        PyObject *name = PyUnicode_FromString(backends[i]->name);
        if (!name || PyTuple_SetItem(names, i, name) < 0) {
            Py_DECREF(names);
            return NULL;
        }
    }
    return names;
}

static PyMethodDef methods[] = {
    {"backends", py_backends, METH_NOARGS, "backends() -> names of those that this processor runs, the fastest first"},
    {"hash_to_group", py_hash_to_group, METH_VARARGS, "hash_to_group(backend, out, uniform)"},
    {"multiply", py_multiply, METH_VARARGS, "multiply(backend, out, scalars, elements); one scalar, or one each"},
    {"multiply_base", py_multiply_base, METH_VARARGS, "multiply_base(backend, out, scalars)"},
    {"add", py_add, METH_VARARGS, "add(backend, out, a, b, subtract)"},
    {"check", py_check, METH_VARARGS, "check(backend, elements)"},
    {"weighted_sum", py_weighted_sum, METH_VARARGS, "weighted_sum(backend, out, scalars, elements)"},
    {"sha512", py_sha512, METH_VARARGS, "sha512(backend, out, prefix, rows, row_size, suffix)"},
    {"blind", py_blind, METH_VARARGS, "blind(backend, out, scalars, inputs, start, stop, dst_prime)"},
    {"finalize", py_finalize, METH_VARARGS, "finalize(backend, out, inverted_scalars, elements, inputs, start, stop)"},
    {"evaluate_tokens", py_evaluate_tokens, METH_VARARGS, "evaluate_tokens(backend, out, derived, scalar, inputs, start, stop, dst_prime, label)"},
    {"scalars_valid", py_scalars_valid, METH_VARARGS, "scalars_valid(scalars, zero_allowed)"},
    {"scalars_reduce", py_scalars_reduce, METH_VARARGS, "scalars_reduce(out, wide)"},
    {"scalars_invert", py_scalars_invert, METH_VARARGS, "scalars_invert(out, scalars)"},
    {"scalars_product", py_scalars_product, METH_VARARGS, "scalars_product(out, a, b)"},
    {"scalars_difference", py_scalars_difference, METH_VARARGS, "scalars_difference(out, a, b)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernel", "A batch kernel for ristretto255 and RFC 9497.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void)
{
    const kernel *all[MAX_BACKENDS] = {
#if defined(__x86_64__)
        &kernel_ifma, &kernel_avx2,
#endif
        &kernel_portable,
    };
    backend_count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    for (int i = 0; i < MAX_BACKENDS; i++)
        if (all[i] && all[i]->supported()) {
            all[i]->prepare();
            backends[backend_count++] = all[i];
        }
    return PyModule_Create(&definition);
}
