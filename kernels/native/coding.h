/* How the keys or the values of one stretch of tokens are held, and tokens out of it as floats.

   A token becomes `vectors` vectors. A plane is what lies side by side in its bytes: plane p holds the channels from
   p * stride on, and is cut into chunks of one vector, or of two where codes are multiplied as integers. The last
   chunk of a plane overlaps the one before it, so that nothing is read behind a token; what it reads twice counts
   once because the query is zero there. The left factors of the low-rank residual follow as further coordinates. */

#ifndef AUTOKV_CODING_H
#define AUTOKV_CODING_H

#include <stdlib.h>

#include "vector.h"

#define BLOCK 64 /* tokens at once; a multiple of LANES */

/* Mirrored by autokv.kernels.native.structures. */
typedef struct {
    const uint8_t *codes;
    const uint8_t *scale;
    const uint8_t *minimum;
    const uint8_t *low_rank_left;
    const uint8_t *low_rank_right;
    const uint8_t *basis;
    int64_t row_bytes; /* from row to row; 0: rows lie one behind the other */
    int32_t format;
    int32_t width;
    int32_t token_bytes;
    int32_t per_token; /* integers: scales per token, else per channel and group of tokens */
    int32_t group_size;
    int32_t rotated;
    int32_t rank;
    int32_t low_rank_left_format;
    int32_t low_rank_right_format;
    int32_t basis_format;
} Side;

typedef struct {
    int planes, stride;
    int wide;    /* vectors of a chunk */
    int line;    /* vectors of a plane */
    int packed;  /* vectors of all planes */
    int vectors; /* and of the low-rank residual */
} Layout;

static Layout layout_of(const Side *side, int wide) {
    Layout layout = {.planes = 1, .wide = wide};
    if (side->format == INT4)
        layout.planes = 2;
    if (side->format == INT2)
        layout.planes = 4;
    if (side->format == INT3)
        layout.planes = 8;
    layout.stride = (side->width + layout.planes - 1) / layout.planes;
    layout.line = (layout.stride + wide * LANES - 1) / (wide * LANES) * wide;
    layout.packed = layout.line * layout.planes;
    layout.vectors = layout.packed + (side->rank + LANES - 1) / LANES;
    return layout;
}

/* The first place of a vector within its plane. */
static int place_of(const Layout *layout, int vector) {
    int within = vector % layout->wide * LANES, first = vector % layout->line * LANES - within;
    int last = layout->stride - layout->wide * LANES;
    return (first <= last ? first : last < 0 ? 0 : last) + within;
}

/* The channel in a lane of a vector, or -1 if there is none or another lane has it. */
static int channel_of(const Side *side, const Layout *layout, int vector, int lane) {
    int place = place_of(layout, vector) + lane;
    int chunk = (vector % layout->line - vector % layout->wide) * LANES;
    if (place < chunk || place >= layout->stride)
        return -1;
    int channel = vector / layout->line * layout->stride + place;
    return channel < side->width ? channel : -1;
}

/* The group that all channels of a chunk, given by its first vector, are in; -1 if they are in several. */
static int group_of_chunk(const Side *side, const Layout *layout, int first) {
    int group = 0, found = 0;
    for (int i = 0; i < layout->wide * LANES; i++) {
        int channel = channel_of(side, layout, first + i / LANES, i % LANES);
        if (channel < 0)
            continue;
        if (found && channel / side->group_size != group)
            return -1;
        group = channel / side->group_size;
        found = 1;
    }
    return group;
}

/* Where a vector's codes lie in a token, and where in them. */
typedef struct {
    int32_t offset, shift;
    int32_t high_offset, high_shift; /* the third bit of three */
} Source;

static Source source_of(const Side *side, const Layout *layout, int vector) {
    int plane = vector / layout->line, place = place_of(layout, vector);
    switch (side->format) {
    case INT4:
        return (Source){place, 4 * plane, 0, 0};
    case INT3:
        return (Source){place + (plane & 1) * layout->stride, plane & 6, place + 2 * layout->stride, plane};
    case INT2:
        return (Source){place, 2 * plane, 0, 0};
    case INT8:
        return (Source){place, 0, 0, 0};
    default:
        return (Source){place * element_bytes(side->format), 0, 0, 0};
    }
}

/* The codes of one vector as floats, before any scale. */
INLINE vfloat codes_of(const int format, const uint8_t *token, const Source *source) {
    vint code;
    if (format < INT8)
        return read(format, token + source->offset);
    code = load_bytes(token + source->offset);
    if (format == INT4)
        code = code >> source->shift & 15;
    else if (format == INT2)
        code = code >> source->shift & 3;
    else if (format == INT3)
        code = (code >> source->shift & 3) |
               (load_bytes(token + source->high_offset) >> source->high_shift & 1) << 2;
    return __builtin_convertvector(code, vfloat);
}

/* One row of a stretch, as its tokens are read. */
typedef struct {
    const Side *side;
    Layout layout;
    const uint8_t *codes; /* the row's first token */
    const uint8_t *end;   /* behind the row's last token */
    int64_t first_token;  /* the row's first token in flat storage */
    int64_t first_group;  /* its first group of tokens */
    int64_t group;        /* the group whose scales are held, or -1 */
    int groups;           /* scales of a token, if it has its own */
    int decoded;          /* whether a block is decoded before it is used, instead of read where it lies */
    Source *sources;      /* of every vector */
    int *group_of;        /* the group of channels that a vector's chunk lies in, or -1 if it lies in several */
    float *scale;         /* of the group or of a block's tokens */
    float *minimum;
    float *low_rank_left; /* `rank` floats for every token of a block */
} Reader;

