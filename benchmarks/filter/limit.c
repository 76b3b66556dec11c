/* Speed that a Kalman filter can reach on one core: a complete forward pass with sizes known to the compiler.

   filter_batch is vectorized over the batch: WIDTH sequences are contiguous in memory, so that one instruction works on
   all of them. Of a covariance only the lower triangle is stored. filter_single is vectorized over the states of one
   sequence. Channels are processed one at a time. Compile with -DSTATES=... -DCHANNELS=... -DWIDTH=... -DPADDED=... */

#include <math.h>
#include <stddef.h>

#define S STATES
#define L CHANNELS
#define TRIANGLE (S * (S + 1) / 2)
#define AT(i, j) ((i) > (j) ? (i) * ((i) + 1) / 2 + (j) : (j) * ((j) + 1) / 2 + (i))
#define LOG_2PI 1.8378770664093453f
#define UNROLL _Pragma("GCC unroll 64")

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int whole __attribute__((vector_size(4 * WIDTH)));

static inline vec root(vec x) {
    for (int i = 0; i < WIDTH; i++) x[i] = sqrtf(x[i]);
    return x;
}

/* Exponents are added and mantissas multiplied, so that a step needs one logarithm for all its channels. */
static inline vec split(vec x, whole *exponent) {
    whole bits = (whole)x;
    *exponent += (bits >> 23) - 127;
    return (vec)((bits & 0x7fffff) | 0x3f800000);
}

static inline vec logarithm(vec mantissas, whole exponent) {
    vec x = split(mantissas, &exponent);
    whole high = x > 1.41421356f; /* -1 where true */
    x = (vec)((high & (whole)(x * 0.5f)) | (~high & (whole)x));
    exponent -= high;
    vec s = (x - 1.0f) / (x + 1.0f), s2 = s * s;
    vec series = 1.0f + s2 * (1.0f / 3 + s2 * (1.0f / 5 + s2 * (1.0f / 7 + s2 * (1.0f / 9))));
    return __builtin_convertvector(exponent, vec) * 0.69314718f + 2.0f * s * series;
}

/* y, R (steps, L, WIDTH); A (S, S); Q, P0 (S); C (L, S); means (steps, S, WIDTH), covs (steps, TRIANGLE, WIDTH),
   log_likelihood (steps, WIDTH). The first mean is 0. */
void filter_batch(ptrdiff_t steps, const vec *y, const vec *R, const float *A, const float *Q, const float *C,
                  const float *P0, vec *means, vec *covs, vec *log_likelihood) {
    vec m[S], P[TRIANGLE], next[TRIANGLE];
    for (int i = 0; i < S; i++) {
        m[i] = (vec){0};
        for (int j = 0; j <= i; j++) P[AT(i, j)] = (vec){0} + (i == j ? P0[i] : 0.0f);
    }
    for (ptrdiff_t t = 0; t < steps; t++, y += L, R += L, means += S, covs += TRIANGLE) {
        if (t > 0) {
            vec moved[S];
            for (int i = 0; i < S; i++) {
                vec row[S], mean = A[i * S] * m[0];
                UNROLL for (int j = 0; j < S; j++) row[j] = A[i * S] * P[AT(0, j)];
                UNROLL for (int k = 1; k < S; k++) {
                    float a = A[i * S + k];
                    mean += a * m[k];
                    UNROLL for (int j = 0; j < S; j++) row[j] += a * P[AT(k, j)];
                }
                moved[i] = mean;
                for (int j = 0; j <= i; j++) {
                    vec even = row[0] * A[j * S], odd = (vec){0};
                    UNROLL for (int l = 1; l < S; l++) {
                        if (l % 2) odd += row[l] * A[j * S + l];
                        else even += row[l] * A[j * S + l];
                    }
                    next[AT(i, j)] = even + odd;
                }
                next[AT(i, i)] += Q[i];
            }
            for (int i = 0; i < S; i++) m[i] = moved[i];
            for (int i = 0; i < TRIANGLE; i++) P[i] = next[i];
        }
        vec square = (vec){0}, mantissas = (vec){0} + 1.0f;
        whole exponents = (whole){0};
        for (int c = 0; c < L; c++) {
            const float *h = C + c * S;
            vec u[S], variance = R[c], error = y[c];
            UNROLL for (int i = 0; i < S; i++) u[i] = h[0] * P[AT(i, 0)];
            UNROLL for (int k = 1; k < S; k++) {
                UNROLL for (int i = 0; i < S; i++) u[i] += h[k] * P[AT(i, k)];
            }
            UNROLL for (int i = 0; i < S; i++) {
                variance += h[i] * u[i];
                error -= h[i] * m[i];
            }
            mantissas *= split(variance, &exponents);
            vec scale = 1.0f / root(variance);
            error *= scale;
            square += error * error;
            UNROLL for (int i = 0; i < S; i++) {
                u[i] *= scale;
                m[i] += u[i] * error;
            }
            UNROLL for (int i = 0; i < S; i++) {
                UNROLL for (int j = 0; j < S; j++) {
                    if (j <= i) P[AT(i, j)] -= u[i] * u[j];
                }
            }
        }
        for (int i = 0; i < S; i++) means[i] = m[i];
        for (int i = 0; i < TRIANGLE; i++) covs[i] = P[i];
        log_likelihood[t] = -0.5f * (square + logarithm(mantissas, exponents) + L * LOG_2PI);
    }
}

