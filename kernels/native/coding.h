/* How the keys or the values of one stretch of tokens are held, and a block of tokens out of it as floats.

   A token becomes `vectors` vectors. Its bytes are read a chunk of LANES at a time, and a chunk gives one vector for
   every plane, which is what lies side by side in a byte: plane p holds the channels from p * stride on. The last
   chunk of a plane overlaps the one before it, so that nothing is read behind a token; what it reads twice counts once
   because the query is zero there. The factors of the low-rank correction follow as further coordinates. */

#ifndef AUTOKV_CODING_H
#define AUTOKV_CODING_H

#include <stdlib.h>

#include "vector.h"

/* Mirrored by autokv.kernels.native.structures. */
typedef struct {
    const uint8_t *codes;
    const uint8_t *scale;
    const uint8_t *minimum;
    const uint8_t *left;
    const uint8_t *right;
    const uint8_t *basis;
    int64_t row_bytes; /* from row to row; 0: rows lie one behind the other */
    int32_t format;
    int32_t width;
    int32_t token_bytes;
    int32_t per_token; /* integers: scales per token, else per channel and group of tokens */
    int32_t group_size;
    int32_t rotated;
    int32_t rank;
    int32_t left_format;
    int32_t right_format;
    int32_t basis_format;
} Side;

typedef struct {
    int planes, stride, chunks, packed, vectors;
} Layout;

static Layout layout_of(const Side *side) {
    Layout layout = {1, side->width, 0, 0, 0};
    if (side->format == INT4)
        layout.planes = 2;
    if (side->format == INT2)
        layout.planes = 4;
    if (side->format == INT3)
        layout.planes = 8;
    layout.stride = (side->width + layout.planes - 1) / layout.planes;
    layout.chunks = (layout.stride + LANES - 1) / LANES;
    layout.packed = layout.chunks * layout.planes;
    layout.vectors = layout.packed + (side->rank + LANES - 1) / LANES;
    return layout;
}

/* The first place of a chunk within its plane. */
INLINE int chunk_start(const Layout *layout, int chunk) {
    int last = layout->stride > LANES ? layout->stride - LANES : 0;
    return chunk * LANES < last ? chunk * LANES : last;
}

/* The coordinate in a lane of a vector, or -1 if there is none or another lane has it. */
static int coordinate(const Side *side, const Layout *layout, int vector, int lane) {
    int chunk = vector / layout->planes, place = chunk_start(layout, chunk) + lane;
    if (place < chunk * LANES || place >= layout->stride)
        return -1;
    int channel = vector % layout->planes * layout->stride + place;
    return channel < side->width ? channel : -1;
}

/* What decoding a stretch of one row needs besides its bytes. */
typedef struct {
    const Side *side;
    Layout layout;
    const uint8_t *codes; /* the row's first token */
    const uint8_t *end;   /* behind the row's last token */
    int64_t first_token;  /* the row's first token in flat storage */
    int64_t first_group;  /* its first group of tokens */
    int64_t group;        /* the group whose scales are held, or -1 */
    float row_scale;      /* of e4m3 floats */
    float *scale;         /* a vector for each of the token's, if scales are per channel or mixed */
    float *minimum;
    float *factors; /* `rank` floats for every token of a block */
    int *group_of;  /* scales per token: the group that a whole vector lies in, or -1 if it lies in several */
} Decoder;

/* A chunk of codes; bytes behind `end` are not touched. */
INLINE vint load_codes(const uint8_t *from, const uint8_t *end) {
    if (__builtin_expect(from + LANES <= end, 1))
        return load_bytes(from);
    uint8_t rest[LANES] = {0};
    for (int i = 0; from + i < end; i++)
        rest[i] = from[i];
    return load_bytes(rest);
}

/* The vectors of one token. `scale_of(i)` and `minimum_of(i)` of vector i. */
#define DECODE_TOKEN(SCALE, MINIMUM)                                                                                   \
    for (int chunk = 0; chunk < layout->chunks; chunk++) {                                                             \
        const uint8_t *from = token + chunk_start(layout, chunk);                                                      \
        vint low[2], high = {0};                                                                                       \
        low[0] = load_codes(from, end);                                                                                \
        if (format == INT3) {                                                                                          \
            low[1] = load_codes(from + layout->stride, end);                                                           \
            high = load_codes(from + 2 * layout->stride, end);                                                         \
        }                                                                                                              \
        _Pragma("GCC unroll 8") for (int plane = 0; plane < planes; plane++) {                                         \
            int i = chunk * planes + plane;                                                                            \
            vint code;                                                                                                 \
            if (format == INT8)                                                                                        \
                code = low[0];                                                                                         \
            else if (format == INT4)                                                                                   \
                code = plane ? low[0] >> 4 : low[0] & 15;                                                              \
            else if (format == INT2)                                                                                   \
                code = low[0] >> (2 * plane) & 3;                                                                      \
            else                                                                                                       \
                code = (low[plane & 1] >> (plane & 6) & 3) | (high >> plane & 1) << 2;                                 \
            store(to + i * LANES, __builtin_convertvector(code, vfloat) * SCALE + MINIMUM);                            \
        }                                                                                                              \
    }

