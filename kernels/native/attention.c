/* Decode attention over compressed keys and values.

   The tokens of all rows are cut into items, which threads take one after the other. An item multiplies all queries of
   its row with a block of tokens at a time, whose codes become floats in registers, and keeps a running softmax (Milakov
   and Gimelshein, 2018). Scales are applied to what is few: to the query for a group of tokens, to scores and weights
   for a group of channels. Whoever finishes a row's last item merges the row. */

#include <math.h>
#include <stdatomic.h>

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

typedef struct {
    int64_t row, stretch, first, last;
} Item;

typedef struct {
    const Call *call;
    Item *items;
    int64_t item_count;
    int64_t *row_items; /* [rows + 1]: where a row's items start */
    atomic_int *open;   /* [rows]: items not yet done */
    float *outputs;     /* [items, group, head_dim] */
    float *tops;        /* [items, group]: largest score */
    float *totals;      /* [items, group]: sum of exponentials below it */
    atomic_llong next;
    atomic_int failed;
} Work;

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

static Reader reader_of(const Side *side, const Stretch *stretch, int64_t row, int values, Arena *arena) {
    Layout layout = layout_of(side);
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
    reader.factors = take(arena, BLOCK * side->rank + LANES);
    reader.decoded = layout.stride < LANES || (values && integers && !side->per_token);
    if (integers && !side->per_token)
        reader.first_group = first_group(stretch, row, side->group_size);
    for (int i = 0; i < layout.packed; i++) {
        reader.sources[i] = source_of(side, &layout, i);
        reader.group_of[i] = 0;
        int found = 0;
        for (int lane = 0; reader.groups && lane < LANES; lane++) {
            int channel = channel_of(side, &layout, i, lane);
            if (channel < 0)
                continue;
            int group = channel / side->group_size;
            if (found && group != reader.group_of[i]) {
                reader.group_of[i] = -1;
                reader.decoded = 1;
                break;
            }
            reader.group_of[i] = group;
            found = 1;
        }
    }
    return reader;
}

