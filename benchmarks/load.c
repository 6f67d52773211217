/*
 * load: plays POP3 mail programs against a server on 127.0.0.1 and counts what comes back.
 * One thread, epoll, nothing but libc.       cc -O2 -o load load.c
 *
 *   load MODE port=N users=N [key=value ...]
 *
 *   poll     log in, STAT, QUIT                      list     ... STAT, LIST, UIDL, QUIT
 *   fetch    ... STAT, LIST, UIDL, RETR one after another, QUIT
 *   pipe     the same, every RETR in a single write
 *   big      STAT, LIST, then RETR round and round until the time is over
 *   idle     log in and stay; says "HELD count seconds", waits for a line on stdin, STAT, QUIT
 *
 *   connections=1  sessions at the same time (each slot begins the next session when the server has closed)
 *   seconds=0      stop starting sessions after this long        sessions=0   ... or after so many
 *   lead=0         seconds before counting begins (rates and latencies only; totals hold everything)
 *   first=0        number of the first user: names are user0000..., passwords pw0000...
 *   core=-1        processor to stay on                          patience=30  seconds without an octet
 *   ramp=32        idle: logins under way at one time
 *
 * Users wait in a queue, so a mailbox is opened by one session at a time if users > connections.
 * The last line of output is a JSON object.  `wrong` counts messages whose octets, stuffing taken off,
 * are not those LIST announced (big does not count them: it skips what LIST announced and looks for the
 * end behind that, so that the client stays cheaper than any server).
 */
#include "load_state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { READ_ROOM = 1 << 20 };
static char *buffer;
static size_t buffer_room;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void *grown(void *old, size_t *room, size_t need, size_t each)
{
    if (need <= *room) return old;
    *room = need * 2;
    void *new = realloc(old, *room * each);
    if (!new) { fputs("load: no memory\n", stderr); exit(3); }
    return new;
}

static int counting(double t) { return t >= window_from && (!window_to || t < window_to); }

static void release(struct session *s)
{
    close(s->fd);
    s->fd = -1;
    s->rest_n = 0;
    queue[(queue_at + queue_n++) % users] = s->user;
    live--;
    if (s->step == HELD) held--;
}

static void give_up(struct session *s, const char *format, ...)
{
    errors++;
    if (!first_error[0]) {
        int n = snprintf(first_error, sizeof first_error, "%s: ", step_names[s->step]);
        va_list args;
        va_start(args, format);
        vsnprintf(first_error + n, sizeof first_error - n, format, args);
        va_end(args);
        for (unsigned char *p = (unsigned char *)first_error; *p; p++)
            if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\') *p = ' ';
    }
    release(s);
    s->touched = now(); /* the slot is used again a little later */
}

static void say(struct session *s, enum step step, const char *format, ...)
{
    char line[200];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    s->step = step;
    s->lines = 0;
    s->asked = now();
    if (send(s->fd, line, n, MSG_NOSIGNAL) != n) give_up(s, "cannot send: %s", strerror(errno));
}

static void begin(struct session *s)
{
    if (winding_down || !queue_n || (session_limit && begun >= session_limit)) return;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    int on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (s->fd < 0) { perror("load: socket"); exit(3); }
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    s->user = queue[queue_at];
    queue_at = (queue_at + 1) % users;
    queue_n--;
    begun++;
    live++;
    s->step = GREETING;
    s->in_body = s->behind_skip = 0;
    s->count = s->at = s->announced_n = 0;
    s->skip = 0;
    s->began = s->asked = s->touched = now();
    epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &event);
    if (connect(s->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) give_up(s, "%s", strerror(errno));
}

static void ended(struct session *s)
{
    last_end = now();
    finished++;
    if (counting(last_end)) counted++;
    last_count = s->count;
    last_stat_octets = s->stat_octets;
    release(s);
    if (mode != IDLE) begin(s);
}

static void retrieve(struct session *s)
{
    if (mode != PIPE) {
        s->at++;
        say(s, RETR, "RETR %ld\r\n", s->at);
        return;
    }
    if (s->at++) { s->asked = now(); s->lines = 0; return; } /* asked for already */
    char *all = malloc(s->count * 16);
    size_t n = 0;
    for (long number = 1; number <= s->count; number++) n += sprintf(all + n, "RETR %ld\r\n", number);
    s->step = RETR;
    s->asked = now();
    s->lines = 0;
    if (send(s->fd, all, n, MSG_NOSIGNAL) != (ssize_t)n) give_up(s, "cannot send");
    free(all);
}

