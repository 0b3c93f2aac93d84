/* Holds many readers of one text/plain stream over Server-Sent Events while one writer appends, and prints what
   arrived: deliveries a second, and the time from sending an append to its arrival at the last reader.

   cc -O2 -o sse_readers sse_readers.c
   ./sse_readers PORT PATH READERS SECONDS RATE
       RATE: appends a second; 0 sends the next append as soon as the last one is answered.
       SECONDS: for how long it appends; what then has not reached its readers is still waited for.
       SECONDS 0: only connect, say "ready", and hold the connections until standard input ends.

   The stream must exist and be empty. Every append carries one '~', which is what readers count. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAYLOAD 100
#define EVENTS 512
#define APPENDS 1000000
#define DRAIN_LIMIT 10.0
#define WRITER UINT32_MAX

static char buffer[1 << 20];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static int dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void watch(int epoll, int fd, uint32_t key) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = key};
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

/* Connects every reader and waits until each has received something: its first control event. */
static void connect_readers(int epoll, int port, const char *path, int count, int *fds) {
    char request[600], *seen = calloc(count, 1);
    struct epoll_event events[EVENTS];
    int length = snprintf(request, sizeof request,
                          "GET %s?offset=-1&live=sse HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n", path);
    for (int i = 0; i < count; i++) {
        fds[i] = dial(port);
        if (write(fds[i], request, length) != length) fail("write");
        watch(epoll, fds[i], i);
    }
    for (int ready = 0; ready < count;) {
        int n = epoll_wait(epoll, events, EVENTS, 20000);
        if (n <= 0) fail("a reader was not answered");
        for (int j = 0; j < n; j++) {
            uint32_t i = events[j].data.u32;
            if (read(fds[i], buffer, sizeof buffer) <= 0) fail("a reader was cut off");
            ready += !seen[i];
            seen[i] = 1;
        }
    }
    free(seen);
}

/* Reads away what the readers were still being sent at the beginning. */
static void settle(int epoll, int *fds) {
    struct epoll_event events[EVENTS];
    int n;
    usleep(500000);
    while ((n = epoll_wait(epoll, events, EVENTS, 100)) > 0)
        for (int j = 0; j < n; j++)
            if (read(fds[events[j].data.u32], buffer, sizeof buffer) < 0 && errno != EAGAIN) fail("read");
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 6) return fprintf(stderr, "usage: sse_readers PORT PATH READERS SECONDS RATE\n"), 2;
    int port = atoi(argv[1]), readers = atoi(argv[3]);
    double seconds = atof(argv[4]), rate = atof(argv[5]);
    int epoll = epoll_create1(0), *fds = calloc(readers, sizeof *fds);
    double began = now();
    connect_readers(epoll, port, argv[2], readers, fds);
    double connected = now() - began;
    settle(epoll, fds);
    printf("ready %.3f\n", connected);
    fflush(stdout);
    /* Whoever measures takes its reading now, and answers with a line. */
    if (!fgets(buffer, sizeof buffer, stdin) || seconds <= 0) {
        while (fgets(buffer, sizeof buffer, stdin)) {}
        return 0;
    }

    char request[700];
    int length = snprintf(request, sizeof request,
                          "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n",
                          argv[2], PAYLOAD);
    memset(request + length, 'x', PAYLOAD);
    request[length] = '~';
    length += PAYLOAD;

    int writer = dial(port), sent = 0, waiting = 0;
    watch(epoll, writer, WRITER);
    int *seen = calloc(readers, sizeof *seen), *arrived = calloc(APPENDS, sizeof *arrived);
    double *sent_at = calloc(APPENDS, sizeof(double)), *last_at = calloc(APPENDS, sizeof(double));
    long deliveries = 0;
    struct epoll_event events[EVENTS];
    began = now();
    for (;;) {
        double t = now(), due = rate > 0 ? began + sent / rate : t;
        int over = t - began >= seconds || sent == APPENDS;
        if (over && (deliveries == (long)readers * sent || t - began > seconds + DRAIN_LIMIT)) break;
        if (!over && !waiting && t >= due) {
            sent_at[sent++] = now();
            if (write(writer, request, length) != length) fail("append");
            waiting = 1;
        }
        int pause = !over && !waiting && due > t ? (int)((due - t) * 1000) + 1 : 50;
        int n = epoll_wait(epoll, events, EVENTS, pause);
        t = now();
        for (int j = 0; j < n; j++) {
            uint32_t i = events[j].data.u32;
            ssize_t got = read(i == WRITER ? writer : fds[i], buffer, sizeof buffer);
            if (got == 0) fail(i == WRITER ? "the writer was cut off" : "a reader was cut off");
            if (got < 0) continue;
            if (i == WRITER) {
                if (got < 12 || memcmp(buffer, "HTTP/1.1 20", 11)) fail("an append was refused");
                waiting = 0;
                continue;
            }
            for (char *at = buffer; (at = memchr(at, '~', buffer + got - at)); at++) {
                int number = seen[i]++;
                deliveries++;
                if (number < sent && ++arrived[number] == readers) last_at[number] = t;
            }
        }
    }
    double taken = now() - began, *delays = calloc(sent, sizeof(double));
    int complete = 0;
    for (int k = 0; k < sent; k++)
        if (last_at[k] > 0) delays[complete++] = (last_at[k] - sent_at[k]) * 1000;
    qsort(delays, complete, sizeof(double), by_value);
    long wanted = (long)readers * sent;
    printf("{\"deliveries\": %ld, \"wanted\": %ld, \"seconds\": %.4f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", deliveries,
           wanted, taken, complete ? delays[complete / 2] : -1, complete ? delays[(int)(complete * 0.99)] : -1);
    return 0;
}
