/* Preloaded into a member: makes calls on chosen files fail on demand.
 *
 * The file named by FAULT_ORDER holds "CALL PART"; while it is there, CALL fails with EIO for files whose path
 * contains PART. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is_ordered(const char *call, int fd) {
    const char *order = getenv("FAULT_ORDER");
    FILE *file = order ? fopen(order, "r") : NULL;
    if (!file) return 0;
    char wanted[64], part[256], link[64], path[4096];
    int fields = fscanf(file, "%63s %255s", wanted, part);
    fclose(file);
    if (fields != 2 || strcmp(wanted, call) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, part) != NULL;
}

#define FAILING(name, result, parameters, arguments)                   \
    result name parameters {                                           \
        static result(*real) parameters;                               \
        if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name); \
        if (is_ordered(#name, fd)) {                                   \
            errno = EIO;                                               \
            return -1;                                                 \
        }                                                              \
        return real arguments;                                         \
    }

FAILING(fdatasync, int, (int fd), (fd))
FAILING(fsync, int, (int fd), (fd))
FAILING(pwrite64, ssize_t, (int fd, const void *data, size_t length, off64_t offset), (fd, data, length, offset))
FAILING(pread64, ssize_t, (int fd, void *data, size_t length, off64_t offset), (fd, data, length, offset))
FAILING(ftruncate64, int, (int fd, off64_t length), (fd, length))