INLINE void decode_per_channel(const int format, const int planes, const Decoder *decoder, const uint8_t *token,
                               int count, float *to) {
    const Layout *layout = &decoder->layout;
    const uint8_t *end = decoder->end;
    for (int t = 0; t < count; t++, token += decoder->side->token_bytes, to += layout->vectors * LANES)
        DECODE_TOKEN(load(decoder->scale + i * LANES), load(decoder->minimum + i * LANES))
}

INLINE void decode_per_token(const int format, const int planes, const Decoder *decoder, const uint8_t *token,
                             const float *scale, const float *minimum, int groups, int count, float *to) {
    const Layout *layout = &decoder->layout;
    const uint8_t *end = decoder->end;
    const int *group_of = decoder->group_of;
    for (int t = 0; t < count; t++, token += decoder->side->token_bytes, to += layout->vectors * LANES)
        DECODE_TOKEN(all(scale[t * groups + group_of[i]]), all(minimum[t * groups + group_of[i]]))
}

INLINE void decode_floats(const int format, const Decoder *decoder, const uint8_t *token, int count, float *to) {
    const Layout *layout = &decoder->layout;
    const int size = element_bytes(format);
    const vfloat scale = all(decoder->row_scale);
    for (int t = 0; t < count; t++, token += decoder->side->token_bytes, to += layout->vectors * LANES)
        for (int chunk = 0; chunk < layout->chunks; chunk++) {
            const uint8_t *from = token + size * chunk_start(layout, chunk);
            vfloat value;
            if (__builtin_expect(layout->stride >= LANES, 1)) {
                value = read(format, from);
            } else {
                uint8_t rest[4 * LANES] = {0};
                for (int i = 0; i < layout->stride * size; i++)
                    rest[i] = from[i];
                value = read(format, rest);
            }
            store(to + chunk * LANES, format == FLOAT8 ? value * scale : value);
        }
}

#define FOR_INTEGERS(CALL)                                                                                             \
    switch (side->format) {                                                                                            \
    case INT8:                                                                                                         \
        CALL(INT8, 1);                                                                                                 \
        break;                                                                                                         \
    case INT4:                                                                                                         \
        CALL(INT4, 2);                                                                                                 \
        break;                                                                                                         \
    case INT3:                                                                                                         \
        CALL(INT3, 8);                                                                                                 \
        break;                                                                                                         \
    default:                                                                                                           \
        CALL(INT2, 4);                                                                                                 \
    }

/* The scales of one group of tokens, in the order of the decoded vectors. */
static void load_group(Decoder *decoder, int64_t group) {
    if (decoder->group == group)
        return;
    decoder->group = group;
    const Side *side = decoder->side;
    const Layout *layout = &decoder->layout;
    const uint8_t *scale = side->scale + 2 * side->width * group, *minimum = side->minimum + 2 * side->width * group;
    for (int i = 0; i < layout->packed; i++) {
        int channel = i % layout->planes * layout->stride + chunk_start(layout, i / layout->planes);
        int count = side->width - channel < LANES ? side->width - channel : LANES;
        float *to_scale = decoder->scale + i * LANES, *to_minimum = decoder->minimum + i * LANES;
        if (count < LANES) {
            store(to_scale, all(0));
            store(to_minimum, all(0));
        }
        if (count > 0) {
            convert(scale + 2 * channel, FLOAT16, count, to_scale);
            convert(minimum + 2 * channel, FLOAT16, count, to_minimum);
        }
    }
}

static void decode_channel_groups(Decoder *decoder, int64_t first, int count, float *to) {
    const Side *side = decoder->side;
    for (int done = 0; done < count;) {
        int64_t group = (first + done) / side->group_size;
        int64_t rest = (group + 1) * side->group_size - first - done;
        int run = rest < count - done ? (int)rest : count - done;
        load_group(decoder, decoder->first_group + group);
        const uint8_t *token = decoder->codes + (first + done) * side->token_bytes;
        float *out = to + (int64_t)done * decoder->layout.vectors * LANES;
#define CALL(FORMAT, PLANES) decode_per_channel(FORMAT, PLANES, decoder, token, run, out)
        FOR_INTEGERS(CALL)
#undef CALL
        done += run;
    }
}

