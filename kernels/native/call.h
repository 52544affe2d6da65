/* What a call is given, and a row of it as it is read. */

#ifndef AUTOKV_CALL_H
#define AUTOKV_CALL_H

#include "coding.h"

/* Mirrored by autokv.kernels.native.structures. */
typedef struct {
    Side keys;
    Side values;
    const int64_t *offsets; /* where rows start in flat storage; NULL: every row has `length` tokens */
    int64_t length;
} Stretch;

typedef struct {
    const float *query; /* [rows, group, head_dim] */
    float *output;      /* [rows, group, head_dim] */
    float *lse;         /* [rows, group] */
    const Stretch *stretches;
    int64_t stretch_count;
    int64_t rows;
    int64_t group;
    int64_t head_dim;
    int64_t sliding_window; /* 0: none */
    int64_t threads;
    float scaling;
    float softcap; /* 0: none */
} Call;

static int64_t row_start(const Stretch *stretch, int64_t row) {
    return stretch->offsets ? stretch->offsets[row] : row * stretch->length;
}

static int64_t row_length(const Stretch *stretch, int64_t row) {
    return stretch->offsets ? stretch->offsets[row + 1] - stretch->offsets[row] : stretch->length;
}

static int64_t first_group(const Stretch *stretch, int64_t row, int64_t size) {
    int64_t groups = 0;
    if (!stretch->offsets)
        return row * ((stretch->length + size - 1) / size);
    for (int64_t r = 0; r < row; r++)
        groups += (row_length(stretch, r) + size - 1) / size;
    return groups;
}

/* Memory of one item, cut from one piece. */
typedef struct {
    float *next;
} Arena;

static float *take(Arena *arena, int64_t floats) {
    float *taken = arena->next;
    arena->next += (floats + 15) / 16 * 16;
    return taken;
}

/* Whether the codes of a side are multiplied as integers: the scales have to be per token, or the query's. */
static int multiplied_as_integers(const Side *side, int values) {
    Layout layout = layout_of(side, 2);
    int suits = side->format == INT8 || side->format == INT4 || side->format == INT2;
    if (!INTEGERS || !suits || layout.stride < 2 * LANES)
        return 0;
    if (!side->per_token)
        return !values;
    for (int i = 0; i < layout.packed; i += 2)
        suits = suits && group_of_chunk(side, &layout, i) >= 0;
    return suits;
}

static Reader reader_of(const Side *side, const Stretch *stretch, int64_t row, int values, Arena *arena) {
    Layout layout = layout_of(side, multiplied_as_integers(side, values) ? 2 : 1);
    Reader reader = {.side = side, .layout = layout, .group = -1};
    int integers = side->format >= INT8;
    reader.first_token = row_start(stretch, row);
    reader.codes = side->codes + (side->row_bytes ? row * side->row_bytes : reader.first_token * side->token_bytes);
    reader.end = reader.codes + row_length(stretch, row) * side->token_bytes;
    reader.groups = integers && side->per_token ? side->width / side->group_size : 0;
    reader.sources = (Source *)take(arena, layout.packed * 4);
    reader.group_of = (int *)take(arena, layout.packed);
    reader.scale = take(arena, layout.packed * LANES + reader.groups * BLOCK);
    reader.minimum = take(arena, layout.packed * LANES + reader.groups * BLOCK);
    reader.low_rank_left = take(arena, BLOCK * side->rank + LANES);
    reader.decoded = layout.stride < LANES || (values && integers && !side->per_token);
    if (integers && !side->per_token)
        reader.first_group = first_group(stretch, row, side->group_size);
    for (int i = 0; i < layout.packed; i++) {
        reader.sources[i] = source_of(side, &layout, i);
        reader.group_of[i] = reader.groups ? group_of_chunk(side, &layout, i - i % layout.wide) : 0;
        reader.decoded |= reader.group_of[i] < 0;
    }
    return reader;
}

#endif