static void listed(struct session *s, double t)
{
    if (s->announced_n != s->count) { give_up(s, "%ld lines for %ld messages", s->announced_n, s->count); return; }
    if (mode != BIG) { say(s, UIDL, "UIDL\r\n"); return; }
    if (!s->count) { give_up(s, "an empty mailbox"); return; }
    if (++ready == connections) { window_from = t + lead; window_to = window_from + seconds; }
    retrieve(s);
}

static void received(struct session *s)
{
    messages++;
    octets_all += s->octets;
    if (mode != BIG) {
        if (s->octets != s->announced[s->at - 1]) wrong++;
        if (s->at < s->count) retrieve(s);
        else say(s, QUIT, "QUIT\r\n");
        return;
    }
    if (winding_down) { say(s, QUIT, "QUIT\r\n"); return; }
    if (s->at == s->count) s->at = 0;
    retrieve(s);
}

/* A whole reply has come: what does a mail program say next? */
static void answered(struct session *s, const char *line)
{
    double t = now();
    step_sum[s->step] += t - s->asked;
    step_n[s->step]++;
    switch (s->step) {
    case GREETING: say(s, USER, "USER user%04ld\r\n", s->user + first_user); break;
    case USER: say(s, PASS, "PASS pw%04ld\r\n", s->user + first_user); break;
    case PASS:
        if (mode == IDLE) { s->step = HELD; held++; }
        else say(s, STAT, "STAT\r\n");
        break;
    case STAT:
        if (sscanf(line, "+OK %ld %lu", &s->count, &s->stat_octets) != 2) { give_up(s, "%.60s", line); break; }
        if (mode == IDLE) alive++;
        if (mode == POLL || mode == IDLE) say(s, QUIT, "QUIT\r\n");
        else say(s, LIST, "LIST\r\n");
        break;
    case LIST: listed(s, t); break;
    case UIDL:
        if (s->lines != s->count) give_up(s, "%ld lines for %ld messages", s->lines, s->count);
        else if (mode == LISTING || !s->count) say(s, QUIT, "QUIT\r\n");
        else retrieve(s);
        break;
    case RETR: received(s); break;
    case QUIT:
        if (counting(t)) {
            latency = grown(latency, &latency_room, latency_n + 1, sizeof *latency);
            latency[latency_n++] = (t - s->began) * 1e3;
        }
        s->step = CLOSING;
        break;
    default: give_up(s, "not asked for: %.60s", line);
    }
}

static void body_line(struct session *s, char *line, size_t n)
{
    if (line[0] == '.') {
        if (n == 3 && line[1] == '\r') { s->in_body = 0; answered(s, line); return; }
        s->octets--;
    }
    s->octets += n;
    s->lines++;
    if (s->step == LIST) {
        size_t room = s->announced_room;
        char *space = memchr(line, ' ', n);
        s->announced = grown(s->announced, &room, s->announced_n + 1, sizeof *s->announced);
        s->announced_room = room;
        s->announced[s->announced_n++] = space ? strtoull(space + 1, NULL, 10) : 0;
    }
}

static void status_line(struct session *s, char *line, size_t n)
{
    line[n - 1] = 0;
    if (line[0] != '+') { give_up(s, "%.120s", line); return; }
    if (s->step != LIST && s->step != UIDL && s->step != RETR) { answered(s, line); return; }
    s->in_body = 1;
    s->octets = 0;
    if (mode == BIG && s->step == RETR) {
        uint64_t octets = s->announced[s->at - 1];
        s->skip = octets > 2 ? octets - 2 : 0; /* the line end in front of the final dot stays */
        s->behind_skip = 1;
        s->octets = octets;
    }
}

