/* Makes the MEDFT_FAULT_AT-th call of a kind fail once with MEDFT_FAULT_ERRNO, for calls that concern files below
 * MEDFT_FAULT_DIR. With MEDFT_FAULT_AT=0 nothing fails. How many calls of the kind there were is written to
 * MEDFT_FAULT_COUNT when the process ends. Loaded with LD_PRELOAD by tests/faults.rs; kinds: open read write fsync rename mmap.
 * gcc -shared -fPIC -O1 -o faults.so faults.c -ldl -lpthread */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long seen;

static int is_kind(const char *kind) {
  const char *want = getenv("MEDFT_FAULT_KIND");
  return want && strcmp(want, kind) == 0;
}

/* Whether a path, or what a descriptor stands for, lies below the folder. */
static int ours(const char *path) {
  const char *dir = getenv("MEDFT_FAULT_DIR");
  return dir && path && strncmp(path, dir, strlen(dir)) == 0;
}

static int ours_fd(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n <= 0) return 0;
  path[n] = 0;
  return ours(path);
}

/* A path as given, made whole where it is relative. */
static int ours_path(const char *path) {
  if (!path) return 0;
  if (path[0] == '/') return ours(path);
  char cwd[2048], whole[8192];
  if (!getcwd(cwd, sizeof cwd)) return 0;
  snprintf(whole, sizeof whole, "%s/%s", cwd, path[0] == '.' && path[1] == '/' ? path + 2 : path);
  return ours(whole);
}

/* Counts a call; says whether it is the one that fails, and sets errno. */
static int fails(const char *kind, int concerned) {
  if (!concerned || !is_kind(kind)) return 0;
  const char *at = getenv("MEDFT_FAULT_AT"), *error = getenv("MEDFT_FAULT_ERRNO");
  long n = atomic_fetch_add(&seen, 1) + 1;
  if (!at || !error || n != atol(at)) return 0;
  errno = atoi(error);
  return 1;
}

__attribute__((destructor)) static void tell(void) {
  const char *path = getenv("MEDFT_FAULT_COUNT");
  if (!path) return;
  FILE *f = fopen(path, "w");
  if (!f) return;
  fprintf(f, "%ld\n", atomic_load(&seen));
  fclose(f);
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    REAL(int, #name, const char *, int, ...); \
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    if (fails("open", ours_path(path))) return -1; \
    return real(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
  int name(int at, const char *path, int flags, ...) { \
    REAL(int, #name, int, const char *, int, ...); \
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    if (at == AT_FDCWD && fails("open", ours_path(path))) return -1; \
    return real(at, path, flags, mode); \
  }
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int fd, void *to, size_t n) {
  REAL(ssize_t, "read", int, void *, size_t);
  if (is_kind("read") && fails("read", ours_fd(fd))) return -1;
  return real(fd, to, n);
}

#define PREAD(name, off) \
  ssize_t name(int fd, void *to, size_t n, off at) { \
    REAL(ssize_t, #name, int, void *, size_t, off); \
    if (is_kind("read") && fails("read", ours_fd(fd))) return -1; \
    return real(fd, to, n, at); \
  }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

ssize_t write(int fd, const void *from, size_t n) {
  REAL(ssize_t, "write", int, const void *, size_t);
  if (is_kind("write") && fails("write", ours_fd(fd))) return -1;
  return real(fd, from, n);
}

ssize_t writev(int fd, const struct iovec *v, int n) {
  REAL(ssize_t, "writev", int, const struct iovec *, int);
  if (is_kind("write") && fails("write", ours_fd(fd))) return -1;
  return real(fd, v, n);
}

int fsync(int fd) {
  REAL(int, "fsync", int);
  if (is_kind("fsync") && fails("fsync", ours_fd(fd))) return -1;
  return real(fd);
}

int rename(const char *from, const char *to) {
  REAL(int, "rename", const char *, const char *);
  if (fails("rename", ours_path(to))) return -1;
  return real(from, to);
}

int renameat(int a, const char *from, int b, const char *to) {
  REAL(int, "renameat", int, const char *, int, const char *);
  if (fails("rename", ours_path(to))) return -1;
  return real(a, from, b, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
  REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
  if (fails("rename", ours_path(to))) return -1;
  return real(a, from, b, to, flags);
}

#define MMAP(name, off) \
  void *name(void *at, size_t n, int prot, int flags, int fd, off from) { \
    REAL(void *, #name, void *, size_t, int, int, int, off); \
    if (is_kind("mmap") && fd >= 0 && fails("mmap", ours_fd(fd))) return MAP_FAILED; \
    return real(at, n, prot, flags, fd, from); \
  }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)
