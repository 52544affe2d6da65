/* Decode attention over compressed keys and values.

   The tokens of all rows are cut into items, which threads take one after the other. An item decodes a block of tokens
   at a time into memory that stays in the first-level cache, multiplies all queries of the row with it, and keeps a
   running softmax (Milakov and Gimelshein, 2018). Whoever finishes a row's last item merges the row. */

#include <math.h>
#include <stdatomic.h>

#include "coding.h"

#define BLOCK 32 /* tokens decoded at once; a multiple of LANES */
#define WIDE (LANES == 16 ? 4 : 2) /* vectors of output kept in registers for each of four queries */

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

static Decoder decoder_of(const Side *side, const Stretch *stretch, int64_t row, Arena *arena) {
    Layout layout = layout_of(side);
    Decoder decoder = {.side = side, .layout = layout, .group = -1, .row_scale = 1};
    decoder.first_token = row_start(stretch, row);
    decoder.codes =
        side->codes + (side->row_bytes ? row * side->row_bytes : decoder.first_token * side->token_bytes);
    decoder.end = decoder.codes + row_length(stretch, row) * side->token_bytes;
    decoder.scale = take(arena, layout.packed * LANES);
    decoder.minimum = take(arena, layout.packed * LANES);
    decoder.factors = take(arena, BLOCK * side->rank + LANES);
    decoder.group_of = (int *)take(arena, layout.packed);
    if (side->format == FLOAT8)
        decoder.row_scale = ((const float *)side->scale)[row];
    if (side->format < INT8)
        return decoder;
    if (!side->per_token)
        decoder.first_group = first_group(stretch, row, side->group_size);
    for (int i = 0; i < layout.packed; i++) {
        int group = -2;
        for (int lane = 0; lane < LANES; lane++) {
            int channel = coordinate(side, &layout, i, lane);
            if (channel >= 0)
                group = group == -2 || group == channel / side->group_size ? channel / side->group_size : -1;
            if (group == -1)
                break;
        }
        decoder.group_of[i] = group == -2 ? 0 : group;
    }
    return decoder;
}

/* Floats that an item needs for one side, at most. */
static int64_t side_floats(const Call *call, const Side *side, int64_t queries) {
    Layout layout = layout_of(side);
    int64_t width = layout.vectors * LANES + call->head_dim + side->width + 6 * LANES;
    int64_t groups = side->format >= INT8 && side->per_token ? side->width / side->group_size : 0;
    return width * (BLOCK + 5 + 3 * queries) + BLOCK * (2 * groups + side->rank) + 8 * LANES;
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
    for (int64_t q = 0; q < group; q++) {
        float *out = to + q * layout->vectors * LANES;
        for (int i = 0; i < layout->packed; i++)
            for (int lane = 0; lane < LANES; lane++) {
                int channel = coordinate(side, layout, i, lane);
                if (channel >= 0)
                    out[i * LANES + lane] = inside[q * width + channel] * call->scaling;
            }
        for (int64_t r = 0; r < rank; r++)
            out[layout->packed * LANES + r] = factors[q * rank + r] * call->scaling;
    }
}

/* The output of a row's queries out of the values' coordinates. */
static void leave(const Call *call, const Side *side, const Layout *layout, int64_t row, const float *from, float *to,
                  Arena arena) {
    int64_t group = call->group, head_dim = call->head_dim, width = side->width, rank = side->rank;
    float *inside = take(&arena, group * width);
    float *line = take(&arena, (head_dim > width ? head_dim : width) + rank + LANES);
    for (int64_t q = 0; q < group; q++)
        for (int i = 0; i < layout->packed; i++)
            for (int lane = 0; lane < LANES; lane++) {
                int channel = coordinate(side, layout, i, lane);
                if (channel >= 0)
                    inside[q * width + channel] = from[(q * layout->vectors + i) * LANES + lane];
            }
    if (rank)
        multiply(side->right + row * width * rank * element_bytes(side->right_format), side->right_format, width, rank,
                 1, from + layout->packed * LANES, layout->vectors * LANES, inside, width, group, 1, line);
    if (side->basis) {
        multiply(side->basis + row * head_dim * width * element_bytes(side->basis_format), side->basis_format,
                 head_dim, width, 1, inside, width, to, head_dim, group, 0, line);
        return;
    }
    for (int64_t q = 0; side->rotated && q < group; q++)
        rotate(inside + q * width, width);
    memcpy(to, inside, sizeof(float) * (size_t)(group * width));
}

/* scores[q][t] for `many` queries and all tokens of a block, LANES products at a time. */
INLINE void score(const int many, const float *query, const float *tokens, int count, int vectors, float *scores) {
    const int step = LANES / many;
    for (int t = 0; t < count; t += step) {
        vfloat sums[LANES] = {{0}};
        for (int i = 0; i < vectors; i++) {
            vfloat asked[4];
#pragma GCC unroll 4
            for (int q = 0; q < many; q++) {
                asked[q] = load(query + ((int64_t)q * vectors + i) * LANES);
                HOLD(asked[q]);
            }
#pragma GCC unroll 16
            for (int s = 0; s < step; s++) {
                vfloat token = load(tokens + ((int64_t)(t + s) * vectors + i) * LANES);
                HOLD(token);
#pragma GCC unroll 4
                for (int q = 0; q < many; q++)
                    sums[q * step + s] += token * asked[q];
            }
        }
        vfloat found = sum_each(sums);
        float lanes[LANES] ALIGNED;
        store(lanes, found);
        for (int q = 0; q < many; q++)
            memcpy(scores + q * BLOCK + t, lanes + q * step, sizeof(float) * (size_t)step);
    }
}