/* Scales per token whose groups do not end where vectors do: lane by lane. */
static void decode_mixed_groups(Decoder *decoder, const uint8_t *token, const float *scale, const float *minimum,
                                int groups, int count, float *to) {
    const Side *side = decoder->side;
    const Layout *layout = &decoder->layout;
    for (int t = 0; t < count; t++) {
        for (int i = 0; i < layout->packed; i++)
            for (int lane = 0; lane < LANES; lane++) {
                int channel = coordinate(side, layout, i, lane);
                int group = t * groups + (channel < 0 ? 0 : channel / side->group_size);
                decoder->scale[i * LANES + lane] = scale[group];
                decoder->minimum[i * LANES + lane] = minimum[group];
            }
#define CALL(FORMAT, PLANES) decode_per_channel(FORMAT, PLANES, decoder, token, 1, to)
        FOR_INTEGERS(CALL)
#undef CALL
        token += side->token_bytes;
        to += layout->vectors * LANES;
    }
}

/* `scales`: floats for the scales and minima of a block of tokens. */
static void decode_token_groups(Decoder *decoder, int64_t first, int count, float *scales, float *to) {
    const Side *side = decoder->side;
    const uint8_t *token = decoder->codes + first * side->token_bytes;
    int groups = side->width / side->group_size, mixed = 0;
    float *scale = scales, *minimum = scales + (int64_t)count * groups + LANES;
    int64_t place = (decoder->first_token + first) * groups;
    convert(side->scale + 2 * place, FLOAT16, (int64_t)count * groups, scale);
    convert(side->minimum + 2 * place, FLOAT16, (int64_t)count * groups, minimum);
    for (int i = 0; i < decoder->layout.packed; i++)
        mixed |= decoder->group_of[i] < 0;
    if (mixed) {
        decode_mixed_groups(decoder, token, scale, minimum, groups, count, to);
        return;
    }
#define CALL(FORMAT, PLANES) decode_per_token(FORMAT, PLANES, decoder, token, scale, minimum, groups, count, to)
    FOR_INTEGERS(CALL)
#undef CALL
}

/* The factors of the low-rank correction, behind the packed coordinates. */
static void decode_factors(Decoder *decoder, int64_t first, int count, float *to) {
    const Side *side = decoder->side;
    const Layout *layout = &decoder->layout;
    int64_t place = (decoder->first_token + first) * side->rank * element_bytes(side->left_format);
    convert(side->left + place, side->left_format, (int64_t)count * side->rank, decoder->factors);
    /* A token's last vector also holds what follows: the next token's factors, or zeros behind the last. */
    memset(decoder->factors + (int64_t)count * side->rank, 0, 4 * LANES);
    for (int t = 0; t < count; t++)
        for (int i = layout->packed; i < layout->vectors; i++)
            store(to + ((int64_t)t * layout->vectors + i) * LANES,
                  load(decoder->factors + t * side->rank + (i - layout->packed) * LANES));
}

/* Ask for the codes of tokens that are decoded soon; processors foresee one stream of reads well, but not two. */
INLINE void prefetch(const Decoder *decoder, int64_t first, int64_t count) {
    const uint8_t *from = decoder->codes + first * decoder->side->token_bytes;
    const uint8_t *to = from + count * decoder->side->token_bytes;
    for (to = to < decoder->end ? to : decoder->end; from < to; from += 64)
        __builtin_prefetch(from);
}

/* Tokens `first` to `first + count` of the row: `count` times `vectors` vectors. */
static void decode(Decoder *decoder, int64_t first, int count, float *scales, float *to) {
    const Side *side = decoder->side;
    const uint8_t *token = decoder->codes + first * side->token_bytes;
    switch (side->format) {
    case FLOAT32:
        decode_floats(FLOAT32, decoder, token, count, to);
        break;
    case FLOAT16:
        decode_floats(FLOAT16, decoder, token, count, to);
        break;
    case BFLOAT16:
        decode_floats(BFLOAT16, decoder, token, count, to);
        break;
    case FLOAT8:
        decode_floats(FLOAT8, decoder, token, count, to);
        break;
    default:
        if (side->per_token)
            decode_token_groups(decoder, first, count, scales, to);
        else
            decode_channel_groups(decoder, first, count, to);
    }
    if (side->rank)
        decode_factors(decoder, first, count, to);
}

#endif
