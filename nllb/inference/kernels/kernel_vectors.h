/* Softmax, products of queries and keys, and weighted sums of values, as plain loops that compilers vectorise. */
#ifndef NLLB_KERNEL_VECTORS_H
#define NLLB_KERNEL_VECTORS_H

#include "kernel_matrix.h"

#define MOST_POSITIONS 4096 /* maximum sequence length; the caller checks it */

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

/* Compute `softmax` for 16 scores at a time. The order of the operands of max keeps NaN. */
AVX512 static void softmax_avx512(float *scores, int64_t count) {
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

static void fast_softmax(float *scores, int64_t count) {
    has_avx512() ? softmax_avx512(scores, count) : softmax(scores, count);
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

typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t BitLanes __attribute__((vector_size(64)));
typedef uint16_t HalfLanes __attribute__((vector_size(32), aligned(2), may_alias));

#define LANES 16
#define LANES_FROM_BF16(x) ((Lanes)(__builtin_convertvector(*(const HalfLanes *)(x), BitLanes) << 16))

/* `score_transposed` for keys in bf16. Dims are added in four independent sums, because one would wait for itself. */
CLONES static void score_transposed_bf16(const float *q, int64_t dim, float factor, const uint16_t *keys,
                                         int64_t width, float *scores) {
    for (int64_t j = 0; j < width; j += LANES) {
        Lanes s0 = {0}, s1 = s0, s2 = s0, s3 = s0;
        const uint16_t *key = keys + j;
        int64_t i = 0;
        for (; i + 4 <= dim; i += 4, key += 4 * width) {
            s0 += q[i] * LANES_FROM_BF16(key);
            s1 += q[i + 1] * LANES_FROM_BF16(key + width);
            s2 += q[i + 2] * LANES_FROM_BF16(key + 2 * width);
            s3 += q[i + 3] * LANES_FROM_BF16(key + 3 * width);
        }
        for (; i < dim; i++, key += width) s0 += q[i] * LANES_FROM_BF16(key);
        *(Lanes *)(scores + j) = ((s0 + s1) + (s2 + s3)) * factor;
    }
}

CLONES static float dot_bf16(const float *q, const uint16_t *key, int64_t dim) {
    float sum = 0;
    for (int64_t i = 0; i < dim; i++) sum += q[i] * from_bf16(key[i]);
    return sum;
}

/* y = sum over t of weights[t] * values[t], 64 dims at a time. */
CLONES static void weigh_bf16(const float *weights, const uint16_t *const *values, int64_t offset, int64_t count,
                              int64_t dim, float *y) {
    int64_t i = 0;
    for (; i + 4 * LANES <= dim; i += 4 * LANES) {
        Lanes s0 = {0}, s1 = s0, s2 = s0, s3 = s0;
        for (int64_t t = 0; t < count; t++) {
            const uint16_t *value = values[t] + offset + i;
            s0 += weights[t] * LANES_FROM_BF16(value);
            s1 += weights[t] * LANES_FROM_BF16(value + LANES);
            s2 += weights[t] * LANES_FROM_BF16(value + 2 * LANES);
            s3 += weights[t] * LANES_FROM_BF16(value + 3 * LANES);
        }
        *(Lanes *)(y + i) = s0;
        *(Lanes *)(y + i + LANES) = s1;
        *(Lanes *)(y + i + 2 * LANES) = s2;
        *(Lanes *)(y + i + 3 * LANES) = s3;
    }
    for (; i + LANES <= dim; i += LANES) {
        Lanes sums = {0};
        for (int64_t t = 0; t < count; t++) sums += weights[t] * LANES_FROM_BF16(values[t] + offset + i);
        *(Lanes *)(y + i) = sums;
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
