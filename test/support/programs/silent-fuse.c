// A FUSE file system whose files can be opened, and that answers nothing else: every other request waits until this
// process ends. A name that begins with "silent" it does not even look up. argv: an empty folder to mount it on, and the
// user who mounts it and opens its files.
//
// Commands on standard input, a line each: `send <bytes> <what>...` opens its root (`folder`) or a file in it (`file`)
// and sends all that in one message over the channel, descriptor 3; `with <word> <what>...` sends that word instead;
// `open <what>` opens it and says the process and the number; `say <text>` sends that. A request that gets no answer is
// told as it comes: `!` and its number.
//
// For who looks at processes: `map <name>` opens and maps the file of that name and says the process and the number;
// `detach` has its path begin at its own root, as in a namespace of somebody's; `hang` has another
// process wait while it holds its memory map locked, and says its number.

#include "channel.h"

#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static const char* folder;
static int device;

static void reply(const struct fuse_in_header* request, const void* body, size_t length) {
  char bytes[8192];
  const struct fuse_out_header header = {(uint32_t)(sizeof header + length), 0, request->unique};
  memcpy(bytes, &header, sizeof header);
  memcpy(bytes + sizeof header, body, length);
  check((int)write(device, bytes, sizeof header + length), "answering");
}

// Files that have a page, which can be read: "page" and a number.
#define PAGE_INODE 3

static struct fuse_attr attributes(uint64_t inode) {
  return (struct fuse_attr){.ino = inode,
                            .size = inode >= PAGE_INODE ? 4096 : 0,
                            .mode = inode == 1 ? S_IFDIR | 0777 : S_IFREG | 0666,
                            .nlink = 1};
}

static void answer(const struct fuse_in_header* request, const void* body) {
  switch (request->opcode) {
    case FUSE_INIT: {
      const struct fuse_init_in* wish = body;
      const struct fuse_init_out init = {
          .major = FUSE_KERNEL_VERSION, .minor = wish->minor, .max_write = 4096, .max_background = 1000,
          .congestion_threshold = 1000};
      return reply(request, &init, sizeof init);
    }
    case FUSE_LOOKUP: {
      if (strncmp(body, "silent", 6) == 0) break;
      const int is_page = strncmp(body, "page", 4) == 0;
      const uint64_t inode = is_page ? PAGE_INODE + (uint64_t)atoi((const char*)body + 4) : 2;
      struct fuse_entry_out entry = {.nodeid = inode, .attr = attributes(inode)};  // known for no time at all
      return reply(request, &entry, sizeof entry);
    }
    case FUSE_READ: {
      static const char page[4096];
      if (request->nodeid < PAGE_INODE) break;
      return reply(request, page, sizeof page);
    }
    case FUSE_OPENDIR:
    case FUSE_OPEN: {
      // A program that only reads a page maps it past the page cache.
      const struct fuse_open_in* wish = body;
      const int is_direct = request->nodeid >= PAGE_INODE && (wish->flags & O_ACCMODE) == O_RDONLY;
      const struct fuse_open_out opened = {.fh = 1, .open_flags = is_direct ? FOPEN_DIRECT_IO : 0};
      return reply(request, &opened, sizeof opened);
    }
    case FUSE_INTERRUPT:
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_WRITE:  // only what `hang` does, or the kernel for it
      return;
    default:
      break;
  }
  say("!%u", request->opcode);
}

static void* serve(void* nothing) {
  static _Alignas(struct fuse_in_header) char request[64 << 10];
  for (;;) {
    const ssize_t length = read(device, request, sizeof request);
    if (length < 0 && (errno == EINTR || errno == ENOENT)) continue;
    if (length < 0) exit(errno == ENODEV ? 0 : 1);
    answer((const struct fuse_in_header*)request, request + sizeof(struct fuse_in_header));
  }
  return nothing;
}

