/*
 * Part of load.c: what the load generator knows and counts, how its options are read and its result printed.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum mode { POLL, LISTING, FETCH, PIPE, BIG, IDLE, MODES };
static const char *const mode_names[MODES] = {"poll", "list", "fetch", "pipe", "big", "idle"};
enum step { GREETING, USER, PASS, STAT, LIST, UIDL, RETR, QUIT, CLOSING, HELD, STEPS };
static const char *const step_names[STEPS] = {
    "greeting", "user", "pass", "stat", "list", "uidl", "retr", "quit", "close", "held"};

struct session {
    int fd, user;
    enum step step;
    int in_body, behind_skip;
    double began, asked, touched;
    long count, at, lines, announced_n, announced_room;
    uint64_t octets, skip, stat_octets;
    uint64_t *announced;
    char *rest; /* an unfinished line, kept until more arrives */
    size_t rest_n, rest_room;
};

static enum mode mode;
static long port, users, connections = 1, first_user, session_limit, ramp = 32, core = -1;
static double seconds, lead, patience = 30;
static struct session *slots;
static int *queue, poller;
static long queue_at, queue_n, begun, live, ready, held, alive, finished, counted, errors, messages, wrong;
static uint64_t octets_all, wire_all, wire_counted;
static double window_from, window_to, last_end, step_sum[STEPS];
static long step_n[STEPS], last_count;
static uint64_t last_stat_octets;
static int winding_down;
static char first_error[200];
static float *latency;
static size_t latency_n, latency_room;

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double share(double part) { return latency_n ? latency[(size_t)(part * (latency_n - 1) + 0.5)] : 0; }

static void print_result(void)
{
    struct rusage own;
    double sum = 0, span = window_to ? seconds : last_end - window_from;
    getrusage(RUSAGE_SELF, &own);
    if (span <= 0) span = 1e-9;
    if (latency_n) qsort(latency, latency_n, sizeof *latency, by_value);
    for (size_t i = 0; i < latency_n; i++) sum += latency[i];
    printf("{\"mode\":\"%s\",\"connections\":%ld,\"seconds\":%.4f,\"sessions\":%ld,\"sessions_per_second\":%.3f",
           mode_names[mode], connections, span, finished, counted / span);
    printf(",\"messages\":%ld,\"octets\":%lu,\"wire_octets\":%lu,\"wire_mb_per_second\":%.3f,\"wrong\":%ld", messages,
           octets_all, wire_all, wire_counted / span / 1e6, wrong);
    printf(",\"count\":%ld,\"stat_octets\":%lu,\"alive\":%ld", last_count, last_stat_octets, alive);
    printf(",\"ms\":{\"n\":%zu,\"mean\":%.4f,\"p50\":%.4f,\"p99\":%.4f}", latency_n, latency_n ? sum / latency_n : 0,
           share(.5), share(.99));
    printf(",\"step_ms\":{");
    for (int i = 0, said = 0; i < STEPS; i++)
        if (step_n[i]) printf("%s\"%s\":%.4f", said++ ? "," : "", step_names[i], step_sum[i] / step_n[i] * 1e3);
    printf("},\"client_cpu_seconds\":%.4f,\"errors\":%ld,\"first_error\":\"%s\"}\n",
           own.ru_utime.tv_sec + own.ru_stime.tv_sec + (own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6, errors,
           first_error);
}

static void set_option(const char *word)
{
    static const struct { const char *key; long *whole; double *real; } known[] = {
        {"port", &port, 0}, {"users", &users, 0}, {"connections", &connections, 0}, {"first", &first_user, 0},
        {"sessions", &session_limit, 0}, {"ramp", &ramp, 0}, {"core", &core, 0}, {"seconds", 0, &seconds},
        {"lead", 0, &lead}, {"patience", 0, &patience}};
    const char *value = strchr(word, '=');
    for (size_t i = 0; value && i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].key) == (size_t)(value - word) && !strncmp(word, known[i].key, value - word)) {
            if (known[i].whole) *known[i].whole = atol(value + 1);
            else *known[i].real = atof(value + 1);
            return;
        }
    fprintf(stderr, "load: what is %s?\n", word);
    exit(2);
}
