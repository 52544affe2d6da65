/* Decode attention over compressed keys and values.

   The tokens of all rows are cut into items, which threads take one after the other. An item multiplies all queries of
   its row with a block of tokens at a time, whose codes become floats in registers or stay integers, and keeps an
   online softmax (Milakov and Gimelshein, 2018), whose m, l, alpha and acc are those of FlashAttention. Scales are applied to what is few: to the query for a group of
   tokens, to scores and weights for a group of channels. Whoever finishes a row's last item merges the row. */

#include <math.h>
#include <stdatomic.h>

#include "floats.h"
#include "integers.h"
#include "spaces.h"

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
    float *m;           /* [items, group]: largest score */
    float *l;           /* [items, group]: sum of exponentials below it */
    atomic_llong next;
    atomic_int failed;
} Work;

/* Floats that an item needs for one side, at most. */
static int64_t side_floats(const Call *call, const Side *side, int64_t queries) {
    Layout layout = layout_of(side, 2);
    int64_t groups = side->format >= INT8 && side->per_token ? side->width / side->group_size : 0;
    int64_t width = (layout.vectors + groups) * LANES + call->head_dim + side->width + side->rank + 6 * LANES;
    return width * (BLOCK + 8 + 3 * queries) + BLOCK * (4 * groups + side->rank + queries * groups) + 32 * LANES;
}

/* Scores of one query and `count` tokens, to which `offset` is added, to weights; the running maximum `m`, sum `l` and
   output `acc` follow. */
static void online_softmax(const Call *call, float *scores, float offset, int count, float *m, float *l, float *acc,
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
    if (highest > *m) {
        vfloat alpha = exponential(all(*m - highest));
        *m = highest;
        *l *= alpha[0];
        for (int i = 0; i < vectors; i++)
            store(acc + i * LANES, load(acc + i * LANES) * alpha);
    }
    vfloat sums = {0};
    for (int t = 0; t < count; t += LANES) {
        vfloat weight = exponential(load(scores + t) - all(*m));
        store(scores + t, weight);
        sums += weight;
    }
    *l += sum(sums);
}

/* Queries are taken in fours unless there is only one; those that fill up are zeros. */
static int64_t padded_queries(int64_t group) { return group == 1 ? 1 : (group + 3) / 4 * 4; }

/* A block of a row, decoded first if it has to be. `lines` and `tokens` are memory for that. */
static Block block_of(Reader *reader, int64_t first, int count, const Source *in_floats, float *lines, float *tokens) {
    const Side *side = reader->side;
    if (reader->groups)
        load_token_scales(reader, first, count, lines);
    if (side->rank)
        load_low_rank(reader, first, count);
    if (!reader->decoded)
        return (Block){side->format, reader->codes + first * side->token_bytes, side->token_bytes, reader->sources};
    if (side->format >= INT8 && !side->per_token)
        load_group(reader, first / side->group_size);
    decode(reader, first, count, tokens);
    return (Block){FLOAT32, (const uint8_t *)tokens, 4 * LANES * reader->layout.packed, in_floats};
}

static Block low_rank_of(const Reader *reader, const Source *in_floats) {
    return (Block){FLOAT32, (const uint8_t *)reader->low_rank_left, 4 * reader->side->rank, in_floats};
}

/* Whether the scales of a group of tokens, or of channels, are not in the block already. */
static int scaled_per_channel(const Reader *reader) {
    return !reader->decoded && reader->side->format >= INT8 && !reader->side->per_token;
}

static int scaled_per_token(const Reader *reader) { return !reader->decoded && reader->groups; }

static int as_integers(const Reader *reader) { return reader->layout.wide == 2; }

/* The end of the run of vectors from `first` on that lie in one group of channels. */
static int run_end(const Reader *reader, int first) {
    int last = first + 1;
    while (last < reader->layout.packed && reader->group_of[last] == reader->group_of[first])
        last++;
    return last;
}

/* What is multiplied with a block of tokens: queries by their vectors, or weights by groups of channels and tokens. */
typedef struct {
    float *floats;
    int16_t *integers; /* where codes are multiplied as integers */
    float *units;      /* what an integer stands for */
} Multiplier;

/* The queries as integers. */
static void round_queries(const Reader *keys, int64_t queries, const Multiplier *query) {
    int length = keys->layout.packed * LANES;
    int64_t pitch = keys->layout.vectors * LANES;
    float most = largest_factor(keys->side, length);
    for (int64_t q = 0; q < queries; q++)
        query->units[q] = to_integers(query->floats + q * pitch, length, most, query->integers + q * pitch);
}