/* Floats that an item needs for one side, at most. */
static int64_t side_floats(const Call *call, const Side *side, int64_t queries) {
    Layout layout = layout_of(side);
    int64_t groups = side->format >= INT8 && side->per_token ? side->width / side->group_size : 0;
    int64_t width = (layout.vectors + groups) * LANES + call->head_dim + side->width + side->rank + 6 * LANES;
    return width * (BLOCK + 8 + 3 * queries) + BLOCK * (4 * groups + side->rank) + 32 * LANES;
}

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
    float *inside = take(&arena, group * width), *factors = take(&arena, group * (rank + 1));
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
        multiply(side->right + row * width * rank * element_bytes(side->right_format), side->right_format, width, rank,
                 0, inside, width, factors, rank, group, 0, line);
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
            out[layout->packed * LANES + r] = factors[q * rank + r] * call->scaling;
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
        multiply(side->right + row * width * rank * element_bytes(side->right_format), side->right_format, width, rank,
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

/* products[q][t] of `many` queries and all tokens of a block over some of their vectors, LANES products at a time. */
INLINE void multiply_tokens(const int format, const int many, const float *query, int64_t pitch, const Block *block,
                            int vectors, int count, float *products) {
    const int step = LANES / many;
    for (int t = 0; t < count; t += step) {
        vfloat sums[LANES] = {{0}};
        const uint8_t *tokens[LANES];
        for (int s = 0; s < step; s++)
            tokens[s] = block->tokens + (t + s < count ? t + s : count - 1) * block->token_bytes;
        for (int i = 0; i < vectors; i++) {
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
        }
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

/* Scores of one query and `count` tokens, to which `offset` is added, to weights; the running maximum, sum and output
   follow. */
static void soften(const Call *call, float *scores, float offset, int count, float *top, float *total, float *output,
                   int vectors) {
    vfloat high = all(-INFINITY);
    for (int t = count; t < (count + LANES - 1) / LANES * LANES; t++)
        scores[t] = -INFINITY;
    for (int t = 0; t < count; t += LANES) {
        vfloat score = load(scores + t) + all(offset);
        if (call->softcap > 0) {
            score = hyperbolic_tangent(score * all(1.0f / call->softcap)) * all(call->softcap);
            for (int lane = count - t; lane < LANES; lane++)
                score[lane] = -INFINITY;
        }
        store(scores + t, score);
        high = greater(score, high);
    }
    float highest = largest(high);
    if (highest > *top) {
        vfloat factor = exponential(all(*top - highest));
        *top = highest;
        *total *= factor[0];
        for (int i = 0; i < vectors; i++)
            store(output + i * LANES, load(output + i * LANES) * factor);
    }
    vfloat sums = {0};
    for (int t = 0; t < count; t += LANES) {
        vfloat weight = exponential(load(scores + t) - all(*top));
        store(scores + t, weight);
        sums += weight;
    }
    *total += sum(sums);
}

/* Queries are taken in fours unless there is only one; those that fill up are zeros. */
static int64_t padded_queries(int64_t group) { return group == 1 ? 1 : (group + 3) / 4 * 4; }

/* A block of a row, decoded first if it has to be. `lines` and `tokens` are memory for that. */
static Block block_of(Reader *reader, int64_t first, int count, const Source *in_floats, float *lines, float *tokens) {
    const Side *side = reader->side;
    if (reader->groups)
        load_token_scales(reader, first, count, lines);
    if (side->rank)
        load_factors(reader, first, count);
    if (!reader->decoded)
        return (Block){side->format, reader->codes + first * side->token_bytes, side->token_bytes, reader->sources};
    if (side->format >= INT8 && !side->per_token)
        load_group(reader, first / side->group_size);
    decode(reader, first, count, tokens);
    return (Block){FLOAT32, (const uint8_t *)tokens, 4 * LANES * reader->layout.packed, in_floats};
}

static Block factors_of(const Reader *reader, const Source *in_floats) {
    return (Block){FLOAT32, (const uint8_t *)reader->factors, 4 * reader->side->rank, in_floats};
}

/* Whether the scales of a group of tokens, or of channels, are not in the block already. */
static int scaled_per_channel(const Reader *reader) {
    return !reader->decoded && reader->side->format >= INT8 && !reader->side->per_token;
}

static int scaled_per_token(const Reader *reader) { return !reader->decoded && reader->groups; }

/* The end of the run of vectors from `first` on that lie in one group of channels. */
static int run_end(const Reader *reader, int first) {
    int last = first + 1;
    while (last < reader->layout.packed && reader->group_of[last] == reader->group_of[first])
        last++;
    return last;
}

/* The queries times the scales of the group of tokens that is held, and their products with its minima. */
static void scale_queries(const Reader *keys, int64_t queries, const float *query, float *scaled, float *offsets) {
    int vectors = keys->layout.vectors;
    for (int64_t q = 0; q < queries; q++) {
        vfloat offset = {0};
        for (int i = 0; i < keys->layout.packed; i++) {
            vfloat asked = load(query + (q * vectors + i) * LANES);
            store(scaled + (q * vectors + i) * LANES, asked * load(keys->scale + i * LANES));
            offset += asked * load(keys->minimum + i * LANES);
        }
        offsets[q] = sum(offset);
    }
}

/* scores[q][t]; where scales are per token, group of channels by group of channels. `sums`: [queries][groups] sums of
   the query over a group. */
static void score(const Reader *keys, const Block *block, const Block *factors, int64_t queries, const float *query,
                  const float *sums, int count, float *products, float *scores) {
    const Layout *layout = &keys->layout;
    int64_t pitch = layout->vectors * LANES;
    if (!scaled_per_token(keys)) {
        products_of(queries, query, pitch, block, layout->packed, count, scores);
    } else {
        for (int64_t q = 0; q < queries; q++)
            for (int t = 0; t < count; t += LANES) {
                vfloat score = {0};
                for (int g = 0; g < keys->groups; g++)
                    score += all(sums[q * keys->groups + g]) * load(keys->minimum + g * BLOCK + t);
                store(scores + q * BLOCK + t, score);
            }
        for (int first = 0, last; first < layout->packed; first = last) {
            last = run_end(keys, first);
            Block run = {block->format, block->tokens, block->token_bytes, block->sources + first};
            products_of(queries, query + first * LANES, pitch, &run, last - first, count, products);
            const float *scale = keys->scale + keys->group_of[first] * BLOCK;
            for (int64_t q = 0; q < queries; q++)
                for (int t = 0; t < count; t += LANES)
                    store(scores + q * BLOCK + t,
                          load(scores + q * BLOCK + t) + load(products + q * BLOCK + t) * load(scale + t));
        }
    }
    if (layout->vectors == layout->packed)
        return;
    products_of(queries, query + layout->packed * LANES, pitch, factors, layout->vectors - layout->packed, count,
                products);
    for (int64_t q = 0; q < queries; q++)
        for (int t = 0; t < count; t += LANES)
            store(scores + q * BLOCK + t, load(scores + q * BLOCK + t) + load(products + q * BLOCK + t));
}

/* output[q] += weights[q][t] * value t; where scales are per token, they are applied to the weights. */
static void add_values(const Reader *values, const Block *block, const Block *factors, int64_t queries,
                       const float *weights, int count, float *scaled, float *output) {
    const Layout *layout = &values->layout;
    int64_t pitch = (layout->vectors + values->groups) * LANES;
    if (!scaled_per_token(values)) {
        add_tokens(queries, weights, block, 0, layout->packed, count, output, pitch);
    } else {
        for (int first = 0, last; first < layout->packed; first = last) {
            last = run_end(values, first);
            const float *scale = values->scale + values->group_of[first] * BLOCK;
            for (int64_t q = 0; q < queries; q++)
                for (int t = 0; t < count; t += LANES)
                    store(scaled + q * BLOCK + t, load(weights + q * BLOCK + t) * load(scale + t));
            add_tokens(queries, scaled, block, first, last, count, output, pitch);
        }
        for (int64_t q = 0; q < queries; q++)
            for (int g = 0; g < values->groups; g++) {
                float *to = output + q * pitch + (layout->vectors + g) * LANES;
                vfloat offset = load(to);
                for (int t = 0; t < count; t += LANES)
                    offset += load(weights + q * BLOCK + t) * load(values->minimum + g * BLOCK + t);
                store(to, offset);
            }
    }
    if (layout->vectors > layout->packed)
        add_tokens(queries, weights, factors, 0, layout->vectors - layout->packed, count,
                   output + layout->packed * LANES, pitch);
}

static void attend(const Work *work, int64_t index, float *memory) {
    const Call *call = work->call;
    const Item *item = &work->items[index];
    const Stretch *stretch = &call->stretches[item->stretch];
    int64_t queries = padded_queries(call->group);
    Arena arena = {memory};
    Reader keys = reader_of(&stretch->keys, stretch, item->row, 0, &arena);
    Reader values = reader_of(&stretch->values, stretch, item->row, 1, &arena);
    int key_vectors = keys.layout.vectors, vectors = values.layout.vectors + values.groups;
    int most = key_vectors > vectors ? key_vectors : vectors;
    int most_groups = keys.groups > values.groups ? keys.groups : values.groups;
    float *query = take(&arena, queries * key_vectors * LANES);
    float *scaled = take(&arena, queries * key_vectors * LANES);
    float *offsets = take(&arena, queries), *sums = take(&arena, queries * keys.groups);
    float *output = take(&arena, queries * vectors * LANES);
    float *scores = take(&arena, queries * BLOCK), *products = take(&arena, queries * BLOCK);
    float *tops = take(&arena, queries), *totals = take(&arena, queries);
    float *lines = take(&arena, BLOCK * most_groups + LANES);
    Source *in_floats = (Source *)take(&arena, most * 4);
    Arena rest = arena;
    float *tokens = take(&arena, BLOCK * most * LANES);
    enter(call, keys.side, &keys.layout, item->row, queries, query, rest);
    memcpy(scaled, query, sizeof(float) * (size_t)(queries * key_vectors * LANES));
    memset(output, 0, sizeof(float) * (size_t)(queries * vectors * LANES));
    memset(sums, 0, sizeof(float) * (size_t)(queries * keys.groups));
    for (int i = 0; i < most; i++)
        in_floats[i] = (Source){4 * LANES * i, 0, 0, 0};
    for (int64_t q = 0; q < queries; q++) {
        tops[q] = -INFINITY;
        totals[q] = offsets[q] = 0;
        for (int i = 0; scaled_per_token(&keys) && i < keys.layout.packed; i++)
            sums[q * keys.groups + keys.group_of[i]] += sum(load(query + (q * key_vectors + i) * LANES));
    }
    Block key_factors = factors_of(&keys, in_floats), value_factors = factors_of(&values, in_floats);
    int count;
    for (int64_t first = item->first; first < item->last; first += count) {
        count = item->last - first < BLOCK ? (int)(item->last - first) : BLOCK;
        /* A block lies within one group of tokens. */
        for (int side = 0; side < 2; side++) {
            const Side *held = side ? values.side : keys.side;
            if (held->format >= INT8 && !held->per_token) {
                int64_t rest_of_group = held->group_size - first % held->group_size;
                count = count < rest_of_group ? count : (int)rest_of_group;
            }
        }
        if (scaled_per_channel(&keys) && load_group(&keys, first / keys.side->group_size))
            scale_queries(&keys, queries, query, scaled, offsets);
        prefetch(&values, first, BLOCK);
        Block block = block_of(&keys, first, count, in_floats, lines, tokens);
        score(&keys, &block, &key_factors, queries, scaled, sums, count, products, scores);
        for (int64_t q = 0; q < queries; q++)
            soften(call, scores + q * BLOCK, offsets[q], count, tops + q, totals + q, output + q * vectors * LANES,
                   vectors);
        prefetch(&keys, first + BLOCK, BLOCK);
        block = block_of(&values, first, count, in_floats, lines, tokens);
        add_values(&values, &block, &value_factors, queries, scores, count, products, output);
    }
    memcpy(work->tops + index * call->group, tops, sizeof(float) * (size_t)call->group);
    memcpy(work->totals + index * call->group, totals, sizeof(float) * (size_t)call->group);
    leave(call, &values, item->row, output, work->outputs + index * call->group * call->head_dim, rest);
}

/* The items of one row, which are over disjoint tokens, put together. */
static void merge(const Work *work, int64_t row) {
    const Call *call = work->call;
    int64_t first = work->row_items[row], last = work->row_items[row + 1];
    for (int64_t q = 0; q < call->group; q++) {
        int64_t place = row * call->group + q;
        float *output = call->output + place * call->head_dim, top = -INFINITY, total = 0;
        memset(output, 0, sizeof(float) * (size_t)call->head_dim);
        for (int64_t i = first; i < last; i++)
            top = fmaxf(top, work->tops[i * call->group + q]);
        for (int64_t i = first; i < last; i++)
            total += work->totals[i * call->group + q] * expf(work->tops[i * call->group + q] - top);
        for (int64_t i = first; i < last; i++) {
            float weight = expf(work->tops[i * call->group + q] - top) / total;
            const float *part = work->outputs + (i * call->group + q) * call->head_dim;
            for (int64_t c = 0; c < call->head_dim; c++)
                output[c] += weight * part[c];
        }
        call->lse[place] = first < last ? top + logf(total) : -INFINITY;
    }
}

static void take_items(void *argument) {
    Work *work = argument;
    const Call *call = work->call;
    int64_t floats = 0, queries = padded_queries(call->group);
    for (int64_t s = 0; s < call->stretch_count; s++) {
        const Stretch *stretch = &call->stretches[s];
        int64_t needed = side_floats(call, &stretch->keys, queries) + side_floats(call, &stretch->values, queries);
        floats = needed > floats ? needed : floats;
    }
    floats += queries * (2 * BLOCK + 3 * 16) + 2048;
    float *memory = aligned_alloc(64, (size_t)((floats * 4 + 63) / 64 * 64));
    if (!memory)
        atomic_store(&work->failed, 1);
    for (;;) {
        int64_t index = atomic_fetch_add(&work->next, 1);
        if (index >= work->item_count || !memory)
            break;
        attend(work, index, memory);
        int64_t row = work->items[index].row;
        if (atomic_fetch_sub(&work->open[row], 1) == 1)
            merge(work, row);
    }
    free(memory);
}

/* Cut the visible tokens into items of about `size` tokens; without `items` they are only counted. */
static int64_t cut(const Call *call, int64_t size, Item *items, int64_t *row_items) {
    int64_t count = 0;
    for (int64_t row = 0; row < call->rows; row++) {
        if (items)
            row_items[row] = count;
        int64_t hidden = 0;
        if (call->sliding_window) {
            for (int64_t s = 0; s < call->stretch_count; s++)
                hidden += row_length(&call->stretches[s], row);
            hidden = hidden > call->sliding_window ? hidden - call->sliding_window : 0;
        }
        for (int64_t s = 0; s < call->stretch_count; s++) {
            int64_t length = row_length(&call->stretches[s], row), first = hidden < length ? hidden : length;
            hidden -= first;
            int64_t pieces = (length - first + size - 1) / size;
            for (int64_t piece = 0; piece < pieces; piece++) {
                int64_t from = first + piece * size, to = from + size < length ? from + size : length;
                if (items)
                    items[count] = (Item){row, s, from, to};
                count++;
            }
        }
    }
    if (items)
        row_items[call->rows] = count;
    return count;
}

typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);

/* `parallel`: GOMP_parallel of the OpenMP runtime whose threads are to be used, or NULL for one thread.
   Returns 0, or 1 if there was no memory. */
int autokv_decode_attention(const Call *call, Parallel parallel) {
    int64_t tokens = 0;
    for (int64_t s = 0; s < call->stretch_count; s++) {
        const Stretch *stretch = &call->stretches[s];
        tokens += stretch->offsets ? stretch->offsets[call->rows] : stretch->length * call->rows;
    }
    int64_t threads = parallel ? call->threads : 1;
    /* Under some ten microseconds of work, waking other threads takes longer than it saves. */
    if (tokens * call->group * call->head_dim < 1 << 18)
        threads = 1;
    /* About four items a thread, so that none waits long for another, but none of a few tokens. */
    int64_t size = threads == 1 ? tokens : tokens / (threads * 4);
    size = (size > 8 * BLOCK ? size + BLOCK - 1 : 8 * BLOCK) / BLOCK * BLOCK;
    int64_t count = cut(call, size, NULL, NULL), group = call->group;
    Work work = {.call = call, .item_count = count};
    work.items = malloc(sizeof(Item) * (size_t)(count + 1));
    work.row_items = malloc(sizeof(int64_t) * (size_t)(call->rows + 1));
    work.open = malloc(sizeof(atomic_int) * (size_t)(call->rows + 1));
    work.outputs = malloc(sizeof(float) * (size_t)(count * group * (call->head_dim + 2) + 1));
    int failed = !work.items || !work.row_items || !work.open || !work.outputs;
    if (!failed) {
        work.tops = work.outputs + count * group * call->head_dim;
        work.totals = work.tops + count * group;
        cut(call, size, work.items, work.row_items);
        for (int64_t row = 0; row < call->rows; row++) {
            atomic_init(&work.open[row], (int)(work.row_items[row + 1] - work.row_items[row]));
            if (work.row_items[row + 1] == work.row_items[row])
                merge(&work, row);
        }
        if (threads > 1 && count > 1)
            parallel(take_items, &work, (unsigned)(threads < count ? threads : count), 0);
        else if (count)
            take_items(&work);
        failed = atomic_load(&work.failed);
    }
    free(work.items);
    free(work.row_items);
    free(work.open);
    free(work.outputs);
    return failed;
}
