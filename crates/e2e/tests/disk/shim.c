/* Preloaded into a member: makes calls on chosen files fail on demand.
 *
 * The file named by FAULT_ORDER holds "CALL PART"; while it is there, CALL fails with EIO for files whose path
 * contains PART.
 *
 * Calls that go by the C library are found by their names. pwritev2 does not: a filter has the kernel signal it. If
 * FAULT_REFUSED names it, it is refused throughout, as by a file system that does not know its flags. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <ucontext.h>
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

/* The upper half of the offset, which 64-bit kernels do not look at, tells our own calls from the program's. */
#define OURS 0x0dd

#if defined __x86_64__
#define FD(context) (context)->uc_mcontext.gregs[REG_RDI]
#define VECTOR(context) (context)->uc_mcontext.gregs[REG_RSI]
#define COUNT(context) (context)->uc_mcontext.gregs[REG_RDX]
#define OFFSET(context) (context)->uc_mcontext.gregs[REG_R10]
#define FLAGS(context) (context)->uc_mcontext.gregs[REG_R9]
#define RESULT(context) (context)->uc_mcontext.gregs[REG_RAX]
#elif defined __aarch64__
#define FD(context) (context)->uc_mcontext.regs[0]
#define VECTOR(context) (context)->uc_mcontext.regs[1]
#define COUNT(context) (context)->uc_mcontext.regs[2]
#define OFFSET(context) (context)->uc_mcontext.regs[3]
#define FLAGS(context) (context)->uc_mcontext.regs[5]
#define RESULT(context) (context)->uc_mcontext.regs[0]
#endif

static void on_pwritev2(int signal, siginfo_t *info, void *opaque) {
    ucontext_t *context = opaque;
    (void)signal;
    (void)info;
    int before = errno;
    long result = -EIO;
    const char *refused = getenv("FAULT_REFUSED");
    if (refused && strcmp(refused, "pwritev2") == 0) {
        result = -EOPNOTSUPP;
    } else if (!is_ordered("pwritev2", (int)FD(context))) {
        result = syscall(SYS_pwritev2, FD(context), VECTOR(context), COUNT(context), OFFSET(context), OURS, FLAGS(context));
        if (result < 0) result = -errno;
    }
    RESULT(context) = result;
    errno = before;
}

__attribute__((constructor)) static void catch_pwritev2(void) {
    struct sigaction action = {.sa_sigaction = on_pwritev2, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSYS, &action, NULL);
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwritev2, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[4])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OURS, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof steps / sizeof *steps, .filter = steps};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) {
        perror("shim: cannot catch pwritev2");
        _exit(99);
    }
}
