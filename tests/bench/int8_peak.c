/* A bare loop of int8 multiply-adds in registers, the most that a core can do at a level. `int8_peak.py` times it. */
#include <immintrin.h>
#include <stdint.h>

#define SUMS 12 /* independent chains, enough to hide the latency of a product */
#define REPEAT(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define KEEP(n) __asm__ volatile("" : "+v"(s##n)); /* so that the compiler neither merges chains nor drops them */

#define DEFINE_LOOP(name, features, Vector, zero, ADD)       \
    __attribute__((target(features))) void name(int64_t n) { \
        Vector x = zero, w = zero;                           \
        __asm__ volatile("" : "+v"(x), "+v"(w));             \
        REPEAT(ADD##_BEGIN)                                  \
        for (int64_t i = 0; i < n; i++) {                    \
            REPEAT(ADD)                                      \
        }                                                    \
        REPEAT(KEEP)                                         \
    }

#define ADD_512_BEGIN(n) __m512i s##n = _mm512_setzero_si512(); KEEP(n)
#define ADD_512(n) s##n = _mm512_dpbusd_epi32(s##n, x, w);
DEFINE_LOOP(loop_avx512_vnni, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), ADD_512) /* 64 products each */

#define ADD_256_BEGIN(n) __m256i s##n = _mm256_setzero_si256(); KEEP(n)
#define ADD_256(n) s##n = _mm256_dpbusd_avx_epi32(s##n, x, w);
DEFINE_LOOP(loop_avx_vnni, "avx2,avxvnni", __m256i, _mm256_setzero_si256(), ADD_256) /* 32 products each */

#define ADD_16_BEGIN(n) __m256i s##n = _mm256_setzero_si256(); KEEP(n)
#define ADD_16(n)                                         \
    s##n = _mm256_add_epi32(s##n, _mm256_madd_epi16(x, w)); \
    __asm__ volatile("" : "+x"(w));
DEFINE_LOOP(loop_avx2, "avx2", __m256i, _mm256_setzero_si256(), ADD_16) /* 16 products each, exact in int16 */
