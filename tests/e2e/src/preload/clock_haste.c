/* Loaded before the C library by a program that is to run into its own time-outs soon: time that passes
 * (CLOCK_MONOTONIC) passes E2E_CLOCK_HASTE times as fast, for who looks at it and for who waits in
 * epoll, as tokio and Envoy do. The time of day is untouched.
 *
 * Where E2E_CLOCK_HASTE_FILE names a file, its first eight bytes are the factor, and may change. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static long long constant = 1;
static const volatile long long *factor = &constant;
/* What was shown at the last change of the factor, and when that was. */
static long long shown_then, real_then, factor_then = 1;

static void begin(void) {
    const char *text = getenv("E2E_CLOCK_HASTE"), *file = getenv("E2E_CLOCK_HASTE_FILE");
    if (text && atoll(text) > 0) constant = atoll(text);
    if (!file) return;
    int descriptor = open(file, O_RDONLY);
    void *mapped = descriptor < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, descriptor, 0);
    if (mapped == MAP_FAILED) abort();
    close(descriptor);
    factor = mapped;
}

static long long haste(void) {
    pthread_once(&once, begin);
    return *factor > 0 ? *factor : 1;
}

static long long shown(long long real) {
    long long now = haste();
    pthread_mutex_lock(&turn);
    if (now != factor_then) {
        shown_then = factor_then == 1 && shown_then == 0 ? real
                                                         : shown_then + (real - real_then) * factor_then;
        real_then = real;
        factor_then = now;
    }
    long long result = shown_then == 0 ? real : shown_then + (real - real_then) * factor_then;
    pthread_mutex_unlock(&turn);
    return result;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (result == 0 && (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE)) {
        /* One clock for both, or the coarse one would run behind the fine one by a multiple. */
        if (id == CLOCK_MONOTONIC_COARSE) real(CLOCK_MONOTONIC, now);
        long long at = shown(now->tv_sec * 1000000000LL + now->tv_nsec);
        now->tv_sec = at / 1000000000LL;
        now->tv_nsec = at % 1000000000LL;
    }
    return result;
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout_ms) {
    static int (*real)(int, struct epoll_event *, int, int);
    if (!real) real = (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
    if (timeout_ms > 0) timeout_ms = (int)((timeout_ms + haste() - 1) / haste());
    return real(epoll, events, most, timeout_ms);
}
