/* Runs a program whose calls on chosen files fail on demand.
 *
 *   failing ORDER REFUSED PROGRAM [ARGUMENT...]
 *
 * The file ORDER holds "CALL PART"; while it is there, CALL fails with EIO for files whose path contains PART. With "CALL
 * PART hang" it does not return while the file is there, and goes well afterwards. The call REFUSED, "none" if there is
 * none, is refused throughout, as by a file system that does not know its flags.
 *
 * Before each of these calls the kernel asks a second process, so it makes no difference how the program is linked and by
 * which way it calls. The program has the process that was started; the second one goes with it. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct { int number; const char *name; } calls[] = {
    {SYS_fdatasync, "fdatasync"}, {SYS_fsync, "fsync"},       {SYS_pwrite64, "pwrite64"},
    {SYS_pread64, "pread64"},     {SYS_pwritev2, "pwritev2"}, {SYS_ftruncate, "ftruncate"},
};
enum { CALLS = sizeof calls / sizeof *calls };

enum order { NOTHING, FAIL, HANG };

static void need(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "failing: %s: %s\n", what, strerror(errno));
    _exit(99);
}

static const char *name_of(int number) {
    for (int i = 0; i < CALLS; i++) {
        if (calls[i].number == number) return calls[i].name;
    }
    return "";
}

/* The first argument of each of the calls is the file. Nothing in here makes one of them: it would wait for itself. */
static enum order ordered(const char *order, const char *call, int process, int fd) {
    FILE *file = fopen(order, "r");
    if (!file) return NOTHING;
    char wanted[64], part[256], manner[8], link[64], path[4096];
    int fields = fscanf(file, "%63s %255s %7s", wanted, part, manner);
    fclose(file);
    if (fields < 2 || strcmp(wanted, call) != 0) return NOTHING;
    snprintf(link, sizeof link, "/proc/%d/fd/%d", process, fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return NOTHING;
    path[length] = 0;
    if (!strstr(path, part)) return NOTHING;
    return fields == 3 && strcmp(manner, "hang") == 0 ? HANG : FAIL;
}

static enum order order_for(const char *order, const struct seccomp_notif *asked) {
    return ordered(order, name_of(asked->data.nr), (int)asked->pid, (int)asked->data.args[0]);
}

static void send(int listener, const struct seccomp_notif *asked, int error) {
    struct seccomp_notif_resp response = {.id = asked->id, .error = error};
    if (error == 0) response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    /* Who asked may be gone. */
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response)) need(errno == ENOENT, "cannot answer");
}

static void answer(int listener, const char *order, const char *refused) {
    /* Those that hang. */
    struct seccomp_notif held[64];
    size_t count = 0;
    for (;;) {
        struct pollfd question = {.fd = listener, .events = POLLIN};
        int asks = poll(&question, 1, count ? 10 : -1);
        for (size_t i = count; i-- > 0;) {
            if (order_for(order, &held[i]) == HANG) continue;
            send(listener, &held[i], 0);
            held[i] = held[--count];
        }
        if (asks <= 0) continue;
        struct seccomp_notif asked = {0};
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked)) {
            need(errno == EINTR || errno == ENOENT, "no more questions");
            continue;
        }
        if (strcmp(name_of(asked.data.nr), refused) == 0) {
            send(listener, &asked, -EOPNOTSUPP);
            continue;
        }
        switch (order_for(order, &asked)) {
        case NOTHING: send(listener, &asked, 0); break;
        case FAIL: send(listener, &asked, -EIO); break;
        case HANG:
            need(count < sizeof held / sizeof *held, "no room for one more call that hangs");
            held[count++] = asked;
        }
    }
}

/* From here on this process is asked about. */
static int listen_to_calls(void) {
    struct sock_filter steps[CALLS + 3] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    for (int i = 0; i < CALLS; i++) {
        steps[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, CALLS - i, 0);
    }
    steps[1 + CALLS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    steps[2 + CALLS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    struct sock_fprog filter = {.len = CALLS + 3, .filter = steps};
    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "cannot give up privileges");
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
}

int main(int count, char **words) {
    if (count < 4) {
        fputs("usage: failing ORDER REFUSED PROGRAM [ARGUMENT...]\n", stderr);
        return 99;
    }
    pid_t program = getpid();
    int listener = listen_to_calls();
    need(listener >= 0, "cannot have calls asked about");
    pid_t second = fork();
    need(second >= 0, "cannot fork");
    if (second == 0) {
        need(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "cannot go with the program");
        if (getppid() == program) answer(listener, words[1], words[2]);
        return 0;
    }
    /* Or a call that nobody answers any more would wait for ever. */
    close(listener);
    execvp(words[3], words + 3);
    need(0, words[3]);
}
