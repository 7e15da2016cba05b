/* gtcrn as a LADSPA plugin. What is computed is in the kernel (gtcrn_run), which `gtcrn plugin` links
 * with this; here is what a host sees of it, and the tables of a window, as native/tables.py has them.
 *
 * The types below are those of LADSPA 1.1, by its published binary interface. `run` computes and
 * copies; it does not allocate, lock, or touch a file.
 */
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model.h" /* sizes, names and weights, written by build.py */

enum { PORT_INPUT = 1, PORT_OUTPUT = 2, PORT_CONTROL = 4, PORT_AUDIO = 8 };
enum { HARD_REAL_TIME_CAPABLE = 4 };
enum {
    BOUNDED_BELOW = 0x1, BOUNDED_ABOVE = 0x2, INTEGER = 0x20,
    DEFAULT_MAXIMUM = 0x140, DEFAULT_0 = 0x200, DEFAULT_1 = 0x240
};

typedef void *Handle;
typedef struct { int hint; float lower, upper; } PortRangeHint;
typedef struct Descriptor {
    unsigned long unique_id;
    const char *label;
    int properties;
    const char *name, *maker, *copyright;
    unsigned long port_count;
    const int *port_descriptors;
    const char *const *port_names;
    const PortRangeHint *port_range_hints;
    void *implementation_data;
    Handle (*instantiate)(const struct Descriptor *, unsigned long sample_rate);
    void (*connect_port)(Handle, unsigned long port, float *place);
    void (*activate)(Handle);
    void (*run)(Handle, unsigned long count);
    void (*run_adding)(Handle, unsigned long count);
    void (*set_run_adding_gain)(Handle, float gain);
    void (*deactivate)(Handle);
    void (*cleanup)(Handle);
} Descriptor;

/* Numba's calling convention: places for a result and an exception, neither of which comes. */
extern int32_t gtcrn_run(void *result, void *exception, int64_t task, const void *a, void *b,
                         const void *c, const void *weights, void *states, void *scratch,
                         void *controls, int64_t channels, int64_t count);
enum { ENHANCE_HOPS = 1 };

enum { MOST_CHANNELS = 2, CONTROL_PORTS = 4 };
enum { LIMIT_PORT, STRENGTH_PORT, HIGH_BAND_PORT, LATENCY_PORT }; /* after those of the sound */

typedef struct {
    long channels, window, hop;
    long filled;             /* samples of `block` that have come in, and of `enhanced` that are out */
    float *block, *enhanced; /* [hop, channels] */
    float *tables, *states, *scratch;
    float controls[CONTROLS_SIZE];
    float *ports[2 * MOST_CHANNELS + CONTROL_PORTS];
} Instance;

/* The window of a sample rate: enhancement/stft.py, and native/tables.py */

static const int FACTORS[] = {4, 2, 3, 5, 7, 11};
enum { FACTOR_COUNT = sizeof FACTORS / sizeof FACTORS[0], MOST_PASSES = 8 };

static int factors(long rows, int *found) { /* how many; 0 if there is a prime that no pass is for */
    int count = 0;
    for (int i = 0; i < FACTOR_COUNT; i++)
        for (; rows > 1 && rows % FACTORS[i] == 0; rows /= FACTORS[i]) {
            if (count == MOST_PASSES) return 0;
            found[count++] = FACTORS[i];
        }
    return rows == 1 ? count : 0;
}

static int is_fast(long window) {
    int found[MOST_PASSES];
    return window >= 128 && window % 16 == 0 && factors(window / 16, found) > 0;
}

static int is_smooth(long length) {
    static const int primes[] = {2, 3, 5, 7, 11};
    for (int i = 0; i < 5; i++)
        while (length % primes[i] == 0) length /= primes[i];
    return length == 1;
}

static long window_length(unsigned long sample_rate) {
    double ideal = 512.0 * (double)sample_rate / 16000.0;
    long nearest = 2 * lrint(ideal / 2), reach = (long)(0.0025 * ideal);
    for (long step = 0; step <= reach; step++)
        for (int sign = -1; sign <= 1; sign += 2) {
            long window = nearest + 2 * sign * step;
            if (!is_smooth(window)) continue;
            if (is_fast(window)) return window;
            step = reach; /* gtcrn would take this one; here the nearest that there is code for */
            break;
        }
    for (long step = 0;; step++) {
        if (is_fast(nearest - 2 * step)) return nearest - 2 * step;
        if (is_fast(nearest + 2 * step)) return nearest + 2 * step;
    }
}

static const double PI = 3.14159265358979323846;

