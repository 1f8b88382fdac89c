// The other end of a FrameSender, as somebody would write it in C. `frame-peer <fd> <most>` prints of each frame its number,
// layout, metadata, the sums of its planes' bytes and how many buffers it knows, and returns it; after `most` frames it
// returns none, and keeps on receiving.

#include "channel.h"

#define MOST_BUFFERS 128
#define MOST_PLANES 4

enum { kFrame = 1, kReturn = 2, kHasReady = 1, kHasMetadata = 2 };

struct header {
  char magic[4];
  uint8_t type;
  uint8_t planes;
  uint8_t introduced;
  uint8_t flags;
  uint64_t number;
  char fourcc[4];
  uint32_t width;
  uint32_t height;
  uint32_t forgotten;
  uint64_t modifier;
  uint64_t reserved;
};

struct plane {
  uint32_t buffer;
  uint32_t stride;
  uint64_t offset;
  uint64_t size;
};

struct returned {
  char magic[4];
  uint8_t type;
  uint8_t zeros[3];
  uint64_t number;
};

struct known {
  uint32_t number;
  int fd;
};

static struct known known[MOST_BUFFERS];
static size_t known_count;
static char data[1 << 17];
static int fds[MOST_FDS];

static struct known* find(uint32_t number) {
  for (size_t index = 0; index < known_count; index++) {
    if (known[index].number == number) return &known[index];
  }
  errno = ENOENT;
  fail("a buffer's number");
  return NULL;
}

static unsigned sum_of(int buffer, const struct plane* plane) {
  const size_t size = (size_t)check((int)lseek(buffer, 0, SEEK_END), "lseek");
  const uint8_t* bytes = mmap(NULL, size, PROT_READ, MAP_SHARED, buffer, 0);
  if (bytes == MAP_FAILED) fail("mmap");
  struct dma_buf_sync sync = {DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ};
  check(ioctl(buffer, DMA_BUF_IOCTL_SYNC, &sync), "DMA_BUF_IOCTL_SYNC");
  unsigned sum = 0;
  for (uint64_t index = 0; index < plane->size; index++) sum += bytes[plane->offset + index];
  sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ;
  check(ioctl(buffer, DMA_BUF_IOCTL_SYNC, &sync), "DMA_BUF_IOCTL_SYNC");
  munmap((void*)bytes, size);
  return sum;
}

static void look(const struct header* header, const struct plane* planes, const char* metadata) {
  char sums[100] = "";
  for (size_t index = 0; index < header->planes; index++) {
    char sum[20];
    snprintf(sum, sizeof sum, "%s%u", index == 0 ? "" : ", ", sum_of(find(planes[index].buffer)->fd, &planes[index]));
    strcat(sums, sum);
  }
  say("%llu %.4s %ux%u %llu %s [%s] %zu", (unsigned long long)header->number, header->fourcc, header->width,
      header->height, (unsigned long long)header->modifier, metadata, sums, known_count);
}

static const struct header* receive(int channel) {
  size_t count;
  const ssize_t length = try_receive(channel, data, sizeof data - 1, fds, &count, 0);
  if (length < 0 && errno != 0) fail("recvmsg");
  if (length < 0) exit(0);
  data[length] = '\0';
  const struct header* header = (const struct header*)data;
  if (memcmp(header->magic, "FRM1", 4) != 0 || header->type != kFrame) exit(2);
  const struct plane* planes = (const struct plane*)(header + 1);
  const uint32_t* forgotten = (const uint32_t*)(planes + header->planes);
  size_t next = 0;
  for (uint32_t index = 0; index < header->forgotten; index++) {
    struct known* gone = find(forgotten[index]);
    close(gone->fd);
    *gone = known[--known_count];
  }
  for (size_t index = 0; index < header->planes; index++) {
    if ((header->introduced & 1 << index) == 0) continue;
    known[known_count++] = (struct known){planes[index].buffer, fds[next++]};
  }
  if (header->flags & kHasReady) close(fds[next]);
  look(header, planes, header->flags & kHasMetadata ? (const char*)(forgotten + header->forgotten) : "null");
  return header;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int channel = atoi(argv[1]);
  const long most = atol(argv[2]);
  for (long count = 0;; count++) {
    const struct header* header = receive(channel);
    if (count >= most) continue;
    const struct returned answer = {{'F', 'R', 'M', '1'}, kReturn, {0}, header->number};
    send_message(channel, &answer, sizeof answer, NULL, 0);
  }
}
