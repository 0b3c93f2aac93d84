/* Sends HEAD requests on kept-alive connections, one at a time on each, and prints rate and latency. wrk cannot: it
   waits for the body of an answer that has no Content-Length, which a server may leave out of an answer to HEAD.

   cc -O2 -o head_requests head_requests.c
   ./head_requests PORT PATH CONNECTIONS SECONDS */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 512
#define HEAD_BYTES 8192
#define SAMPLES 10000000

struct client {
    int fd, length;
    double sent;
    char head[HEAD_BYTES];
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void ask(struct client *client, const char *request, int length) {
    client->length = 0;
    client->sent = now();
    if (write(client->fd, request, length) != length) fail("write");
}

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: head_requests PORT PATH CONNECTIONS SECONDS\n"), 2;
    int count = atoi(argv[3]), epoll = epoll_create1(0), one = 1;
    double seconds = atof(argv[4]);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    char request[600];
    int length = snprintf(request, sizeof request, "HEAD %s HTTP/1.1\r\nHost: bench\r\n\r\n", argv[2]);
    struct client *clients = calloc(count, sizeof *clients);
    float *delays = calloc(SAMPLES, sizeof *delays);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[i]};
        clients[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(clients[i].fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
        setsockopt(clients[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event);
    }
    double began = now(), t = began;
    long answered = 0, errors = 0;
    for (int i = 0; i < count; i++) ask(&clients[i], request, length);
    while ((t = now()) - began < seconds) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, 100);
        for (int j = 0; j < n; j++) {
            struct client *client = events[j].data.ptr;
            ssize_t got = read(client->fd, client->head + client->length, HEAD_BYTES - 1 - client->length);
            if (got <= 0) fail("a connection was cut off");
            client->length += got;
            if (client->length < 4 || memcmp(client->head + client->length - 4, "\r\n\r\n", 4)) continue;
            if (memcmp(client->head, "HTTP/1.1 200", 12)) errors++;
            if (answered < SAMPLES) delays[answered] = (now() - client->sent) * 1000;
            answered++;
            ask(client, request, length);
        }
    }
    long kept = answered < SAMPLES ? answered : SAMPLES;
    qsort(delays, kept, sizeof *delays, by_value);
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"errors\": %ld}\n", answered,
           t - began, kept ? delays[kept / 2] : -1, kept ? delays[kept * 99 / 100] : -1, errors);
    return 0;
}
