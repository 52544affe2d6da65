/* Products of queries or weights with a block of tokens whose codes become floats in registers. */

#ifndef AUTOKV_FLOATS_H
#define AUTOKV_FLOATS_H

#include "coding.h"

/* products[q][t] of `many` queries and all tokens of a block over some of their vectors, LANES products at a time. */
INLINE void multiply_tokens(const int format, const int many, const float *query, int64_t pitch, const Block *block,
                            int vectors, int count, float *products) {
    const int step = LANES / many;
    for (int t = 0; t < count; t += step) {
        vfloat sums[LANES] = {{0}};
        const uint8_t *tokens[LANES];
        for (int s = 0; s < step; s++)
            tokens[s] = block->tokens + (t + s < count ? t + s : count - 1) * block->token_bytes;
        int i = 0;
        do {
            vfloat asked[4];
            Source source = block->sources[i];
#pragma GCC unroll 4
            for (int q = 0; q < many; q++) {
                asked[q] = load(query + q * pitch + i * LANES);
                HOLD(asked[q]);
            }
#pragma GCC unroll 16
            for (int s = 0; s < step; s++) {
                vfloat token = codes_of(format, tokens[s], &source);
                HOLD(token);
#pragma GCC unroll 4
                for (int q = 0; q < many; q++)
                    sums[q * step + s] += token * asked[q];
            }
        } while (++i < vectors);
        float lanes[LANES] ALIGNED;
        store(lanes, sum_each(sums));
        for (int q = 0; q < many; q++)
            memcpy(products + q * BLOCK + t, lanes + q * step, sizeof(float) * (size_t)step);
    }
}

/* output[q] += weights[q][t] * tokens[t] for `many` queries and `wide` vectors. */
INLINE void accumulate(const int format, const int many, const int wide, const float *weights, const Block *block,
                       int first, int count, float *output, int64_t pitch) {
    vfloat sums[16];
    Source sources[4];
#pragma GCC unroll 4
    for (int i = 0; i < wide; i++) {
        sources[i] = block->sources[first + i];
#pragma GCC unroll 4
        for (int q = 0; q < many; q++)
            sums[q * wide + i] = load(output + q * pitch + (first + i) * LANES);
    }
    const uint8_t *token = block->tokens;
    for (int t = 0; t < count; t++, token += block->token_bytes)
#pragma GCC unroll 4
        for (int i = 0; i < wide; i++) {
            vfloat value = codes_of(format, token, &sources[i]);
            HOLD(value);
#pragma GCC unroll 4
            for (int q = 0; q < many; q++)
                sums[q * wide + i] += value * all(weights[q * BLOCK + t]);
        }
#pragma GCC unroll 4
    for (int i = 0; i < wide; i++)
#pragma GCC unroll 4
        for (int q = 0; q < many; q++)
            store(output + q * pitch + (first + i) * LANES, sums[q * wide + i]);
}

INLINE void accumulate_run(const int format, const int many, const float *weights, const Block *block, int first,
                           int last, int count, float *output, int64_t pitch) {
#if LANES == 16
    for (; first + 4 <= last; first += 4)
        accumulate(format, many, 4, weights, block, first, count, output, pitch);
#endif
    for (; first + 2 <= last; first += 2)
        accumulate(format, many, 2, weights, block, first, count, output, pitch);
    if (first < last)
        accumulate(format, many, 1, weights, block, first, count, output, pitch);
}

#define FOR_EVERY_FORMAT(CALL)                                                                                         \
    switch (block->format) {                                                                                           \
        CALL(FLOAT32)                                                                                                  \
        CALL(FLOAT16)                                                                                                  \
        CALL(BFLOAT16)                                                                                                 \
        CALL(FLOAT8)                                                                                                   \
        CALL(INT8)                                                                                                     \
        CALL(INT4)                                                                                                     \
        CALL(INT3)                                                                                                     \
        CALL(INT2)                                                                                                     \
    }

static void products_of(int64_t queries, const float *query, int64_t pitch, const Block *block, int vectors, int count,
                        float *products) {
#define CALL(FORMAT)                                                                                                   \
    case FORMAT:                                                                                                       \
        if (queries == 1)                                                                                              \
            multiply_tokens(FORMAT, 1, query, pitch, block, vectors, count, products);                                 \
        for (int64_t q = 0; q + 4 <= queries; q += 4)                                                                  \
            multiply_tokens(FORMAT, 4, query + q * pitch, pitch, block, vectors, count, products + q * BLOCK);         \
        break;
    FOR_EVERY_FORMAT(CALL)
#undef CALL
}

static void add_tokens(int64_t queries, const float *weights, const Block *block, int first, int last, int count,
                       float *output, int64_t pitch) {
#define CALL(FORMAT)                                                                                                   \
    case FORMAT:                                                                                                       \
        if (queries == 1)                                                                                              \
            accumulate_run(FORMAT, 1, weights, block, first, last, count, output, pitch);                              \
        for (int64_t q = 0; q + 4 <= queries; q += 4)                                                                  \
            accumulate_run(FORMAT, 4, weights + q * BLOCK, block, first, last, count, output + q * pitch, pitch);      \
        break;
    FOR_EVERY_FORMAT(CALL)
#undef CALL
}

#endif
