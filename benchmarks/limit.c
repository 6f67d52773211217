/*
 * limit: answers POP3 commands from memory without looking at any mail, to show where this machine's
 * kernel (and the load generator) end and a server's own work begins.  Believes every password.
 *
 *   cc -O2 -o limit limit.c
 *   limit PORT MESSAGES OCTETS          every maildrop has MESSAGES messages of about OCTETS octets
 *
 * One thread.  Each connection is registered once, edge-triggered, and pushed along until it would block.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

struct text { char *at; size_t n; };
struct client {
    int fd, leaving;
    struct text reply; /* what is still to be sent */
    size_t have, used; /* octets received, octets looked at */
    char in[1024];
};

static struct text stat_reply, list_reply, uidl_reply, retr_reply;
static struct text greeting = {"+OK limit\r\n", 11}, fine = {"+OK\r\n", 5}, bye = {"+OK bye\r\n", 9};

static void prepare(long count, size_t octets)
{
    size_t lines = octets / 72 + 1;
    octets = lines * 72;
    stat_reply.at = malloc(80);
    list_reply.at = malloc(count * 32 + 80);
    uidl_reply.at = malloc(count * 48 + 80);
    retr_reply.at = malloc(octets + 80);
    stat_reply.n = sprintf(stat_reply.at, "+OK %ld %zu\r\n", count, count * octets);
    list_reply.n = sprintf(list_reply.at, "+OK\r\n");
    uidl_reply.n = sprintf(uidl_reply.at, "+OK\r\n");
    retr_reply.n = sprintf(retr_reply.at, "+OK %zu octets\r\n", octets);
    for (long i = 1; i <= count; i++) {
        list_reply.n += sprintf(list_reply.at + list_reply.n, "%ld %zu\r\n", i, octets);
        uidl_reply.n += sprintf(uidl_reply.at + uidl_reply.n, "%ld limit-%012ld\r\n", i, i);
    }
    for (size_t i = 0; i < lines; i++) {
        memset(retr_reply.at + retr_reply.n, 'A' + i % 26, 70);
        memcpy(retr_reply.at + retr_reply.n + 70, "\r\n", 2);
        retr_reply.n += 72;
    }
    struct text *many[] = {&list_reply, &uidl_reply, &retr_reply};
    for (int i = 0; i < 3; i++) { memcpy(many[i]->at + many[i]->n, ".\r\n", 3); many[i]->n += 3; }
}

static struct text reply_to(struct client *c, const char *line)
{
    if (!strncasecmp(line, "STAT", 4)) return stat_reply;
    if (!strncasecmp(line, "LIST", 4)) return list_reply;
    if (!strncasecmp(line, "UIDL", 4)) return uidl_reply;
    if (!strncasecmp(line, "RETR", 4)) return retr_reply;
    if (strncasecmp(line, "QUIT", 4)) return fine;
    c->leaving = 1;
    return bye;
}

/* Returns 0 when the connection is over, 1 when it has to wait. */
static int push(struct client *c)
{
    for (;;) {
        while (c->reply.n) {
            ssize_t n = send(c->fd, c->reply.at, c->reply.n, MSG_NOSIGNAL);
            if (n < 0) return errno == EAGAIN;
            c->reply.at += n;
            c->reply.n -= n;
        }
        if (c->leaving) return 0;
        char *line = c->in + c->used, *end = memchr(line, '\n', c->have - c->used);
        if (end) {
            c->used = end + 1 - c->in;
            c->reply = reply_to(c, line);
            continue;
        }
        c->have -= c->used;
        memmove(c->in, line, c->have);
        c->used = 0;
        ssize_t n = recv(c->fd, c->in + c->have, sizeof c->in - c->have, 0);
        if (n <= 0) return n < 0 && errno == EAGAIN;
        c->have += n;
    }
}

static void welcome(int poller, int listener)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct client *c = calloc(1, sizeof *c);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
        c->fd = fd;
        c->reply = greeting;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event); /* reports at once that it can be written to */
    }
}

int main(int argc, char **argv)
{
    struct rlimit files;
    struct sockaddr_in here = {.sin_family = AF_INET};
    struct epoll_event events[256], event = {.events = EPOLLIN};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poller = epoll_create1(0);
    if (argc != 4) { fputs("usage: limit PORT MESSAGES OCTETS\n", stderr); return 2; }
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prepare(atol(argv[2]), atol(argv[3]));
    here.sin_port = htons(atoi(argv[1]));
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 4096)) { perror("limit"); return 1; }
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int n = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            if (!c) { welcome(poller, listener); continue; }
            if (push(c)) continue;
            close(c->fd);
            free(c);
        }
    }
}
