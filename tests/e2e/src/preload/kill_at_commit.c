/* Loaded before the C library by a manager on SQLite that is to die at one of its commits.
 *
 * A transaction is committed by the last frame that it writes to the write-ahead log: the one whose
 * header (24 bytes) tells the size of the database in its second word, where the others have 0
 * (SQLite's file format, "WAL File Format"). The file E2E_KILL_AT_COMMIT holds "<count> before" or
 * "<count> after": at that commit, counted from the moment it was written, the process is killed
 * before the frame is written or after. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER 24

/* The log whose commit frame is being written and that kills when it is. SQLite writes one at a time. */
static volatile int last_words = -1;

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int ends_a_transaction(int file, const unsigned char *bytes, size_t count) {
    if (count != HEADER || !(bytes[4] | bytes[5] | bytes[6] | bytes[7])) return 0;
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, name, sizeof name);
    return length > 4 && memcmp(name + length - 4, "-wal", 4) == 0;
}

static void before_write(int file, const void *bytes, size_t count) {
    const char *path = getenv("E2E_KILL_AT_COMMIT");
    if (!path || !ends_a_transaction(file, bytes, count)) return;
    FILE *order = fopen(path, "r+");
    if (!order) return;
    int left = 0;
    char where[8] = "";
    int understood = fscanf(order, "%d %7s", &left, where);
    if (understood == 2 && left > 1) {
        rewind(order);
        fprintf(order, "%2d %s", left - 1, where); /* of the same width */
        fclose(order);
        return;
    }
    fclose(order);
    unlink(path);
    if (understood != 2) abort();
    if (strcmp(where, "before") == 0) die();
    last_words = file;
}

static void after_write(int file, size_t count) {
    if (file == last_words && count > HEADER) die();
}

ssize_t write(int file, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    before_write(file, bytes, count);
    ssize_t written = real(file, bytes, count);
    after_write(file, count);
    return written;
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    before_write(file, bytes, count);
    ssize_t written = real(file, bytes, count, offset);
    after_write(file, count);
    return written;
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    before_write(file, bytes, count);
    ssize_t written = real(file, bytes, count, offset);
    after_write(file, count);
    return written;
}