/* Works through n octets; returns how many are done with (the rest is an unfinished line). */
static size_t digest(struct session *s, char *p, size_t n)
{
    size_t at = 0;
    while (at < n && s->fd >= 0) {
        if (s->skip) {
            size_t k = s->skip < n - at ? s->skip : n - at;
            s->skip -= k;
            at += k;
        } else if (s->behind_skip) {
            char *end = memmem(p + at, n - at, "\r\n.\r\n", 5);
            if (!end) return n - at > 4 ? n - 4 : at;
            at = end + 5 - p;
            s->in_body = s->behind_skip = 0;
            answered(s, p);
        } else {
            char *end = memchr(p + at, '\n', n - at);
            if (!end) return at;
            char *line = p + at;
            at = end + 1 - p;
            if (s->in_body) body_line(s, line, end + 1 - line);
            else status_line(s, line, end + 1 - line);
        }
    }
    return at;
}

static void readable(struct session *s)
{
    size_t kept = s->rest_n;
    buffer = grown(buffer, &buffer_room, kept + READ_ROOM, 1);
    memcpy(buffer, s->rest, kept);
    ssize_t n = recv(s->fd, buffer + kept, READ_ROOM, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        if (s->step == CLOSING && n == 0) ended(s);
        else give_up(s, n ? strerror(errno) : "the server closed");
        return;
    }
    s->touched = now();
    wire_all += n;
    if (counting(s->touched)) wire_counted += n;
    s->rest_n = 0;
    size_t done = digest(s, buffer, kept + n);
    if (s->fd < 0 || done == kept + n) return;
    s->rest_n = kept + n - done;
    s->rest = grown(s->rest, &s->rest_room, s->rest_n, 1);
    memcpy(s->rest, buffer + done, s->rest_n);
}

static void turn(int milliseconds)
{
    static struct epoll_event events[256];
    static double looked;
    int n = epoll_wait(poller, events, 256, milliseconds);
    for (int i = 0; i < n; i++) {
        struct session *s = events[i].data.ptr;
        if (s->fd >= 0) readable(s);
    }
    double t = now();
    if (t - looked < 0.1) return;
    looked = t;
    for (long i = 0; i < connections; i++) {
        struct session *s = &slots[i];
        if (s->fd >= 0 && s->step != HELD && t - s->touched > patience) give_up(s, "nothing for %.0f s", patience);
        else if (s->fd < 0 && mode != IDLE && t - s->touched > 0.1) begin(s);
    }
}

static void run_idle(void)
{
    double from = now();
    char line[80];
    window_from = from;
    for (long next = 0; held + errors < connections && errors < 100; turn(50))
        while (next < connections && live - held < ramp) begin(&slots[next++]);
    printf("HELD %ld %.3f\n", held, now() - from);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return;
    for (long i = 0; i < connections; i++)
        if (slots[i].fd >= 0 && slots[i].step == HELD) { held--; slots[i].touched = now(); say(&slots[i], STAT, "STAT\r\n"); }
    from = now();
    while (live && now() - from < patience) turn(50);
}

static void run_loop(void)
{
    double from = now();
    window_from = mode == BIG ? from + 1e9 : from + lead; /* big: when every connection has its list */
    if (seconds) window_to = window_from + seconds;
    for (long i = 0; i < connections; i++) begin(&slots[i]);
    for (;;) {
        turn(20);
        double t = now();
        if ((window_to && t >= window_to) || errors > 100) winding_down = 1;
        if (!live && (winding_down || (session_limit && begun >= session_limit))) return;
        if (t - from > 600) { errors++; strcpy(first_error, "not done in ten minutes"); return; }
    }
}

int main(int argc, char **argv)
{
    struct rlimit files;
    for (mode = 0; argc > 1 && mode < MODES && strcmp(argv[1], mode_names[mode]); mode++) {}
    for (int i = 2; i < argc; i++) set_option(argv[i]);
    if (argc < 2 || mode == MODES || !port || users < 1 || connections < 1 ||
        (mode != IDLE && !seconds && !session_limit) || (mode == BIG && !seconds)) {
        fputs("usage: load poll|list|fetch|pipe|big|idle port=N users=N [seconds=S | sessions=N] ...\n", stderr);
        return 2;
    }
    if (core >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(core, &set);
        if (sched_setaffinity(0, sizeof set, &set)) perror("load: core");
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(0);
    slots = calloc(connections, sizeof *slots);
    queue = calloc(users, sizeof *queue);
    for (long i = 0; i < connections; i++) slots[i].fd = -1;
    for (queue_n = 0; queue_n < users; queue_n++) queue[queue_n] = queue_n;
    if (mode == IDLE) run_idle();
    else run_loop();
    print_result();
    return 0;
}
