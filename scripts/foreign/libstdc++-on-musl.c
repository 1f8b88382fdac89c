// What Debian's libstdc++ and libgcc_s ask of glibc and musl has not: enough to start a Node or Bun made for musl with
// them. The addon needs neither.

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <time.h>

char __libc_single_threaded = 0;
struct {
  unsigned vendor, type, subtype, features[1];
} __cpu_model;
int __cpu_indicator_init(void) { return 0; }

/** -1: libgcc_s then asks dl_iterate_phdr(). */
int _dl_find_object(void* address, void* result) { return -1; }

unsigned long __getauxval(unsigned long what) { return getauxval(what); }

uint32_t arc4random(void) {
  uint32_t value;
  while (getrandom(&value, sizeof value, 0) != sizeof value) {
  }
  return value;
}

size_t __strftime_l(char* text, size_t size, const char* format, const struct tm* time, locale_t locale) {
  return strftime_l(text, size, format, time, locale);
}

unsigned long __isoc23_strtoul(const char* text, char** end, int base) { return strtoul(text, end, base); }

/** For text of __float128, which nobody here has; not every compiler has the type. */
void strtof128(void) { abort(); }
void strfromf128(void) { abort(); }

struct destructor {
  void (*run)(void*);
  void* object;
  struct destructor* next;
};

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void run_destructors(void* list) {
  for (struct destructor* one = list; one != NULL;) {
    struct destructor* next = one->next;
    one->run(one->object);
    free(one);
    one = next;
  }
}

static void make_key(void) { pthread_key_create(&key, run_destructors); }

int __cxa_thread_atexit_impl(void (*run)(void*), void* object, void* library) {
  pthread_once(&once, make_key);
  struct destructor* one = malloc(sizeof *one);
  if (one == NULL) return -1;
  *one = (struct destructor){run, object, pthread_getspecific(key)};
  return pthread_setspecific(key, one);
}
