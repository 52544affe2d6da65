/* Products of queries or weights with a block of tokens whose codes stay integers.

   Queries and weights, times the scales of a group, become 16-bit integers in units of their own, so that what is
   rounded off is at most some 2**-16 of the largest. The codes become 16 bits wide in one step, and sums of two
   products are one instruction. */

#ifndef AUTOKV_INTEGERS_H
#define AUTOKV_INTEGERS_H

#include "coding.h"

typedef uint16_t vword __attribute__((vector_size(4 * LANES)));

/* Codes of 2 LANES bytes. */
INLINE vword load_codes(const uint8_t *from) {
#if LANES == 16 && INTEGERS
    return (vword)_mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)from));
#elif LANES == 8 && INTEGERS
    return (vword)_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)from));
#else
    uint8_t codes __attribute__((vector_size(2 * LANES)));
    memcpy(&codes, from, sizeof codes);
    return __builtin_convertvector(codes, vword);
#endif
}

/* Lane i of the result is sum[i] + a[2 i] b[2 i] + a[2 i + 1] b[2 i + 1]. */
INLINE vint add_pairs(vint sum, vword a, vword b) {
#if LANES == 16 && defined(__AVX512VNNI__)
    return (vint)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif LANES == 16 && INTEGERS
    return sum + (vint)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif LANES == 8 && defined(__AVXVNNI__)
    return (vint)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#elif LANES == 8 && INTEGERS
    return sum + (vint)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    vint low = ((vint)a << 16 >> 16) * ((vint)b << 16 >> 16);
    return sum + low + ((vint)a >> 16) * ((vint)b >> 16);
#endif
}

/* a[0] b[0] a[1] b[1] ... of the lower and of the upper 4 words of every 8. */
INLINE void pair(vword a, vword b, vword *low, vword *high) {
#if LANES == 16 && INTEGERS
    *low = (vword)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b);
    *high = (vword)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b);
#elif LANES == 8 && INTEGERS
    *low = (vword)_mm256_unpacklo_epi16((__m256i)a, (__m256i)b);
    *high = (vword)_mm256_unpackhi_epi16((__m256i)a, (__m256i)b);
#else
    for (int i = 0; i < 2 * LANES; i++) {
        int to = i / 8 * 8 + i % 4 * 2;
        (i % 8 < 4 ? low : high)[0][to] = a[i];
        (i % 8 < 4 ? low : high)[0][to + 1] = b[i];
    }
#endif
}

/* Sums of pairs of words, back in the order of the words. */
INLINE void unpair(vint low, vint high, vfloat *first, vfloat *second) {
#if LANES == 16
#define FIRST 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23
#define SECOND 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31
#elif LANES == 8
#define FIRST 0, 1, 2, 3, 8, 9, 10, 11
#define SECOND 4, 5, 6, 7, 12, 13, 14, 15
#else
#define FIRST 0, 1, 2, 3
#define SECOND 4, 5, 6, 7
#endif
    *first = __builtin_convertvector(SHUFFLED(low, high, FIRST), vfloat);
    *second = __builtin_convertvector(SHUFFLED(low, high, SECOND), vfloat);
}

INLINE int planes_of(const int format) { return format == INT2 ? 4 : format == INT4 ? 2 : 1; }

INLINE vword codes_in(const int format, vword bytes, int shift) {
    return format == INT4 ? bytes >> shift & 15 : format == INT2 ? bytes >> shift & 3 : bytes;
}

/* The largest integer for which `count` products with codes can be added up. */
static float largest_factor(const Side *side, int count) {
    float most = (float)INT32_MAX / (float)(side->format == INT8 ? 255 : side->format == INT4 ? 15 : 3) / (float)count;
    return most < 32767 ? most - 1 : 32767;
}

/* `count` floats, a multiple of LANES, as integers up to `most`. Returns what one of them stands for, NaN if one of the
   floats is infinite or NaN. */
INLINE float to_integers(const float *from, int count, float most, int16_t *to) {
    vfloat high = {0}, unbounded = {0};
    for (int i = 0; i < count; i += LANES) {
        high = greater((vfloat)((vint)load(from + i) & INT32_MAX), high);
        unbounded += load(from + i) - load(from + i);
    }
    float top = largest(high);
    const vfloat factor = all(top > 0 ? most / top : 0), shift = all(12582912.0f); /* rounds, as in exponential() */
    for (int i = 0; i < count; i += LANES) {
        vhalf rounded = __builtin_convertvector((vint)(load(from + i) * factor + shift), vhalf);
        memcpy(to + i, &rounded, sizeof rounded);
    }
    return top / most + sum(unbounded);
}

