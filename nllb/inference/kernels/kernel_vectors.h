/* Softmax, products of queries and keys, and weighted sums of values, as plain loops that compilers vectorise. */
#ifndef NLLB_KERNEL_VECTORS_H
#define NLLB_KERNEL_VECTORS_H

#include "kernel_matrix.h"

#define MOST_POSITIONS 4096 /* maximum sequence length; the caller checks it */
#define MOST_DIM 8192

INLINE float from_bf16(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, 4);
    return result;
}

INLINE uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint32_t rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16; /* some NaN values would become zero */
    return (uint16_t)((bits & FLOAT_BITS) > INFINITE ? QUIET_NAN >> 16 : rounded);
}

/* 2^n * polynomial for x <= 0, with a relative error of about 2e-7. NaN is treated as the smallest exponent, so that
 * the conversion to an integer is defined; callers detect NaN separately. */
INLINE float exponential(float x) {
    float t = x * 1.44269504f;
    t = t > -126.0f ? t : -126.0f;
    float n = floorf(t + 0.5f), f = t - n, p = 1.5403530e-4f;
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

/* Return the largest value; if values are NaN, the result is NaN or the largest of the other values. */
CLONES static float maximum(const float *x, int64_t count) {
    float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < count; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

/* Replace x by exp(x - largest) and return the sum, which is NaN if any x is NaN or infinite. */
CLONES static float exponentials(float *x, int64_t count, float largest) {
    float sum = 0, check = 0;
    for (int64_t i = 0; i < count; i++) {
        check += x[i] * 0.0f;
        x[i] = exponential(x[i] - largest);
    }
    for (int64_t i = 0; i < count; i++) sum += x[i];
    return sum + check;
}

CLONES static void softmax(float *scores, int64_t count) {
    float factor = 1.0f / exponentials(scores, count, maximum(scores, count));
    for (int64_t i = 0; i < count; i++) scores[i] *= factor;
}

/* scores[j] = sum over i of q[i] * keys[i][j], for j < width (a multiple of 16). */
CLONES static void score_transposed(const float *q, int64_t dim, float factor, const float *keys, int64_t width,
                                    float *scores) {
    for (int64_t j = 0; j < width; j++) scores[j] = 0;
    for (int64_t i = 0; i < dim; i++) {
        float value = q[i] * factor;
        const float *row = keys + i * width;
        for (int64_t j = 0; j < width; j++) scores[j] += value * row[j];
    }
}

CLONES static void score_transposed_bf16(const float *q, int64_t dim, float factor, const uint16_t *keys,
                                         int64_t width, float *scores) {
    for (int64_t j = 0; j < width; j += 16) {
        float sums[16] = {0};
        for (int64_t i = 0; i < dim; i++)
            for (int k = 0; k < 16; k++) sums[k] += q[i] * from_bf16(keys[i * width + j + k]);
        for (int k = 0; k < 16; k++) scores[j + k] = sums[k] * factor;
    }
}

CLONES static float dot_bf16(const float *q, const uint16_t *key, int64_t dim) {
    float sum = 0;
    for (int64_t i = 0; i < dim; i++) sum += q[i] * from_bf16(key[i]);
    return sum;
}

/* y = sum over t of weights[t] * values[t], 16 dims at a time. */
CLONES static void weigh_bf16(const float *weights, const uint16_t *const *values, int64_t offset, int64_t count,
                              int64_t dim, float *y) {
    int64_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        float sums[16] = {0};
        for (int64_t t = 0; t < count; t++)
            for (int k = 0; k < 16; k++) sums[k] += weights[t] * from_bf16(values[t][offset + i + k]);
        for (int k = 0; k < 16; k++) y[i + k] = sums[k];
    }
    for (; i < dim; i++) {
        float sum = 0;
        for (int64_t t = 0; t < count; t++) sum += weights[t] * from_bf16(values[t][offset + i]);
        y[i] = sum;
    }
}

CLONES static void add_values(float *y, const float *weights, int64_t count, const float *values, int64_t stride,
                              int64_t dim) {
    for (int64_t i = 0; i < dim; i++) y[i] = 0;
    for (int64_t j = 0; j < count; j++)
        for (int64_t i = 0; i < dim; i++) y[i] += weights[j] * values[j * stride + i];
}

CLONES static void round_to_bf16(const float *x, int64_t count, uint16_t *y) {
    for (int64_t i = 0; i < count; i++) y[i] = to_bf16(x[i]);
}

#endif