/* The queries times the scales of the group of tokens that is held, and their products with its minima. */
static void scale_queries(const Reader *keys, int64_t queries, const float *query, const Multiplier *scaled,
                          float *offsets) {
    int vectors = keys->layout.vectors;
    for (int64_t q = 0; q < queries; q++) {
        vfloat offset = {0};
        for (int i = 0; i < keys->layout.packed; i++) {
            vfloat asked = load(query + (q * vectors + i) * LANES);
            store(scaled->floats + (q * vectors + i) * LANES, asked * load(keys->scale + i * LANES));
            offset += asked * load(keys->minimum + i * LANES);
        }
        offsets[q] = sum(offset);
    }
    if (as_integers(keys))
        round_queries(keys, queries, scaled);
}

/* products[q][t] over the vectors of a token from `first` to `last`. */
static void multiply_run(const Reader *keys, const Block *block, int64_t queries, const Multiplier *query, int first,
                         int last, int count, float *products) {
    int64_t pitch = keys->layout.vectors * LANES;
    Block run = {block->format, block->tokens, block->token_bytes, block->sources + first};
    if (as_integers(keys))
        integer_products_of(queries, query->integers + first * LANES, query->units, pitch, &run, last - first, count,
                            products);
    else
        products_of(queries, query->floats + first * LANES, pitch, &run, last - first, count, products);
}

/* scores[q][t]; where scales are per token, group of channels by group of channels. `sums`: [queries][groups] sums of
   the query over a group. */
static void score(const Reader *keys, const Block *block, const Block *low_rank, int64_t queries,
                  const Multiplier *query, const float *sums, int count, float *products, float *scores) {
    const Layout *layout = &keys->layout;
    if (!scaled_per_token(keys)) {
        multiply_run(keys, block, queries, query, 0, layout->packed, count, scores);
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
            multiply_run(keys, block, queries, query, first, last, count, products);
            const float *scale = keys->scale + keys->group_of[first] * BLOCK;
            for (int64_t q = 0; q < queries; q++)
                for (int t = 0; t < count; t += LANES)
                    store(scores + q * BLOCK + t,
                          load(scores + q * BLOCK + t) + load(products + q * BLOCK + t) * load(scale + t));
        }
    }
    if (layout->vectors == layout->packed)
        return;
    products_of(queries, query->floats + layout->packed * LANES, layout->vectors * LANES, low_rank,
                layout->vectors - layout->packed, count, products);
    for (int64_t q = 0; q < queries; q++)
        for (int t = 0; t < count; t += LANES)
            store(scores + q * BLOCK + t, load(scores + q * BLOCK + t) + load(products + q * BLOCK + t));
}

/* to[q][t]: weights times the scales of a group of channels. */
static void scale_weights(const Reader *values, int group, int64_t queries, const float *weights, int count,
                          float *to) {
    const float *scale = values->scale + group * BLOCK;
    for (int64_t q = 0; q < queries; q++)
        for (int t = 0; t < count; t += LANES)
            store(to + q * BLOCK + t, load(weights + q * BLOCK + t) * load(scale + t));
}