/* What a block of tokens is read from: its own codes, or floats decoded from them. */
typedef struct {
    int format;
    const uint8_t *tokens;
    int64_t token_bytes;
    const Source *sources;
} Block;

static void prefetch_bytes(const uint8_t *from, const uint8_t *to) {
    for (; from < to; from += 64)
        __builtin_prefetch(from);
}

/* Ask for the codes and the scales of tokens that are read soon; processors foresee one stream of reads well, but not
   several. */
INLINE void prefetch(const Reader *reader, int64_t first, int64_t count) {
    const uint8_t *from = reader->codes + first * reader->side->token_bytes;
    const uint8_t *to = from + count * reader->side->token_bytes;
    prefetch_bytes(from, to < reader->end ? to : reader->end);
    int64_t start = 2 * (reader->first_token + first) * reader->groups, size = 2 * count * reader->groups;
    if (to <= reader->end && size) {
        prefetch_bytes(reader->side->scale + start, reader->side->scale + start + size);
        prefetch_bytes(reader->side->minimum + start, reader->side->minimum + start + size);
    }
}

/* Scale and minimum of one group of tokens, in the order of the vectors. Returns whether they were not held yet. */
static int load_group(Reader *reader, int64_t group) {
    if (reader->group == group)
        return 0;
    reader->group = group;
    const Side *side = reader->side;
    const Layout *layout = &reader->layout;
    int64_t start = 2 * side->width * (reader->first_group + group);
    for (int i = 0; i < layout->packed; i++) {
        int channel = i / layout->line * layout->stride + place_of(layout, i);
        int count = side->width - channel < LANES ? side->width - channel : LANES;
        float *scale = reader->scale + i * LANES, *minimum = reader->minimum + i * LANES;
        if (count < LANES) {
            store(scale, all(0));
            store(minimum, all(0));
        }
        if (count > 0) {
            convert(side->scale + start + 2 * channel, FLOAT16, count, scale);
            convert(side->minimum + start + 2 * channel, FLOAT16, count, minimum);
        }
    }
    return 1;
}

/* Scales and minima of a block of tokens with their own, [groups][BLOCK]. */
static void load_token_scales(Reader *reader, int64_t first, int count, float *lines) {
    int groups = reader->groups;
    int64_t start = 2 * (reader->first_token + first) * groups;
    for (int which = 0; which < 2; which++) {
        float *to = which ? reader->minimum : reader->scale;
        convert((which ? reader->side->minimum : reader->side->scale) + start, FLOAT16, (int64_t)count * groups, lines);
        int t = 0;
        for (; groups == 2 && t + LANES <= count; t += LANES) {
            vfloat a = load(lines + 2 * t), b = load(lines + 2 * t + LANES);
            store(to + t, SHUFFLED(a, b, EVEN));
            store(to + BLOCK + t, SHUFFLED(a, b, ODD));
        }
        for (; t < count; t++)
            for (int g = 0; g < groups; g++)
                to[g * BLOCK + t] = lines[t * groups + g];
        for (int g = 0; g < groups; g++)
            for (int t = count; t < BLOCK; t++)
                to[g * BLOCK + t] = 0;
    }
}

/* The left factors of the low-rank residual of a block of tokens. */
static void load_low_rank(Reader *reader, int64_t first, int count) {
    const Side *side = reader->side;
    int64_t start = (reader->first_token + first) * side->rank * element_bytes(side->low_rank_left_format);
    convert(side->low_rank_left + start, side->low_rank_left_format, (int64_t)count * side->rank,
            reader->low_rank_left);
    /* A token's last vector also holds what follows: the next token's factors, or zeros behind the last. */
    memset(reader->low_rank_left + (int64_t)count * side->rank, 0, 4 * LANES);
}

/* Whatever cannot be multiplied where it lies, decoded lane by lane with its scales: tokens narrower than a vector,
   groups of channels that do not end where vectors do, values with scales per channel. */
static void decode(const Reader *reader, int64_t first, int count, float *to) {
    const Side *side = reader->side;
    const Layout *layout = &reader->layout;
    int integers = side->format >= INT8;
    for (int t = 0; t < count; t++, to += layout->packed * LANES) {
        uint8_t padded[4 * LANES + 8 * LANES] = {0};
        const uint8_t *token = reader->codes + (first + t) * side->token_bytes;
        if (layout->stride < LANES) {
            for (int i = 0; i < side->token_bytes; i++)
                padded[i] = token[i];
            token = padded;
        }
#define DECODE(FORMAT)                                                                                                 \
    case FORMAT:                                                                                                       \
        for (int i = 0; i < layout->packed; i++)                                                                       \
            store(to + i * LANES, codes_of(FORMAT, token, &reader->sources[i]));                                       \
        break;
        switch (side->format) {
            DECODE(FLOAT32)
            DECODE(FLOAT16)
            DECODE(BFLOAT16)
            DECODE(FLOAT8)
            DECODE(INT8)
            DECODE(INT4)
            DECODE(INT3)
            DECODE(INT2)
        }
#undef DECODE
        for (int i = 0; integers && i < layout->packed; i++) {
            float *values = to + i * LANES;
            if (!side->per_token) {
                store(values, load(values) * load(reader->scale + i * LANES) + load(reader->minimum + i * LANES));
            } else if (reader->group_of[i] >= 0) {
                int group = reader->group_of[i] * BLOCK + t;
                store(values, load(values) * all(reader->scale[group]) + all(reader->minimum[group]));
            } else {
                for (int lane = 0; lane < LANES; lane++) {
                    int channel = channel_of(side, layout, i, lane);
                    int group = (channel < 0 ? 0 : channel / side->group_size) * BLOCK + t;
                    values[lane] = values[lane] * reader->scale[group] + reader->minimum[group];
                }
            }
        }
    }
}

#endif