static void make_tables(float *t, long window) {
    long size = window / 2, rows = window / 16, at = PASSES_BEGIN;
    int found[MOST_PASSES];
    int passes = factors(rows, found);
    memset(t, 0, PASSES_BEGIN * sizeof *t);
    t[BINS_AT] = (float)size;
    t[ROWS_AT] = (float)rows;
    t[PASSES_AT] = (float)passes;
    long left = rows;
    for (int i = 0; i < passes; i++) {
        int factor = found[i];
        t[FACTORS_AT + i] = (float)factor;
        for (long p = 0; p < left / factor; p++)
            for (int k = 1; k < factor; k++) {
                double angle = -2 * PI * (double)(p * k) / (double)left;
                t[at++] = (float)cos(angle);
                t[at++] = (float)sin(angle);
            }
        if (factor % 2)
            for (int n = 0; n < factor; n++) {
                t[at++] = (float)cos(2 * PI * n / factor);
                t[at++] = (float)sin(2 * PI * n / factor);
            }
        left /= factor;
    }
    t[ROTATION_AT] = (float)at;
    for (long row = 0; row < rows; row++) {
        for (int part = 0; part < 2; part++)
            for (int column = 0; column < 8; column++) {
                double angle = -2 * PI * (double)(row * column) / (double)size;
                t[at++] = (float)(part ? sin(angle) : cos(angle));
            }
    }
    t[SPLIT_AT] = (float)at;
    for (int part = 0; part < 2; part++)
        for (long n = 0; n < size; n++) {
            double angle = -2 * PI * (double)n / (double)window;
            t[at++] = (float)(part ? sin(angle) : cos(angle));
        }
    t[ANALYSIS_AT] = (float)at;
    for (long n = 0; n < window; n++)
        t[at++] = (float)(0.5 * sin(PI * n / window) * 512 / window);
    t[SYNTHESIS_AT] = (float)at;
    for (long n = 0; n < window; n++)
        t[at++] = (float)(0.5 * sin(PI * n / window) * window / 512 / size);
}

static size_t tables_room(long window) { /* at least what make_tables fills */
    long rows = window / 16;
    return (size_t)(PASSES_BEGIN + 4 * rows + 2 * 11 * MOST_PASSES + 16 * rows + 3 * window);
}

/* What a host calls */

static int cpu_is_good(void) { /* whether it has all that the kernel was compiled for */
#if defined(__x86_64__)
    /* By hand: not every compiler's runtime answers __builtin_cpu_supports in a shared library. */
    unsigned a, b, c1, d, b7, c, low, high;
    if (!__get_cpuid(1, &a, &b, &c1, &d) || (c1 & CPU_LEAF_1_ECX) != CPU_LEAF_1_ECX) return 0;
    if (CPU_LEAF_7_EBX) {
        if (!__get_cpuid_count(7, 0, &a, &b7, &c, &d)) return 0;
        if ((b7 & CPU_LEAF_7_EBX) != CPU_LEAF_7_EBX) return 0;
    }
    if (CPU_XCR0) { /* and whether the system keeps its registers */
        if (!(c1 & 1u << 27)) return 0;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        if ((low & CPU_XCR0) != CPU_XCR0) return 0;
    }
#endif
    return 1;
}

static void cleanup(Handle handle) {
    Instance *self = handle;
    if (!self) return; /* ffmpeg cleans up what there never was, too */
    free(self->block);
    free(self->enhanced);
    free(self->tables);
    free(self->states);
    free(self->scratch);
    free(self);
}

