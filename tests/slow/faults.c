/* Makes the MEDFT_FAULT_AT-th call of a kind (MEDFT_FAULT_KIND) fail once with MEDFT_FAULT_ERRNO, for calls that concern files
 * below MEDFT_FAULT_DIR. Without MEDFT_FAULT_KIND nothing fails, and every call of every kind is written to MEDFT_FAULT_LOG when the
 * process ends: a line "kind number path" each. Loaded with LD_PRELOAD by tests/slow/faults.rs.
 * gcc -shared -fPIC -O1 -o faults.so faults.c -ldl -lpthread */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, CREATE, READ, WRITE, FSYNC, RENAME, LINK, UNLINK, MKDIR, OPENDIR, TRUNCATE, MMAP, KINDS };
static const char *const names[KINDS] = {"open",   "create", "read",    "write",    "fsync", "rename", "link",
                                         "unlink", "mkdir",  "opendir", "truncate", "mmap"};
static atomic_long seen[KINDS];

/* What is told at the end; what does not fit is missing, and the test sees that the last line is not "end". */
static char told[16 << 20];
static atomic_size_t length;

/* Whether a path lies below the folder; what is below it is returned. */
static const char *ours(const char *path) {
  const char *dir = getenv("MEDFT_FAULT_DIR");
  if (!dir || !path) return NULL;
  size_t n = strlen(dir);
  return strncmp(path, dir, n) == 0 && (path[n] == '/' || !path[n]) ? path + n : NULL;
}

/* What a descriptor stands for. */
static const char *path_of(int fd, char *path, size_t n) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t m = readlink(link, path, n - 1);
  if (m <= 0) return NULL;
  path[m] = 0;
  return path;
}

/* A path as given, made whole where it is relative. */
static const char *whole(int at, const char *path, char *out, size_t n) {
  if (!path) return NULL;
  if (path[0] == '/') return path;
  char base[4096];
  if (at == AT_FDCWD ? !getcwd(base, sizeof base) : !path_of(at, base, sizeof base)) return NULL;
  if (path[0] == '.' && path[1] == '/') path += 2;
  snprintf(out, n, "%s/%s", base, path);
  return out;
}

/* Whether calls of this kind matter in this process: of others nothing is looked up. */
static int matters(int kind) {
  const char *want = getenv("MEDFT_FAULT_KIND");
  return want ? strcmp(want, names[kind]) == 0 : getenv("MEDFT_FAULT_LOG") != NULL;
}

/* Counts a call; says whether it is the one that fails, and sets errno. */
static int fails(int kind, const char *path) {
  const char *below = ours(path);
  if (!below) return 0;
  long n = atomic_fetch_add(&seen[kind], 1) + 1;
  if (!getenv("MEDFT_FAULT_KIND")) {
    char line[4200];
    int m = snprintf(line, sizeof line, "%s %ld %s\n", names[kind], n, *below ? below : "/");
    size_t at = atomic_fetch_add(&length, (size_t)m);
    if (at + (size_t)m <= sizeof told) memcpy(told + at, line, (size_t)m);
    return 0;
  }
  const char *at = getenv("MEDFT_FAULT_AT"), *error = getenv("MEDFT_FAULT_ERRNO");
  if (!at || !error || n != atol(at)) return 0;
  errno = atoi(error);
  return 1;
}

static int fails_at(int kind, int at, const char *path) {
  char out[8192];
  return matters(kind) && fails(kind, whole(at, path, out, sizeof out));
}

static int fails_fd(int kind, int fd) {
  char out[4096];
  return matters(kind) && fails(kind, path_of(fd, out, sizeof out));
}

__attribute__((destructor)) static void tell(void) {
  const char *path = getenv("MEDFT_FAULT_LOG");
  if (!path) return;
  FILE *f = fopen(path, "w");
  if (!f) return;
  size_t n = atomic_load(&length);
  if (n <= sizeof told) {
    fwrite(told, 1, n, f);
    fputs("end\n", f);
  }
  fclose(f);
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT); }