/* output[q] += weights[q][t] * tokens[t] for `many` queries and `wide` vectors. */
INLINE void accumulate(const int many, const int wide, const float *weights, const float *tokens, int count,
                       int vectors, float *output) {
    vfloat sums[16];
#pragma GCC unroll 4
    for (int q = 0; q < many; q++)
#pragma GCC unroll 4
        for (int i = 0; i < wide; i++)
            sums[q * wide + i] = load(output + ((int64_t)q * vectors + i) * LANES);
    for (int t = 0; t < count; t++)
#pragma GCC unroll 4
        for (int i = 0; i < wide; i++) {
            vfloat token = load(tokens + ((int64_t)t * vectors + i) * LANES);
            HOLD(token);
#pragma GCC unroll 4
            for (int q = 0; q < many; q++)
                sums[q * wide + i] += token * all(weights[q * BLOCK + t]);
        }
#pragma GCC unroll 4
    for (int q = 0; q < many; q++)
#pragma GCC unroll 4
        for (int i = 0; i < wide; i++)
            store(output + ((int64_t)q * vectors + i) * LANES, sums[q * wide + i]);
}

INLINE void accumulate_all(const int many, const float *weights, const float *tokens, int count, int vectors,
                           float *output) {
    int i = 0;
    for (; i + WIDE <= vectors; i += WIDE)
        accumulate(many, WIDE, weights, tokens + i * LANES, count, vectors, output + i * LANES);
    for (; i < vectors; i++)
        accumulate(many, 1, weights, tokens + i * LANES, count, vectors, output + i * LANES);
}

/* Scores of one query and `count` tokens to weights; the running maximum, sum and output follow. */
static void soften(const Call *call, float *scores, int count, float *top, float *total, float *output, int vectors) {
    vfloat high = all(-INFINITY);
    for (int t = count; t < (count + LANES - 1) / LANES * LANES; t++)
        scores[t] = -INFINITY;
    for (int t = 0; t < count; t += LANES) {
        vfloat score = load(scores + t);
        if (call->softcap > 0) {
            score = hyperbolic_tangent(score * all(1.0f / call->softcap)) * all(call->softcap);
            for (int lane = count - t; lane < LANES; lane++)
                score[lane] = -INFINITY;
            store(scores + t, score);
        }
        high = choose(score > high, score, high);
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

/* Queries are taken in fours, or in ones and twos where there are no more; those that fill up are zeros. */
static int64_t padded_queries(int64_t group) { return group < 3 ? group : (group + 3) / 4 * 4; }

static void attend(const Work *work, int64_t index, float *memory) {
    const Call *call = work->call;
    const Item *item = &work->items[index];
    const Stretch *stretch = &call->stretches[item->stretch];
    int64_t queries = padded_queries(call->group);
    Arena arena = {memory};
    Decoder keys = decoder_of(&stretch->keys, stretch, item->row, &arena);
    Decoder values = decoder_of(&stretch->values, stretch, item->row, &arena);
    int key_vectors = keys.layout.vectors, vectors = values.layout.vectors;
    float *query = take(&arena, queries * key_vectors * LANES);
    float *output = take(&arena, queries * vectors * LANES);
    float *scores = take(&arena, queries * BLOCK);
    float *tops = take(&arena, queries), *totals = take(&arena, queries);
    Arena rest = arena;
    int most = key_vectors > vectors ? key_vectors : vectors;
    float *tokens = take(&arena, BLOCK * most * LANES), *scales = arena.next;
    enter(call, keys.side, &keys.layout, item->row, queries, query, rest);
    memset(tokens, 0, sizeof(float) * (size_t)(BLOCK * most * LANES));
    memset(output, 0, sizeof(float) * (size_t)(queries * vectors * LANES));
    for (int64_t q = 0; q < queries; q++) {
        tops[q] = -INFINITY;
        totals[q] = 0;
    }
    for (int64_t first = item->first; first < item->last; first += BLOCK) {
        int count = item->last - first < BLOCK ? (int)(item->last - first) : BLOCK;
        prefetch(&values, first, BLOCK);
        decode(&keys, first, count, scales, tokens);
        if (queries == 1)
            score(1, query, tokens, count, key_vectors, scores);
        else if (queries == 2)
            score(2, query, tokens, count, key_vectors, scores);
        else
            for (int64_t q = 0; q < queries; q += 4)
                score(4, query + q * key_vectors * LANES, tokens, count, key_vectors, scores + q * BLOCK);
        for (int64_t q = 0; q < queries; q++)
            soften(call, scores + q * BLOCK, count, tops + q, totals + q, output + q * vectors * LANES, vectors);
        prefetch(&keys, first + BLOCK, BLOCK);
        decode(&values, first, count, scales, tokens);
        if (queries == 1)
            accumulate_all(1, scores, tokens, count, vectors, output);
        else if (queries == 2)
            accumulate_all(2, scores, tokens, count, vectors, output);
        else
            for (int64_t q = 0; q < queries; q += 4)
                accumulate_all(4, scores + q * BLOCK, tokens, count, vectors, output + q * vectors * LANES);
    }
    memcpy(work->tops + index * call->group, tops, sizeof(float) * (size_t)call->group);
    memcpy(work->totals + index * call->group, totals, sizeof(float) * (size_t)call->group);
    leave(call, values.side, &values.layout, item->row, output,
          work->outputs + index * call->group * call->head_dim, rest);
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
    floats += queries * (BLOCK + 2 * 16) + 1024;
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