/* Zeros that begin with a cache line: a vector that two lines share takes twice as long to load. */
static float *zeros(size_t count) {
    size_t bytes = (count * sizeof(float) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    float *place = aligned_alloc(CACHE_LINE, bytes);
    return place ? memset(place, 0, bytes) : NULL;
}

static Handle instantiate(const Descriptor *descriptor, unsigned long sample_rate) {
    if (sample_rate < 8000 || sample_rate > 192000 || !cpu_is_good()) return NULL;
    Instance *self = calloc(1, sizeof *self);
    if (!self) return NULL;
    self->channels = ((long)descriptor->port_count - CONTROL_PORTS) / 2;
    self->window = window_length(sample_rate);
    self->hop = self->window / 2;
    size_t hop = (size_t)(self->hop * self->channels);
    self->block = zeros(hop);
    self->enhanced = zeros(hop);
    self->tables = zeros(tables_room(self->window));
    self->states = zeros((size_t)(self->channels * (STREAM_PAST + self->window)));
    self->scratch = zeros((size_t)SCRATCH_SIZE(self->window, self->channels));
    if (!self->block || !self->enhanced || !self->tables || !self->states || !self->scratch) {
        cleanup(self);
        return NULL;
    }
    make_tables(self->tables, self->window);
    self->controls[CONTROLS_LINKED] = self->channels > 1;
    return self;
}

static void connect_port(Handle handle, unsigned long port, float *place) {
    ((Instance *)handle)->ports[port] = place;
}

static void activate(Handle handle) { /* the stream starts here, in silence */
    Instance *self = handle;
    size_t hop = (size_t)(self->hop * self->channels), number = sizeof(float);
    memset(self->block, 0, hop * number);
    memset(self->enhanced, 0, hop * number);
    memset(self->states, 0, (size_t)(self->channels * (STREAM_PAST + self->window)) * number);
    self->filled = 0;
}

static float between(const float *place, float low, float high, float otherwise) {
    if (!place || !(*place == *place)) return otherwise;
    return *place < low ? low : *place > high ? high : *place;
}

static void run(Handle handle, unsigned long count) {
    Instance *self = handle;
    long channels = self->channels;
    float *const *in = self->ports, *const *out = in + channels, *const *control = out + channels;
    /* The more cautious of the two: what is kept of the noise is in phase with the speech. */
    float limit = between(control[LIMIT_PORT], 0, NO_LIMIT_DB, NO_LIMIT_DB);
    float strength = between(control[STRENGTH_PORT], 0, 1, 1);
    if (limit < NO_LIMIT_DB) {
        float limited = 1 - powf(10, -limit / 20);
        if (limited < strength) strength = limited;
    }
    self->controls[CONTROLS_STRENGTH] = strength;
    self->controls[CONTROLS_HIGH_BAND] = rintf(between(control[HIGH_BAND_PORT], 0, 2, 0));
    if (control[LATENCY_PORT]) *control[LATENCY_PORT] = (float)self->window;

    for (unsigned long done = 0; done < count;) {
        unsigned long part = (unsigned long)(self->hop - self->filled);
        if (part > count - done) part = count - done;
        float *fresh = self->block + self->filled * channels;
        for (long c = 0; c < channels; c++) /* all of them first: `out` may be where `in` is */
            for (unsigned long n = 0; n < part; n++) fresh[n * channels + c] = in[c][done + n];
        const float *ready = self->enhanced + self->filled * channels;
        for (long c = 0; c < channels; c++)
            for (unsigned long n = 0; n < part; n++) out[c][done + n] = ready[n * channels + c];
        self->filled += (long)part;
        done += part;
        if (self->filled == self->hop) {
            void *unused[2];
            gtcrn_run(&unused[0], &unused[1], ENHANCE_HOPS, self->block, self->enhanced, self->tables,
                      WEIGHTS, self->states, self->scratch, self->controls, channels, 1);
            self->filled = 0;
        }
    }
}

#define CONTROL_NAMES "Attenuation limit (dB)", "Strength", "High band (0 gate, 1 keep, 2 mute)", "latency"
#define CONTROL_KINDS                                                                   \
    PORT_INPUT | PORT_CONTROL, PORT_INPUT | PORT_CONTROL, PORT_INPUT | PORT_CONTROL,    \
        PORT_OUTPUT | PORT_CONTROL
#define CONTROL_HINTS                                                       \
    {BOUNDED_BELOW | BOUNDED_ABOVE | DEFAULT_MAXIMUM, 0, NO_LIMIT_DB},      \
        {BOUNDED_BELOW | BOUNDED_ABOVE | DEFAULT_1, 0, 1},                  \
        {BOUNDED_BELOW | BOUNDED_ABOVE | INTEGER | DEFAULT_0, 0, 2}, {0, 0, 0}

static const int MONO_KINDS[] = {PORT_INPUT | PORT_AUDIO, PORT_OUTPUT | PORT_AUDIO, CONTROL_KINDS};
static const char *const MONO_NAMES[] = {"In", "Out", CONTROL_NAMES};
static const PortRangeHint MONO_HINTS[] = {{0, 0, 0}, {0, 0, 0}, CONTROL_HINTS};
static const int STEREO_KINDS[] = {PORT_INPUT | PORT_AUDIO, PORT_INPUT | PORT_AUDIO,
                                   PORT_OUTPUT | PORT_AUDIO, PORT_OUTPUT | PORT_AUDIO, CONTROL_KINDS};
static const char *const STEREO_NAMES[] = {"In left", "In right", "Out left", "Out right",
                                           CONTROL_NAMES};
static const PortRangeHint STEREO_HINTS[] = {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0},
                                             CONTROL_HINTS};

#define PLUGIN(id, label, name, kinds, names, hints)                                               \
    {id, label, HARD_REAL_TIME_CAPABLE, name, "gtcrn developers", COPYRIGHT,                        \
     sizeof kinds / sizeof kinds[0], kinds, names, hints, NULL, instantiate, connect_port, activate, \
     run, NULL, NULL, NULL, cleanup}

static const Descriptor DESCRIPTORS[] = {
    PLUGIN(0x6774, "gtcrn_mono", "gtcrn noise removal (mono)", MONO_KINDS, MONO_NAMES, MONO_HINTS),
    PLUGIN(0x6775, "gtcrn_stereo", "gtcrn noise removal (stereo)", STEREO_KINDS, STEREO_NAMES,
           STEREO_HINTS),
};

__attribute__((visibility("default"))) const Descriptor *ladspa_descriptor(unsigned long index) {
    return index < sizeof DESCRIPTORS / sizeof DESCRIPTORS[0] ? &DESCRIPTORS[index] : NULL;
}
