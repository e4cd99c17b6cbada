/* Loaded before the C library by a manager on SQLite whose disk is to be full. The file E2E_DISK_ROOM holds
 * how many bytes there is room for; without it there is as much as the real disk has. What would make the
 * database or a file beside it grow beyond that is written as far as there is room, and then there is none
 * (ENOSPC), as on a small disk. What was there can be written over. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static int is_of_the_database(int file) {
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length <= 0) return 0;
    name[length] = 0;
    return strstr(name, "keygate.db") != 0;
}

/* How many of `count` bytes at `offset` there is room for; what they take is taken. */
static size_t room_for(int file, size_t count, off_t offset) {
    const char *path = getenv("E2E_DISK_ROOM");
    struct stat now;
    if (!path || access(path, F_OK) != 0 || !is_of_the_database(file) || fstat(file, &now) != 0) return count;
    off_t end = offset + (off_t)count;
    if (end <= now.st_size) return count;
    size_t kept = offset < now.st_size ? (size_t)(now.st_size - offset) : 0, grows = count - kept;
    long long room = 0;
    pthread_mutex_lock(&turn);
    FILE *order = fopen(path, "r+");
    if (order) {
        if (fscanf(order, "%lld", &room) != 1) room = 0;
        if ((long long)grows > room) grows = room > 0 ? (size_t)room : 0;
        rewind(order);
        fprintf(order, "%12lld", room - (long long)grows); /* of the same width */
        fclose(order);
    } /* else: there is room again */
    pthread_mutex_unlock(&turn);
    return order ? kept + grows : count;
}

#define WRITES(name, offset_type)                                                                     \
    ssize_t name(int file, const void *bytes, size_t count, offset_type offset) {                     \
        static ssize_t (*real)(int, const void *, size_t, offset_type);                               \
        if (!real) real = (ssize_t (*)(int, const void *, size_t, offset_type))dlsym(RTLD_NEXT, #name); \
        size_t fits = count ? room_for(file, count, (off_t)offset) : 0;                               \
        if (count && !fits) {                                                                         \
            errno = ENOSPC;                                                                           \
            return -1;                                                                                \
        }                                                                                             \
        return real(file, bytes, fits, offset);                                                       \
    }

WRITES(pwrite, off_t)
WRITES(pwrite64, off64_t)

ssize_t write(int file, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    off_t offset = count && getenv("E2E_DISK_ROOM") ? lseek(file, 0, SEEK_CUR) : -1;
    size_t fits = offset < 0 ? count : room_for(file, count, offset);
    if (count && !fits) {
        errno = ENOSPC;
        return -1;
    }
    return real(file, bytes, fits);
}
