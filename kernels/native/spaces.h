/* The queries of a row into the coordinates in which keys are held, and the output out of those of the values. */

#ifndef AUTOKV_SPACES_H
#define AUTOKV_SPACES_H

#include <math.h>

#include "call.h"

/* Multiply `vector` by the orthonormal Hadamard matrix of the largest power of two in `width`, block by block. */
static void rotate(float *vector, int64_t width) {
    int64_t block = width & -width;
    float factor = 1.0f / sqrtf((float)block);
    for (int64_t start = 0; start < width; start += block)
        for (int64_t half = 1; half < block; half *= 2)
            for (int64_t i = start; i < start + block; i += 2 * half)
                for (int64_t j = i; j < i + half; j++) {
                    float a = vector[j], b = vector[j + half];
                    vector[j] = a + b;
                    vector[j + half] = a - b;
                }
    for (int64_t i = 0; i < width; i++)
        vector[i] *= factor;
}

/* out[q] = from[q] times a matrix [inner, outer] in a floating-point format, or times its transpose [outer, inner];
   `line` holds a line of the matrix. `add`: on top of what is there. */
static void multiply(const uint8_t *matrix, int format, int64_t lines, int64_t columns, int transposed,
                     const float *from, int64_t from_pitch, float *out, int64_t out_pitch, int64_t queries, int add,
                     float *line) {
    int64_t outer = transposed ? lines : columns;
    for (int64_t q = 0; !add && q < queries; q++)
        memset(out + q * out_pitch, 0, sizeof(float) * (size_t)outer);
    for (int64_t i = 0; i < lines; i++) {
        convert(matrix + i * columns * element_bytes(format), format, columns, line);
        for (int64_t q = 0; q < queries; q++) {
            if (!transposed) {
                float weight = from[q * from_pitch + i];
                float *to = out + q * out_pitch;
                for (int64_t j = 0; j < columns; j++)
                    to[j] += weight * line[j];
            } else {
                const float *with = from + q * from_pitch;
                vfloat total = {0};
                float rest = 0;
                int64_t j = 0;
                for (; j + LANES <= columns; j += LANES)
                    total += load(with + j) * load(line + j);
                for (; j < columns; j++)
                    rest += with[j] * line[j];
                out[q * out_pitch + i] += sum(total) + rest;
            }
        }
    }
}

/* What e4m3 floats of a row are multiplied by. */
static float row_scale(const Side *side, int64_t row) {
    return side->format == FLOAT8 ? ((const float *)side->scale)[row] * FLOAT8_UNIT : 1.0f;
}

/* The queries of a row, scaled, in the coordinates and the order in which the keys are decoded. */
static void enter(const Call *call, const Side *side, const Layout *layout, int64_t row, int64_t queries, float *to,
                  Arena arena) {
    int64_t group = call->group, head_dim = call->head_dim, width = side->width, rank = side->rank;
    const float *query = call->query + row * group * head_dim;
    float *inside = take(&arena, group * width), *low_rank = take(&arena, group * (rank + 1));
    float *line = take(&arena, (head_dim > width ? head_dim : width) + rank + LANES);
    if (side->basis) {
        multiply(side->basis + row * head_dim * width * element_bytes(side->basis_format), side->basis_format,
                 head_dim, width, 0, query, head_dim, inside, width, group, 0, line);
    } else {
        memcpy(inside, query, sizeof(float) * (size_t)(group * width));
        for (int64_t q = 0; side->rotated && q < group; q++)
            rotate(inside + q * width, width);
    }
    if (rank)
        multiply(side->low_rank_right + row * width * rank * element_bytes(side->low_rank_right_format), side->low_rank_right_format, width, rank,
                 0, inside, width, low_rank, rank, group, 0, line);
    memset(to, 0, sizeof(float) * (size_t)(queries * layout->vectors * LANES));
    float scaling = call->scaling * row_scale(side, row);
    for (int64_t q = 0; q < group; q++) {
        float *out = to + q * layout->vectors * LANES;
        for (int i = 0; i < layout->packed; i++)
            for (int lane = 0; lane < LANES; lane++) {
                int channel = channel_of(side, layout, i, lane);
                if (channel >= 0)
                    out[i * LANES + lane] = inside[q * width + channel] * scaling;
            }
        for (int64_t r = 0; r < rank; r++)
            out[layout->packed * LANES + r] = low_rank[q * rank + r] * call->scaling;
    }
}

/* The output of a row's queries out of the values' coordinates. `from`: for every query its vectors, then a vector for
   each group of channels whose sum is added to them. */
static void leave(const Call *call, const Reader *reader, int64_t row, const float *from, float *to, Arena arena) {
    const Side *side = reader->side;
    const Layout *layout = &reader->layout;
    int64_t group = call->group, head_dim = call->head_dim, width = side->width, rank = side->rank;
    int64_t pitch = (layout->vectors + reader->groups) * LANES;
    float *inside = take(&arena, group * width);
    float *line = take(&arena, (head_dim > width ? head_dim : width) + rank + LANES);
    float scale = row_scale(side, row);
    for (int64_t q = 0; q < group; q++) {
        for (int i = 0; i < layout->packed; i++)
            for (int lane = 0; lane < LANES; lane++) {
                int channel = channel_of(side, layout, i, lane);
                if (channel >= 0)
                    inside[q * width + channel] = from[q * pitch + i * LANES + lane] * scale;
            }
        for (int g = 0; g < reader->groups; g++) {
            float offset = sum(load(from + q * pitch + (layout->vectors + g) * LANES));
            for (int c = g * side->group_size; c < (g + 1) * side->group_size; c++)
                inside[q * width + c] += offset;
        }
    }
    if (rank)
        multiply(side->low_rank_right + row * width * rank * element_bytes(side->low_rank_right_format), side->low_rank_right_format, width, rank,
                 1, from + layout->packed * LANES, pitch, inside, width, group, 1, line);
    if (side->basis) {
        multiply(side->basis + row * head_dim * width * element_bytes(side->basis_format), side->basis_format,
                 head_dim, width, 1, inside, width, to, head_dim, group, 0, line);
        return;
    }
    for (int64_t q = 0; side->rotated && q < group; q++)
        rotate(inside + q * width, width);
    memcpy(to, inside, sizeof(float) * (size_t)(group * width));
}

#endif
