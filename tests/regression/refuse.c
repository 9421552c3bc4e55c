/* A file system that lacks operations: REFUSE="chmod=1 fsyncdir=22" makes chmod and fsync of a folder fail with these errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int refused(const char *name) {
    const char *all = getenv("REFUSE");
    size_t n = strlen(name);
    while (all && (all = strstr(all, name))) {
        if (all[n] == '=') {
            errno = atoi(all + n + 1);
            return 1;
        }
        all += n;
    }
    return 0;
}

static int is_folder(int f) {
    struct stat s;
    return !fstat(f, &s) && S_ISDIR(s.st_mode);
}

int chmod(const char *p, mode_t m) { return refused("chmod") ? -1 : (int)syscall(SYS_fchmodat, AT_FDCWD, p, m); }
int fchmod(int f, mode_t m) { return refused("chmod") ? -1 : (int)syscall(SYS_fchmod, f, m); }
int fchmodat(int d, const char *p, mode_t m, int flags) {
    (void)flags;
    return refused("chmod") ? -1 : (int)syscall(SYS_fchmodat, d, p, m);
}
int fsync(int f) {
    if (refused(is_folder(f) ? "fsyncdir" : "fsyncfile")) return -1;
    return (int)syscall(SYS_fsync, f);
}
int fdatasync(int f) { return refused("fsyncfile") ? -1 : (int)syscall(SYS_fdatasync, f); }
int flock(int f, int o) { return refused("flock") ? -1 : (int)syscall(SYS_flock, f, o); }
int linkat(int a, const char *p, int b, const char *q, int flags) {
    return refused("link") ? -1 : (int)syscall(SYS_linkat, a, p, b, q, flags);
}
int link(const char *p, const char *q) { return refused("link") ? -1 : (int)syscall(SYS_linkat, AT_FDCWD, p, AT_FDCWD, q, 0); }
int symlink(const char *p, const char *q) { return refused("symlink") ? -1 : (int)syscall(SYS_symlinkat, p, AT_FDCWD, q); }
int symlinkat(const char *p, int d, const char *q) { return refused("symlink") ? -1 : (int)syscall(SYS_symlinkat, p, d, q); }
void *mmap64(void *a, size_t n, int prot, int flags, int f, off_t at) {
    if (f >= 0 && refused("mmap")) return (void *)-1;
    return (void *)syscall(SYS_mmap, a, n, prot, flags, f, at);
}
