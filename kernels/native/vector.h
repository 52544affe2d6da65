/* Vectors of LANES floats in the compiler's own vector types, and what small formats become in them.

   One source for every processor: 16 lanes with AVX-512, 8 with AVX, otherwise 4. */

#ifndef AUTOKV_VECTOR_H
#define AUTOKV_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef LANES
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#endif

/* Whether products of integers are faster than those of floats: sums of two products of 16 bits are one instruction. */
#ifndef INTEGERS
#if (LANES == 16 && defined(__AVX512BW__)) || (LANES == 8 && defined(__AVX2__))
#define INTEGERS 1
#else
#define INTEGERS 0
#endif
#endif

#define INLINE static inline __attribute__((always_inline))
#define ALIGNED __attribute__((aligned(64)))

/* Keeps a vector in a register: compilers otherwise fold its load into every instruction that uses it, and those that
   only multiply and add then wait for loads. */
#if defined(__AVX512F__)
#define HOLD(vector) __asm__("" : "+v"(vector))
#else
#define HOLD(vector) (void)(vector)
#endif

typedef float vfloat __attribute__((vector_size(4 * LANES)));
typedef int32_t vint __attribute__((vector_size(4 * LANES)));
typedef uint16_t vhalf __attribute__((vector_size(2 * LANES)));
typedef uint8_t vbyte __attribute__((vector_size(LANES)));

enum { FLOAT32, FLOAT16, BFLOAT16, FLOAT8, INT8, INT4, INT3, INT2 };

INLINE vfloat load(const float *from) {
    vfloat value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE void store(float *to, vfloat value) { memcpy(to, &value, sizeof value); }

INLINE vfloat all(float value) { return value - (vfloat){0}; }

/* Compilers widen small vectors in several steps where processors have one instruction for it. */
INLINE vint load_bytes(const uint8_t *from) {
#if LANES == 16 && defined(__AVX512F__)
    return (vint)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from));
#elif LANES == 8 && defined(__AVX2__)
    return (vint)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
#else
    vbyte value;
    memcpy(&value, from, sizeof value);
    return __builtin_convertvector(value, vint);
#endif
}

INLINE vint load_halves(const uint16_t *from) {
#if LANES == 16 && defined(__AVX512F__)
    return (vint)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
#elif LANES == 8 && defined(__AVX2__)
    return (vint)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
#else
    vhalf value;
    memcpy(&value, from, sizeof value);
    return __builtin_convertvector(value, vint);
#endif
}

INLINE vfloat choose(vint condition, vfloat yes, vfloat no) {
    return (vfloat)(((vint)yes & condition) | ((vint)no & ~condition));
}

/* Bits of a small float, shifted so that its exponent ends where a float's does; `bias` is the difference of the
   exponents' biases. The smallest numbers, whose exponent is 0, are taken by a subtraction. */
INLINE vfloat widen(vint magnitude, vint sign, int bias) {
    vint one = (vint){0} + (1 << 23);
    vint base = (vint){0} + ((bias + 1) << 23);
    vfloat small = (vfloat)(magnitude + base) - (vfloat)base;
    vfloat value = choose(magnitude < one, small, (vfloat)(magnitude + (base - one)));
    return (vfloat)((vint)value | sign);
}

INLINE vfloat float16(const uint16_t *from) {
#if LANES == 16 && defined(__AVX512F__)
    return (vfloat)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
#elif LANES == 8 && defined(__AVX2__) && defined(__F16C__)
    return (vfloat)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
#else
    vint wide = load_halves(from), magnitude = wide & 0x7fff, sign = (wide & 0x8000) << 16;
    vfloat endless = (vfloat)(magnitude << 13 | sign | 0x7f800000); /* infinity or NaN */
    return choose(magnitude >= 0x7c00, endless, widen(magnitude << 13, sign, 127 - 15));
#endif
}

INLINE vfloat bfloat16(const uint16_t *from) { return (vfloat)(load_halves(from) << 16); }

/* e4m3 numbers divided by FLOAT8_UNIT: by way of float16 where that is an instruction. */
#if LANES == 16 && defined(__AVX512F__)
#define FLOAT8_UNIT 256.0f
INLINE vfloat float8(const uint8_t *from) {
    __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)from));
    __m256i magnitude = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x7f)), 7);
    __m256i sign = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x80)), 8);
    return (vfloat)_mm512_cvtph_ps(_mm256_or_si256(magnitude, sign));
}
#else
#define FLOAT8_UNIT 1.0f
INLINE vfloat float8(const uint8_t *from) {
    vint code = load_bytes(from);
    return widen((code & 0x7f) << 20, (code & 0x80) << 24, 127 - 7);
}
#endif

/* LANES elements of a floating-point format; of e4m3 in units of FLOAT8_UNIT. */
INLINE vfloat read(const int format, const uint8_t *from) {
    switch (format) {
    case FLOAT32:
        return load((const float *)from);
    case FLOAT16:
        return float16((const uint16_t *)from);
    case BFLOAT16:
        return bfloat16((const uint16_t *)from);
    default:
        return float8(from);
    }
}

