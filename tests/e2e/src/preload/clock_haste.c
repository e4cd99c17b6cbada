/* Loaded before the C library by a manager that is to run into its own time-outs soon: time that passes
 * (CLOCK_MONOTONIC) passes E2E_CLOCK_HASTE times as fast, for who looks at it and for who waits in
 * epoll, as tokio does. The time of day is untouched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

static long haste(void) {
    const char *factor = getenv("E2E_CLOCK_HASTE");
    return factor && atol(factor) > 0 ? atol(factor) : 1;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    static long long begin;
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (result == 0 && id == CLOCK_MONOTONIC) {
        long long at = now->tv_sec * 1000000000LL + now->tv_nsec, none = 0;
        __atomic_compare_exchange_n(&begin, &none, at, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        at = begin + (at - begin) * haste();
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