/* PADDED is a power of two, at least S. y, R (steps, L); A transposed and padded (S, PADDED); C padded (L, PADDED);
   means (steps, PADDED), covs (steps, S, PADDED), log_likelihood (steps). */
typedef float states __attribute__((vector_size(4 * PADDED)));

static inline float total(states x) {
    float sum[PADDED];
    for (int i = 0; i < PADDED; i++) sum[i] = x[i];
    for (int half = PADDED / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) sum[i] += sum[i + half];
    return sum[0];
}

void filter_single(ptrdiff_t steps, const float *y, const float *R, const float *A, const states *A_transposed,
                 const float *Q, const states *C, const float *P0, states *means, states *covs, float *log_likelihood) {
    states m = {0}, P[S];
    float broadcast[S][PADDED] __attribute__((aligned(64)));
    for (int i = 0; i < S; i++) {
        P[i] = (states){0};
        P[i][i] = P0[i];
    }
    for (ptrdiff_t t = 0; t < steps; t++, y += L, R += L, covs += S) {
        if (t > 0) {
            *(states *)broadcast[0] = m;
            m = (states){0};
            UNROLL for (int l = 0; l < S; l++) m += broadcast[0][l] * A_transposed[l];
            for (int i = 0; i < S; i++) {
                states moved = A[i * S] * P[0];
                UNROLL for (int k = 1; k < S; k++) moved += A[i * S + k] * P[k];
                *(states *)broadcast[i] = moved;
            }
            for (int i = 0; i < S; i++) {
                states sum = broadcast[i][0] * A_transposed[0];
                UNROLL for (int l = 1; l < S; l++) sum += broadcast[i][l] * A_transposed[l];
                P[i] = sum;
            }
            for (int i = 0; i < S; i++) P[i][i] += Q[i];
        }
        float square = 0, log_det = 0, product = 1;
        for (int c = 0; c < L; c++) {
            const float *h = (const float *)(C + c);
            states part[4] = {{0}};
            UNROLL for (int k = 0; k < S; k++) part[k % 4] += h[k] * P[k];
            states u = (part[0] + part[1]) + (part[2] + part[3]);
            float variance = R[c] + total(C[c] * u), error = y[c] - total(C[c] * m), scale = 1.0f / sqrtf(variance);
            product *= variance;
            if (product > 1e18f || product < 1e-18f) { /* rare: before float32 over- or underflows */
                log_det += logf(product);
                product = 1;
            }
            error *= scale;
            square += error * error;
            u *= scale;
            m += u * error;
            *(states *)broadcast[0] = u;
            UNROLL for (int k = 0; k < S; k++) P[k] -= broadcast[0][k] * u;
        }
        means[t] = m;
        for (int i = 0; i < S; i++) covs[i] = P[i];
        log_likelihood[t] = -0.5f * (square + log_det + logf(product) + L * LOG_2PI);
    }
}

/* Peak rate of the core: CHAINS independent sums of products, 2 CHAINS WIDTH operations in each round. */
#define CHAINS 12
float multiply_add(ptrdiff_t rounds, float factor) {
    vec sum[CHAINS], a = (vec){0} + factor;
    UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = (vec){0} + (float)i;
    for (ptrdiff_t round = 0; round < rounds; round++) {
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * a + 1e-3f;
    }
    float all = 0;
    for (int i = 0; i < CHAINS; i++) all += sum[i][0];
    return all;
}
