/* Loaded before the C library by a manager that is to live on another day: what can only come to be
 * by waiting for a date (an expired key) is made on that day. Time that only passes is untouched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    const char *shift = getenv("E2E_CLOCK_SHIFT_S");
    if (result == 0 && id == CLOCK_REALTIME && shift) now->tv_sec += atol(shift);
    return result;
}
