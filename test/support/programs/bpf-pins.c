// What others do in a BPF file system. argv: a command and its arguments.
//   map PATH...         pins a BPF map, of no use there, under each name
//   race FOLDER TARGET  as user 1000, for ever: takes the folder and puts symbolic links to the target into it, or in its place
#define _GNU_SOURCE
#include <fcntl.h>
#include <libgen.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(int command, union bpf_attr *attributes) {
  const int result = (int)syscall(SYS_bpf, command, attributes, sizeof *attributes);
  if (result >= 0) return result;
  perror("bpf");
  exit(1);
}

static void pin_map(const char *path) {
  union bpf_attr map, pin;
  memset(&map, 0, sizeof map);
  map.map_type = BPF_MAP_TYPE_ARRAY;
  map.key_size = map.value_size = 4;
  map.max_entries = 1;
  memset(&pin, 0, sizeof pin);
  pin.bpf_fd = (uint32_t)bpf(BPF_MAP_CREATE, &map);
  pin.pathname = (uintptr_t)path;
  bpf(BPF_OBJ_PIN, &pin);
}

static void race(const char *folder, const char *target) {
  static const char *const names[] = {"buffers", "descriptors", "mappings"};
  char aside[4096], file[4096], copy[4096];
  int taken = 0;
  snprintf(aside, sizeof aside, "%saside", folder);
  snprintf(copy, sizeof copy, "%s", target);
  const char *target_folder = dirname(copy);
  if (setgid(1000) < 0 || setuid(1000) < 0) exit(1);
  for (;;) {
    if (mkdir(folder, 0777) == 0 && !taken) taken = puts("taken") >= 0 && fflush(stdout) == 0;
    for (int index = 0; index < 3; index++) {
      snprintf(file, sizeof file, "%s/%s", folder, names[index]);
      (void)unlink(file);
      (void)symlink(target, file);
      (void)unlink(file);
    }
    (void)rename(folder, aside);
    (void)symlink(target_folder, folder);
    (void)unlink(folder);
    (void)rmdir(aside);
  }
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "race") == 0) race(argv[2], argv[3]);
  for (int index = 2; index < argc; index++) pin_map(argv[index]);
}