/* output[q] += weights[q][t] * value t; where scales are per token, they are applied to the weights. */
static void add_values(const Reader *values, const Block *block, const Block *low_rank, int64_t queries,
                       const float *weights, int count, const Multiplier *scaled, float *output) {
    const Layout *layout = &values->layout;
    int64_t pitch = (layout->vectors + values->groups) * LANES;
    if (!scaled_per_token(values)) {
        add_tokens(queries, weights, block, 0, layout->packed, count, output, pitch);
    } else if (as_integers(values)) {
        int length = (count + LANES - 1) / LANES * LANES;
        for (int g = 0; g < values->groups; g++) {
            scale_weights(values, g, queries, weights, count, scaled->floats);
            for (int64_t q = 0; q < queries; q++)
                scaled->units[q * values->groups + g] =
                    to_integers(scaled->floats + q * BLOCK, length, largest_factor(values->side, BLOCK),
                                scaled->integers + (q * values->groups + g) * BLOCK);
        }
        add_integers(queries, scaled->integers, scaled->units, values, block, count, output, pitch);
    } else {
        for (int first = 0, last; first < layout->packed; first = last) {
            last = run_end(values, first);
            scale_weights(values, values->group_of[first], queries, weights, count, scaled->floats);
            add_tokens(queries, scaled->floats, block, first, last, count, output, pitch);
        }
    }
    for (int64_t q = 0; scaled_per_token(values) && q < queries; q++)
        for (int g = 0; g < values->groups; g++) {
            float *to = output + q * pitch + (layout->vectors + g) * LANES;
            vfloat offset = load(to);
            for (int t = 0; t < count; t += LANES)
                offset += load(weights + q * BLOCK + t) * load(values->minimum + g * BLOCK + t);
            store(to, offset);
        }
    if (layout->vectors > layout->packed)
        add_tokens(queries, weights, low_rank, 0, layout->vectors - layout->packed, count,
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
    Multiplier scaled = {take(&arena, queries * key_vectors * LANES),
                      (int16_t *)take(&arena, queries * key_vectors * LANES / 2), take(&arena, queries)};
    float *offsets = take(&arena, queries), *sums = take(&arena, queries * keys.groups);
    float *acc = take(&arena, queries * vectors * LANES);
    float *scores = take(&arena, queries * BLOCK), *products = take(&arena, queries * BLOCK);
    Multiplier weights = {products, (int16_t *)take(&arena, queries * values.groups * BLOCK / 2),
                       take(&arena, queries * values.groups)};
    float *m = take(&arena, queries), *l = take(&arena, queries);
    float *lines = take(&arena, BLOCK * most_groups + LANES);
    Source *in_floats = (Source *)take(&arena, most * 4);
    Arena rest = arena;
    float *tokens = take(&arena, BLOCK * most * LANES);
    enter(call, keys.side, &keys.layout, item->row, queries, query, rest);
    memcpy(scaled.floats, query, sizeof(float) * (size_t)(queries * key_vectors * LANES));
    memset(acc, 0, sizeof(float) * (size_t)(queries * vectors * LANES));
    memset(sums, 0, sizeof(float) * (size_t)(queries * keys.groups));
    for (int i = 0; i < most; i++)
        in_floats[i] = (Source){4 * LANES * i, 0, 0, 0};
    for (int64_t q = 0; q < queries; q++) {
        m[q] = -INFINITY;
        l[q] = offsets[q] = 0;
        for (int i = 0; scaled_per_token(&keys) && i < keys.layout.packed; i++)
            sums[q * keys.groups + keys.group_of[i]] += sum(load(query + (q * key_vectors + i) * LANES));
    }
    if (as_integers(&keys) && !scaled_per_channel(&keys))
        round_queries(&keys, queries, &scaled);
    Block k_low_rank = low_rank_of(&keys, in_floats), v_low_rank = low_rank_of(&values, in_floats);
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
            scale_queries(&keys, queries, query, &scaled, offsets);
        prefetch(&values, first, BLOCK);
        Block block = block_of(&keys, first, count, in_floats, lines, tokens);
        score(&keys, &block, &k_low_rank, queries, &scaled, sums, count, products, scores);
        for (int64_t q = 0; q < queries; q++)
            online_softmax(call, scores + q * BLOCK, offsets[q], count, m + q, l + q, acc + q * vectors * LANES,
                           vectors);
        prefetch(&keys, first + BLOCK, BLOCK);
        block = block_of(&values, first, count, in_floats, lines, tokens);
        add_values(&values, &block, &v_low_rank, queries, scores, count, &weights, acc);
    }
    memcpy(work->m + index * call->group, m, sizeof(float) * (size_t)call->group);
    memcpy(work->l + index * call->group, l, sizeof(float) * (size_t)call->group);
    leave(call, &values, item->row, acc, work->outputs + index * call->group * call->head_dim, rest);
}

/* The items of one row, which are over disjoint tokens, put together. */
static void merge(const Work *work, int64_t row) {
    const Call *call = work->call;
    int64_t first = work->row_items[row], last = work->row_items[row + 1];
    for (int64_t q = 0; q < call->group; q++) {
        int64_t place = row * call->group + q;
        float *output = call->output + place * call->head_dim, m = -INFINITY, l = 0;
        memset(output, 0, sizeof(float) * (size_t)call->head_dim);
        for (int64_t i = first; i < last; i++)
            m = fmaxf(m, work->m[i * call->group + q]);
        for (int64_t i = first; i < last; i++)
            l += work->l[i * call->group + q] * expf(work->m[i * call->group + q] - m);
        for (int64_t i = first; i < last; i++) {
            float weight = expf(work->m[i * call->group + q] - m) / l;
            const float *part = work->outputs + (i * call->group + q) * call->head_dim;
            for (int64_t c = 0; c < call->head_dim; c++)
                output[c] += weight * part[c];
        }
        call->lse[place] = first < last ? m + logf(l) : -INFINITY;
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
        work.m = work.outputs + count * group * call->head_dim;
        work.l = work.m + count * group;
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