/* products[q][t] of `many` queries and all tokens of a block over some of their vectors, LANES products at a time. */
INLINE void multiply_codes(const int format, const int many, const int16_t *query, const float *units, int64_t pitch,
                           const Block *block, int vectors, int count, float *products) {
    const int step = LANES / many;
    float unit[LANES] ALIGNED, lanes[LANES] ALIGNED;
    for (int i = 0; i < LANES; i++)
        unit[i] = units[i / step];
    for (int t = 0; t < count; t += step) {
        vint sums[LANES] = {{0}};
        const uint8_t *tokens[LANES];
        for (int s = 0; s < step; s++)
            tokens[s] = block->tokens + (t + s < count ? t + s : count - 1) * block->token_bytes;
        int i = 0;
        do {
            vword asked[4];
            Source source = block->sources[i];
#pragma GCC unroll 4
            for (int q = 0; q < many; q++) {
                memcpy(&asked[q], query + q * pitch + i * LANES, sizeof asked[q]);
                HOLD(asked[q]);
            }
#pragma GCC unroll 16
            for (int s = 0; s < step; s++) {
                vword token = codes_in(format, load_codes(tokens[s] + source.offset), source.shift);
                HOLD(token);
#pragma GCC unroll 4
                for (int q = 0; q < many; q++)
                    sums[q * step + s] = add_pairs(sums[q * step + s], token, asked[q]);
            }
        } while ((i += 2) < vectors);
        store(lanes, __builtin_convertvector(sum_each_integer(sums), vfloat) * load(unit));
        for (int q = 0; q < many; q++)
            memcpy(products + q * BLOCK + t, lanes + q * step, sizeof(float) * (size_t)step);
    }
}

/* output[q] += weights[q][t] * tokens[t] for `many` queries and one chunk of every plane. `weights` and `units` are of
   each query and group of channels. */
INLINE void accumulate_codes(const int format, const int many, const int16_t *weights, const float *units, int groups,
                             const int *group_of, int line, const Block *block, int chunk, int count, float *output,
                             int64_t pitch) {
    const int planes = planes_of(format);
    vint sums[32] = {{0}};
    const int16_t *weights_of[4];
    for (int p = 0; p < planes; p++)
        weights_of[p] = weights + group_of[p * line + chunk] * BLOCK;
    const uint8_t *token = block->tokens + block->sources[chunk].offset;
    int t = 0;
    do {
        /* Where there is no second token, its weight is 0. */
        vword first = load_codes(token), second = load_codes(token + (t + 1 < count ? block->token_bytes : 0));
        vword low, high;
        pair(first, second, &low, &high);
#pragma GCC unroll 4
        for (int p = 0; p < planes; p++) {
            const int shift = p * 8 / planes;
            vword low_codes = codes_in(format, low, shift), high_codes = codes_in(format, high, shift);
            HOLD(low_codes);
            HOLD(high_codes);
#pragma GCC unroll 4
            for (int q = 0; q < many; q++) {
                int32_t weight_pair;
                memcpy(&weight_pair, weights_of[p] + q * groups * BLOCK + t, sizeof weight_pair);
                vword both = (vword)((vint){0} + weight_pair);
                vint *sum = sums + (q * planes + p) * 2;
                sum[0] = add_pairs(sum[0], low_codes, both);
                sum[1] = add_pairs(sum[1], high_codes, both);
            }
        }
        token += 2 * block->token_bytes;
    } while ((t += 2) < count);
#pragma GCC unroll 4
    for (int p = 0; p < planes; p++)
#pragma GCC unroll 4
        for (int q = 0; q < many; q++) {
            const vint *sum = sums + (q * planes + p) * 2;
            vfloat unit = all(units[q * groups + group_of[p * line + chunk]]);
            float *to = output + q * pitch + (p * line + chunk) * LANES;
            vfloat first, second;
            unpair(sum[0], sum[1], &first, &second);
            store(to, load(to) + first * unit);
            store(to + LANES, load(to + LANES) + second * unit);
        }
}

#define FOR_INTEGERS(CALL)                                                                                             \
    switch (block->format) {                                                                                           \
        CALL(INT8)                                                                                                     \
        CALL(INT4)                                                                                                     \
        CALL(INT2)                                                                                                     \
    }

static void integer_products_of(int64_t queries, const int16_t *query, const float *units, int64_t pitch,
                                const Block *block, int vectors, int count, float *products) {
#define CALL(FORMAT)                                                                                                   \
    case FORMAT:                                                                                                       \
        if (queries == 1)                                                                                              \
            multiply_codes(FORMAT, 1, query, units, pitch, block, vectors, count, products);                           \
        for (int64_t q = 0; q + 4 <= queries; q += 4)                                                                  \
            multiply_codes(FORMAT, 4, query + q * pitch, units + q, pitch, block, vectors, count,                      \
                           products + q * BLOCK);                                                                      \
        break;
    FOR_INTEGERS(CALL)
#undef CALL
}

/* As many queries, of one to four, as leave all sums in registers. */
#define AT_ONCE(FORMAT) (LANES >= 8 * planes_of(FORMAT) ? 4 : LANES > 2 * planes_of(FORMAT) ? 2 : 1)

static void add_integers(int64_t queries, const int16_t *weights, const float *units, const Reader *values,
                         const Block *block, int count, float *output, int64_t pitch) {
    int groups = values->groups, line = values->layout.line;
#define CALL(FORMAT)                                                                                                   \
    case FORMAT:                                                                                                       \
        for (int chunk = 0; chunk < line; chunk += 2)                                                                  \
            if (queries == 1)                                                                                          \
                accumulate_codes(FORMAT, 1, weights, units, groups, values->group_of, line, block, chunk, count,       \
                                 output, pitch);                                                                       \
            else                                                                                                       \
                for (int64_t q = 0; q < queries; q += AT_ONCE(FORMAT))                                                 \
                    accumulate_codes(FORMAT, AT_ONCE(FORMAT), weights + q * groups * BLOCK, units + q * groups,        \
                                     groups, values->group_of, line, block, chunk, count, output + q * pitch, pitch);  \
        break;
    FOR_INTEGERS(CALL)
#undef CALL
}

#endif