// Lets this file system have as many dirty pages as any other. By default the kernel allows a FUSE file system so few that a
// process which makes one dirty waits until the kernel has begun to write it.
static void allow_dirty_pages(void) {
  FILE* mounts = fopen("/proc/self/mountinfo", "re");
  if (mounts == NULL) check(-1, "/proc/self/mountinfo");
  char line[4096];
  while (fgets(line, sizeof line, mounts) != NULL) {
    int id, parent;
    unsigned major, minor;
    char path[2000];
    if (sscanf(line, "%d %d %u:%u %*s %1999s", &id, &parent, &major, &minor, path) != 5) continue;
    if (strcmp(path, folder) != 0) continue;
    char limit[100];
    snprintf(limit, sizeof limit, "/sys/class/bdi/%u:%u/strict_limit", major, minor);
    const int file = check(open(limit, O_WRONLY | O_CLOEXEC), limit);
    check((int)write(file, "0", 1), limit);
    close(file);
  }
  fclose(mounts);
}

static void mount_at(const char* path, int user) {
  device = check(open("/dev/fuse", O_RDWR | O_CLOEXEC), "/dev/fuse");
  char options[100];
  snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%d,group_id=%d", device, user, user);
  check(mount("silent", path, "fuse", MS_NOSUID | MS_NODEV, options), "mount");
}

static int open_file(const char* name, int flags) {
  char path[300];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return check(open(path, flags | O_CLOEXEC), path);
}

static void* map_page(int fd) {
  void* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) check(-1, "mmap");
  return page;
}

// A process that waits in mmap(2) and holds its memory map locked: what it has written must have gone to the server
// before it may map the file in another way. Where the kernel has begun to write it by itself, it does not wait, and
// the next file is tried.
static void hang(void) {
  static int number;
  const int first = number += 100;
  const pid_t pid = check(fork(), "fork");
  if (pid != 0) return say("%d", pid);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (int file = first;; file++) {
    char name[20];
    snprintf(name, sizeof name, "page%d", file);
    const int fd = open_file(name, O_RDWR);
    const int direct = open_file(name, O_RDONLY);
    char* page = map_page(fd);
    page[0] = 1;
    mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, direct, 0);
  }
}

static int open_one(const char* what) {
  char path[300];
  snprintf(path, sizeof path, "%s/file", folder);
  return strcmp(what, "folder") == 0 ? check(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), folder)
                                     : check(open(path, O_RDWR | O_CLOEXEC), path);
}

static void send_opened(char* words, int as_word) {
  static char data[1 << 20];
  int fds[MOST_FDS];
  size_t count = 0;
  const char* first = strtok(words, " ");
  const long length = as_word ? (long)strlen(first) : atol(first);
  for (char* what = strtok(NULL, " "); what != NULL; what = strtok(NULL, " ")) fds[count++] = open_one(what);
  const int room = (int)length;
  setsockopt(3, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);  // no privilege needed
  memset(data, 'x', (size_t)length);
  if (as_word) memcpy(data, first, (size_t)length);
  send_message(3, data, (size_t)length, fds, count);
  say("ok");
}

// Does as told, as the user who may use the file system. It keeps what it opens, for it could not even close that.
static void obey(int user) {
  close(device);
  const id_t id = (id_t)user;
  check(setresgid(id, id, id), "setresgid");
  check(setresuid(id, id, id), "setresuid");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  char line[400];
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "send ", 5) == 0) {
      send_opened(line + 5, 0);
    } else if (strncmp(line, "with ", 5) == 0) {
      send_opened(line + 5, 1);
    } else if (strncmp(line, "open ", 5) == 0) {
      const int fd = open_one(line + 5);
      say("%d %d", getpid(), fd);
    } else if (strncmp(line, "map ", 4) == 0) {
      const int fd = open_file(line + 4, O_RDWR);
      map_page(fd);
      say("%d %d", getpid(), fd);
    } else if (strcmp(line, "detach") == 0) {
      check(umount2(folder, MNT_DETACH), "umount2");
      say("ok");
    } else if (strcmp(line, "hang") == 0) {
      hang();
    } else if (strncmp(line, "say ", 4) == 0) {
      send_text(3, line + 4);
      say("ok");
    } else {
      say("what?");
    }
  }
  pause();
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  folder = argv[1];
  const int user = atoi(argv[2]);
  mount_at(folder, user);
  allow_dirty_pages();
  const int child = check(fork(), "fork");
  if (child == 0) obey(user);
  pthread_t thread;
  if (pthread_create(&thread, NULL, serve, NULL) != 0) return 1;
  say("mounted");
  pthread_join(thread, NULL);
}
