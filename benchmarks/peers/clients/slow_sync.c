/* Preloaded into a server: every fsync and fdatasync takes SLOW_SYNC_US microseconds longer, as on a slower disk.
   cc -O2 -shared -fPIC -o slow_sync.so slow_sync.c -ldl
   Only calls through the C library are reached, so a Go server is not. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int slower(const char *name, int fd) {
    static long delay = -1;
    int (*sync_file)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = sync_file(fd);
    if (delay < 0) {
        const char *text = getenv("SLOW_SYNC_US");
        delay = text ? atol(text) : 0;
    }
    usleep(delay);
    return result;
}

int fsync(int fd) { return slower("fsync", fd); }
int fdatasync(int fd) { return slower("fdatasync", fd); }