#define OPENS(name) \
  int name(const char *path, int flags, ...) { \
    REAL(int, #name, const char *, int, ...); \
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    if (fails_at(writes(flags) ? CREATE : OPEN, AT_FDCWD, path)) return -1; \
    return real(path, flags, mode); \
  }
OPENS(open)
OPENS(open64)

#define OPENSAT(name) \
  int name(int at, const char *path, int flags, ...) { \
    REAL(int, #name, int, const char *, int, ...); \
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    if (fails_at(writes(flags) ? CREATE : OPEN, at, path)) return -1; \
    return real(at, path, flags, mode); \
  }
OPENSAT(openat)
OPENSAT(openat64)

DIR *opendir(const char *path) {
  REAL(DIR *, "opendir", const char *);
  if (fails_at(OPENDIR, AT_FDCWD, path)) return NULL;
  return real(path);
}

ssize_t read(int fd, void *to, size_t n) {
  REAL(ssize_t, "read", int, void *, size_t);
  if (fails_fd(READ, fd)) return -1;
  return real(fd, to, n);
}

ssize_t readv(int fd, const struct iovec *v, int n) {
  REAL(ssize_t, "readv", int, const struct iovec *, int);
  if (fails_fd(READ, fd)) return -1;
  return real(fd, v, n);
}

#define PREADS(name, off) \
  ssize_t name(int fd, void *to, size_t n, off at) { \
    REAL(ssize_t, #name, int, void *, size_t, off); \
    if (fails_fd(READ, fd)) return -1; \
    return real(fd, to, n, at); \
  }
PREADS(pread, off_t)
PREADS(pread64, off64_t)

ssize_t write(int fd, const void *from, size_t n) {
  REAL(ssize_t, "write", int, const void *, size_t);
  if (fails_fd(WRITE, fd)) return -1;
  return real(fd, from, n);
}

ssize_t writev(int fd, const struct iovec *v, int n) {
  REAL(ssize_t, "writev", int, const struct iovec *, int);
  if (fails_fd(WRITE, fd)) return -1;
  return real(fd, v, n);
}

#define PWRITES(name, off) \
  ssize_t name(int fd, const void *from, size_t n, off at) { \
    REAL(ssize_t, #name, int, const void *, size_t, off); \
    if (fails_fd(WRITE, fd)) return -1; \
    return real(fd, from, n, at); \
  }
PWRITES(pwrite, off_t)
PWRITES(pwrite64, off64_t)

int fsync(int fd) {
  REAL(int, "fsync", int);
  if (fails_fd(FSYNC, fd)) return -1;
  return real(fd);
}

int fdatasync(int fd) {
  REAL(int, "fdatasync", int);
  if (fails_fd(FSYNC, fd)) return -1;
  return real(fd);
}

int rename(const char *from, const char *to) {
  REAL(int, "rename", const char *, const char *);
  if (fails_at(RENAME, AT_FDCWD, to)) return -1;
  return real(from, to);
}

int renameat(int a, const char *from, int b, const char *to) {
  REAL(int, "renameat", int, const char *, int, const char *);
  if (fails_at(RENAME, b, to)) return -1;
  return real(a, from, b, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
  REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
  if (fails_at(RENAME, b, to)) return -1;
  return real(a, from, b, to, flags);
}

int link(const char *from, const char *to) {
  REAL(int, "link", const char *, const char *);
  if (fails_at(LINK, AT_FDCWD, to)) return -1;
  return real(from, to);
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
  REAL(int, "linkat", int, const char *, int, const char *, int);
  if (fails_at(LINK, b, to)) return -1;
  return real(a, from, b, to, flags);
}

int unlink(const char *path) {
  REAL(int, "unlink", const char *);
  if (fails_at(UNLINK, AT_FDCWD, path)) return -1;
  return real(path);
}

int rmdir(const char *path) {
  REAL(int, "rmdir", const char *);
  if (fails_at(UNLINK, AT_FDCWD, path)) return -1;
  return real(path);
}

int unlinkat(int at, const char *path, int flags) {
  REAL(int, "unlinkat", int, const char *, int);
  if (fails_at(UNLINK, at, path)) return -1;
  return real(at, path, flags);
}

int mkdir(const char *path, mode_t mode) {
  REAL(int, "mkdir", const char *, mode_t);
  if (fails_at(MKDIR, AT_FDCWD, path)) return -1;
  return real(path, mode);
}

int mkdirat(int at, const char *path, mode_t mode) {
  REAL(int, "mkdirat", int, const char *, mode_t);
  if (fails_at(MKDIR, at, path)) return -1;
  return real(at, path, mode);
}

#define TRUNCATES(name, off) \
  int name(int fd, off n) { \
    REAL(int, #name, int, off); \
    if (fails_fd(TRUNCATE, fd)) return -1; \
    return real(fd, n); \
  }
TRUNCATES(ftruncate, off_t)
TRUNCATES(ftruncate64, off64_t)

#define MMAPS(name, off) \
  void *name(void *at, size_t n, int prot, int flags, int fd, off from) { \
    REAL(void *, #name, void *, size_t, int, int, int, off); \
    if (fd >= 0 && fails_fd(MMAP, fd)) return MAP_FAILED; \
    return real(at, n, prot, flags, fd, from); \
  }
MMAPS(mmap, off_t)
MMAPS(mmap64, off64_t)