INLINE int element_bytes(int format) { return format == FLOAT32 ? 4 : format == FLOAT8 ? 1 : 2; }

/* `count` elements as floats; writes up to a full vector. Reads nothing behind them. */
static void convert(const void *from, int format, int64_t count, float *to) {
    const uint8_t *bytes = from;
    int size = format >= INT8 ? 1 : element_bytes(format);
    int64_t i = 0;
#define CONVERT(FORMAT)                                                                                                \
    case FORMAT:                                                                                                       \
        for (; i + LANES <= count; i += LANES)                                                                         \
            store(to + i, read(FORMAT, bytes + i * size));                                                             \
        break;
    switch (format) {
        CONVERT(FLOAT32)
        CONVERT(FLOAT16)
        CONVERT(BFLOAT16)
        CONVERT(FLOAT8)
    }
#undef CONVERT
    if (i < count) {
        uint8_t rest[4 * LANES] = {0};
        memcpy(rest, bytes + i * size, (size_t)((count - i) * size));
        store(to + i, read(format, rest));
    }
}

/* Lanes of two vectors, counted through both. */
#ifdef __clang__
#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLED(a, b, ...) __builtin_shuffle(a, b, (vint){__VA_ARGS__})
#endif

/* a[0] b[0] a[1] b[1] ... of the lower and the upper halves, added. */
#if LANES == 16
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif LANES == 8
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#else
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#endif
#define ZIP_ADD(a, b) (SHUFFLED(a, b, LOW) + SHUFFLED(a, b, HIGH))

/* Lane i of the result is the sum of the lanes of sums[i], which are overwritten. */
#define SUM_EACH(sums)                                                                                                 \
    _Pragma("GCC unroll 8") for (int half = LANES / 2; half; half /= 2)                                                \
        _Pragma("GCC unroll 16") for (int i = 0; i < half; i++) sums[i] = ZIP_ADD(sums[i], sums[i + half]);            \
    return sums[0];

INLINE vfloat sum_each(vfloat *sums) { SUM_EACH(sums) }

INLINE vint sum_each_integer(vint *sums) { SUM_EACH(sums) }

/* Halves folded onto each other until one lane has the sum, or the largest, of all. */
#define TURNED(value, by) SHUFFLED(value, value, TURN(by))
#define LANE(i, by) (((i) + (by)) % LANES)
#define FOUR(i, by) LANE(i, by), LANE(i + 1, by), LANE(i + 2, by), LANE(i + 3, by)
#if LANES == 16
#define TURN(by) FOUR(0, by), FOUR(4, by), FOUR(8, by), FOUR(12, by)
#elif LANES == 8
#define TURN(by) FOUR(0, by), FOUR(4, by)
#else
#define TURN(by) FOUR(0, by)
#endif

INLINE vfloat greater(vfloat a, vfloat b) { return choose(a > b, a, b); }

INLINE float sum(vfloat value) {
#if LANES >= 16
    value += TURNED(value, 8);
#endif
#if LANES >= 8
    value += TURNED(value, 4);
#endif
    value += TURNED(value, 2);
    return value[0] + value[1];
}

INLINE float largest(vfloat value) {
#if LANES >= 16
    value = greater(value, TURNED(value, 8));
#endif
#if LANES >= 8
    value = greater(value, TURNED(value, 4));
#endif
    value = greater(value, TURNED(value, 2));
    return value[0] > value[1] ? value[0] : value[1];
}

/* e**x within 2 units in the last place for x <= 88; 0 below -87; NaN of NaN. */
INLINE vfloat exponential(vfloat x) {
    const vfloat shift = all(12582912.0f); /* 1.5 * 2**23: adding it rounds to an integer in the lowest bits */
    vint below = x <= all(-87.0f);
    x = choose(below, all(-87.0f), x);
    vfloat shifted = x * all(1.44269504f) + shift;
    vfloat n = shifted - shift;
    vfloat r = x - n * all(0.693359375f) + n * all(2.12194440e-4f);
    vfloat p = all(1.9875691500e-4f);
    p = p * r + all(1.3981999507e-3f);
    p = p * r + all(8.3334519073e-3f);
    p = p * r + all(4.1665795894e-2f);
    p = p * r + all(1.6666665459e-1f);
    p = p * r + all(5.0000001201e-1f);
    p = p * r * r + r + all(1.0f);
    vint power = ((vint)shifted - (vint)shift + 127) << 23;
    return choose(below, all(0.0f), p * (vfloat)power);
}

/* Through an exponential: its absolute error, not its relative one, is that of a float. */
INLINE vfloat hyperbolic_tangent(vfloat x) {
    vfloat bounded = choose(x > all(20.0f), all(20.0f), x);
    return all(1.0f) - all(2.0f) / (exponential(bounded + bounded) + all(1.0f));
}

#endif
